//! Serial ports: the 16550A (`isa-serial`).
//!
//! Source: National Semiconductor PC16550D data sheet. Transmission takes no guest time, as in QEMU: the back end sets
//! the pace. The receive timeout takes the time of four characters.
#![forbid(unsafe_code)]

mod isa_serial;
mod serial;

pub use isa_serial::ISA_SERIAL_SPEC;
pub use serial::{Serial, SerialConfig};

/// Port, IRQ of the four standard ports, by index.
pub const ISA_SERIAL: [(u16, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
