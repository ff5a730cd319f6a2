//! AVX-512 for the interpreter: EVEX-coded instructions and those on mask registers.
//!
//! Each instruction is executed by the host's own, in a piece of code that is made for it on first use: operands come
//! from a [`Frame`] and go back there, so that the code depends on the instruction's form only, not on the guest's
//! registers or addresses. What is in memory is brought to the frame and away by elements, as the mask demands: what is
//! masked out is not touched. Gathers and scatters are done here, one element after the other.

mod gather;
mod shape;
#[cfg(test)]
mod tests;
mod thunk;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::{F_FLAT, Insn};
use crate::vector::mxcsr;
use iced_x86::{Code, EncodingKind, Instruction};
use shape::{Class, Reach, Shape};
use std::sync::OnceLock;
pub(crate) use thunk::Thunks;
use x86::reg::{cr0, cr4, flags, vector, xcr0};

type R = Result<(), Fault>;

/// Of the form: masked-out elements become zero.
const ZEROING: u64 = 1;
/// One element of memory for all.
const BROADCAST: u64 = 2;
/// Where rounding control (iced's numbers) is.
const ROUNDING: u32 = 2;
/// No exceptions.
const SUPPRESS: u64 = 1 << 5;
/// There is a write mask.
const MASKED: u64 = 1 << 6;
/// An operand is in memory.
const MEMORY: u64 = 1 << 7;
/// Components of XCR0 that these instructions need.
pub(crate) const NEEDED: u64 = xcr0::SSE | xcr0::AVX | xcr0::AVX512;

/// The operands of one instruction, by their numbers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Frame {
    vectors: [[u8; 64]; 3],
    memory: [u8; 64],
    /// Mask registers; the last is the write mask.
    masks: [u64; 4],
    /// The second register of a pair.
    other: u64,
    general: [u64; 3],
    rflags: u64,
}

impl Frame {
    const ZERO: Self =
        Self { vectors: [[0; 64]; 3], memory: [0; 64], masks: [0; 4], other: 0, general: [0; 3], rflags: 0 };
}

/// Whether the host executes what guests are shown: the features that every processor with AVX-512 has had since the
/// first ones for servers, and memory for code.
pub(crate) fn host_is_able() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    *ABLE.get_or_init(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && Thunks::new().is_some()
    })
}

/// Whether `code` is an instruction of this module.
pub(crate) fn concerns(code: Code) -> bool {
    match code.op_code().encoding() {
        EncodingKind::EVEX => true,
        EncodingKind::VEX => shape::has_masks(code),
        _ => false,
    }
}

/// The executor of an instruction.
pub(crate) fn lookup(code: Code) -> Option<crate::insn::Exec> {
    if !concerns(code) {
        return None;
    }
    Some(match gather::kind(code) {
        Some(gather::Kind::Gather) => gather::gather,
        Some(gather::Kind::Scatter) => gather::scatter,
        None => execute,
    })
}

/// What the executor has to know besides operands and code: goes above the immediate.
pub(crate) fn form(from: &Instruction) -> u64 {
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    let memory = (0..from.op_count()).any(|n| from.op_kind(n) == iced_x86::OpKind::Memory);
    bit(from.zeroing_masking(), ZEROING)
        | bit(from.is_broadcast(), BROADCAST)
        | (from.rounding_control() as u64) << ROUNDING
        | bit(from.suppress_all_exceptions(), SUPPRESS)
        | bit(from.has_op_mask(), MASKED)
        | bit(memory, MEMORY)
}

/// Raises #UD or #NM where AVX-512 is off (SDM vol. 2, 2.8, "Exception classifications of EVEX-encoded instructions").
fn enter(cpu: &Cpu) -> R {
    let state = &cpu.state;
    let on = state.cr4 & cr4::OSXSAVE != 0
        && state.xcr0 & NEEDED == NEEDED
        && state.cr0 & cr0::PE != 0
        && state.rflags & flags::VM == 0;
    match on {
        false => Err(Fault::ud()),
        true if state.cr0 & cr0::TS != 0 => Err(Fault::nm()),
        true => Ok(()),
    }
}

