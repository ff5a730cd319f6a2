//! PCI: functions with their configuration space, BARs and interrupts; the bus; the two ways to configuration space.
//!
//! A [`PciFunction`] is what the bus sees: configuration bytes with write masks, BARs that follow the COMMAND
//! register, INTx, MSI and MSI-X. A device builds one with [`FunctionBuilder`], keeps it, and hangs [`PciHooks`]
//! into it where its registers do more than remember. Facts: PCI Local Bus Specification 3.0.
#![forbid(unsafe_code)]

mod address;
mod assign;
mod bus;
mod config;
mod function;
mod host;
mod info;
mod msi;
mod msix;
mod slot;

pub use address::Devfn;
pub use assign::{Windows, assign_resources};
pub use bus::{IntxRouter, PciBus};
pub use config::{ConfigSpace, regs};
pub use function::{BarKind, FunctionBuilder, Ids, PciFunction, PciHooks};
pub use host::{ConfigPorts, Ecam};
pub use info::class_name;
pub use msix::MsixLayout;
pub use qdev::take_properties;
pub use slot::{Address, PciProperties, PciSlot};
