//! How the processes of guests are started and what they may reach.
//!
//! [`launch`] starts QEMU and its helpers. Between fork and exec much has to be done that a program with threads
//! cannot do in safe code; therefore the daemon starts its own binary anew ([`launch::run_if_asked`] in its `main`),
//! and that fresh process with one thread becomes QEMU.
#![forbid(unsafe_code)]

pub mod apparmor;
pub mod cgroup;
pub mod dac;
pub mod dbus;
mod error;
pub mod launch;
pub mod namespace;
pub mod polkit;
pub mod process;
mod remember;
pub mod systemd;

pub use error::{Code, Error, Result};
