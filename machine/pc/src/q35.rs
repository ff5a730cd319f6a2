//! What makes the Q35 board: bridges, and where its ACPI registers are.

use crate::board::{Common, Platform};
use crate::options::MachineOptions;
use bridges::{Ich9Ahci, Ich9Lpc, Ich9Smbus, LegacyPorts, Mch};
use chipset::acpi_pm::{AcpiPm, PmConfig};
use clock::Clock;
use guestmem::{IoHandler, IoRules, Region};
use irq::IrqLine;
use pci::Devfn;
use qdev::{Device, DeviceError};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Where firmware puts the ACPI registers of the LPC bridge, and the SMBus's.
const PM_BASE: u16 = 0x600;
const SMBUS_BASE: u16 = 0x700;
/// Bytes of ACPI registers, and where the GPE0 block lies in them.
const PM_SIZE: u64 = 128;
const GPE_OFFSET: u64 = 0x20;
/// Where the SMI registers lie, and what the first shows after reset: the command port's SMI is set up already.
const SMI_OFFSET: u64 = 0x30;
const SMI_RESET: u32 = 0x20;

/// The chips of the Q35 set.
pub(crate) struct Chips {
    north: Arc<Mch>,
    lpc: Arc<Ich9Lpc>,
    ahci: Option<Arc<Ich9Ahci>>,
    smbus: Option<Arc<Ich9Smbus>>,
    smi: Arc<SmiEnable>,
}

/// SMI enable (offset 0) and status (4). There is no system management mode: the bits are kept, nothing comes of them.
struct SmiEnable(AtomicU32);

impl IoHandler for SmiEnable {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        if offset == 0 { self.0.load(Ordering::SeqCst).into() } else { 0 }
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        if offset == 0 {
            self.0.store((value & 0xffff_ffff) as u32, Ordering::SeqCst);
        }
    }
}

/// The SCI, which leads through the LPC bridge that is made after the block that drives it.
#[derive(Default)]
struct LateLine(OnceLock<IrqLine>);

impl irq::IrqSink for LateLine {
    fn set_level(&self, _line: u32, level: bool) {
        if let Some(line) = self.0.get() {
            line.set(level);
        }
    }

    fn import_level(&self, _line: u32, level: bool) {
        if let Some(line) = self.0.get() {
            line.import_level(level);
        }
    }
}

impl Chips {
    /// Puts the chips on the board's bus; also gives the ACPI block.
    pub(crate) fn build(
        board: &Common<'_>,
        clock: &Clock,
        sleep: PmConfig,
        options: &MachineOptions,
    ) -> Result<(Self, Arc<AcpiPm>), DeviceError> {
        let Common { pci, memory, ports, .. } = board;
        let gsi = (0..24).map(|n| board.gsi.line(n)).collect();
        let north = Mch::new(pci, memory.memory.root(), &memory.pci, &memory.ram)?;
        let sci = Arc::new(LateLine::default());
        let line = IrqLine::new(sci.clone(), 0);
        let pm = AcpiPm::new(clock, line, PmConfig { gpe_len: 16, ..sleep }, board.on_sleep());
        let registers = Region::container("ich9-pm", PM_SIZE);
        for (offset, region) in pm.pm1_regions() {
            registers.add(&region, offset);
        }
        registers.add(&pm.gpe_region(), GPE_OFFSET);
        let smi = Arc::new(SmiEnable(AtomicU32::new(SMI_RESET)));
        registers.add(&Region::io("acpi-smi", 8, smi.clone(), IoRules::DWORD_ONLY), SMI_OFFSET);
        ports.add(&pm.apm_region(), 0xb2);
        let system = board.system.clone();
        let legacy = LegacyPorts { serial: board.serial, parallel: false };
        let lpc = Ich9Lpc::new(pci, ports, memory.memory.root(), &registers, gsi, legacy, system)?;
        let _ = sci.0.set(lpc.sci());
        let ahci = options.sata.then(|| Ich9Ahci::new(pci)).transpose()?;
        let smbus = options.smbus.then(|| Ich9Smbus::new(pci)).transpose()?;
        Ok((Self { north, lpc, ahci, smbus, smi }, pm))
    }
}

impl Platform for Chips {
    fn prepare(&self) {
        self.north.firmware_setup();
        self.lpc.firmware_setup(PM_BASE);
    }

    fn finish(&self) {
        if let Some(ahci) = &self.ahci {
            ahci.firmware_setup();
        }
        if let Some(smbus) = &self.smbus {
            smbus.firmware_setup(SMBUS_BASE);
        }
    }

    fn line(&self, devfn: Devfn, pin: u8) -> u8 {
        self.lpc.line(devfn, pin)
    }

    fn reset(&self) {
        self.north.reset();
        self.lpc.reset();
        self.smi.0.store(SMI_RESET, Ordering::SeqCst);
        if let Some(ahci) = &self.ahci {
            ahci.reset();
        }
        if let Some(smbus) = &self.smbus {
            smbus.reset();
        }
    }
}
