//! What the tables describe.

/// Which board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// 440FX with PIIX3 and PIIX4's power management.
    I440fx,
    /// Q35 with ICH9.
    Q35,
}

/// A processor that is there or may be plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// ID of its local APIC.
    pub apic_id: u32,
    /// Whether it is there at power-up.
    pub present: bool,
}

/// What a PCI function on the root bus is, as far as its ACPI object is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Nothing special.
    Plain,
    /// A VGA adapter, which stays powered in S1 to S3.
    Vga,
    /// The bridge below which the ISA devices are.
    IsaBridge,
}

/// A PCI function on the root bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Device and function number: `device << 3 | function`.
    pub devfn: u8,
    /// What it is.
    pub kind: FunctionKind,
    /// Whether the guest may eject it.
    pub hotpluggable: bool,
}

/// A drive of the floppy controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloppyDrive {
    /// CMOS drive type: 1 360 KB, 2 1.2 MB, 3 720 KB, 4 1.44 MB, 5 2.88 MB.
    pub drive_type: u8,
    /// Highest cylinder.
    pub max_cylinder: u16,
    /// Highest sector.
    pub max_sector: u8,
    /// Highest head.
    pub max_head: u8,
}

/// Devices behind the ISA bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsaDevices {
    /// The keyboard controller with keyboard and mouse.
    pub keyboard: bool,
    /// The real-time clock.
    pub rtc: bool,
    /// COM1 to COM4.
    pub serial: [bool; 4],
    /// LPT1 to LPT3.
    pub parallel: [bool; 3],
    /// The floppy controller, and its drives A and B.
    pub floppy: Option<[Option<FloppyDrive>; 2]>,
    /// The port of a pvpanic device.
    pub pvpanic: Option<u16>,
}

/// What the tables describe. Start from [`Config::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which board.
    pub board: Board,
    /// All possible processors, by their number.
    pub cpus: Vec<Cpu>,
    /// Bytes of RAM from address 0 on.
    pub below_4g: u64,
    /// End of RAM above 4 GiB (4 GiB when there is none).
    pub high_end: u64,
    /// Least bytes of the window for PCI devices above 4 GiB; 0: there is no such window.
    pub hole_64: u64,
    /// First port of the ACPI registers.
    pub pm_base: u16,
    /// Whether there is an HPET.
    pub hpet: bool,
    /// Whether there is a PIT; without it interrupt 0 is not rerouted.
    pub pit: bool,
    /// Address of the memory-mapped configuration space (256 MiB); `None` on boards without.
    pub mcfg: Option<u32>,
    /// Whether fw_cfg is at its ports.
    pub fw_cfg: bool,
    /// Whether slots of the root bus take devices while the guest runs.
    pub pci_hotplug: bool,
    /// Whether the command port for SMI (0xb2) works.
    pub smi: bool,
    /// `disable_s3`.
    pub disable_s3: bool,
    /// `disable_s4`.
    pub disable_s4: bool,
    /// `s4_val`: the sleep type of S4.
    pub s4_val: u8,
    /// Functions on the root bus, in any order.
    pub functions: Vec<Function>,
    /// Devices behind the ISA bridge.
    pub isa: IsaDevices,
    /// `x-oem-id`.
    pub oem_id: String,
    /// `x-oem-table-id`.
    pub oem_table_id: String,
}

impl Config {
    /// A board with one processor and 128 MiB of RAM, and nothing in its slots.
    pub fn new(board: Board) -> Self {
        let q35 = board == Board::Q35;
        Self {
            board,
            cpus: vec![Cpu { apic_id: 0, present: true }],
            below_4g: 128 << 20,
            high_end: 1 << 32,
            hole_64: if q35 { 32 << 30 } else { 2 << 30 },
            pm_base: 0x600,
            hpet: true,
            pit: true,
            mcfg: q35.then_some(0xb000_0000),
            fw_cfg: true,
            pci_hotplug: !q35,
            smi: true,
            disable_s3: false,
            disable_s4: false,
            s4_val: 2,
            functions: Vec::new(),
            isa: IsaDevices { keyboard: true, rtc: true, ..IsaDevices::default() },
            oem_id: "BOCHS ".to_owned(),
            oem_table_id: "BXPC    ".to_owned(),
        }
    }

    /// GPE0's block: first port and length.
    pub(crate) fn gpe(&self) -> (u16, u8) {
        match self.board {
            Board::I440fx => (0xafe0, 4),
            Board::Q35 => (self.pm_base.wrapping_add(0x20), 16),
        }
    }

    /// First port of the registers for processors that come and go.
    pub(crate) fn cpu_hotplug_port(&self) -> u16 {
        match self.board {
            Board::I440fx => 0xaf00,
            Board::Q35 => 0xcd8,
        }
    }

    /// First port of the registers for PCI devices that come and go.
    pub(crate) fn pci_hotplug_port(&self) -> u16 {
        match self.board {
            Board::I440fx => 0xae00,
            Board::Q35 => 0xcc0,
        }
    }
}
