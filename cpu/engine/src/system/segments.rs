//! Segment loads, far transfers, IRET, SYSCALL and relatives.

use super::gates::flat;
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::{efer, flags, vector};
use x86::{Segment, TableRegister};

type R = Result<(), Fault>;

impl Cpu {
    /// Reads the 8-byte descriptor of `selector`.
    pub(crate) fn descriptor(&mut self, selector: u16, v: u8, external: u16) -> Result<u64, Fault> {
        let (base, limit) = if selector & 4 != 0 {
            let l = self.state.ldtr;
            if !l.is_present() {
                return Err(Fault::new(v, selector & !3 | external));
            }
            (l.base, u64::from(l.limit))
        } else {
            (self.state.gdtr.base, self.state.gdtr.limit.into())
        };
        let at = u64::from(selector & !7);
        if at + 7 > limit {
            return Err(Fault::new(v, selector & !3 | external));
        }
        self.read_system(base.wrapping_add(at))
    }

    /// The segment register contents of a descriptor.
    pub(crate) fn segment_of(selector: u16, d: u64) -> Segment {
        let raw = (d & 0xffff | d >> 32 & 0xf_0000) as u32;
        let attributes = (d >> 40) as u16 & 0xf0ff;
        let limit = if attributes & Segment::GRANULARITY != 0 { raw << 12 | 0xfff } else { raw };
        Segment { base: d >> 16 & 0xff_ffff | d >> 32 & 0xff00_0000, limit, attributes, selector }
    }

    pub(crate) fn set_accessed(&mut self, selector: u16, d: u64) -> R {
        if d >> 40 & 1 != 0 {
            return Ok(());
        }
        let base = if selector & 4 != 0 { self.state.ldtr.base } else { self.state.gdtr.base };
        self.write_system::<u8>(base.wrapping_add(u64::from(selector & !7) + 5), (d >> 40) as u8 | 1)
    }

