//! DIV and IDIV of 32 and 64 bits.
//!
//! What the processor would refuse must not reach it: a quotient that does not fit is found by comparing first, and
//! left to the interpreter, which raises #DE. For IDIV that includes every dividend that is wider than its low half.
//! As in the interpreter, the flags, which are undefined afterwards, stay as they are.

use super::asm::*;
use super::emit::{ColdPath, Emitter};
use super::registers::{host, number};
use super::stubs::{T0, T1};
use iced_x86::{Code, Instruction, OpKind, Register};

/// Whether `i` is one of the forms that are translated.
pub(super) fn is_divide(i: &Instruction) -> bool {
    matches!(i.code(), Code::Div_rm32 | Code::Div_rm64 | Code::Idiv_rm32 | Code::Idiv_rm64)
}

impl Emitter<'_> {
    /// Emits instruction `n`; false (and nothing emitted) when that cannot be done.
    pub(super) fn divide(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let wide = matches!(i.code(), Code::Div_rm64 | Code::Idiv_rm64);
        let signed = matches!(i.code(), Code::Idiv_rm32 | Code::Idiv_rm64);
        let mut done = None;
        if i.op0_kind() == OpKind::Memory {
            let before = self.a.code.len();
            if !self.address(&i) {
                self.a.code.truncate(before);
                return false;
            }
            done = Some(self.check(n, if wide { 8 } else { 4 }, false, live, 1));
            if wide { self.a.load(T0, Mem::Base(T0, 0)) } else { self.a.load32(T0, Mem::Base(T0, 0)) }
        } else {
            let Some(from) = number(i.op0_register()) else { return false };
            self.give_up_rflags(live);
            match host(from) {
                Some(r) if wide => self.a.mov(T0, r),
                Some(r) => self.a.lea32(T0, r, 0),
                None if wide => self.a.load(T0, self.slots.gpr(from)),
                None => self.a.load32(T0, self.slots.gpr(from)),
            }
        }
        let (slow, back) = (self.a.label(), done.unwrap_or_else(|| self.a.label()));
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        if signed {
            // A divisor of 0 or -1; a dividend that is not the sign extension of its low half.
            if wide {
                self.a.lea(T1, T0, 1)
            } else {
                self.a.lea32(T1, T0, 1)
            }
            self.a.alu_imm8(wide, CMP, T1, 1);
            self.a.jcc(CC_BE, slow);
            self.a.alu(wide, MOV, T1, RAX);
            self.a.sar_imm(wide, T1, if wide { 63 } else { 31 });
            self.a.alu(wide, CMP_RR, T1, RDX);
            self.a.jcc(CC_NE, slow);
        } else {
            self.a.alu(wide, CMP_RR, RDX, T0);
            self.a.jcc(CC_AE, slow);
        }
        let mut divide = i;
        divide.set_op0_kind(OpKind::Register);
        divide.set_op0_register(if wide { Register::R10 } else { Register::R10D });
        divide.set_segment_prefix(Register::None);
        self.encode(&divide);
        self.a.bind(back);
        true
    }
}
