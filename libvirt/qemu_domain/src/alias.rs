//! Names of devices while the domain runs.

use std::collections::HashMap;

use domain_xml::address::{Alias, HasInfo};
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::disk::DiskBus;
use domain_xml::memory::MemoryModel;
use domain_xml::misc::BalloonModel;
use domain_xml::{Domain, Error, Result};

use crate::disks::name_index;
use crate::each::Sort;
use crate::{each, machine};

/// Gives names to the devices that have none.
pub fn assign(domain: &mut Domain) -> Result<()> {
    let q35 = machine::is_q35(domain);
    let i440fx = machine::is_i440fx(domain);
    for controller in &mut domain.devices.controller {
        let name = controller_name(controller, q35, i440fx);
        controller.alias.get_or_insert(Alias { name });
    }
    disks(domain)?;
    let mut memory: Vec<(MemoryModel, u32)> = Vec::new();
    let modules: Vec<(MemoryModel, Option<u32>)> = domain
        .devices
        .memory
        .iter()
        .map(|module| {
            let slot = match &module.info.address {
                Some(domain_xml::Address::Dimm(address)) => Some(address.slot),
                _ => None,
            };
            (module.model, slot)
        })
        .collect();
    let used = numbers(domain);
    let mut added: HashMap<&str, u32> = HashMap::new();
    let balloon = domain.devices.memballoon.as_ref().is_some_and(|b| b.model != BalloonModel::None);
    each::device(domain, |sort, index, info| {
        if info.alias().is_some() {
            return;
        }
        let prefix = match sort {
            Sort::Disk | Sort::Controller => return,
            Sort::Interface => "net",
            Sort::Sound => "sound",
            Sort::Hostdev => "hostdev",
            Sort::Filesystem => "fs",
            Sort::Smartcard => "smartcard",
            Sort::Serial => "serial",
            Sort::Parallel => "parallel",
            Sort::Channel => "channel",
            Sort::Console => "console",
            Sort::Input => "input",
            Sort::Video => "video",
            Sort::Redirdev => "redir",
            Sort::Hub => "hub",
            Sort::Watchdog => "watchdog",
            Sort::Balloon if balloon => "balloon",
            Sort::Balloon => return,
            Sort::Rng => "rng",
            Sort::Shmem => "shmem",
            Sort::Tpm => "tpm",
            Sort::Panic => "panic",
            Sort::Iommu => "iommu",
            Sort::Vsock => "vsock",
            Sort::Memory => {
                let (model, slot) = modules[index];
                let prefix = match model {
                    MemoryModel::Dimm => "dimm",
                    MemoryModel::Nvdimm => "nvdimm",
                    MemoryModel::VirtioPmem => "virtiopmem",
                    MemoryModel::VirtioMem => "virtiomem",
                    MemoryModel::SgxEpc => "epc",
                };
                let after = used.get(prefix).map_or(0, |last| last + 1);
                let next = after + memory.iter().filter(|(other, _)| *other == model).count() as u32;
                let number = slot.unwrap_or(next);
                memory.push((model, number));
                *info.alias_mut() = Some(Alias { name: format!("{prefix}{number}") });
                return;
            }
        };
        // A running guest's devices keep their names when one before them goes.
        let number = match used.get(prefix) {
            // These count on from the last one that has such a name.
            None if sort == Sort::Hostdev => {
                let more = added.entry(prefix).and_modify(|last| *last += 1).or_insert(0);
                *more
            }
            Some(last) => {
                let more = added.entry(prefix).or_insert(*last);
                *more = more.saturating_add(1);
                *more
            }
            None => index as u32,
        };
        *info.alias_mut() = Some(Alias { name: format!("{prefix}{number}") });
    });
    // The first console is the first serial port, if it is not a device of its own.
    if let (Some(console), Some(serial)) = (domain.devices.console.first_mut(), domain.devices.serial.first())
        && console.info.alias.is_none()
    {
        console.info.alias.clone_from(&serial.info.alias);
    }
    Ok(())
}

/// The highest numbers of the names that were given before, by what stands before the number.
fn numbers(domain: &mut Domain) -> HashMap<String, u32> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    each::device(domain, |_, _, info| {
        let Some(alias) = info.alias() else { return };
        let prefix = alias.name.trim_end_matches(|it: char| it.is_ascii_digit());
        if let Ok(number) = alias.name[prefix.len()..].parse::<u32>() {
            let last = numbers.entry(prefix.to_owned()).or_default();
            *last = number.min(u32::MAX - 1).max(*last);
        }
    });
    numbers
}

fn controller_name(controller: &Controller, q35: bool, i440fx: bool) -> String {
    let index = controller.index();
    match (controller.kind, controller.model()) {
        (ControllerType::Pci, "pcie-root") => format!("pcie.{index}"),
        (ControllerType::Pci, _) => format!("pci.{index}"),
        (ControllerType::Ide, _) if i440fx && index == 0 => "ide".to_owned(),
        (ControllerType::Sata, _) if q35 && index == 0 => "ide".to_owned(),
        (ControllerType::Usb, _) if index == 0 => "usb".to_owned(),
        (kind, _) => format!("{kind}{index}"),
    }
}

fn disks(domain: &mut Domain) -> Result<()> {
    for index in 0..domain.devices.disk.len() {
        let disk = &domain.devices.disk[index];
        if disk.info.alias.is_some() {
            continue;
        }
        let prefix = disk.bus().map_or("", DiskBus::as_str);
        let name = match disk.info.drive() {
            Some(address) if disk.bus() == Some(DiskBus::Scsi) => {
                let model = domain
                    .devices
                    .controller
                    .iter()
                    .find(|c| c.kind == ControllerType::Scsi && c.index() == address.controller)
                    .map_or("", Controller::model);
                if matches!(model, "lsilogic" | "ncr53c90" | "dc390" | "am53c974") {
                    format!("scsi{}-{}-{}", address.controller, address.bus, address.unit)
                } else {
                    let (controller, bus) = (address.controller, address.bus);
                    format!("scsi{controller}-{bus}-{}-{}", address.target, address.unit)
                }
            }
            Some(address) => format!("{prefix}{}-{}-{}", address.controller, address.bus, address.unit),
            None => {
                let number = name_index(disk.dev())
                    .ok_or_else(|| Error::internal(format!("Unknown disk name '{}'", disk.dev())))?;
                format!("{prefix}-disk{number}")
            }
        };
        domain.devices.disk[index].info.alias = Some(Alias { name });
    }
    Ok(())
}

/// The name of a controller.
pub fn of_controller(domain: &Domain, kind: ControllerType, index: u32) -> Result<&str> {
    domain
        .devices
        .controller
        .iter()
        .find(|c| c.kind == kind && c.index() == index)
        .map(HasInfo::name)
        .ok_or_else(|| Error::internal(format!("Could not find {kind} controller with index {index}")))
}
