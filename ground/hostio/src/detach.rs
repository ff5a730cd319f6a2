//! `-daemonize`: the caller waits until the program is ready, then it goes on in the background.

use nix::unistd::{ForkResult, fork, setsid};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::io;

/// The background process's word to the waiting caller.
pub struct Readiness {
    pipe: OwnedFd,
}

/// Splits the process: the caller's part waits and exits with the status that [`Readiness`] brings (1 when the
/// background process dies before); the background part, in its own session, returns.
///
/// # Errors
/// The host has no room for a process, or this process has more than one thread.
pub fn detach() -> io::Result<Readiness> {
    // Only the forking thread lives on in the child, with whatever locks the others held.
    if std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1) > 1 {
        return Err(io::Error::other("the process has more than one thread"));
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: there is only this thread (checked above), so that the child is as able as the parent.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        drop(writer);
        let mut status = [1];
        loop {
            match rustix::io::read(&reader, &mut status) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) => break,
                _ => {
                    status = [1];
                    break;
                }
            }
        }
        // SAFETY: ends this process without its exit handlers, which belong to the background part.
        unsafe { libc::_exit(status[0].into()) }
    }
    drop(reader);
    setsid()?;
    // SAFETY: as above; the second fork gives up the session's leadership and with it the way to a terminal.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        // SAFETY: as above.
        unsafe { libc::_exit(0) }
    }
    rustix::process::umask(Mode::from_raw_mode(0o027));
    Ok(Readiness { pipe: writer })
}

impl Readiness {
    /// Lets the caller go with status 0, and lets go of its working directory and terminal. `keep_stderr` leaves
    /// standard error open, for a log that goes there.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn ready(self, keep_stderr: bool) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        if !keep_stderr {
            rustix::stdio::dup2_stderr(&null)?;
        }
        rustix::io::write(&self.pipe, &[0])?;
        Ok(())
    }
}
