//! The board: chips that both models share, and the wires between them.

use crate::config::{BoardModel, PcConfig, PcError};
use crate::cpu::PcCpu;
use crate::firmware::MemoryTypes;
use crate::memory::{MemoryLayout, PcMemory};
use crate::options::MachineOptions;
use crate::tables::Identity;
use crate::{i440fx, q35};
use boot::{MemoryKind, MemoryMap};
use chipset::acpi_pm::{AcpiPm, PmConfig, SleepRequest};
use chipset::dma::DmaPair;
use chipset::hotplug::{CpuHotplug, PciHotplug};
use chipset::hpet::{HPET_BASE, Hpet, HpetConfig};
use chipset::i8042::{A20Gate, I8042, Port92};
use chipset::ioapic::{GsiRouter, IoApic};
use chipset::lapic::{ApicBus, ApicConfig, MsiPort};
use chipset::misc::{FerrLatch, PostPort};
use chipset::pic::Pic;
use chipset::pit::Pit;
use chipset::rtc::{CmosLayout, Rtc};
use fwcfg::FwCfg;
use guestmem::{Dma, IoRules, Region};
use irq::{Event, IrqLine};
use isa::IsaBus;
use pci::{ConfigPorts, Devfn, PciBus, Windows, assign_resources};
use qdev::{OnOffAuto, SystemControl, SystemRequest};
use std::sync::{Arc, Weak};
use uarts::{Serial, SerialConfig};

/// Version register of the I/O APIC.
const IOAPIC_VERSION: u8 = 0x20;
/// COM1 to COM4: port and interrupt.
const SERIAL_PORTS: [(u64, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// File slots of fw_cfg.
const FW_CFG_SLOTS: u16 = 0x20;
/// What lies below 1 TiB in AMD's address maps: the HyperTransport hole (start, bytes).
pub(crate) const AMD_HOLE: (u64, u64) = (0xfd_0000_0000, 0x3_0000_0000);
/// Bytes at the top of low RAM that hold ACPI tables.
pub(crate) const TABLES_SIZE: u64 = 0x2_0000;

/// What a chip set is built with.
pub(crate) struct Common<'a> {
    pub(crate) pci: &'a Arc<PciBus>,
    pub(crate) memory: &'a PcMemory,
    pub(crate) ports: &'a Region,
    pub(crate) gsi: &'a Arc<GsiRouter>,
    pub(crate) system: Arc<dyn SystemControl>,
    /// Whether COM1 and COM2 exist.
    pub(crate) serial: [bool; 2],
}

impl Common<'_> {
    /// What becomes of the guest's requests to sleep.
    pub(crate) fn on_sleep(&self) -> impl Fn(SleepRequest) + Send + Sync + 'static {
        let system = self.system.clone();
        move |sleep| {
            system.request(match sleep {
                SleepRequest::Off | SleepRequest::Hibernate => SystemRequest::Shutdown,
                SleepRequest::Suspend => SystemRequest::Suspend,
            });
        }
    }
}

/// The part of the board that differs between the models.
pub(crate) trait Platform: Send + Sync {
    /// What firmware does before BARs have addresses.
    fn prepare(&self);
    /// What firmware does after that.
    fn finish(&self);
    /// The legacy interrupt of a function's pin (0 for INTA#) under the present routing.
    fn line(&self, devfn: Devfn, pin: u8) -> u8;
    /// System reset.
    fn reset(&self);
}

/// What a model decides about the shared chips.
struct Places {
    /// Which I/O APIC inputs the HPET's timers may use.
    hpet_intcap: u32,
    cpu_hotplug: u64,
    pci_hotplug: u64,
    bus: &'static str,
}

impl Places {
    fn of(model: BoardModel) -> Self {
        match model {
            BoardModel::I440fx => {
                Self { hpet_intcap: 4, cpu_hotplug: 0xaf00, pci_hotplug: 0xae00, bus: "pci.0" }
            }
            BoardModel::Q35 => {
                Self { hpet_intcap: 0xff_0104, cpu_hotplug: 0xcd8, pci_hotplug: 0xcc0, bus: "pcie.0" }
            }
        }
    }
}

