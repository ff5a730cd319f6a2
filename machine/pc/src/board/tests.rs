//! The boards driven through their processors' ports and addresses.

use super::*;
use accel::CpuIo;
use clock::Clock;
use guestmem::RamBlock;
use irq::CpuSignals;
use std::sync::Mutex;

#[derive(Default)]
struct Requests(Mutex<Vec<SystemRequest>>);

impl SystemControl for Requests {
    fn request(&self, request: SystemRequest) {
        self.0.lock().expect("requests").push(request);
    }
}

fn ram() -> Arc<RamBlock> {
    RamBlock::new("pc.ram", 16 << 20).expect("ram")
}

fn board(model: BoardModel, cpus: usize) -> (Pc, Clock, Arc<Requests>, Vec<Arc<CpuSignals>>) {
    let clock = Clock::manual();
    let requests = Arc::new(Requests::default());
    let signals: Vec<_> = (0..cpus).map(|_| Arc::new(CpuSignals::new())).collect();
    let mut config = PcConfig::new(model, ram(), &clock, requests.clone());
    config.cpus = signals.clone();
    let pc = Pc::new(config).expect("board");
    pc.reset();
    (pc, clock, requests, signals)
}

#[test]
fn the_bus_holds_what_qemus_board_holds() {
    let (pc, ..) = board(BoardModel::I440fx, 1);
    let id = |slot: u32, function: u32| {
        pc.cpus[0].port_write(0xcf8, 4, 0x8000_0000 | slot << 11 | function << 8);
        pc.cpus[0].port_read(0xcfc, 4)
    };
    assert_eq!(
        [id(0, 0), id(1, 0), id(1, 1), id(1, 3)],
        [0x1237_8086, 0x7000_8086, 0x7010_8086, 0x7113_8086]
    );
    assert_eq!([id(1, 2), id(2, 0)], [u32::MAX; 2]);
}

#[test]
fn the_timer_reaches_the_first_processor_through_the_pic() {
    let (pc, clock, _, signals) = board(BoardModel::I440fx, 2);
    pc.firmware_setup();
    let cpu = &pc.cpus[0];
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xfe)] {
        cpu.port_write(port, 1, value);
    }
    // Channel 0, mode 2, 1000 ticks of 838 ns.
    for (port, value) in [(0x43, 0x34), (0x40, 0xe8), (0x40, 3)] {
        cpu.port_write(port, 1, value);
    }
    assert!(!signals[0].is_raised(Event::Intr));
    clock.advance(2_000_000);
    assert!(signals[0].is_raised(Event::Intr) && !signals[1].is_raised(Event::Intr));
    assert_eq!(cpu.acknowledge_interrupt(), Some(0x20));
    assert_eq!(cpu.acknowledge_interrupt(), None);
}

#[test]
fn each_processor_has_its_own_apic_at_the_same_address() {
    let (pc, ..) = board(BoardModel::I440fx, 2);
    let id = |cpu: usize| pc.cpus[cpu].mmio_read(0xfee0_0020, 4) >> 24;
    assert_eq!([id(0), id(1)], [0, 1]);
}

#[test]
fn the_guest_can_reset_and_power_off() {
    let (pc, _, requests, signals) = board(BoardModel::I440fx, 1);
    pc.firmware_setup();
    let cpu = &pc.cpus[0];
    cpu.port_write(0x64, 1, 0xfe);
    // PM1 control: S5 is sleep type 0.
    cpu.port_write(0x604, 2, 0x2001);
    assert_eq!(*requests.0.lock().expect("requests"), [SystemRequest::Reset, SystemRequest::Shutdown]);
    cpu.port_write(0x92, 1, 0);
    assert_eq!(cpu.a20_mask(), !(1 << 20));
    assert!(signals[0].take(Event::MapChanged));
    pc.reset();
    assert_eq!(cpu.a20_mask(), u64::MAX);
    assert_eq!(cpu.port_read(0x604, 2), 0xffff, "the ACPI registers are hidden again");
}

