//! Definitions without what only a running domain has, and without what older daemons do not know.

use domain_xml::Domain;
use domain_xml::address::Alias;
use domain_xml::chardev::CharType;
use domain_xml::controller::ControllerType;
use domain_xml::graphics::{Graphics, GraphicsType, Listen, ListenType};
use domain_xml::input::{InputBus, InputType};
use domain_xml::interface::InterfaceType;
use domain_xml::source::{BackingStore, DiskFormat, SourceType};
use domain_xml::words::{YesNo, yes};

use crate::{Settings, devices, each, machine};

/// Whether a user chose the name.
pub(crate) fn is_own(alias: &Alias) -> bool {
    alias.name.starts_with("ua-")
}

/// Drops the names of devices and the numbers of images that a running domain has.
pub fn strip_names(domain: &mut Domain) {
    each::device(domain, |_, _, info| {
        if info.alias().as_ref().is_some_and(|alias| !is_own(alias)) {
            *info.alias_mut() = None;
        }
    });
    for console in &mut domain.devices.console {
        console.info.alias = console.info.alias.take().filter(is_own);
    }
    for disk in &mut domain.devices.disk {
        if let Some(source) = &mut disk.source {
            source.index = None;
        }
        let mut link: Option<&mut Box<BackingStore>> = disk.backing_store.as_mut();
        while let Some(store) = link {
            store.index = None;
            if let Some(source) = &mut store.source {
                source.index = None;
            }
            link = store.backing_store.as_mut();
        }
    }
}

