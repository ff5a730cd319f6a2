//! Users, groups, capabilities, limits.

use crate::check;
use std::ffi::CString;
use std::io;
use std::ptr;

/// `CAP_SYS_RAWIO` (capabilities(7)): raw I/O, such as `SG_IO` with any command.
pub const CAP_SYS_RAWIO: u32 = 17;
/// `CAP_SYS_ADMIN`: device-mapper ioctls among much else.
pub const CAP_SYS_ADMIN: u32 = 21;
const CAP_LAST_ASKED: u32 = 63;

/// The number a name or decimal number stands for: the name wins. Numbers as `strtoul` takes them, up to 32 bits.
fn number(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches([' ', '\t', '\n']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The number of `name` in a file such as `/etc/passwd`. What stands there is nearly always all there is; the C library
/// would load its modules for networks of computers to find the same.
fn in_file(file: &str, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut fields = text
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name) && !name.is_empty()).then_some(fields))?;
    fields.nth(1)?.parse().ok()
}

/// The user id of a login name or decimal number.
#[must_use]
pub fn user(text: &str) -> Option<u32> {
    if let Some(id) = in_file("/etc/passwd", text) {
        return Some(id);
    }
    let name = CString::new(text).ok()?;
    // SAFETY: `name` is NUL-terminated; the result points at static storage, read at once, before threads exist.
    let entry = unsafe { libc::getpwnam(name.as_ptr()).as_ref() };
    entry.map(|e| e.pw_uid).or_else(|| number(text))
}

/// The group id of a group name or decimal number.
#[must_use]
pub fn group(text: &str) -> Option<u32> {
    if let Some(id) = in_file("/etc/group", text) {
        return Some(id);
    }
    let name = CString::new(text).ok()?;
    // SAFETY: as in `user`.
    let entry = unsafe { libc::getgrnam(name.as_ptr()).as_ref() };
    entry.map(|e| e.gr_gid).or_else(|| number(text))
}

/// Reads an entry of a database of the C library into a buffer that grows as asked for.
fn entry_name<E>(
    mut look_up: impl FnMut(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
    name: impl Fn(&E) -> *const libc::c_char,
) -> Option<String> {
    let mut buffer = vec![0; 1024];
    loop {
        let mut entry = std::mem::MaybeUninit::<E>::uninit();
        let mut found = ptr::null_mut();
        match look_up(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            0 if found.is_null() => return None,
            0 => {}
            libc::ERANGE if buffer.len() < 1 << 20 => {
                buffer.resize(buffer.len() * 2, 0);
                continue;
            }
            _ => return None,
        }
        // SAFETY: the function answered 0 and a pointer that is not null, so the entry has been written.
        let entry = unsafe { entry.assume_init_ref() };
        // SAFETY: the entry's name is a string in `buffer`, which lives.
        let text = unsafe { std::ffi::CStr::from_ptr(name(entry)) };
        return Some(text.to_string_lossy().into_owned());
    }
}

/// The login name of a user.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    // SAFETY: all pointers are to live storage of the sizes told.
    let look_up = |entry, buffer, size, found| unsafe { libc::getpwuid_r(uid, entry, buffer, size, found) };
    entry_name(look_up, |entry: &libc::passwd| entry.pw_name)
}

/// The name of a group.
#[must_use]
pub fn group_name(gid: u32) -> Option<String> {
    // SAFETY: as in `user_name`.
    let look_up = |entry, buffer, size, found| unsafe { libc::getgrgid_r(gid, entry, buffer, size, found) };
    entry_name(look_up, |entry: &libc::group| entry.gr_name)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAP_VERSION: u32 = 0x2008_0522;

/// Sets permitted and effective capabilities to exactly the bits of `keep`; nothing is inheritable.
fn set_capabilities(keep: u64) -> io::Result<()> {
    let header = CapHeader { version: CAP_VERSION, pid: 0 };
    let half = |bits: u32| CapData { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(keep as u32), half((keep >> 32) as u32)];
    // SAFETY: version 3 reads a header and two data records, which both are.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Drops everything for good but `keep`: supplementary groups, group and user ids (to the given ones, or the
/// current), the bounding and ambient sets. To be called before there are threads. Needs root to begin with.
///
/// # Errors
/// `EPERM` without the privilege to drop.
pub fn drop_to(uid: Option<u32>, gid: Option<u32>, keep: &[u32]) -> io::Result<()> {
    let bits = keep.iter().fold(0u64, |all, cap| all | 1 << cap);
    // SAFETY: prctl with these operations takes integers.
    let prctl = |op, a: u32| check(unsafe { libc::prctl(op, libc::c_ulong::from(a), 0, 0, 0) });
    for cap in 0..=CAP_LAST_ASKED {
        if let Err(err) = prctl(libc::PR_CAPBSET_DROP, cap) {
            // Past the last capability this kernel knows.
            if err.raw_os_error() == Some(libc::EINVAL) && cap > 0 {
                break;
            }
            return Err(err);
        }
    }
    // SAFETY: prctl with these operations takes integers; a kernel without ambient sets has none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    prctl(libc::PR_SET_KEEPCAPS, 1)?;
    // SAFETY: these take integers and, for setgroups, an empty list; getegid and geteuid cannot fail.
    unsafe {
        check(libc::setgroups(0, ptr::null()))?;
        let gid = gid.unwrap_or_else(|| libc::getegid());
        check(libc::setresgid(gid, gid, gid))?;
        let uid = uid.unwrap_or_else(|| libc::geteuid());
        check(libc::setresuid(uid, uid, uid))?;
    }
    set_capabilities(bits)?;
    prctl(libc::PR_SET_KEEPCAPS, 0)?;
    Ok(())
}

/// The descriptor limit after raising the soft limit to at least `wanted`; the hard limit too where that is allowed.
#[must_use]
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return 64;
    }
    if limit.rlim_cur < wanted {
        let before = limit;
        limit.rlim_cur = wanted;
        limit.rlim_max = limit.rlim_max.max(wanted);
        // SAFETY: `limit` is readable.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            limit = libc::rlimit { rlim_cur: before.rlim_max.min(wanted), rlim_max: before.rlim_max };
            // SAFETY: as above.
            if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
                return before.rlim_cur;
            }
        }
    }
    limit.rlim_cur
}

/// The soft limit of open descriptors.
#[must_use]
pub fn descriptor_limit() -> u64 {
    raise_descriptor_limit(0)
}

/// Keeps the C library to one heap for all threads: dozens of threads that allocate next to nothing need no more.
pub fn one_heap() {
    // SAFETY: mallopt takes two integers, and is called before there are threads.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(user("root"), Some(0));
        assert_eq!(group("root"), Some(0));
        assert_eq!((user_name(0).as_deref(), group_name(0).as_deref()), (Some("root"), Some("root")));
        assert_eq!(user_name(4_000_000_000), None);
        assert_eq!(user("65534"), Some(65534));
        assert_eq!(user(" 1"), Some(1));
        for bad in ["", "xyz-no-such", "99999999999", "0x10", "-1", "1 "] {
            assert_eq!(user(bad), None, "{bad:?}");
        }
    }
}
