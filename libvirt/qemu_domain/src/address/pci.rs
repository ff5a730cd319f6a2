//! Addresses on PCI buses.

use domain_xml::address::{Address, HasInfo};
use domain_xml::audio::SoundModel;
use domain_xml::controller::{Controller, ControllerTarget, ControllerType};
use domain_xml::disk::DiskBus;
use domain_xml::hostdev::HostdevType;
use domain_xml::misc::IommuModel;
use domain_xml::source::Named;
use domain_xml::video::VideoType;
use domain_xml::words::OnOff;
use domain_xml::{Domain, Error, PciAddress, Result};
use qemu_caps::QemuCaps;

use super::bus::{Bus, Buses};
use super::connect::{AUTO, Connect, PCI, PCIE, Rules};
use crate::each::{self, Sort};
use crate::{controllers, machine};

pub fn assign(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    let given = domain
        .devices
        .controller
        .iter()
        .filter(|c| c.kind == ControllerType::Pci)
        .map(|c| c.index() as usize + 1)
        .max()
        .unwrap_or(0);
    if given == 0 {
        return Ok(());
    }
    if given > 256 {
        return Err(Error::xml(format!("Invalid PCI controller index {}", given - 1)));
    }
    let rules = Rules::new(domain);
    let express_root = domain.devices.controller.iter().any(|c| c.model() == "pcie-root");
    // First only to see how many buses it takes.
    let mut buses = create(domain, &rules, caps, given, true)?;
    chipset(domain, &mut buses, &rules)?;
    if !express_root && !buses.full() {
        // Room for one more bridge.
        buses.next(PCI | AUTO, None)?;
    }
    slots(domain, &mut buses, &rules)?;
    if express_root && given <= 1 && buses.all.len() > given {
        // Nobody manages the ports: one more, so that a device can be plugged in.
        buses.next(PCIE | AUTO, None)?;
    }
    for index in 1..256 {
        let Some(model) = buses.all.get(index).map(|bus| bus.model.clone()) else { break };
        if controllers::ensure(domain, ControllerType::Pci, index as u32, Some(&model)) {
            buses.next(Rules::pci_controller(&model), None)?;
        }
    }
    let count = buses.all.len();
    let mut buses = create(domain, &rules, caps, count, false)?;
    chipset(domain, &mut buses, &rules)?;
    slots(domain, &mut buses, &rules)?;
    multifunction(domain);
    options(domain, caps)
}

/// The buses of the controllers that are there, with the places that were chosen.
fn create(domain: &mut Domain, rules: &Rules, caps: &QemuCaps, count: usize, growing: bool) -> Result<Buses> {
    let mut models: Vec<Option<&str>> = vec![None; count];
    for controller in domain.devices.controller.iter().filter(|c| c.kind == ControllerType::Pci) {
        let index = controller.index() as usize;
        *models.get_mut(index).ok_or_else(|| {
            Error::internal(format!(
                "Inappropriate new pci controller index {index} exceeds addrs array length"
            ))
        })? = Some(controller.model());
    }
    let express = models.contains(&Some("pcie-root"));
    let default = if express { "pcie-root-port" } else { "pci-bridge" };
    let all = models
        .iter()
        .enumerate()
        .map(|(index, model)| Bus::new(model.unwrap_or(if index == 0 { "pci-root" } else { default })))
        .collect::<Result<Vec<_>>>()?;
    let mut buses = Buses { all, growing, express_bridges: caps.has("pcie-pci-bridge") };
    let mut chosen: Vec<(Sort, usize, PciAddress)> = Vec::new();
    each::device(domain, |sort, index, info| {
        if let Some(address) = info.pci() {
            chosen.push((sort, index, address));
        }
    });
    for (sort, index, address) in chosen {
        if sort == Sort::Controller && in_piix(&domain.devices.controller[index], &address) {
            continue;
        }
        let needs = match rules.device(domain, sort, index) {
            0 => PCI,
            needs => needs,
        };
        buses.reserve(&address, needs)?;
    }
    Ok(buses)
}

fn is_piix_usb(controller: &Controller) -> bool {
    controller.kind == ControllerType::Usb
        && controller.index() == 0
        && matches!(controller.model(), "" | "piix3-uhci")
}

fn is_first(controller: &Controller, kind: ControllerType) -> bool {
    controller.kind == kind && controller.index() == 0
}

