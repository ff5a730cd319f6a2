//! Processor states at kernel entry.

use crate::layout;
use guestmem::AddressSpace;
use x86::reg::{cr0, cr4, efer, flags, gpr, seg};
use x86::{Segment, TableRegister, X86State};

/// Selectors of the flat code segment and the flat data segment.
struct Selectors {
    code: u16,
    data: u16,
}

/// Linux's boot protocol names them: `__BOOT_CS` and `__BOOT_DS`.
const LINUX: Selectors = Selectors { code: 0x10, data: 0x18 };
/// Multiboot kernels find them here in QEMU.
const MULTIBOOT: Selectors = Selectors { code: 0x08, data: 0x10 };

const DATA: u16 = Segment::PRESENT | Segment::NON_SYSTEM | Segment::WRITABLE | Segment::ACCESSED;
const FLAT_DATA: u16 = DATA | Segment::BIG | Segment::GRANULARITY;
const FLAT_CODE: u16 = FLAT_DATA | Segment::CODE;
const LONG_CODE: u16 = DATA | Segment::CODE | Segment::LONG | Segment::GRANULARITY;

fn flat(selector: u16, attributes: u16) -> Segment {
    Segment { base: 0, limit: u32::MAX, attributes, selector }
}

/// A descriptor of a flat 4 GiB segment (SDM vol. 3, figure 3-8).
fn descriptor(attributes: u16) -> u64 {
    let attributes = u64::from(attributes & !0x0f00);
    0xffff | 0xf << 48 | attributes << 40
}

/// Writes the table that the segments were loaded from, and returns its register.
fn write_gdt(memory: &AddressSpace, selectors: &Selectors, code: u16) -> TableRegister {
    let mut entries = [0; 4];
    entries[usize::from(selectors.code / 8)] = descriptor(code);
    entries[usize::from(selectors.data / 8)] = descriptor(FLAT_DATA);
    for (i, entry) in (0u64..).zip(entries) {
        memory.load(layout::GDT + 8 * i, &entry.to_le_bytes());
    }
    TableRegister { base: layout::GDT, limit: 31 }
}

fn common(memory: &AddressSpace, selectors: &Selectors, code: u16, entry: u64) -> X86State {
    let mut state = X86State { rip: entry, rflags: flags::FIXED, ..X86State::default() };
    state.gdtr = write_gdt(memory, selectors, code);
    state.idtr = TableRegister::default();
    for index in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        state.seg[index] = flat(selectors.data, FLAT_DATA);
    }
    state.seg[seg::CS] = flat(selectors.code, code);
    state.cr0 = cr0::PE | cr0::ET;
    state.gpr[gpr::RSP] = layout::STACK_TOP;
    state
}

/// 32-bit protected mode, flat segments, no paging, interrupts off: at `entry` with ESP at the top of a small stack.
pub fn protected_mode_state(memory: &AddressSpace, entry: u32) -> X86State {
    common(memory, &LINUX, FLAT_CODE, entry.into())
}

/// As [`protected_mode_state`], with the segments where QEMU's multiboot loader has them.
pub(crate) fn multiboot_state(memory: &AddressSpace, entry: u32) -> X86State {
    common(memory, &MULTIBOOT, FLAT_CODE, entry.into())
}

/// 64-bit mode, the first 4 GiB mapped to themselves in 2 MiB pages, interrupts off: at `entry`.
pub fn long_mode_state(memory: &AddressSpace, entry: u64) -> X86State {
    /// Present, writable.
    const TABLE: u64 = 0b11;
    /// Present, writable, page size.
    const LARGE: u64 = 0b1000_0011;
    let pml4 = layout::PAGE_TABLES;
    let pdpt = pml4 + 0x1000;
    let put = |at: u64, value: u64| memory.load(at, &value.to_le_bytes());
    memory.load(pml4, &[0; 0x2000]);
    put(pml4, pdpt | TABLE);
    for gigabyte in 0..4 {
        let directory = pdpt + 0x1000 * (gigabyte + 1);
        put(pdpt + 8 * gigabyte, directory | TABLE);
        for entry in 0..512 {
            put(directory + 8 * entry, (gigabyte << 30 | entry << 21) | LARGE);
        }
    }
    let mut state = common(memory, &LINUX, LONG_CODE, entry);
    state.cr0 |= cr0::PG;
    state.cr3 = pml4;
    state.cr4 = cr4::PAE;
    state.efer = efer::LME | efer::LMA;
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ram;

    #[test]
    fn the_descriptor_table_says_what_the_segments_say() {
        let (memory, _) = ram(4);
        let state = long_mode_state(&memory, 0x10_0200);
        let raw = memory.read_int(state.gdtr.base + u64::from(LINUX.code), 8);
        assert_eq!((raw >> 40) as u16 & !0x0f00, state.seg[seg::CS].attributes);
        assert_eq!(raw & 0xffff, 0xffff);
        assert_eq!(memory.read_int(layout::GDT + 0x10, 8), 0x00af_9b00_0000_ffff);
        assert_eq!(memory.read_int(layout::GDT + 0x18, 8), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn the_first_four_gigabytes_are_mapped_to_themselves() {
        let (memory, _) = ram(4);
        let state = long_mode_state(&memory, 0);
        let walk = |linear: u64| {
            let pdpt = memory.read_int(state.cr3, 8) & !0xfff;
            let directory = memory.read_int(pdpt + 8 * (linear >> 30), 8) & !0xfff;
            memory.read_int(directory + 8 * (linear >> 21 & 511), 8) & !0x1f_ffff
        };
        for linear in [0, 0x20_0000, 0xffe0_0000] {
            assert_eq!(walk(linear), linear);
        }
    }
}
