//! Memory operands that are checked together.
//!
//! Where the addresses of several operands differ by constants (fields of a structure, steps of an unrolled loop), one
//! check of all that they reach shows that none of them can fault, and leaves the host address for the others: these
//! need no temporary but that one, and touch no flags. When what they reach is not in one page that allows it all, the
//! rest is left to a plain translation, which checks every operand by itself.
//!
//! A check may come earlier than the first operand, at that of another one, where the flags have to be put aside anyway:
//! long additions hold theirs over dozens of operands.

use super::asm::*;
use super::classify::{Kind, alignment};
use super::emit::{ColdPath, Emitter};
use super::memory::Operand;
use super::native::stack_offset;
use super::recipe;
use super::stubs::{T0, T1};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// Spans that are known at the same time.
pub(super) const SPANS: usize = 8;
/// Most bytes of one span: the more, the more often it reaches into another page.
const REACH: i64 = 256;
/// Longest operand.
const OPERAND: usize = 64;

/// What a register holds: something that is known by a number, plus a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Value {
    number: u32,
    plus: i64,
}

/// What all registers hold.
type Values = [Value; 16];

/// Addresses with the same key differ by constants: numbers of the base's and the index's value, scale, segment.
type Key = (Option<u32>, Option<u32>, u32, Register);
/// In place of a scale: relative to RIP.
const RIP: u32 = 0;

/// Operands that are checked together.
pub(super) struct Span {
    key: Key,
    /// The instruction before which it is checked, and the last one that uses it.
    check: usize,
    last: usize,
    /// What is reached, from the key's value.
    low: i64,
    high: i64,
    write: bool,
    /// An operand that must be aligned to so many bytes, and then all such ones are.
    aligned: Option<(u8, i64)>,
    operands: usize,
    /// Where its host address is kept.
    slot: usize,
    /// In a loop, its addresses are the same in each round.
    constant: bool,
    /// The address of the last bytes, at the check.
    address: Operand,
}

impl Span {
    /// The bytes at the end that the check looks at.
    fn window(&self) -> i64 {
        (self.high - self.low).min(8)
    }
}

/// Which operands of a block are in which span.
#[derive(Default)]
pub(super) struct Plan {
    spans: Vec<Span>,
    /// For each instruction: its span, and where in it the operand is.
    operands: Vec<Option<(usize, i64)>>,
}

impl Plan {
    /// Whether instruction `n` is preceded by a check.
    pub(super) fn checks_at(&self, n: usize) -> bool {
        self.spans.iter().any(|span| span.check == n)
    }

    /// Whether the operand of instruction `n` needs no check of its own.
    pub(super) fn covers(&self, n: usize) -> bool {
        self.operands.get(n).is_some_and(Option::is_some)
    }
}

/// The block, instruction by instruction, as far as it matters here.
struct Scan<'a> {
    instructions: &'a [Instruction],
    kinds: &'a [Kind],
    /// What registers hold before each instruction.
    before: Vec<Values>,
    /// How many ways off the block, and how many instructions after which nothing is known, come before each.
    branches: Vec<usize>,
    barriers: Vec<usize>,
    /// What registers hold after the last.
    after: Values,
}

impl<'a> Scan<'a> {
    fn new(instructions: &'a [Instruction], kinds: &'a [Kind], info: &mut InstructionInfoFactory) -> Self {
        let mut next = 16;
        let mut values: Values = std::array::from_fn(|n| Value { number: n as u32, plus: 0 });
        let (mut branch, mut barrier) = (0, 0);
        let mut scan = Self {
            instructions,
            kinds,
            before: Vec::new(),
            branches: Vec::new(),
            barriers: Vec::new(),
            after: values,
        };
        for (i, kind) in instructions.iter().zip(kinds) {
            scan.before.push(values);
            scan.branches.push(branch);
            scan.barriers.push(barrier);
            match kind {
                Kind::Nothing | Kind::Jump => continue,
                Kind::Condition => {
                    branch += 1;
                    continue;
                }
                Kind::Call => {
                    values[4].plus = values[4].plus.wrapping_sub(8);
                    continue;
                }
                Kind::CallIndirect | Kind::JumpIndirect | Kind::Return => branch += 1,
                Kind::Native | Kind::Lea | Kind::Push | Kind::Pop | Kind::Leave | Kind::Divide => {}
                _ => {
                    // Whatever the interpreter does there.
                    barrier += 1;
                    for value in &mut values {
                        *value = Value { number: next, plus: 0 };
                        next += 1;
                    }
                    continue;
                }
            }
            if let Some((to, value)) = moved(i, *kind, &values) {
                values[to] = value;
                continue;
            }
            let rsp = values[4];
            let changed = recipe::changed_registers(info, i);
            for (_, value) in values.iter_mut().enumerate().filter(|(r, _)| changed >> r & 1 != 0) {
                *value = Value { number: next, plus: 0 };
                next += 1;
            }
            let step = match kind {
                Kind::Push | Kind::CallIndirect => -8,
                Kind::Return if i.op_count() == 1 => 8 + i64::from(i.immediate16()),
                Kind::Return => 8,
                Kind::Pop if i.op0_register() != Register::RSP => 8,
                _ => continue,
            };
            values[4] = Value { plus: rsp.plus.wrapping_add(step), ..rsp };
        }
        scan.after = values;
        scan
    }

