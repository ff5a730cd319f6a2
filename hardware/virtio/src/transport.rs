//! Virtio over PCI (Virtio 1.2, section 4.1), with the legacy interface in BAR 0 for transitional devices.

use crate::device::{QueueAccess, VirtioDevice};
use crate::queue::Queue;
use crate::worker::Worker;
use guestmem::{IoHandler, IoRules, Region};
use parking_lot::Mutex;
use pci::{BarKind, FunctionBuilder, Ids, MsixLayout, PciFunction, PciHooks, PciProperties, PciSlot};
use qdev::{Bus, Device, DeviceError, OnOffAuto, Only, Part, Properties, PropertyField, PropertyInfo};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Transport features: notify on empty, any layout, indirect descriptors, event index, version 1.
const F_NOTIFY_ON_EMPTY: u64 = 1 << 24;
const F_ANY_LAYOUT: u64 = 1 << 27;
const F_INDIRECT: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
/// Legacy only: a driver that accepts this is broken.
const F_BAD: u64 = 1 << 30;
const F_VERSION_1: u64 = 1 << 32;

const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
const STATUS_NEEDS_RESET: u8 = 0x40;
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;
const NO_VECTOR: u16 = 0xffff;

/// Parts of BAR 4.
const COMMON: u64 = 0;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const PART: u64 = 0x1000;
/// Bytes between the notification registers of two queues.
const NOTIFY_STEP: u32 = 4;
/// The capability that reaches BARs through configuration space.
const CFG_CAPABILITY: u16 = 0x84;
/// Offset of the MSI-X capability, behind the five vendor capabilities.
const MSIX_CAPABILITY: u8 = 0x98;
/// Most vectors that an MSI-X table has (PCI 3.0, 6.8.2.3).
const MSIX_MAX: u16 = 2048;

/// Which interfaces a device type offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// What the properties say: transitional on a conventional bus and on a root complex.
    Generic,
    /// Legacy and modern.
    Transitional,
    /// Modern only.
    NonTransitional,
}

/// The choice of interfaces, for device types that leave it open.
#[derive(Default)]
pub struct Mode {
    legacy: LegacyMode,
    fixed: bool,
}

/// The choice itself.
#[derive(Properties)]
struct LegacyMode {
    /// on/off/auto
    disable_legacy: OnOffAuto,
    #[prop(default = false)]
    disable_modern: bool,
}

impl Mode {
    /// The device type's name says which interfaces there are: there is nothing to choose.
    pub fn fix(&mut self) {
        self.fixed = true;
    }
}

