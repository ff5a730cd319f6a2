//! What is compared, and what the manuals leave open. Every exception is for named instructions and says why.

use crate::layout::Mode;
use crate::native::State;
use iced_x86::{Code, EncodingKind, Instruction, Mnemonic as M, OpKind, Register, RflagsBits};
use x86::reg::{flags, gpr};

/// Why the results of `code` are not compared; `None` when they are.
pub fn not_compared(code: Code, mode: Mode) -> Option<&'static str> {
    Some(match code.mnemonic() {
        M::Int1
        | M::Int3
        | M::Into
        | M::Syscall
        | M::Sysenter
        | M::Sysexit
        | M::Sysexitq
        | M::Sysret
        | M::Sysretq => "enters or leaves the kernel",
        M::Cpuid | M::Rdtsc | M::Rdtscp | M::Rdpid | M::Rdpmc | M::Xgetbv | M::Rdrand | M::Rdseed => {
            "the result is the machine's own"
        }
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => "UMIP: the host's kernel answers itself",
        M::Lss | M::Lfs | M::Lgs | M::Jmp | M::Call if is_amd() && is_wide_pointer(code) => {
            "AMD's processors do not have 64-bit offsets in far pointers"
        }
        M::Pushad if mode == Mode::Small => "Linux loses the upper half of ESP",
        M::Enter if mode == Mode::Small && code == Code::Enterd_imm16_imm8 => {
            "Linux loses the upper half of ESP"
        }
        M::Monitor | M::Mwait | M::Monitorx | M::Mwaitx => "the hypervisor decides",
        _ => return None,
    })
}

fn is_wide_pointer(code: Code) -> bool {
    use Code::{Call_m1664, Jmp_m1664, Lfs_r64_m1664, Lgs_r64_m1664, Lss_r64_m1664};
    matches!(code, Lss_r64_m1664 | Lfs_r64_m1664 | Lgs_r64_m1664 | Jmp_m1664 | Call_m1664)
}

/// Instructions that are #UD by definition, or at CPL 3.
pub fn is_undefined(code: Code) -> bool {
    matches!(code.mnemonic(), M::Ud0 | M::Ud1 | M::Ud2 | M::Clac | M::Stac)
}