/// A board, powered up and without firmware's set-up.
pub struct Pc {
    /// Which board it is.
    pub model: BoardModel,
    /// Its properties.
    pub options: MachineOptions,
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
    /// The wires to the interrupt controllers, for `info irq`.
    pub gsi: Arc<GsiRouter>,
    /// The interrupt controllers, for `info pic`; on a board without them nothing reaches this pair.
    pub pic: Arc<Pic>,
    /// The keyboard controller; without `i8042` it is on no port.
    pub keyboard: Arc<I8042>,
    /// What the machine tells its firmware.
    pub fw_cfg: Arc<FwCfg>,
    apics: Arc<ApicBus>,
    pub(crate) amd: bool,
    pit: Option<Arc<Pit>>,
    rtc: Arc<Rtc>,
    hpet: Option<Arc<Hpet>>,
    dma: Arc<DmaPair>,
    ferr: Arc<FerrLatch>,
    pm: Arc<AcpiPm>,
    port92: Option<Arc<Port92>>,
    cpu_hotplug: Arc<CpuHotplug>,
    pci_hotplug: Arc<PciHotplug>,
    serials: Vec<Arc<Serial>>,
    /// Bases of the serial ports that exist.
    pub(crate) serial_ports: Vec<u16>,
    config_ports: Arc<ConfigPorts>,
    platform: Box<dyn Platform>,
    a20: Arc<A20Gate>,
    /// What identifies the machine in its tables.
    pub(crate) identity: Identity,
    /// The APIC ID of every possible processor, and whether it is there.
    pub(crate) possible_cpus: Vec<(u32, bool)>,
    /// A bit for each slot of the root bus that holds the board's own functions.
    pub(crate) onboard_slots: u32,
    pub(crate) sleep: PmConfig,
}