    /// Whether addresses with `key` are the same again when the block is executed again.
    fn is_constant(&self, key: Key) -> bool {
        let same = |number: Option<u32>| {
            number.is_none_or(|n| n < 16 && self.after[n as usize] == Value { number: n, plus: 0 })
        };
        same(key.0) && same(key.1) && self.barriers.last() == Some(&0)
    }

    /// The key of the operand of instruction `n`, and how far it is from the key's value.
    fn key(&self, n: usize) -> Option<(Key, i64)> {
        let i = &self.instructions[n];
        let values = &self.before[n];
        let segment = Some(i.memory_segment()).filter(|s| matches!(s, Register::FS | Register::GS));
        let segment = segment.unwrap_or(Register::None);
        if i.is_ip_rel_memory_operand() {
            return Some(((None, None, RIP, segment), i.ip_rel_memory_address().cast_signed()));
        }
        let mut plus = i.memory_displacement64().cast_signed();
        let mut number = |r: Register, scale: i64| match r {
            Register::None => Some(None),
            r if r.is_gpr64() => {
                let value = values[r.number() & 15];
                plus = plus.wrapping_add(value.plus.wrapping_mul(scale));
                Some(Some(value.number))
            }
            _ => None,
        };
        let base = number(i.memory_base(), 1)?;
        let scale = i.memory_index_scale();
        let index = number(i.memory_index(), scale.into())?;
        Some(((base, index, if index.is_none() { 1 } else { scale }, segment), plus))
    }

    /// An operand at `plus` from the value of `key`, in terms of what registers hold before instruction `n`.
    fn operand(&self, n: usize, key: Key, plus: i64) -> Option<Operand> {
        let (base, index, scale, segment) = key;
        if scale == RIP {
            return Some(Operand {
                base: Register::RIP,
                index: Register::None,
                scale: 1,
                displacement: plus,
                segment,
            });
        }
        let mut displacement = plus;
        let mut register = |number: Option<u32>, scale: i64| {
            let Some(number) = number else { return Some(Register::None) };
            let at = (0..16).find(|&r| self.before[n][r].number == number)?;
            displacement = displacement.wrapping_sub(self.before[n][at].plus.wrapping_mul(scale));
            Some(super::registers::sized(at as u8, Register::RAX))
        };
        let base = register(base, 1)?;
        let index = register(index, scale.into())?;
        let small = i32::try_from(displacement).is_ok();
        // RSP cannot be an index.
        ((small || base == Register::None && index == Register::None) && index != Register::RSP)
            .then_some(Operand { base, index, scale, displacement, segment })
    }

    /// Whether flags that cannot be made again are held from before `n` and after `from`.
    fn holds_flags(&self, from: usize, n: usize) -> bool {
        let writer =
            (from..n).rev().find(|&k| super::classify::flags(&self.instructions[k], self.kinds[k]).1 != 0);
        writer.is_some_and(|k| recipe::of(k, &self.instructions[k]).is_none())
    }
}

