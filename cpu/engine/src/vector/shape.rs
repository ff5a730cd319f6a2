//! One executor for each operand shape, generic over the kernel that does the arithmetic.

use super::{Machine, Operands, enter_legacy, enter_vex, mxcsr};
use std::arch::x86_64::__m128i;

/// 128 bits in a host register.
pub type V = __m128i;
/// Encoding: legacy SSE; bits above 127 of the destination stay.
pub const LEGACY: u8 = 0;
/// Encoding: VEX.128; bits above 127 become zero.
pub const VEX128: u8 = 1;
/// Encoding: VEX.256; bits above 255 become zero.
pub const VEX256: u8 = 2;

/// What a kernel has to do with MXCSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fp {
    /// Nothing.
    None,
    /// Raises flags, never underflow.
    Flags,
    /// May underflow: so many result elements of two bytes from the bottom.
    Tiny16(usize),
    /// Of four bytes.
    Tiny32(usize),
    /// Of eight bytes.
    Tiny64(usize),
}

impl Fp {
    /// Whether one of the result's elements is subnormal.
    pub fn has_subnormal(self, result: [u8; 16]) -> bool {
        let element = |size: usize, i: usize| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(&result[i * size..][..size]);
            u64::from_le_bytes(wide)
        };
        let any = |size: usize, count: usize, exponent: u64, fraction: u64| {
            (0..count).any(|i| {
                let value = element(size, i);
                value & exponent == 0 && value & fraction != 0
            })
        };
        match self {
            Self::None | Self::Flags => false,
            Self::Tiny16(count) => any(2, count, 0x7c00, 0x3ff),
            Self::Tiny32(count) => any(4, count, 0x7f80_0000, 0x7f_ffff),
            Self::Tiny64(count) => any(8, count, 0x7ff0_0000_0000_0000, 0xf_ffff_ffff_ffff),
        }
    }
}

/// The arithmetic of one instruction on 128 bits: of the destination's old value (or first source) and the source.
pub trait Kernel {
    /// Its relation to MXCSR.
    const FP: Fp = Fp::None;
    /// By how much the immediate moves down for the upper lane.
    const LANE_SHIFT: u32 = 0;
    /// Computes the result.
    fn run(a: V, b: V, imm: u8) -> V;
}

/// Bytes as a host vector.
#[inline(always)]
pub fn vector(bytes: [u8; 16]) -> V {
    // SAFETY: both are 16 bytes without invalid values.
    unsafe { std::mem::transmute(bytes) }
}

/// A host vector as bytes.
#[inline(always)]
pub fn bytes(v: V) -> [u8; 16] {
    // SAFETY: both are 16 bytes without invalid values.
    unsafe { std::mem::transmute(v) }
}

/// The low `N` bytes set, the others zero.
#[inline(always)]
pub fn extend<const N: usize>(low: [u8; N]) -> V {
    if N <= 8 {
        // Through a general register: a vector put together from narrow stores stalls the host.
        let mut all = [0; 8];
        all[..N].copy_from_slice(&low);
        let value = u64::from_le_bytes(all);
        let v: V;
        // SAFETY: computes on registers only.
        unsafe {
            std::arch::asm!("movq {0}, {1}", out(xmm_reg) v, in(reg) value,
                options(pure, nomem, nostack, preserves_flags));
        }
        return v;
    }
    let mut all = [0; 16];
    all[..N].copy_from_slice(&low);
    vector(all)
}

/// Bytes `from` to the end, moved to the bottom.
#[inline(always)]
pub fn shift_down(v: V, from: usize) -> V {
    let mut all = [0; 16];
    all[..16 - from].copy_from_slice(&bytes(v)[from..]);
    vector(all)
}

/// All zeros.
#[inline(always)]
pub fn zero() -> V {
    vector([0; 16])
}

/// Two halves of 32 bytes.
#[inline(always)]
pub fn halves(all: [u8; 32]) -> [V; 2] {
    let mut lanes = [[0; 16]; 2];
    lanes[0].copy_from_slice(&all[..16]);
    lanes[1].copy_from_slice(&all[16..]);
    lanes.map(vector)
}

/// Lane `lane` (of 128 bits) of register `n`.
#[inline(always)]
pub fn lane<M: Machine>(m: &mut M, n: usize, lane: usize) -> V {
    let mut part = [0; 16];
    part.copy_from_slice(&m.x86().zmm[n & 31][lane * 16..][..16]);
    vector(part)
}

