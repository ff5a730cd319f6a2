//! The MC146818 real-time clock with its CMOS RAM (`mc146818rtc`), ports 0x70 and 0x71.
//!
//! Source: Motorola MC146818A data sheet; the century at 0x32 as PC firmware keeps it. The time of day follows guest
//! time from a base that the board sets; seconds are computed when they are read, and a timer runs only while an
//! interrupt needs it.

mod date;
#[cfg(test)]
mod tests;

pub use date::DateTime;

use crate::window::{byte, window};
use clock::{Clock, NANOS, Timer};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

const REG_A: usize = 0x0a;
const REG_B: usize = 0x0b;
const REG_C: usize = 0x0c;
const REG_D: usize = 0x0d;
/// The century's register.
const CENTURY: usize = 0x32;

const A_UIP: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_PIE: u8 = 0x40;
const B_AIE: u8 = 0x20;
const B_UIE: u8 = 0x10;
const B_BINARY: u8 = 4;
const B_24H: u8 = 2;
const C_IRQF: u8 = 0x80;
const C_PF: u8 = 0x40;
const C_AF: u8 = 0x20;
const C_UF: u8 = 0x10;
const D_VALID: u8 = 0x80;

/// How long before a second's end UIP is shown: 244 microseconds (8 ticks of 32768 Hz).
const UIP_HOLD: u64 = 8 * NANOS / 32_768;
/// The shortest period that is timed; shorter ones (down to 122 us) are the chip's own.
const CLOCK_HZ: u64 = 32_768;

struct State {
    ram: [u8; 128],
    index: u8,
    /// Seconds since 1970, as the clock showed them at guest time `base_at`.
    base: i64,
    base_at: u64,
    /// The last second that was handled for alarm and update interrupts.
    handled: i64,
    periodic: Option<u64>,
    second: Option<u64>,
    irq_on: bool,
    lost: LostTicks,
    /// Periodic interrupts that are owed.
    owed: u32,
    /// How many of them were made up for right after an acknowledgement since the last regular one.
    on_acknowledge: u8,
}

/// What becomes of periodic interrupts that the guest was too slow to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostTicks {
    /// They are lost.
    #[default]
    Discard,
    /// They follow as soon as the guest can take them.
    Slew,
}

/// Most interrupts that follow acknowledgements directly, one a regular interrupt: the guest has other work too.
const MAX_ON_ACKNOWLEDGE: u8 = 20;

impl State {
    fn running(&self) -> bool {
        // Divider chains 000..010 run (others hold it in reset or test it).
        self.ram[REG_B] & B_SET == 0 && self.ram[REG_A] & 0x70 <= 0x20
    }

    fn seconds(&self, now: u64) -> i64 {
        let elapsed = if self.running() { now.saturating_sub(self.base_at) / NANOS } else { 0 };
        self.base.saturating_add_unsigned(elapsed)
    }

