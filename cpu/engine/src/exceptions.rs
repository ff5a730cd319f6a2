//! Delivery of exceptions and interrupts (SDM vol. 3, chapter 6).

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::system::{Cause, TaskSwitch};
use x86::Segment;
use x86::reg::{cr4, flags, vector};

type R = Result<(), Fault>;

/// What caused a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An exception (fault, trap or abort).
    Exception,
    /// An external interrupt or NMI.
    External,
    /// INT n, INT3, INTO: the gate's DPL counts.
    Software,
    /// INT1: the gate's DPL does not count.
    Privileged,
}

/// Whether an exception counts as contributory for double faults.
fn contributory(v: u8) -> bool {
    matches!(v, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP)
}

/// Whether RF is pushed set, so that an instruction breakpoint does not hit again on the way back (SDM vol. 3,
/// 18.3.1.1). Debug exceptions see to it themselves; INT3 and INTO are traps.
fn sets_rf(v: u8) -> bool {
    !matches!(v, vector::DB | vector::BP | vector::OF | vector::DF | vector::MC)
}

/// A gate of the IDT.
struct Gate {
    selector: u16,
    offset: u64,
    /// Bytes of a pushed item.
    size: u64,
    /// A trap gate leaves IF as it is.
    trap: bool,
}

impl Cpu {
    /// Delivers a fault of an instruction.
    pub(crate) fn exception(&mut self, fault: Fault) {
        self.deliver(fault.vector(), Source::Exception, fault.code());
    }

    /// Delivers vector `v`; further faults on the way become double and triple faults.
    pub(crate) fn deliver(&mut self, v: u8, source: Source, code: Option<u16>) {
        let (mut v, mut code, mut source) = (v, code, source);
        let mut before: Option<u8> = None;
        loop {
            self.log_delivery(v, source, code, before);
            let (sp, rip) = (self.state.gpr[4], self.state.rip);
            match self.enter(v, source, code, rip) {
                Ok(()) => return,
                Err(next) => {
                    if !std::mem::take(&mut self.moved) {
                        self.state.gpr[4] = sp;
                        self.state.rip = rip;
                    }
                    let first = (source == Source::Exception).then_some(v);
                    let n = next.vector();
                    if first == Some(vector::DF) {
                        self.log_triple_fault();
                        self.shutdown = true;
                        return;
                    }
                    let double = first.is_some_and(|first| {
                        contributory(first) && contributory(n)
                            || first == vector::PF && (contributory(n) || n == vector::PF)
                    });
                    before = first;
                    source = Source::Exception;
                    (v, code) = if double { (vector::DF, Some(0)) } else { (n, next.code()) };
                }
            }
        }
    }

