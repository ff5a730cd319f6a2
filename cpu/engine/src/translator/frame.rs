//! Stack accesses that are checked together.
//!
//! Along a translation RSP mostly changes by constants, so that what PUSH, POP, calls, returns and operands at RSP will
//! reach is known when the first of them comes. When all of it lies in the stack's page, the difference between host and
//! linear addresses is all that the others need: none of them can fault, and flags stay where they are. Otherwise the
//! rest is left to a plain translation, which checks every access by itself.

use super::asm::*;
use super::classify::{Kind, alignment};
use super::emit::{ColdPath, Emitter};
use super::native::stack_offset;
use super::registers::{host, number};
use super::spans::Holds;
use super::stubs::{GUEST_RSP, T0};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Most bytes of one group of accesses.
const SPAN: i64 = 1024;
/// Longest operand.
const OPERAND: usize = 64;

/// What an instruction does with the stack.
enum Use {
    /// Nothing, or nothing that matters here.
    None,
    /// Bytes from this displacement on, and how RSP changes.
    Access { from: i64, size: i64, change: i64 },
    /// RSP changes by a constant.
    Move(i64),
    /// Something else.
    Other,
}

fn of(i: &Instruction, kind: Kind) -> Use {
    match kind {
        Kind::Nothing | Kind::Jump | Kind::Condition | Kind::Divide => Use::None,
        Kind::Push => Use::Access { from: -8, size: 8, change: -8 },
        Kind::Call => Use::Access { from: -8, size: 8, change: -8 },
        Kind::Pop if i.op0_register() != Register::RSP => Use::Access { from: 0, size: 8, change: 8 },
        Kind::Return => {
            let more = if i.op_count() == 1 { i64::from(i.immediate16()) } else { 0 };
            Use::Access { from: 0, size: 8, change: 8 + more }
        }
        Kind::Lea if i.op0_register().full_register() != Register::RSP => Use::None,
        Kind::Lea if i.op0_register() == Register::RSP => match stack_offset(i) {
            Some(disp) => Use::Move(disp.into()),
            None => Use::Other,
        },
        Kind::Native => {
            let is_rsp =
                |k| i.op_kind(k) == OpKind::Register && i.op_register(k).full_register() == Register::RSP;
            if (0..i.op_count()).any(is_rsp) {
                use Mnemonic as M;
                let amount = i.try_immediate(1).ok().filter(|_| i.op0_register() == Register::RSP);
                match (i.mnemonic(), amount) {
                    (M::Cmp | M::Test, _) => {}
                    (M::Add, Some(amount)) => return Use::Move(amount.cast_signed()),
                    (M::Sub, Some(amount)) => return Use::Move(amount.cast_signed().wrapping_neg()),
                    (M::Mov | M::Add | M::Sub | M::And | M::Or | M::Xor, _) if !is_rsp(0) => {}
                    _ => return Use::Other,
                }
            }
            match operand(i) {
                Some(disp) => {
                    Use::Access { from: disp.into(), size: i.memory_size().size() as i64, change: 0 }
                }
                None => Use::None,
            }
        }
        _ => Use::Other,
    }
}

/// The displacement of an operand at RSP that a group may contain.
fn operand(i: &Instruction) -> Option<i32> {
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    let fits = (1..=OPERAND).contains(&i.memory_size().size()) && alignment(i) == 1;
    stack_offset(i).filter(|_| memory && fits && !super::x87::concerns(i))
}

