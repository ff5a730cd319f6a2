//! Two-operand arithmetic, moves, and everything on one or two integer operands.

use super::int::{Int, op};
use crate::cpu::{Cpu, FL_CF, FL_OF, FL_ZF};
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::vector;

type R = Result<(), Fault>;

/// Reads operand `n`, register or memory.
#[inline(always)]
pub(crate) fn source<T: Int>(cpu: &mut Cpu, i: &Insn, n: usize) -> Result<T, Fault> {
    if i.is_mem() && usize::from(i.mem_op) == n { cpu.load_int(i) } else { Ok(T::reg(cpu, i.regs[n])) }
}

/// Writes operand `n`, register or memory.
#[inline(always)]
pub(crate) fn sink<T: Int>(cpu: &mut Cpu, i: &Insn, n: usize, v: T) -> R {
    if i.is_mem() && usize::from(i.mem_op) == n {
        return cpu.store_int(i, v);
    }
    T::set_reg(cpu, i.regs[n], v);
    Ok(())
}

pub(crate) fn rr<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let (v, fl) = T::binary::<OP>(T::reg(cpu, i.regs[0]), T::reg(cpu, i.regs[1]), cpu.fl);
    cpu.fl = fl;
    if OP < op::CMP {
        T::set_reg(cpu, i.regs[0], v);
    }
    Ok(())
}

pub(crate) fn rm<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = cpu.load_int::<T>(i)?;
    let (v, fl) = T::binary::<OP>(T::reg(cpu, i.regs[0]), b, cpu.fl);
    cpu.fl = fl;
    if OP < op::CMP {
        T::set_reg(cpu, i.regs[0], v);
    }
    Ok(())
}

#[inline(always)]
fn memory<T: Int, const OP: u8, const LOCK: bool>(cpu: &mut Cpu, i: &Insn, b: T) -> R {
    if OP >= op::CMP {
        let a = cpu.load_int::<T>(i)?;
        cpu.fl = T::binary::<OP>(a, b, 0).1;
        return Ok(());
    }
    cpu.modify(i, LOCK, |a, fl| T::binary::<OP>(a, b, fl))
}

pub(crate) fn mr<T: Int, const OP: u8, const LOCK: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = T::reg(cpu, i.regs[1]);
    memory::<T, OP, LOCK>(cpu, i, b)
}

pub(crate) fn mi<T: Int, const OP: u8, const LOCK: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    memory::<T, OP, LOCK>(cpu, i, T::from_u64(i.imm))
}

pub(crate) fn ri<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let (v, fl) = T::binary::<OP>(T::reg(cpu, i.regs[0]), T::from_u64(i.imm), cpu.fl);
    cpu.fl = fl;
    if OP < op::CMP {
        T::set_reg(cpu, i.regs[0], v);
    }
    Ok(())
}