    /// Enters the handler of `v`; `rip` is pushed.
    pub(crate) fn enter(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> R {
        self.stop_block();
        self.count_entry();
        self.attention = true;
        self.entered = true;
        self.state.interrupt_shadow = false;
        self.mov_ss = false;
        if self.lma() {
            self.enter_long(v, source, code, rip)
        } else if self.protected() {
            self.enter_protected(v, source, code, rip)
        } else {
            self.enter_real(v, rip)
        }
    }

    fn enter_real(&mut self, v: u8, rip: u64) -> R {
        let at = u64::from(v) * 4;
        if at + 3 > self.state.idtr.limit.into() {
            return Err(Fault::gp(0));
        }
        let gate: u32 = self.read_system(self.state.idtr.base + at)?;
        let sp = self.state.gpr[4];
        let frame = [self.rflags(), self.state.seg[1].selector.into(), rip];
        if let Err(fault) = frame.into_iter().try_for_each(|value| self.push(2, value)) {
            self.state.gpr[4] = sp;
            return Err(fault);
        }
        self.state.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        let selector = (gate >> 16) as u16;
        self.state.seg[1].selector = selector;
        self.state.seg[1].base = u64::from(selector) << 4;
        self.state.rip = u64::from(gate & 0xffff);
        self.update_set();
        Ok(())
    }

    /// The flags that go to the stack.
    fn pushed_flags(&self, v: u8, source: Source) -> u64 {
        let rf = if source == Source::Exception && sets_rf(v) { flags::RF } else { 0 };
        self.rflags() | rf
    }

    fn enter_protected(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> R {
        let external = u16::from(source != Source::Software);
        let bad = u16::from(v) * 8 + 2 + external;
        if u64::from(v) * 8 + 7 > self.state.idtr.limit.into() {
            return Err(Fault::gp(bad));
        }
        let gate: u64 = self.read_system(self.state.idtr.base + u64::from(v) * 8)?;
        let kind = (gate >> 40 & 31) as u8;
        if !matches!(kind, 5 | 6 | 7 | 14 | 15) {
            return Err(Fault::gp(bad));
        }
        if source == Source::Software && self.state.cpl > (gate >> 45 & 3) as u8 {
            return Err(Fault::gp(bad));
        }
        if gate >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        let selector = (gate >> 16) as u16;
        if kind == 5 {
            let cause = Cause::Interrupt { code, external };
            return self.task_gate(TaskSwitch {
                selector,
                cause,
                next: rip,
                flags: self.pushed_flags(v, source),
            });
        }
        let wide = kind & 8 != 0;
        let gate = Gate {
            selector,
            offset: if wide { gate & 0xffff | gate >> 32 & 0xffff_0000 } else { gate & 0xffff },
            size: if wide { 4 } else { 2 },
            trap: kind & 1 != 0,
        };
        self.through_gate(&gate, external, self.pushed_flags(v, source), code, rip)
    }

    fn through_gate(&mut self, gate: &Gate, external: u16, old_flags: u64, code: Option<u16>, rip: u64) -> R {
        let (descriptor, mut cs) = self.code_for_gate(gate.selector, external)?;
        let v86 = self.v86();
        let cpl = self.state.cpl;
        let new_cpl = if descriptor >> 42 & 1 != 0 { cpl } else { cs.dpl() };
        if v86 && new_cpl != 0 {
            return Err(Fault::gp(gate.selector & !3 | external));
        }
        let (old_ss, old_sp, set) = (self.state.seg[2], self.state.gpr[4], self.set);
        let mut frame = Vec::with_capacity(10);
        let mut stack_error = external;
        if new_cpl < cpl {
            let (ss, esp) = self.stack_from_tss(new_cpl, external)?;
            let seg = self.stack_segment(ss, new_cpl, vector::TS, external)?;
            stack_error |= ss & !3;
            if v86 {
                frame.extend([5, 4, 3, 0].map(|n: usize| u64::from(self.state.seg[n].selector)));
            }
            frame.extend([u64::from(old_ss.selector), old_sp]);
            self.state.seg[2] = seg;
            let r = &mut self.state.gpr[4];
            *r = if seg.attributes & Segment::BIG != 0 { esp } else { *r & !0xffff | esp & 0xffff };
            self.set = 1;
        }
        frame.extend([old_flags, self.state.seg[1].selector.into(), rip]);
        frame.extend(code.map(u64::from));
        // The new stack is checked as the new privilege level sees it, which VM = 1 would hide.
        let vm = self.state.rflags & flags::VM;
        self.state.rflags &= !vm;
        let pushed = frame.into_iter().try_for_each(|value| self.push(gate.size, value));
        let pushed = match pushed {
            Ok(()) if gate.offset > cs.limit.into() => Err(Fault::gp(external)),
            Err(fault) if fault.vector() == vector::SS => Err(Fault::new(vector::SS, stack_error)),
            other => other,
        };
        if let Err(fault) = pushed {
            self.state.rflags |= vm;
            self.state.seg[2] = old_ss;
            self.state.gpr[4] = old_sp;
            self.set = set;
            return Err(fault);
        }
        if v86 {
            for n in [5, 4, 3, 0] {
                self.state.seg[n] = Segment::default();
            }
        }
        self.state.rflags &= !(flags::TF | flags::VM | flags::RF | flags::NT);
        if !gate.trap {
            self.state.rflags &= !flags::IF;
        }
        cs.selector = gate.selector & !3 | u16::from(new_cpl);
        self.state.seg[1] = cs;
        self.state.cpl = new_cpl;
        self.state.rip = gate.offset;
        self.mode_changed();
        Ok(())
    }

    /// The code segment of a gate, checked.
    pub(crate) fn code_for_gate(&mut self, selector: u16, external: u16) -> Result<(u64, Segment), Fault> {
        if selector & !3 == 0 {
            return Err(Fault::gp(external));
        }
        let bad = selector & !3 | external;
        let d = self.descriptor(selector, vector::GP, external)?;
        let mut cs = Self::segment_of(selector, d);
        if d >> 43 & 3 != 3 || cs.dpl() > self.state.cpl {
            return Err(Fault::gp(bad));
        }
        if d >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        self.set_accessed(selector, d)?;
        cs.attributes |= Segment::ACCESSED;
        Ok((d, cs))
    }

    /// The stack pointer for `cpl` in the 16- or 32-bit TSS.
    pub(crate) fn stack_from_tss(&mut self, cpl: u8, external: u16) -> Result<(u16, u64), Fault> {
        let tr = self.state.tr;
        let wide = tr.attributes & 8 != 0;
        let (at, size) = if wide { (4 + 8 * u64::from(cpl), 6) } else { (2 + 4 * u64::from(cpl), 4) };
        if at + size - 1 > tr.limit.into() {
            return Err(Fault::new(vector::TS, tr.selector & !3 | external));
        }
        Ok(if wide {
            (self.read_system::<u16>(tr.base + at + 4)?, self.read_system::<u32>(tr.base + at)?.into())
        } else {
            (self.read_system::<u16>(tr.base + at + 2)?, self.read_system::<u16>(tr.base + at)?.into())
        })
    }

    fn enter_long(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> R {
        let external = u16::from(source != Source::Software);
        let bad = u16::from(v) * 8 + 2 + external;
        let at = u64::from(v) * 16;
        if at + 15 > self.state.idtr.limit.into() {
            return Err(Fault::gp(bad));
        }
        let base = self.state.idtr.base.wrapping_add(at);
        let gate: u64 = self.read_system(base)?;
        let high: u64 = self.read_system(base.wrapping_add(8))?;
        let kind = (gate >> 40 & 31) as u8;
        if !matches!(kind, 14 | 15) || source == Source::Software && self.state.cpl > (gate >> 45 & 3) as u8 {
            return Err(Fault::gp(bad));
        }
        if gate >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        let selector = (gate >> 16) as u16;
        let (descriptor, mut cs) = self.code_for_gate(selector, external)?;
        if cs.attributes & (Segment::LONG | Segment::BIG) != Segment::LONG {
            return Err(Fault::gp(selector & !3 | external));
        }
        let target = gate & 0xffff | gate >> 32 & 0xffff_0000 | high << 32;
        let cpl = self.state.cpl;
        let new_cpl = if descriptor >> 42 & 1 != 0 { cpl } else { cs.dpl() };
        let ist = gate >> 32 & 7;
        let old_sp = self.state.gpr[4];
        let old_flags = self.pushed_flags(v, source);
        let (ss, cs_old) = (self.state.seg[2].selector, self.state.seg[1].selector);
        let mut sp = match ist {
            0 if new_cpl == cpl => old_sp,
            0 => self.tss64(4 + 8 * u64::from(new_cpl), external)?,
            n => self.tss64(0x1c + 8 * n, external)?,
        } & !15;
        if !self.canonical(sp) {
            return Err(Fault::new(vector::SS, external));
        }
        if !self.canonical(target) {
            return Err(Fault::gp(external));
        }
        let set = self.set;
        if new_cpl < 3 {
            self.set = if self.state.rflags & flags::AC != 0 && cpl != 3 { 2 } else { 1 };
        }
        let frame = [ss.into(), old_sp, old_flags, cs_old.into(), rip];
        let mut push = |value: u64| -> Result<(), Fault> {
            sp = sp.wrapping_sub(8);
            self.write::<u64>(sp, value)
        };
        let result =
            frame.into_iter().try_for_each(&mut push).and_then(|()| code.map_or(Ok(()), |c| push(c.into())));
        self.set = set;
        if let Err(fault) = result {
            return Err(if fault.is_not_canonical() { Fault::new(vector::SS, external) } else { fault });
        }
        if new_cpl != cpl {
            self.state.seg[2] = Segment {
                selector: new_cpl.into(),
                attributes: Segment::PRESENT | 3 | 16 | u16::from(new_cpl) << 5,
                base: 0,
                limit: u32::MAX,
            };
        }
        self.state.gpr[4] = sp;
        self.state.rflags &= !(flags::TF | flags::VM | flags::RF | flags::NT);
        if kind & 1 == 0 {
            self.state.rflags &= !flags::IF;
        }
        cs.selector = selector & !3 | u16::from(new_cpl);
        self.state.seg[1] = cs;
        self.state.cpl = new_cpl;
        self.state.rip = target;
        self.mode_changed();
        Ok(())
    }

    /// A stack pointer in the 64-bit TSS.
    pub(crate) fn tss64(&mut self, at: u64, external: u16) -> Result<u64, Fault> {
        let tr = self.state.tr;
        if at + 7 > tr.limit.into() {
            return Err(Fault::new(vector::TS, tr.selector & !3 | external));
        }
        self.read_system(tr.base.wrapping_add(at))
    }

    /// INT n in virtual-8086 mode: true when the 8086 handler of the program itself was entered (SDM vol. 3, 21.3.3).
    ///
    /// # Errors
    /// #GP(0) when the interrupt is not allowed; faults of the accesses.
    pub(crate) fn int_in_v86(&mut self, v: u8, rip: u64) -> Result<bool, Fault> {
        let iopl3 = self.state.rflags & flags::IOPL == flags::IOPL;
        if self.state.cr4 & cr4::VME == 0 {
            return if iopl3 { Ok(false) } else { Err(Fault::gp(0)) };
        }
        let tr = self.state.tr;
        if tr.limit < 103 {
            return Err(Fault::gp(0));
        }
        let map: u16 = self.read_system(tr.base + 102)?;
        let at = u64::from(map).wrapping_sub(32).wrapping_add(u64::from(v / 8));
        if at > tr.limit.into() {
            return Err(Fault::gp(0));
        }
        let bits: u8 = self.read_system(tr.base + at)?;
        if bits >> (v % 8) & 1 != 0 {
            return if iopl3 { Ok(false) } else { Err(Fault::gp(0)) };
        }
        let target: u32 = self.read(u64::from(v) * 4)?;
        let mut image = self.rflags();
        if !iopl3 {
            let vif = self.state.rflags & flags::VIF != 0;
            image = image & !flags::IF | flags::IOPL | if vif { flags::IF } else { 0 };
        }
        let sp = self.state.gpr[4];
        let frame = [image, self.state.seg[1].selector.into(), rip];
        if let Err(fault) = frame.into_iter().try_for_each(|value| self.push(2, value)) {
            self.state.gpr[4] = sp;
            return Err(fault);
        }
        self.state.rflags &= !(flags::TF | if iopl3 { flags::IF } else { flags::VIF });
        let selector = (target >> 16) as u16;
        self.state.seg[1].selector = selector;
        self.state.seg[1].base = u64::from(selector) << 4;
        self.state.rip = u64::from(target & 0xffff);
        self.entered = true;
        self.stop_block();
        Ok(true)
    }
}
