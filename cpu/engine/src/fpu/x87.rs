//! x87 arithmetic, loads and stores: one host instruction each (SDM vol. 1, chapter 8).

use super::host::{Image, run, run_flags, run_memory};
use super::{Exec, FpuMachine, enter};
use crate::vector::Operands;
use iced_x86::Code;
use x86::X87;

/// FSW: an unmasked exception is pending.
pub(super) const ES: u16 = 1 << 7;

/// What every non-control instruction leaves behind: its address and opcode.
fn remember<M: FpuMachine>(m: &mut M, insn: &M::Insn, opcode: [u8; 2]) {
    let start = m.insn_start(insn);
    let state = m.x86();
    let selector = state.seg[x86::reg::seg::CS].selector;
    let x87 = &mut state.x87;
    x87.fip = start;
    x87.fcs = selector;
    if x87.fsw & ES != 0 {
        // As processors do since the Pentium 4: the opcode of the last unmasked exception only (SDM vol. 1, 8.1.9.1).
        x87.fop = u16::from_be_bytes([opcode[0] & 7, opcode[1]]);
    }
}

fn remember_operand<M: FpuMachine>(m: &mut M, insn: &M::Insn) {
    let (selector, offset) = m.operand_pointer(insn);
    let x87 = &mut m.x86().x87;
    (x87.fds, x87.fdp) = (selector, offset);
}

/// No operand.
fn plain<M: FpuMachine, const B0: u8, const MODRM: u8>(m: &mut M, insn: &M::Insn) -> Result<(), M::Fault> {
    enter(m)?;
    let x87 = &mut m.x86().x87;
    let mut image = Image::new(x87);
    run::<B0, MODRM>(&mut image);
    image.store(x87);
    remember(m, insn, [B0, MODRM]);
    Ok(())
}

/// Exchanges ST(1) and ST(i) as they were when TOP was `top`.
fn exchange(x87: &mut X87, top: usize, i: usize) {
    let (a, b) = ((top + 1) & 7, (top + i) & 7);
    x87.regs.swap(a, b);
    let (bit_a, bit_b) = (x87.ftw >> a & 1, x87.ftw >> b & 1);
    x87.ftw = x87.ftw & !(1 << a) & !(1 << b) | bit_a << b | bit_b << a;
}

/// Runs a form on ST(0) and ST(i), `i` not 0, as one on ST(0) and ST(1).
fn on_second<R>(x87: &mut X87, i: usize, body: impl FnOnce(&mut X87) -> R) -> R {
    let top = x87.top();
    exchange(x87, top, i);
    let result = body(x87);
    exchange(x87, top, i);
    result
}

/// With ST(i), which is operand `OPERAND`. `NEXT` is `MODRM` for ST(1).
fn register<M: FpuMachine, const B0: u8, const MODRM: u8, const NEXT: u8, const OPERAND: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter(m)?;
    let i = insn.register(OPERAND) & 7;
    let x87 = &mut m.x86().x87;
    if i == 0 || (B0, MODRM, i) == (0xd9, 0xc0, 7) {
        let mut image = Image::new(x87);
        if i == 0 {
            run::<B0, MODRM>(&mut image);
        } else {
            // FLD ST(7) pushes onto its own source.
            run::<0xd9, 0xc7>(&mut image);
        }
        image.store(x87);
    } else {
        on_second(x87, i, |x87| {
            let mut image = Image::new(x87);
            run::<B0, NEXT>(&mut image);
            image.store(x87);
        });
    }
    remember(m, insn, [B0, MODRM + i as u8]);
    Ok(())
}

/// With ST(i) as operand 1, reading or writing RFLAGS (FCOMI, FCMOVcc).
fn with_flags<M: FpuMachine, const B0: u8, const MODRM: u8, const NEXT: u8>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter(m)?;
    let i = insn.register(1) & 7;
    let flags = m.arith_flags();
    let x87 = &mut m.x86().x87;
    let flags = if i == 0 {
        let mut image = Image::new(x87);
        let flags = run_flags::<B0, MODRM>(&mut image, flags);
        image.store(x87);
        flags
    } else {
        on_second(x87, i, |x87| {
            let mut image = Image::new(x87);
            let flags = run_flags::<B0, NEXT>(&mut image, flags);
            image.store(x87);
            flags
        })
    };
    m.set_arith_flags(flags & x86::reg::flags::ARITH);
    remember(m, insn, [B0, MODRM + i as u8]);
    Ok(())
}

