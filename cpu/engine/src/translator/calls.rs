//! SYSCALL and SYSRET of 64-bit code, without the interpreter.

use super::asm::*;
use super::emit::{ColdPath, Emitter, FlagsIn};
use super::stubs::{T0, T1};
use super::system::{ARITH_BITS, rflags, state};
use crate::cpu::Cpu;
use crate::mmu::{CODE_SIZE, CodePage, SECOND_SHIFT, TLB_SIZE, TOUCHED_OF_SET, TlbEntry};
use irq::Event;
use std::mem::offset_of;
use x86::reg::{efer, flags};
use x86::{Segment, X86State};

/// Flags that change more than these two instructions do here.
const UNUSUAL: i32 = (flags::TF | flags::AC) as i32;
/// What SYSRET takes from R11.
const FROM_R11: i32 = 0x3f_7fd7 & !(flags::RF | flags::VM) as i32;

/// The upper half of a flat segment, but for its selector.
const fn upper(attributes: u16) -> u64 {
    0xffff_ffff | (attributes as u64) << 32
}

impl Emitter<'_> {
    /// SYSCALL at CPL 3.
    pub(super) fn syscall(&mut self, n: usize, live: u32) {
        let slow = self.guard(n, live);
        // R11's new value.
        self.a.store(self.slots.temp, RAX);
        self.a.load16z(RAX, self.slots.flags);
        self.a.mov(T1, RAX);
        self.a.and32_imm(RAX, 1);
        self.a.shl32(RAX, 11);
        self.a.shr(T1, 8);
        self.a.and32_imm(T1, 0xd5);
        self.a.alu(true, OR_RR, T1, RAX);
        self.a.or(T1, rflags());
        self.a.load(RAX, self.slots.temp);
        self.a.load(T0, state(offset_of!(X86State, fmask)));
        self.a.not(T0);
        self.a.alu(true, AND_RR, T0, T1);
        self.a.test_imm32(T0, UNUSUAL);
        self.a.jcc(CC_NE, slow);
        self.a.store(self.slots.gpr(11), T1);
        self.take_flags();
        self.rip(RCX, self.source.instructions[n].next_ip());
        self.a.load(T0, state(offset_of!(X86State, star)));
        self.a.shr(T0, 32);
        self.a.and32_imm(T0, 0xfffc);
        self.a.shl(T0, 48);
        self.segment(1, upper(0xa09b));
        self.segment(2, upper(0xc093) | 8 << 48);
        self.change_privilege(false);
        self.a.load(T0, state(offset_of!(X86State, lstar)));
        self.lookup();
    }

    /// SYSRET at CPL 0 to 64-bit code.
    pub(super) fn sysret(&mut self, n: usize, live: u32) {
        let slow = self.guard(n, live);
        self.a.test_mem32(rflags(), UNUSUAL);
        self.a.jcc(CC_NE, slow);
        // Addresses of user space alone are canonical for sure.
        self.a.mov(T0, RCX);
        self.a.shr(T0, 47);
        self.a.jcc(CC_NE, slow);
        self.a.load(T0, self.slots.gpr(11));
        self.a.and32_imm(T0, FROM_R11);
        self.a.test_imm32(T0, UNUSUAL);
        self.a.jcc(CC_NE, slow);
        self.take_flags();
        self.a.load(T0, state(offset_of!(X86State, star)));
        self.a.shr(T0, 48);
        self.a.shl(T0, 48);
        self.segment(1, upper(0xa0fb) | 16 << 48);
        self.a.or_top(self.segment_upper(1), 3);
        self.segment(2, upper(0xc0f3) | 8 << 48);
        self.a.or_top(self.segment_upper(2), 3);
        self.change_privilege(true);
        self.a.mov(T0, RCX);
        self.lookup();
    }

    /// Goes to the interpreter where SYSCALL does not exist; gives the way there.
    fn guard(&mut self, n: usize, live: u32) -> Label {
        let slow = self.a.label();
        if live != 0 {
            self.flags_to_memory();
        }
        self.flags = FlagsIn::MEMORY;
        self.push_cold(slow, None, ColdPath::RunEnd(n));
        self.a.test_mem32(state(offset_of!(X86State, efer)), efer::SCE as i32);
        self.a.jcc(CC_E, slow);
        slow
    }

    /// Loads the flags from T0; T1 is lost.
    fn take_flags(&mut self) {
        self.a.store(self.slots.temp, RAX);
        self.a.mov(RAX, T0);
        self.a.shr(RAX, 11);
        self.a.and32_imm(RAX, 1);
        self.a.mov(T1, T0);
        self.a.and32_imm(T1, 0xd5);
        self.a.shl32(T1, 8);
        self.a.alu(false, OR_RR, RAX, T1);
        self.a.store16(self.slots.flags, RAX);
        self.a.and_imm(T0, !ARITH_BITS);
        self.a.alu_imm8(true, OR, T0, flags::FIXED as i8);
        self.a.store(rflags(), T0);
        const _: () = assert!(Event::Intr as u32 == 1 && flags::IF == 1 << 9);
        self.a.shr(T0, 9);
        self.a.and32_imm(T0, 1);
        self.a.and_mem32(self.slots.mask, !(Event::Intr as i32));
        self.a.load32(T1, self.slots.mask);
        self.a.alu(false, OR_RR, T1, T0);
        self.a.store32(self.slots.mask, T1);
        self.a.load(RAX, self.slots.temp);
    }

    fn segment_upper(&self, n: u8) -> Mem {
        const _: () = assert!(
            offset_of!(Segment, limit) == 8
                && offset_of!(Segment, attributes) == 12
                && offset_of!(Segment, selector) == 14
        );
        match self.slots.segment_base(n) {
            Mem::Cpu(base) => Mem::Cpu(base + 8 - offset_of!(Segment, base) as u32),
            other => other,
        }
    }

    /// Loads segment `n` with base 0; its upper half is `upper` plus T0. T1 is lost.
    fn segment(&mut self, n: u8, upper: u64) {
        self.a.imm(T1, upper);
        self.a.lea_sum(T1, T1, T0);
        self.a.store(self.segment_upper(n), T1);
        self.a.store_imm(self.slots.segment_base(n), 0);
    }

    /// Between CPL 3 and CPL 0, with AC clear: everything that depends on it.
    fn change_privilege(&mut self, user: bool) {
        const SET: i32 = (TLB_SIZE * size_of::<TlbEntry>()) as i32;
        const CODE: i32 = (CODE_SIZE * size_of::<CodePage>()) as i32;
        let (sign, set, cpl) = if user { (-1, 0, 3) } else { (1, 1, 0) };
        let a = &mut self.a;
        if !user {
            a.add_mem(self.slots.kernel_entries, 1);
        }
        a.store8_imm(state(offset_of!(X86State, cpl)), cpl);
        a.store8_imm(Mem::Cpu(offset_of!(Cpu, set) as u32), set as u8);
        a.add_mem(self.slots.tlb, sign * SET);
        a.add_mem(self.slots.touched, sign * TOUCHED_OF_SET as i32);
        a.add_mem(self.slots.code, sign * CODE);
        a.store_imm(self.slots.set, set);
        a.store_imm(self.slots.set_second, set << SECOND_SHIFT);
        a.store_imm(self.slots.stack_limit, 0);
        a.load(T0, self.slots.jumps);
        a.load(T1, self.slots.other_jumps);
        a.store(self.slots.jumps, T1);
        a.store(self.slots.other_jumps, T0);
        a.imm(T0, u64::from(self.source.context ^ 1));
        a.store16(self.slots.context, T0);
    }
}
