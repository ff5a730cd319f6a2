//! Loads and stores of guest memory.

use super::{Access, PAGE_MASK};
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::insn::Insn;
use guestmem::PAGE_SIZE;
use x86::reg::vector;

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Packed<T>(T);

/// An integer that is accessed in one piece.
pub(crate) trait Word: Copy + Default + 'static {
    const SIZE: u64;
    fn from_u64(v: u64) -> Self;
    fn to_u64(self) -> u64;
}
macro_rules! word {
    ($($t:ty)*) => {$(impl Word for $t {
        const SIZE: u64 = size_of::<$t>() as u64;
        #[inline(always)]
        fn from_u64(v: u64) -> Self { v as $t }
        #[inline(always)]
        fn to_u64(self) -> u64 { self.into() }
    })*};
}
word!(u8 u16 u32 u64);

/// Reads guest RAM at `p`, which the TLB vouched for.
#[inline(always)]
pub(crate) fn get<T: Word>(p: *mut u8) -> T {
    // SAFETY: callers got `p` from the TLB for at least T::SIZE bytes; volatile allows concurrent writers.
    unsafe { p.cast::<Packed<T>>().read_volatile().0 }
}

/// Writes guest RAM at `p`, which the TLB vouched for.
#[inline(always)]
pub(crate) fn put<T: Word>(p: *mut u8, v: T) {
    // SAFETY: as in `get`.
    unsafe { p.cast::<Packed<T>>().write_volatile(Packed(v)) }
}

impl Cpu {
    /// Reads an integer at a linear address.
    #[inline(always)]
    pub(crate) fn read<T: Word>(&mut self, linear: u64) -> Result<T, Fault> {
        match self.tlb.read(self.set, linear, T::SIZE) {
            Some(p) => Ok(get(p)),
            None => self.read_slow(linear, T::SIZE, self.set).map(T::from_u64),
        }
    }

    /// Writes an integer at a linear address.
    #[inline(always)]
    pub(crate) fn write<T: Word>(&mut self, linear: u64, v: T) -> Result<(), Fault> {
        match self.tlb.write(self.set, linear, T::SIZE) {
            Some(p) => {
                put(p, v);
                Ok(())
            }
            None => self.write_slow(linear, T::SIZE, v.to_u64(), self.set),
        }
    }

    /// Reads with supervisor rights (descriptor tables, task state).
    pub(crate) fn read_system<T: Word>(&mut self, linear: u64) -> Result<T, Fault> {
        match self.tlb.read(1, linear, T::SIZE) {
            Some(p) => Ok(get(p)),
            None => self.read_slow(linear, T::SIZE, 1).map(T::from_u64),
        }
    }

