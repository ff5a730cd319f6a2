//! Integer instructions: which function executes which code.

mod alu;
mod control;
pub(crate) mod int;
mod misc;
mod string;

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::{Exec, Insn};
use iced_x86::Code;
use string::kind;

fn nop(_: &mut Cpu, _: &Insn) -> Result<(), Fault> {
    Ok(())
}

/// The executor of `code`; `m0` and `m1`: operand 0, 1 is in memory.
pub(crate) fn lookup(code: Code, m0: bool, m1: bool, lock: bool) -> Option<Exec> {
    let exec: Exec = match code {
        Code::Add_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 0, true> } else { alu::mr::<u8, 0, false> }
            } else {
                alu::rr::<u8, 0>
            }
        }
        Code::Add_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 0>
            } else {
                alu::rr::<u8, 0>
            }
        }
        Code::Add_rm8_imm8 | Code::Add_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 0, true> } else { alu::mi::<u8, 0, false> }
            } else {
                alu::ri::<u8, 0>
            }
        }
        Code::Add_AL_imm8 => alu::ri::<u8, 0>,
        Code::Add_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 0, true> } else { alu::mr::<u16, 0, false> }
            } else {
                alu::rr::<u16, 0>
            }
        }
        Code::Add_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 0>
            } else {
                alu::rr::<u16, 0>
            }
        }
        Code::Add_rm16_imm16 | Code::Add_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 0, true> } else { alu::mi::<u16, 0, false> }
            } else {
                alu::ri::<u16, 0>
            }
        }
        Code::Add_AX_imm16 => alu::ri::<u16, 0>,
        Code::Add_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 0, true> } else { alu::mr::<u32, 0, false> }
            } else {
                alu::rr::<u32, 0>
            }
        }
        Code::Add_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 0>
            } else {
                alu::rr::<u32, 0>
            }
        }
        Code::Add_rm32_imm32 | Code::Add_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 0, true> } else { alu::mi::<u32, 0, false> }
            } else {
                alu::ri::<u32, 0>
            }
        }
        Code::Add_EAX_imm32 => alu::ri::<u32, 0>,
        Code::Add_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 0, true> } else { alu::mr::<u64, 0, false> }
            } else {
                alu::rr::<u64, 0>
            }
        }
        Code::Add_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 0>
            } else {
                alu::rr::<u64, 0>
            }
        }
        Code::Add_rm64_imm32 | Code::Add_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 0, true> } else { alu::mi::<u64, 0, false> }
            } else {
                alu::ri::<u64, 0>
            }
        }
        Code::Add_RAX_imm32 => alu::ri::<u64, 0>,
        Code::Or_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 1, true> } else { alu::mr::<u8, 1, false> }
            } else {
                alu::rr::<u8, 1>
            }
        }
        Code::Or_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 1>
            } else {
                alu::rr::<u8, 1>
            }
        }
        Code::Or_rm8_imm8 | Code::Or_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 1, true> } else { alu::mi::<u8, 1, false> }
            } else {
                alu::ri::<u8, 1>
            }
        }
        Code::Or_AL_imm8 => alu::ri::<u8, 1>,
        Code::Or_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 1, true> } else { alu::mr::<u16, 1, false> }
            } else {
                alu::rr::<u16, 1>
            }
        }
        Code::Or_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 1>
            } else {
                alu::rr::<u16, 1>
            }
        }
        Code::Or_rm16_imm16 | Code::Or_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 1, true> } else { alu::mi::<u16, 1, false> }
            } else {
                alu::ri::<u16, 1>
            }
        }
        Code::Or_AX_imm16 => alu::ri::<u16, 1>,
        Code::Or_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 1, true> } else { alu::mr::<u32, 1, false> }
            } else {
                alu::rr::<u32, 1>
            }
        }
        Code::Or_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 1>
            } else {
                alu::rr::<u32, 1>
            }
        }
        Code::Or_rm32_imm32 | Code::Or_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 1, true> } else { alu::mi::<u32, 1, false> }
            } else {
                alu::ri::<u32, 1>
            }
        }
        Code::Or_EAX_imm32 => alu::ri::<u32, 1>,
        Code::Or_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 1, true> } else { alu::mr::<u64, 1, false> }
            } else {
                alu::rr::<u64, 1>
            }
        }
        Code::Or_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 1>
            } else {
                alu::rr::<u64, 1>
            }
        }
        Code::Or_rm64_imm32 | Code::Or_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 1, true> } else { alu::mi::<u64, 1, false> }
            } else {
                alu::ri::<u64, 1>
            }
        }
        Code::Or_RAX_imm32 => alu::ri::<u64, 1>,
        Code::Adc_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 2, true> } else { alu::mr::<u8, 2, false> }
            } else {
                alu::rr::<u8, 2>
            }
        }
        Code::Adc_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 2>
            } else {
                alu::rr::<u8, 2>
            }
        }
        Code::Adc_rm8_imm8 | Code::Adc_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 2, true> } else { alu::mi::<u8, 2, false> }
            } else {
                alu::ri::<u8, 2>
            }
        }
        Code::Adc_AL_imm8 => alu::ri::<u8, 2>,
        Code::Adc_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 2, true> } else { alu::mr::<u16, 2, false> }
            } else {
                alu::rr::<u16, 2>
            }
        }
        Code::Adc_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 2>
            } else {
                alu::rr::<u16, 2>
            }
        }
        Code::Adc_rm16_imm16 | Code::Adc_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 2, true> } else { alu::mi::<u16, 2, false> }
            } else {
                alu::ri::<u16, 2>
            }
        }
        Code::Adc_AX_imm16 => alu::ri::<u16, 2>,
        Code::Adc_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 2, true> } else { alu::mr::<u32, 2, false> }
            } else {
                alu::rr::<u32, 2>
            }
        }
        Code::Adc_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 2>
            } else {
                alu::rr::<u32, 2>
            }
        }
        Code::Adc_rm32_imm32 | Code::Adc_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 2, true> } else { alu::mi::<u32, 2, false> }
            } else {
                alu::ri::<u32, 2>
            }
        }
        Code::Adc_EAX_imm32 => alu::ri::<u32, 2>,
        Code::Adc_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 2, true> } else { alu::mr::<u64, 2, false> }
            } else {
                alu::rr::<u64, 2>
            }
        }
        Code::Adc_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 2>
            } else {
                alu::rr::<u64, 2>
            }
        }
        Code::Adc_rm64_imm32 | Code::Adc_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 2, true> } else { alu::mi::<u64, 2, false> }
            } else {
                alu::ri::<u64, 2>
            }
        }
        Code::Adc_RAX_imm32 => alu::ri::<u64, 2>,
        Code::Sbb_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 3, true> } else { alu::mr::<u8, 3, false> }
            } else {
                alu::rr::<u8, 3>
            }
        }
        Code::Sbb_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 3>
            } else {
                alu::rr::<u8, 3>
            }
        }
        Code::Sbb_rm8_imm8 | Code::Sbb_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 3, true> } else { alu::mi::<u8, 3, false> }
            } else {
                alu::ri::<u8, 3>
            }
        }
        Code::Sbb_AL_imm8 => alu::ri::<u8, 3>,
        Code::Sbb_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 3, true> } else { alu::mr::<u16, 3, false> }
            } else {
                alu::rr::<u16, 3>
            }
        }
        Code::Sbb_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 3>
            } else {
                alu::rr::<u16, 3>
            }
        }
        Code::Sbb_rm16_imm16 | Code::Sbb_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 3, true> } else { alu::mi::<u16, 3, false> }
            } else {
                alu::ri::<u16, 3>
            }
        }
        Code::Sbb_AX_imm16 => alu::ri::<u16, 3>,
        Code::Sbb_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 3, true> } else { alu::mr::<u32, 3, false> }
            } else {
                alu::rr::<u32, 3>
            }
        }
        Code::Sbb_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 3>
            } else {
                alu::rr::<u32, 3>
            }
        }
        Code::Sbb_rm32_imm32 | Code::Sbb_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 3, true> } else { alu::mi::<u32, 3, false> }
            } else {
                alu::ri::<u32, 3>
            }
        }
        Code::Sbb_EAX_imm32 => alu::ri::<u32, 3>,
        Code::Sbb_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 3, true> } else { alu::mr::<u64, 3, false> }
            } else {
                alu::rr::<u64, 3>
            }
        }
        Code::Sbb_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 3>
            } else {
                alu::rr::<u64, 3>
            }
        }
        Code::Sbb_rm64_imm32 | Code::Sbb_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 3, true> } else { alu::mi::<u64, 3, false> }
            } else {
                alu::ri::<u64, 3>
            }
        }
        Code::Sbb_RAX_imm32 => alu::ri::<u64, 3>,
        Code::And_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 4, true> } else { alu::mr::<u8, 4, false> }
            } else {
                alu::rr::<u8, 4>
            }
        }
        Code::And_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 4>
            } else {
                alu::rr::<u8, 4>
            }
        }
        Code::And_rm8_imm8 | Code::And_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 4, true> } else { alu::mi::<u8, 4, false> }
            } else {
                alu::ri::<u8, 4>
            }
        }
        Code::And_AL_imm8 => alu::ri::<u8, 4>,
        Code::And_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 4, true> } else { alu::mr::<u16, 4, false> }
            } else {
                alu::rr::<u16, 4>
            }
        }
        Code::And_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 4>
            } else {
                alu::rr::<u16, 4>
            }
        }
        Code::And_rm16_imm16 | Code::And_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 4, true> } else { alu::mi::<u16, 4, false> }
            } else {
                alu::ri::<u16, 4>
            }
        }
        Code::And_AX_imm16 => alu::ri::<u16, 4>,
        Code::And_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 4, true> } else { alu::mr::<u32, 4, false> }
            } else {
                alu::rr::<u32, 4>
            }
        }
        Code::And_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 4>
            } else {
                alu::rr::<u32, 4>
            }
        }
        Code::And_rm32_imm32 | Code::And_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 4, true> } else { alu::mi::<u32, 4, false> }
            } else {
                alu::ri::<u32, 4>
            }
        }
        Code::And_EAX_imm32 => alu::ri::<u32, 4>,
        Code::And_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 4, true> } else { alu::mr::<u64, 4, false> }
            } else {
                alu::rr::<u64, 4>
            }
        }
        Code::And_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 4>
            } else {
                alu::rr::<u64, 4>
            }
        }
        Code::And_rm64_imm32 | Code::And_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 4, true> } else { alu::mi::<u64, 4, false> }
            } else {
                alu::ri::<u64, 4>
            }
        }
        Code::And_RAX_imm32 => alu::ri::<u64, 4>,
        Code::Sub_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 5, true> } else { alu::mr::<u8, 5, false> }
            } else {
                alu::rr::<u8, 5>
            }
        }
        Code::Sub_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 5>
            } else {
                alu::rr::<u8, 5>
            }
        }
        Code::Sub_rm8_imm8 | Code::Sub_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 5, true> } else { alu::mi::<u8, 5, false> }
            } else {
                alu::ri::<u8, 5>
            }
        }
        Code::Sub_AL_imm8 => alu::ri::<u8, 5>,
        Code::Sub_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 5, true> } else { alu::mr::<u16, 5, false> }
            } else {
                alu::rr::<u16, 5>
            }
        }
        Code::Sub_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 5>
            } else {
                alu::rr::<u16, 5>
            }
        }
        Code::Sub_rm16_imm16 | Code::Sub_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 5, true> } else { alu::mi::<u16, 5, false> }
            } else {
                alu::ri::<u16, 5>
            }
        }
        Code::Sub_AX_imm16 => alu::ri::<u16, 5>,
        Code::Sub_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 5, true> } else { alu::mr::<u32, 5, false> }
            } else {
                alu::rr::<u32, 5>
            }
        }
        Code::Sub_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 5>
            } else {
                alu::rr::<u32, 5>
            }
        }
        Code::Sub_rm32_imm32 | Code::Sub_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 5, true> } else { alu::mi::<u32, 5, false> }
            } else {
                alu::ri::<u32, 5>
            }
        }
        Code::Sub_EAX_imm32 => alu::ri::<u32, 5>,
        Code::Sub_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 5, true> } else { alu::mr::<u64, 5, false> }
            } else {
                alu::rr::<u64, 5>
            }
        }
        Code::Sub_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 5>
            } else {
                alu::rr::<u64, 5>
            }
        }
        Code::Sub_rm64_imm32 | Code::Sub_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 5, true> } else { alu::mi::<u64, 5, false> }
            } else {
                alu::ri::<u64, 5>
            }
        }
        Code::Sub_RAX_imm32 => alu::ri::<u64, 5>,
        Code::Xor_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 6, true> } else { alu::mr::<u8, 6, false> }
            } else {
                alu::rr::<u8, 6>
            }
        }
        Code::Xor_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 6>
            } else {
                alu::rr::<u8, 6>
            }
        }
        Code::Xor_rm8_imm8 | Code::Xor_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 6, true> } else { alu::mi::<u8, 6, false> }
            } else {
                alu::ri::<u8, 6>
            }
        }
        Code::Xor_AL_imm8 => alu::ri::<u8, 6>,
        Code::Xor_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 6, true> } else { alu::mr::<u16, 6, false> }
            } else {
                alu::rr::<u16, 6>
            }
        }
        Code::Xor_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 6>
            } else {
                alu::rr::<u16, 6>
            }
        }
        Code::Xor_rm16_imm16 | Code::Xor_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 6, true> } else { alu::mi::<u16, 6, false> }
            } else {
                alu::ri::<u16, 6>
            }
        }
        Code::Xor_AX_imm16 => alu::ri::<u16, 6>,
        Code::Xor_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 6, true> } else { alu::mr::<u32, 6, false> }
            } else {
                alu::rr::<u32, 6>
            }
        }
        Code::Xor_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 6>
            } else {
                alu::rr::<u32, 6>
            }
        }
        Code::Xor_rm32_imm32 | Code::Xor_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 6, true> } else { alu::mi::<u32, 6, false> }
            } else {
                alu::ri::<u32, 6>
            }
        }
        Code::Xor_EAX_imm32 => alu::ri::<u32, 6>,
        Code::Xor_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 6, true> } else { alu::mr::<u64, 6, false> }
            } else {
                alu::rr::<u64, 6>
            }
        }
        Code::Xor_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 6>
            } else {
                alu::rr::<u64, 6>
            }
        }
        Code::Xor_rm64_imm32 | Code::Xor_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 6, true> } else { alu::mi::<u64, 6, false> }
            } else {
                alu::ri::<u64, 6>
            }
        }
        Code::Xor_RAX_imm32 => alu::ri::<u64, 6>,
        Code::Cmp_rm8_r8 => {
            if m0 {
                if lock { alu::mr::<u8, 7, true> } else { alu::mr::<u8, 7, false> }
            } else {
                alu::rr::<u8, 7>
            }
        }
        Code::Cmp_r8_rm8 => {
            if m1 {
                alu::rm::<u8, 7>
            } else {
                alu::rr::<u8, 7>
            }
        }
        Code::Cmp_rm8_imm8 | Code::Cmp_rm8_imm8_82 => {
            if m0 {
                if lock { alu::mi::<u8, 7, true> } else { alu::mi::<u8, 7, false> }
            } else {
                alu::ri::<u8, 7>
            }
        }
        Code::Cmp_AL_imm8 => alu::ri::<u8, 7>,
        Code::Cmp_rm16_r16 => {
            if m0 {
                if lock { alu::mr::<u16, 7, true> } else { alu::mr::<u16, 7, false> }
            } else {
                alu::rr::<u16, 7>
            }
        }
        Code::Cmp_r16_rm16 => {
            if m1 {
                alu::rm::<u16, 7>
            } else {
                alu::rr::<u16, 7>
            }
        }
        Code::Cmp_rm16_imm16 | Code::Cmp_rm16_imm8 => {
            if m0 {
                if lock { alu::mi::<u16, 7, true> } else { alu::mi::<u16, 7, false> }
            } else {
                alu::ri::<u16, 7>
            }
        }
        Code::Cmp_AX_imm16 => alu::ri::<u16, 7>,
        Code::Cmp_rm32_r32 => {
            if m0 {
                if lock { alu::mr::<u32, 7, true> } else { alu::mr::<u32, 7, false> }
            } else {
                alu::rr::<u32, 7>
            }
        }
        Code::Cmp_r32_rm32 => {
            if m1 {
                alu::rm::<u32, 7>
            } else {
                alu::rr::<u32, 7>
            }
        }
        Code::Cmp_rm32_imm32 | Code::Cmp_rm32_imm8 => {
            if m0 {
                if lock { alu::mi::<u32, 7, true> } else { alu::mi::<u32, 7, false> }
            } else {
                alu::ri::<u32, 7>
            }
        }
        Code::Cmp_EAX_imm32 => alu::ri::<u32, 7>,
        Code::Cmp_rm64_r64 => {
            if m0 {
                if lock { alu::mr::<u64, 7, true> } else { alu::mr::<u64, 7, false> }
            } else {
                alu::rr::<u64, 7>
            }
        }
        Code::Cmp_r64_rm64 => {
            if m1 {
                alu::rm::<u64, 7>
            } else {
                alu::rr::<u64, 7>
            }
        }
        Code::Cmp_rm64_imm32 | Code::Cmp_rm64_imm8 => {
            if m0 {
                if lock { alu::mi::<u64, 7, true> } else { alu::mi::<u64, 7, false> }
            } else {
                alu::ri::<u64, 7>
            }
        }
        Code::Cmp_RAX_imm32 => alu::ri::<u64, 7>,
        Code::Test_rm8_r8 => {
            if m0 {
                alu::mr::<u8, 8, false>
            } else {
                alu::rr::<u8, 8>
            }
        }
        Code::Test_rm8_imm8 | Code::Test_rm8_imm8_F6r1 => {
            if m0 {
                alu::mi::<u8, 8, false>
            } else {
                alu::ri::<u8, 8>
            }
        }
        Code::Test_AL_imm8 => alu::ri::<u8, 8>,
        Code::Mov_rm8_r8 => {
            if m0 {
                alu::mov_mr::<u8>
            } else {
                alu::mov_rr::<u8>
            }
        }
        Code::Mov_r8_rm8 => {
            if m1 {
                alu::mov_rm::<u8>
            } else {
                alu::mov_rr::<u8>
            }
        }
        Code::Mov_r8_imm8 => alu::mov_ri::<u8>,
        Code::Mov_rm8_imm8 => {
            if m0 {
                alu::mov_mi::<u8>
            } else {
                alu::mov_ri::<u8>
            }
        }
        Code::Mov_AL_moffs8 => alu::mov_rm::<u8>,
        Code::Mov_moffs8_AL => alu::mov_mr::<u8>,
        Code::Inc_rm8 => alu::inc::<u8>,
        Code::Dec_rm8 => alu::dec::<u8>,
        Code::Neg_rm8 => alu::neg::<u8>,
        Code::Not_rm8 => alu::not::<u8>,
        Code::Xchg_rm8_r8 => alu::xchg::<u8>,
        Code::Xadd_rm8_r8 => alu::xadd::<u8>,
        Code::Cmpxchg_rm8_r8 => alu::cmpxchg::<u8>,
        Code::Rol_rm8_imm8 => alu::shift_imm::<u8, 0>,
        Code::Rol_rm8_1 => alu::shift_one::<u8, 0>,
        Code::Rol_rm8_CL => alu::shift_cl::<u8, 0>,
        Code::Ror_rm8_imm8 => alu::shift_imm::<u8, 1>,
        Code::Ror_rm8_1 => alu::shift_one::<u8, 1>,
        Code::Ror_rm8_CL => alu::shift_cl::<u8, 1>,
        Code::Rcl_rm8_imm8 => alu::shift_imm::<u8, 2>,
        Code::Rcl_rm8_1 => alu::shift_one::<u8, 2>,
        Code::Rcl_rm8_CL => alu::shift_cl::<u8, 2>,
        Code::Rcr_rm8_imm8 => alu::shift_imm::<u8, 3>,
        Code::Rcr_rm8_1 => alu::shift_one::<u8, 3>,
        Code::Rcr_rm8_CL => alu::shift_cl::<u8, 3>,
        Code::Shl_rm8_imm8 | Code::Sal_rm8_imm8 => alu::shift_imm::<u8, 4>,
        Code::Shl_rm8_1 | Code::Sal_rm8_1 => alu::shift_one::<u8, 4>,
        Code::Shl_rm8_CL | Code::Sal_rm8_CL => alu::shift_cl::<u8, 4>,
        Code::Shr_rm8_imm8 => alu::shift_imm::<u8, 5>,
        Code::Shr_rm8_1 => alu::shift_one::<u8, 5>,
        Code::Shr_rm8_CL => alu::shift_cl::<u8, 5>,
        Code::Sar_rm8_imm8 => alu::shift_imm::<u8, 7>,
        Code::Sar_rm8_1 => alu::shift_one::<u8, 7>,
        Code::Sar_rm8_CL => alu::shift_cl::<u8, 7>,
        Code::Mul_rm8 => alu::mul::<u8, false>,
        Code::Imul_rm8 => alu::mul::<u8, true>,
        Code::Div_rm8 => alu::div::<u8, false>,
        Code::Idiv_rm8 => alu::div::<u8, true>,
        Code::Test_rm16_r16 => {
            if m0 {
                alu::mr::<u16, 8, false>
            } else {
                alu::rr::<u16, 8>
            }
        }
        Code::Test_rm16_imm16 | Code::Test_rm16_imm16_F7r1 => {
            if m0 {
                alu::mi::<u16, 8, false>
            } else {
                alu::ri::<u16, 8>
            }
        }
        Code::Test_AX_imm16 => alu::ri::<u16, 8>,
        Code::Mov_rm16_r16 => {
            if m0 {
                alu::mov_mr::<u16>
            } else {
                alu::mov_rr::<u16>
            }
        }
        Code::Mov_r16_rm16 => {
            if m1 {
                alu::mov_rm::<u16>
            } else {
                alu::mov_rr::<u16>
            }
        }
        Code::Mov_r16_imm16 => alu::mov_ri::<u16>,
        Code::Mov_rm16_imm16 => {
            if m0 {
                alu::mov_mi::<u16>
            } else {
                alu::mov_ri::<u16>
            }
        }
        Code::Mov_AX_moffs16 => alu::mov_rm::<u16>,
        Code::Mov_moffs16_AX => alu::mov_mr::<u16>,
        Code::Inc_rm16 | Code::Inc_r16 => alu::inc::<u16>,
        Code::Dec_rm16 | Code::Dec_r16 => alu::dec::<u16>,
        Code::Neg_rm16 => alu::neg::<u16>,
        Code::Not_rm16 => alu::not::<u16>,
        Code::Xchg_rm16_r16 | Code::Xchg_r16_AX => alu::xchg::<u16>,
        Code::Xadd_rm16_r16 => alu::xadd::<u16>,
        Code::Cmpxchg_rm16_r16 => alu::cmpxchg::<u16>,
        Code::Rol_rm16_imm8 => alu::shift_imm::<u16, 0>,
        Code::Rol_rm16_1 => alu::shift_one::<u16, 0>,
        Code::Rol_rm16_CL => alu::shift_cl::<u16, 0>,
        Code::Ror_rm16_imm8 => alu::shift_imm::<u16, 1>,
        Code::Ror_rm16_1 => alu::shift_one::<u16, 1>,
        Code::Ror_rm16_CL => alu::shift_cl::<u16, 1>,
        Code::Rcl_rm16_imm8 => alu::shift_imm::<u16, 2>,
        Code::Rcl_rm16_1 => alu::shift_one::<u16, 2>,
        Code::Rcl_rm16_CL => alu::shift_cl::<u16, 2>,
        Code::Rcr_rm16_imm8 => alu::shift_imm::<u16, 3>,
        Code::Rcr_rm16_1 => alu::shift_one::<u16, 3>,
        Code::Rcr_rm16_CL => alu::shift_cl::<u16, 3>,
        Code::Shl_rm16_imm8 | Code::Sal_rm16_imm8 => alu::shift_imm::<u16, 4>,
        Code::Shl_rm16_1 | Code::Sal_rm16_1 => alu::shift_one::<u16, 4>,
        Code::Shl_rm16_CL | Code::Sal_rm16_CL => alu::shift_cl::<u16, 4>,
        Code::Shr_rm16_imm8 => alu::shift_imm::<u16, 5>,
        Code::Shr_rm16_1 => alu::shift_one::<u16, 5>,
        Code::Shr_rm16_CL => alu::shift_cl::<u16, 5>,
        Code::Sar_rm16_imm8 => alu::shift_imm::<u16, 7>,
        Code::Sar_rm16_1 => alu::shift_one::<u16, 7>,
        Code::Sar_rm16_CL => alu::shift_cl::<u16, 7>,
        Code::Mul_rm16 => alu::mul::<u16, false>,
        Code::Imul_rm16 => alu::mul::<u16, true>,
        Code::Div_rm16 => alu::div::<u16, false>,
        Code::Idiv_rm16 => alu::div::<u16, true>,
        Code::Lea_r16_m => alu::lea::<u16>,
        Code::Shld_rm16_r16_imm8 => alu::double_shift::<u16, true, false>,
        Code::Shld_rm16_r16_CL => alu::double_shift::<u16, true, true>,
        Code::Shrd_rm16_r16_imm8 => alu::double_shift::<u16, false, false>,
        Code::Shrd_rm16_r16_CL => alu::double_shift::<u16, false, true>,
        Code::Bt_rm16_r16 => alu::bit_reg::<u16, 0>,
        Code::Bt_rm16_imm8 => alu::bit_imm::<u16, 0>,
        Code::Bts_rm16_r16 => alu::bit_reg::<u16, 1>,
        Code::Bts_rm16_imm8 => alu::bit_imm::<u16, 1>,
        Code::Btr_rm16_r16 => alu::bit_reg::<u16, 2>,
        Code::Btr_rm16_imm8 => alu::bit_imm::<u16, 2>,
        Code::Btc_rm16_r16 => alu::bit_reg::<u16, 3>,
        Code::Btc_rm16_imm8 => alu::bit_imm::<u16, 3>,
        Code::Bsf_r16_rm16 => alu::scan::<u16, 0>,
        Code::Bsr_r16_rm16 => alu::scan::<u16, 1>,
        Code::Tzcnt_r16_rm16 => alu::scan::<u16, 2>,
        Code::Lzcnt_r16_rm16 => alu::scan::<u16, 3>,
        Code::Popcnt_r16_rm16 => alu::scan::<u16, 4>,
        Code::Imul_r16_rm16 => alu::imul2::<u16>,
        Code::Imul_r16_rm16_imm8 | Code::Imul_r16_rm16_imm16 => alu::imul3::<u16>,
        Code::Bswap_r16 => alu::bswap::<u16>,
        Code::Movbe_r16_m16 | Code::Movbe_m16_r16 => alu::movbe::<u16>,
        Code::Movzx_r16_rm8 => alu::movzx::<u16, u8>,
        Code::Movzx_r16_rm16 => alu::movzx::<u16, u16>,
        Code::Movsx_r16_rm8 => alu::movsx::<u16, u8>,
        Code::Movsx_r16_rm16 => alu::movsx::<u16, u16>,
        Code::Movsxd_r16_rm16 => alu::movsx::<u16, u16>,
        Code::Cmovo_r16_rm16 => alu::cmov::<u16, 0>,
        Code::Cmovno_r16_rm16 => alu::cmov::<u16, 1>,
        Code::Cmovb_r16_rm16 => alu::cmov::<u16, 2>,
        Code::Cmovae_r16_rm16 => alu::cmov::<u16, 3>,
        Code::Cmove_r16_rm16 => alu::cmov::<u16, 4>,
        Code::Cmovne_r16_rm16 => alu::cmov::<u16, 5>,
        Code::Cmovbe_r16_rm16 => alu::cmov::<u16, 6>,
        Code::Cmova_r16_rm16 => alu::cmov::<u16, 7>,
        Code::Cmovs_r16_rm16 => alu::cmov::<u16, 8>,
        Code::Cmovns_r16_rm16 => alu::cmov::<u16, 9>,
        Code::Cmovp_r16_rm16 => alu::cmov::<u16, 10>,
        Code::Cmovnp_r16_rm16 => alu::cmov::<u16, 11>,
        Code::Cmovl_r16_rm16 => alu::cmov::<u16, 12>,
        Code::Cmovge_r16_rm16 => alu::cmov::<u16, 13>,
        Code::Cmovle_r16_rm16 => alu::cmov::<u16, 14>,
        Code::Cmovg_r16_rm16 => alu::cmov::<u16, 15>,
        Code::Push_r16 | Code::Push_rm16 => control::push_reg::<u16>,
        Code::Pop_r16 | Code::Pop_rm16 => control::pop_reg::<u16>,
        Code::Jmp_rm16 => control::jmp_ind::<u16>,
        Code::Call_rm16 => control::call_ind::<u16>,
        Code::Retnw | Code::Retnw_imm16 => control::ret::<2>,
        Code::Leavew => control::leave::<u16>,
        Code::Enterw_imm16_imm8 => control::enter::<u16>,
        Code::Pushfw => control::pushf::<2>,
        Code::Popfw => control::popf::<2>,
        Code::Nop_rm16 => nop,
        Code::Loopne_rel8_16_CX | Code::Loopne_rel8_32_CX => control::looping::<u16, 0>,
        Code::Loope_rel8_16_CX | Code::Loope_rel8_32_CX => control::looping::<u16, 1>,
        Code::Loop_rel8_16_CX | Code::Loop_rel8_32_CX => control::looping::<u16, 2>,
        Code::Jcxz_rel8_16 | Code::Jcxz_rel8_32 => control::looping::<u16, 3>,
        Code::Test_rm32_r32 => {
            if m0 {
                alu::mr::<u32, 8, false>
            } else {
                alu::rr::<u32, 8>
            }
        }
        Code::Test_rm32_imm32 | Code::Test_rm32_imm32_F7r1 => {
            if m0 {
                alu::mi::<u32, 8, false>
            } else {
                alu::ri::<u32, 8>
            }
        }
        Code::Test_EAX_imm32 => alu::ri::<u32, 8>,
        Code::Mov_rm32_r32 => {
            if m0 {
                alu::mov_mr::<u32>
            } else {
                alu::mov_rr::<u32>
            }
        }
        Code::Mov_r32_rm32 => {
            if m1 {
                alu::mov_rm::<u32>
            } else {
                alu::mov_rr::<u32>
            }
        }
        Code::Mov_r32_imm32 => alu::mov_ri::<u32>,
        Code::Mov_rm32_imm32 => {
            if m0 {
                alu::mov_mi::<u32>
            } else {
                alu::mov_ri::<u32>
            }
        }
        Code::Mov_EAX_moffs32 => alu::mov_rm::<u32>,
        Code::Mov_moffs32_EAX => alu::mov_mr::<u32>,
        Code::Inc_rm32 | Code::Inc_r32 => alu::inc::<u32>,
        Code::Dec_rm32 | Code::Dec_r32 => alu::dec::<u32>,
        Code::Neg_rm32 => alu::neg::<u32>,
        Code::Not_rm32 => alu::not::<u32>,
        Code::Xchg_rm32_r32 | Code::Xchg_r32_EAX => alu::xchg::<u32>,
        Code::Xadd_rm32_r32 => alu::xadd::<u32>,
        Code::Cmpxchg_rm32_r32 => alu::cmpxchg::<u32>,
        Code::Rol_rm32_imm8 => alu::shift_imm::<u32, 0>,
        Code::Rol_rm32_1 => alu::shift_one::<u32, 0>,
        Code::Rol_rm32_CL => alu::shift_cl::<u32, 0>,
        Code::Ror_rm32_imm8 => alu::shift_imm::<u32, 1>,
        Code::Ror_rm32_1 => alu::shift_one::<u32, 1>,
        Code::Ror_rm32_CL => alu::shift_cl::<u32, 1>,
        Code::Rcl_rm32_imm8 => alu::shift_imm::<u32, 2>,
        Code::Rcl_rm32_1 => alu::shift_one::<u32, 2>,
        Code::Rcl_rm32_CL => alu::shift_cl::<u32, 2>,
        Code::Rcr_rm32_imm8 => alu::shift_imm::<u32, 3>,
        Code::Rcr_rm32_1 => alu::shift_one::<u32, 3>,
        Code::Rcr_rm32_CL => alu::shift_cl::<u32, 3>,
        Code::Shl_rm32_imm8 | Code::Sal_rm32_imm8 => alu::shift_imm::<u32, 4>,
        Code::Shl_rm32_1 | Code::Sal_rm32_1 => alu::shift_one::<u32, 4>,
        Code::Shl_rm32_CL | Code::Sal_rm32_CL => alu::shift_cl::<u32, 4>,
        Code::Shr_rm32_imm8 => alu::shift_imm::<u32, 5>,
        Code::Shr_rm32_1 => alu::shift_one::<u32, 5>,
        Code::Shr_rm32_CL => alu::shift_cl::<u32, 5>,
        Code::Sar_rm32_imm8 => alu::shift_imm::<u32, 7>,
        Code::Sar_rm32_1 => alu::shift_one::<u32, 7>,
        Code::Sar_rm32_CL => alu::shift_cl::<u32, 7>,
        Code::Mul_rm32 => alu::mul::<u32, false>,
        Code::Imul_rm32 => alu::mul::<u32, true>,
        Code::Div_rm32 => alu::div::<u32, false>,
        Code::Idiv_rm32 => alu::div::<u32, true>,
        Code::Lea_r32_m => alu::lea::<u32>,
        Code::Shld_rm32_r32_imm8 => alu::double_shift::<u32, true, false>,
        Code::Shld_rm32_r32_CL => alu::double_shift::<u32, true, true>,
        Code::Shrd_rm32_r32_imm8 => alu::double_shift::<u32, false, false>,
        Code::Shrd_rm32_r32_CL => alu::double_shift::<u32, false, true>,
        Code::Bt_rm32_r32 => alu::bit_reg::<u32, 0>,
        Code::Bt_rm32_imm8 => alu::bit_imm::<u32, 0>,
        Code::Bts_rm32_r32 => alu::bit_reg::<u32, 1>,
        Code::Bts_rm32_imm8 => alu::bit_imm::<u32, 1>,
        Code::Btr_rm32_r32 => alu::bit_reg::<u32, 2>,
        Code::Btr_rm32_imm8 => alu::bit_imm::<u32, 2>,
        Code::Btc_rm32_r32 => alu::bit_reg::<u32, 3>,
        Code::Btc_rm32_imm8 => alu::bit_imm::<u32, 3>,
        Code::Bsf_r32_rm32 => alu::scan::<u32, 0>,
        Code::Bsr_r32_rm32 => alu::scan::<u32, 1>,
        Code::Tzcnt_r32_rm32 => alu::scan::<u32, 2>,
        Code::Lzcnt_r32_rm32 => alu::scan::<u32, 3>,
        Code::Popcnt_r32_rm32 => alu::scan::<u32, 4>,
        Code::Imul_r32_rm32 => alu::imul2::<u32>,
        Code::Imul_r32_rm32_imm8 | Code::Imul_r32_rm32_imm32 => alu::imul3::<u32>,
        Code::Bswap_r32 => alu::bswap::<u32>,
        Code::Movbe_r32_m32 | Code::Movbe_m32_r32 => alu::movbe::<u32>,
        Code::Movzx_r32_rm8 => alu::movzx::<u32, u8>,
        Code::Movzx_r32_rm16 => alu::movzx::<u32, u16>,
        Code::Movsx_r32_rm8 => alu::movsx::<u32, u8>,
        Code::Movsx_r32_rm16 => alu::movsx::<u32, u16>,
        Code::Movsxd_r32_rm32 => alu::movsx::<u32, u32>,
        Code::Cmovo_r32_rm32 => alu::cmov::<u32, 0>,
        Code::Cmovno_r32_rm32 => alu::cmov::<u32, 1>,
        Code::Cmovb_r32_rm32 => alu::cmov::<u32, 2>,
        Code::Cmovae_r32_rm32 => alu::cmov::<u32, 3>,
        Code::Cmove_r32_rm32 => alu::cmov::<u32, 4>,
        Code::Cmovne_r32_rm32 => alu::cmov::<u32, 5>,
        Code::Cmovbe_r32_rm32 => alu::cmov::<u32, 6>,
        Code::Cmova_r32_rm32 => alu::cmov::<u32, 7>,
        Code::Cmovs_r32_rm32 => alu::cmov::<u32, 8>,
        Code::Cmovns_r32_rm32 => alu::cmov::<u32, 9>,
        Code::Cmovp_r32_rm32 => alu::cmov::<u32, 10>,
        Code::Cmovnp_r32_rm32 => alu::cmov::<u32, 11>,
        Code::Cmovl_r32_rm32 => alu::cmov::<u32, 12>,
        Code::Cmovge_r32_rm32 => alu::cmov::<u32, 13>,
        Code::Cmovle_r32_rm32 => alu::cmov::<u32, 14>,
        Code::Cmovg_r32_rm32 => alu::cmov::<u32, 15>,
        Code::Push_r32 | Code::Push_rm32 => control::push_reg::<u32>,
        Code::Pop_r32 | Code::Pop_rm32 => control::pop_reg::<u32>,
        Code::Jmp_rm32 => control::jmp_ind::<u32>,
        Code::Call_rm32 => control::call_ind::<u32>,
        Code::Retnd | Code::Retnd_imm16 => control::ret::<4>,
        Code::Leaved => control::leave::<u32>,
        Code::Enterd_imm16_imm8 => control::enter::<u32>,
        Code::Pushfd => control::pushf::<4>,
        Code::Popfd => control::popf::<4>,
        Code::Nop_rm32 => nop,
        Code::Loopne_rel8_16_ECX | Code::Loopne_rel8_32_ECX | Code::Loopne_rel8_64_ECX => {
            control::looping::<u32, 0>
        }
        Code::Loope_rel8_16_ECX | Code::Loope_rel8_32_ECX | Code::Loope_rel8_64_ECX => {
            control::looping::<u32, 1>
        }
        Code::Loop_rel8_16_ECX | Code::Loop_rel8_32_ECX | Code::Loop_rel8_64_ECX => {
            control::looping::<u32, 2>
        }
        Code::Jecxz_rel8_16 | Code::Jecxz_rel8_32 | Code::Jecxz_rel8_64 => control::looping::<u32, 3>,
        Code::Test_rm64_r64 => {
            if m0 {
                alu::mr::<u64, 8, false>
            } else {
                alu::rr::<u64, 8>
            }
        }
        Code::Test_rm64_imm32 | Code::Test_rm64_imm32_F7r1 => {
            if m0 {
                alu::mi::<u64, 8, false>
            } else {
                alu::ri::<u64, 8>
            }
        }
        Code::Test_RAX_imm32 => alu::ri::<u64, 8>,
        Code::Mov_rm64_r64 => {
            if m0 {
                alu::mov_mr::<u64>
            } else {
                alu::mov_rr::<u64>
            }
        }
        Code::Mov_r64_rm64 => {
            if m1 {
                alu::mov_rm::<u64>
            } else {
                alu::mov_rr::<u64>
            }
        }
        Code::Mov_r64_imm64 => alu::mov_ri::<u64>,
        Code::Mov_rm64_imm32 => {
            if m0 {
                alu::mov_mi::<u64>
            } else {
                alu::mov_ri::<u64>
            }
        }
        Code::Mov_RAX_moffs64 => alu::mov_rm::<u64>,
        Code::Mov_moffs64_RAX => alu::mov_mr::<u64>,
        Code::Inc_rm64 => alu::inc::<u64>,
        Code::Dec_rm64 => alu::dec::<u64>,
        Code::Neg_rm64 => alu::neg::<u64>,
        Code::Not_rm64 => alu::not::<u64>,
        Code::Xchg_rm64_r64 | Code::Xchg_r64_RAX => alu::xchg::<u64>,
        Code::Xadd_rm64_r64 => alu::xadd::<u64>,
        Code::Cmpxchg_rm64_r64 => alu::cmpxchg::<u64>,
        Code::Rol_rm64_imm8 => alu::shift_imm::<u64, 0>,
        Code::Rol_rm64_1 => alu::shift_one::<u64, 0>,
        Code::Rol_rm64_CL => alu::shift_cl::<u64, 0>,
        Code::Ror_rm64_imm8 => alu::shift_imm::<u64, 1>,
        Code::Ror_rm64_1 => alu::shift_one::<u64, 1>,
        Code::Ror_rm64_CL => alu::shift_cl::<u64, 1>,
        Code::Rcl_rm64_imm8 => alu::shift_imm::<u64, 2>,
        Code::Rcl_rm64_1 => alu::shift_one::<u64, 2>,
        Code::Rcl_rm64_CL => alu::shift_cl::<u64, 2>,
        Code::Rcr_rm64_imm8 => alu::shift_imm::<u64, 3>,
        Code::Rcr_rm64_1 => alu::shift_one::<u64, 3>,
        Code::Rcr_rm64_CL => alu::shift_cl::<u64, 3>,
        Code::Shl_rm64_imm8 | Code::Sal_rm64_imm8 => alu::shift_imm::<u64, 4>,
        Code::Shl_rm64_1 | Code::Sal_rm64_1 => alu::shift_one::<u64, 4>,
        Code::Shl_rm64_CL | Code::Sal_rm64_CL => alu::shift_cl::<u64, 4>,
        Code::Shr_rm64_imm8 => alu::shift_imm::<u64, 5>,
        Code::Shr_rm64_1 => alu::shift_one::<u64, 5>,
        Code::Shr_rm64_CL => alu::shift_cl::<u64, 5>,
        Code::Sar_rm64_imm8 => alu::shift_imm::<u64, 7>,
        Code::Sar_rm64_1 => alu::shift_one::<u64, 7>,
        Code::Sar_rm64_CL => alu::shift_cl::<u64, 7>,
        Code::Mul_rm64 => alu::mul::<u64, false>,
        Code::Imul_rm64 => alu::mul::<u64, true>,
        Code::Div_rm64 => alu::div::<u64, false>,
        Code::Idiv_rm64 => alu::div::<u64, true>,
        Code::Lea_r64_m => alu::lea::<u64>,
        Code::Shld_rm64_r64_imm8 => alu::double_shift::<u64, true, false>,
        Code::Shld_rm64_r64_CL => alu::double_shift::<u64, true, true>,
        Code::Shrd_rm64_r64_imm8 => alu::double_shift::<u64, false, false>,
        Code::Shrd_rm64_r64_CL => alu::double_shift::<u64, false, true>,
        Code::Bt_rm64_r64 => alu::bit_reg::<u64, 0>,
        Code::Bt_rm64_imm8 => alu::bit_imm::<u64, 0>,
        Code::Bts_rm64_r64 => alu::bit_reg::<u64, 1>,
        Code::Bts_rm64_imm8 => alu::bit_imm::<u64, 1>,
        Code::Btr_rm64_r64 => alu::bit_reg::<u64, 2>,
        Code::Btr_rm64_imm8 => alu::bit_imm::<u64, 2>,
        Code::Btc_rm64_r64 => alu::bit_reg::<u64, 3>,
        Code::Btc_rm64_imm8 => alu::bit_imm::<u64, 3>,
        Code::Bsf_r64_rm64 => alu::scan::<u64, 0>,
        Code::Bsr_r64_rm64 => alu::scan::<u64, 1>,
        Code::Tzcnt_r64_rm64 => alu::scan::<u64, 2>,
        Code::Lzcnt_r64_rm64 => alu::scan::<u64, 3>,
        Code::Popcnt_r64_rm64 => alu::scan::<u64, 4>,
        Code::Imul_r64_rm64 => alu::imul2::<u64>,
        Code::Imul_r64_rm64_imm8 | Code::Imul_r64_rm64_imm32 => alu::imul3::<u64>,
        Code::Bswap_r64 => alu::bswap::<u64>,
        Code::Movbe_r64_m64 | Code::Movbe_m64_r64 => alu::movbe::<u64>,
        Code::Movzx_r64_rm8 => alu::movzx::<u64, u8>,
        Code::Movzx_r64_rm16 => alu::movzx::<u64, u16>,
        Code::Movsx_r64_rm8 => alu::movsx::<u64, u8>,
        Code::Movsx_r64_rm16 => alu::movsx::<u64, u16>,
        Code::Movsxd_r64_rm32 => alu::movsx::<u64, u32>,
        Code::Cmovo_r64_rm64 => alu::cmov::<u64, 0>,
        Code::Cmovno_r64_rm64 => alu::cmov::<u64, 1>,
        Code::Cmovb_r64_rm64 => alu::cmov::<u64, 2>,
        Code::Cmovae_r64_rm64 => alu::cmov::<u64, 3>,
        Code::Cmove_r64_rm64 => alu::cmov::<u64, 4>,
        Code::Cmovne_r64_rm64 => alu::cmov::<u64, 5>,
        Code::Cmovbe_r64_rm64 => alu::cmov::<u64, 6>,
        Code::Cmova_r64_rm64 => alu::cmov::<u64, 7>,
        Code::Cmovs_r64_rm64 => alu::cmov::<u64, 8>,
        Code::Cmovns_r64_rm64 => alu::cmov::<u64, 9>,
        Code::Cmovp_r64_rm64 => alu::cmov::<u64, 10>,
        Code::Cmovnp_r64_rm64 => alu::cmov::<u64, 11>,
        Code::Cmovl_r64_rm64 => alu::cmov::<u64, 12>,
        Code::Cmovge_r64_rm64 => alu::cmov::<u64, 13>,
        Code::Cmovle_r64_rm64 => alu::cmov::<u64, 14>,
        Code::Cmovg_r64_rm64 => alu::cmov::<u64, 15>,
        Code::Push_r64 | Code::Push_rm64 => control::push_reg::<u64>,
        Code::Pop_r64 | Code::Pop_rm64 => control::pop_reg::<u64>,
        Code::Jmp_rm64 => control::jmp_ind::<u64>,
        Code::Call_rm64 => control::call_ind::<u64>,
        Code::Retnq | Code::Retnq_imm16 => control::ret::<8>,
        Code::Leaveq => control::leave::<u64>,
        Code::Enterq_imm16_imm8 => control::enter::<u64>,
        Code::Pushfq => control::pushf::<8>,
        Code::Popfq => control::popf::<8>,
        Code::Nop_rm64 => nop,
        Code::Loopne_rel8_16_RCX | Code::Loopne_rel8_64_RCX => control::looping::<u64, 0>,
        Code::Loope_rel8_16_RCX | Code::Loope_rel8_64_RCX => control::looping::<u64, 1>,
        Code::Loop_rel8_16_RCX | Code::Loop_rel8_64_RCX => control::looping::<u64, 2>,
        Code::Jrcxz_rel8_16 | Code::Jrcxz_rel8_64 => control::looping::<u64, 3>,
        Code::Seto_rm8 => alu::set::<0>,
        Code::Jo_rel8_16
        | Code::Jo_rel8_32
        | Code::Jo_rel8_64
        | Code::Jo_rel16
        | Code::Jo_rel32_32
        | Code::Jo_rel32_64 => control::jcc::<0>,
        Code::Setno_rm8 => alu::set::<1>,
        Code::Jno_rel8_16
        | Code::Jno_rel8_32
        | Code::Jno_rel8_64
        | Code::Jno_rel16
        | Code::Jno_rel32_32
        | Code::Jno_rel32_64 => control::jcc::<1>,
        Code::Setb_rm8 => alu::set::<2>,
        Code::Jb_rel8_16
        | Code::Jb_rel8_32
        | Code::Jb_rel8_64
        | Code::Jb_rel16
        | Code::Jb_rel32_32
        | Code::Jb_rel32_64 => control::jcc::<2>,
        Code::Setae_rm8 => alu::set::<3>,
        Code::Jae_rel8_16
        | Code::Jae_rel8_32
        | Code::Jae_rel8_64
        | Code::Jae_rel16
        | Code::Jae_rel32_32
        | Code::Jae_rel32_64 => control::jcc::<3>,
        Code::Sete_rm8 => alu::set::<4>,
        Code::Je_rel8_16
        | Code::Je_rel8_32
        | Code::Je_rel8_64
        | Code::Je_rel16
        | Code::Je_rel32_32
        | Code::Je_rel32_64 => control::jcc::<4>,
        Code::Setne_rm8 => alu::set::<5>,
        Code::Jne_rel8_16
        | Code::Jne_rel8_32
        | Code::Jne_rel8_64
        | Code::Jne_rel16
        | Code::Jne_rel32_32
        | Code::Jne_rel32_64 => control::jcc::<5>,
        Code::Setbe_rm8 => alu::set::<6>,
        Code::Jbe_rel8_16
        | Code::Jbe_rel8_32
        | Code::Jbe_rel8_64
        | Code::Jbe_rel16
        | Code::Jbe_rel32_32
        | Code::Jbe_rel32_64 => control::jcc::<6>,
        Code::Seta_rm8 => alu::set::<7>,
        Code::Ja_rel8_16
        | Code::Ja_rel8_32
        | Code::Ja_rel8_64
        | Code::Ja_rel16
        | Code::Ja_rel32_32
        | Code::Ja_rel32_64 => control::jcc::<7>,
        Code::Sets_rm8 => alu::set::<8>,
        Code::Js_rel8_16
        | Code::Js_rel8_32
        | Code::Js_rel8_64
        | Code::Js_rel16
        | Code::Js_rel32_32
        | Code::Js_rel32_64 => control::jcc::<8>,
        Code::Setns_rm8 => alu::set::<9>,
        Code::Jns_rel8_16
        | Code::Jns_rel8_32
        | Code::Jns_rel8_64
        | Code::Jns_rel16
        | Code::Jns_rel32_32
        | Code::Jns_rel32_64 => control::jcc::<9>,
        Code::Setp_rm8 => alu::set::<10>,
        Code::Jp_rel8_16
        | Code::Jp_rel8_32
        | Code::Jp_rel8_64
        | Code::Jp_rel16
        | Code::Jp_rel32_32
        | Code::Jp_rel32_64 => control::jcc::<10>,
        Code::Setnp_rm8 => alu::set::<11>,
        Code::Jnp_rel8_16
        | Code::Jnp_rel8_32
        | Code::Jnp_rel8_64
        | Code::Jnp_rel16
        | Code::Jnp_rel32_32
        | Code::Jnp_rel32_64 => control::jcc::<11>,
        Code::Setl_rm8 => alu::set::<12>,
        Code::Jl_rel8_16
        | Code::Jl_rel8_32
        | Code::Jl_rel8_64
        | Code::Jl_rel16
        | Code::Jl_rel32_32
        | Code::Jl_rel32_64 => control::jcc::<12>,
        Code::Setge_rm8 => alu::set::<13>,
        Code::Jge_rel8_16
        | Code::Jge_rel8_32
        | Code::Jge_rel8_64
        | Code::Jge_rel16
        | Code::Jge_rel32_32
        | Code::Jge_rel32_64 => control::jcc::<13>,
        Code::Setle_rm8 => alu::set::<14>,
        Code::Jle_rel8_16
        | Code::Jle_rel8_32
        | Code::Jle_rel8_64
        | Code::Jle_rel16
        | Code::Jle_rel32_32
        | Code::Jle_rel32_64 => control::jcc::<14>,
        Code::Setg_rm8 => alu::set::<15>,
        Code::Jg_rel8_16
        | Code::Jg_rel8_32
        | Code::Jg_rel8_64
        | Code::Jg_rel16
        | Code::Jg_rel32_32
        | Code::Jg_rel32_64 => control::jcc::<15>,
        Code::Jmp_rel8_16
        | Code::Jmp_rel8_32
        | Code::Jmp_rel8_64
        | Code::Jmp_rel16
        | Code::Jmp_rel32_32
        | Code::Jmp_rel32_64 => control::jmp,
        Code::Call_rel16 | Code::Call_rel32_32 | Code::Call_rel32_64 => control::call,
        Code::Push_imm16 | Code::Pushw_imm8 => control::push_imm::<2>,
        Code::Pushd_imm32 | Code::Pushd_imm8 => control::push_imm::<4>,
        Code::Pushq_imm32 | Code::Pushq_imm8 => control::push_imm::<8>,
        Code::Pushaw => control::pusha::<2>,
        Code::Pushad => control::pusha::<4>,
        Code::Popaw => control::popa::<2>,
        Code::Popad => control::popa::<4>,
        Code::Cmpxchg8b_m64 => alu::cmpxchg8b,
        Code::Cmpxchg16b_m128 => alu::cmpxchg16b,
        Code::Cbw => alu::convert::<u16, u8>,
        Code::Cwde => alu::convert::<u32, u16>,
        Code::Cdqe => alu::convert::<u64, u32>,
        Code::Cwd => alu::spread::<u16>,
        Code::Cdq => alu::spread::<u32>,
        Code::Cqo => alu::spread::<u64>,
        Code::Int_imm8 => control::int_n,
        Code::Int3 => control::int3,
        Code::Int1 => control::int1,
        Code::Into => control::into,
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
        Code::Nopw
        | Code::Nopd
        | Code::Nopq
        | Code::Pause
        | Code::Endbr64
        | Code::Endbr32
        | Code::Reservednop_rm16_r16_0F1E
        | Code::Reservednop_rm32_r32_0F1E
        | Code::Reservednop_rm64_r64_0F1E
        | Code::Lfence
        | Code::Sfence
        | Code::Mfence
        | Code::Prefetchnta_m8
        | Code::Prefetcht0_m8
        | Code::Prefetcht1_m8
        | Code::Prefetcht2_m8
        | Code::Prefetchw_m8
        | Code::Clflush_m8
        | Code::Clflushopt_m8
        | Code::Clwb_m8 => nop,
        Code::Clc => misc::clc,
        Code::Stc => misc::stc,
        Code::Cmc => misc::cmc,
        Code::Cld => misc::cld,
        Code::Std => misc::std,
        Code::Lahf => misc::lahf,
        Code::Sahf => misc::sahf,
        Code::Xlat_m8 => misc::xlat,
        _ => return None,
    };
    Some(exec)
}
