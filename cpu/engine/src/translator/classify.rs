//! What becomes of each instruction, and which flags it reads and writes.

use iced_x86::{Code, CpuidFeature as F, FlowControl, Instruction, Mnemonic, OpKind, RflagsBits};

/// The six arithmetic flags in iced's numbering.
pub(super) const ARITH: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// How an instruction is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Re-encoded with mapped registers and a checked memory operand.
    Native,
    /// Does nothing that can be seen.
    Nothing,
    /// DIV or IDIV of 32 or 64 bits.
    Divide,
    /// FLDCW.
    LoadControl,
    Lea,
    Push,
    Pop,
    Leave,
    Jump,
    JumpIndirect,
    Condition,
    Call,
    CallIndirect,
    Return,
    /// See [`super::system`].
    System,
    Syscall,
    Sysret,
    /// PUSH from memory.
    PushMemory,
    /// Executed by the interpreter.
    Interpret,
    /// Executed by the interpreter; the block ends.
    InterpretEnd,
}

/// Whether vector instructions may run natively in the block's context.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    pub(super) sse: bool,
    pub(super) avx: bool,
    /// ZMM and mask registers may be used.
    pub(super) avx512: bool,
    /// The x87 unit can be used.
    pub(super) x87: bool,
    /// BMI2 may be used.
    pub(super) bmi2: bool,
    /// The model has TZCNT and LZCNT; on others they are BSF and BSR.
    pub(super) zero_counts: bool,
}

/// Whether the host executes instructions of `feature` itself, as far as they are worth it; the second value says
/// whether they are vector instructions.
fn host_has(feature: F) -> Option<(bool, bool)> {
    let scalar = |has| Some((has, false));
    let vector = |has| Some((has, true));
    match feature {
        F::INTEL8086
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::X64
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::CMOV
        | F::CX8
        | F::CET_IBT => scalar(true),
        F::CMPXCHG16B => scalar(is_x86_feature_detected!("cmpxchg16b")),
        F::FPU | F::FPU287 | F::FPU387 | F::MMX => scalar(super::x87::host_is_able()),
        F::MOVBE => scalar(is_x86_feature_detected!("movbe")),
        F::POPCNT => scalar(is_x86_feature_detected!("popcnt")),
        F::LZCNT => scalar(is_x86_feature_detected!("lzcnt")),
        F::BMI1 => scalar(is_x86_feature_detected!("bmi1")),
        F::BMI2 => scalar(is_x86_feature_detected!("bmi2")),
        F::ADX => scalar(is_x86_feature_detected!("adx")),
        F::SSE | F::SSE2 => vector(true),
        F::SSE3 => vector(is_x86_feature_detected!("sse3")),
        F::SSSE3 => vector(is_x86_feature_detected!("ssse3")),
        F::SSE4_1 => vector(is_x86_feature_detected!("sse4.1")),
        F::SSE4_2 => vector(is_x86_feature_detected!("sse4.2")),
        F::AES => vector(is_x86_feature_detected!("aes")),
        F::PCLMULQDQ => vector(is_x86_feature_detected!("pclmulqdq")),
        F::SHA => vector(is_x86_feature_detected!("sha")),
        F::AVX => vector(is_x86_feature_detected!("avx")),
        F::AVX2 => vector(is_x86_feature_detected!("avx2")),
        F::FMA => vector(is_x86_feature_detected!("fma")),
        F::F16C => vector(is_x86_feature_detected!("f16c")),
        F::VAES => vector(is_x86_feature_detected!("vaes")),
        F::VPCLMULQDQ => vector(is_x86_feature_detected!("vpclmulqdq")),
        F::GFNI => vector(is_x86_feature_detected!("gfni")),
        F::AVX512F => vector(is_x86_feature_detected!("avx512f")),
        F::AVX512DQ => vector(is_x86_feature_detected!("avx512dq")),
        F::AVX512CD => vector(is_x86_feature_detected!("avx512cd")),
        F::AVX512BW => vector(is_x86_feature_detected!("avx512bw")),
        F::AVX512VL => vector(is_x86_feature_detected!("avx512vl")),
        F::AVX512_IFMA => vector(is_x86_feature_detected!("avx512ifma")),
        F::AVX512_VBMI => vector(is_x86_feature_detected!("avx512vbmi")),
        F::AVX512_VBMI2 => vector(is_x86_feature_detected!("avx512vbmi2")),
        F::AVX512_VNNI => vector(is_x86_feature_detected!("avx512vnni")),
        F::AVX512_BITALG => vector(is_x86_feature_detected!("avx512bitalg")),
        F::AVX512_VPOPCNTDQ => vector(is_x86_feature_detected!("avx512vpopcntdq")),
        F::AVX512_VP2INTERSECT => vector(is_x86_feature_detected!("avx512vp2intersect")),
        F::AVX512_BF16 => vector(is_x86_feature_detected!("avx512bf16")),
        _ => None,
    }
}

