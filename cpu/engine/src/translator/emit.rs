//! A block of guest code as host code.
//!
//! Guest registers are in their own host registers, but RSP (in R9) and R9 to R11 (in the state block); R10 and R11
//! are temporaries. The arithmetic flags are in RFLAGS, in memory (`Cpu::fl`), in both, or, where nothing reads them
//! any more, in neither. Between directly linked blocks they are in RFLAGS; after the lookup of an indirect jump in
//! memory.

use super::asm::*;
use super::classify::{ARITH, Kind, Vectors, flags, kind};
use super::flow::{condition, reachable};
use super::recipe::{Recipe, changed_registers};
use super::registers::{host, number};
use super::spans::{self, Holds, Plan};
use super::stubs::{GUEST_RSP, Stubs, T0, T1};
use super::{Entries, Page, Slots};
use crate::insn::Insn;
use iced_x86::{Encoder, Instruction, InstructionInfoFactory, Register};

/// What a translation is made from.
pub(super) struct Source<'a> {
    /// RIP of the first instruction.
    pub(super) start: u64,
    pub(super) instructions: &'a [Instruction],
    /// The same, as the interpreter executes them; they live as long as the translation.
    pub(super) insns: &'a [Insn],
    /// How each is translated.
    pub(super) kinds: &'a [Kind],
    /// The page that holds the start.
    pub(super) page: Page,
    /// The other pages that hold code of the block.
    pub(super) others: &'a [Page],
    /// Where executions are counted down until a trace is worth making.
    pub(super) heat: Option<u64>,
    pub(super) vectors: Vectors,
    /// 64 or 32.
    pub(super) bits: u8,
    /// Segments (bit = number) that operands may be in.
    pub(super) segments: u8,
    /// Flags that nothing in the program reads are right too where an exception or an interrupt can show them.
    pub(super) exact: bool,
    /// CPL 3.
    pub(super) user: bool,
    /// It may run at any linear address at which the pages lie as they do here.
    pub(super) shared: bool,
    pub(super) context: u16,
    /// Stack accesses may be checked together.
    pub(super) groups: bool,
    /// A jump back to the start may stay in the translation.
    pub(super) loops: bool,
    /// Blocks are compared with the interpreter.
    pub(super) lockstep: bool,
    /// Whether the flags may be read at a RIP in the same page before they are written.
    pub(super) live_at: &'a dyn Fn(u64) -> bool,
}

/// What is used for one translation after another, so that its memory is not asked for each time.
pub(super) struct Tools {
    a: Assembler,
    cold: Vec<Cold>,
    live: Vec<u32>,
    encoder: Encoder,
    info: InstructionInfoFactory,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self {
            a: Assembler::new(0, false),
            cold: Vec::new(),
            live: Vec::new(),
            encoder: Encoder::new(64),
            info: InstructionInfoFactory::new(),
        }
    }

    /// The code made last, on the straight path and off it.
    pub(super) fn code(&self) -> (&[u8], &[u8]) {
        self.a.parts()
    }
}

/// Where the arithmetic flags can be had from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FlagsIn {
    pub(super) rflags: bool,
    pub(super) memory: bool,
    /// They can be made again.
    pub(super) recipe: Option<Recipe>,
}

impl FlagsIn {
    pub(super) const RFLAGS: Self = Self { rflags: true, memory: false, recipe: None };
    pub(super) const MEMORY: Self = Self { rflags: false, memory: true, recipe: None };
    const NOWHERE: Self = Self { rflags: false, memory: false, recipe: None };
}

/// Code off the straight path.
#[derive(Clone, Copy)]
pub(super) struct Cold {
    pub(super) from: Label,
    pub(super) back: Option<Label>,
    pub(super) what: ColdPath,
    /// How to make the flags that have to be in memory.
    pub(super) recipe: Option<Recipe>,
}

#[derive(Clone, Copy)]
pub(super) enum ColdPath {
    /// Let the interpreter execute instruction `n`; flags in memory.
    Run(usize),
    /// The same for the block's last instruction, which jumps.
    RunEnd(usize),
    /// On with instruction `n` in code that checks every access by itself; flags in memory.
    Plain { n: usize, unchecked: bool },
    /// Go on at once.
    Nothing,
    /// On to the address in T0 by way of a stub.
    Miss(u64),
    /// On to the address in T0 by way of the second entry of the jump cache at T1, or there.
    Second(Label),
    /// On to the address in T0 by way of a stub, from the near branch `n`.
    MissOf { n: usize, popped: i32, to: u64 },
    /// Look into the TLB's second level, and try again.
    Refill { write: bool, again: Label },
    /// Find the stack's page in the TLB, or go there.
    Stack(Label),
    /// Bring the guest's registers into the x87 unit; flags in memory.
    LoadFpu,
    /// The same for AVX-512's registers.
    LoadWide,
    /// The way off a trace.
    Side { target: u64, backward: bool, live: u32, flags: FlagsIn },
    /// Come in with the flags in RFLAGS where they are wanted in memory.
    Save,
    /// Leave for RIP; `site`: the jump that could be linked.
    Exit { rip: u64, site: Option<u64>, flags_in_rflags: bool },
}

