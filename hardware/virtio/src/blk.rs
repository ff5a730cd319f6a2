//! The virtio disk (Virtio 1.2, section 5.2).

use crate::device::{QueueAccess, VirtioDevice};
use crate::queue::{Chain, gather, part, scatter};
use crate::transport::{Family, VirtioPci, VirtioProperties};
use block::BlockBackend;
use parking_lot::Mutex;
use pci::{PciSlot, take_properties};
use qdev::{Category, Device, DeviceError, DeviceSpec, OnOffAuto, Properties, Size};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const F_SEG_MAX: u64 = 1 << 2;
const F_GEOMETRY: u64 = 1 << 4;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_CONFIG_WCE: u64 = 1 << 11;
const F_MQ: u64 = 1 << 12;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const SECTOR: u64 = 512;
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// Requests of one call of `process`.
const BATCH: usize = 256;
/// Offset of the write cache switch in configuration.
const CONFIG_WCE: usize = 32;

/// How many vCPUs the machine has; a board makes it known as link `cpus`, and disks get that many queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCount(pub u16);

/// Properties of the disk.
#[derive(Properties)]
struct BlkProperties {
    /// Properties of all virtio devices.
    #[prop(flatten)]
    virtio: VirtioProperties,
    /// Node name or ID of a block device to use as a backend
    drive: String,
    /// Serial number that the guest can ask for
    serial: String,
    /// Number of queues (65535: one for each vCPU)
    #[prop(default = 65535u16)]
    num_queues: u16,
    /// Entries of each queue
    #[prop(default = 256u16)]
    queue_size: u16,
    /// Bytes of a block
    #[prop(name = "logical_block_size", default = 0u64)]
    logical_block_size: Size,
    /// Bytes of a block of the medium
    #[prop(name = "physical_block_size", default = 0u64)]
    physical_block_size: Size,
    /// Whether the guest may switch the write cache
    #[prop(default = true)]
    config_wce: bool,
    /// Whether there is a write cache
    write_cache: OnOffAuto,
    /// Whether the guest may discard blocks
    #[prop(default = true)]
    discard: bool,
    /// Whether the guest may have blocks zeroed
    #[prop(default = true)]
    write_zeroes: bool,
    /// Boot order
    bootindex: Option<i32>,
}

/// The disk.
struct Blk {
    backend: Arc<BlockBackend>,
    serial: String,
    queues: u16,
    queue_size: u16,
    features: u64,
    block_size: u32,
    physical_exponent: u8,
    initial_wce: bool,
    wce: AtomicBool,
    agreed: Mutex<u64>,
}

fn block_size(name: &str, value: Size, default: u32) -> Result<u32, DeviceError> {
    match value.0 {
        0 => Ok(default),
        n if n.is_power_of_two() && (512..=2 << 20).contains(&n) => Ok(n as u32),
        n if n.is_power_of_two() => Err(DeviceError::new(format!(
            "Property .{name} doesn't take value {n} (minimum: 512, maximum: 2 MiB)"
        ))),
        n => {
            Err(DeviceError::new(format!("Property .{name} doesn't take value '{n}', it's not a power of 2")))
        }
    }
}

impl Blk {
    fn new(properties: &BlkProperties, backend: Arc<BlockBackend>, cpus: u16) -> Result<Self, DeviceError> {
        let queues =
            if properties.num_queues == u16::MAX { cpus.clamp(1, 1024) } else { properties.num_queues };
        if queues == 0 {
            return Err(DeviceError::new("num-queues property must be larger than 0"));
        }
        if !properties.queue_size.is_power_of_two() || !(4..=1024).contains(&properties.queue_size) {
            return Err(DeviceError::new(format!(
                "invalid queue-size property ({}), must be a power of 2 (max 1024)",
                properties.queue_size
            )));
        }
        if queues > 1023 {
            return Err(DeviceError::new(format!("invalid number of queues ({queues}), the most is 1023")));
        }
        let logical = block_size("logical_block_size", properties.logical_block_size, 512)?;
        let physical = block_size("physical_block_size", properties.physical_block_size, logical)?;
        if logical > physical {
            return Err(DeviceError::new("logical_block_size > physical_block_size not supported"));
        }
        let wce = match properties.write_cache {
            OnOffAuto::Auto => backend.options().cache.writeback,
            on => on == OnOffAuto::On,
        };
        let mut features = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH;
        let flags = [
            (F_RO, backend.is_read_only()),
            (F_CONFIG_WCE, properties.config_wce),
            (F_MQ, queues > 1),
            (F_DISCARD, properties.discard && !backend.is_read_only()),
            (F_WRITE_ZEROES, properties.write_zeroes && !backend.is_read_only()),
        ];
        features |= flags.into_iter().filter(|(_, on)| *on).fold(0, |bits, (bit, _)| bits | bit);
        let serial = if properties.serial.is_empty() {
            backend.options().serial.clone().unwrap_or_default()
        } else {
            properties.serial.clone()
        };
        Ok(Self {
            serial,
            queues,
            queue_size: properties.queue_size,
            features,
            block_size: logical,
            physical_exponent: (physical / logical).trailing_zeros() as u8,
            initial_wce: wce,
            wce: AtomicBool::new(wce),
            agreed: Mutex::new(0),
            backend,
        })
    }

