//! Packed and scalar floating-point arithmetic, comparisons to masks, rounding, dot products.

use super::shape::{
    Fp, Kernel, LEGACY, V, VEX128, VEX256, bytes, compute, enter, host, host_imm, lanes, packed, scalar,
    source, unary, vector, write,
};
use super::{Exec, Machine};
use super::{Operands, mxcsr};
use iced_x86::Code;

const NO: Fp = Fp::None;
const FL: Fp = Fp::Flags;
const T4: Fp = Fp::Tiny32(4);
const T2: Fp = Fp::Tiny64(2);
const S4: Fp = Fp::Tiny32(1);
const S8: Fp = Fp::Tiny64(1);

macro_rules! rows {
    (
        binary { $($b:ident $b_insn:literal $b_fp:ident $b1:ident $b2:ident $b3:ident;)* }
        scalar { $($s:ident $s_insn:literal $s_fp:ident $s_w:literal $s1:ident $s2:ident;)* }
        unary { $($u:ident $u_insn:literal $u_fp:ident $u1:ident $u2:ident $u3:ident;)* }
    ) => {
        host! { $($b $b_insn $b_fp;)* $($s $s_insn $s_fp;)* $($u $u_insn $u_fp;)* }

        fn arithmetic<M: Machine>(code: Code) -> Option<Exec<M>> {
            Some(match code {
                $(Code::$b1 => packed::<M, $b, LEGACY>,
                Code::$b2 => packed::<M, $b, VEX128>,
                Code::$b3 => packed::<M, $b, VEX256>,)*
                $(Code::$s1 => scalar::<M, $s, LEGACY, $s_w>,
                Code::$s2 => scalar::<M, $s, VEX128, $s_w>,)*
                $(Code::$u1 => unary::<M, $u, LEGACY>,
                Code::$u2 => unary::<M, $u, VEX128>,
                Code::$u3 => unary::<M, $u, VEX256>,)*
                _ => return None,
            })
        }
    };
}

