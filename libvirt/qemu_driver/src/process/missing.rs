//! What a guest that starts wants and cannot have: media that are not there, and what is not built.

use crate::core::Core;
use crate::error::{Result, invalid, unsupported, xml};
use crate::guest::Guest;
use crate::query::local_path;
use domain_xml::disk::{Disk, DiskDevice};
use domain_xml::hostdev::{HostdevAddress, HostdevMode, HostdevType};
use domain_xml::interface::{Interface, InterfaceType};
use domain_xml::words::YesNo;
use domain_xml::{Devices, Domain as Definition};
use rpc::DomainEvent;
use rpc::protocol::events::DomainEventDiskChangeMsg;
use std::path::Path;

/// Refuses by name what would be left out.
///
/// # Errors
/// Names it.
pub(super) fn refuse(definition: &Definition) -> Result<()> {
    let resource = definition.resource.as_ref();
    if resource.is_some_and(|resource| resource.fibrechannel.is_some()) {
        return Err(unsupported("application identifiers of Fibre Channel cannot be set yet"));
    }
    let untagged = |interface: &&Interface| {
        let may_be_tagged = matches!(
            interface.kind,
            InterfaceType::Network | InterfaceType::Bridge | InterfaceType::Direct | InterfaceType::Hostdev
        );
        interface.vlan.is_some() && !may_be_tagged
    };
    if let Some(interface) = definition.devices.interface.iter().find(untagged) {
        let mac = interface.mac.as_ref().map_or("", |mac| mac.address.as_str());
        let detail = format!("interface {mac} - vlan tag not supported for this connection type");
        return Err(unsupported(detail));
    }
    refuse_held(&definition.devices, Path::new(HOST_DEVICES))
}

/// Where the host's PCI devices and their drivers are found.
pub(super) const HOST_DEVICES: &str = "/sys/bus/pci/devices";

/// Refuses PCI devices of the host that vfio-pci does not have: a driver of the host would go on using them. `host`:
/// where the devices are.
///
/// # Errors
/// Names the device.
pub(super) fn refuse_held(devices: &Devices, host: &Path) -> Result<()> {
    let assigned = devices.hostdev.iter().filter_map(|device| {
        let pci = device.mode == HostdevMode::Subsystem && device.kind == HostdevType::Pci;
        pci.then_some((device.source.as_ref()?.address.as_ref()?, device.managed))
    });
    let functions = devices.interface.iter().filter_map(|interface| {
        let address = interface.source.as_ref()?.device.as_ref()?;
        (interface.kind == InterfaceType::Hostdev).then_some((address, interface.managed))
    });
    for (address, managed) in assigned.chain(functions) {
        let HostdevAddress::Pci { address, .. } = address else { continue };
        let number = |value: Option<u64>| value.unwrap_or(0);
        let name = format!(
            "{:04x}:{:02x}:{:02x}.{:x}",
            number(address.domain.map(|value| value.0)),
            number(address.bus.map(|value| value.0)),
            number(address.slot.map(|value| value.0)),
            number(address.function.map(|value| value.0)),
        );
        let driver = std::fs::read_link(host.join(&name).join("driver")).ok();
        let held = driver.as_deref().and_then(Path::file_name).filter(|driver| *driver != "vfio-pci");
        match (held, managed) {
            (None, _) => {}
            (Some(driver), Some(YesNo::Yes)) => {
                return Err(unsupported(format!(
                    "PCI device {name} is in the hands of driver {}; it cannot be given to vfio-pci yet",
                    driver.display()
                )));
            }
            (Some(_), _) => {
                let detail = format!("Unmanaged PCI device {name} must be manually detached from the host");
                return Err(invalid(detail));
            }
        }
    }
    Ok(())
}

/// A medium or disk that is left out: its path, the disk's alias, and whether the whole disk is.
pub(super) struct Dropped {
    path: String,
    alias: String,
    whole: bool,
}

/// Whether the guest may start without the disk's source.
fn is_optional(disk: &Disk, restored: bool) -> bool {
    match disk.source.as_ref().and_then(|source| source.startup_policy.as_deref()) {
        Some("optional") => true,
        Some("requisite") => restored,
        _ => false,
    }
}