impl Pc {
    /// Builds the board.
    ///
    /// # Errors
    /// A chip found its place taken.
    pub fn new(config: PcConfig) -> Result<Self, PcError> {
        let places = Places::of(config.model);
        let possible_cpus = config.possible_cpus();
        let apic_ids: Vec<u32> = possible_cpus.iter().filter(|(_, here)| *here).map(|(id, _)| *id).collect();
        let PcConfig { model, options, clock, system, identity, .. } = config;
        let memory = PcMemory::new(
            MemoryLayout::new(model, config.ram.size(), options.max_ram_below_4g.0),
            config.ram,
        )?;
        let ports = memory.ports.root().clone();
        let add = |list: Vec<(u64, Region)>| {
            for (port, region) in list {
                ports.add(&region, port);
            }
        };

        let apics = ApicBus::new();
        let pic = if options.has_pic() {
            let pic = Pic::new(IrqLine::new(apics.clone(), 0));
            apics.set_pic(pic.clone());
            add(pic.ports());
            pic
        } else {
            Pic::new(IrqLine::unconnected())
        };
        let ioapic = IoApic::new(IOAPIC_VERSION, &apics);
        let gsi = GsiRouter::new(pic.clone(), ioapic.clone());
        let root = memory.memory.root();
        root.add(&ioapic.region(), 0xfec0_0000);
        let messages = MsiPort::new(apics.clone());
        // Above everything: PCI functions cannot hide it.
        root.add_overlap(&Region::io("apic-msi", 0x10_0000, messages, IoRules::UP_TO_4), 0xfee0_0000, 0x1000);

        let ferr = FerrLatch::new(gsi.line(13));
        add(ferr.ports());
        let mailboxes = config.cpus.clone();
        let a20 = A20Gate::new(move |_| {
            for signals in &mailboxes {
                signals.raise(Event::MapChanged);
            }
        });
        let cpus = apic_ids
            .iter()
            .zip(&config.cpus)
            .enumerate()
            .map(|(index, (&id, signals))| {
                let apic_config = ApicConfig {
                    id,
                    bsp: index == 0,
                    x2apic: config.x2apic,
                    tsc_deadline: config.tsc_deadline,
                    phys_bits: config.phys_bits,
                };
                let apic = apics.create(apic_config, &clock, signals.clone());
                Arc::new(PcCpu {
                    apic,
                    memory: memory.memory.clone(),
                    ports: memory.ports.clone(),
                    a20: a20.clone(),
                    ferr: ferr.clone(),
                    clock: clock.clone(),
                })
            })
            .collect();

        let pit = options.has_pit().then(|| Pit::new(&clock, gsi.line(0)));
        if let Some(pit) = &pit {
            add(pit.ports());
        }
        let rtc = Rtc::new(&config.rtc_clock, gsi.line(8), config.rtc);
        rtc.set_lost_ticks(config.lost_ticks);
        rtc.set_layout(&CmosLayout {
            below_4g: memory.layout.below_4g,
            above_4g: memory.layout.above_4g,
            cpus: u32::try_from(config.cpus.len()).unwrap_or(u32::MAX),
            ..CmosLayout::default()
        });
        add(rtc.ports());
        let hpet = options.hpet.then(|| {
            let (pit, rtc): (Option<Weak<Pit>>, _) = (pit.as_ref().map(Arc::downgrade), Arc::downgrade(&rtc));
            // In legacy replacement mode the timers drive the PIT's and the RTC's interrupts in their place.
            let legacy = move |on: bool| {
                if let Some(pit) = pit.as_ref().and_then(Weak::upgrade) {
                    pit.set_irq_enabled(!on);
                }
                if let Some(rtc) = rtc.upgrade() {
                    rtc.set_irq_enabled(!on);
                }
            };
            let lines = (0..24).map(|n| gsi.line(n)).collect();
            let hpet = Hpet::new(&clock, HpetConfig { timers: 3, intcap: places.hpet_intcap }, lines, legacy);
            root.add(&hpet.region(), HPET_BASE);
            hpet
        });
        let dma = DmaPair::new(Dma::new(&memory.memory));
        add(dma.ports());
        let reset = system.clone();
        let keyboard =
            I8042::new(gsi.line(1), gsi.line(12), a20.clone(), move || reset.request(SystemRequest::Reset));
        let port92 = options.i8042.then(|| {
            add(keyboard.ports());
            let reset = system.clone();
            let port92 = Port92::new(a20.clone(), move || reset.request(SystemRequest::Reset));
            add(port92.ports());
            port92
        });
        add(PostPort::ports());

        let isa = IsaBus::new("isa.0", &ports, (0..16).map(|n| gsi.line(n)).collect());
        let mut serials = Vec::new();
        let mut present = [false; 4];
        for (i, front) in config.serials.into_iter().take(4).enumerate() {
            let Some(front) = front else { continue };
            let (port, irq) = SERIAL_PORTS[i];
            isa.count("isa-serial");
            let serial = Serial::new(&clock, isa.line(irq)?, Some(front), SerialConfig::default());
            ports.add(&serial.region(), port);
            serials.push(serial);
            present[i] = true;
        }

        let express = model == BoardModel::Q35;
        let pci = PciBus::new(places.bus, express, &memory.pci, &ports, &memory.memory, apics.clone());
        let config_ports = ConfigPorts::install(&pci, &ports);
        let common = Common {
            pci: &pci,
            memory: &memory,
            ports: &ports,
            gsi: &gsi,
            system,
            serial: [present[0], present[1]],
        };
        let (platform, pm): (Box<dyn Platform>, _) = match model {
            BoardModel::I440fx => {
                let (chips, pm) = i440fx::Chips::build(&common, &clock, config.sleep)?;
                (Box::new(chips), pm)
            }
            BoardModel::Q35 => {
                let (chips, pm) = q35::Chips::build(&common, &clock, config.sleep, &options)?;
                (Box::new(chips), pm)
            }
        };

        let cpu_hotplug = CpuHotplug::new(possible_cpus.clone());
        ports.add(&cpu_hotplug.region(), places.cpu_hotplug);
        let onboard_slots = pci.functions().iter().fold(0, |mask, f| mask | 1 << f.devfn().device());
        // The root bus of Q35 takes no devices while the guest runs.
        let bus = if model == BoardModel::I440fx { Arc::downgrade(&pci) } else { Weak::new() };
        let pci_hotplug = PciHotplug::new(move |slot| eject(&bus, slot));
        if model == BoardModel::I440fx {
            pci_hotplug.set_fixed(onboard_slots);
        }
        ports.add(&pci_hotplug.region(), places.pci_hotplug);
        let fw_cfg = FwCfg::new(Some(Dma::new(&memory.memory)), FW_CFG_SLOTS);
        add(fw_cfg.ports());

        let pc = Self {
            model,
            options,
            memory,
            pci,
            isa,
            cpus,
            ioapic,
            gsi,
            pic,
            keyboard,
            fw_cfg,
            apics,
            amd: config.amd,
            pit,
            rtc,
            hpet,
            dma,
            ferr,
            pm,
            port92,
            cpu_hotplug,
            pci_hotplug,
            serials,
            serial_ports: (0..4).filter(|&i| present[i]).map(|i| SERIAL_PORTS[i].0 as u16).collect(),
            config_ports,
            platform,
            a20,
            identity,
            possible_cpus,
            onboard_slots,
            sleep: config.sleep,
        };
        Ok(pc)
    }

