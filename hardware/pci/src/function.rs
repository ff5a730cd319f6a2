//! One PCI function: what the bus and the guest see of a device.

use crate::address::Devfn;
use crate::bus::PciBus;
use crate::config::{ConfigSpace, regs};
use crate::msi::Msi;
use crate::msix::{Msix, MsixLayout, Vector};
use guestmem::{Dma, Region};
use irq::MsiMessage;
use parking_lot::Mutex;
use qdev::DeviceError;
use std::sync::{Arc, Weak};

/// Number of base address registers, the expansion ROM's included (it is the last).
pub(crate) const BARS: usize = 7;

/// Who a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class and subclass.
    pub class: u16,
    /// Programming interface.
    pub interface: u8,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// What kind of addresses a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; takes the next BAR too.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// A device's reactions to accesses of its configuration space. Called without any lock of the function held.
pub trait PciHooks: Send + Sync {
    /// The guest is about to read `size` bytes at `offset`.
    fn before_read(&self, function: &PciFunction, offset: u16, size: u8);
    /// The guest has written `size` bytes at `offset`; BARs and masks have followed already.
    fn after_write(&self, function: &PciFunction, offset: u16, size: u8);
}

/// A BAR with what it shows.
pub(crate) struct Bar {
    pub(crate) kind: BarKind,
    pub(crate) region: Region,
    /// Size, a power of two.
    pub(crate) size: u64,
}

struct State {
    config: ConfigSpace,
    /// The device wants its INTx.
    level: bool,
    /// The wire it drives now.
    driven: Option<u8>,
}

/// A function in the making.
pub struct FunctionBuilder {
    name: String,
    config: ConfigSpace,
    bars: [Option<Bar>; BARS],
    msi: Option<Msi>,
    msix: Option<MsixLayout>,
    full: bool,
}

impl FunctionBuilder {
    /// A function called `name` (the device type's name) with a 256-byte configuration space and no BARs.
    pub fn new(name: &str, ids: Ids) -> Self {
        let mut config = ConfigSpace::new(false);
        config.set(regs::VENDOR, 2, ids.vendor.into());
        config.set(regs::DEVICE, 2, ids.device.into());
        config.set(
            regs::REVISION,
            4,
            u32::from(ids.revision) | u32::from(ids.interface) << 8 | u32::from(ids.class) << 16,
        );
        config.set(regs::SUBSYSTEM, 2, ids.subsystem_vendor.into());
        config.set(regs::SUBSYSTEM + 2, 2, ids.subsystem.into());
        Self { name: name.to_owned(), config, bars: Default::default(), msi: None, msix: None, full: false }
    }

    /// Says that the device has several functions.
    pub fn multifunction(mut self, on: bool) -> Self {
        let bit = if on { regs::HEADER_MULTIFUNCTION } else { 0 };
        self.config.set(regs::HEADER_TYPE, 1, bit.into());
        self
    }

    /// Interrupt pin: 1 for INTA#.
    pub fn pin(mut self, pin: u8) -> Self {
        self.config.set(regs::INTERRUPT_PIN, 1, pin.into());
        self
    }

    /// Sets `size` bytes of configuration space.
    pub fn config(mut self, offset: u16, size: u8, value: u32) -> Self {
        self.config.set(offset, size, value);
        self
    }

    /// Sets which bits of `size` bytes of configuration space the guest may write.
    pub fn writable(mut self, offset: u16, size: u8, mask: u32) -> Self {
        self.config.set_writable(offset, size, mask);
        self
    }

    /// BAR `index` (0 to 5; 6 is the expansion ROM) shows `region`, whose size is rounded up to a power of two.
    pub fn bar(mut self, index: u8, kind: BarKind, region: &Region) -> Self {
        let smallest = if kind == BarKind::Io { 4 } else { 16 };
        let size = region.size().max(smallest).next_power_of_two();
        if let Some(slot) = self.bars.get_mut(usize::from(index)) {
            *slot = Some(Bar { kind, region: region.clone(), size });
            let (offset, low) = (bar_offset(index), type_bits(index, kind));
            self.config.set(offset, 4, low);
            // The type bits are fixed; of the address, what the size leaves.
            let mask = !(size - 1);
            let fixed: u64 = if index == 6 {
                0x7fe
            } else if kind == BarKind::Io {
                3
            } else {
                0xf
            };
            self.config.set_writable(offset, 4, (mask & !fixed) as u32 | u32::from(index == 6));
            if matches!(kind, BarKind::Memory64 { .. }) {
                self.config.set_writable(offset + 4, 4, (mask >> 32) as u32);
            }
        }
        self
    }

