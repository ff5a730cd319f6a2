//! Flag instructions and XLAT.

use super::int::Int;
use crate::cpu::{Cpu, FL_CF};
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::flags;

type R = Result<(), Fault>;

pub(crate) fn clc(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.fl &= !FL_CF;
    Ok(())
}
pub(crate) fn stc(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.fl |= FL_CF;
    Ok(())
}
pub(crate) fn cmc(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.fl ^= FL_CF;
    Ok(())
}
pub(crate) fn cld(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.state.rflags &= !flags::DF;
    Ok(())
}
pub(crate) fn std(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.state.rflags |= flags::DF;
    Ok(())
}
pub(crate) fn lahf(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.set_r8(crate::insn::HIGH, (cpu.fl >> 8) as u8 & 0xd5 | 2);
    Ok(())
}
pub(crate) fn sahf(cpu: &mut Cpu, _: &Insn) -> R {
    cpu.fl = cpu.fl & 1 | u16::from(cpu.r8(crate::insn::HIGH) & 0xd5) << 8;
    Ok(())
}
pub(crate) fn xlat(cpu: &mut Cpu, i: &Insn) -> R {
    let at = cpu.r64(3).wrapping_add(cpu.r8(0).into());
    let at = match i.address_size {
        8 => at,
        4 => at & 0xffff_ffff,
        _ => at & 0xffff,
    };
    let at = cpu.linear(i.seg, at, 1, false)?;
    let v = cpu.read(at)?;
    cpu.set_r8(0, v);
    Ok(())
}
pub(crate) fn salc(cpu: &mut Cpu, _: &Insn) -> R {
    let v = if cpu.fl & FL_CF != 0 { 0xff } else { 0 };
    cpu.set_r8(0, v);
    Ok(())
}
/// RDRAND, RDSEED: the host kernel's random numbers; CF clear and zero when it has none yet.
pub(crate) fn random<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let mut v = 0u64;
    // SAFETY: writes at most eight bytes to a local.
    let got = unsafe { libc::getrandom((&raw mut v).cast(), 8, libc::GRND_NONBLOCK) };
    let ok = got == 8;
    T::set_reg(cpu, i.regs[0], T::from_u64(if ok { v } else { 0 }));
    cpu.fl = if ok { FL_CF } else { 0 };
    Ok(())
}

/// PAUSE: a loop waits for another vCPU. If that one has no host processor now, waiting on one keeps it from running.
pub(crate) fn pause(cpu: &mut Cpu, _: &Insn) -> R {
    /// Pauses until the host is asked; a lock that is held for a moment is had before.
    const PATIENCE: u32 = 32;
    cpu.pauses = cpu.pauses.wrapping_add(1);
    if cpu.pauses.is_multiple_of(PATIENCE) {
        std::thread::yield_now();
    }
    if cpu.peers.is_awaited() {
        // Who spins waits for another, which cannot run now.
        cpu.signals.raise(irq::Event::Accel);
        cpu.stop_block();
        cpu.attention = true;
    }
    Ok(())
}

/// CLFLUSH and relatives: the caches are coherent; the operand must be readable.
pub(crate) fn touch_line(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.load_int::<u8>(i).map(|_| ())
}
