//! Integer instructions. Which function executes which code: `table` (arithmetic and moves), `flow` (branches and the
//! stack) and the rest here.

mod alu;
mod bcd;
mod bits;
mod control;
mod flow;
pub(crate) mod int;
mod misc;
mod string;
mod table;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::{Exec, Insn};
use iced_x86::{Code, Instruction};
use string::kind;

fn nop(_: &mut Cpu, _: &Insn) -> Result<(), Fault> {
    Ok(())
}

/// The executor of `code`, with the operands that `from` has.
pub(crate) fn lookup(code: Code, from: &Instruction) -> Option<Exec> {
    table::lookup(code, from).or_else(|| flow::lookup(code)).or_else(|| rest(code))
}

/// What neither table has: string instructions, flags, hints.
fn rest(code: Code) -> Option<Exec> {
    let exec: Exec = match code {
        Code::Movsb_m8_m8 => string::string::<u8, { kind::MOVS }>,
        Code::Stosb_m8_AL => string::string::<u8, { kind::STOS }>,
        Code::Lodsb_AL_m8 => string::string::<u8, { kind::LODS }>,
        Code::Scasb_AL_m8 => string::string::<u8, { kind::SCAS }>,
        Code::Cmpsb_m8_m8 => string::string::<u8, { kind::CMPS }>,
        Code::Insb_m8_DX => string::string::<u8, { kind::INS }>,
        Code::Outsb_DX_m8 => string::string::<u8, { kind::OUTS }>,
        Code::Movsw_m16_m16 => string::string::<u16, { kind::MOVS }>,
        Code::Stosw_m16_AX => string::string::<u16, { kind::STOS }>,
        Code::Lodsw_AX_m16 => string::string::<u16, { kind::LODS }>,
        Code::Scasw_AX_m16 => string::string::<u16, { kind::SCAS }>,
        Code::Cmpsw_m16_m16 => string::string::<u16, { kind::CMPS }>,
        Code::Insw_m16_DX => string::string::<u16, { kind::INS }>,
        Code::Outsw_DX_m16 => string::string::<u16, { kind::OUTS }>,
        Code::Movsd_m32_m32 => string::string::<u32, { kind::MOVS }>,
        Code::Stosd_m32_EAX => string::string::<u32, { kind::STOS }>,
        Code::Lodsd_EAX_m32 => string::string::<u32, { kind::LODS }>,
        Code::Scasd_EAX_m32 => string::string::<u32, { kind::SCAS }>,
        Code::Cmpsd_m32_m32 => string::string::<u32, { kind::CMPS }>,
        Code::Insd_m32_DX => string::string::<u32, { kind::INS }>,
        Code::Outsd_DX_m32 => string::string::<u32, { kind::OUTS }>,
        Code::Movsq_m64_m64 => string::string::<u64, { kind::MOVS }>,
        Code::Stosq_m64_RAX => string::string::<u64, { kind::STOS }>,
        Code::Lodsq_RAX_m64 => string::string::<u64, { kind::LODS }>,
        Code::Scasq_RAX_m64 => string::string::<u64, { kind::SCAS }>,
        Code::Cmpsq_m64_m64 => string::string::<u64, { kind::CMPS }>,
        Code::Clc => misc::clc,
        Code::Stc => misc::stc,
        Code::Cmc => misc::cmc,
        Code::Cld => misc::cld,
        Code::Std => misc::std,
        Code::Lahf => misc::lahf,
        Code::Sahf => misc::sahf,
        Code::Xlat_m8 => misc::xlat,
        Code::Salc => misc::salc,
        Code::Aaa => bcd::aaa,
        Code::Aas => bcd::aas,
        Code::Aam_imm8 => bcd::aam,
        Code::Aad_imm8 => bcd::aad,
        Code::Daa => bcd::daa,
        Code::Das => bcd::das,
        Code::Cmpxchg8b_m64 => alu::cmpxchg8b,
        Code::Cmpxchg16b_m128 => alu::cmpxchg16b,
        Code::Rdrand_r16 | Code::Rdseed_r16 => misc::random::<u16>,
        Code::Rdrand_r32 | Code::Rdseed_r32 => misc::random::<u32>,
        Code::Rdrand_r64 | Code::Rdseed_r64 => misc::random::<u64>,
        Code::Clflush_m8 | Code::Clflushopt_m8 | Code::Clwb_m8 => misc::touch_line,
        Code::Pause => misc::pause,
        code if is_nop(code) => nop,
        _ => return None,
    };
    Some(exec)
}

/// Whether `code` does nothing: no-operations, hints, fences (our loads and stores are in order), and what older
/// processors take for a no-operation (SDM volume 2, appendix A, "reserved-NOP").
pub(crate) fn is_nop(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Nopw | Nopd
            | Nopq
            | Nop_rm16
            | Nop_rm32
            | Nop_rm64
            | Endbr64
            | Endbr32
            | Rdsspd_r32
            | Rdsspq_r64
            | Cldemote_m8
            | Reservednop_rm16_r16_0F18
            | Reservednop_rm32_r32_0F18
            | Reservednop_rm64_r64_0F18
            | Reservednop_rm16_r16_0F19
            | Reservednop_rm32_r32_0F19
            | Reservednop_rm64_r64_0F19
            | Reservednop_rm16_r16_0F1A
            | Reservednop_rm32_r32_0F1A
            | Reservednop_rm64_r64_0F1A
            | Reservednop_rm16_r16_0F1B
            | Reservednop_rm32_r32_0F1B
            | Reservednop_rm64_r64_0F1B
            | Reservednop_rm16_r16_0F1C
            | Reservednop_rm32_r32_0F1C
            | Reservednop_rm64_r64_0F1C
            | Reservednop_rm16_r16_0F1D
            | Reservednop_rm32_r32_0F1D
            | Reservednop_rm64_r64_0F1D
            | Reservednop_rm16_r16_0F1E
            | Reservednop_rm32_r32_0F1E
            | Reservednop_rm64_r64_0F1E
            | Reservednop_rm16_r16_0F1F
            | Reservednop_rm32_r32_0F1F
            | Reservednop_rm64_r64_0F1F
            | Lfence
            | Lfence_E9
            | Lfence_EA
            | Lfence_EB
            | Lfence_EC
            | Lfence_ED
            | Lfence_EE
            | Lfence_EF
            | Mfence
            | Mfence_F1
            | Mfence_F2
            | Mfence_F3
            | Mfence_F4
            | Mfence_F5
            | Mfence_F6
            | Mfence_F7
            | Sfence
            | Sfence_F9
            | Sfence_FA
            | Sfence_FB
            | Sfence_FC
            | Sfence_FD
            | Sfence_FE
            | Sfence_FF
            | Prefetch_m8
            | Prefetchnta_m8
            | Prefetcht0_m8
            | Prefetcht1_m8
            | Prefetcht2_m8
            | Prefetchit0_m8
            | Prefetchit1_m8
            | Prefetchw_m8
            | Prefetchwt1_m8
            | Prefetchreserved3_m8
            | Prefetchreserved4_m8
            | Prefetchreserved5_m8
            | Prefetchreserved6_m8
            | Prefetchreserved7_m8
    )
}
