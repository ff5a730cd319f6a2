//! Disks.

use domain_xml::address::{Address, HasInfo};
use domain_xml::disk::{Disk, DiskBus, DiskDevice};
use domain_xml::hostdev::HostdevType;
use domain_xml::source::{
    DiskFormat, Encryption, EncryptionEngine, EncryptionFormat, Protocol, Secret, SourceType,
};
use domain_xml::{Domain, DriveAddress, Error, Result};

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

pub fn check(domain: &Domain) -> Result<()> {
    for disk in &domain.devices.disk {
        if disk.kind == SourceType::VhostUser {
            user(disk)?;
        }
        if disk.sgio.as_deref() == Some("unfiltered") {
            return unsupported("unfiltered sgio is no longer supported");
        }
        target(disk)?;
        model(disk)?;
        format(disk)?;
        secrets(disk)?;
        address(disk)?;
        kind(disk)?;
    }
    let disks = &domain.devices.disk;
    for check in [same_target, same_address] {
        for (index, disk) in disks.iter().enumerate() {
            disks[..index].iter().try_for_each(|other| check(other, disk))?;
        }
    }
    host_devices(domain)
}

/// The place of a disk's data, for messages.
fn place(disk: &Disk) -> &str {
    let source = disk.source.as_ref().and_then(|source| {
        source.file.as_deref().or(source.dev.as_deref()).or(source.dir.as_deref()).or(source.name.as_deref())
    });
    source.unwrap_or("(null)")
}

/// A disk that another program serves has hardly any options.
fn user(disk: &Disk) -> Result<()> {
    if disk.bus() != Some(DiskBus::Virtio) {
        return unsupported("vhostuser disk supports only virtio bus");
    }
    if disk.snapshot.as_deref() != Some("no") {
        return unsupported("only snapshot=no is supported with vhostuser disk");
    }
    let none = domain_xml::disk::DiskDriver::default();
    let driver = disk.driver.as_ref().unwrap_or(&none);
    let source = disk.source.as_ref();
    let options = [
        ("cache", driver.cache.is_some()),
        ("error_policy", driver.error_policy.is_some() || driver.rerror_policy.is_some()),
        ("io", driver.io.is_some()),
        ("ioeventfd", driver.ioeventfd.is_some()),
        ("copy_on_read", driver.copy_on_read.is_some()),
        ("discard", driver.discard.is_some()),
        ("iothread", driver.iothread.is_some()),
        ("detect_zeroes", driver.detect_zeroes.is_some()),
        ("metadata_cache", driver.metadata_cache.is_some()),
        ("iotune", disk.iotune.is_some()),
        ("backingStore", disk.backing_store.is_some()),
        ("encryption", disk.encryption.is_some() || source.is_some_and(|it| it.encryption.is_some())),
        ("readonly", disk.read_only),
        ("shareable", disk.shareable),
        ("transient", disk.transient.is_some()),
        ("serial", disk.serial.is_some()),
        ("wwn", disk.wwn.is_some()),
        ("vendor", disk.vendor.is_some()),
        ("product", disk.product.is_some()),
        ("auth", disk.auth.is_some() || source.is_some_and(|it| it.auth.is_some())),
        ("geometry", disk.geometry.is_some()),
        ("blockio", disk.blockio.is_some()),
    ];
    match options.iter().find(|(_, given)| *given) {
        Some((name, _)) => unsupported(format!("{name} is not supported with vhostuser disk")),
        None => Ok(()),
    }
}

fn target(disk: &Disk) -> Result<()> {
    let dev = disk.dev();
    let prefixes = ["fd", "hd", "vd", "sd", "xvd", "ubd"];
    let letters = prefixes.iter().find_map(|prefix| dev.strip_prefix(prefix));
    if letters.is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit())) {
        return unsupported(format!("invalid disk target '{dev}', partitions can't appear in disk targets"));
    }
    Ok(())
}

fn model(disk: &Disk) -> Result<()> {
    match (&disk.model, disk.bus()) {
        (Some(model), Some(bus)) if bus != DiskBus::Virtio => {
            unsupported(format!("disk model '{model}' not supported for bus '{bus}'"))
        }
        _ => Ok(()),
    }
}

fn format(disk: &Disk) -> Result<()> {
    let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    match format {
        DiskFormat::Cow => return unsupported("'cow' storage format is not supported"),
        DiskFormat::Iso => {
            return unsupported("storage format 'iso' is not directly supported by QEMU, use 'raw' instead");
        }
        DiskFormat::Dir => {
            return unsupported(
                "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead",
            );
        }
        _ => {}
    }
    if disk.shareable && format != DiskFormat::Raw && disk.kind != SourceType::Volume {
        return unsupported(format!(
            "shared access for disk '{}' requires use of supported storage format",
            disk.dev()
        ));
    }
    let encryption = disk.source.as_ref().and_then(|source| source.encryption.as_ref());
    let old = |own: &Encryption| matches!(own.format, EncryptionFormat::Qcow | EncryptionFormat::Default);
    if encryption.or(disk.encryption.as_ref()).is_some_and(old)
        && matches!(format, DiskFormat::Qcow | DiskFormat::Qcow2)
    {
        return unsupported("old qcow/qcow2 encryption is not supported");
    }
    if let Some(own) = encryption.or(disk.encryption.as_ref()) {
        encryption_fits(own, format)?;
    }
    Ok(())
}

