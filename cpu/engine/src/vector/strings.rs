//! The string comparisons of SSE4.2, modelled (SDM vol. 2, 4.1 "Imm8 control byte operation").

use super::shape::{LEGACY, VEX128, bytes, enter, extend, lane, vector, write, zero};
use super::{Exec, Machine, Operands};
use iced_x86::Code;
use x86::reg::{flags, gpr};

/// What a comparison leaves: the bits of IntRes2, the number of elements, and the flags.
struct Outcome {
    bits: u16,
    count: usize,
    flags: u64,
}

/// Elements as integers, sign- or zero-extended as bits 1:0 of the immediate say.
fn elements(v: [u8; 16], imm: u8) -> ([i32; 16], usize) {
    let word = |i: usize| [v[i * 2 % 16], v[i * 2 % 16 + 1]];
    match imm & 3 {
        0 => (std::array::from_fn(|i| i32::from(v[i])), 16),
        1 => (std::array::from_fn(|i| i32::from(u16::from_le_bytes(word(i)))), 8),
        2 => (std::array::from_fn(|i| i32::from(v[i].cast_signed())), 16),
        _ => (std::array::from_fn(|i| i32::from(i16::from_le_bytes(word(i)))), 8),
    }
}

/// Compares `a` (the first operand, the set) with `b`; `None` for a length means up to the first zero element.
fn compare(a: [u8; 16], b: [u8; 16], imm: u8, lengths: Option<(u64, u64)>) -> Outcome {
    let (a, count) = elements(a, imm);
    let (b, _) = elements(b, imm);
    let end = |v: &[i32; 16]| v[..count].iter().position(|e| *e == 0).unwrap_or(count);
    let (a_len, b_len) = match lengths {
        Some((a, b)) => (a.min(count as u64) as usize, b.min(count as u64) as usize),
        None => (end(&a), end(&b)),
    };
    let hit = |j: usize| match imm >> 2 & 3 {
        // Equal any.
        0 => j < b_len && a[..a_len].contains(&b[j]),
        // Ranges: pairs of bounds; an odd one out counts for nothing.
        1 => j < b_len && a[..a_len].chunks_exact(2).any(|r| r[0] <= b[j] && b[j] <= r[1]),
        // Equal each: both past the end is equal too.
        2 => match (j < a_len, j < b_len) {
            (true, true) => a[j] == b[j],
            (false, false) => true,
            _ => false,
        },
        // Equal ordered: the substring starts here; what lies beyond the register is taken as equal.
        _ => (0..a_len.min(count - j)).all(|i| i + j < b_len && a[i] == b[i + j]),
    };
    let matches = (0..count).filter(|j| hit(*j)).fold(0u16, |all, j| all | 1 << j);
    let all = (1u32 << count).wrapping_sub(1) as u16;
    let within = (1u32 << b_len).wrapping_sub(1) as u16;
    let bits = match imm >> 4 & 3 {
        1 => matches ^ all,
        3 => matches ^ within,
        _ => matches,
    };
    let flag = |on: bool, flag: u64| if on { flag } else { 0 };
    let flags = flag(bits != 0, flags::CF)
        | flag(b_len < count, flags::ZF)
        | flag(a_len < count, flags::SF)
        | flag(bits & 1 != 0, flags::OF);
    Outcome { bits, count, flags }
}

/// The explicit length: an absolute value of EAX or EDX (RAX, RDX with REX.W).
fn length(value: u64, wide: bool) -> u64 {
    if wide { value.cast_signed().unsigned_abs() } else { (value as i32).unsigned_abs().into() }
}

fn run<M: Machine, const E: u8, const EXPLICIT: bool, const WIDE: bool, const INDEX: bool>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter::<M, E>(m)?;
    let b = if insn.is_memory(1) { m.load::<16>(insn, false)? } else { bytes(lane(m, insn.register(1), 0)) };
    let a = bytes(lane(m, insn.register(0), 0));
    let imm = insn.immediate();
    let registers = &m.x86().gpr;
    let lengths = EXPLICIT.then(|| (length(registers[gpr::RAX], WIDE), length(registers[gpr::RDX], WIDE)));
    let Outcome { bits, count, flags } = compare(a, b, imm, lengths);
    let last = imm & 0x40 != 0;
    if INDEX {
        let index = match bits {
            0 => count as u64,
            _ if last => 15 - u64::from(bits.leading_zeros()),
            _ => bits.trailing_zeros().into(),
        };
        m.x86().gpr[gpr::RCX] = index;
    } else {
        let mask = if last {
            let size = 16 / count;
            vector(std::array::from_fn(|i| if bits >> (i / size) & 1 != 0 { 0xff } else { 0 }))
        } else {
            extend(bits.to_le_bytes())
        };
        write::<M, E>(m, 0, [mask, zero()]);
    }
    m.set_flags(flags);
    Ok(())
}

pub(super) fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    Some(match code {
        Code::Pcmpestrm_xmm_xmmm128_imm8 => run::<M, LEGACY, true, false, false>,
        Code::Pcmpestrm64_xmm_xmmm128_imm8 => run::<M, LEGACY, true, true, false>,
        Code::VEX_Vpcmpestrm_xmm_xmmm128_imm8 => run::<M, VEX128, true, false, false>,
        Code::VEX_Vpcmpestrm64_xmm_xmmm128_imm8 => run::<M, VEX128, true, true, false>,
        Code::Pcmpestri_xmm_xmmm128_imm8 => run::<M, LEGACY, true, false, true>,
        Code::Pcmpestri64_xmm_xmmm128_imm8 => run::<M, LEGACY, true, true, true>,
        Code::VEX_Vpcmpestri_xmm_xmmm128_imm8 => run::<M, VEX128, true, false, true>,
        Code::VEX_Vpcmpestri64_xmm_xmmm128_imm8 => run::<M, VEX128, true, true, true>,
        Code::Pcmpistrm_xmm_xmmm128_imm8 => run::<M, LEGACY, false, false, false>,
        Code::VEX_Vpcmpistrm_xmm_xmmm128_imm8 => run::<M, VEX128, false, false, false>,
        Code::Pcmpistri_xmm_xmmm128_imm8 => run::<M, LEGACY, false, false, true>,
        Code::VEX_Vpcmpistri_xmm_xmmm128_imm8 => run::<M, VEX128, false, false, true>,
        _ => return None,
    })
}
