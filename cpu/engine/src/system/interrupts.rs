//! Software interrupts and the instructions that move flags, with virtual-8086 mode's extensions.

use crate::cpu::Cpu;
use crate::exceptions::Source;
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::{cr4, flags, vector};

type R = Result<(), Fault>;

impl Cpu {
    fn iopl(&self) -> u8 {
        (self.state.rflags >> 12 & 3) as u8
    }

    /// Virtual-8086 mode with IOPL below 3: what would touch IF faults, or touches VIF with CR4.VME.
    fn virtual_if(&self) -> Result<bool, Fault> {
        if !self.v86() || self.iopl() == 3 {
            return Ok(false);
        }
        if self.state.cr4 & cr4::VME != 0 { Ok(true) } else { Err(Fault::gp(0)) }
    }

    /// CLI and STI: whether VIF stands for IF.
    fn if_is_virtual(&self) -> Result<bool, Fault> {
        if self.v86() {
            return self.virtual_if();
        }
        if self.state.cpl <= self.iopl() {
            return Ok(false);
        }
        if self.protected() && self.state.cpl == 3 && self.state.cr4 & cr4::PVI != 0 {
            return Ok(true);
        }
        Err(Fault::gp(0))
    }
}

pub(crate) fn cli(cpu: &mut Cpu, _: &Insn) -> R {
    let clear = if cpu.if_is_virtual()? { flags::VIF } else { flags::IF };
    cpu.state.rflags &= !clear;
    Ok(())
}
pub(crate) fn sti(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.if_is_virtual()? {
        if cpu.state.rflags & flags::VIP != 0 {
            return Err(Fault::gp(0));
        }
        cpu.state.rflags |= flags::VIF;
    } else if cpu.state.rflags & flags::IF == 0 {
        cpu.state.rflags |= flags::IF;
        cpu.state.interrupt_shadow = true;
        cpu.stop_block();
    }
    Ok(())
}
pub(crate) fn pushf<const SIZE: u64>(cpu: &mut Cpu, _: &Insn) -> R {
    let mut v = cpu.rflags() & !(flags::VM | flags::RF);
    if cpu.virtual_if()? {
        if SIZE != 2 {
            return Err(Fault::gp(0));
        }
        let on = v & flags::VIF != 0;
        v = v & !flags::IF | flags::IOPL | if on { flags::IF } else { 0 };
    }
    cpu.push(SIZE, v)
}
pub(crate) fn popf<const SIZE: u64>(cpu: &mut Cpu, _: &Insn) -> R {
    let virtually = cpu.virtual_if()?;
    if virtually && SIZE != 2 {
        return Err(Fault::gp(0));
    }
    let v = cpu.peek(SIZE, 0)?;
    let old = cpu.rflags();
    let mut mask = flags::ARITH | flags::TF | flags::DF | flags::NT;
    if SIZE > 2 {
        mask |= flags::AC | flags::ID;
    }
    if cpu.state.cpl == 0 {
        mask |= flags::IOPL;
    }
    if cpu.state.cpl <= cpu.iopl() {
        mask |= flags::IF;
    }
    let mut new = old & !mask | v & mask;
    if virtually {
        if v & flags::TF != 0 || v & flags::IF != 0 && old & flags::VIP != 0 {
            return Err(Fault::gp(0));
        }
        new = new & !flags::VIF | if v & flags::IF != 0 { flags::VIF } else { 0 };
    }
    cpu.set_rflags(new & !flags::RF);
    let sp = cpu.state.gpr[4].wrapping_add(SIZE);
    cpu.set_sp(sp);
    if (new ^ old) & (flags::IF | flags::TF | flags::AC) != 0 {
        cpu.stop_block();
        cpu.attention = true;
    }
    Ok(())
}
/// IRET in real and virtual-8086 mode.
pub(crate) fn iret_real<const SIZE: u64>(cpu: &mut Cpu) -> R {
    let virtually = cpu.virtual_if()?;
    if virtually && SIZE != 2 {
        return Err(Fault::gp(0));
    }
    let (to, selector, f) = (cpu.peek(SIZE, 0)?, cpu.peek(SIZE, SIZE)? as u16, cpu.peek(SIZE, 2 * SIZE)?);
    if to > cpu.state.seg[1].limit.into() {
        return Err(Fault::gp(0));
    }
    let mut keep = flags::VM | flags::VIF | flags::VIP;
    if SIZE == 2 {
        keep |= !0xffff;
    }
    if cpu.v86() {
        keep |= flags::IOPL;
    }
    let old = cpu.rflags();
    let mut new = old & keep | f & !keep;
    if virtually {
        if f & flags::TF != 0 || f & flags::IF != 0 && old & flags::VIP != 0 {
            return Err(Fault::gp(0));
        }
        let vif = if f & flags::IF != 0 { flags::VIF } else { 0 };
        new = new & !(flags::IF | flags::VIF) | old & flags::IF | vif;
    }
    cpu.set_rflags(new);
    let sp = cpu.state.gpr[4].wrapping_add(3 * SIZE);
    cpu.set_sp(sp);
    cpu.load_real_cs(selector, to);
    cpu.state.nmi_blocked = false;
    cpu.loaded_rf = true;
    cpu.mode_changed();
    Ok(())
}
pub(crate) fn int_n(cpu: &mut Cpu, i: &Insn) -> R {
    let (v, rip) = (i.imm as u8, cpu.state.rip);
    if cpu.v86() && cpu.int_in_v86(v, rip)? {
        return Ok(());
    }
    cpu.enter(v, Source::Software, None, rip)
}
pub(crate) fn int3(cpu: &mut Cpu, _: &Insn) -> R {
    let rip = cpu.state.rip;
    cpu.enter(vector::BP, Source::Software, None, rip)
}
pub(crate) fn int1(cpu: &mut Cpu, _: &Insn) -> R {
    let rip = cpu.state.rip;
    cpu.enter(vector::DB, Source::Privileged, None, rip)
}
pub(crate) fn into(cpu: &mut Cpu, _: &Insn) -> R {
    if !cpu.condition(0) {
        return Ok(());
    }
    let rip = cpu.state.rip;
    cpu.enter(vector::OF, Source::Software, None, rip)
}
