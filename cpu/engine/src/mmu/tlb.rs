//! The TLB: for each of a few process-context identifiers a bank of cached translations.

use super::{INVALID, PAGE_MASK};

/// Entries of one set.
pub(crate) const TLB_SIZE: usize = 1024;
/// Sets: user, supervisor, supervisor with AC.
pub(crate) const TLB_SETS: usize = 3;
/// Banks besides the present one.
const PARKED: usize = 7;
/// Fills after which a flush looks at every entry.
const FILLS: usize = 768;
/// Protected pages after which a parked bank loses all its write tags.
const PROTECTS: usize = 32;

/// A cached translation. A tag is the page's linear address, or [`INVALID`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TlbEntry {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) exec: u64,
    /// Host address of the page.
    pub(crate) host: u64,
}

pub(crate) const EMPTY: TlbEntry = TlbEntry { read: INVALID, write: INVALID, exec: INVALID, host: 0 };

/// Entries for code of one privilege.
pub(crate) const CODE_SIZE: usize = 512;
/// User and supervisor.
const CODE_SETS: usize = 2;

/// A page whose translated code may run. No data access drives it out.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CodePage {
    /// The page's linear address, or [`INVALID`].
    pub(crate) page: u64,
    /// Its host address.
    pub(crate) host: u64,
}

const NO_CODE: CodePage = CodePage { page: INVALID, host: 0 };

/// The tag in slot `slot` that no address which maps to the slot has in its upper bits. Generated code compares the
/// upper 52 bits alone, so [`INVALID`] will not do for the topmost page's slot.
const fn no_tag(slot: usize) -> u64 {
    if slot % TLB_SIZE == TLB_SIZE - 1 { 0 } else { INVALID }
}

const fn empty(slot: usize) -> TlbEntry {
    let tag = no_tag(slot);
    TlbEntry { read: tag, write: tag, exec: tag, host: 0 }
}

/// What is known of the page that an entry came from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) global: bool,
    /// log2 of the page's bytes.
    pub(crate) shift: u8,
}

struct Bank {
    pcid: u16,
    /// Changes with everything that could make a linear address lead elsewhere.
    generation: u64,
    entries: Box<[TlbEntry]>,
    origins: Box<[Origin]>,
    /// Slots filled since the last flush, when they are few.
    filled: Vec<u16>,
    code: Box<[CodePage]>,
    code_origins: Box<[Origin]>,
    /// As `filled`, for `code`.
    code_filled: Vec<u16>,
    /// Linear addresses of large pages lie between these.
    large: (u64, u64),
    /// While parked: host pages whose write tags have to go.
    protects: Vec<u64>,
    /// When it was parked.
    parked: u64,
}

impl Bank {
    fn new(pcid: u16, generation: u64) -> Self {
        Self {
            pcid,
            generation,
            entries: (0..TLB_SIZE * TLB_SETS).map(empty).collect(),
            origins: vec![Origin::default(); TLB_SIZE * TLB_SETS].into(),
            filled: Vec::new(),
            code: vec![NO_CODE; CODE_SIZE * CODE_SETS].into(),
            code_origins: vec![Origin::default(); CODE_SIZE * CODE_SETS].into(),
            code_filled: Vec::new(),
            large: (u64::MAX, 0),
            protects: Vec::new(),
            parked: 0,
        }
    }

    fn flush(&mut self, keep_global: bool) {
        if keep_global && self.filled.len() < FILLS {
            for &slot in &self.filled {
                if !self.origins[usize::from(slot)].global {
                    self.entries[usize::from(slot)] = empty(slot.into());
                }
            }
        } else {
            for (slot, (e, origin)) in self.entries.iter_mut().zip(&self.origins).enumerate() {
                if !(keep_global && origin.global) {
                    *e = empty(slot);
                }
            }
            if !keep_global {
                self.large = (u64::MAX, 0);
            }
        }
        self.filled.clear();
        if keep_global && self.code_filled.len() < FILLS {
            for &slot in &self.code_filled {
                if !self.code_origins[usize::from(slot)].global {
                    self.code[usize::from(slot)] = NO_CODE;
                }
            }
        } else {
            for (e, origin) in self.code.iter_mut().zip(&self.code_origins) {
                if !(keep_global && origin.global) {
                    *e = NO_CODE;
                }
            }
        }
        self.code_filled.clear();
    }