/// Whether it is a function of the PIIX3, which is always there.
fn in_piix(controller: &Controller, address: &PciAddress) -> bool {
    address.domain.0 == 0
        && address.bus.0 == 0
        && address.slot.0 == 1
        && (is_first(controller, ControllerType::Ide) && address.function.0 == 1
            || is_piix_usb(controller) && address.function.0 == 2)
}

/// Whether the device still needs an address.
fn wanted(info: &dyn HasInfo) -> bool {
    info.address().is_none()
}

fn chipset(domain: &mut Domain, buses: &mut Buses, rules: &Rules) -> Result<()> {
    if machine::is_i440fx(domain) {
        piix3(domain, buses, rules)
    } else if machine::is_q35(domain) {
        q35(domain, buses, rules)
    } else {
        Ok(())
    }
}

/// Puts a controller at the only place where it can be.
fn fixed(controller: &mut Controller, place: PciAddress, error: &str) -> Result<()> {
    match &controller.address {
        None => controller.address = Some(Address::Pci(place)),
        Some(Address::Pci(address)) if address.place() == place.place() => {}
        Some(_) => return Err(Error::internal(error)),
    }
    Ok(())
}

fn piix3(domain: &mut Domain, buses: &mut Buses, rules: &Rules) -> Result<()> {
    for controller in &mut domain.devices.controller {
        let place = if is_first(controller, ControllerType::Ide) {
            let place = PciAddress::new(0, 1, 1);
            fixed(controller, place, "Primary IDE controller must have PCI address 0:0:1.1")?;
            place
        } else if is_piix_usb(controller) {
            let place = PciAddress::new(0, 1, 2);
            fixed(controller, place, "PIIX3 USB controller at index 0 must have PCI address 0:0:1.2")?;
            place
        } else {
            continue;
        };
        buses.reserve(&place, PCI | AUTO)?;
    }
    // The bridge to ISA and power management.
    buses.reserve(&PciAddress::new(0, 1, 0), PCI | AUTO)?;
    buses.reserve(&PciAddress::new(0, 1, 3), PCI | AUTO)?;
    primary_video(domain, buses, rules, 2, PCI | AUTO)
}

/// The first graphics card is where the emulator puts it by itself, if that place is free.
fn primary_video(
    domain: &mut Domain,
    buses: &mut Buses,
    rules: &Rules,
    slot: u64,
    needs: Connect,
) -> Result<()> {
    let own = if domain.devices.video.is_empty() { 0 } else { rules.device(domain, Sort::Video, 0) };
    let Some(video) = domain.devices.video.first_mut() else { return Ok(()) };
    if matches!(video.kind(), VideoType::None | VideoType::Ramfb) || !wanted(&video.info) {
        return Ok(());
    }
    if buses.in_use(0, slot) {
        let address = buses.next(own, None)?;
        if !buses.growing {
            video.info.address = Some(Address::Pci(address));
        }
    } else {
        let address = PciAddress::new(0, slot, 0);
        buses.reserve(&address, needs)?;
        video.info.address = Some(Address::Pci(address));
    }
    Ok(())
}

fn q35(domain: &mut Domain, buses: &mut Buses, rules: &Rules) -> Result<()> {
    for controller in &mut domain.devices.controller {
        match (controller.kind, controller.model()) {
            (ControllerType::Sata, _) if controller.index() == 0 => {
                let place = PciAddress::new(0, 0x1f, 2);
                let given = controller.address.is_some();
                fixed(controller, place, "Primary SATA controller must have PCI address 0:0:1f.2")?;
                if !given {
                    buses.reserve(&place, PCIE)?;
                }
            }
            (ControllerType::Usb, "ich9-uhci1") if controller.address.is_none() => {
                if let Some(slot) = [0x1d, 0x1a].into_iter().find(|slot| !buses.in_use(0, *slot)) {
                    let mut place = PciAddress::new(0, slot, 0);
                    buses.reserve(&place, PCIE)?;
                    place.multifunction = Some(OnOff::On);
                    controller.address = Some(Address::Pci(place));
                }
            }
            (ControllerType::Pci, "dmi-to-pci-bridge")
                if controller.address.is_none() && !buses.in_use(0, 0x1e) =>
            {
                let place = PciAddress::new(0, 0x1e, 0);
                buses.reserve(&place, PCIE)?;
                controller.address = Some(Address::Pci(place));
            }
            _ => {}
        }
    }
    // The bridge to ISA and the system management bus.
    buses.reserve(&PciAddress::new(0, 0x1f, 0), PCIE)?;
    buses.reserve(&PciAddress::new(0, 0x1f, 3), PCIE)?;
    primary_video(domain, buses, rules, 1, PCIE)?;
    if !buses.in_use(0, 0x1b)
        && let Some(sound) =
            domain.devices.sound.iter_mut().find(|s| s.model == SoundModel::Ich9 && wanted(&s.info))
    {
        let place = PciAddress::new(0, 0x1b, 0);
        buses.reserve(&place, PCIE)?;
        sound.info.address = Some(Address::Pci(place));
    }
    Ok(())
}