pub(super) struct Emitter<'a> {
    pub(super) a: &'a mut Assembler,
    pub(super) slots: Slots,
    pub(super) stubs: &'a Stubs,
    pub(super) source: &'a Source<'a>,
    pub(super) flags: FlagsIn,
    pub(super) cold: &'a mut Vec<Cold>,
    pub(super) encoder: &'a mut Encoder,
    pub(super) info: &'a mut InstructionInfoFactory,
    /// The x87 unit holds the guest's registers for sure.
    pub(super) fpu: bool,
    /// The host's registers of AVX-512 are the guest's for sure.
    pub(super) wide: bool,
    /// The trace has followed a jump backward or an indirect one, with no look at the mailbox since.
    pub(super) unchecked: bool,
    pub(super) kinds: &'a [Kind],
    /// The instruction behind the present group of stack accesses.
    pub(super) group_end: usize,
    /// What the guest's RSP is more than its host register: PUSH, POP and calls that follow each other in a group change
    /// it together.
    pub(super) behind: i32,
    pub(super) t0: Holds,
    pub(super) plan: Plan,
    /// Where the second round of a loop begins, once there is one, and where the flags are by then.
    pub(super) round: Option<(Label, FlagsIn)>,
}

/// Translates a block for `origin`; what is off the straight path, for `cold`. The code is left in `tools`.
pub(super) fn block(tools: &mut Tools, origin: u64, cold: u64, stubs: &Stubs, source: &Source) -> Entries {
    let Tools { a, cold: ways, live, encoder, info } = tools;
    a.restart(origin, source.vectors.bmi2);
    ways.clear();
    let mut e = Emitter {
        a,
        slots: Slots::new(),
        stubs,
        source,
        flags: FlagsIn::RFLAGS,
        cold: ways,
        encoder,
        info,
        fpu: false,
        wide: false,
        unchecked: false,
        kinds: source.kinds,
        group_end: 0,
        behind: 0,
        t0: Holds::Nothing,
        plan: Plan::default(),
        round: None,
    };
    e.liveness(live);
    // Straight runs that get hot become traces.
    if source.groups && source.heat.is_none() {
        let is_loop = e.is_loop(source.kinds);
        e.plan = spans::plan(source.instructions, source.kinds, live, e.info, is_loop);
        e.liveness(live);
    }
    let (entry, head_memory, head) = e.run(live);
    e.a.go_cold(cold);
    e.finish_cold();
    e.a.finish();
    let at = |e: &Emitter, label| e.a.address_of(label).unwrap_or(origin);
    Entries { entry: at(&e, entry), head_memory: at(&e, head_memory), head: at(&e, head) }
}

