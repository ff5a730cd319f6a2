//! The flat view: what each address of an address space leads to.

use crate::io::IoTarget;
use crate::ram::{RamBlock, RamSlice};
use crate::region::{Kind, Region};
use std::sync::Arc;

/// What a range of addresses leads to.
#[derive(Clone)]
pub enum Target {
    /// RAM or ROM: bytes of a block from `offset` on.
    Ram {
        /// The block.
        block: Arc<RamBlock>,
        /// Where in the block the range starts.
        offset: u64,
        /// ROM: guest writes are ignored.
        readonly: bool,
    },
    /// Registers; reached through [`crate::AddressSpace`].
    Io(IoSlot),
}

/// The registers behind an I/O range.
#[derive(Clone)]
pub struct IoSlot {
    pub(crate) io: Arc<IoTarget>,
    pub(crate) offset: u64,
}

/// A range of addresses with one target. `last` is inclusive, so that a range may end at the top of the space.
#[derive(Clone)]
pub struct FlatRange {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
    /// What is there.
    pub target: Target,
    /// Name of the region that is seen here.
    pub name: String,
}

impl FlatRange {
    /// Whether an access of `size` bytes at `address`, which lies in the range, is this range's alone. Registers are
    /// reached whole wherever the access begins in their region, also where another region overlaps its later bytes
    /// (port 0xcf9 lies within the 32-bit port 0xcf8).
    pub(crate) fn holds_access(&self, address: u64, size: u8) -> bool {
        let behind = u64::from(size) - 1;
        match &self.target {
            Target::Ram { .. } => self.last - address >= behind,
            Target::Io(slot) => (slot.offset + (address - self.start)).saturating_add(behind) < slot.io.size,
        }
    }

    /// The RAM behind `address..address+len`, as much of it as lies in this range.
    pub fn ram_slice(&self, address: u64, len: u64) -> Option<RamSlice> {
        let Target::Ram { block, offset, .. } = &self.target else { return None };
        let inside = address.checked_sub(self.start)?;
        let room = (self.last - address).saturating_add(1);
        block.slice(offset + inside, len.min(room))
    }
}

/// An immutable picture of an address space: ranges by ascending address, without overlap.
#[derive(Clone, Default)]
pub struct FlatView {
    ranges: Vec<FlatRange>,
}

impl FlatView {
    /// The range that holds `address`.
    #[inline]
    pub fn lookup(&self, address: u64) -> Option<&FlatRange> {
        let index = self.ranges.partition_point(|r| r.last < address);
        self.ranges.get(index).filter(|r| r.start <= address)
    }

    /// All ranges, by ascending address.
    pub fn ranges(&self) -> &[FlatRange] {
        &self.ranges
    }

    /// Renders the tree under `root`.
    pub(crate) fn render(root: &Region) -> Self {
        let mut view = Self::default();
        view.paint(root, 0, (0, root.inner.size.min(1 << 64) as i128), false, 0);
        view
    }

    /// Paints `region`, whose byte 0 lies at `base`, within `clip` (start, end) wherever nothing is painted yet.
    fn paint(&mut self, region: &Region, base: i128, clip: (i128, i128), readonly: bool, depth: u32) {
        // Aliases could be made to form a cycle; no sane tree is this deep.
        if !region.is_enabled() || depth > 64 {
            return;
        }
        let clip = (clip.0.max(base), clip.1.min(base + region.inner.size as i128));
        if clip.0 >= clip.1 {
            return;
        }
        for child in region.children() {
            self.paint(&child.region, base + i128::from(child.offset), clip, readonly, depth + 1);
        }
        let target = |at: i128| match &region.inner.kind {
            Kind::Ram(block) | Kind::Rom(block) => Some(Target::Ram {
                block: block.clone(),
                offset: (at - base) as u64,
                readonly: readonly || matches!(region.inner.kind, Kind::Rom(_)),
            }),
            Kind::Io(io) => Some(Target::Io(IoSlot { io: io.clone(), offset: (at - base) as u64 })),
            Kind::Container | Kind::Alias { .. } => None,
        };
        match &region.inner.kind {
            Kind::Alias { target, offset } => {
                self.paint(target, base - i128::from(*offset), clip, readonly, depth + 1);
            }
            Kind::Container => {}
            _ => self.fill(clip, region.name(), target),
        }
    }

    /// Puts `target` into the gaps of `clip`.
    fn fill(&mut self, clip: (i128, i128), name: &str, target: impl Fn(i128) -> Option<Target>) {
        let mut added = Vec::new();
        let mut at = clip.0;
        let mut gap = |from: i128, to: i128| {
            if from < to
                && let Some(target) = target(from)
            {
                added.push(FlatRange {
                    start: from as u64,
                    last: (to - 1) as u64,
                    target,
                    name: name.to_owned(),
                });
            }
        };
        for range in &self.ranges {
            let (start, end) = (i128::from(range.start), i128::from(range.last) + 1);
            if end <= at {
                continue;
            }
            if start >= clip.1 {
                break;
            }
            gap(at, start.min(clip.1));
            at = at.max(end);
        }
        gap(at, clip.1);
        self.ranges.append(&mut added);
        self.ranges.sort_by_key(|r| r.start);
    }
}
