//! From iced's instruction to ours.

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::*;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};

/// What decoding depends on besides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    /// 16, 32 or 64.
    pub bits: u8,
}

/// Raises #UD: what the model does not offer or we do not execute.
pub(crate) fn undefined(_cpu: &mut Cpu, _insn: &Insn) -> Result<(), Fault> {
    Err(Fault::ud())
}

/// Raises #GP(0): an instruction of more than 15 bytes (SDM vol. 3, 6.15, "Interrupt 13").
pub(crate) fn oversized(_cpu: &mut Cpu, _insn: &Insn) -> Result<(), Fault> {
    Err(Fault::gp(0))
}

/// Whether `bytes`, at least 15, which decode as no instruction, do so because there is no end to it within 15 bytes.
pub(crate) fn is_oversized(bytes: &[u8], bits: u8) -> bool {
    let decode = |bytes: &[u8]| {
        let mut decoder = Decoder::new(bits.into(), bytes, DecoderOptions::NONE);
        let len = decoder.decode().len();
        if decoder.last_error() == DecoderError::NoMoreBytes { usize::MAX } else { len }
    };
    // One that fits at the limit is told from one that does not by its length without the first prefix.
    bytes.len() > MAX_LEN - 1 && decode(&bytes[..MAX_LEN - 1]) == usize::MAX && {
        let rest = &bytes[1..];
        decode(&rest[..rest.len().min(MAX_LEN)]) >= MAX_LEN
    }
}

/// Most bytes of an instruction.
const MAX_LEN: usize = 15;

/// F3 90 is PAUSE, but with REX.B it exchanges RAX and R8 (SDM volume 2, XCHG), which the decoder does not tell apart.
pub(crate) fn exchange_r8(insn: &mut Instruction, bytes: &[u8]) {
    if insn.code() != Code::Pause || insn.len() < 3 {
        return;
    }
    // REX is the last prefix.
    let rex = bytes.get(insn.len() - 2).copied().unwrap_or(0);
    if rex & 0xf1 != 0x41 {
        return;
    }
    let small = bytes[..insn.len() - 2].contains(&0x66);
    let (code, other, acc) = match rex & 8 {
        0 if small => (Code::Xchg_r16_AX, Register::R8W, Register::AX),
        0 => (Code::Xchg_r32_EAX, Register::R8D, Register::EAX),
        _ => (Code::Xchg_r64_RAX, Register::R8, Register::RAX),
    };
    insn.set_code(code);
    insn.set_op0_kind(OpKind::Register);
    insn.set_op0_register(other);
    insn.set_op1_kind(OpKind::Register);
    insn.set_op1_register(acc);
}

/// Number of a register as [`Insn::regs`] holds it.
fn number(register: Register) -> u8 {
    match register {
        Register::None => NONE,
        Register::AH => HIGH,
        Register::CH => HIGH | 1,
        Register::DH => HIGH | 2,
        Register::BH => HIGH | 3,
        Register::RIP | Register::EIP => RIP,
        r if r.is_gpr8() => {
            let n = r as u32 - Register::AL as u32;
            // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8L...
            if n < 4 { n as u8 } else { (n - 4) as u8 }
        }
        r => r.number() as u8,
    }
}

