//! The 440FX host bridge.

use crate::{intel, pam::Shadow, pam::ShadowRegisters};
use guestmem::{RamBlock, Region};
use parking_lot::Mutex;
use pci::{Devfn, FunctionBuilder, PciBus, PciFunction, PciHooks};
use qdev::{Device, DeviceError};
use std::sync::Arc;

const REGISTERS: ShadowRegisters = ShadowRegisters { pam: 0x59, smram: 0x72 };

/// 8086:1237 at 00.0.
pub struct I440fx {
    function: Arc<PciFunction>,
    shadow: Mutex<Shadow>,
    smram: Region,
    /// RAM in units of 8 MiB, as firmware without fw_cfg reads it.
    ram_size: u8,
}

impl I440fx {
    /// Puts the bridge on `bus`. `system` is the machine's memory with `ram` from 0 on and `pci` below it.
    ///
    /// # Errors
    /// Slot 0 is taken.
    pub fn new(
        bus: &Arc<PciBus>,
        system: &Region,
        pci: &Region,
        ram: &Arc<RamBlock>,
    ) -> Result<Arc<Self>, DeviceError> {
        let builder = FunctionBuilder::new("i440FX", intel(0x1237, 2, 0x0600, 0));
        let function = bus.add(Devfn::new(0, 0), builder)?;
        let shadow = Shadow::new(system, pci, ram);
        let smram = shadow.smram().clone();
        let ram_size = u8::try_from(ram.size() >> 23).unwrap_or(u8::MAX);
        let shadow = Mutex::new(shadow);
        let this = Arc::new(Self { function: function.clone(), shadow, smram, ram_size });
        function.set_hooks(this.clone());
        this.reset();
        Ok(this)
    }

    /// What system management mode sees over normal memory.
    pub fn smram(&self) -> &Region {
        &self.smram
    }

    /// Does what firmware does: RAM at 0xc0000 to 0xfffff, write-protected but for 0xe8000 to 0xeffff.
    pub fn firmware_setup(&self) {
        REGISTERS.firmware_setup(&self.function);
    }

    fn follow(&self) {
        self.shadow.lock().follow(&self.function, REGISTERS);
    }
}

impl PciHooks for I440fx {
    fn before_read(&self, _function: &PciFunction, _offset: u16, _size: u8) {}

    fn after_write(&self, _function: &PciFunction, offset: u16, size: u8) {
        if REGISTERS.touched(offset, size) {
            self.follow();
        }
    }
}

impl Device for I440fx {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
            // Not a DRAM row boundary but what QEMU keeps there for coreboot.
            c.set(0x57, 1, self.ram_size.into());
            c.set(REGISTERS.smram, 1, 0x02);
        });
        self.follow();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
