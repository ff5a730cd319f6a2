//! Instructions that read their destination and two sources: AVX-VNNI's dot products, and fused multiply-add:
//! `dst = ±(dst, src2, src3 in the order of the name) ± ...`; the scalar forms keep dst's upper part.

use super::shape::{Fp, V, VEX128, VEX256, enter, lane, lanes, narrow_source, source, write, zero};
use super::{Exec, Machine, Operands, mxcsr};
use iced_x86::Code;

const T4: Fp = Fp::Tiny32(4);
const T2: Fp = Fp::Tiny64(2);
const S4: Fp = Fp::Tiny32(1);
const S8: Fp = Fp::Tiny64(1);
const NO: Fp = Fp::None;

/// One host instruction of three registers, the first of which it writes.
trait Fused {
    const FP: Fp;
    fn run(a: V, b: V, c: V) -> V;
}

fn packed<M: Machine, K: Fused, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let c = source::<M, E>(m, insn, 2)?;
    let a = lanes(m, insn.register(0));
    let b = lanes(m, insn.register(1));
    let kernel = || [K::run(a[0], b[0], c[0]), if E == VEX256 { K::run(a[1], b[1], c[1]) } else { zero() }];
    let result = mxcsr::guarded(m, K::FP, kernel, |both| both)?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

fn scalar<M: Machine, K: Fused, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX128>(m)?;
    let c = narrow_source::<M, W>(m, insn, 2)?;
    let a = lane(m, insn.register(0), 0);
    let b = lane(m, insn.register(1), 0);
    let result = mxcsr::guarded(m, K::FP, || K::run(a, b, c), |low| [low, zero()])?;
    write::<M, VEX128>(m, insn.register(0), [result, zero()]);
    Ok(())
}

macro_rules! rows {
    ($($insn:literal $fp:ident $($code:ident $shape:ident $arg:tt),+;)*) => {
        pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
            Some(match code {
                $($(Code::$code)|+ => {
                    struct Kernel;
                    impl Fused for Kernel {
                        const FP: Fp = $fp;
                        #[inline(always)]
                        fn run(a: V, b: V, c: V) -> V {
                            let mut a = a;
                            // SAFETY: computes on registers only; the host has FMA and AVX-VNNI when the guest has.
                            unsafe {
                                std::arch::asm!(concat!($insn, " {0}, {1}, {2}"), inout(xmm_reg) a, in(xmm_reg) b,
                                    in(xmm_reg) c, options(nomem, nostack, preserves_flags));
                            }
                            a
                        }
                    }
                    match code {
                        $(Code::$code => $shape::<M, Kernel, $arg>,)+
                        _ => return None,
                    }
                })*
                _ => return None,
            })
        }
    };
}

