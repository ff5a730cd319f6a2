//! What operating systems do all the time, without the interpreter: interrupts off and on, flags to and from the
//! stack, SWAPGS, CLAC and STAC, the time-stamp counter, selectors.

use super::asm::*;
use super::classify::ARITH;
use super::emit::{ColdPath, Emitter, FlagsIn};
use super::registers::{host, number};
use super::stubs::{GUEST_RSP, T0, T1};
use crate::cpu::Cpu;
use crate::mmu::{SECOND_SHIFT, TLB_SIZE, TOUCHED_OF_SET, TlbEntry};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use irq::Event;
use std::mem::offset_of;
use x86::X86State;
use x86::reg::{cr4, flags};

/// The arithmetic flags in RFLAGS.
pub(super) const ARITH_BITS: i32 = flags::ARITH as i32;
const IF: i32 = flags::IF as i32;
const AC: i32 = flags::AC as i32;

/// Whether `i` is an instruction for [`Emitter::system`].
pub(super) fn concerns(i: &Instruction) -> bool {
    match i.code() {
        Code::Pushfq | Code::Popfq => true,
        Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => i.op0_kind() == OpKind::Register,
        Code::Mov_rm16_Sreg => i.op0_kind() == OpKind::Memory,
        Code::Mov_r64_cr => i.op1_register() != Register::CR8,
        Code::Rdfsbase_r64 | Code::Rdgsbase_r64 | Code::Wrfsbase_r64 | Code::Wrgsbase_r64 => true,
        _ if super::strings::concerns(i) => true,
        _ => matches!(
            i.mnemonic(),
            Mnemonic::Cli
                | Mnemonic::Sti
                | Mnemonic::Swapgs
                | Mnemonic::Clac
                | Mnemonic::Stac
                | Mnemonic::Rdtsc
                | Mnemonic::Rdtscp
                | Mnemonic::Rdpkru
                | Mnemonic::Wrpkru
                | Mnemonic::Cld
                | Mnemonic::Std
        ),
    }
}

/// Which arithmetic flags it reads and writes.
pub(super) fn flags_of(i: &Instruction) -> (u32, u32) {
    match i.code() {
        Code::Pushfq => (ARITH, 0),
        Code::Popfq => (0, ARITH),
        _ => (0, 0),
    }
}

pub(super) fn state(field: usize) -> Mem {
    Mem::Cpu((offset_of!(Cpu, state) + field) as u32)
}

pub(super) fn rflags() -> Mem {
    state(offset_of!(X86State, rflags))
}

