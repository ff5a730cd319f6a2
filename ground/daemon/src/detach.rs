//! Going to the background, with the parent staying until the child is ready.

use crate::check;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// In the child: tells the waiting parent that all went well.
#[derive(Debug)]
pub struct Ready(File);

/// Forks; the parent never returns: it ends with 0 once the child called [`Ready::done`], or with 1 when the child
/// ended before. The child leads a session of its own and works in `/`. To be called before there are threads.
///
/// # Errors
/// What `pipe2`, `fork` or `setsid` report.
pub fn detach() -> io::Result<Ready> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel just handed us both descriptors.
    let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: there are no other threads, so the child may go on as a full program.
    if check(unsafe { libc::fork() })? > 0 {
        drop(writer);
        let mut byte = [0];
        let ready = matches!(File::from(reader).read(&mut byte), Ok(1));
        // SAFETY: _exit skips the handlers that belong to the child now.
        unsafe { libc::_exit(i32::from(!ready)) };
    }
    drop(reader);
    // SAFETY: setsid takes nothing.
    check(unsafe { libc::setsid() })?;
    std::env::set_current_dir("/")?;
    Ok(Ready(File::from(writer)))
}

impl Ready {
    /// Sends the standard streams to `/dev/null` and lets the parent end.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn done(mut self) -> io::Result<()> {
        silence()?;
        self.0.write_all(&[1])
    }
}

/// Sends the standard streams to `/dev/null`.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        // SAFETY: dup2 takes two integers; the standard streams are not owned by any Rust value.
        check(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    Ok(())
}

/// Opens `/dev/null` as those of the standard streams that are closed, so that no socket or device becomes one of them.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn keep_standard_streams_taken() -> io::Result<()> {
    for stream in 0..3 {
        // SAFETY: fcntl with F_GETFD takes integers.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } < 0 {
            // The lowest free number is this stream's, since those below are open.
            let _ = File::options().read(true).write(true).open("/dev/null")?.into_raw_fd();
        }
    }
    Ok(())
}
