//! The Q35 memory controller hub (host bridge).

use crate::{intel, pam::Shadow, pam::ShadowRegisters};
use guestmem::{RamBlock, Region};
use parking_lot::Mutex;
use pci::{Devfn, Ecam, FunctionBuilder, PciBus, PciFunction, PciHooks};
use qdev::{Device, DeviceError};
use std::sync::Arc;

/// Extended TSEG size in MiB; writing all ones asks for it.
const EXTENDED_TSEG: u16 = 0x50;
/// Base of memory-mapped configuration space: bit 0 on, bits 2..1 size, then the address.
const PCIEXBAR: u16 = 0x60;
/// SMRAM at SMBASE: query and lock.
const SMBASE_SMRAM: u16 = 0x9c;
/// SMRAM control.
const SMRAM: u16 = 0x9d;
const REGISTERS: ShadowRegisters = ShadowRegisters { pam: 0x90, smram: SMRAM };
/// Extended SMRAM control.
const ESMRAMC: u16 = 0x9e;

struct Maps {
    shadow: Shadow,
    /// Memory-mapped configuration space: where it is, its size, the region.
    ecam: Option<(u64, u16, Region)>,
}

/// 8086:29c0 at 00.0.
pub struct Mch {
    function: Arc<PciFunction>,
    bus: Arc<PciBus>,
    system: Region,
    maps: Mutex<Maps>,
    smram: Region,
}

impl Mch {
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
        let builder = FunctionBuilder::new("mch", intel(0x29c0, 0, 0x0600, 0));
        let function = bus.add(Devfn::new(0, 0), builder)?;
        let shadow = Shadow::new(system, pci, ram);
        let smram = shadow.smram().clone();
        let this = Arc::new(Self {
            function: function.clone(),
            bus: bus.clone(),
            system: system.clone(),
            maps: Mutex::new(Maps { shadow, ecam: None }),
            smram,
        });
        function.set_hooks(this.clone());
        this.reset();
        Ok(this)
    }

    /// What system management mode sees over normal memory.
    pub fn smram(&self) -> &Region {
        &self.smram
    }

    /// Does what firmware does: RAM at 0xc0000 to 0xfffff, write-protected but for 0xe8000 to 0xeffff; configuration
    /// space at 0xb0000000 (256 MiB).
    pub fn firmware_setup(&self) {
        REGISTERS.firmware_setup(&self.function);
        self.function.config_write(PCIEXBAR + 4, 4, 0);
        self.function.config_write(PCIEXBAR, 4, 0xb000_0001);
    }

    fn follow(&self) {
        let f = &self.function;
        let mut maps = self.maps.lock();
        maps.shadow.follow(f, REGISTERS);
        let base = u64::from(f.config(PCIEXBAR, 4)) | u64::from(f.config(PCIEXBAR + 4, 4)) << 32;
        let buses = match base >> 1 & 3 {
            0 => 256u16,
            1 => 128,
            2 => 64,
            _ => 0,
        };
        let size = u64::from(buses) << 20;
        let wanted =
            (base & 1 != 0 && buses != 0).then(|| (base & 0xf_ffff_ffff & !(size.max(1) - 1), buses));
        if maps.ecam.as_ref().map(|(at, buses, _)| (*at, *buses)) != wanted {
            if let Some((_, _, old)) = maps.ecam.take() {
                self.system.remove(&old);
            }
            if let Some((at, buses)) = wanted {
                let region = Ecam::region(&self.bus, buses);
                self.system.add(&region, at);
                maps.ecam = Some((at, buses, region));
            }
        }
    }

    /// The lock bits of the SMRAM registers, and the two registers that answer questions.
    fn settle(&self) {
        self.function.with_config(|c| {
            if c.get(SMRAM, 1) & 0x10 != 0 {
                // Locked: no longer open, and from now on only "closed" can be written.
                let value = c.get(SMRAM, 1) & !0x40;
                c.set(SMRAM, 1, value);
                c.set_writable(SMRAM, 1, 0x20);
                c.set_writable(ESMRAMC, 1, 0);
            }
            match c.get(SMBASE_SMRAM, 1) {
                0xff => {
                    c.set(SMBASE_SMRAM, 1, 0x01);
                    c.set_writable(SMBASE_SMRAM, 1, 0x02);
                }
                value if value & 0x02 != 0 => c.set_writable(SMBASE_SMRAM, 1, 0),
                0x01 => {}
                _ => c.set(SMBASE_SMRAM, 1, 0),
            }
            if c.get(EXTENDED_TSEG, 2) == 0xffff {
                c.set(EXTENDED_TSEG, 2, 16);
            }
        });
    }
}

impl PciHooks for Mch {
    fn before_read(&self, _function: &PciFunction, _offset: u16, _size: u8) {}

    fn after_write(&self, _function: &PciFunction, offset: u16, _size: u8) {
        if offset >= 0x40 {
            self.settle();
            self.follow();
        }
    }
}

impl Device for Mch {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
            c.set(EXTENDED_TSEG, 2, 16);
            c.set(PCIEXBAR, 4, 0xb000_0000);
            c.set(SMRAM, 1, 0x02);
            c.set_writable(SMRAM, 1, 0x78);
            c.set(ESMRAMC, 1, 0x38);
            c.set_writable(ESMRAMC, 1, 0x87);
            c.set_writable(SMBASE_SMRAM, 1, 0xff);
        });
        self.follow();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
