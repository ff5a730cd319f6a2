//! Instructions that generated code points to: they stay where they are until all code goes.

use crate::insn::Insn;

/// Instructions in one chunk; no block has more.
const CHUNK: usize = 4096;

#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<Insn>>,
}

impl Arena {
    /// Keeps `insns` until [`Arena::clear`], at an address that does not change.
    pub(super) fn add(&mut self, insns: &[Insn]) -> &[Insn] {
        if self.chunks.last().is_none_or(|c| c.capacity() - c.len() < insns.len()) {
            self.chunks.push(Vec::with_capacity(CHUNK.max(insns.len())));
        }
        let Some(chunk) = self.chunks.last_mut() else { return &[] };
        let start = chunk.len();
        chunk.extend_from_slice(insns);
        &chunk[start..]
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Insn>()
    }

    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_stays_in_place() {
        let none = crate::decode::convert(
            &iced_x86::Instruction::default(),
            crate::decode::Mode { bits: 64 },
            crate::decode::undefined,
            0,
        );
        let mut arena = Arena::default();
        let first: *const Insn = arena.add(&[none; 3]).as_ptr();
        for next in 0..3000u16 {
            let added = arena.add(&[Insn { next, ..none }; 48]);
            assert!(added.len() == 48 && added.iter().all(|i| i.next == next));
        }
        assert_eq!(arena.chunks[0].as_ptr(), first);
        assert!(arena.size() >= 3000 * 48 * size_of::<Insn>());
        arena.clear();
        assert_eq!(arena.size(), 0);
    }
}