#[test]
fn the_q35_bus_holds_what_qemus_board_holds() {
    let (pc, ..) = board(BoardModel::Q35, 1);
    pc.firmware_setup();
    let at = |slot: u64, function: u64| 0xb000_0000 + (slot << 15) + (function << 12);
    let id = |slot, function| pc.cpus[0].mmio_read(at(slot, function), 4);
    assert_eq!(
        [id(0, 0), id(31, 0), id(31, 2), id(31, 3)],
        [0x29c0_8086, 0x2918_8086, 0x2922_8086, 0x2930_8086]
    );
    assert_eq!(id(1, 0), u64::from(u32::MAX));
    // Where SeaBIOS puts the AHCI registers, and their interrupt.
    assert_eq!(pc.cpus[0].mmio_read(at(31, 2) + 0x24, 4), 0xfebf_f000);
    assert_eq!(pc.cpus[0].mmio_read(at(31, 2) + 0x3c, 2), 0x010a);
    assert_eq!(pc.cpus[0].mmio_read(0xfebf_f00c, 4), 0x3f);
}

#[test]
fn a_pci_interrupt_of_q35_reaches_both_its_legacy_line_and_its_own_pin() {
    let (pc, _, _, signals) = board(BoardModel::Q35, 1);
    pc.firmware_setup();
    let cpu = &pc.cpus[0];
    let ahci = pc.pci.function(Devfn::new(31, 2)).expect("AHCI");
    // I/O APIC pin 16, level, vector 0x51.
    cpu.mmio_write(0xfec0_0000, 4, 0x10 + 2 * 16);
    cpu.mmio_write(0xfec0_0010, 4, 0x8051);
    ahci.set_intx(true);
    assert!(signals[0].is_raised(Event::Intr));
    assert_eq!(cpu.acknowledge_interrupt(), Some(0x51));
    assert_eq!(cpu.port_read(0xa0, 1) & 4, 4, "interrupt 10 is requested at the second PIC");
    ahci.set_intx(false);
    assert_eq!(cpu.port_read(0xa0, 1) & 4, 0);
}

#[test]
fn the_hpet_takes_the_place_of_the_timer_and_the_clock() {
    for model in [BoardModel::I440fx, BoardModel::Q35] {
        let (pc, clock, _, _) = board(model, 1);
        pc.firmware_setup();
        let cpu = &pc.cpus[0];
        let intcap = cpu.mmio_read(0xfed0_0104, 4);
        assert_eq!(intcap, if model == BoardModel::Q35 { 0xff_0104 } else { 4 });
        // The legacy mode on, no timer enabled: the PIT no longer interrupts.
        let irr = || cpu.port_read(0x20, 1) & 1;
        clock.advance(100_000_000);
        assert_eq!(irr(), 1);
        cpu.mmio_write(0xfed0_0010, 4, 3);
        assert_eq!(cpu.acknowledge_interrupt(), Some(8));
        cpu.port_write(0x20, 1, 0x20);
        clock.advance(100_000_000);
        assert_eq!(irr(), 0);
    }
}

#[test]
fn parts_can_be_left_out() {
    let clock = Clock::manual();
    let mut config = PcConfig::new(BoardModel::Q35, ram(), &clock, Arc::new(Requests::default()));
    config.cpus = vec![Arc::new(CpuSignals::new())];
    let off = ["hpet", "pit", "pic", "i8042", "sata", "smbus"].map(|name| (name, "off"));
    config.options = MachineOptions::parse("pc-q35-9.1", off).expect("options");
    let pc = Pc::new(config).expect("board");
    pc.firmware_setup();
    let cpu = &pc.cpus[0];
    assert_eq!([0x21, 0x40, 0x60, 0x64, 0x92].map(|port| cpu.port_read(port, 1)), [0xff; 5]);
    assert_eq!(cpu.mmio_read(0xfed0_0000, 4), 0);
    assert_eq!(pc.pci.functions().len(), 2);
    pc.reset();
}