impl Emitter<'_> {
    /// Emits instruction `n`, one of those that [`concerns`] tells; false (and nothing emitted) where the interpreter
    /// has to execute it.
    pub(super) fn system(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let user = self.source.user;
        match i.code() {
            Code::Pushfq => self.pushf(n, live),
            Code::Popfq if !self.is_closed_later(n) => self.popf(n, live),
            Code::Popfq => return false,
            Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => {
                let Some(to) = number(i.op0_register()) else { return false };
                let target = host(to).unwrap_or(T0);
                let Mem::Cpu(base) = self.slots.segment_base(i.op1_register().number() as u8) else {
                    return false;
                };
                let selector =
                    base - offset_of!(x86::Segment, base) as u32 + offset_of!(x86::Segment, selector) as u32;
                self.a.load16z(target, Mem::Cpu(selector));
                if target == T0 {
                    self.a.store(self.slots.gpr(to), T0);
                }
            }
            Code::Cli if !user => {
                self.give_up_rflags(live);
                self.a.and_mem(rflags(), !IF);
                self.a.and_mem32(self.slots.mask, !(Event::Intr as i32));
            }
            // The next instruction must not be another block's, which events are looked at before.
            Code::Sti if !user && n + 1 < self.source.instructions.len() && !self.is_closed_later(n) => {
                self.give_up_rflags(live);
                self.a.or_mem(rflags(), IF);
                self.a.or_mem32(self.slots.mask, Event::Intr as i32);
            }
            Code::Swapgs if !user && self.source.bits == 64 => {
                let (gs, other) = (self.slots.segment_base(5), state(offset_of!(X86State, kernel_gs_base)));
                self.a.load(T0, gs);
                self.a.load(T1, other);
                self.a.store(gs, T1);
                self.a.store(other, T0);
            }
            Code::Clac | Code::Stac if !user => self.set_ac(i.code() == Code::Stac, live),
            _ if super::strings::concerns(&i) => return self.string(n, live),
            Code::Mov_rm16_Sreg => return self.store_selector(n, live),
            Code::Mov_r64_cr if !user => {
                let Some(to) = number(i.op0_register()) else { return false };
                let field = match i.op1_register() {
                    Register::CR0 => offset_of!(X86State, cr0),
                    Register::CR2 => offset_of!(X86State, cr2),
                    Register::CR3 => offset_of!(X86State, cr3),
                    Register::CR4 => offset_of!(X86State, cr4),
                    _ => return false,
                };
                self.load_guest(to, state(field));
            }
            Code::Rdfsbase_r64 | Code::Rdgsbase_r64 | Code::Wrfsbase_r64 | Code::Wrgsbase_r64 => {
                return self.segment_base(n, live);
            }
            Code::Cld | Code::Std => {
                self.give_up_rflags(live);
                if i.code() == Code::Cld {
                    self.a.and_mem(rflags(), !(flags::DF as i32));
                } else {
                    self.a.or_mem(rflags(), flags::DF as i32);
                }
            }
            Code::Rdpkru | Code::Wrpkru => self.protection_keys(n, live),
            Code::Rdtsc | Code::Rdtscp => {
                self.give_up_rflags(live);
                if user {
                    let slow = self.a.label();
                    let back = self.a.label();
                    self.a.test_mem32(state(offset_of!(X86State, cr4)), cr4::TSD as i32);
                    self.a.jcc(CC_NE, slow);
                    self.push_cold(slow, Some(back), ColdPath::Run(n));
                    self.time(&i);
                    self.a.bind(back);
                } else {
                    self.time(&i);
                }
            }
            _ => return false,
        }
        true
    }

    /// Loads general register `to`.
    fn load_guest(&mut self, to: Reg, from: Mem) {
        let target = host(to).unwrap_or(T0);
        self.a.load(target, from);
        if target == T0 {
            self.a.store(self.slots.gpr(to), T0);
        }
    }

    /// MOV of a selector to memory.
    fn store_selector(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let before = self.a.code.len();
        if !self.address(&i) {
            self.a.code.truncate(before);
            return false;
        }
        let back = self.check(n, 2, true, live, 1);
        self.a.load16z(T1, self.slots.selector(i.op1_register().number() as u8));
        self.a.store16(Mem::Base(T0, 0), T1);
        self.a.bind(back);
        true
    }

    /// RDFSBASE and relatives of 64 bits.
    fn segment_base(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let Some(operand) = number(i.op0_register()) else { return false };
        let write = matches!(i.code(), Code::Wrfsbase_r64 | Code::Wrgsbase_r64);
        let gs = matches!(i.code(), Code::Rdgsbase_r64 | Code::Wrgsbase_r64);
        let base = self.slots.segment_base(4 + u8::from(gs));
        let (slow, back) = (self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        self.a.test_mem32(state(offset_of!(X86State, cr4)), cr4::FSGSBASE as i32);
        self.a.jcc(CC_E, slow);
        if write {
            match host(operand) {
                Some(r) => self.a.mov(T0, r),
                None => self.a.load(T0, self.slots.gpr(operand)),
            }
            // What is canonical with 57 bits only is the interpreter's.
            self.a.mov(T1, T0);
            self.a.shl(T1, 16);
            self.a.sar_imm(true, T1, 16);
            self.a.alu(true, CMP_RR, T1, T0);
            self.a.jcc(CC_NE, slow);
            self.a.store(base, T0);
        } else {
            self.load_guest(operand, base);
        }
        self.a.bind(back);
        true
    }

    /// RDPKRU, and WRPKRU that changes nothing.
    fn protection_keys(&mut self, n: usize, live: u32) {
        let write = self.source.instructions[n].code() == Code::Wrpkru;
        let (slow, back) = (self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        self.a.test_mem32(state(offset_of!(X86State, cr4)), cr4::PKE as i32);
        self.a.jcc(CC_E, slow);
        self.a.alu_imm8(false, CMP, RCX, 0);
        self.a.jcc(CC_NE, slow);
        self.a.load32(T0, state(offset_of!(X86State, pkru)));
        if write {
            self.a.alu_imm8(false, CMP, RDX, 0);
            self.a.jcc(CC_NE, slow);
            self.a.alu(false, CMP_RR, T0, RAX);
            self.a.jcc(CC_NE, slow);
        } else {
            self.a.lea32(RAX, T0, 0);
            self.a.imm(RDX, 0);
        }
        self.a.bind(back);
    }

    /// Whether this block may hold interrupts off again behind instruction `n`, which lets them in: events are looked
    /// at between blocks only, so that none would ever come in between.
    fn is_closed_later(&self, n: usize) -> bool {
        let later = &self.source.instructions[n + 1..];
        !self.source.user && later.iter().any(|i| matches!(i.code(), Code::Cli | Code::Popfq))
    }

    /// The guest's time-stamp counter; flags are lost.
    fn time(&mut self, i: &Instruction) {
        self.a.bytes(&[0x0f, 0x31]); // rdtsc
        self.a.bytes(&[0x48, 0xc1, 0xe2, 32]); // shl rdx, 32
        self.a.bytes(&[0x48, 0x09, 0xd0]); // or rax, rdx
        self.a.add(RAX, state(offset_of!(X86State, tsc_offset)));
        self.a.mov(RDX, RAX);
        self.a.shr(RDX, 32);
        self.a.bytes(&[0x89, 0xc0]); // mov eax, eax
        if i.code() == Code::Rdtscp {
            self.a.load32(RCX, state(offset_of!(X86State, tsc_aux)));
        }
    }

    /// CLAC and STAC: the bit, and with it the TLB's set.
    fn set_ac(&mut self, on: bool, live: u32) {
        const STEP: i32 = (TLB_SIZE * size_of::<TlbEntry>()) as i32;
        self.give_up_rflags(live);
        let done = self.a.label();
        self.a.test_mem32(rflags(), AC);
        self.a.jcc(if on { CC_NE } else { CC_E }, done);
        let (sign, set) = if on { (1, 2) } else { (-1, 1) };
        if on {
            self.a.or_mem(rflags(), AC);
        } else {
            self.a.and_mem(rflags(), !AC);
        }
        self.a.add_mem(self.slots.tlb, sign * STEP);
        self.a.add_mem(self.slots.touched, sign * TOUCHED_OF_SET as i32);
        self.a.store8_imm(Mem::Cpu(offset_of!(Cpu, set) as u32), set as u8);
        self.a.store_imm(self.slots.set, set);
        self.a.store_imm(self.slots.set_second, set << SECOND_SHIFT);
        self.a.store_imm(self.slots.stack_limit, 0);
        self.a.bind(done);
    }

    fn pushf(&mut self, n: usize, live: u32) {
        self.flags_to_memory();
        let back = self.check_stack(n, -8, live);
        self.a.store(self.slots.temp, RAX);
        self.a.load16z(RAX, self.slots.flags);
        self.a.mov(T1, RAX);
        self.a.and32_imm(RAX, 1);
        self.a.shl32(RAX, 11);
        self.a.shr(T1, 8);
        self.a.and32_imm(T1, 0xd5);
        self.a.alu(true, OR_RR, T1, RAX);
        self.a.or(T1, rflags());
        self.a.store(Mem::Base(T0, 0), T1);
        self.a.load(RAX, self.slots.temp);
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
        self.a.bind(back);
        self.flags = FlagsIn::MEMORY;
    }

    /// POPF that changes nothing but the arithmetic flags and, at CPL 0, IF; any other is the interpreter's.
    fn popf(&mut self, n: usize, live: u32) {
        let back = self.check_stack(n, 0, live);
        let (other, slow) = (self.a.label(), self.a.label());
        let free = if self.source.user { ARITH_BITS } else { ARITH_BITS | IF };
        self.a.load(T1, Mem::Base(T0, 0));
        self.a.mov(T0, T1);
        self.a.xor(T0, rflags());
        self.a.and_imm(T0, !free);
        self.a.jcc(CC_NE, other);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        self.push_cold(other, Some(slow), ColdPath::Nothing);
        self.a.store(self.slots.temp, RAX);
        if !self.source.user {
            self.a.mov(RAX, T1);
            self.a.and_imm(RAX, !ARITH_BITS);
            self.a.store(rflags(), RAX);
            const _: () = assert!(Event::Intr as u32 == 1 && IF == 1 << 9);
            self.a.shr(RAX, 9);
            self.a.and32_imm(RAX, 1);
            self.a.and_mem32(self.slots.mask, !(Event::Intr as i32));
            self.a.load32(T0, self.slots.mask);
            self.a.alu(false, OR_RR, T0, RAX);
            self.a.store32(self.slots.mask, T0);
        }
        self.a.mov(RAX, T1);
        self.a.shr(RAX, 11);
        self.a.and32_imm(RAX, 1);
        self.a.and32_imm(T1, 0xd5);
        self.a.shl32(T1, 8);
        self.a.alu(false, OR_RR, RAX, T1);
        self.a.store16(self.slots.flags, RAX);
        self.a.load(RAX, self.slots.temp);
        self.a.lea(GUEST_RSP, GUEST_RSP, 8);
        self.a.bind(back);
        self.flags = FlagsIn::MEMORY;
    }
}

/// Whether `i` is a hint that has no effect.
pub(super) fn is_hint(i: &Instruction) -> bool {
    use Mnemonic as M;
    let memory = i.op_count() > 0 && i.op0_kind() == OpKind::Memory;
    memory
        && i.op0_register() == Register::None
        && matches!(
            i.mnemonic(),
            M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Prefetchw | M::Prefetchwt1
        )
}
