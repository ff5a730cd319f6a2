//! One virtual processor of the interpreter: registers, flags, caches.

use crate::block::{BlockCache, Features};
use crate::fault::Fault;
use crate::insn::{HIGH, Insn, NONE};
use crate::mmu::{Ram, Tlb};
use accel::CpuIo;
use guestmem::AddressSpace;
use irq::CpuSignals;
use std::sync::Arc;
use x86::X86State;
use x86::cpuid::CpuidTable;
use x86::reg::{cr0, cr4, efer, flags, seg, vector, xcr0};

/// CF in the lazy flags word.
pub(crate) const FL_CF: u16 = 0x100;
/// PF in the flags word.
pub(crate) const FL_PF: u16 = 0x400;
/// ZF in the flags word.
pub(crate) const FL_ZF: u16 = 0x4000;
/// SF in the flags word.
pub(crate) const FL_SF: u16 = 0x8000;
/// OF in the flags word.
pub(crate) const FL_OF: u16 = 1;

/// One virtual processor.
#[repr(C)]
pub struct Cpu {
    /// The registers. `rflags` lacks the six arithmetic flags, which are in `fl`; use [`Cpu::rflags`].
    pub state: X86State,
    /// The arithmetic flags as LAHF (bits 15:8) and SETO AL (bit 0) give them.
    pub(crate) fl: u16,
    /// Which TLB set data accesses use.
    pub(crate) set: u8,
    /// Operand of the instruction at hand: 64-bit mode.
    pub(crate) long: bool,
    /// CS.D, SS.B and flatness as decoding sees them.
    pub(crate) bits: u8,
    /// One past the last instruction of the block at hand; lowered to leave the block early.
    pub(crate) end: *const Insn,
    pub(crate) tlb: Tlb,
    pub(crate) ram: Ram,
    pub(crate) blocks: BlockCache,
    pub(crate) features: Features,
    /// Code that executes AVX-512 instructions for the interpreter.
    pub(crate) thunks: crate::evex::Thunks,
    pub(crate) io: Arc<dyn CpuIo>,
    pub(crate) signals: Arc<CpuSignals>,
    pub(crate) memory: AddressSpace,
    pub(crate) model: Arc<CpuidTable>,
    pub(crate) peers: Arc<crate::shared::Peers>,
    pub(crate) index: u32,
    pub(crate) a20: u64,
    /// The physical address bits that the model has.
    pub(crate) phys_mask: u64,
    /// CR4 bits that the model has.
    pub(crate) cr4_mask: u64,
    /// 1 GiB pages exist.
    pub(crate) pages_1g: bool,
    /// The model behaves as Intel's where the vendors differ.
    pub(crate) intel: bool,
    /// Data accesses must be aligned (CR0.AM and AC at CPL 3).
    pub(crate) aligned: bool,
    pub(crate) debug: crate::debug::Debug,
    /// A debugger outside of the guest.
    pub(crate) debugger: crate::debugger::Debugger,
    /// MOV SS or POP SS holds off debug exceptions.
    pub(crate) mov_ss: bool,
    /// A handler was entered by the instruction at hand: it is not single-stepped.
    pub(crate) entered: bool,
    /// RF was loaded by the instruction at hand, and counts for the next one.
    pub(crate) loaded_rf: bool,
    /// TF counts as the instruction at hand leaves it.
    pub(crate) recheck_tf: bool,
    /// The fault at hand belongs to where the instruction led to, not to where it stands.
    pub(crate) moved: bool,
    /// PAUSEs executed.
    pub(crate) pauses: u32,
    /// The instruction at hand has to run while no other vCPU does.
    pub(crate) want_exclusive: bool,
    /// No other vCPU runs.
    pub(crate) exclusive: bool,
    /// The exception that ends the machine came up.
    pub(crate) shutdown: bool,
    /// Lock-step found a difference.
    pub(crate) failed: bool,
    /// Look at events before the next block.
    pub(crate) attention: bool,
    /// Posted events that are worth looking at before that.
    pub(crate) interest: u32,
    pub(crate) monitored: Option<crate::system::monitor::Monitored>,
    pub(crate) instructions: u64,
    pub(crate) counts: crate::status::Counts,
    pub(crate) jit: crate::translator::Jit,
}

// SAFETY: the raw pointers inside lead to memory that the Cpu itself keeps alive, and one thread uses it at a time.
unsafe impl Send for Cpu {}

impl Cpu {
    /// A general register by number (16 is RIP, 17 reads as 0).
    #[inline(always)]
    pub(crate) fn r64(&self, n: u8) -> u64 {
        debug_assert!(n <= NONE);
        // SAFETY: the decoder gives numbers up to 17 only; `gpr`, `rip` and `zero` are consecutive u64 of a repr(C)
        // struct.
        unsafe { *(&raw const self.state).cast::<u64>().add(n as usize) }
    }