/// The register that `i` gives the value of a register plus a constant, and that value.
fn moved(i: &Instruction, kind: Kind, values: &Values) -> Option<(usize, Value)> {
    let to = i.op0_register();
    if i.op0_kind() != OpKind::Register || !to.is_gpr64() {
        return None;
    }
    let to = to.number() & 15;
    let of = |r: Register, plus: i64| {
        let value = values[r.number() & 15];
        (to, Value { plus: value.plus.wrapping_add(plus), ..value })
    };
    use Mnemonic as M;
    let from = i.op1_register();
    match i.mnemonic() {
        M::Lea if kind == Kind::Lea => {
            let plain = i.memory_index() == Register::None && i.memory_base().is_gpr64();
            plain.then(|| of(i.memory_base(), i.memory_displacement64().cast_signed()))
        }
        _ if kind != Kind::Native => None,
        M::Mov if i.op1_kind() == OpKind::Register && from.is_gpr64() => Some(of(from, 0)),
        M::Add => i.try_immediate(1).ok().map(|v| of(i.op0_register(), v.cast_signed())),
        M::Sub => i.try_immediate(1).ok().map(|v| of(i.op0_register(), v.cast_signed().wrapping_neg())),
        M::Inc => Some(of(i.op0_register(), 1)),
        M::Dec => Some(of(i.op0_register(), -1)),
        _ => None,
    }
}

/// What matters of a memory operand.
#[derive(Clone, Copy)]
struct Access {
    /// Bytes.
    size: i64,
    write: bool,
    /// Bytes that its address must be a multiple of.
    alignment: u8,
}

impl Span {
    /// What must be aligned when an operand at `at` that must be aligned to `alignment` is added; the error says that one
    /// check does not do for all.
    fn aligned_with(&self, alignment: u8, at: i64) -> Result<Option<(u8, i64)>, ()> {
        match self.aligned {
            _ if alignment == 1 => Ok(self.aligned),
            None => Ok(Some((alignment, at))),
            Some((other, there)) => {
                let most = alignment.max(other);
                let far = at.wrapping_sub(there);
                if far % i64::from(most) == 0 { Ok(Some((most, there))) } else { Err(()) }
            }
        }
    }
}

/// The memory operand of `i`, when it may be part of a span.
fn operand(i: &Instruction, kind: Kind, info: &mut InstructionInfoFactory) -> Option<Access> {
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    let size = i.memory_size().size();
    if kind != Kind::Native || !memory || !(1..=OPERAND).contains(&size) {
        return None;
    }
    // Those at RSP have a way of their own.
    if super::x87::concerns(i) || stack_offset(i).is_some() {
        return None;
    }
    match info.info(i).used_memory() {
        [one] => {
            let write = !matches!(one.access(), OpAccess::Read | OpAccess::CondRead);
            Some(Access { size: size as i64, write, alignment: alignment(i) })
        }
        _ => None,
    }
}

/// Finds the spans of a block; `live`: flags that may be read from each instruction on.
pub(super) fn plan(
    instructions: &[Instruction],
    kinds: &[Kind],
    live: &[u32],
    info: &mut InstructionInfoFactory,
    is_loop: bool,
) -> Plan {
    let mut found = vec![None; instructions.len()];
    let mut any = 0;
    for (n, (i, kind)) in instructions.iter().zip(kinds).enumerate() {
        found[n] = operand(i, *kind, info);
        any += usize::from(found[n].is_some());
    }
    if any < 2 && !(is_loop && any == 1) {
        return Plan::default();
    }
    let scan = Scan::new(instructions, kinds, info);
    let mut spans: Vec<Span> = Vec::new();
    let mut operands = vec![None; instructions.len()];
    for (n, found) in found.iter().enumerate() {
        let (Some(Access { size, write, alignment }), Some((key, at))) = (*found, scan.key(n)) else {
            continue;
        };
        let Some(end) = at.checked_add(size) else { continue };
        let fits = |span: &Span| {
            span.key == key
                && scan.barriers[span.last] == scan.barriers[n]
                && span.high.max(end).saturating_sub(span.low.min(at)) <= REACH
                // What is only read may be not writable, as long as that branch is not taken.
                && (span.write || !write || scan.branches[span.check] == scan.branches[n])
                && span.aligned_with(alignment, at).is_ok()
        };
        let s = spans.iter().rposition(fits).unwrap_or_else(|| {
            let address = Operand {
                base: Register::None,
                index: Register::None,
                scale: 1,
                displacement: 0,
                segment: Register::None,
            };
            spans.push(Span {
                key,
                check: n,
                last: n,
                low: at,
                high: end,
                write,
                aligned: None,
                operands: 0,
                slot: 0,
                constant: false,
                address,
            });
            spans.len() - 1
        });
        let span = &mut spans[s];
        (span.low, span.high) = (span.low.min(at), span.high.max(end));
        span.write |= write;
        span.aligned = span.aligned_with(alignment, at).unwrap_or(span.aligned);
        span.last = n;
        span.operands += 1;
        operands[n] = Some((s, at));
    }
    hoist(&scan, &mut spans, live);
    if is_loop {
        spans.iter_mut().for_each(|span| span.constant = scan.is_constant(span.key));
    }
    // Places for what is known at the same time, the earliest first. What stays known has its own.
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&s| (!spans[s].constant, spans[s].check));
    let mut used = [0; SPANS];
    let mut keep = vec![false; spans.len()];
    for s in order {
        let span = &mut spans[s];
        let worth =
            span.operands > 1 || span.constant || operands[span.check].is_none_or(|(own, _)| own != s);
        let place = scan.operand(span.check, span.key, span.high - span.window());
        let free = used.iter().position(|&end| end <= span.check);
        if let (true, Some(address), Some(slot)) = (worth, place, free) {
            used[slot] = if span.constant { usize::MAX } else { span.last + 1 };
            (span.address, span.slot, keep[s]) = (address, slot, true);
        } else {
            span.check = usize::MAX;
        }
    }
    for operand in &mut operands {
        *operand = operand.filter(|(s, _)| keep[*s]);
    }
    Plan { spans, operands }
}

