//! Character device back ends: what stands behind serial ports, consoles and monitors.
//!
//! A device holds a [`CharFrontend`] and implements [`Handler`]; what is behind it (a terminal, a file, a socket, a
//! place at a multiplexer) it neither knows nor needs to. [`Chardevs`] is the table of all character devices by id.
#![forbid(unsafe_code)]

mod backends;
mod core;
mod fd;
mod frontend;
mod memory;
mod mux;
mod registry;
mod ringbuf;
mod socket;
mod spec;
#[cfg(test)]
mod tests;

pub use frontend::{CharFrontend, Event, Handler, OnceCall};
pub use memory::{MemoryPeer, memory};
pub use registry::{Chardevs, Info};
pub use spec::{Address, Kind, SocketSpec, Spec, SpecError, parse_legacy};
