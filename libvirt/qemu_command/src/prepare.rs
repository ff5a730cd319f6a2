//! What is settled when a guest starts: the numbers of its block devices, its ports, what it boots from.

use crate::block::is_empty;
use crate::{Host, Result, Settings};
use domain_xml::Domain;
use domain_xml::chardev::{CharEnd, CharMode, CharType};
use domain_xml::disk::{Cache, Disk, DiskBus, DiskDevice};
use domain_xml::graphics::{Gl, Graphics, GraphicsType, Listen, ListenType};
use domain_xml::interface::Interface;
use domain_xml::os::{BootDevice, LoaderType};
use domain_xml::source::{BackingStore, SourceType};
use domain_xml::words::YesNo;

/// Where displays listen that do not say (`vnc_listen`, `spice_listen`), and whether they use sockets instead
/// (`vnc_auto_unix_socket`, `spice_auto_unix_socket`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Displays {
    /// Address of VNC displays.
    pub vnc: String,
    /// Whether they use sockets.
    pub vnc_socket: bool,
    /// Address of Spice displays.
    pub spice: String,
    /// Whether they use sockets.
    pub spice_socket: bool,
}

/// Settles everything that is settled when a guest starts.
///
/// # Errors
/// There is no free port, or no card that can draw.
pub fn all(domain: &mut Domain, defaults: &Displays, settings: &Settings, host: &mut dyn Host) -> Result<()> {
    memory(domain);
    for disk in &mut domain.devices.disk {
        share(disk);
    }
    channels(domain, settings);
    variables(domain, settings);
    number_sources(domain, 1);
    displays(domain, defaults, settings, host)
}

/// Rounds memory up to what the emulator can give: whole MiB, modules of two MiB.
pub fn memory(domain: &mut Domain) {
    /// In KiB.
    const STEP: u64 = 1024;
    let up = |kib: u64, step: u64| kib.div_ceil(step).saturating_mul(step);
    let modules =
        |domain: &Domain| domain.devices.memory.iter().map(domain_xml::memory::Memory::size).sum::<u64>();
    let mut start = domain.memory_kib().saturating_sub(modules(domain));
    if let Some(numa) = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()).filter(|n| !n.cell.is_empty()) {
        start = 0;
        for cell in &mut numa.cell {
            cell.memory = up(domain_xml::cpu::cell_size(cell).0, STEP);
            cell.unit = Some("KiB".to_owned());
            start += cell.memory;
        }
    }
    for module in &mut domain.devices.memory {
        if let Some(size) = module.target.as_mut().and_then(|target| target.size.as_mut()) {
            size.0 = up(size.0, 2 * STEP);
        }
    }
    if let Some(max) = &mut domain.max_memory {
        max.size.0 = up(max.size.0, STEP);
    }
    domain.memory.size.0 = up(start, STEP) + modules(domain);
}

/// Disks that several guests write are not cached.
fn share(disk: &mut Disk) {
    if !disk.shareable || disk.read_only {
        return;
    }
    let driver = disk.driver.get_or_insert_default();
    if driver.cache.is_none_or(|cache| cache == Cache::Default) {
        driver.cache = Some(Cache::None);
    }
}

/// Gives channels without a socket one in the guest's folder.
fn channels(domain: &mut Domain, settings: &Settings) {
    for channel in &mut domain.devices.channel {
        let place = match channel.info.address {
            Some(domain_xml::Address::VirtioSerial(at)) => at,
            _ => domain_xml::address::VirtioSerialAddress::default(),
        };
        let virtio = channel.target.as_ref().is_some_and(|t| t.kind.as_deref() == Some("virtio"));
        let name = channel.target.as_ref().and_then(|t| t.name.clone()).unwrap_or_else(|| {
            format!("vioser-{:02}-{:02}-{:02}.sock", place.controller, place.bus, place.port)
        });
        if channel.source.kind() != CharType::Unix || channel.source.path().is_some() {
            continue;
        }
        if virtio {
            let path = format!("{}/{name}", settings.channel_folder);
            channel.source.ends =
                vec![CharEnd { mode: Some(CharMode::Bind), path: Some(path), ..CharEnd::default() }];
        }
    }
}

/// Gives firmware that needs variables a place for them.
fn variables(domain: &mut Domain, settings: &Settings) {
    let name = domain.name().to_owned();
    let flash = domain
        .os
        .loader
        .as_ref()
        .is_some_and(|l| l.kind == Some(LoaderType::Pflash) && l.stateless != Some(YesNo::Yes));
    if let Some(nvram) = domain.os.nvram.as_mut().filter(|_| flash)
        && nvram.path.as_ref().is_none_or(String::is_empty)
        && nvram.source.is_none()
    {
        nvram.path = Some(format!("{}/{name}_VARS.fd", settings.nvram_folder));
    }
}

/// Numbers the sources of all disks that have none yet: the last disk's first, each chain from the top down.
/// `next` is the first free number; the new first free number is returned.
pub fn number_sources(domain: &mut Domain, mut next: u32) -> u32 {
    let disks = domain.devices.disk.iter_mut().rev();
    for disk in disks {
        next = number_disk(disk, next);
    }
    next
}

/// Numbers the sources of disks that a running guest gets, behind all that it has.
pub fn number_new_sources(domain: &mut Domain) {
    let mut last = 0;
    for disk in &domain.devices.disk {
        last = last.max(disk.source.as_ref().and_then(|source| source.index).unwrap_or(0));
        let mut store = disk.backing_store.as_deref();
        while let Some(below) = store {
            last = last.max(below.index.unwrap_or(0));
            store = below.backing_store.as_deref();
        }
    }
    // Drives without a disk had their numbers when the guest was started.
    let mut next = last + 1;
    for disk in domain.devices.disk.iter_mut().filter(|disk| !is_empty(disk.kind, disk.source.as_ref())) {
        next = number_disk(disk, next);
    }
}