fn encryption_fits(encryption: &Encryption, format: DiskFormat) -> Result<()> {
    let qemu = encryption.engine != Some(EncryptionEngine::Librbd);
    if qemu && !matches!(format, DiskFormat::Raw | DiskFormat::Qcow2) {
        return unsupported("encryption is supported only with 'raw' and 'qcow2' image format");
    }
    if encryption.cipher.is_some() {
        return unsupported("supplying <cipher> for domain disk definition is unnecessary");
    }
    Ok(())
}

fn secrets(disk: &Disk) -> Result<()> {
    let Some(source) = &disk.source else { return Ok(()) };
    if disk.auth.is_some() && source.auth.is_some() {
        return unsupported("an <auth> definition already found for disk source");
    }
    if disk.encryption.is_some() && source.encryption.is_some() {
        return unsupported("an <encryption> definition already found for disk source");
    }
    let auth = disk.auth.as_ref().or(source.auth.as_ref());
    let Some(Secret { kind, .. }) = auth.and_then(|auth| auth.secret.as_ref()) else { return Ok(()) };
    let wanted = match source.protocol {
        Some(Protocol::Iscsi) => "iscsi",
        Some(Protocol::Rbd) => "ceph",
        _ => return Ok(()),
    };
    match kind.as_deref() {
        None => unsupported("unknown secret type '<null>'"),
        Some(kind) if kind == wanted => Ok(()),
        Some(kind) => unsupported(format!("invalid secret type '{kind}'")),
    }
}

fn address(disk: &Disk) -> Result<()> {
    let (Some(address), Some(bus)) = (&disk.info.address, disk.bus()) else { return Ok(()) };
    match (bus, address) {
        (DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi | DiskBus::Fdc, Address::Drive(_)) => Ok(()),
        (DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi | DiskBus::Fdc, other) => unsupported(format!(
            "Invalid address type '{}' for the disk '{}' with the bus type '{bus}'",
            other.word(),
            disk.dev()
        )),
        (DiskBus::Usb, Address::Usb(_)) => Ok(()),
        (DiskBus::Usb, _) => Err(Error::internal("unexpected address type for usb disk")),
        _ => Ok(()),
    }
}

fn kind(disk: &Disk) -> Result<()> {
    let iscsi = disk.kind == SourceType::Network
        && disk.source.as_ref().is_some_and(|source| source.protocol == Some(Protocol::Iscsi));
    let block = matches!(disk.kind, SourceType::Block | SourceType::Volume) || iscsi;
    if disk.device == DiskDevice::Lun && !block {
        return unsupported("disk device='lun' is only valid for block type disk source");
    }
    if (disk.vendor.is_some() || disk.product.is_some()) && disk.bus() != Some(DiskBus::Scsi) {
        return unsupported("Only scsi disk supports vendor and product");
    }
    Ok(())
}

fn same_target(first: &Disk, second: &Disk) -> Result<()> {
    if first.dev() == second.dev() {
        return Err(Error::xml(format!(
            "target '{}' duplicated for disk sources '{}' and '{}'",
            first.dev(),
            place(first),
            place(second)
        )));
    }
    Ok(())
}

fn same_address(first: &Disk, second: &Disk) -> Result<()> {
    if first.bus() == second.bus()
        && let (Some(one), Some(other)) = (first.info.drive(), second.info.drive())
        && one == other
    {
        return unsupported(format!(
            "Found duplicate drive address for disk with target name '{}' {}",
            first.dev(),
            position(one)
        ));
    }
    Ok(())
}

fn position(address: DriveAddress) -> String {
    let DriveAddress { controller, bus, target, unit } = address;
    format!("controller='{controller}' bus='{bus}' target='{target}' unit='{unit}'")
}

fn host_devices(domain: &Domain) -> Result<()> {
    let scsi = domain.devices.hostdev.iter().filter(|host| host.kind == HostdevType::Scsi);
    let all: Vec<DriveAddress> = scsi.filter_map(|host| host.info.drive()).collect();
    for (index, address) in all.iter().enumerate() {
        if all[..index].contains(address) {
            return unsupported(format!(
                "SCSI host address {} in use by another SCSI host device",
                position(*address)
            ));
        }
        let taken = domain
            .devices
            .disk
            .iter()
            .any(|disk| disk.bus() == Some(DiskBus::Scsi) && disk.info.drive() == Some(*address));
        if taken {
            return Err(Error::xml(format!(
                "SCSI host address {} in use by a SCSI disk",
                position(*address)
            )));
        }
    }
    Ok(())
}
