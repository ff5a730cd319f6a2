//! Disks.

use domain_xml::address::Address;
use domain_xml::disk::{
    Cache, DetectZeroes, Discard, Disk, DiskBus, DiskDevice, DiskDriver, ErrorPolicy, Io, IoTune,
};
use domain_xml::source::{DiskFormat, Encryption, EncryptionEngine, Protocol, Source, SourceType};
use domain_xml::words::YesNo;
use domain_xml::{Code, Domain, DriveAddress, Error, Result};

/// Sorts and completes the disks.
pub fn complete(domain: &mut Domain) -> Result<()> {
    let mut sorted: Vec<Disk> = Vec::new();
    for disk in std::mem::take(&mut domain.devices.disk) {
        let place = position(&sorted, &disk);
        sorted.insert(place, disk);
    }
    for disk in &mut sorted {
        complete_one(disk)?;
    }
    expand_groups(&mut sorted);
    domain.devices.disk = sorted;
    for index in 0..domain.devices.disk.len() {
        address(domain, index)?;
    }
    Ok(())
}

/// Where a disk stands among those of its bus: after those whose names come before.
fn position(disks: &[Disk], disk: &Disk) -> usize {
    let number = name_index(disk.dev());
    let mut place = None;
    for (index, other) in disks.iter().enumerate().rev() {
        if other.bus() == disk.bus() {
            if name_index(other.dev()) > number {
                place = Some(index);
            } else if place.is_none() {
                place = Some(index + 1);
            }
        }
    }
    place.unwrap_or(disks.len())
}

