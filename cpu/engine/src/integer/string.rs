//! String instructions.

use super::int::{Int, op};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::{F_REP, F_REPNE, Insn};
use crate::mmu::{get, put};
use x86::reg::flags;

type R = Result<(), Fault>;

/// Which string instruction.
pub(crate) mod kind {
    pub(crate) const MOVS: u8 = 0;
    pub(crate) const STOS: u8 = 1;
    pub(crate) const LODS: u8 = 2;
    pub(crate) const SCAS: u8 = 3;
    pub(crate) const CMPS: u8 = 4;
    pub(crate) const INS: u8 = 5;
    pub(crate) const OUTS: u8 = 6;
}

/// Iterations, or pieces of [`PIECE`] bytes, before events are looked at: some tens of microseconds' worth.
const SLICE: u64 = 512;
/// What counts as much as an iteration by itself.
const PIECE: u64 = 256;
/// How many iterations an access to a port counts for.
const PORT: u64 = 32;

fn mask(i: &Insn) -> u64 {
    match i.address_size {
        8 => u64::MAX,
        4 => 0xffff_ffff,
        _ => 0xffff,
    }
}

fn set(cpu: &mut Cpu, i: &Insn, n: u8, v: u64) {
    match i.address_size {
        8 => cpu.set_r64(n, v),
        4 => cpu.set_r32(n, v as u32),
        _ => cpu.set_r16(n, v as u16),
    }
}

pub(crate) fn string<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    if i.flags & (F_REP | F_REPNE) == 0 {
        return once::<T, KIND>(cpu, i);
    }
    if KIND == kind::INS || KIND == kind::OUTS {
        // Before the count is looked at.
        let port = cpu.r16(2);
        cpu.check_port(port, T::SIZE)?;
    }
    let m = mask(i);
    let mut spent = 0;
    while spent < SLICE {
        spent += if KIND == kind::INS || KIND == kind::OUTS { PORT } else { 1 };
        let left = cpu.r64(1) & m;
        if left == 0 {
            return Ok(());
        }
        let stepping = cpu.state.rflags & flags::TF != 0 || cpu.debugger.is_stepping();
        if (KIND == kind::MOVS || KIND == kind::STOS)
            && !stepping
            && let Some(done) = fast::<T, KIND>(cpu, i, left)
        {
            set(cpu, i, 1, left - done);
            spent += done * T::SIZE / PIECE;
            continue;
        }
        once::<T, KIND>(cpu, i)?;
        set(cpu, i, 1, left - 1);
        if KIND == kind::SCAS || KIND == kind::CMPS {
            let equal = cpu.condition(4);
            if equal != (i.flags & F_REP != 0) {
                return Ok(());
            }
        }
        // Debug traps come after each iteration.
        if (stepping || cpu.debug.hit != 0) && left > 1 {
            return Err(Fault::restart());
        }
    }
    if cpu.r64(1) & m == 0 { Ok(()) } else { Err(Fault::restart()) }
}

/// As many iterations as stay in the present pages; `None` when the slow way is needed.
fn fast<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn, left: u64) -> Option<u64> {
    if !cpu.long || i.address_size != 8 || cpu.state.rflags & flags::DF != 0 {
        return None;
    }
    let (from, to) = (cpu.state.gpr[6], cpu.state.gpr[7]);
    let room = |at: u64| (0x1000 - (at & 0xfff)) / T::SIZE;
    let mut n = left.min(room(to));
    let dst = cpu.tlb.write(cpu.set, to, T::SIZE)?;
    if KIND == kind::MOVS {
        let base = if i.seg >= 4 { cpu.state.seg[i.seg as usize].base } else { 0 };
        let lin = from.wrapping_add(base);
        n = n.min(room(lin));
        if n < 4 {
            return None;
        }
        let src = cpu.tlb.read(cpu.set, lin, T::SIZE)?;
        let len = (n * T::SIZE) as usize;
        // An overlapping copy upwards repeats a pattern: element by element.
        let apart = (dst as usize).wrapping_sub(src as usize) >= len
            && (src as usize).wrapping_sub(dst as usize) >= len;
        let mut at = 0;
        while apart && at + 8 <= len {
            put::<u64>(dst.wrapping_add(at), get(src.wrapping_add(at)));
            at += 8;
        }
        while at < len {
            put::<T>(dst.wrapping_add(at), get(src.wrapping_add(at)));
            at += T::SIZE as usize;
        }
        cpu.state.gpr[6] = from.wrapping_add(n * T::SIZE);
    } else {
        if n < 4 {
            return None;
        }
        let v = T::reg(cpu, 0);
        let wide = (0..8 / T::SIZE).fold(0, |w, k| w | v.to_u64() << (8 * T::SIZE * k));
        let len = (n * T::SIZE) as usize;
        let mut at = 0;
        while at + 8 <= len {
            put::<u64>(dst.wrapping_add(at), wide);
            at += 8;
        }
        while at < len {
            put::<T>(dst.wrapping_add(at), v);
            at += T::SIZE as usize;
        }
    }
    cpu.state.gpr[7] = to.wrapping_add(n * T::SIZE);
    Some(n)
}

fn once<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let m = mask(i);
    let step = if cpu.state.rflags & flags::DF != 0 { T::SIZE.wrapping_neg() } else { T::SIZE };
    let (si, di) = (cpu.r64(6) & m, cpu.r64(7) & m);
    let uses_si = matches!(KIND, kind::MOVS | kind::LODS | kind::CMPS | kind::OUTS);
    let uses_di = !matches!(KIND, kind::LODS | kind::OUTS);
    let writes = matches!(KIND, kind::MOVS | kind::STOS | kind::INS);
    let from = if uses_si { cpu.linear(i.seg, si, T::SIZE, false)? } else { 0 };
    let to = if uses_di { cpu.linear(0, di, T::SIZE, writes)? } else { 0 };
    let port = cpu.r16(2);
    match KIND {
        kind::MOVS => {
            let v = cpu.read::<T>(from)?;
            cpu.write(to, v)?;
        }
        kind::STOS => cpu.write(to, T::reg(cpu, 0))?,
        kind::LODS => {
            let v = cpu.read::<T>(from)?;
            T::set_reg(cpu, 0, v);
        }
        kind::SCAS => {
            let b = cpu.read::<T>(to)?;
            cpu.fl = T::binary::<{ op::CMP }>(T::reg(cpu, 0), b, 0).1;
        }
        kind::CMPS => {
            let a = cpu.read::<T>(from)?;
            let b = cpu.read::<T>(to)?;
            cpu.fl = T::binary::<{ op::CMP }>(a, b, 0).1;
        }
        kind::INS => {
            cpu.check_port(port, T::SIZE)?;
            cpu.probe_write(to, T::SIZE)?;
            let v = cpu.io.port_read(port, T::SIZE as u8);
            cpu.write(to, T::from_u64(v.into()))?;
        }
        _ => {
            cpu.check_port(port, T::SIZE)?;
            let v = cpu.read::<T>(from)?;
            cpu.io.port_write(port, T::SIZE as u8, v.to_u64() as u32);
        }
    }
    if uses_si {
        set(cpu, i, 6, si.wrapping_add(step));
    }
    if uses_di {
        set(cpu, i, 7, di.wrapping_add(step));
    }
    Ok(())
}
