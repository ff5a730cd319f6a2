//! What the kernel tells in `/proc` and `/sys`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders, so that tests may have their own.
#[derive(Debug, Clone)]
pub struct Root {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Root {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

impl Root {
    /// A file's text without blanks around it.
    pub fn read(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }

    fn cpu_file(&self, name: &str) -> Option<String> {
        Self::read(&self.sys.join("devices/system/cpu").join(name))
    }

    /// CPUs that are there, whether on or off.
    pub fn present(&self) -> BTreeSet<u32> {
        self.cpu_file("present").map_or_else(|| self.online(), |text| list(&text))
    }

    /// CPUs that run.
    pub fn online(&self) -> BTreeSet<u32> {
        self.cpu_file("online").map(|text| list(&text)).unwrap_or_default()
    }

    /// The numbers of the NUMA nodes, and their folders.
    pub fn nodes(&self) -> Vec<(u32, PathBuf)> {
        let folder = self.sys.join("devices/system/node");
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut nodes: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix("node")?.parse().ok()?;
                Some((number, entry.path()))
            })
            .collect();
        nodes.sort();
        nodes
    }

    /// A fact of a CPU's topology.
    pub fn topology(&self, cpu: u32, name: &str) -> Option<i64> {
        self.cpu_file(&format!("cpu{cpu}/topology/{name}"))?.parse().ok()
    }

    /// The CPUs' frequency in MHz; 0: not told.
    pub fn mhz(&self) -> i32 {
        let text = Self::read(&self.proc.join("cpuinfo")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("cpu MHz"));
        let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
        let whole = value.and_then(|value| value.split('.').next());
        whole.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// The lines of a `meminfo`: names and KiB.
    pub fn meminfo(path: &Path) -> Vec<(String, u64)> {
        let text = Self::read(path).unwrap_or_default();
        let value = |line: &str| {
            // Those of a node begin with "Node N".
            let line = match line.strip_prefix("Node ") {
                Some(rest) => rest.split_once(' ')?.1,
                None => line,
            };
            let (name, rest) = line.split_once(':')?;
            Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        };
        text.lines().filter_map(value).collect()
    }
}

/// A list of CPUs such as `0-3,5`.
pub fn list(text: &str) -> BTreeSet<u32> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            numbers.extend(first..=last.min(first.saturating_add(65_535)));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(Vec::from_iter(list("0-2,5")), [0, 1, 2, 5]);
        assert_eq!(list("").len(), 0);
        assert_eq!(list("0-4294967295").len(), 65_536);
    }
}
