//! Conversions whose operands differ in width, or of which one is a general register.

use super::mxcsr;
use super::shape::{
    Fp, LEGACY, V, VEX128, VEX256, bytes, compute, enter, host, host_imm, lane, lanes, narrow, narrow_source,
    unary, vector, widen, write, zero,
};
use super::{Exec, Machine, Operands};
use iced_x86::Code;
use std::arch::asm;

const FL: Fp = Fp::Flags;
const T4: Fp = Fp::Tiny32(4);
/// Exact: never raises a flag.
const NO: Fp = Fp::None;

host! {
    Cvtps2pd "cvtps2pd" FL;
    Cvtpd2ps "cvtpd2ps" T4;
    Cvtdq2pd "cvtdq2pd" NO;
    Cvtpd2dq "cvtpd2dq" FL;
    Cvttpd2dq "cvttpd2dq" FL;
    Vcvtph2ps "vcvtph2ps" FL;
}

host_imm! {
    Vcvtps2ph "vcvtps2ph {0}, {1}" Fp::Tiny16(4), >> 0, & 7: 0 1 2 3 4 5 6 7;
}

/// VCVTPS2PH: four or eight singles to halves, in a register (zeros above) or memory.
fn to_half<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = lanes(m, insn.register(1));
    if insn.is_memory(0) {
        // The address is looked at before the numbers.
        m.check_store_part(insn, 0, if E == VEX256 { 16 } else { 8 })?;
    }
    let result = compute::<M, Vcvtps2ph, E>(m, [zero(); 2], b, insn.immediate())?;
    let mut joined = bytes(result[0]);
    joined[8..].copy_from_slice(&bytes(result[1])[..8]);
    if !insn.is_memory(0) {
        write::<M, VEX128>(m, insn.register(0), [vector(joined), zero()]);
        return Ok(());
    }
    if E == VEX256 {
        m.store(insn, joined, false)
    } else {
        m.store(insn, u64::from_le_bytes(std::array::from_fn(|i| joined[i])).to_le_bytes(), false)
    }
}

/// An integer to the low element.
trait FromInteger {
    const FP: Fp;
    fn run(a: V, value: u64) -> V;
}

/// The low element to an integer.
trait ToInteger {
    fn run(b: V) -> u64;
}

fn from_integer<M: Machine, K: FromInteger, const E: u8, const W: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let value = if insn.is_memory(first + 1) {
        let mut wide = [0; 8];
        wide[..W].copy_from_slice(&m.load::<W>(insn, false)?);
        u64::from_le_bytes(wide)
    } else {
        m.x86().gpr[insn.register(first + 1) & 15]
    };
    let a = lane(m, insn.register(first), 0);
    let result = if K::FP == NO {
        K::run(a, value)
    } else {
        mxcsr::guarded(m, K::FP, || K::run(a, value), |low| [low, zero()])?
    };
    write::<M, E>(m, insn.register(0), [result, zero()]);
    Ok(())
}

fn to_integer<M: Machine, K: ToInteger, const E: u8, const W: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = narrow_source::<M, W>(m, insn, 1)?;
    let value = mxcsr::guarded(m, FL, || K::run(b), |_| [zero(); 2])?;
    m.x86().gpr[insn.register(0) & 15] = value;
    Ok(())
}

macro_rules! integers {
    (
        from { $($f:ident $f_insn:literal $f_fp:ident $f_w:literal $f1:ident $f2:ident;)* }
        to { $($t:ident $t_insn:literal $t_w:literal $t1:ident $t2:ident;)* }
    ) => {
        $(struct $f;
        impl FromInteger for $f {
            const FP: Fp = $f_fp;
            #[inline(always)]
            fn run(a: V, value: u64) -> V {
                let mut a = a;
                // SAFETY: computes on registers only.
                unsafe { asm!($f_insn, inout(xmm_reg) a, in(reg) value, options(nomem, nostack, preserves_flags)) }
                a
            }
        })*
        $(struct $t;
        impl ToInteger for $t {
            #[inline(always)]
            fn run(b: V) -> u64 {
                let value: u64;
                // SAFETY: computes on registers only; a 32-bit result clears the upper half.
                unsafe { asm!($t_insn, out(reg) value, in(xmm_reg) b, options(nomem, nostack, preserves_flags)) }
                value
            }
        })*

        fn integers<M: Machine>(code: Code) -> Option<Exec<M>> {
            Some(match code {
                $(Code::$f1 => from_integer::<M, $f, LEGACY, $f_w>,
                Code::$f2 => from_integer::<M, $f, VEX128, $f_w>,)*
                $(Code::$t1 => to_integer::<M, $t, LEGACY, $t_w>,
                Code::$t2 => to_integer::<M, $t, VEX128, $t_w>,)*
                _ => return None,
            })
        }
    };
}

