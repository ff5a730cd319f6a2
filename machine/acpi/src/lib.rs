//! What firmware tells an operating system about the board: ACPI tables, SMBIOS structures, the MP table.
//!
//! [`Tables::build`] makes the ACPI tables from a plain [`Config`]. Firmware gets them as files of fw_cfg
//! ([`Tables::files`]) with a script that puts them to their places; without firmware [`install`] does what it would do.
//!
//! AML is written by the functions of a small module of its own rather than with the `acpi_tables` crate, which has no
//! `Processor`, no `Break` and none of the ISA resource descriptors, all of which these boards need.
#![forbid(unsafe_code)]

mod aml;
mod config;
mod dsdt;
mod loader;
mod mp;
mod place;
mod resource;
mod smbios;
mod tables;

pub use config::{Board, Config, Cpu, FloppyDrive, Function, FunctionKind, IsaDevices};
pub use loader::Placement;
pub use mp::{MpTable, PciInterrupt};
pub use place::{Installed, install};
pub use smbios::Smbios;
pub use tables::Tables;

#[cfg(test)]
mod tests;
