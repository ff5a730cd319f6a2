//! The TLB: for each of a few process-context identifiers a bank of cached translations.

use super::{INVALID, PAGE_MASK};

/// Entries of one set. With fewer, pages that are in use at the same time drive each other out.
pub(crate) const TLB_SIZE: usize = 4096;
/// Sets: user, supervisor, supervisor with AC.
pub(crate) const TLB_SETS: usize = 3;
/// Banks besides the present one.
const PARKED: usize = 7;
/// Fills after which a flush looks at every entry.
const FILLS: usize = 768;
/// The first linear address of the upper half, where systems have their global pages.
const TOP_HALF: u64 = 1 << 63;
/// Protected pages after which a parked bank loses all its write tags.
const PROTECTS: usize = 32;

/// A cached translation. A tag is the page's linear address, or what [`no_tag`] gives.
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
pub(crate) const CODE_SIZE: usize = 4096;
/// User and supervisor.
const CODE_SETS: usize = 2;

/// A page whose translated code may run. No data access drives it out.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CodePage {
    /// The page's linear address.
    pub(crate) page: u64,
    /// Its host address.
    host: u64,
    /// What the translator calls the two together, and the host page alone.
    pub(crate) ids: PageIds,
    _pad: u64,
}

/// What the translator calls a page of code; 0: no page.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PageIds {
    /// The page at a linear address.
    pub(crate) linear: u32,
    /// The page wherever it is.
    pub(crate) host: u32,
}

const NO_CODE: CodePage = CodePage { page: 0, host: 0, ids: PageIds { linear: 0, host: 0 }, _pad: 0 };

/// The tag in slot `slot` that no address which maps to the slot has in its upper bits, which alone generated code
/// compares. All but the first slot's are 0, so that entries never filled take no memory.
const fn no_tag(slot: usize) -> u64 {
    if slot.is_multiple_of(TLB_SIZE) { 0x1000 } else { 0 }
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

/// Entries of the second level.
const SECOND_SIZE: usize = 2048;
/// Entries of the first level that are noted together as used.
const CHUNK: usize = 16;
const CHUNKS: usize = TLB_SIZE * TLB_SETS / CHUNK;
const _: () = assert!(CHUNKS.is_multiple_of(8));

/// Bytes in which the chunks of one set are noted.
pub(crate) const TOUCHED_OF_SET: usize = TLB_SIZE / CHUNK;

/// An entry of the second level, which keeps what was driven out of the first.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct SecondEntry {
    /// The page's linear address and the set.
    pub(crate) key: u64,
    /// As it is in the first level.
    pub(crate) entry: TlbEntry,
    origin: Origin,
}

const NO_SECOND: SecondEntry =
    SecondEntry { key: INVALID, entry: EMPTY, origin: Origin { global: false, shift: 0 } };

/// What generated code multiplies page numbers with to find their entry of the second level.
pub(crate) const SECOND_FACTOR: u32 = 0x1e37_79b1;
/// How far the number of that entry is in the product.
pub(crate) const SECOND_RIGHT: u8 = 20;
/// Mask of that number.
pub(crate) const SECOND_MASK: u32 = SECOND_SIZE as u32 - 1;

/// The number of the entry of a set is that of set 0 xor the number of the set, shifted by this.
pub(crate) const SECOND_SHIFT: u32 = 9;

fn second_slot(set: u8, linear: u64) -> usize {
    let product = (linear >> 12).wrapping_mul(SECOND_FACTOR.into());
    ((product >> SECOND_RIGHT) as usize % SECOND_SIZE) ^ (usize::from(set) << SECOND_SHIFT)
}

/// A set of linear addresses of large pages, of which it may have too many, but none too few.
struct LargePages {
    bits: Box<[u64]>,
    /// Sizes that there are, by log2.
    shifts: u64,
}

impl LargePages {
    const BITS: usize = 1 << 16;

    fn new() -> Self {
        Self { bits: vec![0; Self::BITS / 64].into(), shifts: 0 }
    }

    fn bit(linear: u64, shift: u8) -> (usize, u64) {
        let n = ((linear >> shift).wrapping_mul(SECOND_FACTOR.into()) >> 13) as usize % Self::BITS;
        (n / 64, 1 << (n % 64))
    }

