//! What the engine has done, for `info jit`.

use crate::cpu::Cpu;
use accel::JitStatus;

/// Counts since the start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Blocks that tier 1 ran.
    pub(crate) blocks: u64,
    /// Instructions that tier 1 ran one by one, under breakpoints and the like.
    pub(crate) careful: u64,
    /// Ways into tier 2's code.
    pub(crate) entered: u64,
    /// Instructions that tier 1 executed for tier 2.
    pub(crate) interpreted: u64,
    /// Searches for translations.
    pub(crate) searched: u64,
}

impl Cpu {
    pub(crate) fn jit_status(&self) -> JitStatus {
        let (counts, tlb) = (&self.counts, &self.tlb.counts);
        let mut status = JitStatus {
            tier: 1,
            decoded: self.blocks.len() as u64,
            interpreted_blocks: counts.blocks,
            careful: counts.careful,
            entered: counts.entered,
            interpreted: counts.interpreted,
            searched: counts.searched,
            tlb_flushes: tlb.flushes,
            tlb_pages: tlb.pages,
            tlb_fills: tlb.fills,
            ..JitStatus::default()
        };
        self.jit.describe(&mut status);
        self.jit.identity.describe(&mut status);
        status
    }
}
