//! Both timers on a manual clock.

use super::{I6300esb, Ib700};
use crate::testing::{hammer, port_space};
use clock::{Clock, NANOS};
use guestmem::{AddressSpace, Region};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

struct Count(Arc<AtomicU32>);

impl Count {
    fn new() -> (Self, impl Fn() + Send + Sync + 'static) {
        let count = Arc::new(AtomicU32::new(0));
        let own = count.clone();
        (Self(own), move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn ib700() -> (Clock, Arc<Ib700>, AddressSpace, Count) {
    let clock = Clock::manual();
    let (count, expired) = Count::new();
    let watchdog = Ib700::new(&clock, expired);
    let ports = port_space(vec![(0x441, watchdog.region())]);
    (clock, watchdog, ports, count)
}

#[test]
fn ib700_counts_seconds_in_steps_of_two() {
    let (clock, watchdog, ports, count) = ib700();
    for (value, seconds) in [(0, 30), (14, 2), (0x21, 28), (15, 0)] {
        ports.write_int(0x443, 1, value);
        clock.advance((seconds * NANOS).saturating_sub(1));
        assert_eq!(count.take(), u32::from(seconds == 0));
        clock.advance(1);
        assert_eq!(count.take(), u32::from(seconds != 0));
        clock.advance(60 * NANOS);
        assert_eq!(count.take(), 0, "once");
    }
    // A ping, the stop, a reset.
    ports.write_int(0x444, 1, 14);
    clock.advance(NANOS);
    ports.write_int(0x443, 1, 14);
    clock.advance(NANOS + NANOS / 2);
    assert_eq!(count.take(), 0);
    ports.write_int(0x441, 1, 0);
    clock.advance(60 * NANOS);
    // Disable, disable, enable, enable: what comes last counts.
    ports.write_int(0x441, 4, 0x0e00_0000);
    watchdog.reset();
    clock.advance(60 * NANOS);
    assert_eq!((count.take(), ports.read_int(0x441, 1), ports.read_int(0x443, 2)), (0, 0xff, 0xffff));
    hammer(&ports, &[0x440, 0x441, 0x442, 0x443, 0x444], 1000);
}

fn i6300esb() -> (Clock, Arc<I6300esb>, AddressSpace, Count) {
    let clock = Clock::manual();
    let (count, expired) = Count::new();
    let watchdog = I6300esb::new(&clock, expired);
    let root = Region::whole("system");
    root.add(&watchdog.region(), 0);
    (clock, watchdog, AddressSpace::memory("memory", &root), count)
}

/// Unlocks, then writes.
fn write(memory: &AddressSpace, at: u64, size: u8, value: u64) {
    memory.write_int(0xc, 1, 0x80);
    memory.write_int(0xc, 1, 0x86);
    memory.write_int(at, size, value);
}

/// Nanoseconds of a preload of 1 at 1 kHz.
const UNIT: u64 = 30 << 15;

#[test]
fn i6300esb_has_two_stages() {
    let (clock, watchdog, memory, count) = i6300esb();
    write(&memory, 0, 4, 3);
    write(&memory, 4, 4, 2);
    // Without the keys nothing is taken.
    memory.write_int(4, 4, 1);
    watchdog.set_lock(2);
    clock.advance(5 * UNIT - 1);
    assert_eq!((count.take(), memory.read_int(0xc, 2)), (0, 0));
    clock.advance(1);
    assert_eq!((count.take(), memory.read_int(0xc, 2)), (1, 0x1200));
    // It is as after a reset, but for the flag, which is cleared by a one.
    assert_eq!(watchdog.state.lock().lock(), 0);
    watchdog.reset();
    assert_eq!(memory.read_int(0xc, 2), 0x1200);
    write(&memory, 0xc, 2, 0x200);
    assert_eq!(memory.read_int(0xc, 2), 0);
    clock.advance(1 << 60);
    assert_eq!(count.take(), 0);
}

#[test]
fn i6300esb_is_pinged_locked_and_goes_round() {
    let (clock, watchdog, memory, count) = i6300esb();
    write(&memory, 0, 4, 4);
    write(&memory, 4, 4, 4);
    // No reset at the end, 1 MHz.
    watchdog.set_config(0x24);
    assert_eq!(watchdog.state.lock().config(), 0x24);
    // Free running, enabled, locked.
    watchdog.set_lock(7);
    watchdog.set_lock(0);
    assert_eq!(watchdog.state.lock().lock(), 7);
    let unit = 30 << 5;
    clock.advance(100 * unit);
    assert_eq!((count.take(), memory.read_int(0xc, 2)), (0, 0), "no reset is wanted");
    // From now on it is wanted: the round that runs ends in one, unless it is pinged.
    write(&memory, 0xc, 2, 0x100);
    watchdog.set_config(4);
    for _ in 0..10 {
        clock.advance(7 * unit);
        write(&memory, 0xc, 2, 0x100);
    }
    assert_eq!(count.take(), 0);
    clock.advance(8 * unit);
    assert_eq!(count.take(), 1);
}

#[test]
fn i6300esb_takes_anything() {
    let (clock, _watchdog, memory, _count) = i6300esb();
    hammer(&memory, &[0, 1, 2, 4, 7, 8, 0xc, 0xd, 0xe, 0xf], 10_000);
    clock.advance(1 << 50);
}
