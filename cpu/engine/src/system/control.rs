//! Control registers, MSRs, CPUID, I/O and the rest of the privileged instructions.

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::Instant;
use x86::Activity;
use x86::reg::{cr0, cr4, efer, flags, msr, seg};

type R = Result<(), Fault>;

/// The host's time-stamp counter, and the time, when the first processor was made.
static START: OnceLock<(u64, Instant)> = OnceLock::new();

/// Begins to measure how fast the time-stamp counter runs.
pub(crate) fn start_tsc() {
    // SAFETY: RDTSC exists on every x86-64 host and changes nothing.
    START.get_or_init(|| (unsafe { _rdtsc() }, Instant::now()));
}

/// Ticks of the time-stamp counter in a second, the more exact the longer the process has run.
fn tsc_hz() -> u64 {
    let Some((tsc, time)) = START.get() else { return 1_000_000_000 };
    // SAFETY: as in `start_tsc`.
    let ticks = u128::from(unsafe { _rdtsc() }.wrapping_sub(*tsc));
    let nanos = time.elapsed().as_nanos().max(1);
    u64::try_from(ticks * 1_000_000_000 / nanos).unwrap_or(u64::MAX).max(1)
}

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

    pub(crate) fn flush_tlb(&mut self, keep_global: bool) {
        self.tlb.flush(keep_global);
        self.blocks.unlink();
        self.stop_block();
    }

    fn write_cr(&mut self, n: u8, v: u64) -> R {
        let s = &self.state;
        match n {
            0 => {
                let v = v & 0xe005_003f | cr0::ET;
                if v >> 32 != 0
                    || v & cr0::PG != 0 && v & cr0::PE == 0
                    || v & cr0::NW != 0 && v & cr0::CD == 0
                {
                    return Err(Fault::gp(0));
                }
                let on = v & cr0::PG != 0 && s.cr0 & cr0::PG == 0;
                let off = v & cr0::PG == 0 && s.cr0 & cr0::PG != 0;
                if on && s.efer & efer::LME != 0 {
                    if s.cr4 & cr4::PAE == 0 {
                        return Err(Fault::gp(0));
                    }
                    self.state.efer |= efer::LMA;
                } else if on && s.cr4 & cr4::PAE != 0 {
                    let cr3 = s.cr3;
                    self.load_pdptrs(cr3)?;
                }
                if off {
                    if self.long {
                        return Err(Fault::gp(0));
                    }
                    self.state.efer &= !efer::LMA;
                }
                let changed = self.state.cr0 ^ v;
                self.state.cr0 = v;
                if changed & cr0::PE != 0 && v & cr0::PE == 0 {
                    self.state.cpl = 0;
                }
                if changed & (cr0::PG | cr0::WP | cr0::PE) != 0 {
                    self.flush_tlb(false);
                }
                self.mode_changed();
            }
            2 => self.state.cr2 = v,
            3 => {
                let pae = s.cr0 & cr0::PG != 0 && s.cr4 & cr4::PAE != 0 && s.efer & efer::LMA == 0;
                if pae {
                    self.load_pdptrs(v)?;
                }
                if self.lma() && v >> 52 != 0 {
                    return Err(Fault::gp(0));
                }
                self.state.cr3 = v;
                self.flush_tlb(true);
            }
            4 => {
                const KNOWN: u64 = 0x7ff | cr4::UMIP | cr4::FSGSBASE | cr4::OSXSAVE | cr4::SMEP | cr4::SMAP;
                if v & !KNOWN != 0 || self.lma() && v & cr4::PAE == 0 {
                    return Err(Fault::gp(0));
                }
                let changed = s.cr4 ^ v;
                self.state.cr4 = v;
                if changed & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::SMAP) != 0 {
                    if self.state.cr0 & cr0::PG != 0 && v & cr4::PAE != 0 && !self.lma() {
                        let cr3 = self.state.cr3;
                        self.load_pdptrs(cr3)?;
                    }
                    self.flush_tlb(false);
                }
                self.mode_changed();
            }
            8 => {
                if v >> 4 != 0 {
                    return Err(Fault::gp(0));
                }
                self.io.set_tpr(v as u8);
                self.stop_block();
                self.attention = true;
            }
            _ => return Err(Fault::ud()),
        }
        Ok(())
    }

    pub(crate) fn tsc(&self) -> u64 {
        // SAFETY: RDTSC exists on every x86-64 host and changes nothing.
        unsafe { _rdtsc() }.wrapping_add(self.state.tsc_offset)
    }

    fn read_msr(&self, n: u32) -> Option<u64> {
        let s = &self.state;
        Some(match n {
            msr::TSC => self.tsc(),
            msr::TSC_ADJUST => s.tsc_adjust,
            msr::APIC_BASE => self.io.apic_base(),
            msr::TSC_DEADLINE | 0x800..=0x8ff => return self.io.apic_msr_read(n),
            msr::MTRRCAP => 0x508,
            msr::SYSENTER_CS => s.sysenter_cs,
            msr::SYSENTER_ESP => s.sysenter_esp,
            msr::SYSENTER_EIP => s.sysenter_eip,
            msr::MCG_CAP => 0x0100_010a,
            msr::MCG_STATUS => s.mcg_status,
            msr::MCG_CTL => s.mcg_ctl,
            msr::MISC_ENABLE => s.misc_enable,
            msr::PAT => s.pat,
            msr::EFER => s.efer,
            msr::STAR => s.star,
            msr::LSTAR => s.lstar,
            msr::CSTAR => s.cstar,
            msr::FMASK => s.fmask,
            msr::FS_BASE => s.seg[4].base,
            msr::GS_BASE => s.seg[5].base,
            msr::KERNEL_GS_BASE => s.kernel_gs_base,
            msr::TSC_AUX => s.tsc_aux,
            0x200..=0x20f => s.mtrr_var[(n - 0x200) as usize / 2][n as usize % 2],
            0x250 => s.mtrr_fixed[0],
            0x258 | 0x259 => s.mtrr_fixed[(n - 0x257) as usize],
            0x268..=0x26f => s.mtrr_fixed[(n - 0x265) as usize],
            0x2ff => s.mtrr_deftype,
            0x400..=0x427 => s.mc_banks[(n - 0x400) as usize / 4][n as usize % 4],
            // Microcode revision, platform and performance registers that systems read without asking CPUID.
            0x8b => 0x1_0000_0000,
            0x17 | 0x34 | 0x198 | 0x1d9 | 0xc001_0015 | 0xc001_001f | 0xc001_0010 | 0xc001_0112 => 0,
            _ => return None,
        })
    }

    fn write_msr(&mut self, n: u32, v: u64) -> bool {
        let canonical = self.canonical(v);
        let s = &mut self.state;
        match n {
            msr::TSC => {
                // SAFETY: as in `tsc`.
                s.tsc_offset = v.wrapping_sub(unsafe { _rdtsc() });
            }
            msr::TSC_ADJUST => {
                s.tsc_offset = s.tsc_offset.wrapping_add(v.wrapping_sub(s.tsc_adjust));
                s.tsc_adjust = v;
            }
            msr::APIC_BASE => return self.io.set_apic_base(v),
            msr::TSC_DEADLINE => return self.io.set_tsc_deadline(v, self.tsc(), tsc_hz()),
            0x800..=0x8ff => return self.io.apic_msr_write(n, v),
            msr::SYSENTER_CS => s.sysenter_cs = v & 0xffff,
            msr::SYSENTER_ESP if canonical => s.sysenter_esp = v,
            msr::SYSENTER_EIP if canonical => s.sysenter_eip = v,
            msr::MCG_STATUS => s.mcg_status = v,
            msr::MCG_CTL => s.mcg_ctl = v,
            msr::MISC_ENABLE => s.misc_enable = v,
            msr::PAT => {
                if v.to_le_bytes().iter().any(|b| !matches!(b, 0 | 1 | 4..=7)) {
                    return false;
                }
                s.pat = v;
            }
            msr::EFER => {
                const KNOWN: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
                if v & !KNOWN != 0 || (v ^ s.efer) & efer::LME != 0 && s.cr0 & cr0::PG != 0 {
                    return false;
                }
                s.efer = v & !efer::LMA | s.efer & efer::LMA;
                self.flush_tlb(false);
            }
            msr::STAR => s.star = v,
            msr::LSTAR if canonical => s.lstar = v,
            msr::CSTAR if canonical => s.cstar = v,
            msr::FMASK => s.fmask = v & 0xffff_ffff,
            msr::FS_BASE if canonical => s.seg[4].base = v,
            msr::GS_BASE if canonical => s.seg[5].base = v,
            msr::KERNEL_GS_BASE if canonical => s.kernel_gs_base = v,
            msr::TSC_AUX => s.tsc_aux = v & 0xffff_ffff,
            0x200..=0x20f => s.mtrr_var[(n - 0x200) as usize / 2][n as usize % 2] = v,
            0x250 => s.mtrr_fixed[0] = v,
            0x258 | 0x259 => s.mtrr_fixed[(n - 0x257) as usize] = v,
            0x268..=0x26f => s.mtrr_fixed[(n - 0x265) as usize] = v,
            0x2ff => s.mtrr_deftype = v,
            0x400..=0x427 => s.mc_banks[(n - 0x400) as usize / 4][n as usize % 4] = v,
            0x8b | 0x79 | 0x1d9 | 0xc001_0015 => {}
            _ => return false,
        }
        true
    }
}

