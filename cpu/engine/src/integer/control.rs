//! Jumps, calls, the stack.

use super::alu::source;
use super::int::Int;
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use x86::Segment;

type R = Result<(), Fault>;

impl Cpu {
    /// The mask of the stack pointer.
    pub(crate) fn stack_mask(&self) -> u64 {
        match () {
            _ if self.long => u64::MAX,
            _ if self.state.seg[2].attributes & Segment::BIG != 0 => 0xffff_ffff,
            _ => 0xffff,
        }
    }

    pub(crate) fn set_sp(&mut self, sp: u64) {
        let m = self.stack_mask();
        let r = &mut self.state.gpr[4];
        *r = if m == 0xffff { *r & !m | sp & m } else { sp & m };
    }

    /// Pushes `size` (2, 4, 8) bytes.
    #[inline]
    pub(crate) fn push(&mut self, size: u64, v: u64) -> R {
        let sp = self.state.gpr[4].wrapping_sub(size) & self.stack_mask();
        let at = if self.long { sp } else { self.linear(2, sp, size, true)? };
        let done = match size {
            8 => self.write(at, v),
            4 => self.write(at, v as u32),
            _ => self.write(at, v as u16),
        };
        done.map_err(Fault::on_stack)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Reads `size` bytes at `displacement` above the stack pointer.
    #[inline]
    pub(crate) fn peek(&mut self, size: u64, displacement: u64) -> Result<u64, Fault> {
        let sp = self.state.gpr[4].wrapping_add(displacement) & self.stack_mask();
        let at = if self.long { sp } else { self.linear(2, sp, size, false)? };
        let value = match size {
            8 => self.read::<u64>(at),
            4 => self.read::<u32>(at).map(u64::from),
            _ => self.read::<u16>(at).map(u64::from),
        };
        value.map_err(Fault::on_stack)
    }

    /// Goes to `target` in the present code segment.
    #[inline]
    pub(crate) fn go(&mut self, target: u64) -> R {
        if self.long {
            if !self.canonical(target) {
                return Err(Fault::gp(0));
            }
        } else if target > self.state.seg[1].limit.into() {
            return Err(Fault::gp(0));
        }
        self.state.rip = target;
        Ok(())
    }

    fn target(&self, i: &Insn) -> u64 {
        let to = self.state.rip.wrapping_add(i.imm);
        match i.op_size {
            2 => to & 0xffff,
            4 => to & 0xffff_ffff,
            _ => to,
        }
    }
}

pub(crate) fn jcc<const CC: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    if cpu.condition(CC) {
        let to = cpu.target(i);
        return cpu.go(to);
    }
    Ok(())
}
pub(crate) fn jmp(cpu: &mut Cpu, i: &Insn) -> R {
    let to = cpu.target(i);
    cpu.go(to)
}
pub(crate) fn jmp_ind<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let to = source::<T>(cpu, i, 0)?.to_u64();
    cpu.go(to)
}
fn call_to(cpu: &mut Cpu, size: u64, to: u64) -> R {
    let back = cpu.state.rip;
    cpu.go(to)?;
    cpu.push(size, back)
}
pub(crate) fn call(cpu: &mut Cpu, i: &Insn) -> R {
    let to = cpu.target(i);
    call_to(cpu, i.op_size.into(), to)
}
pub(crate) fn call_ind<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let to = source::<T>(cpu, i, 0)?.to_u64();
    call_to(cpu, T::SIZE, to)
}
pub(crate) fn ret<const SIZE: u64>(cpu: &mut Cpu, i: &Insn) -> R {
    let to = cpu.peek(SIZE, 0)?;
    cpu.go(to)?;
    let sp = cpu.state.gpr[4].wrapping_add(SIZE + (i.imm & 0xffff));
    cpu.set_sp(sp);
    Ok(())
}
/// LOOPNE (0), LOOPE (1), LOOP (2), JCXZ (3) with a count of `T`.
pub(crate) fn looping<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let mut n = T::reg(cpu, 1).to_u64();
    if KIND != 3 {
        n = T::from_u64(n.wrapping_sub(1)).to_u64();
    }
    let zero = cpu.condition(4);
    let taken = match KIND {
        0 => n != 0 && !zero,
        1 => n != 0 && zero,
        2 => n != 0,
        _ => n == 0,
    };
    if taken {
        let to = cpu.target(i);
        cpu.go(to)?;
    }
    if KIND != 3 {
        T::set_reg(cpu, 1, T::from_u64(n));
    }
    Ok(())
}
pub(crate) fn push_reg<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = source::<T>(cpu, i, 0)?.to_u64();
    cpu.push(T::SIZE, v)
}
pub(crate) fn push_imm<const SIZE: u64>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.push(SIZE, i.imm)
}
pub(crate) fn pop_reg<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.peek(T::SIZE, 0)?;
    let old = cpu.state.gpr[4];
    cpu.set_sp(old.wrapping_add(T::SIZE));
    if i.is_mem() {
        if let Err(fault) = cpu.store_int(i, T::from_u64(v)) {
            cpu.state.gpr[4] = old;
            return Err(fault);
        }
    } else {
        T::set_reg(cpu, i.regs[0], T::from_u64(v));
    }
    Ok(())
}
pub(crate) fn pusha<const SIZE: u64>(cpu: &mut Cpu, _: &Insn) -> R {
    let old = cpu.state.gpr;
    for v in old.into_iter().take(8) {
        if let Err(fault) = cpu.push(SIZE, v) {
            cpu.state.gpr = old;
            return Err(fault);
        }
    }
    Ok(())
}
pub(crate) fn popa<const SIZE: u64>(cpu: &mut Cpu, _: &Insn) -> R {
    let mut v = [0; 8];
    for (n, v) in v.iter_mut().enumerate() {
        *v = cpu.peek(SIZE, n as u64 * SIZE)?;
    }
    for n in [0u8, 1, 2, 3, 5, 6, 7] {
        let x = v[7 - n as usize];
        if SIZE == 2 { cpu.set_r16(n, x as u16) } else { cpu.set_r32(n, x as u32) }
    }
    let sp = cpu.state.gpr[4].wrapping_add(8 * SIZE);
    cpu.set_sp(sp);
    Ok(())
}
pub(crate) fn leave<T: Int>(cpu: &mut Cpu, _: &Insn) -> R {
    let old = cpu.state.gpr[4];
    let bp = cpu.state.gpr[5];
    cpu.set_sp(bp);
    match cpu.peek(T::SIZE, 0) {
        Ok(v) => {
            let sp = cpu.state.gpr[4].wrapping_add(T::SIZE);
            cpu.set_sp(sp);
            T::set_reg(cpu, 5, T::from_u64(v));
            Ok(())
        }
        Err(fault) => {
            cpu.state.gpr[4] = old;
            Err(fault)
        }
    }
}
pub(crate) fn enter<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let old = cpu.state.gpr;
    let result = (|| {
        let level = i.imm2 & 31;
        cpu.push(T::SIZE, old[5])?;
        let frame = cpu.state.gpr[4];
        for n in 1..level {
            let at = old[5].wrapping_sub(u64::from(n) * T::SIZE) & cpu.stack_mask();
            let at = cpu.linear(2, at, T::SIZE, false)?;
            let v = cpu.read::<T>(at).map_err(Fault::on_stack)?.to_u64();
            cpu.push(T::SIZE, v)?;
        }
        if level > 0 {
            cpu.push(T::SIZE, frame)?;
        }
        let sp = cpu.state.gpr[4].wrapping_sub(i.imm & 0xffff);
        // The final stack must be writable (SDM volume 2, ENTER).
        let last = cpu.linear(2, sp & cpu.stack_mask(), T::SIZE, true)?;
        cpu.probe_write(last, T::SIZE).map_err(Fault::on_stack)?;
        cpu.set_sp(sp);
        T::set_reg(cpu, 5, T::from_u64(frame));
        Ok(())
    })();
    if result.is_err() {
        cpu.state.gpr = old;
    }
    result
}
/// LES, LSS, LDS, LFS, LGS: an offset of `T` and the selector of segment register `SEG`.
pub(crate) fn load_far<T: Int, const SEG: usize>(cpu: &mut Cpu, i: &Insn) -> R {
    let at = cpu.ea(i, T::SIZE + 2, false)?;
    let offset = cpu.read::<T>(at)?;
    let selector = cpu.read::<u16>(at.wrapping_add(T::SIZE) & cpu.wrap())?;
    cpu.load_segment(SEG, selector)?;
    T::set_reg(cpu, i.regs[0], offset);
    if SEG == 2 {
        cpu.stop_block();
    }
    Ok(())
}
