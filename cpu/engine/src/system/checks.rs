//! Instructions that ask about descriptors: LAR, LSL, VERR, VERW, ARPL.

use crate::cpu::{Cpu, FL_ZF};
use crate::fault::Fault;
use crate::insn::Insn;
use crate::integer::int::Int;
use x86::reg::vector;

type R = Result<(), Fault>;

impl Cpu {
    /// The descriptor of `selector`, when there is one.
    fn visible_descriptor(&mut self, selector: u16) -> Result<Option<u64>, Fault> {
        if selector & !3 == 0 {
            return Ok(None);
        }
        match self.descriptor(selector, vector::GP, 0) {
            Ok(d) => Ok(Some(d)),
            Err(fault) if fault.vector() == vector::GP && !fault.is_not_canonical() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the present privilege may use a descriptor.
    fn may_use(&self, selector: u16, d: u64) -> bool {
        let dpl = (d >> 45 & 3) as u8;
        let conforming = d >> 42 & 7 == 7;
        conforming || dpl >= self.state.cpl && dpl >= (selector & 3) as u8
    }

    fn set_zf(&mut self, on: bool) {
        self.fl = self.fl & !FL_ZF | if on { FL_ZF } else { 0 };
    }
}

fn selector_operand(cpu: &mut Cpu, i: &Insn, n: usize) -> Result<u16, Fault> {
    if !cpu.protected() || cpu.v86() {
        return Err(Fault::ud());
    }
    if i.is_mem() { cpu.load_int::<u16>(i) } else { Ok(cpu.r16(i.regs[n])) }
}

/// LAR, and (with `LIMIT`) LSL.
pub(crate) fn describe<T: Int, const LIMIT: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let selector = selector_operand(cpu, i, 1)?;
    let found = cpu.visible_descriptor(selector)?.filter(|&d| {
        let kind = d >> 40 & 15;
        let known = match (cpu.lma(), LIMIT) {
            (true, true) => matches!(kind, 2 | 9 | 11),
            (true, false) => matches!(kind, 2 | 9 | 11 | 12),
            (false, true) => matches!(kind, 1 | 2 | 3 | 9 | 11),
            (false, false) => matches!(kind, 1..=5 | 9 | 11 | 12),
        };
        (d >> 44 & 1 != 0 || known) && cpu.may_use(selector, d)
    });
    if let Some(d) = found {
        let v = if LIMIT { Cpu::segment_of(selector, d).limit.into() } else { d >> 32 & 0x00f0_ff00 };
        T::set_reg(cpu, i.regs[0], T::from_u64(v));
    }
    cpu.set_zf(found.is_some());
    Ok(())
}

/// VERR, and (with `WRITE`) VERW.
pub(crate) fn verify<const WRITE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let selector = selector_operand(cpu, i, 0)?;
    let ok = cpu.visible_descriptor(selector)?.is_some_and(|d| {
        let (segment, code, second) = (d >> 44 & 1 != 0, d >> 43 & 1 != 0, d >> 41 & 1 != 0);
        let access = if WRITE { !code && second } else { !code || second };
        segment && access && cpu.may_use(selector, d)
    });
    cpu.set_zf(ok);
    Ok(())
}

pub(crate) fn arpl(cpu: &mut Cpu, i: &Insn) -> R {
    if !cpu.protected() || cpu.v86() {
        return Err(Fault::ud());
    }
    let rpl = cpu.r16(i.regs[1]) & 3;
    let v = if i.is_mem() { cpu.load_int::<u16>(i)? } else { cpu.r16(i.regs[0]) };
    // What needs no change is not written.
    match v & 3 < rpl {
        true if i.is_mem() => cpu.store_int(i, v & !3 | rpl)?,
        true => cpu.set_r16(i.regs[0], v & !3 | rpl),
        false => {}
    }
    cpu.set_zf(v & 3 < rpl);
    Ok(())
}