/// How `i`, which the model offers, is translated.
pub(super) fn kind(i: &Instruction, vectors: Vectors) -> Kind {
    match i.flow_control() {
        FlowControl::Next => {}
        FlowControl::ConditionalBranch
            if i.is_jcc_short_or_near() && i.op0_kind() != OpKind::NearBranch16 =>
        {
            return Kind::Condition;
        }
        _ => {
            return match i.code() {
                Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Jmp_rel8_32 | Code::Jmp_rel32_32 => Kind::Jump,
                Code::Jmp_rm64 | Code::Jmp_rm32 => Kind::JumpIndirect,
                Code::Call_rm64 | Code::Call_rm32 => Kind::CallIndirect,
                Code::Call_rel32_64 | Code::Call_rel32_32 => Kind::Call,
                Code::Retnq | Code::Retnq_imm16 | Code::Retnd | Code::Retnd_imm16 => Kind::Return,
                Code::Syscall => Kind::Syscall,
                Code::Sysretq => Kind::Sysret,
                _ => Kind::InterpretEnd,
            };
        }
    }
    match i.code() {
        Code::Push_r64 | Code::Pushq_imm8 | Code::Pushq_imm32 => return Kind::Push,
        Code::Push_r32 | Code::Pushd_imm8 | Code::Pushd_imm32 => return Kind::Push,
        Code::Push_rm64 if i.op0_kind() == OpKind::Memory => return Kind::PushMemory,
        Code::Pop_r64 | Code::Pop_r32 => return Kind::Pop,
        Code::Leaveq | Code::Leaved => return Kind::Leave,
        _ => {}
    }
    match i.mnemonic() {
        Mnemonic::Lea => return Kind::Lea,
        Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Endbr32 => return Kind::Nothing,
        Mnemonic::Pause => return Kind::Interpret,
        _ => {}
    }
    if super::system::is_hint(i) {
        return Kind::Nothing;
    }
    if super::system::concerns(i) {
        return Kind::System;
    }
    if super::x87::concerns(i) {
        if !vectors.x87 {
            return Kind::Interpret;
        }
        if let Some(kind) = super::x87::kind(i) {
            return kind;
        }
    }
    if super::divide::is_divide(i) {
        return Kind::Divide;
    }
    if is_native(i, vectors) { Kind::Native } else { Kind::Interpret }
}

/// Whether `i` works on registers of AVX-512.
pub(super) fn is_wide(i: &Instruction) -> bool {
    i.encoding() == iced_x86::EncodingKind::EVEX
        || (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_k())
}

