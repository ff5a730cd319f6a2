//! The host: its processors, its memory and its nodes, as clients ask for them.
//!
//! [`NodeHost`] serves the calls; [`capabilities`] writes the part of the capabilities that is about the host.
//! Everything is read from `/proc` and `/sys` below a root that tests choose.
#![forbid(unsafe_code)]

pub mod capabilities;
mod cpu;
mod memory;
mod node;
mod parse;
mod serve;
mod sleep;
mod topology;

pub use cpu::{HostCpu, SevGuests, model, sev_guests};
pub use node::{Cell, HugePages};
pub use serve::NodeHost;
pub use topology::{Processor, Topology, online};

#[cfg(test)]
mod tests;
