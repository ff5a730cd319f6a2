//! The virtio disk (Virtio 1.2, section 5.2).

use crate::blk_limit::{Cost, Limiter, Origin};
use crate::device::{QueueAccess, VirtioDevice};
use crate::forms::forms;
use crate::queue::{Chain, gather, part, scatter};
use crate::transport::{Family, VirtioPci, VirtioProperties};
use block::{BlockBackend, NoMedium, OnError};
use clock::Clock;
use pci::{PciSlot, take_properties};
use qdev::{
    BootOrder, Category, Device, DeviceError, Enumeration, OnOffAuto, Only, Properties, Size, SystemControl,
    SystemRequest,
};
use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

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

/// What a device does when the host cannot read or write (QEMU's `BlockdevOnError`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ErrorPolicy {
    #[default]
    Auto,
    Report,
    Ignore,
    Enospc,
    Stop,
}

impl Enumeration for ErrorPolicy {
    const TYPE: &'static str = "BlockdevOnError";
    const VALUES: &'static [(&'static str, Self)] = &[
        ("report", Self::Report),
        ("ignore", Self::Ignore),
        ("enospc", Self::Enospc),
        ("stop", Self::Stop),
        ("auto", Self::Auto),
    ];
}

impl ErrorPolicy {
    /// The policy, or what the drive says.
    fn or(self, drive: OnError) -> OnError {
        match self {
            Self::Auto => drive,
            Self::Report => OnError::Report,
            Self::Ignore => OnError::Ignore,
            Self::Enospc => OnError::Enospc,
            Self::Stop => OnError::Stop,
        }
    }
}

/// Properties of the disk.
#[derive(Properties)]
struct BlkProperties {
    /// Node name or ID of a block device to use as a backend
    #[prop(part)]
    drive: String,
    /// A power of two between 512 B and 2 MiB
    #[prop(part, name = "logical_block_size", default = 0u64)]
    logical_block_size: Size,
    /// A power of two between 512 B and 2 MiB
    #[prop(part, name = "physical_block_size", default = 0u64)]
    physical_block_size: Size,
    #[prop(part, name = "min_io_size", default = 0u64)]
    min_io_size: Size,
    #[prop(part, name = "opt_io_size", default = 0u64)]
    opt_io_size: Size,
    #[prop(part, name = "discard_granularity", default = u64::from(u32::MAX))]
    discard_granularity: Size,
    /// on/off/auto
    #[prop(part)]
    write_cache: OnOffAuto,
    #[prop(part, default = false)]
    share_rw: bool,
    /// Error handling policy, report/ignore/enospc/stop/auto
    #[prop(part)]
    rerror: ErrorPolicy,
    /// Error handling policy, report/ignore/enospc/stop/auto
    #[prop(part)]
    werror: ErrorPolicy,
    #[prop(part, default = 0u32)]
    cyls: u32,
    #[prop(part, default = 0u32)]
    heads: u32,
    #[prop(part, default = 0u32)]
    secs: u32,
    #[prop(part)]
    serial: String,
    /// on/off
    #[prop(part, default = true)]
    config_wce: bool,
    /// on/off
    #[prop(part, default = Only::new(true))]
    request_merging: Only<bool>,
    #[prop(part, default = u16::MAX)]
    num_queues: u16,
    #[prop(part, default = 256u16)]
    queue_size: u16,
    #[prop(part, default = true)]
    seg_max_adjust: bool,
    /// on/off
    #[prop(part, default = true)]
    discard: bool,
    #[prop(part, default = true)]
    report_discard_granularity: bool,
    /// on/off
    #[prop(part, default = true)]
    write_zeroes: bool,
    #[prop(part, default = MAX_RANGE)]
    max_discard_sectors: u32,
    #[prop(part, default = MAX_RANGE)]
    max_write_zeroes_sectors: u32,
    /// on/off
    #[prop(part, default = false)]
    scsi: bool,
    #[prop(part)]
    bootindex: Option<i32>,
    /// Properties of all virtio devices.
    #[prop(flatten)]
    virtio: VirtioProperties,
}

