//! The forms of files in `/proc` and `/sys`.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// A file's text without the line end; empty if it cannot be read.
pub(crate) fn text(path: &Path) -> String {
    // Their sizes are not known beforehand: asking for them is left out.
    let mut bytes = Vec::with_capacity(4096);
    let read = File::open(path).and_then(|mut file| read_all(&mut file, &mut bytes));
    let text = read.ok().and_then(|()| String::from_utf8(bytes).ok());
    text.map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

fn read_all(file: &mut File, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file's number.
pub(crate) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path).parse().ok()
}

/// Most that a list may name, whatever a file says.
const MOST: usize = 1 << 16;

/// The numbers of a list such as `0-2,5`.
pub(crate) fn list(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            continue;
        };
        found.extend((first..=last).take(MOST.saturating_sub(found.len())));
    }
    found
}

/// A list such as `0-2,5` of the numbers, which are in order.
pub(crate) fn ranges(numbers: &[usize]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < numbers.len() {
        let mut end = at;
        while numbers.get(end + 1) == Some(&(numbers[end] + 1)) {
            end += 1;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&numbers[at].to_string());
        if end > at {
            out.push_str(&format!("-{}", numbers[end]));
        }
        at = end + 1;
    }
    out
}

/// The field of `/proc/meminfo` or a node's, in KiB.
pub(crate) fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.rsplit(' ').next() == Some(field)).then_some(value)
    })?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(list(""), [] as [usize; 0]);
        assert_eq!(list("x,3-1,7"), [7]);
        assert!(list("0-99999999999").len() <= MOST);
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn memory() {
        let text = "MemTotal:       100 kB\nMemFree:         7 kB\n";
        assert_eq!((meminfo(text, "MemTotal"), meminfo(text, "Mem")), (Some(100), None));
        assert_eq!(meminfo("Node 0 MemFree:         9 kB\n", "MemFree"), Some(9));
    }
}
