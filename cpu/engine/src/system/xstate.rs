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
/// The components behind the header, in order: bit, offset in the standard format, bytes (SDM vol. 1, 13.5; the same
/// numbers are in CPUID's leaf 0xD).
const COMPONENTS: [(u64, u64, u64); 5] = [
    (xcr0::AVX, 0x240, 256),
    (xcr0::OPMASK, 0x440, 64),
    (xcr0::ZMM_UPPER, 0x480, 512),
    (xcr0::ZMM_HIGH, 0x680, 1024),
    (xcr0::PKRU, 0xa80, 8),
];
/// Bytes of the largest.
const LARGEST: usize = 1024;
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
        // A whole register at once, without looking for the byte that differs.
        let any = |registers: &[[u8; 64]], from: usize, to: usize| {
            registers.iter().any(|z| z[from..to].iter().fold(0, |all, byte| all | byte) != 0)
        };
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        let wide = if s.xcr0 & xcr0::AVX512 == 0 {
            0
        } else {
            bit(s.opmask != [0; 8], xcr0::OPMASK)
                | bit(any(&s.zmm[..16], 32, 64), xcr0::ZMM_UPPER)
                | bit(any(&s.zmm[16..], 0, 64), xcr0::ZMM_HIGH)
        };
        bit(s.x87 != X87::default(), xcr0::X87)
            | bit(any(&s.zmm[..16], 0, 16), xcr0::SSE)
            | bit(any(&s.zmm[..16], 16, 32), xcr0::AVX)
            | bit(s.pkru != 0, xcr0::PKRU)
            | wide
    }

    /// What the component `bit` holds, and how many bytes of it the present mode has.
    fn component(&self, bit: u64) -> ([u8; LARGEST], usize) {
        let mut bytes = [0; LARGEST];
        let s = &self.state;
        let mut put = |registers: &[[u8; 64]], from: usize, to: usize| {
            for (to, register) in bytes.chunks_exact_mut(to - from).zip(registers) {
                to.copy_from_slice(&register[from..from + to.len()]);
            }
            registers.len() * (to - from)
        };
        let low = &s.zmm[..self.xmm_count()];
        let len = match bit {
            xcr0::AVX => put(low, 16, 32),
            xcr0::ZMM_UPPER => put(low, 32, 64),
            xcr0::ZMM_HIGH if self.long => put(&s.zmm[16..], 0, 64),
            xcr0::OPMASK => {
                for (to, mask) in bytes.chunks_exact_mut(8).zip(s.opmask) {
                    to.copy_from_slice(&mask.to_le_bytes());
                }
                64
            }
            xcr0::PKRU => {
                bytes[..4].copy_from_slice(&s.pkru.to_le_bytes());
                8
            }
            _ => 0,
        };
        (bytes, len)
    }

    /// Loads the component `bit`.
    fn set_component(&mut self, bit: u64, bytes: &[u8; LARGEST]) {
        let count = self.xmm_count();
        let s = &mut self.state;
        let take = |registers: &mut [[u8; 64]], from: usize, to: usize| {
            for (register, value) in registers.iter_mut().zip(bytes.chunks_exact(to - from)) {
                register[from..to].copy_from_slice(value);
            }
        };
        match bit {
            xcr0::AVX => take(&mut s.zmm[..count], 16, 32),
            xcr0::ZMM_UPPER => {
                take(&mut s.zmm[..count], 32, 64);
                self.jit.note_wide();
            }
            xcr0::ZMM_HIGH if self.long => take(&mut s.zmm[16..], 0, 64),
            xcr0::OPMASK => {
                for (mask, value) in s.opmask.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *mask = u64::from_le_bytes(*value);
                }
            }
            xcr0::PKRU => self.set_pkru(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => {}
        }
    }
}

/// Where the component `bit` is; `layout`: those in an area of the compacted format, 0 for the standard format.
fn place(bit: u64, layout: u64) -> u64 {
    let before = COMPONENTS.iter().take_while(|part| part.0 != bit);
    match layout {
        0 => COMPONENTS.iter().find(|part| part.0 == bit).map_or(FIXED, |part| part.1),
        _ => FIXED + before.filter(|part| layout & part.0 != 0).map(|part| part.2).sum::<u64>(),
    }
}