    /// A writable data segment for the stack of `cpl`; faults are `v`.
    pub(crate) fn stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        v: u8,
        external: u16,
    ) -> Result<Segment, Fault> {
        let bad = selector & !3 | external;
        if selector & !3 == 0 {
            return Err(Fault::new(v, external));
        }
        let d = self.descriptor(selector, v, external)?;
        let mut s = Self::segment_of(selector, d);
        if s.dpl() != cpl || (selector & 3) as u8 != cpl {
            return Err(Fault::new(v, bad));
        }
        if d >> 43 & 3 != 2 || d >> 41 & 1 == 0 {
            return Err(Fault::new(v, bad));
        }
        if !s.is_present() {
            return Err(Fault::new(vector::SS, bad));
        }
        self.set_accessed(selector, d)?;
        s.attributes |= 1;
        Ok(s)
    }

    /// MOV or POP to segment register `n`.
    pub(crate) fn load_segment(&mut self, n: usize, selector: u16) -> R {
        if !self.protected() || self.v86() {
            let v86 = self.v86();
            let s = &mut self.state.seg[n];
            s.selector = selector;
            s.base = u64::from(selector) << 4;
            if v86 {
                s.limit = 0xffff;
                s.attributes = 0xf3;
            }
            self.stop_block();
            return Ok(());
        }
        let cpl = self.state.cpl;
        if selector & !3 == 0 {
            if n == 2 && (!self.long || cpl == 3 || (selector & 3) as u8 != cpl) {
                return Err(Fault::gp(0));
            }
            let attributes = if n == 2 { Segment::PRESENT | 0x13 | u16::from(cpl) << 5 } else { 0 };
            // The base stays readable in 64-bit mode as 0.
            self.state.seg[n] = Segment { selector, attributes, base: 0, limit: 0 };
            return Ok(());
        }
        if n == 2 {
            let s = self.stack_segment(selector, cpl, vector::GP, 0)?;
            self.state.seg[2] = s;
            return Ok(());
        }
        let d = self.descriptor(selector, vector::GP, 0)?;
        let mut s = Self::segment_of(selector, d);
        let bad = selector & !3;
        let code = d >> 43 & 1 != 0;
        let conforming = code && d >> 42 & 1 != 0;
        if d >> 44 & 1 == 0
            || code && d >> 41 & 1 == 0
            || !conforming && (s.dpl() < cpl || s.dpl() < (selector & 3) as u8)
        {
            return Err(Fault::gp(bad));
        }
        if !s.is_present() {
            return Err(Fault::new(vector::NP, bad));
        }
        self.set_accessed(selector, d)?;
        s.attributes |= 1;
        self.state.seg[n] = s;
        Ok(())
    }

    /// A code segment for a far transfer to `selector` that ends at `cpl`.
    pub(crate) fn code_segment(&mut self, selector: u16, cpl: u8, returning: bool) -> Result<Segment, Fault> {
        if selector & !3 == 0 {
            return Err(Fault::gp(0));
        }
        let bad = selector & !3;
        let d = self.descriptor(selector, vector::GP, 0)?;
        let mut s = Self::segment_of(selector, d);
        let conforming = d >> 42 & 1 != 0;
        let rpl = (selector & 3) as u8;
        let ok = match (conforming, returning) {
            (true, _) => s.dpl() <= cpl,
            (false, true) => s.dpl() == cpl,
            (false, false) => s.dpl() == cpl && rpl <= cpl,
        };
        if d >> 43 & 3 != 3 || !ok {
            return Err(Fault::gp(bad));
        }
        const BOTH: u16 = Segment::LONG | Segment::BIG;
        if self.lma() && s.attributes & BOTH == BOTH {
            return Err(Fault::gp(bad));
        }
        if !s.is_present() {
            return Err(Fault::new(vector::NP, bad));
        }
        self.set_accessed(selector, d)?;
        s.attributes |= 1;
        s.selector = selector & !3 | u16::from(cpl);
        Ok(s)
    }

    pub(crate) fn check_target(&self, s: &Segment, to: u64) -> R {
        let ok = if self.lma() && s.attributes & Segment::LONG != 0 {
            self.canonical(to)
        } else {
            to <= s.limit.into()
        };
        if ok { Ok(()) } else { Err(Fault::gp(0)) }
    }

    /// The second half of a 16-byte descriptor.
    pub(crate) fn descriptor_high(&mut self, selector: u16, v: u8) -> Result<u64, Fault> {
        let (base, limit) = if selector & 4 != 0 {
            (self.state.ldtr.base, u64::from(self.state.ldtr.limit))
        } else {
            (self.state.gdtr.base, self.state.gdtr.limit.into())
        };
        let at = u64::from(selector & !7) + 8;
        if at + 7 > limit {
            return Err(Fault::new(v, selector & !3));
        }
        self.read_system(base.wrapping_add(at))
    }

    /// Drops data segments that the new, lower privilege may not hold.
    fn drop_segments(&mut self) {
        for n in [0, 3, 4, 5] {
            let s = &mut self.state.seg[n];
            let conforming = s.attributes & 0xc == 0xc;
            if s.is_present() && !conforming && s.dpl() < self.state.cpl {
                *s = Segment { base: if n >= 4 && s.base != 0 { s.base } else { 0 }, ..Segment::default() };
            }
        }
    }

    /// The common end of RETF and IRET in protected and long mode: frame at the stack pointer.
    fn far_return(&mut self, size: u64, iret: bool, release: u64) -> R {
        let to = self.peek(size, 0)?;
        let selector = self.peek(size, size)? as u16;
        let new_flags = if iret { Some(self.peek(size, 2 * size)?) } else { None };
        let cpl = self.state.cpl;
        if let Some(f) = new_flags
            && f & flags::VM != 0
            && cpl == 0
            && !self.lma()
            && size == 4
        {
            return self.return_to_v86(to, selector, f);
        }
        let rpl = (selector & 3) as u8;
        if rpl < cpl {
            return Err(Fault::gp(selector & !3));
        }
        let cs = self.code_segment(selector, rpl, true)?;
        self.check_target(&cs, to)?;
        let used = size * if iret { 3 } else { 2 } + release;
        let mut sp = self.state.gpr[4].wrapping_add(used);
        let mut ss = None;
        if rpl != cpl || iret && self.long {
            sp = self.peek(size, used)?;
            let sel = self.peek(size, used + size)? as u16;
            let null =
                sel & !3 == 0 && cs.attributes & Segment::LONG != 0 && rpl != 3 && (sel & 3) as u8 == rpl;
            ss = Some(if null {
                Segment {
                    selector: sel,
                    attributes: Segment::PRESENT | 0x13 | u16::from(rpl) << 5,
                    base: 0,
                    limit: u32::MAX,
                }
            } else {
                self.stack_segment(sel, rpl, vector::GP, 0)?
            });
            if rpl != cpl {
                sp = sp.wrapping_add(release);
            }
        }
        if let Some(f) = new_flags {
            let mut mask = flags::ARITH | flags::TF | flags::DF | flags::NT;
            if size > 2 {
                mask |= flags::RF | flags::AC | flags::ID;
            }
            if u64::from(cpl) <= self.state.rflags >> 12 & 3 {
                mask |= flags::IF;
            }
            if cpl == 0 {
                mask |= flags::IOPL | if size > 2 { flags::VIF | flags::VIP } else { 0 };
            }
            let new = self.rflags() & !mask | f & mask;
            self.set_rflags(new);
            self.loaded_rf = true;
            self.state.nmi_blocked = false;
        }
        self.state.seg[1] = cs;
        self.state.cpl = rpl;
        if let Some(ss) = ss {
            self.state.seg[2] = ss;
        }
        self.state.rip = to;
        self.mode_changed();
        self.set_sp(sp);
        if rpl != cpl {
            self.drop_segments();
        }
        Ok(())
    }

    fn return_to_v86(&mut self, to: u64, selector: u16, f: u64) -> R {
        let mut frame = [0; 6];
        for (n, v) in frame.iter_mut().enumerate() {
            *v = self.peek(4, 12 + 4 * n as u64)?;
        }
        self.set_rflags(f);
        self.loaded_rf = true;
        self.state.cpl = 3;
        let load = |s: &mut Segment, selector: u64| {
            *s = Segment {
                base: selector << 4 & 0xf_fff0,
                limit: 0xffff,
                attributes: 0xf3,
                selector: selector as u16,
            };
        };
        load(&mut self.state.seg[1], selector.into());
        for (n, at) in [(2, 1), (0, 2), (3, 3), (4, 4), (5, 5)] {
            load(&mut self.state.seg[n], frame[at] & 0xffff);
        }
        self.state.gpr[4] = frame[0];
        self.state.rip = to & 0xffff;
        self.state.nmi_blocked = false;
        self.mode_changed();
        Ok(())
    }
}

