//! REP STOS and REP MOVS within one page each, as the host's own; and bit strings in memory.

use super::asm::*;
use super::emit::{ColdPath, Emitter, FlagsIn};
use super::registers::{host, number, sized};
use super::stubs::{T0, T1};
use super::system::rflags;
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use x86::reg::flags;

/// log2 of the bytes of one element; `None` for what is not translated.
fn element(i: &Instruction) -> Option<u8> {
    let shift = match i.code() {
        Code::Stosb_m8_AL | Code::Movsb_m8_m8 => 0,
        Code::Stosd_m32_EAX | Code::Movsd_m32_m32 => 2,
        Code::Stosq_m64_RAX | Code::Movsq_m64_m64 => 3,
        _ => return None,
    };
    let far =
        i.op1_kind() == OpKind::MemorySegRSI && matches!(i.memory_segment(), Register::FS | Register::GS);
    (i.has_rep_prefix() && !i.has_repne_prefix() && i.op0_kind() == OpKind::MemoryESRDI && !far)
        .then_some(shift)
}

fn is_bit_string(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() == OpKind::Register
        && i.op1_register().size() >= 4
        && [i.memory_base(), i.memory_index()].iter().all(|r| r.size() == 8 || *r == Register::None)
        && !i.has_xacquire_prefix()
        && !i.has_xrelease_prefix()
}

/// Whether `i` is an instruction for this module.
pub(super) fn concerns(i: &Instruction) -> bool {
    element(i).is_some() || is_bit_string(i)
}

impl Emitter<'_> {
    /// Emits instruction `n`; false (and nothing emitted) where the interpreter has to execute it.
    pub(super) fn string(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        if self.source.bits != 64 {
            return false;
        }
        match element(&i) {
            Some(shift) => {
                self.repeat(n, shift, live);
                true
            }
            None => self.bit_string(n, live),
        }
    }

    /// REP STOS, REP MOVS. What leaves its page, or goes downwards, is the interpreter's.
    fn repeat(&mut self, n: usize, shift: u8, live: u32) {
        let i = self.source.instructions[n];
        let moves = i.op1_kind() == OpKind::MemorySegRSI;
        let (slow, back) = (self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        self.a.test_mem32(rflags(), flags::DF as i32);
        self.a.jcc(CC_NE, slow);
        self.a.cmp_imm(RCX, 0x1000 >> shift);
        self.a.jcc(CC_A, slow);
        for r in if moves { &[RDI, RSI][..] } else { &[RDI] } {
            self.a.mov(T0, RCX);
            self.a.shl32(T0, shift);
            self.a.mov(T1, *r);
            self.a.and32_imm(T1, 0xfff);
            self.a.lea_sum(T0, T0, T1);
            self.a.cmp_imm(T0, 0x1000);
            self.a.jcc(CC_A, slow);
        }
        self.a.mov(T0, RDI);
        self.translate(slow, 1, true, live, 1);
        if moves {
            self.a.store(self.slots.temp2, T0);
            self.a.mov(T0, RSI);
            self.translate(slow, 1, false, live, 1);
            // Where both registers end is known before.
            self.a.mov(T1, RCX);
            self.a.shl32(T1, shift);
            self.a.lea_sum(RDI, RDI, T1);
            self.a.store(self.slots.temp3, RDI);
            self.a.lea_sum(T1, RSI, T1);
            self.a.mov(RSI, T0);
            self.a.load(RDI, self.slots.temp2);
        } else {
            self.a.mov(T1, RDI);
            self.a.mov(RDI, T0);
        }
        let opcode = if moves { 0xa4 } else { 0xaa };
        match shift {
            0 => self.a.bytes(&[0xf3, opcode]),
            2 => self.a.bytes(&[0xf3, opcode | 1]),
            _ => self.a.bytes(&[0xf3, 0x48, opcode | 1]),
        }
        if moves {
            self.a.load(RDI, self.slots.temp3);
            self.a.mov(RSI, T1);
        } else {
            self.a.alu(true, SUB_RR, RDI, T0);
            self.a.lea_sum(RDI, RDI, T1);
        }
        self.a.bind(back);
    }

    /// BT, BTS, BTR, BTC with a bit string in memory: the word is looked up that holds the bit.
    fn bit_string(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let wide = i.op1_register().size() == 8;
        let Some(index) = number(i.op1_register()) else { return false };
        let (before, flags) = (self.a.code.len(), self.flags);
        self.give_up_rflags(live);
        if !self.address(&i) {
            self.a.code.truncate(before);
            self.flags = flags;
            return false;
        }
        let load = |e: &mut Self| match host(index) {
            Some(r) => e.a.mov(T1, r),
            None => e.a.load(T1, e.slots.gpr(index)),
        };
        load(self);
        self.a.and32_imm(T1, if wide { 63 } else { 31 });
        self.a.store(self.slots.temp2, T1);
        load(self);
        if !wide {
            self.a.shl(T1, 32);
            self.a.sar_imm(true, T1, 32);
        }
        self.a.sar_imm(true, T1, if wide { 6 } else { 5 });
        self.a.shl(T1, if wide { 3 } else { 2 });
        self.a.lea_sum(T0, T0, T1);
        let write = i.mnemonic() != Mnemonic::Bt;
        let back = self.check(n, if wide { 8 } else { 4 }, write, live, 1);
        self.need_flags();
        self.a.load(T1, self.slots.temp2);
        let mut bit = i;
        bit.set_op1_register(sized(T1, i.op1_register()));
        bit.set_memory_base(Register::R10);
        bit.set_memory_index(Register::None);
        bit.set_memory_index_scale(1);
        bit.set_memory_displacement64(0);
        bit.set_memory_displ_size(0);
        bit.set_segment_prefix(Register::None);
        // Always encodable: only registers and the displacement are others.
        self.encode(&bit);
        self.flags = FlagsIn::RFLAGS;
        self.a.bind(back);
        true
    }
}
