//! The page-table walk (SDM vol. 3, chapter 4).

use super::tlb::Origin;
use super::{Access, PAGE_MASK};
use crate::cpu::Cpu;
use crate::fault::Fault;
use guestmem::PAGE_SIZE;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use x86::reg::{cr0, cr4, efer, vector};

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = 1 << 63;
/// The protection key of an entry that maps a page.
const KEY: u64 = 15 << 59;
/// Address bits of an entry; those above the processor's physical width are reserved.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a walk found.
struct Leaf {
    physical: u64,
    /// RW and US of all levels, NX of any, and the protection key.
    rights: u64,
    global: bool,
    accessed: bool,
    dirty: bool,
    /// log2 of the page's bytes.
    shift: u8,
}

/// What [`Cpu::look`] has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Host address of the 4 KiB page.
    pub(crate) host: u64,
    pub(crate) write: bool,
    pub(crate) shift: u8,
}

/// A page table of the last level, in 64-bit mode.
pub(crate) struct LeafTable {
    /// Its first linear address.
    region: u64,
    table: u64,
    /// RW and US of the levels above, NX of any.
    rights: u64,
}

impl LeafTable {
    /// Bytes that it maps.
    pub(crate) const BYTES: u64 = 1 << 21;

    pub(crate) fn covers(&self, linear: u64) -> bool {
        self.region == linear & !(Self::BYTES - 1)
    }
}

impl Cpu {
    pub(crate) fn canonical(&self, linear: u64) -> bool {
        let shift = if self.state.cr4 & cr4::LA57 != 0 { 7 } else { 16 };
        ((linear << shift) as i64 >> shift) as u64 == linear
    }

    /// A page fault at `linear`.
    fn page_fault(&mut self, linear: u64, code: u16, quiet: bool) -> Fault {
        if !quiet {
            self.state.cr2 = linear;
        }
        Fault::new(vector::PF, code)
    }

    #[inline]
    fn entry(&self, at: u64, wide: bool) -> u64 {
        let at = at & self.a20;
        let size = if wide { 8 } else { 4 };
        let Some(r) = self.ram.find(at) else { return self.io.mmio_read(at, size) };
        let host = r.host + (at - r.start);
        if !wide || host & 7 != 0 || r.last - at < 7 {
            return r.block.read_int(r.offset + (at - r.start), size);
        }
        // SAFETY: an aligned u64 within a live RAM block; concurrent access is atomic.
        unsafe { AtomicU64::from_ptr(host as *mut u64) }.load(Ordering::Acquire)
    }