#[test]
fn reset_brings_back_the_state_after_power_up() {
    for model in [BoardModel::I440fx, BoardModel::Q35] {
        let (pc, clock, ..) = board(model, 1);
        let cpu = &pc.cpus[0];
        let ports: Vec<u16> = (0..0x100).chain(0x4d0..0x4d2).chain([0x510, 0xcf8, 0xcf9]).collect();
        // The clock's registers go on; the counters of the PIT count.
        let quiet = |port: &u16| !(0x40..0x44).contains(port) && !(0x70..0x72).contains(port);
        let dump = || -> Vec<u32> {
            let config = |devfn: u32| (0..64).map(move |i| (devfn, 4 * i));
            let mut found: Vec<u32> =
                ports.iter().filter(|port| quiet(port)).map(|port| cpu.port_read(*port, 1)).collect();
            for (devfn, offset) in [0, 8, 9, 11, 248, 250, 251].into_iter().flat_map(config) {
                cpu.port_write(0xcf8, 4, 0x8000_0000 | devfn << 8 | offset);
                found.push(cpu.port_read(0xcfc, 4));
            }
            cpu.port_write(0xcf8, 4, 0);
            found
        };
        let before = dump();
        pc.firmware_setup();
        assert_ne!(dump(), before);
        clock.advance(1_000_000);
        pc.reset();
        assert_eq!(dump(), before, "{model:?}");
    }
}

#[test]
fn the_memory_map_and_the_tables_are_where_seabios_has_them() {
    let (pc, ..) = board(BoardModel::Q35, 1);
    pc.publish_tables();
    pc.firmware_setup();
    let rsdp = u64::from(pc.install_tables().rsdp);
    let map = pc.memory_map();
    let reserved: Vec<_> =
        map.ranges.iter().filter(|r| r.kind == MemoryKind::Reserved).map(|r| (r.start, r.len)).collect();
    assert_eq!(
        reserved,
        [
            (0x9_fc00, 0x400),
            (0xf_0000, 0x1_0000),
            (0xfe_0000, 0x2_0000),
            (0xb000_0000, 0x1000_0000),
            (0xfed1_c000, 0x4000),
            (0xfffc_0000, 0x4_0000),
        ]
    );
    let read = |at: u64| pc.memory.memory.read_int(at, 8).to_le_bytes();
    assert_eq!(&read(rsdp), b"RSD PTR ");
    assert_eq!(&read(0xfe_0000)[..4], b"FACS");
    // The area is write-protected, as SeaBIOS leaves it.
    pc.cpus[0].mmio_write(rsdp, 1, 0);
    assert_eq!(&read(rsdp), b"RSD PTR ");
}

#[test]
fn fw_cfg_has_what_qemu_gives() {
    let (pc, ..) = board(BoardModel::I440fx, 1);
    pc.fw_cfg.add_file("opt/a", b"xyz".to_vec()).expect("file");
    pc.publish_tables();
    let cpu = &pc.cpus[0];
    let item = |key: u32, len: usize| -> Vec<u8> {
        cpu.port_write(0x510, 2, key);
        (0..len).map(|_| cpu.port_read(0x511, 1) as u8).collect()
    };
    assert_eq!(item(0, 4), b"QEMU");
    assert_eq!((item(1, 1), item(3, 4), item(5, 2)), (vec![3], vec![0, 0, 0, 1], vec![1, 0]));
    assert_eq!(item(0x8004, 13), [1, 1, 0xa2, 0x86, 0x80, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0]);
    let directory = item(0x19, 4 + 64 * 13);
    let names: Vec<&str> = directory[4..]
        .chunks(64)
        .map(|entry| std::str::from_utf8(&entry[8..]).expect("name").trim_end_matches('\0'))
        .take_while(|name| !name.is_empty())
        .collect();
    assert_eq!(
        names,
        [
            "bios-geometry",
            "bootorder",
            "etc/acpi/rsdp",
            "etc/acpi/tables",
            "etc/boot-fail-wait",
            "etc/e820",
            "etc/smbios/smbios-anchor",
            "etc/smbios/smbios-tables",
            "etc/system-states",
            "etc/table-loader",
            "etc/tpm/log",
            "opt/a"
        ]
    );
    assert_eq!(item(0x28, 6), [0x80, 0, 0, 0x81, 0x82, 0x80]);
}