    /// Adds a capability with `body` after its two header bytes, read-only.
    pub fn capability(mut self, id: u8, at: Option<u8>, body: &[u8]) -> Self {
        self.full |= self.config.add_capability(id, at, body).is_none();
        self
    }

    /// Adds single-vector MSI with its capability at `at`.
    pub fn msi(mut self, at: Option<u8>) -> Self {
        self.msi = Msi::add(&mut self.config, at);
        self.full |= self.msi.is_none();
        self
    }

    /// Adds MSI-X.
    pub fn msix(mut self, layout: MsixLayout) -> Self {
        self.msix = (layout.vectors > 0).then_some(layout);
        self
    }

    /// Makes the function; [`PciBus::add`] calls this.
    pub(crate) fn build(self, bus: &Arc<PciBus>, devfn: Devfn) -> Result<Arc<PciFunction>, DeviceError> {
        let full = || DeviceError::new(format!("{}: no room in PCI configuration space", self.name));
        if self.full {
            return Err(full());
        }
        let failed = std::cell::Cell::new(false);
        let function = Arc::new_cyclic(|weak: &Weak<PciFunction>| {
            let mut this = self;
            let mut msix = None;
            if let Some(layout) = this.msix {
                match Msix::add(&mut this.config, layout, &this.name, weak) {
                    Some((state, region)) => {
                        msix = Some(state);
                        this = this.bar(layout.bar, BarKind::Memory32 { prefetchable: false }, &region);
                    }
                    None => failed.set(true),
                }
            }
            let dma = Dma::new(bus.dma_space());
            dma.set_enabled(false);
            PciFunction {
                name: this.name,
                bus: Arc::downgrade(bus),
                devfn,
                state: Mutex::new(State { config: this.config, level: false, driven: None }),
                bars: this.bars,
                mapped: Mutex::new([None; BARS]),
                msi: this.msi,
                msix,
                dma,
                hooks: Mutex::new(None),
                id: Mutex::new(String::new()),
            }
        });
        if failed.get() {
            return Err(DeviceError::new(format!("{}: no room in PCI configuration space", function.name)));
        }
        Ok(function)
    }
}

/// Offset of BAR `index`'s register.
pub(crate) fn bar_offset(index: u8) -> u16 {
    if index == 6 { regs::ROM } else { regs::BAR0 + 4 * u16::from(index) }
}

/// The read-only low bits of a BAR.
fn type_bits(index: u8, kind: BarKind) -> u32 {
    match kind {
        _ if index == 6 => 0,
        BarKind::Io => 1,
        BarKind::Memory32 { prefetchable } => u32::from(prefetchable) << 3,
        BarKind::Memory64 { prefetchable } => 4 | u32::from(prefetchable) << 3,
    }
}

/// A function on a bus: its configuration space, what its BARs show, its interrupts and its DMA.
pub struct PciFunction {
    name: String,
    bus: Weak<PciBus>,
    devfn: Devfn,
    state: Mutex<State>,
    pub(crate) bars: [Option<Bar>; BARS],
    /// Where each BAR's region is mapped now; also orders concurrent changes.
    mapped: Mutex<[Option<u64>; BARS]>,
    msi: Option<Msi>,
    msix: Option<Msix>,
    dma: Dma,
    hooks: Mutex<Option<Arc<dyn PciHooks>>>,
    id: Mutex<String>,
}

impl PciFunction {
    /// The device type's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address on the bus.
    pub fn devfn(&self) -> Devfn {
        self.devfn
    }

    /// `id=` of the device; empty when it has none.
    pub fn id(&self) -> String {
        self.id.lock().clone()
    }

    /// Sets what [`PciFunction::id`] tells.
    pub fn set_id(&self, id: &str) {
        *self.id.lock() = id.to_owned();
    }

