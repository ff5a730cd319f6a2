use super::*;
use crate::ioapic::{GsiRouter, IoApic};
use crate::pic::Pic;
use guestmem::{AddressSpace, Region};
use irq::{IrqLine, IrqSink, MsiMessage, MsiSink};

struct Board {
    clock: Clock,
    bus: Arc<ApicBus>,
    pic: Arc<Pic>,
    ioapic: Arc<IoApic>,
    gsi: Arc<GsiRouter>,
    memory: AddressSpace,
    cpus: Vec<Arc<LocalApic>>,
}

fn board(count: u32) -> Board {
    let clock = Clock::manual();
    let bus = ApicBus::new();
    let cpus: Vec<_> = (0..count)
        .map(|id| {
            let config = ApicConfig { tsc_deadline: true, ..ApicConfig::new(id) };
            bus.create(config, &clock, Arc::new(CpuSignals::new()))
        })
        .collect();
    let pic = Pic::new(IrqLine::new(bus.clone(), 0));
    bus.set_pic(pic.clone());
    let ioapic = IoApic::new(0x20, &bus);
    let gsi = GsiRouter::new(pic.clone(), ioapic.clone());
    let root = Region::whole("system");
    root.add(&ioapic.region(), 0xfec0_0000);
    let memory = AddressSpace::memory("memory", &root);
    for cpu in &cpus {
        cpu.mmio_write(0xf0, 4, 0x1ff);
    }
    Board { clock, bus, pic, ioapic, gsi, memory, cpus }
}

impl Board {
    fn entry(&self, pin: u64, value: u64) {
        for half in 0..2 {
            self.memory.write_int(0xfec0_0000, 4, 0x11 + 2 * pin - half);
            self.memory.write_int(0xfec0_0010, 4, value >> (32 * (1 - half)) & 0xffff_ffff);
        }
    }

    fn low(&self, pin: u64) -> u64 {
        self.memory.write_int(0xfec0_0000, 4, 0x10 + 2 * pin);
        self.memory.read_int(0xfec0_0010, 4)
    }
}

fn raised(cpu: &LocalApic) -> bool {
    cpu.signals().is_raised(Event::Intr)
}

#[test]
fn identity_and_reset_values() {
    let b = board(2);
    b.cpus[1].reset();
    let cpu = &b.cpus[1];
    assert_eq!(cpu.mmio_read(0x20, 4), 0x0100_0000);
    assert_eq!(cpu.mmio_read(0x30, 4), 0x5_0014);
    assert_eq!(cpu.mmio_read(0xe0, 4), 0xffff_ffff);
    assert_eq!(cpu.mmio_read(0xf0, 4), 0xff);
    assert_eq!(cpu.mmio_read(0x320, 4), 0x1_0000);
    assert_eq!((cpu.base(), b.cpus[0].base()), (0xfee0_0800, 0xfee0_0900));
    b.memory.write_int(0xfec0_0000, 4, 1);
    assert_eq!(b.memory.read_int(0xfec0_0010, 4), 0x17_0020);
}

#[test]
fn priorities_nest_and_the_task_priority_holds_back() {
    let b = board(1);
    let cpu = &b.cpus[0];
    let msi = |vector| b.bus.send(MsiMessage { address: 0xfee0_0000, data: vector });
    msi(0x41);
    msi(0x45);
    assert_eq!(cpu.acknowledge(), Some(0x45));
    assert!(!raised(cpu));
    msi(0x51);
    assert_eq!(cpu.acknowledge(), Some(0x51));
    assert_eq!(cpu.mmio_read(0xa0, 4), 0x50);
    cpu.mmio_write(0xb0, 4, 0);
    cpu.mmio_write(0xb0, 4, 0);
    assert!(raised(cpu));
    cpu.set_tpr(4);
    assert!(!raised(cpu));
    assert_eq!(cpu.acknowledge(), None);
    assert_eq!((cpu.mmio_read(0x80, 4), cpu.tpr()), (0x40, 4));
    cpu.set_tpr(3);
    assert_eq!(cpu.acknowledge(), Some(0x41));
}

