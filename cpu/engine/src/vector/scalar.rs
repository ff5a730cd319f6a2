//! Single elements to and from general registers and memory, and SSE4A's bit fields.

use super::shape::{LEGACY, VEX128, bytes, enter, lane, vector, write, zero};
use super::{Exec, Machine, Operands};
use iced_x86::Code;

/// PEXTRx, EXTRACTPS: element `imm` of `W` bytes to a general register (zeros above) or memory.
fn extract<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let from = usize::from(insn.immediate()) % (16 / W) * W;
    let value = bytes(lane(m, insn.register(1), 0));
    if insn.is_memory(0) {
        return m.store::<W>(insn, std::array::from_fn(|i| value[from + i]), false);
    }
    m.x86().gpr[insn.register(0) & 15] =
        u64::from_le_bytes(std::array::from_fn(|i| if i < W { value[from + i] } else { 0 }));
    Ok(())
}

/// PINSRx: element `imm` of `W` bytes from a general register or memory.
fn insert<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let part: [u8; W] = if insn.is_memory(first + 1) {
        m.load(insn, false)?
    } else {
        let value = m.x86().gpr[insn.register(first + 1) & 15].to_le_bytes();
        std::array::from_fn(|i| value[i])
    };
    let mut value = bytes(lane(m, insn.register(first), 0));
    let to = usize::from(insn.immediate()) % (16 / W) * W;
    value[to..to + W].copy_from_slice(&part);
    write::<M, E>(m, insn.register(0), [vector(value), zero()]);
    Ok(())
}

/// The ones of a field: a length of 0 means 64.
fn field(length: u8) -> u64 {
    match length & 63 {
        0 => !0,
        n => (1 << n) - 1,
    }
}

/// EXTRQ: bits of the low half, moved down (AMD APM vol. 4). The upper half is undefined: kept.
fn extrq<M: Machine, const IMMEDIATE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, LEGACY>(m)?;
    let (length, index) = if IMMEDIATE {
        (insn.immediate(), insn.second_immediate())
    } else {
        let control = bytes(lane(m, insn.register(1), 0));
        (control[0], control[1])
    };
    let n = insn.register(0) & 31;
    let low = &mut m.x86().zmm[n][..8];
    let value = u64::from_le_bytes(std::array::from_fn(|i| low[i]));
    low.copy_from_slice(&(value >> (index & 63) & field(length)).to_le_bytes());
    Ok(())
}

/// INSERTQ: low bits of the source over bits of the low half. The upper half is undefined: kept.
fn insertq<M: Machine, const IMMEDIATE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, LEGACY>(m)?;
    let source = bytes(lane(m, insn.register(1), 0));
    let (length, index) =
        if IMMEDIATE { (insn.immediate(), insn.second_immediate()) } else { (source[8], source[9]) };
    let inserted = u64::from_le_bytes(std::array::from_fn(|i| source[i]));
    let mask = field(length) << (index & 63);
    let n = insn.register(0) & 31;
    let low = &mut m.x86().zmm[n][..8];
    let value = u64::from_le_bytes(std::array::from_fn(|i| low[i]));
    low.copy_from_slice(&(value & !mask | inserted << (index & 63) & mask).to_le_bytes());
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::Pextrb_r32m8_xmm_imm8 | Code::Pextrb_r64m8_xmm_imm8 => extract::<M, LEGACY, 1>,
        Code::VEX_Vpextrb_r32m8_xmm_imm8 | Code::VEX_Vpextrb_r64m8_xmm_imm8 => extract::<M, VEX128, 1>,
        Code::Pextrw_r32_xmm_imm8
        | Code::Pextrw_r64_xmm_imm8
        | Code::Pextrw_r32m16_xmm_imm8
        | Code::Pextrw_r64m16_xmm_imm8 => extract::<M, LEGACY, 2>,
        Code::VEX_Vpextrw_r32_xmm_imm8
        | Code::VEX_Vpextrw_r64_xmm_imm8
        | Code::VEX_Vpextrw_r32m16_xmm_imm8
        | Code::VEX_Vpextrw_r64m16_xmm_imm8 => extract::<M, VEX128, 2>,
        Code::Pextrd_rm32_xmm_imm8 | Code::Extractps_rm32_xmm_imm8 | Code::Extractps_r64m32_xmm_imm8 => {
            extract::<M, LEGACY, 4>
        }
        Code::VEX_Vpextrd_rm32_xmm_imm8
        | Code::VEX_Vextractps_rm32_xmm_imm8
        | Code::VEX_Vextractps_r64m32_xmm_imm8 => extract::<M, VEX128, 4>,
        Code::Pextrq_rm64_xmm_imm8 => extract::<M, LEGACY, 8>,
        Code::VEX_Vpextrq_rm64_xmm_imm8 => extract::<M, VEX128, 8>,
        Code::Pinsrb_xmm_r32m8_imm8 | Code::Pinsrb_xmm_r64m8_imm8 => insert::<M, LEGACY, 1>,
        Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8 | Code::VEX_Vpinsrb_xmm_xmm_r64m8_imm8 => insert::<M, VEX128, 1>,
        Code::Pinsrw_xmm_r32m16_imm8 | Code::Pinsrw_xmm_r64m16_imm8 => insert::<M, LEGACY, 2>,
        Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8 | Code::VEX_Vpinsrw_xmm_xmm_r64m16_imm8 => {
            insert::<M, VEX128, 2>
        }
        Code::Pinsrd_xmm_rm32_imm8 => insert::<M, LEGACY, 4>,
        Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8 => insert::<M, VEX128, 4>,
        Code::Pinsrq_xmm_rm64_imm8 => insert::<M, LEGACY, 8>,
        Code::VEX_Vpinsrq_xmm_xmm_rm64_imm8 => insert::<M, VEX128, 8>,
        Code::Extrq_xmm_imm8_imm8 => extrq::<M, true>,
        Code::Extrq_xmm_xmm => extrq::<M, false>,
        Code::Insertq_xmm_xmm_imm8_imm8 => insertq::<M, true>,
        Code::Insertq_xmm_xmm => insertq::<M, false>,
        _ => return None,
    })
}
