//! The 8254 interval timer (`isa-pit`) and the speaker port 0x61 (`isa-pcspk`).
//!
//! Source: Intel 8254 data sheet. Counts follow from guest time; only channel 0's output is watched by a timer.

use crate::window::{byte, window};
use clock::{Clock, NANOS, Timer, muldiv64};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// The counters' input frequency in hertz.
pub const PIT_HZ: u64 = 1_193_182;

/// Shortest time between two interrupts that we deliver, so that a tiny count cannot occupy the main loop.
const SHORTEST: u64 = 20_000;

/// Changes of the output that were missed come later, one after another, as many parts of the time between them apart.
const HASTE: u64 = 16;

/// Time for which they do; a guest that was kept from running for longer has lost count.
const OWED: u64 = NANOS;

/// Which byte of the counter the next access means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    /// Not programmed since power-on: as the low byte.
    Unset,
    Low,
    High,
    Word,
    /// The second byte of a word.
    WordHigh,
}

impl Access {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::Low,
            2 => Self::High,
            _ => Self::Word,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Unset => 0,
            Self::Low => 1,
            Self::High => 2,
            Self::Word | Self::WordHigh => 3,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Channel {
    count: u64,
    latch: Option<(u16, Access)>,
    status: Option<u8>,
    access: Access,
    reading: Access,
    writing: Access,
    low: u8,
    mode: u8,
    bcd: bool,
    gate: bool,
    loaded: u64,
}

impl Channel {
    fn reset(gate: bool, now: u64) -> Self {
        Self {
            count: 0x1_0000,
            latch: None,
            status: None,
            access: Access::Unset,
            reading: Access::Unset,
            writing: Access::Unset,
            low: 0,
            mode: 3,
            bcd: false,
            gate,
            loaded: now,
        }
    }

    fn ticks(&self, now: u64) -> u64 {
        muldiv64(now.saturating_sub(self.loaded), PIT_HZ, NANOS)
    }

    /// The counter, as it reads.
    fn counter(&self, now: u64) -> u16 {
        let d = self.ticks(now);
        let value = match self.mode {
            0 | 1 | 4 | 5 => self.count.wrapping_sub(d),
            3 => self.count - (2 * d) % self.count,
            _ => self.count - d % self.count,
        };
        let value = value & 0xffff;
        u16::try_from(if self.bcd { to_bcd(value % 10_000) } else { value }).unwrap_or(0)
    }

    fn output(&self, now: u64) -> bool {
        let d = self.ticks(now);
        match self.mode {
            0 => d >= self.count,
            1 => d < self.count,
            3 => d % self.count < self.count.div_ceil(2),
            4 | 5 => d == self.count,
            _ => d.is_multiple_of(self.count) && d != 0,
        }
    }

    /// Whether the output is a pulse of one tick rather than a level; its end is not worth an event of its own.
    fn pulses(&self) -> bool {
        !matches!(self.mode, 0 | 1 | 3)
    }

    /// Guest time of the output's next change (or pulse) after `now`.
    fn next_change(&self, now: u64) -> Option<u64> {
        let (d, count) = (self.ticks(now), self.count);
        let base = d / count * count;
        let next = match self.mode {
            0 | 1 if d < count => count,
            4 | 5 if d < count => count,
            0 | 1 | 4 | 5 => return None,
            3 if d - base < count.div_ceil(2) => base + count.div_ceil(2),
            3 => base + count,
            _ => base + count,
        };
        // Rounded up, so that the change has happened when the timer fires.
        Some((self.loaded + muldiv64(next, NANOS, PIT_HZ) + 1).max(now + 1))
    }

    fn load(&mut self, value: u16, now: u64) {
        let value = u64::from(value);
        let value = if self.bcd { from_bcd(value) } else { value };
        self.count = match (value, self.bcd) {
            (0, true) => 10_000,
            (0, false) => 0x1_0000,
            _ => value,
        };
        self.loaded = now;
    }

