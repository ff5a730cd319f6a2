//! Where blocks end: links, lookups, the targets of indirect jumps.

use super::asm::*;
use super::classify::ARITH;
use super::emit::{Cold, ColdPath, Emitter, FlagsIn};
use super::registers::{host, number};
use super::stubs::{T0, T1, lookup};
use crate::mmu::{CODE_SIZE, CodePage};
use iced_x86::{Instruction, MemorySize, OpKind};

impl Emitter<'_> {
    pub(super) fn after_interpreted_end(&mut self, i: &Instruction) {
        self.exit(i.next_ip(), false, ARITH);
    }

    /// The entry for everybody but blocks of the same page: whether the linear address still leads here, and the page
    /// holds the code that was translated. Flags in memory.
    pub(super) fn entry(&mut self, live: u32) {
        const _: () = assert!(size_of::<CodePage>() == 16);
        let source = self.source;
        let (away, stale) = (self.a.label(), self.a.label());
        self.a.load(T1, self.slots.code);
        let second = source.second.map(|s| (s.linear, s.host, s.watched));
        let pages = [Some((source.start, source.host, source.watched)), second];
        for (linear, host, _) in pages.into_iter().flatten() {
            let slot = ((linear >> 12) as usize % CODE_SIZE * size_of::<CodePage>()) as i32;
            self.a.imm(T0, linear & !0xfff);
            self.a.cmp(T0, Mem::Base(T1, slot));
            self.a.jcc(CC_NE, away);
            self.a.imm(T0, host & !0xfff);
            self.a.cmp(T0, Mem::Base(T1, slot + 8));
            self.a.jcc(CC_NE, away);
        }
        for (_, _, watched) in pages.into_iter().flatten() {
            self.a.imm(T1, watched.stamp as u64);
            self.a.cmp32_mem(Mem::Base(T1, 0), watched.value.cast_signed());
            self.a.jcc(CC_NE, stale);
        }
        self.flags = FlagsIn { rflags: false, memory: true };
        if live != 0 {
            self.need_flags();
        }
        for (from, site) in [(away, None), (stale, Some(super::STALE))] {
            let what = ColdPath::Exit { rip: source.start, site, flags_in_rflags: false };
            self.cold.push(Cold { from, back: None, what });
        }
    }

    /// Jumps to the linear address in T0. It is canonical, or to be faulted at.
    pub(super) fn lookup(&mut self) {
        if self.flags.rflags && !self.flags.memory {
            self.save_flags();
        }
        let (miss, second) = (self.a.label(), self.a.label());
        lookup(&mut self.a, &self.slots, miss, second);
        self.cold.push(Cold { from: miss, back: None, what: ColdPath::Miss(self.stubs.miss) });
        self.cold.push(Cold { from: second, back: None, what: ColdPath::Miss(self.stubs.second) });
    }

    /// As [`Emitter::lookup`] for the near branch `n`, which itself faults when the address is not canonical. RSP is
    /// `popped` bytes further by then. No code of such an address is known, so that only what finds none looks.
    pub(super) fn branch(&mut self, n: usize, popped: i32) {
        if self.flags.rflags && !self.flags.memory {
            self.save_flags();
        }
        let (miss, second) = (self.a.label(), self.a.label());
        lookup(&mut self.a, &self.slots, miss, second);
        self.cold.push(Cold { from: second, back: None, what: ColdPath::Second(miss) });
        self.cold.push(Cold { from: miss, back: None, what: ColdPath::MissOf { n, popped } });
    }

    /// Goes to `astray` unless the linear address in T0 is canonical with 48 bits; T1 and RFLAGS are lost.
    pub(super) fn check_canonical(&mut self, astray: Label) {
        self.a.mov(T1, T0);
        self.a.sar_imm(true, T1, 47);
        self.a.lea(T1, T1, 1);
        self.a.cmp_imm(T1, 1);
        self.a.jcc(CC_A, astray);
    }

    /// Whether a jump to `target` stays in the block's page.
    pub(super) fn direct(&self, target: u64) -> bool {
        (target ^ self.source.start) & !0xfff == 0
    }

    /// Ends the block with a jump to `target`.
    pub(super) fn exit(&mut self, target: u64, backward: bool, live: u32) {
        let direct = self.direct(target);
        if backward {
            let event = self.a.label();
            self.give_up_rflags(live);
            self.a.load(T1, self.slots.pending);
            self.a.load32(T1, Mem::Base(T1, 0));
            self.a.test32(self.slots.mask, T1);
            self.a.jcc(CC_NE, event);
            self.cold.push(Cold {
                from: event,
                back: None,
                what: ColdPath::Exit { rip: target, site: None, flags_in_rflags: false },
            });
        }
        // The same page is entered with the flags in RFLAGS, another one with the flags in memory.
        if !direct {
            self.give_up_rflags(live);
        } else if live != 0 {
            self.need_flags();
        }
        let away = self.a.label();
        let site = self.a.here() | if direct { 0 } else { super::ACROSS };
        self.a.jmp(away);
        let flags_in_rflags = self.flags.rflags && !self.flags.memory;
        self.cold.push(Cold {
            from: away,
            back: None,
            what: ColdPath::Exit { rip: target, site: Some(site), flags_in_rflags },
        });
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
