//! Control registers, MSRs, CPUID, I/O and the rest of the privileged instructions.

use crate::cpu::Cpu;
use crate::debug;
use crate::fault::Fault;
use crate::insn::Insn;
use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::Instant;
use x86::Activity;
use x86::reg::{cr0, cr4, efer, flags, seg, vector};

type R = Result<(), Fault>;

/// The host's time-stamp counter, and the time, when the first processor was made.
static START: OnceLock<(u64, Instant)> = OnceLock::new();

/// Begins to measure how fast the time-stamp counter runs.
pub(crate) fn start_tsc() {
    // SAFETY: RDTSC exists on every x86-64 host and changes nothing.
    START.get_or_init(|| (unsafe { _rdtsc() }, Instant::now()));
}

/// Ticks of the time-stamp counter in a second, the more exact the longer the process has run.
pub(crate) fn tsc_hz() -> u64 {
    let Some((tsc, time)) = START.get() else { return 1_000_000_000 };
    // SAFETY: as in `start_tsc`.
    let ticks = u128::from(unsafe { _rdtsc() }.wrapping_sub(*tsc));
    let nanos = time.elapsed().as_nanos().max(1);
    u64::try_from(ticks * 1_000_000_000 / nanos).unwrap_or(u64::MAX).max(1)
}

/// CR3: keep the translations of the new process context.
const NO_FLUSH: u64 = 1 << 63;

impl Cpu {
    pub(crate) fn check_umip(&self) -> R {
        if self.state.cr4 & cr4::UMIP != 0 && self.state.cpl != 0 { Err(Fault::gp(0)) } else { Ok(()) }
    }

    /// Whether the I/O permission allows `size` bytes at `port`.
    pub(crate) fn check_port(&mut self, port: u16, size: u64) -> R {
        let iopl = (self.state.rflags >> 12 & 3) as u8;
        if !self.protected() || self.state.cpl <= iopl && !self.v86() {
            return Ok(());
        }
        let tr = self.state.tr;
        if tr.attributes & 9 != 9 || tr.limit < 103 {
            return Err(Fault::gp(0));
        }
        let map: u16 = self.read_system(tr.base + 102)?;
        let at = u64::from(map) + u64::from(port / 8);
        if at + 1 > tr.limit.into() {
            return Err(Fault::gp(0));
        }
        let bits: u16 = self.read_system(tr.base + at)?;
        let mask = ((1u16 << size) - 1) << (port % 8);
        if bits & mask != 0 { Err(Fault::gp(0)) } else { Ok(()) }
    }

    fn write_cr(&mut self, n: u8, v: u64) -> R {
        match n {
            0 => self.write_cr0(v),
            2 => {
                self.state.cr2 = v;
                Ok(())
            }
            3 => self.write_cr3(v),
            4 => self.write_cr4(v),
            8 if self.lma() || self.long => {
                if v >> 4 != 0 {
                    return Err(Fault::gp(0));
                }
                self.io.set_tpr(v as u8);
                self.stop_block();
                self.attention = true;
                Ok(())
            }
            _ => Err(Fault::ud()),
        }
    }