    fn latch(&mut self, now: u64) {
        if self.latch.is_none() && self.access != Access::Unset {
            self.latch = Some((self.counter(now), self.access));
        }
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        if let Some((value, part)) = self.latch.take() {
            let [low, high] = value.to_le_bytes();
            return match part {
                Access::Unset | Access::Low => low,
                Access::High | Access::WordHigh => high,
                Access::Word => {
                    self.latch = Some((value, Access::WordHigh));
                    low
                }
            };
        }
        let [low, high] = self.counter(now).to_le_bytes();
        match self.reading {
            Access::Unset | Access::Low => low,
            Access::High => high,
            Access::Word => {
                self.reading = Access::WordHigh;
                low
            }
            Access::WordHigh => {
                self.reading = Access::Word;
                high
            }
        }
    }

    fn write(&mut self, value: u8, now: u64) {
        match self.writing {
            Access::Unset | Access::Low => self.load(value.into(), now),
            Access::High => self.load(u16::from(value) << 8, now),
            Access::Word => {
                self.low = value;
                self.writing = Access::WordHigh;
            }
            Access::WordHigh => {
                self.load(u16::from_le_bytes([self.low, value]), now);
                self.writing = Access::Word;
            }
        }
    }

    fn set_gate(&mut self, gate: bool, now: u64) {
        // A rising gate starts modes 1, 2, 3 and 5 anew.
        if gate && !self.gate && !matches!(self.mode, 0 | 4) {
            self.loaded = now;
        }
        self.gate = gate;
    }
}

fn to_bcd(value: u64) -> u64 {
    (0..4).fold(0, |out, i| out | (value / 10_u64.pow(i) % 10) << (4 * i))
}

fn from_bcd(value: u64) -> u64 {
    (0..4).fold(0, |out, i| out + (value >> (4 * i) & 0xf) * 10_u64.pow(i))
}

struct State {
    channels: [Channel; 3],
    speaker: bool,
    refresh: bool,
    /// Off while the HPET replaces channel 0's interrupt.
    irq_on: bool,
    next: Option<u64>,
}

impl State {
    fn reset(now: u64) -> Self {
        Self {
            channels: [Channel::reset(true, now), Channel::reset(true, now), Channel::reset(false, now)],
            speaker: false,
            refresh: false,
            irq_on: true,
            next: None,
        }
    }
}

/// The timer chip with the speaker port.
pub struct Pit {
    clock: Clock,
    irq: IrqLine,
    timer: Timer,
    state: Mutex<State>,
    /// Held while the interrupt line is driven, so that levels arrive in the order they were computed.
    wire: Mutex<()>,
}

impl Pit {
    /// A timer in its reset state whose channel 0 drives `irq`.
    pub fn new(clock: &Clock, irq: IrqLine) -> Arc<Self> {
        let pit = Arc::new_cyclic(|weak: &Weak<Self>| {
            let me = weak.clone();
            Self {
                clock: clock.clone(),
                irq,
                timer: clock.timer(move || {
                    if let Some(pit) = me.upgrade() {
                        pit.timer_fired();
                    }
                }),
                state: Mutex::new(State::reset(clock.now())),
                wire: Mutex::new(()),
            }
        });
        pit.update();
        pit
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        vec![
            (
                0x40,
                window(
                    "pit",
                    4,
                    IoRules::BYTES,
                    self,
                    |p, o, _| p.read(o).into(),
                    |p, o, _, v| {
                        p.write(o, byte(v));
                    },
                ),
            ),
            (
                0x61,
                window(
                    "pcspk",
                    1,
                    IoRules::BYTES,
                    self,
                    |p, _, _| p.read_61().into(),
                    |p, _, _, v| {
                        p.write_61(byte(v));
                    },
                ),
            ),
        ]
    }

    /// System reset.
    pub fn reset(&self) {
        *self.state.lock() = State::reset(self.clock.now());
        self.update();
    }

    /// Lets channel 0 interrupt, or not (while the HPET does it in its place).
    pub fn set_irq_enabled(&self, on: bool) {
        self.state.lock().irq_on = on;
        self.update();
    }

