//! The watchdogs' registers beside the installed QEMU's: the same random accesses (over qtest, with time standing
//! still); skipped where QEMU is not installed.

use clock::Clock;
use guestmem::{AddressSpace, Region};
use irq::{IrqLine, MsiMessage, MsiSink};
use isa::IsaBus;
use pci::{ConfigPorts, PciBus};
use qdev::{Bus, Context, Device, DeviceSpec, Input, Links, SystemControl, SystemRequest};
use qtest::Qtest;
use std::sync::Arc;

/// Slot of the PCI watchdog.
const SLOT: u32 = 5;
/// Where its registers in memory are put.
const BAR: u64 = 0xfe00_0000;

/// What both sides can do.
trait Side {
    fn port_write(&mut self, port: u64, size: u8, value: u64);
    fn port_read(&mut self, port: u64, size: u8) -> u64;
    fn memory_write(&mut self, address: u64, size: u8, value: u64);
    fn memory_read(&mut self, address: u64, size: u8) -> u64;
}

impl Side for Qtest {
    fn port_write(&mut self, port: u64, size: u8, value: u64) {
        self.port_write(port, size, value);
    }
    fn port_read(&mut self, port: u64, size: u8) -> u64 {
        self.port_read(port, size)
    }
    fn memory_write(&mut self, address: u64, size: u8, value: u64) {
        self.memory_write(address, size, value);
    }
    fn memory_read(&mut self, address: u64, size: u8) -> u64 {
        self.memory_read(address, size)
    }
}

struct Nobody;

impl SystemControl for Nobody {
    fn request(&self, request: SystemRequest) {
        panic!("{request:?} while time stands still");
    }
}

impl MsiSink for Nobody {
    fn send(&self, _message: MsiMessage) {}
}

struct Ours {
    ports: AddressSpace,
    memory: AddressSpace,
    _pci: (Arc<PciBus>, Arc<ConfigPorts>),
    _isa: Arc<IsaBus>,
    _devices: Vec<Arc<dyn Device>>,
}

impl Ours {
    fn new() -> Self {
        let clock = Clock::manual();
        let system = Region::whole("system");
        let memory = AddressSpace::memory("memory", &system);
        let io = Region::container("io", 0x1_0000);
        let ports = AddressSpace::ports("I/O", &io);
        let pci = PciBus::new("pci.0", false, &system, &io, &memory, Arc::new(Nobody));
        let config = ConfigPorts::install(&pci, &io);
        let isa = IsaBus::new("isa.0", &io, (0..16).map(|_| IrqLine::unconnected()).collect());
        let plug = |bus: &dyn Bus, spec: &'static DeviceSpec, properties: &[(&str, &str)]| {
            let mut made = (spec.properties)();
            for (name, value) in properties {
                qdev::set(made.as_mut(), spec.name, name, &Input::Text(value)).expect(name);
            }
            let links = Arc::new(Links::default());
            bus.plug(spec, made, Context { id: None, links, clock: clock.clone(), system: Arc::new(Nobody) })
                .expect("a device")
        };
        let slot = SLOT.to_string();
        let devices = vec![
            plug(&*isa, &chipset::watchdog::IB700_SPEC, &[]),
            plug(&*pci, &chipset::watchdog::I6300ESB_SPEC, &[("addr", &slot)]),
        ];
        Self { ports, memory, _pci: (pci, config), _isa: isa, _devices: devices }
    }
}

impl Side for Ours {
    fn port_write(&mut self, port: u64, size: u8, value: u64) {
        self.ports.write_int(port, size, value);
    }
    fn port_read(&mut self, port: u64, size: u8) -> u64 {
        self.ports.read_int(port, size)
    }
    fn memory_write(&mut self, address: u64, size: u8, value: u64) {
        self.memory.write_int(address, size, value);
    }
    fn memory_read(&mut self, address: u64, size: u8) -> u64 {
        self.memory.read_int(address, size)
    }
}

/// A generator that is the same everywhere (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.next() as usize % list.len()]
    }
}

/// Selects a register in the function's configuration space.
fn select(side: &mut dyn Side, offset: u64) -> u64 {
    side.port_write(0xcf8, 4, 1 << 31 | u64::from(SLOT) << 11 | offset & !3);
    0xcfc + (offset & 3)
}

/// The same story for every side: what reads gave.
fn story(side: &mut dyn Side) -> Vec<(String, u64)> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut log = Vec::new();
    let mut note = |what: String, value: u64| log.push((what, value));
    for register in (0..64).map(|n| 4 * n) {
        let port = select(side, register);
        note(format!("configuration {register:#x}"), side.port_read(port, 4));
    }
    for (register, value) in [(0x10, BAR), (4, 2)] {
        let port = select(side, register);
        side.port_write(port, 4, value);
    }
    for step in 0..6000 {
        let size = random.of(&[1, 1, 2, 2, 4]);
        match random.next() % 8 {
            0 => side.port_write(random.of(&[0x441, 0x443, 0x443, 0x444]), size, random.next() & 0xffff_ffff),
            1 => note(
                format!("{step}: port"),
                side.port_read(random.of(&[0x441, 0x442, 0x443, 0x444]), random.of(&[1, 2])),
            ),
            2 | 3 => {
                let (register, size) = random.of(&[(0x60, 2), (0x68, 1), (0x60, 4), (0x61, 1), (0x68, 2)]);
                // Rarely locked: nothing but a reset leads out of that.
                let value = random.next() & if step < 5000 { 0xffff_fffe } else { 0xffff_ffff };
                let port = select(side, register);
                side.port_write(port, size, value & ((1 << (8 * u32::from(size))) - 1));
            }
            4 => {
                let (register, size) = random.of(&[(0x60, 2), (0x68, 1), (0x60, 4), (0x61, 1), (0x68, 4)]);
                let port = select(side, register);
                note(format!("{step}: configuration {register:#x}.{size}"), side.port_read(port, size));
            }
            5 | 6 => {
                for key in [0x80, 0x86] {
                    side.memory_write(BAR + 0xc, random.of(&[1, 2, 4]), key);
                }
                let (offset, size) =
                    random.of(&[(0, 4), (4, 4), (0xc, 2), (0xc, 2), (0xc, 4), (8, 4), (0, 2)]);
                let value = if offset == 0xc { 0xffff } else { 0xf_ffff >> (random.next() % 20) };
                side.memory_write(BAR + offset, size, random.next() & value);
            }
            _ => {
                let offset = random.of(&[0, 4, 8, 0xc, 0xc, 0xc]);
                note(format!("{step}: memory {offset:#x}.{size}"), side.memory_read(BAR + offset, size));
            }
        }
    }
    log
}

#[test]
fn watchdogs_do_what_qemus_do() {
    let pci = format!("i6300esb,addr={SLOT}");
    let Some(mut qemu) = Qtest::start(&["-device", "ib700", "-device", &pci]) else {
        println!("SKIPPED watchdogs: there is no QEMU here");
        return;
    };
    let (theirs, ours) = (story(&mut qemu), story(&mut Ours::new()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "ours, then QEMU's");
    }
    assert_eq!(ours.len(), theirs.len());
}
