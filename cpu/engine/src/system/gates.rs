//! Far jumps and calls: to code segments, through call gates and task gates (SDM vol. 2, CALL and JMP).

use super::tasks::{Cause, TaskSwitch};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use x86::Segment;
use x86::reg::{flags, vector};

type R = Result<(), Fault>;

impl Cpu {
    /// JMP or CALL far.
    fn far(&mut self, selector: u16, to: u64, size: u64, call: bool) -> R {
        let back = (self.state.seg[1].selector, self.state.rip);
        if !self.protected() || self.v86() {
            if to > self.state.seg[1].limit.into() {
                return Err(Fault::gp(0));
            }
            if call {
                self.push_pair(size, back)?;
            }
            self.load_real_cs(selector, to);
            self.stop_block();
            return Ok(());
        }
        if selector & !3 == 0 {
            return Err(Fault::gp(0));
        }
        let d = self.descriptor(selector, vector::GP, 0)?;
        if d >> 44 & 1 == 0 {
            return self.far_system(selector, d, call);
        }
        let cpl = self.state.cpl;
        let s = self.code_segment(selector, cpl, false)?;
        self.check_target(&s, to)?;
        if call {
            self.push_pair(size, back)?;
        }
        self.state.seg[1] = s;
        self.state.rip = to;
        self.mode_changed();
        Ok(())
    }

    fn push_pair(&mut self, size: u64, (cs, ip): (u16, u64)) -> R {
        let old = self.state.gpr[4];
        self.push(size, cs.into())?;
        self.push(size, ip).inspect_err(|_| self.state.gpr[4] = old)
    }

    /// A far transfer to a gate or a task.
    fn far_system(&mut self, selector: u16, d: u64, call: bool) -> R {
        let bad = selector & !3;
        let kind = d >> 40 & 15;
        let known = if self.lma() { kind == 12 } else { matches!(kind, 1 | 4 | 5 | 9 | 12) };
        let dpl = (d >> 45 & 3) as u8;
        if !known || dpl < self.state.cpl || dpl < (selector & 3) as u8 {
            return Err(Fault::gp(bad));
        }
        let present = d >> 47 & 1 != 0;
        let cause = if call { Cause::Call } else { Cause::Jump };
        let (next, flags) = (self.state.rip, self.rflags());
        match kind {
            1 | 9 => self.switch_task(TaskSwitch { selector, cause, next, flags }),
            _ if !present => Err(Fault::new(vector::NP, bad)),
            5 => self.task_gate(TaskSwitch { selector: (d >> 16) as u16, cause, next, flags }),
            _ if self.lma() => self.call_gate_64(selector, d, call),
            _ => self.call_gate(d, call),
        }
    }

    fn call_gate(&mut self, d: u64, call: bool) -> R {
        let wide = d >> 43 & 1 != 0;
        let size = if wide { 4 } else { 2 };
        let (target, offset) =
            ((d >> 16) as u16, if wide { d & 0xffff | d >> 32 & 0xffff_0000 } else { d & 0xffff });
        let (descriptor, mut cs) = self.code_for_gate(target, 0)?;
        let conforming = descriptor >> 42 & 1 != 0;
        let cpl = self.state.cpl;
        if !call && !conforming && cs.dpl() != cpl {
            return Err(Fault::gp(target & !3));
        }
        let back = (self.state.seg[1].selector, self.state.rip);
        let new_cpl = if conforming { cpl } else { cs.dpl() };
        if offset > cs.limit.into() {
            return Err(Fault::gp(0));
        }
        if call && new_cpl < cpl {
            let count = d >> 32 & 31;
            let mut frame = vec![u64::from(self.state.seg[2].selector), self.state.gpr[4]];
            for n in (0..count).rev() {
                frame.push(self.peek(size, n * size)?);
            }
            frame.extend([back.0.into(), back.1]);
            let (ss, sp) = self.stack_from_tss(new_cpl, 0)?;
            let seg = self.stack_segment(ss, new_cpl, vector::TS, 0)?;
            let (old_ss, old_sp, set) = (self.state.seg[2], self.state.gpr[4], self.set);
            self.state.seg[2] = seg;
            let r = &mut self.state.gpr[4];
            *r = if seg.attributes & Segment::BIG != 0 { sp } else { *r & !0xffff | sp & 0xffff };
            self.set = 1;
            if let Err(fault) = frame.into_iter().try_for_each(|value| self.push(size, value)) {
                self.state.seg[2] = old_ss;
                self.state.gpr[4] = old_sp;
                self.set = set;
                return Err(if fault.vector() == vector::SS {
                    Fault::new(vector::SS, ss & !3)
                } else {
                    fault
                });
            }
        } else if call {
            self.push_pair(size, back)?;
        }
        cs.selector = target & !3 | u16::from(new_cpl);
        self.state.seg[1] = cs;
        self.state.cpl = new_cpl;
        self.state.rip = offset;
        self.mode_changed();
        Ok(())
    }