/// Reads `N` bytes of memory.
fn read<M: FpuMachine, const B0: u8, const MODRM: u8, const N: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter(m)?;
    let mut operand = [0; 16];
    operand[..N].copy_from_slice(&m.load::<N>(insn, false)?);
    let x87 = &mut m.x86().x87;
    let mut image = Image::new(x87);
    run_memory::<B0, MODRM>(&mut image, &mut operand);
    image.store(x87);
    remember(m, insn, [B0, MODRM]);
    remember_operand(m, insn);
    Ok(())
}

/// Writes `N` bytes of memory; not at all when an unmasked exception stops the store.
fn write<M: FpuMachine, const B0: u8, const MODRM: u8, const N: usize>(
    m: &mut M,
    insn: &M::Insn,
) -> Result<(), M::Fault> {
    enter(m)?;
    // The operand's address is looked at before the number (SDM volume 1, 8.6).
    m.check_store_part(insn, 0, N)?;
    let mut x87 = m.x86().x87;
    let mut operand = [0; 16];
    let mut image = Image::new(&x87);
    run_memory::<B0, MODRM>(&mut image, &mut operand);
    let mut written = true;
    if operand[..N] == [0; N] {
        // A zero, or nothing? Seen against another background it shows.
        operand = [0xff; 16];
        image = Image::new(&x87);
        run_memory::<B0, MODRM>(&mut image, &mut operand);
        written = operand[..N] == [0; N];
    }
    image.store(&mut x87);
    if written {
        let mut value = [0; N];
        value.copy_from_slice(&operand[..N]);
        m.store::<N>(insn, value, false)?;
    }
    m.x86().x87 = x87;
    remember(m, insn, [B0, MODRM]);
    remember_operand(m, insn);
    Ok(())
}

macro_rules! sti {
    ($b0:literal, $modrm:literal, $operand:literal) => {
        register::<M, $b0, $modrm, { $modrm + 1 }, $operand>
    };
}

macro_rules! fl {
    ($b0:literal, $modrm:literal) => {
        with_flags::<M, $b0, $modrm, { $modrm + 1 }>
    };
}