rows! {
    binary {
        Addps "addps" T4 Addps_xmm_xmmm128 VEX_Vaddps_xmm_xmm_xmmm128 VEX_Vaddps_ymm_ymm_ymmm256;
        Addpd "addpd" T2 Addpd_xmm_xmmm128 VEX_Vaddpd_xmm_xmm_xmmm128 VEX_Vaddpd_ymm_ymm_ymmm256;
        Mulps "mulps" T4 Mulps_xmm_xmmm128 VEX_Vmulps_xmm_xmm_xmmm128 VEX_Vmulps_ymm_ymm_ymmm256;
        Mulpd "mulpd" T2 Mulpd_xmm_xmmm128 VEX_Vmulpd_xmm_xmm_xmmm128 VEX_Vmulpd_ymm_ymm_ymmm256;
        Subps "subps" T4 Subps_xmm_xmmm128 VEX_Vsubps_xmm_xmm_xmmm128 VEX_Vsubps_ymm_ymm_ymmm256;
        Subpd "subpd" T2 Subpd_xmm_xmmm128 VEX_Vsubpd_xmm_xmm_xmmm128 VEX_Vsubpd_ymm_ymm_ymmm256;
        Divps "divps" T4 Divps_xmm_xmmm128 VEX_Vdivps_xmm_xmm_xmmm128 VEX_Vdivps_ymm_ymm_ymmm256;
        Divpd "divpd" T2 Divpd_xmm_xmmm128 VEX_Vdivpd_xmm_xmm_xmmm128 VEX_Vdivpd_ymm_ymm_ymmm256;
        Minps "minps" FL Minps_xmm_xmmm128 VEX_Vminps_xmm_xmm_xmmm128 VEX_Vminps_ymm_ymm_ymmm256;
        Minpd "minpd" FL Minpd_xmm_xmmm128 VEX_Vminpd_xmm_xmm_xmmm128 VEX_Vminpd_ymm_ymm_ymmm256;
        Maxps "maxps" FL Maxps_xmm_xmmm128 VEX_Vmaxps_xmm_xmm_xmmm128 VEX_Vmaxps_ymm_ymm_ymmm256;
        Maxpd "maxpd" FL Maxpd_xmm_xmmm128 VEX_Vmaxpd_xmm_xmm_xmmm128 VEX_Vmaxpd_ymm_ymm_ymmm256;
        Haddps "haddps" T4 Haddps_xmm_xmmm128 VEX_Vhaddps_xmm_xmm_xmmm128 VEX_Vhaddps_ymm_ymm_ymmm256;
        Haddpd "haddpd" T2 Haddpd_xmm_xmmm128 VEX_Vhaddpd_xmm_xmm_xmmm128 VEX_Vhaddpd_ymm_ymm_ymmm256;
        Hsubps "hsubps" T4 Hsubps_xmm_xmmm128 VEX_Vhsubps_xmm_xmm_xmmm128 VEX_Vhsubps_ymm_ymm_ymmm256;
        Hsubpd "hsubpd" T2 Hsubpd_xmm_xmmm128 VEX_Vhsubpd_xmm_xmm_xmmm128 VEX_Vhsubpd_ymm_ymm_ymmm256;
        Addsubps "addsubps" T4 Addsubps_xmm_xmmm128 VEX_Vaddsubps_xmm_xmm_xmmm128 VEX_Vaddsubps_ymm_ymm_ymmm256;
        Addsubpd "addsubpd" T2 Addsubpd_xmm_xmmm128 VEX_Vaddsubpd_xmm_xmm_xmmm128 VEX_Vaddsubpd_ymm_ymm_ymmm256;
    }
    scalar {
        Addss "addss" S4 4 Addss_xmm_xmmm32 VEX_Vaddss_xmm_xmm_xmmm32;
        Addsd "addsd" S8 8 Addsd_xmm_xmmm64 VEX_Vaddsd_xmm_xmm_xmmm64;
        Mulss "mulss" S4 4 Mulss_xmm_xmmm32 VEX_Vmulss_xmm_xmm_xmmm32;
        Mulsd "mulsd" S8 8 Mulsd_xmm_xmmm64 VEX_Vmulsd_xmm_xmm_xmmm64;
        Subss "subss" S4 4 Subss_xmm_xmmm32 VEX_Vsubss_xmm_xmm_xmmm32;
        Subsd "subsd" S8 8 Subsd_xmm_xmmm64 VEX_Vsubsd_xmm_xmm_xmmm64;
        Divss "divss" S4 4 Divss_xmm_xmmm32 VEX_Vdivss_xmm_xmm_xmmm32;
        Divsd "divsd" S8 8 Divsd_xmm_xmmm64 VEX_Vdivsd_xmm_xmm_xmmm64;
        Minss "minss" FL 4 Minss_xmm_xmmm32 VEX_Vminss_xmm_xmm_xmmm32;
        Minsd "minsd" FL 8 Minsd_xmm_xmmm64 VEX_Vminsd_xmm_xmm_xmmm64;
        Maxss "maxss" FL 4 Maxss_xmm_xmmm32 VEX_Vmaxss_xmm_xmm_xmmm32;
        Maxsd "maxsd" FL 8 Maxsd_xmm_xmmm64 VEX_Vmaxsd_xmm_xmm_xmmm64;
        Sqrtss "sqrtss" FL 4 Sqrtss_xmm_xmmm32 VEX_Vsqrtss_xmm_xmm_xmmm32;
        Sqrtsd "sqrtsd" FL 8 Sqrtsd_xmm_xmmm64 VEX_Vsqrtsd_xmm_xmm_xmmm64;
        Rcpss "rcpss" NO 4 Rcpss_xmm_xmmm32 VEX_Vrcpss_xmm_xmm_xmmm32;
        Rsqrtss "rsqrtss" NO 4 Rsqrtss_xmm_xmmm32 VEX_Vrsqrtss_xmm_xmm_xmmm32;
        Cvtss2sd "cvtss2sd" FL 4 Cvtss2sd_xmm_xmmm32 VEX_Vcvtss2sd_xmm_xmm_xmmm32;
        Cvtsd2ss "cvtsd2ss" S4 8 Cvtsd2ss_xmm_xmmm64 VEX_Vcvtsd2ss_xmm_xmm_xmmm64;
    }
    unary {
        Sqrtps "sqrtps" FL Sqrtps_xmm_xmmm128 VEX_Vsqrtps_xmm_xmmm128 VEX_Vsqrtps_ymm_ymmm256;
        Sqrtpd "sqrtpd" FL Sqrtpd_xmm_xmmm128 VEX_Vsqrtpd_xmm_xmmm128 VEX_Vsqrtpd_ymm_ymmm256;
        Rsqrtps "rsqrtps" NO Rsqrtps_xmm_xmmm128 VEX_Vrsqrtps_xmm_xmmm128 VEX_Vrsqrtps_ymm_ymmm256;
        Rcpps "rcpps" NO Rcpps_xmm_xmmm128 VEX_Vrcpps_xmm_xmmm128 VEX_Vrcpps_ymm_ymmm256;
        Cvtdq2ps "cvtdq2ps" FL Cvtdq2ps_xmm_xmmm128 VEX_Vcvtdq2ps_xmm_xmmm128 VEX_Vcvtdq2ps_ymm_ymmm256;
        Cvtps2dq "cvtps2dq" FL Cvtps2dq_xmm_xmmm128 VEX_Vcvtps2dq_xmm_xmmm128 VEX_Vcvtps2dq_ymm_ymmm256;
        Cvttps2dq "cvttps2dq" FL Cvttps2dq_xmm_xmmm128 VEX_Vcvttps2dq_xmm_xmmm128 VEX_Vcvttps2dq_ymm_ymmm256;
    }
}

