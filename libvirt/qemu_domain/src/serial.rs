//! Serial ports and consoles.

use domain_xml::chardev::{CharDevice, CharEnd, CharMode, CharTarget, CharType};
use domain_xml::source::Named;
use domain_xml::{Domain, Error, Result};

/// Most serial ports on an ISA bus.
const MAX_ISA: usize = 4;

fn target(device: &mut CharDevice) -> &mut CharTarget {
    device.target.get_or_insert_with(CharTarget::default)
}

fn is_isa(device: &CharDevice) -> bool {
    matches!(device.target.as_ref().and_then(|t| t.kind.as_deref()), Some("isa-serial"))
}

/// Numbers the serial ports on the ISA bus.
pub fn ports(domain: &mut Domain) -> Result<()> {
    let serials = &mut domain.devices.serial;
    if serials.iter().filter(|serial| is_isa(serial)).count() > MAX_ISA {
        return Err(Error::internal(format!("Maximum supported number of ISA serial ports is '{MAX_ISA}'")));
    }
    for serial in 0..serials.len() {
        if is_isa(&serials[serial]) && target(&mut serials[serial]).port.is_none() {
            let used = |port| {
                serials.iter().any(|s| is_isa(s) && s.target.as_ref().and_then(|t| t.port) == Some(port))
            };
            let free = (0..MAX_ISA as u32).find(|port| !used(*port));
            target(&mut serials[serial]).port = free;
        }
    }
    Ok(())
}

fn number(devices: &mut [CharDevice]) {
    for index in 0..devices.len() {
        if target(&mut devices[index]).port.is_none() {
            let most = devices.iter().filter_map(|d| d.target.as_ref()?.port).max();
            target(&mut devices[index]).port = Some(most.map_or(0, |most| most.saturating_add(1)));
        }
    }
}

/// Completes ports, consoles and channels.
pub fn complete(domain: &mut Domain) -> Result<()> {
    let devices = &mut domain.devices;
    for serial in &mut devices.serial {
        let target = target(serial);
        let kind = target.kind.get_or_insert_with(|| "isa-serial".to_owned());
        let model = match kind.as_str() {
            "isa-serial" => "isa-serial",
            "usb-serial" => "usb-serial",
            "pci-serial" => "pci-serial",
            "isa-debug" => "isa-debugcon",
            // Other machines have these.
            other @ ("spapr-vio-serial" | "system-serial" | "sclp-serial") => {
                let model = match other {
                    "spapr-vio-serial" => "spapr-vty",
                    "system-serial" => "pl011",
                    _ => "sclpconsole",
                };
                return Err(Error::unsupported(format!(
                    "Serial device with target type '{other}' and target model '{model}' not compatible with guest architecture or machine type"
                )));
            }
            other => {
                return Err(Error::unsupported(format!(
                    "unknown target type '{other}' specified for character device"
                )));
            }
        };
        target.model.get_or_insert_with(|| Named { name: model.to_owned() });
    }
    for console in &mut devices.console {
        target(console).kind.get_or_insert_with(|| "serial".to_owned());
    }
    number(&mut devices.serial);
    number(&mut devices.parallel);
    if let (Some(serial), Some(console)) = (devices.serial.first(), devices.console.first_mut())
        && console.target.as_ref().is_some_and(|t| t.kind.as_deref() == Some("serial"))
    {
        let port = serial.target.as_ref().and_then(|target| target.port);
        let own = &mut target(console).port;
        *own = own.or(port);
    }
    number(&mut devices.console);
    // The first console shows what the first serial port has.
    if let Some(console) = devices.console.first_mut()
        && console.target.as_ref().is_some_and(|t| t.kind.as_deref() == Some("serial"))
        && let Some(serial) = devices.serial.first()
    {
        console.source = serial.source.clone();
        console.info = serial.info.clone();
    }
    for device in devices.serial.iter_mut().chain(&mut devices.parallel).chain(&mut devices.console) {
        protocol(&mut device.source);
    }
    for channel in &mut devices.channel {
        protocol(&mut channel.source);
    }
    for card in &mut devices.smartcard {
        protocol(&mut card.source);
    }
    for redirected in &mut devices.redirdev {
        if redirected.source.kind == Some(CharType::Dbus) && redirected.source.ends.is_empty() {
            let channel = Some("org.qemu.usbredir".to_owned());
            redirected.source.ends.push(CharEnd { channel, ..CharEnd::default() });
        }
        protocol(&mut redirected.source);
    }
    for backend in devices.rng.iter_mut().filter_map(|rng| rng.backend.as_mut()) {
        protocol(&mut backend.source);
    }
    Ok(())
}

/// What is spoken at a socket.
fn protocol(source: &mut domain_xml::chardev::CharSource) {
    if source.kind == Some(CharType::Tcp) {
        source.protocol.get_or_insert_with(domain_xml::chardev::ProtocolType::default);
        for end in &mut source.ends {
            end.mode.get_or_insert(CharMode::Connect);
        }
    } else {
        source.protocol = None;
    }
    if source.kind == Some(CharType::Unix) {
        source.ends.retain(|end| end.path.is_some());
        for end in &mut source.ends {
            end.mode.get_or_insert(CharMode::Connect);
        }
    }
    if source.kind == Some(CharType::Udp) {
        let complete = |mode: CharMode| {
            let of_mode = |end: &&CharEnd| end.mode.unwrap_or(CharMode::Connect) == mode;
            source.ends.iter().find(of_mode).cloned().map(|mut end| {
                end.mode = Some(mode);
                end
            })
        };
        let ends = [complete(CharMode::Bind), complete(CharMode::Connect)];
        source.ends = ends.into_iter().flatten().collect();
    }
}

/// A console for the first serial port, or a serial port for the first console.
pub fn console(domain: &mut Domain) -> Result<()> {
    let devices = &mut domain.devices;
    let is_serial = |console: &CharDevice| {
        matches!(console.target.as_ref().and_then(|t| t.kind.as_deref()), None | Some("serial"))
    };
    if devices.console.iter().skip(1).any(is_serial) {
        return Err(Error::unsupported("Only the first console can be a serial port"));
    }
    if devices.console.first().is_some_and(is_serial) {
        if devices.serial.is_empty() {
            let mut serial = devices.console[0].clone();
            serial.target = Some(CharTarget { port: Some(0), ..CharTarget::default() });
            devices.serial.push(serial);
        }
    } else if let Some(serial) = devices.serial.first() {
        let kind = serial.target.as_ref().and_then(|t| t.kind.as_deref());
        if matches!(kind, None | Some("isa-serial")) {
            let target = CharTarget { kind: Some("serial".to_owned()), ..CharTarget::default() };
            devices.console.insert(0, CharDevice { target: Some(target), ..CharDevice::default() });
        }
    }
    Ok(())
}
