//! Shuffles, blends, permutations and broadcasts.

use super::shape::{
    Kernel, LEGACY, VEX128, VEX256, bytes, enter, extend, halves, lane, lanes, model, narrow_source, packed,
    source, unary, vector, widen, write, zero,
};
use super::{Exec, Machine, Operands};
use iced_x86::Code;

/// Element `i` of `N` bytes.
#[inline(always)]
fn element<const N: usize>(v: &[u8], i: usize) -> [u8; N] {
    std::array::from_fn(|k| v[i * N + k])
}

/// Sixteen bytes from a choice for each element of `N` bytes.
#[inline(always)]
fn build<const N: usize>(choose: impl Fn(usize) -> [u8; N]) -> [u8; 16] {
    let mut out = [0; 16];
    for (i, part) in out.chunks_exact_mut(N).enumerate() {
        part.copy_from_slice(&choose(i));
    }
    out
}

/// Element `i` of `b` where bit `i` of `mask` is set, else of `a`.
#[inline(always)]
fn blend<const N: usize>(a: [u8; 16], b: [u8; 16], mask: u8) -> [u8; 16] {
    build::<N>(|i| element(if mask >> i & 1 != 0 { &b } else { &a }, i))
}

/// Words 4 `half` to 4 `half` + 3 shuffled, the others as they are.
#[inline(always)]
fn words(b: [u8; 16], half: usize, imm: u8) -> [u8; 16] {
    build::<2>(|i| {
        element(&b, if i / 4 == half { half * 4 + usize::from(imm >> (i % 4 * 2) & 3) } else { i })
    })
}

fn insert_single(a: [u8; 16], b: [u8; 16], imm: u8) -> [u8; 16] {
    let mut out = a;
    let to = usize::from(imm >> 4 & 3) * 4;
    out[to..to + 4].copy_from_slice(&element::<4>(&b, usize::from(imm >> 6)));
    build::<4>(|i| if imm >> i & 1 != 0 { [0; 4] } else { element(&out, i) })
}

fn align_right(a: [u8; 16], b: [u8; 16], imm: u8) -> [u8; 16] {
    std::array::from_fn(|i| match i + usize::from(imm) {
        n @ 0..16 => b[n],
        n @ 16..32 => a[n - 16],
        _ => 0,
    })
}

fn sum_differences(a: [u8; 16], b: [u8; 16], imm: u8) -> [u8; 16] {
    let (from, with) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    build::<2>(|i| {
        (0..4).map(|k| u16::from(a[from + i + k].abs_diff(b[with + k]))).sum::<u16>().to_le_bytes()
    })
}

fn by_dword(a: [u8; 16], b: [u8; 16], shift: impl Fn(u32, u32) -> u32) -> [u8; 16] {
    build::<4>(|i| {
        shift(u32::from_le_bytes(element(&a, i)), u32::from_le_bytes(element(&b, i))).to_le_bytes()
    })
}

fn by_qword(a: [u8; 16], b: [u8; 16], shift: impl Fn(u64, u64) -> u64) -> [u8; 16] {
    build::<8>(|i| {
        shift(u64::from_le_bytes(element(&a, i)), u64::from_le_bytes(element(&b, i))).to_le_bytes()
    })
}