    /// Does what firmware does before it starts an operating system: RAM where ROM was, addresses for BARs, interrupt
    /// routing, ACPI registers, the PIC as the first processor's interrupt source, the BIOS data area.
    pub fn firmware_setup(&self) {
        self.platform.prepare();
        let memory = self.pci_memory();
        let high = (1 << 32) + self.memory.layout.above_4g.next_multiple_of(1 << 30);
        let windows =
            Windows { io: 0xc000..0x1_0000, memory: memory..0xfec0_0000, high: high..high + (1 << 36) };
        assign_resources(&self.pci, &windows, |devfn, pin| self.platform.line(devfn, pin));
        self.platform.finish();
        let [pic, pit, i8042] = [self.options.has_pic(), self.pit.is_some(), self.options.i8042];
        crate::firmware::initialize_chips(&self.memory, pic, pit, i8042);
        crate::firmware::write_bios_data(&self.memory, &self.serial_ports);
        if let Some(cpu) = self.cpus.first() {
            cpu.apic().set_virtual_wire();
        }
    }

    /// Where firmware's window for PCI devices below 4 GiB begins.
    fn pci_memory(&self) -> u64 {
        let low = self.memory.layout.below_4g;
        match self.model {
            // Behind configuration space.
            BoardModel::Q35 => 0xc000_0000,
            BoardModel::I440fx if low <= 0x8000_0000 => 0x8000_0000,
            BoardModel::I440fx if low <= 0xc000_0000 => 0xc000_0000,
            BoardModel::I440fx => 0xe000_0000,
        }
    }

    /// The memory types that firmware sets up on every processor.
    pub fn memory_types(&self) -> MemoryTypes {
        MemoryTypes::of_firmware(self.pci_memory())
    }

    /// The memory map that a kernel is told of, with room for ACPI tables at the top of low RAM.
    pub fn memory_map(&self) -> MemoryMap {
        let MemoryLayout { below_4g, above_4g } = self.memory.layout;
        let mut map = MemoryMap::pc(below_4g, above_4g, TABLES_SIZE);
        if self.model == BoardModel::Q35 {
            map.add(0xb000_0000, 0x1000_0000, MemoryKind::Reserved);
            map.add(0xfed1_c000, 0x4000, MemoryKind::Reserved);
        }
        map.add(0xfffc_0000, 0x4_0000, MemoryKind::Reserved);
        if self.amd {
            map.add(AMD_HOLE.0, AMD_HOLE.1, MemoryKind::Reserved);
        }
        map
    }

    /// Without system management mode there is nothing to ask for ACPI mode: it is on.
    fn enter_acpi_mode_without_smm(&self) {
        if self.options.smm == OnOffAuto::Off {
            self.pm.enable_acpi();
        }
    }

    /// The real-time clock with its CMOS RAM.
    pub fn rtc(&self) -> &Arc<Rtc> {
        &self.rtc
    }

    /// Whether the board has a serial port of its own at `port`.
    pub fn has_serial(&self, port: u16) -> bool {
        self.serial_ports.contains(&port)
    }

    /// The 8237 pair, for ISA devices.
    pub fn isa_dma(&self) -> &Arc<DmaPair> {
        &self.dma
    }

    /// Tells the guest that it has been woken from sleep in memory. After [`Pc::reset`].
    pub fn wake(&self) {
        self.pm.wake(false);
    }

    /// Presses the power button.
    pub fn power_button(&self) {
        self.pm.power_button();
    }

    /// Presses the NMI button.
    pub fn nmi(&self) {
        self.apics.nmi();
    }

    /// Returns every chip to its power-up state. Call it with all processors stopped.
    pub fn reset(&self) {
        for cpu in &self.cpus {
            cpu.apic().reset();
        }
        if let Some(hpet) = &self.hpet {
            hpet.reset();
        }
        if let Some(pit) = &self.pit {
            pit.reset();
        }
        self.rtc.reset();
        self.dma.reset();
        self.ferr.reset();
        self.keyboard.reset();
        if let Some(port92) = &self.port92 {
            port92.reset();
        }
        self.a20.set(true);
        self.pm.reset();
        self.enter_acpi_mode_without_smm();
        self.cpu_hotplug.reset();
        self.pci_hotplug.reset();
        self.fw_cfg.reset();
        for serial in &self.serials {
            serial.reset();
        }
        self.config_ports.reset();
        self.platform.reset();
        // Last: what the other chips' lines did meanwhile is not a request.
        self.pic.reset();
        self.ioapic.reset();
    }
}

/// Takes every function of a slot off the bus, as the guest asked.
fn eject(bus: &Weak<PciBus>, slot: u8) {
    let Some(bus) = bus.upgrade() else { return };
    for function in 0..8 {
        bus.remove(Devfn::new(slot, function));
    }
}

#[cfg(test)]
mod tests;
