//! The host's ends of serial ports, channels and the like.

use domain_xml::chardev::{CharDevice, CharMode, CharSource, CharType};
use domain_xml::{Code, Domain, Error, Result};

/// What names of Spice's and D-Bus' channels are made of.
fn of_channel_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-.:_+/".contains(c)
}

pub fn check(domain: &Domain) -> Result<()> {
    let devices = &domain.devices;
    for channel in &devices.channel {
        source(&channel.source, is_virtio(channel))?;
    }
    let ports = devices.serial.iter().chain(&devices.parallel).chain(&devices.console);
    let others = ports
        .map(|port| &port.source)
        .chain(devices.smartcard.iter().map(|card| &card.source))
        .chain(devices.redirdev.iter().map(|device| &device.source));
    for other in others {
        source(other, false)?;
    }
    for backend in devices.rng.iter().filter_map(|rng| rng.backend.as_ref()) {
        source(&backend.source, false)?;
    }
    Ok(())
}

/// Whether the driver makes a socket for it that nobody names.
fn is_virtio(channel: &CharDevice) -> bool {
    matches!(channel.target.as_ref().and_then(|it| it.kind.as_deref()), Some("virtio" | "xen"))
}

fn source(source: &CharSource, may_be_nameless: bool) -> Result<()> {
    let missing =
        |what: &str| Err(Error::internal(format!("Missing source {what} attribute for char device")));
    let first = source.ends.first();
    let mode = |mode| source.end(mode);
    match source.kind.unwrap_or(CharType::Null) {
        CharType::File | CharType::Dev | CharType::Pipe if source.path().is_none() => return missing("path"),
        CharType::Unix if source.path().is_none() && !may_be_nameless => return missing("path"),
        CharType::Tcp if first.is_none_or(|end| end.host.is_none()) => return missing("host"),
        CharType::Tcp if first.is_none_or(|end| end.service.is_none()) => return missing("service"),
        CharType::Udp if mode(CharMode::Connect).is_none_or(|end| end.service.is_none()) => {
            return missing("service");
        }
        CharType::SpicePort | CharType::Dbus => match first.and_then(|end| end.channel.as_deref()) {
            None => return Err(Error::unsupported("Missing source channel attribute for char device")),
            Some(name) if !name.chars().all(of_channel_name) => {
                let detail = "Invalid character in source channel for char device".to_owned();
                return Err(Error { code: Code::InvalidArgument, detail });
            }
            Some(_) => {}
        },
        _ => {}
    }
    Ok(())
}