fn is_native(i: &Instruction, vectors: Vectors) -> bool {
    let mut vector = false;
    for feature in i.cpuid_features() {
        if *feature == F::BMI2 && !vectors.bmi2 {
            return false;
        }
        match host_has(*feature) {
            Some((true, v)) => vector |= v,
            _ => return false,
        }
    }
    // In 32-bit code they leave the upper eight registers alone.
    if i.code_size() == iced_x86::CodeSize::Code32
        && matches!(i.mnemonic(), Mnemonic::Vzeroall | Mnemonic::Vzeroupper)
    {
        return false;
    }
    if vector && !vectors.sse || (i.encoding() != iced_x86::EncodingKind::Legacy && vector && !vectors.avx) {
        return false;
    }
    if is_wide(i) && !vectors.avx512 {
        return false;
    }
    if i.is_privileged()
        || i.is_stack_instruction()
        || i.is_string_instruction()
        || i.is_save_restore_instruction()
        || i.is_vsib()
        || i.has_xacquire_prefix()
        || i.has_xrelease_prefix()
    {
        return false;
    }
    for n in 0..i.op_count() {
        match i.op_kind(n) {
            OpKind::Register => {
                let r = i.op_register(n);
                if !(r.is_gpr() || r.is_vector_register() || r.is_k() || r.is_mm() || r.is_st()) {
                    return false;
                }
            }
            OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI => return false,
            _ => {}
        }
    }
    if matches!(i.mnemonic(), Mnemonic::Tzcnt | Mnemonic::Lzcnt) && !vectors.zero_counts {
        return false;
    }
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    use Mnemonic as M;
    !matches!(
        i.mnemonic(),
        M::Div
            | M::Idiv
            | M::Cpuid
            | M::Rdtsc
            | M::Rdtscp
            | M::Rdpmc
            | M::Rdmsr
            | M::Wrmsr
            | M::Xgetbv
            | M::In
            | M::Out
            | M::Cli
            | M::Sti
            | M::Cld
            | M::Std
            | M::Hlt
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Sgdt
            | M::Sidt
            | M::Lgdt
            | M::Lidt
            | M::Lldt
            | M::Ltr
            | M::Lmsw
            | M::Clts
            | M::Invd
            | M::Wbinvd
            | M::Invlpg
            | M::Swapgs
            | M::Xlatb
            | M::Lfs
            | M::Lgs
            | M::Lss
            | M::Ldmxcsr
            | M::Stmxcsr
            | M::Vldmxcsr
            | M::Vstmxcsr
            | M::Maskmovdqu
            | M::Maskmovq
            | M::Vmaskmovdqu
            | M::Ud0
            | M::Ud1
            | M::Ud2
            | M::Salc
            | M::Int1
            | M::Int3
    ) && !(memory
        && matches!(
            i.mnemonic(),
            M::Bt | M::Bts | M::Btr | M::Btc | M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq
        )
        && (i.op1_kind() == OpKind::Register || vector))
}

/// Which arithmetic flags the instruction reads, and which it leaves without a trace of their old value.
pub(super) fn flags(i: &Instruction, kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Interpret | Kind::InterpretEnd | Kind::Syscall | Kind::Sysret => return (ARITH, 0),
        Kind::Native | Kind::Condition => {}
        Kind::System => return super::system::flags_of(i),
        _ => return (0, 0),
    }
    use Mnemonic as M;
    if let M::Shl | M::Shr | M::Sar | M::Sal | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd =
        i.mnemonic()
    {
        // A count of zero leaves the flags alone.
        let last = i.op_count() - 1;
        let mask = if i.op0_kind() == OpKind::Register && i.op0_register().is_gpr64()
            || i.op0_kind() == OpKind::Memory && i.memory_size().size() == 8
        {
            63
        } else {
            31
        };
        if i.op_kind(last) == OpKind::Register || i.immediate(last) & mask == 0 {
            return (ARITH, 0);
        }
    }
    (i.rflags_read() & ARITH, i.rflags_modified() & ARITH)
}

