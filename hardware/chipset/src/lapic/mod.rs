//! The local APICs and the bus between them, with the I/O APICs and the message-signalled interrupts.
//!
//! Registers and rules: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller"; identity as QEMU's
//! `apic` (version 0x14, six LVT entries, a timer that counts nanoseconds).
//!
//! Lock order: PIC or I/O APIC, then one local APIC; a local APIC never calls out with its own lock held, except to
//! its vCPU's mailbox. So the mailbox's [`Event::Intr`] is always what the registers say.

mod bits;
mod bus;
mod describe;
mod regs;
#[cfg(test)]
mod tests;

pub use bus::{ApicBus, EoiListener, Interrupt, MsiPort};

use bits::Bits;
use clock::{Clock, Timer};
use irq::{CpuSignals, Event};
use parking_lot::Mutex;
use regs::Action;
use std::sync::{Arc, Weak};

/// The default physical address of the register page.
pub const APIC_DEFAULT_BASE: u64 = 0xfee0_0000;
/// IA32_APIC_BASE: this is the bootstrap processor.
const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
const BASE_X2APIC: u64 = 1 << 10;
/// IA32_APIC_BASE: the APIC is on.
const BASE_ENABLE: u64 = 1 << 11;

/// IA32_TSC_DEADLINE.
const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// What may differ between local APICs.
#[derive(Clone, Copy, Debug)]
pub struct ApicConfig {
    /// The APIC ID.
    pub id: u32,
    /// Whether this is the bootstrap processor's.
    pub bsp: bool,
    /// Whether CPUID offers x2APIC mode.
    pub x2apic: bool,
    /// Whether CPUID offers the TSC-deadline timer.
    pub tsc_deadline: bool,
    /// Physical address bits, which bound IA32_APIC_BASE.
    pub phys_bits: u8,
}

impl ApicConfig {
    /// The APIC of processor `id` (0 is the bootstrap processor) with x2APIC mode.
    pub fn new(id: u32) -> Self {
        Self { id, bsp: id == 0, x2apic: true, tsc_deadline: false, phys_bits: 40 }
    }
}

/// The registers.
struct State {
    base: u64,
    /// The xAPIC ID register (bits 31:24 of it).
    id: u8,
    tpr: u8,
    /// Logical destination: 8 bits in xAPIC mode, 32 in x2APIC mode.
    ldr: u32,
    /// Bits 31:28 of the destination format register.
    dfr: u8,
    svr: u32,
    isr: Bits,
    tmr: Bits,
    irr: Bits,
    /// Errors seen since the last write to ESR, and what ESR reads.
    errors: u32,
    esr: u32,
    icr: u64,
    lvt: [u32; 6],
    divide: u32,
    initial: u32,
    /// Guest time of the write to the initial count.
    loaded: u64,
    /// Guest time of the timer's next interrupt.
    next: Option<u64>,
    tsc_deadline: u64,
    /// Guest time at which the time-stamp counter reaches the deadline.
    deadline_at: u64,
    /// The PIC's output, and the NMI line of the board.
    lint: [bool; 2],
}

/// One local APIC.
pub struct LocalApic {
    config: ApicConfig,
    clock: Clock,
    signals: Arc<CpuSignals>,
    bus: Weak<ApicBus>,
    timer: Timer,
    state: Mutex<State>,
}