/// Cylinders, heads and sectors.
#[derive(Clone, Copy)]
struct Geometry {
    cylinders: u16,
    heads: u8,
    sectors: u8,
}

/// The disk.
struct Blk {
    backend: Arc<BlockBackend>,
    system: Arc<dyn SystemControl>,
    serial: String,
    queues: u16,
    queue_size: u16,
    seg_max: u32,
    features: u64,
    block_size: u32,
    physical_exponent: u8,
    min_io: u16,
    opt_io: u32,
    discard_alignment: u32,
    max_discard: u32,
    max_zeroes: u32,
    geometry: Geometry,
    read_error: OnError,
    write_error: OnError,
    initial_wce: bool,
    wce: AtomicBool,
    /// A request waits for the machine to go on.
    stopped: AtomicBool,
    /// Keeps to the drive's limits, if it has any.
    limiter: Option<Limiter>,
}

const MAX_BLOCK: u64 = 2 << 20;

fn block_size(name: &str, value: Size, default: u32) -> Result<u32, DeviceError> {
    match value.0 {
        0 => Ok(default),
        n if !(SECTOR..=MAX_BLOCK).contains(&n) => Err(DeviceError::new(format!(
            "Property .{name} doesn't take value {n} (minimum: {SECTOR}, maximum: {MAX_BLOCK})"
        ))),
        n if n.is_power_of_two() => Ok(n as u32),
        n => {
            Err(DeviceError::new(format!("Property .{name} doesn't take value '{n}', it's not a power of 2")))
        }
    }
}

/// The geometry that the user gave, or one that suits the size.
fn geometry(properties: &BlkProperties, sectors: u64) -> Result<Geometry, DeviceError> {
    let BlkProperties { cyls, heads, secs, .. } = *properties;
    if cyls | heads | secs == 0 {
        // 16 heads of 63 sectors, as ATA disks beyond 528 MB tell.
        let cylinders = (sectors / (16 * 63)).clamp(2, 16383) as u16;
        return Ok(Geometry { cylinders, heads: 16, sectors: 63 });
    }
    for (name, value, most) in [("cyls", cyls, 65535), ("heads", heads, 255), ("secs", secs, 255)] {
        if value == 0 || value > most {
            return Err(DeviceError::new(format!("{name} must be between 1 and {most}")));
        }
    }
    Ok(Geometry { cylinders: cyls as u16, heads: heads as u8, sectors: secs as u8 })
}

fn range_limit(name: &str, value: u32) -> Result<u32, DeviceError> {
    if (1..=MAX_RANGE).contains(&value) {
        return Ok(value);
    }
    Err(DeviceError::new(format!("invalid {name} property ({value}), must be between 1 and {MAX_RANGE}")))
}