host_imm! {
    Cmpps "cmpps {0}, {1}" FL, >> 0, & 7: 0 1 2 3 4 5 6 7;
    Cmppd "cmppd {0}, {1}" FL, >> 0, & 7: 0 1 2 3 4 5 6 7;
    Cmpss "cmpss {0}, {1}" FL, >> 0, & 7: 0 1 2 3 4 5 6 7;
    Cmpsd "cmpsd {0}, {1}" FL, >> 0, & 7: 0 1 2 3 4 5 6 7;
    Roundps "roundps {0}, {1}" FL, >> 0, & 15: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;
    Roundpd "roundpd {0}, {1}" FL, >> 0, & 15: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;
    Roundss "roundss {0}, {1}" FL, >> 0, & 15: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;
    Roundsd "roundsd {0}, {1}" FL, >> 0, & 15: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;
    Vcmpps "vcmpps {0}, {0}, {1}" FL, >> 0, & 31:
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
    Vcmppd "vcmppd {0}, {0}, {1}" FL, >> 0, & 31:
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
    Vcmpss "vcmpss {0}, {0}, {1}" FL, >> 0, & 31:
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
    Vcmpsd "vcmpsd {0}, {0}, {1}" FL, >> 0, & 31:
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
    Dppd "dppd {0}, {1}" T2, >> 0, & 0x33: 0x00 0x01 0x02 0x03 0x10 0x11 0x12 0x13 0x20 0x21 0x22 0x23 0x30 0x31 0x32 0x33;
    Dpps "dpps {0}, {1}" T4, >> 0, & 0xff:
        0x0 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8 0x9 0xa 0xb 0xc 0xd 0xe 0xf
        0x10 0x11 0x12 0x13 0x14 0x15 0x16 0x17 0x18 0x19 0x1a 0x1b 0x1c 0x1d 0x1e 0x1f
        0x20 0x21 0x22 0x23 0x24 0x25 0x26 0x27 0x28 0x29 0x2a 0x2b 0x2c 0x2d 0x2e 0x2f
        0x30 0x31 0x32 0x33 0x34 0x35 0x36 0x37 0x38 0x39 0x3a 0x3b 0x3c 0x3d 0x3e 0x3f
        0x40 0x41 0x42 0x43 0x44 0x45 0x46 0x47 0x48 0x49 0x4a 0x4b 0x4c 0x4d 0x4e 0x4f
        0x50 0x51 0x52 0x53 0x54 0x55 0x56 0x57 0x58 0x59 0x5a 0x5b 0x5c 0x5d 0x5e 0x5f
        0x60 0x61 0x62 0x63 0x64 0x65 0x66 0x67 0x68 0x69 0x6a 0x6b 0x6c 0x6d 0x6e 0x6f
        0x70 0x71 0x72 0x73 0x74 0x75 0x76 0x77 0x78 0x79 0x7a 0x7b 0x7c 0x7d 0x7e 0x7f
        0x80 0x81 0x82 0x83 0x84 0x85 0x86 0x87 0x88 0x89 0x8a 0x8b 0x8c 0x8d 0x8e 0x8f
        0x90 0x91 0x92 0x93 0x94 0x95 0x96 0x97 0x98 0x99 0x9a 0x9b 0x9c 0x9d 0x9e 0x9f
        0xa0 0xa1 0xa2 0xa3 0xa4 0xa5 0xa6 0xa7 0xa8 0xa9 0xaa 0xab 0xac 0xad 0xae 0xaf
        0xb0 0xb1 0xb2 0xb3 0xb4 0xb5 0xb6 0xb7 0xb8 0xb9 0xba 0xbb 0xbc 0xbd 0xbe 0xbf
        0xc0 0xc1 0xc2 0xc3 0xc4 0xc5 0xc6 0xc7 0xc8 0xc9 0xca 0xcb 0xcc 0xcd 0xce 0xcf
        0xd0 0xd1 0xd2 0xd3 0xd4 0xd5 0xd6 0xd7 0xd8 0xd9 0xda 0xdb 0xdc 0xdd 0xde 0xdf
        0xe0 0xe1 0xe2 0xe3 0xe4 0xe5 0xe6 0xe7 0xe8 0xe9 0xea 0xeb 0xec 0xed 0xee 0xef
        0xf0 0xf1 0xf2 0xf3 0xf4 0xf5 0xf6 0xf7 0xf8 0xf9 0xfa 0xfb 0xfc 0xfd 0xfe 0xff;
}

