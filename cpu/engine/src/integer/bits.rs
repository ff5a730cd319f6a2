//! BMI1, BMI2, ADX, CRC32 and BOUND.

use super::alu::{extend, source};
use super::int::{Int, op};
use crate::cpu::{Cpu, FL_CF, FL_OF};
use crate::fault::Fault;
use crate::insn::Insn;
use x86::reg::vector;

type R = Result<(), Fault>;

/// VEX-coded instructions on general registers exist in protected mode only (SDM volume 2, table 2-32).
fn vex(cpu: &Cpu) -> R {
    if cpu.protected() && !cpu.v86() { Ok(()) } else { Err(Fault::ud()) }
}

/// Writes the result; flags as after a logical instruction, with CF as given.
fn finish<T: Int>(cpu: &mut Cpu, i: &Insn, v: T, carry: bool) {
    let (_, fl) = T::binary::<{ op::TEST }>(v, v, 0);
    cpu.fl = fl & !FL_CF | if carry { FL_CF } else { 0 };
    T::set_reg(cpu, i.regs[0], v);
}

pub(crate) fn andn<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let b = source::<T>(cpu, i, 2)?.to_u64();
    let a = T::reg(cpu, i.regs[1]).to_u64();
    finish(cpu, i, T::from_u64(!a & b), false);
    Ok(())
}

pub(crate) fn bextr<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let a = source::<T>(cpu, i, 1)?.to_u64();
    let control = T::reg(cpu, i.regs[2]).to_u64();
    let (start, len) = ((control & 0xff) as u32, (control >> 8 & 0xff) as u32);
    let down = a.checked_shr(start).unwrap_or(0);
    finish(cpu, i, T::from_u64(down & low_bits(len)), false);
    Ok(())
}

/// The low `count` bits set.
fn low_bits(count: u32) -> u64 {
    1u64.checked_shl(count).unwrap_or(0).wrapping_sub(1)
}

pub(crate) fn bzhi<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let a = source::<T>(cpu, i, 1)?.to_u64();
    let n = (T::reg(cpu, i.regs[2]).to_u64() & 0xff) as u32;
    let over = n >= 8 * T::SIZE as u32;
    finish(cpu, i, T::from_u64(if over { a } else { a & low_bits(n) }), over);
    Ok(())
}

/// BLSI (0), BLSMSK (1), BLSR (2).
pub(crate) fn lowest<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let a = source::<T>(cpu, i, 1)?.to_u64();
    let v = match KIND {
        0 => a & a.wrapping_neg(),
        1 => a ^ a.wrapping_sub(1),
        _ => a & a.wrapping_sub(1),
    };
    finish(cpu, i, T::from_u64(v), (a == 0) != (KIND == 0));
    Ok(())
}

pub(crate) fn mulx<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let b = source::<T>(cpu, i, 2)?.to_u64();
    let product = u128::from(T::reg(cpu, 2).to_u64()) * u128::from(b);
    // The same register twice gets the upper half.
    T::set_reg(cpu, i.regs[1], T::from_u64(product as u64));
    T::set_reg(cpu, i.regs[0], T::from_u64((product >> (8 * T::SIZE)) as u64));
    Ok(())
}

pub(crate) fn pdep<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let mut mask = source::<T>(cpu, i, 2)?.to_u64();
    let mut from = T::reg(cpu, i.regs[1]).to_u64();
    let mut v = 0;
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if from & 1 != 0 {
            v |= bit;
        }
        (mask, from) = (mask & !bit, from >> 1);
    }
    T::set_reg(cpu, i.regs[0], T::from_u64(v));
    Ok(())
}

pub(crate) fn pext<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let mut mask = source::<T>(cpu, i, 2)?.to_u64();
    let from = T::reg(cpu, i.regs[1]).to_u64();
    let (mut v, mut at) = (0, 0);
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        v |= u64::from(from & bit != 0) << at;
        (mask, at) = (mask & !bit, at + 1);
    }
    T::set_reg(cpu, i.regs[0], T::from_u64(v));
    Ok(())
}

pub(crate) fn rorx<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let a = source::<T>(cpu, i, 1)?;
    let count = i.imm as u8 & (8 * T::SIZE as u8 - 1);
    let (v, _) = T::shift::<{ op::ROR }>(a, count, 0);
    T::set_reg(cpu, i.regs[0], v);
    Ok(())
}

/// SHLX, SHRX, SARX, by their number in [`op`].
pub(crate) fn shift_free<T: Int, const OP: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    vex(cpu)?;
    let a = source::<T>(cpu, i, 1)?;
    let count = T::reg(cpu, i.regs[2]).to_u64() as u8 & (8 * T::SIZE as u8 - 1);
    let (v, _) = T::shift::<OP>(a, count, 0);
    T::set_reg(cpu, i.regs[0], v);
    Ok(())
}

/// ADCX (0: with CF), ADOX (1: with OF); the other flags stay.
pub(crate) fn add_with<T: Int, const KIND: u8>(cpu: &mut Cpu, i: &Insn) -> R {
    let b = source::<T>(cpu, i, 1)?.to_u64();
    let a = T::reg(cpu, i.regs[0]).to_u64();
    let flag = if KIND == 0 { FL_CF } else { FL_OF };
    let sum = u128::from(a) + u128::from(b) + u128::from(cpu.fl & flag != 0);
    cpu.fl = cpu.fl & !flag | if sum >> (8 * T::SIZE) != 0 { flag } else { 0 };
    T::set_reg(cpu, i.regs[0], T::from_u64(sum as u64));
    Ok(())
}

/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut v = n as u32;
        let mut bit = 0;
        while bit < 8 {
            v = if v & 1 != 0 { v >> 1 ^ POLYNOMIAL } else { v >> 1 };
            bit += 1;
        }
        table[n] = v;
        n += 1;
    }
    table
}

static CRC: [u32; 256] = crc_table();

/// CRC32 with a source of `S`; the destination is 32 bits wide and clears the rest.
pub(crate) fn crc32<S: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let mut data = source::<S>(cpu, i, 1)?.to_u64();
    let mut crc = cpu.r32(i.regs[0]);
    for _ in 0..S::SIZE {
        crc = crc >> 8 ^ CRC[((crc ^ data as u32) & 0xff) as usize];
        data >>= 8;
    }
    cpu.set_r32(i.regs[0], crc);
    Ok(())
}

/// BOUND: #BR unless the signed index is within both bounds.
pub(crate) fn bound<T: Int>(cpu: &mut Cpu, i: &Insn) -> R {
    let at = cpu.ea(i, 2 * T::SIZE, false)?;
    let low = extend(cpu.read::<T>(at)?);
    let high = extend(cpu.read::<T>(at.wrapping_add(T::SIZE) & cpu.wrap())?);
    let index = extend(T::reg(cpu, i.regs[0]));
    if (low..=high).contains(&index) { Ok(()) } else { Err(Fault::new(vector::BR, 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32c() {
        let crc =
            b"123456789".iter().fold(!0u32, |crc, b| crc >> 8 ^ CRC[((crc ^ u32::from(*b)) & 0xff) as usize]);
        assert_eq!(!crc, 0xe306_9283);
    }

    #[test]
    fn low_bits_saturate() {
        assert_eq!(
            (low_bits(0), low_bits(1), low_bits(63), low_bits(64), low_bits(255)),
            (0, 1, u64::MAX >> 1, u64::MAX, u64::MAX)
        );
    }
}
