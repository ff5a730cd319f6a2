//! Child processes that go on as the same program: forked before there are threads, or from a process without any.

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that was there before; the child's number.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks. To be called by a process with one thread only, which is why the child may go on as a full program.
///
/// # Errors
/// What `fork` reports.
pub fn fork() -> io::Result<Side> {
    // SAFETY: the caller has one thread, so no lock can be left held by a thread that is not there in the child.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Side::Child),
        child => Ok(Side::Parent(child)),
    }
}

/// Ends the process at once, without the handlers that belong to the parent.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Closes all descriptors but the standard streams and `kept`. Whatever value still owns one of them must not be
/// used, nor dropped, any more: for a forked child that leaves by [`exit`].
pub fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as libc::c_uint;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.max(2) + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: close_range takes three integers.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Programs that this process runs do not inherit what it has inherited itself beyond the standard streams.
pub fn keep_inherited_descriptors() {
    let cloexec = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range takes three integers, and with this flag closes nothing here.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, cloexec) };
}

/// Collects one child that has ended, without waiting; `None` when there is none (left).
#[must_use]
pub fn reap() -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (child > 0).then_some(child)
}

/// Sets the name of this thread, as `ps` shows it (15 bytes at most).
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Sends standard error to `file`.
///
/// # Errors
/// What `dup2` reports.
pub fn redirect_errors(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: dup2 takes two integers; standard error is not owned by any Rust value.
    check(unsafe { libc::dup2(file.as_raw_fd(), 2) }).map(drop)
}
