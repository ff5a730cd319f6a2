//! Whole-register moves, half-register moves, non-temporal stores, VZEROALL.

use super::shape::{
    LEGACY, VEX128, VEX256, bytes, enter, extend, halves, lane, lanes, narrow_source, vector, write, zero,
};
use super::{Exec, Machine, Operands};
use iced_x86::Code;

/// To a register, from a register or memory as wide as the encoding; `ALIGNED` as MOVAPS wants it.
fn load<M: Machine, const E: u8, const ALIGNED: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = if !insn.is_memory(1) {
        lanes(m, insn.register(1))
    } else if E == VEX256 {
        halves(m.load::<32>(insn, ALIGNED)?)
    } else {
        [vector(m.load::<16>(insn, ALIGNED)?), zero()]
    };
    write::<M, E>(m, insn.register(0), value);
    Ok(())
}

/// From a register, to a register or memory as wide as the encoding.
fn store<M: Machine, const E: u8, const ALIGNED: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = lanes(m, insn.register(1));
    if !insn.is_memory(0) {
        write::<M, E>(m, insn.register(0), value);
        return Ok(());
    }
    if E == VEX256 {
        let all = value.map(bytes);
        return m.store::<32>(insn, std::array::from_fn(|i| all[i / 16][i % 16]), ALIGNED);
    }
    m.store(insn, bytes(value[0]), ALIGNED)
}

/// MOVSS, MOVSD, MOVQ to a register: `W` bytes. `CLEAR`: zeros above also when the source is a register.
fn load_low<M: Machine, const E: u8, const W: usize, const CLEAR: bool>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let n = insn.register(0);
    let value = bytes(narrow_source::<M, W>(m, insn, 1)?);
    let keep = if CLEAR || insn.is_memory(1) { [0; 16] } else { bytes(lane(m, n, 0)) };
    write::<M, E>(m, n, [vector(std::array::from_fn(|i| if i < W { value[i] } else { keep[i] })), zero()]);
    Ok(())
}

/// MOVSS, MOVSD, MOVQ from a register: `W` bytes. `CLEAR`: zeros above when the destination is a register.
fn store_low<M: Machine, const E: u8, const W: usize, const CLEAR: bool>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = bytes(lane(m, insn.register(1), 0));
    if insn.is_memory(0) {
        return m.store::<W>(insn, std::array::from_fn(|i| value[i]), false);
    }
    let n = insn.register(0);
    let keep = if CLEAR { [0; 16] } else { bytes(lane(m, n, 0)) };
    write::<M, E>(m, n, [vector(std::array::from_fn(|i| if i < W { value[i] } else { keep[i] })), zero()]);
    Ok(())
}

/// VMOVSS, VMOVSD of three registers: the low `W` bytes of the last, the rest of the second.
fn merge_low<M: Machine, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX128>(m)?;
    let (a, b) = (bytes(lane(m, insn.register(1), 0)), bytes(lane(m, insn.register(2), 0)));
    write::<M, VEX128>(
        m,
        insn.register(0),
        [vector(std::array::from_fn(|i| if i < W { b[i] } else { a[i] })), zero()],
    );
    Ok(())
}

/// MOVLPS, MOVHPS, MOVLHPS, MOVHLPS: one half replaced (`TO_HIGH`: the upper), by memory or half `FROM_HIGH` of a register.
fn load_half<M: Machine, const E: u8, const TO_HIGH: bool, const FROM_HIGH: bool>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let half: [u8; 8] = if insn.is_memory(first + 1) {
        m.load(insn, false)?
    } else {
        let b = bytes(lane(m, insn.register(first + 1), 0));
        std::array::from_fn(|i| b[i + if FROM_HIGH { 8 } else { 0 }])
    };
    let mut value = bytes(lane(m, insn.register(first), 0));
    value[if TO_HIGH { 8..16 } else { 0..8 }].copy_from_slice(&half);
    write::<M, E>(m, insn.register(0), [vector(value), zero()]);
    Ok(())
}

/// MOVHPS, MOVHPD to memory.
fn store_high<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = bytes(lane(m, insn.register(1), 0));
    m.store::<8>(insn, std::array::from_fn(|i| value[i + 8]), false)
}

/// MOVD, MOVQ from a general register or memory.
fn from_general<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let low: [u8; W] = if insn.is_memory(1) {
        m.load(insn, false)?
    } else {
        let value = m.x86().gpr[insn.register(1) & 15].to_le_bytes();
        std::array::from_fn(|i| value[i])
    };
    write::<M, E>(m, insn.register(0), [extend(low), zero()]);
    Ok(())
}

