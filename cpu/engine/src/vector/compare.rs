//! Comparisons that set RFLAGS, and sign masks to general registers.

use super::mxcsr;
use super::shape::{Fp, LEGACY, V, VEX128, VEX256, bytes, enter, lane, lanes, narrow_source, source, zero};
use super::{Exec, Machine, Operands};
use iced_x86::Code;
use x86::reg::flags;

trait Ordered {
    /// ZF, PF and CF as the host sets them.
    fn run(a: V, b: V) -> u64;
}

macro_rules! ordered {
    ($($name:ident $insn:literal;)*) => { $(
        struct $name;
        impl Ordered for $name {
            #[inline(always)]
            fn run(a: V, b: V) -> u64 {
                let (zf, pf, cf): (u8, u8, u8);
                // SAFETY: computes on registers and flags only.
                unsafe {
                    std::arch::asm!(concat!($insn, " {0}, {1}"), "sete {2}", "setp {3}", "setc {4}",
                        in(xmm_reg) a, in(xmm_reg) b, out(reg_byte) zf, out(reg_byte) pf, out(reg_byte) cf,
                        options(nomem, nostack));
                }
                u64::from(zf) * flags::ZF | u64::from(pf) * flags::PF | u64::from(cf) * flags::CF
            }
        }
    )* };
}

ordered! {
    Comiss "comiss";
    Comisd "comisd";
    Ucomiss "ucomiss";
    Ucomisd "ucomisd";
}

fn ordered<M: Machine, K: Ordered, const E: u8, const W: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = narrow_source::<M, W>(m, insn, 1)?;
    let a = lane(m, insn.register(0), 0);
    let value = mxcsr::guarded(m, Fp::Flags, || K::run(a, b), |_| [zero(); 2])?;
    m.set_flags(value);
    Ok(())
}

/// PTEST, VTESTPS, VTESTPD: `MASK` is what counts of each 64 bits; ZF for a & b = 0, CF for !a & b = 0.
fn test<M: Machine, const E: u8, const MASK: u64>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = source::<M, E>(m, insn, 1)?;
    let a = lanes(m, insn.register(0));
    let (mut and, mut and_not) = (0, 0);
    for l in 0..if E == VEX256 { 2 } else { 1 } {
        let (a, b) = (u128::from_le_bytes(bytes(a[l])), u128::from_le_bytes(bytes(b[l])));
        and |= a & b;
        and_not |= !a & b;
    }
    let mask = u128::from(MASK) << 64 | u128::from(MASK);
    let zf = if and & mask == 0 { flags::ZF } else { 0 };
    let cf = if and_not & mask == 0 { flags::CF } else { 0 };
    m.set_flags(zf | cf);
    Ok(())
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD: the top bit of each `N` bytes.
fn sign_mask<M: Machine, const E: u8, const N: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = lanes(m, insn.register(1));
    let mask = |v: V| {
        let bits: i32;
        // SAFETY: computes on registers only.
        unsafe {
            std::arch::asm!("pmovmskb {0:e}, {1}", out(reg) bits, in(xmm_reg) v,
                options(pure, nomem, nostack, preserves_flags));
        }
        let bits = u64::from(bits.cast_unsigned());
        if N == 1 { bits } else { (0..16 / N).fold(0, |all, i| all | (bits >> (i * N + N - 1) & 1) << i) }
    };
    let mut value = mask(b[0]);
    if E == VEX256 {
        value |= mask(b[1]) << (16 / N);
    }
    m.x86().gpr[insn.register(0) & 15] = value;
    Ok(())
}

const ALL: u64 = !0;
const SINGLES: u64 = 0x8000_0000_8000_0000;
const DOUBLES: u64 = 1 << 63;

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::Ucomiss_xmm_xmmm32 => ordered::<M, Ucomiss, LEGACY, 4>,
        Code::VEX_Vucomiss_xmm_xmmm32 => ordered::<M, Ucomiss, VEX128, 4>,
        Code::Ucomisd_xmm_xmmm64 => ordered::<M, Ucomisd, LEGACY, 8>,
        Code::VEX_Vucomisd_xmm_xmmm64 => ordered::<M, Ucomisd, VEX128, 8>,
        Code::Comiss_xmm_xmmm32 => ordered::<M, Comiss, LEGACY, 4>,
        Code::VEX_Vcomiss_xmm_xmmm32 => ordered::<M, Comiss, VEX128, 4>,
        Code::Comisd_xmm_xmmm64 => ordered::<M, Comisd, LEGACY, 8>,
        Code::VEX_Vcomisd_xmm_xmmm64 => ordered::<M, Comisd, VEX128, 8>,
        Code::Ptest_xmm_xmmm128 => test::<M, LEGACY, ALL>,
        Code::VEX_Vptest_xmm_xmmm128 => test::<M, VEX128, ALL>,
        Code::VEX_Vptest_ymm_ymmm256 => test::<M, VEX256, ALL>,
        Code::VEX_Vtestps_xmm_xmmm128 => test::<M, VEX128, SINGLES>,
        Code::VEX_Vtestps_ymm_ymmm256 => test::<M, VEX256, SINGLES>,
        Code::VEX_Vtestpd_xmm_xmmm128 => test::<M, VEX128, DOUBLES>,
        Code::VEX_Vtestpd_ymm_ymmm256 => test::<M, VEX256, DOUBLES>,
        Code::Pmovmskb_r32_xmm | Code::Pmovmskb_r64_xmm => sign_mask::<M, LEGACY, 1>,
        Code::VEX_Vpmovmskb_r32_xmm | Code::VEX_Vpmovmskb_r64_xmm => sign_mask::<M, VEX128, 1>,
        Code::VEX_Vpmovmskb_r32_ymm | Code::VEX_Vpmovmskb_r64_ymm => sign_mask::<M, VEX256, 1>,
        Code::Movmskps_r32_xmm | Code::Movmskps_r64_xmm => sign_mask::<M, LEGACY, 4>,
        Code::VEX_Vmovmskps_r32_xmm | Code::VEX_Vmovmskps_r64_xmm => sign_mask::<M, VEX128, 4>,
        Code::VEX_Vmovmskps_r32_ymm | Code::VEX_Vmovmskps_r64_ymm => sign_mask::<M, VEX256, 4>,
        Code::Movmskpd_r32_xmm | Code::Movmskpd_r64_xmm => sign_mask::<M, LEGACY, 8>,
        Code::VEX_Vmovmskpd_r32_xmm | Code::VEX_Vmovmskpd_r64_xmm => sign_mask::<M, VEX128, 8>,
        Code::VEX_Vmovmskpd_r32_ymm | Code::VEX_Vmovmskpd_r64_ymm => sign_mask::<M, VEX256, 8>,
        _ => return None,
    })
}