integers! {
    from {
        SsFrom32 "cvtsi2ss {0}, {1:e}" FL 4 Cvtsi2ss_xmm_rm32 VEX_Vcvtsi2ss_xmm_xmm_rm32;
        SsFrom64 "cvtsi2ss {0}, {1:r}" FL 8 Cvtsi2ss_xmm_rm64 VEX_Vcvtsi2ss_xmm_xmm_rm64;
        SdFrom32 "cvtsi2sd {0}, {1:e}" NO 4 Cvtsi2sd_xmm_rm32 VEX_Vcvtsi2sd_xmm_xmm_rm32;
        SdFrom64 "cvtsi2sd {0}, {1:r}" FL 8 Cvtsi2sd_xmm_rm64 VEX_Vcvtsi2sd_xmm_xmm_rm64;
    }
    to {
        SsTo32 "cvtss2si {0:e}, {1}" 4 Cvtss2si_r32_xmmm32 VEX_Vcvtss2si_r32_xmmm32;
        SsTo64 "cvtss2si {0:r}, {1}" 4 Cvtss2si_r64_xmmm32 VEX_Vcvtss2si_r64_xmmm32;
        SdTo32 "cvtsd2si {0:e}, {1}" 8 Cvtsd2si_r32_xmmm64 VEX_Vcvtsd2si_r32_xmmm64;
        SdTo64 "cvtsd2si {0:r}, {1}" 8 Cvtsd2si_r64_xmmm64 VEX_Vcvtsd2si_r64_xmmm64;
        SsTrunc32 "cvttss2si {0:e}, {1}" 4 Cvttss2si_r32_xmmm32 VEX_Vcvttss2si_r32_xmmm32;
        SsTrunc64 "cvttss2si {0:r}, {1}" 4 Cvttss2si_r64_xmmm32 VEX_Vcvttss2si_r64_xmmm32;
        SdTrunc32 "cvttsd2si {0:e}, {1}" 8 Cvttsd2si_r32_xmmm64 VEX_Vcvttsd2si_r32_xmmm64;
        SdTrunc64 "cvttsd2si {0:r}, {1}" 8 Cvttsd2si_r64_xmmm64 VEX_Vcvttsd2si_r64_xmmm64;
    }
}

/// LDMXCSR: #GP(0) for a reserved bit.
fn ldmxcsr<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = u32::from_le_bytes(m.load::<4>(insn, false)?);
    if value & !mxcsr::VALID != 0 {
        return Err(m.fault(x86::reg::vector::GP));
    }
    m.x86().mxcsr = value;
    Ok(())
}

/// STMXCSR.
fn stmxcsr<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let value = m.x86().mxcsr;
    m.store(insn, value.to_le_bytes(), false)
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    let found: Exec<M> = match code {
        Code::Cvtps2pd_xmm_xmmm64 => widen::<M, Cvtps2pd, LEGACY, 8>,
        Code::VEX_Vcvtps2pd_xmm_xmmm64 => widen::<M, Cvtps2pd, VEX128, 8>,
        Code::VEX_Vcvtps2pd_ymm_xmmm128 => widen::<M, Cvtps2pd, VEX256, 16>,
        Code::Cvtdq2pd_xmm_xmmm64 => widen::<M, Cvtdq2pd, LEGACY, 8>,
        Code::VEX_Vcvtdq2pd_xmm_xmmm64 => widen::<M, Cvtdq2pd, VEX128, 8>,
        Code::VEX_Vcvtdq2pd_ymm_xmmm128 => widen::<M, Cvtdq2pd, VEX256, 16>,
        Code::VEX_Vcvtph2ps_xmm_xmmm64 => widen::<M, Vcvtph2ps, VEX128, 8>,
        Code::VEX_Vcvtph2ps_ymm_xmmm128 => widen::<M, Vcvtph2ps, VEX256, 16>,
        Code::Cvtpd2ps_xmm_xmmm128 => unary::<M, Cvtpd2ps, LEGACY>,
        Code::VEX_Vcvtpd2ps_xmm_xmmm128 => unary::<M, Cvtpd2ps, VEX128>,
        Code::VEX_Vcvtpd2ps_xmm_ymmm256 => narrow::<M, Cvtpd2ps>,
        Code::Cvtpd2dq_xmm_xmmm128 => unary::<M, Cvtpd2dq, LEGACY>,
        Code::VEX_Vcvtpd2dq_xmm_xmmm128 => unary::<M, Cvtpd2dq, VEX128>,
        Code::VEX_Vcvtpd2dq_xmm_ymmm256 => narrow::<M, Cvtpd2dq>,
        Code::Cvttpd2dq_xmm_xmmm128 => unary::<M, Cvttpd2dq, LEGACY>,
        Code::VEX_Vcvttpd2dq_xmm_xmmm128 => unary::<M, Cvttpd2dq, VEX128>,
        Code::VEX_Vcvttpd2dq_xmm_ymmm256 => narrow::<M, Cvttpd2dq>,
        Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8 => to_half::<M, VEX128>,
        Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8 => to_half::<M, VEX256>,
        Code::Ldmxcsr_m32 => ldmxcsr::<M, LEGACY>,
        Code::VEX_Vldmxcsr_m32 => ldmxcsr::<M, VEX128>,
        Code::Stmxcsr_m32 => stmxcsr::<M, LEGACY>,
        Code::VEX_Vstmxcsr_m32 => stmxcsr::<M, VEX128>,
        _ => return integers(code),
    };
    Some(found)
}
