//! Controllers: their order and numbers, and those that devices need.

use std::collections::BTreeSet;

use domain_xml::address::{Address, CcidAddress, HasInfo};
use domain_xml::controller::{Controller, ControllerType, Master};
use domain_xml::disk::DiskBus;
use domain_xml::hostdev::HostdevType;
use domain_xml::{Domain, DriveAddress, Error, Result};
use qemu_caps::QemuCaps;

/// Whether it is one of the controllers that share a slot and a bus.
pub fn is_usb2(controller: &Controller) -> bool {
    controller.kind == ControllerType::Usb && controller.model().starts_with("ich9-")
}

/// Adds a controller in its place: after those of its type with lower numbers.
pub fn insert(controllers: &mut Vec<Controller>, controller: Controller) {
    let mut place = None;
    for (index, other) in controllers.iter().enumerate().rev() {
        if other.kind != controller.kind {
            continue;
        }
        let Some(number) = controller.index else {
            place = Some(index + 1);
            break;
        };
        let others = other.index.map_or(-1, i64::from);
        let companion = controller.master.is_none() && other.master.is_some() && others == i64::from(number);
        if others > i64::from(number) || companion {
            place = Some(index);
        } else if place.is_none() {
            place = Some(index + 1);
        }
    }
    let place = place.unwrap_or(controllers.len());
    controllers.insert(place, controller);
}

/// Puts controllers of one type next to each other.
pub fn order(domain: &mut Domain) {
    let mut sorted = Vec::new();
    for mut controller in std::mem::take(&mut domain.devices.controller) {
        let first_port = match controller.model() {
            "ich9-uhci1" => Some(0),
            "ich9-uhci2" => Some(2),
            "ich9-uhci3" => Some(4),
            _ => None,
        };
        if let Some(startport) = first_port
            && controller.kind == ControllerType::Usb
        {
            controller.master.get_or_insert(Master { startport });
        }
        insert(&mut sorted, controller);
    }
    domain.devices.controller = sorted;
}

fn free_index(controllers: &[Controller], kind: ControllerType) -> u32 {
    let used: BTreeSet<u32> =
        controllers.iter().filter(|other| other.kind == kind).filter_map(|other| other.index).collect();
    (0..).find(|index| !used.contains(index)).unwrap_or(0)
}

/// Gives numbers to controllers without.
pub fn number(domain: &mut Domain) {
    let controllers = &mut domain.devices.controller;
    for place in 0..controllers.len() {
        let controller = &controllers[place];
        if controller.index.is_some() {
            continue;
        }
        // A companion belongs to the controller before it, unless that has one of its kind already.
        let mut chosen = None;
        if is_usb2(controller)
            && let Some(before) = controllers[..place].iter().rev().find(|c| c.kind == ControllerType::Usb)
            && is_usb2(before)
        {
            let twin = controllers.iter().any(|c| {
                c.kind == ControllerType::Usb && c.index == before.index && c.model == controller.model
            });
            chosen = before.index.filter(|_| !twin);
        }
        let index = chosen.unwrap_or_else(|| free_index(controllers, controller.kind));
        controllers[place].index = Some(index);
    }
}

/// Whether there is a controller of that type and number.
pub fn has(domain: &Domain, kind: ControllerType, index: u32) -> bool {
    domain.devices.controller.iter().any(|c| c.kind == kind && c.index() == index)
}

/// Adds a controller unless there is one of its type and number.
pub fn ensure(domain: &mut Domain, kind: ControllerType, index: u32, model: Option<&str>) -> bool {
    if has(domain, kind, index) {
        return false;
    }
    domain.devices.controller.push(Controller::new(kind, index, model));
    true
}

/// Refuses two controllers with one number.
pub fn reject_duplicates(domain: &Domain) -> Result<()> {
    let controllers = &domain.devices.controller;
    for (place, controller) in controllers.iter().enumerate() {
        let twin = controllers[..place]
            .iter()
            .any(|other| other.kind == controller.kind && other.index() == controller.index());
        if twin && controller.kind != ControllerType::Usb {
            return Err(Error::xml(format!(
                "Multiple '{}' controllers with index '{}'",
                controller.kind,
                controller.index()
            )));
        }
    }
    Ok(())
}