/// Forms without memory operands.
fn lookup_register<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
    use Code::*;
    Some(match code {
        Fadd_st0_sti => sti!(0xd8, 0xc0, 1),
        Fmul_st0_sti => sti!(0xd8, 0xc8, 1),
        Fcom_st0_sti => sti!(0xd8, 0xd0, 1),
        Fcomp_st0_sti => sti!(0xd8, 0xd8, 1),
        Fsub_st0_sti => sti!(0xd8, 0xe0, 1),
        Fsubr_st0_sti => sti!(0xd8, 0xe8, 1),
        Fdiv_st0_sti => sti!(0xd8, 0xf0, 1),
        Fdivr_st0_sti => sti!(0xd8, 0xf8, 1),
        Fld_sti => sti!(0xd9, 0xc0, 0),
        Fxch_st0_sti => sti!(0xd9, 0xc8, 1),
        Fstpnce_sti => sti!(0xd9, 0xd8, 0),
        Fcmovb_st0_sti => fl!(0xda, 0xc0),
        Fcmove_st0_sti => fl!(0xda, 0xc8),
        Fcmovbe_st0_sti => fl!(0xda, 0xd0),
        Fcmovu_st0_sti => fl!(0xda, 0xd8),
        Fucompp => plain::<M, 0xda, 0xe9>,
        Fcmovnb_st0_sti => fl!(0xdb, 0xc0),
        Fcmovne_st0_sti => fl!(0xdb, 0xc8),
        Fcmovnbe_st0_sti => fl!(0xdb, 0xd0),
        Fcmovnu_st0_sti => fl!(0xdb, 0xd8),
        Fucomi_st0_sti => fl!(0xdb, 0xe8),
        Fcomi_st0_sti => fl!(0xdb, 0xf0),
        Fadd_sti_st0 => sti!(0xdc, 0xc0, 0),
        Fmul_sti_st0 => sti!(0xdc, 0xc8, 0),
        Fcom_st0_sti_DCD0 => sti!(0xdc, 0xd0, 1),
        Fcomp_st0_sti_DCD8 => sti!(0xdc, 0xd8, 1),
        Fsubr_sti_st0 => sti!(0xdc, 0xe0, 0),
        Fsub_sti_st0 => sti!(0xdc, 0xe8, 0),
        Fdivr_sti_st0 => sti!(0xdc, 0xf0, 0),
        Fdiv_sti_st0 => sti!(0xdc, 0xf8, 0),
        Ffree_sti => sti!(0xdd, 0xc0, 0),
        Fxch_st0_sti_DDC8 => sti!(0xdd, 0xc8, 1),
        Fst_sti => sti!(0xdd, 0xd0, 0),
        Fstp_sti => sti!(0xdd, 0xd8, 0),
        Fucom_st0_sti => sti!(0xdd, 0xe0, 1),
        Fucomp_st0_sti => sti!(0xdd, 0xe8, 1),
        Faddp_sti_st0 => sti!(0xde, 0xc0, 0),
        Fmulp_sti_st0 => sti!(0xde, 0xc8, 0),
        Fcomp_st0_sti_DED0 => sti!(0xde, 0xd0, 1),
        Fcompp => plain::<M, 0xde, 0xd9>,
        Fsubrp_sti_st0 => sti!(0xde, 0xe0, 0),
        Fsubp_sti_st0 => sti!(0xde, 0xe8, 0),
        Fdivrp_sti_st0 => sti!(0xde, 0xf0, 0),
        Fdivp_sti_st0 => sti!(0xde, 0xf8, 0),
        Ffreep_sti => sti!(0xdf, 0xc0, 0),
        Fxch_st0_sti_DFC8 => sti!(0xdf, 0xc8, 1),
        Fstp_sti_DFD0 => sti!(0xdf, 0xd0, 0),
        Fstp_sti_DFD8 => sti!(0xdf, 0xd8, 0),
        Fucomip_st0_sti => fl!(0xdf, 0xe8),
        Fcomip_st0_sti => fl!(0xdf, 0xf0),
        Fnop => plain::<M, 0xd9, 0xd0>,
        Fchs => plain::<M, 0xd9, 0xe0>,
        Fabs => plain::<M, 0xd9, 0xe1>,
        Ftst => plain::<M, 0xd9, 0xe4>,
        Fxam => plain::<M, 0xd9, 0xe5>,
        Fld1 => plain::<M, 0xd9, 0xe8>,
        Fldl2t => plain::<M, 0xd9, 0xe9>,
        Fldl2e => plain::<M, 0xd9, 0xea>,
        Fldpi => plain::<M, 0xd9, 0xeb>,
        Fldlg2 => plain::<M, 0xd9, 0xec>,
        Fldln2 => plain::<M, 0xd9, 0xed>,
        Fldz => plain::<M, 0xd9, 0xee>,
        F2xm1 => plain::<M, 0xd9, 0xf0>,
        Fyl2x => plain::<M, 0xd9, 0xf1>,
        Fptan => plain::<M, 0xd9, 0xf2>,
        Fpatan => plain::<M, 0xd9, 0xf3>,
        Fxtract => plain::<M, 0xd9, 0xf4>,
        Fprem1 => plain::<M, 0xd9, 0xf5>,
        Fdecstp => plain::<M, 0xd9, 0xf6>,
        Fincstp => plain::<M, 0xd9, 0xf7>,
        Fprem => plain::<M, 0xd9, 0xf8>,
        Fyl2xp1 => plain::<M, 0xd9, 0xf9>,
        Fsqrt => plain::<M, 0xd9, 0xfa>,
        Fsincos => plain::<M, 0xd9, 0xfb>,
        Frndint => plain::<M, 0xd9, 0xfc>,
        Fscale => plain::<M, 0xd9, 0xfd>,
        Fsin => plain::<M, 0xd9, 0xfe>,
        Fcos => plain::<M, 0xd9, 0xff>,
        _ => return None,
    })
}

