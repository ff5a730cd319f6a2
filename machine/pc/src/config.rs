//! What a board is made of.

use crate::{Identity, MachineOptions};
use chardev::CharFrontend;
use chipset::acpi_pm::PmConfig;
use chipset::rtc::LostTicks;
use clock::Clock;
use guestmem::RamBlock;
use irq::CpuSignals;
use qdev::{DeviceError, SystemControl};
use std::sync::Arc;
use thiserror::Error;

/// The two boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardModel {
    /// 440FX with PIIX3 (`pc`).
    I440fx,
    /// Q35 with ICH9 (`q35`).
    Q35,
}

impl BoardModel {
    /// What `-machine help` and SMBIOS say of it.
    pub fn description(self) -> &'static str {
        match self {
            Self::I440fx => "Standard PC (i440FX + PIIX, 1996)",
            Self::Q35 => "Standard PC (Q35 + ICH9, 2009)",
        }
    }

    /// The short name for the newest machine type.
    pub fn alias(self) -> &'static str {
        match self {
            Self::I440fx => "pc",
            Self::Q35 => "q35",
        }
    }

    /// Most processors.
    pub fn max_cpus(self) -> u32 {
        match self {
            Self::I440fx => 255,
            Self::Q35 => 4096,
        }
    }
}

/// What a board is made of. Start from [`PcConfig::new`].
pub struct PcConfig {
    /// Which board.
    pub model: BoardModel,
    /// Its properties.
    pub options: MachineOptions,
    /// All RAM.
    pub ram: Arc<RamBlock>,
    /// One mailbox for each processor, in the order of their APIC IDs.
    pub cpus: Vec<Arc<CpuSignals>>,
    /// The APIC IDs of all processors that are possible, those of `cpus` first; when it is shorter than `cpus`, the
    /// rest have their number.
    pub apic_ids: Vec<u32>,
    /// Whether CPUID offers x2APIC mode.
    pub x2apic: bool,
    /// Whether CPUID offers the TSC-deadline timer.
    pub tsc_deadline: bool,
    /// Physical address bits.
    pub phys_bits: u8,
    /// Whether the processors call themselves AMD's: the 12 GiB below 1 TiB are not for RAM or devices then.
    pub amd: bool,
    /// Back ends of the serial ports COM1 to COM4; `None` leaves a port out.
    pub serials: Vec<Option<CharFrontend>>,
    /// What the real-time clock shows at first, in seconds since 1970-01-01.
    pub rtc: i64,
    /// What becomes of the real-time clock's interrupts that the guest is too slow to take.
    pub lost_ticks: LostTicks,
    /// The time that the real-time clock follows.
    pub rtc_clock: Clock,
    /// What the ACPI block offers (`disable_s3`, `disable_s4`, `s4_val`).
    pub sleep: PmConfig,
    /// What identifies the machine in its tables.
    pub identity: Identity,
    /// Guest time.
    pub clock: Clock,
    /// The machine's attention.
    pub system: Arc<dyn SystemControl>,
}

impl PcConfig {
    /// A board without processors and serial ports, with `ram`.
    pub fn new(model: BoardModel, ram: Arc<RamBlock>, clock: &Clock, system: Arc<dyn SystemControl>) -> Self {
        Self {
            model,
            options: MachineOptions::default(),
            ram,
            cpus: Vec::new(),
            apic_ids: Vec::new(),
            x2apic: true,
            tsc_deadline: false,
            phys_bits: 40,
            amd: false,
            serials: Vec::new(),
            rtc: 0,
            lost_ticks: LostTicks::default(),
            rtc_clock: clock.clone(),
            sleep: PmConfig::default(),
            identity: Identity {
                machine: crate::MachineType::newest(model).to_owned(),
                ..Identity::default()
            },
            clock: clock.clone(),
            system,
        }
    }

    /// The APIC ID of processor `index`.
    pub(crate) fn apic_id(&self, index: u32) -> u32 {
        usize::try_from(index).ok().and_then(|i| self.apic_ids.get(i)).copied().unwrap_or(index)
    }

    /// The APIC ID of every possible processor, and whether it is there.
    pub(crate) fn possible_cpus(&self) -> Vec<(u32, bool)> {
        let here = self.cpus.len();
        (0..here.max(self.apic_ids.len()))
            .map(|i| (self.apic_id(u32::try_from(i).unwrap_or(u32::MAX)), i < here))
            .collect()
    }
}

/// Why a board could not be made.
#[derive(Debug, Error)]
pub enum PcError {
    /// A chip found its place taken.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The host has no memory.
    #[error("cannot set up guest memory: {0}")]
    Memory(#[from] std::io::Error),
}