/// Turns `from` into an [`Insn`] whose executor is `exec`.
pub(crate) fn convert(from: &Instruction, mode: Mode, exec: Exec, next: u16) -> Insn {
    let mut insn = Insn {
        exec,
        imm: 0,
        disp: 0,
        code: from.code() as u16,
        next,
        regs: [NONE; 5],
        base: NONE,
        index: NONE,
        scale: 0,
        seg: 3,
        address_size: mode.bits / 8,
        len: from.len() as u8,
        flags: 0,
        op_size: 0,
        vector_len: 16,
        imm2: 0,
        mask: 0,
        mem_op: 0,
    };
    let mut have_imm = false;
    let mut memory = false;
    for n in 0..from.op_count().min(5) {
        match from.op_kind(n) {
            OpKind::Register => insn.regs[n as usize] = number(from.op_register(n)),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                insn.imm = from.near_branch_target().wrapping_sub(from.next_ip());
            }
            OpKind::FarBranch16 => {
                insn.imm = u64::from(from.far_branch16()) | u64::from(from.far_branch_selector()) << 32
            }
            OpKind::FarBranch32 => {
                insn.imm = u64::from(from.far_branch32()) | u64::from(from.far_branch_selector()) << 32
            }
            OpKind::Memory => {
                insn.flags |= F_MEM;
                insn.mem_op = n as u8;
                memory = true;
            }
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => insn.address_size = 2,
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => insn.address_size = 4,
            OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => insn.address_size = 8,
            OpKind::Immediate8_2nd => insn.imm2 = from.immediate8_2nd(),
            _ if !have_imm => {
                insn.imm = from.immediate(n);
                have_imm = true;
            }
            _ => {}
        }
        if let OpKind::MemorySegSI
        | OpKind::MemorySegDI
        | OpKind::MemorySegESI
        | OpKind::MemorySegEDI
        | OpKind::MemorySegRSI
        | OpKind::MemorySegRDI = from.op_kind(n)
        {
            insn.seg = from.memory_segment().number() as u8;
        }
        // MASKMOVDQU and MASKMOVQ store through rDI without a ModRM memory operand.
        if let OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI = from.op_kind(n) {
            insn.base = x86::reg::gpr::RDI as u8;
        }
    }
    if memory {
        let (base, index) = (from.memory_base(), from.memory_index());
        insn.seg = from.memory_segment().number() as u8;
        insn.base = number(base);
        insn.index = number(index);
        insn.scale = from.memory_index_scale().trailing_zeros() as u8;
        insn.disp = from.memory_displacement64();
        insn.address_size = [base, index]
            .into_iter()
            .find(|&r| r != Register::None && !r.is_vector_register())
            .map_or(from.memory_displ_size().clamp(2, 8) as u8, |r| r.size() as u8);
        if base == Register::None && (index == Register::None || index.is_vector_register()) {
            insn.address_size = match from.memory_displ_size() {
                2 => 2,
                8 => 8,
                _ if mode.bits == 64 && from.memory_displacement64() >> 32 != 0 => 8,
                4 => 4,
                _ => mode.bits / 8,
            };
        }
        if insn.base == RIP {
            insn.disp = insn.disp.wrapping_sub(from.next_ip());
        }
        if mode.bits == 64 && insn.seg < 4 {
            // Overrides by the other segments are ignored.
            let stack = [x86::reg::gpr::RSP as u8, x86::reg::gpr::RBP as u8].contains(&insn.base);
            insn.seg = if stack { x86::reg::seg::SS as u8 } else { x86::reg::seg::DS as u8 };
        }
        let plain = if mode.bits == 64 { insn.seg < 4 && insn.address_size == 8 } else { false };
        if plain && !index.is_vector_register() {
            insn.flags |= F_FLAT;
        }
    }
    if from.has_lock_prefix() {
        insn.flags |= F_LOCK;
    }
    if from.has_rep_prefix() {
        insn.flags |= F_REP;
    }
    if from.has_repne_prefix() {
        insn.flags |= F_REPNE;
    }
    for n in 0..from.op_count().min(5) {
        if from.op_kind(n) == OpKind::Register {
            let r = from.op_register(n);
            if r.is_vector_register() {
                insn.vector_len = insn.vector_len.max(r.size() as u8);
            }
        }
    }
    if from.has_op_mask() {
        insn.mask = from.op_mask().number() as u8;
    }
    if crate::evex::concerns(from.code()) {
        // Executors look at eight bits of the immediate.
        insn.imm = insn.imm & 0xff | crate::evex::form(from) << 8;
    }
    insn.op_size = op_size(from, mode);
    insn
}

/// The operand size of stack and control instructions, by their code's suffix; of others, that of operand 0.
fn op_size(from: &Instruction, mode: Mode) -> u8 {
    let increment = from.stack_pointer_increment().unsigned_abs();
    match from.code() {
        Code::Enterw_imm16_imm8 | Code::Leavew | Code::Pushaw | Code::Popaw => return 2,
        Code::Enterd_imm16_imm8 | Code::Leaved | Code::Pushad | Code::Popad => return 4,
        Code::Enterq_imm16_imm8 | Code::Leaveq => return 8,
        Code::Retnw_imm16 | Code::Retfw | Code::Retfw_imm16 | Code::Iretw => return 2,
        Code::Retnd_imm16 | Code::Retfd | Code::Retfd_imm16 | Code::Iretd => return 4,
        Code::Retnq_imm16 | Code::Retfq | Code::Retfq_imm16 | Code::Iretq => return 8,
        _ => {}
    }
    if matches!(increment, 2 | 4 | 8) {
        return increment as u8;
    }
    if from.op_count() > 0 {
        match from.op_kind(0) {
            OpKind::Register if from.op0_register().is_gpr() => return from.op0_register().size() as u8,
            OpKind::Memory | OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI => {
                return (from.memory_size().size() as u8).min(8);
            }
            OpKind::NearBranch16 => return 2,
            OpKind::NearBranch32 => return 4,
            OpKind::NearBranch64 => return 8,
            _ => {}
        }
    }
    mode.bits / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_are_told_from_fifteen() {
        let code = |prefixes: usize, rest: &[u8]| [&vec![0x66; prefixes][..], rest, &[0x90; 8]].concat();
        // An undefined code counts with its ModRM byte.
        assert!(!is_oversized(&code(12, &[0x0f, 0x0a]), 32), "undefined, 15 bytes");
        assert!(is_oversized(&code(14, &[0x0f, 0x0a]), 32));
        assert!(is_oversized(&code(15, &[0x40]), 32));
        assert!(is_oversized(&code(13, &[0xb8, 1, 2]), 32));
        assert!(is_oversized(&code(16, &[])[..15], 32), "what follows cannot be seen");
        assert!(!is_oversized(&code(2, &[0x0f, 0x0a]), 32));
        assert!(is_oversized(&[&[0x2e; 13][..], &[0x48, 0x0f, 0x0a]].concat(), 64));
    }
}