pub(crate) fn iret<const SIZE: u64>(cpu: &mut Cpu, _: &Insn) -> R {
    if !cpu.protected() || cpu.v86() {
        return super::interrupts::iret_real::<SIZE>(cpu);
    }
    if cpu.state.rflags & flags::NT != 0 {
        // There are no nested tasks in long mode.
        return if cpu.lma() { Err(Fault::gp(0)) } else { cpu.return_from_task() };
    }
    cpu.far_return(SIZE, true, 0)
}

impl Cpu {
    pub(crate) fn load_real_cs(&mut self, selector: u16, to: u64) {
        let s = &mut self.state.seg[1];
        s.selector = selector;
        s.base = u64::from(selector) << 4;
        self.state.rip = to;
    }
}

pub(crate) fn retf<const SIZE: u64>(cpu: &mut Cpu, i: &Insn) -> R {
    if cpu.protected() && !cpu.v86() {
        return cpu.far_return(SIZE, false, i.imm & 0xffff);
    }
    let (to, selector) = (cpu.peek(SIZE, 0)?, cpu.peek(SIZE, SIZE)? as u16);
    let sp = cpu.state.gpr[4].wrapping_add(2 * SIZE + (i.imm & 0xffff));
    cpu.set_sp(sp);
    cpu.load_real_cs(selector, to);
    cpu.stop_block();
    Ok(())
}
impl Cpu {
    /// MOV SS and POP SS hold off interrupts and debug exceptions until after the next instruction.
    fn hold_interrupts(&mut self) {
        self.state.interrupt_shadow = true;
        self.mov_ss = true;
        self.stop_block();
    }
}

