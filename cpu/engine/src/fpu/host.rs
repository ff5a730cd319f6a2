//! The guest's x87 state in the host's x87 unit for the time of one instruction.
//!
//! The state travels by FRSTOR and FNSAVE. Both are non-waiting, so that an unmasked exception is only recorded, and
//! FNSAVE leaves the unit as FNINIT does, which is what Rust code expects.

use super::control::summarize;
use std::arch::asm;
use x86::X87;

/// The x87 unit's state in the 32-bit protected-mode format (SDM vol. 1, figures 8-9 and 8-13).
#[repr(C, align(16))]
pub struct Image {
    bytes: [u8; 112],
}

impl Image {
    /// From the registers.
    #[inline]
    pub fn new(x87: &X87) -> Self {
        let mut bytes = [0; 112];
        let mut tags = 0u16;
        for n in 0..8 {
            if x87.ftw >> n & 1 == 0 {
                tags |= 3 << (2 * n);
            }
        }
        // With CR0.NE clear an instruction runs on in spite of a pending exception, which must not become the host's.
        let pending = x87.fsw & !x87.fcw & 0x3f != 0;
        let fcw = if pending { x87.fcw | 0x3f } else { x87.fcw };
        bytes[0..2].copy_from_slice(&fcw.to_le_bytes());
        bytes[4..6].copy_from_slice(&x87.fsw.to_le_bytes());
        bytes[8..10].copy_from_slice(&tags.to_le_bytes());
        for n in 0..8 {
            bytes[28 + 10 * n..][..10].copy_from_slice(&x87.regs[(x87.top() + n) & 7][..10]);
        }
        Self { bytes }
    }

    /// Status word, tags and registers back to where they came from.
    #[inline]
    pub fn store(&self, x87: &mut X87) {
        x87.fsw = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        summarize(x87);
        let tags = u16::from_le_bytes([self.bytes[8], self.bytes[9]]);
        x87.ftw = (0..8).fold(0, |full, n| full | u8::from(tags >> (2 * n) & 3 != 3) << n);
        let top = x87.top();
        for n in 0..8 {
            x87.regs[(top + n) & 7][..10].copy_from_slice(&self.bytes[28 + 10 * n..][..10]);
        }
    }
}

/// Runs the instruction `B0 MODRM` (no memory operand).
#[inline]
pub fn run<const B0: u8, const MODRM: u8>(image: &mut Image) {
    // SAFETY: FRSTOR reads and FNSAVE writes 108 of the image's 112 bytes; the instruction between them touches the
    // x87 unit alone, whose registers are given as clobbered and which FNSAVE leaves as it was (empty, default control).
    unsafe {
        asm!(
            "frstor [{image}]", ".byte {b0}, {modrm}", "fnsave [{image}]",
            image = in(reg) image, b0 = const B0, modrm = const MODRM,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Runs the instruction `B0 MODRM` whose memory operand is `operand` (`MODRM` says `[rax]`).
#[inline]
pub fn run_memory<const B0: u8, const MODRM: u8>(image: &mut Image, operand: &mut [u8; 16]) {
    const { assert!(MODRM & 0xc7 == 0) };
    // SAFETY: as in `run`; the instruction reads or writes at most 10 bytes at RAX, where 16 are.
    unsafe {
        asm!(
            "frstor [{image}]", ".byte {b0}, {modrm}", "fnsave [{image}]",
            image = in(reg) image, b0 = const B0, modrm = const MODRM, in("rax") operand,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Runs the instruction `B0 MODRM` with `flags` as the arithmetic flags; gives RFLAGS after it.
#[inline]
pub fn run_flags<const B0: u8, const MODRM: u8>(image: &mut Image, flags: u64) -> u64 {
    let mut flags = flags & x86::reg::flags::ARITH | x86::reg::flags::FIXED;
    // SAFETY: as in `run`; the stack holds the flags for a moment, and only arithmetic flags are set.
    unsafe {
        asm!(
            "frstor [{image}]", "push {flags}", "popfq", ".byte {b0}, {modrm}", "pushfq", "pop {flags}",
            "fnsave [{image}]",
            image = in(reg) image, b0 = const B0, modrm = const MODRM, flags = inout(reg) flags,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    flags
}
