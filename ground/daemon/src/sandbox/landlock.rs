//! File-system access by exception (landlock(7)), where the kernel has it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Right to read files (`LANDLOCK_ACCESS_FS_READ_FILE`).
pub const READ_FILE: u64 = 1 << 2;
/// Right to write files (`LANDLOCK_ACCESS_FS_WRITE_FILE`).
pub const WRITE_FILE: u64 = 1 << 1;
/// Right to list folders (`LANDLOCK_ACCESS_FS_READ_DIR`).
pub const READ_DIR: u64 = 1 << 3;
/// Right to use devices' ioctls (`LANDLOCK_ACCESS_FS_IOCTL_DEV`; kernels before it do not restrict them).
pub const IOCTL_DEVICE: u64 = 1 << 15;
/// Right to remove files (`LANDLOCK_ACCESS_FS_REMOVE_FILE`).
pub const REMOVE_FILE: u64 = 1 << 5;

/// Whether abstract sockets and signals of processes outside are in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// They are not, on kernels that know how to forbid that.
    Closed,
    /// They are.
    Open,
}

#[repr(C)]
struct RulesetAttr {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock that this kernel has, or less than 1 when it has none.
#[must_use]
pub fn version() -> i64 {
    // SAFETY: a null attribute of size 0 with flag 1 (LANDLOCK_CREATE_RULESET_VERSION) only asks for the version.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, 1u32) }
}

/// Forbids this thread and all it will start every use of the file system but `allowed` rights beneath paths; on
/// kernels that know them also TCP, other processes' abstract sockets and signals to outside. Paths that do not exist
/// are left out. Descriptors that are open already, or that are received, stay as they are.
/// [`super::no_new_privileges`] must have run. Answers whether the kernel took part.
///
/// # Errors
/// What the calls report, on a kernel with Landlock.
pub fn restrict(allowed: &[(&Path, u64)]) -> io::Result<bool> {
    restrict_but(allowed, Scope::Closed)
}

/// [`restrict`] with a choice about abstract sockets and signals.
///
/// # Errors
/// What the calls report, on a kernel with Landlock.
pub fn restrict_but(allowed: &[(&Path, u64)], scope: Scope) -> io::Result<bool> {
    let version = version();
    if version < 1 {
        return Ok(false);
    }
    // Rights by version: 13 of files in the first, then REFER, TRUNCATE, and IOCTL_DEV in the fifth.
    let rights = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    let attr = RulesetAttr {
        handled_fs: (1 << rights) - 1,
        handled_net: if version >= 4 { 3 } else { 0 },
        scoped: if version >= 6 && scope == Scope::Closed { 3 } else { 0 },
    };
    let size = match version {
        1..4 => 8,
        4..6 => 16,
        _ => size_of::<RulesetAttr>(),
    };
    // SAFETY: the attribute has at least `size` bytes.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0u32) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just handed us this descriptor.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (path, rights) in allowed {
        let c_path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the path is NUL-terminated.
        let opened = unsafe { libc::open(c_path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        if opened < 0 {
            continue;
        }
        // SAFETY: the kernel just handed us this descriptor.
        let parent = unsafe { OwnedFd::from_raw_fd(opened) };
        // Rights that this kernel does not know are not restricted either.
        let rule = PathBeneath { allowed: *rights & attr.handled_fs, parent: parent.as_raw_fd() };
        // SAFETY: type 1 (LANDLOCK_RULE_PATH_BENEATH) reads a PathBeneath.
        let added = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), 1u32, &raw const rule, 0u32)
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: landlock_restrict_self takes a descriptor and flags.
    if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(true)
}