    fn insert(&mut self, linear: u64, shift: u8) {
        let (word, bit) = Self::bit(linear, shift);
        self.bits[word] |= bit;
        self.shifts |= 1 << (shift & 63);
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shifts) != 0 {
            self.bits.fill(0);
        }
    }

    fn may_contain(&self, linear: u64) -> bool {
        let mut shifts = self.shifts;
        while shifts != 0 {
            let shift = shifts.trailing_zeros() as u8;
            let (word, bit) = Self::bit(linear, shift);
            if self.bits[word] & bit != 0 {
                return true;
            }
            shifts &= shifts - 1;
        }
        false
    }
}

struct Bank {
    pcid: u16,
    /// Changes with everything that could make a linear address lead elsewhere.
    generation: u64,
    entries: Box<[TlbEntry]>,
    /// Chunks of `entries` that were filled since the last flush.
    touched: Box<[u8]>,
    second: Box<[SecondEntry]>,
    /// Slots of `second` filled since the last flush, when they are few.
    filled: Vec<u16>,
    code: Box<[CodePage]>,
    code_origins: Box<[Origin]>,
    /// As `filled`, for `code`.
    code_filled: Vec<u16>,
    large: LargePages,
    /// While parked: host pages whose write tags have to go.
    protects: Vec<u64>,
    /// When it was parked.
    parked: u64,
}

/// The first level with nothing in it.
fn no_entries() -> Box<[TlbEntry]> {
    // SAFETY: integers alone, for which zeroes are valid.
    let mut entries = unsafe { Box::<[TlbEntry]>::new_zeroed_slice(TLB_SIZE * TLB_SETS).assume_init() };
    for set in 0..TLB_SETS {
        entries[set * TLB_SIZE] = empty(set * TLB_SIZE);
    }
    entries
}

/// No pages of code; what is never filled takes no memory.
fn no_code() -> Box<[CodePage]> {
    // SAFETY: integers alone, for which zeroes are valid.
    unsafe { Box::<[CodePage]>::new_zeroed_slice(CODE_SIZE * CODE_SETS).assume_init() }
}

impl Bank {
    fn new(pcid: u16, generation: u64) -> Self {
        Self {
            pcid,
            generation,
            entries: no_entries(),
            touched: vec![0; CHUNKS].into(),
            second: vec![NO_SECOND; SECOND_SIZE].into(),
            filled: Vec::new(),
            code: no_code(),
            code_origins: vec![Origin::default(); CODE_SIZE * CODE_SETS].into(),
            code_filled: Vec::new(),
            large: LargePages::new(),
            protects: Vec::new(),
            parked: 0,
        }
    }