rows! {
    "vfmaddsub132ps" T4 VEX_Vfmaddsub132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmaddsub132pd" T2 VEX_Vfmaddsub132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmaddsub213ps" T4 VEX_Vfmaddsub213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmaddsub213pd" T2 VEX_Vfmaddsub213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmaddsub231ps" T4 VEX_Vfmaddsub231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmaddsub231pd" T2 VEX_Vfmaddsub231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmaddsub231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd132ps" T4 VEX_Vfmsubadd132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd132pd" T2 VEX_Vfmsubadd132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd213ps" T4 VEX_Vfmsubadd213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd213pd" T2 VEX_Vfmsubadd213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd231ps" T4 VEX_Vfmsubadd231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsubadd231pd" T2 VEX_Vfmsubadd231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsubadd231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd132ps" T4 VEX_Vfmadd132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd132pd" T2 VEX_Vfmadd132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd132ss" S4 VEX_Vfmadd132ss_xmm_xmm_xmmm32 scalar 4;
    "vfmadd132sd" S8 VEX_Vfmadd132sd_xmm_xmm_xmmm64 scalar 8;
    "vfmadd213ps" T4 VEX_Vfmadd213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd213pd" T2 VEX_Vfmadd213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd213ss" S4 VEX_Vfmadd213ss_xmm_xmm_xmmm32 scalar 4;
    "vfmadd213sd" S8 VEX_Vfmadd213sd_xmm_xmm_xmmm64 scalar 8;
    "vfmadd231ps" T4 VEX_Vfmadd231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd231pd" T2 VEX_Vfmadd231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmadd231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmadd231ss" S4 VEX_Vfmadd231ss_xmm_xmm_xmmm32 scalar 4;
    "vfmadd231sd" S8 VEX_Vfmadd231sd_xmm_xmm_xmmm64 scalar 8;
    "vfmsub132ps" T4 VEX_Vfmsub132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub132pd" T2 VEX_Vfmsub132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub132ss" S4 VEX_Vfmsub132ss_xmm_xmm_xmmm32 scalar 4;
    "vfmsub132sd" S8 VEX_Vfmsub132sd_xmm_xmm_xmmm64 scalar 8;
    "vfmsub213ps" T4 VEX_Vfmsub213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub213pd" T2 VEX_Vfmsub213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub213ss" S4 VEX_Vfmsub213ss_xmm_xmm_xmmm32 scalar 4;
    "vfmsub213sd" S8 VEX_Vfmsub213sd_xmm_xmm_xmmm64 scalar 8;
    "vfmsub231ps" T4 VEX_Vfmsub231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub231pd" T2 VEX_Vfmsub231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfmsub231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfmsub231ss" S4 VEX_Vfmsub231ss_xmm_xmm_xmmm32 scalar 4;
    "vfmsub231sd" S8 VEX_Vfmsub231sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmadd132ps" T4 VEX_Vfnmadd132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd132pd" T2 VEX_Vfnmadd132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd132ss" S4 VEX_Vfnmadd132ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmadd132sd" S8 VEX_Vfnmadd132sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmadd213ps" T4 VEX_Vfnmadd213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd213pd" T2 VEX_Vfnmadd213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd213ss" S4 VEX_Vfnmadd213ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmadd213sd" S8 VEX_Vfnmadd213sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmadd231ps" T4 VEX_Vfnmadd231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd231pd" T2 VEX_Vfnmadd231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmadd231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmadd231ss" S4 VEX_Vfnmadd231ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmadd231sd" S8 VEX_Vfnmadd231sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmsub132ps" T4 VEX_Vfnmsub132ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub132ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub132pd" T2 VEX_Vfnmsub132pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub132pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub132ss" S4 VEX_Vfnmsub132ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmsub132sd" S8 VEX_Vfnmsub132sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmsub213ps" T4 VEX_Vfnmsub213ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub213ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub213pd" T2 VEX_Vfnmsub213pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub213pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub213ss" S4 VEX_Vfnmsub213ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmsub213sd" S8 VEX_Vfnmsub213sd_xmm_xmm_xmmm64 scalar 8;
    "vfnmsub231ps" T4 VEX_Vfnmsub231ps_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub231ps_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub231pd" T2 VEX_Vfnmsub231pd_xmm_xmm_xmmm128 packed VEX128, VEX_Vfnmsub231pd_ymm_ymm_ymmm256 packed VEX256;
    "vfnmsub231ss" S4 VEX_Vfnmsub231ss_xmm_xmm_xmmm32 scalar 4;
    "vfnmsub231sd" S8 VEX_Vfnmsub231sd_xmm_xmm_xmmm64 scalar 8;
    "{{vex}} vpdpbusd" NO VEX_Vpdpbusd_xmm_xmm_xmmm128 packed VEX128, VEX_Vpdpbusd_ymm_ymm_ymmm256 packed VEX256;
    "{{vex}} vpdpbusds" NO VEX_Vpdpbusds_xmm_xmm_xmmm128 packed VEX128, VEX_Vpdpbusds_ymm_ymm_ymmm256 packed VEX256;
    "{{vex}} vpdpwssd" NO VEX_Vpdpwssd_xmm_xmm_xmmm128 packed VEX128, VEX_Vpdpwssd_ymm_ymm_ymmm256 packed VEX256;
    "{{vex}} vpdpwssds" NO VEX_Vpdpwssds_xmm_xmm_xmmm128 packed VEX128, VEX_Vpdpwssds_ymm_ymm_ymmm256 packed VEX256;
}
