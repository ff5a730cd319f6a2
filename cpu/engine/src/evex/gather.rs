//! Gathers and scatters, one element after the other from the lowest. What is done is taken out of the mask at once,
//! so that the instruction can go on after a fault (SDM vol. 2, VPGATHERDD, VPSCATTERDD).

use super::{R, enter};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::{Insn, NONE};
use iced_x86::{Code, OpCodeOperandKind as K};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gather,
    Scatter,
}

fn vsib(kind: K) -> Option<(usize, usize)> {
    Some(match kind {
        K::mem_vsib32x => (16, 4),
        K::mem_vsib32y => (32, 4),
        K::mem_vsib32z => (64, 4),
        K::mem_vsib64x => (16, 8),
        K::mem_vsib64y => (32, 8),
        K::mem_vsib64z => (64, 8),
        _ => return None,
    })
}

/// Whether `code` is one.
pub(super) fn kind(code: Code) -> Option<Kind> {
    let kinds = code.op_code().op_kinds();
    let is = |n: usize| kinds.get(n).is_some_and(|kind| vsib(*kind).is_some());
    match (is(0), is(1)) {
        (true, _) => Some(Kind::Scatter),
        (_, true) => Some(Kind::Gather),
        _ => None,
    }
}

/// Elements, bytes of one, bytes of an index.
fn sizes(code: Code) -> (usize, usize, usize) {
    let op = code.op_code();
    let element = op.memory_size().size();
    let (mut indices, mut index, mut data) = (16, 4, 16);
    for kind in op.op_kinds() {
        match (vsib(*kind), kind) {
            (Some(found), _) => (indices, index) = found,
            (None, K::ymm_reg) => data = 32,
            (None, K::zmm_reg) => data = 64,
            _ => {}
        }
    }
    ((indices / index).min(data / element.max(1)), element, index)
}

/// Where element `n` is.
fn address(
    cpu: &Cpu,
    insn: &Insn,
    n: usize,
    element: usize,
    index: usize,
    write: bool,
) -> Result<u64, Fault> {
    let from = &cpu.state.zmm[usize::from(insn.index) & 31][n * index..][..index];
    let mut wide = [if from[index - 1] >> 7 != 0 { 0xff } else { 0 }; 8];
    wide[..index].copy_from_slice(from);
    // The index is a vector register, whose number must not pick a general one.
    let plain = Insn { index: NONE, ..*insn };
    cpu.element(&plain, u64::from_le_bytes(wide) << insn.scale, element as u64, write)
}

pub(super) fn gather(cpu: &mut Cpu, insn: &Insn) -> R {
    enter(cpu)?;
    let (count, element, index) = sizes(insn.code());
    let (to, mask) = (usize::from(insn.regs[0]) & 31, usize::from(insn.mask) & 7);
    cpu.jit.note_wide();
    for n in 0..count {
        if cpu.state.opmask[mask] >> n & 1 != 0 {
            let at = address(cpu, insn, n, element, index, false)?;
            let mut value = [0; 8];
            cpu.read_buf(at, &mut value[..element])?;
            cpu.state.zmm[to][n * element..][..element].copy_from_slice(&value[..element]);
            cpu.state.opmask[mask] &= !(1 << n);
        }
    }
    cpu.state.zmm[to][count * element..].fill(0);
    cpu.state.opmask[mask] = 0;
    Ok(())
}

pub(super) fn scatter(cpu: &mut Cpu, insn: &Insn) -> R {
    enter(cpu)?;
    let (count, element, index) = sizes(insn.code());
    let (from, mask) = (usize::from(insn.regs[1]) & 31, usize::from(insn.mask) & 7);
    for n in 0..count {
        if cpu.state.opmask[mask] >> n & 1 != 0 {
            let at = address(cpu, insn, n, element, index, true)?;
            let mut value = [0; 8];
            value[..element].copy_from_slice(&cpu.state.zmm[from][n * element..][..element]);
            cpu.write_buf(at, &value[..element])?;
            cpu.state.opmask[mask] &= !(1 << n);
        }
    }
    cpu.state.opmask[mask] = 0;
    Ok(())
}