pub(crate) fn mov_to_seg(cpu: &mut Cpu, i: &Insn) -> R {
    let v = if i.is_mem() { cpu.load_int::<u16>(i)? } else { cpu.r16(i.regs[1]) };
    let n = usize::from(i.regs[0]);
    if n == 1 || n > 5 {
        return Err(Fault::ud());
    }
    cpu.load_segment(n, v)?;
    if n == 2 {
        cpu.hold_interrupts();
    }
    Ok(())
}
pub(crate) fn mov_from_seg(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.state.seg[usize::from(i.regs[1]) % 6].selector;
    if i.is_mem() {
        return cpu.store_int(i, v);
    }
    match i.op_size {
        2 => cpu.set_r16(i.regs[0], v),
        _ => cpu.set_r64(i.regs[0], v.into()),
    }
    Ok(())
}
pub(crate) fn push_seg(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.state.seg[usize::from(i.regs[0]) % 6].selector;
    cpu.push(i.op_size.into(), v.into())
}
pub(crate) fn pop_seg(cpu: &mut Cpu, i: &Insn) -> R {
    let size = u64::from(i.op_size);
    let v = cpu.peek(size, 0)? as u16;
    let sp = cpu.state.gpr[4].wrapping_add(size);
    cpu.load_segment(i.regs[0].into(), v)?;
    cpu.set_sp(sp);
    if i.regs[0] == 2 {
        cpu.hold_interrupts();
    }
    Ok(())
}
/// LGDT (2), LIDT (3).
pub(crate) fn load_table<const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let wide = if cpu.long { 8 } else { 4 };
    let at = cpu.ea(i, wide + 2, false)?;
    let limit = cpu.read::<u16>(at)?;
    let base = if cpu.long {
        cpu.read::<u64>(at.wrapping_add(2))?
    } else {
        cpu.read::<u32>(at.wrapping_add(2))?.into()
    };
    if cpu.long && !cpu.canonical(base) {
        return Err(Fault::gp(0));
    }
    let short = matches!(i.code(), iced_x86::Code::Lgdt_m1632_16 | iced_x86::Code::Lidt_m1632_16);
    let t = TableRegister { base: if short { base & 0xff_ffff } else { base }, limit };
    *if KIND == 2 { &mut cpu.state.gdtr } else { &mut cpu.state.idtr } = t;
    Ok(())
}
/// SGDT (0), SIDT (1).
pub(crate) fn store_table<const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.check_umip()?;
    let t = if KIND == 0 { cpu.state.gdtr } else { cpu.state.idtr };
    let mut buf = [0; 10];
    buf[..2].copy_from_slice(&t.limit.to_le_bytes());
    buf[2..].copy_from_slice(&t.base.to_le_bytes());
    let len = if cpu.long { 10 } else { 6 };
    // A word and the address behind it, each aligned by itself (SDM vol. 3, 3.5.1).
    cpu.check_store_part(i, 0, len as u64)?;
    cpu.store_part(i, 2, &buf[2..len])?;
    cpu.store_part(i, 0, &buf[..2])
}
/// LLDT (2), LTR (3).
pub(crate) fn load_system<const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    if !cpu.protected() || cpu.v86() {
        return Err(Fault::ud());
    }
    cpu.need_cpl0()?;
    let selector = if i.is_mem() { cpu.load_int::<u16>(i)? } else { cpu.r16(i.regs[0]) };
    if selector & !3 == 0 {
        if KIND == 3 {
            return Err(Fault::gp(0));
        }
        cpu.state.ldtr = Segment { selector, ..Segment::default() };
        return Ok(());
    }
    let bad = selector & !3;
    if selector & 4 != 0 {
        return Err(Fault::gp(bad));
    }
    let d = cpu.descriptor(selector, vector::GP, 0)?;
    let kind = d >> 40 & 31;
    if !(KIND == 2 && kind == 2 || KIND == 3 && (kind == 9 || kind == 1 && !cpu.lma())) {
        return Err(Fault::gp(bad));
    }
    let mut s = Cpu::segment_of(selector, d);
    if !s.is_present() {
        return Err(Fault::new(vector::NP, bad));
    }
    if cpu.lma() {
        let high = cpu.descriptor_high(selector, vector::GP)?;
        s.base |= high << 32;
        if high >> 40 & 31 != 0 || !cpu.canonical(s.base) {
            return Err(Fault::gp(bad));
        }
    }
    if KIND == 3 {
        let at = cpu.state.gdtr.base.wrapping_add(u64::from(bad) + 5);
        cpu.write_system::<u8>(at, (d >> 40) as u8 | 2)?;
        s.attributes |= 2;
        cpu.state.tr = s;
    } else {
        cpu.state.ldtr = s;
    }
    Ok(())
}
/// SLDT (0), STR (1).
pub(crate) fn store_system<const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    if !cpu.protected() || cpu.v86() {
        return Err(Fault::ud());
    }
    cpu.check_umip()?;
    let v = if KIND == 0 { cpu.state.ldtr.selector } else { cpu.state.tr.selector };
    if i.is_mem() {
        return cpu.store_int(i, v);
    }
    if i.op_size == 2 {
        cpu.set_r16(i.regs[0], v)
    } else {
        cpu.set_r64(i.regs[0], v.into())
    }
    Ok(())
}
pub(crate) fn syscall(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.efer & efer::SCE == 0 || !cpu.protected() || cpu.intel && !cpu.long {
        return Err(Fault::ud());
    }
    let f = cpu.rflags();
    let cs = (cpu.state.star >> 32) as u16 & !3;
    if cpu.lma() {
        cpu.state.gpr[1] = cpu.state.rip;
        cpu.state.gpr[11] = f & !flags::RF;
        cpu.state.rip = if cpu.long { cpu.state.lstar } else { cpu.state.cstar };
        cpu.set_rflags(f & !cpu.state.fmask & !(flags::RF | flags::VM));
        cpu.state.seg[1] = flat(cs, 0, 0x200b);
    } else {
        cpu.state.gpr[1] = cpu.state.rip & 0xffff_ffff;
        cpu.state.rip = cpu.state.star & 0xffff_ffff;
        cpu.set_rflags(f & !(flags::IF | flags::RF | flags::VM));
        cpu.state.seg[1] = flat(cs, 0, 0x400b);
    }
    cpu.state.cpl = 0;
    cpu.state.seg[2] = flat(cs.wrapping_add(8), 0, 0x4003);
    cpu.recheck_tf = true;
    cpu.mode_changed();
    Ok(())
}
pub(crate) fn sysret<const WIDE: bool>(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.efer & efer::SCE == 0 || !cpu.protected() || cpu.intel && !cpu.long {
        return Err(Fault::ud());
    }
    cpu.need_cpl0()?;
    let to = cpu.state.gpr[1];
    // AMD's processors find it out when they fetch the next instruction (APM vol. 3, SYSRET).
    if WIDE && cpu.intel && !cpu.canonical(to) {
        return Err(Fault::gp(0));
    }
    let base = (cpu.state.star >> 48) as u16;
    cpu.state.rip = if WIDE { to } else { to & 0xffff_ffff };
    cpu.state.cpl = 3;
    let f = if cpu.lma() {
        cpu.state.gpr[11] & !(flags::RF | flags::VM) & 0x3f_7fd7
    } else {
        cpu.rflags() | flags::IF
    };
    cpu.set_rflags(f);
    let cs = base.wrapping_add(if WIDE { 16 } else { 0 }) | 3;
    cpu.state.seg[1] = flat(cs, 3, if WIDE { 0x200b } else { 0x400b });
    cpu.state.seg[2] = flat(base.wrapping_add(8) | 3, 3, 0x4003);
    cpu.recheck_tf = true;
    if f & flags::TF != 0 {
        // The trap comes before the first instruction of the program.
        cpu.debug.hit |= crate::debug::BS;
    }
    cpu.mode_changed();
    Ok(())
}
pub(crate) fn swapgs(cpu: &mut Cpu, _: &Insn) -> R {
    if !cpu.long {
        return Err(Fault::ud());
    }
    cpu.need_cpl0()?;
    std::mem::swap(&mut cpu.state.seg[5].base, &mut cpu.state.kernel_gs_base);
    Ok(())
}