    /// Empties the first level; what is still good comes back from the second.
    fn flush_first(&mut self) {
        // Most are untouched: eight at once.
        for (group, eight) in self.touched.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            if *eight == [0; 8] {
                continue;
            }
            for (n, touched) in eight.iter_mut().enumerate() {
                let chunk = group * 8 + n;
                if std::mem::take(touched) != 0 {
                    for (slot, e) in (chunk * CHUNK..).zip(&mut self.entries[chunk * CHUNK..][..CHUNK]) {
                        *e = empty(slot);
                    }
                }
            }
        }
    }

    fn flush(&mut self, keep_global: bool) {
        self.flush_first();
        if keep_global && self.filled.len() < FILLS {
            for &slot in &self.filled {
                let e = &mut self.second[usize::from(slot)];
                if !e.origin.global {
                    e.key = INVALID;
                }
            }
        } else {
            for e in &mut self.second {
                if !(keep_global && e.origin.global) {
                    e.key = INVALID;
                }
            }
            if !keep_global {
                self.large.clear();
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
            let first = Tlb::slot(set, linear);
            self.entries[first] = empty(first);
            let e = &mut self.second[second_slot(set, linear)];
            if (e.key ^ linear) & PAGE_MASK == 0 && (!global_only || e.origin.global) {
                e.key = INVALID;
            }
        }
        for set in 0..CODE_SETS as u8 {
            let slot = Tlb::code_slot(set, linear);
            if !global_only || self.code_origins[slot].global {
                self.code[slot] = NO_CODE;
            }
        }
        if !self.large.may_contain(linear) {
            return;
        }
        let gone = |tag: u64, origin: &Origin| {
            origin.shift > 12 && (tag ^ linear) >> origin.shift == 0 && (origin.global || !global_only)
        };
        // The first level does not know which of its entries are parts of large pages.
        self.flush_first();
        for e in &mut self.second {
            if gone(e.key, &e.origin) {
                e.key = INVALID;
            }
        }
        for (e, origin) in self.code.iter_mut().zip(&self.code_origins) {
            if gone(e.page, origin) {
                *e = NO_CODE;
            }
        }
    }

    /// Brings a page back into the first level; false when it is not known.
    #[inline]
    fn promote(&mut self, set: u8, linear: u64) -> bool {
        let e = &self.second[second_slot(set, linear)];
        if e.key != linear & PAGE_MASK | u64::from(set) {
            return false;
        }
        let slot = Tlb::slot(set, linear);
        self.entries[slot] = e.entry;
        self.touched[slot / CHUNK] = 1;
        true
    }

    fn protect(&mut self, host: u64) {
        for (chunk, _) in self.touched.iter().enumerate().filter(|(_, touched)| **touched != 0) {
            for (slot, e) in (chunk * CHUNK..).zip(&mut self.entries[chunk * CHUNK..][..CHUNK]) {
                if e.host == host {
                    e.write = no_tag(slot);
                }
            }
        }
        for e in &mut self.second {
            if e.entry.host == host {
                e.entry.write = no_tag((e.key >> 12) as usize % TLB_SIZE);
            }
        }
    }

    fn protect_all(&mut self) {
        for (slot, e) in self.entries.iter_mut().enumerate() {
            e.write = no_tag(slot);
        }
        for e in &mut self.second {
            e.entry.write = no_tag((e.key >> 12) as usize % TLB_SIZE);
        }
    }
}

/// What went from the TLB, for those who keep copies of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Everything.
    All,
    /// All pages of a process context.
    Context(u16),
    /// A linear page of every process context.
    Page(u64),
    /// The right to write the page at a host address.
    Write(u64),
    /// The right to write any page.
    Writes,
}

/// Most entries of [`Tlb::dropped`]; beyond that it is everything.
const MOST_DROPPED: usize = 256;

/// All cached translations of one vCPU.
pub(crate) struct Tlb {
    bank: Bank,
    parked: Vec<Bank>,
    /// The last generation given out.
    last: u64,
    /// Changes whenever an entry was dropped or lost rights.
    epoch: u64,
    /// With the tiny TLB, the two slots that hold something.
    tiny: Option<[usize; 2]>,
    /// A global page of the lower half was entered since everything was dropped.
    low_global: bool,
    pub(crate) counts: TlbCounts,
    /// What went since somebody took note of it; `None` while nobody does.
    pub(crate) dropped: Option<Vec<Dropped>>,
}

/// What was done since the start.
#[derive(Clone, Copy, Default)]
pub(crate) struct TlbCounts {
    /// Page-table walks that entered a translation.
    pub(crate) fills: u64,
    /// Drops of a whole context, or of all.
    pub(crate) flushes: u64,
    /// Drops of one page.
    pub(crate) pages: u64,
}

impl Tlb {
    #[inline]
    fn note(&mut self, what: Dropped) {
        if let Some(list) = &mut self.dropped {
            if list.len() >= MOST_DROPPED {
                list.clear();
                list.push(Dropped::All);
            }
            if list.first() != Some(&Dropped::All) {
                list.push(what);
            }
        }
    }

    /// The process context at hand.
    pub(crate) fn pcid(&self) -> u16 {
        self.bank.pcid
    }

    pub(crate) fn new() -> Self {
        Self {
            bank: Bank::new(0, 1),
            parked: Vec::new(),
            last: 1,
            epoch: 0,
            tiny: None,
            low_global: false,
            counts: TlbCounts::default(),
            dropped: None,
        }
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
        (e.ids.linear != 0 && e.page == linear & PAGE_MASK).then_some(e.host | linear & !PAGE_MASK)
    }

