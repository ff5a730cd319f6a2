//! x87 control instructions, environments and save areas (SDM vol. 1, 8.1.10 and 10.5).

use super::x87::ES;
use super::{Exec, FpuMachine, available, enter, pending};
use iced_x86::Code;
use x86::reg::{cr0, flags, gpr, vector};
use x86::{X86State, X87};

/// FSW: busy, a copy of ES.
const BUSY: u16 = 1 << 15;
/// The exception bits of FCW and FSW.
const EXCEPTIONS: u16 = 0x3f;
/// FCW bits that can be written.
const FCW: u16 = 0x1f3f;
/// FCW bit 6 reads as one.
const FCW_FIXED: u16 = 0x40;

/// Brings ES and B in line with the masks.
pub(super) fn summarize(x87: &mut X87) {
    let error = x87.fsw & !x87.fcw & EXCEPTIONS != 0;
    x87.fsw = x87.fsw & !(ES | BUSY) | if error { ES | BUSY } else { 0 };
}

/// The full tag word: two bits a register (SDM vol. 1, 8.1.7).
fn tag_word(x87: &X87) -> u16 {
    (0..8).fold(0, |word, n| {
        let value = &x87.regs[n];
        let exponent = u16::from_le_bytes([value[8], value[9]]) & 0x7fff;
        let fraction: [u8; 8] = std::array::from_fn(|i| value[i]);
        let fraction = u64::from_le_bytes(fraction);
        let tag = match (x87.ftw >> n & 1, exponent) {
            (0, _) => 3,
            (_, 0) if fraction == 0 => 1,
            (_, 0 | 0x7fff) => 2,
            _ if fraction >> 63 == 0 => 2,
            _ => 0,
        };
        word | tag << (2 * n)
    })
}

/// Whether environments have the protected-mode layout.
fn protected(state: &X86State) -> bool {
    state.cr0 & cr0::PE != 0 && state.rflags & flags::VM == 0
}

/// The environment as 32-bit words with the low half of each used (16-bit layouts drop the upper halves).
fn environment(state: &X86State, wide: bool) -> [u32; 7] {
    let x87 = &state.x87;
    let (fip, fdp) = (x87.fip as u32, x87.fdp as u32);
    let mut words = [x87.fcw.into(), x87.fsw.into(), tag_word(x87).into(), 0, 0, 0, 0];
    if protected(state) {
        words[3] = fip;
        words[4] = u32::from(x87.fcs) | if wide { u32::from(x87.fop & 0x7ff) << 16 } else { 0 };
        words[5] = fdp;
        words[6] = x87.fds.into();
    } else {
        let fip = fip.wrapping_add(u32::from(x87.fcs) << 4);
        let fdp = fdp.wrapping_add(u32::from(x87.fds) << 4);
        words[3] = fip & 0xffff;
        words[4] = (fip >> 16) << 12 | u32::from(x87.fop & 0x7ff);
        words[5] = fdp & 0xffff;
        words[6] = (fdp >> 16) << 12;
    }
    if wide {
        // Reserved halves read as ones.
        for word in [0, 1, 2, 6] {
            words[word] |= 0xffff_0000;
        }
    }
    words
}

/// Takes an environment.
fn set_environment(state: &mut X86State, words: &[u32; 7], wide: bool) {
    let protected = protected(state);
    let x87 = &mut state.x87;
    x87.fcw = words[0] as u16 & FCW | FCW_FIXED;
    x87.fsw = words[1] as u16;
    x87.ftw = (0..8).fold(0, |full, n| full | u8::from(words[2] >> (2 * n) & 3 != 3) << n);
    if protected {
        x87.fip = words[3].into();
        x87.fcs = words[4] as u16;
        x87.fdp = words[5].into();
        x87.fds = words[6] as u16;
        if wide {
            x87.fop = (words[4] >> 16) as u16 & 0x7ff;
        }
    } else {
        x87.fip = (words[3] & 0xffff | words[4] >> 12 << 16).into();
        x87.fdp = (words[5] & 0xffff | words[6] >> 12 << 16).into();
        (x87.fcs, x87.fds) = (0, 0);
        x87.fop = words[4] as u16 & 0x7ff;
    }
    summarize(x87);
}

