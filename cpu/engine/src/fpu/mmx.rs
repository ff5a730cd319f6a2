//! MMX instructions, and the SSE to SSSE3 forms on MMX registers (SDM vol. 1, chapter 9).
//!
//! A kernel is one host instruction on MM0 and MM1.

use super::{Exec, FpuMachine, pending};
use crate::vector::Operands;
use crate::vector::mxcsr::guarded;
use crate::vector::shape::{Fp, V, bytes};
use iced_x86::Code;
use std::arch::asm;
use x86::X87;
use x86::reg::{cr0, cr4, vector};

/// The arithmetic of one instruction: destination's old value, source, immediate.
trait Kernel {
    fn run(a: u64, b: u64) -> u64;
}

/// The start of every MMX instruction: #UD, #NM, #MF.
fn enter<M: FpuMachine>(m: &mut M) -> Result<(), M::Fault> {
    let cr0 = m.x86().cr0;
    if cr0 & cr0::EM != 0 {
        return Err(m.fault(vector::UD));
    }
    if cr0 & cr0::TS != 0 {
        return Err(m.fault(vector::NM));
    }
    pending(m)
}

/// What MMX instructions do to the x87 unit: TOP 0, all registers valid (EMMS: none).
fn touch(x87: &mut X87) {
    x87.fsw &= !0x3800;
    x87.ftw = 0xff;
}

fn get(x87: &X87, n: usize) -> u64 {
    let value = &x87.regs[n & 7];
    u64::from_le_bytes(std::array::from_fn(|i| value[i]))
}

fn set(x87: &mut X87, n: usize, value: u64) {
    let slot = &mut x87.regs[n & 7];
    slot[..8].copy_from_slice(&value.to_le_bytes());
    slot[8..10].fill(0xff);
}

/// `op mm, mm/mem` with a memory operand of `N` bytes.
fn binary<M: FpuMachine, K: Kernel, const N: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let b = if insn.is_memory(1) {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&m.load::<N>(insn, false)?);
        u64::from_le_bytes(wide)
    } else {
        get(&m.x86().x87, insn.register(1))
    };
    let x87 = &mut m.x86().x87;
    let result = K::run(get(x87, insn.register(0)), b);
    touch(x87);
    set(x87, insn.register(0), result);
    Ok(())
}

/// Shifts by an immediate: the count takes the second operand's place.
fn by_immediate<M: FpuMachine, K: Kernel>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let x87 = &mut m.x86().x87;
    let result = K::run(get(x87, insn.register(0)), insn.immediate().into());
    touch(x87);
    set(x87, insn.register(0), result);
    Ok(())
}

fn source<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<u64, M::Fault> {
    if insn.is_memory(1) {
        Ok(u64::from_le_bytes(m.load::<8>(insn, false)?))
    } else {
        Ok(get(&m.x86().x87, insn.register(1)))
    }
}

fn write<M: FpuMachine>(m: &mut M, insn: &M::Insn, value: u64) -> Result<(), M::Fault> {
    let x87 = &mut m.x86().x87;
    touch(x87);
    set(x87, insn.register(0), value);
    Ok(())
}

fn pshufw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let from = source(m, insn)?;
    let word = |n: u32| from >> (16 * (u64::from(insn.immediate()) >> (2 * n) & 3)) & 0xffff;
    write(m, insn, word(0) | word(1) << 16 | word(2) << 32 | word(3) << 48)
}

fn palignr<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let low = source(m, insn)?;
    let both = u128::from(get(&m.x86().x87, insn.register(0))) << 64 | u128::from(low);
    let shift = 8 * u32::from(insn.immediate());
    write(m, insn, both.checked_shr(shift).unwrap_or(0) as u64)
}

/// The general register or memory operand 1 of `N` bytes.
fn general<M: FpuMachine, const N: usize>(m: &mut M, insn: &M::Insn) -> Result<u64, M::Fault> {
    let mut wide = [0; 8];
    if insn.is_memory(1) {
        wide[..N].copy_from_slice(&m.load::<N>(insn, false)?);
    } else {
        wide[..N].copy_from_slice(&m.x86().gpr[insn.register(1) & 15].to_le_bytes()[..N]);
    }
    Ok(u64::from_le_bytes(wide))
}

