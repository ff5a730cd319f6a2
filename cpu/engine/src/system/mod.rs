//! Privileged and system instructions: which function executes which code.

mod checks;
pub(crate) mod control;
mod gates;
mod interrupts;
pub(crate) mod monitor;
mod msrs;
mod segments;
mod tasks;
mod xstate;

use crate::insn::Exec;
use checks as k;
use control as c;
use gates as g;
use iced_x86::Code;
use interrupts as f;
use segments as s;
pub(crate) use tasks::{Cause, TaskSwitch};
use xstate as x;

/// The executor of `code`.
pub(crate) fn lookup(code: Code) -> Option<Exec> {
    let exec: Exec = match code {
        Code::Iretw => s::iret::<2>,
        Code::Iretd => s::iret::<4>,
        Code::Iretq => s::iret::<8>,
        Code::Retfw | Code::Retfw_imm16 => s::retf::<2>,
        Code::Retfd | Code::Retfd_imm16 => s::retf::<4>,
        Code::Retfq | Code::Retfq_imm16 => s::retf::<8>,
        Code::Jmp_ptr1616 => g::far_direct::<2, false>,
        Code::Jmp_ptr1632 => g::far_direct::<4, false>,
        Code::Call_ptr1616 => g::far_direct::<2, true>,
        Code::Call_ptr1632 => g::far_direct::<4, true>,
        Code::Jmp_m1616 => g::far_memory::<2, false>,
        Code::Jmp_m1632 => g::far_memory::<4, false>,
        Code::Jmp_m1664 => g::far_memory::<8, false>,
        Code::Call_m1616 => g::far_memory::<2, true>,
        Code::Call_m1632 => g::far_memory::<4, true>,
        Code::Call_m1664 => g::far_memory::<8, true>,
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => s::mov_to_seg,
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => s::mov_from_seg,
        Code::Pushw_ES
        | Code::Pushd_ES
        | Code::Pushw_CS
        | Code::Pushd_CS
        | Code::Pushw_SS
        | Code::Pushd_SS
        | Code::Pushw_DS
        | Code::Pushd_DS
        | Code::Pushw_FS
        | Code::Pushd_FS
        | Code::Pushq_FS
        | Code::Pushw_GS
        | Code::Pushd_GS
        | Code::Pushq_GS => s::push_seg,
        Code::Popw_ES
        | Code::Popd_ES
        | Code::Popw_SS
        | Code::Popd_SS
        | Code::Popw_DS
        | Code::Popd_DS
        | Code::Popw_FS
        | Code::Popd_FS
        | Code::Popq_FS
        | Code::Popw_GS
        | Code::Popd_GS
        | Code::Popq_GS => s::pop_seg,
        Code::Lgdt_m1632 | Code::Lgdt_m1632_16 | Code::Lgdt_m1664 => s::load_table::<2>,
        Code::Lidt_m1632 | Code::Lidt_m1632_16 | Code::Lidt_m1664 => s::load_table::<3>,
        Code::Sgdt_m1632 | Code::Sgdt_m1632_16 | Code::Sgdt_m1664 => s::store_table::<0>,
        Code::Sidt_m1632 | Code::Sidt_m1632_16 | Code::Sidt_m1664 => s::store_table::<1>,
        Code::Lldt_rm16 | Code::Lldt_r32m16 | Code::Lldt_r64m16 => s::load_system::<2>,
        Code::Ltr_rm16 | Code::Ltr_r32m16 | Code::Ltr_r64m16 => s::load_system::<3>,
        Code::Sldt_rm16 | Code::Sldt_r32m16 | Code::Sldt_r64m16 => s::store_system::<0>,
        Code::Str_rm16 | Code::Str_r32m16 | Code::Str_r64m16 => s::store_system::<1>,
        Code::Syscall => s::syscall,
        Code::Sysretd => s::sysret::<false>,
        Code::Sysretq => s::sysret::<true>,
        Code::Sysenter => g::sysenter,
        Code::Sysexitd => g::sysexit::<false>,
        Code::Sysexitq => g::sysexit::<true>,
        Code::Int_imm8 => f::int_n,
        Code::Int3 => f::int3,
        Code::Int1 => f::int1,
        Code::Into => f::into,
        Code::Pushfw => f::pushf::<2>,
        Code::Pushfd => f::pushf::<4>,
        Code::Pushfq => f::pushf::<8>,
        Code::Popfw => f::popf::<2>,
        Code::Popfd => f::popf::<4>,
        Code::Popfq => f::popf::<8>,
        Code::Lar_r16_rm16 => k::describe::<u16, false>,
        Code::Lar_r32_r32m16 => k::describe::<u32, false>,
        Code::Lar_r64_r64m16 => k::describe::<u64, false>,
        Code::Lsl_r16_rm16 => k::describe::<u16, true>,
        Code::Lsl_r32_r32m16 => k::describe::<u32, true>,
        Code::Lsl_r64_r64m16 => k::describe::<u64, true>,
        Code::Verr_rm16 | Code::Verr_r32m16 | Code::Verr_r64m16 => k::verify::<false>,
        Code::Verw_rm16 | Code::Verw_r32m16 | Code::Verw_r64m16 => k::verify::<true>,
        Code::Arpl_rm16_r16 | Code::Arpl_r32m16_r32 => k::arpl,
        Code::Invpcid_r32_m128 | Code::Invpcid_r64_m128 => c::invpcid,
        Code::Monitorw | Code::Monitord | Code::Monitorq => c::monitor,
        Code::Mfence => c::fence,
        Code::Mwait => c::mwait,
        Code::Rdpmc => c::rdpmc,
        Code::Swapgs => s::swapgs,
        Code::Mov_r32_cr | Code::Mov_r64_cr => c::mov_from_cr,
        Code::Mov_cr_r32 | Code::Mov_cr_r64 => c::mov_to_cr,
        Code::Mov_r32_dr | Code::Mov_r64_dr | Code::Mov_dr_r32 | Code::Mov_dr_r64 => c::mov_dr,
        Code::Clts => c::clts,
        Code::Smsw_rm16 | Code::Smsw_r32m16 | Code::Smsw_r64m16 => c::smsw,
        Code::Lmsw_rm16 | Code::Lmsw_r32m16 | Code::Lmsw_r64m16 => c::lmsw,
        Code::Rdmsr => msrs::rdmsr,
        Code::Wrmsr => msrs::wrmsr,
        Code::Cpuid => c::cpuid,
        Code::Rdtsc | Code::Rdtscp => c::rdtsc,
        Code::Rdpid_r32 | Code::Rdpid_r64 => c::rdpid,
        Code::Rdpkru => c::rdpkru,
        Code::Wrpkru => c::wrpkru,
        Code::Hlt => c::hlt,
        Code::Cli => f::cli,
        Code::Sti => f::sti,
        Code::Stac => c::set_ac::<true>,
        Code::Clac => c::set_ac::<false>,
        Code::Wbinvd | Code::Invd => c::privileged_nop,
        Code::Invlpg_m => c::invlpg,
        Code::In_AL_imm8 => c::input::<1, true>,
        Code::In_AX_imm8 => c::input::<2, true>,
        Code::In_EAX_imm8 => c::input::<4, true>,
        Code::In_AL_DX => c::input::<1, false>,
        Code::In_AX_DX => c::input::<2, false>,
        Code::In_EAX_DX => c::input::<4, false>,
        Code::Out_imm8_AL => c::output::<1, true>,
        Code::Out_imm8_AX => c::output::<2, true>,
        Code::Out_imm8_EAX => c::output::<4, true>,
        Code::Out_DX_AL => c::output::<1, false>,
        Code::Out_DX_AX => c::output::<2, false>,
        Code::Out_DX_EAX => c::output::<4, false>,
        Code::Rdfsbase_r32 | Code::Rdfsbase_r64 => c::segment_base::<0, false>,
        Code::Rdgsbase_r32 | Code::Rdgsbase_r64 => c::segment_base::<1, false>,
        Code::Wrfsbase_r32 | Code::Wrfsbase_r64 => c::segment_base::<0, true>,
        Code::Wrgsbase_r32 | Code::Wrgsbase_r64 => c::segment_base::<1, true>,
        Code::Fxsave_m512byte => x::fxsave::<false>,
        Code::Fxsave64_m512byte => x::fxsave::<true>,
        Code::Fxrstor_m512byte => x::fxrstor::<false>,
        Code::Fxrstor64_m512byte => x::fxrstor::<true>,
        Code::Xsave_mem => x::xsave::<false, false>,
        Code::Xsave64_mem => x::xsave::<false, true>,
        Code::Xsaveopt_mem => x::xsave::<true, false>,
        Code::Xsaveopt64_mem => x::xsave::<true, true>,
        Code::Xsavec_mem => x::xsavec::<false>,
        Code::Xsavec64_mem => x::xsavec::<true>,
        Code::Xrstor_mem => x::xrstor::<false>,
        Code::Xrstor64_mem => x::xrstor::<true>,
        Code::Xgetbv => x::xgetbv,
        Code::Xsetbv => x::xsetbv,
        _ => return None,
    };
    Some(exec)
}
