//! Signals as a descriptor (signalfd(2)).

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The signals at which a daemon ends.
pub const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Blocks `signals` in this thread (and all it starts later) and answers a descriptor that is readable when one is
/// pending.
///
/// # Errors
/// What `pthread_sigmask` or `signalfd` report.
pub fn descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is valid storage for a signal set, and sigemptyset initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: `set` was initialised.
        check(unsafe { libc::sigaddset(&raw mut set, signal) })?;
    }
    // SAFETY: `set` was initialised; the old mask is not asked for.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: `set` was initialised; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the kernel just handed us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes writes to what nobody reads any more fail instead of ending the process.
///
/// # Errors
/// What `signal` reports.
pub fn ignore_broken_pipes() -> io::Result<()> {
    // SAFETY: SIG_IGN is a disposition, no handler that could run.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes one pending signal's number off the descriptor, or `None` when there is none.
#[must_use]
pub fn take(fd: &OwnedFd) -> Option<u32> {
    // SAFETY: all-zero is a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `info` has `size` writable bytes.
    let got = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size) };
    (usize::try_from(got) == Ok(size)).then_some(info.ssi_signo)
}