    pub(crate) fn write_cr0(&mut self, v: u64) -> R {
        let s = &self.state;
        if v >> 32 != 0 {
            return Err(Fault::gp(0));
        }
        let v = v & 0xe005_003f | cr0::ET;
        if v & cr0::PG != 0 && v & cr0::PE == 0 || v & cr0::NW != 0 && v & cr0::CD == 0 {
            return Err(Fault::gp(0));
        }
        let on = v & cr0::PG != 0 && s.cr0 & cr0::PG == 0;
        let off = v & cr0::PG == 0 && s.cr0 & cr0::PG != 0;
        if on && s.efer & efer::LME != 0 {
            if s.cr4 & cr4::PAE == 0 || s.seg[seg::CS].attributes & x86::Segment::LONG != 0 {
                return Err(Fault::gp(0));
            }
            self.state.efer |= efer::LMA;
        } else if on && s.cr4 & cr4::PAE != 0 {
            let cr3 = s.cr3;
            self.load_pdptrs(cr3)?;
        }
        if off {
            if self.long || self.state.cr4 & cr4::PCIDE != 0 {
                return Err(Fault::gp(0));
            }
            self.state.efer &= !efer::LMA;
        }
        report::log_item!(Mmu, "CR0 update: CR0=0x{v:08x}\n");
        let changed = self.state.cr0 ^ v;
        self.state.cr0 = v;
        if changed & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.tlb.flush_all();
        }
        self.mode_changed();
        Ok(())
    }

    fn write_cr3(&mut self, v: u64) -> R {
        let s = &self.state;
        let pcide = s.cr4 & cr4::PCIDE != 0;
        if s.cr0 & cr0::PG != 0 && s.cr4 & cr4::PAE != 0 && !self.lma() {
            self.load_pdptrs(v)?;
        }
        if self.lma() && v & !(self.phys_mask | if pcide { NO_FLUSH } else { 0 }) != 0 {
            return Err(Fault::gp(0));
        }
        if self.state.cr0 & cr0::PG != 0 {
            report::log_item!(Mmu, "CR3 update: CR3={:016x}\n", v & !NO_FLUSH);
        }
        self.state.cr3 = v & !NO_FLUSH;
        if pcide {
            self.tlb.switch((v & 0xfff) as u16);
        }
        if !(pcide && v & NO_FLUSH != 0) {
            self.tlb.flush(true);
        }
        self.stop_block();
        Ok(())
    }

    fn write_cr4(&mut self, v: u64) -> R {
        let s = &self.state;
        if v & !self.cr4_mask != 0 || self.lma() && v & cr4::PAE == 0 {
            return Err(Fault::gp(0));
        }
        let changed = s.cr4 ^ v;
        if changed & cr4::LA57 != 0 && self.lma() {
            return Err(Fault::gp(0));
        }
        if changed & v & cr4::PCIDE != 0 && (!self.lma() || s.cr3 & 0xfff != 0) {
            return Err(Fault::gp(0));
        }
        if changed & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP) != 0
            && s.cr0 & cr0::PG != 0
            && v & cr4::PAE != 0
            && !self.lma()
        {
            let cr3 = s.cr3;
            self.load_pdptrs(cr3)?;
        }
        self.state.cr4 = v;
        if changed
            & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::SMAP | cr4::PCIDE | cr4::PKE | cr4::LA57)
            != 0
        {
            self.tlb.flush_all();
            if changed & cr4::PCIDE != 0 {
                self.tlb.switch(0);
            }
        }
        if changed & cr4::DE != 0 {
            self.debug_changed();
        }
        self.mode_changed();
        Ok(())
    }

    /// Loads PKRU; translations depend on it.
    pub(crate) fn set_pkru(&mut self, v: u32) {
        if std::mem::replace(&mut self.state.pkru, v) != v {
            self.tlb.flush_all();
            self.stop_block();
        }
    }

    pub(crate) fn tsc(&self) -> u64 {
        // SAFETY: RDTSC exists on every x86-64 host and changes nothing.
        unsafe { _rdtsc() }.wrapping_add(self.state.tsc_offset)
    }
}

