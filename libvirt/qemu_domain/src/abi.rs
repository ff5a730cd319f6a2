//! Whether a guest notices that another definition took the place of its own: what it sees must be the same, while
//! files, displays and connections of the host may differ.

use std::fmt::Display;

use domain_xml::address::{Address, HasInfo};
use domain_xml::words::YesNo;
use domain_xml::{Devices, Domain, Error, Result};

use crate::defaults::uuid_text;

/// Refuses `new` where the guest of `old` would see something else. `running`: what changes all the time does not
/// count.
///
/// # Errors
/// Names what differs, as `Target ... does not match source ...`.
pub fn check(old: &Domain, new: &Domain, running: bool) -> Result<()> {
    same("domain virt type", old.kind, new.kind)?;
    let uuid = |domain: &Domain| domain.uuid.as_deref().and_then(uuid_text).unwrap_or_default();
    same("domain uuid", uuid(old), uuid(new))?;
    alike("domain requested genid does not match source", &old.genid, &new.genid)?;
    quoted("domain name", old.name(), new.name())?;

    same("domain max memory", old.memory_kib(), new.memory_kib())?;
    let current = |domain: &Domain| domain.current_memory.map_or_else(|| domain.memory_kib(), |it| it.0);
    if !running {
        same("domain current memory", current(old), current(new))?;
    }
    let limit = |domain: &Domain| domain.max_memory.as_ref().map_or((0, 0), |max| (max.size.0, max.slots));
    let ((old_max, old_slots), (new_max, new_slots)) = (limit(old), limit(new));
    different(old_max == new_max, || {
        format!("maximum memory size '{new_max}' doesn't match source '{old_max}'")
    })?;
    different(old_slots == new_slots, || {
        format!("domain memory slots count '{new_slots}' doesn't match source '{old_slots}'")
    })?;
    processors(old, new)?;
    os(old, new)?;
    alike("domain features do not match source", &old.features, &new.features)?;
    alike("domain CPU does not match source", &old.cpu, &new.cpu)?;
    let timers = |domain: &Domain| domain.clock.as_ref().map(|clock| clock.timer.clone()).unwrap_or_default();
    alike("domain timers do not match source", &timers(old), &timers(new))?;
    alike("sysinfo does not match source", &old.sysinfo, &new.sysinfo)?;
    devices(&old.devices, &new.devices)
}

fn different(fine: bool, what: impl FnOnce() -> String) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::unsupported(format!("Target {}", what()))) }
}

fn alike<T: PartialEq>(what: &str, old: &T, new: &T) -> Result<()> {
    different(old == new, || what.to_owned())
}

fn same<T: PartialEq + Display>(what: &str, old: T, new: T) -> Result<()> {
    different(old == new, || format!("{what} {new} does not match source {old}"))
}

fn quoted(what: &str, old: &str, new: &str) -> Result<()> {
    different(old == new, || format!("{what} '{new}' does not match source '{old}'"))
}

fn same_or_none<T: PartialEq + Display>(what: &str, old: Option<T>, new: Option<T>) -> Result<()> {
    let text = |value: &Option<T>| value.as_ref().map_or_else(|| "<null>".to_owned(), T::to_string);
    different(old == new, || format!("{what} {} does not match source {}", text(&new), text(&old)))
}

/// Words of a declared list; `none` for what is not given.
fn word<T: Display>(what: &str, old: &Option<T>, new: &Option<T>, none: &str) -> Result<()> {
    let text = |value: &Option<T>| value.as_ref().map_or_else(|| none.to_owned(), T::to_string);
    same::<String>(what, text(old), text(new))
}

/// Each virtual processor: whether it is there, and when it came.
fn vcpus(domain: &Domain) -> Vec<(bool, u32)> {
    let (most, now) =
        domain.vcpu.as_ref().map_or((1, 1), |vcpu| (vcpu.count, vcpu.current.unwrap_or(vcpu.count)));
    let one_by_one = |id: u32| {
        let states = domain.vcpus.as_ref()?;
        let state = states.vcpu.iter().find(|state| state.id == id)?;
        Some((state.enabled == YesNo::Yes, state.order.unwrap_or(0)))
    };
    (0..most).map(|id| one_by_one(id).unwrap_or((id < now, 0))).collect()
}

