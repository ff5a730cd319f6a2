//! The same register accesses on our chips and on the installed QEMU's (over qtest, with its clock standing still);
//! skipped where QEMU is not installed.

use chipset::{dma::DmaPair, i8042, pic::Pic, pit::Pit, rtc::Rtc};
use clock::Clock;
use guestmem::{AddressSpace, Dma, Region};
use irq::IrqLine;
use qtest::Qtest;

fn ours() -> AddressSpace {
    let clock = Clock::manual();
    let memory = AddressSpace::memory("memory", &Region::whole("system"));
    let root = Region::container("io", 0x1_0000);
    let none = IrqLine::unconnected;
    let a20 = i8042::A20Gate::new(|_| {});
    let windows = [
        Pic::new(none()).ports(),
        Pit::new(&clock, none()).ports(),
        Rtc::new(&clock, none(), 1_709_210_096).ports(),
        i8042::I8042::new(none(), none(), a20, || {}).ports(),
        DmaPair::new(Dma::new(&memory)).ports(),
    ];
    for (port, region) in windows.into_iter().flatten() {
        root.add(&region, port);
    }
    AddressSpace::ports("I/O", &root)
}

/// Runs a list of accesses (port, and the value to write) on both and compares what the reads give.
fn compare(script: &[(u64, Option<u64>)]) {
    let clock = "base=2024-02-29T12:34:56,clock=vm";
    let Some(mut oracle) = Qtest::start(&["-M", "pc", "-rtc", clock]) else {
        println!("SKIPPED chips: there is no QEMU here");
        return;
    };
    let io = ours();
    for (step, &(port, write)) in script.iter().enumerate() {
        match write {
            Some(value) => {
                oracle.port_write(port, 1, value);
                io.write_int(port, 1, value);
            }
            None => {
                let theirs = oracle.port_read(port, 1);
                assert_eq!(
                    io.read_int(port, 1),
                    theirs,
                    "step {step}: port {port:#x}; {:x?}",
                    &script[..step]
                );
            }
        }
    }
}

/// Random bytes written to and read from `ports`, the same every time.
fn random(ports: &[u64], count: u32, keep: impl Fn(u64, u64) -> bool) -> Vec<(u64, Option<u64>)> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut script = Vec::new();
    for _ in 0..count {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let port = ports[(seed >> 10) as usize % ports.len()];
        let value = seed >> 40 & 0xff;
        if seed & 1 == 0 {
            script.push((port, None));
        } else if keep(port, value) {
            script.push((port, Some(value)));
        }
    }
    script
}

#[test]
fn interrupt_controllers() {
    compare(&random(&[0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1], 3000, |_, _| true));
}

#[test]
fn interval_timer_standing_still() {
    // No BCD, and modes 0 to 5 only: QEMU keeps no decimal counts, and the reserved modes are its own matter.
    compare(&random(&[0x40, 0x41, 0x42, 0x43, 0x61], 2000, |port, value| {
        port != 0x43 || value & 1 == 0 && value >> 1 & 7 < 6
    }));
}

#[test]
fn dma_controllers() {
    let ports: Vec<u64> = (0..0x10)
        .chain([0x81, 0x82, 0x83, 0x87, 0x89, 0x8a, 0x8b, 0x8f])
        .chain((0xc0..0xe0).step_by(2))
        .collect();
    // Software requests and the verify mode start transfers; controller commands differ by what is unsupported.
    compare(&random(&ports, 3000, |port, _| ![8, 9, 0xd0, 0xd2].contains(&port)));
}

#[test]
fn clock_and_cmos() {
    let mut script = Vec::new();
    for index in (0..0xe).chain([0x32]) {
        script.extend([(0x70, Some(index)), (0x71, None)]);
    }
    for b in [0x82, 0x86, 0x84, 0x80, 0x02] {
        script.extend([(0x70, Some(0xb)), (0x71, Some(b)), (0x71, None)]);
        for index in [0, 2, 4, 6, 7, 8, 9, 0x32] {
            script.extend([(0x70, Some(index)), (0x71, None)]);
        }
    }
    compare(&script);
}

#[test]
fn keyboard_controller() {
    let mut script = vec![(0x64, None)];
    let read = |script: &mut Vec<_>| script.extend([(0x64, None), (0x60, None), (0x64, None)]);
    for command in [0xaa, 0xab, 0xa9, 0x20, 0xad, 0x20, 0xae, 0xa7, 0x20, 0xa8, 0x20, 0xd0, 0xc0] {
        script.push((0x64, Some(command)));
        read(&mut script);
    }
    for byte in [0xf2, 0xee, 0xed, 0x07, 0xf0, 0x00, 0xf5, 0xf4, 0xff] {
        script.push((0x60, Some(byte)));
        (0..3).for_each(|_| read(&mut script));
    }
    for byte in [0xf2, 0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2, 0xe9, 0xe8, 1, 0xe9, 0xf4, 0xe9, 0xff, 0xe9] {
        script.extend([(0x64, Some(0xd4)), (0x60, Some(byte))]);
        (0..4).for_each(|_| read(&mut script));
    }
    compare(&script);
}