pub(crate) fn mov_rr<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    T::set_reg(cpu, i.regs[0], T::reg(cpu, i.regs[1]));
    Ok(())
}
pub(crate) fn mov_rm<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.load_int::<T>(i)?;
    T::set_reg(cpu, i.regs[0], v);
    Ok(())
}
pub(crate) fn mov_mr<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.store_int(i, T::reg(cpu, i.regs[1]))
}
pub(crate) fn mov_ri<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    T::set_reg(cpu, i.regs[0], T::from_u64(i.imm));
    Ok(())
}
pub(crate) fn mov_mi<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    cpu.store_int(i, T::from_u64(i.imm))
}
pub(crate) fn movzx<T: Int, S: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = source::<S>(cpu, i, 1)?;
    T::set_reg(cpu, i.regs[0], T::from_u64(v.to_u64()));
    Ok(())
}
#[inline(always)]
pub(crate) fn extend<S: Int>(v: S) -> i64 {
    let shift = 64 - 8 * S::SIZE;
    ((v.to_u64() << shift) as i64) >> shift
}
pub(crate) fn movsx<T: Int, S: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = source::<S>(cpu, i, 1)?;
    T::set_reg(cpu, i.regs[0], T::from_u64(extend(v) as u64));
    Ok(())
}
pub(crate) fn lea<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = cpu.offset(i);
    T::set_reg(cpu, i.regs[0], T::from_u64(v));
    Ok(())
}
#[inline(always)]
fn unary<T: Int>(cpu: &mut Cpu, i: &Insn, f: impl Fn(T, u16) -> (T, u16)) -> R {
    if i.is_mem() {
        return cpu.modify(i, i.is_locked(), f);
    }
    let (v, fl) = f(T::reg(cpu, i.regs[0]), cpu.fl);
    cpu.fl = fl;
    T::set_reg(cpu, i.regs[0], v);
    Ok(())
}
pub(crate) fn inc<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    unary::<T>(cpu, i, |a, old| {
        let (v, fl) = T::binary::<{ op::ADD }>(a, T::from_u64(1), 0);
        (v, fl & !FL_CF | old & FL_CF)
    })
}
pub(crate) fn dec<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    unary::<T>(cpu, i, |a, old| {
        let (v, fl) = T::binary::<{ op::SUB }>(a, T::from_u64(1), 0);
        (v, fl & !FL_CF | old & FL_CF)
    })
}
pub(crate) fn neg<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    unary::<T>(cpu, i, |a, _| T::binary::<{ op::SUB }>(T::from_u64(0), a, 0))
}
pub(crate) fn not<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    unary::<T>(cpu, i, |a, fl| (T::from_u64(!a.to_u64()), fl))
}
#[inline(always)]
fn shifted<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn, count: u8) -> R {
    let count = count & if T::SIZE == 8 { 63 } else { 31 };
    unary::<T>(cpu, i, |a, old| {
        if count == 0 {
            return (a, old);
        }
        let (v, fl) = T::shift::<OP>(a, count, old);
        if OP <= op::RCR { (v, old & !(FL_CF | FL_OF) | fl & (FL_CF | FL_OF)) } else { (v, fl) }
    })
}
pub(crate) fn shift_imm<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    shifted::<T, OP>(cpu, i, i.imm as u8)
}
pub(crate) fn shift_cl<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let count = cpu.r8(1);
    shifted::<T, OP>(cpu, i, count)
}
/// SHLD and SHRD.
pub(crate) fn double_shift<T: Int, const LEFT: bool, const CL: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let bits = 8 * T::SIZE as u32;
    let count = u32::from(if CL { cpu.r8(1) } else { i.imm as u8 }) & if T::SIZE == 8 { 63 } else { 31 };
    let b = T::reg(cpu, i.regs[1]).to_u64();
    unary::<T>(cpu, i, |a, old| {
        if count == 0 {
            return (a, old);
        }
        let a0 = a.to_u64();
        let (wide, carry) = if LEFT {
            let w = (u128::from(a0) << bits | u128::from(b)) << count;
            ((w >> bits) as u64, false)
        } else {
            let w = u128::from(b) << bits | u128::from(a0);
            ((w >> count) as u64, w >> (count - 1) & 1 != 0)
        };
        let carry = if LEFT { count <= bits && a0 >> (bits - count.min(bits)) & 1 != 0 } else { carry };
        let v = T::from_u64(wide);
        let (_, fl) = T::binary::<{ op::TEST }>(v, v, 0);
        let sign = |x: u64| x >> (bits - 1) & 1;
        let of = sign(v.to_u64()) ^ sign(a0);
        (v, fl & !(FL_CF | FL_OF) | if carry { FL_CF } else { 0 } | of as u16)
    })
}
pub(crate) fn xchg<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let n = if i.is_mem() && i.mem_op == 1 { 0 } else { 1 };
    let b = T::reg(cpu, i.regs[n]);
    if !i.is_mem() {
        let a = T::reg(cpu, i.regs[0]);
        T::set_reg(cpu, i.regs[0], b);
        T::set_reg(cpu, i.regs[1], a);
        return Ok(());
    }
    let old = std::cell::Cell::new(T::default());
    cpu.modify(i, true, |a, fl| {
        old.set(a);
        (b, fl)
    })?;
    T::set_reg(cpu, i.regs[n], old.get());
    Ok(())
}
pub(crate) fn xadd<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = T::reg(cpu, i.regs[1]);
    if !i.is_mem() {
        let a = T::reg(cpu, i.regs[0]);
        let (v, fl) = T::binary::<{ op::ADD }>(a, b, 0);
        cpu.fl = fl;
        T::set_reg(cpu, i.regs[1], a);
        T::set_reg(cpu, i.regs[0], v);
        return Ok(());
    }
    let old = std::cell::Cell::new(T::default());
    cpu.modify(i, i.is_locked(), |a, _| {
        old.set(a);
        T::binary::<{ op::ADD }>(a, b, 0)
    })?;
    T::set_reg(cpu, i.regs[1], old.get());
    Ok(())
}
pub(crate) fn cmpxchg<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let (acc, b) = (T::reg(cpu, 0), T::reg(cpu, i.regs[1]));
    let old = std::cell::Cell::new(T::default());
    let f = |a: T, _| {
        old.set(a);
        let (_, fl) = T::binary::<{ op::CMP }>(acc, a, 0);
        (if fl & FL_ZF != 0 { b } else { a }, fl)
    };
    if i.is_mem() {
        cpu.modify(i, i.is_locked(), f)?;
    } else {
        // A register that differs is not written (APM volume 3): its upper half stays.
        let a = T::reg(cpu, i.regs[0]);
        cpu.fl = f(a, 0).1;
        if cpu.fl & FL_ZF != 0 {
            T::set_reg(cpu, i.regs[0], b);
        }
    }
    if cpu.fl & FL_ZF == 0 {
        T::set_reg(cpu, 0, old.get());
    }
    Ok(())
}
pub(crate) fn cmpxchg8b(cpu: &mut Cpu, i: &Insn) -> R {
    let both = |h: u8, l: u8, c: &Cpu| u64::from(c.r32(h)) << 32 | u64::from(c.r32(l));
    let (want, new) = (both(2, 0, cpu), both(1, 3, cpu));
    let old = std::cell::Cell::new(0);
    cpu.modify::<u64>(i, i.is_locked(), |a, fl| {
        old.set(a);
        if a == want { (new, fl | FL_ZF) } else { (a, fl & !FL_ZF) }
    })?;
    if cpu.fl & FL_ZF == 0 {
        cpu.set_r32(0, old.get() as u32);
        cpu.set_r32(2, (old.get() >> 32) as u32);
    }
    Ok(())
}
pub(crate) fn cmpxchg16b(cpu: &mut Cpu, i: &Insn) -> R {
    let at = cpu.ea(i, 16, true)?;
    if at % 16 != 0 {
        return Err(Fault::gp(0));
    }
    cpu.probe_write(at, 16)?;
    let (mut lo, mut hi) = (cpu.state.gpr[0], cpu.state.gpr[2]);
    let (new_lo, new_hi) = (cpu.state.gpr[3], cpu.state.gpr[1]);
    let equal: bool;
    if let Some(p) = cpu.tlb.read(cpu.set, at, 16) {
        let ok: u8;
        // SAFETY: 16 aligned bytes of guest RAM that the TLB vouched for and `probe_write` found writable; rbx is
        // put back.
        unsafe {
            std::arch::asm!("xchg rbx, {n}", "lock cmpxchg16b [{p}]", "sete {ok}", "mov rbx, {n}",
                n = inout(reg) new_lo => _, p = in(reg) p, ok = out(reg_byte) ok, inout("rax") lo, inout("rdx") hi,
                in("rcx") new_hi, options(nostack));
        }
        equal = ok != 0;
        cpu.note_host_write(p as u64, 16);
    } else {
        if i.is_locked() {
            cpu.need_exclusive()?;
        }
        let (a, b) = (cpu.read::<u64>(at)?, cpu.read::<u64>(at + 8)?);
        equal = (a, b) == (lo, hi);
        (lo, hi) = (a, b);
        if equal {
            cpu.write(at, new_lo)?;
            cpu.write(at + 8, new_hi)?;
        }
    }
    cpu.fl = cpu.fl & !FL_ZF | if equal { FL_ZF } else { 0 };
    if !equal {
        cpu.state.gpr[0] = lo;
        cpu.state.gpr[2] = hi;
    }
    Ok(())
}
pub(crate) fn bswap<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = T::reg(cpu, i.regs[0]).to_u64().swap_bytes() >> (64 - 8 * T::SIZE);
    T::set_reg(cpu, i.regs[0], T::from_u64(if T::SIZE == 2 { 0 } else { v }));
    Ok(())
}
pub(crate) fn movbe<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = source::<T>(cpu, i, 1)?.to_u64().swap_bytes() >> (64 - 8 * T::SIZE);
    sink(cpu, i, 0, T::from_u64(v))
}
/// BT (0), BTS (1), BTR (2), BTC (3).
#[inline(always)]
fn bit<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn, n: u64, far: bool) -> R {
    let bits = 8 * T::SIZE;
    let mask = 1u64 << (n % bits);
    let f = |a: T, fl: u16| {
        let v = a.to_u64();
        let fl = fl & !FL_CF | if v & mask != 0 { FL_CF } else { 0 };
        (
            T::from_u64(match KIND {
                0 => v,
                1 => v | mask,
                2 => v & !mask,
                _ => v ^ mask,
            }),
            fl,
        )
    };
    if !i.is_mem() {
        let (v, fl) = f(T::reg(cpu, i.regs[0]), cpu.fl);
        cpu.fl = fl;
        if KIND != 0 {
            T::set_reg(cpu, i.regs[0], v);
        }
        return Ok(());
    }
    let step = if far {
        ((extend(T::from_u64(n)) >> bits.trailing_zeros()) as u64).wrapping_mul(T::SIZE)
    } else {
        0
    };
    let at = cpu.element(i, step, T::SIZE, KIND != 0)?;
    if KIND == 0 {
        let v = cpu.read::<T>(at)?;
        cpu.fl = f(v, cpu.fl).1;
        return Ok(());
    }
    cpu.modify_at(at, i.is_locked(), f)
}
pub(crate) fn bit_reg<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let n = T::reg(cpu, i.regs[1]).to_u64();
    bit::<T, KIND>(cpu, i, n, true)
}
pub(crate) fn bit_imm<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    bit::<T, KIND>(cpu, i, i.imm, false)
}
/// BSF (0), BSR (1), TZCNT (2), LZCNT (3), POPCNT (4).
pub(crate) fn scan<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = source::<T>(cpu, i, 1)?.to_u64();
    let bits = 8 * T::SIZE as u32;
    let zeros = v.leading_zeros() - (64 - bits);
    let (r, zf, cf) = match KIND {
        0 | 1 if v == 0 => {
            cpu.fl |= FL_ZF;
            return Ok(());
        }
        0 => (v.trailing_zeros(), false, false),
        1 => (bits - 1 - zeros, false, false),
        2 => (v.trailing_zeros().min(bits), v & 1 != 0, v == 0),
        3 => (zeros, zeros == 0, v == 0),
        _ => (v.count_ones(), v == 0, false),
    };
    let keep = if KIND == 4 { 0 } else { cpu.fl };
    cpu.fl = keep & !(FL_ZF | FL_CF) | if zf { FL_ZF } else { 0 } | if cf { FL_CF } else { 0 };
    T::set_reg(cpu, i.regs[0], T::from_u64(r.into()));
    Ok(())
}
fn overflow(cpu: &mut Cpu, over: bool) {
    cpu.fl = cpu.fl & !(FL_CF | FL_OF) | if over { FL_CF | FL_OF } else { 0 };
}
fn set_pair<T: Int>(cpu: &mut Cpu, lo: u64, hi: u64) {
    if T::SIZE == 1 {
        cpu.set_r16(0, (lo & 0xff | hi << 8) as u16);
    } else {
        T::set_reg(cpu, 0, T::from_u64(lo));
        T::set_reg(cpu, 2, T::from_u64(hi));
    }
}
pub(crate) fn mul<T: Int, const SIGNED: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = source::<T>(cpu, i, 0)?;
    let a = T::reg(cpu, 0);
    let bits = 8 * T::SIZE as u32;
    let (r, over) = if SIGNED {
        let r = i128::from(extend(a)) * i128::from(extend(b));
        (r as u128, i128::from(extend(T::from_u64(r as u64))) != r)
    } else {
        let r = u128::from(a.to_u64()) * u128::from(b.to_u64());
        (r, r >> bits != 0)
    };
    set_pair::<T>(cpu, r as u64, (r >> bits) as u64);
    overflow(cpu, over);
    Ok(())
}
#[inline(always)]
fn imul<T: Int>(cpu: &mut Cpu, i: &Insn, a: T, b: T) -> R {
    let r = i128::from(extend(a)) * i128::from(extend(b));
    let v = T::from_u64(r as u64);
    T::set_reg(cpu, i.regs[0], v);
    overflow(cpu, i128::from(extend(v)) != r);
    Ok(())
}
pub(crate) fn imul2<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = source::<T>(cpu, i, 1)?;
    imul(cpu, i, T::reg(cpu, i.regs[0]), b)
}
pub(crate) fn imul3<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let a = source::<T>(cpu, i, 1)?;
    imul(cpu, i, a, T::from_u64(i.imm))
}
pub(crate) fn div<T: Int, const SIGNED: bool>(cpu: &mut Cpu, i: &Insn) -> R {
    let d = source::<T>(cpu, i, 0)?;
    let bits = 8 * T::SIZE as u32;
    let n = if T::SIZE == 1 {
        u128::from(cpu.r16(0))
    } else {
        u128::from(T::reg(cpu, 2).to_u64()) << bits | u128::from(T::reg(cpu, 0).to_u64())
    };
    let bad = Err(Fault::new(vector::DE, 0));
    if d.to_u64() == 0 {
        return bad;
    }
    let (q, r) = if SIGNED {
        let shift = 128 - 2 * bits;
        let n = ((n << shift) as i128) >> shift;
        let d = i128::from(extend(d));
        let (Some(q), Some(r)) = (n.checked_div(d), n.checked_rem(d)) else { return bad };
        if i128::from(extend(T::from_u64(q as u64))) != q {
            return bad;
        }
        (q as u64, r as u64)
    } else if T::SIZE <= 4 || n >> 64 == 0 {
        let (n, d) = (n as u64, d.to_u64());
        (n / d, n % d)
    } else {
        let q = n / u128::from(d.to_u64());
        if q >> bits != 0 {
            return bad;
        }
        (q as u64, (n % u128::from(d.to_u64())) as u64)
    };
    if !SIGNED && T::SIZE < 8 && q >> bits != 0 {
        return bad;
    }
    set_pair::<T>(cpu, T::from_u64(q).to_u64(), T::from_u64(r).to_u64());
    Ok(())
}
pub(crate) fn convert<T: Int, S: Int>(cpu: &mut Cpu, _: &Insn) -> R {
    let v = extend(S::reg(cpu, 0)) as u64;
    T::set_reg(cpu, 0, T::from_u64(v));
    Ok(())
}
pub(crate) fn spread<T: Int>(cpu: &mut Cpu, _: &Insn) -> R {
    let v = extend(T::reg(cpu, 0)) >> 63;
    T::set_reg(cpu, 2, T::from_u64(v as u64));
    Ok(())
}
pub(crate) fn cmov<T: Int, const CC: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = source::<T>(cpu, i, 1)?;
    let v = if cpu.condition(CC) { b } else { T::reg(cpu, i.regs[0]) };
    T::set_reg(cpu, i.regs[0], v);
    Ok(())
}
pub(crate) fn set<const CC: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let v = u8::from(cpu.condition(CC));
    sink::<u8>(cpu, i, 0, v)
}