impl Blk {
    fn new(
        properties: &BlkProperties,
        backend: Arc<BlockBackend>,
        system: Arc<dyn SystemControl>,
        clock: &Clock,
        cpus: u16,
    ) -> Result<Self, DeviceError> {
        let queues =
            if properties.num_queues == u16::MAX { cpus.clamp(1, MAX_QUEUES) } else { properties.num_queues };
        let queue_size = properties.queue_size;
        if queues == 0 {
            return Err(DeviceError::new("num-queues property must be larger than 0"));
        }
        if queue_size <= 2 {
            return Err(DeviceError::new(format!("invalid queue-size property ({queue_size}), must be > 2")));
        }
        if !queue_size.is_power_of_two() || queue_size > 1024 {
            return Err(DeviceError::new(format!(
                "invalid queue-size property ({queue_size}), must be a power of 2 (max 1024)"
            )));
        }
        if queues > MAX_QUEUES {
            return Err(DeviceError::new(format!(
                "invalid number of queues ({queues}), the most is {MAX_QUEUES}"
            )));
        }
        let geometry = geometry(properties, backend.size() / SECTOR)?;
        let logical = block_size("logical_block_size", properties.logical_block_size, 512)?;
        let physical = block_size("physical_block_size", properties.physical_block_size, logical)?;
        if logical > physical {
            return Err(DeviceError::new("logical_block_size > physical_block_size not supported"));
        }
        let multiple = |name: &str, value: u64| match value.is_multiple_of(logical.into()) {
            true => Ok(value),
            false => Err(DeviceError::new(format!("{name} must be a multiple of logical_block_size"))),
        };
        let min_io = multiple("min_io_size", properties.min_io_size.0)?;
        let opt_io = multiple("opt_io_size", properties.opt_io_size.0)?;
        let (Ok(min_io), Ok(opt_io)) =
            (u16::try_from(min_io / u64::from(logical)), u32::try_from(opt_io / u64::from(logical)))
        else {
            return Err(DeviceError::new("min_io_size and opt_io_size must be below 65536 and 2^32 blocks"));
        };
        let granularity = match properties.discard_granularity.0 {
            n if n == u64::from(u32::MAX) => logical.into(),
            n => multiple("discard_granularity", n)?,
        };
        let max_discard = range_limit("max-discard-sectors", properties.max_discard_sectors)?;
        let max_zeroes = range_limit("max-write-zeroes-sectors", properties.max_write_zeroes_sectors)?;
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
        let alignment = if properties.report_discard_granularity { granularity } else { logical.into() };
        Ok(Self {
            system,
            serial: properties.serial.clone(),
            queues,
            queue_size,
            seg_max: if properties.seg_max_adjust { u32::from(queue_size) - 2 } else { 126 },
            features,
            block_size: logical,
            physical_exponent: (physical / logical).trailing_zeros() as u8,
            min_io,
            opt_io,
            discard_alignment: u32::try_from(alignment / SECTOR).unwrap_or(u32::MAX),
            max_discard,
            max_zeroes,
            geometry,
            read_error: properties.rerror.or(backend.options().read_error),
            write_error: properties.werror.or(backend.options().write_error),
            initial_wce: wce,
            wce: AtomicBool::new(wce),
            stopped: AtomicBool::new(false),
            limiter: backend.throttle().map(|group| Limiter::new(group, clock, queues, queue_size)),
            backend,
        })
    }

