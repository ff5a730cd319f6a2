//! Pieces of code, one for each form of an instruction: operands from the frame, the instruction, results to the frame.

use super::shape::{Class, Shape};
use super::{BROADCAST, Frame, MASKED, MEMORY, ROUNDING, SUPPRESS, ZEROING, unable};
use crate::fault::Fault;
use crate::insn::Insn;
use crate::translator::CodeCache;
use iced_x86::{
    Code, Encoder, IcedError, Instruction, MemoryOperand, OpCodeOperandKind, OpKind, Register,
    RoundingControl,
};
use std::collections::HashMap;
use std::mem::offset_of;

/// Bytes of code of one vCPU.
const SIZE: usize = 1 << 20;
/// More than one piece has.
const MOST: usize = 512;
/// Where the frame is (System V).
const FRAME: Register = Register::RDI;
const OPERAND: Register = Register::RSI;
/// Of operands by their number.
const WIDE: [Register; 3] = [Register::RAX, Register::RCX, Register::RDX];
const NARROW: [Register; 3] = [Register::EAX, Register::ECX, Register::EDX];
const MASKS: [Register; 3] = [Register::K1, Register::K4, Register::K5];
/// The write mask.
const CHOSEN: Register = Register::K7;
/// The second of a pair of which the first stands for operand 0.
const PAIR: [Register; 2] = [Register::K2, Register::K3];

/// The code of one vCPU.
#[derive(Default)]
pub(crate) struct Thunks {
    cache: Option<CodeCache>,
    known: HashMap<u64, (Thunk, Shape)>,
}

/// Code for a form.
#[derive(Clone, Copy)]
pub(super) struct Thunk(u64);

impl Thunk {
    /// Executes the instruction on `frame`.
    pub(super) fn call(self, frame: &mut Frame) {
        // SAFETY: the address is that of code from `make`, which reads and writes the frame alone, changes only
        // registers that System V lets a function change, and stays until the next `find`.
        unsafe {
            let code = std::mem::transmute::<u64, extern "sysv64" fn(*mut Frame)>(self.0);
            code(frame);
        }
    }
}

impl Thunks {
    /// `None` where the host does not allow executable shared memory.
    pub(super) fn new() -> Option<Self> {
        Some(Self { cache: Some(CodeCache::new(SIZE, false)?), known: HashMap::new() })
    }

    /// The code for `insn` and what is known of its form.
    pub(super) fn find(&mut self, insn: &Insn) -> Result<(Thunk, Shape), Fault> {
        let key = u64::from(insn.code) << 32 | insn.imm & 0xffff;
        if let Some(found) = self.known.get(&key) {
            return Ok(*found);
        }
        let form = insn.imm >> 8;
        let shape = Shape::new(insn.code(), form);
        if self.cache.as_ref().is_none_or(|cache| cache.left() < MOST) {
            *self = Self::new().ok_or_else(unable)?;
        }
        let cache = self.cache.as_mut().ok_or_else(unable)?;
        let at = cache.next();
        let code = make(insn.code(), form, insn.imm as u8, &shape).map_err(|_| unable())?;
        if !cache.add(&code, &[]) {
            return Err(unable());
        }
        let found = (Thunk(at), shape);
        self.known.insert(key, found);
        Ok(found)
    }
}

/// Vector register `n` as wide as `kind` says.
fn vector(kind: OpCodeOperandKind, n: usize) -> Register {
    use OpCodeOperandKind as K;
    let first = match kind {
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv => Register::XMM0,
        K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv => Register::YMM0,
        _ => Register::ZMM0,
    };
    first + n as u32
}