#[test]
fn a_level_interrupt_waits_for_its_end_in_both_apics() {
    let b = board(1);
    let cpu = &b.cpus[0];
    b.entry(11, 0x8061);
    b.gsi.line(11).set(true);
    assert_eq!(b.low(11), 0xc061);
    assert_eq!(cpu.acknowledge(), Some(0x61));
    assert_eq!(cpu.mmio_read(0x1b0, 4), 2);
    cpu.mmio_write(0xb0, 4, 0);
    // The line is still high: again.
    assert_eq!(cpu.acknowledge(), Some(0x61));
    b.gsi.line(11).set(false);
    cpu.mmio_write(0xb0, 4, 0);
    assert!(!raised(cpu));
    assert_eq!(b.low(11), 0x8061);
}

#[test]
fn the_timer_interrupt_enters_pin_2_and_edges_are_taken_once() {
    let b = board(1);
    b.entry(2, 0x30);
    let line = b.gsi.line(0);
    line.set(true);
    line.set(true);
    assert_eq!(b.cpus[0].acknowledge(), Some(0x30));
    b.cpus[0].mmio_write(0xb0, 4, 0);
    assert!(!raised(&b.cpus[0]));
    line.set(false);
    line.set(true);
    assert!(raised(&b.cpus[0]));
}

#[test]
fn the_pic_reaches_the_processor_through_lint0_or_with_the_apic_off() {
    let b = board(2);
    for (port, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1)] {
        let io = crate::testing::port_space(b.pic.ports());
        io.write_int(0x20 + port, 1, value);
    }
    b.pic.set_level(0, true);
    assert!(!raised(&b.cpus[0]));
    b.cpus[0].set_virtual_wire();
    assert!(raised(&b.cpus[0]) && !raised(&b.cpus[1]));
    assert!(b.cpus[0].set_base(0xfee0_0100));
    assert!(raised(&b.cpus[0]));
    assert_eq!(b.cpus[0].acknowledge(), Some(0x20));
    assert!(!raised(&b.cpus[0]));
}

#[test]
fn interprocessor_interrupts_find_their_targets() {
    let b = board(4);
    let send = |high: u64, low: u64| {
        b.cpus[0].mmio_write(0x310, 4, high << 24);
        b.cpus[0].mmio_write(0x300, 4, low);
    };
    let taken = || b.cpus.iter().map(|c| c.acknowledge().is_some()).collect::<Vec<_>>();
    let done = || b.cpus.iter().for_each(|c| c.mmio_write(0xb0, 4, 0));
    send(2, 0x40);
    assert_eq!(taken(), [false, false, true, false]);
    done();
    send(0, 0x8_0040);
    assert_eq!(taken(), [true; 4]);
    done();
    send(0, 0xc_0040);
    assert_eq!(taken(), [false, true, true, true]);
    done();
    send(0, 0x4_0040);
    assert_eq!(taken(), [true, false, false, false]);
    done();
    // Flat logical: one bit each; then lowest priority picks one.
    for (i, cpu) in b.cpus.iter().enumerate() {
        cpu.mmio_write(0xd0, 4, 1 << (24 + i));
    }
    send(0b1010, 0x840);
    assert_eq!(taken(), [false, true, false, true]);
    done();
    send(0b1010, 0x940);
    assert_eq!(taken(), [false, true, false, false]);
    done();
    // Cluster model: cluster 1, members 1 and 2.
    for (i, cpu) in b.cpus.iter().enumerate() {
        cpu.mmio_write(0xe0, 4, 0x0fff_ffff);
        cpu.mmio_write(0xd0, 4, (0x10 * (i as u64 / 2) + (1 << (i % 2))) << 24);
    }
    send(0x13, 0x840);
    assert_eq!(taken(), [false, false, true, true]);
    done();
    send(1, 0x4500);
    assert!(b.cpus[1].signals().take(Event::Init));
    send(1, 0x46_9a & 0xffff);
    assert!(b.cpus[1].signals().take(Event::Sipi));
    assert_eq!(b.cpus[1].signals().sipi_vector(), 0x9a);
    send(1, 0x4400);
    assert!(b.cpus[1].signals().take(Event::Nmi));
}

