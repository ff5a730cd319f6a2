//! The configuration space of our boards' chips beside that of the distribution's QEMU, after reset and after writing
//! ones and zeros everywhere.

use bridges::{I440fx, Ich9Ahci, Ich9Lpc, Ich9Smbus, LegacyPorts, Mch, Piix3, Piix3Ide, Piix4Pm};
use guestmem::{AddressSpace, IoHandler, IoRules, RamBlock, Region};
use irq::{IrqLine, MsiMessage, MsiSink};
use pci::{ConfigPorts, PciBus};
use qdev::{Device, SystemControl, SystemRequest};
use qtest::Qtest;
use std::sync::Arc;

struct Nobody;
impl SystemControl for Nobody {
    fn request(&self, _request: SystemRequest) {}
}
impl MsiSink for Nobody {
    fn send(&self, _message: MsiMessage) {}
}
impl IoHandler for Nobody {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0x5a
    }
    fn write(&self, _offset: u64, _size: u8, _value: u64) {}
}

/// Something with ports 0xcf8 and 0xcfc.
trait Ports {
    fn out(&mut self, port: u16, value: u32);
    fn input(&mut self, port: u16) -> u32;

    fn read(&mut self, at: u32, offset: u32) -> u32 {
        self.out(0xcf8, 1 << 31 | at << 8 | offset);
        self.input(0xcfc)
    }
    fn write(&mut self, at: u32, offset: u32, value: u32) {
        self.out(0xcf8, 1 << 31 | at << 8 | offset);
        self.out(0xcfc, value);
    }

    /// (address, offset, after reset, after ones, after zeros) of everything on bus 0.
    fn dump(&mut self) -> Vec<(u32, u32, [u32; 3])> {
        let mut rows = Vec::new();
        for at in 0..256 {
            if self.read(at, 0) == u32::MAX {
                continue;
            }
            let reset: Vec<u32> = (0..64).map(|i| self.read(at, 4 * i)).collect();
            for (i, reset) in (0..64).zip(reset) {
                self.write(at, 4 * i, u32::MAX);
                let ones = self.read(at, 4 * i);
                self.write(at, 4 * i, 0);
                let zeros = self.read(at, 4 * i);
                self.write(at, 4 * i, reset);
                rows.push((at, 4 * i, [reset, ones, zeros]));
            }
        }
        rows
    }
}

impl Ports for Qtest {
    fn out(&mut self, port: u16, value: u32) {
        self.port_write(port.into(), 4, value.into());
    }
    fn input(&mut self, port: u16) -> u32 {
        self.port_read(port.into(), 4) as u32
    }
}

struct Ours {
    io: AddressSpace,
    memory: AddressSpace,
    bus: Arc<PciBus>,
    devices: Vec<Arc<dyn Device>>,
}

impl Ports for Ours {
    fn out(&mut self, port: u16, value: u32) {
        self.io.write_int(port.into(), 4, value.into());
    }
    fn input(&mut self, port: u16) -> u32 {
        self.io.read_int(port.into(), 4) as u32
    }
}

fn ours(machine: &str) -> Ours {
    let system = Region::whole("system");
    let pci = Region::whole("pci");
    system.add_overlap(&pci, 0, -1);
    pci.add(&Region::rom("pc.bios", RamBlock::new("pc.bios", 0x2_0000).expect("rom")), 0xe_0000);
    let ram = RamBlock::new("pc.ram", 128 << 20).expect("ram");
    system.add(&Region::ram("pc.ram", ram.clone()), 0);
    let ports = Region::container("io", 0x1_0000);
    let memory = AddressSpace::memory("memory", &system);
    let io = AddressSpace::ports("I/O", &ports);
    let bus = PciBus::new("pci.0", machine == "q35", &pci, &ports, &memory, Arc::new(Nobody));
    ConfigPorts::install(&bus, &ports);
    let gsi = vec![IrqLine::unconnected(); 24];
    let pm = Region::io("pm", if machine == "q35" { 128 } else { 64 }, Arc::new(Nobody), IoRules::ANY);
    let control: Arc<dyn SystemControl> = Arc::new(Nobody);
    let devices: Vec<Arc<dyn Device>> = if machine == "q35" {
        vec![
            Mch::new(&bus, &system, &pci, &ram).expect("mch"),
            Ich9Lpc::new(&bus, &ports, &system, &pm, gsi, LegacyPorts::default(), control).expect("lpc"),
            Ich9Ahci::new(&bus).expect("ahci"),
            Ich9Smbus::new(&bus).expect("smbus"),
        ]
    } else {
        vec![
            I440fx::new(&bus, &system, &pci, &ram).expect("i440fx"),
            Piix3::new(&bus, &ports, gsi, control).expect("piix3"),
            Piix3Ide::new(&bus, &ports).expect("ide"),
            Piix4Pm::new(&bus, &ports, &pm, [false; 2], false).expect("pm"),
        ]
    };
    Ours { io, memory, bus, devices }
}