    /// The byte range of a request; `None` when it is not within the disk or not whole blocks.
    fn range(&self, sector: u64, len: u64) -> Option<u64> {
        let position = sector.checked_mul(SECTOR)?;
        let end = position.checked_add(len)?;
        let block = u64::from(self.block_size);
        let whole = position.is_multiple_of(block) && len.is_multiple_of(block);
        (whole && end <= self.backend.size()).then_some(position)
    }

    /// Does one request; its status and the bytes written before it. `None`: it makes no sense at all.
    fn serve(&self, chain: &Chain) -> Option<(u8, u64)> {
        let mut header = [0; 16];
        if gather(&chain.readable, 0, &mut header) != 16 {
            return None;
        }
        let kind = u32::from_le_bytes(std::array::from_fn(|i| header[i]));
        let sector = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        let data_in = chain.writable_len().checked_sub(1)?;
        let data_out = chain.readable_len() - 16;
        let status = |ok: bool| if ok { OK } else { IO_ERROR };
        Some(match kind {
            // Read.
            0 => {
                let ok = self
                    .range(sector, data_in)
                    .is_some_and(|at| self.backend.readv(at, &part(&chain.writable, 0, data_in)).is_ok());
                (status(ok), data_in)
            }
            // Write.
            1 => {
                let ok = self.range(sector, data_out).is_some_and(|at| {
                    self.backend.writev(at, &part(&chain.readable, 16, data_out)).is_ok() && self.settle()
                });
                (status(ok), 0)
            }
            // Flush.
            4 => (status(self.backend.flush().is_ok()), 0),
            // Identify: 20 bytes, padded with zeros.
            8 => {
                let mut id = [0; 20];
                for (to, from) in id.iter_mut().zip(self.serial.bytes()) {
                    *to = from;
                }
                let n = scatter(&part(&chain.writable, 0, data_in), 0, &id);
                (OK, n as u64)
            }
            11 if self.features & F_DISCARD != 0 => (self.ranges(chain, data_out, false), 0),
            13 if self.features & F_WRITE_ZEROES != 0 => (self.ranges(chain, data_out, true), 0),
            _ => (UNSUPPORTED, 0),
        })
    }

    /// Without a write cache a write is on the medium before it is done.
    fn settle(&self) -> bool {
        self.wce.load(Ordering::SeqCst) || self.backend.flush().is_ok()
    }

    /// Discard or write zeroes: one segment, as configuration says.
    fn ranges(&self, chain: &Chain, len: u64, zero: bool) -> u8 {
        if len != 16 {
            return if len == 0 || !len.is_multiple_of(16) { IO_ERROR } else { UNSUPPORTED };
        }
        let mut raw = [0; 16];
        gather(&chain.readable, 16, &mut raw);
        let sector = u64::from_le_bytes(std::array::from_fn(|i| raw[i]));
        let sectors = u32::from_le_bytes(std::array::from_fn(|i| raw[8 + i]));
        let flags = u32::from_le_bytes(std::array::from_fn(|i| raw[12 + i]));
        if flags & !1 != 0 || (!zero && flags != 0) {
            return UNSUPPORTED;
        }
        let len = u64::from(sectors) * SECTOR;
        let Some(at) = self.range(sector, len).filter(|_| sectors <= MAX_RANGE) else { return IO_ERROR };
        let done = if zero {
            self.backend.write_zeroes(at, len, flags & 1 != 0).is_ok() && self.settle()
        } else {
            self.backend.discard(at, len).is_ok()
        };
        if done { OK } else { IO_ERROR }
    }
}

/// Most sectors of a discard or write-zeroes segment.
const MAX_RANGE: u32 = 4_194_303;

