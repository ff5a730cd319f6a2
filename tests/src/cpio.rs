//! A writer of cpio archives in the "newc" format, which Linux unpacks as its initial file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being built in memory. Paths are relative to the root and have no leading slash;
/// folders on the way to an entry are added by themselves. All entries belong to root.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder and those above it; one that is there already is left as it is.
    pub fn folder(&mut self, path: &str, mode: u32) {
        if path.is_empty() || self.folders.contains(path) {
            return;
        }
        self.parents(path);
        self.folders.insert(path.to_owned());
        self.entry(path, FOLDER | mode & 0o7777, (0, 0), &[]);
    }

    /// Adds a regular file with the given permissions.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, FILE | mode & 0o7777, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device node.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | mode & 0o7777, (major, minor), &[]);
    }

    /// Adds everything below a folder of the host for which `wanted` (given the path relative to `source`)
    /// is true, placed below `prefix`. A file or folder that is not wanted takes what is below it along.
    pub fn tree(&mut self, source: &Path, prefix: &str, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
        self.subtree(source, "", prefix, wanted)
    }

    fn subtree(
        &mut self,
        source: &Path,
        below: &str,
        prefix: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut entries = std::fs::read_dir(source.join(below))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(|e| e.file_name());
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if !wanted(&relative) {
                continue;
            }
            let placed = if prefix.is_empty() { relative.clone() } else { format!("{prefix}/{relative}") };
            let metadata = entry.path().symlink_metadata()?;
            let mode = metadata.permissions().mode();
            if metadata.is_dir() {
                self.folder(&placed, mode);
                self.subtree(source, &relative, prefix, wanted)?;
            } else if metadata.is_symlink() {
                self.link(&placed, &std::fs::read_link(entry.path())?.to_string_lossy());
            } else if metadata.is_file() {
                self.file(&placed, mode, &std::fs::read(entry.path())?);
            } else if metadata.file_type().is_char_device() {
                let device = metadata.rdev();
                self.character_device(&placed, mode, (device >> 8) as u32 & 0xfff, device as u32 & 0xff);
            }
        }
        Ok(())
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent, 0o755);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.next_inode += 1;
        let size = u32::try_from(content.len()).expect("a file of an initial file system is below 4 GiB");
        let links = if mode & 0o170_000 == FOLDER { 2 } else { 1 };
        let header = [
            self.next_inode,
            mode,
            0, // uid
            0, // gid
            links,
            0, // modification time
            size,
            0, // device of the file itself, major and minor
            0,
            major,
            minor,
            path.len() as u32 + 1,
            0, // checksum, unused in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.file("bin/tool", 0o755, b"#!\n");
        archive.link("bin/alias", "tool");
        archive.folder("bin", 0o700);
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.finish()
    }

    #[test]
    fn entries_are_aligned_and_the_trailer_comes_last() {
        let bytes = sample();
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
        let tail = &bytes[bytes.len() - 124..];
        assert!(tail.starts_with(b"070701"));
        assert_eq!(&tail[110..121], b"TRAILER!!!\0");
    }

    #[test]
    fn the_host_cpio_reads_it() {
        let Ok(mut child) = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            crate::skip!("the machine has no cpio program");
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 5, "{output}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" bin"), "{output}");
        assert!(lines[1].starts_with("-rwxr-xr-x") && lines[1].ends_with(" bin/tool"), "{output}");
        assert!(lines[2].ends_with(" bin/alias -> tool"), "{output}");
        assert!(lines[4].starts_with("crw-------") && lines[4].contains("5,   1"), "{output}");
    }
}
