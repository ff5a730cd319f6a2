//! Linear to physical to host: the TLB, the page-table walk and physical accesses.

mod access;
mod tlb;
mod walk;

pub(crate) use access::{Word, get, put};
use guestmem::{FlatView, RamBlock, Target};
use std::cell::Cell;
use std::sync::Arc;
pub(crate) use tlb::{
    CODE_SIZE, CodePage, Dropped, PageIds, SECOND_FACTOR, SECOND_MASK, SECOND_RIGHT, SECOND_SHIFT,
    SecondEntry, TLB_SIZE, TOUCHED_OF_SET, Tlb, TlbEntry,
};
pub(crate) use walk::{LeafTable, Seen};

/// A tag that no page address equals.
const INVALID: u64 = u64::MAX;
const PAGE_MASK: u64 = !0xfff;

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
    /// Which of them was found last.
    last: Cell<usize>,
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
        Self { ranges, last: Cell::default() }
    }

    /// Whether every block of `other` is here too, wherever: what was made from their pages still can be found, and their
    /// stamps be looked at.
    pub(crate) fn has_all_of(&self, other: &Self) -> bool {
        let has = |range: &RamRange| self.ranges.iter().any(|own| Arc::ptr_eq(&own.block, &range.block));
        other.ranges.iter().all(has)
    }

    #[inline]
    pub(crate) fn find(&self, physical: u64) -> Option<&RamRange> {
        let holds = |r: &&RamRange| r.start <= physical && physical <= r.last;
        if let Some(r) = self.ranges.get(self.last.get()).filter(holds) {
            return Some(r);
        }
        let n = self.ranges.partition_point(|r| r.last < physical);
        let found = self.ranges.get(n).filter(holds);
        if found.is_some() {
            self.last.set(n);
        }
        found
    }
}

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Exec,
}
