//! Which instructions become one translation: a straight run, and where that leads most of the time.
//!
//! Direct jumps and calls are followed, returns from calls on the trace, jumps by way of a constant address (a
//! procedure linkage table), and the side of a condition that the interpreter has seen more often. What is guessed is
//! compared where it stands.

use super::classify::{self, Kind, Vectors};
use super::{Page, Place, STRAIGHT, TAKEN, way_slot};
use crate::cpu::Cpu;
use crate::mmu::CODE_SIZE;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Register};

/// Most pages of one trace.
const PAGES: usize = 4;
/// Instructions after which nothing is followed any more.
const ENOUGH: usize = 40;
/// Calls on a trace that have not returned.
const DEPTH: usize = 4;

/// The bytes of a page of code, as far as they were wanted.
pub(super) type Bytes = Box<[u8; 4096]>;

/// Bytes that a straight run can have.
const RUN: usize = super::MAX_INSTRUCTIONS * 15;

/// What a translation is made from.
pub(super) struct Trace {
    pub(super) instructions: Vec<Instruction>,
    /// Pages besides the first one.
    pub(super) others: Vec<Page>,
    /// The first page.
    pub(super) bytes: Bytes,
}

/// How a trace goes on behind an instruction.
enum Next {
    Straight,
    To(u64),
    Nowhere,
}

fn same_page(a: u64, b: u64) -> bool {
    (a ^ b) & !0xfff == 0
}

