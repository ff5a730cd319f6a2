//! A driver's view of the devices on a PCI bus: configuration space, both interfaces, requests and interrupts.

use block::{BlockBackend, BlockOptions, Limits, Rate, ThrottleGroup};
use clock::Clock;
use guestmem::{AddressSpace, RamBlock, Region};
use irq::{MsiMessage, MsiSink};
use pci::{Devfn, PciBus};
use qdev::{Bus, Context, Device, DeviceSpec, Input, Links, SystemControl, SystemRequest};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Nobody;
impl SystemControl for Nobody {
    fn request(&self, _request: SystemRequest) {}
}

#[derive(Default)]
struct Messages(Mutex<Vec<MsiMessage>>, AtomicU32);
impl MsiSink for Messages {
    fn send(&self, message: MsiMessage) {
        self.0.lock().expect("messages").push(message);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

struct Board {
    memory: AddressSpace,
    io: AddressSpace,
    bus: Arc<PciBus>,
    messages: Arc<Messages>,
    links: Arc<Links>,
    clock: Clock,
}

const BAR4: u64 = 0xe000_0000;
const BAR1: u64 = 0xe001_0000;
const BAR0: u64 = 0xc000;

impl Board {
    fn new() -> Self {
        let system = Region::whole("system");
        let pci = Region::whole("pci");
        system.add_overlap(&pci, 0, -1);
        system.add(&Region::ram("ram", RamBlock::new("ram", 1 << 20).expect("ram")), 0);
        let ports = Region::container("io", 0x1_0000);
        let memory = AddressSpace::memory("memory", &system);
        let io = AddressSpace::ports("I/O", &ports);
        let messages = Arc::new(Messages::default());
        let bus = PciBus::new("pci.0", false, &pci, &ports, &memory, messages.clone());
        Self { memory, io, bus, messages, links: Arc::default(), clock: Clock::manual() }
    }

    fn plug(&self, spec: &'static DeviceSpec, properties: &[(&str, &str)]) -> (Arc<dyn Device>, Devfn) {
        let mut made = (spec.properties)();
        for (name, value) in properties {
            qdev::set(made.as_mut(), spec.name, name, &Input::Text(value)).expect(name);
        }
        let context = Context {
            id: None,
            links: self.links.clone(),
            clock: self.clock.clone(),
            system: Arc::new(Nobody),
        };
        let at = self.bus.free_slot().expect("slot");
        let device = self.bus.plug(spec, made, context).unwrap_or_else(|e| panic!("{e}"));
        for (offset, value) in [(0x10, BAR0), (0x14, BAR1), (0x20, BAR4), (0x24, 0), (0x04, 7)] {
            self.bus.config_write(at, offset, 4, value as u32);
        }
        // MSI-X on; vector 1 is 0xfee00000/0x41.
        self.bus.config_write(at, 0x9a, 2, 0x8000);
        for (offset, value) in [(16, 0xfee0_0000), (20, 0), (24, 0x41), (28, 0)] {
            self.memory.write_int(BAR1 + offset, 4, value);
        }
        (device, at)
    }

    /// Does what a modern driver does until the device runs, with queue 0 at 0x1000, 0x2000 and 0x3000.
    fn start_modern(&self, features: u64) {
        let w = |offset: u64, size: u8, value: u64| self.memory.write_int(BAR4 + offset, size, value);
        w(0x14, 1, 0);
        w(0x14, 1, 3);
        for half in 0..2 {
            w(0x08, 4, half);
            w(0x0c, 4, features >> (32 * half) & 0xffff_ffff);
        }
        w(0x14, 1, 0x0b);
        assert_eq!(self.memory.read_int(BAR4 + 0x14, 1), 0x0b, "features taken");
        w(0x16, 2, 0);
        w(0x18, 2, 8);
        w(0x1a, 2, 1);
        w(0x20, 8, 0x1000);
        w(0x28, 8, 0x2000);
        w(0x30, 8, 0x3000);
        w(0x1c, 2, 1);
        w(0x14, 1, 0x0f);
    }

    fn describe(&self, index: u64, address: u64, len: u32, flags: u16, next: u16) {
        let at = 0x1000 + 16 * index;
        self.memory.write_int(at, 8, address);
        self.memory.write_int(at + 8, 4, len.into());
        self.memory.write_int(at + 12, 2, flags.into());
        self.memory.write_int(at + 14, 2, next.into());
    }

    /// Offers the chain from descriptor `head` as request number `n` (from 1 on) of the modern queue.
    fn offer(&self, n: u64, head: u64) {
        self.memory.write_int(0x2004 + 2 * ((n - 1) % 8), 2, head);
        self.memory.write_int(0x2002, 2, n);
        self.memory.write_int(BAR4 + 0x3000, 2, 0);
    }

    /// Waits until `n` requests of the modern queue are done.
    fn await_done(&self, n: u64) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.memory.read_int(0x3002, 2) != n {
            assert!(Instant::now() < end, "request {n} is not answered");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Offers descriptor 0 as request number `n` (from 1 on) and waits until it is done.
    fn run(&self, n: u64, available: u64, used: u64, size: u64, notify: impl Fn()) {
        self.memory.write_int(available + 4 + 2 * ((n - 1) % size), 2, 0);
        self.memory.write_int(available + 2, 2, n);
        notify();
        let end = Instant::now() + Duration::from_secs(20);
        while self.memory.read_int(used + 2, 2) != n {
            assert!(Instant::now() < end, "request {n} is not answered");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn disk(&self, name: &str) -> String {
        let path = std::env::temp_dir().join(format!("tinamou-virtio-{}-{name}", std::process::id()));
        std::fs::write(&path, vec![0x5a; 1 << 20]).expect("image");
        let path = path.to_str().expect("path").to_owned();
        let options = BlockOptions {
            file: Some(path.clone()),
            format: Some("raw".to_owned()),
            ..BlockOptions::default()
        };
        self.links.insert("d0", BlockBackend::open("d0", &options).expect("open"));
        path
    }
}

/// A disk request of `kind` on `sector` with 512 bytes at 0x9000.
fn request(board: &Board, kind: u32, sector: u64, write: bool) {
    board.memory.write_int(0x8000, 4, kind.into());
    board.memory.write_int(0x8008, 8, sector);
    board.memory.write_int(0xa000, 1, 0xff);
    board.describe(0, 0x8000, 16, 1, 1);
    board.describe(1, 0x9000, 512, if write { 1 } else { 3 }, 2);
    board.describe(2, 0xa000, 1, 2, 0);
}

#[test]
fn a_modern_driver_reads_and_writes_a_disk() {
    let board = Board::new();
    let path = board.disk("modern");
    let (device, at) = board.plug(&virtio::BLK_SPECS[0], &[("drive", "d0"), ("serial", "S1")]);
    assert_eq!(board.bus.config_read(at, 0, 4), 0x1001_1af4);
    assert_eq!(board.memory.read_int(BAR4 + 0x2000, 8), 2048, "capacity in sectors");
    board.start_modern(1 << 32);
    let notify = || board.memory.write_int(BAR4 + 0x3000, 2, 0);
    request(&board, 0, 3, false);
    board.run(1, 0x2000, 0x3000, 8, notify);
    assert_eq!((board.memory.read_int(0x9000, 1), board.memory.read_int(0xa000, 1)), (0x5a, 0));
    board.memory.write_int(0x9000, 8, 0x1122_3344_5566_7788);
    request(&board, 1, 7, true);
    board.run(2, 0x2000, 0x3000, 8, notify);
    assert_eq!(board.memory.read_int(0xa000, 1), 0);
    let bytes = std::fs::read(&path).expect("image");
    assert_eq!(bytes[7 * 512..7 * 512 + 8], 0x1122_3344_5566_7788u64.to_le_bytes());
    // Beyond the end, and an unknown request.
    request(&board, 0, 2048, false);
    board.run(3, 0x2000, 0x3000, 8, notify);
    assert_eq!(board.memory.read_int(0xa000, 1), 1);
    request(&board, 77, 0, false);
    board.run(4, 0x2000, 0x3000, 8, notify);
    assert_eq!(board.memory.read_int(0xa000, 1), 2);
    request(&board, 8, 0, false);
    board.run(5, 0x2000, 0x3000, 8, notify);
    assert_eq!(board.memory.read_int(0x9000, 4), u64::from(u32::from_le_bytes(*b"S1\0\0")));
    let end = Instant::now() + Duration::from_secs(20);
    while board.messages.1.load(Ordering::SeqCst) < 5 {
        assert!(Instant::now() < end, "an interrupt a request");
        std::thread::sleep(Duration::from_millis(1));
    }
    let first = board.messages.0.lock().expect("messages")[0];
    assert_eq!(first, MsiMessage { address: 0xfee0_0000, data: 0x41 });
    device.reset();
    assert_eq!(board.bus.config_read(at, 4, 2), 0);
    std::fs::remove_file(path).expect("remove");
}

#[test]
fn limited_requests_wait_as_long_as_they_should() {
    const TENTH: u64 = 100_000_000;
    let board = Board::new();
    let path = board.disk("limits");
    let group = ThrottleGroup::new("g");
    let mut limits = Limits::default();
    // Ten reads a second: one more than a tenth of a second's worth goes at once.
    limits.rates[4] = Rate { average: 10, ..Rate::default() };
    group.set_limits(limits);
    board.links.get::<BlockBackend>("d0").expect("disk").limit(group);
    let (device, at) = board.plug(&virtio::BLK_SPECS[0], &[("drive", "d0")]);
    let start = || {
        for at in [0x2002, 0x3002] {
            board.memory.write_int(at, 2, 0);
        }
        board.start_modern(1 << 32);
        request(&board, 0, 3, false);
        // And a write from descriptor 3 on.
        board.memory.write_int(0x8100, 4, 1);
        board.memory.write_int(0x8108, 8, 5);
        board.describe(3, 0x8100, 16, 1, 4);
        board.describe(4, 0x9800, 512, 1, 5);
        board.describe(5, 0xa001, 1, 2, 0);
    };
    let done = |n: u64| board.memory.read_int(0x3004 + 8 * ((n - 1) % 8), 4);
    start();
    board.offer(1, 0);
    board.offer(2, 0);
    board.await_done(2);
    // A read waits, and a write behind it does not.
    board.offer(3, 0);
    board.offer(4, 3);
    board.await_done(3);
    assert_eq!([done(1), done(2), done(3)], [0, 0, 3]);
    // Almost its time; the next write shows that the worker has looked.
    board.clock.advance(TENTH - 1);
    board.offer(5, 3);
    board.await_done(4);
    assert_eq!(done(4), 3);
    board.memory.write_int(0x9000, 1, 0);
    board.memory.write_int(0xa000, 1, 0xff);
    board.clock.advance(1);
    board.await_done(5);
    assert_eq!((done(5), board.memory.read_int(0x9000, 1), board.memory.read_int(0xa000, 1)), (0, 0x5a, 0));
    // What waits is done in turn, each at its time.
    board.offer(6, 0);
    board.offer(7, 0);
    board.offer(8, 3);
    board.await_done(6);
    assert_eq!(done(6), 3);
    for n in [7, 8] {
        board.clock.advance(TENTH);
        board.await_done(n);
        assert_eq!(done(n), 0);
    }
    // A reset does not wait, and nothing waits any more behind it.
    board.offer(9, 0);
    board.offer(10, 3);
    board.await_done(9);
    device.reset();
    for (offset, value) in [(0x10, BAR0), (0x14, BAR1), (0x20, BAR4), (0x24, 0), (0x04, 7)] {
        board.bus.config_write(at, offset, 4, value as u32);
    }
    start();
    board.clock.advance(TENTH);
    board.offer(1, 3);
    board.await_done(1);
    assert_eq!(done(1), 3);
    board.offer(2, 0);
    board.await_done(2);
    assert_eq!(done(2), 0);
    // The disk goes away with a request that waits.
    board.offer(3, 0);
    board.offer(4, 3);
    board.await_done(3);
    std::fs::remove_file(path).expect("remove");
}

#[test]
fn a_legacy_driver_reads_a_disk() {
    let board = Board::new();
    let path = board.disk("legacy");
    let (_device, at) = board.plug(&virtio::BLK_SPECS[2], &[("drive", "d0")]);
    // Without MSI-X: configuration is at 20.
    board.bus.config_write(at, 0x9a, 2, 0);
    let (r, w) = (
        |offset: u64, size: u8| board.io.read_int(BAR0 + offset, size),
        |offset: u64, size: u8, value: u64| board.io.write_int(BAR0 + offset, size, value),
    );
    assert_eq!(r(20, 4), 2048);
    w(18, 1, 0);
    w(18, 1, 3);
    w(4, 4, r(0, 4) & 0xff);
    w(14, 2, 0);
    assert_eq!(r(12, 2), 256);
    w(8, 4, 1);
    w(18, 1, 7);
    request(&board, 0, 0, false);
    // 256 entries: the available ring follows at 0x2000, the used ring on the page after it.
    board.run(1, 0x2000, 0x3000, 256, || w(16, 2, 0));
    assert_eq!((board.memory.read_int(0x9000, 1), board.memory.read_int(0xa000, 1)), (0x5a, 0));
    let end = Instant::now() + Duration::from_secs(20);
    while r(19, 1) != 1 {
        assert!(Instant::now() < end, "the queue's interrupt");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(r(19, 1), 0, "reading takes it");
    std::fs::remove_file(path).expect("remove");
}

#[test]
fn entropy_comes_and_a_broken_ring_asks_for_a_reset() {
    let board = Board::new();
    let (_device, at) = board.plug(&virtio::RNG_SPECS[1], &[]);
    assert_eq!(board.bus.config_read(at, 0, 4), 0x1044_1af4);
    board.start_modern(1 << 32 | 1 << 29);
    board.describe(0, 0x9000, 64, 2, 0);
    board.run(1, 0x2000, 0x3000, 8, || board.memory.write_int(BAR4 + 0x3000, 2, 0));
    let mut bytes = [0; 64];
    board.memory.read(0x9000, &mut bytes);
    assert_ne!(bytes, [0; 64]);
    board.describe(0, 0x9000, 64, 3, 0);
    board.memory.write_int(0x2002, 2, 2);
    board.memory.write_int(BAR4 + 0x3000, 2, 0);
    let end = Instant::now() + Duration::from_secs(20);
    while board.memory.read_int(BAR4 + 0x14, 1) & 0x40 == 0 {
        assert!(Instant::now() < end, "the device asks for a reset");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Whole again, with nothing offered: the device looks at its queue as soon as it runs.
    board.memory.write_int(0x2002, 2, 0);
    board.start_modern(1 << 32);
    assert_eq!(board.memory.read_int(BAR4 + 0x14, 1), 0x0f);
}

#[test]
fn random_accesses_do_no_harm() {
    let board = Board::new();
    let path = board.disk("random");
    let (_device, at) = board.plug(&virtio::BLK_SPECS[0], &[("drive", "d0")]);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..5000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (offset, size, value) = (seed >> 8 & 0x3f, 1u8 << (seed >> 16 & 3), seed >> 20);
        match seed & 7 {
            0 => board.memory.write_int(BAR4 + offset, size, value & 0xff),
            1 => board.memory.write_int(BAR4 + (offset << 8), size, value),
            2 => drop(board.memory.read_int(BAR4 + (offset << 8), size)),
            3 => board.io.write_int(BAR0 + offset, size.min(4), value & 0xfff),
            4 => drop(board.io.read_int(BAR0 + offset, size.min(4))),
            5 => board.memory.write_int(0x1000 + (offset << 4), size, value),
            6 => board.memory.write_int(BAR1 + offset, 4, value),
            _ => board.bus.config_write(at, 0x84 + (offset as u16 & 0x1f), size.min(4), value as u32 & 0xfff),
        }
    }
    std::fs::remove_file(path).expect("remove");
}

/// A driver that has set up its queues and then writes nonsense into rings and descriptors: the device may ask for a
/// reset, and serves the next driver after it.
#[test]
fn random_rings_do_no_harm() {
    let blk = &virtio::BLK_SPECS[0];
    for (spec, limited) in
        [(blk, false), (blk, true), (&virtio::RNG_SPECS[0], false), (&virtio::SERIAL_SPECS[0], false)]
    {
        let board = Board::new();
        let path = board.disk("rings");
        if limited {
            let group = ThrottleGroup::new("g");
            let mut limits = Limits::default();
            limits.rates[3] = Rate { average: 10, ..Rate::default() };
            group.set_limits(limits);
            board.links.get::<BlockBackend>("d0").expect("disk").limit(group);
        }
        let properties: &[_] = if spec.name == "virtio-blk-pci" { &[("drive", "d0")] } else { &[] };
        let (device, _) = board.plug(spec, properties);
        let multiport = if spec.name == "virtio-serial-pci" { 2 } else { 0 };
        for bus in device.buses() {
            let context = Context {
                id: None,
                links: board.links.clone(),
                clock: Clock::manual(),
                system: Arc::new(Nobody),
            };
            let console = &virtio::PORT_SPECS[0];
            bus.plug(console, (console.properties)(), context).unwrap_or_else(|e| panic!("{e}"));
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % below
        };
        for _ in 0..60 {
            board.start_modern(1 << 32 | 1 << 28 | random(2) << 29 | multiport);
            for step in 1..40 {
                let len = [0, 1, 8, 16, 17, 512, 1 << 20, u64::from(u32::MAX)][random(8) as usize];
                board.describe(
                    random(8),
                    [0x1000, 0x2000, 0x8000, 0xf_fff0, u64::MAX - 7][random(5) as usize]
                        .wrapping_add(random(64)),
                    len as u32,
                    random(8) as u16,
                    random(10) as u16,
                );
                board.memory.write_int(0x8000, 4, random(14));
                board.memory.write_int(0x8008, 8, random(4096));
                board.memory.write_int(0x2004 + 2 * random(8), 2, random(10));
                board.memory.write_int(0x2002, 2, step + random(3) / 2 * 5);
                board.memory.write_int(BAR4 + 0x3000 + 4 * random(40), 2, 0);
                board.clock.advance(random(50_000_000));
            }
        }
        // The worker lives: a sound request is answered. Queue 0 of the console is for input, of which there is none.
        for at in (0x1000..0x4000).step_by(8) {
            board.memory.write_int(at, 8, 0);
        }
        if spec.name != "virtio-serial-pci" {
            // All that was used so far has leaked.
            board.clock.advance(3600 * 1_000_000_000);
            board.start_modern(1 << 32);
            request(&board, 0, 3, false);
            if spec.name == "virtio-rng-pci" {
                board.describe(0, 0x9000, 64, 2, 0);
            }
            board.run(1, 0x2000, 0x3000, 8, || board.memory.write_int(BAR4 + 0x3000, 2, 0));
        }
        // Waits for the worker to be idle.
        device.reset();
        std::fs::remove_file(path).expect("remove");
    }
}

#[test]
fn errors_are_worded_as_in_qemu() {
    let board = Board::new();
    let make = |name: &str, value: &str| {
        let spec = &virtio::BLK_SPECS[0];
        let mut properties = (spec.properties)();
        qdev::set(properties.as_mut(), spec.name, name, &Input::Text(value)).expect(name);
        let context = Context {
            id: None,
            links: board.links.clone(),
            clock: Clock::manual(),
            system: Arc::new(Nobody),
        };
        board.bus.plug(spec, properties, context).err().expect("refused").0
    };
    assert_eq!(make("multifunction", "off"), "drive property not set");
    assert_eq!(make("drive", "nope"), "Property 'virtio-blk-device.drive' can't find value 'nope'");
}
