//! The machine: firmware, boot menu, memory.

use domain_xml::clock::EventAction;
use domain_xml::os::{Firmware, LoaderType};
use domain_xml::words::{OnOff, YesNo, yes};
use domain_xml::{Code, Domain, Error, Result};

use crate::defaults::numbers;
use crate::machine;

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

/// Longest time that the boot menu is shown, in milliseconds.
const MAX_MENU: u32 = 65_535;

pub fn check(domain: &Domain) -> Result<()> {
    if domain.memtune.as_ref().is_some_and(|tune| tune.min_guarantee.is_some_and(|size| size.0 > 0)) {
        return unsupported("Parameter 'min_guarantee' not supported by QEMU.");
    }
    actions(domain)?;
    let loader = domain.os.loader.as_ref().and_then(|loader| loader.kind);
    let efi = domain.os.firmware == Some(Firmware::Efi) || loader == Some(LoaderType::Pflash);
    if efi && !domain.features.as_ref().is_some_and(|features| features.acpi) {
        return unsupported("UEFI requires ACPI on this architecture");
    }
    firmware(domain)?;
    if domain.os.bootmenu.as_ref().and_then(|menu| menu.timeout).is_some_and(|time| time > MAX_MENU) {
        return unsupported("invalid value for boot menu timeout, must be in range [0,65535]");
    }
    let smm = domain.features.as_ref().and_then(|features| features.smm.as_ref());
    if let Some(smm) = smm
        && smm.tseg.is_some()
        && smm.state != Some(OnOff::Off)
        && !machine::is_q35(domain)
    {
        return unsupported("SMM TSEG is only supported with q35 machine type");
    }
    huge_pages(domain)
}

/// Refuses what becomes of the guest on events where the driver cannot do it.
pub fn actions(domain: &Domain) -> Result<()> {
    let actions = [domain.on_reboot, domain.on_poweroff, domain.on_crash];
    if actions.contains(&Some(EventAction::RenameRestart)) {
        return unsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'",
        );
    }
    if actions[..2].contains(&Some(EventAction::Preserve)) {
        return unsupported(
            "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'",
        );
    }
    if domain.on_poweroff == Some(EventAction::Restart) && domain.on_reboot == Some(EventAction::Destroy) {
        return unsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'",
        );
    }
    Ok(())
}

fn firmware(domain: &Domain) -> Result<()> {
    let os = &domain.os;
    let loader = os.loader.clone().unwrap_or_default();
    if let Some(firmware) = os.firmware {
        let given = [
            ("path", loader.path.is_some()),
            ("readonly", loader.read_only.is_some()),
            ("type", loader.kind.is_some()),
            ("secure", loader.secure.is_some()),
        ];
        // A path brings a type with it, which is what is complained about.
        let fault = given.iter().skip(1).find(|(_, given)| *given).or(given.iter().find(|(_, given)| *given));
        if let Some((name, _)) = fault {
            return unsupported(format!(
                "loader attribute '{name}' cannot be specified when firmware autoselection is enabled"
            ));
        }
        if firmware == Firmware::Bios {
            if loader.stateless == Some(YesNo::No) {
                return unsupported("Only EFI firmware permits NVRAM");
            }
            if os.nvram.is_some() {
                return unsupported(format!("firmware type '{firmware}' does not support nvram"));
            }
        }
    } else if loader.kind == Some(LoaderType::Rom) && loader.stateless == Some(YesNo::No) {
        return unsupported("Only EFI firmware permits NVRAM");
    }
    if yes(loader.stateless)
        && let Some(nvram) = &os.nvram
    {
        return unsupported(if nvram.template.is_some() {
            "NVRAM template is not permitted when loader is stateless"
        } else {
            "NVRAM is not permitted when loader is stateless"
        });
    }
    Ok(())
}

fn huge_pages(domain: &Domain) -> Result<()> {
    let pages = domain.memory_backing.as_ref().and_then(|backing| backing.hugepages.as_ref());
    let cells =
        domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| numa.cell.len() as u32);
    for page in pages.iter().flat_map(|pages| &pages.page) {
        let Some(nodes) = &page.nodeset else { continue };
        // A machine without nodes is one node.
        let missing = numbers(nodes)?.into_iter().find(|node| *node >= cells.max(1));
        if let Some(node) = missing {
            return Err(Error { code: Code::Xml, detail: format!("hugepages: node {node} not found") });
        }
    }
    Ok(())
}