/// Drops what only a running domain has, but for the names of devices and the numbers of images.
pub fn strip(domain: &mut Domain) {
    domain.id = None;
    for disk in &mut domain.devices.disk {
        disk.mirror = None;
        if let Some(source) = &mut disk.source {
            source.tls_from_config = None;
        }
        let mut link: Option<&mut Box<BackingStore>> = disk.backing_store.as_mut();
        while let Some(store) = link {
            if let Some(source) = &mut store.source {
                source.tls_from_config = None;
            }
            link = store.backing_store.as_mut();
        }
    }
    for interface in &mut domain.devices.interface {
        if let Some(source) = interface.source.as_mut().filter(|source| source.network.is_some()) {
            // The port that a running guest has of its network, and what that is.
            interface.kind = InterfaceType::Network;
            (source.portid, source.bridge, source.mac_table_manager) = (None, None, None);
            (source.dev, source.mode) = (None, None);
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
    devices.graphics.iter_mut().for_each(strip_graphics);
    for device in devices.serial.iter_mut().chain(&mut devices.console).chain(&mut devices.channel) {
        device.source.tty = None;
        if device.source.kind == Some(domain_xml::chardev::CharType::Pty) {
            device.source.ends.clear();
        }
        if let Some(target) = &mut device.target {
            target.state = None;
        }
    }
}

/// Drops what web servers are told of who we are.
pub fn strip_cookies(domain: &mut Domain) {
    for disk in &mut domain.devices.disk {
        if let Some(source) = &mut disk.source {
            source.cookies = None;
        }
        let mut link = disk.backing_store.as_mut();
        while let Some(store) = link {
            if let Some(source) = &mut store.source {
                source.cookies = None;
            }
            link = store.backing_store.as_mut();
        }
    }
}

/// What is chosen at start.
fn strip_graphics(graphics: &mut Graphics) {
    if yes(graphics.autoport) {
        graphics.port = (graphics.kind == GraphicsType::Vnc).then_some(-1);
        graphics.tls_port = None;
    }
    if yes(graphics.websocket_generated) {
        (graphics.websocket, graphics.websocket_generated) = (Some(-1), None);
    }
    if let Some(first) = graphics.listens.first()
        && first.kind == ListenType::Network
    {
        graphics.listen = None;
    }
    for listen in graphics.listens.iter_mut().filter(|listen| listen.kind == ListenType::Network) {
        listen.address = None;
    }
}

/// Drops the sockets of channels that are where the driver makes them.
pub fn strip_channel_paths(domain: &mut Domain, settings: &Settings) {
    let made = format!("{}/", settings.channels);
    for channel in &mut domain.devices.channel {
        let path = channel.source.ends.first().and_then(|end| end.path.as_ref());
        let name = channel.target.as_ref().and_then(|target| target.name.as_deref()).unwrap_or_default();
        // Where other versions made them, whatever their folder was.
        let of_others = |path: &str| {
            let folder = path.strip_suffix(name).and_then(|path| path.strip_suffix('/'));
            folder.and_then(|it| it.rsplit('/').next()).is_some_and(|it| it.starts_with("domain-"))
        };
        if channel.source.kind == Some(CharType::Unix)
            && path.is_some_and(|path| path.starts_with(&made) || of_others(path))
        {
            channel.source.ends.clear();
        }
    }
}

/// Drops what only a running domain has, what every domain of its machine has, and what comes from the host's configuration: older daemons know the
/// one by another name or not at all, and other hosts have another configuration.
pub fn for_migration(domain: &mut Domain, settings: &Settings) {
    strip(domain);
    strip_names(domain);
    crate::controllers::order(domain);
    drop_implicit_controllers(domain);
    strip_channel_paths(domain, settings);
    let disks = domain.devices.disk.iter_mut().filter(|disk| disk.kind != SourceType::Volume);
    for driver in disks.filter_map(|disk| disk.driver.as_mut()) {
        driver.format.get_or_insert(DiskFormat::Raw);
    }
    let default = devices::default_audio(domain, settings);
    if domain.devices.audio.len() == 1 && default.as_ref() == domain.devices.audio.first() {
        domain.devices.audio.clear();
    }
    domain.devices.input.retain(|it| it.kind != InputType::Keyboard || it.bus != Some(InputBus::Ps2));
    // What the driver added itself; the user's have no label before they run.
    domain.seclabel.retain(|label| {
        let dynamic = label.kind.as_deref() == Some("dynamic") && label.model.as_deref() == Some("dac");
        !(dynamic && label.label.is_some() && label.baselabel.is_none())
    });
    for graphics in &mut domain.devices.graphics {
        let configured = |listen: &Listen| listen.from_config.is_some_and(|it| it > 0);
        if graphics
            .listens
            .first()
            .is_some_and(|first| configured(first) || first.kind == ListenType::Network)
        {
            graphics.listen = None;
        }
        if let Some(first) = graphics.listens.first()
            && first.kind == ListenType::Socket
        {
            if yes(first.auto_generated) || configured(first) {
                graphics.socket = None;
            }
            if graphics.kind == GraphicsType::Spice && configured(first) {
                graphics.autoport = Some(YesNo::Yes);
            }
        }
        let is_vnc = graphics.kind == GraphicsType::Vnc;
        graphics.listens.retain(|listen| {
            let own_socket = listen.kind == ListenType::Socket && !yes(listen.auto_generated);
            !(configured(listen) || is_vnc && own_socket && listen.socket.is_some())
        });
        for listen in graphics.listens.iter_mut().filter(|listen| yes(listen.auto_generated)) {
            listen.socket = None;
        }
        if graphics.kind == GraphicsType::Spice
            && graphics.listens.first().is_some_and(|first| first.kind == ListenType::None)
        {
            // Older daemons know that by the ports that are missing.
            graphics.autoport = Some(YesNo::No);
            graphics.listens.clear();
            continue;
        }
        graphics.split.0 = is_vnc && graphics.listens.is_empty() && graphics.socket.is_some();
        let listens = matches!(graphics.kind, GraphicsType::Vnc | GraphicsType::Spice);
        if listens && graphics.listens.is_empty() && graphics.socket.is_none() {
            graphics.listens.push(Listen { kind: ListenType::Address, ..Listen::default() });
        }
    }
}

/// Every machine has them.
fn drop_implicit_controllers(domain: &mut Domain) {
    let is_i440fx = machine::is_i440fx(domain);
    let controllers = &mut domain.devices.controller;
    let mut drop_only =
        |kind: ControllerType, implicit: &dyn Fn(&domain_xml::controller::Controller) -> bool| {
            let mut all = controllers.iter().enumerate().filter(|(_, own)| own.kind == kind);
            let (first, second) = (all.next(), all.next());
            if let (Some((place, only)), None) = (first, second)
                && only.index() == 0
                && !only.alias.as_ref().is_some_and(is_own)
                && implicit(only)
            {
                controllers.remove(place);
            }
        };
    drop_only(ControllerType::Usb, &|own| is_i440fx && matches!(own.model(), "" | "piix3-uhci"));
    drop_only(ControllerType::Pci, &|own| own.model() == "pci-root" && own.pcihole64.is_none());
}