    /// Drives channel 0's output and waits for its next change.
    fn update(&self) {
        let _wire = self.wire.lock();
        let mut state = self.state.lock();
        let now = self.clock.now();
        let level = self.show(&mut state, now, now);
        drop(state);
        self.irq.set(level);
    }

    /// The output as it is at time `at`, now or in the past; the timer is armed for the change after that.
    fn show(&self, state: &mut State, at: u64, now: u64) -> bool {
        let channel = &state.channels[0];
        let level = state.irq_on && !channel.pulses() && channel.output(at);
        state.next = if state.irq_on { channel.next_change(at) } else { None };
        match state.next {
            Some(next) => {
                let spacing = (next.saturating_sub(at) / HASTE).max(SHORTEST);
                self.timer.arm(next.max(now.saturating_add(spacing)));
            }
            None => self.timer.disarm(),
        }
        level
    }

    fn timer_fired(&self) {
        let _wire = self.wire.lock();
        let (pulse, level) = {
            let mut state = self.state.lock();
            let now = self.clock.now();
            let Some(at) = state.next.filter(|at| *at <= now) else { return };
            let at = if now - at > OWED { now } else { at };
            (state.channels[0].pulses(), self.show(&mut state, at, now))
        };
        if pulse {
            self.irq.pulse();
        }
        self.irq.set(level);
    }

    fn read(&self, offset: u64) -> u8 {
        let now = self.clock.now();
        match usize::try_from(offset) {
            Ok(channel @ 0..=2) => self.state.lock().channels[channel].read(now),
            // The control word is write-only.
            _ => 0,
        }
    }

    fn write(&self, offset: u64, value: u8) {
        let now = self.clock.now();
        let first = match usize::try_from(offset) {
            Ok(channel @ 0..=2) => {
                let mut state = self.state.lock();
                state.channels[channel].write(value, now);
                channel == 0
            }
            _ => self.write_control(value, now),
        };
        if first {
            self.update();
        }
    }

    /// True when channel 0 changed.
    fn write_control(&self, value: u8, now: u64) -> bool {
        let mut state = self.state.lock();
        let number = usize::from(value >> 6);
        if number == 3 {
            for (i, channel) in state.channels.iter_mut().enumerate() {
                if value & 2 << i == 0 {
                    continue;
                }
                if value & 0x20 == 0 {
                    channel.latch(now);
                }
                if value & 0x10 == 0 && channel.status.is_none() {
                    channel.status = Some(
                        u8::from(channel.output(now)) << 7
                            | channel.access.bits() << 4
                            | channel.mode << 1
                            | u8::from(channel.bcd),
                    );
                }
            }
            return false;
        }
        let channel = &mut state.channels[number];
        if value >> 4 & 3 == 0 {
            channel.latch(now);
            return false;
        }
        let access = Access::from_bits(value >> 4);
        (channel.access, channel.reading, channel.writing) = (access, access, access);
        channel.mode = value >> 1 & 7;
        channel.bcd = value & 1 != 0;
        number == 0
    }

    fn read_61(&self) -> u8 {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.refresh = !state.refresh;
        let channel = &state.channels[2];
        u8::from(channel.gate)
            | u8::from(state.speaker) << 1
            | u8::from(state.refresh) << 4
            | u8::from(channel.output(now)) << 5
    }

    fn write_61(&self, value: u8) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.speaker = value & 2 != 0;
        state.channels[2].set_gate(value & 1 != 0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Wire, hammer, port_space};

    fn pit() -> (Clock, Arc<Pit>, Arc<Wire>, guestmem::AddressSpace) {
        let clock = Clock::manual();
        let wire = Wire::new();
        let pit = Pit::new(&clock, wire.line());
        let io = port_space(pit.ports());
        (clock, pit, wire, io)
    }

