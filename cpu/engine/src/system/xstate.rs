//! FXSAVE, XSAVE and relatives (SDM volume 1, 10.5 and chapter 13).

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::fpu::{legacy_area, load_legacy_area};
use crate::insn::Insn;
use crate::vector::mxcsr;
use x86::X87;
use x86::reg::{cr0, cr4, xcr0};

type R = Result<(), Fault>;

/// Bytes of the legacy part and the header.
const FIXED: u64 = 576;
/// Where the header is: XSTATE_BV, XCOMP_BV, reserved words.
const HEADER: u64 = 512;
/// XCOMP_BV: the compacted format.
const COMPACTED: u64 = 1 << 63;
/// Where PKRU is in the standard format.
const PKRU_AT: u64 = 0xa80;
/// MXCSR after reset.
const MXCSR_INIT: u32 = 0x1f80;

impl Cpu {
    /// The legacy part: x87, MXCSR and its mask, XMM registers of the present mode.
    fn legacy_part(&self, wide: bool) -> [u8; 512] {
        let mut area = [0; 512];
        let mut head = [0; 160];
        legacy_area(&self.state.x87, wide, &mut head);
        area[..160].copy_from_slice(&head);
        area[24..28].copy_from_slice(&self.state.mxcsr.to_le_bytes());
        area[28..32].copy_from_slice(&mxcsr::VALID.to_le_bytes());
        for (to, from) in area[160..].chunks_exact_mut(16).zip(&self.state.zmm).take(self.xmm_count()) {
            to.copy_from_slice(&from[..16]);
        }
        area
    }

    /// How many vector registers the present mode has.
    fn xmm_count(&self) -> usize {
        if self.long { 16 } else { 8 }
    }

    fn load_x87(&mut self, area: &[u8; 512], wide: bool) {
        let mut head = [0; 160];
        head.copy_from_slice(&area[..160]);
        load_legacy_area(&mut self.state.x87, wide, &head);
    }

    fn load_xmm(&mut self, area: &[u8; 512]) {
        let count = self.xmm_count();
        for (to, from) in self.state.zmm.iter_mut().zip(area[160..].chunks_exact(16)).take(count) {
            to[..16].copy_from_slice(from);
        }
    }

    fn check_xsave(&self) -> R {
        if self.state.cr4 & cr4::OSXSAVE == 0 {
            return Err(Fault::ud());
        }
        if self.state.cr0 & cr0::TS != 0 { Err(Fault::nm()) } else { Ok(()) }
    }

    fn edx_eax(&self) -> u64 {
        u64::from(self.r32(2)) << 32 | u64::from(self.r32(0))
    }

    /// XINUSE: which components differ from their initial state.
    fn in_use(&self) -> u64 {
        let s = &self.state;
        let any = |from: usize, to: usize| s.zmm[..16].iter().any(|z| z[from..to].iter().any(|b| *b != 0));
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(s.x87 != X87::default(), xcr0::X87)
            | bit(any(0, 16), xcr0::SSE)
            | bit(any(16, 32), xcr0::AVX)
            | bit(s.pkru != 0, xcr0::PKRU)
    }
}

/// Where PKRU is in the compacted format, behind those of the components `which` that come before it.
fn compacted_pkru(which: u64) -> u64 {
    FIXED + if which & xcr0::AVX != 0 { 256 } else { 0 }
}

/// Bytes of the area for the components of XCR0.
pub(crate) fn area_size(enabled: u64, compacted: bool) -> u32 {
    let end = match (enabled & xcr0::PKRU != 0, compacted) {
        (true, true) => compacted_pkru(enabled) + 8,
        (true, false) => PKRU_AT + 8,
        (false, _) => compacted_pkru(enabled),
    };
    end as u32
}

/// The MXCSR of an area, if it has no reserved bit.
fn mxcsr_of(area: &[u8; 512]) -> Result<u32, Fault> {
    let value = u32::from_le_bytes([area[24], area[25], area[26], area[27]]);
    if value & !mxcsr::VALID != 0 { Err(Fault::gp(0)) } else { Ok(value) }
}

fn check_fx(cpu: &Cpu, i: &Insn, write: bool) -> R {
    if cpu.state.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(Fault::nm());
    }
    if cpu.ea(i, 512, write)? % 16 != 0 { Err(Fault::gp(0)) } else { Ok(()) }
}

