//! The PID file: written, locked while the process lives, removed at its end.

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::path::{Path, PathBuf};

/// A locked PID file. Dropping it removes the file.
pub struct PidLock {
    path: PathBuf,
    // Held for the lock.
    _file: OwnedFd,
}

fn reason(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

impl PidLock {
    /// Writes this process's id into `path`. The lock belongs to the process and is not inherited over fork, so that a
    /// daemon calls this after it has detached.
    ///
    /// # Errors
    /// The file cannot be made, or another process has it locked; the text is for the user.
    pub fn create(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        loop {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|errno| {
                format!("cannot create PID file: Could not create '{shown}': {}", reason(errno))
            })?;
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
                format!("cannot create PID file: Cannot lock pid file: {}", reason(errno))
            })?;
            // Between opening and locking, the owner before us may have removed the file.
            let same = match (rustix::fs::fstat(&file), rustix::fs::stat(path)) {
                (Ok(ours), Ok(theirs)) => (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino),
                _ => false,
            };
            if !same {
                continue;
            }
            let text = format!("{}\n", std::process::id());
            rustix::fs::ftruncate(&file, 0)
                .and_then(|()| rustix::io::write(&file, text.as_bytes()))
                .map_err(|errno| {
                    format!("cannot create PID file: Failed to write pid file: {}", reason(errno))
                })?;
            // The path must hold after a change of the working directory.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for PidLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_our_id_and_goes() {
        let path = std::env::temp_dir().join(format!("pidlock-{}", std::process::id()));
        std::fs::write(&path, "123456789 something longer").expect("write");
        let lock = PidLock::create(&path).expect("create");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), format!("{}\n", std::process::id()));
        drop(lock);
        assert!(!path.exists());
        let error = PidLock::create(Path::new("/nonexistent/x")).err().expect("error");
        assert_eq!(
            error,
            "cannot create PID file: Could not create '/nonexistent/x': No such file or directory"
        );
    }
}
