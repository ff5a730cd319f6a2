//! Families of machines.

use domain_xml::Domain;
use qemu_caps::QemuCaps;

use crate::virt_type;

/// Whether the machine has an i440FX.
pub fn is_i440fx(domain: &Domain) -> bool {
    let name = domain.machine();
    name == "pc" || ["pc-0.", "pc-1.", "pc-i440fx-", "rhel"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the machine has a Q35.
pub fn is_q35(domain: &Domain) -> bool {
    let name = domain.machine();
    name == "q35" || name.starts_with("pc-q35-")
}

/// Whether the machine has an ISA bus.
pub fn has_isa(domain: &Domain) -> bool {
    is_i440fx(domain) || is_q35(domain) || domain.machine() == "isapc"
}

/// Puts a machine's name in place of its alias.
pub fn canonical(domain: &mut Domain, caps: &QemuCaps) {
    let virt = virt_type(domain);
    if let Some(kind) = &mut domain.os.kind
        && let Some(machine) = &mut kind.machine
        && let Some(found) = caps.machine(virt, machine)
    {
        machine.clone_from(&found.name);
    }
}