fn compare(machine: &str) {
    let Some(mut qemu) = Qtest::start(&["-M", &format!("{machine},smm=off")]) else {
        println!("SKIPPED {machine}: there is no {}", qtest::QEMU);
        return;
    };
    let (theirs, own) = (qemu.dump(), ours(machine).dump());
    let text = |rows: &[(u32, u32, [u32; 3])]| -> Vec<String> {
        rows.iter()
            .map(|(at, offset, [a, b, c])| {
                format!("{:02x}.{} {offset:02x}: {a:08x} {b:08x} {c:08x}", at >> 3, at & 7)
            })
            .collect()
    };
    let (theirs, own) = (text(&theirs), text(&own));
    let wrong: Vec<_> = own.iter().filter(|row| !theirs.contains(row)).collect();
    let missing: Vec<_> = theirs.iter().filter(|row| !own.contains(row)).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "{machine}\nours: {wrong:#?}\nQEMU's: {missing:#?}");
}

#[test]
fn pc_is_as_qemus() {
    compare("pc");
}

#[test]
fn q35_is_as_qemus() {
    compare("q35");
}

#[test]
fn a_reset_undoes_everything() {
    for machine in ["pc", "q35"] {
        let mut board = ours(machine);
        let first = board.dump();
        for device in &board.devices {
            device.reset();
        }
        assert_eq!(board.dump(), first, "{machine}");
    }
}

#[test]
fn shadow_ram_follows_its_registers() {
    for (machine, register) in [("pc", 0x59), ("q35", 0x90)] {
        let board = ours(machine);
        let pam = |index: u16, value: u32| {
            board.bus.config_write(pci::Devfn(0), register + index, 1, value);
        };
        board.memory.write_int(0xf_0000, 1, 0x11);
        assert_eq!(board.memory.read_int(0xf_0000, 1), 0, "{machine}: PCI is seen");
        pam(0, 0x30);
        pam(6, 0x30);
        board.memory.write_int(0xf_0000, 1, 0x22);
        board.memory.write_int(0xe_c000, 1, 0x33);
        board.memory.write_int(0xe_8000, 1, 0x44);
        pam(0, 0x10);
        board.memory.write_int(0xf_0000, 1, 0x55);
        assert_eq!(board.memory.read_int(0xf_0000, 1), 0x22, "{machine}: reads RAM, ignores writes");
        assert_eq!(board.memory.read_int(0xe_c000, 1), 0x33);
        assert_eq!(board.memory.read_int(0xe_8000, 1), 0);
    }
}

#[test]
fn random_configuration_accesses_do_no_harm() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for machine in ["pc", "q35"] {
        let board = ours(machine);
        for _ in 0..3000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let size = 1 << (seed >> 20 & 1) << (seed >> 21 & 1);
            if seed & 3 == 0 {
                board.io.write_int(0xcf8, 4, 1 << 31 | seed >> 32 & 0xff_ffff);
            } else if seed & 3 == 1 {
                board.io.read_int(0xcfc + (seed >> 8 & 3), size);
            } else {
                board.io.write_int(0xcfc + (seed >> 8 & 3), size, seed >> 32);
            }
        }
    }
}

#[test]
fn info_pci_names_the_chips() {
    let text = ours("pc").bus.describe();
    let chips: Vec<&str> = text.lines().filter(|l| l.contains("PCI device")).map(str::trim).collect();
    assert_eq!(
        chips,
        [
            "Host bridge: PCI device 8086:1237",
            "ISA bridge: PCI device 8086:7000",
            "IDE controller: PCI device 8086:7010",
            "Bridge: PCI device 8086:7113"
        ]
    );
    assert!(text.contains("      BAR4: I/O at 0xffffffffffffffff [0x000e].\n"), "{text}");
}
