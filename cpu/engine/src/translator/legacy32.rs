//! 32-bit code, of protected mode and of compatibility mode.
//!
//! Translated code presupposes a flat code segment and a flat 32-bit stack; of the other segments the context says
//! which are flat (ES, DS) or at least writable up to 4 GiB (FS, GS, whose base is added). Operands in any other
//! segment are left to the interpreter. Effective addresses are computed in 32 bits, so that they wrap as the guest's.

use iced_x86::{Code, Instruction};
use x86::reg::seg;
use x86::{Segment, X86State};

/// Segments (bit = number) that generated code may use in 32-bit mode; `None` when blocks are not translated at all.
pub(super) fn usable_segments(state: &X86State) -> Option<u8> {
    use Segment as S;
    const KIND: u16 = S::PRESENT | S::CODE | S::WRITABLE | S::EXPAND_DOWN | S::NON_SYSTEM;
    let open = |n: usize| {
        let s = &state.seg[n];
        s.limit == u32::MAX && s.attributes & KIND == S::PRESENT | S::WRITABLE | S::NON_SYSTEM
    };
    let flat = |n: usize| open(n) && state.seg[n].base == 0;
    let code = &state.seg[seg::CS];
    if code.base != 0
        || code.limit != u32::MAX
        || !flat(seg::SS)
        || state.seg[seg::SS].attributes & Segment::BIG == 0
    {
        return None;
    }
    let bit = |n: usize, yes: bool| u8::from(yes) << n;
    Some(
        1 << seg::SS
            | bit(seg::ES, flat(seg::ES))
            | bit(seg::DS, flat(seg::DS))
            | bit(seg::FS, open(seg::FS))
            | bit(seg::GS, open(seg::GS)),
    )
}

/// Gives `i` an encoding that 64-bit mode has too, where its own means something else there.
pub(super) fn modernize(i: &mut Instruction) {
    let code = match i.code() {
        Code::Inc_r16 => Code::Inc_rm16,
        Code::Inc_r32 => Code::Inc_rm32,
        Code::Dec_r16 => Code::Dec_rm16,
        Code::Dec_r32 => Code::Dec_rm32,
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        Code::Add_rm8_imm8_82 => Code::Add_rm8_imm8,
        Code::Or_rm8_imm8_82 => Code::Or_rm8_imm8,
        Code::Adc_rm8_imm8_82 => Code::Adc_rm8_imm8,
        Code::Sbb_rm8_imm8_82 => Code::Sbb_rm8_imm8,
        Code::And_rm8_imm8_82 => Code::And_rm8_imm8,
        Code::Sub_rm8_imm8_82 => Code::Sub_rm8_imm8,
        Code::Xor_rm8_imm8_82 => Code::Xor_rm8_imm8,
        Code::Cmp_rm8_imm8_82 => Code::Cmp_rm8_imm8,
        _ => return,
    };
    i.set_code(code);
}