    /// What becomes of an operation of the host's: its status, or `Stop` when the machine is to stop.
    fn outcome(&self, result: io::Result<()>, write: bool) -> Result<u8, Stop> {
        let Err(error) = result else { return Ok(OK) };
        let policy = if write { self.write_error } else { self.read_error };
        let full = error.kind() == io::ErrorKind::StorageFull;
        match policy {
            OnError::Ignore => Ok(OK),
            OnError::Stop => Err(Stop),
            OnError::Enospc if full => Err(Stop),
            OnError::Report | OnError::Enospc => Ok(IO_ERROR),
        }
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
    fn serve(&self, chain: &Chain) -> Option<Result<(u8, u64), Stop>> {
        let mut header = [0; 16];
        if gather(&chain.readable, 0, &mut header) != 16 {
            return None;
        }
        let kind = u32::from_le_bytes(std::array::from_fn(|i| header[i]));
        let sector = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        let data_in = chain.writable_len().checked_sub(1)?;
        let data_out = chain.readable_len() - 16;
        Some(match kind {
            // Read.
            0 => match self.range(sector, data_in) {
                Some(at) => {
                    let done = self.backend.readv(at, &part(&chain.writable, 0, data_in));
                    self.outcome(done, false).map(|status| (status, data_in))
                }
                None => Ok((IO_ERROR, data_in)),
            },
            // Write.
            1 => match self.range(sector, data_out) {
                Some(at) => {
                    let done = self.backend.writev(at, &part(&chain.readable, 16, data_out));
                    self.outcome(done.and_then(|()| self.settle()), true).map(|status| (status, 0))
                }
                None => Ok((IO_ERROR, 0)),
            },
            // Flush.
            4 => self.outcome(self.backend.flush(), true).map(|status| (status, 0)),
            // Identify: 20 bytes, padded with zeros.
            8 => {
                let mut id = [0; 20];
                for (to, from) in id.iter_mut().zip(self.serial.bytes()) {
                    *to = from;
                }
                let n = scatter(&part(&chain.writable, 0, data_in), 0, &id);
                Ok((OK, n as u64))
            }
            11 if self.features & F_DISCARD != 0 => {
                self.ranges(chain, data_out, false).map(|status| (status, 0))
            }
            13 if self.features & F_WRITE_ZEROES != 0 => {
                self.ranges(chain, data_out, true).map(|status| (status, 0))
            }
            _ => Ok((UNSUPPORTED, 0)),
        })
    }

    /// What a request is to the limits: they hold for what is read and written, and not for what is in error.
    fn cost(&self, chain: &Chain) -> Cost {
        let mut raw = [0; 32];
        let n = gather(&chain.readable, 0, &mut raw);
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| raw[at + i]));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let (write, sector, len) = match word(0) {
            0 if n >= 16 => (false, long(8), chain.writable_len().checked_sub(1)?),
            1 if n >= 16 => (true, long(8), chain.readable_len() - 16),
            13 if n == 32 => (true, long(16), u64::from(word(24)) * SECTOR),
            _ => return None,
        };
        self.range(sector, len).map(|_| (write, len))
    }

    /// The next request to be done.
    fn next(&self, index: usize, queue: &mut QueueAccess<'_>) -> Option<(Chain, Origin)> {
        let next = match &self.limiter {
            None => queue.pop().map(|chain| (chain, Origin::Queue)),
            Some(limiter) => limiter.next(index, queue, |chain| self.cost(chain)),
        };
        if next.is_none() && queue.is_broken() {
            self.forget();
        }
        next
    }

    /// Forgets requests that wait.
    fn forget(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.forget();
        }
    }

    /// Puts the last request back, to be done when the machine goes on.
    fn put_back(&self, index: usize, queue: &mut QueueAccess<'_>, chain: Chain, origin: Origin) {
        match (origin, &self.limiter) {
            (Origin::Waited(write), Some(limiter)) => {
                let bytes = self.cost(&chain).map_or(0, |(_, bytes)| bytes);
                limiter.put_back(index, write, chain, bytes);
            }
            _ => queue.unpop(),
        }
    }

    /// Without a write cache a write is on the medium before it is done.
    fn settle(&self) -> io::Result<()> {
        if self.wce.load(Ordering::SeqCst) { Ok(()) } else { self.backend.flush() }
    }

    /// Discard or write zeroes: one segment, as configuration says.
    fn ranges(&self, chain: &Chain, len: u64, zero: bool) -> Result<u8, Stop> {
        if len != 16 {
            return Ok(if len == 0 || !len.is_multiple_of(16) { IO_ERROR } else { UNSUPPORTED });
        }
        let mut raw = [0; 16];
        gather(&chain.readable, 16, &mut raw);
        let sector = u64::from_le_bytes(std::array::from_fn(|i| raw[i]));
        let sectors = u32::from_le_bytes(std::array::from_fn(|i| raw[8 + i]));
        let flags = u32::from_le_bytes(std::array::from_fn(|i| raw[12 + i]));
        if flags & !1 != 0 || (!zero && flags != 0) {
            return Ok(UNSUPPORTED);
        }
        let most = if zero { self.max_zeroes } else { self.max_discard };
        let len = u64::from(sectors) * SECTOR;
        let Some(at) = self.range(sector, len).filter(|_| sectors <= most) else { return Ok(IO_ERROR) };
        let done = if zero {
            self.backend.write_zeroes(at, len, flags & 1 != 0).and_then(|()| self.settle())
        } else {
            self.backend.discard(at, len)
        };
        self.outcome(done, true)
    }
}

/// The machine is to stop before a request is tried again.
struct Stop;

