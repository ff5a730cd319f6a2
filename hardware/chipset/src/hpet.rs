//! The high-precision event timer (`hpet`).
//!
//! Source: IA-PC HPET specification 1.0a. A 64-bit counter of 10 ns ticks, three comparators; no message-signalled
//! interrupts (as `msi=off`).

use crate::window::window;
use clock::{Clock, Timer};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// The default physical address.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Nanoseconds in a tick.
const TICK: u64 = 10;
/// The shortest time between two interrupts that we deliver, so that a tiny period cannot occupy the main loop.
const SHORTEST: u64 = 20_000;

/// Matches of a periodic timer that were missed come later, one after another, as many parts of the period apart.
const HASTE: u64 = 16;
/// The most of them; a guest that was kept from running for longer has lost count.
const MOST_OWED: u64 = 1_000;

const CFG_ENABLE: u64 = 1;
const CFG_LEGACY: u64 = 2;
const TN_LEVEL: u64 = 1 << 1;
const TN_ENABLE: u64 = 1 << 2;
const TN_PERIODIC: u64 = 1 << 3;
const TN_PERIODIC_CAP: u64 = 1 << 4;
const TN_SIZE_CAP: u64 = 1 << 5;
const TN_SETVAL: u64 = 1 << 6;
const TN_32BIT: u64 = 1 << 8;
const TN_WRITABLE: u64 = 0x3f4e;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Comparator {
    config: u64,
    cmp: u64,
    period: u64,
    /// Guest time of the next match.
    next: Option<u64>,
    /// Edges of earlier matches that were not delivered yet, because neither the guest nor we could run.
    owed: u64,
    /// Guest time of the next of those.
    late: Option<u64>,
}

impl Comparator {
    /// Guest time of the next edge or level.
    fn due(&self) -> Option<u64> {
        if self.config & TN_ENABLE == 0 {
            return None;
        }
        self.next.into_iter().chain(self.late).min()
    }

    /// Takes so many matches of a periodic timer at `now`; whether one is delivered now.
    fn owe(&mut self, matches: u64, now: u64) -> bool {
        if self.config & TN_LEVEL != 0 {
            // A level that is up already cannot tell more.
            return matches != 0;
        }
        self.owed = (self.owed + matches).min(MOST_OWED);
        let deliver = self.owed != 0 && self.late.is_none_or(|at| at <= now);
        if deliver {
            self.owed -= 1;
            let spacing = (self.period.saturating_mul(TICK) / HASTE).max(SHORTEST);
            self.late = (self.owed != 0).then(|| now.saturating_add(spacing));
        }
        deliver
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    config: u64,
    isr: u64,
    /// The counter while it stands still; while it runs, its value at guest time 0 (wrapping).
    counter: u64,
    timers: Vec<Comparator>,
}

impl State {
    fn reset(config: &HpetConfig) -> Self {
        let timer = Comparator {
            config: TN_PERIODIC_CAP | TN_SIZE_CAP | u64::from(config.intcap) << 32,
            cmp: u64::MAX,
            period: 0,
            next: None,
            owed: 0,
            late: None,
        };
        Self { config: 0, isr: 0, counter: 0, timers: vec![timer; usize::from(config.timers.clamp(3, 32))] }
    }

    fn running(&self) -> bool {
        self.config & CFG_ENABLE != 0
    }

    fn count(&self, now: u64) -> u64 {
        if self.running() { self.counter.wrapping_add(now / TICK) } else { self.counter }
    }

    /// Which input the timer's interrupt goes to.
    fn route(&self, timer: usize) -> usize {
        match (self.config & CFG_LEGACY != 0, timer) {
            (true, 0) => 0,
            (true, 1) => 8,
            _ => usize::try_from(self.timers[timer].config >> 9 & 0x1f).unwrap_or(0),
        }
    }

