//! The signal frame of a stopped helper process: the guest's registers (Linux: arch/x86/include/uapi/asm/sigcontext.h).
//! What the process stores itself looks the same.

use super::image::{
    CONTEXT, FRAME, FS_BASE, GS_BASE, SIGNAL, STACK, STACK_SIZE, TARGET, TSC_AUX, TSC_OFFSET, VECTORS_SIZE,
};
use super::process::Process;
use std::arch::x86_64::__cpuid_count;
use std::io;
use std::sync::OnceLock;
use x86::X86State;
use x86::reg::flags;

/// Where the kernel keeps the general registers, from the context's start, in the guest's order.
pub(super) const REGISTERS: [u64; 16] =
    [144, 152, 136, 128, 160, 120, 112, 104, 40, 48, 56, 64, 72, 80, 88, 96];
pub(super) const RIP: u64 = 168;
pub(super) const FLAGS: u64 = 176;
const ERROR: u64 = 192;
const TRAP: u64 = 200;
const CR2: u64 = 216;
pub(super) const VECTORS: u64 = 224;
/// Bytes of the context as far as it is looked at.
const SIZE: u64 = 304;

/// In the vector state: the x87 unit's pointers, MXCSR, the unit's registers, the XMM registers, XSTATE_BV.
const POINTERS: u64 = 8;
const MXCSR: u64 = 24;
const ST: u64 = 32;
const XMM: u64 = 160;
const STATE_BV: u64 = 512;
/// Of XSTATE_BV: the x87 unit, the XMM and YMM registers.
const X87: u64 = 1;
const SSE_AVX: u64 = 6;

/// Of XSTATE_BV: what AVX-512 adds.
const WIDE: u64 = x86::reg::xcr0::AVX512;

/// The flags that guest code changes natively.
const FREE: u64 = flags::ARITH | flags::DF;

/// Why a process has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) signal: libc::c_int,
    /// The exception behind it.
    pub(super) vector: u64,
    pub(super) error: u64,
    /// The address of a page fault.
    pub(super) address: u64,
    /// Where the host's instruction is.
    pub(super) at: u64,
}

/// The registers of a stopped process.
pub(super) struct Frame<'a> {
    process: &'a mut Process,
    context: u64,
    vectors: u64,
    /// Where the upper halves of the YMM registers are; 0 without AVX.
    upper: u64,
    /// Where the registers of AVX-512 are.
    wide: Option<[u64; 3]>,
}

/// Where XSAVE puts the upper halves of the YMM registers. CPUID takes long on virtual machines.
pub(super) fn upper_offset() -> u64 {
    if is_x86_feature_detected!("avx") { __cpuid_count(0xd, 2).ebx.into() } else { 0 }
}

/// Where XSAVE puts the mask registers, the upper halves of the ZMM registers and ZMM16 to ZMM31; `None` where
/// translated code does not use them.
pub(super) fn wide_offsets() -> Option<[u64; 3]> {
    static OFFSETS: OnceLock<Option<[u64; 3]>> = OnceLock::new();
    let leaf = |n: u32| u64::from(__cpuid_count(0xd, n).ebx);
    *OFFSETS.get_or_init(|| {
        let offsets = crate::evex::host_is_able().then(|| [leaf(5), leaf(6), leaf(7)])?;
        (offsets[2] + 1024 <= VECTORS_SIZE).then_some(offsets)
    })
}

/// The parts of the vector state that guest code uses (XCR0's bits).
pub(super) fn components() -> u64 {
    7 | wide_offsets().map_or(0, |_| WIDE)
}

impl<'a> Frame<'a> {
    /// # Errors
    /// The process does not tell where its frame is.
    pub(super) fn of(process: &'a mut Process) -> io::Result<Self> {
        Self::find(process).ok_or_else(|| io::Error::other("its registers are lost"))
    }

    fn find(process: &'a mut Process) -> Option<Self> {
        let base = process.base;
        let inside = |at: u64, size: u64| {
            let from = at.checked_sub(base)?;
            (from >= STACK && from.checked_add(size)? <= STACK + STACK_SIZE).then_some(from)
        };
        let context = inside(process.read_u64(CONTEXT), SIZE)?;
        let upper = process.upper;
        let wide = wide_offsets();
        let last = wide.map_or(upper + 256, |wide| wide[2] + 1024);
        let vectors = inside(process.read_u64(context + VECTORS), last.max(576))?;
        Some(Self { process, context, vectors, upper, wide })
    }

    pub(super) fn report(&self) -> Report {
        let word = |at| self.process.read_u64(self.context + at);
        Report {
            signal: self.process.read_u64(SIGNAL) as libc::c_int,
            vector: word(TRAP),
            error: word(ERROR),
            address: word(CR2),
            at: match self.is_planned() {
                // Guest code stores the lower half alone; the area is a multiple of 4 GiB.
                true => self.process.base + (word(RIP) & 0xffff_ffff),
                false => word(RIP),
            },
        }
    }

    /// Whether it was left by a planned way out, not by a signal.
    pub(super) fn is_planned(&self) -> bool {
        self.context == FRAME
    }

    pub(super) fn register(&self, n: u8) -> u64 {
        self.process.read_u64(self.context + REGISTERS[usize::from(n & 15)])
    }

    pub(super) fn set_register(&mut self, n: u8, value: u64) {
        self.process.put_u64(self.context + REGISTERS[usize::from(n & 15)], value);
    }