/// What the areas are aligned to under alignment checks (SDM vol. 3, table 6-7).
const fn alignment(wide: bool) -> u64 {
    if wide { 4 } else { 2 }
}

/// Writes an area in pieces, none of them when one would fault.
fn store_area<M: FpuMachine>(m: &mut M, insn: &M::Insn, bytes: &[u8], wide: bool) -> Result<(), M::Fault> {
    for at in (0..bytes.len()).step_by(2) {
        m.check_store_part(insn, at as u64, 2)?;
    }
    m.check_aligned(insn, alignment(wide))?;
    for (n, pair) in bytes.chunks_exact(2).enumerate() {
        m.store_part::<2>(insn, 2 * n as u64, [pair[0], pair[1]])?;
    }
    Ok(())
}

fn load_area<M: FpuMachine, const N: usize>(
    m: &mut M,
    insn: &M::Insn,
    wide: bool,
) -> Result<[u8; N], M::Fault> {
    let mut bytes = [0; N];
    for at in (0..N).step_by(2) {
        let pair = m.load_part::<2>(insn, at as u64)?;
        bytes[at..at + 2].copy_from_slice(&pair);
    }
    m.check_aligned(insn, alignment(wide))?;
    Ok(bytes)
}

/// The environment as bytes at the start of `bytes`; gives their number.
fn put_environment(state: &X86State, wide: bool, bytes: &mut [u8; 108]) -> usize {
    let size = if wide { 4 } else { 2 };
    for (n, word) in environment(state, wide).iter().enumerate() {
        bytes[n * size..][..size].copy_from_slice(&word.to_le_bytes()[..size]);
    }
    7 * size
}

fn take_environment(bytes: &[u8], wide: bool) -> [u32; 7] {
    let size = if wide { 4 } else { 2 };
    std::array::from_fn(|n| {
        let mut word = [0; 4];
        word[..size].copy_from_slice(&bytes[n * size..][..size]);
        u32::from_le_bytes(word)
    })
}

fn fnstenv<M: FpuMachine, const WIDE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    let mut bytes = [0; 108];
    let size = put_environment(m.x86(), WIDE, &mut bytes);
    store_area(m, insn, &bytes[..size], WIDE)?;
    let x87 = &mut m.x86().x87;
    x87.fcw |= EXCEPTIONS;
    summarize(x87);
    Ok(())
}

fn fldenv<M: FpuMachine, const WIDE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let words = if WIDE {
        take_environment(&load_area::<M, 28>(m, insn, true)?, true)
    } else {
        take_environment(&load_area::<M, 14>(m, insn, false)?, false)
    };
    set_environment(m.x86(), &words, WIDE);
    Ok(())
}

fn fnsave<M: FpuMachine, const WIDE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    let mut bytes = [0; 108];
    let start = put_environment(m.x86(), WIDE, &mut bytes);
    let x87 = &m.x86().x87;
    for n in 0..8 {
        bytes[start + 10 * n..][..10].copy_from_slice(&x87.regs[(x87.top() + n) & 7][..10]);
    }
    store_area(m, insn, &bytes[..start + 80], WIDE)?;
    initialize(&mut m.x86().x87);
    Ok(())
}

fn frstor<M: FpuMachine, const WIDE: bool>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let mut bytes = [0; 108];
    let start = if WIDE {
        bytes = load_area::<M, 108>(m, insn, true)?;
        28
    } else {
        bytes[..94].copy_from_slice(&load_area::<M, 94>(m, insn, false)?);
        14
    };
    let words = take_environment(&bytes, WIDE);
    let state = m.x86();
    set_environment(state, &words, WIDE);
    let top = state.x87.top();
    for n in 0..8 {
        state.x87.regs[(top + n) & 7][..10].copy_from_slice(&bytes[start + 10 * n..][..10]);
    }
    Ok(())
}

/// FNINIT: the registers keep their contents.
fn initialize(x87: &mut X87) {
    *x87 = X87 { regs: x87.regs, ..X87::default() };
}

fn fninit<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    initialize(&mut m.x86().x87);
    Ok(())
}

fn fnclex<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    m.x86().x87.fsw &= 0x7f00;
    Ok(())
}

/// FNENI, FNDISI, FNSETPM: since the 387 they do nothing.
fn ignored<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    available(m)
}