/// The executor of an x87 instruction that computes, loads or stores.
pub(super) fn lookup<M: FpuMachine>(code: Code) -> Option<Exec<M>> {
    use Code::*;
    Some(match code {
        Fadd_m32fp => read::<M, 0xd8, 0x00, 4>,
        Fmul_m32fp => read::<M, 0xd8, 0x08, 4>,
        Fcom_m32fp => read::<M, 0xd8, 0x10, 4>,
        Fcomp_m32fp => read::<M, 0xd8, 0x18, 4>,
        Fsub_m32fp => read::<M, 0xd8, 0x20, 4>,
        Fsubr_m32fp => read::<M, 0xd8, 0x28, 4>,
        Fdiv_m32fp => read::<M, 0xd8, 0x30, 4>,
        Fdivr_m32fp => read::<M, 0xd8, 0x38, 4>,
        Fld_m32fp => read::<M, 0xd9, 0x00, 4>,
        Fst_m32fp => write::<M, 0xd9, 0x10, 4>,
        Fstp_m32fp => write::<M, 0xd9, 0x18, 4>,
        Fiadd_m32int => read::<M, 0xda, 0x00, 4>,
        Fimul_m32int => read::<M, 0xda, 0x08, 4>,
        Ficom_m32int => read::<M, 0xda, 0x10, 4>,
        Ficomp_m32int => read::<M, 0xda, 0x18, 4>,
        Fisub_m32int => read::<M, 0xda, 0x20, 4>,
        Fisubr_m32int => read::<M, 0xda, 0x28, 4>,
        Fidiv_m32int => read::<M, 0xda, 0x30, 4>,
        Fidivr_m32int => read::<M, 0xda, 0x38, 4>,
        Fild_m32int => read::<M, 0xdb, 0x00, 4>,
        Fisttp_m32int => write::<M, 0xdb, 0x08, 4>,
        Fist_m32int => write::<M, 0xdb, 0x10, 4>,
        Fistp_m32int => write::<M, 0xdb, 0x18, 4>,
        Fld_m80fp => read::<M, 0xdb, 0x28, 10>,
        Fstp_m80fp => write::<M, 0xdb, 0x38, 10>,
        Fadd_m64fp => read::<M, 0xdc, 0x00, 8>,
        Fmul_m64fp => read::<M, 0xdc, 0x08, 8>,
        Fcom_m64fp => read::<M, 0xdc, 0x10, 8>,
        Fcomp_m64fp => read::<M, 0xdc, 0x18, 8>,
        Fsub_m64fp => read::<M, 0xdc, 0x20, 8>,
        Fsubr_m64fp => read::<M, 0xdc, 0x28, 8>,
        Fdiv_m64fp => read::<M, 0xdc, 0x30, 8>,
        Fdivr_m64fp => read::<M, 0xdc, 0x38, 8>,
        Fld_m64fp => read::<M, 0xdd, 0x00, 8>,
        Fisttp_m64int => write::<M, 0xdd, 0x08, 8>,
        Fst_m64fp => write::<M, 0xdd, 0x10, 8>,
        Fstp_m64fp => write::<M, 0xdd, 0x18, 8>,
        Fiadd_m16int => read::<M, 0xde, 0x00, 2>,
        Fimul_m16int => read::<M, 0xde, 0x08, 2>,
        Ficom_m16int => read::<M, 0xde, 0x10, 2>,
        Ficomp_m16int => read::<M, 0xde, 0x18, 2>,
        Fisub_m16int => read::<M, 0xde, 0x20, 2>,
        Fisubr_m16int => read::<M, 0xde, 0x28, 2>,
        Fidiv_m16int => read::<M, 0xde, 0x30, 2>,
        Fidivr_m16int => read::<M, 0xde, 0x38, 2>,
        Fild_m16int => read::<M, 0xdf, 0x00, 2>,
        Fisttp_m16int => write::<M, 0xdf, 0x08, 2>,
        Fist_m16int => write::<M, 0xdf, 0x10, 2>,
        Fistp_m16int => write::<M, 0xdf, 0x18, 2>,
        Fbld_m80bcd => read::<M, 0xdf, 0x20, 10>,
        Fild_m64int => read::<M, 0xdf, 0x28, 8>,
        Fbstp_m80bcd => write::<M, 0xdf, 0x30, 10>,
        Fistp_m64int => write::<M, 0xdf, 0x38, 8>,
        _ => return lookup_register(code),
    })
}