pub(crate) fn mov_from_cr(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let long = cpu.long;
    let s = &cpu.state;
    let v = match i.regs[1] {
        0 => s.cr0,
        2 => s.cr2,
        3 => s.cr3,
        4 => s.cr4,
        8 => cpu.io.tpr().into(),
        _ => return Err(Fault::ud()),
    };
    if long {
        cpu.set_r64(i.regs[0], v)
    } else {
        cpu.set_r32(i.regs[0], v as u32)
    }
    Ok(())
}
pub(crate) fn mov_to_cr(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let v = if cpu.long { cpu.r64(i.regs[1]) } else { cpu.r32(i.regs[1]).into() };
    cpu.write_cr(i.regs[0], v)
}
pub(crate) fn mov_dr(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let store = matches!(i.code(), iced_x86::Code::Mov_r32_dr | iced_x86::Code::Mov_r64_dr);
    let (r, d) = if store { (i.regs[0], i.regs[1]) } else { (i.regs[1], i.regs[0]) };
    let d = match d {
        4 | 5 if cpu.state.cr4 & cr4::DE != 0 => return Err(Fault::ud()),
        4 | 5 => d + 2,
        0..=7 => d,
        _ => return Err(Fault::ud()),
    };
    if cpu.state.dr[7] & debug::GD != 0 {
        cpu.state.dr[6] |= debug::BD;
        cpu.state.dr[7] &= !debug::GD;
        return Err(Fault::new(vector::DB, 0));
    }
    if store {
        let v = cpu.state.dr[d as usize];
        if cpu.long {
            cpu.set_r64(r, v)
        } else {
            cpu.set_r32(r, v as u32)
        }
        return Ok(());
    }
    let v = if cpu.long { cpu.r64(r) } else { cpu.r32(r).into() };
    if d >= 6 && v >> 32 != 0 {
        return Err(Fault::gp(0));
    }
    cpu.state.dr[d as usize] = match d {
        6 => v & 0xe00f | 0xffff_0ff0,
        7 => v & 0xffff_2bff | 0x400,
        _ => v,
    };
    if d != 6 {
        cpu.debug_changed();
    }
    Ok(())
}
pub(crate) fn clts(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()?;
    cpu.state.cr0 &= !cr0::TS;
    Ok(())
}
pub(crate) fn smsw(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.check_umip()?;
    let v = cpu.state.cr0;
    match i.op_size {
        _ if i.is_mem() => return cpu.store_int(i, v as u16),
        2 => cpu.set_r16(i.regs[0], v as u16),
        4 => cpu.set_r32(i.regs[0], v as u32),
        _ => cpu.set_r64(i.regs[0], v),
    }
    Ok(())
}
pub(crate) fn lmsw(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let v = u64::from(if i.is_mem() { cpu.load_int::<u16>(i)? } else { cpu.r16(i.regs[0]) });
    let old = cpu.state.cr0;
    cpu.write_cr0(old & !0xe | v & 0xe | (old | v) & 1)
}
pub(crate) fn cpuid(cpu: &mut Cpu, _: &Insn) -> R {
    let (function, index) = (cpu.r32(0), cpu.r32(1));
    let mut l = cpu.model.read(function, index);
    match function {
        1 => {
            let osxsave = u32::from(cpu.state.cr4 & cr4::OSXSAVE != 0);
            l.ecx = l.ecx & !(1 << 27) | osxsave << 27;
            if cpu.io.apic_base() & 1 << 11 == 0 {
                l.edx &= !(1 << 9);
            }
        }
        7 if index == 0 && cpu.state.cr4 & cr4::PKE != 0 => l.ecx |= 1 << 4,
        0xd if index < 2 => l.ebx = super::xstate::area_size(cpu.state.xcr0, index == 1),
        _ => {}
    }
    for (n, v) in [(0, l.eax), (3, l.ebx), (1, l.ecx), (2, l.edx)] {
        cpu.set_r32(n, v);
    }
    // It serialises: what follows is fetched anew.
    cpu.stop_block();
    Ok(())
}
pub(crate) fn rdtsc(cpu: &mut Cpu, i: &Insn) -> R {
    if cpu.state.cr4 & cr4::TSD != 0 && cpu.state.cpl != 0 {
        return Err(Fault::gp(0));
    }
    let v = cpu.tsc();
    cpu.set_r32(0, v as u32);
    cpu.set_r32(2, (v >> 32) as u32);
    if i.code() == iced_x86::Code::Rdtscp {
        let aux = cpu.state.tsc_aux as u32;
        cpu.set_r32(1, aux);
    }
    Ok(())
}
pub(crate) fn rdpid(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.state.tsc_aux;
    cpu.set_r64(i.regs[0], v);
    Ok(())
}
pub(crate) fn rdpkru(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::PKE == 0 {
        return Err(Fault::ud());
    }
    if cpu.r32(1) != 0 {
        return Err(Fault::gp(0));
    }
    let v = cpu.state.pkru;
    cpu.set_r32(0, v);
    cpu.set_r32(2, 0);
    Ok(())
}
pub(crate) fn wrpkru(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::PKE == 0 {
        return Err(Fault::ud());
    }
    if cpu.r32(1) != 0 || cpu.r32(2) != 0 {
        return Err(Fault::gp(0));
    }
    let v = cpu.r32(0);
    cpu.set_pkru(v);
    Ok(())
}
pub(crate) fn hlt(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()?;
    cpu.state.activity = Activity::Halted;
    cpu.stop_block();
    cpu.attention = true;
    Ok(())
}
/// CLAC (false), STAC (true).
pub(crate) fn set_ac<const ON: bool>(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0().map_err(|_| Fault::ud())?;
    cpu.state.rflags = cpu.state.rflags & !flags::AC | if ON { flags::AC } else { 0 };
    cpu.update_set();
    Ok(())
}
pub(crate) fn privileged_nop(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()
}
pub(crate) fn invlpg(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let mut at = cpu.offset(i);
    if i.seg >= 4 || !cpu.long {
        at = at.wrapping_add(cpu.state.seg[i.seg as usize % 6].base) & cpu.wrap();
    }
    cpu.tlb.flush_page(at);
    cpu.stop_block();
    Ok(())
}
pub(crate) fn invpcid(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let kind = if cpu.long { cpu.r64(i.regs[0]) } else { cpu.r32(i.regs[0]).into() };
    let d = cpu.load::<16>(i)?;
    let [low, linear] = [0, 8].map(|n| u64::from_le_bytes(d[n..n + 8].try_into().unwrap_or_default()));
    let pcid = (low & 0xfff) as u16;
    let pcide = cpu.state.cr4 & cr4::PCIDE != 0;
    if kind > 3
        || low >> 12 != 0 && kind < 2
        || kind < 2 && pcid != 0 && !pcide
        || kind == 0 && !cpu.canonical(linear)
    {
        return Err(Fault::gp(0));
    }
    match kind {
        0 => cpu.tlb.flush_page_of(pcid, linear),
        1 => cpu.tlb.flush_context(pcid),
        2 => cpu.tlb.flush_all(),
        _ => cpu.tlb.flush_all_but_global(),
    }
    cpu.stop_block();
    Ok(())
}
/// MFENCE: other vCPUs see earlier stores before later loads are made.
pub(crate) fn fence(_: &mut Cpu, _: &Insn) -> R {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}
pub(crate) fn monitor(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0().map_err(|_| Fault::ud())?;
    if cpu.r32(1) != 0 {
        return Err(Fault::gp(0));
    }
    let at = cpu.r64(0)
        & match i.address_size {
            8 => u64::MAX,
            4 => 0xffff_ffff,
            _ => 0xffff,
        };
    let at = cpu.linear(i.seg, at, 1, false)?;
    cpu.read::<u8>(at)?;
    cpu.arm_monitor(at);
    Ok(())
}
pub(crate) fn mwait(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0().map_err(|_| Fault::ud())?;
    if cpu.r32(1) != 0 {
        return Err(Fault::gp(0));
    }
    if cpu.peers.is_alone() {
        cpu.state.activity = Activity::Halted;
    } else {
        cpu.wait_for_store();
    }
    cpu.stop_block();
    cpu.attention = true;
    Ok(())
}
/// No model has performance counters.
pub(crate) fn rdpmc(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::PCE == 0 && cpu.state.cpl != 0 { Err(Fault::gp(0)) } else { Err(Fault::ud()) }
}
pub(crate) fn input<const SIZE: u8, const IMM: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let port = if IMM { i.imm as u8 as u16 } else { cpu.r16(2) };
    cpu.check_port(port, SIZE.into())?;
    cpu.note_port(port, SIZE.into());
    let v = cpu.io.port_read(port, SIZE);
    match SIZE {
        1 => cpu.set_r8(0, v as u8),
        2 => cpu.set_r16(0, v as u16),
        _ => cpu.set_r32(0, v),
    }
    Ok(())
}
pub(crate) fn output<const SIZE: u8, const IMM: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let port = if IMM { i.imm as u8 as u16 } else { cpu.r16(2) };
    cpu.check_port(port, SIZE.into())?;
    cpu.note_port(port, SIZE.into());
    let v = match SIZE {
        1 => cpu.r8(0).into(),
        2 => cpu.r16(0).into(),
        _ => cpu.r32(0),
    };
    cpu.io.port_write(port, SIZE, v);
    cpu.stop_block();
    cpu.attention = true;
    Ok(())
}
/// RDFSBASE and relatives: bit 0 FS or GS, bit 1 write; the operand size is in the instruction.
pub(crate) fn segment_base<const N: usize, const WRITE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    if cpu.state.cr4 & cr4::FSGSBASE == 0 {
        return Err(Fault::ud());
    }
    let wide = i.op_size == 8;
    if WRITE {
        let v = if wide { cpu.r64(i.regs[0]) } else { cpu.r32(i.regs[0]).into() };
        if !cpu.canonical(v) {
            return Err(Fault::gp(0));
        }
        cpu.state.seg[seg::FS + N].base = v;
    } else {
        let v = cpu.state.seg[seg::FS + N].base;
        if wide { cpu.set_r64(i.regs[0], v) } else { cpu.set_r32(i.regs[0], v as u32) }
    }
    Ok(())
}