/// The elements of `SIZE` bytes that `pick` chooses for each place, zero for `None`.
fn gather<const SIZE: usize>(from: V, pick: impl Fn(usize) -> Option<usize>) -> V {
    let from = bytes(from);
    let mut to = [0; 16];
    for n in 0..16 / SIZE {
        if let Some(other) = pick(n) {
            to[n * SIZE..][..SIZE].copy_from_slice(&from[other * SIZE..][..SIZE]);
        }
    }
    vector(to)
}

/// DPPS and DPPD: unmasked exceptions are those of the products, then of the sums, step by step (SDM vol. 2, DPPS).
fn dot<M: Machine, K: Kernel, Mul: Kernel, Add: Kernel, const SIZE: usize, const E: u8>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    if mxcsr::all_masked(m) {
        return packed::<M, K, E>(m, insn);
    }
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let b = source::<M, E>(m, insn, first + 1)?;
    let a = lanes(m, insn.register(first));
    let imm = insn.immediate();
    let chosen = |v: [V; 2]| v.map(|lane| gather::<SIZE>(lane, |n| (imm >> (4 + n) & 1 != 0).then_some(n)));
    let mut terms = compute::<M, Mul, E>(m, chosen(a), chosen(b), 0)?;
    let mut count = 16 / SIZE;
    while count > 1 {
        count /= 2;
        let half = |odd| terms.map(|lane| gather::<SIZE>(lane, |n| (n < count).then_some(2 * n + odd)));
        terms = compute::<M, Add, E>(m, half(0), half(1), 0)?;
    }
    let result = compute::<M, K, E>(m, a, b, imm)?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    let found: Exec<M> = match code {
        Code::Cmpps_xmm_xmmm128_imm8 => packed::<M, Cmpps, LEGACY>,
        Code::Cmppd_xmm_xmmm128_imm8 => packed::<M, Cmppd, LEGACY>,
        Code::Cmpss_xmm_xmmm32_imm8 => scalar::<M, Cmpss, LEGACY, 4>,
        Code::Cmpsd_xmm_xmmm64_imm8 => scalar::<M, Cmpsd, LEGACY, 8>,
        Code::VEX_Vcmpps_xmm_xmm_xmmm128_imm8 => packed::<M, Vcmpps, VEX128>,
        Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8 => packed::<M, Vcmpps, VEX256>,
        Code::VEX_Vcmppd_xmm_xmm_xmmm128_imm8 => packed::<M, Vcmppd, VEX128>,
        Code::VEX_Vcmppd_ymm_ymm_ymmm256_imm8 => packed::<M, Vcmppd, VEX256>,
        Code::VEX_Vcmpss_xmm_xmm_xmmm32_imm8 => scalar::<M, Vcmpss, VEX128, 4>,
        Code::VEX_Vcmpsd_xmm_xmm_xmmm64_imm8 => scalar::<M, Vcmpsd, VEX128, 8>,
        Code::Roundps_xmm_xmmm128_imm8 => unary::<M, Roundps, LEGACY>,
        Code::VEX_Vroundps_xmm_xmmm128_imm8 => unary::<M, Roundps, VEX128>,
        Code::VEX_Vroundps_ymm_ymmm256_imm8 => unary::<M, Roundps, VEX256>,
        Code::Roundpd_xmm_xmmm128_imm8 => unary::<M, Roundpd, LEGACY>,
        Code::VEX_Vroundpd_xmm_xmmm128_imm8 => unary::<M, Roundpd, VEX128>,
        Code::VEX_Vroundpd_ymm_ymmm256_imm8 => unary::<M, Roundpd, VEX256>,
        Code::Roundss_xmm_xmmm32_imm8 => scalar::<M, Roundss, LEGACY, 4>,
        Code::VEX_Vroundss_xmm_xmm_xmmm32_imm8 => scalar::<M, Roundss, VEX128, 4>,
        Code::Roundsd_xmm_xmmm64_imm8 => scalar::<M, Roundsd, LEGACY, 8>,
        Code::VEX_Vroundsd_xmm_xmm_xmmm64_imm8 => scalar::<M, Roundsd, VEX128, 8>,
        Code::Dpps_xmm_xmmm128_imm8 => dot::<M, Dpps, Mulps, Addps, 4, LEGACY>,
        Code::VEX_Vdpps_xmm_xmm_xmmm128_imm8 => dot::<M, Dpps, Mulps, Addps, 4, VEX128>,
        Code::VEX_Vdpps_ymm_ymm_ymmm256_imm8 => dot::<M, Dpps, Mulps, Addps, 4, VEX256>,
        Code::Dppd_xmm_xmmm128_imm8 => dot::<M, Dppd, Mulpd, Addpd, 8, LEGACY>,
        Code::VEX_Vdppd_xmm_xmm_xmmm128_imm8 => dot::<M, Dppd, Mulpd, Addpd, 8, VEX128>,
        _ => return arithmetic(code),
    };
    Some(found)
}
