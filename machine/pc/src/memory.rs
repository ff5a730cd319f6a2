//! Where RAM and firmware lie in the physical address space.

use crate::BoardModel;
use guestmem::{AddressSpace, RamBlock, Region};
use std::io;
use std::sync::Arc;

/// One gibibyte.
const GIB: u64 = 1 << 30;
/// Bytes of firmware that are also seen below 1 MiB.
const ISA_BIOS: u64 = 0x2_0000;

/// How RAM is split around the hole below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLayout {
    /// Bytes from address 0 on.
    pub below_4g: u64,
    /// Bytes from 4 GiB on.
    pub above_4g: u64,
}

impl MemoryLayout {
    /// The split of `ram` bytes on a board of `model`; `limit` is `max-ram-below-4g`, 0 for the board's own.
    pub fn new(model: BoardModel, ram: u64, limit: u64) -> Self {
        let low = match model {
            // Up to 3.5 GiB; a guest with more gets a whole number of gibibytes.
            BoardModel::I440fx => {
                let limit = if limit == 0 { 7 * GIB / 2 } else { limit };
                if ram >= limit { limit.min(3 * GIB) } else { limit }
            }
            // Configuration space lies at 2.75 GiB.
            BoardModel::Q35 => {
                let own = if ram >= 0xb000_0000 { 2 * GIB } else { 0xb000_0000 };
                if limit == 0 { own } else { own.min(limit) }
            }
        };
        let below_4g = ram.min(low);
        Self { below_4g, above_4g: ram - below_4g }
    }

    /// What is worth a warning about a `max-ram-below-4g` of `limit` bytes: QEMU's texts.
    pub fn warnings(&self, model: BoardModel, limit: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        if limit != 0 && limit < 1 << 20 {
            warnings.push(format!(
                "Only {limit} bytes of RAM below the 4GiB boundary, BIOS may not work with less than 1MiB"
            ));
        }
        let odd = limit != 0 && !limit.is_multiple_of(GIB) && self.above_4g > 0;
        match model {
            BoardModel::I440fx if odd && limit <= 3 * GIB => warnings.push(format!(
                "Large machine and max_ram_below_4g ({limit}) not a multiple of 1G; possible bad performance."
            )),
            BoardModel::Q35 if odd && self.below_4g == limit && self.above_4g > limit => {
                warnings.push(format!(
                    "There is possibly poor performance as the ram size (0x{:x}) is more then twice the size of \
                     max-ram-below-4g ({limit}) and max-ram-below-4g is not a multiple of 1G.",
                    self.below_4g + self.above_4g
                ));
            }
            _ => {}
        }
        warnings
    }
}

/// The space of option ROMs: start and bytes.
const OPTION_ROMS: (u64, u64) = (0xc_0000, 0x2_0000);

/// The memory and the ports of a board.
pub struct PcMemory {
    /// Physical memory.
    pub memory: AddressSpace,
    /// I/O ports.
    pub ports: AddressSpace,
    /// What PCI devices show in physical memory, below everything else.
    pub pci: Region,
    /// All RAM, as one block.
    pub ram: Arc<RamBlock>,
    /// How it is split.
    pub layout: MemoryLayout,
}

impl PcMemory {
    /// Memory with `ram` and nothing else, split as `layout` says: the two are of one size.
    ///
    /// # Errors
    /// The host has no memory for the space of option ROMs.
    pub fn new(layout: MemoryLayout, ram: Arc<RamBlock>) -> io::Result<Self> {
        let system = Region::whole("system");
        let all = Region::ram(ram.name(), ram.clone());
        system.add(&Region::alias("ram-below-4g", &all, 0, layout.below_4g), 0);
        if layout.above_4g > 0 {
            system.add(&Region::alias("ram-above-4g", &all, layout.below_4g, layout.above_4g), 4 * GIB);
        }
        let pci = Region::whole("pci");
        system.add_overlap(&pci, 0, -1);
        // Where firmware looks for option ROMs there are none: zeros.
        let roms = Region::rom("pc.rom", RamBlock::new("pc.rom", OPTION_ROMS.1)?);
        pci.add_overlap(&roms, OPTION_ROMS.0, 1);
        Ok(Self {
            memory: AddressSpace::memory("memory", &system),
            ports: AddressSpace::ports("I/O", &Region::container("io", 0x1_0000)),
            pci,
            ram,
            layout,
        })
    }

