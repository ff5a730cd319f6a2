//! What decoded and generated code points to, instructions and counters: it stays where it is until all of that goes.

/// Elements in one chunk; nothing that is added at once has more.
const CHUNK: usize = 1024;

pub(crate) struct Arena<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Copy> Arena<T> {
    /// Keeps `elements` until [`Arena::clear`], at an address that does not change.
    pub(crate) fn add(&mut self, elements: &[T]) -> &[T] {
        if self.chunks.last().is_none_or(|c| c.capacity() - c.len() < elements.len()) {
            self.chunks.push(Vec::with_capacity(CHUNK.max(elements.len())));
        }
        let Some(chunk) = self.chunks.last_mut() else { return &[] };
        let start = chunk.len();
        chunk.extend_from_slice(elements);
        &chunk[start..]
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>()
    }

    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// The same, but for the memory, which the caller gives back.
    pub(crate) fn take(&mut self) -> Vec<Vec<T>> {
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::Insn;

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
