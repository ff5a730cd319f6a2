//! Which function executes which branch or stack instruction.

use super::control;
use super::table::conditional;
use crate::insn::Exec;
use iced_x86::Code;

/// The executor of `code`; `None` when it is not of this table.
pub(super) fn lookup(code: Code) -> Option<Exec> {
    if code.is_jcc_short_or_near() {
        let condition = (code.condition_code() as u8).wrapping_sub(1);
        return Some(conditional!(condition, control::jcc));
    }
    use Code::*;
    let exec: Exec = match code {
        Jmp_rel8_16 | Jmp_rel8_32 | Jmp_rel8_64 | Jmp_rel16 | Jmp_rel32_32 | Jmp_rel32_64 => control::jmp,
        Call_rel16 | Call_rel32_32 | Call_rel32_64 => control::call,
        Jmp_rm16 => control::jmp_ind::<u16>,
        Jmp_rm32 => control::jmp_ind::<u32>,
        Jmp_rm64 => control::jmp_ind::<u64>,
        Call_rm16 => control::call_ind::<u16>,
        Call_rm32 => control::call_ind::<u32>,
        Call_rm64 => control::call_ind::<u64>,
        Retnw | Retnw_imm16 => control::ret::<2>,
        Retnd | Retnd_imm16 => control::ret::<4>,
        Retnq | Retnq_imm16 => control::ret::<8>,
        Loopne_rel8_16_CX | Loopne_rel8_32_CX => control::looping::<u16, 0>,
        Loope_rel8_16_CX | Loope_rel8_32_CX => control::looping::<u16, 1>,
        Loop_rel8_16_CX | Loop_rel8_32_CX => control::looping::<u16, 2>,
        Jcxz_rel8_16 | Jcxz_rel8_32 => control::looping::<u16, 3>,
        Loopne_rel8_16_ECX | Loopne_rel8_32_ECX | Loopne_rel8_64_ECX => control::looping::<u32, 0>,
        Loope_rel8_16_ECX | Loope_rel8_32_ECX | Loope_rel8_64_ECX => control::looping::<u32, 1>,
        Loop_rel8_16_ECX | Loop_rel8_32_ECX | Loop_rel8_64_ECX => control::looping::<u32, 2>,
        Jecxz_rel8_16 | Jecxz_rel8_32 | Jecxz_rel8_64 => control::looping::<u32, 3>,
        Loopne_rel8_16_RCX | Loopne_rel8_64_RCX => control::looping::<u64, 0>,
        Loope_rel8_16_RCX | Loope_rel8_64_RCX => control::looping::<u64, 1>,
        Loop_rel8_16_RCX | Loop_rel8_64_RCX => control::looping::<u64, 2>,
        Jrcxz_rel8_16 | Jrcxz_rel8_64 => control::looping::<u64, 3>,
        Push_r16 | Push_rm16 => control::push_reg::<u16>,
        Push_r32 | Push_rm32 => control::push_reg::<u32>,
        Push_r64 | Push_rm64 => control::push_reg::<u64>,
        Pop_r16 | Pop_rm16 => control::pop_reg::<u16>,
        Pop_r32 | Pop_rm32 => control::pop_reg::<u32>,
        Pop_r64 | Pop_rm64 => control::pop_reg::<u64>,
        Push_imm16 | Pushw_imm8 => control::push_imm::<2>,
        Pushd_imm32 | Pushd_imm8 => control::push_imm::<4>,
        Pushq_imm32 | Pushq_imm8 => control::push_imm::<8>,
        Pushaw => control::pusha::<2>,
        Pushad => control::pusha::<4>,
        Popaw => control::popa::<2>,
        Popad => control::popa::<4>,
        Enterw_imm16_imm8 => control::enter::<u16>,
        Enterd_imm16_imm8 => control::enter::<u32>,
        Enterq_imm16_imm8 => control::enter::<u64>,
        Leavew => control::leave::<u16>,
        Leaved => control::leave::<u32>,
        Leaveq => control::leave::<u64>,
        Les_r16_m1616 => control::load_far::<u16, 0>,
        Les_r32_m1632 => control::load_far::<u32, 0>,
        Lss_r16_m1616 => control::load_far::<u16, 2>,
        Lss_r32_m1632 => control::load_far::<u32, 2>,
        Lss_r64_m1664 => control::load_far::<u64, 2>,
        Lds_r16_m1616 => control::load_far::<u16, 3>,
        Lds_r32_m1632 => control::load_far::<u32, 3>,
        Lfs_r16_m1616 => control::load_far::<u16, 4>,
        Lfs_r32_m1632 => control::load_far::<u32, 4>,
        Lfs_r64_m1664 => control::load_far::<u64, 4>,
        Lgs_r16_m1616 => control::load_far::<u16, 5>,
        Lgs_r32_m1632 => control::load_far::<u32, 5>,
        Lgs_r64_m1664 => control::load_far::<u64, 5>,
        _ => return None,
    };
    Some(exec)
}