impl Properties for Mode {
    fn visit(&mut self, visitor: &mut dyn FnMut(&'static PropertyInfo, &mut dyn PropertyField)) {
        if !self.fixed {
            self.legacy.visit(visitor);
        }
    }
}

/// The properties of every virtio device on PCI.
#[derive(Properties)]
pub struct VirtioProperties {
    /// Which interfaces there are.
    #[prop(flatten)]
    pub mode: Mode,
    /// on/off
    #[prop(default = Only::new(true))]
    ioeventfd: Only<bool>,
    #[prop(default = u32::MAX)]
    #[expect(missing_docs, reason = "the doc comment would be the help text, and QEMU has none")]
    pub vectors: u32,
    /// on/off
    #[prop(default = Only::new(false))]
    modern_pio_notify: Only<bool>,
    /// on/off
    #[prop(default = Only::new(false))]
    page_per_vq: Only<bool>,
    /// on/off
    #[prop(default = Only::new(false))]
    ats: Only<bool>,
    /// on/off
    #[prop(default = Only::new(false))]
    aer: Only<bool>,
    /// on/off
    #[prop(part, default = true, name = "indirect_desc")]
    pub indirect_desc: bool,
    /// on/off
    #[prop(part, default = true, name = "event_idx")]
    pub event_idx: bool,
    /// on/off
    #[prop(part, default = true, name = "notify_on_empty")]
    pub notify_on_empty: bool,
    /// on/off
    #[prop(part, default = true, name = "any_layout")]
    pub any_layout: bool,
    /// on/off
    #[prop(part, default = Only::new(false), name = "iommu_platform")]
    iommu_platform: Only<bool>,
    /// on/off
    #[prop(part, default = Only::new(false))]
    packed: Only<bool>,
    /// on/off
    #[prop(part, default = Only::new(false), name = "queue_reset")]
    queue_reset: Only<bool>,
    /// Properties of all PCI devices.
    #[prop(flatten)]
    pub pci: PciProperties,
}

struct State {
    status: u8,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    config_vector: u16,
    generation: u8,
}

impl State {
    const RESET: Self = Self {
        status: 0,
        device_feature_select: 0,
        driver_feature_select: 0,
        driver_features: 0,
        queue_select: 0,
        config_vector: NO_VECTOR,
        generation: 0,
    };
}

/// A virtio device on PCI.
pub struct VirtioPci {
    own: Weak<Self>,
    device: Arc<dyn VirtioDevice>,
    function: Arc<PciFunction>,
    queues: Vec<Mutex<Queue>>,
    state: Mutex<State>,
    isr: AtomicU8,
    broken: AtomicBool,
    transport_features: u64,
    legacy: bool,
    modern: bool,
    vectors: u16,
    worker: OnceLock<Worker>,
}

/// Registers of one part; the transport is reached weakly, since its function holds the regions.
struct Registers(Arc<OnceLock<Weak<VirtioPci>>>, u64);
/// BAR 0.
struct Legacy(Arc<OnceLock<Weak<VirtioPci>>>);

impl VirtioPci {
    /// Puts `device` into `slot`. `class` is its PCI class, `vectors` the MSI-X vectors that it wants.
    ///
    /// # Errors
    /// The slot is taken, or the properties ask for what is not built.
    pub fn new(
        slot: &PciSlot,
        name: &str,
        family: Family,
        properties: &VirtioProperties,
        class: u16,
        vectors: u16,
        device: Arc<dyn VirtioDevice>,
    ) -> Result<Arc<Self>, DeviceError> {
        let legacy = match family {
            Family::Generic => properties.mode.legacy.disable_legacy != OnOffAuto::On,
            Family::Transitional => true,
            Family::NonTransitional => false,
        };
        let modern = !properties.mode.legacy.disable_modern || family != Family::Generic;
        if !legacy && !modern {
            return Err(DeviceError::new(
                "device cannot work as neither modern nor legacy mode is enabled\nSet either disable-modern or \
                 disable-legacy to off",
            ));
        }
        let vectors = match properties.vectors {
            u32::MAX => vectors,
            n => u16::try_from(n).ok().filter(|n| *n <= MSIX_MAX).unwrap_or_else(|| {
                report::warn_report!("unable to init msix vectors to {n}");
                0
            }),
        };
        let id = device.id();
        let ids = Ids {
            vendor: 0x1af4,
            device: if legacy { legacy_id(id) } else { 0x1040 + id },
            revision: u8::from(!legacy),
            class,
            interface: 0,
            subsystem_vendor: 0x1af4,
            subsystem: if legacy { id } else { 0x1100 },
        };
        let link = Arc::new(OnceLock::new());
        let mut builder = FunctionBuilder::new(name, ids).pin(1);
        if modern {
            builder = builder
                .bar(4, BarKind::Memory64 { prefetchable: true }, &modern_region(name, &link))
                .capability(9, None, &location(1, COMMON, &[]))
                .capability(9, None, &location(3, ISR, &[]))
                .capability(9, None, &location(4, DEVICE, &[]))
                .capability(9, None, &location(2, NOTIFY, &NOTIFY_STEP.to_le_bytes()))
                .capability(9, None, &[&[0x14, 5][..], &[0; 16]].concat())
                .writable(CFG_CAPABILITY + 4, 1, 0xff)
                .writable(CFG_CAPABILITY + 8, 4, u32::MAX)
                .writable(CFG_CAPABILITY + 12, 4, u32::MAX)
                .writable(CFG_CAPABILITY + 16, 4, u32::MAX);
        }
        if legacy {
            let size = 24 + device.config().len() as u64;
            let region =
                Region::io(name, size.next_power_of_two(), Arc::new(Legacy(link.clone())), IoRules::ANY);
            builder = builder.bar(0, BarKind::Io, &region);
        }
        if vectors > 0 {
            let at = modern.then_some(MSIX_CAPABILITY);
            builder = builder.msix(MsixLayout { vectors, bar: 1, capability: at });
        }
        let function = slot.add(builder)?;
        let transport_features = [
            (F_NOTIFY_ON_EMPTY, properties.notify_on_empty),
            (F_ANY_LAYOUT, properties.any_layout),
            (F_INDIRECT, properties.indirect_desc),
            (F_EVENT_IDX, properties.event_idx),
        ];
        let transport_features =
            transport_features.into_iter().filter(|(_, on)| *on).fold(0, |bits, (bit, _)| bits | bit);
        let this = Arc::new_cyclic(|own: &Weak<Self>| Self {
            own: own.clone(),
            queues: device.queues().into_iter().map(|max| Mutex::new(Queue::new(max))).collect(),
            device,
            function: function.clone(),
            state: Mutex::new(State::RESET),
            isr: AtomicU8::new(0),
            broken: AtomicBool::new(false),
            transport_features,
            legacy,
            modern,
            vectors,
            worker: OnceLock::new(),
        });
        let of_worker = Arc::downgrade(&this);
        let worker = Worker::new(name, move |index| {
            if let Some(this) = of_worker.upgrade() {
                this.process(index);
            }
        });
        let _ = this.worker.set(worker);
        let _ = link.set(Arc::downgrade(&this));
        this.device.attach(Arc::downgrade(&this));
        function.set_hooks(this.clone());
        Ok(this)
    }

