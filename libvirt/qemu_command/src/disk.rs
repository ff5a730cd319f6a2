//! Disks as the guest sees them.

use crate::block::{self, chain};
use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::Address;
use domain_xml::address::HasInfo as _;
use domain_xml::disk::{Disk, DiskBus, DiskDevice, ErrorPolicy};
use domain_xml::source::{Reconnect, SourceType};
use domain_xml::words::{OnOff, YesNo};

impl Builder<'_> {
    pub(crate) fn disks(&mut self) -> Result<()> {
        let disks = &self.devices().disk;
        for link in disks.iter().rev().flat_map(chain) {
            self.next_source = self.next_source.max(link.index + 1);
            if link.source.fdgroup.is_some() {
                self.disk_sets.insert(link.index, self.sets);
                self.sets += 1;
            }
        }
        let boot: Vec<u32> = disks.iter().map(|disk| self.boot.of_disk(disk)).collect();
        self.floppy_controller(&boot)?;
        for (disk, boot) in disks.iter().zip(boot) {
            // Disks that share an image and drop their changes are plugged once the guest is there.
            if disk.transient.as_ref().is_some_and(|t| t.share_backing == Some(YesNo::Yes)) {
                continue;
            }
            self.disk(disk, boot)?;
        }
        Ok(())
    }

    fn floppy_controller(&mut self, boot: &[u32]) -> Result<()> {
        let mut order = [0; 2];
        let mut there = false;
        for (disk, boot) in self.devices().disk.iter().zip(boot) {
            if disk.bus() == Some(DiskBus::Fdc) {
                there = true;
                let unit = disk.info.drive().map_or(0, |at| at.unit);
                order[usize::from(unit != 0)] = *boot;
            }
        }
        if !there {
            return Ok(());
        }
        if self.needs_floppy_controller() {
            let props =
                Props::device("isa-fdc").positive("bootindexA", order[0]).positive("bootindexB", order[1]);
            return self.device(props);
        }
        for (letter, order) in ['A', 'B'].into_iter().zip(order) {
            if order > 0 {
                self.option("-global", format!("isa-fdc.bootindex{letter}={order}"));
            }
        }
        Ok(())
    }

    /// q35 machines after 2.4 have none of their own.
    fn needs_floppy_controller(&self) -> bool {
        let machine = self.domain.machine();
        machine == "q35"
            || machine.strip_prefix("pc-q35-").is_some_and(|version| {
                !["2.0", "2.1", "2.2", "2.3", "1."].iter().any(|old| version.starts_with(old))
            })
    }

    fn disk(&mut self, disk: &Disk, boot: u32) -> Result<()> {
        let alias = disk.info.name();
        if disk.bus() == Some(DiskBus::Sd) {
            return self.memory_card(disk);
        }
        let translated = self.of_volume(disk)?;
        let disk = translated.as_ref().unwrap_or(disk);
        let links = chain(disk);
        let driver = disk.driver.as_ref();
        let mut drive = None;
        let mut chardev = None;
        if disk.kind == SourceType::VhostUser {
            let name = format!("chr-vu-{alias}");
            self.vhost_user_disk(disk, &name)?;
            chardev = Some(name);
        } else if let Some(top) = links.first() {
            self.chain_nodes(&links)?;
            let mut node = format!("libvirt-{}-format", top.index);
            if driver.and_then(|d| d.copy_on_read) == Some(OnOff::On) {
                let name = format!("libvirt-CoR-{}", disk.dev());
                let props = Props::default()
                    .put("driver", "copy-on-read")
                    .put("node-name", name.clone())
                    .put("file", node)
                    .put("discard", "unmap");
                self.option("-blockdev", props.argument());
                node = name;
            }
            drive = Some(node);
        }
        let props = self.disk_props(disk, drive, chardev, boot)?;
        self.device(props)
    }

    /// A disk that is a volume of a storage pool, with the volume in its place.
    fn of_volume(&mut self, disk: &Disk) -> Result<Option<Disk>> {
        let Some(source) = disk.source.as_ref().filter(|_| disk.kind == SourceType::Volume) else {
            return Ok(None);
        };
        let (Some(pool), Some(name)) = (&source.pool, &source.volume) else { return Ok(None) };
        let volume = self.host.volume(pool, name, source.mode)?;
        let mut disk = disk.clone();
        disk.kind = volume.kind;
        disk.auth = volume.auth;
        disk.source = Some(domain_xml::source::Source {
            index: source.index,
            encryption: source.encryption.clone(),
            slices: source.slices.clone(),
            ..volume.source
        });
        Ok(Some(disk))
    }

    /// Memory cards have no device that could be named.
    fn memory_card(&mut self, disk: &Disk) -> Result<()> {
        let source = disk.source.as_ref();
        let path = match disk.kind {
            SourceType::File => source.and_then(|s| s.file.as_deref()),
            SourceType::Block => source.and_then(|s| s.dev.as_deref()),
            other => {
                return Err(Error::unsupported(format!("disk type '{other}' is not supported for bus 'sd'")));
            }
        };
        let index = qemu_domain::disks::name_index(disk.dev()).unwrap_or(0);
        let mut text = path.map_or_else(String::new, |p| format!("file={},", crate::props::escape(p)));
        let driver = disk.driver.as_ref();
        let format = driver.and_then(|d| d.format).unwrap_or(domain_xml::source::DiskFormat::Raw);
        text += &format!("format={format},if=sd,index={index}");
        if disk.read_only {
            text += ",readonly=on";
        }
        if path.is_some() {
            let manner = block::Manner::of(disk);
            let words = [
                ("cache", manner.cache.map(|v| v.as_str())),
                ("copy-on-read", driver.and_then(|d| d.copy_on_read).map(OnOff::as_str)),
                ("discard", manner.discard.map(|v| v.as_str())),
                ("detect-zeroes", manner.detect_zeroes.map(|v| v.as_str())),
                ("aio", manner.io.map(|v| v.as_str())),
            ];
            for (name, value) in words {
                text += &value.map_or_else(String::new, |value| format!(",{name}={value}"));
            }
        }
        self.option("-drive", text);
        Ok(())
    }

    fn vhost_user_disk(&mut self, disk: &Disk, name: &str) -> Result<()> {
        let source = disk.source.as_ref();
        let path = source.and_then(|s| s.path.as_deref()).unwrap_or("");
        let mut text = format!("socket,id={name},path={}", crate::props::escape(path));
        if let Some(reconnect) = source.and_then(|s| s.reconnect.as_ref())
            && let Some(enabled) = reconnect.enabled
        {
            text += &crate::chardev::reconnect(&Reconnect { enabled, timeout: reconnect.timeout });
        }
        self.option("-chardev", text);
        Ok(())
    }

    /// The properties of a disk's device.
    pub(crate) fn disk_props(
        &self,
        disk: &Disk,
        drive: Option<String>,
        chardev: Option<String>,
        boot: u32,
    ) -> Result<Props> {
        let driver = disk.driver.as_ref();
        let alias = disk.info.name();
        let target = disk.target.as_ref();
        let mut device_id = None;
        let mut removable = None;
        let bus = disk.bus().ok_or_else(|| Error::internal("unsupported disk bus '' with device setup"))?;
        let mut props = match bus {
            DiskBus::Ide | DiskBus::Sata => {
                Props::device(if disk.device == DiskDevice::Cdrom { "ide-cd" } else { "ide-hd" })
            }
            DiskBus::Scsi => {
                if disk.device != DiskDevice::Lun {
                    // Guests were shown the name of the drive where there is no serial number, and still are.
                    device_id = Some(disk.serial.clone().unwrap_or_else(|| format!("drive-{alias}")));
                }
                Props::device(match disk.device {
                    DiskDevice::Lun => "scsi-block",
                    DiskDevice::Cdrom => "scsi-cd",
                    _ => "scsi-hd",
                })
            }
            DiskBus::Virtio => {
                let user = disk.kind == SourceType::VhostUser;
                let name = if user { "vhost-user-blk" } else { "virtio-blk" };
                let mut scsi = None;
                if !user && self.has("virtio-blk-pci.scsi") {
                    if disk.device == DiskDevice::Lun {
                        scsi = Some(true);
                    } else if !self.has("virtio-blk-pci.scsi.default.disabled") {
                        scsi = Some(false);
                    }
                }
                self.virtio(name, disk.model, &disk.info, driver.map(|d| d.virtio))?
                    .some(
                        "iothread",
                        driver.and_then(|d| d.iothread).filter(|n| *n > 0).map(|n| format!("iothread{n}")),
                    )
                    .switch("ioeventfd", driver.and_then(|d| d.ioeventfd))
                    .switch("event_idx", driver.and_then(|d| d.event_idx))
                    .some("scsi", scsi)
                    .positive("num-queues", driver.and_then(|d| d.queues).unwrap_or(0))
                    .positive("queue-size", driver.and_then(|d| d.queue_size).unwrap_or(0))
            }
            DiskBus::Usb => {
                if self.has("usb-storage.removable") {
                    removable = Some(target.and_then(|t| t.removable).unwrap_or(OnOff::Off));
                }
                Props::device("usb-storage")
            }
            DiskBus::Fdc => Props::device("floppy"),
            other => {
                return Err(Error::internal(format!("unsupported disk bus '{other}' with device setup")));
            }
        };
        props = match disk.info.address() {
            Some(Address::Drive(at)) => self.place_drive(props, bus, *at)?,
            _ => self.place(props, &disk.info)?,
        };
        let cache = driver.and_then(|d| d.cache).filter(|c| *c != domain_xml::disk::Cache::Default);
        let write_cache = cache
            .filter(|_| disk.device != DiskDevice::Lun)
            .map(|cache| OnOff::from(block::cache_flags(cache).0));
        let wwn = disk.wwn.as_deref().map(|text| {
            u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).map_err(|_| Error {
                code: xml::Code::InvalidArgument,
                detail: format!("Failed to parse wwn '{text}' as number"),
            })
        });
        let (write_error, read_error) = error_policies(disk);
        let block = disk.blockio.as_ref();
        let translation = disk.geometry.as_ref().and_then(|geometry| geometry.trans);
        Ok(props
            .some("device_id", device_id)
            .some("share-rw", disk.shareable.then_some(true))
            .some("drive", drive)
            .some("chardev", chardev)
            .put("id", alias)
            // Floppies have their place in the order from their controller.
            .positive("bootindex", if disk.device == DiskDevice::Floppy { 0 } else { boot })
            .positive("logical_block_size", block.and_then(|b| b.logical_block_size).unwrap_or(0))
            .positive("physical_block_size", block.and_then(|b| b.physical_block_size).unwrap_or(0))
            .some("wwn", wwn.transpose()?)
            .positive("rotation_rate", target.and_then(|t| t.rotation_rate).unwrap_or(0))
            .some("vendor", disk.vendor.clone())
            .some("product", disk.product.clone())
            .switch("removable", removable)
            .word("write-cache", write_cache)
            .positive("cyls", disk.geometry.as_ref().map_or(0, |geometry| geometry.cyls))
            .positive("heads", disk.geometry.as_ref().map_or(0, |geometry| geometry.heads))
            .positive("secs", disk.geometry.as_ref().map_or(0, |geometry| geometry.secs))
            .some("bios-chs-trans", translation.map(|word| word.as_str()))
            .some("serial", disk.serial.as_ref().map(|s| s.replace(' ', "\\ ")))
            .some("werror", write_error)
            .some("rerror", read_error))
    }
}

/// What happens after errors in writing and reading.
fn error_policies(disk: &Disk) -> (Option<&'static str>, Option<&'static str>) {
    let driver = disk.driver.as_ref();
    let given = |p: Option<ErrorPolicy>| p.filter(|p| *p != ErrorPolicy::Default);
    let (write, read) =
        (given(driver.and_then(|d| d.error_policy)), given(driver.and_then(|d| d.rerror_policy)));
    match write {
        Some(ErrorPolicy::Enospace) => (Some("enospc"), read.map(ErrorPolicy::as_str)),
        _ => (write.map(ErrorPolicy::as_str), read.or(write).map(ErrorPolicy::as_str)),
    }
}
