//! Pieces of guest memory, and the aligned buffers that stand in for them.

use guestmem::RamSlice;

/// Alignment that is good for every O_DIRECT file.
pub(crate) const DIRECT_ALIGN: usize = 4096;
/// Most bytes that one bounce buffer holds.
pub(crate) const BOUNCE: usize = 1 << 20;

/// The first `n` bytes of `slices`.
pub(crate) fn first(slices: &[RamSlice], mut n: u64) -> Vec<RamSlice> {
    let mut parts = Vec::new();
    for slice in slices {
        let take = n.min(slice.len());
        n -= take;
        parts.extend(slice.block().slice(slice.offset(), take).filter(|part| !part.is_empty()));
    }
    parts
}

/// What is left of `slices` behind their first `n` bytes.
pub(crate) fn behind(slices: &[RamSlice], mut n: u64) -> Vec<RamSlice> {
    let mut rest = Vec::with_capacity(slices.len());
    for slice in slices {
        let skip = n.min(slice.len());
        n -= skip;
        if skip < slice.len()
            && let Some(part) = slice.block().slice(slice.offset() + skip, slice.len() - skip)
        {
            rest.push(part);
        }
    }
    rest
}

/// The aligned offset at or below `at`, and how far below it is.
pub(crate) fn align(at: u64) -> (u64, usize) {
    let start = at & !(DIRECT_ALIGN as u64 - 1);
    (start, (at - start) as usize)
}

/// A buffer whose used part is aligned for O_DIRECT.
pub(crate) struct Bounce {
    space: Vec<u8>,
    from: usize,
    len: usize,
}

impl Bounce {
    pub(crate) fn new(len: usize) -> Self {
        let space = vec![0; len + DIRECT_ALIGN];
        let from = space.as_ptr().addr().next_multiple_of(DIRECT_ALIGN) - space.as_ptr().addr();
        Self { space, from, len }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.space[self.from..self.from + self.len]
    }
}

/// Fills guest memory with zeros.
pub(crate) fn zero(slices: &[RamSlice]) {
    let zeros = vec![0; BOUNCE];
    for slice in slices {
        let mut rest = vec![slice.clone()];
        while let Some(slice) = rest.pop().filter(|s| !s.is_empty()) {
            let n = slice.copy_from(&zeros);
            rest = behind(&[slice], n as u64);
        }
    }
}

/// Whether guest memory holds nothing but zeros.
pub(crate) fn is_zero(slices: &[RamSlice]) -> bool {
    let mut buf = vec![0; 1 << 16];
    slices.iter().all(|slice| {
        let mut rest = vec![slice.clone()];
        while let Some(slice) = rest.pop().filter(|s| !s.is_empty()) {
            let n = slice.copy_to(&mut buf);
            if buf[..n].iter().any(|byte| *byte != 0) {
                return false;
            }
            rest = behind(&[slice], n as u64);
        }
        true
    })
}
