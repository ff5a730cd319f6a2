//! What only a running domain has is left out of a definition.

use domain_xml::Domain;
use domain_xml::interface::InterfaceType;
use domain_xml::source::BackingStore;

use crate::{Settings, each};

/// Drops what only a running domain has.
pub fn strip(domain: &mut Domain, settings: &Settings) {
    domain.id = None;
    each::device(domain, |_, _, info| {
        if info.alias().as_ref().is_some_and(|alias| !alias.name.starts_with("ua-")) {
            *info.alias_mut() = None;
        }
    });
    for disk in &mut domain.devices.disk {
        disk.mirror = None;
        if let Some(source) = &mut disk.source {
            source.tls_from_config = None;
            source.index = None;
        }
        let mut link: Option<&mut Box<BackingStore>> = disk.backing_store.as_mut();
        while let Some(store) = link {
            store.index = None;
            if let Some(source) = &mut store.source {
                source.tls_from_config = None;
                source.index = None;
            }
            link = store.backing_store.as_mut();
        }
    }
    for interface in &mut domain.devices.interface {
        if interface.kind == InterfaceType::Network
            && let Some(source) = &mut interface.source
        {
            // The port that a running guest has of its network.
            (source.portid, source.bridge) = (None, None);
        }
        if let Some(target) = &mut interface.target {
            let generated = ["vnet", "macvtap", "macvlan", "vif"];
            if target.managed.is_none()
                && target
                    .dev
                    .as_ref()
                    .is_some_and(|dev| generated.iter().any(|prefix| dev.starts_with(prefix)))
            {
                target.dev = None;
            }
            if target.dev.is_none() && target.managed.is_none() {
                interface.target = None;
            }
        }
    }
    let devices = &mut domain.devices;
    for device in devices.serial.iter_mut().chain(&mut devices.console).chain(&mut devices.channel) {
        device.source.tty = None;
        if device.source.kind == Some(domain_xml::chardev::CharType::Pty) {
            device.source.ends.clear();
        }
        if let Some(target) = &mut device.target {
            target.state = None;
        }
    }
    for channel in &mut devices.channel {
        if let Some(end) = channel.source.ends.first()
            && end.path.as_ref().is_some_and(|path| path.starts_with(&format!("{}/", settings.channels)))
        {
            channel.source.ends.clear();
        }
    }
}