    /// Where the process goes on.
    pub(super) fn set_at(&mut self, at: u64) {
        self.process.put_u64(self.context + RIP, at);
        self.process.put_u64(TARGET, at);
    }

    /// Whether it stops after each instruction; only after a signal.
    pub(super) fn set_stepping(&mut self, stepping: bool) {
        let old = self.process.read_u64(self.context + FLAGS) & !flags::TF;
        self.process.put_u64(self.context + FLAGS, old | if stepping { flags::TF } else { 0 });
    }

    /// Loads everything but RIP; the arithmetic flags are `arith`.
    pub(super) fn load(&mut self, s: &X86State, arith: u64) {
        for n in 0..16u8 {
            self.set_register(n, s.gpr[usize::from(n)]);
        }
        let own = flags::FIXED | flags::IF | arith | s.rflags & flags::DF;
        self.process.put_u64(self.context + FLAGS, own);
        self.process.put_u64(FS_BASE, s.seg[x86::reg::seg::FS].base);
        self.process.put_u64(GS_BASE, s.seg[x86::reg::seg::GS].base);
        self.process.put_u64(TSC_OFFSET, s.tsc_offset);
        self.process.put_u64(TSC_AUX, s.tsc_aux & 0xffff_ffff);
        self.process.put(self.vectors + MXCSR, &s.mxcsr.to_le_bytes());
        for n in 0..16 {
            let v = &s.zmm[n];
            self.process.put(self.vectors + XMM + 16 * n as u64, &v[..16]);
            if self.upper != 0 {
                self.process.put(self.vectors + self.upper + 16 * n as u64, &v[16..32]);
            }
        }
        let mut legacy = [0; 160];
        crate::fpu::legacy_area(&s.x87, true, &mut legacy);
        self.process.put(self.vectors, &legacy[..MXCSR as usize]);
        self.process.put(self.vectors + ST, &legacy[ST as usize..]);
        let mut bits = X87 | if self.upper != 0 { SSE_AVX } else { 2 };
        if let Some([masks, upper, high]) = self.wide_of(s) {
            for n in 0..8 {
                self.process.put_u64(self.vectors + masks + 8 * n as u64, s.opmask[n]);
            }
            for n in 0..16 {
                self.process.put(self.vectors + upper + 32 * n as u64, &s.zmm[n][32..]);
                self.process.put(self.vectors + high + 64 * n as u64, &s.zmm[16 + n]);
            }
            bits |= WIDE;
        }
        let old = self.process.read_u64(self.vectors + STATE_BV);
        self.process.put_u64(self.vectors + STATE_BV, old | bits);
    }

    /// Stores everything but RIP and the x87 unit's pointers; gives the arithmetic flags.
    pub(super) fn store(&self, s: &mut X86State) -> u64 {
        for n in 0..16u8 {
            s.gpr[usize::from(n)] = self.register(n);
        }
        let now = self.process.read_u64(self.context + FLAGS) & FREE;
        s.rflags = s.rflags & !flags::DF | now & flags::DF;
        let mut word = [0; 4];
        self.process.get(self.vectors + MXCSR, &mut word);
        s.mxcsr = u32::from_le_bytes(word);
        let valid = self.process.read_u64(self.vectors + STATE_BV);
        for n in 0..16 {
            let v = &mut s.zmm[n];
            v[..32].fill(0);
            if valid & 2 != 0 {
                self.process.get(self.vectors + XMM + 16 * n as u64, &mut v[..16]);
            }
            if self.upper != 0 && valid & 4 != 0 {
                self.process.get(self.vectors + self.upper + 16 * n as u64, &mut v[16..32]);
            }
        }
        if let Some([masks, upper, high]) = self.wide_of(s) {
            let has = |component: u32| valid >> component & 1 != 0;
            for n in 0..8 {
                let value = self.process.read_u64(self.vectors + masks + 8 * n as u64);
                s.opmask[n] = if has(5) { value } else { 0 };
            }
            for n in 0..16 {
                s.zmm[n][32..].fill(0);
                s.zmm[16 + n].fill(0);
                if has(6) {
                    self.process.get(self.vectors + upper + 32 * n as u64, &mut s.zmm[n][32..]);
                }
                if has(7) {
                    self.process.get(self.vectors + high + 64 * n as u64, &mut s.zmm[16 + n]);
                }
            }
        }
        let old = s.x87;
        let mut legacy = [0; 160];
        if valid & X87 != 0 {
            self.process.get(self.vectors, &mut legacy);
            crate::fpu::load_legacy_area(&mut s.x87, true, &legacy);
        } else {
            s.x87 = x86::X87::default();
        }
        (s.x87.fop, s.x87.fcs, s.x87.fds, s.x87.fip, s.x87.fdp) =
            (old.fop, old.fcs, old.fds, old.fip, old.fdp);
        now & flags::ARITH
    }

    /// Where the x87 unit's last instruction is, and its last operand.
    pub(super) fn unit_pointers(&self) -> (u64, u64) {
        let at = self.vectors + POINTERS;
        (self.process.read_u64(at), self.process.read_u64(at + 8))
    }

    /// Changes the former.
    pub(super) fn set_unit_pointer(&mut self, instruction: u64) {
        self.process.put_u64(self.vectors + POINTERS, instruction);
    }

    /// Where the registers of AVX-512 are, when the guest has them.
    fn wide_of(&self, s: &X86State) -> Option<[u64; 3]> {
        self.wide.filter(|_| s.xcr0 & WIDE == WIDE)
    }
}
