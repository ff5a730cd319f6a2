//! What is wrong with a definition as it is written, before anything is added to it.

use domain_xml::address::Address;
use domain_xml::chardev::{CharEnd, CharMode, CharSource, CharType};
use domain_xml::controller::{Controller, ControllerType};
use domain_xml::graphics::ListenType;
use domain_xml::hostdev::{HostdevAddress, HostdevMode, HostdevType};
use domain_xml::input::InputBus;
use domain_xml::words::YesNo;
use domain_xml::{Code, Devices, Domain, Error, PciAddress, Result};

use crate::each::{self, Sort};

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

fn detail<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error { code: Code::Detail, detail: detail.into() })
}

/// Checks a domain as it is written, and takes out addresses that say nothing.
pub fn check(domain: &mut Domain) -> Result<()> {
    addresses(domain)?;
    labels(domain)?;
    dates(domain)?;
    usb(&domain.devices)?;
    let devices = &domain.devices;
    for source in sources(devices) {
        ends(source)?;
    }
    for graphics in &devices.graphics {
        if graphics.listens.iter().any(|it| it.kind == ListenType::Network && it.network.is_none()) {
            return Err(Error::xml("'network' attribute is required for listen type 'network'"));
        }
    }
    for tpm in &devices.tpm {
        if tpm.backend.is_none() {
            return Err(Error::xml("missing TPM device backend"));
        }
    }
    for host in devices.hostdev.iter().filter(|it| it.kind == HostdevType::Mdev) {
        let named = match host.source.as_ref().and_then(|source| source.address.as_ref()) {
            Some(HostdevAddress::Pci { address, .. }) => address.uuid.is_some(),
            _ => false,
        };
        if host.mode == HostdevMode::Subsystem && !named {
            return unsupported("Missing 'uuid' attribute for element <address>");
        }
    }
    for it in devices.interface.iter().filter_map(|it| it.source.as_ref()?.reconnect.as_ref()) {
        reconnect(it.enabled, it.timeout)?;
    }
    for it in devices.disk.iter().filter_map(|it| it.source.as_ref()?.reconnect.as_ref()) {
        match it.enabled {
            Some(enabled) => reconnect(enabled, it.timeout.or(it.delay))?,
            None if it.delay.is_some() => {}
            None => return Err(Error::xml("Missing required attribute 'enabled' in element 'reconnect'")),
        }
    }
    Ok(())
}

/// The host's ends of all devices that have some.
pub fn sources(devices: &Devices) -> impl Iterator<Item = &CharSource> {
    let ports = devices.serial.iter().chain(&devices.parallel).chain(&devices.console);
    let ports = ports.chain(&devices.channel).map(|port| &port.source);
    ports
        .chain(devices.smartcard.iter().map(|card| &card.source))
        .chain(devices.redirdev.iter().map(|device| &device.source))
        .chain(devices.rng.iter().filter_map(|rng| rng.backend.as_ref()).map(|backend| &backend.source))
}

fn reconnect(enabled: YesNo, timeout: Option<u32>) -> Result<()> {
    match timeout {
        None if enabled == YesNo::Yes => {
            Err(Error::xml("Missing required attribute 'timeout' in element 'reconnect'"))
        }
        Some(0) if enabled == YesNo::Yes => {
            let detail = "chardev reconnect source timeout cannot be '0'".to_owned();
            Err(Error { code: Code::InvalidArgument, detail })
        }
        _ => Ok(()),
    }
}

fn ends(source: &CharSource) -> Result<()> {
    let (most, word) = if source.kind == Some(CharType::Udp) {
        (2, "two source elements are")
    } else {
        (1, "one source element is")
    };
    if source.ends.len() > most {
        return Err(Error::xml(format!("only {word} allowed for character device")));
    }
    let waits = |end: &CharEnd| {
        end.mode == Some(CharMode::Bind)
            && end.reconnect.as_ref().is_some_and(|reconnect| reconnect.enabled == YesNo::Yes)
    };
    if matches!(source.kind, Some(CharType::Tcp | CharType::Unix)) && source.ends.iter().any(waits) {
        return Err(Error::internal("chardev reconnect is possible only for connect mode"));
    }
    let mut ends = source.ends.iter().filter_map(|end| end.reconnect.as_ref());
    ends.try_for_each(|it| reconnect(it.enabled, it.timeout))
}