/// Numbers the sources of one disk.
pub fn number_disk(disk: &mut Disk, mut next: u32) -> u32 {
    if disk.kind == SourceType::VhostUser || disk.bus() == Some(DiskBus::Sd) {
        return next;
    }
    // Drives without a disk have a number too.
    if is_empty(disk.kind, disk.source.as_ref()) {
        return next + 1;
    }
    let mut take = |index: &mut Option<u32>| {
        if index.is_none() {
            *index = Some(next);
            next += 1;
        }
    };
    if let Some(source) = &mut disk.source {
        take(&mut source.index);
    }
    let mut store: Option<&mut BackingStore> = disk.backing_store.as_deref_mut();
    while let Some(below) = store {
        if below.source.is_some() {
            take(&mut below.index);
        }
        store = below.backing_store.as_deref_mut();
    }
    next
}

/// Whether a display draws with a card of the host that it does not name.
fn needs_render_node(graphics: &Graphics) -> bool {
    let gl = graphics.gl.as_ref();
    let asked = match graphics.kind {
        GraphicsType::EglHeadless => true,
        GraphicsType::Spice | GraphicsType::Dbus => gl.is_some_and(|gl| gl.enable == Some(YesNo::Yes)),
        _ => false,
    };
    asked && gl.is_none_or(|gl| gl.rendernode.is_none())
}

/// Gives displays their cards, addresses and ports.
///
/// # Errors
/// There is no free port, or no card.
pub fn displays(
    domain: &mut Domain,
    defaults: &Displays,
    settings: &Settings,
    host: &mut dyn Host,
) -> Result<()> {
    for graphics in &mut domain.devices.graphics {
        if graphics.listens.len() > 1 {
            return Err(crate::Error::unsupported(
                "QEMU does not support multiple listens for one graphics device.",
            ));
        }
        if needs_render_node(graphics) {
            let node = host.render_node()?;
            graphics.gl.get_or_insert_with(Gl::default).rendernode = Some(node);
        }
        let (address, socket) = match graphics.kind {
            GraphicsType::Vnc => (&defaults.vnc, defaults.vnc_socket),
            GraphicsType::Spice => (&defaults.spice, defaults.spice_socket),
            _ => continue,
        };
        let place = format!("{}/{}.sock", settings.guest_folder, graphics.kind);
        for listen in &mut graphics.listens {
            match listen.kind {
                ListenType::Address if listen.address.is_none() && socket => {
                    *listen = Listen {
                        kind: ListenType::Socket,
                        socket: Some(place.clone()),
                        from_config: Some(1),
                        ..Listen::default()
                    };
                }
                ListenType::Address | ListenType::Network if listen.address.is_none() => {
                    listen.address = Some(address.clone());
                    listen.from_config = (listen.kind == ListenType::Address).then_some(1);
                }
                ListenType::Socket if listen.socket.is_none() => {
                    listen.socket = Some(place.clone());
                    listen.auto_generated = Some(YesNo::Yes);
                }
                _ => {}
            }
        }
        let by_port = graphics
            .listens
            .first()
            .is_some_and(|l| matches!(l.kind, ListenType::Address | ListenType::Network));
        if !by_port {
            continue;
        }
        let auto = graphics.autoport == Some(YesNo::Yes);
        let wanted = |port: Option<i32>| auto || port == Some(-1);
        match graphics.kind {
            GraphicsType::Vnc => {
                if wanted(graphics.port) {
                    graphics.port = Some(host.port("vnc")?.into());
                }
                if graphics.websocket == Some(-1) {
                    graphics.websocket = Some(host.port("websocket")?.into());
                    graphics.websocket_generated = Some(YesNo::Yes);
                }
            }
            _ => {
                if wanted(graphics.port) {
                    graphics.port = Some(host.port("spice")?.into());
                }
                if settings.spice_tls.enabled && wanted(graphics.tls_port) {
                    graphics.tls_port = Some(host.port("spice-tls")?.into());
                }
            }
        }
    }
    Ok(())
}

/// What a guest boots from, where it names kinds of devices: each kind's number goes to the first device of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootOrder {
    named: bool,
    disk: u32,
    cdrom: u32,
    floppy: u32,
    network: u32,
}

impl BootOrder {
    /// As the domain says it.
    pub fn of(domain: &Domain) -> Self {
        let mut order = Self::default();
        for (boot, number) in domain.os.boot.iter().zip(1..) {
            order.named = true;
            *match boot.dev {
                BootDevice::Hd => &mut order.disk,
                BootDevice::Cdrom => &mut order.cdrom,
                BootDevice::Fd => &mut order.floppy,
                BootDevice::Network => &mut order.network,
            } = number;
        }
        order
    }

    /// The place of the next disk; 0: none.
    pub fn of_disk(&mut self, disk: &Disk) -> u32 {
        if !self.named {
            return disk.info.boot.as_ref().map_or(0, |b| b.order);
        }
        std::mem::take(match disk.device {
            DiskDevice::Cdrom => &mut self.cdrom,
            DiskDevice::Floppy => &mut self.floppy,
            DiskDevice::Disk | DiskDevice::Lun => &mut self.disk,
        })
    }

    /// The place of the interface with that number.
    pub fn of_interface(&self, number: usize, interface: &Interface) -> u32 {
        match (self.named, number) {
            (false, _) => interface.info.boot.as_ref().map_or(0, |b| b.order),
            (true, 0) => self.network,
            (true, _) => 0,
        }
    }
}
