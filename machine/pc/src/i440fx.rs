//! What makes the 440FX board: bridges, and where its ACPI registers are.

use crate::board::{Common, Platform};
use bridges::{I440fx, Piix3, Piix3Ide, Piix4Pm};
use chipset::acpi_pm::{AcpiPm, PmConfig};
use clock::Clock;
use guestmem::Region;
use irq::IrqLine;
use pci::Devfn;
use qdev::{Device, DeviceError};
use std::sync::Arc;

/// Where firmware puts the ACPI registers of the south bridge, and the SMBus's.
const PM_BASE: u16 = 0x600;
const SMBUS_BASE: u16 = 0x700;
/// Bytes of ACPI registers.
const PM_SIZE: u64 = 64;
/// The GPE0 block of the board.
const GPE_BASE: u64 = 0xafe0;

/// The chips of the 440FX set.
pub(crate) struct Chips {
    north: Arc<I440fx>,
    south: Arc<Piix3>,
    ide: Arc<Piix3Ide>,
    power: Arc<Piix4Pm>,
}

impl Chips {
    /// Puts the chips on the board's bus; also gives the ACPI block.
    pub(crate) fn build(
        board: &Common<'_>,
        clock: &Clock,
        sleep: PmConfig,
    ) -> Result<(Self, Arc<AcpiPm>), DeviceError> {
        let Common { pci, memory, ports, .. } = board;
        let gsi: Vec<IrqLine> = (0..16).map(|n| board.gsi.line(n)).collect();
        let sci = gsi[9].clone();
        let north = I440fx::new(pci, memory.memory.root(), &memory.pci, &memory.ram)?;
        let south = Piix3::new(pci, ports, gsi, board.system.clone())?;
        let ide = Piix3Ide::new(pci, ports)?;
        let pm = AcpiPm::new(clock, sci, PmConfig { gpe_len: 4, ..sleep }, board.on_sleep());
        ports.add(&pm.gpe_region(), GPE_BASE);
        ports.add(&pm.apm_region(), 0xb2);
        let registers = Region::container("piix4-pm", PM_SIZE);
        for (offset, region) in pm.pm1_regions() {
            registers.add(&region, offset);
        }
        let power = Piix4Pm::new(pci, ports, &registers, board.serial, false)?;
        Ok((Self { north, south, ide, power }, pm))
    }
}

impl Platform for Chips {
    fn prepare(&self) {
        self.north.firmware_setup();
        self.south.firmware_setup();
        self.ide.firmware_setup();
    }

    fn finish(&self) {
        self.power.firmware_setup(PM_BASE, SMBUS_BASE);
    }

    fn line(&self, devfn: Devfn, pin: u8) -> u8 {
        self.south.line(devfn, pin)
    }

    fn reset(&self) {
        let chips: [&dyn Device; 4] = [&*self.north, &*self.south, &*self.ide, &*self.power];
        for chip in chips {
            chip.reset();
        }
    }
}
