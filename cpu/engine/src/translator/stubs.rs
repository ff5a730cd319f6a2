//! The code that all translations share: entering and leaving, the way to the interpreter and back, and the lookup of
//! indirect jumps.

use super::asm::*;
use super::{Jit, Slots};
use crate::Cpu;
use crate::insn::Insn;
use crate::mmu::{SECOND_FACTOR, SECOND_MASK, SECOND_RIGHT, SecondEntry, TlbEntry};
use crate::options::Without;
use std::mem::offset_of;

/// Holds the guest's RSP.
pub(super) const GUEST_RSP: Reg = R9;
/// The first temporary.
pub(super) const T0: Reg = R10;
/// The second temporary.
pub(super) const T1: Reg = R11;

/// Addresses of the shared code.
#[derive(Clone, Copy, Default)]
pub(super) struct Stubs {
    /// `fn(*mut Cpu, code) -> link site`.
    pub(super) enter: u64,
    /// Called with T0 = `*const Insn`, T1 = RIP of the next instruction; flags in RFLAGS.
    pub(super) run_flags: u64,
    /// The same with the flags in memory.
    pub(super) run_mem: u64,
    /// Jumped to with T0 = link site or 0, RIP stored; flags in RFLAGS.
    pub(super) exit_flags: u64,
    /// The same with the flags in memory.
    pub(super) exit_mem: u64,
    /// Jumped to with T0 = linear address of the next instruction; flags in memory.
    pub(super) lookup: u64,
    /// The same where no code is known.
    pub(super) miss: u64,
    /// The same where the entry at T1 of the jump cache is another's.
    pub(super) second: u64,
    /// Called with T0 = linear address xor the stack's tag: its host address, and ZF set, or ZF clear. 8 bytes.
    pub(super) stack: u64,
    /// Called with T0 = linear address xor the read tag of the entry at T1, its own in the TLB: ZF set when that entry
    /// was fetched from the second level; T0 = linear address.
    pub(super) refill_read: u64,
    /// The same with the write tag.
    pub(super) refill_write: u64,
    /// Called with the flags in memory: brings the guest's registers into the x87 unit.
    pub(super) load_fpu: u64,
    /// Called with the flags in memory: brings the guest's registers of AVX-512 into the host's. T0 stays.
    pub(super) load_wide: u64,
}

/// What [`Stubs::run_mem`]'s function answers: the block goes on.
pub(super) const STAY: u64 = 0;
/// The processor has to be looked at.
pub(super) const LEAVE: u64 = 1;
/// On to RIP.
pub(super) const GO: u64 = 2;

/// Offsets in the stack's page below this one leave room for 8 bytes.
pub(super) const STACK_LIMIT: i32 = 0x1000 - 7;

/// The entry of page p in the TLB is at p * 32 modulo the TLB's size: a linear address rotated right by 7 and this mask.
pub(super) const TLB_MASK: i32 = ((crate::mmu::TLB_SIZE - 1) * size_of::<TlbEntry>()) as i32;
const _: () = assert!(size_of::<TlbEntry>() == 32);

/// Guest registers that stay in their host registers.
pub(super) const PINNED: [Reg; 12] = [0, 1, 2, 3, 5, 6, 7, 8, 12, 13, 14, 15];

/// log2 of the entries of a jump cache.
pub(super) const JUMP_BITS: u32 = 16;

/// The entry of the jump cache for a linear address.
pub(super) fn jump_slot(linear: u64) -> usize {
    (linear ^ linear >> 12) as usize & ((1 << JUMP_BITS) - 1)
}

/// Emits the way to the linear address in T0, with the flags in memory; `miss`: where to go when an event is due,
/// `second`: when the first entry of the jump cache is another's.
pub(super) fn lookup(a: &mut Assembler, slots: &Slots, miss: Label, second: Label) {
    a.load(T1, slots.pending);
    a.load32(T1, Mem::Base(T1, 0));
    a.test32(slots.mask, T1);
    a.jcc(CC_NE, miss);
    a.rotate(T1, T0, 12);
    a.xor32(T1, T0);
    a.and32_imm(T1, (1i32 << JUMP_BITS) - 1);
    a.shl32(T1, 4);
    a.add(T1, slots.jumps);
    a.cmp(T0, Mem::Base(T1, 0));
    a.jcc(CC_NE, second);
    a.jmp_mem(Mem::Base(T1, 8));
}

/// Whether YMM registers are used.
pub(super) fn has_avx(without: &Without) -> bool {
    !without.avx && is_x86_feature_detected!("avx")
}

/// Whether ZMM and mask registers are used.
pub(super) fn has_avx512(without: &Without) -> bool {
    has_avx(without) && !without.avx512 && crate::evex::host_is_able()
}

