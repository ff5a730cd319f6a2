//! Where blocks end: links, lookups, the targets of indirect jumps.

use super::Page;
use super::asm::*;
use super::classify::ARITH;
use super::emit::{ColdPath, Emitter};
use super::registers::{host, number};
use super::stubs::{T0, T1, lookup};
use crate::mmu::{CODE_SIZE, CodePage};
use iced_x86::{Instruction, MemorySize, OpKind};

impl Emitter<'_> {
    pub(super) fn after_interpreted_end(&mut self, i: &Instruction) {
        self.exit(i.next_ip(), false, ARITH);
    }

    /// Checks that a page of the block is where it was, and holds the code that was translated. T1 is where the pages
    /// of code are; flags in memory.
    pub(super) fn check_page(&mut self, page: Page, away: Label, stale: Label) {
        let slot = (page.linear >> 12) as usize % CODE_SIZE * size_of::<CodePage>();
        let id = slot + std::mem::offset_of!(CodePage, id);
        self.a.cmp32_mem(Mem::Base(T1, id as i32), page.id.cast_signed());
        self.a.jcc(CC_NE, away);
        self.a.imm(T0, page.watched.stamp as u64);
        self.a.cmp32_mem(Mem::Base(T0, 0), page.watched.value.cast_signed());
        self.a.jcc(CC_NE, stale);
    }

    /// Goes to `event` when one is due; flags are lost.
    pub(super) fn look_at_mailbox(&mut self, event: Label) {
        self.a.load(T1, self.slots.pending);
        self.a.load32(T1, Mem::Base(T1, 0));
        self.a.test32(self.slots.mask, T1);
        self.a.jcc(CC_NE, event);
    }

    /// Counts an execution that goes on at `rip`. Flags in memory.
    pub(super) fn count(&mut self, rip: u64) {
        let Some(heat) = self.source.heat else { return };
        let hot = self.a.label();
        self.a.imm(T0, heat);
        self.a.sub32_mem(Mem::Base(T0, 0), 1);
        self.a.jcc(CC_E, hot);
        self.push_cold(hot, None, ColdPath::Exit { rip, site: Some(super::HOT), flags_in_rflags: false });
    }

    /// At the target in T0 of an indirect jump: on with `follower` when it is that, or `otherwise`.
    pub(super) fn follow(&mut self, follower: Option<u64>, live: u32, otherwise: ColdPath) {
        self.give_up_rflags(live);
        let miss = self.a.label();
        self.a.imm(T1, follower.unwrap_or(0));
        self.a.alu(true, CMP_RR, T0, T1);
        self.a.jcc(CC_NE, miss);
        self.push_cold(miss, None, otherwise);
        self.unchecked = true;
    }

    /// Jumps to the linear address in T0. It is canonical, or to be faulted at.
    pub(super) fn lookup(&mut self) {
        self.flags_to_memory();
        let (miss, second) = (self.a.label(), self.a.label());
        lookup(self.a, &self.slots, miss, second);
        self.push_cold(miss, None, ColdPath::Miss(self.stubs.miss));
        self.push_cold(second, None, ColdPath::Miss(self.stubs.second));
    }

    /// As [`Emitter::lookup`] for the near branch `n`, which itself faults when the address is not canonical. RSP is
    /// `popped` bytes further by then. No code of such an address is known, so that only what finds none looks.
    pub(super) fn branch(&mut self, n: usize, popped: i32) {
        self.flags_to_memory();
        let (miss, second) = (self.a.label(), self.a.label());
        lookup(self.a, &self.slots, miss, second);
        self.push_cold(second, None, ColdPath::Second(miss));
        self.push_cold(miss, None, ColdPath::MissOf { n, popped, to: self.stubs.miss });
    }

    /// Goes to `astray` unless the linear address in T0 is canonical with 48 bits; T1 and RFLAGS are lost.
    pub(super) fn check_canonical(&mut self, astray: Label) {
        self.a.mov(T1, T0);
        self.a.sar_imm(true, T1, 47);
        self.a.lea(T1, T1, 1);
        self.a.cmp_imm(T1, 1);
        self.a.jcc(CC_A, astray);
    }

    /// Whether a jump to `target` stays in pages that the block has checked.
    pub(super) fn direct(&self, target: u64) -> bool {
        let same = |linear: u64| (target ^ linear) & !0xfff == 0;
        same(self.source.start) || self.source.others.iter().any(|page| same(page.linear))
    }

    /// Ends the block with a jump to `target`.
    pub(super) fn exit(&mut self, target: u64, backward: bool, live: u32) {
        let direct = self.direct(target);
        if backward || self.unchecked {
            let event = self.a.label();
            if live != 0 {
                self.flags_to_memory();
            }
            self.look_at_mailbox(event);
            self.flags.rflags = false;
            self.count(target);
            self.push_cold(event, None, ColdPath::Exit { rip: target, site: None, flags_in_rflags: false });
        }
        // Other pages are entered with the flags in memory.
        if live != 0 {
            if direct { self.need_flags_somewhere() } else { self.flags_to_memory() }
        }
        let in_rflags = direct && self.flags.rflags && !self.flags.memory;
        let away = self.a.label();
        let site = self.a.here()
            | if direct { 0 } else { super::ACROSS }
            | if in_rflags { 0 } else { super::IN_MEMORY };
        self.a.jmp(away);
        let flags_in_rflags = self.flags.rflags && !self.flags.memory;
        self.push_cold(away, None, ColdPath::Exit { rip: target, site: Some(site), flags_in_rflags });
    }

    /// Puts the target of an indirect jump or call into T0.
    pub(super) fn indirect_target(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        if i.op0_kind() == OpKind::Register {
            let Some(from) = number(i.op0_register()) else { return false };
            match host(from) {
                Some(r) => self.add_pointer(T0, r, 0),
                None => self.a.load(T0, self.slots.gpr(from)),
            }
            return true;
        }
        use MemorySize as S;
        if !matches!(i.memory_size(), S::QwordOffset | S::UInt64 | S::DwordOffset | S::UInt32) {
            return false;
        }
        if !self.address(&i) {
            return false;
        }
        self.check_or_end(n, self.width(), false, live);
        self.load_word(T0, Mem::Base(T0, 0));
        true
    }
}

/// Whether a near branch may go to `target` in every mode: whether that is canonical with 48 bits.
pub(super) fn reachable(target: u64) -> bool {
    (target.cast_signed() << 16 >> 16).cast_unsigned() == target
}

/// The condition of a conditional jump as encoded.
pub(super) fn condition(i: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match i.condition_code() {
        C::o | C::None => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
    }
}