model! {
    Pshufd >> 0 |_, b, imm| build::<4>(|i| element(&b, usize::from(imm >> (i * 2) & 3)));
    Pshuflw >> 0 |_, b, imm| words(b, 0, imm);
    Pshufhw >> 0 |_, b, imm| words(b, 1, imm);
    Shufps >> 0 |a, b, imm| build::<4>(|i| element(if i < 2 { &a } else { &b }, usize::from(imm >> (i * 2) & 3)));
    Shufpd >> 2 |a, b, imm| build::<8>(|i| element(if i == 0 { &a } else { &b }, usize::from(imm >> i & 1)));
    Blendps >> 4 |a, b, imm| blend::<4>(a, b, imm);
    Blendpd >> 2 |a, b, imm| blend::<8>(a, b, imm);
    Pblendw >> 0 |a, b, imm| blend::<2>(a, b, imm);
    Palignr >> 0 |a, b, imm| align_right(a, b, imm);
    Insertps >> 0 |a, b, imm| insert_single(a, b, imm);
    Mpsadbw >> 3 |a, b, imm| sum_differences(a, b, imm);
    PermilpsImm >> 0 |_, b, imm| build::<4>(|i| element(&b, usize::from(imm >> (i * 2) & 3)));
    PermilpdImm >> 2 |_, b, imm| build::<8>(|i| element(&b, usize::from(imm >> i & 1)));
    Permilps >> 0 |a, b, _| build::<4>(|i| element(&a, usize::from(b[i * 4] & 3)));
    Permilpd >> 0 |a, b, _| build::<8>(|i| element(&a, usize::from(b[i * 8] >> 1 & 1)));
    Pslldq >> 0 |a, _, imm| std::array::from_fn(|i| if i >= usize::from(imm) { a[i - usize::from(imm)] } else { 0 });
    Psrldq >> 0 |a, _, imm| std::array::from_fn(|i| a.get(i + usize::from(imm)).copied().unwrap_or(0));
    Movsldup >> 0 |_, b, _| build::<4>(|i| element(&b, i & 2));
    Movshdup >> 0 |_, b, _| build::<4>(|i| element(&b, i | 1));
    Movddup >> 0 |_, b, _| build::<8>(|_| element(&b, 0));
    Psrlvd >> 0 |a, b, _| by_dword(a, b, |x, n| x.checked_shr(n).unwrap_or(0));
    Psllvd >> 0 |a, b, _| by_dword(a, b, |x, n| x.checked_shl(n).unwrap_or(0));
    Psravd >> 0 |a, b, _| by_dword(a, b, |x, n| (x.cast_signed() >> n.min(31)).cast_unsigned());
    Psrlvq >> 0 |a, b, _| by_qword(a, b, |x, n| if n < 64 { x >> n } else { 0 });
    Psllvq >> 0 |a, b, _| by_qword(a, b, |x, n| if n < 64 { x << n } else { 0 });
}

/// VBROADCASTx, VPBROADCASTx: the low `W` bytes in every element.
fn broadcast<M: Machine, const E: u8, const W: usize>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let low = bytes(narrow_source::<M, W>(m, insn, 1)?);
    let all = vector(build::<W>(|_| element(&low, 0)));
    write::<M, E>(m, insn.register(0), [all; 2]);
    Ok(())
}

/// PBLENDVB and relatives: the mask is XMM0, or operand 3 in VEX forms; the top bit of each `N` bytes chooses.
fn variable_blend<M: Machine, const E: u8, const N: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let b = source::<M, E>(m, insn, first + 1)?;
    let a = lanes(m, insn.register(first));
    let mask = lanes(m, if E == LEGACY { 0 } else { insn.register(3) });
    let result = std::array::from_fn(|l| {
        let (a, b, mask) = (bytes(a[l]), bytes(b[l]), bytes(mask[l]));
        vector(build::<N>(|i| element(if mask[i * N + N - 1] >> 7 != 0 { &b } else { &a }, i)))
    });
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// VPERM2F128, VPERM2I128.
fn permute_lanes<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let b = source::<M, VEX256>(m, insn, 2)?;
    let a = lanes(m, insn.register(1));
    let choose = |control: u8| match control & 11 {
        0 => a[0],
        1 => a[1],
        2 => b[0],
        3 => b[1],
        _ => zero(),
    };
    let imm = insn.immediate();
    write::<M, VEX256>(m, insn.register(0), [choose(imm), choose(imm >> 4)]);
    Ok(())
}

/// VPERMD, VPERMPS: operand 1 has the indices of operand 2's elements.
fn permute_dwords<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let b = source::<M, VEX256>(m, insn, 2)?.map(bytes);
    let index = lanes(m, insn.register(1)).map(bytes);
    let all = b.as_flattened();
    let result =
        std::array::from_fn(|l| vector(build::<4>(|i| element(all, usize::from(index[l][i * 4] & 7)))));
    write::<M, VEX256>(m, insn.register(0), result);
    Ok(())
}