    fn call_gate_64(&mut self, selector: u16, d: u64, call: bool) -> R {
        let bad = selector & !3;
        let high = self.descriptor_high(selector, vector::GP)?;
        if high >> 40 & 31 != 0 {
            return Err(Fault::gp(bad));
        }
        let target = (d >> 16) as u16;
        let offset = d & 0xffff | d >> 32 & 0xffff_0000 | high << 32;
        let (descriptor, mut cs) = self.code_for_gate(target, 0)?;
        if cs.attributes & (Segment::LONG | Segment::BIG) != Segment::LONG {
            return Err(Fault::gp(target & !3));
        }
        let conforming = descriptor >> 42 & 1 != 0;
        let cpl = self.state.cpl;
        if !call && !conforming && cs.dpl() != cpl {
            return Err(Fault::gp(target & !3));
        }
        let new_cpl = if conforming { cpl } else { cs.dpl() };
        if !self.canonical(offset) {
            return Err(Fault::gp(0));
        }
        if call {
            let (old_ss, old_sp) = (self.state.seg[2].selector, self.state.gpr[4]);
            let mut frame = vec![u64::from(self.state.seg[1].selector), self.state.rip];
            let mut sp = old_sp;
            let set = self.set;
            if new_cpl < cpl {
                sp = self.tss64(4 + 8 * u64::from(new_cpl), 0)?;
                if !self.canonical(sp) {
                    return Err(Fault::new(vector::SS, 0));
                }
                frame.splice(0..0, [u64::from(old_ss), old_sp]);
                self.set = 1;
            }
            let pushed = frame.into_iter().try_for_each(|value| {
                sp = sp.wrapping_sub(8);
                self.write::<u64>(sp, value)
            });
            self.set = set;
            pushed?;
            self.state.gpr[4] = sp;
            if new_cpl < cpl {
                self.state.seg[2] = Segment {
                    selector: new_cpl.into(),
                    attributes: Segment::PRESENT | 0x13 | u16::from(new_cpl) << 5,
                    base: 0,
                    limit: u32::MAX,
                };
            }
        }
        cs.selector = target & !3 | u16::from(new_cpl);
        self.state.seg[1] = cs;
        self.state.cpl = new_cpl;
        self.state.rip = offset;
        self.mode_changed();
        Ok(())
    }
}

pub(crate) fn far_direct<const SIZE: u64, const CALL: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.far((i.imm >> 32) as u16, i.imm & 0xffff_ffff, SIZE, CALL)
}
pub(crate) fn far_memory<const SIZE: u64, const CALL: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let at = cpu.ea(i, SIZE + 2, false)?;
    let to = match SIZE {
        2 => cpu.read::<u16>(at)?.into(),
        4 => cpu.read::<u32>(at)?.into(),
        _ => cpu.read::<u64>(at)?,
    };
    let selector = cpu.read::<u16>(at.wrapping_add(SIZE))?;
    cpu.far(selector, to, SIZE, CALL)
}

/// A flat segment of privilege `cpl`, as SYSCALL and SYSENTER load it.
pub(crate) fn flat(selector: u16, cpl: u8, attributes: u16) -> Segment {
    Segment { base: 0, limit: u32::MAX, attributes: attributes | 0x8090 | u16::from(cpl) << 5, selector }
}
pub(crate) fn sysenter(cpu: &mut Cpu, _: &Insn) -> R {
    let cs = cpu.state.sysenter_cs as u16;
    if cpu.lma() && !cpu.intel {
        return Err(Fault::ud());
    }
    if !cpu.protected() || cs & !3 == 0 {
        return Err(Fault::gp(0));
    }
    let long = cpu.lma();
    cpu.state.rflags &= !(flags::VM | flags::IF | flags::RF);
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    cpu.state.gpr[4] = cpu.state.sysenter_esp & mask;
    cpu.state.rip = cpu.state.sysenter_eip & mask;
    cpu.state.seg[1] = flat(cs & !3, 0, if long { 0x200b } else { 0x400b });
    cpu.state.seg[2] = flat((cs & !3).wrapping_add(8), 0, 0x4003);
    cpu.state.cpl = 0;
    cpu.mode_changed();
    Ok(())
}
pub(crate) fn sysexit<const WIDE: bool>(cpu: &mut Cpu, _: &Insn) -> R {
    let cs = cpu.state.sysenter_cs as u16;
    if cpu.lma() && !cpu.intel {
        return Err(Fault::ud());
    }
    if !cpu.protected() || cs & !3 == 0 {
        return Err(Fault::gp(0));
    }
    cpu.need_cpl0()?;
    let (ip, sp) = (cpu.state.gpr[2], cpu.state.gpr[1]);
    if WIDE && !(cpu.canonical(ip) && cpu.canonical(sp)) {
        return Err(Fault::gp(0));
    }
    let mask = if WIDE { u64::MAX } else { 0xffff_ffff };
    let base = cs.wrapping_add(if WIDE { 32 } else { 16 });
    cpu.state.seg[1] = flat(base | 3, 3, if WIDE { 0x200b } else { 0x400b });
    cpu.state.seg[2] = flat(base.wrapping_add(8) | 3, 3, 0x4003);
    cpu.state.gpr[4] = sp & mask;
    cpu.state.rip = ip & mask;
    cpu.state.cpl = 3;
    cpu.mode_changed();
    Ok(())
}
