//! Memory operands: from linear to host addresses.

use super::asm::*;
use super::emit::{ColdPath, Emitter};
use super::registers::{host, number, sized};
use super::stubs::{T0, T1, TLB_MASK};
use crate::mmu::TlbEntry;
use iced_x86::{Instruction, OpKind, Register};
use std::mem::offset_of;

/// What an address is computed from.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    /// RIP: the displacement is the address.
    pub(super) base: Register,
    pub(super) index: Register,
    pub(super) scale: u32,
    pub(super) displacement: i64,
    pub(super) segment: Register,
}

impl Operand {
    fn of(i: &Instruction) -> Self {
        let (base, displacement) = if i.is_ip_rel_memory_operand() {
            (Register::RIP, i.ip_rel_memory_address())
        } else {
            (i.memory_base(), i.memory_displacement64())
        };
        Self {
            base,
            index: i.memory_index(),
            scale: i.memory_index_scale(),
            displacement: displacement.cast_signed(),
            segment: i.memory_segment(),
        }
    }
}

impl Emitter<'_> {
    /// Turns the linear address in T0 into a host address, or lets the interpreter execute instruction `n` and goes
    /// to the returned label.
    pub(super) fn check(&mut self, n: usize, size: u32, write: bool, live: u32, aligned: u8) -> Label {
        let (slow, back) = (self.a.label(), self.a.label());
        self.translate(slow, size, write, live, aligned);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        back
    }

    /// As [`Emitter::check`] for the last instruction of the block.
    pub(super) fn check_or_end(&mut self, n: usize, size: u32, write: bool, live: u32) {
        let slow = self.a.label();
        self.translate(slow, size, write, live, 1);
        self.push_cold(slow, None, ColdPath::RunEnd(n));
    }

    pub(super) fn translate(&mut self, slow: Label, size: u32, write: bool, live: u32, aligned: u8) {
        self.give_up_rflags(live);
        if aligned > 1 {
            self.a.test8_imm(T0, aligned - 1);
            self.a.jcc(CC_NE, slow);
        }
        let (again, other) = (self.a.label(), self.a.label());
        self.a.bind(again);
        self.look_up(write, size, other);
        self.push_cold(other, Some(slow), ColdPath::Refill { write, again });
        self.add_host();
    }

    /// Makes the linear address in T0 the offset in its page, and T1 the TLB's entry; goes to `other` when the entry is
    /// another's, or does not allow `size` bytes there. RFLAGS are lost.
    pub(super) fn look_up(&mut self, write: bool, size: u32, other: Label) {
        let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) } as i32;
        self.a.rotate(T1, T0, 7);
        self.a.and32_imm(T1, TLB_MASK);
        self.a.add(T1, self.slots.tlb);
        self.a.xor(T0, Mem::Base(T1, tag));
        self.a.cmp_imm(T0, 0x1000 - size as i32);
        self.a.jcc(CC_A, other);
    }

    /// Makes the offset in T0 a host address, by the entry at T1.
    pub(super) fn add_host(&mut self) {
        self.a.add(T0, Mem::Base(T1, offset_of!(TlbEntry, host) as i32));
    }

    /// Replaces base and index by host registers, loading those that are in memory into temporaries; false when that
    /// cannot be done.
    pub(super) fn map_address(&mut self, i: &mut Instruction) -> bool {
        let (base, index) = (i.memory_base(), i.memory_index());
        let map = |e: &mut Self, r: Register, temporary: Reg| -> Option<Register> {
            if r == Register::None {
                return Some(r);
            }
            let n = number(r)?;
            let h = host(n).unwrap_or(temporary);
            if h == temporary {
                e.a.load(h, e.slots.gpr(n));
            }
            Some(sized(h, r))
        };
        let Some(b) = map(self, base, T0) else { return false };
        let Some(x) = map(self, index, T1) else { return false };
        i.set_memory_base(b);
        i.set_memory_index(x);
        true
    }

    /// Puts the linear address of the memory operand into T0; flags untouched.
    pub(super) fn address(&mut self, i: &Instruction) -> bool {
        self.linear(&Operand::of(i))
    }

    /// The same for an operand of no instruction.
    pub(super) fn linear(&mut self, operand: &Operand) -> bool {
        let Operand { base, index, scale, displacement, segment } = *operand;
        if base == Register::RIP {
            self.rip(T0, displacement.cast_unsigned());
        } else if base == Register::None && index == Register::None {
            self.a.imm(T0, displacement.cast_unsigned());
        } else {
            let mut lea = Instruction::default();
            let wide = [base, index].iter().any(|r| r.size() == 8);
            lea.set_code(if wide { iced_x86::Code::Lea_r64_m } else { iced_x86::Code::Lea_r32_m });
            lea.set_op0_kind(OpKind::Register);
            lea.set_op0_register(sized(T0, if wide { Register::RAX } else { Register::EAX }));
            lea.set_op1_kind(OpKind::Memory);
            lea.set_memory_base(base);
            lea.set_memory_index(index);
            lea.set_memory_index_scale(scale);
            lea.set_memory_displacement64(displacement.cast_unsigned());
            let bytes = if wide { 8 } else { 4 };
            lea.set_memory_displ_size(if displacement == 0 { 0 } else { bytes });
            if !self.map_address(&mut lea) || !self.encode(&lea) {
                return false;
            }
        }
        let narrow = self.source.bits == 32;
        if narrow && self.source.segments >> segment.number() & 1 == 0 {
            return false;
        }
        if let Register::FS | Register::GS = segment {
            self.a.load(T1, self.slots.segment_base(segment.number() as u8));
            if narrow { self.a.lea_sum32(T0, T0, T1) } else { self.a.lea_sum(T0, T0, T1) }
        }
        true
    }

    pub(super) fn lea(&mut self, i: &Instruction) -> bool {
        let Some(to) = number(i.op0_register()) else { return false };
        let target = host(to).unwrap_or(T0);
        if i.is_ip_rel_memory_operand() {
            if i.op0_register().size() != 8 {
                return false;
            }
            self.rip(target, i.ip_rel_memory_address());
        } else {
            let mut lea = *i;
            if i.op0_register().size() == 2 && target == T0 {
                return false;
            }
            lea.set_op0_register(sized(target, i.op0_register()));
            lea.set_segment_prefix(Register::None);
            let before = self.a.code.len();
            if !self.map_address(&mut lea) || !self.encode(&lea) {
                self.a.code.truncate(before);
                return false;
            }
        }
        if host(to).is_none() {
            self.a.store(self.slots.gpr(to), T0);
        }
        true
    }
}
