//! Model-specific registers (SDM vol. 4; which exist, and what an unknown one does, as in QEMU's TCG).

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use std::arch::x86_64::_rdtsc;
use x86::reg::{cr0, efer, msr};

type R = Result<(), Fault>;

impl Cpu {
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
            // MWAIT is enabled where it exists.
            msr::MISC_ENABLE => s.misc_enable | u64::from(self.model.read(1, 0).ecx >> 3 & 1) << 18,
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
            // Microcode revision, and the clock multiplier.
            0x8b if self.intel => 0x1_0000_0000,
            0x8b => 0x0100_0065,
            0x198 => 4 << 40 | 1000,
            // Reading what does not exist gives 0, as with QEMU.
            _ => 0,
        })
    }

    fn write_msr(&mut self, n: u32, v: u64) -> bool {
        let canonical = self.canonical(v);
        if !mtrr_is_valid(n, v, self.phys_mask) {
            return false;
        }
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
            msr::TSC_DEADLINE => {
                return self.io.set_tsc_deadline(v, self.tsc(), super::control::tsc_hz());
            }
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
                if (v ^ s.efer) & efer::LME != 0 && s.cr0 & cr0::PG != 0 {
                    return false;
                }
                let edx = self.model.read(0x8000_0001, 0).edx;
                let has = |bit: u32, mask: u64| if edx >> bit & 1 != 0 { mask } else { 0 };
                let mask = has(11, efer::SCE) | has(29, efer::LME) | has(20, efer::NXE);
                if v & !(mask | efer::LMA) != 0 {
                    return false;
                }
                s.efer = v & mask | s.efer & efer::LMA;
                self.tlb.flush_all();
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
            msr::SYSENTER_ESP | msr::SYSENTER_EIP | msr::LSTAR | msr::CSTAR => return false,
            msr::FS_BASE | msr::GS_BASE | msr::KERNEL_GS_BASE => return false,
            _ => {}
        }
        true
    }
}

/// Whether memory-type range register `n` may hold `v`; other registers are not looked at (SDM vol. 3, 11.11.2).
fn mtrr_is_valid(n: u32, v: u64, addresses: u64) -> bool {
    let kind = |byte: u64| matches!(byte & 0xff, 0 | 1 | 4..=6);
    match n {
        0x200..=0x20f if n & 1 == 0 => kind(v) && v & !(addresses & !0xfff | 0xff) == 0,
        0x200..=0x20f => v & !(addresses & !0xfff | 0x800) == 0,
        0x250 | 0x258 | 0x259 | 0x268..=0x26f => v.to_le_bytes().iter().all(|byte| kind((*byte).into())),
        0x2ff => kind(v) && v & !0xcff == 0,
        _ => true,
    }
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
