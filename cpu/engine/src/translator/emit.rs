//! A block of guest code as host code.
//!
//! Guest registers are in their own host registers, but RSP (in R9) and R9 to R11 (in the state block); R10 and R11
//! are temporaries. The arithmetic flags are in RFLAGS, in memory (`Cpu::fl`), in both, or, where nothing reads them
//! any more, in neither. Between directly linked blocks they are in RFLAGS; after the lookup of an indirect jump in
//! memory.

use super::asm::*;
use super::classify::{ARITH, Kind, Vectors, flags, kind};
use super::flow::{condition, reachable};
use super::registers::{host, number};
use super::stubs::{GUEST_RSP, Stubs, T0, T1};
use super::{Second, Slots};
use crate::block::Watched;
use crate::insn::Insn;
use iced_x86::{Encoder, Instruction, InstructionInfoFactory};

/// What a translation is made from.
pub(super) struct Source<'a> {
    /// RIP of the first instruction.
    pub(super) start: u64,
    /// Its host address.
    pub(super) host: u64,
    pub(super) instructions: &'a [Instruction],
    /// The same, as the interpreter executes them; they live as long as the translation.
    pub(super) insns: &'a [Insn],
    /// The page that holds the code.
    pub(super) watched: Watched,
    /// The page in which the only instruction ends, when that is another one.
    pub(super) second: Option<Second>,
    pub(super) vectors: Vectors,
    /// 64 or 32.
    pub(super) bits: u8,
    /// Segments (bit = number) that operands may be in.
    pub(super) segments: u8,
    /// Flags that nothing in the program reads are right too where an exception or an interrupt can show them.
    pub(super) exact: bool,
    /// CPL 3.
    pub(super) user: bool,
    pub(super) context: u16,
    /// Whether the flags may be read at a RIP in the same page before they are written.
    pub(super) live_at: &'a dyn Fn(u64) -> bool,
}

/// Code and its entries.
pub(super) struct Product {
    pub(super) code: Vec<u8>,
    /// What is off the straight path.
    pub(super) cold: Vec<u8>,
    /// Offset of the entry for everybody.
    pub(super) entry: usize,
    /// Offset of the entry for jumps in the same page.
    pub(super) head: usize,
}

/// Where the arithmetic flags are.
#[derive(Clone, Copy)]
pub(super) struct FlagsIn {
    pub(super) rflags: bool,
    pub(super) memory: bool,
}

/// Code off the straight path.
pub(super) struct Cold {
    pub(super) from: Label,
    pub(super) back: Option<Label>,
    pub(super) what: ColdPath,
}

pub(super) enum ColdPath {
    /// Let the interpreter execute instruction `n`; flags in memory.
    Run(usize),
    /// The same for the block's last instruction, which jumps.
    RunEnd(usize),
    /// Go on at once.
    Nothing,
    /// On to the address in T0 by way of a stub.
    Miss(u64),
    /// On to the address in T0 by way of the second entry of the jump cache at T1, or there.
    Second(Label),
    /// On to the address in T0, for which no code is known, from the near branch `n`.
    MissOf { n: usize, popped: i32 },
    /// Look into the TLB's second level, and try again.
    Refill { write: bool, again: Label },
    /// Find the stack's page in the TLB, or go there.
    Stack(Label),
    /// Bring the guest's registers into the x87 unit; flags in memory.
    LoadFpu,
    /// Leave for RIP; `site`: the jump that could be linked.
    Exit { rip: u64, site: Option<u64>, flags_in_rflags: bool },
}

pub(super) struct Emitter<'a> {
    pub(super) a: Assembler,
    pub(super) slots: Slots,
    pub(super) stubs: &'a Stubs,
    pub(super) source: &'a Source<'a>,
    pub(super) flags: FlagsIn,
    pub(super) cold: Vec<Cold>,
    pub(super) encoder: Encoder,
    pub(super) info: InstructionInfoFactory,
    /// The x87 unit holds the guest's registers for sure.
    pub(super) fpu: bool,
}

/// Translates a block for `origin`; what is off the straight path, for `cold`.
pub(super) fn block(origin: u64, cold: u64, stubs: &Stubs, source: &Source) -> Product {
    let mut e = Emitter {
        a: Assembler::new(origin, source.vectors.bmi2),
        slots: Slots::new(),
        stubs,
        source,
        flags: FlagsIn { rflags: true, memory: false },
        cold: Vec::new(),
        encoder: Encoder::new(64),
        info: InstructionInfoFactory::new(),
        fpu: false,
    };
    let (entry, head) = e.run();
    e.a.go_cold(cold);
    e.finish_cold();
    e.a.finish();
    let (hot, cold) = e.a.parts();
    Product { code: hot.to_vec(), cold: cold.to_vec(), entry, head }
}

