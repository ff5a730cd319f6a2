//! FXSAVE, XSAVE and relatives.

use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::{cr0, cr4};

type R = Result<(), Fault>;

impl Cpu {
    fn legacy_area(&self, sse: bool) -> [u8; 512] {
        let (s, mut b) = (&self.state, [0; 512]);
        b[..2].copy_from_slice(&s.x87.fcw.to_le_bytes());
        b[2..4].copy_from_slice(&s.x87.fsw.to_le_bytes());
        b[4] = s.x87.ftw;
        b[6..8].copy_from_slice(&s.x87.fop.to_le_bytes());
        b[8..16].copy_from_slice(&s.x87.fip.to_le_bytes());
        b[16..24].copy_from_slice(&s.x87.fdp.to_le_bytes());
        for n in 0..8 {
            let r = (s.x87.top() + n) % 8;
            b[32 + 16 * n..42 + 16 * n].copy_from_slice(&s.x87.regs[r][..10]);
        }
        b[24..28].copy_from_slice(&s.mxcsr.to_le_bytes());
        b[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
        if sse {
            for n in 0..if self.long { 16 } else { 8 } {
                b[160 + 16 * n..176 + 16 * n].copy_from_slice(&s.zmm[n][..16]);
            }
        }
        b
    }

    fn load_x87(&mut self, b: &[u8; 512]) {
        let x = &mut self.state.x87;
        x.fcw = u16::from_le_bytes([b[0], b[1]]);
        x.fsw = u16::from_le_bytes([b[2], b[3]]);
        x.ftw = b[4];
        x.fop = u16::from_le_bytes([b[6], b[7]]) & 0x7ff;
        x.fip = u64::from_le_bytes(b[8..16].try_into().unwrap_or_default());
        x.fdp = u64::from_le_bytes(b[16..24].try_into().unwrap_or_default());
        for n in 0..8 {
            let r = (x.top() + n) % 8;
            x.regs[r][..10].copy_from_slice(&b[32 + 16 * n..42 + 16 * n]);
        }
    }

    fn load_xmm(&mut self, b: &[u8; 512]) {
        for n in 0..if self.long { 16 } else { 8 } {
            self.state.zmm[n][..16].copy_from_slice(&b[160 + 16 * n..176 + 16 * n]);
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
}

fn mxcsr_of(b: &[u8; 512]) -> Result<u32, Fault> {
    let m = u32::from_le_bytes([b[24], b[25], b[26], b[27]]);
    if m >> 16 != 0 { Err(Fault::gp(0)) } else { Ok(m) }
}

fn check_fx(cpu: &Cpu, i: &Insn, align: u64) -> R {
    if cpu.state.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(Fault::nm());
    }
    if cpu.ea(i, 512, false)? % align != 0 { Err(Fault::gp(0)) } else { Ok(()) }
}
pub(crate) fn fxsave(cpu: &mut Cpu, i: &Insn) -> R {
    check_fx(cpu, i, 16)?;
    let b = cpu.legacy_area(true);
    let len = if cpu.long { 416 } else { 288 };
    cpu.store_part(i, 0, &b[..len])
}
pub(crate) fn fxrstor(cpu: &mut Cpu, i: &Insn) -> R {
    check_fx(cpu, i, 16)?;
    let b = cpu.load::<512>(i)?;
    let m = mxcsr_of(&b)?;
    cpu.load_x87(&b);
    cpu.load_xmm(&b);
    cpu.state.mxcsr = m;
    Ok(())
}
pub(crate) fn xsave(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.check_xsave()?;
    if cpu.ea(i, 576, true)? % 64 != 0 {
        return Err(Fault::gp(0));
    }
    let mask = cpu.edx_eax() & cpu.state.xcr0 & 7;
    cpu.check_store_part(i, 0, if mask & 4 != 0 { 832 } else { 576 })?;
    let header = cpu.load_part::<8>(i, 512)?;
    let b = cpu.legacy_area(true);
    if mask & 1 != 0 {
        cpu.store_part(i, 0, &b[..24])?;
        cpu.store_part(i, 32, &b[32..160])?;
    }
    if mask & 6 != 0 {
        cpu.store_part(i, 24, &b[24..32])?;
    }
    if mask & 2 != 0 {
        let n = if cpu.long { 416 } else { 288 };
        cpu.store_part(i, 160, &b[160..n])?;
    }
    if mask & 4 != 0 {
        for n in 0..if cpu.long { 16 } else { 8 } {
            let mut y = [0; 16];
            y.copy_from_slice(&cpu.state.zmm[n][16..32]);
            cpu.store_part(i, 576 + 16 * n as u64, &y)?;
        }
    }
    let bv = u64::from_le_bytes(header) & !(cpu.edx_eax() & cpu.state.xcr0) | mask;
    cpu.store_part(i, 512, &bv.to_le_bytes())
}
pub(crate) fn xrstor(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.check_xsave()?;
    if cpu.ea(i, 576, false)? % 64 != 0 {
        return Err(Fault::gp(0));
    }
    let b = cpu.load::<512>(i)?;
    let header = cpu.load_part::<24>(i, 512)?;
    let bv = u64::from_le_bytes(header[..8].try_into().unwrap_or_default());
    if header[8..].iter().any(|&x| x != 0) || bv & !cpu.state.xcr0 != 0 {
        return Err(Fault::gp(0));
    }
    let mask = cpu.edx_eax() & cpu.state.xcr0;
    let mut upper = [[0; 16]; 16];
    if mask & bv & 4 != 0 {
        for (n, u) in upper.iter_mut().enumerate().take(if cpu.long { 16 } else { 8 }) {
            *u = cpu.load_part::<16>(i, 576 + 16 * n as u64)?;
        }
    }
    let m = if mask & 6 != 0 { Some(mxcsr_of(&b)?) } else { None };
    if mask & 1 != 0 {
        if bv & 1 != 0 { cpu.load_x87(&b) } else { cpu.state.x87 = x86::X87::default() }
    }
    if let Some(m) = m {
        cpu.state.mxcsr = m;
    }
    if mask & 2 != 0 {
        cpu.load_xmm(if bv & 2 != 0 { &b } else { &[0; 512] });
    }
    if mask & 4 != 0 {
        let count = if cpu.long { 16 } else { 8 };
        for (z, u) in cpu.state.zmm.iter_mut().zip(&upper).take(count) {
            z[16..32].copy_from_slice(u);
        }
    }
    Ok(())
}
pub(crate) fn xgetbv(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Fault::ud());
    }
    if cpu.r32(1) != 0 {
        return Err(Fault::gp(0));
    }
    let v = cpu.state.xcr0;
    cpu.set_r32(0, v as u32);
    cpu.set_r32(2, (v >> 32) as u32);
    Ok(())
}
pub(crate) fn xsetbv(cpu: &mut Cpu, _: &Insn) -> R {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Fault::ud());
    }
    cpu.need_cpl0()?;
    let v = cpu.edx_eax();
    let known = u64::from(cpu.model.read(0xd, 0).eax) & 7;
    if cpu.r32(1) != 0 || v & 1 == 0 || v & !known != 0 || v & 6 == 4 {
        return Err(Fault::gp(0));
    }
    cpu.state.xcr0 = v;
    Ok(())
}