/// Whether the host is an AMD processor.
pub fn is_amd() -> bool {
    static VENDOR: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *VENDOR.get_or_init(|| std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Auth"))
}

/// Why one encoding is not tried although its code is.
pub fn is_vendor_specific(insn: &Instruction, bytes: &[u8], mode: Mode) -> bool {
    let long = mode == Mode::Long;
    let code = insn.code();
    let branch = code.is_jcc_short_or_near()
        || code.is_loop()
        || code.is_loopcc()
        || code.is_jcx_short()
        || matches!(code.mnemonic(), M::Jmp | M::Call | M::Ret | M::Push | M::Pop | M::Leave | M::Enter);
    // An operand-size prefix before REX counts, a REX that is not the last prefix does not.
    let prefixes = bytes.iter().take_while(|b| {
        matches!(b, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x64 | 0x65 | 0x26 | 0x2e | 0x36 | 0x3e)
            || long && matches!(b, 0x40..=0x4f)
    });
    let (mut small, mut repeat) = (false, false);
    for prefix in prefixes {
        small |= *prefix == 0x66;
        repeat |= matches!(prefix, 0xf2 | 0xf3);
    }
    // In 64-bit mode AMD's processors cut RIP to 16 bits after an operand-size prefix, Intel's ignore it.
    let near = !matches!(code.mnemonic(), M::Push | M::Pop | M::Leave | M::Enter);
    let far = insn.is_jmp_far_indirect() || insn.is_call_far_indirect();
    if branch && near && !far && small && long {
        return true;
    }
    // W1 in 32-bit mode: ignored by the decoder, as the SDM says for VPEXTRD; undefined on AMD's processors.
    let wide = bytes.windows(3).any(|w| w[0] == 0xc4 && w[2] & 0x80 != 0);
    if !long && wide && matches!(code.mnemonic(), M::Vpextrd | M::Vpinsrd) {
        return true;
    }
    if reads_old_stack_pointer(insn, bytes) {
        return true;
    }
    // AMD's processors let F2 and F3 choose the condition of LOOP, the manuals say that they are ignored.
    repeat && (code.is_loop() || code.is_loopcc() || code.is_jcx_short())
}

/// Whether an EVEX instruction names RSP with the X bit, which says nothing about general registers: AMD's processors
/// then read it as it was before the last PUSH or CALL.
pub fn reads_old_stack_pointer(insn: &Instruction, bytes: &[u8]) -> bool {
    let extended = || {
        let at = bytes.iter().position(|b| *b == 0x62);
        at.and_then(|at| bytes.get(at + 1)).is_some_and(|b| b & 0x40 == 0)
    };
    let is_stack_pointer =
        |n: u32| insn.op_kind(n) == OpKind::Register && insn.op_register(n).full_register() == Register::RSP;
    insn.encoding() == EncodingKind::EVEX && (0..insn.op_count()).any(is_stack_pointer) && extended()
}

/// Bits of a shift's or rotate's operand.
fn width(insn: &Instruction) -> u32 {
    match insn.op0_kind() {
        OpKind::Register => insn.op0_register().size() as u32 * 8,
        _ => insn.memory_size().size() as u32 * 8,
    }
}

/// The count of a shift or rotate, masked.
fn count(insn: &Instruction, before: &State) -> u32 {
    let last = insn.op_count() - 1;
    let count = match insn.op_kind(last) {
        OpKind::Immediate8 => insn.immediate8().into(),
        _ => before.gpr[gpr::RCX] as u32 & 0xff,
    };
    count & if width(insn) == 64 { 63 } else { 31 }
}

/// Arithmetic flags that the manual leaves undefined after `insn` (SDM volume 2, "Flags affected").
pub fn undefined_flags(insn: &Instruction, before: &State) -> u64 {
    match insn.mnemonic() {
        M::Rol | M::Ror | M::Rcl | M::Rcr => {
            // OF is that of a rotation by one.
            return if count(insn, before) == 1 { 0 } else { flags::OF };
        }
        M::Shl | M::Sal | M::Shr | M::Sar => {
            let count = count(insn, before);
            let carry = if insn.mnemonic() != M::Sar && count >= width(insn) { flags::CF } else { 0 };
            return match count {
                0 => 0,
                1 => flags::AF,
                _ => flags::AF | flags::OF,
            } | carry;
        }
        M::Shld | M::Shrd => {
            return match count(insn, before) {
                0 => 0,
                1 => flags::AF,
                count if count > width(insn) => flags::ARITH,
                _ => flags::AF | flags::OF,
            };
        }
        _ => {}
    }
    rflags(insn.rflags_undefined())
}

/// Flags in iced's numbering as bits of RFLAGS.
pub fn rflags(bits: u32) -> u64 {
    let pairs = [
        (RflagsBits::OF, flags::OF),
        (RflagsBits::SF, flags::SF),
        (RflagsBits::ZF, flags::ZF),
        (RflagsBits::AF, flags::AF),
        (RflagsBits::CF, flags::CF),
        (RflagsBits::PF, flags::PF),
    ];
    pairs.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |mask, (_, flag)| mask | flag)
}

/// Whether the manual leaves the destination undefined: double shifts of 16 bits by more than that, bit scans of zero,
/// BSWAP of 16 bits.
pub fn undefined_result(insn: &Instruction, before: &State) -> bool {
    match insn.mnemonic() {
        M::Shld | M::Shrd => count(insn, before) > width(insn),
        M::Bswap => insn.op0_register().size() == 2,
        _ => false,
    }
}

/// What of an instruction's memory operand is not compared, as bytes from its start: x87 pointers and opcode, which AMD's
/// processors keep for pending exceptions only, and MXCSR_MASK, of which each model has its own.
pub fn ignored_memory(insn: &Instruction) -> &'static [(u64, u64)] {
    use Code::*;
    match insn.code() {
        Fnstenv_m14byte | Fnsave_m94byte => &[(6, 14)],
        Fnstenv_m28byte | Fnsave_m108byte => &[(12, 28)],
        Fxsave_m512byte | Fxsave64_m512byte | Xsave_mem | Xsave64_mem | Xsaveopt_mem | Xsaveopt64_mem
        | Xsavec_mem | Xsavec64_mem => &[(6, 24), (28, 32)],
        _ => &[],
    }
}

/// Bits 79:64 of EXTRQ's and INSERTQ's result and the rest of the upper half are undefined (APM volume 4).
pub fn undefined_upper_quadword(insn: &Instruction) -> bool {
    matches!(insn.mnemonic(), M::Extrq | M::Insertq)
}