impl Cpu {
    /// The instructions from `place` on, whose page is under watch. None of them crosses into another page; empty when
    /// the first one does. `None` when it is none.
    pub(super) fn trace(&mut self, place: Place, bits: u8, follow: bool) -> Option<Trace> {
        let start = (place.linear & 0xfff) as usize;
        // Only where flags that nobody reads may be wrong, the rest of the page is looked at too.
        let some = !follow && !self.jit.lazy_flags;
        let first = if some { start..(start + RUN).min(4096) } else { 0..4096 };
        let mut pages = vec![(place.linear, self.bytes_of(place.host, first))];
        let mut others: Vec<Page> = Vec::new();
        let mut instructions: Vec<Instruction> = Vec::with_capacity(16);
        let mut returns = Vec::new();
        // In the kernel, what follows an interpreted instruction may be mapped elsewhere by then.
        let mut closed = !follow || self.jit.alone || bits != 64 || self.jit.most == 1;
        let mut at = place.linear;
        'trace: loop {
            let page = match pages.iter().position(|(linear, _)| same_page(*linear, at)) {
                Some(page) => page,
                None => {
                    let Some(page) = self.page_for_trace(at, place, &others) else { break };
                    pages.push((at, self.bytes_of(page.host, 0..4096)));
                    others.push(page);
                    pages.len() - 1
                }
            };
            let code = &pages[page].1[(at & 0xfff) as usize..];
            let mut decoder = Decoder::with_ip(bits.into(), code, at, DecoderOptions::NONE);
            while instructions.len() < self.jit.most && decoder.can_decode() {
                if self.debugger.is_active && self.debugger.may_break(decoder.ip()) {
                    if instructions.is_empty() {
                        return None;
                    }
                    break 'trace;
                }
                let start = decoder.position();
                let mut i = decoder.decode();
                if decoder.last_error() == DecoderError::NoMoreBytes {
                    break 'trace;
                }
                // What is no instruction is for the interpreter, which tells the reasons apart.
                if i.is_invalid() && instructions.is_empty() {
                    return None;
                }
                if i.is_invalid() || follow && instructions.iter().any(|other| other.ip() == i.ip()) {
                    break 'trace;
                }
                crate::decode::exchange_r8(&mut i, &code[start..]);
                instructions.push(i);
                closed |= follow && place.context & 1 == 0 && is_for_interpreter(&i);
                let next = match i.flow_control() {
                    FlowControl::Next => Next::Straight,
                    FlowControl::ConditionalBranch if !follow => {
                        self.note_way(&i, place);
                        Next::Nowhere
                    }
                    _ if closed || instructions.len() >= ENOUGH => Next::Nowhere,
                    _ => self.follow(&i, place, &mut returns),
                };
                match next {
                    Next::Straight => {}
                    Next::To(target) => {
                        at = target;
                        continue 'trace;
                    }
                    Next::Nowhere => break 'trace,
                }
            }
            break;
        }
        let (_, bytes) = pages.swap_remove(0);
        self.jit.pages.extend(pages.into_iter().map(|(_, bytes)| bytes));
        Some(Trace { instructions, others, bytes })
    }

    /// The bytes at `which` offsets of the page at `host`.
    fn bytes_of(&mut self, host: u64, which: std::ops::Range<usize>) -> Bytes {
        let mut bytes = self.jit.pages.pop().unwrap_or_else(|| Box::new([0; 4096]));
        crate::block::copy_code((host & !0xfff) + which.start as u64, &mut bytes[which]);
        bytes
    }

    /// Where `i`, which jumps, leads.
    fn follow(&mut self, i: &Instruction, place: Place, returns: &mut Vec<u64>) -> Next {
        match i.code() {
            Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => Next::To(i.near_branch_target()),
            Code::Call_rel32_64 if returns.len() < DEPTH => {
                returns.push(i.next_ip());
                Next::To(i.near_branch_target())
            }
            Code::Retnq | Code::Retnq_imm16 => returns.pop().map_or(Next::Nowhere, Next::To),
            Code::Jmp_rm64 => self.constant_target(i).map_or(Next::Nowhere, Next::To),
            Code::Call_rm64 if returns.len() < DEPTH => match self.constant_target(i) {
                Some(target) => {
                    returns.push(i.next_ip());
                    Next::To(target)
                }
                None => Next::Nowhere,
            },
            _ if i.is_jcc_short_or_near() && i.near_branch_target() != i.next_ip() => {
                let (taken, straight) = (i.near_branch_target(), i.next_ip());
                if self.way(i, place) == TAKEN { Next::To(taken) } else { Next::To(straight) }
            }
            _ => Next::Nowhere,
        }
    }

    /// Remembers which way the interpreter has gone more often at the conditional jump `i`.
    fn note_way(&mut self, i: &Instruction, place: Place) {
        if same_page(i.ip(), place.linear) {
            let way = self.usual_way(i, place);
            self.jit.ways[way_slot(place.host & !0xfff | i.ip() & 0xfff)] = way;
        }
    }

    fn way(&mut self, i: &Instruction, place: Place) -> u8 {
        let host = self.host_of(i.ip(), place);
        match host.map_or(0, |host| self.jit.ways[way_slot(host)]) {
            0 => self.usual_way(i, place),
            way => way,
        }
    }

    fn usual_way(&mut self, i: &Instruction, place: Place) -> u8 {
        let taken = self.executions(i.near_branch_target(), place);
        if taken > self.executions(i.next_ip(), place) { TAKEN } else { STRAIGHT }
    }

    fn host_of(&mut self, linear: u64, place: Place) -> Option<u64> {
        if same_page(linear, place.linear) {
            return Some(place.host & !0xfff | linear & 0xfff);
        }
        self.tlb.exec(self.code_set(), linear)
    }

    /// How often the interpreter has begun a block at `linear`, as far as that is known.
    fn executions(&mut self, linear: u64, place: Place) -> u8 {
        let host = self.host_of(linear, place);
        let home = super::home(linear, self.is_shared(linear));
        host.map_or(0, |host| self.jit.executions.count(host, home))
    }

    /// Where a jump by way of memory at a constant address leads now.
    fn constant_target(&self, i: &Instruction) -> Option<u64> {
        let constant = i.is_ip_rel_memory_operand() && i.segment_prefix() == Register::None;
        let at = i.ip_rel_memory_address();
        let host = self.tlb.read(self.set, at, 8).filter(|_| constant && at.is_multiple_of(8))?;
        Some(crate::mmu::get(host))
    }

    /// The page at `linear`, when a trace from `place` may go on there: it is known as code, and can be checked
    /// together with the `others`.
    fn page_for_trace(&mut self, linear: u64, place: Place, others: &[Page]) -> Option<Page> {
        let slot = |linear: u64| (linear >> 12) as usize % CODE_SIZE;
        let taken = |page: &Page| slot(page.linear) == slot(linear);
        // The last page is the interpreter's: the address of the next instruction wraps.
        if others.len() + 1 >= PAGES || linear >= !0xfff || slot(place.linear) == slot(linear) {
            return None;
        }
        // Code that can be anywhere is only good where its pages lie as they do here, which distant ones seldom do.
        let distance = linear.wrapping_sub(place.linear).cast_signed();
        if place.is_shared() && i32::try_from(distance).is_err() {
            return None;
        }
        if others.iter().any(taken) || self.jit.narrow.contains(&place.key()) {
            return None;
        }
        let host = self.tlb.exec(self.code_set(), linear)?;
        let watched = self.watch(host).filter(|watched| watched.ticket == 0)?;
        Some(self.jit.page(linear, host, watched))
    }
}

/// Whether `i` may be executed by the interpreter with any effect that a system instruction has.
fn is_for_interpreter(i: &Instruction) -> bool {
    let vectors = Vectors { sse: true, avx: true, avx512: true, x87: true, bmi2: true, zero_counts: true };
    match classify::kind(i, vectors) {
        Kind::Interpret => !i.is_string_instruction(),
        Kind::InterpretEnd | Kind::Syscall | Kind::Sysret => true,
        _ => false,
    }
}
