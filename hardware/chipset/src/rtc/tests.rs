use super::*;
use crate::testing::{Wire, hammer, port_space};
use guestmem::AddressSpace;

// 2024-02-29 12:34:56 UTC, a Thursday.
const LEAP: i64 = 1_709_210_096;

fn rtc() -> (Clock, Arc<Rtc>, Arc<Wire>, AddressSpace) {
    let clock = Clock::manual();
    let wire = Wire::new();
    let rtc = Rtc::new(&clock, wire.line(), LEAP);
    let io = port_space(rtc.ports());
    (clock, rtc, wire, io)
}

fn get(io: &AddressSpace, index: u64) -> u64 {
    io.write_int(0x70, 1, index);
    io.read_int(0x71, 1)
}

fn put(io: &AddressSpace, index: u64, value: u64) {
    io.write_int(0x70, 1, index);
    io.write_int(0x71, 1, value);
}

#[test]
fn the_time_reads_in_bcd_binary_and_12_hours() {
    let (clock, _rtc, _wire, io) = rtc();
    let time = |io: &AddressSpace| [0, 2, 4, 6, 7, 8, 9, 0x32].map(|i| get(io, i));
    assert_eq!(time(&io), [0x56, 0x34, 0x12, 5, 0x29, 2, 0x24, 0x20]);
    clock.advance(4 * NANOS + 12 * 3600 * NANOS);
    assert_eq!(time(&io), [0, 0x35, 0, 6, 1, 3, 0x24, 0x20]);
    put(&io, 0xb, 4);
    assert_eq!(get(&io, 4), 12);
    clock.advance(13 * 3600 * NANOS);
    assert_eq!(get(&io, 4), 0x81);
    put(&io, 0xb, 6);
    assert_eq!(get(&io, 4), 13);
    assert_eq!([0xa, 0xb, 0xd].map(|i| get(&io, i)), [0x26, 6, 0x80]);
}

#[test]
fn set_holds_the_time_while_it_is_written() {
    let (clock, rtc, _wire, io) = rtc();
    put(&io, 0xb, 0x82);
    clock.advance(10 * NANOS);
    assert_eq!(get(&io, 0), 0x56);
    put(&io, 9, 0x99);
    put(&io, 0x32, 0x19);
    put(&io, 8, 0x12);
    put(&io, 7, 0x31);
    put(&io, 0xb, 2);
    assert_eq!(
        rtc.seconds(),
        DateTime { year: 1999, month: 12, day: 31, hour: 12, minute: 34, second: 56 }.to_seconds()
    );
    clock.advance(43_200 * NANOS);
    assert_eq!((get(&io, 9), get(&io, 0x32), get(&io, 7)), (0, 0x20, 1));
}

#[test]
fn uip_is_shown_shortly_before_each_second() {
    let (clock, _rtc, _wire, io) = rtc();
    assert_eq!(get(&io, 0xa) & 0x80, 0);
    clock.advance(NANOS - 100_000);
    assert_eq!(get(&io, 0xa) & 0x80, 0x80);
    clock.advance(100_000);
    assert_eq!(get(&io, 0xa) & 0x80, 0);
}

#[test]
fn update_alarm_and_periodic_interrupts() {
    let (clock, rtc, wire, io) = rtc();
    put(&io, 0xb, 0x12);
    clock.advance(NANOS);
    assert!(wire.level());
    assert_eq!(get(&io, 0xc), 0x90);
    assert!(!wire.level());
    put(&io, 0xb, 0x22);
    for (index, value) in [(1, 0), (3, 0x35), (5, 0xff)] {
        put(&io, index, value);
    }
    clock.advance(2 * NANOS);
    assert!(!wire.level());
    clock.advance(NANOS);
    assert_eq!(get(&io, 0xc), 0xb0);
    put(&io, 0xb, 0x42);
    let before = wire.rises();
    for _ in 0..1024 {
        clock.advance(NANOS / 1024 + 1);
        get(&io, 0xc);
    }
    assert!((1020..=1026).contains(&(wire.rises() - before)), "{}", wire.rises() - before);
    clock.advance(NANOS);
    rtc.set_irq_enabled(false);
    assert!(!wire.level());
}