    fn to_register(&self, value: u8) -> u8 {
        if self.ram[REG_B] & B_BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn register(&self, value: u8) -> u8 {
        if self.ram[REG_B] & B_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
    }

    fn hour_to_register(&self, hour: u8) -> u8 {
        if self.ram[REG_B] & B_24H != 0 {
            return self.to_register(hour);
        }
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        self.to_register(twelve) | if hour >= 12 { 0x80 } else { 0 }
    }

    fn hour(&self, value: u8) -> u8 {
        if self.ram[REG_B] & B_24H != 0 {
            return self.register(value);
        }
        self.register(value & 0x7f) % 12 + if value & 0x80 != 0 { 12 } else { 0 }
    }

    /// Writes the time of day into the registers.
    fn store_time(&mut self, seconds: i64) {
        let t = DateTime::from_seconds(seconds);
        self.ram[0] = self.to_register(t.second);
        self.ram[2] = self.to_register(t.minute);
        self.ram[4] = self.hour_to_register(t.hour);
        self.ram[6] = self.to_register(t.weekday());
        self.ram[7] = self.to_register(t.day);
        self.ram[8] = self.to_register(t.month);
        self.ram[9] = self.to_register(u8::try_from(t.year.rem_euclid(100)).unwrap_or(0));
        self.ram[CENTURY] =
            self.to_register(u8::try_from(t.year.div_euclid(100).rem_euclid(100)).unwrap_or(0));
    }

    /// Reads the time of day from the registers.
    fn load_time(&self) -> i64 {
        let r = |i: usize| self.register(self.ram[i]);
        DateTime {
            second: r(0),
            minute: r(2),
            hour: self.hour(self.ram[4]),
            day: r(7),
            month: r(8),
            year: i64::from(r(9)) + 100 * i64::from(r(CENTURY)),
        }
        .to_seconds()
    }

    fn alarm_matches(&self, seconds: i64) -> bool {
        let t = DateTime::from_seconds(seconds);
        let same = |alarm: u8, value: u8| alarm >= 0xc0 || value == self.register(alarm);
        same(self.ram[1], t.second)
            && same(self.ram[3], t.minute)
            && (self.ram[5] >= 0xc0 || t.hour == self.hour(self.ram[5]))
    }

    /// The periodic interrupt's period in nanoseconds.
    fn period(&self) -> Option<u64> {
        let rate = self.ram[REG_A] & 0xf;
        if rate == 0 || self.ram[REG_A] & 0x70 > 0x20 {
            return None;
        }
        // Rates 1 and 2 repeat 8 and 9 with the usual time base.
        let shift = if rate <= 2 { rate + 6 } else { rate - 1 };
        Some((1_u64 << shift) * NANOS / CLOCK_HZ)
    }

    /// Sets flags of register C, and IRQF when one of them is enabled.
    fn flag(&mut self, flags: u8) {
        self.ram[REG_C] |= flags;
        if self.ram[REG_C] & self.ram[REG_B] & (B_PIE | B_AIE | B_UIE) != 0 {
            self.ram[REG_C] |= C_IRQF;
        }
    }

    /// Catches up with the seconds that have passed: update-ended and alarm flags.
    fn catch_up(&mut self, now: u64) {
        if !self.running() {
            return;
        }
        let seconds = self.seconds(now);
        if seconds <= self.handled {
            return;
        }
        let mut flags = C_UF;
        // An alarm repeats daily at the latest.
        let first = self.handled.saturating_add(1).max(seconds.saturating_sub(86_400));
        if seconds - self.handled <= 2 || self.ram[REG_B] & B_AIE != 0 {
            if (first..=seconds).any(|s| self.alarm_matches(s)) {
                flags |= C_AF;
            }
        } else if self.alarm_matches(seconds) {
            flags |= C_AF;
        }
        self.handled = seconds;
        self.flag(flags);
    }
}

/// The clock.
pub struct Rtc {
    clock: Clock,
    irq: IrqLine,
    timer: Timer,
    /// Makes up for what is owed.
    slew: Timer,
    state: Mutex<State>,
    /// Held while the line is driven, so that levels arrive in the order they were computed.
    wire: Mutex<bool>,
}

impl Rtc {
    /// A clock that shows `seconds` since 1970 now (local time, if the guest wants that) and drives `irq`.
    pub fn new(clock: &Clock, irq: IrqLine, seconds: i64) -> Arc<Self> {
        let mut ram = [0; 128];
        ram[REG_A] = 0x26;
        ram[REG_B] = B_24H;
        ram[REG_D] = D_VALID;
        let mut state = State {
            ram,
            index: 0,
            base: seconds,
            base_at: clock.now(),
            handled: seconds,
            periodic: None,
            second: None,
            irq_on: true,
            lost: LostTicks::Discard,
            owed: 0,
            on_acknowledge: 0,
        };
        state.store_time(seconds);
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let (me, slewed) = (weak.clone(), weak.clone());
            Self {
                clock: clock.clone(),
                irq,
                timer: clock.timer(move || {
                    if let Some(rtc) = me.upgrade() {
                        rtc.timer_fired();
                    }
                }),
                slew: clock.timer(move || {
                    if let Some(rtc) = slewed.upgrade() {
                        rtc.make_up();
                    }
                }),
                state: Mutex::new(state),
                wire: Mutex::new(false),
            }
        })
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        let region = window(
            "rtc",
            2,
            IoRules::BYTES,
            self,
            |r, o, _| if o & 1 == 0 { 0xff } else { r.read().into() },
            |r, o, _, v| if o & 1 == 0 { r.state.lock().index = byte(v) & 0x7f } else { r.write(byte(v)) },
        );
        vec![(0x70, region)]
    }

    /// System reset: interrupts off; time, alarm and RAM stay.
    pub fn reset(&self) {
        {
            let mut state = self.state.lock();
            state.ram[REG_B] &= !(B_PIE | B_AIE | B_UIE | 8);
            state.ram[REG_C] = 0;
            state.irq_on = true;
            state.owed = 0;
            state.on_acknowledge = 0;
            self.schedule(&mut state);
            self.slew.disarm();
        }
        self.update();
    }

    /// Sets a byte of the CMOS RAM, as the board does for its firmware.
    pub fn set_cmos(&self, index: u8, value: u8) {
        self.state.lock().ram[usize::from(index & 0x7f)] = value;
    }

    /// A byte of the CMOS RAM, or a register as it was last stored.
    pub fn cmos(&self, index: u8) -> u8 {
        self.state.lock().ram[usize::from(index & 0x7f)]
    }

    /// Lets the clock drive its line, or not (while the HPET replaces it).
    pub fn set_irq_enabled(&self, on: bool) {
        self.state.lock().irq_on = on;
        self.update();
    }

    /// The time it shows, in seconds since 1970.
    pub fn seconds(&self) -> i64 {
        self.state.lock().seconds(self.clock.now())
    }

    /// Says what becomes of lost periodic interrupts.
    pub fn set_lost_ticks(&self, policy: LostTicks) {
        self.state.lock().lost = policy;
    }

    /// What becomes of lost periodic interrupts.
    pub fn lost_ticks(&self) -> LostTicks {
        self.state.lock().lost
    }

    /// Drives the line; whether a controller takes an interrupt by that.
    fn update(&self) -> bool {
        let mut wire = self.wire.lock();
        let level = {
            let state = self.state.lock();
            state.irq_on && state.ram[REG_C] & C_IRQF != 0
        };
        if *wire == level {
            return false;
        }
        *wire = level;
        irq::delivery::arrives(|| self.irq.set(level))
    }

    /// Sets the timer that makes up for what is owed: an interval is divided into two to eight.
    fn schedule_slew(&self, state: &State) {
        match state.period() {
            Some(period) if state.owed != 0 => {
                self.slew.arm(self.clock.now() + period / u64::from(state.owed.min(7) + 1));
            }
            _ => self.slew.disarm(),
        }
    }

    /// One interrupt of those that are owed.
    fn make_up(&self) {
        {
            let mut state = self.state.lock();
            if state.owed == 0 {
                return;
            }
            state.ram[REG_C] |= C_IRQF | C_PF;
        }
        let arrived = self.update();
        let mut state = self.state.lock();
        state.owed = state.owed.saturating_sub(arrived.into());
        self.schedule_slew(&state);
    }

    /// A periodic interrupt has been tried: `missed` others should have come meanwhile.
    fn settle(&self, arrived: bool, missed: u64) {
        let mut state = self.state.lock();
        let lost = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(u32::from(!arrived));
        if lost != 0 {
            state.owed = state.owed.saturating_add(lost);
            self.schedule_slew(&state);
        }
    }

    /// Sets the timer for the next periodic interrupt or end of a second that may interrupt.
    fn schedule(&self, state: &mut State) {
        let now = self.clock.now();
        state.periodic = match state.period() {
            Some(period) if state.ram[REG_B] & B_PIE != 0 => {
                // Keeps the phase of the divider chain.
                Some((now.saturating_sub(state.base_at) / period + 1) * period + state.base_at)
            }
            _ => None,
        };
        state.second = (state.running() && state.ram[REG_B] & (B_AIE | B_UIE) != 0)
            .then(|| (now.saturating_sub(state.base_at) / NANOS + 1) * NANOS + state.base_at);
        match state.periodic.into_iter().chain(state.second).min() {
            Some(at) => self.timer.arm(at),
            None => self.timer.disarm(),
        }
    }

    fn timer_fired(&self) {
        let mut missed = None;
        {
            let mut state = self.state.lock();
            let now = self.clock.now();
            if let Some(at) = state.periodic.filter(|at| *at <= now) {
                state.flag(C_PF);
                if state.lost == LostTicks::Slew {
                    state.on_acknowledge %= MAX_ON_ACKNOWLEDGE;
                    missed = state.period().map(|period| (now - at) / period);
                }
            }
            state.catch_up(now);
            self.schedule(&mut state);
        }
        let arrived = self.update();
        if let Some(missed) = missed {
            self.settle(arrived, missed);
        }
    }

    fn read(&self) -> u8 {
        let now = self.clock.now();
        let mut acknowledged = false;
        let value = {
            let mut state = self.state.lock();
            let index = usize::from(state.index);
            match index {
                0 | 2 | 4 | 6..=9 | CENTURY => {
                    if state.running() {
                        let seconds = state.seconds(now);
                        state.store_time(seconds);
                    }
                    state.ram[index]
                }
                REG_A => {
                    let in_second = now.saturating_sub(state.base_at) % NANOS;
                    let uip = state.running() && in_second >= NANOS - UIP_HOLD;
                    state.ram[REG_A] | if uip { A_UIP } else { 0 }
                }
                REG_C => {
                    state.catch_up(now);
                    acknowledged = true;
                    std::mem::take(&mut state.ram[REG_C])
                }
                _ => state.ram[index],
            }
        };
        self.update();
        if acknowledged {
            self.acknowledged();
        }
        value
    }

    /// The guest has taken an interrupt: the next of those that are owed may follow.
    fn acknowledged(&self) {
        {
            let mut state = self.state.lock();
            let periodic = state.ram[REG_B] & B_PIE != 0;
            if state.owed == 0 || !periodic || state.on_acknowledge >= MAX_ON_ACKNOWLEDGE {
                return;
            }
            state.on_acknowledge += 1;
            state.ram[REG_C] |= C_IRQF | C_PF;
        }
        if self.update() {
            let mut state = self.state.lock();
            state.owed = state.owed.saturating_sub(1);
        }
    }

    fn write(&self, value: u8) {
        let now = self.clock.now();
        {
            let mut state = self.state.lock();
            let before = state.period().filter(|_| state.ram[REG_B] & B_PIE != 0);
            let index = usize::from(state.index);
            match index {
                0 | 2 | 4 | 6..=9 | CENTURY => {
                    if state.running() {
                        let seconds = state.seconds(now);
                        state.store_time(seconds);
                        state.ram[index] = value;
                        let phase = now.saturating_sub(state.base_at) % NANOS;
                        state.base = state.load_time();
                        state.base_at = now - phase;
                        state.handled = state.base;
                    } else {
                        state.ram[index] = value;
                    }
                }
                REG_A | REG_B => self.write_control(&mut state, index, value, now),
                REG_C | REG_D => {}
                _ => state.ram[index] = value,
            }
            self.schedule(&mut state);
            self.rescale(&mut state, before);
        }
        self.update();
    }

    /// What is owed, in interrupts of the new period: the time that they stand for stays.
    fn rescale(&self, state: &mut State, before: Option<u64>) {
        let after = state.period().filter(|_| state.ram[REG_B] & B_PIE != 0);
        if state.owed == 0 || before == after {
            return;
        }
        let owed = before.zip(after).map_or(0, |(old, new)| u64::from(state.owed) * old / new);
        state.owed = u32::try_from(owed).unwrap_or(u32::MAX);
        self.schedule_slew(state);
    }

    fn write_control(&self, state: &mut State, index: usize, value: u8, now: u64) {
        let was_running = state.running();
        let was_reset = state.ram[REG_A] & 0x70 > 0x20;
        state.catch_up(now);
        if was_running {
            let seconds = state.seconds(now);
            state.store_time(seconds);
        }
        let phase = now.saturating_sub(state.base_at) % NANOS;
        // What the registers mean in the present number format; a change of it applies to later writes.
        let seconds = state.load_time();
        if index == REG_A {
            state.ram[REG_A] = value & !A_UIP;
        } else {
            // Setting SET ends the update interrupt.
            let value = if value & B_SET != 0 { value & !B_UIE } else { value };
            state.ram[REG_B] = value;
            if was_running && value & B_SET == 0 {
                state.store_time(seconds);
            }
            state.flag(0);
            if state.ram[REG_C] & state.ram[REG_B] & (B_PIE | B_AIE | B_UIE) == 0 {
                state.ram[REG_C] &= !C_IRQF;
            }
        }
        if !was_running && state.running() {
            // The first second after the divider was held ends half a second later.
            state.base = seconds;
            state.base_at = if was_reset { now.saturating_sub(NANOS / 2) } else { now - phase };
            state.handled = state.base;
        } else if was_running && !state.running() {
            state.base = seconds;
            state.base_at = now - phase;
        }
    }
}

