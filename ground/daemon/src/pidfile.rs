//! The PID file: mode 0600, decimal number and newline, locked as long as the process lives.

use crate::{check, listen, os_text};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A PID file that this process wrote and holds the lock of.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    identity: (u64, u64),
    _locked: File,
}

impl PidFile {
    /// Creates or takes over `path` for this process. The lock belongs to the process: call it after detaching.
    ///
    /// # Errors
    /// The message, as QEMU words it.
    pub fn create(path: &Path) -> Result<Self, String> {
        loop {
            let opened = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path);
            let mut file =
                opened.map_err(|e| format!("Could not create '{}': {}", path.display(), os_text(&e)))?;
            // SAFETY: all-zero is a valid flock: whole file from its start.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = libc::F_WRLCK as i16;
            // SAFETY: F_SETLK reads the flock passed.
            check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) })
                .map_err(|e| format!("Cannot lock pid file: {}", os_text(&e)))?;
            let failed = |e: io::Error| format!("Failed to write pid file: {}", os_text(&e));
            let meta = file.metadata().map_err(failed)?;
            let identity = (meta.dev(), meta.ino());
            // Between open and lock a leaving daemon may have removed the file.
            if !listen::same_file(path, identity) && path.symlink_metadata().is_err() {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), identity, _locked: file });
        }
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file if it still is the one written; a failure is of no consequence.
    pub fn remove(&self) {
        if listen::same_file(&self.path, self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