/// The low two lanes of register `n`.
#[inline(always)]
pub fn lanes<M: Machine>(m: &mut M, n: usize) -> [V; 2] {
    [lane(m, n, 0), lane(m, n, 1)]
}

/// Writes register `n` as the encoding demands.
#[inline(always)]
pub fn write<M: Machine, const E: u8>(m: &mut M, n: usize, value: [V; 2]) {
    let register = &mut m.x86().zmm[n & 31];
    register[..16].copy_from_slice(&bytes(value[0]));
    if E == VEX256 {
        register[16..32].copy_from_slice(&bytes(value[1]));
        register[32..].fill(0);
    } else if E == VEX128 {
        register[16..].fill(0);
    }
}

/// Raises #UD or #NM where the encoding is off.
#[inline(always)]
pub fn enter<M: Machine, const E: u8>(m: &mut M) -> Result<(), M::Fault> {
    if E == LEGACY { enter_legacy(m) } else { enter_vex(m) }
}

/// Operand `n`, as wide as the encoding; in memory it is aligned for legacy forms.
#[inline(always)]
pub fn source<M: Machine, const E: u8>(m: &mut M, insn: &M::Insn, n: usize) -> Result<[V; 2], M::Fault> {
    if !insn.is_memory(n) {
        return Ok(lanes(m, insn.register(n)));
    }
    if E == VEX256 {
        return Ok(halves(m.load::<32>(insn, false)?));
    }
    Ok([vector(m.load::<16>(insn, E == LEGACY)?), zero()])
}

/// Operand `n`: a whole XMM register, or `W` bytes of memory with zeros above.
#[inline(always)]
pub fn narrow_source<M: Machine, const W: usize>(m: &mut M, insn: &M::Insn, n: usize) -> Result<V, M::Fault> {
    if insn.is_memory(n) { Ok(extend(m.load::<W>(insn, false)?)) } else { Ok(lane(m, insn.register(n), 0)) }
}

/// Runs a kernel on one or two lanes.
#[inline(always)]
pub fn compute<M: Machine, K: Kernel, const E: u8>(
    m: &mut M,
    a: [V; 2],
    b: [V; 2],
    imm: u8,
) -> Result<[V; 2], M::Fault> {
    let kernel = || {
        let low = K::run(a[0], b[0], imm);
        let high = if E == VEX256 { K::run(a[1], b[1], imm >> K::LANE_SHIFT) } else { zero() };
        [low, high]
    };
    match K::FP {
        Fp::None => Ok(kernel()),
        kind => mxcsr::guarded(m, kind, kernel, |both| both),
    }
}

/// dst = op(dst, src), or dst = op(src1, src2) in VEX forms; full width.
pub fn packed<M: Machine, K: Kernel, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let b = source::<M, E>(m, insn, first + 1)?;
    let a = lanes(m, insn.register(first));
    let result = compute::<M, K, E>(m, a, b, insn.immediate())?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// dst = op(src), full width.
pub fn unary<M: Machine, K: Kernel, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = source::<M, E>(m, insn, 1)?;
    let result = compute::<M, K, E>(m, [zero(); 2], b, insn.immediate())?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// As [`packed`], with a source of `W` bytes in memory; the kernel keeps what it does not compute.
pub fn scalar<M: Machine, K: Kernel, const E: u8, const W: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let b = narrow_source::<M, W>(m, insn, first + 1)?;
    let a = lane(m, insn.register(first), 0);
    let result = match K::FP {
        Fp::None => K::run(a, b, insn.immediate()),
        kind => {
            let imm = insn.immediate();
            mxcsr::guarded(m, kind, || K::run(a, b, imm), |low| [low, zero()])?
        }
    };
    write::<M, E>(m, insn.register(0), [result, zero()]);
    Ok(())
}

/// dst = op(src), where the source is the low `W` bytes, half of them for each lane in 256-bit forms.
pub fn widen<M: Machine, K: Kernel, const E: u8, const W: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let low = narrow_source::<M, W>(m, insn, 1)?;
    let high = if E == VEX256 { shift_down(low, W / 2) } else { zero() };
    let result = compute::<M, K, E>(m, [zero(); 2], [low, high], insn.immediate())?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// xmm = op(ymm): the low halves of the lanes' results side by side.