    /// Writes with supervisor rights.
    pub(crate) fn write_system<T: Word>(&mut self, linear: u64, v: T) -> Result<(), Fault> {
        self.write_slow(linear, T::SIZE, v.to_u64(), 1)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn read_slow(&mut self, linear: u64, size: u64, set: u8) -> Result<u64, Fault> {
        if self.aligned && set == 0 && linear & (size - 1) != 0 {
            return Err(Fault::new(vector::AC, 0));
        }
        if self.debug.data != 0 {
            self.note_access(linear, size, false);
        }
        if self.debugger.is_active {
            self.note_watched(linear, size, false);
        }
        if linear & 0xfff <= PAGE_SIZE - size {
            let physical = if self.tlb.promote(set, linear) && self.tlb.read(set, linear, size).is_some() {
                0
            } else {
                self.fill(linear, Access::Read, set)?
            };
            return Ok(match self.tlb.read(set, linear, size) {
                Some(p) => match size {
                    1 => get::<u8>(p).into(),
                    2 => get::<u16>(p).into(),
                    4 => get::<u32>(p).into(),
                    _ => get(p),
                },
                None => self.physical_read(physical, size),
            });
        }
        self.check_end(linear, size)?;
        let wrap = self.wrap();
        let first = PAGE_SIZE - (linear & 0xfff);
        let (p0, p1) = (
            self.fill(linear, Access::Read, set)?,
            self.fill(linear.wrapping_add(first) & wrap, Access::Read, set)?,
        );
        let mut v = 0;
        for n in 0..size {
            let at = if n < first { p0 + n } else { p1 + (n - first) };
            v |= self.physical_read(at, 1) << (8 * n);
        }
        Ok(v)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn write_slow(&mut self, linear: u64, size: u64, v: u64, set: u8) -> Result<(), Fault> {
        if self.aligned && set == 0 && linear & (size - 1) != 0 {
            return Err(Fault::new(vector::AC, 0));
        }
        if self.debug.data != 0 {
            self.note_access(linear, size, true);
        }
        if self.debugger.is_active {
            self.note_watched(linear, size, true);
        }
        if linear & 0xfff <= PAGE_SIZE - size {
            let physical = if self.tlb.promote(set, linear) && self.tlb.write(set, linear, size).is_some() {
                0
            } else {
                self.fill(linear, Access::Write, set)?
            };
            match self.tlb.write(set, linear, size) {
                Some(p) => match size {
                    1 => put(p, v as u8),
                    2 => put(p, v as u16),
                    4 => put(p, v as u32),
                    _ => put(p, v),
                },
                None => self.physical_write(physical, size, v),
            }
            return Ok(());
        }
        self.check_end(linear, size)?;
        let wrap = self.wrap();
        let first = PAGE_SIZE - (linear & 0xfff);
        let (p0, p1) = (
            self.fill(linear, Access::Write, set)?,
            self.fill(linear.wrapping_add(first) & wrap, Access::Write, set)?,
        );
        for n in 0..size {
            let at = if n < first { p0 + n } else { p1 + (n - first) };
            self.physical_write(at, 1, v >> (8 * n) & 0xff);
        }
        Ok(())
    }

    /// Raises #GP(0) when an access ends outside the canonical addresses; that comes before page faults.
    fn check_end(&self, linear: u64, size: u64) -> Result<(), Fault> {
        if self.lma() && !self.canonical(linear.wrapping_add(size - 1)) {
            return Err(Fault::noncanonical());
        }
        Ok(())
    }

    pub(crate) fn wrap(&self) -> u64 {
        if self.lma() { u64::MAX } else { 0xffff_ffff }
    }

    pub(crate) fn physical_read(&self, physical: u64, size: u64) -> u64 {
        match self.ram.find(physical) {
            Some(r) if r.last - physical >= size - 1 => {
                r.block.read_int(r.offset + (physical - r.start), size as u8)
            }
            _ => self.io.mmio_read(physical, size as u8),
        }
    }

    pub(crate) fn physical_write(&mut self, physical: u64, size: u64, v: u64) {
        match self.ram.find(physical) {
            Some(r) if r.last - physical >= size - 1 => {
                if r.readonly {
                    return;
                }
                let at = r.offset + (physical - r.start);
                let code = r.block.holds_code(at / PAGE_SIZE);
                r.block.write_int(at, size as u8, v);
                if code {
                    self.code_written();
                }
            }
            _ => self.io.mmio_write(physical, size as u8, v),
        }
    }

    /// Raises the fault that a write of `size` bytes (up to a page) at `linear` would.
    pub(crate) fn probe_write(&mut self, linear: u64, size: u64) -> Result<(), Fault> {
        if self.tlb.write(self.set, linear, size).is_some() {
            return Ok(());
        }
        self.check_end(linear, size)?;
        let set = self.set;
        self.fill(linear, Access::Write, set)?;
        let last = linear.wrapping_add(size - 1) & self.wrap();
        if last & PAGE_MASK != linear & PAGE_MASK {
            self.fill(last & PAGE_MASK, Access::Write, set)?;
        }
        Ok(())
    }

    /// Reads `N` bytes at a linear address.
    #[inline(always)]
    pub(crate) fn read_bytes<const N: usize>(&mut self, linear: u64) -> Result<[u8; N], Fault> {
        let mut buf = [0; N];
        if let Some(p) = self.tlb.read(self.set, linear, N as u64) {
            copy_out(p, &mut buf);
            return Ok(buf);
        }
        self.read_buf(linear, &mut buf)?;
        Ok(buf)
    }

    /// Reads bytes at a linear address, piece by piece.
    pub(crate) fn read_buf(&mut self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.check_end(linear, buf.len() as u64)?;
        if let Some(p) = self.tlb.read(self.set, linear, buf.len() as u64) {
            copy_out(p, buf);
            return Ok(());
        }
        let wrap = self.wrap();
        let mut at = 0;
        while at < buf.len() {
            let n = [8, 4, 2, 1].into_iter().find(|&n| n <= buf.len() - at).unwrap_or(1);
            let set = self.set;
            let here = linear.wrapping_add(at as u64) & wrap;
            let v = match self.tlb.read(set, here, n as u64) {
                Some(p) if n == 8 => get::<u64>(p),
                _ => self.read_slow(here, n as u64, set)?,
            };
            buf[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
            at += n;
        }
        Ok(())
    }

    /// Writes bytes at a linear address; all or nothing.
    pub(crate) fn write_buf(&mut self, linear: u64, buf: &[u8]) -> Result<(), Fault> {
        if let Some(p) = self.tlb.write(self.set, linear, buf.len() as u64) {
            copy_in(p, buf);
            return Ok(());
        }
        self.probe_write(linear, buf.len() as u64)?;
        let wrap = self.wrap();
        let mut at = 0;
        while at < buf.len() {
            let n = [8, 4, 2, 1].into_iter().find(|&n| n <= buf.len() - at).unwrap_or(1);
            let mut v = [0; 8];
            v[..n].copy_from_slice(&buf[at..at + n]);
            let here = linear.wrapping_add(at as u64) & wrap;
            match self.tlb.write(self.set, here, n as u64) {
                Some(p) if n == 8 => put(p, u64::from_le_bytes(v)),
                _ => self.write_slow(here, n as u64, u64::from_le_bytes(v), self.set)?,
            }
            at += n;
        }
        Ok(())
    }

    /// Loads the memory operand.
    #[inline(always)]
    pub(crate) fn load_int<T: Word>(&mut self, insn: &Insn) -> Result<T, Fault> {
        let at = self.ea(insn, T::SIZE, false)?;
        self.read(at)
    }

    /// Stores the memory operand.
    #[inline(always)]
    pub(crate) fn store_int<T: Word>(&mut self, insn: &Insn, v: T) -> Result<(), Fault> {
        let at = self.ea(insn, T::SIZE, true)?;
        self.write(at, v)
    }

    /// Loads the memory operand of `N` bytes.
    ///
    /// # Errors
    /// The fault of the access.
    #[inline(always)]
    pub fn load<const N: usize>(&mut self, insn: &Insn) -> Result<[u8; N], Fault> {
        let at = self.ea(insn, N as u64, false)?;
        self.read_bytes(at)
    }

    /// Whether the operand's linear address is a multiple of `size`.
    pub(crate) fn is_aligned(&self, insn: &Insn, size: u64) -> bool {
        let base = match insn.seg {
            0..4 if self.long => 0,
            n => self.state.seg[usize::from(n) % 6].base,
        };
        self.offset(insn).wrapping_add(base).is_multiple_of(size)
    }

    /// #GP(0) unless the operand's linear address is a multiple of `size`; that comes before limits.
    fn check_alignment(&self, insn: &Insn, size: u64) -> Result<(), Fault> {
        if self.is_aligned(insn, size) { Ok(()) } else { Err(Fault::gp(0)) }
    }

    /// As [`Cpu::load`]; #GP(0) unless the address is a multiple of `N`.
    ///
    /// # Errors
    /// The fault of the access.
    pub fn load_aligned<const N: usize>(&mut self, insn: &Insn) -> Result<[u8; N], Fault> {
        self.check_alignment(insn, N as u64)?;
        let at = self.ea(insn, N as u64, false)?;
        self.read_bytes(at)
    }

    /// Stores the memory operand of `N` bytes.
    ///
    /// # Errors
    /// The fault of the access; nothing was written then.
    #[inline(always)]
    pub fn store<const N: usize>(&mut self, insn: &Insn, value: [u8; N]) -> Result<(), Fault> {
        let at = self.ea(insn, N as u64, true)?;
        if let Some(p) = self.tlb.write(self.set, at, N as u64) {
            copy_in(p, &value);
            return Ok(());
        }
        self.write_buf(at, &value)
    }

    /// As [`Cpu::store`]; #GP(0) unless the address is a multiple of `N`.
    ///
    /// # Errors
    /// The fault of the access; nothing was written then.
    pub fn store_aligned<const N: usize>(&mut self, insn: &Insn, value: [u8; N]) -> Result<(), Fault> {
        self.check_alignment(insn, N as u64)?;
        self.store(insn, value)
    }

    /// The linear address of `size` bytes at the memory operand's offset plus `displacement`.
    pub(crate) fn part(&self, insn: &Insn, displacement: u64, size: u64, write: bool) -> Result<u64, Fault> {
        self.linear(insn.seg, self.offset(insn).wrapping_add(displacement), size, write)
    }

    /// As [`Cpu::part`], where `displacement` is part of the effective address and wraps with it: bit offsets, gathers.
    pub(crate) fn element(
        &self,
        insn: &Insn,
        displacement: u64,
        size: u64,
        write: bool,
    ) -> Result<u64, Fault> {
        let at = self.offset(insn).wrapping_add(displacement);
        let at = match insn.address_size {
            8 => at,
            4 => at & 0xffff_ffff,
            _ => at & 0xffff,
        };
        self.linear(insn.seg, at, size, write)
    }

    /// Loads `N` bytes at the memory operand's offset plus `displacement`.
    ///
    /// # Errors
    /// The fault of the access.
    pub fn load_part<const N: usize>(&mut self, insn: &Insn, displacement: u64) -> Result<[u8; N], Fault> {
        let at = self.part(insn, displacement, N as u64, false)?;
        self.read_bytes(at)
    }

    /// Stores bytes at the memory operand's offset plus `displacement`.
    ///
    /// # Errors
    /// The fault of the access; nothing was written then.
    pub fn store_part(&mut self, insn: &Insn, displacement: u64, value: &[u8]) -> Result<(), Fault> {
        let at = self.part(insn, displacement, value.len() as u64, true)?;
        self.write_buf(at, value)
    }

    /// Raises the fault that [`Cpu::store_part`] would raise.
    ///
    /// # Errors
    /// That fault.
    pub fn check_store_part(&mut self, insn: &Insn, displacement: u64, size: u64) -> Result<(), Fault> {
        let at = self.part(insn, displacement, size, true)?;
        self.probe_write(at, size)
    }
}

/// Copies from guest RAM in words of up to 8 bytes.
#[inline(always)]
fn copy_out(p: *mut u8, buf: &mut [u8]) {
    let mut at = 0;
    while at + 8 <= buf.len() {
        buf[at..at + 8].copy_from_slice(&get::<u64>(p.wrapping_add(at)).to_le_bytes());
        at += 8;
    }
    while at < buf.len() {
        buf[at] = get(p.wrapping_add(at));
        at += 1;
    }
}

/// Copies to guest RAM in words of up to 8 bytes.
#[inline(always)]
fn copy_in(p: *mut u8, buf: &[u8]) {
    let mut at = 0;
    while at + 8 <= buf.len() {
        let mut v = [0; 8];
        v.copy_from_slice(&buf[at..at + 8]);
        put(p.wrapping_add(at), u64::from_le_bytes(v));
        at += 8;
    }
    while at < buf.len() {
        put(p.wrapping_add(at), buf[at]);
        at += 1;
    }
}
