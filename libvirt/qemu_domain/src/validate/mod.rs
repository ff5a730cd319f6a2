//! What a definition must not say: combinations that the format allows and that make no sense, with libvirt's words.
//!
//! [`domain`] is for what clients define and start. Definitions that are read again from the driver's own files are not
//! checked, so that a rule that is added does not make domains disappear.

mod devices;
mod disks;
mod machine;

pub use machine::actions;

use domain_xml::{Domain, Result};

/// Checks a completed domain.
pub fn domain(domain: &Domain) -> Result<()> {
    crate::each::names_are_unique(&[&domain.devices])?;
    machine::check(domain)?;
    disks::check(domain)?;
    devices::check(domain)
}