/// Moves all of the guest's vector registers and masks; `store`: to the state block. `avx`: YMM0 to YMM15 do when the
/// others are not in use, `wide`: they may be.
fn vectors(a: &mut Assembler, slots: &Slots, avx: bool, wide: bool, store: bool) {
    let (all, done) = (a.label(), a.label());
    if wide {
        a.cmp32_mem(slots.wide, 0);
        a.jcc(CC_NE, all);
    }
    for n in 0..16 {
        a.vector(avx, store, n, slots.vector(n));
    }
    if wide {
        a.jmp(done);
        a.bind(all);
        for n in 0..32 {
            a.wide_vector(store, n, slots.vectors + u32::from(n) * 64);
        }
        for n in 0..8 {
            a.mask_register(store, n, slots.masks + u32::from(n) * 8);
        }
        a.bind(done);
    }
}

/// Makes the shared code for `origin`.
pub(super) fn make(
    origin: u64,
    without: &Without,
    run: extern "sysv64" fn(*mut Cpu, *const Insn) -> u64,
) -> (Vec<u8>, Stubs) {
    let slots = Slots::new();
    let (avx, wide) = (has_avx(without), has_avx512(without));
    let mut a = Assembler::new(origin, has_bmi2(without));
    let mut stubs = Stubs::default();
    let (load_all, leave, go_on, miss, exit_mem) = (a.label(), a.label(), a.label(), a.label(), a.label());

    // enter(rdi = cpu, rsi = code)
    stubs.enter = a.here();
    for r in [RBX, RBP, 12, 13, 14, 15] {
        a.push(r);
    }
    a.lea(RSP, RSP, -8);
    a.stmxcsr(slots.host_mxcsr);
    a.store(slots.host_rsp, RSP);
    // Code that can be at any linear address wants to know it.
    a.load(T0, slots.rip);
    a.push(RSI);
    a.jmp(load_all);

    // Loads the guest's registers and returns to the address on the stack.
    a.bind(load_all);
    let without = a.label();
    a.cmp32_mem(slots.fpu_loaded, 0);
    a.jcc(CC_E, without);
    a.imm(RAX, 1);
    a.imm(RDX, 0);
    a.xrstor(slots.fpu_area);
    a.bind(without);
    a.ldmxcsr(slots.mxcsr);
    vectors(&mut a, &slots, avx, wide, false);
    a.load16z(RAX, slots.flags);
    a.flags_from_ax();
    for r in PINNED {
        a.load(r, slots.gpr(r));
    }
    a.load(GUEST_RSP, slots.gpr(4));
    a.bytes(&[0xc3]);

    let save_all = |a: &mut Assembler, flags: bool| {
        a.store(slots.gpr(RAX), RAX);
        if flags {
            a.flags_to_ax();
            a.store16(slots.flags, RAX);
        }
        for r in &PINNED[1..] {
            a.store(slots.gpr(*r), *r);
        }
        a.store(slots.gpr(4), GUEST_RSP);
        let without = a.label();
        a.cmp32_mem(slots.fpu_loaded, 0);
        a.jcc(CC_E, without);
        a.imm(RAX, 1);
        a.imm(RDX, 0);
        a.xsave(slots.fpu_area);
        a.bytes(&[0xdb, 0xe3]); // fninit
        a.bind(without);
        vectors(a, &slots, avx, wide, true);
        if avx {
            a.bytes(&[0xc5, 0xf8, 0x77]); // vzeroupper
        }
        a.stmxcsr(slots.mxcsr);
        a.ldmxcsr(slots.host_mxcsr);
    };

    for flags in [true, false] {
        *(if flags { &mut stubs.run_flags } else { &mut stubs.run_mem }) = a.here();
        save_all(&mut a, flags);
        a.store(slots.rip, T1);
        a.load(RDI, slots.me);
        a.mov(RSI, T0);
        a.lea(RSP, RSP, -8);
        a.imm(RAX, run as usize as u64);
        a.call_reg(RAX);
        a.lea(RSP, RSP, 8);
        a.bytes(&[0x85, 0xc0]); // test eax, eax
        a.jcc(CC_E, load_all);
        a.bytes(&[0x83, 0xf8, LEAVE as u8]); // cmp eax, LEAVE
        a.jcc(CC_NE, go_on);
        a.bytes(&[0x31, 0xc0]); // xor eax, eax
        a.jmp(leave);
    }
    // On to RIP, wherever that leads.
    a.bind(go_on);
    a.lea(RSP, RSP, 8);
    a.call(load_all);
    a.load(T0, slots.rip);
    stubs.lookup = a.here();
    let second = a.label();
    lookup(&mut a, &slots, miss, second);
    a.bind(second);
    stubs.second = a.here();
    a.xor_imm8(T1, 16);
    a.cmp(T0, Mem::Base(T1, 0));
    a.jcc(CC_NE, miss);
    a.jmp_mem(Mem::Base(T1, 8));
    a.bind(miss);
    stubs.miss = a.here();
    a.store(slots.rip, T0);
    a.imm(T0, 0);
    a.jmp(exit_mem);

    stubs.load_fpu = a.here();
    save_all(&mut a, false);
    a.load(RDI, slots.me);
    a.lea(RSP, RSP, -8);
    a.imm(RAX, super::x87::load as *const () as u64);
    a.call_reg(RAX);
    a.lea(RSP, RSP, 8);
    a.jmp(load_all);
    stubs.load_wide = a.here();
    save_all(&mut a, false);
    a.store_imm32(slots.wide, 1);
    a.jmp(load_all);
    for flags in [true, false] {
        if !flags {
            a.bind(exit_mem);
        }
        *(if flags { &mut stubs.exit_flags } else { &mut stubs.exit_mem }) = a.here();
        save_all(&mut a, flags);
        a.mov(RAX, T0);
        a.jmp(leave);
    }

    a.bind(leave);
    a.load(RSP, slots.host_rsp);
    a.lea(RSP, RSP, 8);
    for r in [15, 14, 13, 12, RBP, RBX] {
        a.pop(r);
    }
    a.bytes(&[0xc3]);

    for write in [false, true] {
        let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) } as i32;
        let entry = offset_of!(SecondEntry, entry) as i32;
        let fail = a.label();
        *(if write { &mut stubs.refill_write } else { &mut stubs.refill_read }) = a.here();
        a.xor(T0, Mem::Base(T1, tag));
        a.store(slots.temp, RAX);
        a.store(slots.temp3, RCX);
        a.mov(RAX, T0);
        a.and_imm(RAX, -4096);
        a.cmp(RAX, Mem::Base(T1, tag));
        a.jcc(CC_E, fail);
        a.rotate(RCX, RAX, 12);
        a.imul_imm(RCX, SECOND_FACTOR.cast_signed());
        a.shr(RCX, SECOND_RIGHT);
        a.and32_imm(RCX, SECOND_MASK.cast_signed());
        a.xor(RCX, slots.set_second);
        const _: () = assert!(size_of::<SecondEntry>() == 64);
        a.shl32(RCX, 6);
        a.add(RCX, slots.second);
        a.or(RAX, slots.set);
        a.cmp(RAX, Mem::Base(RCX, 0));
        a.jcc(CC_NE, fail);
        a.load(RAX, Mem::Base(RCX, entry + tag));
        a.xor(RAX, Mem::Base(RCX, 0));
        a.shr(RAX, 12);
        a.jcc(CC_NE, fail);
        for word in 0..4 {
            a.load(RAX, Mem::Base(RCX, entry + 8 * word));
            a.store(Mem::Base(T1, 8 * word), RAX);
        }
        a.mov(RCX, T1);
        a.sub(RCX, slots.tlb);
        a.shr(RCX, 9);
        a.add(RCX, slots.touched);
        a.store8_imm(Mem::Base(RCX, 0), 1);
        a.load(RCX, slots.temp3);
        a.load(RAX, slots.temp);
        a.bytes(&[0x45, 0x39, 0xdb]); // cmp r11d, r11d
        a.bytes(&[0xc3]);
        a.bind(fail);
        a.load(RCX, slots.temp3);
        a.load(RAX, slots.temp);
        a.bytes(&[0x48, 0x85, 0xe4]); // test rsp, rsp
        a.bytes(&[0xc3]);
    }
    stubs.stack = a.here();
    let (slow, found) = (a.label(), a.label());
    a.xor(T0, slots.stack_tag);
    a.rotate(T1, T0, 7);
    a.and32_imm(T1, TLB_MASK);
    a.add(T1, slots.tlb);
    a.xor(T0, Mem::Base(T1, offset_of!(TlbEntry, write) as i32));
    a.cmp_imm(T0, 0x1000 - 8);
    a.jcc(CC_BE, found);
    a.call_to(stubs.refill_write);
    a.jcc(CC_NE, slow);
    a.xor(T0, Mem::Base(T1, offset_of!(TlbEntry, write) as i32));
    a.cmp_imm(T0, 0x1000 - 8);
    a.jcc(CC_A, slow);
    a.bind(found);
    // Both rights, or none.
    a.store(slots.temp, RAX);
    a.load(RAX, Mem::Base(T1, offset_of!(TlbEntry, write) as i32));
    a.store(slots.stack_tag, RAX);
    a.cmp(RAX, Mem::Base(T1, offset_of!(TlbEntry, read) as i32));
    a.load(RAX, slots.temp);
    a.jcc(CC_NE, slow);
    a.load(T1, Mem::Base(T1, offset_of!(TlbEntry, host) as i32));
    a.store(slots.stack_host, T1);
    a.lea_sum(T0, T0, T1);
    a.sub(T1, slots.stack_tag);
    a.store(slots.stack_delta, T1);
    a.store_imm(slots.stack_limit, STACK_LIMIT);
    a.bytes(&[0x45, 0x39, 0xdb]); // cmp r11d, r11d
    a.bytes(&[0xc3]);
    a.bind(slow);
    a.store_imm(slots.stack_limit, 0);
    a.bytes(&[0xc3]); // ZF is clear

    a.finish();
    (a.code, stubs)
}

