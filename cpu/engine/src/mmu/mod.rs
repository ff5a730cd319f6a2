//! Linear to physical to host: the TLB, the page-table walk and physical accesses.

mod access;

mod walk;

pub(crate) use access::{Word, get, put};
use guestmem::{FlatView, RamBlock, Target};
use std::sync::Arc;

/// Entries of one set.
pub(crate) const TLB_SIZE: usize = 1024;
/// Sets: user, supervisor, supervisor with AC.
pub(crate) const TLB_SETS: usize = 3;
/// A tag that no page address equals.
const INVALID: u64 = u64::MAX;
const PAGE_MASK: u64 = !0xfff;

/// A cached translation. A tag is the page's linear address, or [`INVALID`]; host address = linear + addend.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TlbEntry {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) exec: u64,
    pub(crate) addend: u64,
}

const EMPTY: TlbEntry = TlbEntry { read: INVALID, write: INVALID, exec: INVALID, addend: 0 };

pub(crate) struct Tlb {
    pub(crate) entries: Box<[TlbEntry]>,
    /// Whether the entry came from a global page.
    global: Box<[bool]>,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![EMPTY; TLB_SIZE * TLB_SETS].into(),
            global: vec![false; TLB_SIZE * TLB_SETS].into(),
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
        let e = unsafe { self.entries.get_unchecked(Self::slot(set, linear)) };
        (e.read == linear.wrapping_add(size - 1) & PAGE_MASK && e.read == linear & PAGE_MASK)
            .then(|| linear.wrapping_add(e.addend) as *mut u8)
    }

    /// As [`Tlb::read`], for writing.
    #[inline(always)]
    pub(crate) fn write(&self, set: u8, linear: u64, size: u64) -> Option<*mut u8> {
        // SAFETY: as in `read`.
        let e = unsafe { self.entries.get_unchecked(Self::slot(set, linear)) };
        (e.write == linear.wrapping_add(size - 1) & PAGE_MASK)
            .then(|| linear.wrapping_add(e.addend) as *mut u8)
    }

    /// Drops everything, or everything but global pages.
    pub(crate) fn flush(&mut self, keep_global: bool) {
        for (e, g) in self.entries.iter_mut().zip(&self.global) {
            if !(keep_global && *g) {
                *e = EMPTY;
            }
        }
    }

    /// Drops one page.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        for set in 0..TLB_SETS as u8 {
            self.entries[Self::slot(set, linear)] = EMPTY;
        }
    }

    /// Takes the write tags off the page at host address `host`.
    pub(crate) fn protect(&mut self, host: u64) {
        for e in &mut self.entries {
            if e.write != INVALID && e.write.wrapping_add(e.addend) == host {
                e.write = INVALID;
            }
        }
    }
}

/// One stretch of RAM or ROM in the physical address space.
#[derive(Clone)]
pub(crate) struct RamRange {
    pub(crate) start: u64,
    pub(crate) last: u64,
    pub(crate) readonly: bool,
    pub(crate) block: Arc<RamBlock>,
    pub(crate) offset: u64,
    /// Host address of `start`.
    pub(crate) host: u64,
}

/// The RAM of the present memory map.
#[derive(Default)]
pub(crate) struct Ram {
    pub(crate) ranges: Vec<RamRange>,
}

impl Ram {
    pub(crate) fn new(view: &FlatView) -> Self {
        let ranges = view
            .ranges()
            .iter()
            .filter_map(|r| match &r.target {
                Target::Ram { block, offset, readonly } => Some(RamRange {
                    start: r.start,
                    last: r.last,
                    readonly: *readonly,
                    block: block.clone(),
                    offset: *offset,
                    host: block.host_base().as_ptr() as u64 + offset,
                }),
                Target::Io(_) => None,
            })
            .collect();
        Self { ranges }
    }

    #[inline]
    pub(crate) fn find(&self, physical: u64) -> Option<&RamRange> {
        let n = self.ranges.partition_point(|r| r.last < physical);
        self.ranges.get(n).filter(|r| r.start <= physical)
    }
}

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Exec,
}
