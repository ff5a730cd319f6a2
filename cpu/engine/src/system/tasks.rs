//! The hardware task switch (SDM vol. 3, chapter 8).

use crate::cpu::Cpu;
use crate::debug::BT;
use crate::fault::Fault;
use x86::Segment;
use x86::reg::{cr0, cr4, flags, vector};

type R = Result<(), Fault>;

/// Why a task is switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Jump,
    Call,
    Return,
    /// By a task gate of the IDT, with the error code to push.
    Interrupt {
        code: Option<u16>,
        external: u16,
    },
}

/// A task switch to be made.
pub(crate) struct TaskSwitch {
    /// The task state segment, or (for [`Cpu::task_gate`]) what the gate holds.
    pub(crate) selector: u16,
    pub(crate) cause: Cause,
    /// EIP that the old task goes on with.
    pub(crate) next: u64,
    /// EFLAGS that the old task goes on with.
    pub(crate) flags: u64,
}

/// What a TSS holds of a task.
struct Image {
    cr3: u64,
    eip: u64,
    eflags: u64,
    gpr: [u64; 8],
    /// ES, CS, SS, DS, FS, GS.
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

impl Cpu {
    /// Switches to the task that a task gate names.
    pub(crate) fn task_gate(&mut self, switch: TaskSwitch) -> R {
        let external = switch.cause.external();
        if switch.selector & 4 != 0 {
            return Err(Fault::gp(switch.selector & !3 | external));
        }
        self.switch_task(switch)
    }

    /// Switches tasks. Errors before the point of no return leave everything as it was; later ones are raised in the
    /// new task (`moved` is set then).
    pub(crate) fn switch_task(&mut self, switch: TaskSwitch) -> R {
        let TaskSwitch { selector, cause, .. } = switch;
        let external = cause.external();
        let bad = selector & !3 | external;
        let returning = cause == Cause::Return;
        let wrong = if returning { vector::TS } else { vector::GP };
        if selector & 4 != 0 || selector & !3 == 0 {
            return Err(Fault::new(wrong, bad));
        }
        let d = self.descriptor(selector, wrong, external)?;
        let kind = d >> 40 & 31;
        if !matches!((kind, returning), (1 | 9, false) | (3 | 11, true)) {
            return Err(Fault::new(wrong, bad));
        }
        if d >> 47 & 1 == 0 {
            return Err(Fault::new(vector::NP, bad));
        }
        let tss = Self::segment_of(selector, d);
        let wide = kind & 8 != 0;
        if tss.limit < if wide { 0x67 } else { 0x2b } {
            return Err(Fault::new(vector::TS, bad));
        }
        let image = self.read_image(tss.base, wide)?;
        let old = self.state.tr;
        let old_wide = old.attributes & 8 != 0;
        if old.limit < if old_wide { 0x67 } else { 0x2b } {
            return Err(Fault::new(vector::TS, old.selector & !3 | external));
        }
        // Every page that is written is touched first, so that the switch happens whole or not at all.
        for at in [old.base, old.base + if old_wide { 0x5f } else { 0x29 }, tss.base] {
            let linear = at & 0xffff_ffff;
            self.fill(linear, crate::mmu::Access::Write, 1)?;
        }
        let mut old_flags = switch.flags;
        if returning {
            old_flags &= !flags::NT;
        }
        if matches!(cause, Cause::Jump | Cause::Return) {
            self.set_busy(old.selector, false)?;
        }
        self.write_image(old.base, old_wide, switch.next, old_flags)?;
        if matches!(cause, Cause::Call | Cause::Interrupt { .. }) {
            self.write_system::<u16>(tss.base & 0xffff_ffff, old.selector)?;
        }
        if !returning {
            self.set_busy(selector, true)?;
        }
        self.moved = true;
        self.load_task(&image, tss, wide, cause)
    }