    /// The device's PCI function.
    pub fn function(&self) -> &Arc<PciFunction> {
        &self.function
    }

    /// Asks the worker to look at queue `index`, as a notification by the driver does.
    pub fn kick(&self, index: usize) {
        if index < self.queues.len()
            && let Some(worker) = self.worker.get()
        {
            worker.notify(index);
        }
    }

    /// Tells the driver that the device's configuration changed.
    pub fn config_changed(&self) {
        let vector = {
            let mut state = self.state.lock();
            if state.status & STATUS_DRIVER_OK == 0 {
                return;
            }
            state.generation = state.generation.wrapping_add(1);
            state.config_vector
        };
        self.interrupt(ISR_QUEUE | ISR_CONFIG, vector);
    }

    /// A handle that does not keep the device alive.
    pub fn downgrade(&self) -> Weak<Self> {
        self.own.clone()
    }

    fn interrupt(&self, cause: u8, vector: u16) {
        if self.function.msix_enabled() {
            if vector != NO_VECTOR {
                self.function.raise_msix(vector);
            }
        } else {
            self.isr.fetch_or(cause, Ordering::SeqCst);
            self.function.set_intx(true);
        }
    }

    fn process(&self, index: usize) {
        let running = self.state.lock().status & STATUS_DRIVER_OK != 0;
        let Some(queue) = self.queues.get(index).filter(|_| running) else { return };
        if self.broken.load(Ordering::SeqCst) {
            return;
        }
        let vector = queue.lock().vector;
        let interrupt = || self.interrupt(ISR_QUEUE, vector);
        let mut access =
            QueueAccess { queue, dma: self.function.dma(), broken: &self.broken, interrupt: &interrupt };
        let more = self.device.process(index, &mut access);
        if self.broken.load(Ordering::SeqCst) {
            let vector = {
                let mut state = self.state.lock();
                if state.driver_features & F_VERSION_1 == 0 {
                    return;
                }
                state.status |= STATUS_NEEDS_RESET;
                state.config_vector
            };
            self.interrupt(ISR_CONFIG, vector);
        } else if more {
            self.kick(index);
        }
    }

    fn offered(&self, modern: bool) -> u64 {
        let base = self.device.features() | self.transport_features;
        let legacy_only = F_NOTIFY_ON_EMPTY | F_ANY_LAYOUT;
        if modern { base & !legacy_only | F_VERSION_1 } else { base | F_BAD }
    }

    fn reset_device(&self) {
        let all = || {
            for queue in &self.queues {
                queue.lock().reset();
            }
            *self.state.lock() = State::RESET;
            self.broken.store(false, Ordering::SeqCst);
            self.device.reset();
        };
        match self.worker.get() {
            Some(worker) => worker.while_idle(all),
            None => all(),
        }
        self.isr.store(0, Ordering::SeqCst);
        self.function.set_intx(false);
    }

