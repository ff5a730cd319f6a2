//! AES, SHA, carry-less multiplication and GF(2^8).

use super::shape::{
    Fp, Kernel, LEGACY, V, VEX128, VEX256, bytes, host, host_imm, packed, unary, vector, zero,
};
use super::{Exec, Machine};
use iced_x86::Code;

const NO: Fp = Fp::None;

host! {
    Aesenc "aesenc" NO;
    Aesenclast "aesenclast" NO;
    Aesdec "aesdec" NO;
    Aesdeclast "aesdeclast" NO;
    Aesimc "aesimc" NO;
    Sha1nexte "sha1nexte" NO;
    Sha1msg1 "sha1msg1" NO;
    Sha1msg2 "sha1msg2" NO;
    Sha256msg1 "sha256msg1" NO;
    Sha256msg2 "sha256msg2" NO;
    Gf2p8mulb "gf2p8mulb" NO;
}

host_imm! {
    Pclmulqdq "pclmulqdq {0}, {1}" NO, >> 0, & 0x11: 0x00 0x01 0x10 0x11;
    Sha1rnds4 "sha1rnds4 {0}, {1}" NO, >> 0, & 3: 0 1 2 3;
    Keygen "aeskeygenassist {0}, {1}" NO, >> 0, & 0: 0;
    Affine "gf2p8affineqb {0}, {1}" NO, >> 0, & 0: 0;
    AffineInverse "gf2p8affineinvqb {0}, {1}" NO, >> 0, & 0: 0;
}

/// AESKEYGENASSIST: the immediate is the round constant, added to elements 1 and 3.
struct AesKeygenAssist;
impl Kernel for AesKeygenAssist {
    fn run(_: V, b: V, imm: u8) -> V {
        let mut result = bytes(Keygen::run(zero(), b, 0));
        result[4] ^= imm;
        result[12] ^= imm;
        vector(result)
    }
}

/// The affine transformations: the immediate is the constant added to each byte.
struct WithConstant<K>(std::marker::PhantomData<K>);
impl<K: Kernel> Kernel for WithConstant<K> {
    // The upper lane takes the same constant.
    fn run(a: V, b: V, imm: u8) -> V {
        vector(bytes(K::run(a, b, 0)).map(|byte| byte ^ imm))
    }
}

/// SHA256RNDS2 takes its round words from XMM0.
fn sha256rnds2<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    use super::Operands;
    use super::shape::{enter, lane, source, write};
    enter::<M, LEGACY>(m)?;
    let b = source::<M, LEGACY>(m, insn, 1)?[0];
    let mut a = lane(m, insn.register(0), 0);
    let words = lane(m, 0, 0);
    // SAFETY: computes on registers only; the host has SHA when the guest has.
    unsafe {
        std::arch::asm!("sha256rnds2 {0}, {1}", inout(xmm_reg) a, in(xmm_reg) b, in("xmm0") words,
            options(pure, nomem, nostack, preserves_flags));
    }
    write::<M, LEGACY>(m, insn.register(0), [a, zero()]);
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::Aesenc_xmm_xmmm128 => packed::<M, Aesenc, LEGACY>,
        Code::VEX_Vaesenc_xmm_xmm_xmmm128 => packed::<M, Aesenc, VEX128>,
        Code::VEX_Vaesenc_ymm_ymm_ymmm256 => packed::<M, Aesenc, VEX256>,
        Code::Aesenclast_xmm_xmmm128 => packed::<M, Aesenclast, LEGACY>,
        Code::VEX_Vaesenclast_xmm_xmm_xmmm128 => packed::<M, Aesenclast, VEX128>,
        Code::VEX_Vaesenclast_ymm_ymm_ymmm256 => packed::<M, Aesenclast, VEX256>,
        Code::Aesdec_xmm_xmmm128 => packed::<M, Aesdec, LEGACY>,
        Code::VEX_Vaesdec_xmm_xmm_xmmm128 => packed::<M, Aesdec, VEX128>,
        Code::VEX_Vaesdec_ymm_ymm_ymmm256 => packed::<M, Aesdec, VEX256>,
        Code::Aesdeclast_xmm_xmmm128 => packed::<M, Aesdeclast, LEGACY>,
        Code::VEX_Vaesdeclast_xmm_xmm_xmmm128 => packed::<M, Aesdeclast, VEX128>,
        Code::VEX_Vaesdeclast_ymm_ymm_ymmm256 => packed::<M, Aesdeclast, VEX256>,
        Code::Aesimc_xmm_xmmm128 => unary::<M, Aesimc, LEGACY>,
        Code::VEX_Vaesimc_xmm_xmmm128 => unary::<M, Aesimc, VEX128>,
        Code::Aeskeygenassist_xmm_xmmm128_imm8 => unary::<M, AesKeygenAssist, LEGACY>,
        Code::VEX_Vaeskeygenassist_xmm_xmmm128_imm8 => unary::<M, AesKeygenAssist, VEX128>,
        Code::Sha1nexte_xmm_xmmm128 => packed::<M, Sha1nexte, LEGACY>,
        Code::Sha1msg1_xmm_xmmm128 => packed::<M, Sha1msg1, LEGACY>,
        Code::Sha1msg2_xmm_xmmm128 => packed::<M, Sha1msg2, LEGACY>,
        Code::Sha1rnds4_xmm_xmmm128_imm8 => packed::<M, Sha1rnds4, LEGACY>,
        Code::Sha256msg1_xmm_xmmm128 => packed::<M, Sha256msg1, LEGACY>,
        Code::Sha256msg2_xmm_xmmm128 => packed::<M, Sha256msg2, LEGACY>,
        Code::Sha256rnds2_xmm_xmmm128 => sha256rnds2::<M>,
        Code::Pclmulqdq_xmm_xmmm128_imm8 => packed::<M, Pclmulqdq, LEGACY>,
        Code::VEX_Vpclmulqdq_xmm_xmm_xmmm128_imm8 => packed::<M, Pclmulqdq, VEX128>,
        Code::VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8 => packed::<M, Pclmulqdq, VEX256>,
        Code::Gf2p8mulb_xmm_xmmm128 => packed::<M, Gf2p8mulb, LEGACY>,
        Code::VEX_Vgf2p8mulb_xmm_xmm_xmmm128 => packed::<M, Gf2p8mulb, VEX128>,
        Code::VEX_Vgf2p8mulb_ymm_ymm_ymmm256 => packed::<M, Gf2p8mulb, VEX256>,
        Code::Gf2p8affineqb_xmm_xmmm128_imm8 => packed::<M, WithConstant<Affine>, LEGACY>,
        Code::VEX_Vgf2p8affineqb_xmm_xmm_xmmm128_imm8 => packed::<M, WithConstant<Affine>, VEX128>,
        Code::VEX_Vgf2p8affineqb_ymm_ymm_ymmm256_imm8 => packed::<M, WithConstant<Affine>, VEX256>,
        Code::Gf2p8affineinvqb_xmm_xmmm128_imm8 => packed::<M, WithConstant<AffineInverse>, LEGACY>,
        Code::VEX_Vgf2p8affineinvqb_xmm_xmm_xmmm128_imm8 => packed::<M, WithConstant<AffineInverse>, VEX128>,
        Code::VEX_Vgf2p8affineinvqb_ymm_ymm_ymmm256_imm8 => packed::<M, WithConstant<AffineInverse>, VEX256>,
        _ => return None,
    })
}