fn from_general<M: FpuMachine, const N: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = general::<M, N>(m, insn)?;
    write(m, insn, value)
}

/// MOVD, MOVQ to a general register or memory.
fn to_general<M: FpuMachine, const N: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = get(&m.x86().x87, insn.register(1));
    if insn.is_memory(0) {
        let bytes = value.to_le_bytes();
        m.store::<N>(insn, std::array::from_fn(|i| bytes[i]), false)?;
    } else {
        m.x86().gpr[insn.register(0) & 15] = if N == 4 { value & 0xffff_ffff } else { value };
    }
    touch(&mut m.x86().x87);
    Ok(())
}

/// MOVQ, MOVNTQ to memory, MOVQ to a register.
fn store<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    if insn.is_memory(0) {
        return to_general::<M, 8>(m, insn);
    }
    load(m, insn)
}

fn load<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = source(m, insn)?;
    write(m, insn, value)
}

fn pinsrw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let word = general::<M, 2>(m, insn)?;
    let shift = 16 * (insn.immediate() & 3);
    let old = get(&m.x86().x87, insn.register(0));
    write(m, insn, old & !(0xffff << shift) | word << shift)
}

fn pextrw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = get(&m.x86().x87, insn.register(1)) >> (16 * (insn.immediate() & 3)) & 0xffff;
    m.x86().gpr[insn.register(0) & 15] = value;
    touch(&mut m.x86().x87);
    Ok(())
}

fn pmovmskb<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = get(&m.x86().x87, insn.register(1));
    m.x86().gpr[insn.register(0) & 15] = (0..8).fold(0, |mask, n| mask | (value >> (8 * n + 7) & 1) << n);
    touch(&mut m.x86().x87);
    Ok(())
}

/// MASKMOVQ: bytes whose mask has bit 7 go to DS:rDI, as operand 0.
fn maskmovq<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let x87 = &m.x86().x87;
    let (value, mask) = (get(x87, insn.register(1)).to_le_bytes(), get(x87, insn.register(2)).to_le_bytes());
    touch(&mut m.x86().x87);
    let chosen = || value.into_iter().zip(mask).enumerate().filter(|(_, (_, mask))| mask & 0x80 != 0);
    for (n, _) in chosen() {
        m.check_store_part(insn, n as u64, 1)?;
    }
    for (n, (byte, _)) in chosen() {
        m.store_part::<1>(insn, n as u64, [byte])?;
    }
    Ok(())
}

fn emms<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let x87 = &mut m.x86().x87;
    touch(x87);
    x87.ftw = 0;
    Ok(())
}

/// MOVQ2DQ and MOVDQ2Q check SSE too.
fn enter_both<M: FpuMachine>(m: &mut M) -> Result<(), M::Fault> {
    if m.x86().cr4 & cr4::OSFXSR == 0 {
        return Err(m.fault(vector::UD));
    }
    enter(m)
}

fn movq2dq<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter_both(m)?;
    let state = m.x86();
    let value = get(&state.x87, insn.register(1));
    let slot = &mut state.zmm[insn.register(0) & 15];
    slot[..8].copy_from_slice(&value.to_le_bytes());
    slot[8..16].fill(0);
    touch(&mut state.x87);
    Ok(())
}

fn movdq2q<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter_both(m)?;
    let from = &m.x86().zmm[insn.register(1) & 15];
    let value = u64::from_le_bytes(std::array::from_fn(|i| from[i]));
    write(m, insn, value)
}

fn xmm(low: u64, high: u64) -> V {
    crate::vector::shape::vector(std::array::from_fn(|i| {
        if i < 8 { low.to_le_bytes()[i] } else { high.to_le_bytes()[i - 8] }
    }))
}

fn low(value: V) -> u64 {
    let value = bytes(value);
    u64::from_le_bytes(std::array::from_fn(|i| value[i]))
}

