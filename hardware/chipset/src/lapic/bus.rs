//! The bus between local APICs, I/O APICs, the PIC and devices that send messages.

use super::{ApicConfig, BASE_ENABLE, BASE_X2APIC, LocalApic};
use crate::pic::Pic;
use clock::Clock;
use guestmem::IoHandler;
use irq::{CpuSignals, Event, IrqSink, MsiMessage, MsiSink};
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock, Weak};

/// An I/O APIC, which is told of the end of level-triggered interrupts.
pub trait EoiListener: Send + Sync {
    /// A processor has finished `vector`, which was level-triggered.
    fn eoi(&self, vector: u8);
}

/// One interrupt message on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// APIC ID or logical destination.
    pub destination: u32,
    /// Whether the destination is logical.
    pub logical: bool,
    /// Delivery mode, 0 to 7, as in the ICR.
    pub mode: u8,
    /// Vector.
    pub vector: u8,
    /// Level-triggered rather than edge-triggered.
    pub level: bool,
}

/// The bus.
pub struct ApicBus {
    me: Weak<Self>,
    cpus: RwLock<Vec<Arc<LocalApic>>>,
    listeners: RwLock<Vec<Weak<dyn EoiListener>>>,
    pic: OnceLock<Arc<Pic>>,
}

impl ApicBus {
    /// A bus without processors.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            cpus: RwLock::default(),
            listeners: RwLock::default(),
            pic: OnceLock::new(),
        })
    }

    /// Makes a local APIC and puts it on the bus.
    pub fn create(&self, config: ApicConfig, clock: &Clock, signals: Arc<CpuSignals>) -> Arc<LocalApic> {
        let apic = LocalApic::new(config, clock, signals, self.me.clone());
        self.cpus.write().push(apic.clone());
        apic
    }

    /// The local APICs, in the order of their making.
    pub fn cpus(&self) -> Vec<Arc<LocalApic>> {
        self.cpus.read().clone()
    }

    /// Tells the processors which PIC answers their acknowledge cycles. Only the first call has an effect.
    pub fn set_pic(&self, pic: Arc<Pic>) {
        let _ = self.pic.set(pic);
    }

    /// Lets an I/O APIC hear of ends of interrupts.
    pub fn add_listener(&self, listener: Weak<dyn EoiListener>) {
        self.listeners.write().push(listener);
    }

    pub(super) fn acknowledge_pic(&self) -> Option<u8> {
        self.pic.get().and_then(|pic| pic.acknowledge())
    }

    pub(super) fn eoi(&self, vector: u8) {
        let listeners: Vec<_> = self.listeners.read().iter().filter_map(Weak::upgrade).collect();
        for listener in listeners {
            listener.eoi(vector);
        }
    }

    fn matches(apic: &LocalApic, message: &Interrupt) -> bool {
        let state = apic.state.lock();
        if state.base & BASE_ENABLE == 0 {
            // INIT, NMI and start-up messages need an APIC that is on.
            return false;
        }
        if message.logical {
            return state.matches_logical(message.destination);
        }
        let id = if state.base & BASE_X2APIC != 0 { apic.config.id } else { state.id.into() };
        message.destination == id
    }

    /// Delivers to every local APIC that the destination means (one of them, for lowest priority).
    ///
    /// `broadcast` is the physical destination that means all: 0xff, or all ones from an x2APIC.
    fn send_to(&self, message: &Interrupt, broadcast: u32) {
        let cpus = self.cpus.read();
        for apic in cpus.iter() {
            let all = !message.logical && message.destination == broadcast;
            if all || Self::matches(apic, message) {
                Self::deliver(apic, message);
                if message.mode == 1 {
                    // Lowest priority: the first of the group, as in QEMU.
                    break;
                }
            }
        }
    }

    /// Delivers a message of an I/O APIC or a device.
    pub fn send_interrupt(&self, message: &Interrupt) {
        self.send_to(message, 0xff);
    }

    fn deliver(apic: &LocalApic, message: &Interrupt) {
        match message.mode {
            0 | 1 => apic.deliver_fixed(message.vector, message.level),
            4 => apic.signals.raise(Event::Nmi),
            5 => {
                apic.init_reset();
                apic.signals.raise(Event::Init);
            }
            6 => apic.signals.raise_sipi(message.vector),
            mode => report::log_item!(GuestErrors, "apic: delivery mode {mode} is not supported\n"),
        }
    }

    pub(super) fn ipi(&self, from: &LocalApic, icr: u64, x2apic: bool) {
        let mode = u8::try_from(icr >> 8 & 7).unwrap_or(0);
        let level = icr & 1 << 15 != 0;
        let assert = icr & 1 << 14 != 0;
        if mode == 5 && level && !assert {
            // INIT level de-assert: only old processors' arbitration IDs change.
            return;
        }
        let message = Interrupt {
            destination: u32::try_from(if x2apic { icr >> 32 } else { icr >> 56 }).unwrap_or(0),
            logical: icr & 1 << 11 != 0,
            mode,
            vector: u8::try_from(icr & 0xff).unwrap_or(0),
            // Interprocessor interrupts other than INIT are edge-triggered, whatever the bit says.
            level: false,
        };
        match icr >> 18 & 3 {
            0 => self.send_to(&message, if x2apic { u32::MAX } else { 0xff }),
            1 => {
                if mode == 0 {
                    from.deliver_fixed(message.vector, false);
                }
            }
            shorthand => {
                for apic in self.cpus.read().iter() {
                    if shorthand == 2 || !std::ptr::eq(Arc::as_ptr(apic), from) {
                        Self::deliver(apic, &message);
                    }
                }
            }
        }
    }

    /// Raises NMI on every processor through LINT1 (the board's NMI button), as the monitor's `nmi` does.
    pub fn nmi(&self) {
        for apic in self.cpus.read().iter() {
            apic.nmi_button();
        }
    }
}

