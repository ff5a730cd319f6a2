//! x87 and MMX instructions for the interpreter.
//!
//! Arithmetic runs on the host's units under the guest's control word; operands, faults, tags, pointers and the order
//! of effects are ours. The interpreter is reached through [`FpuMachine`] only.

mod control;
mod host;
mod mmx;
mod x87;

use crate::vector::{Exec, Machine};
use iced_x86::Code;
use x86::reg::{cr0, vector};

pub use control::{legacy_area, load_legacy_area};

/// What x87 executors ask of the interpreter beyond [`Machine`].
pub trait FpuMachine: Machine {
    /// Offset of the instruction in CS.
    fn insn_start(&self, insn: &Self::Insn) -> u64;
    /// Selector and offset of the memory operand.
    fn operand_pointer(&self, insn: &Self::Insn) -> (u16, u64);
    /// The six arithmetic flags at their places in RFLAGS.
    fn arith_flags(&self) -> u64;
    /// Sets the six arithmetic flags.
    fn set_arith_flags(&mut self, flags: u64);
    /// Raises #AC where data must be aligned and the memory operand is not to a multiple of `size`.
    fn check_aligned(&mut self, insn: &Self::Insn, size: u64) -> Result<(), Self::Fault>;
    /// Pulls the FERR# pin (an error while CR0.NE = 0).
    fn fpu_error(&mut self);
}

/// The executor of `code`; `None` when it is not an x87 or MMX instruction.
pub fn lookup<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
    x87::lookup(code).or_else(|| control::lookup(code)).or_else(|| mmx::lookup(code))
}

/// Raises #NM where the x87 unit is off (SDM vol. 3, 2.5: CR0.EM, CR0.TS).
fn available<M: Machine>(m: &mut M) -> Result<(), M::Fault> {
    if m.x86().cr0 & (cr0::EM | cr0::TS) == 0 { Ok(()) } else { Err(m.fault(vector::NM)) }
}

/// What a waiting instruction does first with a pending unmasked exception: #MF, or the FERR# pin.
fn pending<M: FpuMachine>(m: &mut M) -> Result<(), M::Fault> {
    if m.x86().x87.fsw & x87::ES == 0 {
        return Ok(());
    }
    if m.x86().cr0 & cr0::NE != 0 {
        return Err(m.fault(vector::MF));
    }
    m.fpu_error();
    Ok(())
}

/// The start of every waiting x87 instruction.
fn enter<M: FpuMachine>(m: &mut M) -> Result<(), M::Fault> {
    available(m)?;
    pending(m)
}

#[cfg(test)]
mod tests;