    fn flush_page(&mut self, linear: u64, global_only: bool) {
        for set in 0..TLB_SETS as u8 {
            let slot = Tlb::slot(set, linear);
            if !global_only || self.origins[slot].global {
                self.entries[slot] = empty(slot);
            }
        }
        for set in 0..CODE_SETS as u8 {
            let slot = Tlb::code_slot(set, linear);
            if !global_only || self.code_origins[slot].global {
                self.code[slot] = NO_CODE;
            }
        }
        if linear < self.large.0 || linear > self.large.1 {
            return;
        }
        for (e, origin) in self.code.iter_mut().zip(&self.code_origins) {
            if origin.shift > 12 && (e.page ^ linear) >> origin.shift == 0 && (origin.global || !global_only)
            {
                *e = NO_CODE;
            }
        }
        for (slot, (e, origin)) in self.entries.iter_mut().zip(&self.origins).enumerate() {
            let tag = [e.read, e.write, e.exec].into_iter().find(|&t| t != no_tag(slot));
            if let Some(tag) = tag
                && origin.shift > 12
                && (tag ^ linear) >> origin.shift == 0
                && (origin.global || !global_only)
            {
                *e = empty(slot);
            }
        }
    }

    fn protect(&mut self, host: u64) {
        for (slot, e) in self.entries.iter_mut().enumerate() {
            if e.write != no_tag(slot) && e.host == host {
                e.write = no_tag(slot);
            }
        }
    }

    fn protect_all(&mut self) {
        for (slot, e) in self.entries.iter_mut().enumerate() {
            e.write = no_tag(slot);
        }
    }
}

