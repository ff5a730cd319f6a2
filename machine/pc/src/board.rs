//! The 440FX board.

use crate::cpu::PcCpu;
use crate::memory::{MemoryLayout, PcMemory};
use bridges::{I440fx, Piix3, Piix3Ide, Piix4Pm};
use chardev::CharFrontend;
use chipset::acpi_pm::{AcpiPm, PmConfig, SleepRequest};
use chipset::i8042::{A20Gate, I8042, Port92};
use chipset::ioapic::{GsiRouter, IoApic};
use chipset::lapic::{ApicBus, ApicConfig, MsiPort};
use chipset::misc::{FerrLatch, PostPort};
use chipset::pic::Pic;
use chipset::pit::Pit;
use chipset::rtc::{CmosLayout, Rtc};
use clock::Clock;
use guestmem::{IoRules, RamBlock, Region};
use irq::{CpuSignals, Event, IrqLine};
use isa::IsaBus;
use pci::{ConfigPorts, PciBus, Windows, assign_resources};
use qdev::{Device, DeviceError, SystemControl, SystemRequest};
use std::sync::Arc;
use thiserror::Error;
use uarts::{Serial, SerialConfig};

/// Version register of the I/O APIC.
const IOAPIC_VERSION: u8 = 0x20;
/// Where firmware puts the ACPI registers of the south bridge.
const PM_BASE: u16 = 0x600;
/// The GPE0 block of the board.
const GPE_BASE: u64 = 0xafe0;
/// COM1 to COM4: port and interrupt.
const SERIAL_PORTS: [(u64, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// What the board is made of.
pub struct PcConfig {
    /// All RAM.
    pub ram: Arc<RamBlock>,
    /// One mailbox for each processor, in the order of their APIC IDs.
    pub cpus: Vec<Arc<CpuSignals>>,
    /// Whether CPUID offers x2APIC mode.
    pub x2apic: bool,
    /// Back ends of the serial ports COM1 to COM4; `None` leaves a port out.
    pub serials: Vec<Option<CharFrontend>>,
    /// What the real-time clock shows at first, in seconds since 1970-01-01.
    pub rtc: i64,
    /// Guest time.
    pub clock: Clock,
    /// The machine's attention.
    pub system: Arc<dyn SystemControl>,
}

/// Why a board could not be made.
#[derive(Debug, Error)]
pub enum PcError {
    /// A chip found its place taken.
    #[error("{0}")]
    Device(#[from] DeviceError),
}

/// The 440FX board, powered up and without firmware's set-up.
pub struct Pc {
    /// Memory and ports.
    pub memory: PcMemory,
    /// The PCI bus.
    pub pci: Arc<PciBus>,
    /// The ISA bus.
    pub isa: Arc<IsaBus>,
    /// What each processor sees.
    pub cpus: Vec<Arc<PcCpu>>,
    /// The I/O APIC, for `info pic`.
    pub ioapic: Arc<IoApic>,
    /// The interrupt controllers, for `info pic`.
    pub pic: Arc<Pic>,
    /// The keyboard controller.
    pub keyboard: Arc<I8042>,
    pit: Arc<Pit>,
    rtc: Arc<Rtc>,
    pm: Arc<AcpiPm>,
    serials: Vec<Arc<Serial>>,
    config_ports: Arc<ConfigPorts>,
    north: Arc<I440fx>,
    south: Arc<Piix3>,
    ide: Arc<Piix3Ide>,
    power: Arc<Piix4Pm>,
    a20: Arc<A20Gate>,
}

impl Pc {
    /// Builds the board.
    ///
    /// # Errors
    /// A chip found its place taken.
    pub fn new(config: PcConfig) -> Result<Self, PcError> {
        let PcConfig { clock, system, .. } = config;
        let memory = PcMemory::new(MemoryLayout::i440fx(config.ram.size()), config.ram);
        let ports = memory.ports.root().clone();
        let add = |list: Vec<(u64, Region)>| {
            for (port, region) in list {
                ports.add(&region, port);
            }
        };

        let apics = ApicBus::new();
        let pic = Pic::new(IrqLine::new(apics.clone(), 0));
        apics.set_pic(pic.clone());
        let ioapic = IoApic::new(IOAPIC_VERSION, &apics);
        let gsi = GsiRouter::new(pic.clone(), ioapic.clone());
        add(pic.ports());
        let root = memory.memory.root();
        root.add(&ioapic.region(), 0xfec0_0000);
        let messages = MsiPort::new(apics.clone());
        root.add(&Region::io("apic-msi", 0x10_0000, messages, IoRules::UP_TO_4), 0xfee0_0000);

        let ferr = FerrLatch::new(gsi.line(13));
        add(ferr.ports());
        let mailboxes = config.cpus.clone();
        let a20 = A20Gate::new(move |_| {
            for signals in &mailboxes {
                signals.raise(Event::MapChanged);
            }
        });
        let cpus = (0u32..)
            .zip(&config.cpus)
            .map(|(id, signals)| {
                let apic_config = ApicConfig { x2apic: config.x2apic, ..ApicConfig::new(id) };
                let apic = apics.create(apic_config, &clock, signals.clone());
                Arc::new(PcCpu {
                    apic,
                    memory: memory.memory.clone(),
                    ports: memory.ports.clone(),
                    a20: a20.clone(),
                    ferr: ferr.clone(),
                })
            })
            .collect();

        let pit = Pit::new(&clock, gsi.line(0));
        add(pit.ports());
        let rtc = Rtc::new(&clock, gsi.line(8), config.rtc);
        rtc.set_layout(&CmosLayout {
            below_4g: memory.layout.below_4g,
            above_4g: memory.layout.above_4g,
            cpus: u32::try_from(config.cpus.len()).unwrap_or(u32::MAX),
            ..CmosLayout::default()
        });
        add(rtc.ports());
        let reset = system.clone();
        let keyboard =
            I8042::new(gsi.line(1), gsi.line(12), a20.clone(), move || reset.request(SystemRequest::Reset));
        add(keyboard.ports());
        let reset = system.clone();
        add(Port92::new(a20.clone(), move || reset.request(SystemRequest::Reset)).ports());
        add(PostPort::ports());

        let mut serials = Vec::new();
        let mut present = [false; 4];
        for (i, front) in config.serials.into_iter().take(4).enumerate() {
            let Some(front) = front else { continue };
            let (port, irq) = SERIAL_PORTS[i];
            let serial = Serial::new(&clock, gsi.line(irq), Some(front), SerialConfig::default());
            ports.add(&serial.region(), port);
            serials.push(serial);
            present[i] = true;
        }

        let isa = IsaBus::new("isa.0", &ports, (0..16).map(|n| gsi.line(n)).collect());
        let pci = PciBus::new("pci.0", false, &memory.pci, &ports, &memory.memory, apics.clone());
        let config_ports = ConfigPorts::install(&pci, &ports);
        let north = I440fx::new(&pci, root, &memory.pci, &memory.ram)?;
        let south = Piix3::new(&pci, &ports, (0..16).map(|n| gsi.line(n)).collect(), system.clone())?;
        let ide = Piix3Ide::new(&pci, &ports)?;
        let pm = AcpiPm::new(&clock, gsi.line(9), PmConfig::default(), move |sleep| {
            system.request(match sleep {
                SleepRequest::Off | SleepRequest::Hibernate => SystemRequest::Shutdown,
                SleepRequest::Suspend => SystemRequest::Suspend,
            });
        });
        ports.add(&pm.gpe_region(), GPE_BASE);
        ports.add(&pm.apm_region(), 0xb2);
        let power = Piix4Pm::new(&pci, &ports, &pm.pm1_region(), [present[0], present[1]], false)?;

        Ok(Self {
            memory,
            pci,
            isa,
            cpus,
            ioapic,
            pic,
            keyboard,
            pit,
            rtc,
            pm,
            serials,
            config_ports,
            north,
            south,
            ide,
            power,
            a20,
        })
    }

    /// Does what firmware does before it starts an operating system: RAM where ROM was, addresses for BARs, interrupt
    /// routing, ACPI registers, the PIC as the first processor's interrupt source.
    pub fn firmware_setup(&self) {
        self.north.firmware_setup();
        self.south.firmware_setup();
        self.power.firmware_setup(PM_BASE);
        self.pm.enable_acpi();
        let low = self.memory.layout.below_4g.next_multiple_of(0x1000_0000).max(0x8000_0000);
        let windows = Windows { io: 0xc000..0x1_0000, memory: low..0xfebf_f000 };
        assign_resources(&self.pci, &windows, |devfn, pin| self.south.line(devfn, pin));
        if let Some(cpu) = self.cpus.first() {
            cpu.apic().set_virtual_wire();
        }
    }

    /// Presses the power button.
    pub fn power_button(&self) {
        self.pm.power_button();
    }

    /// Returns every chip to its power-up state. Call it with all processors stopped.
    pub fn reset(&self) {
        self.pic.reset();
        self.ioapic.reset();
        for cpu in &self.cpus {
            cpu.apic().reset();
        }
        self.pit.reset();
        self.rtc.reset();
        self.keyboard.reset();
        self.a20.set(true);
        self.pm.reset();
        for serial in &self.serials {
            serial.reset();
        }
        self.config_ports.reset();
        let bridges: [&dyn Device; 4] = [&*self.north, &*self.south, &*self.ide, &*self.power];
        for bridge in bridges {
            bridge.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accel::CpuIo;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Requests(Mutex<Vec<SystemRequest>>);

    impl SystemControl for Requests {
        fn request(&self, request: SystemRequest) {
            self.0.lock().expect("requests").push(request);
        }
    }

    fn board(cpus: usize) -> (Pc, Clock, Arc<Requests>, Vec<Arc<CpuSignals>>) {
        let clock = Clock::manual();
        let requests = Arc::new(Requests::default());
        let signals: Vec<_> = (0..cpus).map(|_| Arc::new(CpuSignals::new())).collect();
        let pc = Pc::new(PcConfig {
            ram: RamBlock::new("pc.ram", 16 << 20).expect("ram"),
            cpus: signals.clone(),
            x2apic: true,
            serials: Vec::new(),
            rtc: 0,
            clock: clock.clone(),
            system: requests.clone(),
        });
        (pc.expect("board"), clock, requests, signals)
    }

    #[test]
    fn the_bus_holds_what_qemus_board_holds() {
        let (pc, ..) = board(1);
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
        let (pc, clock, _, signals) = board(2);
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
        let (pc, ..) = board(2);
        let id = |cpu: usize| pc.cpus[cpu].mmio_read(0xfee0_0020, 4) >> 24;
        assert_eq!([id(0), id(1)], [0, 1]);
    }

    #[test]
    fn the_guest_can_reset_and_power_off() {
        let (pc, _, requests, signals) = board(1);
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
}
