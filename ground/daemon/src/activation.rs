//! systemd's socket activation (sd_listen_fds(3)).

use crate::{check, os_text};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// First passed descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// How many sockets the service manager passed to this very process; 0 without activation. The variables are removed
/// from the environment. To be called before there are threads.
///
/// # Errors
/// The message when a descriptor that was promised is not there.
pub fn take() -> Result<u32, String> {
    let text = |name| std::env::var(name).ok();
    let pid = text("LISTEN_PID").and_then(|v| v.parse::<u32>().ok());
    let count = text("LISTEN_FDS").and_then(|v| v.parse::<u32>().ok());
    if pid != Some(std::process::id()) {
        return Ok(0);
    }
    let Some(count) = count else { return Ok(0) };
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        // SAFETY: the caller runs this before it starts threads, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    for index in 0..count.min(1024) {
        let fd = FIRST + index as RawFd;
        // SAFETY: fcntl with F_SETFD takes integers.
        if let Err(err) = check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }) {
            return Err(format!(
                "Socket activation failed: invalid file descriptor fd = {fd}: {}",
                os_text(&err)
            ));
        }
    }
    Ok(count)
}

/// The passed socket, which must be a listening Unix stream socket; it is made non-blocking.
///
/// # Errors
/// The message for anything else.
pub fn unix_listener() -> Result<OwnedFd, String> {
    let failed = |what: &str| format!("Failed to use socket activation: {what}");
    let option = |option| {
        let mut value: libc::c_int = 0;
        let mut len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: an int and its size are passed.
        check(unsafe {
            libc::getsockopt(FIRST, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len)
        })?;
        Ok::<_, io::Error>(value)
    };
    let query = |err| failed(&format!("Unable to query remote socket address: {}", os_text(&err)));
    let domain = option(libc::SO_DOMAIN).map_err(query)?;
    let kind = option(libc::SO_TYPE).map_err(query)?;
    let listening = option(libc::SO_ACCEPTCONN).map_err(query)?;
    if domain != libc::AF_UNIX || kind != libc::SOCK_STREAM || listening == 0 {
        return Err(failed("not a listening Unix stream socket"));
    }
    // SAFETY: fcntl with F_GETFL and F_SETFL takes integers.
    check(unsafe { libc::fcntl(FIRST, libc::F_SETFL, libc::fcntl(FIRST, libc::F_GETFL) | libc::O_NONBLOCK) })
        .map_err(query)?;
    // SAFETY: the service manager passed descriptor 3 to us, `take` found it open, and this is called once.
    Ok(unsafe { OwnedFd::from_raw_fd(FIRST) })
}