    fn set_status(&self, value: u8, modern: bool) {
        if value == 0 {
            self.reset_device();
            return;
        }
        let (started, features) = {
            let mut state = self.state.lock();
            let mut value = value | state.status & STATUS_NEEDS_RESET;
            if modern && value & STATUS_FEATURES_OK != 0 && state.status & STATUS_FEATURES_OK == 0 {
                let refused = state.driver_features & !self.offered(true) != 0;
                if refused || state.driver_features & F_VERSION_1 == 0 {
                    value &= !STATUS_FEATURES_OK;
                }
            }
            let started = value & !state.status & STATUS_DRIVER_OK != 0;
            state.status = value;
            (started, state.driver_features)
        };
        if started {
            self.device.set_features(features);
            for (index, queue) in self.queues.iter().enumerate() {
                let ready = {
                    let mut queue = queue.lock();
                    queue.event_idx = features & F_EVENT_IDX != 0;
                    queue.ready
                };
                // What was offered before the device ran is found now.
                if ready {
                    self.kick(index);
                }
            }
        }
    }

    /// A vector that the driver chose, if the table has it.
    fn checked_vector(&self, value: u16) -> u16 {
        if value < self.vectors { value } else { NO_VECTOR }
    }

    /// The bytes `offset..offset+size` of a configuration as a number; zeros beyond its end.
    fn config_read(&self, offset: u64, size: u8) -> u64 {
        let config = self.device.config();
        (0..u64::from(size)).fold(0, |value, i| {
            let byte = usize::try_from(offset + i).ok().and_then(|at| config.get(at)).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * i)
        })
    }

    fn config_write(&self, offset: u64, size: u8, value: u64) {
        let bytes = value.to_le_bytes();
        if let Ok(offset) = usize::try_from(offset)
            && offset + usize::from(size) <= self.device.config().len()
        {
            self.device.write_config(offset, &bytes[..usize::from(size)]);
        }
    }

    fn take_isr(&self) -> u64 {
        let isr = self.isr.swap(0, Ordering::SeqCst);
        self.function.set_intx(false);
        isr.into()
    }