    /// Puts a firmware image so that it ends at 4 GiB, its last 128 KiB also below 1 MiB.
    ///
    /// # Errors
    /// The image is empty, not a multiple of 64 KiB, or larger than 16 MiB.
    pub fn load_bios(&self, image: &[u8]) -> io::Result<()> {
        let size = image.len() as u64;
        if size == 0 || !size.is_multiple_of(0x1_0000) || size > 16 << 20 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "firmware must be 64 KiB to 16 MiB"));
        }
        let block = RamBlock::new("pc.bios", size)?;
        block.write(0, image);
        let rom = Region::rom("pc.bios", block);
        let low = size.min(ISA_BIOS);
        self.pci.add_overlap(&Region::alias("isa-bios", &rom, size - low, low), 0x10_0000 - low, 1);
        self.pci.add(&rom, 4 * GIB - size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_split_where_qemu_splits_it() {
        use BoardModel::{I440fx, Q35};
        let limit = 7 * GIB / 2;
        for (model, ram, max, below) in [
            (I440fx, 96 << 20, 0, 96 << 20),
            (I440fx, limit - 4096, 0, limit - 4096),
            (I440fx, limit, 0, 3 * GIB),
            (I440fx, 5 * GIB, 0, 3 * GIB),
            (I440fx, 2 * GIB, GIB, GIB),
            (Q35, 2 * GIB, 0, 2 * GIB),
            (Q35, 0xb000_0000 - 4096, 0, 0xb000_0000 - 4096),
            (Q35, 0xb000_0000, 0, 2 * GIB),
            (Q35, 5 * GIB, 0, 2 * GIB),
            (Q35, 5 * GIB, GIB, GIB),
        ] {
            let layout = MemoryLayout::new(model, ram, max);
            assert_eq!(layout, MemoryLayout { below_4g: below, above_4g: ram - below });
        }
        let odd = 3 * GIB / 2;
        assert_eq!(MemoryLayout::new(Q35, 8 * GIB, odd).warnings(Q35, odd).len(), 1);
        assert_eq!(MemoryLayout::new(I440fx, 8 * GIB, GIB).warnings(I440fx, GIB).len(), 0);
    }

    #[test]
    fn high_ram_continues_low_ram() {
        let layout = MemoryLayout { below_4g: 1 << 20, above_4g: 1 << 20 };
        let memory = PcMemory::new(layout, RamBlock::new("pc.ram", 2 << 20).expect("ram")).expect("memory");
        memory.memory.write_int(4 * GIB + 8, 4, 0x1234_5678);
        assert_eq!(memory.ram.read_int((1 << 20) + 8, 4), 0x1234_5678);
        assert_eq!(memory.memory.read_int(0x20_0000, 4), 0);
    }

    #[test]
    fn firmware_ends_at_4_gib() {
        let layout = MemoryLayout { below_4g: 2 << 20, above_4g: 0 };
        let memory = PcMemory::new(layout, RamBlock::new("pc.ram", 2 << 20).expect("ram")).expect("memory");
        assert!(memory.load_bios(&[0; 1000]).is_err());
        let mut image = vec![0; 0x1_0000];
        image[0xfff0] = 0xea;
        memory.load_bios(&image).expect("bios");
        assert_eq!(memory.memory.read_int(0xffff_fff0, 1), 0xea);
        memory.memory.write_int(0xffff_fff0, 1, 0);
        assert_eq!(memory.memory.read_int(0xffff_fff0, 1), 0xea);
    }
}
