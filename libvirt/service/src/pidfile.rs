//! The file with the daemon's process id, locked while the daemon lives.

use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A locked PID file; dropping it removes the file.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    // Held for the lock.
    _file: File,
}

impl PidFile {
    /// Writes this process's id into `path`.
    ///
    /// # Errors
    /// The message: the file cannot be written, or another process has locked it.
    pub fn acquire(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        loop {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
                .map_err(|errno| format!("Failed to open pid file '{shown}': {}", reason(errno)))?;
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|errno| format!("Failed to acquire pid file '{shown}': {}", reason(errno)))?;
            let mut file = File::from(file);
            // Its last owner may have removed it between our opening and our locking it.
            let same = match (file.metadata(), std::fs::metadata(path)) {
                (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
                _ => false,
            };
            if !same {
                continue;
            }
            file.set_len(0)
                .and_then(|()| write!(file, "{}", std::process::id()))
                .map_err(|error| format!("Failed to write to pid file '{shown}': {}", text(&error)))?;
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Gone already: somebody wanted it so.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn reason(errno: rustix::io::Errno) -> String {
    text(&errno.into())
}

/// An error's text as the C library has it.
pub fn text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}
