//! Integer arithmetic on the host's own instructions, which also give the flags.

use crate::cpu::{Cpu, FL_CF};
use crate::fault::Fault;
use crate::insn::Insn;
use crate::mmu::{Word, get, put};
use std::arch::asm;

/// An operand size.
pub(crate) trait Int: Word {
    fn reg(cpu: &Cpu, n: u8) -> Self;
    fn set_reg(cpu: &mut Cpu, n: u8, v: Self);
    /// Host instruction number `OP` (see [`op`]) on two operands and the flags: result, flags.
    fn binary<const OP: u8>(a: Self, b: Self, fl: u16) -> (Self, u16);
    /// A shift or rotate by `count` (masked by the host): result, all flags.
    fn shift<const OP: u8>(a: Self, count: u8, fl: u16) -> (Self, u16);
    /// `lock cmpxchg`: true when `old` was still there.
    fn compare_exchange(p: *mut u8, old: Self, new: Self) -> bool;
}

/// Numbers of operations, as in the opcode map.
pub(crate) mod op {
    pub(crate) const ADD: u8 = 0;
    pub(crate) const OR: u8 = 1;
    pub(crate) const ADC: u8 = 2;
    pub(crate) const SBB: u8 = 3;
    pub(crate) const AND: u8 = 4;
    pub(crate) const SUB: u8 = 5;
    pub(crate) const XOR: u8 = 6;
    pub(crate) const CMP: u8 = 7;
    pub(crate) const TEST: u8 = 8;
    pub(crate) const ROL: u8 = 0;
    pub(crate) const ROR: u8 = 1;
    pub(crate) const RCL: u8 = 2;
    pub(crate) const RCR: u8 = 3;
    pub(crate) const SHL: u8 = 4;
    pub(crate) const SHR: u8 = 5;
}

macro_rules! host {
    ($name:literal, $class:ident, $m:literal, $a:ident, $b:ident) => {{
        let (r, fl): (_, u16);
        // SAFETY: plain arithmetic on registers.
        unsafe {
            asm!(concat!($name, " {a", $m, "}, {b", $m, "}"), "lahf", "seto al",
                a = inout($class) $a => r, b = in($class) $b, out("ax") fl, options(pure, nomem, nostack));
        }
        (r, fl)
    }};
    (carry $name:literal, $class:ident, $m:literal, $a:ident, $b:ident, $fl:ident) => {{
        let (r, fl): (_, u16);
        // SAFETY: plain arithmetic on registers.
        unsafe {
            asm!("bt {f:e}, 8", concat!($name, " {a", $m, "}, {b", $m, "}"), "lahf", "seto al", f = in(reg) u32::from($fl),
                a = inout($class) $a => r, b = in($class) $b, out("ax") fl, options(pure, nomem, nostack));
        }
        (r, fl)
    }};
    (shift $name:literal, $class:ident, $m:literal, $a:ident, $c:ident, $fl:ident) => {{
        let (r, fl): (_, u16);
        // SAFETY: plain arithmetic on registers.
        unsafe {
            asm!("bt {f:e}, 8", concat!($name, " {a", $m, "}, cl"), "lahf", "seto al", f = in(reg) u32::from($fl),
                a = inout($class) $a => r, in("cl") $c, out("ax") fl, options(pure, nomem, nostack));
        }
        (r, fl)
    }};
}

macro_rules! int {
    ($t:ty, $class:ident, $m:literal, $reg:ident, $set:ident, $acc:tt) => {
        impl Int for $t {
            #[inline(always)]
            fn reg(cpu: &Cpu, n: u8) -> Self {
                cpu.$reg(n)
            }
            #[inline(always)]
            fn set_reg(cpu: &mut Cpu, n: u8, v: Self) {
                cpu.$set(n, v);
            }
            #[inline(always)]
            fn binary<const OP: u8>(a: Self, b: Self, fl: u16) -> (Self, u16) {
                match OP {
                    op::ADD => host!("add", $class, $m, a, b),
                    op::OR => host!("or", $class, $m, a, b),
                    op::ADC => host!(carry "adc", $class, $m, a, b, fl),
                    op::SBB => host!(carry "sbb", $class, $m, a, b, fl),
                    op::AND => host!("and", $class, $m, a, b),
                    op::SUB => host!("sub", $class, $m, a, b),
                    op::XOR => host!("xor", $class, $m, a, b),
                    op::CMP => host!("cmp", $class, $m, a, b),
                    _ => host!("test", $class, $m, a, b),
                }
            }
            #[inline(always)]
            fn shift<const OP: u8>(a: Self, c: u8, fl: u16) -> (Self, u16) {
                match OP {
                    op::ROL => host!(shift "rol", $class, $m, a, c, fl),
                    op::ROR => host!(shift "ror", $class, $m, a, c, fl),
                    op::RCL => host!(shift "rcl", $class, $m, a, c, fl),
                    op::RCR => host!(shift "rcr", $class, $m, a, c, fl),
                    op::SHL => host!(shift "shl", $class, $m, a, c, fl),
                    op::SHR => host!(shift "shr", $class, $m, a, c, fl),
                    _ => host!(shift "sar", $class, $m, a, c, fl),
                }
            }
            #[inline(always)]
            fn compare_exchange(p: *mut u8, old: Self, new: Self) -> bool {
                let ok: u8;
                // SAFETY: the TLB vouched for the bytes at `p`; the host's locked access is atomic.
                unsafe {
                    asm!(concat!("lock cmpxchg [{p}], {n", $m, "}"), "sete {ok}", p = in(reg) p, n = in($class) new,
                        ok = lateout(reg_byte) ok, inout($acc) old => _, options(nostack));
                }
                ok != 0
            }
        }
    };
}
int!(u8, reg_byte, "", r8, set_r8, "al");
int!(u16, reg, ":x", r16, set_r16, "ax");
int!(u32, reg, ":e", r32, set_r32, "eax");
int!(u64, reg, ":r", r64, set_r64, "rax");