    /// Lets translated code run in the page of `linear`, which [`Tlb::exec`] has just allowed; `id` is not 0, and its
    /// alone.
    pub(crate) fn fill_code(&mut self, set: u8, linear: u64, host: u64, ids: PageIds) {
        let slot = Self::code_slot(set, linear);
        let bank = &mut self.bank;
        bank.code[slot] = CodePage { page: linear & PAGE_MASK, host: host & PAGE_MASK, ids, _pad: 0 };
        let second = &bank.second[second_slot(set, linear)];
        let known = second.key == linear & PAGE_MASK | u64::from(set);
        // Unless more is known it may be part of the largest page, and goes with all that are not global.
        bank.code_origins[slot] = if known { second.origin } else { Origin { global: false, shift: 30 } };
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

    /// Whether only two translations are kept, for tests.
    pub(crate) fn set_tiny(&mut self, tiny: bool) {
        self.tiny = tiny.then_some([0, 1]);
    }

    /// Enters a translation of `linear` in `set`.
    pub(crate) fn fill(&mut self, set: u8, linear: u64, entry: TlbEntry, origin: Origin) {
        self.counts.fills += 1;
        self.low_global |= origin.global && linear < TOP_HALF;
        let bank = &mut self.bank;
        if origin.shift > 12 {
            bank.large.insert(linear, origin.shift);
        }
        let slot = Self::slot(set, linear);
        let tag = |t| if t == INVALID { no_tag(slot) } else { t };
        let entry =
            TlbEntry { read: tag(entry.read), write: tag(entry.write), exec: tag(entry.exec), ..entry };
        let second = second_slot(set, linear);
        bank.entries[slot] = entry;
        bank.touched[slot / CHUNK] = 1;
        if let Some([older, newer]) = self.tiny {
            if slot != newer && slot != older {
                bank.entries[older] = empty(older);
                self.epoch += 1;
            }
            self.tiny = Some(if slot == newer { [older, newer] } else { [newer, slot] });
            return;
        }
        bank.second[second] = SecondEntry { key: linear & PAGE_MASK | u64::from(set), entry, origin };
        if bank.filled.len() < FILLS {
            bank.filled.push(second as u16);
        }
    }

    /// Whether a page that was driven out is known, and back.
    #[inline]
    pub(crate) fn promote(&mut self, set: u8, linear: u64) -> bool {
        self.bank.promote(set, linear)
    }

    /// The second level, and where the chunks of `set` in the first are noted as used.
    pub(crate) fn second_of(&self, set: u8) -> (*const SecondEntry, *const u8) {
        (self.bank.second.as_ptr(), self.bank.touched[usize::from(set) * TOUCHED_OF_SET..].as_ptr())
    }

    /// Drops the present bank's translations, or all but those of global pages.
    pub(crate) fn flush(&mut self, keep_global: bool) {
        self.counts.flushes += 1;
        self.note(Dropped::Context(self.bank.pcid));
        self.bank.flush(keep_global);
        self.renew();
    }

    /// Drops everything of every bank.
    pub(crate) fn flush_all(&mut self) {
        self.note(Dropped::All);
        self.parked.clear();
        self.low_global = false;
        self.flush(false);
    }

    /// Drops all but global pages in every bank.
    pub(crate) fn flush_all_but_global(&mut self) {
        self.note(Dropped::All);
        self.parked.clear();
        self.flush(true);
    }

    /// Drops one page of the present bank, and of the others when it is global.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        self.counts.pages += 1;
        self.note(Dropped::Page(linear));
        self.bank.flush_page(linear, false);
        if linear >= TOP_HALF || self.low_global {
            for bank in &mut self.parked {
                bank.flush_page(linear, true);
                self.last += 1;
                bank.generation = self.last;
            }
        }
        self.renew();
    }