fn processors(old: &Domain, new: &Domain) -> Result<()> {
    let (old_vcpus, new_vcpus) = (vcpus(old), vcpus(new));
    same("domain vCPU max", old_vcpus.len(), new_vcpus.len())?;
    for (at, (old, new)) in old_vcpus.iter().zip(&new_vcpus).enumerate() {
        if old.0 != new.0 {
            let detail = format!("State of vCPU '{at}' differs between source and destination definitions");
            return Err(Error::unsupported(detail));
        }
        if old.1 != new.1 {
            let detail = format!(
                "vcpu enable order of vCPU '{at}' differs between source and destination definitions"
            );
            return Err(Error::unsupported(detail));
        }
    }
    let threads = |domain: &Domain| domain.iothreads.unwrap_or(0);
    same("domain iothreads count", threads(old), threads(new))
}

fn os(old: &Domain, new: &Domain) -> Result<()> {
    let kind = |domain: &Domain| {
        let kind = domain.os.kind.clone().unwrap_or_default();
        (kind.name, kind.arch.unwrap_or_default(), kind.machine.unwrap_or_default())
    };
    let (old_kind, new_kind) = (kind(old), kind(new));
    same("domain OS type", old_kind.0, new_kind.0)?;
    same("domain architecture", old_kind.1, new_kind.1)?;
    same("domain machine type", old_kind.2, new_kind.2)?;
    let smbios = |domain: &Domain| domain.os.smbios.as_ref().map(|it| it.mode);
    word("domain SMBIOS mode", &smbios(old), &smbios(new), "<null>")
}

/// The devices of one kind, pair by pair.
fn each<T: HasInfo>(what: &str, old: &[T], new: &[T], check: impl Fn(&T, &T) -> Result<()>) -> Result<()> {
    infos(what, old, new, |device| device, check)
}

fn infos<T, I: HasInfo>(
    what: &str,
    old: &[T],
    new: &[T],
    info: impl Fn(&T) -> &I,
    check: impl Fn(&T, &T) -> Result<()>,
) -> Result<()> {
    same(&format!("domain {what} count"), old.len(), new.len())?;
    for (old, new) in old.iter().zip(new) {
        check(old, new)?;
        place(info(old), info(new))?;
    }
    Ok(())
}

/// Where a device sits.
fn place(old: &impl HasInfo, new: &impl HasInfo) -> Result<()> {
    let kind = |address: &Option<Address>| match address {
        None | Some(Address::Unassigned(_)) => "none",
        Some(Address::Pci(_)) => "pci",
        Some(Address::Drive(_)) => "drive",
        Some(Address::VirtioSerial(_)) => "virtio-serial",
        Some(Address::Ccid(_)) => "ccid",
        Some(Address::Usb(_)) => "usb",
        Some(Address::Isa(_)) => "isa",
        Some(Address::Dimm(_)) => "dimm",
        Some(Address::VirtioMmio(_)) => "virtio-mmio",
        Some(Address::SpaprVio(_)) => "spapr-vio",
    };
    same("device address type", kind(old.address()), kind(new.address()))?;
    match (old.address(), new.address()) {
        (Some(Address::Pci(old)), Some(Address::Pci(new))) => {
            let text = |at: &domain_xml::PciAddress| {
                let (domain, bus, slot, function) = at.place();
                format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}")
            };
            different(old.place() == new.place(), || {
                format!("device PCI address {} does not match source {}", text(new), text(old))
            })?;
        }
        (Some(Address::Drive(old)), Some(Address::Drive(new))) => {
            let text = |at: &domain_xml::DriveAddress| format!("{}:{}:{}", at.controller, at.bus, at.unit);
            different(old == new, || {
                format!("device drive address {} does not match source {}", text(new), text(old))
            })?;
        }
        (old, new) => alike("device address does not match source", old, new)?,
    }
    let index = |info: Option<u32>| info.unwrap_or(0).to_string();
    quoted("ACPI index", &index(old.acpi_index()), &index(new.acpi_index()))
}

