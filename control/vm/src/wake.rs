//! Waking from sleep in memory without firmware (ACPI specification, 16.3.1, and 5.2.10: the FACS).

use guestmem::AddressSpace;
use x86::reg::seg;
use x86::{Segment, X86State};

/// Most tables that are looked at.
const MAX_TABLES: u64 = 64;

/// The address at which the guest wants to be woken in real mode, from its ACPI tables; 0: it has said nothing.
pub(crate) fn vector(memory: &AddressSpace, rsdp: u64) -> u32 {
    let word = |address: u64| memory.read_int(address, 4);
    if rsdp == 0 {
        return 0;
    }
    let rsdt = word(rsdp + 16);
    let tables = (word(rsdt + 4).saturating_sub(36) / 4).min(MAX_TABLES);
    let fadt = (0..tables)
        .map(|index| word(rsdt + 36 + index * 4))
        .find(|&table| word(table) == u64::from(u32::from_le_bytes(*b"FACP")));
    let facs = fadt.map_or(0, |fadt| word(fadt + 36));
    if facs == 0 { 0 } else { word(facs + 12) as u32 }
}

/// Lets a processor start at a waking vector in real mode.
pub(crate) fn enter(state: &mut X86State, vector: u32) {
    // A guest that has set none, or one above real mode's reach, gets what it asked for: nonsense at a defined place.
    state.seg[seg::CS] = Segment::real_mode((vector >> 4) as u16, true);
    state.rip = (vector & 0xf).into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::{RamBlock, Region};

    #[test]
    fn the_vector_is_found_through_the_tables() {
        let root = Region::whole("system");
        root.add(&Region::ram("ram", RamBlock::new("ram", 1 << 16).expect("ram")), 0);
        let memory = AddressSpace::memory("memory", &root);
        let put = |address: u64, value: u64| memory.write_int(address, 4, value);
        put(0x1010, 0x2000);
        put(0x2004, 36 + 8);
        put(0x2024, 0x3000);
        put(0x2028, 0x4000);
        put(0x4000, u32::from_le_bytes(*b"FACP").into());
        put(0x4024, 0x5000);
        put(0x500c, 0x9_a004);
        assert_eq!(vector(&memory, 0x1000), 0x9_a004);
        assert_eq!((vector(&memory, 0), vector(&memory, 0x8000)), (0, 0));
        let mut state = X86State::default();
        enter(&mut state, 0x9_a004);
        assert_eq!((state.seg[seg::CS].base, state.seg[seg::CS].selector, state.rip), (0x9_a000, 0x9a00, 4));
    }
}
