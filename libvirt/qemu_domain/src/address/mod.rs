//! Addresses of devices.

mod bus;
mod connect;
mod memory;
mod pci;
mod usb;
mod virtio_serial;

use domain_xml::address::{Address, SpaprAddress};
use domain_xml::{Domain, Hex, Result};
use qemu_caps::QemuCaps;

/// The SCSI controller of IBM's paravirtual machines has an address of its own kind, wherever it is put.
fn spapr(domain: &mut Domain) {
    let mut next = 0x2000;
    for controller in &mut domain.devices.controller {
        if controller.model() == "ibmvscsi" && controller.address.is_none() {
            let reg = Some(Hex(next));
            controller.address = Some(Address::SpaprVio(SpaprAddress { reg }));
            next += 0x1000;
        }
    }
}

/// Gives addresses to all devices that need one and have none. In an old domain, USB devices keep having none.
pub fn assign(domain: &mut Domain, caps: &QemuCaps, new: bool) -> Result<()> {
    virtio_serial::assign(domain)?;
    spapr(domain);
    pci::assign(domain, caps)?;
    usb::assign(domain, new)?;
    memory::assign(domain)
}
