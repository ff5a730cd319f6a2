//! What a debugger outside of the guest asks for: breakpoints, watchpoints, single steps.
//!
//! The guest's own debug registers are another matter ([`crate::debug`]). Breakpoints do not slow down what has none: no
//! block of either tier contains an instruction at the offset in its page of a breakpoint, so that whoever gets there
//! comes by [`Cpu::step_carefully`]. Under watchpoints every instruction is executed by itself.

use crate::cpu::Cpu;
use accel::{DebugRequest, DebugStop, Watchpoint};

/// Offsets in a page.
const OFFSETS: usize = 4096;

#[derive(Default)]
pub(crate) struct Debugger {
    request: DebugRequest,
    /// Anything is asked for.
    pub(crate) is_active: bool,
    /// Every instruction is executed by itself.
    is_careful: bool,
    /// The offsets in pages that breakpoints have, a bit for each; empty without any.
    offsets: Vec<u64>,
    /// A watchpoint that the instruction at hand has met.
    hit: Option<Watchpoint>,
    /// The instruction at hand begins anew.
    pub(crate) anew: bool,
    /// Why the processor is to stand.
    pub(crate) stop: Option<DebugStop>,
}

impl Debugger {
    /// Whether an instruction at linear address `at` may have a breakpoint.
    #[inline]
    pub(crate) fn may_break(&self, at: u64) -> bool {
        let offset = at as usize % OFFSETS;
        self.offsets.get(offset / 64).is_some_and(|bits| bits >> (offset % 64) & 1 != 0)
    }

    /// Whether the instruction at linear address `at` is to be executed by itself.
    #[inline]
    pub(crate) fn concerns(&self, at: u64) -> bool {
        self.is_active && (self.is_careful || self.may_break(at))
    }

    /// How many of `limit` bytes from `at` on can be a block: what follows may have a breakpoint.
    pub(crate) fn clear_bytes(&self, at: u64, limit: usize) -> usize {
        if self.offsets.is_empty() {
            return limit;
        }
        (1..limit).find(|n| self.may_break(at.wrapping_add(*n as u64))).unwrap_or(limit)
    }

    /// One instruction is executed, or one round of a string instruction, and no interrupt is delivered.
    #[inline]
    pub(crate) fn is_stepping(&self) -> bool {
        self.request.step
    }

    /// Interrupts wait while single steps are made.
    pub(crate) fn holds_interrupts(&self) -> bool {
        self.request.step && self.request.hold_interrupts
    }
}

impl Cpu {
    /// Takes over what a debugger wants from now on.
    pub(crate) fn set_debugger(&mut self, request: &DebugRequest) {
        let old = std::mem::replace(&mut self.debugger.request, request.clone());
        let debugger = &mut self.debugger;
        debugger.is_active =
            request.step || !request.breakpoints.is_empty() || !request.watchpoints.is_empty();
        debugger.is_careful = request.step || !request.watchpoints.is_empty();
        debugger.stop = None;
        debugger.hit = None;
        if old.breakpoints != request.breakpoints {
            debugger.offsets.clear();
            if !request.breakpoints.is_empty() {
                debugger.offsets.resize(OFFSETS / 64, 0);
            }
            for at in &request.breakpoints {
                let offset = *at as usize % OFFSETS;
                debugger.offsets[offset / 64] |= 1 << (offset % 64);
            }
            self.drop_code();
        }
        if old.watchpoints != request.watchpoints {
            self.tlb.flush_all();
        }
        self.attention = true;
    }

    /// Whether the debugger stops the processor before the instruction at linear address `at`.
    pub(crate) fn breaks(&mut self, at: u64) -> bool {
        let debugger = &mut self.debugger;
        // A step goes on from a breakpoint.
        if debugger.request.step || !debugger.request.breakpoints.contains(&at) {
            return false;
        }
        debugger.stop = Some(DebugStop::Breakpoint);
        true
    }

    /// Whether the page holds a watchpoint.
    pub(crate) fn has_watchpoint(&self, page: u64) -> bool {
        let last = |w: &Watchpoint| w.address.saturating_add(w.length.saturating_sub(1));
        self.debugger
            .request
            .watchpoints
            .iter()
            .any(|w| w.address & !0xfff <= page && page <= last(w) & !0xfff)
    }

    /// A data access that took the slow path.
    pub(crate) fn note_watched(&mut self, at: u64, size: u64, write: bool) {
        let met = |w: &&Watchpoint| {
            let wanted = if write { w.writes } else { w.reads };
            wanted && at < w.address.saturating_add(w.length) && w.address < at.saturating_add(size)
        };
        if let Some(watchpoint) = self.debugger.request.watchpoints.iter().find(met) {
            self.debugger.hit.get_or_insert(*watchpoint);
        }
    }

    /// An instruction was executed by itself, or a part of it: the debugger may have been waiting for that.
    pub(crate) fn tell_debugger(&mut self) {
        let debugger = &mut self.debugger;
        if let Some(watchpoint) = debugger.hit.take() {
            debugger.stop = Some(DebugStop::Watchpoint(watchpoint));
        } else if debugger.request.step {
            debugger.stop = Some(DebugStop::Step);
        }
    }
}