    /// Finds when `timer` matches next.
    fn plan(&mut self, timer: usize, now: u64) {
        let (running, count) = (self.running(), self.count(now));
        let t = &mut self.timers[timer];
        (t.owed, t.late) = (0, None);
        let ticks = if t.config & TN_32BIT != 0 {
            (t.cmp.wrapping_sub(count)) & 0xffff_ffff
        } else {
            t.cmp.wrapping_sub(count)
        };
        // A comparator that was passed matches after the counter has gone round; for 64 bits that is never.
        t.next = if running && ticks <= u64::MAX / 2 {
            Some((now / TICK).saturating_add(ticks).saturating_mul(TICK).max(now + 1))
        } else {
            None
        };
    }
}

/// What may differ between boards.
#[derive(Clone, Copy, Debug)]
pub struct HpetConfig {
    /// Number of timers, 3 to 32.
    pub timers: u8,
    /// Which I/O APIC inputs the timers may use (`hpet-intcap`).
    pub intcap: u32,
}

/// The timer block.
pub struct Hpet {
    config: HpetConfig,
    clock: Clock,
    lines: Vec<IrqLine>,
    legacy: Box<dyn Fn(bool) + Send + Sync>,
    timer: Timer,
    state: Mutex<State>,
    /// Held while lines are driven, so that levels arrive in the order they were computed.
    wire: Mutex<()>,
}

impl Hpet {
    /// A block in its reset state. `lines` are the GSIs from 0 on; `legacy` is told when timers 0 and 1 take the
    /// place of the PIT's and the RTC's interrupts.
    pub fn new(
        clock: &Clock,
        config: HpetConfig,
        lines: Vec<IrqLine>,
        legacy: impl Fn(bool) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let me = weak.clone();
            Self {
                config,
                clock: clock.clone(),
                lines,
                legacy: Box::new(legacy),
                timer: clock.timer(move || {
                    if let Some(hpet) = me.upgrade() {
                        hpet.timer_fired();
                    }
                }),
                state: Mutex::new(State::reset(&config)),
                wire: Mutex::new(()),
            }
        })
    }

    /// The register block of 1 KiB.
    pub fn region(self: &Arc<Self>) -> Region {
        let rules = IoRules { valid_min: 4, valid_max: 8, unaligned: false, impl_min: 4, impl_max: 8 };
        window("hpet", 0x400, rules, self, |h, o, s| h.read(o, s), |h, o, s, v| h.write(o, s, v))
    }

    /// System reset.
    pub fn reset(&self) {
        let (was_legacy, raised) = {
            let mut state = self.state.lock();
            let raised: Vec<_> = (0..state.timers.len())
                .filter(|&t| state.isr & 1 << t != 0)
                .map(|t| state.route(t))
                .collect();
            let was_legacy = state.config & CFG_LEGACY != 0;
            *state = State::reset(&self.config);
            self.timer.disarm();
            (was_legacy, raised)
        };
        for route in raised {
            self.drive(route, false);
        }
        if was_legacy {
            (self.legacy)(false);
        }
    }

    fn drive(&self, route: usize, level: bool) {
        if let Some(line) = self.lines.get(route) {
            line.set(level);
        }
    }

    /// Waits for the earliest match of an enabled timer.
    fn schedule(&self, state: &State, now: u64) {
        match state.timers.iter().filter_map(Comparator::due).min() {
            Some(at) => self.timer.arm(at.max(now + 1)),
            None => self.timer.disarm(),
        }
    }

    fn timer_fired(&self) {
        let _wire = self.wire.lock();
        let now = self.clock.now();
        let fired: Vec<(usize, bool)> = {
            let mut state = self.state.lock();
            let mut fired = Vec::new();
            for i in 0..state.timers.len() {
                let t = &mut state.timers[i];
                if t.due().is_none_or(|at| at > now) {
                    continue;
                }
                let level = t.config & TN_LEVEL != 0;
                if t.config & TN_PERIODIC != 0 && t.period != 0 {
                    let mut matches = 0;
                    if let Some(late) = t.next.and_then(|at| now.checked_sub(at)) {
                        matches = late / TICK / t.period + 1;
                        t.cmp = t.cmp.wrapping_add(matches.wrapping_mul(t.period));
                        if t.config & TN_32BIT != 0 {
                            t.cmp &= 0xffff_ffff;
                        }
                        let owed = (t.owed, t.late);
                        state.plan(i, now);
                        let t = &mut state.timers[i];
                        t.next = t.next.map(|at| at.max(now + SHORTEST));
                        (t.owed, t.late) = owed;
                    }
                    if !state.timers[i].owe(matches, now) {
                        continue;
                    }
                } else if t.config & TN_32BIT != 0 {
                    t.next = Some(now.saturating_add(TICK << 32));
                } else {
                    t.next = None;
                }
                if level {
                    state.isr |= 1 << i;
                }
                fired.push((state.route(i), level));
            }
            self.schedule(&state, now);
            fired
        };
        for (route, level) in fired {
            self.drive(route, true);
            if !level {
                self.drive(route, false);
            }
        }
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        let now = self.clock.now();
        let state = self.state.lock();
        let whole = match offset & !7 {
            // Revision 1, 64-bit counter, legacy replacement; vendor 8086; the tick in femtoseconds.
            0 => {
                let last = state.timers.len() as u64 - 1;
                (TICK * 1_000_000) << 32 | 0x8086_a001 | last << 8
            }
            0x10 => state.config,
            0x20 => state.isr,
            0xf0 => state.count(now),
            at if at >= 0x100 => {
                let index = usize::try_from((at - 0x100) / 0x20).unwrap_or(usize::MAX);
                match (state.timers.get(index), at & 0x18) {
                    (Some(t), 0) => t.config,
                    (Some(t), 8) => t.cmp,
                    _ => 0,
                }
            }
            _ => 0,
        };
        if size == 8 { whole } else { whole >> (8 * (offset & 4)) & 0xffff_ffff }
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        let now = self.clock.now();
        // The bits that this access writes, and their place in the 64-bit register.
        let shift = 8 * (offset & 4);
        let (mask, value) =
            if size == 8 { (u64::MAX, value) } else { (0xffff_ffff << shift, value << shift) };
        let _wire = self.wire.lock();
        let mut lower = Vec::new();
        let mut legacy = None;
        {
            let mut state = self.state.lock();
            match offset & !7 {
                0x10 => {
                    let new = (state.config & !mask | value & mask) & (CFG_ENABLE | CFG_LEGACY);
                    let old = state.config;
                    let count = state.count(now);
                    state.config = new;
                    state.counter = if state.running() { count.wrapping_sub(now / TICK) } else { count };
                    if (old ^ new) & CFG_LEGACY != 0 {
                        legacy = Some(new & CFG_LEGACY != 0);
                    }
                    for i in 0..state.timers.len() {
                        state.plan(i, now);
                    }
                }
                0x20 => {
                    let cleared = state.isr & value & mask;
                    state.isr &= !cleared;
                    lower.extend(
                        (0..state.timers.len()).filter(|i| cleared & 1 << i != 0).map(|i| state.route(i)),
                    );
                }
                0xf0 if !state.running() => state.counter = state.counter & !mask | value & mask,
                at if at >= 0x100 => {
                    let index = usize::try_from((at - 0x100) / 0x20).unwrap_or(usize::MAX);
                    if index < state.timers.len() {
                        lower.extend(self.write_timer(&mut state, index, at & 0x18, value, mask, now));
                    }
                }
                _ => {}
            }
            self.schedule(&state, now);
        }
        for route in lower {
            self.drive(route, false);
        }
        if let Some(on) = legacy {
            (self.legacy)(on);
        }
    }

    /// Writes a timer's register; the input whose line is to go low, if one is.
    fn write_timer(
        &self,
        state: &mut State,
        index: usize,
        register: u64,
        value: u64,
        mask: u64,
        now: u64,
    ) -> Option<usize> {
        let mut lower = None;
        match register {
            0 => {
                let route = state.route(index);
                let t = &mut state.timers[index];
                let mask = mask & TN_WRITABLE;
                t.config = t.config & !mask | value & mask;
                if t.config & TN_32BIT != 0 {
                    t.cmp &= 0xffff_ffff;
                    t.period &= 0xffff_ffff;
                }
                // An interrupt that is no longer level-triggered or enabled lets its line go.
                if t.config & (TN_LEVEL | TN_ENABLE) != TN_LEVEL | TN_ENABLE && state.isr & 1 << index != 0 {
                    state.isr &= !(1 << index);
                    lower = Some(route);
                }
            }
            8 => {
                let t = &mut state.timers[index];
                let size = if t.config & TN_32BIT != 0 { 0xffff_ffff } else { u64::MAX };
                let periodic = t.config & TN_PERIODIC != 0;
                if !periodic || t.config & TN_SETVAL != 0 {
                    t.cmp = (t.cmp & !mask | value & mask) & size;
                }
                if periodic {
                    // A period of half the counter's range and more cannot be told from the past.
                    t.period = (t.period & !mask | value & mask) & size >> 1;
                }
                t.config &= !TN_SETVAL;
            }
            _ => return None,
        }
        state.plan(index, now);
        lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Wire, hammer};
    use guestmem::AddressSpace;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Rig {
        clock: Clock,
        hpet: Arc<Hpet>,
        wires: Vec<Arc<Wire>>,
        legacy: Arc<AtomicBool>,
        memory: AddressSpace,
    }

    fn rig() -> Rig {
        let clock = Clock::manual();
        let wires: Vec<_> = (0..24).map(|_| Wire::new()).collect();
        let legacy = Arc::new(AtomicBool::new(false));
        let flag = legacy.clone();
        let hpet = Hpet::new(
            &clock,
            HpetConfig { timers: 3, intcap: 4 },
            wires.iter().map(Wire::line).collect(),
            move |on| flag.store(on, Ordering::SeqCst),
        );
        let root = Region::whole("system");
        root.add(&hpet.region(), 0);
        Rig { clock, hpet, wires, legacy, memory: AddressSpace::memory("memory", &root) }
    }

    #[test]
    fn identity_and_counter() {
        let r = rig();
        assert_eq!(r.memory.read_int(0, 4), 0x8086_a201);
        assert_eq!(r.memory.read_int(4, 4), 0x98_9680);
        assert_eq!(r.memory.read_int(0x100, 8), 0x4_0000_0030);
        r.clock.advance(1000);
        assert_eq!(r.memory.read_int(0xf0, 8), 0);
        r.memory.write_int(0xf0, 8, 0xffff_fff0);
        r.memory.write_int(0x10, 4, 1);
        r.clock.advance(1000);
        assert_eq!(r.memory.read_int(0xf0, 8), 0x1_0000_0054);
        assert_eq!(r.memory.read_int(0xf4, 4), 1);
        r.memory.write_int(0x10, 4, 0);
        r.clock.advance(1000);
        assert_eq!(r.memory.read_int(0xf0, 4), 0x54);
    }

    #[test]
    fn legacy_replacement_and_one_shot() {
        let r = rig();
        r.memory.write_int(0x10, 4, 3);
        assert!(r.legacy.load(Ordering::SeqCst));
        r.memory.write_int(0x108, 4, 500);
        r.memory.write_int(0x10c, 4, 0);
        r.memory.write_int(0x100, 4, TN_ENABLE);
        r.clock.advance(4_990);
        assert_eq!(r.wires[0].rises(), 0);
        r.clock.advance(20);
        assert_eq!(r.wires[0].rises(), 1);
        r.clock.advance(1_000_000);
        assert_eq!(r.wires[0].rises(), 1);
        r.hpet.reset();
        assert!(!r.legacy.load(Ordering::SeqCst));
    }

    #[test]
    fn periodic_with_the_accumulator_and_level_triggered() {
        let r = rig();
        r.memory.write_int(0x10, 4, 1);
        let config = TN_ENABLE | TN_PERIODIC | TN_SETVAL | TN_32BIT | 2 << 9;
        r.memory.write_int(0x100, 4, config);
        r.memory.write_int(0x108, 4, 100_000);
        r.memory.write_int(0x108, 4, 100_000);
        r.clock.advance(10_000_050);
        assert_eq!(r.wires[2].rises(), 10);
        r.memory.write_int(0x100, 4, TN_ENABLE | TN_PERIODIC | TN_LEVEL | 2 << 9);
        r.clock.advance(1_000_000);
        assert!(r.wires[2].level());
        assert_eq!(r.memory.read_int(0x20, 4), 1);
        r.memory.write_int(0x20, 4, 1);
        assert!(!r.wires[2].level());
    }

    #[test]
    fn a_periodic_timer_that_fires_late_makes_up_for_it() {
        let r = rig();
        r.memory.write_int(0x10, 4, 1);
        r.memory.write_int(0x100, 4, TN_ENABLE | TN_PERIODIC | TN_SETVAL | TN_32BIT | 2 << 9);
        r.memory.write_int(0x108, 4, 400_000);
        r.memory.write_int(0x108, 4, 400_000); // 4 ms
        r.clock.skip(41_000_000);
        r.clock.advance(0);
        assert_eq!(r.wires[2].rises(), 1);
        r.clock.advance(2_500_000);
        assert_eq!(r.wires[2].rises(), 10);
        r.clock.advance(3_000_000);
        assert_eq!(r.wires[2].rises(), 11);
        // Whoever programs the timer anew is owed nothing.
        r.clock.skip(40_000_000);
        r.clock.advance(0);
        r.memory.write_int(0x100, 4, TN_ENABLE | TN_PERIODIC | TN_32BIT | 2 << 9);
        r.clock.advance(3_000_000);
        assert_eq!(r.wires[2].rises(), 13);
        // There is an end to what is made up for, and a level has nothing to make up for.
        r.clock.skip(100_000_000_000);
        r.clock.advance(4_000_000_000);
        assert_eq!(r.wires[2].rises(), 13 + 1000 + 1000);
        r.memory.write_int(0x100, 4, TN_ENABLE | TN_PERIODIC | TN_LEVEL | TN_32BIT | 2 << 9);
        r.clock.skip(41_000_000);
        r.clock.advance(2_000_000);
        assert!(r.wires[2].level());
        r.memory.write_int(0x20, 4, 1);
        r.clock.advance(1_500_000);
        assert!(!r.wires[2].level());
    }

    #[test]
    fn any_access_is_harmless_and_reset_is_complete() {
        let r = rig();
        let places: Vec<u64> = (0..0x180).collect();
        for _ in 0..20 {
            hammer(&r.memory, &places, 1_000);
            r.clock.advance(777_777);
        }
        r.hpet.reset();
        let once = r.hpet.state.lock().clone();
        r.hpet.reset();
        assert_eq!(once, *r.hpet.state.lock());
        assert!(r.wires.iter().all(|w| !w.level()));
    }
}
