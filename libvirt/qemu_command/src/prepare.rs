//! What is settled when a guest starts: the numbers of its block devices, its ports, what it boots from.

use crate::block::is_empty;
use crate::{Host, Result, Settings};
use domain_xml::Domain;
use domain_xml::disk::{Disk, DiskDevice};
use domain_xml::graphics::{GraphicsType, Listen, ListenType};
use domain_xml::interface::Interface;
use domain_xml::os::BootDevice;
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

/// Numbers the sources of all disks that have none yet: the last disk's first, each chain from the top down.
/// `next` is the first free number; the new first free number is returned.
pub fn number_sources(domain: &mut Domain, mut next: u32) -> u32 {
    let disks = domain.devices.disk.iter_mut().rev();
    for disk in disks {
        next = number_disk(disk, next);
    }
    next
}

/// Numbers the sources of one disk.
pub fn number_disk(disk: &mut Disk, mut next: u32) -> u32 {
    if disk.kind == SourceType::VhostUser || is_empty(disk.kind, disk.source.as_ref()) {
        return next;
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

/// Gives displays their addresses and ports.
///
/// # Errors
/// There is no free port.
pub fn displays(
    domain: &mut Domain,
    defaults: &Displays,
    settings: &Settings,
    host: &mut dyn Host,
) -> Result<()> {
    for graphics in &mut domain.devices.graphics {
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
                    graphics.tls_port = Some(host.port("spice")?.into());
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
