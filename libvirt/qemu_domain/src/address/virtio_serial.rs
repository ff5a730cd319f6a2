//! Ports of virtio serial controllers.

use domain_xml::address::{Address, VirtioSerialAddress};
use domain_xml::chardev::CharDevice;
use domain_xml::controller::ControllerType;
use domain_xml::{Domain, Error, Result};

use crate::controllers::ensure;

/// Ports of a controller that does not say.
const PORTS: u32 = 31;

fn is_virtio(device: &CharDevice) -> bool {
    device.target.as_ref().is_some_and(|target| target.kind.as_deref() == Some("virtio"))
}

fn address(device: &CharDevice) -> Option<VirtioSerialAddress> {
    match &device.info.address {
        Some(Address::VirtioSerial(address)) => Some(*address),
        _ => None,
    }
}

pub fn assign(domain: &mut Domain) -> Result<()> {
    let mut used: Vec<VirtioSerialAddress> = Vec::new();
    for device in domain.devices.console.iter().chain(&domain.devices.channel).filter(|d| is_virtio(d)) {
        if let Some(address) = address(device).filter(|address| address.port != 0) {
            if used.contains(&address) {
                return Err(Error::xml(format!(
                    "virtio serial port {} on controller {} is already occupied",
                    address.port, address.controller
                )));
            }
            used.push(address);
        }
    }
    let consoles = domain.devices.console.len();
    let all = consoles + domain.devices.channel.len();
    for index in 0..all {
        let console = index < consoles;
        let device =
            if console { &domain.devices.console[index] } else { &domain.devices.channel[index - consoles] };
        // Port 0 is for consoles, in the order in which they come.
        if !is_virtio(device) || address(device).is_some_and(|address| address.port != 0 || console) {
            continue;
        }
        let wanted = address(device);
        let free = next(domain, &used, wanted, console)?;
        used.push(free);
        let device = if console {
            &mut domain.devices.console[index]
        } else {
            &mut domain.devices.channel[index - consoles]
        };
        // The emulator itself puts consoles where they belong; their ports are only kept free.
        if !console {
            device.info.address = Some(Address::VirtioSerial(free));
        }
    }
    Ok(())
}

fn next(
    domain: &mut Domain,
    used: &[VirtioSerialAddress],
    wanted: Option<VirtioSerialAddress>,
    console: bool,
) -> Result<VirtioSerialAddress> {
    let first = u32::from(!console);
    let mut controllers: Vec<(u32, u32)> = domain
        .devices
        .controller
        .iter()
        .filter(|c| c.kind == ControllerType::VirtioSerial)
        .filter(|c| wanted.is_none_or(|wanted| wanted.controller == c.index()))
        .map(|c| (c.index(), c.ports.unwrap_or(PORTS)))
        .collect();
    controllers.sort_unstable();
    for (controller, ports) in controllers {
        for port in first..ports {
            let address = VirtioSerialAddress { controller, bus: 0, port };
            if !used.iter().any(|other| other.controller == controller && other.port == port) {
                return Ok(address);
            }
        }
    }
    if wanted.is_some() {
        return Err(Error::xml("Unable to find a free virtio-serial port"));
    }
    for controller in 0..256 {
        if ensure(domain, ControllerType::VirtioSerial, controller, None) {
            return Ok(VirtioSerialAddress { controller, bus: 0, port: first });
        }
    }
    Err(Error::xml("Unable to find a free virtio-serial port"))
}
