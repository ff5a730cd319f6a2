//! `info mem` and `info tlb`: the page tables that CR3 names (SDM vol. 3, chapter 4).

use guestmem::AddressSpace;
use std::fmt::Write as _;
use x86::X86State;
use x86::reg::{cr0, cr4, efer};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;

/// Most pages that are walked: tables that contain themselves would give 2^36 of them.
const MAX_PAGES: usize = 1 << 18;

/// One mapped page.
struct Page {
    linear: u64,
    size: u64,
    entry: u64,
    /// What all levels together allow.
    rights: u64,
    /// The bits of the entry that are the page's address.
    mask: u64,
}

struct Walker<'a, F: FnMut(&Page)> {
    memory: &'a AddressSpace,
    visit: F,
    pages: usize,
    /// Bytes of an entry.
    entry: u8,
    /// Whether entries of the lowest directory may be large pages.
    large: bool,
    long: bool,
}

impl<F: FnMut(&Page)> Walker<'_, F> {
    /// Walks the table at `table`, whose entries cover `1 << shift` bytes each; false: the limit is reached.
    fn table(&mut self, table: u64, shift: u32, entries: u64, linear: u64, rights: u64) -> bool {
        let step = if self.entry == 4 { 10 } else { 9 };
        for index in 0..entries {
            let entry = self.memory.read_int(table + index * u64::from(self.entry), self.entry);
            if entry & PRESENT == 0 {
                continue;
            }
            let at = linear + (index << shift);
            // The four pointers of legacy PAE paging have no rights of their own.
            let top = shift == 30 && !self.long;
            let rights = if top { rights } else { rights & entry };
            let leaf = shift == 12 || (!top && self.large && entry & LARGE != 0 && shift <= 30);
            if !leaf {
                let next = entry & self.address_mask() & !0xfff;
                if !self.table(next, shift - step, 1 << step, at, rights) {
                    return false;
                }
                continue;
            }
            self.pages += 1;
            if self.pages > MAX_PAGES {
                return false;
            }
            // A 4 MiB page's bit 21 is reserved, but part of what is shown.
            let low = if shift == 22 { 21 } else { shift };
            let mask = self.address_mask() & !((1 << low) - 1);
            (self.visit)(&Page { linear: at, size: 1 << shift, entry, rights, mask });
        }
        true
    }

    fn address_mask(&self) -> u64 {
        if self.entry == 4 { 0xffff_ffff } else { 0x3_ffff_ffff_ffff }
    }
}

/// Calls `visit` for every mapped page in the order of linear addresses; false: there are too many.
fn walk(state: &X86State, memory: &AddressSpace, visit: impl FnMut(&Page)) -> bool {
    let long = state.efer & efer::LMA != 0;
    let pae = state.cr4 & cr4::PAE != 0;
    let large = pae || state.cr4 & cr4::PSE != 0;
    let entry = if pae { 8 } else { 4 };
    let mut walker = Walker { memory, visit, pages: 0, entry, large, long };
    let rights = PRESENT | WRITABLE | USER;
    let page = state.cr3 & 0x3_ffff_ffff_f000;
    match (long, pae) {
        (true, _) if state.cr4 & cr4::LA57 != 0 => walker.table(page, 48, 512, 0, rights),
        (true, _) => walker.table(page, 39, 512, 0, rights),
        (false, true) => walker.table(state.cr3 & 0xffff_ffe0, 30, 4, 0, rights),
        (false, false) => walker.table(page & 0xffff_ffff, 22, 1024, 0, rights),
    }
}

/// The address as the processor spells it: sign-extended in long mode.
fn canonical(state: &X86State, linear: u64) -> u64 {
    if state.efer & efer::LMA == 0 {
        return linear;
    }
    let unused = if state.cr4 & cr4::LA57 != 0 { 7 } else { 16 };
    ((linear << unused).cast_signed() >> unused).cast_unsigned()
}

const CUT: &str = "(there are more pages than can be shown)\n";

/// `info tlb`: every page.
pub(crate) fn translations(state: &X86State, memory: &AddressSpace) -> String {
    if state.cr0 & cr0::PG == 0 {
        return "PG disabled\n".to_owned();
    }
    let mut out = String::new();
    let whole = walk(state, memory, |page| {
        let bit = |flag: u64, letter: char| if page.entry & flag != 0 { letter } else { '-' };
        // In the last level the bit is the page's memory type, and not shown.
        let large = if page.size > 0x1000 { bit(LARGE, 'P') } else { '-' };
        let _ = writeln!(
            out,
            "{:016x}: {:016x} {}{}{large}{}{}{}{}{}{}",
            canonical(state, page.linear),
            page.entry & page.mask,
            bit(NO_EXECUTE, 'X'),
            bit(GLOBAL, 'G'),
            bit(DIRTY, 'D'),
            bit(ACCESSED, 'A'),
            bit(CACHE_DISABLE, 'C'),
            bit(WRITE_THROUGH, 'T'),
            bit(USER, 'U'),
            bit(WRITABLE, 'W'),
        );
    });
    if !whole {
        out.push_str(CUT);
    }
    out
}

