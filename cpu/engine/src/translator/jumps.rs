//! The jump caches: where the code for a linear address is, for jumps whose target is not known beforehand.

use super::stubs::{self, JUMP_BITS};
use super::{FEW, Jit};

/// Entries in a jump cache.
const ENTRIES: usize = 1 << JUMP_BITS;

/// An entry of the jump cache: where the code for a linear address is. The code finds out by itself whether the
/// address still leads to it.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Jump {
    pub(super) linear: u64,
    pub(super) code: u64,
}

/// A jump cache: pairs of entries, either of which may hold an address that leads to one of them. No memory at all
/// until it is first [made](Self::make), and afterwards only where something was written.
#[derive(Default)]
pub(super) struct JumpTable {
    /// One more than there are entries, so that pairs can be aligned to their size: the code goes from one of a pair to
    /// the other by a bit of its address. An allocation that asks for such an alignment would be written to at once.
    entries: Box<[Jump]>,
    /// The first entry of the first pair.
    first: usize,
}

impl JumpTable {
    /// A table that knows nothing: `none` leads nowhere.
    pub(super) fn make(none: Jump) -> Self {
        // SAFETY: integers alone, for which zeroes are valid.
        let entries = unsafe { Box::<[Jump]>::new_zeroed_slice(ENTRIES + 1).assume_init() };
        let first = entries.as_ptr().addr() / size_of::<Jump>() % 2;
        let mut table = Self { entries, first };
        // Zeroes are the linear address 0, which is looked for in the first pair only.
        table.forget_pair(0, none);
        table
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The table as the code reads it: pairs aligned to 32 bytes.
    pub(super) fn as_ptr(&self) -> *const Jump {
        self.entries[self.first..].as_ptr()
    }

    /// The two places for a linear address, the one looked at first first.
    fn places(&mut self, linear: u64) -> [&mut Jump; 2] {
        let slot = stubs::jump_slot(linear);
        let pair = self.first + (slot & !1);
        let [a, b] = &mut self.entries[pair..pair + 2] else { unreachable!("two of them") };
        if slot.is_multiple_of(2) { [a, b] } else { [b, a] }
    }

    /// Both entries that an address may have lead nowhere.
    pub(super) fn forget_pair(&mut self, linear: u64, none: Jump) {
        self.places(linear).into_iter().for_each(|jump| *jump = none);
    }
}

impl Jit {
    /// No entry: whatever jumps to it finds that nothing is known.
    pub(super) fn no_jump(&self) -> Jump {
        // Canonical with neither 48 nor 57 bits.
        Jump { linear: 1 << 62, code: self.stubs.miss }
    }

    /// Goes over to the jump cache of the present context.
    pub(super) fn choose_table(&mut self) {
        let none = self.no_jump();
        let mut find = |context: u16| {
            self.tables.get_mut(usize::from(context)).map_or(std::ptr::null(), |table| {
                if table.is_empty() {
                    *table = JumpTable::make(none);
                }
                table.as_ptr()
            })
        };
        self.jumps = find(self.context);
        self.other_jumps = find(self.context ^ 1);
        if self.is_closed {
            *(if self.context & 1 != 0 { &mut self.jumps } else { &mut self.other_jumps }) =
                self.closed.as_ptr();
        }
    }

    /// The two places in the present jump cache for a linear address, the first one first.
    pub(super) fn places(&mut self, linear: u64) -> [&mut Jump; 2] {
        self.tables[usize::from(self.context)].places(linear)
    }

    /// Notes where the code for a linear address is; the older one of two addresses goes.
    pub(super) fn note_jump(&mut self, linear: u64, code: u64) {
        if self.noted.len() < FEW {
            self.noted.push((self.context, linear));
        }
        let [first, second] = self.places(linear);
        if first.linear != linear {
            *second = *first;
        }
        *first = Jump { linear, code };
    }

    pub(super) fn forget_jump(&mut self, linear: u64) {
        let none = self.no_jump();
        self.places(linear).into_iter().filter(|jump| jump.linear == linear).for_each(|jump| *jump = none);
    }
}
