//! All devices of a domain, one after the other.

use domain_xml::Domain;
use domain_xml::address::HasInfo;
use domain_xml::interface::InterfaceType;

/// What sort of device an alias or address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A disk.
    Disk,
    /// A network interface.
    Interface,
    /// A sound card.
    Sound,
    /// A device of the host.
    Hostdev,
    /// A shared file system.
    Filesystem,
    /// A controller.
    Controller,
    /// A smart card.
    Smartcard,
    /// A serial port.
    Serial,
    /// A parallel port.
    Parallel,
    /// A channel.
    Channel,
    /// A console.
    Console,
    /// A keyboard or the like.
    Input,
    /// A graphics card.
    Video,
    /// A redirected device.
    Redirdev,
    /// A hub.
    Hub,
    /// The watchdog.
    Watchdog,
    /// The balloon.
    Balloon,
    /// A source of randomness.
    Rng,
    /// Shared memory.
    Shmem,
    /// A memory module.
    Memory,
    /// A security module.
    Tpm,
    /// A device that reports panics.
    Panic,
    /// Address translation.
    Iommu,
    /// Sockets.
    Vsock,
}

/// Calls `visit` with every device: its sort, its place among its kind, and what all devices have.
pub fn device(domain: &mut Domain, mut visit: impl FnMut(Sort, usize, &mut dyn HasInfo)) {
    let devices = &mut domain.devices;
    macro_rules! visit_all {
        ($($sort:ident $field:ident $($inner:ident)?,)*) => {$(
            for (index, device) in devices.$field.iter_mut().enumerate() {
                visit(Sort::$sort, index, &mut device$(.$inner)?);
            }
        )*};
    }
    macro_rules! visit_controllers {
        () => {
            for (index, device) in devices.controller.iter_mut().enumerate() {
                visit(Sort::Controller, index, device);
            }
        };
    }
    visit_all! { Disk disk info, Interface interface info, Sound sound info, Hostdev hostdev info, Filesystem filesystem info, }
    visit_controllers!();
    visit_all! {
        Smartcard smartcard info, Serial serial info, Parallel parallel info, Channel channel info,
    }
    for (index, console) in devices.console.iter_mut().enumerate() {
        // The first console may be the first serial port again.
        let serial =
            console.target.as_ref().is_none_or(|target| target.kind.as_deref().is_none_or(|k| k == "serial"));
        if !serial {
            visit(Sort::Console, index, &mut console.info);
        }
    }
    visit_all! {
        Input input info, Video video info, Redirdev redirdev info, Hub hub info,
        Watchdog watchdog info, Balloon memballoon info, Rng rng info, Shmem shmem info, Memory memory info,
        Tpm tpm info, Panic panic info, Iommu iommu info, Vsock vsock info,
    }
}

/// The places in the order of boot devices that devices ask for.
pub fn boot_orders(domain: &Domain) -> Vec<u32> {
    let devices = &domain.devices;
    let mut orders: Vec<u32> = Vec::new();
    orders.extend(devices.disk.iter().filter_map(|disk| disk.info.boot.as_ref()).map(|boot| boot.order));
    orders.extend(devices.interface.iter().filter_map(|nic| nic.info.boot.as_ref()).map(|boot| boot.order));
    orders.extend(devices.hostdev.iter().filter_map(|host| host.info.boot.as_ref()).map(|boot| boot.order));
    orders.extend(devices.redirdev.iter().filter_map(|dev| dev.info.boot.as_ref()).map(|boot| boot.order));
    orders.extend(devices.filesystem.iter().filter_map(|fs| fs.info.boot.as_ref()).map(|boot| boot.order));
    orders
}

/// Whether the interface is a device of the host.
pub fn is_hostdev(kind: InterfaceType) -> bool {
    kind == InterfaceType::Hostdev
}