/// Completes the controllers' models.
pub fn complete(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    for controller in &mut domain.devices.controller {
        match controller.kind {
            ControllerType::Usb => {
                if controller.model.is_none() && caps.has("piix3-usb-uhci") {
                    controller.model = Some("piix3-uhci".to_owned());
                }
                if matches!(controller.model(), "nec-xhci" | "qemu-xhci")
                    && controller.ports.is_some_and(|ports| ports > 15)
                {
                    return Err(Error::unsupported(format!(
                        "'{}' controller only supports up to '15' ports",
                        controller.model()
                    )));
                }
            }
            ControllerType::Scsi if matches!(controller.model(), "" | "auto") => {
                let model = if caps.has("lsi") {
                    "lsilogic"
                } else if caps.has("virtio-scsi-pci") {
                    "virtio-scsi"
                } else {
                    return Err(Error::unsupported("Unable to determine model for SCSI controller"));
                };
                controller.model = Some(model.to_owned());
            }
            ControllerType::Pci
                if matches!(controller.model(), "pci-root" | "pcie-root") && controller.index() != 0 =>
            {
                return Err(Error::xml("pci-root and pcie-root controllers should have index 0"));
            }
            _ => {}
        }
        let iothread = controller.driver.as_ref().and_then(|driver| driver.iothread);
        if iothread.is_some() && !controller.model().starts_with("virtio-") {
            return Err(Error::xml("'iothread' attribute only supported for virtio scsi controllers"));
        }
    }
    Ok(())
}

/// The controllers that disks, channels and cards are attached to.
pub fn implicit(domain: &mut Domain) -> Result<()> {
    for (kind, bus) in [
        (ControllerType::Scsi, DiskBus::Scsi),
        (ControllerType::Fdc, DiskBus::Fdc),
        (ControllerType::Ide, DiskBus::Ide),
        (ControllerType::Sata, DiskBus::Sata),
    ] {
        let most = domain
            .devices
            .disk
            .iter()
            .filter(|disk| disk.bus() == Some(bus))
            .filter_map(|disk| disk.info.drive())
            .map(|address| address.controller)
            .max();
        if let Some(most) = most {
            if most > 255 {
                return Err(Error::xml(format!("controller index {most} is out of range")));
            }
            for index in 0..=most {
                ensure(domain, kind, index, None);
            }
        }
    }
    let ports: Vec<u32> = domain
        .devices
        .channel
        .iter()
        .chain(&domain.devices.console)
        .filter(|port| port.target.as_ref().is_some_and(|target| target.kind.as_deref() == Some("virtio")))
        .map(|port| match &port.info.address {
            Some(Address::VirtioSerial(address)) => address.controller,
            _ => 0,
        })
        .collect();
    for index in ports {
        ensure(domain, ControllerType::VirtioSerial, index, None);
    }
    for card in 0..domain.devices.smartcard.len() {
        let cards = &mut domain.devices.smartcard;
        let index = match &cards[card].info.address {
            Some(Address::Ccid(address)) => address.controller,
            Some(_) => 0,
            None => {
                let slots = cards.iter().filter_map(|other| match &other.info.address {
                    Some(Address::Ccid(address)) if address.controller == 0 => {
                        Some(address.slot.saturating_add(1))
                    }
                    _ => None,
                });
                let slot = slots.max().unwrap_or(0);
                cards[card].info.address = Some(Address::Ccid(CcidAddress { controller: 0, slot }));
                0
            }
        };
        ensure(domain, ControllerType::Ccid, index, None);
    }
    host_scsi(domain);
    Ok(())
}

/// SCSI devices of the host get addresses and controllers.
fn host_scsi(domain: &mut Domain) {
    for index in 0..domain.devices.hostdev.len() {
        let host = &domain.devices.hostdev[index];
        if host.kind != HostdevType::Scsi {
            continue;
        }
        if host.info.address.is_none() {
            let used = |address: DriveAddress| {
                let disks = domain.devices.disk.iter().filter(|disk| disk.bus() == Some(DiskBus::Scsi));
                let hosts = domain.devices.hostdev.iter().filter(|host| host.kind == HostdevType::Scsi);
                disks
                    .map(|disk| &disk.info.address)
                    .chain(hosts.map(|host| &host.info.address))
                    .any(|other| matches!(other, Some(Address::Drive(other)) if *other == address))
            };
            let all = (0..256).flat_map(|controller| {
                (0..7).map(move |unit| DriveAddress { controller, unit, ..DriveAddress::default() })
            });
            if let Some(free) = all.into_iter().find(|address| !used(*address)) {
                domain.devices.hostdev[index].info.address = Some(Address::Drive(free));
            }
        }
        let most = domain.devices.hostdev[index].info.drive().map(|address| address.controller);
        if let Some(most) = most.filter(|most| *most < 256) {
            for index in 0..=most {
                let model = domain
                    .devices
                    .controller
                    .iter()
                    .find(|c| c.kind == ControllerType::Scsi)
                    .and_then(|c| c.model.clone());
                ensure(domain, ControllerType::Scsi, index, model.as_deref());
            }
        }
    }
}
