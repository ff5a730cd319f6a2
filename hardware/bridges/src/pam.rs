//! The windows of the low 1 MiB: shadow RAM (PAM) and system management RAM.

use guestmem::{RamBlock, Region};
use pci::PciFunction;
use std::sync::Arc;

/// What a PAM segment shows: bit 0 reads go to RAM, bit 1 writes go to RAM.
const READ: u8 = 1;
const WRITE: u8 = 2;

/// The seven PAM registers as firmware leaves them: everything reads RAM, only 0xe8000 to 0xeffff is writable.
const SHADOWED: [u32; 7] = [0x10, 0x11, 0x11, 0x11, 0x11, 0x11, 0x33];

/// Where a host bridge has the registers of these windows in its configuration space.
#[derive(Clone, Copy)]
pub(crate) struct ShadowRegisters {
    /// First of the seven PAM registers.
    pub pam: u16,
    /// SMRAM control: bit 6 open, bit 3 enabled.
    pub smram: u16,
}

impl ShadowRegisters {
    /// Does what firmware does: RAM at 0xc0000 to 0xfffff, write-protected but for 0xe8000 to 0xeffff; SMRAM enabled
    /// and closed.
    pub(crate) fn firmware_setup(self, function: &PciFunction) {
        for (register, value) in (self.pam..).zip(SHADOWED) {
            function.config_write(register, 1, value);
        }
        function.config_write(self.smram, 1, 0x0a);
    }

    /// Whether a write of `size` bytes at `offset` touches them.
    pub(crate) fn touched(self, offset: u16, size: u8) -> bool {
        let end = offset + u16::from(size);
        (offset < self.pam + 7 && end > self.pam) || (offset <= self.smram && end > self.smram)
    }
}

struct Segment {
    start: u64,
    pci: Region,
    rom: Region,
    ram: Region,
    shown: Option<Region>,
}

/// The 13 shadow segments and the window at 0xa0000, laid over low RAM.
pub struct Shadow {
    system: Region,
    segments: Vec<Segment>,
    /// Shows PCI (the VGA window) over the RAM at 0xa0000.
    vga_window: Region,
    smram: Region,
    smram_low: Region,
}

impl Shadow {
    /// Windows over `system`, whose RAM below 1 MiB is the start of `ram`; where a segment is off, `pci` is seen.
    pub fn new(system: &Region, pci: &Region, ram: &Arc<RamBlock>) -> Self {
        let rom = Region::rom("pam-rom", ram.clone());
        let writable = Region::ram("pam-ram", ram.clone());
        let segment = |start: u64, size: u64| Segment {
            start,
            pci: Region::alias("pam-pci", pci, start, size),
            rom: Region::alias("pam-rom", &rom, start, size),
            ram: Region::alias("pam-ram", &writable, start, size),
            shown: None,
        };
        let mut segments = vec![segment(0xf_0000, 0x1_0000)];
        segments.extend((0..12).map(|i| segment(0xc_0000 + i * 0x4000, 0x4000)));
        let vga_window = Region::alias("smram-region", pci, 0xa_0000, 0x2_0000);
        system.add_overlap(&vga_window, 0xa_0000, 1);
        let smram = Region::container("smram", 1 << 32);
        let smram_low = Region::alias("smram-low", &writable, 0xa_0000, 0x2_0000);
        smram_low.set_enabled(false);
        smram.add(&smram_low, 0xa_0000);
        let mut this = Self { system: system.clone(), segments, vga_window, smram, smram_low };
        this.set_pam(&[0; 7]);
        this
    }

    /// Follows the bridge's registers.
    pub(crate) fn follow(&mut self, function: &PciFunction, at: ShadowRegisters) {
        let pam = std::array::from_fn(|i| function.config(at.pam + i as u16, 1) as u8);
        self.set_pam(&pam);
        let smram = function.config(at.smram, 1);
        self.set_smram(smram & 0x40 != 0, smram & 0x08 != 0);
    }

    /// Follows the seven PAM registers.
    fn set_pam(&mut self, registers: &[u8; 7]) {
        for (index, segment) in self.segments.iter_mut().enumerate() {
            // Register 0 has the BIOS segment in its high half; the others have two segments each, the lower first.
            let attribute = match index {
                0 => registers[0] >> 4,
                i => registers[i.div_ceil(2)] >> (4 * ((i - 1) & 1)),
            };
            // Write-only (a copy from ROM to RAM in place) shows PCI.
            let wanted = match attribute & (READ | WRITE) {
                0 | WRITE => &segment.pci,
                READ => &segment.rom,
                _ => &segment.ram,
            };
            if segment.shown.as_ref().is_some_and(|s| s.name() == wanted.name()) {
                continue;
            }
            self.system.add_overlap(wanted, segment.start, 1);
            if let Some(old) = segment.shown.replace(wanted.clone()) {
                self.system.remove(&old);
            }
        }
    }

    /// Follows the SMRAM register: `open` shows RAM at 0xa0000 to everybody, `enabled` to system management mode.
    fn set_smram(&self, open: bool, enabled: bool) {
        self.vga_window.set_enabled(!open);
        self.smram_low.set_enabled(enabled);
    }

    /// What system management mode sees over normal memory.
    pub fn smram(&self) -> &Region {
        &self.smram
    }
}