macro_rules! convert {
    ($name:ident, $text:literal) => {
        #[inline(always)]
        fn $name(mut a: V, b: V) -> V {
            // SAFETY: one SSE2 instruction on two registers.
            unsafe {
                asm!(concat!($text, " {a}, {b}"), a = inout(xmm_reg) a, b = in(xmm_reg) b, options(nomem, nostack));
            }
            a
        }
    };
}
convert!(cvtdq2ps, "cvtdq2ps");
convert!(cvtdq2pd, "cvtdq2pd");
convert!(cvtps2dq, "cvtps2dq");
convert!(cvttps2dq, "cvttps2dq");
convert!(cvtpd2dq, "cvtpd2dq");
convert!(cvttpd2dq, "cvttpd2dq");

/// CVTPI2PS, CVTPI2PD: a memory operand leaves the MMX state alone (CVTPI2PD only, by the manual; CVTPI2PS touches).
fn to_float<M: FpuMachine, const DOUBLE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    let memory = insn.is_memory(1);
    if memory && DOUBLE {
        crate::vector::enter_legacy(m)?;
    } else {
        enter_both(m)?;
    }
    let from = xmm(source(m, insn)?, 0);
    if !(memory && DOUBLE) {
        touch(&mut m.x86().x87);
    }
    let kernel = || if DOUBLE { cvtdq2pd(from, from) } else { cvtdq2ps(from, from) };
    let result = bytes(guarded(m, Fp::Flags, kernel, |value| [value; 2])?);
    let state = m.x86();
    let size = if DOUBLE { 16 } else { 8 };
    state.zmm[insn.register(0) & 15][..size].copy_from_slice(&result[..size]);
    Ok(())
}

/// CVT(T)PS2PI, CVT(T)PD2PI.
fn to_integer<M: FpuMachine, const DOUBLE: bool, const TRUNCATE: bool>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter_both(m)?;
    let from = match (insn.is_memory(1), DOUBLE) {
        (true, true) => crate::vector::shape::vector(m.load::<16>(insn, true)?),
        (true, false) => xmm(u64::from_le_bytes(m.load::<8>(insn, false)?), 0),
        (false, _) => {
            let value = &m.x86().zmm[insn.register(1) & 15];
            let size = if DOUBLE { 16 } else { 8 };
            crate::vector::shape::vector(std::array::from_fn(|i| if i < size { value[i] } else { 0 }))
        }
    };
    // The unit is in MMX state even when the conversion faults.
    touch(&mut m.x86().x87);
    let kernel = || match (DOUBLE, TRUNCATE) {
        (true, true) => cvttpd2dq(from, from),
        (true, false) => cvtpd2dq(from, from),
        (false, true) => cvttps2dq(from, from),
        (false, false) => cvtps2dq(from, from),
    };
    let result = guarded(m, Fp::Flags, kernel, |value| [value; 2])?;
    write(m, insn, low(result))
}

macro_rules! kernels {
    ($($name:ident $text:literal)*) => {$(
        struct $name;
        impl Kernel for $name {
            #[inline]
            fn run(a: u64, b: u64) -> u64 {
                let mut result = a;
                // SAFETY: an MMX instruction on two registers; EMMS gives the x87 unit back empty.
                unsafe {
                    asm!(
                        "movq mm0, {a}", "movq mm1, {b}", concat!($text, " mm0, mm1"), "movq {a}, mm0", "emms",
                        a = inout(reg) result, b = in(reg) b,
                        out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                        out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
                        out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                        out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                        options(nomem, nostack, preserves_flags)
                    );
                }
                result
            }
        }
    )*
    /// `op mm, mm/m64` (or m32) and shifts by an immediate.
    fn lookup_binary<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
        use Code::*;
        Some(match code {
            Punpcklbw_mm_mmm32 => binary::<M, Punpcklbw, 4>,
            Punpcklwd_mm_mmm32 => binary::<M, Punpcklwd, 4>,
            Punpckldq_mm_mmm32 => binary::<M, Punpckldq, 4>,
            Psrlw_mm_imm8 => by_immediate::<M, Psrlw>,
            Psraw_mm_imm8 => by_immediate::<M, Psraw>,
            Psllw_mm_imm8 => by_immediate::<M, Psllw>,
            Psrld_mm_imm8 => by_immediate::<M, Psrld>,
            Psrad_mm_imm8 => by_immediate::<M, Psrad>,
            Pslld_mm_imm8 => by_immediate::<M, Pslld>,
            Psrlq_mm_imm8 => by_immediate::<M, Psrlq>,
            Psllq_mm_imm8 => by_immediate::<M, Psllq>,
            _ => return lookup_wide(code),
        })
    }
    };
}

