//! What firmware's tables say about a board, and where they go.

use crate::board::{Pc, TABLES_SIZE};
use crate::config::BoardModel;
use crate::memory::MemoryLayout;
use acpi::{
    Board, Config, Cpu, Function, FunctionKind, Installed, IsaDevices, MpTable, PciInterrupt, Smbios, Tables,
};
use pci::PciFunction;

/// Class codes of a VGA adapter and of an ISA bridge (PCI code and ID assignment specification).
const VGA: u32 = 0x0300;
const ISA_BRIDGE: u32 = 0x0601;
/// Offsets in configuration space.
const CLASS: u16 = 0x0a;
const INTERRUPT_LINE: u16 = 0x3c;
const INTERRUPT_PIN: u16 = 0x3d;
/// Base of the memory-mapped configuration space on Q35.
const MCFG: u32 = 0xb000_0000;
/// The first ports of COM1 to COM4, and of LPT1 to LPT3.
const COM: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
const LPT: [u16; 3] = [0x378, 0x278, 0x3bc];
/// Least bytes for PCI devices above 4 GiB.
const HOLE_I440FX: u64 = 2 << 30;
const HOLE_Q35: u64 = 32 << 30;

/// What identifies the machine in its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The machine type (`pc-i440fx-9.1`).
    pub machine: String,
    /// The machine's UUID; all zeros: none.
    pub uuid: [u8; 16],
    /// Processor sockets, cores of a socket, threads of a core. A zero counts as one.
    pub topology: [u16; 3],
    /// EAX and EDX of CPUID leaf 1.
    pub processor_id: [u32; 2],
    /// Whether there is no display.
    pub nographic: bool,
}

impl Pc {
    /// The end of what PCI devices occupy above 4 GiB.
    fn end_of_bars(&self) -> u64 {
        let functions = self.pci.functions();
        let ends = functions.iter().flat_map(|f| (0..6).filter_map(|bar| f.bar_address(bar)));
        // A BAR's address is a multiple of its size.
        ends.filter(|&at| at >= 1 << 32).map(|at| at + (1 << at.trailing_zeros().min(40))).max().unwrap_or(0)
    }

    fn acpi_functions(&self) -> Vec<Function> {
        let of = |f: &std::sync::Arc<PciFunction>| {
            let devfn = f.devfn();
            let kind = match f.config(CLASS, 2) {
                VGA => FunctionKind::Vga,
                ISA_BRIDGE => FunctionKind::IsaBridge,
                _ => FunctionKind::Plain,
            };
            let onboard = self.onboard_slots >> devfn.device() & 1 != 0;
            Function {
                devfn: devfn.device() << 3 | devfn.function(),
                kind,
                hotpluggable: !onboard && kind == FunctionKind::Plain,
            }
        };
        self.pci.functions().iter().map(of).collect()
    }

    fn acpi_config(&self) -> Config {
        let board = match self.model {
            BoardModel::I440fx => Board::I440fx,
            BoardModel::Q35 => Board::Q35,
        };
        let resources = self.isa.resources();
        let at = |device: &str, port: u16| resources.iter().any(|r| r.device == device && r.port == port);
        let serial = COM.map(|port| self.serial_ports.contains(&port) || at("isa-serial", port));
        let isa = IsaDevices {
            keyboard: self.options.i8042,
            rtc: true,
            serial,
            parallel: LPT.map(|port| at("isa-parallel", port)),
            floppy: None,
            pvpanic: resources.iter().find(|r| r.device == "pvpanic").map(|r| r.port),
        };
        let MemoryLayout { below_4g, above_4g } = self.memory.layout;
        let high_end = (1 << 32) + above_4g;
        let least = if board == Board::Q35 { HOLE_Q35 } else { HOLE_I440FX };
        let default = Config::new(board);
        let or = |own: &str, default: String| if own.is_empty() { default } else { own.to_owned() };
        Config {
            cpus: self.possible_cpus.iter().map(|&(apic_id, present)| Cpu { apic_id, present }).collect(),
            below_4g,
            high_end,
            hole_64: least.max(self.end_of_bars().saturating_sub(high_end.next_multiple_of(1 << 30))),
            hpet: self.options.hpet,
            pit: self.options.has_pit(),
            mcfg: (board == Board::Q35).then_some(MCFG),
            smi: self.options.smm != qdev::OnOffAuto::Off,
            disable_s3: self.sleep.disable_s3,
            disable_s4: self.sleep.disable_s4,
            s4_val: self.sleep.s4_val,
            functions: self.acpi_functions(),
            isa,
            oem_id: or(&self.options.x_oem_id, default.oem_id.clone()),
            oem_table_id: or(&self.options.x_oem_table_id, default.oem_table_id.clone()),
            ..default
        }
    }

