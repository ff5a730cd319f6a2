use super::*;
use crate::testing::{Wire, hammer, port_space};
use guestmem::AddressSpace;
use std::sync::atomic::{AtomicU32, Ordering};

struct Rig {
    dev: Arc<I8042>,
    kbd: Arc<Wire>,
    aux: Arc<Wire>,
    a20: Arc<A20Gate>,
    resets: Arc<AtomicU32>,
    io: AddressSpace,
}

fn rig() -> Rig {
    let (kbd, aux) = (Wire::new(), Wire::new());
    let a20 = A20Gate::new(|_| {});
    let resets = Arc::new(AtomicU32::new(0));
    let count = || {
        let resets = resets.clone();
        move || {
            resets.fetch_add(1, Ordering::SeqCst);
        }
    };
    let dev = I8042::new(kbd.line(), aux.line(), a20.clone(), count());
    let mut ports = dev.ports();
    ports.extend(Port92::new(a20.clone(), count()).ports());
    let io = port_space(ports);
    Rig { dev, kbd, aux, a20, resets, io }
}

impl Rig {
    fn command(&self, value: u64) {
        self.io.write_int(0x64, 1, value);
    }
    fn drain(&self) -> Vec<u64> {
        let mut all = Vec::new();
        while self.io.read_int(0x64, 1) & 1 != 0 {
            all.push(self.io.read_int(0x60, 1));
        }
        all
    }
}

#[test]
fn the_controller_answers_its_commands() {
    let r = rig();
    assert_eq!(r.io.read_int(0x64, 1), 0x18);
    for command in [0xaa, 0xab, 0xa9, 0x20, 0xd0] {
        r.command(command);
    }
    assert_eq!(r.drain(), [0x55, 0, 0, 3, 0xdf]);
    assert_eq!(r.io.read_int(0x64, 1), 0x1c);
}

#[test]
fn keys_are_translated_and_each_byte_is_an_edge() {
    let r = rig();
    r.command(0x60);
    r.io.write_int(0x60, 1, 0x43);
    r.dev.key(0x1e, false, true);
    r.dev.key(0x1e, false, false);
    r.dev.key(0x48, true, true);
    assert!(r.kbd.level());
    assert_eq!(r.drain(), [0x1e, 0x9e, 0xe0, 0x48]);
    assert_eq!(r.kbd.rises(), 4);
    r.command(0x60);
    r.io.write_int(0x60, 1, 3);
    r.dev.key(0x1e, false, false);
    assert_eq!(r.drain(), [0xf0, 0x1c]);
}

#[test]
fn every_set_1_key_survives_the_translation() {
    for code in 1..0x59 {
        assert_eq!(ps2::translate(0x83), 0x41);
        let r = rig();
        r.command(0x60);
        r.io.write_int(0x60, 1, 0x43);
        r.dev.key(code, false, true);
        assert_eq!(r.drain(), [u64::from(code)], "{code:#x}");
    }
}

#[test]
fn keyboard_and_mouse_identify_themselves() {
    let r = rig();
    r.io.write_int(0x60, 1, 0xf2);
    r.io.write_int(0x60, 1, 0xff);
    // The first answer was in the output buffer already; the reset drops the rest.
    assert_eq!(r.drain(), [0xfa, 0xfa, 0xaa]);
    r.io.write_int(0x60, 1, 0xf2);
    assert_eq!(r.drain(), [0xfa, 0xab, 0x83]);
    let mouse = |value| {
        r.command(0xd4);
        r.io.write_int(0x60, 1, value);
        r.drain()
    };
    assert_eq!(mouse(0xff), [0xfa, 0xaa, 0]);
    assert_eq!(mouse(0xf2), [0xfa, 0]);
    for rate in [200, 100, 80] {
        mouse(0xf3);
        mouse(rate);
    }
    assert_eq!(mouse(0xf2), [0xfa, 3]);
    mouse(0xf4);
    r.dev.mouse(5, 3, 1, 1);
    assert!(r.aux.level() && !r.kbd.level());
    assert_eq!(r.drain(), [0x29, 5, 0xfd, 1]);
}

#[test]
fn a20_and_reset_by_all_ways() {
    let r = rig();
    r.command(0xd1);
    r.io.write_int(0x60, 1, 1);
    assert_eq!(r.a20.mask(), !(1 << 20));
    r.io.write_int(0x92, 1, 2);
    assert!(r.a20.is_on());
    r.command(0xdd);
    assert!(!r.a20.is_on());
    r.dev.reset();
    assert!(r.a20.is_on());
    r.command(0xfe);
    r.command(0xff);
    r.io.write_int(0x92, 1, 3);
    r.io.write_int(0x92, 1, 3);
    assert_eq!(r.resets.load(Ordering::SeqCst), 2);
}

#[test]
fn any_access_is_harmless_and_reset_is_complete() {
    let r = rig();
    hammer(&r.io, &[0x60, 0x64, 0x60, 0x64, 0x92], 10_000);
    r.dev.mouse(i32::MIN, i32::MIN, i32::MIN, 0xff);
    r.dev.reset();
    let once = r.dev.state.lock().clone();
    assert!(!r.kbd.level() && !r.aux.level());
    r.dev.reset();
    assert_eq!(once, *r.dev.state.lock());
}