/// Most sectors of a discard or write-zeroes segment.
const MAX_RANGE: u32 = 4_194_303;
/// Most queues: with one vector each and one for configuration.
const MAX_QUEUES: u16 = 1024;

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
        let mut c = Vec::with_capacity(60);
        c.extend(sectors.to_le_bytes());
        c.extend(0u32.to_le_bytes()); // size_max: no limit
        c.extend(self.seg_max.to_le_bytes());
        c.extend(self.geometry.cylinders.to_le_bytes());
        c.extend([self.geometry.heads, self.geometry.sectors]);
        c.extend(self.block_size.to_le_bytes());
        c.extend([self.physical_exponent, 0]);
        c.extend(self.min_io.to_le_bytes());
        c.extend(self.opt_io.to_le_bytes());
        c.extend([u8::from(self.wce.load(Ordering::SeqCst)), 0]);
        c.extend(self.queues.to_le_bytes());
        c.extend(self.max_discard.to_le_bytes()); // max_discard_sectors
        c.extend(1u32.to_le_bytes()); // max_discard_seg
        c.extend(self.discard_alignment.to_le_bytes()); // discard_sector_alignment
        c.extend(self.max_zeroes.to_le_bytes()); // max_write_zeroes_sectors
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
        // A driver that can neither flush nor switch the cache gets none.
        if features & (F_FLUSH | F_CONFIG_WCE) == 0 {
            self.wce.store(false, Ordering::SeqCst);
        }
    }

    fn process(&self, index: usize, queue: &mut QueueAccess<'_>) -> bool {
        for _ in 0..BATCH {
            if self.stopped.load(Ordering::SeqCst) {
                return false;
            }
            let Some((chain, origin)) = self.next(index, queue) else {
                return false;
            };
            let (status, written) = match self.serve(&chain) {
                None => {
                    queue.set_broken();
                    self.forget();
                    return false;
                }
                Some(Err(Stop)) => {
                    self.put_back(index, queue, chain, origin);
                    self.stopped.store(true, Ordering::SeqCst);
                    self.system.request(SystemRequest::IoError);
                    return false;
                }
                Some(Ok(done)) => done,
            };
            let last = chain.writable_len() - 1;
            scatter(&chain.writable, last, &[status]);
            // The status byte is the last; what lies between was not written.
            queue.push(&chain, u32::try_from(written + 1).unwrap_or(u32::MAX));
            queue.notify();
        }
        true
    }

    fn attach(&self, transport: Weak<VirtioPci>) {
        if let Some(limiter) = &self.limiter {
            limiter.attach(transport);
        }
    }

    fn reset(&self) {
        self.forget();
        self.stopped.store(false, Ordering::SeqCst);
        self.wce.store(self.initial_wce, Ordering::SeqCst);
    }

    fn resumed(&self) -> bool {
        self.stopped.swap(false, Ordering::SeqCst)
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
    if links.get::<NoMedium>(&properties.drive).is_some() {
        return Err(DeviceError::new("Device needs media, but drive is empty"));
    }
    let backend = links.get::<BlockBackend>(&properties.drive).ok_or_else(|| {
        DeviceError::new(format!(
            "Property 'virtio-blk-device.drive' can't find value '{}'",
            properties.drive
        ))
    })?;
    if properties.scsi {
        return Err(DeviceError::new(
            "Please set scsi=off for virtio-blk devices in order to use virtio 1.0",
        ));
    }
    let cpus = links.get::<CpuCount>("cpus").map_or(1, |c| c.0);
    let blk =
        Blk::new(&properties, backend.clone(), slot.context().system.clone(), &slot.context().clock, cpus)?;
    backend.claim(true, properties.share_rw).map_err(|error| DeviceError::new(error.0))?;
    if let Some(index) = properties.bootindex
        && let Some(order) = links.get::<BootOrder>(BootOrder::LINK)
    {
        order.add(index, format!("{}/disk@0,0", slot.firmware_path("scsi")))?;
    }
    let vectors = blk.queues + 1;
    Ok(VirtioPci::new(slot, name, family, &properties.virtio, 0x0100, vectors, Arc::new(blk))?)
}

forms! {
    /// `virtio-blk-pci` and its two forms.
    BLK_SPECS, "virtio-blk", Category::Storage, BlkProperties::default, realize
}