    /// Drops one page of process context `pcid`.
    pub(crate) fn flush_page_of(&mut self, pcid: u16, linear: u64) {
        self.counts.pages += 1;
        self.note(Dropped::Page(linear));
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
        self.note(Dropped::Context(pcid));
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
        self.note(Dropped::Write(host));
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
        self.note(Dropped::Writes);
        self.bank.protect_all();
        self.parked.iter_mut().for_each(Bank::protect_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_read(tlb: &mut Tlb, linear: u64) -> bool {
        tlb.read(1, linear, 4).is_some() || tlb.promote(1, linear) && tlb.read(1, linear, 4).is_some()
    }

    fn can_write(tlb: &mut Tlb, linear: u64) -> bool {
        tlb.write(1, linear, 4).is_some() || tlb.promote(1, linear) && tlb.write(1, linear, 4).is_some()
    }

    fn enter(tlb: &mut Tlb, linear: u64, global: bool, shift: u8) {
        let page = linear & PAGE_MASK;
        let entry = TlbEntry { read: page, write: page, exec: page, host: 0x7000_0000 + page };
        tlb.fill(1, linear, entry, Origin { global, shift });
    }

    #[test]
    fn contexts_keep_their_own_translations() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x1000, false, 12);
        tlb.switch(5);
        assert!(!can_read(&mut tlb, 0x1000));
        enter(&mut tlb, 0x2000, false, 12);
        tlb.switch(0);
        assert!(can_read(&mut tlb, 0x1000) && !can_read(&mut tlb, 0x2000));
        tlb.flush_context(5);
        tlb.switch(5);
        assert!(!can_read(&mut tlb, 0x2000));
        for pcid in 6..40 {
            tlb.switch(pcid);
            assert!(!can_read(&mut tlb, 0x1000));
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
        assert!(can_read(&mut tlb, 0x1000) && !can_read(&mut tlb, 0x2000));
        assert_ne!(tlb.generation(), generation);
        tlb.switch(1);
        tlb.flush_page(0x1000);
        tlb.switch(0);
        assert!(!can_read(&mut tlb, 0x1000));
    }

    #[test]
    fn what_is_driven_out_comes_back_until_it_is_flushed() {
        let mut tlb = Tlb::new();
        let other = 0x1000 + (TLB_SIZE as u64) * 0x1000;
        enter(&mut tlb, 0x1000, false, 12);
        enter(&mut tlb, other, false, 12);
        assert!(tlb.read(1, 0x1000, 4).is_none());
        assert!(tlb.promote(1, 0x1000) && tlb.read(1, 0x1000, 4).is_some());
        assert!(!tlb.promote(0, 0x1000) && !tlb.promote(2, 0x1000));
        tlb.flush_page(other);
        assert!(!can_read(&mut tlb, other) && can_read(&mut tlb, 0x1000));
        tlb.flush(true);
        assert!(!can_read(&mut tlb, 0x1000));
    }

    #[test]
    fn code_pages_go_with_their_translations() {
        let mut tlb = Tlb::new();
        for (linear, global) in [(0x1000, true), (0x2000, false), (0x3000, false)] {
            enter(&mut tlb, linear, global, 12);
            let host = tlb.exec(1, linear).expect("just entered");
            tlb.fill_code(1, linear, host, PageIds { linear: 1 + linear as u32, host: 1 });
        }
        assert_eq!(tlb.code(1, 0x2004), Some(0x7000_2004));
        tlb.flush_page(0x2000);
        assert_eq!((tlb.code(1, 0x2004), tlb.code(1, 0x3000)), (None, Some(0x7000_3000)));
        tlb.flush(true);
        assert_eq!((tlb.code(1, 0x1000), tlb.code(1, 0x3000)), (Some(0x7000_1000), None));
        assert_eq!(tlb.code(0, 0x1000), None);
    }

    #[test]
    fn a_large_page_goes_as_a_whole() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x20_1000, false, 21);
        enter(&mut tlb, 0x20_5000, false, 21);
        enter(&mut tlb, 0x40_5000, false, 21);
        tlb.flush_page(0x20_0000);
        assert!(!can_read(&mut tlb, 0x20_1000) && !can_read(&mut tlb, 0x20_5000));
        assert!(can_read(&mut tlb, 0x40_5000));
    }

    #[test]
    fn protected_pages_lose_their_write_tags_in_every_context() {
        let mut tlb = Tlb::new();
        enter(&mut tlb, 0x1000, false, 12);
        tlb.switch(1);
        enter(&mut tlb, 0x1000, false, 12);
        tlb.protect(0x7000_1000);
        assert!(!can_write(&mut tlb, 0x1000) && can_read(&mut tlb, 0x1000));
        tlb.switch(0);
        assert!(!can_write(&mut tlb, 0x1000) && can_read(&mut tlb, 0x1000));
    }
}