    fn with_queue<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let select = self.state.lock().queue_select;
        self.queues.get(usize::from(select)).map(|q| f(&mut q.lock()))
    }

    /// The 32-bit word (or smaller register) of common configuration at `offset`.
    fn common_read(&self, offset: u64) -> u64 {
        let queue = |f: fn(&Queue) -> u64| self.with_queue(|q| f(q)).unwrap_or(0);
        let state = self.state.lock();
        match offset {
            0x00 => state.device_feature_select.into(),
            0x04 => match state.device_feature_select {
                0 => self.offered(true) & 0xffff_ffff,
                1 => self.offered(true) >> 32,
                _ => 0,
            },
            0x08 => state.driver_feature_select.into(),
            0x0c => match state.driver_feature_select {
                0 => state.driver_features & 0xffff_ffff,
                1 => state.driver_features >> 32,
                _ => 0,
            },
            0x10 => state.config_vector.into(),
            0x12 => self.queues.len() as u64,
            0x14 => state.status.into(),
            0x15 => state.generation.into(),
            0x16 => state.queue_select.into(),
            0x1e => state.queue_select.into(),
            _ => {
                drop(state);
                match offset {
                    0x18 => queue(|q| q.size.into()),
                    0x1a => queue(|q| q.vector.into()),
                    0x1c => queue(|q| q.ready.into()),
                    0x20 => queue(|q| q.descriptors & 0xffff_ffff),
                    0x24 => queue(|q| q.descriptors >> 32),
                    0x28 => queue(|q| q.available & 0xffff_ffff),
                    0x2c => queue(|q| q.available >> 32),
                    0x30 => queue(|q| q.used & 0xffff_ffff),
                    0x34 => queue(|q| q.used >> 32),
                    _ => 0,
                }
            }
        }
    }

    fn common_write(&self, offset: u64, value: u64) {
        let low = |old: u64| old & !0xffff_ffff | value & 0xffff_ffff;
        let high = |old: u64| old & 0xffff_ffff | value << 32;
        let set = |f: &dyn Fn(&mut Queue)| {
            self.with_queue(|q| {
                // A running queue stays as it is.
                if !q.ready {
                    f(q);
                }
            });
        };
        match offset {
            0x00 => self.state.lock().device_feature_select = value as u32,
            0x08 => self.state.lock().driver_feature_select = value as u32,
            0x0c => {
                let mut state = self.state.lock();
                if state.status & STATUS_FEATURES_OK == 0 {
                    match state.driver_feature_select {
                        0 => state.driver_features = low(state.driver_features),
                        1 => state.driver_features = high(state.driver_features),
                        _ => {}
                    }
                }
            }
            0x10 => self.state.lock().config_vector = self.checked_vector(value as u16),
            0x14 => self.set_status(value as u8, true),
            0x16 => self.state.lock().queue_select = value as u16,
            0x18 => set(&|q| {
                let size = value as u16;
                if size.is_power_of_two() && size <= q.max {
                    q.size = size;
                }
            }),
            0x1a => {
                let vector = self.checked_vector(value as u16);
                self.with_queue(|q| q.vector = vector);
            }
            0x1c if value == 1 => set(&|q| q.ready = true),
            0x20 => set(&|q| q.descriptors = low(q.descriptors)),
            0x24 => set(&|q| q.descriptors = high(q.descriptors)),
            0x28 => set(&|q| q.available = low(q.available)),
            0x2c => set(&|q| q.available = high(q.available)),
            0x30 => set(&|q| q.used = low(q.used)),
            0x34 => set(&|q| q.used = high(q.used)),
            _ => {}
        }
    }

    fn part_read(&self, part: u64, offset: u64, size: u8) -> u64 {
        match part {
            COMMON => self.common_read(offset),
            ISR if offset == 0 => self.take_isr(),
            DEVICE => self.config_read(offset, size),
            _ => 0,
        }
    }

    fn part_write(&self, part: u64, offset: u64, size: u8, value: u64) {
        match part {
            // An address written as 64 bits is two registers.
            COMMON if size == 8 => {
                self.common_write(offset, value & 0xffff_ffff);
                self.common_write(offset + 4, value >> 32);
            }
            COMMON => self.common_write(offset, value),
            DEVICE => self.config_write(offset, size, value),
            NOTIFY => self.kick((offset / u64::from(NOTIFY_STEP)) as usize),
            _ => {}
        }
    }

    fn legacy_read(&self, offset: u64, size: u8) -> u64 {
        let config = self.legacy_config();
        match offset {
            0 => self.offered(false) & 0xffff_ffff,
            4 => self.state.lock().driver_features & 0xffff_ffff,
            8 => self.with_queue(|q| q.descriptors >> 12).unwrap_or(0),
            12 => self.with_queue(|q| q.max.into()).unwrap_or(0),
            14 => self.state.lock().queue_select.into(),
            18 => self.state.lock().status.into(),
            19 => self.take_isr(),
            _ if offset >= config => self.config_read(offset - config, size),
            20 => self.state.lock().config_vector.into(),
            22 => self.with_queue(|q| q.vector).unwrap_or(NO_VECTOR).into(),
            _ => 0,
        }
    }

    fn legacy_write(&self, offset: u64, size: u8, value: u64) {
        let config = self.legacy_config();
        match offset {
            4 => {
                let accepted = value & self.offered(false) & !F_BAD;
                self.state.lock().driver_features = accepted;
            }
            8 => {
                if value == 0 {
                    self.reset_device();
                } else {
                    self.with_queue(|q| {
                        // Section 2.7.2: the rings follow each other, the used ring on the next page.
                        q.size = q.max;
                        q.descriptors = (value & 0xffff_ffff) << 12;
                        q.available = q.descriptors + 16 * u64::from(q.size);
                        q.used = (q.available + 6 + 2 * u64::from(q.size)).next_multiple_of(4096);
                        q.ready = true;
                    });
                }
            }
            14 => self.state.lock().queue_select = value as u16,
            16 => self.kick(value as u16 as usize),
            18 => self.set_status(value as u8, false),
            _ if offset >= config => self.config_write(offset - config, size, value),
            20 => self.state.lock().config_vector = self.checked_vector(value as u16),
            22 => {
                let vector = self.checked_vector(value as u16);
                self.with_queue(|q| q.vector = vector);
            }
            _ => {}
        }
    }

    /// Where the device's configuration begins in BAR 0: the vectors' registers come and go with MSI-X.
    fn legacy_config(&self) -> u64 {
        if self.function.msix_enabled() { 24 } else { 20 }
    }

    /// An access through the configuration-space window, if the driver has set it up for one.
    fn window(&self, write: bool) {
        let f = &self.function;
        let bar = f.config(CFG_CAPABILITY + 4, 1);
        let offset = u64::from(f.config(CFG_CAPABILITY + 8, 4));
        let len = f.config(CFG_CAPABILITY + 12, 4);
        if bar != 4 || !matches!(len, 1 | 2 | 4) || offset >= 4 * PART || !offset.is_multiple_of(len.into()) {
            return;
        }
        let (part, inside) = (offset & !(PART - 1), offset & (PART - 1));
        if write {
            let value = f.config(CFG_CAPABILITY + 16, len as u8);
            self.part_write(part, inside, len as u8, value.into());
        } else {
            let value = self.part_read(part, inside, len as u8) as u32;
            f.with_config(|c| c.set(CFG_CAPABILITY + 16, len as u8, value));
        }
    }
}