/// VPERMQ, VPERMPD.
fn permute_qwords<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let b = source::<M, VEX256>(m, insn, 1)?.map(bytes);
    let all = b.as_flattened();
    let imm = insn.immediate();
    let result = std::array::from_fn(|l| {
        vector(build::<8>(|i| element(all, usize::from(imm >> ((l * 2 + i) * 2) & 3))))
    });
    write::<M, VEX256>(m, insn.register(0), result);
    Ok(())
}

/// VINSERTF128, VINSERTI128.
fn insert_lane<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let part = narrow_source::<M, 16>(m, insn, 2)?;
    let mut value = lanes(m, insn.register(1));
    value[usize::from(insn.immediate() & 1)] = part;
    write::<M, VEX256>(m, insn.register(0), value);
    Ok(())
}

/// VEXTRACTF128, VEXTRACTI128.
fn extract_lane<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let part = lane(m, insn.register(1), usize::from(insn.immediate() & 1));
    if insn.is_memory(0) {
        return m.store(insn, bytes(part), false);
    }
    write::<M, VEX128>(m, insn.register(0), [part, zero()]);
    Ok(())
}

/// (V)INSERTPS: from a register any element, from memory the one that is there.
fn insertps<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let a = lane(m, insn.register(first), 0);
    let (b, imm) = if insn.is_memory(first + 1) {
        (extend(m.load::<4>(insn, false)?), insn.immediate() & 0x3f)
    } else {
        (lane(m, insn.register(first + 1), 0), insn.immediate())
    };
    write::<M, E>(m, insn.register(0), [Insertps::run(a, b, imm), zero()]);
    Ok(())
}

/// VMOVDDUP ymm.
fn movddup256<M: Machine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, VEX256>(m)?;
    let b = if insn.is_memory(1) { halves(m.load::<32>(insn, false)?) } else { lanes(m, insn.register(1)) };
    write::<M, VEX256>(m, insn.register(0), b.map(|v| Movddup::run(v, v, 0)));
    Ok(())
}

macro_rules! rows {
    (
        binary { $($b:ident $b1:ident $b2:ident $b3:ident;)* }
        unary { $($u:ident $u1:ident $u2:ident $u3:ident;)* }
        vex { $($v:ident $v1:ident $v2:ident;)* }
        vex_unary { $($w:ident $w1:ident $w2:ident;)* }
        bytes { $($s:ident $s1:ident $s2:ident $s3:ident;)* }
    ) => {
        fn table<M: Machine>(code: Code) -> Option<Exec<M>> {
            use super::shape::by_immediate;
            Some(match code {
                $(Code::$b1 => packed::<M, $b, LEGACY>,
                Code::$b2 => packed::<M, $b, VEX128>,
                Code::$b3 => packed::<M, $b, VEX256>,)*
                $(Code::$u1 => unary::<M, $u, LEGACY>,
                Code::$u2 => unary::<M, $u, VEX128>,
                Code::$u3 => unary::<M, $u, VEX256>,)*
                $(Code::$v1 => packed::<M, $v, VEX128>,
                Code::$v2 => packed::<M, $v, VEX256>,)*
                $(Code::$w1 => unary::<M, $w, VEX128>,
                Code::$w2 => unary::<M, $w, VEX256>,)*
                $(Code::$s1 => by_immediate::<M, $s, LEGACY>,
                Code::$s2 => by_immediate::<M, $s, VEX128>,
                Code::$s3 => by_immediate::<M, $s, VEX256>,)*
                _ => return None,
            })
        }
    };
}