/// What firmware expects to find in the CMOS RAM of a PC.
#[derive(Clone, Debug, Default)]
pub struct CmosLayout {
    /// RAM below 4 GiB, in bytes.
    pub below_4g: u64,
    /// RAM from 4 GiB on, in bytes.
    pub above_4g: u64,
    /// Number of processors.
    pub cpus: u32,
    /// Boot order: up to three of a nibble each (1 floppy, 2 hard disk, 3 CD-ROM, 4 network).
    pub boot: [u8; 3],
    /// Whether firmware should skip the check of a floppy's boot signature.
    pub no_floppy_check: bool,
    /// CMOS types of the floppy drives A and B (0: none, 4: 1.44 MB, 5: 2.88 MB).
    pub floppies: [u8; 2],
}

impl Rtc {
    /// Writes `layout` into the CMOS RAM (IBM AT's places; beyond 64 MiB, processors and boot order at QEMU's).
    pub fn set_layout(&self, layout: &CmosLayout) {
        let word = |index: u8, value: u64| {
            let [low, high, ..] = value.min(0xffff).to_le_bytes();
            self.set_cmos(index, low);
            self.set_cmos(index + 1, high);
        };
        let kib = layout.below_4g >> 10;
        word(0x15, kib.min(640));
        let extended = kib.saturating_sub(1024);
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, (layout.below_4g >> 16).saturating_sub(0x100));
        let high = (layout.above_4g >> 16).to_le_bytes();
        for (index, value) in (0x5b..=0x5d).zip(high) {
            self.set_cmos(index, value);
        }
        self.set_cmos(0x5f, byte(u64::from(layout.cpus.clamp(1, 256) - 1)));
        self.set_cmos(0x3d, (layout.boot[1] & 0xf) << 4 | layout.boot[0] & 0xf);
        self.set_cmos(0x38, (layout.boot[2] & 0xf) << 4 | u8::from(layout.no_floppy_check));
        let [a, b] = layout.floppies;
        self.set_cmos(0x10, (a & 0xf) << 4 | b & 0xf);
        let count = u8::from(a != 0) + u8::from(b != 0);
        // Equipment: FPU, PS/2 mouse, floppy drives.
        let floppies = if count == 0 { 0 } else { (count - 1) << 6 | 1 };
        self.set_cmos(0x14, 0x06 | floppies);
    }
}