    fn smbios(&self) -> Smbios {
        let MemoryLayout { below_4g, above_4g } = self.memory.layout;
        let [sockets, cores, threads] = self.identity.topology.map(|n| n.max(1));
        let mut ranges = vec![(0, below_4g)];
        if above_4g > 0 {
            ranges.push((1 << 32, above_4g));
        }
        Smbios {
            bios: ["Tinamou", env!("CARGO_PKG_VERSION"), "04/01/2014"].map(str::to_owned),
            manufacturer: "QEMU".to_owned(),
            product: self.model.description().to_owned(),
            version: self.identity.machine.clone(),
            uuid: self.identity.uuid,
            ram: below_4g + above_4g,
            ranges,
            sockets,
            cores,
            threads,
            processor_id: self.identity.processor_id,
        }
    }

    /// The MP table names one processor of each socket.
    fn mp_table(&self) -> MpTable {
        let [_, cores, threads] = self.identity.topology.map(|n| usize::from(n.max(1)));
        let present = self.possible_cpus.iter().filter(|(_, present)| *present);
        let pins = self.pci.functions();
        let interrupt = |f: &std::sync::Arc<PciFunction>| {
            let pin = (f.config(INTERRUPT_PIN, 1) & 0xff) as u8;
            let line = (f.config(INTERRUPT_LINE, 1) & 0xff) as u8;
            let device = f.devfn().device();
            (1..=4).contains(&pin).then(|| PciInterrupt { device, pin: pin - 1, line })
        };
        let mut pci: Vec<PciInterrupt> = pins.iter().filter_map(interrupt).collect();
        pci.dedup();
        MpTable {
            apic_ids: present
                .step_by(cores * threads)
                .filter_map(|&(id, _)| u8::try_from(id).ok().filter(|&id| id < 255))
                .collect(),
            processor_id: self.identity.processor_id,
            pci,
        }
    }

    /// Gives firmware the tables as files of fw_cfg, and what else it is to know of the board. To be called when all devices are there.
    pub fn publish_tables(&self) {
        let mut files: Vec<(&'static str, Vec<u8>)> = Vec::new();
        if self.options.has_acpi() {
            files.extend(Tables::build(&self.acpi_config()).files());
        }
        // Firmware gives the structures their address, and adds its own.
        let (anchor, structures) = self.smbios().for_firmware();
        files.push(("etc/smbios/smbios-tables", structures));
        files.push(("etc/smbios/smbios-anchor", anchor));
        for (name, data) in files {
            // All names are short, and the slots suffice.
            if let Err(error) = self.fw_cfg.add_file(name, data) {
                report::warn_report!("fw_cfg file {name}: {error:?}");
            }
        }
        self.fill_fw_cfg();
    }

    /// Puts the tables into memory where firmware would have put them. To be called after [`Pc::firmware_setup`].
    pub fn install_tables(&self) -> Installed {
        let tables = self.options.has_acpi().then(|| Tables::build(&self.acpi_config()));
        let top = self.memory.layout.below_4g.saturating_sub(TABLES_SIZE);
        // A board with less than 128 KiB, or with thousands of processors, has no room for ACPI tables.
        let tables = tables.filter(|t| t.size() <= TABLES_SIZE && top >= 0x10_0000);
        let at = u32::try_from(top).unwrap_or(0);
        let tables = tables.as_ref().map(|tables| (at, tables));
        acpi::install(&self.memory.memory, tables, &self.smbios(), &self.mp_table())
    }
}