impl VirtioDevice for Blk {
    fn id(&self) -> u16 {
        2
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queues(&self) -> Vec<u16> {
        vec![self.queue_size; self.queues.into()]
    }

    fn config(&self) -> Vec<u8> {
        let sectors = self.backend.size() / SECTOR;
        let cylinders = (sectors / (16 * 63)).clamp(2, 16383) as u16;
        let mut c = Vec::with_capacity(60);
        c.extend(sectors.to_le_bytes());
        c.extend(0u32.to_le_bytes()); // size_max: no limit
        c.extend(u32::from(self.queue_size - 2).to_le_bytes()); // seg_max
        c.extend(cylinders.to_le_bytes());
        c.extend([16, 63]);
        c.extend(self.block_size.to_le_bytes());
        c.extend([self.physical_exponent, 0]);
        c.extend(0u16.to_le_bytes()); // min_io_size
        c.extend(0u32.to_le_bytes()); // opt_io_size
        c.extend([u8::from(self.wce.load(Ordering::SeqCst)), 0]);
        c.extend(self.queues.to_le_bytes());
        c.extend(MAX_RANGE.to_le_bytes()); // max_discard_sectors
        c.extend(1u32.to_le_bytes()); // max_discard_seg
        c.extend((self.block_size / SECTOR as u32).to_le_bytes()); // discard_sector_alignment
        c.extend(MAX_RANGE.to_le_bytes()); // max_write_zeroes_sectors
        c.extend(1u32.to_le_bytes()); // max_write_zeroes_seg
        c.extend([1, 0, 0, 0]); // write_zeroes_may_unmap
        c
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        if (offset..offset + data.len()).contains(&CONFIG_WCE) && self.features & F_CONFIG_WCE != 0 {
            self.wce.store(data[CONFIG_WCE - offset] != 0, Ordering::SeqCst);
        }
    }

    fn set_features(&self, features: u64) {
        *self.agreed.lock() = features;
        // A driver that can neither flush nor switch the cache gets none.
        if features & (F_FLUSH | F_CONFIG_WCE) == 0 {
            self.wce.store(false, Ordering::SeqCst);
        }
    }

    fn process(&self, _index: usize, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            let Some(chain) = queue.pop() else {
                return false;
            };
            let Some((status, written)) = self.serve(&chain) else {
                queue.set_broken();
                return false;
            };
            let last = chain.writable_len() - 1;
            scatter(&chain.writable, last, &[status]);
            // The status byte is the last; what lies between was not written.
            queue.push(&chain, u32::try_from(written + 1).unwrap_or(u32::MAX));
            queue.notify();
        }
        true
    }

    fn reset(&self) {
        *self.agreed.lock() = 0;
        self.wce.store(self.initial_wce, Ordering::SeqCst);
    }
}

fn realize(
    name: &'static str,
    family: Family,
    properties: Box<dyn Properties>,
    slot: &mut dyn Any,
) -> Result<Arc<dyn Device>, DeviceError> {
    let properties = take_properties::<BlkProperties>(properties)?;
    let slot = PciSlot::from_any(slot)?;
    let links = &slot.context().links;
    if properties.drive.is_empty() {
        return Err(DeviceError::new("drive property not set"));
    }
    let backend = links.get::<BlockBackend>(&properties.drive).ok_or_else(|| {
        DeviceError::new(format!("Property '{name}.drive' can't find value '{}'", properties.drive))
    })?;
    let cpus = links.get::<CpuCount>("cpus").map_or(1, |c| c.0);
    let blk = Arc::new(Blk::new(&properties, backend, cpus)?);
    let vectors = blk.queues + 1;
    Ok(VirtioPci::new(slot, name, family, &properties.virtio, 0x0100, vectors, blk)?)
}

/// `virtio-blk-pci` and its two forms.
pub static BLK_SPECS: [DeviceSpec; 3] = [
    DeviceSpec {
        name: "virtio-blk-pci",
        aliases: &["virtio-blk"],
        desc: "",
        bus: "PCI",
        category: Category::Storage,
        user_creatable: true,
        properties: || Box::<BlkProperties>::default(),
        realize: |p, s| realize("virtio-blk-pci", Family::Generic, p, s),
    },
    DeviceSpec {
        name: "virtio-blk-pci-non-transitional",
        aliases: &[],
        desc: "",
        bus: "PCI",
        category: Category::Storage,
        user_creatable: true,
        properties: || Box::<BlkProperties>::default(),
        realize: |p, s| realize("virtio-blk-pci-non-transitional", Family::NonTransitional, p, s),
    },
    DeviceSpec {
        name: "virtio-blk-pci-transitional",
        aliases: &[],
        desc: "",
        bus: "PCI",
        category: Category::Storage,
        user_creatable: true,
        properties: || Box::<BlkProperties>::default(),
        realize: |p, s| realize("virtio-blk-pci-transitional", Family::Transitional, p, s),
    },
];