impl Emitter<'_> {
    /// The instruction that follows instruction `n` in a trace.
    pub(super) fn follower(&self, n: usize) -> Option<u64> {
        self.source.instructions.get(n + 1).map(Instruction::ip)
    }

    /// Flags that may be read after the block was left for `target`.
    pub(super) fn live_beyond(&self, target: u64) -> u32 {
        let source = self.source;
        if !source.exact && self.direct(target) && !(source.live_at)(target) { 0 } else { ARITH }
    }

    /// Notes which flags may be read from each instruction on, and after the last.
    fn liveness(&self, live: &mut Vec<u32>) {
        let (source, kinds) = (self.source, self.kinds);
        live.clear();
        live.resize(kinds.len() + 1, ARITH);
        if let (Some(last), Some(kind)) = (source.instructions.last(), kinds.last()) {
            live[kinds.len()] = match kind {
                Kind::Jump => self.live_beyond(last.near_branch_target()),
                Kind::Condition => {
                    self.live_beyond(last.near_branch_target()) | self.live_beyond(last.next_ip())
                }
                Kind::Call | Kind::CallIndirect | Kind::JumpIndirect | Kind::Return => ARITH,
                Kind::Syscall | Kind::Sysret => ARITH,
                _ => self.live_beyond(last.next_ip()),
            };
        }
        for n in (0..kinds.len()).rev() {
            let i = &source.instructions[n];
            let (mut read, written) = flags(i, kinds[n]);
            let may_fault = may_fault(i, kinds[n]) && !self.plan.covers(n) || self.plan.checks_at(n);
            if source.exact && may_fault {
                read = ARITH;
            }
            // The ways off a trace.
            read |= match kinds[n] {
                Kind::Condition => self.live_beyond(i.near_branch_target()) | self.live_beyond(i.next_ip()),
                Kind::CallIndirect | Kind::JumpIndirect | Kind::Return => ARITH,
                _ => 0,
            };
            live[n] = live[n + 1] & !written | read;
        }
    }

    /// Whether the first instruction that does something with RFLAGS makes it something else.
    fn wants_memory(&self, kinds: &[Kind]) -> bool {
        for (i, kind) in self.source.instructions.iter().zip(kinds) {
            match kind {
                Kind::Nothing | Kind::Lea | Kind::Jump => {}
                Kind::Condition => return false,
                Kind::Native if !may_fault(i, *kind) && !super::x87::concerns(i) => {
                    if flags(i, *kind) != (0, 0) {
                        return false;
                    }
                }
                _ => return true,
            }
        }
        false
    }

    /// Emits everything but what is off the straight path. The entry for everybody, and those for jumps in the same
    /// page with the flags in memory and in RFLAGS.
    fn run(&mut self, live: &[u32]) -> (Label, Label, Label) {
        let (source, kinds) = (self.source, self.kinds);
        let (entry, head_memory, mut head) = (self.a.label(), self.a.label(), self.a.label());
        self.a.bind(entry);
        self.flags = FlagsIn::MEMORY;
        let (away, stale) = (self.a.label(), self.a.label());
        if source.shared {
            // Whoever comes here has the linear address in T0.
            self.add_pointer(T0, T0, -((source.start & 0xfff) as i32));
            self.a.store(self.slots.code_page, T0);
            self.check_page_at(source.page, away, stale);
        } else {
            self.a.load(T1, self.slots.code);
            self.check_page(source.page, away, stale);
        }
        self.count(source.start);
        self.a.bind(head_memory);
        // Jumps in the same page know that page, but not the others.
        if !source.others.is_empty() {
            self.a.load(T1, self.slots.code);
        }
        for page in source.others {
            self.check_page(*page, away, stale);
        }
        for (from, site) in [(away, None), (stale, Some(super::STALE))] {
            let what = ColdPath::Exit { rip: source.start, site, flags_in_rflags: false };
            self.push_cold(from, None, what);
        }
        if live[0] == 0 {
            self.flags = FlagsIn::NOWHERE;
            head = head_memory;
        } else if source.others.is_empty() && !self.wants_memory(kinds) {
            self.need_flags();
            self.a.bind(head);
            self.flags = FlagsIn::RFLAGS;
        } else {
            self.push_cold(head, Some(head_memory), ColdPath::Save);
        }
        self.instructions(kinds, live);
        if self.round.is_some() {
            self.begin_second_round();
            self.instructions(kinds, live);
        }
        (entry, head_memory, head)
    }

    /// Emits all instructions, and where they lead.
    fn instructions(&mut self, kinds: &[Kind], live: &[u32]) {
        for (n, kind) in kinds.iter().enumerate() {
            if self.instruction(n, *kind, live[n], live[n + 1]) {
                return;
            }
        }
        self.settle_rsp();
        let next = self.source.instructions.last().map_or(self.source.start, Instruction::next_ip);
        self.exit(next, false, live[kinds.len()]);
    }

    /// Puts `what` off the straight path.
    pub(super) fn push_cold(&mut self, from: Label, back: Option<Label>, what: ColdPath) {
        let FlagsIn { rflags, memory, recipe } = self.flags;
        let recipe = match what {
            ColdPath::Run(_)
            | ColdPath::RunEnd(_)
            | ColdPath::Plain { .. }
            | ColdPath::Miss(_)
            | ColdPath::MissOf { .. }
            | ColdPath::Exit { .. }
            | ColdPath::LoadFpu
            | ColdPath::LoadWide => recipe.filter(|_| !rflags && !memory),
            _ => None,
        };
        self.cold.push(Cold { from, back, what, recipe });
    }

    fn finish_cold(&mut self) {
        self.unchecked = false;
        let mut done = 0;
        while done < self.cold.len() {
            let Cold { from, back, what, recipe } = self.cold[done];
            done += 1;
            self.a.bind(from);
            if let Some(recipe) = recipe {
                self.make_flags(recipe);
                self.save_flags();
            }
            match what {
                ColdPath::Run(n) => self.call_interpreter(n, false),
                ColdPath::LoadFpu => self.a.call_to(self.stubs.load_fpu),
                ColdPath::LoadWide => self.a.call_to(self.stubs.load_wide),
                ColdPath::RunEnd(n) => self.run_end(n),
                ColdPath::Plain { n, .. } if self.source.lockstep => self.call_interpreter(n, false),
                ColdPath::Plain { n, unchecked } => {
                    let next = self.a.label();
                    if unchecked {
                        self.look_at_mailbox(next);
                    }
                    let ip = self.source.instructions[n].ip();
                    let mut bits = super::TO_PLAIN | super::IN_MEMORY;
                    if self.source.shared && !self.direct(ip) {
                        self.rip(T0, ip);
                        bits |= super::ACROSS;
                    }
                    let site = self.a.here();
                    self.a.jmp(next);
                    self.a.bind(next);
                    self.rip(T1, ip);
                    self.a.store(self.slots.rip, T1);
                    self.a.imm(T0, site | bits);
                    self.a.jmp_to(self.stubs.exit_mem);
                }
                ColdPath::Nothing => {}
                ColdPath::Miss(to) => self.a.jmp_to(to),
                ColdPath::Side { target, backward, live, flags } => {
                    self.flags = flags;
                    self.exit(target, backward, live);
                }
                ColdPath::Save => self.save_flags(),
                ColdPath::Second(miss) => {
                    self.a.xor_imm8(T1, 16);
                    self.a.cmp(T0, Mem::Base(T1, 0));
                    self.a.jcc(CC_NE, miss);
                    self.a.jmp_mem(Mem::Base(T1, 8));
                }
                ColdPath::MissOf { n, popped, to } => {
                    let astray = self.a.label();
                    self.check_canonical(astray);
                    self.a.jmp_to(to);
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
                    self.rip(T1, rip);
                    self.a.store(self.slots.rip, T1);
                    self.a.imm(T0, site.unwrap_or(0));
                    self.a.jmp_to(if flags_in_rflags { self.stubs.exit_flags } else { self.stubs.exit_mem });
                }
            }
            if let Some(back) = back {
                self.a.jmp(back);
            }
        }
    }

    /// Lets the interpreter execute the block's last instruction, with the flags in memory, and goes on from there.
    fn run_end(&mut self, n: usize) {
        self.call_interpreter(n, false);
        self.rip(T0, self.source.instructions[n].next_ip());
        self.a.jmp_to(self.stubs.lookup);
    }

    pub(super) fn call_interpreter(&mut self, n: usize, flags_in_rflags: bool) {
        self.a.imm(T0, (&raw const self.source.insns[n]) as u64);
        self.rip(T1, self.source.instructions[n].next_ip());
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
        if let FlagsIn { rflags: false, memory: false, recipe: Some(recipe) } = self.flags {
            self.make_flags(recipe);
            self.flags.rflags = true;
        }
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
        if live != 0 && self.flags.rflags && !self.flags.memory && self.flags.recipe.is_none() {
            self.save_flags();
        }
        self.flags.rflags = false;
    }

    /// Brings the flags into memory, wherever they are; T1 is lost.
    pub(super) fn flags_to_memory(&mut self) {
        if !self.flags.memory {
            self.need_flags();
            if self.flags.rflags {
                self.save_flags();
            }
        }
    }

    /// Before instruction `n` changes registers from which the flags could be made: whether that is over after it.
    fn spoils_recipe(&mut self, n: usize, kind: Kind, live_after: u32) -> bool {
        let Some(recipe) = self.flags.recipe else { return false };
        let i = &self.source.instructions[n];
        let changed = match kind {
            Kind::Nothing | Kind::Jump | Kind::Condition => 0,
            Kind::System | Kind::Interpret => u16::MAX,
            _ => changed_registers(self.info, i),
        };
        if recipe.registers & changed == 0 {
            return false;
        }
        if live_after & !flags(i, kind).1 != 0 {
            if !self.flags.rflags {
                self.flags_to_memory();
            }
            self.flags.recipe = None;
        }
        true
    }

    /// Emits instruction `n`; true when it ends the block.
    pub(super) fn instruction(&mut self, n: usize, kind: Kind, live: u32, live_after: u32) -> bool {
        if !self.defers_rsp(n, kind) {
            self.settle_rsp();
        }
        self.check_spans(n, live);
        let before = self.flags.recipe;
        let spoilt = self.spoils_recipe(n, kind, live_after);
        if self.t0 == Holds::StackDelta && n >= self.group_end {
            self.t0 = Holds::Nothing;
        }
        let ended = self.emit(n, kind, live, live_after);
        if !self.keeps_t0(n, kind) {
            self.t0 = Holds::Nothing;
        }
        if spoilt && self.flags.recipe == before {
            self.flags.recipe = None;
        }
        ended
    }

    fn emit(&mut self, n: usize, kind: Kind, live: u32, live_after: u32) -> bool {
        let i = self.source.instructions[n];
        let follower = self.follower(n);
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
            Kind::Pop if i.op0_register() != Register::RSP && self.in_group(n, live) => {
                let to = number(i.op0_register()).unwrap_or(0);
                let from = self.at_rsp(0);
                match host(to) {
                    Some(r) => self.a.load(r, from),
                    None => {
                        self.a.load(T1, from);
                        self.a.store(self.slots.gpr(to), T1);
                    }
                }
                self.behind += 8;
            }
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
                let (target, backward) = (i.near_branch_target(), i.near_branch_target() <= i.ip());
                if follower.is_some() {
                    self.unchecked |= backward;
                    return false;
                }
                if self.goes_round(n) {
                    self.go_round();
                    return true;
                }
                self.exit(target, backward, live_after);
                return true;
            }
            Kind::Condition => {
                self.need_flags();
                let (target, backward) = (i.near_branch_target(), i.near_branch_target() <= i.ip());
                let side = self.a.label();
                let round = self.goes_round(n);
                let (cc, other, other_backward) = if follower == Some(target) || round {
                    (condition(&i) ^ 1, i.next_ip(), false)
                } else {
                    (condition(&i), target, backward)
                };
                self.a.jcc(cc, side);
                let live = self.live_beyond(other);
                let other_backward = other_backward || self.unchecked;
                let what =
                    ColdPath::Side { target: other, backward: other_backward, live, flags: self.flags };
                self.push_cold(side, None, what);
                if follower.is_some() {
                    self.unchecked |= follower == Some(target) && backward;
                    return false;
                }
                if round {
                    self.go_round();
                    return true;
                }
                self.exit(i.next_ip(), false, live_after);
                return true;
            }
            Kind::Call => {
                let backward = i.near_branch_target() <= i.ip();
                self.push_constant(n, i.next_ip(), live);
                if follower.is_some() {
                    self.unchecked |= backward;
                    return false;
                }
                self.settle_rsp();
                self.exit(i.near_branch_target(), backward, live_after);
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
                        self.push_cold(astray, None, ColdPath::RunEnd(n));
                    }
                    self.a.store(self.slots.temp2, T0);
                    self.push_constant(n, i.next_ip(), live);
                    self.a.load(T0, self.slots.temp2);
                    if follower.is_none() {
                        self.lookup();
                        return true;
                    }
                    self.follow(follower, live, ColdPath::Miss(self.stubs.lookup));
                    return false;
                }
                if follower.is_none() {
                    self.branch(n, 0);
                    return true;
                }
                self.follow(follower, live, ColdPath::MissOf { n, popped: 0, to: self.stubs.lookup });
                return false;
            }
            Kind::Return => {
                if self.in_group(n, live) {
                    self.a.load(T0, self.at_rsp(0));
                    self.t0 = Holds::Nothing;
                } else {
                    self.check_stack_or_end(n, 0, live);
                    self.load_word(T0, Mem::Base(T0, 0));
                }
                let more = if i.op_count() == 1 { i32::from(i.immediate16()) } else { 0 };
                let popped = self.width() as i32 + more;
                let behind = std::mem::take(&mut self.behind);
                self.add_pointer(GUEST_RSP, GUEST_RSP, popped + behind);
                if follower.is_none() {
                    self.branch(n, popped);
                    return true;
                }
                self.follow(follower, live, ColdPath::MissOf { n, popped, to: self.stubs.lookup });
                return false;
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
        self.settle_rsp();
        self.t0 = Holds::Nothing;
        self.need_flags_somewhere();
        self.call_interpreter(n, self.flags.rflags && !self.flags.memory);
        self.flags = FlagsIn { rflags: true, memory: true, recipe: None };
    }

    /// Makes the flags where they can only be made.
    pub(super) fn need_flags_somewhere(&mut self) {
        if !self.flags.memory {
            self.need_flags();
        }
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