/// Executes any of the instructions but gathers and scatters.
fn execute(cpu: &mut Cpu, insn: &Insn) -> R {
    enter(cpu)?;
    let (run, shape) = cpu.thunks.find(insn)?;
    let mut frame = Frame::ZERO;
    let chosen = if insn.mask != 0 { cpu.state.opmask[usize::from(insn.mask & 7)] } else { u64::MAX };
    frame.masks[3] = chosen;
    for (n, class) in shape.classes.into_iter().enumerate() {
        let register = usize::from(insn.regs[n]);
        match class {
            Class::Vector => frame.vectors[n] = cpu.state.zmm[register & 31],
            Class::Mask => frame.masks[n] = cpu.state.opmask[register & 7],
            Class::Wide | Class::Narrow => frame.general[n] = cpu.state.gpr[register & 15],
            Class::Pair | Class::None => {}
        }
    }
    if insn.is_mem() {
        let nothing = shape.reach != Reach::All && shape.reached(chosen) == 0;
        if shape.alignment > 1 && !nothing && !cpu.is_aligned(insn, shape.alignment.into()) {
            return Err(Fault::gp(0));
        }
        if shape.store {
            each_run(shape.reached(chosen), shape.step(), |from, to| {
                cpu.check_store_part(insn, from as u64, (to - from) as u64)
            })?;
        } else {
            load(cpu, insn, shape, chosen, &mut frame.memory)?;
        }
    }
    let kernel = || {
        let mut frame = frame;
        run.call(&mut frame);
        frame
    };
    let tiny = |after: &Frame| shape.has_tiny(after, chosen);
    let after =
        if shape.suppresses { mxcsr::unguarded(cpu, kernel) } else { mxcsr::guarded_by(cpu, kernel, tiny)? };
    if shape.store && insn.is_mem() {
        return each_run(shape.written(chosen), shape.step(), |from, to| {
            cpu.store_part(insn, from as u64, &after.memory[from..to])
        });
    }
    let register = usize::from(insn.regs[0]);
    match shape.classes[0] {
        Class::Vector => cpu.state.zmm[register & 31] = after.vectors[0],
        Class::Mask => cpu.state.opmask[register & 7] = after.masks[0],
        Class::Pair => {
            cpu.state.opmask[register & 6] = after.masks[0];
            cpu.state.opmask[register & 6 | 1] = after.other;
        }
        Class::Wide | Class::Narrow => cpu.state.gpr[register & 15] = after.general[0],
        Class::None => {}
    }
    if shape.flags {
        cpu.set_arith_flags(after.rflags);
    }
    cpu.jit.note_wide();
    Ok(())
}

/// Calls `what` for each run of bytes in `bytes` (bit = number); runs are cut into pieces of `step` bytes.
fn each_run(mut bytes: u64, step: usize, mut what: impl FnMut(usize, usize) -> R) -> R {
    let mut at = 0;
    while bytes != 0 {
        let skip = bytes.trailing_zeros() as usize;
        bytes >>= skip;
        let len = (bytes.trailing_ones() as usize).min(step);
        what(at + skip, at + skip + len)?;
        at += skip + len;
        bytes = if len == 64 { 0 } else { bytes >> len };
    }
    Ok(())
}

/// Reads what the mask `chosen` asks for of the memory operand.
fn load(cpu: &mut Cpu, insn: &Insn, shape: Shape, chosen: u64, memory: &mut [u8; 64]) -> R {
    // What is there as a whole is read as a whole.
    if insn.flags & F_FLAT != 0 && shape.reach != Reach::All {
        let at = cpu.ea(insn, shape.size.into(), false)?;
        if cpu.tlb.read(cpu.set, at, shape.size.into()).is_some() {
            return cpu.read_buf(at, &mut memory[..shape.size.into()]);
        }
    }
    each_run(shape.reached(chosen), shape.step(), |from, to| {
        let at = cpu.part(insn, from as u64, (to - from) as u64, false)?;
        cpu.read_buf(at, &mut memory[from..to])
    })
}

/// Raised where a piece of code cannot be made; hosts on which that happens show no AVX-512.
fn unable() -> Fault {
    Fault::new(vector::UD, 0)
}
