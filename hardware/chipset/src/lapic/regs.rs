//! The register file: numbers, reset values, and the rules that need no other part.

use super::bits::Bits;
use super::{APIC_DEFAULT_BASE, ApicConfig, BASE_BSP, BASE_ENABLE, BASE_X2APIC, State};
use irq::Event;

// Register numbers: the offset in the page divided by 16, or the MSR less 0x800.
pub(super) const ID: u8 = 0x02;
const VERSION: u8 = 0x03;
const TPR: u8 = 0x08;
const APR: u8 = 0x09;
const PPR: u8 = 0x0a;
const EOI: u8 = 0x0b;
pub(super) const LDR: u8 = 0x0d;
const DFR: u8 = 0x0e;
const SVR: u8 = 0x0f;
const ISR: u8 = 0x10;
const TMR: u8 = 0x18;
const IRR: u8 = 0x20;
const ESR: u8 = 0x28;
pub(super) const ICR_LOW: u8 = 0x30;
const ICR_HIGH: u8 = 0x31;
const LVT: u8 = 0x32;
const INITIAL: u8 = 0x38;
pub(super) const CURRENT: u8 = 0x39;
const DIVIDE: u8 = 0x3e;
pub(super) const SELF_IPI: u8 = 0x3f;

pub(super) const LVT_TIMER: usize = 0;
pub(super) const LVT_LINT0: usize = 3;
pub(super) const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
const LVT_MASKED: u32 = 1 << 16;
const LVT_LEVEL: u32 = 1 << 15;
/// What the guest can write in each entry: timer, thermal, performance, LINT0, LINT1, error.
const LVT_WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

const SVR_ENABLE: u32 = 1 << 8;
/// Version 0x14, six LVT entries.
const VERSION_VALUE: u32 = 5 << 16 | 0x14;

const ERROR_SEND_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVE_VECTOR: u32 = 1 << 6;
const ERROR_REGISTER: u32 = 1 << 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
    Reserved,
}

/// What a register write asks for beyond the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// The initial count or the divider was written: start anew.
    Timer,
    /// The timer's LVT entry was written.
    TimerMode,
    /// The end of a level-triggered interrupt: tell the I/O APICs.
    Eoi(u8),
    /// Send an interprocessor interrupt.
    Ipi {
        icr: u64,
        x2apic: bool,
    },
}

/// The register number of an offset in the page; the page is 16-byte registers.
pub(super) fn index(offset: u64) -> u8 {
    u8::try_from(offset >> 4 & 0xff).unwrap_or(0)
}

/// The register number of an x2APIC MSR.
pub(super) fn msr_index(msr: u32) -> Option<u8> {
    u8::try_from(msr.checked_sub(0x800)?).ok()
}

/// Whether RDMSR knows the register in x2APIC mode.
pub(super) fn x2apic_readable(index: u8) -> bool {
    matches!(index, ID | VERSION | TPR | PPR | LDR | SVR | ISR..=ESR | ICR_LOW | LVT..=CURRENT | DIVIDE)
}

/// Whether WRMSR accepts the value in x2APIC mode.
pub(super) fn x2apic_writable(index: u8, value: u64) -> bool {
    match index {
        EOI | ESR => value == 0,
        TPR | SELF_IPI => value <= 0xff,
        SVR => value & !0x1fff == 0,
        ICR_LOW => value & 0xfff3_2000 == 0,
        LVT..=0x37 => value & !u64::from(LVT_WRITABLE[usize::from(index - LVT)] | 0x5000) == 0,
        INITIAL => value >> 32 == 0,
        DIVIDE => value & !0xb == 0,
        _ => false,
    }
}

