//! Being a good Unix daemon: what `qemu-pr-helper`, `qemu-vmsr-helper` and other daemons stand on.
//!
//! Each module is usable alone: a listening socket that appears only once it is ready ([`listen`]), systemd's socket
//! activation ([`activation`]), PID files and detaching ([`pidfile`], [`detach`]), users, groups and capabilities
//! ([`privileges`]), child processes ([`process`]), seccomp and Landlock ([`sandbox`]), signals as a descriptor ([`signals`]), descriptors passed
//! over sockets ([`socket`]), a thread-per-client server with caps and an orderly end ([`server`]). [`app`] ties them
//! together to the start-up sequence that QEMU's helpers share.
//!
//! Unsafe code here is only system calls for which the standard library has no wrapper.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod activation;
pub mod app;
pub mod detach;
pub mod listen;
pub mod log;
pub mod pidfile;
pub mod privileges;
pub mod process;
pub mod sandbox;
pub mod server;
pub mod signals;
pub mod socket;

use std::io;

/// The C library's text of an error, without Rust's ` (os error N)`.
#[must_use]
pub fn os_text(err: &io::Error) -> String {
    let text = err.to_string();
    match text.rfind(" (os error ") {
        Some(cut) => text[..cut].to_owned(),
        None => text,
    }
}

/// Turns the `-1` of a system call into the error of `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
