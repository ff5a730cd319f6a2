//! Files that are whole or not there: written beside their place, synced, and moved into it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces `path` by `bytes`, for the owner only. Whoever reads it, also after a crash, finds the old or the new.
///
/// # Errors
/// What the file system reports; the old file is untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Not `.xml`, so that nobody takes what a crash left for a definition.
    name.push(format!(".{}-{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let new = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Whether the file is one that [`replace`] did not come to move to its place.
pub fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers =
        name.strip_suffix(".new").and_then(|rest| rest.rsplit_once('.')).map(|(_, numbers)| numbers);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.and_then(|numbers| numbers.split_once('-')).is_some_and(|(a, b)| is_number(a) && is_number(b))
}

/// Removes the file if it is there.
///
/// # Errors
/// What the file system reports.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The text with the comment that says who writes the file; `command` is what a user changes it with.
pub fn with_header(command: &str, text: &str) -> String {
    // A comment ends at the first pair of hyphens.
    let command = command.replace("--", "- - ");
    format!(
        "<!--\n\
         This file is written by virtqemud. Do not change it here: the daemon does\n\
         not notice, and writes it again. Use this instead:\n  {command}\n\
         or a program that talks to the daemon.\n\
         -->\n\n{text}"
    )
}

/// Reads a file of at most `limit` bytes as text.
///
/// # Errors
/// What the file system reports; it is longer, or no text.
pub fn read(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, limit + 1), &mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other("file is too large"));
    }
    Ok(text)
}

/// Random bytes of the kernel.
///
/// # Errors
/// The kernel's generator cannot be read.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_replaced_as_a_whole() {
        let directory = std::env::temp_dir().join(format!("files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("directory");
        let path = directory.join("a.xml");
        replace(&path, b"one").expect("replace");
        replace(&path, b"two").expect("replace");
        assert_eq!(read(&path, 3).expect("read"), "two");
        assert!(read(&path, 2).is_err());
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).expect("list").count(), 1);
        assert!(is_unfinished(Path::new("/a/b.xml.12-0.new")));
        assert!(!is_unfinished(Path::new("/a/b.new")) && !is_unfinished(Path::new("/a/b.xml.12-.new")));
        assert!(replace(&directory.join("no/such"), b"x").is_err());
        remove(&path).expect("remove");
        remove(&path).expect("nothing to remove");
        std::fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn the_header_is_one_comment() {
        let text = with_header("virsh edit a--b", "<a/>\n");
        assert!(text.starts_with("<!--\n") && text.ends_with("-->\n\n<a/>\n"));
        assert_eq!(text.matches("--").count(), 2);
    }
}
