//! SSE to SSE4.2, SSE4A, AES, PCLMULQDQ, SHA, AVX, AVX2, FMA, F16C and GFNI for the interpreter.
//!
//! Arithmetic runs on the host: a [`shape::Kernel`] is one host instruction on 128 bits, and 256-bit forms run it once
//! a lane. Operands, faults, upper halves and MXCSR are ours: the executors of `shape` and the special cases of the
//! other modules. What the host lacks is never offered to a guest ([`host_supports`]), so a kernel always exists.
//!
//! The interpreter is reached through [`Machine`] and [`Operands`] only.

mod compare;
mod convert;
mod crypto;
mod float;
mod fma;
mod gather;
mod int;
mod moves;
pub mod mxcsr;
mod scalar;
pub mod shape;
mod shuffle;
mod strings;
#[cfg(test)]
mod tests;

use iced_x86::{Code, Register};
use x86::X86State;
use x86::reg::{cr0, cr4, flags, vector, xcr0};

/// What an executor asks of a decoded instruction. Operands are numbered as iced-x86 numbers them.
pub trait Operands {
    /// Number of the register that is operand `n`: 0 to 15.
    fn register(&self, n: usize) -> usize;
    /// Whether operand `n` is in memory (explicit, or at DS:rDI).
    fn is_memory(&self, n: usize) -> bool;
    /// The first 8-bit immediate; 0 when there is none.
    fn immediate(&self) -> u8;
    /// The second immediate (EXTRQ, INSERTQ); 0 when there is none.
    fn second_immediate(&self) -> u8;
    /// The vector register that indexes a gather, and the factor for its elements.
    fn vector_index(&self) -> (usize, u64);
}

/// What an executor asks of the interpreter.
pub trait Machine: Sized {
    /// A decoded instruction.
    type Insn: Operands;
    /// An exception to deliver.
    type Fault;
    /// The registers.
    fn x86(&mut self) -> &mut X86State;
    /// The exception `vector`, with error code 0 where it has one.
    fn fault(&mut self, vector: u8) -> Self::Fault;
    /// Replaces the six arithmetic flags by those in `flags` (at their places in RFLAGS).
    fn set_flags(&mut self, flags: u64);
    /// Reads the memory operand; `aligned` raises #GP(0) unless its address is a multiple of `N`.
    ///
    /// # Errors
    /// The fault of the access.
    fn load<const N: usize>(&mut self, insn: &Self::Insn, aligned: bool) -> Result<[u8; N], Self::Fault>;
    /// Writes the memory operand; `aligned` as for [`Machine::load`].
    ///
    /// # Errors
    /// The fault of the access; nothing was written then.
    fn store<const N: usize>(
        &mut self,
        insn: &Self::Insn,
        value: [u8; N],
        aligned: bool,
    ) -> Result<(), Self::Fault>;
    /// Reads `N` bytes at the memory operand's offset plus `displacement`, wrapped to the address size.
    ///
    /// # Errors
    /// The fault of the access.
    fn load_part<const N: usize>(
        &mut self,
        insn: &Self::Insn,
        displacement: u64,
    ) -> Result<[u8; N], Self::Fault>;
    /// As [`Machine::load_part`] for a gather: its vector index is left out of the offset.
    ///
    /// # Errors
    /// The fault of the access.
    fn load_gathered<const N: usize>(
        &mut self,
        insn: &Self::Insn,
        displacement: u64,
    ) -> Result<[u8; N], Self::Fault>;
    /// Writes `N` bytes at the memory operand's offset plus `displacement`, wrapped to the address size.
    ///
    /// # Errors
    /// The fault of the access; nothing was written then.
    fn store_part<const N: usize>(
        &mut self,
        insn: &Self::Insn,
        displacement: u64,
        value: [u8; N],
    ) -> Result<(), Self::Fault>;
    /// Raises the fault that [`Machine::store_part`] of `size` bytes would raise.
    ///
    /// # Errors
    /// That fault.
    fn check_store_part(
        &mut self,
        insn: &Self::Insn,
        displacement: u64,
        size: usize,
    ) -> Result<(), Self::Fault>;
}

/// Executes one instruction. On a fault no register has changed, except for what the manual says (gathers, MXCSR).
pub type Exec<M> = fn(&mut M, &<M as Machine>::Insn) -> Result<(), <M as Machine>::Fault>;

/// The executor of an instruction; `None` when it is not a vector instruction of this module.
pub fn lookup<M: Machine>(code: Code) -> Option<Exec<M>> {
    moves::lookup(code)
        .or_else(|| int::lookup(code))
        .or_else(|| float::lookup(code))
        .or_else(|| compare::lookup(code))
        .or_else(|| shuffle::lookup(code))
        .or_else(|| scalar::lookup(code))
        .or_else(|| convert::lookup(code))
        .or_else(|| fma::lookup(code))
        .or_else(|| crypto::lookup(code))
        .or_else(|| gather::lookup(code))
        .or_else(|| strings::lookup(code))
}

