//! The machine: firmware, boot menu, memory.

use domain_xml::clock::EventAction;
use domain_xml::os::{Firmware, LoaderType};
use domain_xml::words::{OnOff, YesNo};
use domain_xml::{Code, Domain, Error, Result};
use qemu_caps::QemuCaps;

use crate::defaults::numbers;
use crate::machine;

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

/// Longest time that the boot menu is shown, in milliseconds.
const MAX_MENU: u32 = 65_535;

pub fn check(domain: &Domain, caps: &QemuCaps) -> Result<()> {
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
    let delay = domain.os.bios.as_ref().and_then(|bios| bios.reboot_timeout);
    if delay.is_some_and(|delay| !(-1..=65_535).contains(&delay)) {
        return unsupported("invalid value for rebootTimeout, must be in range [-1,65535]");
    }
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
    if domain.launch_security.as_ref().is_some_and(|it| it.kind == "sev") && !caps.has("sev-guest") {
        return unsupported("SEV launch security is not supported with this QEMU binary");
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
    let detail = |detail: String| Err(Error { code: Code::Detail, detail });
    let os = &domain.os;
    let efi = os.firmware == Some(Firmware::Efi);
    let Some(loader) = &os.loader else {
        return match os.firmware {
            Some(firmware) if !efi && os.nvram.is_some() => {
                detail(format!("firmware type '{firmware}' does not support nvram"))
            }
            _ => Ok(()),
        };
    };
    if let Some(firmware) = os.firmware {
        let chosen = "cannot be specified when firmware autoselection is enabled";
        // A path brings a type with it, which is what is complained about.
        let given = [("readonly", loader.read_only.is_some()), ("type", loader.kind.is_some())];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            return detail(format!("loader attribute '{name}' {chosen}"));
        }
        if loader.path.is_some() {
            return detail(format!("loader path {chosen}"));
        }
        if os.nvram.as_ref().is_some_and(|nvram| nvram.template.is_some()) {
            return detail(format!("nvram attribute 'template' {chosen}"));
        }
        // Yes once was the way to ask for firmware that has it.
        if loader.secure == Some(YesNo::No) {
            return detail(format!("loader attribute 'secure' {chosen}"));
        }
        if os.nvram.is_some() && !efi {
            return detail(format!("firmware type '{firmware}' does not support nvram"));
        }
    } else if loader.path.is_none() {
        return detail("no loader path specified and firmware auto selection disabled".to_owned());
    }
    match (loader.stateless, &os.nvram) {
        (Some(YesNo::Yes), Some(nvram)) => detail(if nvram.template.is_some() {
            "NVRAM template is not permitted when loader is stateless".to_owned()
        } else {
            "NVRAM is not permitted when loader is stateless".to_owned()
        }),
        (Some(YesNo::No), _) if os.firmware.is_none() && loader.kind != Some(LoaderType::Pflash) => {
            detail("Only pflash loader type permits NVRAM".to_owned())
        }
        (Some(YesNo::No), _) if os.firmware.is_some() && !efi => {
            detail("Only EFI firmware permits NVRAM".to_owned())
        }
        _ => Ok(()),
    }
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
            return Err(Error { code: Code::Detail, detail: format!("hugepages: node {node} not found") });
        }
    }
    Ok(())
}
