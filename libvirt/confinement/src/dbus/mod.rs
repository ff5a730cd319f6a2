//! A client of D-Bus, as far as a daemon needs one: method calls that block, and answers to calls.
//!
//! The D-Bus specification, version 1 of the protocol: Unix sockets, authentication `EXTERNAL`, descriptors. An own
//! client because libvirt's four services (polkit, machined, systemd, logind) need a small part of what the ready-made
//! ones bring, which take longer to build than all of the daemon's other crates.

mod bus;
mod wire;

pub use bus::{Bus, Failure, Message};
pub use wire::Value;