/// `info mem`: ranges of pages with equal rights.
pub(crate) fn mappings(state: &X86State, memory: &AddressSpace) -> String {
    if state.cr0 & cr0::PG == 0 {
        return "PG disabled\n".to_owned();
    }
    let mut out = String::new();
    let mut range: Option<(u64, u64, u64)> = None;
    let print = |out: &mut String, (start, end, rights): (u64, u64, u64)| {
        let bit = |flag: u64, letter: char| if rights & flag != 0 { letter } else { '-' };
        let _ = writeln!(
            out,
            "{:016x}-{:016x} {:016x} {}r{}",
            canonical(state, start),
            canonical(state, end),
            end - start,
            bit(USER, 'u'),
            bit(WRITABLE, 'w')
        );
    };
    let whole = walk(state, memory, |page| match &mut range {
        Some((_, end, rights)) if *end == page.linear && *rights == page.rights => *end += page.size,
        _ => {
            if let Some(done) = range.replace((page.linear, page.linear + page.size, page.rights)) {
                print(&mut out, done);
            }
        }
    });
    if let Some(last) = range {
        print(&mut out, last);
    }
    if !whole {
        out.push_str(CUT);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::{RamBlock, Region};

    fn memory() -> AddressSpace {
        let root = Region::whole("system");
        root.add(&Region::ram("ram", RamBlock::new("ram", 1 << 20).expect("ram")), 0);
        AddressSpace::memory("memory", &root)
    }

    #[test]
    fn four_level_tables_are_walked_and_ranges_joined() {
        let memory = memory();
        // PML4[511] -> PDPT[0] -> PD[0] -> PT[0..3], PD[1]: 2 MiB.
        memory.write_int(0x1000 + 511 * 8, 8, 0x2003);
        memory.write_int(0x2000, 8, 0x3003);
        memory.write_int(0x3000, 8, 0x4003);
        for (index, entry) in [0x1_0103, 0x2_0163, 0x3_0001].iter().enumerate() {
            memory.write_int(0x4000 + index as u64 * 8, 8, *entry);
        }
        memory.write_int(0x3008, 8, 0x8000_0000_0020_0087);
        let state =
            X86State { cr0: 0x8000_0001, cr3: 0x1000, cr4: 0x20, efer: efer::LMA, ..X86State::default() };
        assert_eq!(
            translations(&state, &memory),
            "ffffff8000000000: 0000000000010000 -G------W\n\
             ffffff8000001000: 0000000000020000 -G-DA---W\n\
             ffffff8000002000: 0000000000030000 ---------\n\
             ffffff8000200000: 0000000000200000 X-P----UW\n"
        );
        assert_eq!(
            mappings(&state, &memory),
            "ffffff8000000000-ffffff8000002000 0000000000002000 -rw\n\
             ffffff8000002000-ffffff8000003000 0000000000001000 -r-\n\
             ffffff8000200000-ffffff8000400000 0000000000200000 -rw\n"
        );
    }

    #[test]
    fn a_table_that_contains_itself_has_an_end() {
        let memory = memory();
        for index in 0..512 {
            memory.write_int(0x1000 + index * 8, 8, 0x1007);
        }
        let state =
            X86State { cr0: 0x8000_0001, cr3: 0x1000, cr4: 0x20, efer: efer::LMA, ..X86State::default() };
        assert!(mappings(&state, &memory).ends_with(CUT));
    }

    #[test]
    fn two_level_and_pae_tables() {
        let memory = memory();
        memory.write_int(0x1000 + 3 * 4, 4, 0x0040_0083);
        memory.write_int(0x1004, 4, 0x2007);
        memory.write_int(0x2000, 4, 0x5005);
        let mut state = X86State { cr0: 0x8000_0001, cr3: 0x1000, cr4: cr4::PSE, ..X86State::default() };
        assert_eq!(
            translations(&state, &memory),
            "0000000000400000: 0000000000005000 -------U-\n0000000000c00000: 0000000000400000 --P-----W\n"
        );
        memory.write_int(0x6018, 8, 0x7001);
        memory.write_int(0x7008, 8, 0x20_0083);
        (state.cr3, state.cr4) = (0x6000, cr4::PAE);
        assert_eq!(mappings(&state, &memory), "00000000c0200000-00000000c0400000 0000000000200000 -rw\n");
        assert_eq!(mappings(&X86State::default(), &memory), "PG disabled\n");
    }
}