    /// The part of the switch that happens in the new task.
    fn load_task(&mut self, image: &Image, tss: Segment, wide: bool, cause: Cause) -> R {
        let external = cause.external();
        self.state.cr0 |= cr0::TS;
        self.state.tr = Segment { attributes: tss.attributes | 2, ..tss };
        if wide && self.state.cr0 & cr0::PG != 0 {
            self.state.cr3 = image.cr3;
            self.tlb.flush(true);
        }
        for n in 0..8 {
            self.state.gpr[n] =
                if wide { image.gpr[n] } else { self.state.gpr[n] & 0xffff_0000 | image.gpr[n] };
        }
        self.state.rip = image.eip;
        let mut new_flags = image.eflags;
        if matches!(cause, Cause::Call | Cause::Interrupt { .. }) {
            new_flags |= flags::NT;
        }
        if !wide {
            new_flags &= 0xffff;
        }
        self.set_rflags(new_flags);
        self.state.dr[7] &= !0x55;
        self.debug_changed();
        self.loaded_rf = true;
        for (s, selector) in self.state.seg.iter_mut().zip(image.selectors) {
            *s = Segment { selector, ..Segment::default() };
        }
        self.state.ldtr = Segment { selector: image.ldt, ..Segment::default() };
        if self.v86() {
            self.state.cpl = 3;
            for s in &mut self.state.seg {
                s.base = u64::from(s.selector) << 4;
                s.limit = 0xffff;
                s.attributes = 0xf3;
            }
            self.mode_changed();
        } else {
            self.state.cpl = (image.selectors[1] & 3) as u8;
            self.mode_changed();
        }
        if self.state.cr0 & cr0::PG != 0 && self.state.cr4 & cr4::PAE != 0 {
            let cr3 = self.state.cr3;
            self.load_pdptrs(cr3).map_err(|_| Fault::new(vector::TS, external))?;
        }
        self.load_task_ldt(image.ldt, external)?;
        if !self.v86() {
            self.load_task_segments(image, external)?;
        }
        if let Cause::Interrupt { code: Some(code), .. } = cause {
            self.push(if wide { 4 } else { 2 }, code.into())?;
        }
        if self.state.rip > self.state.seg[1].limit.into() {
            return Err(Fault::gp(external));
        }
        self.moved = false;
        if image.trap {
            self.debug.hit |= BT;
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, selector: u16, external: u16) -> R {
        if selector & !3 == 0 {
            return Ok(());
        }
        let bad = Fault::new(vector::TS, selector & !3 | external);
        if selector & 4 != 0 {
            return Err(bad);
        }
        let d = self.descriptor(selector, vector::TS, external)?;
        if d >> 40 & 31 != 2 || d >> 47 & 1 == 0 {
            return Err(bad);
        }
        self.state.ldtr = Self::segment_of(selector, d);
        Ok(())
    }

    fn load_task_segments(&mut self, image: &Image, external: u16) -> R {
        let cpl = self.state.cpl;
        let ts = |selector: u16| Fault::new(vector::TS, selector & !3 | external);
        let selector = image.selectors[1];
        if selector & !3 == 0 {
            return Err(ts(selector));
        }
        let d = self.descriptor(selector, vector::TS, external)?;
        let mut cs = Self::segment_of(selector, d);
        let conforming = d >> 42 & 1 != 0;
        if d >> 43 & 3 != 3 || if conforming { cs.dpl() > cpl } else { cs.dpl() != cpl } {
            return Err(ts(selector));
        }
        if !cs.is_present() {
            return Err(Fault::new(vector::NP, selector & !3 | external));
        }
        self.set_accessed(selector, d)?;
        cs.attributes |= Segment::ACCESSED;
        self.state.seg[1] = cs;
        self.mode_changed();
        let ss = self.stack_segment(image.selectors[2], cpl, vector::TS, external)?;
        self.state.seg[2] = ss;
        for n in [3, 0, 4, 5] {
            let selector = image.selectors[n];
            if selector & !3 == 0 {
                continue;
            }
            let d = self.descriptor(selector, vector::TS, external)?;
            let mut s = Self::segment_of(selector, d);
            let code = d >> 43 & 1 != 0;
            let rpl = (selector & 3) as u8;
            if d >> 44 & 1 == 0
                || code && d >> 41 & 1 == 0
                || !(code && d >> 42 & 1 != 0) && (s.dpl() < cpl || s.dpl() < rpl)
            {
                return Err(ts(selector));
            }
            if !s.is_present() {
                return Err(Fault::new(vector::NP, selector & !3 | external));
            }
            self.set_accessed(selector, d)?;
            s.attributes |= Segment::ACCESSED;
            self.state.seg[n] = s;
        }
        Ok(())
    }

    fn set_busy(&mut self, selector: u16, busy: bool) -> R {
        let at = self.state.gdtr.base.wrapping_add(u64::from(selector & !7) + 5) & 0xffff_ffff;
        let old: u8 = self.read_system(at)?;
        self.write_system::<u8>(at, if busy { old | 2 } else { old & !2 })
    }

    fn read_image(&mut self, base: u64, wide: bool) -> Result<Image, Fault> {
        let mut word = |at: u64| self.read_system::<u16>(base.wrapping_add(at) & 0xffff_ffff);
        if !wide {
            let mut gpr = [0; 8];
            for (n, r) in gpr.iter_mut().enumerate() {
                *r = word(0x12 + 2 * n as u64)?.into();
            }
            let mut selectors = [0; 6];
            for (n, s) in selectors.iter_mut().take(4).enumerate() {
                *s = word(0x22 + 2 * n as u64)?;
            }
            return Ok(Image {
                cr3: 0,
                eip: word(0x0e)?.into(),
                eflags: word(0x10)?.into(),
                gpr,
                selectors,
                ldt: word(0x2a)?,
                trap: false,
            });
        }
        let mut selectors = [0; 6];
        for (n, s) in selectors.iter_mut().enumerate() {
            *s = word(0x48 + 4 * n as u64)?;
        }
        let (ldt, trap) = (word(0x60)?, word(0x64)? & 1 != 0);
        let mut long = |at: u64| self.read_system::<u32>(base.wrapping_add(at) & 0xffff_ffff).map(u64::from);
        let mut gpr = [0; 8];
        for (n, r) in gpr.iter_mut().enumerate() {
            *r = long(0x28 + 4 * n as u64)?;
        }
        Ok(Image { cr3: long(0x1c)?, eip: long(0x20)?, eflags: long(0x24)?, gpr, selectors, ldt, trap })
    }

    fn write_image(&mut self, base: u64, wide: bool, eip: u64, eflags: u64) -> R {
        let gpr = self.state.gpr;
        let selectors = self.state.seg.map(|s| s.selector);
        let at = |offset: u64| base.wrapping_add(offset) & 0xffff_ffff;
        if wide {
            self.write_system::<u32>(at(0x20), eip as u32)?;
            self.write_system::<u32>(at(0x24), eflags as u32)?;
            for n in 0..8u64 {
                self.write_system::<u32>(at(0x28 + 4 * n), gpr[n as usize] as u32)?;
            }
            for (n, s) in (0u64..).zip(selectors) {
                self.write_system::<u16>(at(0x48 + 4 * n), s)?;
            }
        } else {
            self.write_system::<u16>(at(0x0e), eip as u16)?;
            self.write_system::<u16>(at(0x10), eflags as u16)?;
            for n in 0..8u64 {
                self.write_system::<u16>(at(0x12 + 2 * n), gpr[n as usize] as u16)?;
            }
            for (n, s) in (0u64..4).zip(selectors) {
                self.write_system::<u16>(at(0x22 + 2 * n), s)?;
            }
        }
        Ok(())
    }

    /// IRET with NT set: back to the task that the present one was called from.
    pub(crate) fn return_from_task(&mut self) -> R {
        let selector: u16 = self.read_system(self.state.tr.base)?;
        let (next, flags) = (self.state.rip, self.rflags());
        self.switch_task(TaskSwitch { selector, cause: Cause::Return, next, flags })?;
        self.state.nmi_blocked = false;
        Ok(())
    }
}

impl Cause {
    fn external(self) -> u16 {
        match self {
            Self::Interrupt { external, .. } => external,
            _ => 0,
        }
    }
}