/// The instruction with the registers of a piece.
fn instruction(code: Code, form: u64, immediate: u8, shape: &Shape) -> Instruction {
    let mut i = Instruction::default();
    i.set_code(code);
    let kinds = code.op_code().op_kinds();
    for (n, kind) in kinds.iter().enumerate() {
        let register = match shape.classes.get(n).copied().unwrap_or(Class::None) {
            Class::Vector => vector(*kind, n),
            Class::Mask => MASKS[n],
            Class::Pair => PAIR[0],
            Class::Wide => WIDE[n],
            Class::Narrow => NARROW[n],
            Class::None => {
                let immediate = *kind == OpCodeOperandKind::imm8;
                i.set_op_kind(n as u32, if immediate { OpKind::Immediate8 } else { OpKind::Memory });
                continue;
            }
        };
        i.set_op_kind(n as u32, OpKind::Register);
        i.set_op_register(n as u32, register);
    }
    i.set_immediate8(immediate);
    if form & MEMORY != 0 {
        i.set_memory_base(OPERAND);
    }
    i.set_is_broadcast(form & BROADCAST != 0);
    i.set_zeroing_masking(form & ZEROING != 0);
    i.set_suppress_all_exceptions(form & SUPPRESS != 0);
    i.set_rounding_control(match form >> ROUNDING & 7 {
        1 => RoundingControl::RoundToNearest,
        2 => RoundingControl::RoundDown,
        3 => RoundingControl::RoundUp,
        4 => RoundingControl::RoundTowardZero,
        _ => RoundingControl::None,
    });
    if form & MASKED != 0 {
        i.set_op_mask(CHOSEN);
    }
    i
}

/// The code for a form.
fn make(code: Code, form: u64, immediate: u8, shape: &Shape) -> Result<Vec<u8>, IcedError> {
    let mut encoder = Encoder::new(64);
    let at = |offset: usize| MemoryOperand::with_base_displ(FRAME, offset as i64);
    let masks = |n: usize| at(offset_of!(Frame, masks) + 8 * n);
    let vectors = |n: usize| at(offset_of!(Frame, vectors) + 64 * n);
    let general = |n: usize| at(offset_of!(Frame, general) + 8 * n);
    let mut list = Vec::new();
    list.push(Instruction::with2(Code::VEX_Kmovq_kr_km64, CHOSEN, masks(3))?);
    for (n, class) in shape.classes.iter().enumerate() {
        match class {
            Class::Vector => list.push(Instruction::with2(
                Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512,
                Register::ZMM0 + n as u32,
                vectors(n),
            )?),
            Class::Mask => list.push(Instruction::with2(Code::VEX_Kmovq_kr_km64, MASKS[n], masks(n))?),
            Class::Wide | Class::Narrow => {
                list.push(Instruction::with2(Code::Mov_r64_rm64, WIDE[n], general(n))?);
            }
            Class::Pair | Class::None => {}
        }
    }
    list.push(Instruction::with2(Code::Lea_r64_m, OPERAND, at(offset_of!(Frame, memory)))?);
    list.push(instruction(code, form, immediate, shape));
    if shape.flags {
        list.push(Instruction::with(Code::Pushfq));
        list.push(Instruction::with1(Code::Pop_r64, Register::RAX)?);
        list.push(Instruction::with2(Code::Mov_rm64_r64, at(offset_of!(Frame, rflags)), Register::RAX)?);
    }
    match shape.classes[0] {
        Class::Vector => {
            list.push(Instruction::with2(Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, vectors(0), Register::ZMM0)?);
        }
        Class::Mask => list.push(Instruction::with2(Code::VEX_Kmovq_m64_kr, masks(0), MASKS[0])?),
        Class::Pair => {
            list.push(Instruction::with2(Code::VEX_Kmovq_m64_kr, masks(0), PAIR[0])?);
            list.push(Instruction::with2(Code::VEX_Kmovq_m64_kr, at(offset_of!(Frame, other)), PAIR[1])?);
        }
        Class::Wide | Class::Narrow => {
            list.push(Instruction::with2(Code::Mov_rm64_r64, general(0), Register::RAX)?);
        }
        Class::None => {}
    }
    list.push(Instruction::with(Code::VEX_Vzeroupper));
    list.push(Instruction::with(Code::Retnq));
    for i in &list {
        encoder.encode(i, 0)?;
    }
    Ok(encoder.take_buffer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_can_be_encoded() {
        let offered = crate::testing::offered("max").unwrap();
        let mut count = 0;
        for code in Code::values().filter(|code| offered(*code) && super::super::concerns(*code)) {
            if super::super::gather::kind(code).is_some() {
                continue;
            }
            let masked = if code.op_code().can_use_op_mask_register() { MASKED } else { 0 };
            let can = |memory: u64| {
                let shape = Shape::new(code, masked | memory);
                make(code, masked | memory, 1, &shape)
            };
            let (registers, memory) = (can(0), can(MEMORY));
            assert!(registers.is_ok() || memory.is_ok(), "{code:?}: {registers:?}, {memory:?}");
            count += 1;
        }
        assert!(count > 1000 || !super::super::host_is_able());
    }
}
