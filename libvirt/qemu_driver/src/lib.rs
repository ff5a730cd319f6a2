//! The QEMU driver: domains, the files that describe them, and the emulators that run them.
//!
//! [`QemuDriver`] serves the calls of [`rpc::protocol`]. What all parts share is in [`Core`]. A [`guest::Guest`] is one
//! domain: its *job* is held across a whole operation, its lock for moments only and never while the monitor or a file
//! is waited for, so that a guest that hangs holds up nobody who only wants to look.
//!
//! Operations of several steps write how far they are into the guest's status file before each step: a daemon that is
//! killed in the middle finds there what to undo or to finish.
#![forbid(unsafe_code)]

pub mod agent;
mod api;
mod base64;
pub mod capabilities;
pub mod config;
pub mod core;
pub mod definition;
mod driver;
pub mod error;
pub mod files;
pub mod groups;
pub mod guest;
pub mod hooks;
pub mod job;
pub mod paths;
pub mod process;
pub mod query;
mod schema;
mod sessions;
pub mod state;
pub mod table;
pub mod uuid;

pub use config::Config;
pub use core::{Core, Level};
pub use driver::QemuDriver;
pub use hooks::Hooks;
pub use paths::Paths;
