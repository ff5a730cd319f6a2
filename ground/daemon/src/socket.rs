//! Unix sockets beyond the standard library: a passed descriptor, deadlines, who the peer is.

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Who connected, as the kernel knew at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process, or 0 when it is not visible from our PID namespace.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
}

/// The peer of a connected Unix socket.
///
/// # Errors
/// What `getsockopt` reports.
pub fn peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `cred` is a ucred and `len` its size; the kernel writes at most that much.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    })?;
    Ok(Peer { pid: cred.pid, uid: cred.uid, gid: cred.gid })
}

/// A descriptor that stands for the peer process itself, which no reuse of its number can fool: `SO_PEERPIDFD`
/// (Linux 6.5), else `pidfd_open` right now; `None` when the kernel has neither or the peer is not visible.
#[must_use]
pub fn peer_pidfd(fd: BorrowedFd<'_>, peer: Peer) -> Option<OwnedFd> {
    /// `asm-generic/socket.h`.
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut pidfd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an int and its size are passed; the kernel writes at most that much.
    let got = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut len,
        )
    };
    if got < 0 || pidfd < 0 {
        if peer.pid <= 0 {
            return None;
        }
        // SAFETY: pidfd_open takes two integers.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, peer.pid, 0) };
        pidfd = libc::c_int::try_from(opened).ok().filter(|&fd| fd >= 0)?;
    }
    // SAFETY: the kernel just handed us this descriptor; nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Whether the process behind `pidfd` has ended.
#[must_use]
pub fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    wait(pidfd, libc::POLLIN, Some(Duration::ZERO)).unwrap_or(true)
}

/// Waits until `events` or an error condition is there; `false` when `timeout` (`None`: for ever) passes first.
///
/// # Errors
/// What `poll` reports, other than an interruption.
pub fn wait(fd: BorrowedFd<'_>, events: i16, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.map(|t| Instant::now() + t);
    loop {
        let millis = match deadline {
            None => -1,
            Some(d) => {
                let left = d.saturating_duration_since(Instant::now());
                i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
            }
        };
        let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        // SAFETY: one pollfd is passed, and the count says one.
        match check(unsafe { libc::poll(&raw mut entry, 1, millis) }) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Waits until one of `fds` is readable or broken; `false` when `timeout` (`None`: for ever) passes first.
///
/// # Errors
/// What `poll` reports, other than an interruption.
pub fn wait_any(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let entry = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = fds.iter().map(entry).collect();
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    loop {
        // SAFETY: the pointer and count are those of a live vector.
        match check(unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) }) {
            Ok(ready) => return Ok(ready > 0),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// What one receive brought.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes received; 0 at the end of the stream.
    pub bytes: usize,
    /// The descriptor that rode on them.
    pub fd: Option<OwnedFd>,
    /// More ancillary data came than one descriptor; the kernel has dropped it.
    pub excess: bool,
}

/// Room for exactly one passed descriptor; `CMSG_LEN(4)`, so that the kernel drops a second one and says so.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 24],
}

/// Receives into `buf` with at most one descriptor (close-on-exec). Without `block` it answers
/// [`io::ErrorKind::WouldBlock`] rather than wait.
///
/// # Errors
/// What `recvmsg` reports, other than an interruption.
pub fn receive_with_fd(socket: BorrowedFd<'_>, buf: &mut [u8], block: bool) -> io::Result<Received> {
    let mut control = Control { bytes: [0; 24] };
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.as_mut_ptr().cast();
    // SAFETY: CMSG_LEN only computes.
    message.msg_controllen = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) } as usize;
    let flags = libc::MSG_CMSG_CLOEXEC | if block { 0 } else { libc::MSG_DONTWAIT };
    let bytes = loop {
        // SAFETY: the header points at `buf` and `control`, which outlive the call, with their true lengths.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if let Ok(bytes) = usize::try_from(got) {
            break bytes;
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    };
    let mut received = Received { bytes, fd: None, excess: message.msg_flags & libc::MSG_CTRUNC != 0 };
    // SAFETY: the kernel filled the control buffer and its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR answers a header that lies wholly inside the control buffer, which is aligned.
        let header_ref = unsafe { &*header };
        // SAFETY: CMSG_LEN only computes.
        let one = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) } as usize;
        let rights = header_ref.cmsg_level == libc::SOL_SOCKET && header_ref.cmsg_type == libc::SCM_RIGHTS;
        if rights && header_ref.cmsg_len >= one {
            // SAFETY: the message is SCM_RIGHTS with at least one int of data, so reading one int is in bounds, and
            // the descriptor was installed for us alone.
            received.fd = Some(unsafe {
                OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned())
            });
        }
    }
    Ok(received)
}

