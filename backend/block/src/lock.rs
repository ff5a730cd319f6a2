//! Image locks, in the byte layout that QEMU uses, so that the two refuse each other's images.
//!
//! Byte 100+n is locked (shared) by whoever uses permission n, byte 200+n by whoever does not share it; a user checks
//! that nobody holds the opposite byte.

use crate::BlockError;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

const USED: i64 = 100;
const UNSHARED: i64 = 200;
/// Permission numbers.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;

fn name(permission: i64) -> &'static str {
    if permission == CONSISTENT_READ { "consistent read" } else { "write" }
}

fn range(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

/// Locks `file` for a reader, or for a writer that shares with nobody (`share_rw`: with other writers too).
pub(crate) fn lock(file: &File, path: &str, writable: bool, share_rw: bool) -> Result<(), BlockError> {
    let used: &[i64] = if writable { &[CONSISTENT_READ, WRITE] } else { &[CONSISTENT_READ] };
    let unshared: &[i64] = if share_rw { &[] } else { &[WRITE] };
    let refuse = |shared: &str, permission: i64| {
        BlockError(format!(
            "Failed to get {shared}\"{}\" lock\nIs another process using the image [{path}]?",
            name(permission)
        ))
    };
    let take = |byte: i64| {
        let lock = range(libc::F_RDLCK, byte);
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            // A file system without locks: as QEMU does, go on without.
            Ok(_)
            | Err(nix::errno::Errno::ENOLCK | nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => {
                true
            }
            Err(_) => false,
        }
    };
    let is_free = |byte: i64| {
        let mut lock = range(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_err() || i32::from(lock.l_type) == libc::F_UNLCK
    };
    for &p in used {
        if !take(USED + p) {
            return Err(refuse("", p));
        }
    }
    for &p in unshared {
        if !take(UNSHARED + p) {
            return Err(refuse("shared ", p));
        }
    }
    for &p in used {
        if !is_free(UNSHARED + p) {
            return Err(refuse("", p));
        }
    }
    for &p in unshared {
        if !is_free(USED + p) {
            return Err(refuse("shared ", p));
        }
    }
    Ok(())
}
