//! Delivery of exceptions and interrupts (SDM vol. 3, chapter 6).

use crate::cpu::Cpu;
use crate::fault::Fault;
use x86::Segment;
use x86::reg::{flags, vector};

/// What caused a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An external interrupt, NMI or exception.
    Hardware,
    /// INT n, INT3, INTO: the gate's DPL counts.
    Software,
}

/// Whether an exception counts as contributory for double faults.
fn contributory(v: u8) -> bool {
    matches!(v, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP)
}

impl Cpu {
    /// Delivers a fault of an instruction.
    pub(crate) fn exception(&mut self, fault: Fault) {
        self.deliver(fault.vector(), Source::Hardware, fault.code());
    }

    /// Delivers vector `v`; further faults on the way become double and triple faults.
    pub(crate) fn deliver(&mut self, v: u8, source: Source, code: Option<u16>) {
        let (mut v, mut code) = (v, code);
        // Faults are restarted with RF set, so that an instruction breakpoint does not hit twice.
        loop {
            report::log_item!(
                Int,
                "v={v:02x} e={:04x} cpl={} IP={:04x}:{:016x} SP={:04x}:{:016x} CR2={:016x}\n",
                code.unwrap_or(0),
                self.state.cpl,
                self.state.seg[1].selector,
                self.state.rip,
                self.state.seg[2].selector,
                self.state.gpr[4],
                self.state.cr2
            );
            let gpr = self.state.gpr;
            let rip = self.state.rip;
            match self.enter(v, source, code, rip) {
                Ok(()) => return,
                Err(next) => {
                    self.state.gpr = gpr;
                    self.state.rip = rip;
                    let n = next.vector();
                    if v == vector::DF {
                        report::log_item!(CpuReset, "Triple fault\n");
                        self.shutdown = true;
                        return;
                    }
                    let double = contributory(v) && contributory(n)
                        || v == vector::PF && (contributory(n) || n == vector::PF);
                    (v, code) = if double { (vector::DF, Some(0)) } else { (n, next.code()) };
                }
            }
        }
    }

