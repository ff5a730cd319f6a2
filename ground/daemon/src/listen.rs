//! A listening Unix socket whose path appears only once it listens, and goes only if it is still ours.
//!
//! The socket is bound to a short temporary name in the same directory, put to listening, and renamed over the path.
//! Names are resolved relative to a descriptor of the directory (by working there for the length of the `bind`), so that
//! a path of the full 108 bytes needs no longer name than itself.

use crate::{check, os_text};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Size of `sun_path` (unix(7)).
pub const MAX_PATH: usize = 108;

/// Why a path cannot be listened on; the text is what follows the program name.
#[derive(Debug)]
pub enum ListenError {
    /// Longer than `sun_path`.
    TooLong(PathBuf),
    /// A live process listens there.
    InUse(PathBuf),
    /// What stands there cannot be replaced.
    Unlink(PathBuf, io::Error),
    /// Everything else.
    Bind(PathBuf, io::Error),
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(p) => {
                write!(
                    f,
                    "UNIX socket path '{}' is too long\nPath must be less than {MAX_PATH} bytes",
                    p.display()
                )
            }
            Self::InUse(p) => write!(f, "socket path '{}' is in use", p.display()),
            Self::Unlink(p, e) => write!(f, "Failed to unlink socket {}: {}", p.display(), os_text(e)),
            Self::Bind(p, e) => write!(f, "Failed to bind socket to {}: {}", p.display(), os_text(e)),
        }
    }
}

impl std::error::Error for ListenError {}

/// The socket's entry in the file system.
#[derive(Debug)]
pub struct SocketFile {
    dir: File,
    name: CString,
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the entry if it still is the socket that was bound; anything else there is left alone.
    ///
    /// # Errors
    /// What `unlinkat` reports.
    pub fn remove(&self) -> io::Result<()> {
        match stat_at(self.dir.as_fd(), &self.name) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == self.identity => {
                unlink_at(self.dir.as_fd(), &self.name)
            }
            _ => Ok(()),
        }
    }
}

fn stat_at(dir: BorrowedFd<'_>, name: &CString) -> io::Result<libc::stat> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and `stat` is writable.
    check(unsafe {
        libc::fstatat(dir.as_raw_fd(), name.as_ptr(), &raw mut stat, libc::AT_SYMLINK_NOFOLLOW)
    })?;
    Ok(stat)
}

fn unlink_at(dir: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes three integers.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the kernel just handed us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of `name`; a name of the full length goes without the final NUL, as unix(7) allows.
fn address(name: &OsStr) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = name.as_bytes();
    if bytes.len() > MAX_PATH {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let mut addr = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; MAX_PATH] };
    for (to, &from) in addr.sun_path.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let len = size_of::<u16>() + (bytes.len() + 1).min(MAX_PATH);
    Ok((addr, len as libc::socklen_t))
}

/// Whether a live process listens on the socket that `name` is, seen from the working directory.
fn is_live(name: &OsStr) -> io::Result<bool> {
    let socket = new_socket()?;
    let (addr, len) = address(name)?;
    // SAFETY: `addr` holds `len` initialised bytes of an address.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const addr).cast(), len) }) {
        Ok(_) => Ok(true),
        // A full backlog is life, too.
        Err(err) => Ok(err.kind() == io::ErrorKind::WouldBlock),
    }
}

/// Works in `dir` while it lives, and in the old place again after.
struct WorkingIn(File);

impl WorkingIn {
    fn new(dir: &File) -> io::Result<Self> {
        let old = File::open(".")?;
        // SAFETY: fchdir takes a descriptor.
        check(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
        Ok(Self(old))
    }
}

impl Drop for WorkingIn {
    fn drop(&mut self) {
        // SAFETY: fchdir takes a descriptor.
        unsafe { libc::fchdir(self.0.as_raw_fd()) };
    }
}

/// Listens on `path` (mode 0777 less the umask). A stale socket or other file there is replaced in one step; a live
/// socket or a directory is refused. Two daemons that start at once are kept apart by a lock on the directory.
/// Changes the working directory for a moment: to be called before there are threads.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(path: &Path, backlog: i32) -> Result<(OwnedFd, SocketFile), ListenError> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(ListenError::TooLong(path.to_owned()));
    }
    let failed = |err| ListenError::Bind(path.to_owned(), err);
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else {
        return Err(ListenError::Unlink(path.to_owned(), io::Error::from_raw_os_error(libc::EISDIR)));
    };
    let dir = File::open(parent).map_err(failed)?;
    // The lock ends with the descriptor of its own, at return.
    let lock = File::open(parent).map_err(failed)?;
    // SAFETY: flock takes a descriptor and a number.
    check(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }).map_err(failed)?;
    let c_name = CString::new(name.as_bytes()).map_err(|e| failed(e.into()))?;
    let _there = WorkingIn::new(&dir).map_err(failed)?;

    if let Ok(stat) = stat_at(dir.as_fd(), &c_name) {
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                return Err(ListenError::Unlink(path.to_owned(), io::Error::from_raw_os_error(libc::EISDIR)));
            }
            libc::S_IFSOCK if is_live(name).map_err(failed)? => {
                return Err(ListenError::InUse(path.to_owned()));
            }
            _ => {}
        }
    }
    let socket = new_socket().map_err(failed)?;
    let temporary = format!(".{}.sock", std::process::id());
    let c_temporary = CString::new(temporary.as_str()).map_err(|e| failed(e.into()))?;
    let _ = unlink_at(dir.as_fd(), &c_temporary);
    let (addr, len) = address(OsStr::new(&temporary)).map_err(failed)?;
    // SAFETY: `addr` holds `len` initialised bytes of an address.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), len) }).map_err(failed)?;
    // SAFETY: listen takes two integers; renameat two descriptors and two NUL-terminated names.
    let placed = check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).and_then(|_| {
        // SAFETY: both names are NUL-terminated.
        check(unsafe {
            libc::renameat(dir.as_raw_fd(), c_temporary.as_ptr(), dir.as_raw_fd(), c_name.as_ptr())
        })
    });
    if let Err(err) = placed {
        let _ = unlink_at(dir.as_fd(), &c_temporary);
        return Err(failed(err));
    }
    let stat = stat_at(dir.as_fd(), &c_name).map_err(failed)?;
    Ok((
        socket,
        SocketFile { dir, name: c_name, path: path.to_owned(), identity: (stat.st_dev, stat.st_ino) },
    ))
}

/// Whether `path` still is the file with device and inode `identity`.
pub(crate) fn same_file(path: &Path, identity: (u64, u64)) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == identity)
}