/// All cached translations of one vCPU.
pub(crate) struct Tlb {
    bank: Bank,
    parked: Vec<Bank>,
    /// The last generation given out.
    last: u64,
    /// Changes whenever an entry was dropped or lost rights.
    epoch: u64,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Self { bank: Bank::new(0, 1), parked: Vec::new(), last: 1, epoch: 0 }
    }

    #[inline(always)]
    pub(crate) fn slot(set: u8, linear: u64) -> usize {
        set as usize * TLB_SIZE + (linear >> 12) as usize % TLB_SIZE
    }

    /// The host address of `size` bytes at `linear` when the TLB allows reading them.
    #[inline(always)]
    pub(crate) fn read(&self, set: u8, linear: u64, size: u64) -> Option<*mut u8> {
        // SAFETY: set < TLB_SETS, so the slot is in range.
        let e = unsafe { self.bank.entries.get_unchecked(Self::slot(set, linear)) };
        (e.read == linear.wrapping_add(size - 1) & PAGE_MASK && e.read == linear & PAGE_MASK)
            .then_some((e.host | linear & !PAGE_MASK) as *mut u8)
    }

    /// As [`Tlb::read`], for writing.
    #[inline(always)]
    pub(crate) fn write(&self, set: u8, linear: u64, size: u64) -> Option<*mut u8> {
        // SAFETY: as in `read`.
        let e = unsafe { self.bank.entries.get_unchecked(Self::slot(set, linear)) };
        (e.write == linear.wrapping_add(size - 1) & PAGE_MASK && e.write == linear & PAGE_MASK)
            .then_some((e.host | linear & !PAGE_MASK) as *mut u8)
    }

    /// The host address of code at `linear`, when the TLB allows executing it.
    #[inline(always)]
    pub(crate) fn exec(&self, set: u8, linear: u64) -> Option<u64> {
        // SAFETY: as in `read`.
        let e = unsafe { self.bank.entries.get_unchecked(Self::slot(set, linear)) };
        (e.exec == linear & PAGE_MASK).then_some(e.host | linear & !PAGE_MASK)
    }

    /// The present entries of one set.
    pub(crate) fn entries_of(&self, set: u8) -> *const TlbEntry {
        self.bank.entries[usize::from(set) * TLB_SIZE..].as_ptr()
    }

    #[inline(always)]
    fn code_slot(set: u8, linear: u64) -> usize {
        usize::from(set) * CODE_SIZE + (linear >> 12) as usize % CODE_SIZE
    }

    /// The present pages of code of user (0) or supervisor (1).
    pub(crate) fn code_of(&self, set: u8) -> *const CodePage {
        self.bank.code[usize::from(set) * CODE_SIZE..].as_ptr()
    }

    /// The host address of translated code at `linear`, when its page was entered by [`Tlb::fill_code`].
    #[inline(always)]
    pub(crate) fn code(&self, set: u8, linear: u64) -> Option<u64> {
        let e = &self.bank.code[Self::code_slot(set, linear)];
        (e.page == linear & PAGE_MASK).then_some(e.host | linear & !PAGE_MASK)
    }

    /// Lets translated code run in the page of `linear`, which [`Tlb::exec`] has just allowed.
    pub(crate) fn fill_code(&mut self, set: u8, linear: u64, host: u64) {
        let slot = Self::code_slot(set, linear);
        let bank = &mut self.bank;
        bank.code[slot] = CodePage { page: linear & PAGE_MASK, host: host & PAGE_MASK };
        bank.code_origins[slot] = bank.origins[Self::slot(set, linear)];
        if bank.code_filled.len() < FILLS {
            bank.code_filled.push(slot as u16);
        }
    }

    /// A number that changes whenever an entry of [`Tlb::entries_of`] was dropped or lost rights.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A number that changes whenever a linear address could lead elsewhere than before.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.bank.generation
    }

    fn renew(&mut self) {
        self.last += 1;
        self.bank.generation = self.last;
        self.epoch += 1;
    }

    /// Enters a translation.
    pub(crate) fn fill(&mut self, slot: usize, entry: TlbEntry, origin: Origin) {
        let bank = &mut self.bank;
        if origin.shift > 12
            && let Some(tag) = [entry.read, entry.write, entry.exec].into_iter().find(|&t| t != INVALID)
        {
            let low = (1u64 << origin.shift) - 1;
            bank.large = (bank.large.0.min(tag & !low), bank.large.1.max(tag | low));
        }
        let tag = |t| if t == INVALID { no_tag(slot) } else { t };
        bank.entries[slot] =
            TlbEntry { read: tag(entry.read), write: tag(entry.write), exec: tag(entry.exec), ..entry };
        bank.origins[slot] = origin;
        if bank.filled.len() < FILLS {
            bank.filled.push(slot as u16);
        }
    }

    /// Drops the present bank's translations, or all but those of global pages.
    pub(crate) fn flush(&mut self, keep_global: bool) {
        self.bank.flush(keep_global);
        self.renew();
    }

    /// Drops everything of every bank.
    pub(crate) fn flush_all(&mut self) {
        self.parked.clear();
        self.flush(false);
    }

    /// Drops all but global pages in every bank.
    pub(crate) fn flush_all_but_global(&mut self) {
        self.parked.clear();
        self.flush(true);
    }

    /// Drops one page of the present bank, and of the others when it is global.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        self.bank.flush_page(linear, false);
        for bank in &mut self.parked {
            bank.flush_page(linear, true);
            self.last += 1;
            bank.generation = self.last;
        }
        self.renew();
    }

    /// Drops one page of process context `pcid`.
    pub(crate) fn flush_page_of(&mut self, pcid: u16, linear: u64) {
        if self.bank.pcid == pcid {
            self.bank.flush_page(linear, false);
            return self.renew();
        }
        for bank in self.parked.iter_mut().filter(|b| b.pcid == pcid) {
            bank.flush_page(linear, false);
            self.last += 1;
            bank.generation = self.last;
        }
    }

    /// Drops all but the global pages of process context `pcid`.
    pub(crate) fn flush_context(&mut self, pcid: u16) {
        if self.bank.pcid == pcid {
            return self.flush(true);
        }
        self.parked.retain(|b| b.pcid != pcid);
    }

    /// Goes to process context `pcid`.
    pub(crate) fn switch(&mut self, pcid: u16) {
        if self.bank.pcid == pcid {
            return;
        }
        let next = match self.parked.iter().position(|b| b.pcid == pcid) {
            Some(n) => self.parked.swap_remove(n),
            None if self.parked.len() < PARKED => {
                self.last += 1;
                Bank::new(pcid, self.last)
            }
            None => {
                let oldest = (0..self.parked.len()).min_by_key(|&n| self.parked[n].parked).unwrap_or(0);
                let mut bank = self.parked.swap_remove(oldest);
                bank.flush(false);
                self.last += 1;
                bank.generation = self.last;
                bank.pcid = pcid;
                bank.protects.clear();
                bank
            }
        };
        self.epoch += 1;
        let mut old = std::mem::replace(&mut self.bank, next);
        self.last += 1;
        old.parked = self.last;
        self.parked.push(old);
        let protects = std::mem::take(&mut self.bank.protects);
        if protects.len() > PROTECTS {
            self.bank.protect_all();
        } else {
            protects.into_iter().for_each(|host| self.bank.protect(host));
        }
    }

    /// Takes the write tags off the page at host address `host`.
    pub(crate) fn protect(&mut self, host: u64) {
        self.epoch += 1;
        self.bank.protect(host);
        for bank in &mut self.parked {
            if bank.protects.len() <= PROTECTS {
                bank.protects.push(host);
            }
        }
    }

    /// Takes all write tags off.
    pub(crate) fn protect_all(&mut self) {
        self.epoch += 1;
        self.bank.protect_all();
        self.parked.iter_mut().for_each(Bank::protect_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(tlb: &mut Tlb, linear: u64, global: bool, shift: u8) {
        let page = linear & PAGE_MASK;
        let entry = TlbEntry { read: page, write: page, exec: page, host: 0x7000_0000 + page };
        tlb.fill(Tlb::slot(1, linear), entry, Origin { global, shift });
    }

    #[test]
    fn contexts_keep_their_own_translations() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x1000, false, 12);
        tlb.switch(5);
        assert!(tlb.read(1, 0x1000, 4).is_none());
        enter(&mut tlb, 0x2000, false, 12);
        tlb.switch(0);
        assert!(tlb.read(1, 0x1000, 4).is_some() && tlb.read(1, 0x2000, 4).is_none());
        tlb.flush_context(5);
        tlb.switch(5);
        assert!(tlb.read(1, 0x2000, 4).is_none());
        for pcid in 6..40 {
            tlb.switch(pcid);
            assert!(tlb.read(1, 0x1000, 4).is_none());
            enter(&mut tlb, 0x1000, false, 12);
        }
        assert_eq!(tlb.parked.len(), PARKED);
    }

    #[test]
    fn a_flush_keeps_global_pages_and_one_of_a_page_does_not() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x1000, true, 12);
        enter(&mut tlb, 0x2000, false, 12);
        let generation = tlb.generation();
        tlb.flush(true);
        assert!(tlb.read(1, 0x1000, 4).is_some() && tlb.read(1, 0x2000, 4).is_none());
        assert_ne!(tlb.generation(), generation);
        tlb.switch(1);
        tlb.flush_page(0x1000);
        tlb.switch(0);
        assert!(tlb.read(1, 0x1000, 4).is_none());
    }

    #[test]
    fn a_large_page_goes_as_a_whole() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x20_1000, false, 21);
        enter(&mut tlb, 0x20_5000, false, 21);
        enter(&mut tlb, 0x40_5000, false, 21);
        tlb.flush_page(0x20_0000);
        assert!(tlb.read(1, 0x20_1000, 4).is_none() && tlb.read(1, 0x20_5000, 4).is_none());
        assert!(tlb.read(1, 0x40_5000, 4).is_some());
    }

    #[test]
    fn protected_pages_lose_their_write_tags_in_every_context() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x1000, false, 12);
        tlb.switch(1);
        enter(&mut tlb, 0x1000, false, 12);
        tlb.protect(0x7000_1000);
        assert!(tlb.write(1, 0x1000, 4).is_none() && tlb.read(1, 0x1000, 4).is_some());
        tlb.switch(0);
        assert!(tlb.write(1, 0x1000, 4).is_none() && tlb.read(1, 0x1000, 4).is_some());
    }
}