macro_rules! wide {
    ($($code:ident $name:ident)*) => {
        fn lookup_wide<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
            Some(match code {
                $(Code::$code => binary::<M, $name, 8>,)*
                _ => return None,
            })
        }
    };
}

kernels! {
    Pabsb "pabsb"
    Pabsd "pabsd"
    Pabsw "pabsw"
    Packssdw "packssdw"
    Packsswb "packsswb"
    Packuswb "packuswb"
    Paddb "paddb"
    Paddd "paddd"
    Paddq "paddq"
    Paddsb "paddsb"
    Paddsw "paddsw"
    Paddusb "paddusb"
    Paddusw "paddusw"
    Paddw "paddw"
    Pand "pand"
    Pandn "pandn"
    Pavgb "pavgb"
    Pavgw "pavgw"
    Pcmpeqb "pcmpeqb"
    Pcmpeqd "pcmpeqd"
    Pcmpeqw "pcmpeqw"
    Pcmpgtb "pcmpgtb"
    Pcmpgtd "pcmpgtd"
    Pcmpgtw "pcmpgtw"
    Phaddd "phaddd"
    Phaddsw "phaddsw"
    Phaddw "phaddw"
    Phsubd "phsubd"
    Phsubsw "phsubsw"
    Phsubw "phsubw"
    Pmaddubsw "pmaddubsw"
    Pmaddwd "pmaddwd"
    Pmaxsw "pmaxsw"
    Pmaxub "pmaxub"
    Pminsw "pminsw"
    Pminub "pminub"
    Pmulhrsw "pmulhrsw"
    Pmulhuw "pmulhuw"
    Pmulhw "pmulhw"
    Pmullw "pmullw"
    Pmuludq "pmuludq"
    Por "por"
    Psadbw "psadbw"
    Pshufb "pshufb"
    Psignb "psignb"
    Psignd "psignd"
    Psignw "psignw"
    Pslld "pslld"
    Psllq "psllq"
    Psllw "psllw"
    Psrad "psrad"
    Psraw "psraw"
    Psrld "psrld"
    Psrlq "psrlq"
    Psrlw "psrlw"
    Psubb "psubb"
    Psubd "psubd"
    Psubq "psubq"
    Psubsb "psubsb"
    Psubsw "psubsw"
    Psubusb "psubusb"
    Psubusw "psubusw"
    Psubw "psubw"
    Punpckhbw "punpckhbw"
    Punpckhdq "punpckhdq"
    Punpckhwd "punpckhwd"
    Punpcklbw "punpcklbw"
    Punpckldq "punpckldq"
    Punpcklwd "punpcklwd"
    Pxor "pxor"
}