/// FXSAVE, FXSAVE64 (`WIDE`).
pub(crate) fn fxsave<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_fx(cpu, i, true)?;
    let area = cpu.legacy_part(WIDE);
    let end = match cpu.state.cr4 & cr4::OSFXSR {
        0 => 160,
        _ => 160 + 16 * cpu.xmm_count(),
    };
    cpu.store_part(i, 0, &area[..end])
}

/// FXRSTOR, FXRSTOR64 (`WIDE`).
pub(crate) fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_fx(cpu, i, false)?;
    let area = cpu.load::<512>(i)?;
    let with_sse = cpu.state.cr4 & cr4::OSFXSR != 0;
    let mxcsr = if with_sse { mxcsr_of(&area)? } else { cpu.state.mxcsr };
    cpu.load_x87(&area, WIDE);
    if with_sse {
        cpu.load_xmm(&area);
        cpu.state.mxcsr = mxcsr;
    }
    Ok(())
}

/// The address of an XSAVE area, aligned to 64 bytes.
fn check_area(cpu: &mut Cpu, i: &Insn, write: bool) -> R {
    cpu.check_xsave()?;
    if cpu.ea(i, FIXED, write)? % 64 != 0 { Err(Fault::gp(0)) } else { Ok(()) }
}

/// Writes the components `which`; the AVX part lies behind the header in both formats.
fn store_components(cpu: &mut Cpu, i: &Insn, which: u64, with_mxcsr: bool, pkru_at: u64, wide: bool) -> R {
    let area = cpu.legacy_part(wide);
    if which & xcr0::X87 != 0 {
        cpu.store_part(i, 0, &area[..24])?;
        cpu.store_part(i, 32, &area[32..160])?;
    }
    if with_mxcsr {
        cpu.store_part(i, 24, &area[24..32])?;
    }
    if which & xcr0::SSE != 0 {
        let end = 160 + 16 * cpu.xmm_count();
        cpu.store_part(i, 160, &area[160..end])?;
    }
    if which & xcr0::AVX != 0 {
        for n in 0..cpu.xmm_count() {
            let upper: [u8; 16] = std::array::from_fn(|b| cpu.state.zmm[n][16 + b]);
            cpu.store_part(i, FIXED + 16 * n as u64, &upper)?;
        }
    }
    if which & xcr0::PKRU != 0 {
        let value = u64::from(cpu.state.pkru);
        cpu.store_part(i, pkru_at, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Raises the fault of a write to the area of the components `which`, PKRU at `pkru_at`.
fn probe(cpu: &mut Cpu, i: &Insn, which: u64, pkru_at: u64) -> R {
    cpu.check_store_part(i, 0, FIXED)?;
    if which & xcr0::AVX != 0 {
        cpu.check_store_part(i, FIXED, 256)?;
    }
    if which & xcr0::PKRU != 0 { cpu.check_store_part(i, pkru_at, 8) } else { Ok(()) }
}

/// XSAVE, and XSAVEOPT (`OPT`), which leaves out what is in its initial state.
pub(crate) fn xsave<const OPT: bool, const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_area(cpu, i, true)?;
    let wanted = cpu.edx_eax() & cpu.state.xcr0;
    probe(cpu, i, wanted, PKRU_AT)?;
    let old = u64::from_le_bytes(cpu.load_part::<8>(i, HEADER)?);
    let used = cpu.in_use();
    let which = if OPT { wanted & used } else { wanted };
    store_components(cpu, i, which, wanted & (xcr0::SSE | xcr0::AVX) != 0, PKRU_AT, WIDE)?;
    let present = old & !wanted | wanted & used;
    cpu.store_part(i, HEADER, &present.to_le_bytes())
}

/// XSAVEC: the compacted format.
pub(crate) fn xsavec<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_area(cpu, i, true)?;
    let wanted = cpu.edx_eax() & cpu.state.xcr0;
    let pkru_at = compacted_pkru(wanted);
    probe(cpu, i, wanted, pkru_at)?;
    let mut used = cpu.in_use();
    if cpu.state.mxcsr != MXCSR_INIT {
        used |= xcr0::SSE;
    }
    let which = wanted & used;
    store_components(cpu, i, which, which & xcr0::SSE != 0, pkru_at, WIDE)?;
    cpu.store_part(i, HEADER, &which.to_le_bytes())?;
    cpu.store_part(i, HEADER + 8, &(wanted | COMPACTED).to_le_bytes())
}

/// XRSTOR, in either format.
pub(crate) fn xrstor<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_area(cpu, i, false)?;
    let area = cpu.load::<512>(i)?;
    let header = cpu.load_part::<64>(i, HEADER)?;
    let word = |n: usize| u64::from_le_bytes(std::array::from_fn(|b| header[8 * n + b]));
    let (present, layout) = (word(0), word(1));
    let compacted = layout & COMPACTED != 0;
    let known = cpu.state.xcr0;
    let bad = if compacted {
        let allowed = cpu.model.read(0xd, 1).eax & 2 != 0;
        !allowed
            || layout & !COMPACTED & !known != 0
            || present & !layout != 0
            || header[16..].iter().any(|b| *b != 0)
    } else {
        header[8..24].iter().any(|b| *b != 0)
    };
    if bad || present & !known != 0 {
        return Err(Fault::gp(0));
    }
    let wanted = cpu.edx_eax() & known;
    let load = wanted & present;
    let mut upper = [[0; 16]; 16];
    if load & xcr0::AVX != 0 {
        let count = cpu.xmm_count();
        for (n, value) in upper.iter_mut().enumerate().take(count) {
            *value = cpu.load_part::<16>(i, FIXED + 16 * n as u64)?;
        }
    }
    let pkru = if load & xcr0::PKRU != 0 {
        let at = if compacted { compacted_pkru(layout) } else { PKRU_AT };
        u32::from_le_bytes(cpu.load_part::<4>(i, at)?)
    } else {
        0
    };
    let mxcsr = match compacted {
        false if wanted & (xcr0::SSE | xcr0::AVX) != 0 => mxcsr_of(&area)?,
        true if load & xcr0::SSE != 0 => mxcsr_of(&area)?,
        true if wanted & xcr0::SSE != 0 => MXCSR_INIT,
        _ => cpu.state.mxcsr,
    };
    cpu.state.mxcsr = mxcsr;
    if load & xcr0::X87 != 0 {
        cpu.load_x87(&area, WIDE);
    } else if wanted & xcr0::X87 != 0 {
        cpu.state.x87 = X87::default();
    }
    if wanted & xcr0::SSE != 0 {
        cpu.load_xmm(if load & xcr0::SSE != 0 { &area } else { &[0; 512] });
    }
    if wanted & xcr0::AVX != 0 {
        let count = cpu.xmm_count();
        for (to, from) in cpu.state.zmm.iter_mut().zip(&upper).take(count) {
            to[16..32].copy_from_slice(from);
        }
    }
    if wanted & xcr0::PKRU != 0 {
        cpu.set_pkru(pkru);
    }
    Ok(())
}