/// The legacy PCI device id of a virtio device id.
fn legacy_id(id: u16) -> u16 {
    match id {
        1 => 0x1000,
        2 => 0x1001,
        3 => 0x1003,
        4 => 0x1005,
        5 => 0x1002,
        8 => 0x1004,
        9 => 0x1009,
        id => 0x1040 + id,
    }
}

/// A vendor capability that says where a part of BAR 4 is.
fn location(kind: u8, offset: u64, more: &[u8]) -> Vec<u8> {
    let mut body = vec![0x10 + more.len() as u8, kind, 4, 0, 0, 0];
    body.extend((offset as u32).to_le_bytes());
    body.extend((PART as u32).to_le_bytes());
    body.extend(more);
    body
}

/// BAR 4.
fn modern_region(name: &str, link: &Arc<OnceLock<Weak<VirtioPci>>>) -> Region {
    let bar = Region::container("virtio-pci", 4 * PART);
    let parts = [("common", COMMON), ("isr", ISR), ("device", DEVICE), ("notify", NOTIFY)];
    for (part, at) in parts {
        // Common configuration's registers are used whole; a 64-bit one may be written in halves.
        let handler = Arc::new(Registers(link.clone(), at));
        let rules = if at == COMMON { IoRules { impl_max: 4, ..IoRules::ANY } } else { IoRules::ANY };
        bar.add(&Region::io(&format!("virtio-pci-{part}-{name}"), PART, handler, rules), at);
    }
    bar
}

impl IoHandler for Registers {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.get().and_then(Weak::upgrade).map_or(0, |t| t.part_read(self.1, offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if let Some(transport) = self.0.get().and_then(Weak::upgrade) {
            transport.part_write(self.1, offset, size, value);
        }
    }
}

impl IoHandler for Legacy {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.get().and_then(Weak::upgrade).map_or(0, |t| t.legacy_read(offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if let Some(transport) = self.0.get().and_then(Weak::upgrade) {
            transport.legacy_write(offset, size, value);
        }
    }
}

impl PciHooks for VirtioPci {
    fn before_read(&self, _function: &PciFunction, offset: u16, size: u8) {
        let data = CFG_CAPABILITY + 16;
        if self.modern && offset < data + 4 && offset + u16::from(size) > data {
            self.window(false);
        }
    }

    fn after_write(&self, _function: &PciFunction, offset: u16, size: u8) {
        let data = CFG_CAPABILITY + 16;
        if self.modern && offset < data + 4 && offset + u16::from(size) > data {
            self.window(true);
        }
    }
}

impl Device for VirtioPci {
    fn reset(&self) {
        self.reset_device();
        self.function.reset();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }

    fn part(&self) -> Option<Part> {
        let name = self.function.name();
        let base = name.split_once("-pci").map_or(name, |(base, _)| base);
        Some(Part { bus: "virtio-bus", bus_type: "virtio-pci-bus", device: format!("{base}-device") })
    }

    fn property(&self, name: &str) -> Option<String> {
        match name {
            "addr" => Some(self.function.devfn().to_string()),
            "vectors" => Some(u32::from(self.vectors).text()),
            "disable-legacy" => Some(if self.legacy { OnOffAuto::Off } else { OnOffAuto::On }.text()),
            _ => None,
        }
    }

    fn buses(&self) -> Vec<Arc<dyn Bus>> {
        self.device.buses()
    }

    fn resumed(&self) {
        if self.device.resumed() {
            (0..self.queues.len()).for_each(|index| self.kick(index));
        }
    }
}