/// Moves checks to those of others that come earlier, where they cost no saving of flags.
fn hoist(scan: &Scan, spans: &mut [Span], live: &[u32]) {
    // In the order of their first operands.
    for s in 1..spans.len() {
        let n = spans[s].check;
        let Some(at) = spans[..s].iter().map(|span| span.check).filter(|&at| at < n).max() else { continue };
        let near = scan.branches[at] == scan.branches[n] && scan.barriers[at] == scan.barriers[n];
        let end = spans[s].high - spans[s].window();
        if near && live[n] != 0 && scan.holds_flags(at, n) && scan.operand(at, spans[s].key, end).is_some() {
            spans[s].check = at;
        }
    }
}

impl Emitter<'_> {
    /// Emits the checks before instruction `n`.
    pub(super) fn check_spans(&mut self, n: usize, live: u32) {
        for s in 0..self.plan.spans.len() {
            let span = &self.plan.spans[s];
            if span.check == n && !(span.constant && self.round.is_some()) {
                self.check_span(s, n, live);
            }
        }
    }

    fn check_span(&mut self, s: usize, n: usize, live: u32) {
        let span = &self.plan.spans[s];
        let (window, reach, write, slot) = (span.window(), span.high - span.low, span.write, span.slot);
        let address = span.address;
        let last = span.high - window;
        let aligned = span.aligned.map(|(alignment, at)| (alignment, (at - last) as i32));
        let (again, other, plain) = (self.a.label(), self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.linear(&address);
        if let Some((alignment, distance)) = aligned {
            self.a.lea(T1, T0, distance);
            self.a.test8_imm(T1, alignment - 1);
            self.a.jcc(CC_NE, plain);
        }
        self.a.bind(again);
        self.look_up(write, window as u32, other);
        if reach > window {
            self.a.cmp_imm(T0, (reach - window) as i32);
            self.a.jcc(CC_B, plain);
        }
        self.add_host();
        self.a.store(self.slots.span(slot), T0);
        self.push_cold(other, Some(plain), ColdPath::Refill { write, again });
        self.push_cold(plain, None, ColdPath::Plain { n, unchecked: self.unchecked });
        self.t0 = Holds::Span(s);
    }

    /// The displacement from T0 of the operand of instruction `n`, when it is in a span.
    pub(super) fn operand_in_span(&self, n: usize) -> Option<i32> {
        let (s, at) = (*self.plan.operands.get(n)?)?;
        let span = &self.plan.spans[s];
        Some((at - (span.high - span.window())) as i32)
    }

    /// Brings the host address of the span of instruction `n`'s operand into T0.
    pub(super) fn reach_span(&mut self, n: usize) {
        if let Some(Some((s, _))) = self.plan.operands.get(n).copied()
            && self.t0 != Holds::Span(s)
        {
            self.a.load(T0, self.slots.span(self.plan.spans[s].slot));
            self.t0 = Holds::Span(s);
        }
    }
}

/// What T0 is known to be between instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// The difference between host and linear addresses of the stack.
    StackDelta,
    /// The host address of a span.
    Span(usize),
}
