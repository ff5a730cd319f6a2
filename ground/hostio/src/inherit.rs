//! Descriptors that the caller left open for us.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Takes over the inherited descriptor `number` and marks it close-on-exec.
///
/// # Errors
/// It is not open, or is one of the three standard descriptors.
pub fn adopt(number: i32) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD takes an int and touches no memory of ours; a closed number is reported as EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the user's command line gives it to exactly this owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