/// The number of a disk's name: `sda` is 0, `sdb` 1, `sdaa` 26; none if it is no such name.
pub fn name_index(name: &str) -> Option<u32> {
    let letters =
        ["fd", "hd", "vd", "sd", "xvd", "ubd"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || letters.len() > 6 || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let number = letters.bytes().fold(0_u32, |sum, byte| sum * 26 + u32::from(byte - b'a') + 1);
    Some(number - 1)
}

fn engine(encryption: &mut Option<Encryption>) {
    if let Some(encryption) = encryption {
        encryption.engine.get_or_insert(EncryptionEngine::Qemu);
    }
}

/// A path without a number means the first unit of an iSCSI target.
pub fn iscsi_path(source: &mut Source) {
    default_ports(source);
    if source.protocol == Some(Protocol::Iscsi)
        && let Some(name) = &mut source.name
        && !name.contains('/')
    {
        name.push_str("/0");
    }
}

/// Servers listen where their protocol's do.
fn default_ports(source: &mut Source) {
    let port = match source.protocol {
        Some(Protocol::Http) => 80,
        Some(Protocol::Https) => 443,
        Some(Protocol::Ftp) => 21,
        Some(Protocol::Ftps) => 990,
        Some(Protocol::Tftp) => 69,
        Some(Protocol::Sheepdog) => 7000,
        Some(Protocol::Nbd) => 10809,
        Some(Protocol::Ssh) => 22,
        Some(Protocol::Iscsi) => 3260,
        Some(Protocol::Gluster) => 24007,
        Some(Protocol::Vxhs) => 9999,
        _ => return,
    };
    for host in &mut source.host {
        if host.transport.is_none_or(|transport| transport == domain_xml::source::Transport::Tcp) {
            host.port.get_or_insert(port);
        }
    }
}

fn complete_one(disk: &mut Disk) -> Result<()> {
    let device = disk.device;
    if disk.source.is_none() {
        if !matches!(device, DiskDevice::Cdrom | DiskDevice::Floppy) {
            return Err(Error { code: Code::NoSource, detail: disk.dev().to_owned() });
        }
        disk.kind = SourceType::File;
    }
    let Some(target) = &mut disk.target else {
        let source = disk.source.as_ref();
        let place = source.and_then(|own| own.file.clone().or(own.dev.clone()).or(own.name.clone()));
        return Err(Error { code: Code::NoTarget, detail: place.unwrap_or_default() });
    };
    if let Some(rest) = target.dev.strip_prefix("ioemu:") {
        target.dev = rest.to_owned();
    }
    if target.bus.is_none() {
        let by_name = match target.dev.as_str() {
            dev if dev.starts_with("sd") => DiskBus::Scsi,
            dev if dev.starts_with("vd") => DiskBus::Virtio,
            dev if dev.starts_with("xvd") => DiskBus::Xen,
            dev if dev.starts_with("ubd") => DiskBus::Uml,
            _ => DiskBus::Ide,
        };
        target.bus = Some(if device == DiskDevice::Floppy { DiskBus::Fdc } else { by_name });
    }
    if target.tray == Some(domain_xml::disk::Tray::Closed) {
        target.tray = None;
    }
    if disk.kind != SourceType::VhostUser {
        let driver = disk.driver.get_or_insert_with(DiskDriver::default);
        driver.name.get_or_insert_with(|| "qemu".to_owned());
        if disk.kind != SourceType::Volume {
            driver.format.get_or_insert(DiskFormat::Raw);
        }
    } else {
        let driver = disk.driver.get_or_insert_with(DiskDriver::default);
        driver.name.get_or_insert_with(|| "qemu".to_owned());
        driver.format.get_or_insert(DiskFormat::Raw);
        disk.snapshot.get_or_insert_with(|| "no".to_owned());
    }
    if let Some(driver) = &mut disk.driver {
        // That is what is so without a word.
        driver.cache = driver.cache.filter(|cache| *cache != Cache::Default);
        driver.error_policy = driver.error_policy.filter(|policy| *policy != ErrorPolicy::Default);
        driver.rerror_policy = driver.rerror_policy.filter(|policy| *policy != ErrorPolicy::Default);
        driver.io = driver.io.filter(|io| *io != Io::Default);
        driver.discard = driver.discard.filter(|discard| *discard != Discard::Default);
        driver.detect_zeroes = driver.detect_zeroes.filter(|detect| *detect != DetectZeroes::Default);
    }
    if device == DiskDevice::Cdrom {
        disk.read_only = true;
    }
    if disk.snapshot.as_deref() == Some("default") {
        disk.snapshot = None;
    }
    if disk.read_only && disk.snapshot.as_deref() == Some("no") {
        // That is what is meant without a word.
        disk.snapshot = None;
    }
    if let Some(source) = &mut disk.source {
        iscsi_path(source);
        if disk.kind == SourceType::Nvme {
            source.managed.get_or_insert(YesNo::Yes);
            source.kind = Some("pci".to_owned());
        }
        engine(&mut source.encryption);
    }
    engine(&mut disk.encryption);
    let mut link = disk.backing_store.as_mut();
    while let Some(store) = link {
        if let Some(source) = &mut store.source {
            engine(&mut source.encryption);
        }
        link = store.backing_store.as_mut();
    }
    Ok(())
}

fn limits(tune: &IoTune) -> bool {
    *tune != IoTune { group_name: tune.group_name.clone(), ..IoTune::default() }
}

/// A disk that only names a group has the limits of the group's other disks.
fn expand_groups(disks: &mut [Disk]) {
    for index in 0..disks.len() {
        let Some(tune) = &disks[index].iotune else { continue };
        let Some(group) = tune.group_name.clone().filter(|_| !limits(tune)) else { continue };
        let found = disks
            .iter()
            .filter_map(|disk| disk.iotune.as_ref())
            .find(|other| other.group_name.as_ref() == Some(&group) && limits(other));
        if let Some(found) = found.cloned() {
            disks[index].iotune = Some(found);
        }
    }
}

/// Gives the disk an address by its name, if it has none and its bus has such addresses.
fn address(domain: &mut Domain, index: usize) -> Result<()> {
    let disk = &domain.devices.disk[index];
    if disk.info.address.is_some() {
        return Ok(());
    }
    let Some(number) = name_index(disk.dev()) else {
        return Err(Error::xml(format!("Unknown disk name '{}' and no address specified", disk.dev())));
    };
    let drive = |controller, bus, unit| DriveAddress { controller, bus, target: 0, unit };
    let address = match disk.bus() {
        Some(DiskBus::Scsi) => drive(number / 7, 0, number % 7),
        Some(DiskBus::Ide) => drive(number / 4, number % 4 / 2, number % 2),
        Some(DiskBus::Sata) => drive(number / 6, 0, number % 6),
        Some(DiskBus::Fdc) => drive(number / 2, 0, number % 2),
        _ => return Ok(()),
    };
    let taken = disk.bus() == Some(DiskBus::Scsi)
        && domain.devices.hostdev.iter().any(|host| {
            host.kind == domain_xml::hostdev::HostdevType::Scsi
                && host.info.address == Some(Address::Drive(address))
        });
    if taken {
        return Err(Error::unsupported(format!(
            "using disk target name '{}' conflicts with SCSI host device address controller='{}' bus='0' target='0' unit='{}",
            disk.dev(),
            address.controller,
            address.unit
        )));
    }
    domain.devices.disk[index].info.address = Some(Address::Drive(address));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_names() {
        assert_eq!(name_index("hda"), Some(0));
        assert_eq!(name_index("sdz"), Some(25));
        assert_eq!(name_index("vdaa"), Some(26));
        assert_eq!(name_index("vdb3"), Some(1));
        assert_eq!(name_index("zda"), None);
        assert_eq!(name_index("sdaaaaaaaaaaaa"), None);
    }
}
