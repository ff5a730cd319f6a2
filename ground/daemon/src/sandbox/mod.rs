//! The cage a daemon steps into once it has all it needs: no new privileges, a system-call allow-list, Landlock.

pub mod landlock;
pub mod seccomp;

use crate::check;
use std::io;

/// Makes sure that no `execve` can ever gain privileges (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// What `prctl` reports.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl with this operation takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
