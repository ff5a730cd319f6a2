//! What a definition must not say: combinations that the format allows and that make no sense, with libvirt's words.
//!
//! [`written`] is for definitions as they are read. [`domain`] is for what clients define and start: definitions that
//! are read again from the driver's own files are not checked, so that a rule that is added does not make domains
//! disappear.

mod chardev;
mod devices;
mod disks;
mod machine;
mod memory;
mod processor;
pub mod written;

pub use machine::actions;

use domain_xml::{Domain, Result};
use qemu_caps::QemuCaps;

use crate::Settings;

/// Checks a completed domain.
pub fn domain(domain: &Domain, caps: &QemuCaps, settings: &Settings) -> Result<()> {
    crate::each::names_are_unique(&[&domain.devices])?;
    machine::check(domain, caps)?;
    processor::check(domain, caps)?;
    memory::check(domain, caps)?;
    disks::check(domain)?;
    chardev::check(domain)?;
    devices::check(domain, caps, settings)
}
