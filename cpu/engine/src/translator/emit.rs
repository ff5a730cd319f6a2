//! A block of guest code as host code.
//!
//! Guest registers are in their own host registers, but RSP (in R9) and R9 to R11 (in the state block); R10 and R11
//! are temporaries. The arithmetic flags are in RFLAGS, in memory (`Cpu::fl`), in both, or, where nothing reads them
//! any more, in neither. Between directly linked blocks they are in RFLAGS; after the lookup of an indirect jump in
//! memory.

use super::Slots;
use super::asm::*;
use super::classify::{ARITH, Kind, Vectors, alignment, flags, kind};
use super::stubs::{GUEST_RSP, Stubs, T0, T1};
use crate::insn::Insn;
use crate::mmu::TlbEntry;
use iced_x86::{Encoder, Instruction, InstructionInfoFactory, MemorySize, OpAccess, OpKind, Register};
use std::mem::offset_of;

/// What a translation is made from.
pub(super) struct Source<'a> {
    /// RIP of the first instruction.
    pub(super) start: u64,
    pub(super) instructions: &'a [Instruction],
    /// The same, as the interpreter executes them; they live as long as the translation.
    pub(super) insns: &'a [Insn],
    /// Where to see whether the page has changed, and what it reads while it has not.
    pub(super) stamp: (u64, u32),
    pub(super) vectors: Vectors,
    /// Whether the flags may be read at a RIP in the same page before they are written.
    pub(super) live_at: &'a dyn Fn(u64) -> bool,
}

/// Code and its entries.
pub(super) struct Product {
    pub(super) code: Vec<u8>,
    /// Offset of the entry with the flags in memory.
    pub(super) indirect: usize,
}

/// Where the arithmetic flags are.
#[derive(Clone, Copy)]
struct FlagsIn {
    rflags: bool,
    memory: bool,
}

/// Code off the straight path.
struct Cold {
    from: Label,
    back: Option<Label>,
    what: ColdPath,
}

enum ColdPath {
    /// Let the interpreter execute instruction `n`; flags in memory.
    Run(usize),
    /// The same for the block's last instruction, which jumps.
    RunEnd(usize),
    /// Leave for RIP; `site`: the jump that could be linked.
    Exit { rip: u64, site: Option<u64>, flags_in_rflags: bool },
}

struct Emitter<'a> {
    a: Assembler,
    slots: Slots,
    stubs: &'a Stubs,
    source: &'a Source<'a>,
    flags: FlagsIn,
    cold: Vec<Cold>,
    encoder: Encoder,
    info: InstructionInfoFactory,
}

/// The host register of guest register `n`; `None` for those in memory.
fn host(n: u8) -> Option<Reg> {
    match n {
        4 => Some(GUEST_RSP),
        9..=11 => None,
        _ => Some(n),
    }
}

/// Number of a general register as in encodings, `None` for AH, CH, DH, BH and others.
fn number(r: Register) -> Option<u8> {
    if !r.is_gpr() || matches!(r, Register::AH | Register::CH | Register::DH | Register::BH) {
        return None;
    }
    Some(r.full_register().number() as u8)
}

/// The part of host register `n` with the size of `like`.
fn sized(n: u8, like: Register) -> Register {
    let table = match like.size() {
        1 => [
            Register::AL,
            Register::CL,
            Register::DL,
            Register::BL,
            Register::SPL,
            Register::BPL,
            Register::SIL,
            Register::DIL,
            Register::R8L,
            Register::R9L,
            Register::R10L,
            Register::R11L,
            Register::R12L,
            Register::R13L,
            Register::R14L,
            Register::R15L,
        ],
        2 => [
            Register::AX,
            Register::CX,
            Register::DX,
            Register::BX,
            Register::SP,
            Register::BP,
            Register::SI,
            Register::DI,
            Register::R8W,
            Register::R9W,
            Register::R10W,
            Register::R11W,
            Register::R12W,
            Register::R13W,
            Register::R14W,
            Register::R15W,
        ],
        4 => [
            Register::EAX,
            Register::ECX,
            Register::EDX,
            Register::EBX,
            Register::ESP,
            Register::EBP,
            Register::ESI,
            Register::EDI,
            Register::R8D,
            Register::R9D,
            Register::R10D,
            Register::R11D,
            Register::R12D,
            Register::R13D,
            Register::R14D,
            Register::R15D,
        ],
        _ => [
            Register::RAX,
            Register::RCX,
            Register::RDX,
            Register::RBX,
            Register::RSP,
            Register::RBP,
            Register::RSI,
            Register::RDI,
            Register::R8,
            Register::R9,
            Register::R10,
            Register::R11,
            Register::R12,
            Register::R13,
            Register::R14,
            Register::R15,
        ],
    };
    table[usize::from(n & 15)]
}

