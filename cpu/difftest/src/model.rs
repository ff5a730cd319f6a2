//! What an instruction may change and when it faults, by the decoder's tables and the manual's exception classes alone:
//! what a comparison with the host cannot show where both run the same host instruction.

use crate::layout::{Mode, SMALL_LIMIT};
use crate::native::{Fault, State};
use iced_x86::{
    EncodingKind, Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpKind, Register, UsedMemory,
};
use x86::reg::vector;

/// The value of `register` before the instruction, as addresses need it.
pub fn register_value(state: &State, register: Register, element: usize, size: usize) -> Option<u64> {
    if register.is_segment_register() {
        return Some(match register {
            Register::FS => state.fs_base,
            Register::GS => state.gs_base,
            _ => 0,
        });
    }
    if register.is_vector_register() {
        let at = element * size;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(state.vector(register.number()).get(at..at + size)?);
        let value = u64::from_le_bytes(bytes);
        return Some(if size == 4 { value as u32 as i32 as i64 as u64 } else { value });
    }
    let value = *state.gpr.get(register.full_register().number())?;
    Some(match register.size() {
        8 => value,
        4 => value & 0xffff_ffff,
        2 => value & 0xffff,
        _ if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) => {
            value >> 8 & 0xff
        }
        _ => value & 0xff,
    })
}

/// The linear address of `memory`, element `element`.
pub fn address(state: &State, memory: &UsedMemory, element: usize) -> Option<u64> {
    let value = memory.virtual_address(element, |r, e, size| register_value(state, r, e, size))?;
    Some(if state.mode == Mode::Long { value } else { value & 0xffff_ffff })
}

/// How the alignment of the memory operand counts: `Some(n)`: #GP unless it is a multiple of `n` (SDM volume 2, tables
/// 2-18 and 2-21: exception types 1 and 4; the instructions that never ask are listed there).
pub fn alignment(insn: &Instruction) -> Option<u64> {
    let size = insn.memory_size().size() as u64;
    let memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
    let vector = (0..insn.op_count()).any(|n| insn.op_register(n).is_vector_register());
    if !memory || !vector || size < 16 {
        return None;
    }
    use M::*;
    match insn.encoding() {
        EncodingKind::Legacy => {
            let never = matches!(
                insn.mnemonic(),
                Movups
                    | Movupd
                    | Movdqu
                    | Lddqu
                    | Pcmpestri
                    | Pcmpestri64
                    | Pcmpestrm
                    | Pcmpestrm64
                    | Pcmpistri
                    | Pcmpistrm
            );
            (!never && size == 16).then_some(16)
        }
        EncodingKind::VEX | EncodingKind::EVEX => {
            let always = matches!(
                insn.mnemonic(),
                Vmovaps
                    | Vmovapd
                    | Vmovdqa
                    | Vmovdqa32
                    | Vmovdqa64
                    | Vmovntps
                    | Vmovntpd
                    | Vmovntdq
                    | Vmovntdqa
            );
            always.then_some(size)
        }
        _ => None,
    }
}

/// What is wrong with the engine's result `after` of `insn` by this model.
pub fn violations(
    insn: &Instruction,
    info: &mut InstructionInfoFactory,
    before: &State,
    after: &State,
    fault: Option<Fault>,
) -> Vec<String> {
    let mut list = Vec::new();
    let used = info.info(insn);
    let at = used.used_memory().first().and_then(|memory| address(before, memory, 0));
    if let (Some(align), Some(at)) = (alignment(insn), at) {
        let last = at.wrapping_add(64);
        let canonical = (last << 16) as i64 >> 16 == last as i64;
        let plain = before.mode == Mode::Long || insn.segment_prefix() == Register::None;
        let within =
            before.mode != Mode::Small || at + insn.memory_size().size() as u64 <= u64::from(SMALL_LIMIT);
        let general = fault.is_some_and(|fault| fault.vector == vector::GP);
        if canonical
            && within
            && plain
            && general != (at % align != 0)
            // Where the mask selects nothing, nothing is looked at.
            && !insn.has_op_mask()
            && !fault.is_some_and(|f| f.vector == vector::UD || f.code & 16 != 0)
        {
            list.push(format!(
                "model: {fault:x?} for an operand at {at:x}, which must be aligned to {align}"
            ));
        }
    }
    let restarts = (insn.has_rep_prefix() || insn.has_repne_prefix()) && insn.is_string_instruction()
        || (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory)
            && insn.memory_index().is_vector_register();
    let written = |register: Register| {
        used.used_registers().iter().any(|u| {
            u.register().full_register() == register
                && matches!(
                    u.access(),
                    OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
                )
        })
    };
    if fault.is_some() && restarts {
        return list;
    }
    if insn.mnemonic() == M::Pause {
        // With REX.B an exchange, which the decoder does not know.
        return list;
    }
    let whole = matches!(insn.mnemonic(), M::Xrstor | M::Xrstor64 | M::Fxrstor | M::Fxrstor64);
    for n in 0..16 {
        let gpr = Register::RAX + n as u32;
        if before.gpr[n] != after.gpr[n]
            && (fault.is_some() || !written(gpr) && !written(Register::EAX + n as u32))
        {
            list.push(format!("model: {gpr:?} has changed"));
        }
    }
    for n in 0..8 {
        let mask = Register::K0 + n as u32;
        if before.wide.masks[n] != after.wide.masks[n] && (fault.is_some() || !written(mask)) {
            list.push(format!("model: {mask:?} has changed"));
        }
    }
    for n in 0..32 {
        let zmm = Register::ZMM0 + n as u32;
        let (old, new) = (before.vector(n), after.vector(n));
        let zeroed = matches!(insn.mnemonic(), M::Vzeroall | M::Vzeroupper) && n < 16;
        if old != new && (fault.is_some() || !written(zmm)) && !zeroed && !whole {
            list.push(format!("model: {zmm:?} has changed"));
        }
        if fault.is_none() && written(zmm) && !zeroed && !whole {
            let length = insn.op0_register().size().max(16);
            let expected = match insn.encoding() {
                EncodingKind::Legacy => old[16..] == new[16..],
                _ if insn.memory_index().is_vector_register() => true,
                _ => new[length.min(64)..].iter().all(|byte| *byte == 0),
            };
            if !expected {
                list.push(format!("model: the upper part of {zmm:?}"));
            }
        }
    }
    list
}
