//! What is left of firmware's work when a kernel is started directly: chips that are set up, and the BIOS data area.
//!
//! The values are those that SeaBIOS leaves behind (IBM PC/AT technical reference for the meanings).

use crate::memory::PcMemory;

/// The BIOS data area.
const DATA_AREA: u64 = 0x400;
/// The extended BIOS data area, of 1 KiB, right below 640 KiB.
const EXTENDED: u64 = 0x9_fc00;

/// Sets up the interrupt controllers (base vectors 8 and 0x70, the timer, keyboard and clock let through), PCI's
/// interrupts as levels, and the timer at 18.2 Hz.
///
/// The keyboard's codes are translated to those of the first PC, and its interrupt is on; the mouse is off.
pub(crate) fn initialize_chips(memory: &PcMemory, pic: bool, pit: bool, i8042: bool) {
    let out = |port: u64, value: u64| memory.ports.write_int(port, 1, value);
    if pic {
        for (port, base, wiring, mask) in [(0x20, 0x08, 0x04, 0xb8), (0xa0, 0x70, 0x02, 0x8e)] {
            out(port, 0x11);
            out(port + 1, base);
            out(port + 1, wiring);
            out(port + 1, 0x01);
            out(port + 1, mask);
        }
        // Interrupts 10 and 11.
        out(0x4d1, 0x0c);
    }
    if pit {
        for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0)] {
            out(port, value);
        }
    }
    if i8042 {
        for (port, value) in [(0x64, 0x60), (0x60, 0x61)] {
            out(port, value);
        }
    }
    // 1024 Hz, 24-hour BCD.
    for (register, value) in [(0x0a, 0x26), (0x0b, 0x02)] {
        out(0x70, register);
        out(0x71, value);
    }
}

/// Writes the two data areas: serial ports, equipment, 639 KiB of conventional memory. `serials` are the ports' bases.
pub(crate) fn write_bios_data(memory: &PcMemory, serials: &[u16]) {
    let mut area = [0u8; 0x100];
    for (slot, port) in area.chunks_exact_mut(2).zip(serials.iter().take(4)) {
        slot.copy_from_slice(&port.to_le_bytes());
    }
    let mut put = |at: usize, value: u16| area[at..at + 2].copy_from_slice(&value.to_le_bytes());
    put(0x0e, (EXTENDED >> 4) as u16);
    // Equipment: coprocessor, PS/2 mouse, number of serial ports.
    put(0x10, 0x0006 | (serials.len().min(4) as u16) << 9);
    put(0x13, 639);
    // The keyboard's ring buffer.
    for (at, value) in [(0x1a, 0x1e), (0x1c, 0x1e), (0x80, 0x1e), (0x82, 0x3e)] {
        put(at, value);
    }
    memory.memory.load(DATA_AREA, &area);
    let mut extended = [0u8; 0x400];
    extended[0] = 1;
    memory.memory.load(EXTENDED, &extended);
}

/// The contents of the memory type range registers (SDM vol. 3, 12.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTypes {
    /// The fixed ranges' registers, by ascending address: eight ranges of 64 KiB, 16 of 16 KiB, 64 of 4 KiB.
    pub fixed: [u64; 11],
    /// The first variable range: its base with the type, and its size.
    pub variable: (u64, u64),
    /// The default type register.
    pub default: u64,
}

impl MemoryTypes {
    /// All is write-back, but for the window of PCI devices from `pci` to 4 GiB (uncached), the VGA window (uncached) and
    /// what may be ROM (write-protected).
    pub(crate) fn of_firmware(pci: u64) -> Self {
        const WRITE_BACK: u64 = 0x0606_0606_0606_0606;
        const WRITE_PROTECTED: u64 = 0x0505_0505_0505_0505;
        let mut fixed = [WRITE_PROTECTED; 11];
        fixed[..2].fill(WRITE_BACK);
        fixed[2] = 0;
        // On, fixed ranges on, write-back.
        Self { fixed, variable: (pci, (1 << 32) - pci), default: 0xc06 }
    }
}