    /// The low 32 bits of a general register.
    #[inline(always)]
    pub fn r32(&self, n: u8) -> u32 {
        self.r64(n) as u32
    }

    /// The low 16 bits of a general register.
    #[inline(always)]
    pub(crate) fn r16(&self, n: u8) -> u16 {
        self.r64(n) as u16
    }

    /// An 8-bit register, see [`HIGH`].
    #[inline(always)]
    pub(crate) fn r8(&self, n: u8) -> u8 {
        (self.state.gpr[(n & 15) as usize] >> ((n >> 7) * 8)) as u8
    }

    #[inline(always)]
    pub(crate) fn set_r64(&mut self, n: u8, value: u64) {
        self.state.gpr[(n & 15) as usize] = value;
    }

    /// Writes a 32-bit register: the upper half becomes 0.
    #[inline(always)]
    pub(crate) fn set_r32(&mut self, n: u8, value: u32) {
        self.state.gpr[(n & 15) as usize] = value.into();
    }

    #[inline(always)]
    pub(crate) fn set_r16(&mut self, n: u8, value: u16) {
        let r = &mut self.state.gpr[(n & 15) as usize];
        *r = *r & !0xffff | u64::from(value);
    }

    #[inline(always)]
    pub(crate) fn set_r8(&mut self, n: u8, value: u8) {
        let r = &mut self.state.gpr[(n & 15) as usize];
        let shift = u32::from(n & HIGH) / 16;
        *r = *r & !(0xff << shift) | u64::from(value) << shift;
    }

    /// RFLAGS with the arithmetic flags.
    pub fn rflags(&self) -> u64 {
        self.state.rflags & !flags::ARITH | self.arith_flags()
    }

    /// CF, PF, AF, ZF, SF, OF at their places in RFLAGS.
    pub fn arith_flags(&self) -> u64 {
        u64::from(self.fl >> 8 & 0xd5) | u64::from(self.fl & 1) << 11
    }

    /// Sets the six arithmetic flags from a value in the layout of RFLAGS.
    pub fn set_arith_flags(&mut self, rflags: u64) {
        self.fl = ((rflags & 0xd5) << 8 | rflags >> 11 & 1) as u16;
    }

    /// Replaces RFLAGS as it is.
    pub(crate) fn set_rflags(&mut self, rflags: u64) {
        self.set_arith_flags(rflags);
        self.state.rflags = rflags & !flags::ARITH & 0x3f_7fd7 | flags::FIXED;
        self.update_set();
    }

    /// Leaves the block after the instruction at hand.
    pub(crate) fn stop_block(&mut self) {
        self.end = std::ptr::null();
    }

    /// RIP of the instruction at hand.
    pub fn insn_start(&self, insn: &Insn) -> u64 {
        self.state.rip.wrapping_sub(insn.len.into())
    }

    pub(crate) fn protected(&self) -> bool {
        self.state.cr0 & cr0::PE != 0
    }

    pub(crate) fn v86(&self) -> bool {
        self.state.rflags & flags::VM != 0
    }

    /// Long mode active (64-bit or compatibility).
    pub(crate) fn lma(&self) -> bool {
        self.state.efer & efer::LMA != 0
    }

    /// Chooses the TLB set of data accesses for the present CPL, CR4.SMAP and AC.
    pub(crate) fn update_set(&mut self) {
        self.set = match self.state.cpl {
            3 => 0,
            _ if self.state.rflags & flags::AC != 0 => 2,
            _ => 1,
        };
        let aligned = self.set == 0 && self.state.rflags & flags::AC != 0 && self.state.cr0 & cr0::AM != 0;
        if aligned != self.aligned {
            self.aligned = aligned;
            self.tlb.flush(false);
        }
    }

    /// For a locked access that the host cannot make atomic: puts it off until no other vCPU runs.
    pub(crate) fn need_exclusive(&mut self) -> Result<(), Fault> {
        if self.exclusive || self.peers.is_alone() {
            return Ok(());
        }
        self.want_exclusive = true;
        self.attention = true;
        Err(Fault::restart())
    }

    /// Recomputes everything derived from control and segment registers; call it after changing them.
    pub(crate) fn mode_changed(&mut self) {
        let cs = &self.state.seg[seg::CS];
        self.long = self.lma() && cs.attributes & x86::Segment::LONG != 0;
        self.bits = match () {
            _ if self.long => 64,
            _ if cs.attributes & x86::Segment::BIG != 0 => 32,
            _ => 16,
        };
        self.update_set();
        self.stop_block();
        self.attention = true;
    }

