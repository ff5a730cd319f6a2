//! Ports of USB buses.

use std::collections::BTreeMap;

use domain_xml::address::{Address, HasInfo, UsbAddress};
use domain_xml::audio::SoundModel;
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::disk::DiskBus;
use domain_xml::hostdev::HostdevType;
use domain_xml::input::InputBus;
use domain_xml::misc::{Hub, HubType};
use domain_xml::{Domain, Error, Result};

/// Ports of a hub.
const HUB_PORTS: u32 = 8;

/// Hubs one behind the other.
const MAX_DEPTH: usize = 4;

fn ports(controller: &Controller) -> u32 {
    match controller.model() {
        "" | "piix3-uhci" | "piix4-uhci" | "vt82c686b-uhci" => 2,
        "ehci" | "ich9-ehci1" => 6,
        "pci-ohci" => 3,
        "nec-xhci" | "qemu-xhci" => controller.ports.unwrap_or(4),
        _ => 0,
    }
}

/// The ports of a controller or hub: taken or free, with the hubs that are plugged in.
#[derive(Debug, Clone, Default)]
struct Ports {
    taken: Vec<bool>,
    hubs: BTreeMap<u32, Ports>,
}

impl Ports {
    fn new(count: u32) -> Self {
        Self { taken: vec![false; count.min(255) as usize], hubs: BTreeMap::new() }
    }

    fn free(&self, depth: usize) -> Option<Vec<u32>> {
        if let Some(index) = self.taken.iter().position(|taken| !taken) {
            return Some(vec![index as u32 + 1]);
        }
        if depth + 1 >= MAX_DEPTH {
            return None;
        }
        self.hubs.iter().find_map(|(port, hub)| {
            let mut path = vec![*port];
            path.extend(hub.free(depth + 1)?);
            Some(path)
        })
    }
}

/// All buses by their number.
type Buses = BTreeMap<u32, Ports>;

fn path(address: &UsbAddress) -> Result<Option<Vec<u32>>> {
    let Some(text) = &address.port else { return Ok(None) };
    let error = || Error::xml("Cannot parse <address> 'port' attribute".to_owned());
    let parts: Vec<u32> = text
        .split('.')
        .map(|part| part.parse().ok().filter(|port| *port < 256).ok_or_else(error))
        .collect::<Result<_>>()?;
    if parts.len() > MAX_DEPTH {
        return Err(error());
    }
    Ok(Some(parts).filter(|parts| parts[0] != 0))
}

fn port_text(path: &[u32]) -> String {
    path.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// The ports that the last number of a path counts.
fn find<'a>(buses: &'a mut Buses, bus: u32, path: &[u32]) -> Result<(&'a mut Ports, u32)> {
    let text = port_text(path);
    let mut ports = buses.get_mut(&bus).ok_or_else(|| Error::xml(format!("Missing USB bus {bus}")))?;
    for port in &path[..path.len() - 1] {
        if *port as usize > ports.taken.len() {
            return Err(Error::xml(format!(
                "port {port} out of range in USB address bus: {bus} port: {text}"
            )));
        }
        ports = ports.hubs.get_mut(port).ok_or_else(|| {
            Error::xml(format!("there is no hub at port {port} in USB address bus: {bus} port: {text}"))
        })?;
    }
    let last = path[path.len() - 1];
    if last == 0 || last as usize > ports.taken.len() {
        return Err(Error::xml(format!("requested USB port {text} not present on USB bus {bus}")));
    }
    Ok((ports, last))
}

fn reserve(buses: &mut Buses, bus: u32, path: &[u32]) -> Result<()> {
    let (ports, port) = find(buses, bus, path)?;
    let taken = &mut ports.taken[port as usize - 1];
    if std::mem::replace(taken, true) {
        return Err(Error::xml(format!("Duplicate USB address bus {bus} port {}", port_text(path))));
    }
    Ok(())
}

fn plug_hub(buses: &mut Buses, bus: u32, path: &[u32]) -> Result<()> {
    let (ports, port) = find(buses, bus, path)?;
    if ports.hubs.insert(port, Ports::new(HUB_PORTS)).is_some() {
        return Err(Error::xml(format!("Duplicate USB hub on bus {bus} port {}", port_text(path))));
    }
    ports.taken[port as usize - 1] = true;
    Ok(())
}

