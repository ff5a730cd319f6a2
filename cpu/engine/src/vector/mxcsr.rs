//! Running floating-point kernels under the guest's MXCSR (SDM vol. 1, 10.2.3 and 11.5).

use super::Machine;
use super::shape::{Fp, V, bytes};
use std::arch::asm;
use x86::reg::{cr4, vector};

/// Bits that LDMXCSR accepts.
pub const VALID: u32 = 0xffff;
/// The host's value while Rust code runs: every exception masked, round to nearest.
const HOST: u32 = 0x1f80;
/// The six exception flags.
const FLAGS: u32 = 0x3f;
/// Flags of what is detected before the operation: invalid, denormal, divide by zero.
const BEFORE: u32 = 0x07;
/// The six mask bits.
const MASKS: u32 = FLAGS << 7;
/// Underflow's flag.
const UNDERFLOW: u32 = 0x10;
/// Flush to zero.
const FTZ: u32 = 1 << 15;
/// Rounding control, flush to zero, denormals are zeros.
const CONTROL: u32 = 0xe040;

#[inline(always)]
fn set(value: u32) {
    // SAFETY: loads a valid MXCSR with all exceptions masked; callers put HOST's control bits back before other
    // floating-point code runs.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags, readonly)) }
}

#[inline(always)]
fn get() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores four bytes to a local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) }
    value
}

/// Whether the guest has every exception masked.
pub fn all_masked<M: Machine>(m: &mut M) -> bool {
    m.x86().mxcsr & MASKS == MASKS
}

/// Runs `kernel` with all exceptions masked; gives its result and the flags that it raised.
#[inline(always)]
fn run<R>(control: u32, kernel: impl Fn() -> R) -> (R, u32) {
    set(control | HOST);
    let result = kernel();
    let raised = get() & FLAGS;
    if control != 0 {
        set(HOST);
    }
    (result, raised)
}

/// Runs `kernel` under the guest's MXCSR, adds the flags, and raises #XM (#UD without CR4.OSXMMEXCPT) for an unmasked
/// exception. `parts` shows the vectors of a result whose subnormal elements count as underflow.
///
/// Not exact, as the host shows it only by trapping: beside an unmasked overflow or underflow the inexact flag is that
/// of the masked result.
///
/// # Errors
/// #XM or #UD; the caller has not written its destination yet.
#[inline(always)]
pub fn guarded<M: Machine, R: Copy>(
    m: &mut M,
    kind: Fp,
    kernel: impl Fn() -> R,
    parts: impl Fn(R) -> [V; 2],
) -> Result<R, M::Fault> {
    guarded_by(m, kernel, |result| parts(*result).iter().any(|part| kind.has_subnormal(bytes(*part))))
}

/// [`guarded`], where `tiny` says whether a result has elements that count as underflow.
///
/// # Errors
/// As for [`guarded`].
#[inline(always)]
pub fn guarded_by<M: Machine, R: Copy>(
    m: &mut M,
    kernel: impl Fn() -> R,
    tiny: impl Fn(&R) -> bool,
) -> Result<R, M::Fault> {
    let guest = m.x86().mxcsr;
    // Most often the host has the guest's control bits, and no flag that the guest has not: then one look behind the
    // operation is enough, and setting MXCSR, which is slow, is saved.
    if guest & MASKS == MASKS {
        let result = kernel();
        let host = get();
        if (host ^ guest) & CONTROL | host & FLAGS & !guest == 0 {
            return Ok(result);
        }
    }
    exactly(m, kernel, tiny)
}

/// Runs a `kernel` that raises neither exceptions nor flags, with the guest's rounding and treatment of subnormals.
pub fn unguarded<M: Machine, R>(m: &mut M, kernel: impl Fn() -> R) -> R {
    run(m.x86().mxcsr & CONTROL, kernel).0
}

/// [`guarded`] with flags known from the start.
#[cold]
#[inline(never)]
fn exactly<M: Machine, R: Copy>(
    m: &mut M,
    kernel: impl Fn() -> R,
    tiny: impl Fn(&R) -> bool,
) -> Result<R, M::Fault> {
    let guest = m.x86().mxcsr;
    let unmasked = !(guest >> 7) & FLAGS;
    // Nothing is flushed where underflow is unmasked.
    let flush = if unmasked & UNDERFLOW != 0 { FTZ } else { 0 };
    let (result, mut raised) = run(guest & CONTROL & !flush, &kernel);
    if raised & BEFORE & unmasked != 0 {
        // What comes after the operation is not looked at then.
        raised &= BEFORE;
    } else if unmasked & UNDERFLOW != 0 && tiny(&result) {
        // Unmasked, underflow means tiny, exact or not.
        raised |= UNDERFLOW;
    }
    m.x86().mxcsr |= raised;
    if raised & unmasked == 0 {
        return Ok(result);
    }
    let known = m.x86().cr4 & cr4::OSXMMEXCPT != 0;
    Err(m.fault(if known { vector::XM } else { vector::UD }))
}