impl Emitter<'_> {
    /// Flags that may be read from each instruction on, and after the last.
    pub(super) fn liveness(&self, kinds: &[Kind]) -> Vec<u32> {
        let source = self.source;
        let mut live = vec![ARITH; kinds.len() + 1];
        if let (Some(last), Some(kind)) = (source.instructions.last(), kinds.last()) {
            let at = |target: u64| if self.direct(target) && !(source.live_at)(target) { 0 } else { ARITH };
            live[kinds.len()] = match kind {
                Kind::Jump => at(last.near_branch_target()),
                Kind::Condition => at(last.near_branch_target()) | at(last.next_ip()),
                Kind::Call | Kind::CallIndirect | Kind::JumpIndirect | Kind::Return => ARITH,
                Kind::Syscall | Kind::Sysret => ARITH,
                _ => at(last.next_ip()),
            };
        }
        if source.exact {
            live[kinds.len()] = ARITH;
        }
        for n in (0..kinds.len()).rev() {
            let (mut read, written) = flags(&source.instructions[n], kinds[n]);
            if source.exact && may_fault(&source.instructions[n], kinds[n]) {
                read = ARITH;
            }
            live[n] = live[n + 1] & !written | read;
        }
        live
    }

    pub(super) fn run(&mut self) -> (usize, usize) {
        let source = self.source;
        let kinds = kinds(source.instructions, source.insns, source.vectors);
        let live = self.liveness(&kinds);
        // Blocks of the same page that are linked come in at the head, with the flags in RFLAGS. They know the page, but
        // not the next one.
        let mut head = 0;
        if source.second.is_some() && live[0] != 0 {
            self.save_flags();
        }
        let entry = self.a.code.len();
        self.entry(live[0]);
        if source.second.is_none() {
            head = self.a.code.len();
        }
        self.flags = FlagsIn { rflags: live[0] != 0, memory: false };
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
        (entry, head)
    }

    pub(super) fn finish_cold(&mut self) {
        for cold in std::mem::take(&mut self.cold) {
            self.a.bind(cold.from);
            match cold.what {
                ColdPath::Run(n) => self.call_interpreter(n, false),
                ColdPath::LoadFpu => self.a.call_to(self.stubs.load_fpu),
                ColdPath::RunEnd(n) => self.run_end(n),
                ColdPath::Nothing => {}
                ColdPath::Miss(to) => self.a.jmp_to(to),
                ColdPath::Second(miss) => {
                    self.a.xor_imm8(T1, 16);
                    self.a.cmp(T0, Mem::Base(T1, 0));
                    self.a.jcc(CC_NE, miss);
                    self.a.jmp_mem(Mem::Base(T1, 8));
                }
                ColdPath::MissOf { n, popped } => {
                    let astray = self.a.label();
                    self.check_canonical(astray);
                    self.a.jmp_to(self.stubs.miss);
                    self.a.bind(astray);
                    if popped != 0 {
                        self.add_pointer(GUEST_RSP, GUEST_RSP, -popped);
                    }
                    self.run_end(n);
                }
                ColdPath::Refill { write, again } => {
                    self.a.call_to(if write { self.stubs.refill_write } else { self.stubs.refill_read });
                    self.a.jcc(CC_E, again);
                }
                ColdPath::Stack(slow) => {
                    self.a.call_to(self.stubs.stack);
                    self.a.jcc(CC_NE, slow);
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

    /// Lets the interpreter execute the block's last instruction, with the flags in memory, and goes on from there.
    fn run_end(&mut self, n: usize) {
        self.call_interpreter(n, false);
        self.a.imm(T0, self.source.instructions[n].next_ip());
        self.a.jmp_to(self.stubs.lookup);
    }

    pub(super) fn call_interpreter(&mut self, n: usize, flags_in_rflags: bool) {
        self.a.imm(T0, (&raw const self.source.insns[n]) as u64);
        self.a.imm(T1, self.source.instructions[n].next_ip());
        self.a.call_to(if flags_in_rflags { self.stubs.run_flags } else { self.stubs.run_mem });
    }

    /// Copies the flags from RFLAGS to memory; T1 is lost.
    pub(super) fn save_flags(&mut self) {
        self.a.mov(T1, RAX);
        self.a.flags_to_ax();
        self.a.store16(self.slots.flags, RAX);
        self.a.mov(RAX, T1);
        self.flags.memory = true;
    }

    /// Brings the flags into RFLAGS; T1 is lost.
    pub(super) fn need_flags(&mut self) {
        if self.flags.rflags || !self.flags.memory {
            return;
        }
        self.a.mov(T1, RAX);
        self.a.load16z(RAX, self.slots.flags);
        self.a.flags_from_ax();
        self.a.mov(RAX, T1);
        self.flags.rflags = true;
    }

    /// Makes sure that live flags survive a change of RFLAGS, and says that RFLAGS is about to change.
    pub(super) fn give_up_rflags(&mut self, live: u32) {
        if live != 0 && self.flags.rflags && !self.flags.memory {
            self.save_flags();
        }
        self.flags.rflags = false;
    }

    /// Emits instruction `n`; true when it ends the block.
    pub(super) fn instruction(&mut self, n: usize, kind: Kind, live: u32, live_after: u32) -> bool {
        let i = self.source.instructions[n];
        match kind {
            Kind::Nothing => {}
            Kind::Native => {
                if !self.native(n, live, live_after) {
                    self.interpret(n);
                }
            }
            Kind::Divide => {
                if !self.divide(n, live) {
                    self.interpret(n);
                }
            }
            Kind::LoadControl => {
                if !self.load_control(n, live) {
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
                let back = self.check_stack(n, 0, live);
                match host(to) {
                    Some(r) => self.load_word(r, Mem::Base(T0, 0)),
                    None => {
                        self.load_word(T1, Mem::Base(T0, 0));
                        self.a.store(self.slots.gpr(to), T1);
                    }
                }
                if to != 4 {
                    self.add_pointer(GUEST_RSP, GUEST_RSP, self.width() as i32);
                }
                self.a.bind(back);
            }
            Kind::Leave => {
                self.add_pointer(T0, RBP, 0);
                let back = self.check(n, self.width(), false, live, 1);
                self.add_pointer(GUEST_RSP, RBP, self.width() as i32);
                self.load_word(RBP, Mem::Base(T0, 0));
                self.a.bind(back);
            }
            Kind::Jump | Kind::Condition | Kind::Call if !reachable(i.near_branch_target()) => {
                self.interpret(n);
                self.after_interpreted_end(&i);
                return true;
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
                self.exit(i.near_branch_target(), i.near_branch_target() <= i.ip(), live_after);
                return true;
            }
            Kind::JumpIndirect | Kind::CallIndirect => {
                if !self.indirect_target(n, live) {
                    self.interpret(n);
                    self.after_interpreted_end(&i);
                    return true;
                }
                if kind == Kind::CallIndirect {
                    if self.source.bits == 64 {
                        // Before anything is pushed.
                        self.give_up_rflags(live);
                        let astray = self.a.label();
                        self.check_canonical(astray);
                        self.cold.push(Cold { from: astray, back: None, what: ColdPath::RunEnd(n) });
                    }
                    self.a.store(self.slots.temp2, T0);
                    self.push_constant(n, i.next_ip(), live);
                    self.a.load(T0, self.slots.temp2);
                    self.lookup();
                } else {
                    self.branch(n, 0);
                }
                return true;
            }
            Kind::Return => {
                self.check_stack_or_end(n, 0, live);
                self.load_word(T0, Mem::Base(T0, 0));
                let more = if i.op_count() == 1 { i32::from(i.immediate16()) } else { 0 };
                let popped = self.width() as i32 + more;
                self.add_pointer(GUEST_RSP, GUEST_RSP, popped);
                self.branch(n, popped);
                return true;
            }
            Kind::Syscall if self.source.user && self.source.bits == 64 => {
                self.syscall(n, live);
                return true;
            }
            Kind::Sysret if !self.source.user && self.source.bits == 64 => {
                self.sysret(n, live);
                return true;
            }
            Kind::Syscall | Kind::Sysret => {
                self.interpret(n);
                self.after_interpreted_end(&i);
                return true;
            }
            Kind::PushMemory => {
                if !self.push_memory(n, live) {
                    self.interpret(n);
                }
            }
            Kind::System => {
                if !self.system(n, live) {
                    self.interpret(n);
                }
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

    pub(super) fn interpret(&mut self, n: usize) {
        self.call_interpreter(n, self.flags.rflags && !self.flags.memory);
        self.flags = FlagsIn { rflags: true, memory: true };
    }
}

/// How each instruction is translated.
pub(super) fn kinds(instructions: &[Instruction], insns: &[Insn], vectors: Vectors) -> Vec<Kind> {
    let undefined = crate::decode::undefined as crate::insn::Exec;
    let of = |(i, insn): (&Instruction, &Insn)| {
        if std::ptr::fn_addr_eq(insn.exec, undefined) { Kind::InterpretEnd } else { kind(i, vectors) }
    };
    instructions.iter().zip(insns).map(of).collect()
}

/// Whether instruction `i` can raise an exception, or let an interrupt come in.
fn may_fault(i: &Instruction, kind: Kind) -> bool {
    match kind {
        Kind::Nothing | Kind::Lea => false,
        Kind::Condition | Kind::Jump => !reachable(i.near_branch_target()),
        Kind::Native => (0..i.op_count()).any(|n| i.op_kind(n) == iced_x86::OpKind::Memory),
        _ => true,
    }
}