impl State {
    pub(super) fn reset(config: &ApicConfig) -> Self {
        Self {
            base: APIC_DEFAULT_BASE | BASE_ENABLE | if config.bsp { BASE_BSP } else { 0 },
            id: u8::try_from(config.id & 0xff).unwrap_or(0),
            tpr: 0,
            ldr: 0,
            dfr: 0xf,
            svr: 0xff,
            isr: Bits::default(),
            tmr: Bits::default(),
            irr: Bits::default(),
            errors: 0,
            esr: 0,
            icr: 0,
            lvt: [LVT_MASKED; 6],
            divide: 0,
            initial: 0,
            loaded: 0,
            next: None,
            tsc_deadline: 0,
            deadline_at: 0,
            lint: [false; 2],
        }
    }

    fn enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0 && self.svr & SVR_ENABLE != 0
    }

    fn ppr(&self) -> u8 {
        let service = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= service >> 4 { self.tpr } else { service & 0xf0 }
    }

    /// The vector that the processor would get now.
    pub(super) fn pending(&self) -> Option<u8> {
        if !self.enabled() {
            return None;
        }
        self.irr.highest().filter(|vector| vector >> 4 > self.ppr() >> 4)
    }

    /// Whether the PIC's request reaches the processor: through LINT0, or directly while the APIC is off.
    pub(super) fn extint(&self) -> bool {
        let through = self.lvt[LVT_LINT0] & (LVT_MASKED | 0x700) == 0x700;
        self.lint[0] && (through || self.base & (BASE_ENABLE | BASE_BSP) == BASE_BSP)
    }

    /// Takes a vector into IRR.
    pub(super) fn accept(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.error(ERROR_RECEIVE_VECTOR);
            return;
        }
        if !self.irr.has(vector) {
            irq::delivery::taken();
        }
        self.irr.set(vector);
        if level { self.tmr.set(vector) } else { self.tmr.clear(vector) }
    }

    /// Records an error, and raises its interrupt.
    pub(super) fn error(&mut self, bit: u32) {
        if self.errors & bit == 0 {
            self.errors |= bit;
            // The error's own interrupt is fixed; a bad vector in it must not come back here.
            let entry = self.lvt[LVT_ERROR];
            let vector = u8::try_from(entry & 0xff).unwrap_or(0);
            if entry & LVT_MASKED == 0 && vector >= 16 {
                self.accept(vector, false);
            }
        }
    }

    /// An interrupt of the APIC's own: delivers it by its LVT entry. What remains to be posted comes back.
    pub(super) fn local(&mut self, entry: usize) -> Option<Event> {
        let lvt = self.lvt[entry];
        if lvt & LVT_MASKED != 0 {
            return None;
        }
        match lvt >> 8 & 7 {
            0 => {
                let level = (entry == LVT_LINT0 || entry == LVT_LINT1) && lvt & LVT_LEVEL != 0;
                self.accept(u8::try_from(lvt & 0xff).unwrap_or(0), level);
                None
            }
            4 => Some(Event::Nmi),
            // SMI, INIT and ExtINT: the last is a level of its own, the others are not wired.
            _ => None,
        }
    }

    /// A pin changed; true when an NMI is to be posted.
    pub(super) fn local_pin(&mut self, pin: usize, rise: bool) -> bool {
        let entry = LVT_LINT0 + pin;
        if rise {
            return self.local(entry) == Some(Event::Nmi);
        }
        let lvt = self.lvt[entry];
        // A level-triggered fixed interrupt goes away with its line.
        if !self.lint[pin] && lvt & (LVT_LEVEL | 0x700) == LVT_LEVEL {
            self.irr.clear(u8::try_from(lvt & 0xff).unwrap_or(0));
        }
        false
    }

    pub(super) fn timer_mode(&self) -> TimerMode {
        match self.lvt[LVT_TIMER] >> 17 & 3 {
            0 => TimerMode::OneShot,
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::Reserved,
        }
    }

    /// Binary logarithm of the timer's divider.
    pub(super) fn shift(&self) -> u32 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        (code + 1) & 7
    }

    /// Whether a logical destination of an xAPIC message (8 bits) or an x2APIC message (32 bits) means this APIC.
    pub(super) fn matches_logical(&self, destination: u32) -> bool {
        if self.base & BASE_X2APIC != 0 {
            return destination == u32::MAX
                || destination >> 16 == self.ldr >> 16 && destination & self.ldr & 0xffff != 0;
        }
        let destination = if destination == u32::MAX { 0xff } else { destination };
        match self.dfr {
            0xf => destination & self.ldr != 0,
            0 => {
                let cluster = destination >> 4;
                (cluster == 0xf || cluster == self.ldr >> 4) && destination & self.ldr & 0xf != 0
            }
            _ => false,
        }
    }

    pub(super) fn read(&mut self, index: u8) -> u32 {
        match index {
            ID => u32::from(self.id) << 24,
            VERSION => VERSION_VALUE,
            TPR => self.tpr.into(),
            APR => {
                let request = self.irr.highest().unwrap_or(0);
                let service = self.isr.highest().unwrap_or(0);
                u32::from(self.tpr.max(request & 0xf0).max(service & 0xf0))
            }
            PPR => self.ppr().into(),
            EOI => 0,
            LDR => self.ldr << 24,
            DFR => u32::from(self.dfr) << 28 | 0x0fff_ffff,
            SVR => self.svr,
            ISR..TMR => self.isr.word(index - ISR),
            TMR..IRR => self.tmr.word(index - TMR),
            IRR..ESR => self.irr.word(index - IRR),
            ESR => self.esr,
            ICR_LOW => u32::try_from(self.icr & 0xffff_ffff).unwrap_or(0),
            ICR_HIGH => u32::try_from(self.icr >> 32).unwrap_or(0),
            LVT..=0x37 => self.lvt[usize::from(index - LVT)],
            INITIAL => self.initial,
            DIVIDE => self.divide,
            _ => {
                self.error(ERROR_REGISTER);
                0
            }
        }
    }

    pub(super) fn write(&mut self, index: u8, value: u32) -> Action {
        let byte = u8::try_from(value & 0xff).unwrap_or(0);
        match index {
            ID => self.id = u8::try_from(value >> 24).unwrap_or(0),
            TPR => self.tpr = byte,
            EOI => return self.end_of_interrupt(),
            LDR => self.ldr = value >> 24,
            DFR => self.dfr = u8::try_from(value >> 28).unwrap_or(0),
            SVR => {
                self.svr = value & 0x1ff;
                if value & SVR_ENABLE == 0 {
                    self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
                }
            }
            ESR => {
                self.esr = self.errors;
                self.errors = 0;
            }
            ICR_LOW => {
                // The delivery status always reads idle.
                let low = u64::from(value & !(1 << 12));
                self.icr = self.icr & !0xffff_ffff | low;
                if value >> 8 & 7 <= 1 && byte < 16 {
                    self.error(ERROR_SEND_VECTOR);
                }
                return Action::Ipi { icr: self.icr, x2apic: false };
            }
            ICR_HIGH => self.icr = self.icr & 0xffff_ffff | u64::from(value) << 32,
            LVT..=0x37 => {
                let entry = usize::from(index - LVT);
                let forced = if self.svr & SVR_ENABLE == 0 { LVT_MASKED } else { 0 };
                let before = self.timer_mode();
                self.lvt[entry] = value & LVT_WRITABLE[entry] | forced;
                if entry == LVT_TIMER && before != self.timer_mode() {
                    return Action::TimerMode;
                }
            }
            INITIAL => {
                if self.timer_mode() != TimerMode::TscDeadline {
                    self.initial = value;
                    return Action::Timer;
                }
            }
            DIVIDE => {
                self.divide = value & 0xb;
                if self.timer_mode() != TimerMode::TscDeadline {
                    return Action::Timer;
                }
            }
            VERSION | APR | PPR | CURRENT | ISR..ESR => {}
            _ => self.error(ERROR_REGISTER),
        }
        Action::None
    }

    fn end_of_interrupt(&mut self) -> Action {
        let Some(vector) = self.isr.highest() else { return Action::None };
        self.isr.clear(vector);
        if self.tmr.has(vector) { Action::Eoi(vector) } else { Action::None }
    }
}
