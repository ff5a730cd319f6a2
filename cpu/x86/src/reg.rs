//! Bits and numbers of control registers, flags and MSRs (Intel SDM volume 3, sections 2.5 and 2.2, volume 4).

/// RFLAGS bits (SDM vol. 1, 3.4.3).
pub mod flags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Always 1.
    pub const FIXED: u64 = 1 << 1;
    /// Parity of the low byte.
    pub const PF: u64 = 1 << 2;
    /// Carry out of bit 3.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts on.
    pub const IF: u64 = 1 << 9;
    /// String direction.
    pub const DF: u64 = 1 << 10;
    /// Signed overflow.
    pub const OF: u64 = 1 << 11;
    /// I/O privilege level.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume: no instruction breakpoint at the next instruction.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check, and SMAP override.
    pub const AC: u64 = 1 << 18;
    /// Virtual IF.
    pub const VIF: u64 = 1 << 19;
    /// Virtual interrupt pending.
    pub const VIP: u64 = 1 << 20;
    /// CPUID exists.
    pub const ID: u64 = 1 << 21;
    /// The six arithmetic flags.
    pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
}

/// CR0 bits.
pub mod cr0 {
    /// Protection.
    pub const PE: u64 = 1 << 0;
    /// WAIT traps when TS is set.
    pub const MP: u64 = 1 << 1;
    /// No x87.
    pub const EM: u64 = 1 << 2;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Always 1.
    pub const ET: u64 = 1 << 4;
    /// x87 errors raise #MF.
    pub const NE: u64 = 1 << 5;
    /// Supervisor honours read-only pages.
    pub const WP: u64 = 1 << 16;
    /// Alignment checks on.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits.
pub mod cr4 {
    /// Virtual-8086 extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// RDTSC is privileged.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages.
    pub const PSE: u64 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// Machine checks.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC for user code.
    pub const PCE: u64 = 1 << 8;
    /// FXSAVE and SSE.
    pub const OSFXSR: u64 = 1 << 9;
    /// SIMD exceptions raise #XM.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// SGDT and relatives are privileged.
    pub const UMIP: u64 = 1 << 11;
    /// 57-bit linear addresses.
    pub const LA57: u64 = 1 << 12;
    /// RDFSBASE and relatives.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisor may not execute user pages.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisor may not access user pages.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys for user pages.
    pub const PKE: u64 = 1 << 22;
}

/// EFER bits.
pub mod efer {
    /// SYSCALL and SYSRET.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// No-execute pages.
    pub const NXE: u64 = 1 << 11;
    /// Secure virtual machine.
    pub const SVME: u64 = 1 << 12;
    /// Fast FXSAVE.
    pub const FFXSR: u64 = 1 << 14;
}

/// XCR0 bits: state components that XSAVE manages.
pub mod xcr0 {
    /// x87 (always 1).
    pub const X87: u64 = 1 << 0;
    /// XMM registers and MXCSR.
    pub const SSE: u64 = 1 << 1;
    /// Upper halves of YMM registers.
    pub const AVX: u64 = 1 << 2;
    /// PKRU.
    pub const PKRU: u64 = 1 << 9;
    /// Mask registers.
    pub const OPMASK: u64 = 1 << 5;
    /// Upper halves of ZMM0 to ZMM15.
    pub const ZMM_UPPER: u64 = 1 << 6;
    /// ZMM16 to ZMM31.
    pub const ZMM_HIGH: u64 = 1 << 7;
    /// All that AVX-512 adds.
    pub const AVX512: u64 = OPMASK | ZMM_UPPER | ZMM_HIGH;
}

/// MSR numbers.
pub mod msr {
    /// Local APIC base, enable bits.
    pub const APIC_BASE: u32 = 0x1b;
    /// Time-stamp counter.
    pub const TSC: u32 = 0x10;
    /// Time-stamp counter adjustment.
    pub const TSC_ADJUST: u32 = 0x3b;
    /// TSC deadline of the local APIC timer.
    pub const TSC_DEADLINE: u32 = 0x6e0;
    /// MTRR capabilities.
    pub const MTRRCAP: u32 = 0xfe;
    /// SYSENTER code segment.
    pub const SYSENTER_CS: u32 = 0x174;
    /// SYSENTER stack pointer.
    pub const SYSENTER_ESP: u32 = 0x175;
    /// SYSENTER instruction pointer.
    pub const SYSENTER_EIP: u32 = 0x176;
    /// Machine-check capabilities.
    pub const MCG_CAP: u32 = 0x179;
    /// Machine-check status.
    pub const MCG_STATUS: u32 = 0x17a;
    /// Machine-check control.
    pub const MCG_CTL: u32 = 0x17b;
    /// Miscellaneous features.
    pub const MISC_ENABLE: u32 = 0x1a0;
    /// Page attribute table.
    pub const PAT: u32 = 0x277;
    /// Extended features.
    pub const EFER: u32 = 0xc000_0080;
    /// SYSCALL segments and 32-bit target.
    pub const STAR: u32 = 0xc000_0081;
    /// SYSCALL target in long mode.
    pub const LSTAR: u32 = 0xc000_0082;
    /// SYSCALL target in compatibility mode.
    pub const CSTAR: u32 = 0xc000_0083;
    /// SYSCALL flag mask.
    pub const FMASK: u32 = 0xc000_0084;
    /// FS base.
    pub const FS_BASE: u32 = 0xc000_0100;
    /// GS base.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// GS base that SWAPGS brings in.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// RDTSCP's and RDPID's value.
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// Exception vectors (SDM vol. 3, 6.3.1).
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug.
    pub const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// INT3.
    pub const BP: u8 = 3;
    /// INTO.
    pub const OF: u8 = 4;
    /// BOUND.
    pub const BR: u8 = 5;
    /// Invalid opcode.
    pub const UD: u8 = 6;
    /// No x87, or task switched.
    pub const NM: u8 = 7;
    /// Double fault.
    pub const DF: u8 = 8;
    /// Invalid TSS.
    pub const TS: u8 = 10;
    /// Segment not present.
    pub const NP: u8 = 11;
    /// Stack fault.
    pub const SS: u8 = 12;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// x87 error.
    pub const MF: u8 = 16;
    /// Alignment check.
    pub const AC: u8 = 17;
    /// Machine check.
    pub const MC: u8 = 18;
    /// SIMD floating-point error.
    pub const XM: u8 = 19;
}

/// Index of each general register in [`crate::X86State::gpr`].
pub mod gpr {
    /// RAX.
    pub const RAX: usize = 0;
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
    /// RSP.
    pub const RSP: usize = 4;
    /// RBP.
    pub const RBP: usize = 5;
    /// RSI.
    pub const RSI: usize = 6;
    /// RDI.
    pub const RDI: usize = 7;
}

/// Index of each segment register in [`crate::X86State::seg`].
pub mod seg {
    /// ES.
    pub const ES: usize = 0;
    /// CS.
    pub const CS: usize = 1;
    /// SS.
    pub const SS: usize = 2;
    /// DS.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
}
