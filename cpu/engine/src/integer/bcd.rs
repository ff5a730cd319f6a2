//! Decimal adjustment (SDM volume 2: AAA, AAS, AAM, AAD, DAA, DAS).

use super::int::{Int, op};
use crate::cpu::{Cpu, FL_CF};
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::vector;

type R = Result<(), Fault>;

/// AF in the flags word.
const FL_AF: u16 = 0x1000;

/// SF, ZF and PF of AL's new value; the other flags as given.
fn finish(cpu: &mut Cpu, al: u8, others: u16) {
    cpu.set_r8(0, al);
    let (_, fl) = u8::binary::<{ op::TEST }>(al, al, 0);
    cpu.fl = fl & !FL_CF & !FL_AF | others;
}

fn unpacked(cpu: &mut Cpu, by: u16) -> R {
    let adjust = cpu.r8(0) & 15 > 9 || cpu.fl & FL_AF != 0;
    if adjust {
        let ax = cpu.r16(0).wrapping_add(by);
        cpu.set_r16(0, ax);
    }
    let al = cpu.r8(0) & 15;
    finish(cpu, al, if adjust { FL_AF | FL_CF } else { 0 });
    Ok(())
}

pub(crate) fn aaa(cpu: &mut Cpu, _: &Insn) -> R {
    unpacked(cpu, 0x106)
}

pub(crate) fn aas(cpu: &mut Cpu, _: &Insn) -> R {
    unpacked(cpu, 0u16.wrapping_sub(0x106))
}

pub(crate) fn aam(cpu: &mut Cpu, i: &Insn) -> R {
    let (al, by) = (cpu.r8(0), i.imm as u8);
    let (Some(high), Some(low)) = (al.checked_div(by), al.checked_rem(by)) else {
        return Err(Fault::new(vector::DE, 0));
    };
    cpu.set_r16(0, u16::from(high) << 8);
    finish(cpu, low, 0);
    Ok(())
}

pub(crate) fn aad(cpu: &mut Cpu, i: &Insn) -> R {
    let [al, ah] = cpu.r16(0).to_le_bytes();
    cpu.set_r16(0, 0);
    finish(cpu, al.wrapping_add(ah.wrapping_mul(i.imm as u8)), 0);
    Ok(())
}

pub(crate) fn daa(cpu: &mut Cpu, _: &Insn) -> R {
    let (old, fl) = (cpu.r8(0), cpu.fl);
    let (mut al, mut others) = (old, 0);
    if old & 15 > 9 || fl & FL_AF != 0 {
        al = al.wrapping_add(6);
        others |= FL_AF;
    }
    if old > 0x99 || fl & FL_CF != 0 {
        al = al.wrapping_add(0x60);
        others |= FL_CF;
    }
    finish(cpu, al, others);
    Ok(())
}

pub(crate) fn das(cpu: &mut Cpu, _: &Insn) -> R {
    let (old, fl) = (cpu.r8(0), cpu.fl);
    let (mut al, mut others) = (old, 0);
    if old & 15 > 9 || fl & FL_AF != 0 {
        others |= FL_AF | if old < 6 { FL_CF } else { 0 };
        al = al.wrapping_sub(6);
    }
    if old > 0x99 || fl & FL_CF != 0 {
        al = al.wrapping_sub(0x60);
        others |= FL_CF;
    }
    finish(cpu, al, others);
    Ok(())
}