fn devices(old: &Devices, new: &Devices) -> Result<()> {
    infos(
        "disk",
        &old.disk,
        &new.disk,
        |it| &it.info,
        |old, new| {
            same("disk device", old.device, new.device)?;
            word("disk bus", &old.bus(), &new.bus(), "none")?;
            same("disk", old.dev(), new.dev())?;
            same_or_none("disk serial", old.serial.as_ref(), new.serial.as_ref())?;
            same_or_none("disk wwn", old.wwn.as_ref(), new.wwn.as_ref())?;
            let access = |disk: &domain_xml::disk::Disk| (disk.read_only, disk.shareable);
            alike("disk access mode does not match source", &access(old), &access(new))?;
            word("disk model", &old.model, &new.model, "default")?;
            let queues = |disk: &domain_xml::disk::Disk| {
                disk.driver.as_ref().map_or((None, None), |driver| (driver.queues, driver.queue_size))
            };
            same_or_none("disk queue count", queues(old).0, queues(new).0)?;
            same_or_none("disk queue size", queues(old).1, queues(new).1)
        },
    )?;
    each("controller", &old.controller, &new.controller, |old, new| {
        same("controller type", old.kind, new.kind)?;
        same("controller index", old.index(), new.index())?;
        same("controller model", old.model(), new.model())?;
        same_or_none("controller ports", old.ports, new.ports)?;
        same_or_none("controller vectors", old.vectors, new.vectors)
    })?;
    infos(
        "filesystem",
        &old.filesystem,
        &new.filesystem,
        |it| &it.info,
        |old, new| {
            let target = |it: &domain_xml::misc::Filesystem| it.target.as_ref().map(|it| it.dir.clone());
            same_or_none("filesystem guest target", target(old), target(new))?;
            alike("filesystem access mode does not match source", &old.read_only, &new.read_only)?;
            alike("filesystem model does not match source", &old.model, &new.model)
        },
    )?;
    infos(
        "net card",
        &old.interface,
        &new.interface,
        |it| &it.info,
        |old, new| {
            let mac = |it: &domain_xml::interface::Interface| it.mac.as_ref().map(|it| it.address.clone());
            same_or_none("network card mac", mac(old), mac(new))?;
            same("network card model", old.model(), new.model())?;
            let mtu = |it: &domain_xml::interface::Interface| it.mtu.as_ref().map(|mtu| mtu.size);
            same_or_none("network card MTU", mtu(old), mtu(new))
        },
    )?;
    infos(
        "input device",
        &old.input,
        &new.input,
        |it| &it.info,
        |old, new| {
            same("input device type", old.kind, new.kind)?;
            word("input device bus", &old.bus, &new.bus, "default")?;
            same_or_none("input model", old.model.as_ref(), new.model.as_ref())
        },
    )?;
    infos(
        "sound card",
        &old.sound,
        &new.sound,
        |it| &it.info,
        |old, new| same("sound card model", old.model, new.model),
    )?;
    infos(
        "video card",
        &old.video,
        &new.video,
        |it| &it.info,
        |old, new| {
            same("video card model", old.kind(), new.kind())?;
            alike("video card memory or heads do not match source", &old.model, &new.model)
        },
    )?;
    infos(
        "host device",
        &old.hostdev,
        &new.hostdev,
        |it| &it.info,
        |old, new| {
            same("host device mode", old.mode, new.mode)?;
            same("host device subsystem", old.kind, new.kind)
        },
    )?;
    infos("smartcard", &old.smartcard, &new.smartcard, |it| &it.info, |_, _| Ok(()))?;
    characters(old, new)?;
    infos("hub device", &old.hub, &new.hub, |it| &it.info, |_, _| Ok(()))?;
    infos(
        "redirected devices",
        &old.redirdev,
        &new.redirdev,
        |it| &it.info,
        |old, new| same("redirected device bus", &old.bus, &new.bus),
    )?;
    alike("USB redirection filter does not match source", &old.redirfilter, &new.redirfilter)?;
    infos(
        "watchdog",
        old.watchdog.as_slice(),
        new.watchdog.as_slice(),
        |it| &it.info,
        |old, new| same("watchdog model", old.model, new.model),
    )?;
    infos(
        "memory balloon",
        old.memballoon.as_slice(),
        new.memballoon.as_slice(),
        |it| &it.info,
        |old, new| {
            same("balloon model", old.model, new.model)?;
            alike("balloon autodeflate attribute does not match source", &old.autodeflate, &new.autodeflate)?;
            let reports = |it: &domain_xml::misc::Balloon| it.free_page_reporting;
            alike("balloon freePageReporting attribute does not match source", &reports(old), &reports(new))
        },
    )?;
    infos(
        "RNG device",
        &old.rng,
        &new.rng,
        |it| &it.info,
        |old, new| same("RNG model", old.model, new.model),
    )?;
    infos(
        "panic device",
        &old.panic,
        &new.panic,
        |it| &it.info,
        |old, new| word("panic model", &old.model, &new.model, "default"),
    )?;
    infos(
        "shared memory device",
        &old.shmem,
        &new.shmem,
        |it| &it.info,
        |old, new| {
            let seen =
                |it: &domain_xml::misc::Shmem| (it.role.clone(), it.model.clone(), it.size, it.msi.clone());
            alike("shared memory does not match source", &seen(old), &seen(new))
        },
    )?;
    infos(
        "TPM device",
        &old.tpm,
        &new.tpm,
        |it| &it.info,
        |old, new| {
            alike("TPM device model doesn't match source", &old.model, &new.model)?;
            let seen = |it: &domain_xml::misc::Tpm| {
                it.backend.as_ref().map(|it| (it.kind, it.version.clone(), it.active_pcr_banks.clone()))
            };
            alike("TPM device type doesn't match source", &seen(old), &seen(new))
        },
    )?;
    infos(
        "memory device",
        &old.memory,
        &new.memory,
        |it| &it.info,
        |old, new| {
            same("memory device model", old.model, new.model)?;
            alike("memory device does not match source", &old.target, &new.target)
        },
    )?;
    infos(
        "IOMMU device",
        old.iommu.as_slice(),
        new.iommu.as_slice(),
        |it| &it.info,
        |old, new| {
            same("domain IOMMU device model", old.model, new.model)?;
            alike("domain IOMMU device does not match source", &old.driver, &new.driver)
        },
    )?;
    infos(
        "vsock device",
        old.vsock.as_slice(),
        new.vsock.as_slice(),
        |it| &it.info,
        |old, new| word("domain vsock device model", &old.model, &new.model, "default"),
    )
}