    /// Enters the handler of `v`; `rip` is pushed.
    pub(crate) fn enter(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> Result<(), Fault> {
        self.stop_block();
        self.attention = true;
        if self.lma() {
            self.enter_long(v, source, code, rip)
        } else if self.protected() {
            self.enter_protected(v, source, code, rip)
        } else {
            self.enter_real(v, rip)
        }
    }

    fn enter_real(&mut self, v: u8, rip: u64) -> Result<(), Fault> {
        let at = u64::from(v) * 4;
        if at + 3 > self.state.idtr.limit.into() {
            return Err(Fault::gp(0));
        }
        let gate: u32 = self.read_system(self.state.idtr.base + at)?;
        let f = self.rflags();
        self.push(2, f)?;
        self.push(2, self.state.seg[1].selector.into())?;
        self.push(2, rip)?;
        self.state.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        let selector = (gate >> 16) as u16;
        self.state.seg[1].selector = selector;
        self.state.seg[1].base = u64::from(selector) << 4;
        self.state.rip = u64::from(gate & 0xffff);
        Ok(())
    }

    fn enter_protected(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> Result<(), Fault> {
        let external = u16::from(source == Source::Hardware);
        let bad = u16::from(v) * 8 + 2 + external;
        if u64::from(v) * 8 + 7 > self.state.idtr.limit.into() {
            return Err(Fault::gp(bad));
        }
        let gate: u64 = self.read_system(self.state.idtr.base + u64::from(v) * 8)?;
        let kind = (gate >> 40 & 15) as u8;
        if !matches!(kind, 6 | 7 | 14 | 15) || gate >> 44 & 1 != 0 {
            return Err(Fault::gp(bad));
        }
        if source == Source::Software && self.state.cpl > (gate >> 45 & 3) as u8 {
            return Err(Fault::gp(bad));
        }
        if gate >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        let selector = (gate >> 16) as u16;
        let (descriptor, mut cs) = self.code_for_gate(selector, external)?;
        let offset = if kind & 8 != 0 { gate & 0xffff | gate >> 32 & 0xffff_0000 } else { gate & 0xffff };
        let size = if kind & 8 != 0 { 4 } else { 2 };
        let old_flags = self.rflags();
        let v86 = self.v86();
        let cpl = self.state.cpl;
        let new_cpl = if descriptor >> 42 & 1 != 0 { cpl } else { cs.dpl() };
        if v86 && new_cpl != 0 {
            return Err(Fault::gp(selector & !3 | external));
        }
        let old = self.state.clone();
        let result = (|| {
            if new_cpl < cpl {
                let (ss, esp) = self.stack_from_tss(new_cpl)?;
                let seg = self.stack_segment(ss, new_cpl, vector::TS, external)?;
                self.state.cpl = new_cpl;
                self.state.rflags &= !flags::VM;
                self.update_set();
                self.state.seg[2] = seg;
                let r = &mut self.state.gpr[4];
                *r = if seg.attributes & Segment::BIG != 0 { esp } else { *r & !0xffff | esp & 0xffff };
                if v86 {
                    for n in [5, 4, 3, 0] {
                        self.push(size, old.seg[n].selector.into())?;
                        self.state.seg[n] = Segment::default();
                    }
                }
                self.push(size, old.seg[2].selector.into())?;
                self.push(size, old.gpr[4])?;
            }
            self.push(size, old_flags)?;
            self.push(size, old.seg[1].selector.into())?;
            self.push(size, rip)?;
            if let Some(code) = code {
                self.push(size, code.into())?;
            }
            if offset > cs.limit.into() {
                return Err(Fault::gp(external));
            }
            Ok(())
        })();
        if let Err(fault) = result {
            let cr2 = self.state.cr2;
            self.state = old;
            self.state.cr2 = cr2;
            self.update_set();
            return Err(fault);
        }
        self.state.rflags &= !(flags::TF | flags::VM | flags::RF | flags::NT);
        if kind & 1 == 0 {
            self.state.rflags &= !flags::IF;
        }
        cs.selector = selector & !3 | u16::from(new_cpl);
        self.state.seg[1] = cs;
        self.state.cpl = new_cpl;
        self.state.rip = offset;
        self.mode_changed();
        Ok(())
    }

    /// The code segment of a gate, checked.
    fn code_for_gate(&mut self, selector: u16, external: u16) -> Result<(u64, Segment), Fault> {
        if selector & !3 == 0 {
            return Err(Fault::gp(external));
        }
        let bad = selector & !3 | external;
        let d = self.descriptor(selector, vector::GP, external)?;
        let cs = Self::segment_of(selector, d);
        if d >> 43 & 3 != 3 || cs.dpl() > self.state.cpl {
            return Err(Fault::gp(bad));
        }
        if d >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        Ok((d, cs))
    }

    /// The stack pointer for `cpl` in the 16- or 32-bit TSS.
    pub(crate) fn stack_from_tss(&mut self, cpl: u8) -> Result<(u16, u64), Fault> {
        let tr = self.state.tr;
        let wide = tr.attributes & 8 != 0;
        let (at, size) = if wide { (4 + 8 * u64::from(cpl), 8) } else { (2 + 4 * u64::from(cpl), 4) };
        if at + size - 1 > tr.limit.into() {
            return Err(Fault::new(vector::TS, tr.selector & !3));
        }
        Ok(if wide {
            (self.read_system::<u16>(tr.base + at + 4)?, self.read_system::<u32>(tr.base + at)?.into())
        } else {
            (self.read_system::<u16>(tr.base + at + 2)?, self.read_system::<u16>(tr.base + at)?.into())
        })
    }

    fn enter_long(&mut self, v: u8, source: Source, code: Option<u16>, rip: u64) -> Result<(), Fault> {
        let external = u16::from(source == Source::Hardware);
        let bad = u16::from(v) * 8 + 2 + external;
        let at = u64::from(v) * 16;
        if at + 15 > self.state.idtr.limit.into() {
            return Err(Fault::gp(bad));
        }
        let base = self.state.idtr.base.wrapping_add(at);
        let gate: u64 = self.read_system(base)?;
        let high: u64 = self.read_system(base + 8)?;
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
        let (ss, old_flags, cs_old) = (self.state.seg[2].selector, self.rflags(), self.state.seg[1].selector);
        let mut sp = match ist {
            0 if new_cpl == cpl => old_sp,
            0 => self.tss64(4 + 8 * u64::from(new_cpl))?,
            n => self.tss64(0x1c + 8 * n)?,
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
        result?;
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

    fn tss64(&mut self, at: u64) -> Result<u64, Fault> {
        let tr = self.state.tr;
        if at + 7 > tr.limit.into() {
            return Err(Fault::new(vector::TS, tr.selector & !3));
        }
        self.read_system(tr.base.wrapping_add(at))
    }
}
