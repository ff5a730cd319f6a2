//! Families of machines.

use domain_xml::Domain;
use domain_xml::features::Features;
use domain_xml::words::YesNo;
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

/// Writes what may be written in several ways as libvirt does.
pub fn plain(domain: &mut Domain) {
    let pages = domain.memory_backing.iter_mut().filter_map(|backing| backing.hugepages.as_mut());
    for page in pages.flat_map(|pages| &mut pages.page) {
        if let Some(kib) = page.kib() {
            (page.size, page.unit) = (kib.to_string(), Some("KiB".to_owned()));
        }
    }
    domain.features.take_if(|features| *features == Features::default());
    for graphics in &mut domain.devices.graphics {
        graphics.fullscreen.take_if(|full| *full == YesNo::No);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_many_forms_gets_libvirts() {
        let text = "<domain type='kvm'><name>t</name><memory>65536</memory><memoryBacking><hugepages>\
                    <page size='2' unit='M'/></hugepages></memoryBacking><os><type>hvm</type></os><features/>\
                    <devices><graphics type='sdl' fullscreen='no'/><graphics type='sdl' fullscreen='yes'/></devices>\
                    </domain>";
        let mut domain = domain_xml::parse(text).expect("a domain");
        plain(&mut domain);
        let written = domain_xml::format(&domain);
        assert!(written.contains("<page size='2048' unit='KiB'/>"), "{written}");
        assert!(!written.contains("features") && !written.contains("fullscreen='no'"), "{written}");
        assert!(written.contains("fullscreen='yes'"), "{written}");
    }
}