/// PCI addresses out of range, and bridges to the bus that no device is on.
fn addresses(domain: &mut Domain) -> Result<()> {
    let mut wrong = None;
    let roots: Vec<bool> = domain
        .devices
        .controller
        .iter()
        .map(|it| it.kind == ControllerType::Pci && matches!(it.model(), "pci-root" | "pcie-root"))
        .collect();
    each::device(domain, |sort, index, info| {
        if sort == Sort::Controller && roots[index] && info.address().is_some() {
            let error = Error::unsupported("pci-root and pcie-root controllers should not have an address");
            wrong.get_or_insert(error);
        }
        let Some(Address::Pci(address)) = info.address() else { return };
        if let Some(error) = out_of_range(address) {
            wrong.get_or_insert(error);
        }
        if (address.domain.0, address.bus.0, address.slot.0) == (0, 0, 0) {
            // It only says that there is to be one.
            *info.address_mut() = None;
        }
    });
    wrong.map_or(Ok(()), Err)
}

fn out_of_range(address: &PciAddress) -> Option<Error> {
    let (bus, slot, function) = (address.bus.0, address.slot.0, address.function.0);
    let text = if bus > 0xff {
        format!("bus='{bus:#x}', must be <= 0xFF")
    } else if slot > 0x1f {
        format!("slot='{slot:#x}', must be <= 0x1F")
    } else if function > 7 {
        format!("function={function:#x}, must be <= 7")
    } else {
        return None;
    };
    Some(Error::xml(format!("Invalid PCI address {text}")))
}

fn labels(domain: &Domain) -> Result<()> {
    let labels = &domain.seclabel;
    for (index, label) in labels.iter().enumerate() {
        if labels[..index].iter().any(|other| other.model == label.model) {
            let model = label.model.as_deref().unwrap_or("(null)");
            return detail(format!("seclabel for model {model} is already provided"));
        }
    }
    if labels.len() > 1 && labels.iter().any(|label| label.model.is_none()) {
        return Err(Error::xml("missing security model when using multiple labels"));
    }
    for disk in &domain.devices.disk {
        let own = disk.source.as_ref().map_or(&[][..], |source| &source.seclabel);
        for (index, label) in own.iter().enumerate() {
            for other in &own[..index] {
                if other.model.is_none() || label.model.is_none() {
                    return Err(Error::xml("missing security model when using multiple labels"));
                }
                if other.model == label.model {
                    let model = label.model.as_deref().unwrap_or_default();
                    return detail(format!("seclabel for model {model} is already provided"));
                }
            }
        }
    }
    Ok(())
}

/// A BIOS is dated by month, day and year of two or four digits.
fn dates(domain: &Domain) -> Result<()> {
    let tables = domain.sysinfo.iter().filter(|info| info.kind == "smbios").filter_map(|it| it.bios.as_ref());
    let dates = tables.flat_map(|table| &table.entry).filter(|it| it.name.as_deref() == Some("date"));
    for date in dates.filter_map(|entry| entry.value.as_deref()) {
        let parts: Vec<Option<u32>> = date.split('/').map(|part| part.trim_start().parse().ok()).collect();
        let fine = match parts[..] {
            [Some(month), Some(day), Some(year)] => {
                (1..=12).contains(&month) && (1..=31).contains(&day) && !(100..1900).contains(&year)
            }
            _ => false,
        };
        if !fine {
            return detail("Invalid BIOS 'date' format");
        }
    }
    Ok(())
}

/// A guest without USB has no device there.
fn usb(devices: &Devices) -> Result<()> {
    let (mut none, mut other, mut master) = (false, false, false);
    for controller in devices.controller.iter().filter(|it| it.kind == ControllerType::Usb) {
        let is_none = controller.model() == "none";
        if none || is_none && other {
            return detail("Can't add another USB controller: USB is disabled for this domain");
        }
        none |= is_none;
        other |= !is_none;
        master |= !is_companion(controller);
    }
    if other && !master {
        return detail("No master USB controller specified");
    }
    if none && devices.input.iter().any(|input| input.bus == Some(InputBus::Usb)) {
        return unsupported("Can't add USB input device. USB bus is disabled");
    }
    if none && !devices.hub.is_empty() {
        return unsupported("Can't add USB hub: USB is disabled for this domain");
    }
    let of_host = devices.hostdev.iter().any(|host| host.kind == HostdevType::Usb);
    if none && of_host {
        return unsupported("Can't add host USB device: USB is disabled in this host");
    }
    Ok(())
}

fn is_companion(controller: &Controller) -> bool {
    controller.master.is_some() || controller.model().starts_with("ich9-uhci")
}