/// Takes out media, and disks, whose files are not there and that the guest may start without. `restored`: it goes on
/// from a saved state.
///
/// # Errors
/// The devices cannot be named.
pub(super) fn drop_media(definition: &mut Definition, restored: bool) -> Result<Vec<Dropped>> {
    let is_missing = |disk: &Disk| {
        is_optional(disk, restored) && local_path(disk).is_some_and(|path| !Path::new(path).exists())
    };
    if !definition.devices.disk.iter().any(is_missing) {
        return Ok(Vec::new());
    }
    let mut named = definition.clone();
    qemu_domain::alias::assign(&mut named).map_err(|error| xml(&error))?;
    let dropped = named.devices.disk.iter().filter(|disk| is_missing(disk)).map(|disk| Dropped {
        path: local_path(disk).unwrap_or_default().to_owned(),
        alias: crate::definition::disk_alias(disk).unwrap_or_default().to_owned(),
        whole: !is_removable(disk),
    });
    let dropped: Vec<Dropped> = dropped.collect();
    definition.devices.disk.retain(|disk| !is_missing(disk) || is_removable(disk));
    for disk in definition.devices.disk.iter_mut().filter(|disk| is_missing(disk)) {
        disk.source = None;
        disk.backing_store = None;
    }
    Ok(dropped)
}

fn is_removable(disk: &Disk) -> bool {
    matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy)
}

/// Tells clients what was left out.
pub(super) fn tell(core: &Core, guest: &Guest, dropped: Vec<Dropped>) {
    /// Details of the event.
    const MEDIUM_MISSING: i32 = 0;
    const DISK_DROPPED: i32 = 1;
    for one in dropped {
        core.event(DomainEvent::DiskChange(DomainEventDiskChangeMsg {
            dom: guest.reference(),
            old_src_path: Some(one.path),
            new_src_path: None,
            dev_alias: one.alias,
            reason: if one.whole { DISK_DROPPED } else { MEDIUM_MISSING },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(devices: &str) -> Definition {
        let text = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type machine='pc'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        domain_xml::parse(&text).expect("xml")
    }

    #[test]
    fn media_that_are_not_there() {
        let disk = |device: &str, dev: &str, policy: &str, file: &str| {
            format!(
                "<disk type='file' device='{device}'><source file='{file}' startupPolicy='{policy}'/>\
                 <target dev='{dev}' bus='ide'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
            )
        };
        let mut it = definition(
            &(disk("cdrom", "hda", "optional", "/nonexistent/a")
                + &disk("disk", "hdb", "optional", "/nonexistent/b")
                + &disk("cdrom", "hdc", "requisite", "/nonexistent/c")
                + &disk("cdrom", "hdd", "optional", "/")),
        );
        let dropped = drop_media(&mut it, false).expect("names");
        let told: Vec<_> = dropped.iter().map(|one| (one.path.as_str(), one.whole)).collect();
        assert_eq!(told, [("/nonexistent/a", false), ("/nonexistent/b", true)]);
        let left: Vec<_> = it.devices.disk.iter().map(|disk| (disk.dev(), disk.source.is_some())).collect();
        assert_eq!(left, [("hda", false), ("hdc", true), ("hdd", true)]);
        assert_eq!(drop_media(&mut it, true).expect("names").len(), 1);
    }

    #[test]
    fn what_is_not_built_is_named() {
        let refused = |devices: &str| refuse(&definition(devices)).expect_err("refused").to_string();
        assert!(
            refused("<interface type='user'><vlan><tag id='3'/></vlan></interface>")
                .ends_with("vlan tag not supported for this connection type")
        );
        refuse(&definition("<interface type='user'/>")).expect("fine");
    }

    #[test]
    fn host_devices_have_to_be_vfio_pcis() {
        let host = std::env::temp_dir().join(format!("host-devices-{}", std::process::id()));
        for (device, driver) in [("0000:06:12.5", "e1000"), ("0000:06:12.6", "vfio-pci")] {
            let place = host.join(device);
            std::fs::create_dir_all(&place).expect("device");
            std::os::unix::fs::symlink(format!("../../drivers/{driver}"), place.join("driver"))
                .expect("driver");
        }
        let check = |kind: &str, managed: &str, function: u32| {
            let address = format!("<address type='pci' bus='6' slot='18' function='{function}'/>");
            let devices = match kind {
                "pci" => format!(
                    "<hostdev mode='subsystem' type='pci' managed='{managed}'><source>{address}</source></hostdev>"
                ),
                _ => format!(
                    "<interface type='hostdev' managed='{managed}'><source>{address}</source></interface>"
                ),
            };
            refuse_held(&definition(&devices).devices, &host).map_err(|error| error.to_string())
        };
        for kind in ["pci", "interface"] {
            let unmanaged = check(kind, "no", 5).expect_err("held");
            assert!(unmanaged.ends_with("PCI device 0000:06:12.5 must be manually detached from the host"));
            assert!(check(kind, "yes", 5).expect_err("held").contains("driver e1000"));
            // Vfio-pci's, and one that has no driver.
            check(kind, "yes", 6).expect("fine");
            check(kind, "no", 7).expect("fine");
        }
        std::fs::remove_dir_all(&host).expect("removed");
    }
}
