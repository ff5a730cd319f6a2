//! The PC boards: memory map, chips, and the wires between them.
//!
//! [`Pc`] is a board of one of two models ([`BoardModel`]): `pc` (440FX and PIIX) and `q35` (MCH and ICH9). Both have
//! RAM with its hole below 4 GiB, interrupt controllers, timers, serial ports, fw_cfg and a PCI bus with the model's
//! bridges. [`PcCpu`] is what each processor sees of it.
#![forbid(unsafe_code)]

mod board;
mod config;
mod cpu;
mod firmware;
mod i440fx;
mod items;
mod memory;
mod options;
mod q35;
mod tables;

pub use board::Pc;
pub use config::{BoardModel, PcConfig, PcError};
pub use cpu::PcCpu;
pub use firmware::MemoryTypes;
pub use memory::{MemoryLayout, PcMemory};
pub use options::{MACHINES, MachineOptions, MachineType, machine_help};
pub use tables::Identity;
