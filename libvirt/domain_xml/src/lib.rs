//! The description of a virtual machine: libvirt's domain XML, read into typed structures and written in libvirt's
//! order and layout.
//!
//! Each element is declared once, in the order in which its parts are written (see the crate `xml`). What comes from
//! other elements (addresses, defaults, implicit devices) is added by passes over the finished structure.
#![forbid(unsafe_code)]

pub mod address;
pub mod audio;
pub mod chardev;
pub mod clock;
pub mod controller;
pub mod cpu;
pub mod disk;
pub mod domain;
pub mod features;
pub mod graphics;
pub mod hostdev;
pub mod input;
pub mod interface;
pub mod memory;
pub mod misc;
pub mod os;
pub mod qemu;
pub mod source;
pub mod tune;
pub mod units;
pub mod video;
pub mod words;

pub use address::{Address, DriveAddress, PciAddress};
pub use domain::{Devices, Domain, DomainType};
pub use xml::{Code, Error, Hex, Result};

/// Reads a domain as it stands in the text, without defaults.
pub fn parse(text: &str) -> Result<Domain> {
    let mut domain: Domain = xml::from_str(text, "domain")?;
    domain.note_namespaces();
    Ok(domain)
}

/// The text of a domain.
pub fn format(domain: &Domain) -> String {
    xml::to_string(domain, "domain")
}

#[cfg(test)]
mod tests;
