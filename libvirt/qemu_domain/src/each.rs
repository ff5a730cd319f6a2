//! All devices of a domain, one after the other.

use domain_xml::address::HasInfo;
use domain_xml::interface::InterfaceType;
use domain_xml::{Devices, Domain, Error, Result};

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

/// Calls `$visit` with every device; `$iter` is `iter` or, for devices that change, `iter_mut` with `mut`.
macro_rules! each_device {
    ($devices:expr, $iter:ident, $visit:expr $(, $change:tt)?) => {{
        let devices = $devices;
        macro_rules! visit_all {
            ($sort:ident, $field:ident) => {
                for (index, device) in devices.$field.$iter().enumerate() {
                    $visit(Sort::$sort, index, &$($change)? device.info);
                }
            };
        }
        visit_all!(Disk, disk);
        visit_all!(Interface, interface);
        visit_all!(Sound, sound);
        visit_all!(Hostdev, hostdev);
        visit_all!(Filesystem, filesystem);
        for (index, device) in devices.controller.$iter().enumerate() {
            $visit(Sort::Controller, index, device);
        }
        visit_all!(Smartcard, smartcard);
        visit_all!(Serial, serial);
        visit_all!(Parallel, parallel);
        visit_all!(Channel, channel);
        for (index, console) in devices.console.$iter().enumerate() {
            // The first console may be the first serial port again.
            let kind = console.target.as_ref().and_then(|target| target.kind.as_deref());
            if kind.is_some_and(|kind| kind != "serial") {
                $visit(Sort::Console, index, &$($change)? console.info);
            }
        }
        visit_all!(Input, input);
        visit_all!(Video, video);
        visit_all!(Redirdev, redirdev);
        visit_all!(Hub, hub);
        visit_all!(Watchdog, watchdog);
        visit_all!(Balloon, memballoon);
        visit_all!(Rng, rng);
        visit_all!(Shmem, shmem);
        visit_all!(Memory, memory);
        visit_all!(Tpm, tpm);
        visit_all!(Panic, panic);
        visit_all!(Iommu, iommu);
        visit_all!(Vsock, vsock);
    }};
}

/// Calls `visit` with every device: its sort, its place among its kind, and what all devices have.
pub fn device(domain: &mut Domain, mut visit: impl FnMut(Sort, usize, &mut dyn HasInfo)) {
    each_device!(&mut domain.devices, iter_mut, visit, mut);
}

/// Refuses a name that a user gave to two devices, which may stand in several places.
///
/// # Errors
/// It names it.
pub fn names_are_unique(places: &[&Devices]) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    let mut twice = None;
    for devices in places {
        each_device!(*devices, iter, |_, _, info: &dyn HasInfo| {
            let own = info.alias().as_ref().filter(|alias| crate::inactive::is_own(alias));
            if let Some(alias) = own
                && !names.insert(alias.name.clone())
            {
                twice.get_or_insert_with(|| alias.name.clone());
            }
        });
    }
    twice.map_or(Ok(()), |name| Err(Error::unsupported(format!("non unique alias detected: {name}"))))
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