    /// Sets bits in a page-table entry that still reads `old`; false when it changed meanwhile.
    fn set_bits(&self, at: u64, wide: bool, old: u64, bits: u64) -> bool {
        let at = at & self.a20;
        let Some(r) = self.ram.find(at).filter(|r| !r.readonly) else { return true };
        let host = r.host + (at - r.start);
        let done = if wide {
            // SAFETY: an aligned u64 within a live RAM block; concurrent access is atomic.
            unsafe { AtomicU64::from_ptr(host as *mut u64) }
                .compare_exchange(old, old | bits, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        } else {
            // SAFETY: as above, with a u32.
            unsafe { AtomicU32::from_ptr(host as *mut u32) }
                .compare_exchange(old as u32, (old | bits) as u32, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        r.block.note_write(r.offset + (at - r.start), 8);
        done
    }

    /// Walks the tables. `quiet`: change nothing (no A/D bits, no CR2).
    fn walk(&mut self, linear: u64, access: Access, set: u8, quiet: bool) -> Result<Leaf, Fault> {
        loop {
            if let Some(leaf) = self.walk_once(linear, access, set, quiet)? {
                return Ok(leaf);
            }
        }
    }

    fn walk_once(
        &mut self,
        linear: u64,
        access: Access,
        set: u8,
        quiet: bool,
    ) -> Result<Option<Leaf>, Fault> {
        let s = &self.state;
        let phys = self.phys_mask;
        let (control0, control4, features) = (s.cr0, s.cr4, s.efer);
        if control0 & cr0::PG == 0 {
            return Ok(Some(Leaf {
                physical: linear,
                rights: RW | US,
                global: false,
                accessed: true,
                dirty: true,
                shift: 12,
            }));
        }
        let nxe = features & efer::NXE != 0;
        let pae = control4 & cr4::PAE != 0;
        let user = set == 0;
        let mut code = u16::from(access == Access::Write) << 1 | u16::from(user) << 2;
        if access == Access::Exec && (nxe && pae || control4 & cr4::SMEP != 0) {
            code |= 16;
        }
        let long = features & efer::LMA != 0;
        let (mut table, mut level, bits) = match (long, pae) {
            (true, _) => (s.cr3 & phys & PAGE_MASK, if control4 & cr4::LA57 != 0 { 5 } else { 4 }, 9),
            (_, true) => {
                let pdpte = s.pdptr[(linear >> 30 & 3) as usize];
                if pdpte & P == 0 {
                    return Err(self.page_fault(linear, code, quiet));
                }
                (pdpte & phys & PAGE_MASK, 2, 9)
            }
            _ => (s.cr3 & 0xffff_f000, 2, 10),
        };
        let wide = pae || long;
        let mut rights = RW | US;
        loop {
            let shift = 12 + bits * (level - 1);
            let index = linear >> shift & ((1 << bits) - 1);
            let at = table + index * if wide { 8 } else { 4 };
            let entry = self.entry(at, wide);
            if entry & P == 0 {
                return Err(self.page_fault(linear, code, quiet));
            }
            let large =
                level > 1 && entry & PS != 0 && (if wide { level <= 3 } else { control4 & cr4::PSE != 0 });
            let mut bad = false;
            if wide {
                bad |= entry & ADDRESS & !phys != 0 || entry & NX != 0 && !nxe;
                bad |= entry & PS != 0 && (level >= 4 || level == 3 && !self.pages_1g);
                bad |= large && entry & ((1 << shift) - 1) & !0x1fff != 0;
                bad |= !long && entry & 0x7ff0_0000_0000_0000 != 0;
            } else if large {
                bad = entry & (1 << 21) != 0;
            }
            if bad {
                return Err(self.page_fault(linear, code | 9, quiet));
            }
            rights = rights & (entry | !(RW | US)) | entry & NX;
            if level > 1 && !large {
                if !quiet && entry & A == 0 && !self.set_bits(at, wide, entry, A) {
                    return Ok(None);
                }
                table = entry & if wide { phys & PAGE_MASK } else { 0xffff_f000 };
                level -= 1;
                continue;
            }
            rights |= entry & KEY;
            if !self.allowed(rights, access, set) {
                let key = u16::from(self.key_forbids(rights, access, set)) << 5;
                return Err(self.page_fault(linear, code | 1 | key, quiet));
            }
            let need = A | if access == Access::Write { D } else { 0 };
            if !quiet && entry & need != need && !self.set_bits(at, wide, entry, need) {
                return Ok(None);
            }
            let low = (1u64 << shift) - 1;
            let mut frame = entry & if wide { phys & PAGE_MASK } else { 0xffff_f000 } & !low;
            if !wide && large {
                frame |= (entry >> 13 & 0xff) << 32;
            }
            return Ok(Some(Leaf {
                physical: (frame | linear & low) & phys,
                rights,
                global: entry & G != 0 && control4 & cr4::PGE != 0,
                accessed: entry & A != 0 || !quiet,
                dirty: entry & D != 0 || need & D != 0,
                shift: shift as u8,
            }));
        }
    }

    /// Whether `rights` of a page allow `access` in TLB set `set`.
    fn allowed(&self, rights: u64, access: Access, set: u8) -> bool {
        let user_page = rights & US != 0;
        let (c0, c4) = (self.state.cr0, self.state.cr4);
        if set == 0 && !user_page || self.key_forbids(rights, access, set) {
            return false;
        }
        match access {
            Access::Exec => rights & NX == 0 && !(set != 0 && user_page && c4 & cr4::SMEP != 0),
            _ if set == 1 && user_page && c4 & cr4::SMAP != 0 => false,
            Access::Read => true,
            Access::Write => rights & RW != 0 || set != 0 && c0 & cr0::WP == 0,
        }
    }

    /// Whether the page's protection key forbids a data access (SDM vol. 3, 4.6.2).
    fn key_forbids(&self, rights: u64, access: Access, set: u8) -> bool {
        let s = &self.state;
        if s.cr4 & cr4::PKE == 0 || !self.lma() || rights & US == 0 || access == Access::Exec {
            return false;
        }
        let key = s.pkru >> (2 * ((rights & KEY) >> 59));
        key & 1 != 0 || key & 2 != 0 && access == Access::Write && (set == 0 || s.cr0 & cr0::WP != 0)
    }

    /// Translates and fills the TLB: the physical address (A20 applied).
    pub(crate) fn fill(&mut self, linear: u64, access: Access, set: u8) -> Result<u64, Fault> {
        if self.lma() && !self.canonical(linear) {
            return Err(Fault::noncanonical());
        }
        let leaf = self.walk(linear, access, set, false)?;
        let physical = leaf.physical & self.a20;
        let page = linear & PAGE_MASK;
        let mut e = super::tlb::EMPTY;
        let frame = physical & PAGE_MASK;
        if let Some(r) = self.ram.find(frame)
            && r.start <= frame
            && r.last - frame >= PAGE_SIZE - 1
            && (r.host + (frame - r.start)).is_multiple_of(PAGE_SIZE)
        {
            e.host = r.host + (frame - r.start);
            r.block.settle(r.offset + (frame - r.start));
            // Accesses to pages with data breakpoints, and all under alignment checks, take the slow path.
            let slow = self.is_watched(page)
                || self.debugger.is_active && self.has_watchpoint(page)
                || self.aligned && set == 0;
            if !slow && self.allowed(leaf.rights, Access::Read, set) {
                e.read = page;
            }
            if self.allowed(leaf.rights, Access::Exec, set) {
                e.exec = page;
            }
            if !slow
                && leaf.dirty
                && !r.readonly
                && self.allowed(leaf.rights, Access::Write, set)
                && !r.block.holds_code((r.offset + (frame - r.start)) / PAGE_SIZE)
            {
                e.write = page;
            }
        }
        self.tlb.fill(set, linear, e, Origin { global: leaf.global, shift: leaf.shift });
        Ok(physical)
    }

    /// Translates without side effects.
    pub(crate) fn translate_quietly(&mut self, linear: u64) -> Option<u64> {
        if self.lma() && !self.canonical(linear) {
            return None;
        }
        self.walk(linear, Access::Read, 2, true).ok().map(|leaf| leaf.physical & self.a20)
    }

    /// The last table for `linear` without side effects; `None` when there is none, and for large pages.
    pub(crate) fn leaf_table(&self, linear: u64) -> Option<LeafTable> {
        let s = &self.state;
        let phys = self.phys_mask;
        let mut table = s.cr3 & phys & PAGE_MASK;
        let mut rights = RW | US;
        for level in (1..if s.cr4 & cr4::LA57 != 0 { 5 } else { 4 }).rev() {
            let entry = self.entry(table + (linear >> (12 + 9 * level) & 511) * 8, true);
            let bad = entry & ADDRESS & !phys != 0 || entry & NX != 0 && s.efer & efer::NXE == 0;
            if entry & P == 0 || entry & PS != 0 || bad {
                return None;
            }
            rights = rights & (entry | !(RW | US)) | entry & NX;
            table = entry & phys & PAGE_MASK;
        }
        (s.efer & efer::LMA != 0 && s.cr0 & cr0::PG != 0).then_some(LeafTable {
            region: linear & !(LeafTable::BYTES - 1),
            table,
            rights,
        })
    }

    /// As [`Cpu::look`], with the last table for `linear` at hand.
    pub(crate) fn look_in(&self, table: &LeafTable, linear: u64) -> Option<Seen> {
        let entry = self.entry(table.table + (linear >> 12 & 511) * 8, true);
        let bad =
            entry & ADDRESS & !self.phys_mask != 0 || entry & NX != 0 && self.state.efer & efer::NXE == 0;
        if entry & (P | A) != P | A || bad {
            return None;
        }
        let rights = table.rights & (entry | !(RW | US)) | entry & (NX | KEY);
        let allowed = self.allowed(rights, Access::Read, 0);
        allowed.then(|| self.seen(entry & self.phys_mask & PAGE_MASK, rights, entry & D != 0, 12))?
    }

    /// A page of user space as it is mapped now, without side effects: one that was accessed before, and is RAM. Gives
    /// its host address, whether it can be written without further ado, and log2 of the bytes of the page in the
    /// tables.
    pub(crate) fn look(&mut self, linear: u64) -> Option<Seen> {
        let leaf = self.walk(linear, Access::Read, 0, true).ok().filter(|leaf| leaf.accessed)?;
        self.seen(leaf.physical, leaf.rights, leaf.dirty, leaf.shift)
    }

    fn seen(&self, physical: u64, rights: u64, dirty: bool, shift: u8) -> Option<Seen> {
        let frame = physical & self.a20 & PAGE_MASK;
        let r = self.ram.find(frame).filter(|r| r.start <= frame && r.last - frame >= PAGE_SIZE - 1)?;
        let host = r.host + (frame - r.start);
        let code = r.block.holds_code((r.offset + (frame - r.start)) / PAGE_SIZE);
        let write = dirty && !r.readonly && !code && self.allowed(rights, Access::Write, 0);
        host.is_multiple_of(PAGE_SIZE).then_some(Seen { host, write, shift })
    }

    /// Loads the four PAE pointers; #GP(0) for reserved bits.
    pub(crate) fn load_pdptrs(&mut self, cr3: u64) -> Result<(), Fault> {
        let mut pdptr = [0; 4];
        for (n, p) in pdptr.iter_mut().enumerate() {
            *p = self.entry((cr3 & 0xffff_ffe0) + 8 * n as u64, true);
            if *p & P != 0 && *p & (!self.phys_mask | 0x1e6) != 0 {
                return Err(Fault::gp(0));
            }
        }
        self.state.pdptr = pdptr;
        Ok(())
    }
}
