//! The command line of QEMU for a domain.
//!
//! [`build`] takes a domain that is ready to start (defaults, addresses, aliases, numbered sources: see [`prepare`]),
//! what the emulator can do, the daemon's [`Settings`], and a [`Host`] that opens what the emulator is handed as
//! descriptors. Options, their order and the bytes of their JSON are libvirt's, so that guests can move between its
//! daemons and ours. One family of devices is one module; what cannot be put on a command line is an error that
//! names it.
#![forbid(unsafe_code)]

mod address;
mod audio;
mod block;
mod chardev;
mod clock;
mod command;
mod controller;
mod cpu;
mod disk;
mod graphics;
mod hostdev;
mod input;
mod machine;
mod memory;
mod misc;
mod network;
mod numa;
pub mod prepare;
pub mod processor;
mod props;
mod settings;
mod smbios;
mod video;
mod virtio;

pub use command::{Command, build};
pub use props::Props;
pub use settings::{Host, HugePageMount, Sealed, Settings, Tap, Tls, Volume};
pub use xml::{Error, Result};