/// A CPUID feature whose instructions this module executes only on a host that has it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// SSE3.
    Sse3,
    /// SSSE3.
    Ssse3,
    /// SSE4.1.
    Sse41,
    /// SSE4.2.
    Sse42,
    /// SSE4A (modelled: every host will do).
    Sse4a,
    /// AES.
    Aes,
    /// PCLMULQDQ.
    Pclmulqdq,
    /// SHA.
    Sha,
    /// AVX.
    Avx,
    /// AVX2.
    Avx2,
    /// FMA.
    Fma,
    /// F16C.
    F16c,
    /// VAES, 256-bit.
    Vaes,
    /// VPCLMULQDQ, 256-bit.
    Vpclmulqdq,
    /// GFNI.
    Gfni,
    /// AVX-VNNI.
    AvxVnni,
}

/// Whether a guest may be shown `feature` on this host.
pub fn host_supports(feature: Feature) -> bool {
    let sse42 = is_x86_feature_detected!("sse4.2");
    match feature {
        Feature::Sse3 => is_x86_feature_detected!("sse3"),
        Feature::Ssse3 => is_x86_feature_detected!("ssse3"),
        Feature::Sse41 => is_x86_feature_detected!("sse4.1"),
        Feature::Sse42 => sse42,
        Feature::Sse4a => true,
        Feature::Aes => is_x86_feature_detected!("aes"),
        Feature::Pclmulqdq => is_x86_feature_detected!("pclmulqdq"),
        Feature::Sha => is_x86_feature_detected!("sha"),
        // AVX2 forms are lanes of SSE instructions; only VCMPPS and relatives need AVX itself.
        Feature::Avx | Feature::Avx2 => sse42 && is_x86_feature_detected!("avx"),
        Feature::Fma => is_x86_feature_detected!("fma"),
        Feature::F16c => is_x86_feature_detected!("f16c"),
        // AVX2 forms are lanes again, those of AVX-512 are not.
        Feature::Vaes if crate::evex::host_is_able() => is_x86_feature_detected!("vaes"),
        Feature::Vpclmulqdq if crate::evex::host_is_able() => is_x86_feature_detected!("vpclmulqdq"),
        Feature::Vaes => is_x86_feature_detected!("aes"),
        Feature::Vpclmulqdq => is_x86_feature_detected!("pclmulqdq"),
        Feature::Gfni => is_x86_feature_detected!("gfni"),
        Feature::AvxVnni => is_x86_feature_detected!("avxvnni"),
    }
}

/// The number of a vector, general or MMX register within its file.
pub fn register_number(register: Register) -> usize {
    let file = |first: Register, last: Register| {
        (first as usize..=last as usize)
            .contains(&(register as usize))
            .then(|| register as usize - first as usize)
    };
    file(Register::XMM0, Register::XMM31)
        .or_else(|| file(Register::YMM0, Register::YMM31))
        .or_else(|| file(Register::EAX, Register::R15D))
        .or_else(|| file(Register::RAX, Register::R15))
        .or_else(|| file(Register::MM0, Register::MM7))
        .unwrap_or(0)
}

/// Raises #UD or #NM where SSE is off (SDM vol. 3, 13.2: CR0.EM, CR4.OSFXSR, CR0.TS).
#[inline(always)]
pub fn enter_legacy<M: Machine>(m: &mut M) -> Result<(), M::Fault> {
    let state = m.x86();
    if state.cr0 & (cr0::EM | cr0::TS) == 0 && state.cr4 & cr4::OSFXSR != 0 {
        return Ok(());
    }
    let device_off = state.cr0 & cr0::EM == 0 && state.cr4 & cr4::OSFXSR != 0;
    Err(m.fault(if device_off { vector::NM } else { vector::UD }))
}

/// Raises #UD or #NM where AVX is off (SDM vol. 1, 14.3: protected mode, CR4.OSXSAVE, XCR0; then CR0.TS).
#[inline(always)]
pub fn enter_vex<M: Machine>(m: &mut M) -> Result<(), M::Fault> {
    let state = m.x86();
    let both = xcr0::SSE | xcr0::AVX;
    let on = state.cr4 & cr4::OSXSAVE != 0
        && state.xcr0 & both == both
        && state.cr0 & cr0::PE != 0
        && state.rflags & flags::VM == 0;
    if on && state.cr0 & cr0::TS == 0 {
        return Ok(());
    }
    Err(m.fault(if on { vector::NM } else { vector::UD }))
}