pub(crate) fn mov_from_cr(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.need_cpl0()?;
    let s = &cpu.state;
    let v = match i.regs[1] {
        0 => s.cr0,
        2 => s.cr2,
        3 => s.cr3,
        4 => s.cr4,
        8 => cpu.io.tpr().into(),
        _ => return Err(Fault::ud()),
    };
    cpu.set_r64(i.regs[0], v);
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
    if store {
        let v = cpu.state.dr[d as usize];
        cpu.set_r64(r, v);
        return Ok(());
    }
    let v = cpu.r64(r);
    cpu.state.dr[d as usize] = match d {
        6 => v & 0xe00f | 0xffff_0ff0,
        7 => v & 0xffff_2bff | 0x400,
        _ => v,
    };
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
    cpu.write_cr(0, old & !0xe | v & 0xe | ((old | v) & 1))
}
pub(crate) fn rdmsr(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()?;
    let n = cpu.r32(1);
    let Some(v) = cpu.read_msr(n) else { return Err(Fault::gp(0)) };
    cpu.set_r32(0, v as u32);
    cpu.set_r32(2, (v >> 32) as u32);
    Ok(())
}
pub(crate) fn wrmsr(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()?;
    let (n, v) = (cpu.r32(1), u64::from(cpu.r32(2)) << 32 | u64::from(cpu.r32(0)));
    if !cpu.write_msr(n, v) {
        return Err(Fault::gp(0));
    }
    cpu.stop_block();
    cpu.attention = true;
    Ok(())
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
        0xd if index == 0 => l.ebx = if cpu.state.xcr0 & 4 != 0 { 0x340 } else { 0x240 },
        _ => {}
    }
    for (n, v) in [(0, l.eax), (3, l.ebx), (1, l.ecx), (2, l.edx)] {
        cpu.set_r32(n, v);
    }
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
pub(crate) fn hlt(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.need_cpl0()?;
    cpu.state.activity = Activity::Halted;
    cpu.stop_block();
    cpu.attention = true;
    Ok(())
}
pub(crate) fn cli(cpu: &mut Cpu, _: &Insn) -> R {
    if u64::from(cpu.state.cpl) > cpu.state.rflags >> 12 & 3 {
        return Err(Fault::gp(0));
    }
    cpu.state.rflags &= !flags::IF;
    Ok(())
}
pub(crate) fn sti(cpu: &mut Cpu, _: &Insn) -> R {
    if u64::from(cpu.state.cpl) > cpu.state.rflags >> 12 & 3 {
        return Err(Fault::gp(0));
    }
    if cpu.state.rflags & flags::IF == 0 {
        cpu.state.rflags |= flags::IF;
        cpu.state.interrupt_shadow = true;
        cpu.stop_block();
    }
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
    cpu.blocks.unlink();
    cpu.stop_block();
    Ok(())
}
pub(crate) fn input<const SIZE: u8, const IMM: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let port = if IMM { i.imm as u8 as u16 } else { cpu.r16(2) };
    cpu.check_port(port, SIZE.into())?;
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