rows! {
    binary {
        Shufps Shufps_xmm_xmmm128_imm8 VEX_Vshufps_xmm_xmm_xmmm128_imm8 VEX_Vshufps_ymm_ymm_ymmm256_imm8;
        Shufpd Shufpd_xmm_xmmm128_imm8 VEX_Vshufpd_xmm_xmm_xmmm128_imm8 VEX_Vshufpd_ymm_ymm_ymmm256_imm8;
        Blendps Blendps_xmm_xmmm128_imm8 VEX_Vblendps_xmm_xmm_xmmm128_imm8 VEX_Vblendps_ymm_ymm_ymmm256_imm8;
        Blendpd Blendpd_xmm_xmmm128_imm8 VEX_Vblendpd_xmm_xmm_xmmm128_imm8 VEX_Vblendpd_ymm_ymm_ymmm256_imm8;
        Pblendw Pblendw_xmm_xmmm128_imm8 VEX_Vpblendw_xmm_xmm_xmmm128_imm8 VEX_Vpblendw_ymm_ymm_ymmm256_imm8;
        Palignr Palignr_xmm_xmmm128_imm8 VEX_Vpalignr_xmm_xmm_xmmm128_imm8 VEX_Vpalignr_ymm_ymm_ymmm256_imm8;
        Mpsadbw Mpsadbw_xmm_xmmm128_imm8 VEX_Vmpsadbw_xmm_xmm_xmmm128_imm8 VEX_Vmpsadbw_ymm_ymm_ymmm256_imm8;
    }
    unary {
        Pshufd Pshufd_xmm_xmmm128_imm8 VEX_Vpshufd_xmm_xmmm128_imm8 VEX_Vpshufd_ymm_ymmm256_imm8;
        Pshuflw Pshuflw_xmm_xmmm128_imm8 VEX_Vpshuflw_xmm_xmmm128_imm8 VEX_Vpshuflw_ymm_ymmm256_imm8;
        Pshufhw Pshufhw_xmm_xmmm128_imm8 VEX_Vpshufhw_xmm_xmmm128_imm8 VEX_Vpshufhw_ymm_ymmm256_imm8;
        Movsldup Movsldup_xmm_xmmm128 VEX_Vmovsldup_xmm_xmmm128 VEX_Vmovsldup_ymm_ymmm256;
        Movshdup Movshdup_xmm_xmmm128 VEX_Vmovshdup_xmm_xmmm128 VEX_Vmovshdup_ymm_ymmm256;
    }
    vex {
        Blendps VEX_Vpblendd_xmm_xmm_xmmm128_imm8 VEX_Vpblendd_ymm_ymm_ymmm256_imm8;
        Permilps VEX_Vpermilps_xmm_xmm_xmmm128 VEX_Vpermilps_ymm_ymm_ymmm256;
        Permilpd VEX_Vpermilpd_xmm_xmm_xmmm128 VEX_Vpermilpd_ymm_ymm_ymmm256;
        Psrlvd VEX_Vpsrlvd_xmm_xmm_xmmm128 VEX_Vpsrlvd_ymm_ymm_ymmm256;
        Psrlvq VEX_Vpsrlvq_xmm_xmm_xmmm128 VEX_Vpsrlvq_ymm_ymm_ymmm256;
        Psravd VEX_Vpsravd_xmm_xmm_xmmm128 VEX_Vpsravd_ymm_ymm_ymmm256;
        Psllvd VEX_Vpsllvd_xmm_xmm_xmmm128 VEX_Vpsllvd_ymm_ymm_ymmm256;
        Psllvq VEX_Vpsllvq_xmm_xmm_xmmm128 VEX_Vpsllvq_ymm_ymm_ymmm256;
    }
    vex_unary {
        PermilpsImm VEX_Vpermilps_xmm_xmmm128_imm8 VEX_Vpermilps_ymm_ymmm256_imm8;
        PermilpdImm VEX_Vpermilpd_xmm_xmmm128_imm8 VEX_Vpermilpd_ymm_ymmm256_imm8;
    }
    bytes {
        Pslldq Pslldq_xmm_imm8 VEX_Vpslldq_xmm_xmm_imm8 VEX_Vpslldq_ymm_ymm_imm8;
        Psrldq Psrldq_xmm_imm8 VEX_Vpsrldq_xmm_xmm_imm8 VEX_Vpsrldq_ymm_ymm_imm8;
    }
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    let found: Exec<M> = match code {
        Code::Movddup_xmm_xmmm64 => widen::<M, Movddup, LEGACY, 8>,
        Code::VEX_Vmovddup_xmm_xmmm64 => widen::<M, Movddup, VEX128, 8>,
        Code::VEX_Vmovddup_ymm_ymmm256 => movddup256::<M>,
        Code::Insertps_xmm_xmmm32_imm8 => insertps::<M, LEGACY>,
        Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8 => insertps::<M, VEX128>,
        Code::Pblendvb_xmm_xmmm128 => variable_blend::<M, LEGACY, 1>,
        Code::VEX_Vpblendvb_xmm_xmm_xmmm128_xmm => variable_blend::<M, VEX128, 1>,
        Code::VEX_Vpblendvb_ymm_ymm_ymmm256_ymm => variable_blend::<M, VEX256, 1>,
        Code::Blendvps_xmm_xmmm128 => variable_blend::<M, LEGACY, 4>,
        Code::VEX_Vblendvps_xmm_xmm_xmmm128_xmm => variable_blend::<M, VEX128, 4>,
        Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm => variable_blend::<M, VEX256, 4>,
        Code::Blendvpd_xmm_xmmm128 => variable_blend::<M, LEGACY, 8>,
        Code::VEX_Vblendvpd_xmm_xmm_xmmm128_xmm => variable_blend::<M, VEX128, 8>,
        Code::VEX_Vblendvpd_ymm_ymm_ymmm256_ymm => variable_blend::<M, VEX256, 8>,
        Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8 | Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8 => {
            permute_lanes::<M>
        }
        Code::VEX_Vpermd_ymm_ymm_ymmm256 | Code::VEX_Vpermps_ymm_ymm_ymmm256 => permute_dwords::<M>,
        Code::VEX_Vpermq_ymm_ymmm256_imm8 | Code::VEX_Vpermpd_ymm_ymmm256_imm8 => permute_qwords::<M>,
        Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 | Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8 => {
            insert_lane::<M>
        }
        Code::VEX_Vextractf128_xmmm128_ymm_imm8 | Code::VEX_Vextracti128_xmmm128_ymm_imm8 => {
            extract_lane::<M>
        }
        Code::VEX_Vbroadcastf128_ymm_m128 | Code::VEX_Vbroadcasti128_ymm_m128 => broadcast::<M, VEX256, 16>,
        Code::VEX_Vbroadcastss_xmm_m32
        | Code::VEX_Vbroadcastss_xmm_xmm
        | Code::VEX_Vpbroadcastd_xmm_xmmm32 => broadcast::<M, VEX128, 4>,
        Code::VEX_Vbroadcastss_ymm_m32
        | Code::VEX_Vbroadcastss_ymm_xmm
        | Code::VEX_Vpbroadcastd_ymm_xmmm32 => broadcast::<M, VEX256, 4>,
        Code::VEX_Vbroadcastsd_ymm_m64
        | Code::VEX_Vbroadcastsd_ymm_xmm
        | Code::VEX_Vpbroadcastq_ymm_xmmm64 => broadcast::<M, VEX256, 8>,
        Code::VEX_Vpbroadcastq_xmm_xmmm64 => broadcast::<M, VEX128, 8>,
        Code::VEX_Vpbroadcastb_xmm_xmmm8 => broadcast::<M, VEX128, 1>,
        Code::VEX_Vpbroadcastb_ymm_xmmm8 => broadcast::<M, VEX256, 1>,
        Code::VEX_Vpbroadcastw_xmm_xmmm16 => broadcast::<M, VEX128, 2>,
        Code::VEX_Vpbroadcastw_ymm_xmmm16 => broadcast::<M, VEX256, 2>,
        _ => return table(code),
    };
    Some(found)
}