/// The alignment that the memory operand must have, 1 for none.
pub(super) fn alignment(i: &Instruction) -> u8 {
    use Mnemonic as M;
    let size = i.memory_size().size();
    match i.mnemonic() {
        M::Cmpxchg16b => 16,
        M::Vmovaps | M::Vmovapd | M::Vmovdqa | M::Vmovntps | M::Vmovntpd | M::Vmovntdq | M::Vmovntdqa => {
            size as u8
        }
        M::Vmovdqa32 | M::Vmovdqa64 => size as u8,
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => 1,
        M::Pcmpestri | M::Pcmpestrm | M::Pcmpistri | M::Pcmpistrm => 1,
        _ if size == 16
            && i.encoding() == iced_x86::EncodingKind::Legacy
            && (0..i.op_count()).any(|n| {
                let r = i.op_register(n);
                i.op_kind(n) == OpKind::Register && (r.is_xmm() || r.is_mm())
            }) =>
        {
            16
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn of(bytes: &[u8]) -> (Kind, u32, u32, u8) {
        let i = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
        let kind = kind(
            &i,
            Vectors { sse: true, avx: true, avx512: true, x87: true, bmi2: true, zero_counts: true },
        );
        let (read, written) = flags(&i, kind);
        (kind, read, written, alignment(&i))
    }

    #[test]
    fn instructions_fall_into_their_kinds() {
        assert_eq!(of(&[0x48, 0x01, 0x03]), (Kind::Native, 0, ARITH, 1)); // add [rbx], rax
        assert_eq!(of(&[0x48, 0xff, 0xc0]), (Kind::Native, 0, ARITH & !RflagsBits::CF, 1)); // inc rax
        assert_eq!(of(&[0xd3, 0xe0]), (Kind::Native, ARITH, 0, 1)); // shl eax, cl
        assert_eq!(of(&[0x0f, 0x28, 0x03]), (Kind::Native, 0, 0, 16)); // movaps xmm0, [rbx]
        assert_eq!(of(&[0x0f, 0x10, 0x03]), (Kind::Native, 0, 0, 1)); // movups
        assert_eq!(of(&[0x66, 0x0f, 0x2d, 0x0b]), (Kind::Native, 0, 0, 16)); // cvtpd2pi mm1, [rbx]
        assert_eq!(of(&[0x55]).0, Kind::Push);
        assert_eq!(of(&[0xc3]).0, Kind::Return);
        assert_eq!(of(&[0x74, 0]), (Kind::Condition, RflagsBits::ZF, 0, 1));
        assert_eq!(of(&[0xf3, 0x48, 0xa5]).0, Kind::System); // rep movsq
        assert_eq!(of(&[0x48, 0xa5]).0, Kind::Interpret); // movsq
        assert_eq!(of(&[0xf3, 0x65, 0xa4]).0, Kind::Interpret); // rep movsb from gs:[rsi]
        assert_eq!(of(&[0x0f, 0x05]).0, Kind::Syscall);
        assert_eq!(of(&[0xff, 0x33]).0, Kind::PushMemory);
        assert_eq!(of(&[0x48, 0xcf]).0, Kind::InterpretEnd); // iretq
        assert_eq!(of(&[0x0f, 0xa3, 0x03]).0, Kind::System); // bt [rbx], eax
        assert_eq!(of(&[0x66, 0x0f, 0xa3, 0x03]).0, Kind::Interpret); // bt [rbx], ax
        assert_eq!(of(&[0x0f, 0x6f, 0xc1]).0, Kind::Native); // movq mm0, mm1
        assert_eq!(of(&[0xd8, 0xc1]).0, Kind::Native); // fadd st0, st1
        assert_eq!(of(&[0xdb, 0xe3]).0, Kind::Interpret); // fninit
        assert_eq!(of(&[0x0f, 0xae, 0x03]).0, Kind::Interpret); // fxsave [rbx]
        assert_eq!(of(&[0xe4, 0]).0, Kind::Interpret); // in al, 0
        assert_eq!(of(&[0x8e, 0xd8]).0, Kind::Interpret); // mov ds, eax
        assert_eq!(of(&[0x0f, 0x01, 0xca]).0, Kind::System); // clac
        assert_eq!(of(&[0x9b]).0, Kind::Nothing); // fwait
        // Where exceptions are not masked, not even that is the host's.
        let exact =
            Vectors { sse: false, avx: false, avx512: false, x87: false, bmi2: true, zero_counts: true };
        for code in
            [&[0x9b][..], &[0xd8, 0xc1], &[0x0f, 0x77], &[0x0f, 0x6f, 0xc1], &[0xf2, 0x0f, 0x58, 0xc1]]
        {
            let i = Decoder::new(64, code, DecoderOptions::NONE).decode();
            assert_eq!(kind(&i, exact), Kind::Interpret, "{i}");
        }
    }
}
