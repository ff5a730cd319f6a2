//! The PC boards: memory map, chips, and the wires between them.
//!
//! [`Pc`] is the 440FX board (`pc`): RAM with its hole below 4 GiB, the interrupt controllers, the timer, serial ports
//! and the PCI bus with its bridges. [`PcCpu`] is what each processor sees of it.
#![forbid(unsafe_code)]

mod board;
mod cpu;
mod memory;

pub use board::{Pc, PcConfig, PcError};
pub use cpu::PcCpu;
pub use memory::{MemoryLayout, PcMemory};