impl LocalApic {
    /// A local APIC in its reset state; [`ApicBus::create`] makes it reachable.
    fn new(config: ApicConfig, clock: &Clock, signals: Arc<CpuSignals>, bus: Weak<ApicBus>) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let me = weak.clone();
            Self {
                config,
                clock: clock.clone(),
                signals,
                bus,
                timer: clock.timer(move || {
                    if let Some(apic) = me.upgrade() {
                        apic.timer_fired();
                    }
                }),
                state: Mutex::new(State::reset(&config)),
            }
        })
    }

    /// The APIC ID.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// The vCPU's mailbox.
    pub fn signals(&self) -> &Arc<CpuSignals> {
        &self.signals
    }

    /// Power-on and system reset.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let lint = state.lint;
        *state = State { lint, ..State::reset(&self.config) };
        self.timer.disarm();
        self.update(&state);
    }

    /// INIT: everything but the ID and IA32_APIC_BASE returns to its reset state.
    pub fn init_reset(&self) {
        let mut state = self.state.lock();
        let (base, id, lint) = (state.base, state.id, state.lint);
        *state = State { base, id, lint, ..State::reset(&self.config) };
        if base & BASE_X2APIC != 0 {
            state.ldr = x2apic_ldr(self.config.id);
        }
        self.timer.disarm();
        self.update(&state);
    }

    /// What firmware leaves behind and a directly booted kernel expects: the APIC on, LINT0 = ExtINT, LINT1 = NMI.
    pub fn set_virtual_wire(&self) {
        let mut state = self.state.lock();
        state.svr = 0x1ff;
        state.lvt[regs::LVT_LINT0] = 0x8700;
        state.lvt[regs::LVT_LINT1] = 0x8400;
        self.update(&state);
    }

    /// Keeps the mailbox's level at what the registers say; the state's lock is held.
    fn update(&self, state: &State) {
        if state.pending().is_some() || state.extint() {
            self.signals.raise(Event::Intr);
        } else {
            self.signals.clear(Event::Intr);
        }
    }

    /// The interrupt acknowledge cycle; `None` when nothing is pending any more.
    pub fn acknowledge(&self) -> Option<u8> {
        let from_pic = {
            let mut state = self.state.lock();
            if let Some(vector) = state.pending() {
                state.irr.clear(vector);
                state.isr.set(vector);
                self.update(&state);
                return Some(vector);
            }
            state.extint()
        };
        if !from_pic {
            return None;
        }
        self.bus.upgrade().and_then(|bus| bus.acknowledge_pic())
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.state.lock().base
    }

    /// Writes IA32_APIC_BASE; false raises #GP.
    pub fn set_base(&self, value: u64) -> bool {
        let address = ((1_u64 << self.config.phys_bits.clamp(32, 52)) - 1) & !0xfff;
        let x2apic = if self.config.x2apic { BASE_X2APIC } else { 0 };
        if value & !(address | BASE_BSP | BASE_ENABLE | x2apic) != 0 {
            return false;
        }
        let mut state = self.state.lock();
        let mode = |base: u64| (base & BASE_ENABLE != 0, base & BASE_X2APIC != 0);
        match (mode(state.base), mode(value)) {
            // No such mode; x2APIC is entered from xAPIC mode only and left to the disabled state only.
            (_, (false, true)) | ((false, _), (true, true)) | ((_, true), (true, false)) => return false,
            ((_, false), (true, true)) => state.ldr = x2apic_ldr(self.config.id),
            (_, (false, false)) => {
                let (lint, tpr) = (state.lint, state.tpr);
                *state = State { lint, tpr, ..State::reset(&self.config) };
                self.timer.disarm();
            }
            _ => {}
        }
        state.base = value;
        self.update(&state);
        true
    }

    /// Whether `address` is in the register page, as this vCPU sees it now.
    pub fn covers(&self, address: u64) -> bool {
        let base = self.state.lock().base;
        base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE && address & !0xfff == base & !0xfff & !(1 << 63)
    }

    /// CR8: bits 7:4 of the task priority.
    pub fn tpr(&self) -> u8 {
        self.state.lock().tpr >> 4
    }

    /// Writes CR8.
    pub fn set_tpr(&self, value: u8) {
        let mut state = self.state.lock();
        state.tpr = value << 4;
        self.update(&state);
    }

    /// Reads the register page. Only aligned 32-bit registers exist.
    pub fn mmio_read(&self, offset: u64, size: u8) -> u64 {
        if size != 4 {
            return 0;
        }
        let mut state = self.state.lock();
        let index = regs::index(offset);
        if index == regs::CURRENT { self.current_count(&state).into() } else { state.read(index).into() }
    }

    /// Writes the register page.
    pub fn mmio_write(&self, offset: u64, size: u8, value: u64) {
        if size == 4 {
            let value = u32::try_from(value & 0xffff_ffff).unwrap_or(0);
            let index = regs::index(offset);
            self.write_register(index, value);
        }
    }

    fn write_register(&self, index: u8, value: u32) {
        let action = {
            let mut state = self.state.lock();
            let action = state.write(index, value);
            match action {
                Action::Timer => {
                    state.loaded = self.clock.now();
                    state.tsc_deadline = 0;
                    self.schedule(&mut state);
                }
                Action::TimerMode => self.timer_mode_changed(&mut state),
                _ => {}
            }
            self.update(&state);
            action
        };
        self.act(action);
    }

    /// Does what a register write asks of the others, without the lock.
    fn act(&self, action: Action) {
        let Some(bus) = self.bus.upgrade() else { return };
        match action {
            Action::Eoi(vector) => bus.eoi(vector),
            Action::Ipi { icr, x2apic } => bus.ipi(self, icr, x2apic),
            Action::None | Action::Timer | Action::TimerMode => {}
        }
    }

    /// An x2APIC register or IA32_TSC_DEADLINE; `None` raises #GP.
    pub fn msr_read(&self, msr: u32) -> Option<u64> {
        let mut state = self.state.lock();
        if msr == MSR_TSC_DEADLINE {
            return self.config.tsc_deadline.then_some(state.tsc_deadline);
        }
        let index = regs::msr_index(msr)?;
        if state.base & BASE_X2APIC == 0 || !regs::x2apic_readable(index) {
            return None;
        }
        match index {
            regs::ID => Some(self.config.id.into()),
            regs::LDR => Some(state.ldr.into()),
            regs::ICR_LOW => Some(state.icr),
            regs::CURRENT => Some(self.current_count(&state).into()),
            _ => Some(state.read(index).into()),
        }
    }

    /// Writes an x2APIC register; false raises #GP.
    pub fn msr_write(&self, msr: u32, value: u64) -> bool {
        let Some(index) = regs::msr_index(msr) else { return false };
        if self.base() & BASE_X2APIC == 0 || !regs::x2apic_writable(index, value) {
            return false;
        }
        match index {
            regs::ICR_LOW => {
                self.state.lock().icr = value & !(1 << 12);
                self.act(Action::Ipi { icr: value, x2apic: true });
            }
            // A fixed, edge-triggered interrupt to itself.
            regs::SELF_IPI => self.deliver_fixed(u8::try_from(value & 0xff).unwrap_or(0), false),
            _ => self.write_register(index, u32::try_from(value).unwrap_or(0)),
        }
        true
    }

    /// Accepts a fixed (or lowest-priority) interrupt.
    pub(crate) fn deliver_fixed(&self, vector: u8, level: bool) {
        let mut state = self.state.lock();
        if state.base & BASE_ENABLE == 0 {
            return;
        }
        state.accept(vector, level);
        self.update(&state);
    }

    /// The PIC's output (pin 0, LINT0) or the NMI line (pin 1, LINT1).
    pub(crate) fn set_lint(&self, pin: usize, level: bool) {
        let nmi = {
            let mut state = self.state.lock();
            let rise = level && !state.lint[pin];
            state.lint[pin] = level;
            let nmi = state.local_pin(pin, rise);
            self.update(&state);
            nmi
        };
        if nmi {
            self.signals.raise(Event::Nmi);
        }
    }

    /// A pulse on the NMI line (LINT1), as the board's NMI button gives it.
    pub fn nmi_button(&self) {
        self.set_lint(1, true);
        self.set_lint(1, false);
    }

    fn local_interrupt(&self, state: &mut State, entry: usize) {
        if let Some(Event::Nmi) = state.local(entry) {
            self.signals.raise(Event::Nmi);
        }
    }

    // The timer.

    fn current_count(&self, state: &State) -> u32 {
        let elapsed = self.clock.now().saturating_sub(state.loaded) >> state.shift();
        let initial = u64::from(state.initial);
        let count = match state.timer_mode() {
            regs::TimerMode::Periodic if initial > 0 => initial - elapsed % initial,
            regs::TimerMode::OneShot => initial.saturating_sub(elapsed),
            _ => 0,
        };
        u32::try_from(count).unwrap_or(0)
    }

    /// Sets the host timer for the next interrupt of the present mode.
    fn schedule(&self, state: &mut State) {
        let now = self.clock.now();
        let period = u64::from(state.initial) << state.shift();
        state.next = match state.timer_mode() {
            regs::TimerMode::OneShot if period > 0 => Some(state.loaded + period).filter(|&at| at > now),
            regs::TimerMode::Periodic if period > 0 => {
                Some(state.loaded + (now.saturating_sub(state.loaded) / period + 1) * period)
            }
            regs::TimerMode::TscDeadline if state.tsc_deadline != 0 => Some(state.deadline_at),
            _ => None,
        };
        match state.next {
            Some(at) => self.timer.arm(at),
            None => self.timer.disarm(),
        }
    }

    fn timer_mode_changed(&self, state: &mut State) {
        if state.timer_mode() == regs::TimerMode::TscDeadline {
            state.initial = 0;
        } else {
            state.tsc_deadline = 0;
        }
        self.schedule(state);
    }

    /// Writes IA32_TSC_DEADLINE while the counter shows `now` and counts `hz` times in a second; false raises #GP.
    pub fn set_tsc_deadline(&self, deadline: u64, now: u64, hz: u64) -> bool {
        if !self.config.tsc_deadline {
            return false;
        }
        let mut state = self.state.lock();
        if state.timer_mode() != regs::TimerMode::TscDeadline {
            return true;
        }
        if deadline != 0 && now >= deadline {
            state.tsc_deadline = 0;
            self.local_interrupt(&mut state, regs::LVT_TIMER);
            self.update(&state);
        } else {
            state.tsc_deadline = deadline;
            let wait = clock::muldiv64(deadline.saturating_sub(now), clock::NANOS, hz.max(1));
            // One nanosecond more than the quotient: never early.
            state.deadline_at = self.clock.now().saturating_add(wait).saturating_add(1);
        }
        self.schedule(&mut state);
        true
    }

    fn timer_fired(&self) {
        let mut state = self.state.lock();
        // A call that was under way when the timer was set anew comes too early.
        if state.next.is_none_or(|at| at > self.clock.now()) {
            return;
        }
        if state.timer_mode() == regs::TimerMode::TscDeadline {
            state.tsc_deadline = 0;
        }
        self.local_interrupt(&mut state, regs::LVT_TIMER);
        self.schedule(&mut state);
        self.update(&state);
    }
}

/// The logical x2APIC ID that follows from the APIC ID: cluster in the upper half, one bit in the lower.
fn x2apic_ldr(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}