/// The devices on USB buses, without hubs, in the order in which they get ports.
fn devices(domain: &mut Domain) -> Vec<&mut dyn HasInfo> {
    let devices = &mut domain.devices;
    let mut all: Vec<&mut dyn HasInfo> = Vec::new();
    for host in devices.hostdev.iter_mut().filter(|host| host.kind == HostdevType::Usb) {
        all.push(&mut host.info);
    }
    for disk in devices.disk.iter_mut().filter(|disk| disk.bus() == Some(DiskBus::Usb)) {
        all.push(&mut disk.info);
    }
    for controller in devices.controller.iter_mut().filter(|c| c.kind == ControllerType::Ccid) {
        all.push(controller);
    }
    for input in devices.input.iter_mut().filter(|input| input.bus == Some(InputBus::Usb)) {
        all.push(&mut input.info);
    }
    for serial in devices.serial.iter_mut() {
        if serial.target.as_ref().is_some_and(|target| target.kind.as_deref() == Some("usb-serial")) {
            all.push(&mut serial.info);
        }
    }
    for sound in devices.sound.iter_mut().filter(|sound| sound.model == SoundModel::Usb) {
        all.push(&mut sound.info);
    }
    for redirected in devices.redirdev.iter_mut().filter(|device| device.bus == "usb") {
        all.push(&mut redirected.info);
    }
    all
}

fn assign_one(buses: &mut Buses, info: &mut dyn HasInfo) -> Result<Option<(u32, Vec<u32>)>> {
    let wanted = match info.address() {
        None => None,
        Some(Address::Usb(address)) if path(address)?.is_some() => return Ok(None),
        Some(Address::Usb(address)) => Some(address.bus),
        Some(_) => return Ok(None),
    };
    if let Some(bus) = wanted
        && !buses.contains_key(&bus)
    {
        return Err(Error::xml(format!(
            "USB bus {bus} requested but no controller with that index is present"
        )));
    }
    let found = buses
        .iter()
        .filter(|(bus, _)| wanted.is_none_or(|wanted| wanted == **bus))
        .find_map(|(bus, ports)| Some((*bus, ports.free(0)?)));
    let (bus, path) = found.ok_or_else(|| Error::internal("No free USB ports"))?;
    reserve(buses, bus, &path)?;
    *info.address_mut() = Some(Address::Usb(UsbAddress { bus, port: Some(port_text(&path)) }));
    Ok(Some((bus, path)))
}

fn addressed(info: &dyn HasInfo) -> bool {
    matches!(info.address(), Some(Address::Usb(address)) if matches!(path(address), Ok(Some(_))))
}

pub fn assign(domain: &mut Domain, new: bool) -> Result<()> {
    let hubs = domain.devices.hub.iter().all(|hub| addressed(&hub.info));
    if !new && (!hubs || !devices(domain).into_iter().all(|info| addressed(info))) {
        return Ok(());
    }
    let controllers = domain.devices.controller.iter().filter(|c| c.kind == ControllerType::Usb);
    let usable = controllers.clone().any(|c| c.model() != "none");
    let available: u32 =
        controllers.clone().map(ports).sum::<u32>() + domain.devices.hub.len() as u32 * HUB_PORTS;
    let mut buses = Buses::new();
    for controller in controllers {
        let count = ports(controller);
        if count > 0 && buses.insert(controller.index(), Ports::new(count)).is_some() {
            return Err(Error::xml(format!("Duplicate USB controllers with index {}", controller.index())));
        }
    }
    let needed = (devices(domain).len() + domain.devices.hub.len()) as u32;
    if needed > 0 && !usable {
        return Err(Error::unsupported(
            "USB is disabled for this domain, but USB devices are present in the domain XML",
        ));
    }
    if needed > available {
        let hubs = (needed - available + 1).div_ceil(HUB_PORTS - 1);
        for _ in 0..hubs {
            domain.devices.hub.push(Hub { kind: HubType::Usb, ..Hub::default() });
        }
    }
    for hub in &domain.devices.hub {
        if let Some(Address::Usb(address)) = &hub.info.address
            && let Some(path) = path(address)?
        {
            plug_hub(&mut buses, address.bus, &path)?;
        }
    }
    for info in devices(domain) {
        if let Some(Address::Usb(address)) = info.address()
            && let Some(path) = path(address)?
        {
            reserve(&mut buses, address.bus, &path)?;
        }
    }
    for hub in &mut domain.devices.hub {
        if let Some((bus, path)) = assign_one(&mut buses, &mut hub.info)? {
            plug_hub(&mut buses, bus, &path)?;
        }
    }
    for info in devices(domain) {
        assign_one(&mut buses, info)?;
    }
    Ok(())
}