impl Emitter<'_> {
    /// Whether the stack access of instruction `n` needs no check of its own: it is part of a group, which may begin
    /// here. T0 then is the difference between host and linear addresses.
    pub(super) fn in_group(&mut self, n: usize, live: u32) -> bool {
        if n < self.group_end {
            if self.t0 != Holds::StackDelta {
                self.a.load(T0, self.slots.stack_delta);
                self.t0 = Holds::StackDelta;
            }
            return true;
        }
        let Some((end, low, high)) = self.group_from(n) else { return false };
        let (again, other, plain) = (self.a.label(), self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.a.bind(again);
        self.a.lea(T0, GUEST_RSP, (high - 8) as i32);
        self.a.xor(T0, self.slots.stack_tag);
        self.a.cmp(T0, self.slots.stack_limit);
        self.a.jcc(CC_AE, other);
        if high - low > 8 {
            self.a.cmp_imm(T0, (high - low - 8) as i32);
            self.a.jcc(CC_B, plain);
        }
        self.a.load(T0, self.slots.stack_delta);
        self.push_cold(other, Some(again), ColdPath::Stack(plain));
        self.push_cold(plain, None, ColdPath::Plain { n, unchecked: self.unchecked });
        self.group_end = end;
        self.t0 = Holds::StackDelta;
        true
    }

    /// The group of accesses that begins with instruction `n`: the instruction behind it, and its first byte and the one
    /// behind the last, from RSP.
    fn group_from(&self, n: usize) -> Option<(usize, i64, i64)> {
        if !self.source.groups {
            return None;
        }
        let (mut rsp, mut accesses, mut end) = (0i64, 0, n);
        let mut range: Option<(i64, i64)> = None;
        for (k, i) in self.source.instructions.iter().enumerate().skip(n) {
            match of(i, self.kinds[k]) {
                Use::None => {}
                Use::Move(change) => rsp = rsp.saturating_add(change),
                Use::Access { from, size, change } => {
                    let (from, to) = (rsp + from, rsp + from + size);
                    let (low, high) = range.map_or((from, to), |(l, h)| (l.min(from), h.max(to)));
                    if high - low > SPAN {
                        break;
                    }
                    range = Some((low, high));
                    rsp += change;
                    accesses += 1;
                    end = k + 1;
                }
                Use::Other => break,
            }
            if rsp.abs() > 1 << 20 {
                break;
            }
        }
        let (low, high) = range.filter(|_| accesses >= 2)?;
        // Eight bytes at least: the check looks at the last ones.
        Some((end, low.min(high - 8), high))
    }

    /// The operand at the guest's RSP plus `disp` in a group.
    pub(super) fn at_rsp(&self, disp: i32) -> Mem {
        Mem::Sum(GUEST_RSP, T0, self.behind + disp)
    }

    /// Makes the host register of RSP what RSP is.
    pub(super) fn settle_rsp(&mut self) {
        if self.behind != 0 {
            self.a.lea(GUEST_RSP, GUEST_RSP, self.behind);
            self.behind = 0;
        }
    }

    /// Whether instruction `n` neither needs RSP in its register nor has a way off the straight path.
    pub(super) fn defers_rsp(&self, n: usize, kind: Kind) -> bool {
        let i = &self.source.instructions[n];
        let is_rsp = |r: Register| r.full_register() == Register::RSP;
        let registers = (0..i.op_count()).filter(|k| i.op_kind(*k) == OpKind::Register);
        let named = registers.map(|k| i.op_register(k)).any(is_rsp) || is_rsp(i.memory_base());
        let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
        let fits = match kind {
            Kind::Nothing => true,
            Kind::Push | Kind::Pop => n < self.group_end && !named,
            Kind::Call | Kind::Return => n < self.group_end,
            Kind::Lea => !named,
            Kind::Native => !named && !memory && !super::x87::concerns(i),
            _ => false,
        };
        fits && !self.plan.checks_at(n)
    }

    /// Whether instruction `n` leaves alone what it found in T0, or what it has put there for others.
    pub(super) fn keeps_t0(&self, n: usize, kind: Kind) -> bool {
        let i = &self.source.instructions[n];
        let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
        let in_memory = |r: Register| number(r).is_some_and(|n| host(n).is_none());
        match kind {
            Kind::Nothing | Kind::Jump | Kind::Condition => true,
            Kind::Push | Kind::Pop | Kind::Call => n < self.group_end,
            Kind::Lea => ![i.op0_register(), i.memory_base(), i.memory_index()].into_iter().any(in_memory),
            Kind::Native if memory => operand(i).is_some() && n < self.group_end || self.plan.covers(n),
            Kind::Native => {
                let registers = |k| Some(i.op_register(k)).filter(|_| i.op_kind(k) == OpKind::Register);
                let mut others = (0..i.op_count()).filter_map(registers).filter(|r| in_memory(*r));
                // The first one goes through T1.
                let first = others.next().and_then(number);
                others.all(|r| number(r) == first) && !super::x87::concerns(i)
            }
            _ => false,
        }
    }

    /// The displacement of the memory operand of instruction `n` when it is part of a group, or the first of one.
    pub(super) fn operand_in_group(&self, n: usize) -> Option<i32> {
        let disp = operand(&self.source.instructions[n])?;
        (n < self.group_end || self.group_from(n).is_some()).then_some(disp)
    }
}