impl Cpu {
    /// Reads, changes and writes the memory operand, atomically when `locked`.
    #[inline(always)]
    pub(crate) fn modify<T: Int>(
        &mut self,
        insn: &Insn,
        locked: bool,
        f: impl Fn(T, u16) -> (T, u16),
    ) -> Result<(), Fault> {
        let at = self.ea(insn, T::SIZE, true)?;
        self.modify_at(at, locked, f)
    }

    /// As [`Cpu::modify`] at a linear address.
    #[inline(always)]
    pub(crate) fn modify_at<T: Int>(
        &mut self,
        at: u64,
        locked: bool,
        f: impl Fn(T, u16) -> (T, u16),
    ) -> Result<(), Fault> {
        if let Some(p) = self.tlb.write(self.set, at, T::SIZE) {
            if !locked {
                let (v, fl) = f(get(p), self.fl);
                put(p, v);
                self.fl = fl;
                return Ok(());
            }
            loop {
                let old = get::<T>(p);
                let (v, fl) = f(old, self.fl);
                if T::compare_exchange(p, old, v) {
                    self.fl = fl;
                    return Ok(());
                }
            }
        }
        self.probe_write(at, T::SIZE)?;
        if self.tlb.write(self.set, at, T::SIZE).is_some() {
            return self.modify_fast(at, f);
        }
        // A page with code, registers, or two pages.
        if locked
            && let Some(p) = self.tlb.read(self.set, at, T::SIZE)
            && !self.is_rom(p as u64)
        {
            loop {
                let old = get::<T>(p);
                let (v, fl) = f(old, self.fl);
                if T::compare_exchange(p, old, v) {
                    self.fl = fl;
                    self.note_host_write(p as u64, T::SIZE);
                    return Ok(());
                }
            }
        }
        if locked {
            self.need_exclusive()?;
        }
        let old = self.read::<T>(at)?;
        let (v, fl) = f(old, self.fl);
        self.write(at, v)?;
        self.fl = fl;
        Ok(())
    }

    fn modify_fast<T: Int>(&mut self, at: u64, f: impl Fn(T, u16) -> (T, u16)) -> Result<(), Fault> {
        if let Some(p) = self.tlb.write(self.set, at, T::SIZE) {
            loop {
                let old = get::<T>(p);
                let (v, fl) = f(old, self.fl);
                if T::compare_exchange(p, old, v) {
                    self.fl = fl;
                    break;
                }
            }
        }
        Ok(())
    }

    fn is_rom(&self, host: u64) -> bool {
        self.ram.ranges.iter().any(|r| r.readonly && host.wrapping_sub(r.host) <= r.last - r.start)
    }

    /// Reports a write that went straight to the host address `host`.
    pub(crate) fn note_host_write(&mut self, host: u64, size: u64) {
        if let Some(r) = self.ram.ranges.iter().find(|r| host.wrapping_sub(r.host) <= r.last - r.start)
            && r.block.note_write(r.offset + (host - r.host), size)
        {
            self.code_written();
        }
    }

    /// Condition `CC` (0 to 15, as in the opcodes).
    #[inline(always)]
    pub(crate) fn condition(&self, cc: u8) -> bool {
        use crate::cpu::{FL_OF, FL_PF, FL_SF, FL_ZF};
        let f = self.fl;
        let less = (f >> 15 ^ f) & 1 != 0;
        let yes = match cc >> 1 {
            0 => f & FL_OF != 0,
            1 => f & FL_CF != 0,
            2 => f & FL_ZF != 0,
            3 => f & (FL_CF | FL_ZF) != 0,
            4 => f & FL_SF != 0,
            5 => f & FL_PF != 0,
            6 => less,
            _ => less || f & FL_ZF != 0,
        };
        yes ^ (cc & 1 != 0)
    }
}
