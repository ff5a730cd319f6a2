use super::*;
use irq::IrqSink;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
struct Wire(AtomicBool);

impl IrqSink for Wire {
    fn set_level(&self, _line: u32, level: bool) {
        self.0.store(level, Ordering::SeqCst);
    }
    fn import_level(&self, line: u32, level: bool) {
        self.set_level(line, level);
    }
}

impl Wire {
    fn high(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn port() -> (Clock, Arc<Wire>, Arc<Serial>, chardev::MemoryPeer) {
    let clock = Clock::manual();
    let wire = Arc::new(Wire::default());
    let (front, peer) = chardev::memory("serial0");
    let line = IrqLine::new(wire.clone(), 0);
    let serial = Serial::new(&clock, line, Some(front), SerialConfig::default());
    (clock, wire, serial, peer)
}

#[test]
fn reset_values_are_the_pc16550ds() {
    let (_clock, _wire, s, _peer) = port();
    let values: Vec<_> = (0..8).map(|o| s.read(o, 1)).collect();
    assert_eq!(values, [0, 0, 1, 0, 8, 0x60, 0xb0, 0]);
    s.write(3, 1, 0x83);
    assert_eq!((s.read(0, 1), s.read(1, 1)), (12, 0));
}

#[test]
fn bytes_go_out_and_the_transmitter_interrupts() {
    let (_clock, wire, s, peer) = port();
    s.write(1, 1, 2);
    assert!(wire.high());
    assert_eq!(s.read(2, 1), 2);
    assert!(!wire.high());
    s.write(0, 1, b'A'.into());
    assert_eq!(peer.take_output(), b"A");
    assert!(wire.high());
    assert_eq!(s.read(5, 1), 0x60);
}

#[test]
fn a_full_back_end_holds_the_transmitter() {
    let (_clock, _wire, s, peer) = port();
    s.write(2, 1, 1);
    peer.set_room(2);
    for byte in b"hello" {
        s.write(0, 1, (*byte).into());
    }
    assert_eq!(s.read(5, 1), 0);
    peer.set_room(100);
    assert_eq!(s.read(5, 1), 0x60);
    assert_eq!(peer.take_output(), b"hello");
}

#[test]
fn the_fifo_interrupts_at_its_trigger_level_or_after_four_characters() {
    let (clock, wire, s, peer) = port();
    s.write(2, 1, 0x41);
    s.write(3, 1, 3);
    s.write(1, 1, 1);
    assert_eq!(peer.send(b"abcdefgh"), 8);
    assert!(wire.high());
    assert_eq!(s.read(2, 1), 0xc4);
    let mut text = Vec::new();
    while s.read(5, 1) & 1 != 0 {
        text.push(s.read(0, 1) as u8);
    }
    assert_eq!(text, b"abcdefgh");
    assert!(!wire.high());
    peer.send(b"x");
    assert!(!wire.high());
    clock.advance(4 * 10 * NANOS / 9600 + 1);
    assert_eq!(s.read(2, 1), 0xcc);
    assert_eq!(s.read(0, 1), b'x'.into());
    assert!(!wire.high());
}

#[test]
fn the_loop_returns_bytes_and_modem_lines() {
    let (_clock, _wire, s, peer) = port();
    s.write(4, 1, 0x1a);
    assert_eq!(s.read(6, 1) & 0xf0, 0x90);
    s.write(0, 1, 0x55);
    assert_eq!(s.read(5, 1) & 1, 1);
    assert_eq!(s.read(0, 1), 0x55);
    assert!(peer.take_output().is_empty());
}

#[test]
fn a_break_is_shown_once() {
    let (_clock, wire, s, peer) = port();
    s.write(1, 1, 4);
    peer.event(Event::Break);
    assert!(wire.high());
    assert_eq!(s.read(2, 1), 6);
    assert_eq!(s.read(5, 1) & 0x11, 0x11);
    assert_eq!(s.read(5, 1) & 0x10, 0);
    assert!(!wire.high());
}

#[test]
fn modem_line_changes_interrupt() {
    let (_clock, wire, s, _peer) = port();
    s.write(1, 1, 8);
    s.set_modem_lines(false, true, false, true);
    assert!(wire.high());
    assert_eq!(s.read(6, 1), 0xa1);
    assert!(!wire.high());
}

#[test]
fn any_access_is_harmless_and_reset_is_complete() {
    let (clock, _wire, s, peer) = port();
    let mut seed = 1_u64;
    for _ in 0..10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (offset, value) = (seed >> 60 & 7, seed >> 40 & 0xff);
        match seed >> 50 & 7 {
            0 => {
                peer.send(&[1, 2, 3]);
            }
            1 => clock.advance(value * 10_000),
            2 | 3 => {
                s.read(offset, 1);
            }
            _ => s.write(offset, 1, value),
        }
    }
    s.reset();
    let once = s.state.lock().clone();
    s.reset();
    assert_eq!(once, *s.state.lock());
}