/// A PIC with the clock's interrupt, as a guest drives it.
fn ticking(policy: LostTicks) -> (Clock, Arc<Rtc>, AddressSpace) {
    let clock = Clock::manual();
    let pic = crate::pic::Pic::new(IrqLine::unconnected());
    let rtc = Rtc::new(&clock, IrqLine::new(pic.clone(), 8), LEAP);
    rtc.set_lost_ticks(policy);
    let mut ports = pic.ports();
    ports.extend(rtc.ports());
    let io = port_space(ports);
    // Both controllers with automatic end of interrupt, all inputs but the clock's masked.
    for (port, vectors, cascade, mask) in [(0x20, 0x20, 4, 0xfb), (0xa0, 0x28, 2, 0xfe)] {
        io.write_int(port, 1, 0x11);
        for word in [vectors, cascade, 3, mask] {
            io.write_int(port + 1, 1, word);
        }
    }
    // 1024 interrupts a second.
    put(&io, 0xb, 0x42);
    (clock, rtc, io)
}

/// Takes the interrupt, if there is one: how many register C tells.
fn take(io: &AddressSpace) -> u32 {
    // Poll mode: the read acknowledges.
    io.write_int(0xa0, 1, 0x0c);
    let request = io.read_int(0xa0, 1) & 0x80 != 0;
    if request { u32::from(get(io, 0xc) & 0x40 != 0) } else { 0 }
}

#[test]
fn lost_ticks_follow_with_slew_alone() {
    for (policy, wanted) in [(LostTicks::Discard, 1..40), (LostTicks::Slew, 1020..1030)] {
        let (clock, rtc, io) = ticking(policy);
        // A second in which the guest takes nothing, and one in which it is quick.
        clock.advance(NANOS);
        let mut taken = 0;
        for _ in 0..100 {
            taken += take(&io);
        }
        let at_once = taken;
        // Interrupts off, but for those that are owed: the clock's own stop would forget them.
        let before = clock.now();
        while clock.now() < before + NANOS {
            clock.advance(NANOS / 16_384);
            taken += take(&io);
        }
        let regular = 1024;
        assert!(wanted.contains(&(taken - regular)), "{policy:?}: {}", taken - regular);
        assert!(at_once <= 1 + u32::from(MAX_ON_ACKNOWLEDGE), "{at_once}");
        assert_eq!(rtc.state.lock().owed, 0);
    }
}

#[test]
fn what_is_owed_keeps_its_time_and_ends_with_the_interrupts() {
    let (clock, rtc, io) = ticking(LostTicks::Slew);
    clock.advance(NANOS / 2);
    let owed = rtc.state.lock().owed;
    assert!((505..=512).contains(&owed), "{owed}");
    // 256 a second: four of the old make one.
    put(&io, 0xa, 0x28);
    assert_eq!(rtc.state.lock().owed, owed / 4);
    put(&io, 0xb, 2);
    assert_eq!(rtc.state.lock().owed, 0);
    put(&io, 0xb, 0x42);
    clock.advance(NANOS);
    rtc.reset();
    clock.advance(NANOS);
    assert_eq!(take(&io), 0);
    assert_eq!(rtc.state.lock().owed, 0);
}

#[test]
fn the_layout_tells_memory_boot_order_and_processors() {
    let (_clock, rtc, _wire, io) = rtc();
    rtc.set_layout(&CmosLayout {
        below_4g: 0x2000_0000,
        above_4g: 0x1_0000_0000,
        cpus: 2,
        boot: [3, 2, 1],
        no_floppy_check: true,
        floppies: [4, 0],
    });
    let all = [0x15, 0x16, 0x17, 0x18, 0x34, 0x35, 0x5b, 0x5c, 0x5d, 0x5f, 0x3d, 0x38, 0x10, 0x14];
    assert_eq!(all.map(|i| get(&io, i)), [0x80, 2, 0xff, 0xff, 0, 0x1f, 0, 0, 1, 1, 0x23, 0x11, 0x40, 0x07]);
}

#[test]
fn dates_survive_the_round_trip() {
    for seconds in (-62_000_000_000..250_000_000_000).step_by(86_399 * 997) {
        assert_eq!(DateTime::from_seconds(seconds).to_seconds(), seconds);
    }
}

#[test]
fn any_access_is_harmless_and_reset_is_complete() {
    let (clock, rtc, wire, io) = rtc();
    for _ in 0..20 {
        hammer(&io, &[0x70, 0x71, 0x71], 1_000);
        clock.advance(700_000_000);
    }
    rtc.reset();
    let once = rtc.state.lock().ram;
    assert!(!wire.level());
    rtc.reset();
    assert_eq!(once, rtc.state.lock().ram);
}