/// Gives a slot to a device that has none.
fn give(buses: &mut Buses, info: &mut dyn HasInfo, needs: Connect) -> Result<()> {
    if needs != 0 && wanted(info) {
        let address = buses.next(needs, None)?;
        if !buses.growing {
            *info.address_mut() = Some(Address::Pci(address));
        }
    }
    Ok(())
}

/// Gives slots to what has none, sort after sort.
fn slots(domain: &mut Domain, buses: &mut Buses, rules: &Rules) -> Result<()> {
    macro_rules! all {
        ($sort:ident $field:ident, $filter:expr) => {
            for index in 0..domain.devices.$field.len() {
                let filter: fn(&Domain, usize) -> bool = $filter;
                if filter(domain, index) {
                    let needs = rules.device(domain, Sort::$sort, index);
                    give(buses, &mut domain.devices.$field[index].info, needs)?;
                }
            }
        };
        ($sort:ident $field:ident) => {
            all!($sort $field, |_, _| true)
        };
    }
    for controller in domain.devices.controller.iter_mut().filter(|c| c.kind == ControllerType::Pci) {
        let needs = rules.controller(controller);
        give(buses, controller, needs)?;
    }
    all!(Filesystem filesystem);
    all!(Interface interface, |domain, index| !each::is_hostdev(domain.devices.interface[index].kind));
    all!(Sound sound);
    device_controllers(domain, buses, rules)?;
    for disk in domain.devices.disk.iter().filter(|disk| disk.bus() == Some(DiskBus::Virtio)) {
        if let Some(address) = &disk.info.address
            && !matches!(address, Address::Pci(_) | Address::VirtioMmio(_))
        {
            return Err(Error::unsupported(format!(
                "virtio disk cannot have an address of type '{}'",
                if matches!(address, Address::Drive(_)) { "drive" } else { "other" }
            )));
        }
    }
    macro_rules! one {
        ($sort:ident $field:ident) => {
            let needs = rules.device(domain, Sort::$sort, 0);
            if let Some(device) = &mut domain.devices.$field {
                give(buses, &mut device.info, needs)?;
            }
        };
    }
    all!(Disk disk);
    // Interfaces that are the host's devices come first among those.
    all!(Interface interface, |domain, index| each::is_hostdev(domain.devices.interface[index].kind));
    all!(Hostdev hostdev, |domain, index| {
        let host = &domain.devices.hostdev[index];
        match host.kind {
            HostdevType::Pci | HostdevType::ScsiHost => true,
            HostdevType::Mdev => host.model.as_deref() == Some("vfio-pci"),
            _ => false,
        }
    });
    one!(Balloon memballoon);
    all!(Rng rng);
    one!(Watchdog watchdog);
    all!(Video video);
    all!(Shmem shmem);
    all!(Input input);
    all!(Serial serial);
    if domain.devices.iommu.as_ref().is_some_and(|iommu| iommu.model == IommuModel::Virtio) {
        one!(Iommu iommu);
    }
    one!(Vsock vsock);
    all!(Memory memory);
    Ok(())
}

