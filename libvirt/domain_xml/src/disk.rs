//! Disks.

use xml::{Internal, element, words};

use crate::address::{BootInfo, VirtioOptions};
use crate::source::{
    Auth, BackingStore, DiskFormat, Encryption, MetadataCache, Mirror, Named, Source, SourceType,
};
use crate::words::{OnOff, YesNo};

/// What a disk is to the guest.
#[words]
pub enum DiskDevice {
    Disk,
    Cdrom,
    Floppy,
    Lun,
}

/// What a disk is attached to.
#[words]
pub enum DiskBus {
    Ide,
    Fdc,
    Scsi,
    Virtio,
    Xen,
    Usb,
    Uml,
    Sata,
    Sd,
}

/// Models of virtio disks.
#[words]
pub enum VirtioModel {
    Virtio,
    VirtioTransitional,
    VirtioNonTransitional,
}

/// How the host caches a disk.
#[words]
pub enum Cache {
    Default,
    None,
    Writethrough,
    Writeback,
    Directsync,
    Unsafe,
}

/// What happens when the host has an error.
#[words]
pub enum ErrorPolicy {
    Default,
    Stop,
    Report,
    Ignore,
    Enospace,
}

/// How the host reads and writes.
#[words]
pub enum Io {
    Default,
    Native,
    Threads,
    #[word("io_uring")]
    IoUring,
}

/// What becomes of blocks that the guest discards.
#[words]
pub enum Discard {
    Default,
    Unmap,
    Ignore,
}

/// What becomes of zeroes that the guest writes.
#[words]
pub enum DetectZeroes {
    Default,
    Off,
    On,
    Unmap,
}

/// How the disk is driven.
#[element]
pub struct DiskDriver {
    #[attr]
    pub name: Option<String>,
    #[attr("type")]
    pub format: Option<DiskFormat>,
    #[attr]
    pub cache: Option<Cache>,
    #[attr]
    pub error_policy: Option<ErrorPolicy>,
    #[attr]
    pub rerror_policy: Option<ErrorPolicy>,
    #[attr]
    pub io: Option<Io>,
    #[attr]
    pub ioeventfd: Option<OnOff>,
    #[attr]
    pub event_idx: Option<OnOff>,
    #[attr]
    pub copy_on_read: Option<OnOff>,
    #[attr]
    pub discard: Option<Discard>,
    #[attr]
    pub iothread: Option<u32>,
    #[attr]
    pub detect_zeroes: Option<DetectZeroes>,
    #[attr]
    pub queues: Option<u32>,
    #[attr]
    pub queue_size: Option<u32>,
    #[flatten]
    pub virtio: VirtioOptions,
    #[child]
    pub metadata_cache: Option<MetadataCache>,
}

/// How firmware translates cylinders.
#[words]
pub enum Translation {
    Default,
    None,
    Auto,
    Lba,
}

/// What the guest is told of the disk's cylinders.
#[element]
pub struct Geometry {
    #[attr]
    pub cyls: u32,
    #[attr]
    pub heads: u32,
    #[attr]
    pub secs: u32,
    #[attr]
    pub trans: Option<Translation>,
}

/// The size of blocks.
#[element]
pub struct BlockIo {
    #[attr]
    pub logical_block_size: Option<u32>,
    #[attr]
    pub physical_block_size: Option<u32>,
}

/// What the guest sees the disk as.
#[element]
pub struct DiskTarget {
    #[attr]
    pub dev: String,
    #[attr]
    pub bus: Option<DiskBus>,
    #[attr]
    pub tray: Option<Tray>,
    #[attr]
    pub removable: Option<OnOff>,
    #[attr]
    pub rotation_rate: Option<u32>,
}

/// State of a drive's tray.
#[words]
pub enum Tray {
    Closed,
    Open,
}

/// The limits of a disk's traffic, in bytes and operations a second.
#[element]
pub struct IoTune {
    #[text]
    pub total_bytes_sec: Option<u64>,
    #[text]
    pub read_bytes_sec: Option<u64>,
    #[text]
    pub write_bytes_sec: Option<u64>,
    #[text]
    pub total_iops_sec: Option<u64>,
    #[text]
    pub read_iops_sec: Option<u64>,
    #[text]
    pub write_iops_sec: Option<u64>,
    #[text]
    pub total_bytes_sec_max: Option<u64>,
    #[text]
    pub read_bytes_sec_max: Option<u64>,
    #[text]
    pub write_bytes_sec_max: Option<u64>,
    #[text]
    pub total_iops_sec_max: Option<u64>,
    #[text]
    pub read_iops_sec_max: Option<u64>,
    #[text]
    pub write_iops_sec_max: Option<u64>,
    #[text]
    pub size_iops_sec: Option<u64>,
    #[text]
    pub group_name: Option<String>,
    #[text]
    pub total_bytes_sec_max_length: Option<u64>,
    #[text]
    pub read_bytes_sec_max_length: Option<u64>,
    #[text]
    pub write_bytes_sec_max_length: Option<u64>,
    #[text]
    pub total_iops_sec_max_length: Option<u64>,
    #[text]
    pub read_iops_sec_max_length: Option<u64>,
    #[text]
    pub write_iops_sec_max_length: Option<u64>,
}

/// A disk whose changes are dropped.
#[element]
pub struct Transient {
    #[attr("shareBacking")]
    pub share_backing: Option<YesNo>,
}

/// A disk.
#[element]
pub struct Disk {
    #[attr("type", default)]
    pub kind: SourceType,
    #[attr(default)]
    pub device: DiskDevice,
    #[attr]
    pub model: Option<VirtioModel>,
    #[attr]
    pub rawio: Option<YesNo>,
    #[attr]
    pub sgio: Option<String>,
    #[attr]
    pub snapshot: Option<String>,
    #[child]
    pub driver: Option<DiskDriver>,
    #[child]
    pub auth: Option<Auth>,
    #[child]
    pub source: Option<Source>,
    #[child("backingStore")]
    pub backing_store: Option<Box<BackingStore>>,
    #[child]
    pub backenddomain: Option<Named>,
    #[child]
    pub geometry: Option<Geometry>,
    #[child]
    pub blockio: Option<BlockIo>,
    #[child]
    pub mirror: Option<Mirror>,
    #[child]
    pub target: Option<DiskTarget>,
    #[child]
    pub iotune: Option<IoTune>,
    #[flag("readonly")]
    pub read_only: bool,
    #[flag]
    pub shareable: bool,
    #[child]
    pub transient: Option<Transient>,
    #[text]
    pub serial: Option<String>,
    #[text]
    pub wwn: Option<String>,
    #[text]
    pub vendor: Option<String>,
    #[text]
    pub product: Option<String>,
    #[child]
    pub encryption: Option<Encryption>,
    #[flatten]
    pub info: BootInfo,
    /// What the driver notes of a running guest's disk.
    #[child("privateData")]
    pub private: Internal,
    /// Where secrets stood in the definition.
    #[child("diskSecretsPlacement")]
    pub secrets_placement: Internal,
}

impl Disk {
    /// The bus.
    pub fn bus(&self) -> Option<DiskBus> {
        self.target.as_ref()?.bus
    }

    /// The name by which the guest may know the disk; empty if there is none.
    pub fn dev(&self) -> &str {
        self.target.as_ref().map_or("", |target| &target.dev)
    }
}