    /// Memory as the function sees it: off until the guest enables bus mastering.
    pub fn dma(&self) -> &Dma {
        &self.dma
    }

    /// Installs the device's reactions. The function keeps the device alive until [`PciBus::remove`].
    pub fn set_hooks(&self, hooks: Arc<dyn PciHooks>) {
        *self.hooks.lock() = Some(hooks);
    }

    pub(crate) fn clear_hooks(&self) {
        let hooks = self.hooks.lock().take();
        drop(hooks);
    }

    /// Works on the configuration space, past the masks. BARs do not follow.
    pub fn with_config<R>(&self, f: impl FnOnce(&mut ConfigSpace) -> R) -> R {
        f(&mut self.state.lock().config)
    }

    /// `size` (1, 2 or 4) bytes of configuration space as they are.
    pub fn config(&self, offset: u16, size: u8) -> u32 {
        self.state.lock().config.get(offset, size)
    }

    /// A guest read of `size` (1, 2 or 4) bytes.
    pub fn config_read(&self, offset: u16, size: u8) -> u32 {
        let hooks = self.hooks.lock().clone();
        if let Some(hooks) = hooks {
            hooks.before_read(self, offset, size);
        }
        self.config(offset, size)
    }

    /// A guest write of `size` (1, 2 or 4) bytes.
    pub fn config_write(&self, offset: u16, size: u8, value: u32) {
        self.state.lock().config.guest_write(offset, size, value);
        self.follow();
        self.update_intx(None);
        self.send_due();
        let hooks = self.hooks.lock().clone();
        if let Some(hooks) = hooks {
            hooks.after_write(self, offset, size);
        }
    }

    /// Sets the level of the function's INTx.
    pub fn set_intx(&self, level: bool) {
        self.update_intx(Some(level));
    }

    fn update_intx(&self, level: Option<bool>) {
        let Some(bus) = self.bus.upgrade() else { return };
        bus.with_wires(|wires| {
            let mut state = self.state.lock();
            if let Some(level) = level {
                state.level = level;
            }
            let status = state.config.get(regs::STATUS, 2) & !u32::from(regs::STATUS_INTERRUPT);
            let pending = if state.level { u32::from(regs::STATUS_INTERRUPT) } else { 0 };
            state.config.set(regs::STATUS, 2, status | pending);
            let pin = state.config.get(regs::INTERRUPT_PIN, 1) as u8;
            let disabled = state.config.get(regs::COMMAND, 2) & u32::from(regs::COMMAND_INTX_DISABLE) != 0;
            let wanted = state.level && !disabled && pin != 0;
            let change = match (state.driven, wanted) {
                (None, true) => {
                    let wire = wires.map(self.devfn, pin - 1);
                    state.driven = Some(wire);
                    Some((wire, true))
                }
                (Some(wire), false) => {
                    state.driven = None;
                    Some((wire, false))
                }
                _ => None,
            };
            drop(state);
            if let Some((wire, on)) = change {
                wires.count(wire, on);
            }
        });
    }

    /// Moves an INTx that is high to the wire that it belongs on now.
    pub(crate) fn remap_intx(&self) {
        let level = self.state.lock().level;
        self.update_intx(Some(false));
        self.update_intx(Some(level));
    }

    /// Whether the guest has switched MSI-X on.
    pub fn msix_enabled(&self) -> bool {
        self.msix.as_ref().is_some_and(|m| m.is_enabled(&self.state.lock().config))
    }

    /// Whether the guest has switched MSI on.
    pub fn msi_enabled(&self) -> bool {
        self.msi.is_some_and(|m| m.is_enabled(&self.state.lock().config))
    }

    /// Sends the MSI-X message of `vector`, or notes it while it is masked. Nothing happens for a vector that the
    /// table has not.
    pub fn raise_msix(&self, vector: u16) {
        let Some(msix) = &self.msix else { return };
        let due = {
            let state = self.state.lock();
            match msix.raise(&state.config, vector) {
                Vector::Send(message) => message,
                Vector::Held => return,
            }
        };
        self.send(due);
    }