/// A connected pair of sockets that keep messages apart (`SOCK_SEQPACKET`).
///
/// # Errors
/// What `socketpair` reports.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    check(unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr())
    })?;
    // SAFETY: the kernel just handed us both descriptors.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Sends one message, and a descriptor with it if one is given; a closed peer is an error, never a signal.
///
/// # Errors
/// What `sendmsg` reports, other than an interruption.
pub fn send_message(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut control = Control { bytes: [0; 24] };
    let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(fd) = fd {
        let size = size_of::<libc::c_int>() as u32;
        header.msg_control = control.bytes.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes (24 for one descriptor, the size of `control`).
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
        // SAFETY: the control buffer is aligned and has room for one header with one descriptor.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
            libc::CMSG_DATA(first).cast::<libc::c_int>().write_unaligned(fd.as_raw_fd());
        }
    }
    loop {
        // SAFETY: the header points at `part`, `message` and `control`, which outlive the call, with true lengths.
        if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
}

/// Reads exactly `buf`, without accepting descriptors, before `deadline`.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] at the end of the stream, [`io::ErrorKind::TimedOut`] past the deadline.
pub fn read_exact(socket: BorrowedFd<'_>, mut buf: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buf.is_empty() {
        // SAFETY: the pointer and length are those of a live slice.
        let got =
            unsafe { libc::recv(socket.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(got) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => buf = &mut buf[n..],
            Err(_) => await_ready(socket, libc::POLLIN, deadline)?,
        }
    }
    Ok(())
}

/// Writes all of `buf` before `deadline`; a closed peer is an error, never a signal.
///
/// # Errors
/// What `send` reports; [`io::ErrorKind::TimedOut`] past the deadline.
pub fn write_all(socket: BorrowedFd<'_>, mut buf: &[u8], limit: Duration) -> io::Result<()> {
    let mut deadline = None;
    while !buf.is_empty() {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and length are those of a live slice.
        let sent = unsafe { libc::send(socket.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags) };
        match usize::try_from(sent) {
            Ok(n) => buf = &buf[n..],
            Err(_) => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
                await_ready(socket, libc::POLLOUT, deadline)?;
            }
        }
    }
    Ok(())
}

/// After a failed non-blocking call: waits when it only would have blocked, else reports its error.
pub fn await_ready(socket: BorrowedFd<'_>, events: i16, deadline: Instant) -> io::Result<()> {
    let err = io::Error::last_os_error();
    match err.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait(socket, events, Some(left))? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(())
        }
        _ => Err(err),
    }
}

/// Ends reading, writing or both (`libc::SHUT_*`) of a socket for everybody who holds it; errors do not matter.
pub fn shutdown(socket: BorrowedFd<'_>, how: libc::c_int) {
    // SAFETY: shutdown takes two integers.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

/// Accepts one client (close-on-exec) without waiting longer than the listening socket's own mode says.
///
/// # Errors
/// What `accept4` reports.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no address is asked for, so both pointers may be null.
    let fd = check(unsafe {
        libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: the kernel just handed us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