pub fn narrow<M: Machine, K: Kernel>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter_vex(m)?;
    let b = source::<M, VEX256>(m, insn, 1)?;
    let result = compute::<M, K, VEX256>(m, [zero(); 2], b, insn.immediate())?;
    let mut joined = bytes(result[0]);
    joined[8..].copy_from_slice(&bytes(result[1])[..8]);
    write::<M, VEX128>(m, insn.register(0), [vector(joined), zero()]);
    Ok(())
}

/// Shifts by a count in the low 64 bits of an XMM register or 16 bytes of memory, the same for both lanes.
pub fn by_count<M: Machine, K: Kernel, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let first = usize::from(E != LEGACY);
    let count = if insn.is_memory(first + 1) {
        vector(m.load::<16>(insn, E == LEGACY)?)
    } else {
        lane(m, insn.register(first + 1), 0)
    };
    let a = lanes(m, insn.register(first));
    let result = compute::<M, K, E>(m, a, [count; 2], 0)?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// Shifts by an immediate: `xmm, imm8`, or `dst, src, imm8` in VEX forms.
pub fn by_immediate<M: Machine, K: Kernel, const E: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let a = lanes(m, insn.register(usize::from(E != LEGACY)));
    let count = extend([insn.immediate()]);
    let result = compute::<M, K, E>(m, a, [count; 2], insn.immediate())?;
    write::<M, E>(m, insn.register(0), result);
    Ok(())
}

/// Defines kernels that are one two-operand host instruction each.
macro_rules! host {
    ($($name:ident $insn:literal $fp:expr;)*) => { $(
        #[doc = concat!("`", $insn, "` on the host.")]
        pub struct $name;
        impl $crate::vector::shape::Kernel for $name {
            const FP: $crate::vector::shape::Fp = $fp;
            #[inline(always)]
            fn run(a: $crate::vector::shape::V, b: $crate::vector::shape::V, _imm: u8) -> $crate::vector::shape::V {
                let mut a = a;
                // SAFETY: computes on registers only; the host has the instruction (see `host_supports`). Not `pure`:
                // the order to the accesses of MXCSR counts.
                unsafe {
                    std::arch::asm!(concat!($insn, " {0}, {1}"), inout(xmm_reg) a, in(xmm_reg) b,
                        options(nomem, nostack, preserves_flags));
                }
                a
            }
        }
    )* };
}

/// Defines kernels that are Rust functions of (a, b, imm), all byte arrays.
macro_rules! model {
    ($($name:ident >> $shift:literal |$a:pat_param, $b:pat_param, $imm:pat_param| $body:expr;)*) => { $(
        #[doc = concat!("`", stringify!($name), "`, modelled.")]
        pub struct $name;
        impl $crate::vector::shape::Kernel for $name {
            const LANE_SHIFT: u32 = $shift;
            #[inline(always)]
            fn run(a: $crate::vector::shape::V, b: $crate::vector::shape::V, imm: u8) -> $crate::vector::shape::V {
                let ($a, $b, $imm): ([u8; 16], [u8; 16], u8) =
                    ($crate::vector::shape::bytes(a), $crate::vector::shape::bytes(b), imm);
                $crate::vector::shape::vector($body)
            }
        }
    )* };
}

/// Defines kernels that are one host instruction with an immediate, of which the listed values differ.
macro_rules! host_imm {
    ($($name:ident $insn:literal $fp:expr, >> $shift:literal, & $mask:literal: $($value:literal)*;)*) => { $(
        #[doc = concat!("`", $insn, "` on the host.")]
        pub struct $name;
        impl $name {
            #[inline(always)]
            fn with<const I: u8>(a: $crate::vector::shape::V, b: $crate::vector::shape::V) -> $crate::vector::shape::V {
                let mut a = a;
                // SAFETY: as in `host!`.
                unsafe {
                    std::arch::asm!(concat!($insn, ", {2}"), inout(xmm_reg) a, in(xmm_reg) b, const I,
                        options(nomem, nostack, preserves_flags));
                }
                a
            }
        }
        impl $crate::vector::shape::Kernel for $name {
            const FP: $crate::vector::shape::Fp = $fp;
            const LANE_SHIFT: u32 = $shift;
            fn run(a: $crate::vector::shape::V, b: $crate::vector::shape::V, imm: u8) -> $crate::vector::shape::V {
                // A row may list every value there is.
                #[allow(unreachable_patterns)]
                match imm & $mask {
                    $($value => Self::with::<$value>(a, b),)*
                    _ => Self::with::<0>(a, b),
                }
            }
        }
    )* };
}

pub(crate) use {host, host_imm, model};