    /// Sends the MSI message, if MSI is on.
    pub fn raise_msi(&self) {
        let message = {
            let state = self.state.lock();
            self.msi.filter(|m| m.is_enabled(&state.config)).map(|m| m.message(&state.config))
        };
        if let Some(message) = message {
            self.send(message);
        }
    }

    /// Sends what masks no longer hold back.
    pub(crate) fn send_due(&self) {
        let Some(msix) = &self.msix else { return };
        let due = msix.take_due(&self.state.lock().config);
        for message in due {
            self.send(message);
        }
    }

    fn send(&self, message: MsiMessage) {
        // A message is a memory write: without bus mastering there is none.
        if !self.dma.is_enabled() {
            return;
        }
        if message.address >> 20 == 0xfee {
            if let Some(bus) = self.bus.upgrade() {
                bus.msi().send(message);
            }
        } else {
            self.dma.write_int(message.address, 4, message.data.into());
        }
    }

    /// Where BAR `index` is visible; `None` while it is not.
    pub fn bar_address(&self, index: u8) -> Option<u64> {
        let bar = self.bars.get(usize::from(index))?.as_ref()?;
        let state = self.state.lock();
        let config = &state.config;
        let command = config.get(regs::COMMAND, 2) as u16;
        let low = u64::from(config.get(bar_offset(index), 4));
        let align = !(bar.size - 1);
        match bar.kind {
            BarKind::Io => {
                let address = low & align & 0xffff_fffc;
                let fits = address != 0 && address + (bar.size - 1) < 0x1_0000;
                (command & regs::COMMAND_IO != 0 && fits).then_some(address)
            }
            BarKind::Memory32 { .. } => {
                let enabled = command & regs::COMMAND_MEMORY != 0 && (index != 6 || low & 1 != 0);
                let address = low & align & !0xf;
                (enabled && address != 0 && address + (bar.size - 1) < 0xffff_ffff).then_some(address)
            }
            BarKind::Memory64 { .. } => {
                let high = u64::from(config.get(bar_offset(index) + 4, 4));
                let address = (low | high << 32) & align & !0xf;
                let last = address.checked_add(bar.size - 1)?;
                let enabled = command & regs::COMMAND_MEMORY != 0;
                (enabled && address != 0 && last != u64::MAX).then_some(address)
            }
        }
    }

    /// Makes the region tree and the DMA switch follow the configuration space.
    pub(crate) fn follow(&self) {
        let Some(bus) = self.bus.upgrade() else { return };
        let master = self.config(regs::COMMAND, 2) as u16 & regs::COMMAND_MASTER != 0;
        self.dma.set_enabled(master);
        let mut mapped = self.mapped.lock();
        for (index, bar) in self.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let wanted = self.bar_address(index as u8);
            let space = if bar.kind == BarKind::Io { bus.io() } else { bus.memory() };
            match (mapped[index], wanted) {
                (None, Some(at)) => space.add_overlap(&bar.region, at, 1),
                (Some(old), Some(at)) if old != at => space.move_to(&bar.region, at),
                (Some(_), None) => space.remove(&bar.region),
                _ => {}
            }
            mapped[index] = wanted;
        }
    }

    /// Takes every BAR out of the address spaces (unplug).
    pub(crate) fn unmap(&self) {
        self.set_intx(false);
        self.with_config(|c| c.set(regs::COMMAND, 2, 0));
        self.follow();
    }

    /// Back to the power-up state of header, MSI and MSI-X; the rest of configuration space is the device's.
    pub fn reset(&self) {
        self.set_intx(false);
        {
            let mut state = self.state.lock();
            let config = &mut state.config;
            config.clear_writable(regs::COMMAND, 4);
            config.clear_writable(regs::CACHE_LINE, 1);
            config.clear_writable(regs::INTERRUPT_LINE, 1);
            for (index, bar) in self.bars.iter().enumerate() {
                let Some(bar) = bar else { continue };
                let index = index as u8;
                config.set(bar_offset(index), 4, type_bits(index, bar.kind));
                if matches!(bar.kind, BarKind::Memory64 { .. }) {
                    config.set(bar_offset(index) + 4, 4, 0);
                }
            }
            if let Some(msi) = self.msi {
                msi.reset(config);
            }
            if let Some(msix) = &self.msix {
                msix.reset(config);
            }
        }
        self.follow();
    }
}
