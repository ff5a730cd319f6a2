//! Pseudo-terminals.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io;

/// The master side of a new pseudo-terminal in raw mode.
pub struct Pty {
    /// The master, close-on-exec.
    pub master: OwnedFd,
    /// The path of the slave (`/dev/pts/N`).
    pub path: String,
}

/// Opens a pseudo-terminal whose line discipline passes every byte through.
///
/// # Errors
/// The host is out of pseudo-terminals or descriptors.
pub fn open() -> io::Result<Pty> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let path = name.to_str().map_err(io::Error::other)?.to_owned();
    let slave = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut mode = tcgetattr(&slave)?;
    mode.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &mode)?;
    Ok(Pty { master, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_unchanged() {
        let pty = open().expect("pty");
        let slave = rustix::fs::open(&pty.path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("slave");
        rustix::io::write(&slave, b"a\nb\r").expect("write");
        let mut got = [0; 8];
        let n = rustix::io::read(&pty.master, &mut got).expect("read");
        assert_eq!(&got[..n], b"a\nb\r");
    }
}