/// MOVD, MOVQ to a general register (zeros above) or memory.
fn to_general<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = bytes(lane(m, insn.register(1), 0));
    if insn.is_memory(0) {
        return m.store::<W>(insn, std::array::from_fn(|i| value[i]), false);
    }
    m.x86().gpr[insn.register(0) & 15] =
        u64::from_le_bytes(std::array::from_fn(|i| if i < W { value[i] } else { 0 }));
    Ok(())
}

/// MOVNTI: a plain store. It needs no SSE state.
fn store_general<M: Machine, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    let value = m.x86().gpr[insn.register(1) & 15].to_le_bytes();
    m.store::<W>(insn, std::array::from_fn(|i| value[i]), false)
}

/// VZEROUPPER, VZEROALL: registers 0 to 7 outside 64-bit mode.
fn zero_registers<M: Machine, const FROM: usize>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX128>(m)?;
    let state = m.x86();
    let long = state.efer & x86::reg::efer::LMA != 0
        && state.seg[x86::reg::seg::CS].attributes & x86::Segment::LONG != 0;
    for register in &mut state.zmm[..if long { 16 } else { 8 }] {
        register[FROM..].fill(0);
    }
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::Movups_xmm_xmmm128
        | Code::Movupd_xmm_xmmm128
        | Code::Movdqu_xmm_xmmm128
        | Code::Lddqu_xmm_m128 => load::<M, LEGACY, false>,
        Code::VEX_Vmovups_xmm_xmmm128
        | Code::VEX_Vmovupd_xmm_xmmm128
        | Code::VEX_Vmovdqu_xmm_xmmm128
        | Code::VEX_Vlddqu_xmm_m128 => load::<M, VEX128, false>,
        Code::VEX_Vmovups_ymm_ymmm256
        | Code::VEX_Vmovupd_ymm_ymmm256
        | Code::VEX_Vmovdqu_ymm_ymmm256
        | Code::VEX_Vlddqu_ymm_m256 => load::<M, VEX256, false>,
        Code::Movaps_xmm_xmmm128
        | Code::Movapd_xmm_xmmm128
        | Code::Movdqa_xmm_xmmm128
        | Code::Movntdqa_xmm_m128 => load::<M, LEGACY, true>,
        Code::VEX_Vmovaps_xmm_xmmm128
        | Code::VEX_Vmovapd_xmm_xmmm128
        | Code::VEX_Vmovdqa_xmm_xmmm128
        | Code::VEX_Vmovntdqa_xmm_m128 => load::<M, VEX128, true>,
        Code::VEX_Vmovaps_ymm_ymmm256
        | Code::VEX_Vmovapd_ymm_ymmm256
        | Code::VEX_Vmovdqa_ymm_ymmm256
        | Code::VEX_Vmovntdqa_ymm_m256 => load::<M, VEX256, true>,
        Code::Movups_xmmm128_xmm | Code::Movupd_xmmm128_xmm | Code::Movdqu_xmmm128_xmm => {
            store::<M, LEGACY, false>
        }
        Code::VEX_Vmovups_xmmm128_xmm | Code::VEX_Vmovupd_xmmm128_xmm | Code::VEX_Vmovdqu_xmmm128_xmm => {
            store::<M, VEX128, false>
        }
        Code::VEX_Vmovups_ymmm256_ymm | Code::VEX_Vmovupd_ymmm256_ymm | Code::VEX_Vmovdqu_ymmm256_ymm => {
            store::<M, VEX256, false>
        }
        Code::Movaps_xmmm128_xmm
        | Code::Movapd_xmmm128_xmm
        | Code::Movdqa_xmmm128_xmm
        | Code::Movntps_m128_xmm
        | Code::Movntpd_m128_xmm
        | Code::Movntdq_m128_xmm => store::<M, LEGACY, true>,
        Code::VEX_Vmovaps_xmmm128_xmm
        | Code::VEX_Vmovapd_xmmm128_xmm
        | Code::VEX_Vmovdqa_xmmm128_xmm
        | Code::VEX_Vmovntps_m128_xmm
        | Code::VEX_Vmovntpd_m128_xmm
        | Code::VEX_Vmovntdq_m128_xmm => store::<M, VEX128, true>,
        Code::VEX_Vmovaps_ymmm256_ymm
        | Code::VEX_Vmovapd_ymmm256_ymm
        | Code::VEX_Vmovdqa_ymmm256_ymm
        | Code::VEX_Vmovntps_m256_ymm
        | Code::VEX_Vmovntpd_m256_ymm
        | Code::VEX_Vmovntdq_m256_ymm => store::<M, VEX256, true>,
        Code::Movss_xmm_xmmm32 => load_low::<M, LEGACY, 4, false>,
        Code::Movsd_xmm_xmmm64 => load_low::<M, LEGACY, 8, false>,
        Code::Movq_xmm_xmmm64 => load_low::<M, LEGACY, 8, true>,
        Code::VEX_Vmovss_xmm_m32 => load_low::<M, VEX128, 4, true>,
        Code::VEX_Vmovsd_xmm_m64 | Code::VEX_Vmovq_xmm_xmmm64 => load_low::<M, VEX128, 8, true>,
        Code::Movss_xmmm32_xmm | Code::Movntss_m32_xmm => store_low::<M, LEGACY, 4, false>,
        Code::Movsd_xmmm64_xmm | Code::Movntsd_m64_xmm | Code::Movlps_m64_xmm | Code::Movlpd_m64_xmm => {
            store_low::<M, LEGACY, 8, false>
        }
        Code::Movq_xmmm64_xmm => store_low::<M, LEGACY, 8, true>,
        Code::VEX_Vmovss_m32_xmm => store_low::<M, VEX128, 4, true>,
        Code::VEX_Vmovsd_m64_xmm
        | Code::VEX_Vmovlps_m64_xmm
        | Code::VEX_Vmovlpd_m64_xmm
        | Code::VEX_Vmovq_xmmm64_xmm => store_low::<M, VEX128, 8, true>,
        Code::VEX_Vmovss_xmm_xmm_xmm | Code::VEX_Vmovss_xmm_xmm_xmm_0F11 => merge_low::<M, 4>,
        Code::VEX_Vmovsd_xmm_xmm_xmm | Code::VEX_Vmovsd_xmm_xmm_xmm_0F11 => merge_low::<M, 8>,
        Code::Movhlps_xmm_xmm | Code::Movlps_xmm_m64 | Code::Movlpd_xmm_m64 => {
            load_half::<M, LEGACY, false, true>
        }
        Code::VEX_Vmovhlps_xmm_xmm_xmm | Code::VEX_Vmovlps_xmm_xmm_m64 | Code::VEX_Vmovlpd_xmm_xmm_m64 => {
            load_half::<M, VEX128, false, true>
        }
        Code::Movlhps_xmm_xmm | Code::Movhps_xmm_m64 | Code::Movhpd_xmm_m64 => {
            load_half::<M, LEGACY, true, false>
        }
        Code::VEX_Vmovlhps_xmm_xmm_xmm | Code::VEX_Vmovhps_xmm_xmm_m64 | Code::VEX_Vmovhpd_xmm_xmm_m64 => {
            load_half::<M, VEX128, true, false>
        }
        Code::Movhps_m64_xmm | Code::Movhpd_m64_xmm => store_high::<M, LEGACY>,
        Code::VEX_Vmovhps_m64_xmm | Code::VEX_Vmovhpd_m64_xmm => store_high::<M, VEX128>,
        Code::Movd_xmm_rm32 => from_general::<M, LEGACY, 4>,
        Code::Movq_xmm_rm64 => from_general::<M, LEGACY, 8>,
        Code::VEX_Vmovd_xmm_rm32 => from_general::<M, VEX128, 4>,
        Code::VEX_Vmovq_xmm_rm64 => from_general::<M, VEX128, 8>,
        Code::Movd_rm32_xmm => to_general::<M, LEGACY, 4>,
        Code::Movq_rm64_xmm => to_general::<M, LEGACY, 8>,
        Code::VEX_Vmovd_rm32_xmm => to_general::<M, VEX128, 4>,
        Code::VEX_Vmovq_rm64_xmm => to_general::<M, VEX128, 8>,
        Code::Movnti_m32_r32 => store_general::<M, 4>,
        Code::Movnti_m64_r64 => store_general::<M, 8>,
        Code::VEX_Vzeroupper => zero_registers::<M, 16>,
        Code::VEX_Vzeroall => zero_registers::<M, 0>,
        _ => return None,
    })
}