#[test]
fn x2apic_mode_has_wide_ids_and_checked_registers() {
    let b = board(2);
    for cpu in &b.cpus {
        let base = cpu.base();
        assert!(!cpu.msr_write(0x80b, 0));
        assert!(cpu.set_base(base | 0x400));
        assert!(!cpu.set_base(base));
        assert!(!cpu.covers(0xfee0_0020));
    }
    let [a, c] = [&b.cpus[0], &b.cpus[1]];
    assert_eq!((c.msr_read(0x802), c.msr_read(0x80d)), (Some(1), Some(2)));
    assert!(a.msr_write(0x830, 1 << 32 | 0x40));
    assert_eq!(c.acknowledge(), Some(0x40));
    assert!(c.msr_write(0x80b, 0) && !c.msr_write(0x80b, 1));
    assert!(a.msr_write(0x830, 2 << 32 | 0x841));
    assert_eq!(c.acknowledge(), Some(0x41));
    assert!(c.msr_write(0x80b, 0));
    assert!(a.msr_write(0x830, 0xffff_ffff << 32 | 0x42));
    assert_eq!((a.acknowledge(), c.acknowledge()), (Some(0x42), Some(0x42)));
    assert!(a.msr_write(0x80b, 0) && a.msr_write(0x83f, 0x77));
    assert_eq!(a.acknowledge(), Some(0x77));
    assert_eq!(a.msr_read(0x80e), None);
    assert_eq!(a.msr_read(0x831), None);
    assert!(!a.msr_write(0x802, 0) && !a.msr_write(0x828, 1));
}

#[test]
fn the_timer_is_one_shot_periodic_and_by_deadline() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.mmio_write(0x3e0, 4, 0xb); // by 1
    cpu.mmio_write(0x320, 4, 0x50);
    cpu.mmio_write(0x380, 4, 1000);
    b.clock.advance(400);
    assert_eq!(cpu.mmio_read(0x390, 4), 600);
    assert!(!raised(cpu));
    b.clock.advance(600);
    assert_eq!(cpu.acknowledge(), Some(0x50));
    cpu.mmio_write(0xb0, 4, 0);
    b.clock.advance(5000);
    assert!(!raised(cpu));
    cpu.mmio_write(0x3e0, 4, 0); // by 2
    cpu.mmio_write(0x320, 4, 0x2_0051);
    cpu.mmio_write(0x380, 4, 1000);
    for _ in 0..3 {
        b.clock.advance(2000);
        assert_eq!(cpu.acknowledge(), Some(0x51));
        cpu.mmio_write(0xb0, 4, 0);
    }
    cpu.mmio_write(0x320, 4, 0x4_0052);
    b.clock.advance(5000);
    assert!(!raised(cpu));
    let now = b.clock.now() * 2;
    let target = now + 2000;
    assert!(cpu.set_tsc_deadline(target, now, 2_000_000_000));
    assert_eq!(cpu.msr_read(0x6e0), Some(target));
    b.clock.advance(999);
    assert!(!raised(cpu));
    b.clock.advance(10);
    assert_eq!(cpu.acknowledge(), Some(0x52));
    assert_eq!(cpu.msr_read(0x6e0), Some(0));
}

#[test]
fn errors_are_latched_by_a_write() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.mmio_write(0x370, 4, 0xfe);
    cpu.mmio_write(0x300, 4, 0x5);
    assert_eq!(cpu.mmio_read(0x280, 4), 0);
    cpu.mmio_write(0x280, 4, 0);
    assert_eq!(cpu.mmio_read(0x280, 4), 0x60);
    assert_eq!(cpu.acknowledge(), Some(0xfe));
    cpu.mmio_write(0x280, 4, 0);
    assert_eq!(cpu.mmio_read(0x280, 4), 0);
}

#[test]
fn any_access_is_harmless_and_reset_is_complete() {
    let b = board(2);
    let mut seed = 1_u64;
    for _ in 0..10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (offset, value) = (seed >> 20 & 0xfff, seed >> 32);
        let cpu = &b.cpus[(seed >> 60) as usize & 1];
        match seed >> 33 & 7 {
            0 => {
                cpu.mmio_read(offset, 4);
            }
            1..=3 => cpu.mmio_write(offset, 4, value),
            4 => {
                cpu.msr_write(0x800 + (offset >> 4) as u32, value & 0xff);
            }
            5 => {
                cpu.set_base(0xfee0_0000 | value & 0xf00);
            }
            6 => b.memory.write_int(0xfec0_0000 | offset & 0x50, 4, value),
            _ => {
                cpu.acknowledge();
            }
        }
        if seed >> 50 & 63 == 0 {
            b.clock.advance(1000);
        }
    }
    b.cpus[0].reset();
    let once = b.cpus[0].describe();
    b.cpus[0].reset();
    assert_eq!(once, b.cpus[0].describe());
    b.ioapic.reset();
    assert_eq!(b.low(5), 0x1_0000);
}