/// Translates a block for `origin`.
pub(super) fn block(origin: u64, stubs: &Stubs, source: &Source) -> Product {
    let mut e = Emitter {
        a: Assembler::new(origin),
        slots: Slots::new(),
        stubs,
        source,
        flags: FlagsIn { rflags: true, memory: false },
        cold: Vec::new(),
        encoder: Encoder::new(64),
        info: InstructionInfoFactory::new(),
    };
    let indirect = e.run();
    e.finish_cold();
    e.a.finish();
    Product { code: e.a.code, indirect }
}

impl Emitter<'_> {
    /// Flags that may be read from each instruction on, and after the last.
    fn liveness(&self, kinds: &[Kind]) -> Vec<u32> {
        let source = self.source;
        let mut live = vec![ARITH; kinds.len() + 1];
        if let (Some(last), Some(kind)) = (source.instructions.last(), kinds.last()) {
            let at = |target: u64| if self.direct(target) && !(source.live_at)(target) { 0 } else { ARITH };
            live[kinds.len()] = match kind {
                Kind::Jump => at(last.near_branch_target()),
                Kind::Condition => at(last.near_branch_target()) | at(last.next_ip()),
                Kind::Call | Kind::CallIndirect | Kind::JumpIndirect | Kind::Return => ARITH,
                _ => at(last.next_ip()),
            };
        }
        for n in (0..kinds.len()).rev() {
            let (read, written) = flags(&source.instructions[n], kinds[n]);
            live[n] = live[n + 1] & !written | read;
        }
        live
    }

    fn run(&mut self) -> usize {
        let source = self.source;
        let kinds: Vec<Kind> = source
            .instructions
            .iter()
            .zip(source.insns)
            .map(|(i, insn)| {
                if std::ptr::fn_addr_eq(insn.exec, crate::decode::undefined as crate::insn::Exec) {
                    Kind::InterpretEnd
                } else {
                    kind(i, source.vectors)
                }
            })
            .collect();
        let live = self.liveness(&kinds);
        // Directly linked blocks come in here, with the flags in RFLAGS.
        if live[0] != 0 {
            self.save_flags();
        }
        let indirect = self.a.code.len();
        self.flags = FlagsIn { rflags: false, memory: live[0] != 0 };
        let stale = self.a.label();
        self.a.imm(T1, source.stamp.0);
        self.a.cmp32_mem(Mem::Base(T1, 0), source.stamp.1.cast_signed());
        self.a.jcc(CC_NE, stale);
        self.cold.push(Cold {
            from: stale,
            back: None,
            what: ColdPath::Exit { rip: source.start, site: Some(super::STALE), flags_in_rflags: false },
        });
        let mut ended = false;
        for (n, kind) in kinds.iter().enumerate() {
            ended = self.instruction(n, *kind, live[n], live[n + 1]);
            if ended {
                break;
            }
        }
        if !ended {
            let next = source.instructions.last().map_or(source.start, Instruction::next_ip);
            let live = live[kinds.len()];
            self.exit(next, false, live);
        }
        indirect
    }

    fn finish_cold(&mut self) {
        for cold in std::mem::take(&mut self.cold) {
            self.a.bind(cold.from);
            match cold.what {
                ColdPath::Run(n) => self.call_interpreter(n, false),
                ColdPath::RunEnd(n) => {
                    self.call_interpreter(n, false);
                    self.a.imm(T0, self.source.instructions[n].next_ip());
                    self.a.jmp_to(self.stubs.lookup);
                }
                ColdPath::Exit { rip, site, flags_in_rflags } => {
                    self.a.imm(T1, rip);
                    self.a.store(self.slots.rip, T1);
                    self.a.imm(T0, site.unwrap_or(0));
                    self.a.jmp_to(if flags_in_rflags { self.stubs.exit_flags } else { self.stubs.exit_mem });
                }
            }
            if let Some(back) = cold.back {
                self.a.jmp(back);
            }
        }
    }

    fn call_interpreter(&mut self, n: usize, flags_in_rflags: bool) {
        self.a.imm(T0, (&raw const self.source.insns[n]) as u64);
        self.a.imm(T1, self.source.instructions[n].next_ip());
        self.a.call_to(if flags_in_rflags { self.stubs.run_flags } else { self.stubs.run_mem });
    }

    /// Copies the flags from RFLAGS to memory.
    fn save_flags(&mut self) {
        self.a.store(self.slots.temp, RAX);
        self.a.flags_to_ax();
        self.a.store16(self.slots.flags, RAX);
        self.a.load(RAX, self.slots.temp);
        self.flags.memory = true;
    }

    /// Brings the flags into RFLAGS.
    fn need_flags(&mut self) {
        if self.flags.rflags || !self.flags.memory {
            return;
        }
        self.a.store(self.slots.temp, RAX);
        self.a.load16z(RAX, self.slots.flags);
        self.a.flags_from_ax();
        self.a.load(RAX, self.slots.temp);
        self.flags.rflags = true;
    }

    /// Makes sure that live flags survive a change of RFLAGS, and says that RFLAGS is about to change.
    fn give_up_rflags(&mut self, live: u32) {
        if live != 0 && self.flags.rflags && !self.flags.memory {
            self.save_flags();
        }
        self.flags.rflags = false;
    }

    /// Emits instruction `n`; true when it ends the block.
    fn instruction(&mut self, n: usize, kind: Kind, live: u32, live_after: u32) -> bool {
        let i = self.source.instructions[n];
        match kind {
            Kind::Nothing => {}
            Kind::Native => {
                if !self.native(n, live, live_after) {
                    self.interpret(n);
                }
            }
            Kind::Lea => {
                if !self.lea(&i) {
                    self.interpret(n);
                }
            }
            Kind::Push => self.push(n, live),
            Kind::Pop => {
                let to = number(i.op0_register()).unwrap_or(0);
                let back = self.check_stack(n, 0, 8, false, live);
                match host(to) {
                    Some(r) => self.a.load(r, Mem::Base(T0, 0)),
                    None => {
                        self.a.load(T1, Mem::Base(T0, 0));
                        self.a.store(self.slots.gpr(to), T1);
                    }
                }
                if to != 4 {
                    self.a.lea(GUEST_RSP, GUEST_RSP, 8);
                }
                self.a.bind(back);
            }
            Kind::Leave => {
                self.a.mov(T0, RBP);
                let back = self.check(n, 8, false, live, 1);
                self.a.lea(GUEST_RSP, RBP, 8);
                self.a.load(RBP, Mem::Base(T0, 0));
                self.a.bind(back);
            }
            Kind::Jump => {
                self.exit(i.near_branch_target(), i.near_branch_target() <= i.ip(), live_after);
                return true;
            }
            Kind::Condition => {
                self.need_flags();
                let taken = self.a.label();
                self.a.jcc(condition(&i), taken);
                let before = self.flags;
                self.exit(i.next_ip(), false, live_after);
                self.a.bind(taken);
                self.flags = before;
                self.exit(i.near_branch_target(), i.near_branch_target() <= i.ip(), live_after);
                return true;
            }
            Kind::Call => {
                self.push_constant(n, i.next_ip(), live);
                self.exit(i.near_branch_target(), false, live_after);
                return true;
            }
            Kind::JumpIndirect | Kind::CallIndirect => {
                if !self.indirect_target(n, live) {
                    self.interpret(n);
                    self.after_interpreted_end(&i);
                    return true;
                }
                if kind == Kind::CallIndirect {
                    self.a.store(self.slots.temp2, T0);
                    self.push_constant(n, i.next_ip(), live);
                    self.a.load(T0, self.slots.temp2);
                }
                self.lookup();
                return true;
            }
            Kind::Return => {
                self.a.mov(T0, GUEST_RSP);
                self.check_or_end(n, 8, false, live);
                self.a.load(T0, Mem::Base(T0, 0));
                let more = if i.op_count() == 1 { i.immediate16().into() } else { 0 };
                self.a.lea(GUEST_RSP, GUEST_RSP, 8 + more);
                self.lookup();
                return true;
            }
            Kind::Interpret => self.interpret(n),
            Kind::InterpretEnd => {
                self.interpret(n);
                self.after_interpreted_end(&i);
                return true;
            }
        }
        false
    }

    fn after_interpreted_end(&mut self, i: &Instruction) {
        self.exit(i.next_ip(), false, ARITH);
    }

    fn interpret(&mut self, n: usize) {
        self.call_interpreter(n, self.flags.rflags && !self.flags.memory);
        self.flags = FlagsIn { rflags: true, memory: true };
    }

    /// Jumps to the linear address in T0.
    fn lookup(&mut self) {
        if self.flags.rflags && !self.flags.memory {
            self.save_flags();
        }
        self.a.jmp_to(self.stubs.lookup);
    }

    /// Whether a jump to `target` stays in the block's page.
    fn direct(&self, target: u64) -> bool {
        (target ^ self.source.start) & !0xfff == 0
    }

    /// Ends the block with a jump to `target`.
    fn exit(&mut self, target: u64, backward: bool, live: u32) {
        if !self.direct(target) {
            self.a.imm(T0, target);
            return self.lookup();
        }
        if backward {
            let event = self.a.label();
            self.give_up_rflags(live);
            self.a.load(T1, self.slots.pending);
            self.a.load32(T1, Mem::Base(T1, 0));
            self.a.test32(self.slots.mask, T1);
            self.a.jcc(CC_NE, event);
            self.cold.push(Cold {
                from: event,
                back: None,
                what: ColdPath::Exit { rip: target, site: None, flags_in_rflags: false },
            });
        }
        if live != 0 {
            self.need_flags();
        }
        let away = self.a.label();
        let site = self.a.here();
        self.a.jmp(away);
        let flags_in_rflags = self.flags.rflags && !self.flags.memory;
        self.cold.push(Cold {
            from: away,
            back: None,
            what: ColdPath::Exit { rip: target, site: Some(site), flags_in_rflags },
        });
    }

    /// Turns the linear address in T0 into a host address, or lets the interpreter execute instruction `n` and goes
    /// to the returned label.
    fn check(&mut self, n: usize, size: u32, write: bool, live: u32, aligned: u8) -> Label {
        let (slow, back) = (self.a.label(), self.a.label());
        self.cold.push(Cold { from: slow, back: Some(back), what: ColdPath::Run(n) });
        self.translate(slow, size, write, live, aligned);
        back
    }

    /// As [`Emitter::check`] for the last instruction of the block.
    fn check_or_end(&mut self, n: usize, size: u32, write: bool, live: u32) {
        let slow = self.a.label();
        self.cold.push(Cold { from: slow, back: None, what: ColdPath::RunEnd(n) });
        self.translate(slow, size, write, live, 1);
    }

    fn translate(&mut self, slow: Label, size: u32, write: bool, live: u32, aligned: u8) {
        self.give_up_rflags(live);
        if aligned > 1 {
            self.a.test8_imm(T0, aligned - 1);
            self.a.jcc(CC_NE, slow);
        }
        let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) } as i32;
        // The entry of page p is at (p % entries) * 32.
        const _: () = assert!(size_of::<TlbEntry>() == 32 && crate::mmu::TLB_SIZE == 1024);
        self.a.rorx(T1, T0, 7);
        self.a.and32_imm(T1, 0x7fe0);
        self.a.add(T1, self.slots.tlb);
        self.a.xor(T0, Mem::Base(T1, tag));
        self.a.cmp_imm(T0, 0x1000 - size as i32);
        self.a.jcc(CC_A, slow);
        self.a.xor(T0, Mem::Base(T1, tag));
        self.a.add(T0, Mem::Base(T1, offset_of!(TlbEntry, addend) as i32));
    }

    fn check_stack(&mut self, n: usize, disp: i32, size: u32, write: bool, live: u32) -> Label {
        self.a.lea(T0, GUEST_RSP, disp);
        self.check(n, size, write, live, 1)
    }

    fn push(&mut self, n: usize, live: u32) {
        let i = self.source.instructions[n];
        let back = self.check_stack(n, -8, 8, true, live);
        if i.op0_kind() == OpKind::Register {
            let from = number(i.op0_register()).unwrap_or(0);
            let r = host(from).unwrap_or(T1);
            if r == T1 {
                self.a.load(T1, self.slots.gpr(from));
            }
            self.a.store(Mem::Base(T0, 0), r);
        } else {
            self.a.store_imm(Mem::Base(T0, 0), i.immediate(0) as i32);
        }
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
        self.a.bind(back);
    }

    /// Pushes the return address of the call that is instruction `n`.
    fn push_constant(&mut self, n: usize, value: u64, live: u32) {
        self.a.lea(T0, GUEST_RSP, -8);
        self.check_or_end(n, 8, true, live);
        match i32::try_from(value.cast_signed()) {
            Ok(v) => self.a.store_imm(Mem::Base(T0, 0), v),
            Err(_) => {
                self.a.imm(T1, value);
                self.a.store(Mem::Base(T0, 0), T1);
            }
        }
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
    }

    /// Puts the target of an indirect jump or call into T0.
    fn indirect_target(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        if i.op0_kind() == OpKind::Register {
            let Some(from) = number(i.op0_register()) else { return false };
            match host(from) {
                Some(r) => self.a.mov(T0, r),
                None => self.a.load(T0, self.slots.gpr(from)),
            }
            return true;
        }
        if i.memory_size() != MemorySize::QwordOffset && i.memory_size() != MemorySize::UInt64 {
            return false;
        }
        if !self.address(&i) {
            return false;
        }
        self.check_or_end(n, 8, false, live);
        self.a.load(T0, Mem::Base(T0, 0));
        true
    }

    /// Emits `i` as it is, with what `change` does to it.
    fn encode(&mut self, i: &Instruction) -> bool {
        let ok = self.encoder.encode(i, self.a.here()).is_ok();
        let bytes = self.encoder.take_buffer();
        if ok {
            self.a.bytes(&bytes);
        }
        ok
    }

    /// Replaces base and index by host registers, loading those that are in memory into temporaries; false when that
    /// cannot be done.
    fn map_address(&mut self, i: &mut Instruction) -> bool {
        let (base, index) = (i.memory_base(), i.memory_index());
        let map = |e: &mut Self, r: Register, temporary: Reg| -> Option<Register> {
            if r == Register::None {
                return Some(r);
            }
            let n = number(r)?;
            let h = host(n).unwrap_or(temporary);
            if h == temporary {
                e.a.load(h, e.slots.gpr(n));
            }
            Some(sized(h, r))
        };
        let Some(b) = map(self, base, T0) else { return false };
        let Some(x) = map(self, index, T1) else { return false };
        i.set_memory_base(b);
        i.set_memory_index(x);
        true
    }

    /// Puts the linear address of the memory operand into T0; flags untouched.
    fn address(&mut self, i: &Instruction) -> bool {
        if i.is_ip_rel_memory_operand() {
            self.a.imm(T0, i.ip_rel_memory_address());
        } else if i.memory_base() == Register::None && i.memory_index() == Register::None {
            self.a.imm(T0, i.memory_displacement64());
        } else {
            let mut lea = Instruction::default();
            let wide = [i.memory_base(), i.memory_index()].iter().any(|r| r.size() == 8);
            lea.set_code(if wide { iced_x86::Code::Lea_r64_m } else { iced_x86::Code::Lea_r32_m });
            lea.set_op0_kind(OpKind::Register);
            lea.set_op0_register(sized(T0, if wide { Register::RAX } else { Register::EAX }));
            lea.set_op1_kind(OpKind::Memory);
            lea.set_memory_base(i.memory_base());
            lea.set_memory_index(i.memory_index());
            lea.set_memory_index_scale(i.memory_index_scale());
            lea.set_memory_displacement64(i.memory_displacement64());
            lea.set_memory_displ_size(i.memory_displ_size());
            if !self.map_address(&mut lea) || !self.encode(&lea) {
                return false;
            }
        }
        let segment = i.memory_segment();
        if let Register::FS | Register::GS = segment {
            self.a.load(T1, self.slots.segment_base(segment.number() as u8));
            self.a.lea_sum(T0, T0, T1);
        }
        true
    }

    fn lea(&mut self, i: &Instruction) -> bool {
        let Some(to) = number(i.op0_register()) else { return false };
        let target = host(to).unwrap_or(T0);
        if i.is_ip_rel_memory_operand() {
            if i.op0_register().size() != 8 {
                return false;
            }
            self.a.imm(target, i.ip_rel_memory_address());
        } else {
            let mut lea = *i;
            if i.op0_register().size() == 2 && target == T0 {
                return false;
            }
            lea.set_op0_register(sized(target, i.op0_register()));
            lea.set_segment_prefix(Register::None);
            let before = self.a.code.len();
            if !self.map_address(&mut lea) || !self.encode(&lea) {
                self.a.code.truncate(before);
                return false;
            }
        }
        if host(to).is_none() {
            self.a.store(self.slots.gpr(to), T0);
        }
        true
    }

    /// Re-encodes instruction `n`; false (and nothing emitted) when that cannot be done.
    fn native(&mut self, n: usize, live: u32, live_after: u32) -> bool {
        let original = self.source.instructions[n];
        let mut i = original;
        let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
        let mut access = OpAccess::None;
        let mut operand_access = [OpAccess::None; 5];
        {
            let info = self.info.info(&original);
            for (k, a) in operand_access.iter_mut().enumerate() {
                *a = info.op_access(k as u32);
            }
            match info.used_memory() {
                [] if !memory => {}
                [one] if memory => access = one.access(),
                _ => return false,
            }
        }
        let size = original.memory_size().size() as u32;
        if memory && (size == 0 || size > 32) {
            return false;
        }
        // Registers that are kept in memory go through temporaries; with a memory operand one is left.
        let free: &[Reg] = if memory { &[T1] } else { &[T0, T1] };
        let mut held: Vec<(u8, Reg, bool, bool)> = Vec::new();
        for k in 0..i.op_count() {
            if i.op_kind(k) != OpKind::Register {
                continue;
            }
            let r = i.op_register(k);
            let Some(guest) = number(r) else { continue };
            let target = match host(guest) {
                Some(h) => h,
                None => match held.iter().position(|h| h.0 == guest) {
                    Some(at) => held[at].1,
                    None => match free.get(held.len()) {
                        Some(t) => {
                            held.push((guest, *t, false, false));
                            *t
                        }
                        None => return false,
                    },
                },
            };
            if let Some(h) = held.iter_mut().find(|h| h.0 == guest) {
                let a = operand_access[k as usize];
                let whole = a == OpAccess::Write && r.size() >= 4;
                h.2 |= !whole;
                h.3 |= matches!(
                    a,
                    OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
                );
            }
            i.set_op_register(k, sized(target, r));
        }
        if memory {
            i.set_memory_base(Register::R10);
            i.set_memory_index(Register::None);
            i.set_memory_index_scale(1);
            i.set_memory_displacement64(0);
            i.set_memory_displ_size(0);
            i.set_segment_prefix(Register::None);
        }
        // Whether it can be encoded at all, before anything is emitted.
        let encodable = self.encoder.encode(&i, self.a.here()).is_ok();
        drop(self.encoder.take_buffer());
        if !encodable {
            return false;
        }
        let (read, written) = flags(&original, Kind::Native);
        // Flags that it leaves as they are have to be where it writes the others.
        let needs = read != 0 || written != 0 && live_after & !written != 0;
        let mut back = None;
        if memory {
            let before = self.a.code.len();
            if !self.address(&original) {
                self.a.code.truncate(before);
                return false;
            }
            let write = matches!(
                access,
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if !write && !matches!(access, OpAccess::Read | OpAccess::CondRead) {
                self.a.code.truncate(before);
                return false;
            }
            back = Some(self.check(n, size, write, live, alignment(&original)));
        }
        if needs {
            self.need_flags();
        }
        for h in held.iter().filter(|h| h.2) {
            self.a.load(h.1, self.slots.gpr(h.0));
        }
        self.encode(&i);
        for h in held.iter().filter(|h| h.3) {
            self.a.store(self.slots.gpr(h.0), h.1);
        }
        if written != 0 || read == ARITH {
            self.flags = FlagsIn { rflags: true, memory: false };
        }
        if let Some(back) = back {
            self.a.bind(back);
        }
        true
    }
}

/// The condition of a conditional jump as encoded.
fn condition(i: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match i.condition_code() {
        C::o | C::None => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
    }
}