/// Input 0 is the PIC's output.
impl IrqSink for ApicBus {
    fn set_level(&self, _line: u32, level: bool) {
        for apic in self.cpus.read().iter() {
            apic.set_lint(0, level);
        }
    }

    fn import_level(&self, _line: u32, level: bool) {
        for apic in self.cpus.read().iter() {
            let mut state = apic.state.lock();
            state.lint[0] = level;
            apic.update(&state);
        }
    }
}

impl MsiSink for ApicBus {
    fn send(&self, message: MsiMessage) {
        let address = message.address;
        let data = message.data;
        let id = u32::try_from(address >> 12 & 0xff).unwrap_or(0);
        // Bits 63:40 carry the upper destination bits of an interrupt controller with extended destinations.
        let high = u32::try_from(address >> 40 << 8 & 0xffff_ff00).unwrap_or(0);
        self.send_interrupt(&Interrupt {
            destination: id | high,
            logical: address & 4 != 0,
            mode: u8::try_from(data >> 8 & 7).unwrap_or(0),
            vector: u8::try_from(data & 0xff).unwrap_or(0),
            level: data & 1 << 15 != 0,
        });
    }
}

/// The megabyte at 0xfee00000 as devices see it: writes are messages. (A processor's own page is its APIC's
/// [`LocalApic::mmio_write`].)
pub struct MsiPort {
    bus: Arc<ApicBus>,
}

impl MsiPort {
    /// The window onto `bus`.
    pub fn new(bus: Arc<ApicBus>) -> Arc<Self> {
        Arc::new(Self { bus })
    }
}

impl IoHandler for MsiPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if size == 4 {
            let data = u32::try_from(value & 0xffff_ffff).unwrap_or(0);
            self.bus.send(MsiMessage { address: super::APIC_DEFAULT_BASE + offset, data });
        }
    }
}