wide! {
    Packsswb_mm_mmm64 Packsswb
    Pcmpgtb_mm_mmm64 Pcmpgtb
    Pcmpgtw_mm_mmm64 Pcmpgtw
    Pcmpgtd_mm_mmm64 Pcmpgtd
    Packuswb_mm_mmm64 Packuswb
    Punpckhbw_mm_mmm64 Punpckhbw
    Punpckhwd_mm_mmm64 Punpckhwd
    Punpckhdq_mm_mmm64 Punpckhdq
    Packssdw_mm_mmm64 Packssdw
    Pcmpeqb_mm_mmm64 Pcmpeqb
    Pcmpeqw_mm_mmm64 Pcmpeqw
    Pcmpeqd_mm_mmm64 Pcmpeqd
    Psrlw_mm_mmm64 Psrlw
    Psrld_mm_mmm64 Psrld
    Psrlq_mm_mmm64 Psrlq
    Paddq_mm_mmm64 Paddq
    Pmullw_mm_mmm64 Pmullw
    Psubusb_mm_mmm64 Psubusb
    Psubusw_mm_mmm64 Psubusw
    Pminub_mm_mmm64 Pminub
    Pand_mm_mmm64 Pand
    Paddusb_mm_mmm64 Paddusb
    Paddusw_mm_mmm64 Paddusw
    Pmaxub_mm_mmm64 Pmaxub
    Pandn_mm_mmm64 Pandn
    Pavgb_mm_mmm64 Pavgb
    Psraw_mm_mmm64 Psraw
    Psrad_mm_mmm64 Psrad
    Pavgw_mm_mmm64 Pavgw
    Pmulhuw_mm_mmm64 Pmulhuw
    Pmulhw_mm_mmm64 Pmulhw
    Psubsb_mm_mmm64 Psubsb
    Psubsw_mm_mmm64 Psubsw
    Pminsw_mm_mmm64 Pminsw
    Por_mm_mmm64 Por
    Paddsb_mm_mmm64 Paddsb
    Paddsw_mm_mmm64 Paddsw
    Pmaxsw_mm_mmm64 Pmaxsw
    Pxor_mm_mmm64 Pxor
    Psllw_mm_mmm64 Psllw
    Pslld_mm_mmm64 Pslld
    Psllq_mm_mmm64 Psllq
    Pmuludq_mm_mmm64 Pmuludq
    Pmaddwd_mm_mmm64 Pmaddwd
    Psadbw_mm_mmm64 Psadbw
    Psubb_mm_mmm64 Psubb
    Psubw_mm_mmm64 Psubw
    Psubd_mm_mmm64 Psubd
    Psubq_mm_mmm64 Psubq
    Paddb_mm_mmm64 Paddb
    Paddw_mm_mmm64 Paddw
    Paddd_mm_mmm64 Paddd
    Pshufb_mm_mmm64 Pshufb
    Phaddw_mm_mmm64 Phaddw
    Phaddd_mm_mmm64 Phaddd
    Phaddsw_mm_mmm64 Phaddsw
    Pmaddubsw_mm_mmm64 Pmaddubsw
    Phsubw_mm_mmm64 Phsubw
    Phsubd_mm_mmm64 Phsubd
    Phsubsw_mm_mmm64 Phsubsw
    Psignb_mm_mmm64 Psignb
    Psignw_mm_mmm64 Psignw
    Psignd_mm_mmm64 Psignd
    Pmulhrsw_mm_mmm64 Pmulhrsw
    Pabsb_mm_mmm64 Pabsb
    Pabsw_mm_mmm64 Pabsw
    Pabsd_mm_mmm64 Pabsd
}

/// The executor of an instruction on MMX registers.
pub(super) fn lookup<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
    use Code::*;
    Some(match code {
        Emms => emms::<M>,
        Movd_mm_rm32 => from_general::<M, 4>,
        Movq_mm_rm64 => from_general::<M, 8>,
        Movd_rm32_mm => to_general::<M, 4>,
        Movq_rm64_mm => to_general::<M, 8>,
        Movq_mm_mmm64 => load::<M>,
        Movq_mmm64_mm | Movntq_m64_mm => store::<M>,
        Pshufw_mm_mmm64_imm8 => pshufw::<M>,
        Palignr_mm_mmm64_imm8 => palignr::<M>,
        Pinsrw_mm_r32m16_imm8 | Pinsrw_mm_r64m16_imm8 => pinsrw::<M>,
        Pextrw_r32_mm_imm8 | Pextrw_r64_mm_imm8 => pextrw::<M>,
        Pmovmskb_r32_mm | Pmovmskb_r64_mm => pmovmskb::<M>,
        Maskmovq_rDI_mm_mm => maskmovq::<M>,
        Movq2dq_xmm_mm => movq2dq::<M>,
        Movdq2q_mm_xmm => movdq2q::<M>,
        Cvtpi2ps_xmm_mmm64 => to_float::<M, false>,
        Cvtpi2pd_xmm_mmm64 => to_float::<M, true>,
        Cvtps2pi_mm_xmmm64 => to_integer::<M, false, false>,
        Cvttps2pi_mm_xmmm64 => to_integer::<M, false, true>,
        Cvtpd2pi_mm_xmmm128 => to_integer::<M, true, false>,
        Cvttpd2pi_mm_xmmm128 => to_integer::<M, true, true>,
        _ => return lookup_binary(code),
    })
}