    /// Raises #UD or #NM when x87 instructions may not run now (`mmx`: MMX instructions).
    ///
    /// # Errors
    /// The fault.
    pub fn check_fpu(&self, mmx: bool) -> Result<(), Fault> {
        if self.state.cr0 & cr0::EM != 0 {
            return Err(if mmx { Fault::ud() } else { Fault::nm() });
        }
        if self.state.cr0 & cr0::TS != 0 { Err(Fault::nm()) } else { Ok(()) }
    }

    /// Raises #UD or #NM when legacy SSE instructions may not run now.
    ///
    /// # Errors
    /// The fault.
    pub fn check_sse(&self) -> Result<(), Fault> {
        if self.state.cr0 & cr0::EM != 0 || self.state.cr4 & cr4::OSFXSR == 0 {
            return Err(Fault::ud());
        }
        if self.state.cr0 & cr0::TS != 0 { Err(Fault::nm()) } else { Ok(()) }
    }

    /// Raises #UD or #NM when VEX-coded vector instructions may not run now.
    ///
    /// # Errors
    /// The fault.
    pub fn check_avx(&self) -> Result<(), Fault> {
        const BOTH: u64 = xcr0::SSE | xcr0::AVX;
        if self.state.cr4 & cr4::OSXSAVE == 0
            || self.state.xcr0 & BOTH != BOTH
            || !self.protected()
            || self.v86()
        {
            return Err(Fault::ud());
        }
        if self.state.cr0 & cr0::TS != 0 { Err(Fault::nm()) } else { Ok(()) }
    }

    /// Raises #GP(0) unless CPL is 0.
    pub(crate) fn need_cpl0(&self) -> Result<(), Fault> {
        if self.state.cpl != 0 { Err(Fault::gp(0)) } else { Ok(()) }
    }

    /// The offset part of the memory operand, wrapped to the address size.
    #[inline(always)]
    pub fn offset(&self, insn: &Insn) -> u64 {
        let at = self.r64(insn.base).wrapping_add(self.r64(insn.index) << insn.scale).wrapping_add(insn.disp);
        match insn.address_size {
            8 => at,
            4 => at & 0xffff_ffff,
            _ => at & 0xffff,
        }
    }

    /// The linear address of `size` bytes at `offset` in segment `n`, after segmentation's checks.
    #[inline(always)]
    pub(crate) fn linear(&self, n: u8, offset: u64, size: u64, write: bool) -> Result<u64, Fault> {
        const KIND: u16 = 0x9e;
        let s = &self.state.seg[n as usize % 6];
        if self.long {
            return Ok(if n >= 4 { offset.wrapping_add(s.base) } else { offset });
        }
        // 32-bit systems use little else than present, writable data segments of 4 GiB.
        if s.limit == u32::MAX && s.base == 0 && s.attributes & KIND == 0x92 {
            return Ok(offset & 0xffff_ffff);
        }
        self.linear_checked(n, offset, size, write)
    }

    #[inline(never)]
    fn linear_checked(&self, n: u8, offset: u64, size: u64, write: bool) -> Result<u64, Fault> {
        let s = &self.state.seg[n as usize % 6];
        let fault = || Fault::new(if n == 2 { vector::SS } else { vector::GP }, 0);
        if self.protected() && !self.v86() {
            let a = s.attributes;
            if a & x86::Segment::PRESENT == 0 {
                return Err(fault());
            }
            let code = a & x86::Segment::CODE != 0;
            let w = a & x86::Segment::WRITABLE != 0;
            let forbidden = if write { code || !w } else { code && !w };
            if forbidden {
                return Err(fault());
            }
            if a & x86::Segment::EXPAND_DOWN != 0 && !code {
                let top = if a & x86::Segment::BIG != 0 { 0xffff_ffff } else { 0xffff };
                if offset <= u64::from(s.limit) || offset + size - 1 > top {
                    return Err(fault());
                }
                return Ok(offset.wrapping_add(s.base) & 0xffff_ffff);
            }
        }
        // A flat segment wraps at 4 GiB.
        if s.limit != u32::MAX && offset + (size - 1) > u64::from(s.limit) {
            return Err(fault());
        }
        Ok(offset.wrapping_add(s.base) & 0xffff_ffff)
    }

    /// The linear address of the memory operand of `size` bytes.
    #[inline(always)]
    pub(crate) fn ea(&self, insn: &Insn, size: u64, write: bool) -> Result<u64, Fault> {
        if insn.flags & crate::insn::F_FLAT != 0 {
            return Ok(self
                .r64(insn.base)
                .wrapping_add(self.r64(insn.index) << insn.scale)
                .wrapping_add(insn.disp));
        }
        self.linear(insn.seg, self.offset(insn), size, write)
    }
}
