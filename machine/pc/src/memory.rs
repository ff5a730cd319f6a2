//! Where RAM and firmware lie in the physical address space.

use guestmem::{AddressSpace, RamBlock, Region};
use std::io;
use std::sync::Arc;

/// One gibibyte.
const GIB: u64 = 1 << 30;
/// The highest end of low RAM on a 440FX board; a guest that would reach it gets a whole number of gibibytes there.
const LOW_LIMIT: u64 = 0xe000_0000;
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
    /// The split of a 440FX board with `ram` bytes.
    pub fn i440fx(ram: u64) -> Self {
        let low = if ram >= LOW_LIMIT { 3 * GIB } else { ram };
        Self { below_4g: low, above_4g: ram - low }
    }
}

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
    pub fn new(layout: MemoryLayout, ram: Arc<RamBlock>) -> Self {
        let system = Region::whole("system");
        let all = Region::ram(ram.name(), ram.clone());
        system.add(&Region::alias("ram-below-4g", &all, 0, layout.below_4g), 0);
        if layout.above_4g > 0 {
            system.add(&Region::alias("ram-above-4g", &all, layout.below_4g, layout.above_4g), 4 * GIB);
        }
        let pci = Region::whole("pci");
        system.add_overlap(&pci, 0, -1);
        Self {
            memory: AddressSpace::memory("memory", &system),
            ports: AddressSpace::ports("I/O", &Region::container("io", 0x1_0000)),
            pci,
            ram,
            layout,
        }
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
        self.memory.root().add(&rom, 4 * GIB - size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_split_where_qemu_splits_it() {
        for (ram, below, above) in
            [(96 << 20, 96 << 20, 0), (LOW_LIMIT - 4096, LOW_LIMIT - 4096, 0), (5 * GIB, 3 * GIB, 2 * GIB)]
        {
            assert_eq!(MemoryLayout::i440fx(ram), MemoryLayout { below_4g: below, above_4g: above });
        }
    }

    #[test]
    fn high_ram_continues_low_ram() {
        let layout = MemoryLayout { below_4g: 1 << 20, above_4g: 1 << 20 };
        let memory = PcMemory::new(layout, RamBlock::new("pc.ram", 2 << 20).expect("ram"));
        memory.memory.write_int(4 * GIB + 8, 4, 0x1234_5678);
        assert_eq!(memory.ram.read_int((1 << 20) + 8, 4), 0x1234_5678);
        assert_eq!(memory.memory.read_int(0x20_0000, 4), 0);
    }

    #[test]
    fn firmware_ends_at_4_gib() {
        let ram = RamBlock::new("pc.ram", 2 << 20).expect("ram");
        let memory = PcMemory::new(MemoryLayout::i440fx(ram.size()), ram);
        assert!(memory.load_bios(&[0; 1000]).is_err());
        let mut image = vec![0; 0x1_0000];
        image[0xfff0] = 0xea;
        memory.load_bios(&image).expect("bios");
        assert_eq!(memory.memory.read_int(0xffff_fff0, 1), 0xea);
        memory.memory.write_int(0xffff_fff0, 1, 0);
        assert_eq!(memory.memory.read_int(0xffff_fff0, 1), 0xea);
    }
}