fn fldcw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let value = u16::from_le_bytes(m.load::<2>(insn, false)?);
    let x87 = &mut m.x86().x87;
    x87.fcw = value & FCW | FCW_FIXED;
    summarize(x87);
    Ok(())
}

fn fnstcw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    let value = m.x86().x87.fcw;
    m.store::<2>(insn, value.to_le_bytes(), false)
}

fn fnstsw<M: FpuMachine>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    let value = m.x86().x87.fsw;
    m.store::<2>(insn, value.to_le_bytes(), false)
}

fn fnstsw_ax<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    available(m)?;
    let state = m.x86();
    state.gpr[gpr::RAX] = state.gpr[gpr::RAX] & !0xffff | u64::from(state.x87.fsw);
    Ok(())
}

fn wait<M: FpuMachine>(m: &mut M, _: &M::Insn) -> Result<(), M::Fault> {
    let both = cr0::MP | cr0::TS;
    if m.x86().cr0 & both == both {
        return Err(m.fault(vector::NM));
    }
    pending(m)
}

/// The first 160 bytes of an FXSAVE or XSAVE area: x87 state (SDM vol. 1, table 10-2). Bytes 24 to 31 (MXCSR) are left
/// as they are. `long`: the instruction has REX.W, pointers are 64 bits wide.
pub fn legacy_area(x87: &X87, long: bool, area: &mut [u8; 160]) {
    area[0..2].copy_from_slice(&x87.fcw.to_le_bytes());
    area[2..4].copy_from_slice(&x87.fsw.to_le_bytes());
    area[4] = x87.ftw;
    area[5] = 0;
    area[6..8].copy_from_slice(&x87.fop.to_le_bytes());
    area[8..16].copy_from_slice(&x87.fip.to_le_bytes());
    area[16..24].copy_from_slice(&x87.fdp.to_le_bytes());
    if !long {
        area[12..16].copy_from_slice(&u32::from(x87.fcs).to_le_bytes());
        area[20..24].copy_from_slice(&u32::from(x87.fds).to_le_bytes());
    }
    for n in 0..8 {
        let value = &mut area[32 + 16 * n..][..16];
        value[..10].copy_from_slice(&x87.regs[(x87.top() + n) & 7][..10]);
        value[10..].fill(0);
    }
}

/// Takes what [`legacy_area`] wrote.
pub fn load_legacy_area(x87: &mut X87, long: bool, area: &[u8; 160]) {
    let word = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
    let double = |at: usize| u32::from(word(at)) | u32::from(word(at + 2)) << 16;
    let quad = |at: usize| u64::from(double(at)) | u64::from(double(at + 4)) << 32;
    x87.fcw = word(0) & FCW | FCW_FIXED;
    x87.fsw = word(2);
    x87.ftw = area[4];
    x87.fop = word(6) & 0x7ff;
    if long {
        (x87.fip, x87.fdp) = (quad(8), quad(16));
        (x87.fcs, x87.fds) = (0, 0);
    } else {
        (x87.fip, x87.fdp) = (double(8).into(), double(16).into());
        (x87.fcs, x87.fds) = (word(12), word(20));
    }
    let top = x87.top();
    for n in 0..8 {
        x87.regs[(top + n) & 7][..10].copy_from_slice(&area[32 + 16 * n..][..10]);
    }
    summarize(x87);
}

/// The executor of a control instruction.
pub(super) fn lookup<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
    use Code::*;
    Some(match code {
        Wait => wait::<M>,
        Fninit => fninit::<M>,
        Fnclex => fnclex::<M>,
        Fneni | Fndisi | Fnsetpm => ignored::<M>,
        Fldcw_m2byte => fldcw::<M>,
        Fnstcw_m2byte => fnstcw::<M>,
        Fnstsw_m2byte => fnstsw::<M>,
        Fnstsw_AX => fnstsw_ax::<M>,
        Fnstenv_m14byte => fnstenv::<M, false>,
        Fnstenv_m28byte => fnstenv::<M, true>,
        Fldenv_m14byte => fldenv::<M, false>,
        Fldenv_m28byte => fldenv::<M, true>,
        Fnsave_m94byte => fnsave::<M, false>,
        Fnsave_m108byte => fnsave::<M, true>,
        Frstor_m94byte => frstor::<M, false>,
        Frstor_m108byte => frstor::<M, true>,
        _ => return None,
    })
}