/// Bytes of the area for the components of XCR0.
pub(crate) fn area_size(enabled: u64, compacted: bool) -> u32 {
    let layout = if compacted { enabled | COMPACTED } else { 0 };
    let parts = COMPONENTS.iter().filter(|part| enabled & part.0 != 0);
    parts.map(|part| place(part.0, layout) + part.2).max().unwrap_or(FIXED) as u32
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

/// Writes the components `which` of an area laid out as [`place`] has it.
fn store_components(cpu: &mut Cpu, i: &Insn, which: u64, with_mxcsr: bool, layout: u64, wide: bool) -> R {
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
    for (bit, ..) in COMPONENTS.into_iter().filter(|part| which & part.0 != 0) {
        let (bytes, len) = cpu.component(bit);
        if len != 0 {
            cpu.store_part(i, place(bit, layout), &bytes[..len])?;
        }
    }
    Ok(())
}

/// Raises the fault of a write to the area of the components `which`.
fn probe(cpu: &mut Cpu, i: &Insn, which: u64, layout: u64) -> R {
    cpu.check_store_part(i, 0, FIXED)?;
    for (bit, _, size) in COMPONENTS.into_iter().filter(|part| which & part.0 != 0) {
        cpu.check_store_part(i, place(bit, layout), size)?;
    }
    Ok(())
}

/// XSAVE, and XSAVEOPT (`OPT`), which leaves out what is in its initial state.
pub(crate) fn xsave<const OPT: bool, const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_area(cpu, i, true)?;
    let wanted = cpu.edx_eax() & cpu.state.xcr0;
    probe(cpu, i, wanted, 0)?;
    let old = u64::from_le_bytes(cpu.load_part::<8>(i, HEADER)?);
    let used = cpu.in_use();
    let which = if OPT { wanted & used } else { wanted };
    store_components(cpu, i, which, wanted & (xcr0::SSE | xcr0::AVX) != 0, 0, WIDE)?;
    let present = old & !wanted | wanted & used;
    cpu.store_part(i, HEADER, &present.to_le_bytes())
}

/// XSAVEC: the compacted format.
pub(crate) fn xsavec<const WIDE: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    check_area(cpu, i, true)?;
    let wanted = cpu.edx_eax() & cpu.state.xcr0;
    let layout = wanted | COMPACTED;
    probe(cpu, i, wanted, layout)?;
    let mut used = cpu.in_use();
    if cpu.state.mxcsr != MXCSR_INIT {
        used |= xcr0::SSE;
    }
    let which = wanted & used;
    store_components(cpu, i, which, which & xcr0::SSE != 0, layout, WIDE)?;
    cpu.store_part(i, HEADER, &which.to_le_bytes())?;
    cpu.store_part(i, HEADER + 8, &layout.to_le_bytes())
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
    let mut parts = [([0; LARGEST]); COMPONENTS.len()];
    for ((bit, _, size), bytes) in COMPONENTS.into_iter().zip(&mut parts) {
        // What the mode has not is not looked at.
        let len = cpu.component(bit).1.min(size as usize);
        if load & bit != 0 && len != 0 {
            let at = place(bit, if compacted { layout } else { 0 });
            let at = cpu.part(i, at, len as u64, false)?;
            cpu.read_buf(at, &mut bytes[..len])?;
        }
    }
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
    for ((bit, ..), bytes) in COMPONENTS.into_iter().zip(&parts) {
        if wanted & bit != 0 {
            cpu.set_component(bit, bytes);
        }
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
    let known = u64::from(cpu.model.read(0xd, 0).eax)
        & (xcr0::X87 | xcr0::SSE | xcr0::AVX | xcr0::AVX512 | xcr0::PKRU);
    let both = xcr0::SSE | xcr0::AVX;
    // All of AVX-512 or nothing, and not without AVX.
    let wide = value & xcr0::AVX512;
    let uneven = wide != 0 && (wide != xcr0::AVX512 || value & both != both);
    if cpu.r32(1) != 0 || value & xcr0::X87 == 0 || value & !known != 0 || value & both == xcr0::AVX || uneven
    {
        return Err(Fault::gp(0));
    }
    cpu.state.xcr0 = value;
    Ok(())
}