fn characters(old: &Devices, new: &Devices) -> Result<()> {
    use domain_xml::chardev::CharDevice;
    let target = |it: &CharDevice| it.target.clone().unwrap_or_default();
    let check = |what: &'static str| {
        move |old: &CharDevice, new: &CharDevice| {
            let (old, new) = (target(old), target(new));
            same_or_none(&format!("{what} type"), old.kind.as_ref(), new.kind.as_ref())?;
            same_or_none(&format!("{what} port"), old.port, new.port)?;
            same_or_none(&format!("{what} name"), old.name.as_ref(), new.name.as_ref())?;
            same_or_none(&format!("{what} addr"), old.address.as_ref(), new.address.as_ref())?;
            let model = |it: Option<domain_xml::source::Named>| it.map(|it| it.name);
            same_or_none(&format!("{what} model"), model(old.model), model(new.model))
        }
    };
    infos("serial port", &old.serial, &new.serial, |it| &it.info, check("serial"))?;
    infos("parallel port", &old.parallel, &new.parallel, |it| &it.info, check("parallel"))?;
    infos("channel", &old.channel, &new.channel, |it| &it.info, check("channel"))?;
    infos("console", &old.console, &new.console, |it| &it.info, check("console"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(change: &[(&str, &str)]) -> Domain {
        let mut text = "<domain type='kvm'><name>a</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\
            <memory>1024</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
            <disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/>\
            <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/></disk>\
            <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>\
            </devices></domain>"
            .to_owned();
        for (from, to) in change {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        domain_xml::parse(&text).unwrap()
    }

    #[test]
    fn what_the_guest_sees_stays() {
        let old = domain(&[]);
        check(&old, &old, false).unwrap();
        check(&old, &domain(&[("'/a'", "'/b'"), ("type='user'", "type='ethernet'")]), false).unwrap();
        let refused = |from: &str, to: &str| check(&old, &domain(&[(from, to)]), false).unwrap_err().detail;
        assert_eq!(refused("<name>a", "<name>b"), "Target domain name 'b' does not match source 'a'");
        assert_eq!(refused("'pc'", "'q35'"), "Target domain machine type q35 does not match source pc");
        assert_eq!(
            refused("bus='virtio'", "bus='scsi'"),
            "Target disk bus scsi does not match source virtio"
        );
        assert_eq!(
            refused("slot='0x03'", "slot='0x04'"),
            "Target device PCI address 0000:00:04.0 does not match source 0000:00:03.0"
        );
        assert_eq!(
            refused("00:01'/>", "00:02'/>"),
            "Target network card mac 52:54:00:00:00:02 does not match source 52:54:00:00:00:01"
        );
        assert_eq!(
            refused("<memory>1024", "<memory>2048"),
            "Target domain max memory 2048 does not match source 1024"
        );
        assert_eq!(
            refused("</devices>", "<rng model='virtio'/></devices>"),
            "Target domain RNG device count 1 does not match source 0"
        );
    }
}