    #[test]
    fn mode_2_interrupts_once_a_period() {
        let (clock, _pit, wire, io) = pit();
        io.write_int(0x43, 1, 0x34);
        io.write_int(0x40, 1, 0x9c);
        io.write_int(0x40, 1, 0x2e); // 11932: 100 Hz
        let before = wire.rises();
        clock.advance(NANOS);
        let rises = wire.rises() - before;
        assert!((99..=101).contains(&rises), "{rises}");
    }

    #[test]
    fn a_period_that_passed_unseen_is_made_up_for() {
        let (clock, _pit, wire, io) = pit();
        for (mode, rises_at_once) in [(0x34, 1), (0x36, 0)] {
            io.write_int(0x43, 1, mode);
            io.write_int(0x40, 1, 0x9c);
            io.write_int(0x40, 1, 0x2e); // 10 ms
            let before = wire.rises();
            clock.skip(NANOS / 2);
            clock.advance(0);
            assert_eq!(wire.rises() - before, rises_at_once);
            clock.advance(NANOS / 2);
            let rises = wire.rises() - before;
            assert!((99..=100).contains(&rises), "{rises} in mode {mode:#x}");
            // Who was away for longer has lost count.
            clock.skip(60 * NANOS);
            clock.advance(NANOS);
            let more = wire.rises() - before - rises;
            assert!((99..=101).contains(&more), "{more} in mode {mode:#x}");
        }
    }

    #[test]
    fn mode_3_is_the_reset_mode_and_runs_at_18_hertz() {
        let (clock, pit, wire, _io) = pit();
        clock.advance(NANOS);
        assert_eq!(wire.rises(), 19);
        pit.set_irq_enabled(false);
        clock.advance(NANOS);
        assert_eq!(wire.rises(), 19);
    }

    #[test]
    fn mode_0_raises_its_output_at_the_terminal_count() {
        let (clock, _pit, wire, io) = pit();
        io.write_int(0x43, 1, 0x30);
        io.write_int(0x40, 1, 0);
        io.write_int(0x40, 1, 4); // 1024 ticks: 858 us
        assert!(!wire.level());
        clock.advance(857_000);
        assert!(!wire.level());
        clock.advance(5_000);
        assert!(wire.level());
    }

    #[test]
    fn counts_are_latched_and_read_back_with_status() {
        let (clock, _pit, _wire, io) = pit();
        io.write_int(0x43, 1, 0xb4);
        io.write_int(0x42, 1, 0x00);
        io.write_int(0x42, 1, 0x10);
        clock.advance(1_000_000); // 1193 ticks
        io.write_int(0x43, 1, 0x80);
        clock.advance(1_000_000);
        let value = io.read_int(0x42, 1) | io.read_int(0x42, 1) << 8;
        assert_eq!(value, 0x1000 - 1193);
        io.write_int(0x43, 1, 0xc8);
        assert_eq!(io.read_int(0x42, 1), 0x34);
        assert_eq!(io.read_int(0x42, 1) | io.read_int(0x42, 1) << 8, 0x1000 - 2386);
    }

    #[test]
    fn port_61_shows_gate_speaker_refresh_and_output() {
        let (clock, _pit, _wire, io) = pit();
        assert_eq!(io.read_int(0x61, 1), 0x30);
        assert_eq!(io.read_int(0x61, 1), 0x20);
        io.write_int(0x61, 1, 3);
        io.write_int(0x43, 1, 0xb0);
        io.write_int(0x42, 1, 0xff);
        io.write_int(0x42, 1, 0);
        assert_eq!(io.read_int(0x61, 1), 0x13);
        clock.advance(300_000);
        assert_eq!(io.read_int(0x61, 1), 0x23);
    }

    #[test]
    fn any_access_is_harmless() {
        let (clock, pit, _wire, io) = pit();
        for _ in 0..10 {
            hammer(&io, &[0x40, 0x41, 0x42, 0x43, 0x61], 1_000);
            clock.advance(3_000_000);
        }
        pit.reset();
        let once = pit.state.lock().channels.clone();
        pit.reset();
        assert_eq!(once, pit.state.lock().channels);
    }
}