impl Slots {
    /// Where generated code finds the fields of a [`Cpu`].
    pub(super) fn new() -> Self {
        let state = |field: usize| Mem::Cpu((offset_of!(Cpu, state) + field) as u32);
        let x87 = |field: usize| state(offset_of!(x86::X86State, x87) + field);
        let jit = |field: usize| Mem::Cpu((offset_of!(Cpu, jit) + field) as u32);
        Self {
            registers: offset_of!(Cpu, state) as u32 + offset_of!(x86::X86State, gpr) as u32,
            vectors: offset_of!(Cpu, state) as u32 + offset_of!(x86::X86State, zmm) as u32,
            masks: offset_of!(Cpu, state) as u32 + offset_of!(x86::X86State, opmask) as u32,
            segments: offset_of!(Cpu, state) as u32 + offset_of!(x86::X86State, seg) as u32,
            rip: state(offset_of!(x86::X86State, rip)),
            mxcsr: state(offset_of!(x86::X86State, mxcsr)),
            flags: Mem::Cpu(offset_of!(Cpu, fl) as u32),
            me: jit(offset_of!(Jit, me)),
            tlb: jit(offset_of!(Jit, tlb)),
            mask: jit(offset_of!(Jit, mask)),
            pending: jit(offset_of!(Jit, pending)),
            jumps: jit(offset_of!(Jit, jumps)),
            code: jit(offset_of!(Jit, code)),
            code_page: jit(offset_of!(Jit, code_page)),
            other_jumps: jit(offset_of!(Jit, other_jumps)),
            kernel_entries: jit(offset_of!(Jit, identity.kernel_entries)),
            context: jit(offset_of!(Jit, context)),
            stack_tag: jit(offset_of!(Jit, stack_tag)),
            stack_host: jit(offset_of!(Jit, stack_host)),
            stack_limit: jit(offset_of!(Jit, stack_limit)),
            stack_delta: jit(offset_of!(Jit, stack_delta)),
            host_rsp: jit(offset_of!(Jit, host_rsp)),
            temp: jit(offset_of!(Jit, temp)),
            temp2: jit(offset_of!(Jit, temp2)),
            temp3: jit(offset_of!(Jit, temp3)),
            spans: offset_of!(Cpu, jit) as u32 + offset_of!(Jit, spans) as u32,
            second: jit(offset_of!(Jit, second)),
            touched: jit(offset_of!(Jit, touched)),
            set: jit(offset_of!(Jit, set)),
            set_second: jit(offset_of!(Jit, set_second)),
            host_mxcsr: jit(offset_of!(Jit, host_mxcsr)),
            fpu_loaded: jit(offset_of!(Jit, fpu_loaded)),
            fpu_area: jit(offset_of!(Jit, fpu)),
            wide: jit(offset_of!(Jit, wide)),
            fip: x87(offset_of!(x86::X87, fip)),
            fcs: x87(offset_of!(x86::X87, fcs)),
            fdp: x87(offset_of!(x86::X87, fdp)),
            fds: x87(offset_of!(x86::X87, fds)),
        }
    }

    pub(super) fn gpr(&self, n: Reg) -> Mem {
        Mem::Cpu(self.registers + u32::from(n) * 8)
    }

    /// Where the host address of a span is.
    pub(super) fn span(&self, n: usize) -> Mem {
        Mem::Cpu(self.spans + 8 * n as u32)
    }

    fn vector(&self, n: u8) -> Mem {
        Mem::Cpu(self.vectors + u32::from(n) * 64)
    }

    /// The selector of segment `n`.
    pub(super) fn selector(&self, n: u8) -> Mem {
        let one = size_of::<x86::Segment>() as u32;
        Mem::Cpu(self.segments + u32::from(n) * one + std::mem::offset_of!(x86::Segment, selector) as u32)
    }

    /// The base of segment `n`.
    pub(super) fn segment_base(&self, n: u8) -> Mem {
        let one = size_of::<x86::Segment>() as u32;
        Mem::Cpu(self.segments + u32::from(n) * one + std::mem::offset_of!(x86::Segment, base) as u32)
    }
}
