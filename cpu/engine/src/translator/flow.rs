//! Where blocks end: links, lookups, the targets of indirect jumps.

use super::asm::*;
use super::classify::ARITH;
use super::emit::{ColdPath, Emitter};
use super::registers::{host, number};
use super::stubs::{T0, T1, lookup};
use super::{Page, is_far};
use crate::mmu::{CODE_SIZE, CodePage, PageIds};
use iced_x86::{Instruction, MemorySize, OpKind};
use std::mem::offset_of;

/// Where the numbers of a page are.
const ID: usize = offset_of!(CodePage, ids);

impl Emitter<'_> {
    pub(super) fn after_interpreted_end(&mut self, i: &Instruction) {
        self.exit(i.next_ip(), false, ARITH);
    }

    /// Checks that a page of the block is where it was, and holds the code that was translated. T1 is where the pages
    /// of code are; flags in memory.
    pub(super) fn check_page(&mut self, page: Page, away: Label, stale: Label) {
        if self.source.shared {
            self.rip(T0, page.linear & !0xfff);
            return self.check_page_at(page, away, stale);
        }
        let slot = (page.linear >> 12) as usize % CODE_SIZE * size_of::<CodePage>();
        let id = slot + ID + offset_of!(PageIds, linear);
        self.a.cmp32_mem(Mem::Base(T1, id as i32), page.ids.linear.cast_signed());
        self.a.jcc(CC_NE, away);
        self.check_stamp(page, stale);
    }

    /// The same for a page that code at any linear address is in, which is in T0.
    pub(super) fn check_page_at(&mut self, page: Page, away: Label, stale: Label) {
        const _: () = assert!(size_of::<CodePage>() == 32);
        self.a.rotate(T1, T0, 7);
        self.a.and32_imm(T1, ((CODE_SIZE - 1) * size_of::<CodePage>()) as i32);
        self.a.add(T1, self.slots.code);
        self.a.cmp(T0, Mem::Base(T1, offset_of!(CodePage, page) as i32));
        self.a.jcc(CC_NE, away);
        let id = ID + offset_of!(PageIds, host);
        self.a.cmp32_mem(Mem::Base(T1, id as i32), page.ids.host.cast_signed());
        self.a.jcc(CC_NE, away);
        self.check_stamp(page, stale);
    }

    fn check_stamp(&mut self, page: Page, stale: Label) {
        self.a.imm(T0, page.watched.stamp as u64);
        self.a.cmp32_mem(Mem::Base(T0, 0), page.watched.value.cast_signed());
        self.a.jcc(CC_NE, stale);
    }

    /// Loads an address of the guest's code, or one that is relative to it: made from where the code is now, when that
    /// can be anywhere. Flags untouched.
    pub(super) fn rip(&mut self, to: Reg, address: u64) {
        if !self.source.shared {
            return self.a.imm(to, address);
        }
        self.a.load(to, self.slots.code_page);
        let mut left = address.wrapping_sub(self.source.start & !0xfff).cast_signed();
        while left != 0 {
            let step = left.clamp(i32::MIN.into(), i32::MAX.into());
            self.a.lea(to, to, step as i32);
            left -= step;
        }
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
        self.rip(T1, follower.unwrap_or(0));
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
        same(self.source.start)
            // Code that can be anywhere knows where its own page is only.
            || !self.source.shared && self.source.others.iter().any(|page| same(page.linear))
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
        // What leads to code that can be anywhere says where that is.
        if !direct && (self.source.shared || self.source.user && self.source.bits == 64 && is_far(target)) {
            self.rip(T0, target);
        }
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
