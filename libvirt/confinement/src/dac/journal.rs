//! Which files a guest has been given.
//!
//! A line is added by whoever changes an owner, right after it: a daemon that finds a guest which another one was
//! about to start or to end knows what is to be given back, once and not twice.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::{Error, Result};

/// Longest journal that is read.
const LONGEST: u64 = 16 << 20;
/// How often, 5 ms apart, a lock is tried that somebody else has: whoever changes owners may wait 10 s for a file.
const TRIES: usize = 3_000;

/// The journal of one guest. Its file is made with the first entry, and goes with the guest's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The one in a guest's directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self { path: directory.join("owners") }
    }

    /// Opens it for additions; nobody else does until the file, and what was made of it, is closed.
    pub(super) fn open(&self) -> Result<File> {
        let failed = |error| Error::system(format!("unable to open {}", self.path.display()), error);
        // The directory is the emulator's user's, who may have put something else there.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&self.path)
            .map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::internal(format!("{} is no file", self.path.display())));
        }
        self.wait(&file)?;
        Ok(file)
    }

    fn wait(&self, file: &File) -> Result<()> {
        for _ in 0..TRIES {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => {
                    return Err(Error::system(format!("unable to lock {}", self.path.display()), error));
                }
            }
        }
        Err(Error::internal(format!("{} stays locked", self.path.display())))
    }

    /// What the guest has, each as often as it was given; waits for those who are about to change that.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn given(&self) -> Result<Vec<String>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let file = self.open()?;
        let mut text = Vec::new();
        file.take(LONGEST)
            .read_to_end(&mut text)
            .map_err(|error| Error::system(format!("unable to read {}", self.path.display()), error))?;
        Ok(balance(&text))
    }
}

/// Adds that the file was given, or given back.
pub(super) fn note(mut journal: &File, path: &str, given: bool) -> Result<()> {
    let mut entry = vec![if given { b'+' } else { b'-' }];
    entry.extend_from_slice(path.as_bytes());
    // No path holds a zero.
    entry.push(0);
    journal.write_all(&entry).map_err(|error| Error::system("unable to note an owner", error))
}

fn balance(text: &[u8]) -> Vec<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let complete = text.iter().rposition(|byte| *byte == 0).map_or(&[][..], |end| &text[..end]);
    for entry in complete.split(|byte| *byte == 0) {
        let Some((mark, path)) = entry.split_first() else { continue };
        let path = String::from_utf8_lossy(path).into_owned();
        *counts.entry(path).or_default() += if *mark == b'+' { 1 } else { -1 };
    }
    let often = |(path, count): (String, i64)| std::iter::repeat_n(path, usize::try_from(count).unwrap_or(0));
    counts.into_iter().flat_map(often).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_and_not_given_back() {
        let directory = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let journal = Journal::of(&directory);
        assert_eq!(journal.given().unwrap(), [""; 0]);
        {
            let file = journal.open().unwrap();
            for (path, given) in [("/a", true), ("/b\n", true), ("/a", true), ("/c", true), ("/c", false)] {
                note(&file, path, given).unwrap();
            }
            // What was not written to its end was not done by then.
            (&file).write_all(b"-/a").unwrap();
            assert!(
                rustix::fs::flock(
                    std::fs::File::open(&journal.path).unwrap(),
                    FlockOperation::NonBlockingLockExclusive
                )
                .is_err()
            );
        }
        assert_eq!(journal.given().unwrap(), ["/a", "/a", "/b\n"]);
        std::fs::remove_file(&journal.path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &journal.path).unwrap();
        assert!(journal.open().is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