/// XGETBV: XCR0 (0), or which of its components are in use (1).
pub(crate) fn xgetbv(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Fault::ud());
    }
    let value = match cpu.r32(1) {
        0 => cpu.state.xcr0,
        1 if cpu.model.read(0xd, 1).eax & 4 != 0 => {
            let mxcsr = if cpu.state.mxcsr != MXCSR_INIT { xcr0::SSE } else { 0 };
            cpu.state.xcr0 & (cpu.in_use() | mxcsr)
        }
        _ => return Err(Fault::gp(0)),
    };
    cpu.set_r32(0, value as u32);
    cpu.set_r32(2, (value >> 32) as u32);
    Ok(())
}

/// XSETBV.
pub(crate) fn xsetbv(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Fault::ud());
    }
    cpu.need_cpl0()?;
    let value = cpu.edx_eax();
    let known = u64::from(cpu.model.read(0xd, 0).eax) & (xcr0::X87 | xcr0::SSE | xcr0::AVX | xcr0::PKRU);
    let both = xcr0::SSE | xcr0::AVX;
    if cpu.r32(1) != 0 || value & xcr0::X87 == 0 || value & !known != 0 || value & both == xcr0::AVX {
        return Err(Fault::gp(0));
    }
    cpu.state.xcr0 = value;
    Ok(())
}