/// Controllers of other buses; those of a USB 2 bus share a slot.
fn device_controllers(domain: &mut Domain, buses: &mut Buses, rules: &Rules) -> Result<()> {
    for place in 0..domain.devices.controller.len() {
        let controller = &domain.devices.controller[place];
        let skipped = matches!(
            controller.kind,
            ControllerType::Pci | ControllerType::Fdc | ControllerType::Ccid | ControllerType::Isa
        ) || is_first(controller, ControllerType::Ide);
        let needs = rules.controller(controller);
        if skipped || needs == 0 || !wanted(controller) {
            continue;
        }
        if !controllers::is_usb2(controller) {
            let address = buses.next(needs, None)?;
            if !buses.growing {
                domain.devices.controller[place].address = Some(Address::Pci(address));
            }
            continue;
        }
        let (function, multifunction) = match controller.model() {
            "ich9-uhci1" => (0, Some(OnOff::On)),
            "ich9-uhci2" => (1, None),
            "ich9-uhci3" => (2, None),
            _ => (7, None),
        };
        let companion = domain
            .devices
            .controller
            .iter()
            .filter(|other| controllers::is_usb2(other) && other.index() == controller.index())
            .find_map(HasInfo::pci);
        let mut address = match companion {
            Some(companion) => {
                let mut address = PciAddress { multifunction: None, ..companion };
                address.function.0 = function;
                buses.reserve(&address, needs)?;
                Some(address)
            }
            None => Some(buses.next(needs, Some(function))?).filter(|_| !buses.growing),
        };
        if let Some(address) = &mut address {
            address.multifunction = multifunction;
            domain.devices.controller[place].address = Some(Address::Pci(*address));
        }
    }
    Ok(())
}

/// Function 0 of a slot says that there are others.
fn multifunction(domain: &mut Domain) {
    let mut slots: Vec<(u64, u64, u64)> = Vec::new();
    each::device(domain, |_, _, info| {
        if let Some(address) = info.pci().filter(|address| address.function.0 != 0) {
            slots.push((address.domain.0, address.bus.0, address.slot.0));
        }
    });
    each::device(domain, |_, _, info| {
        if let Some(Address::Pci(address)) = info.address_mut()
            && address.function.0 == 0
            && slots.contains(&(address.domain.0, address.bus.0, address.slot.0))
        {
            address.multifunction.get_or_insert(OnOff::On);
        }
    });
}

/// What PCI controllers show to the guest.
fn options(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    let mut lowest =
        domain.devices.controller.iter().filter_map(|c| c.target.as_ref()?.bus_nr).min().unwrap_or(256);
    for controller in domain.devices.controller.iter_mut().filter(|c| c.kind == ControllerType::Pci) {
        let index = controller.index();
        let address = controller.pci().unwrap_or_default();
        let name = match controller.model() {
            "pci-bridge" => "pci-bridge",
            "dmi-to-pci-bridge" => "i82801b11-bridge",
            "pcie-to-pci-bridge" => "pcie-pci-bridge",
            "pcie-root-port" if caps.has("pcie-root-port") => "pcie-root-port",
            "pcie-root-port" => "ioh3420",
            "pcie-switch-upstream-port" => "x3130-upstream",
            "pcie-switch-downstream-port" => "xio3130-downstream",
            "pci-expander-bus" => "pxb",
            "pcie-expander-bus" => "pxb-pcie",
            _ => continue,
        };
        controller.device.get_or_insert_with(|| Named { name: name.to_owned() });
        let model = controller.model().to_owned();
        let target = controller.target.get_or_insert_with(ControllerTarget::default);
        match model.as_str() {
            "pci-bridge" => {
                target.chassis_nr.get_or_insert(index);
            }
            "pcie-root-port" => {
                target.chassis.get_or_insert(index);
                target.port.get_or_insert(xml_hex((address.slot.0 << 3) + address.function.0));
            }
            "pcie-switch-downstream-port" => {
                target.chassis.get_or_insert(index);
                target.port.get_or_insert(xml_hex(address.slot.0));
            }
            "pci-expander-bus" | "pcie-expander-bus" if target.bus_nr.is_none() => {
                if lowest <= 2 {
                    return Err(Error::unsupported(format!(
                        "No free busNr lower than current lowest busNr is available to auto-assign to bus {}. Must be manually assigned",
                        address.bus.0
                    )));
                }
                lowest -= 2;
                target.bus_nr = Some(lowest);
            }
            _ => {}
        }
        if model == "pci-bridge" && u64::from(index) <= address.bus.0 {
            return Err(Error::unsupported(format!(
                "PCI controller at index {index} (0x{index:02x}) has bus='0x{:02x}', but index must be larger than bus",
                address.bus.0
            )));
        }
        if *target == ControllerTarget::default() {
            controller.target = None;
        }
    }
    Ok(())
}

fn xml_hex(value: u64) -> domain_xml::Hex<1> {
    domain_xml::Hex(value)
}
