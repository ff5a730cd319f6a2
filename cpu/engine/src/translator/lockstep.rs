//! Lock-step: every translated block is executed by the interpreter first, on trial, and the results are compared.
//!
//! In this mode blocks consist of what is translated natively, are not linked, and end before whatever needs a slow
//! path: those instructions are the interpreter's alone. So neither run has effects but on registers and on RAM that
//! the TLB knows, and the trial can be undone. When results differ, the block is repeated an instruction at a time,
//! so that the instruction is found; the vCPU then fails.

use super::classify::{self, Kind};
use crate::cpu::Cpu;
use crate::insn::Insn;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, RflagsBits};
use std::collections::HashMap;
use std::rc::Rc;
use x86::X86State;

/// Longest memory operand.
const MOST: usize = 64;

/// What the mode remembers.
#[derive(Default)]
pub(super) struct Lockstep {
    /// By the address of the code.
    blocks: HashMap<u64, Rc<Vec<Step>>>,
    /// The last block was left before an instruction that needs the interpreter.
    pub(super) stopped: bool,
    /// A difference was found; this many blocks are left to find its instruction in.
    narrow: u32,
    report: String,
    /// Blocks compared.
    compared: u64,
}

/// One instruction of a block.
struct Step {
    insn: *const Insn,
    instruction: Instruction,
    /// Explicit memory operand: bytes, whether it is written.
    memory: Option<(u64, bool)>,
    /// Bytes at the stack pointer: below (written), or from it on (read).
    push: u64,
    pop: u64,
    /// LEAVE: bytes read at RBP.
    leave: u64,
    /// Arithmetic flags without meaning after it, in iced's numbering.
    undefined: u32,
    /// Vector or x87 registers may change.
    wide: bool,
}

/// Whether blocks in lock-step may contain it.
pub(super) fn is_comparable(kind: Kind, i: &Instruction) -> bool {
    use Kind::*;
    match kind {
        // Counts above 16 have results without a meaning.
        Native if matches!(i.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd) && i.op1_register().size() == 2 => {
            false
        }
        Native | Nothing | Divide | LoadControl | Lea | Push | Pop | Leave => true,
        Jump | JumpIndirect | Condition | Call | CallIndirect | Return => true,
        PushMemory => true,
        System | Syscall | Sysret | Interpret | InterpretEnd => false,
    }
}

impl Lockstep {
    /// Remembers what the code at `entry` was made from.
    pub(super) fn add(
        &mut self,
        entry: u64,
        instructions: &[Instruction],
        insns: &[Insn],
        kinds: &[Kind],
        width: u64,
    ) {
        let mut info = InstructionInfoFactory::new();
        let mut undefined = 0;
        let steps = instructions.iter().zip(insns).zip(kinds).map(|((i, insn), kind)| {
            let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory) && *kind != Kind::Lea;
            let memory = memory.then(|| {
                let write = info.info(i).used_memory().iter().any(|m| {
                    use OpAccess as A;
                    matches!(m.access(), A::Write | A::CondWrite | A::ReadWrite | A::ReadCondWrite)
                });
                (i.memory_size().size() as u64, write)
            });
            let (_, written) = classify::flags(i, *kind);
            // DIV leaves them alone in both.
            if *kind != Kind::Divide {
                undefined = undefined & !written | i.rflags_undefined();
            }
            use Mnemonic as M;
            match i.mnemonic() {
                M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt => undefined |= classify::ARITH & !RflagsBits::ZF,
                M::Rcl | M::Rcr => undefined |= RflagsBits::OF,
                _ => {}
            }
            Step {
                insn,
                instruction: *i,
                memory,
                push: if matches!(kind, Kind::Push | Kind::PushMemory | Kind::Call | Kind::CallIndirect) {
                    width
                } else {
                    0
                },
                pop: if matches!(kind, Kind::Pop | Kind::Return) { width } else { 0 },
                leave: if *kind == Kind::Leave { width } else { 0 },
                undefined,
                wide: insn.flags & crate::insn::F_FPU != 0
                    || i.cpuid_features().iter().any(|f| {
                        use iced_x86::CpuidFeature as F;
                        !matches!(
                            f,
                            F::INTEL8086 | F::INTEL186 | F::INTEL386 | F::INTEL486 | F::X64 | F::CMOV
                        )
                    }),
            }
        });
        let steps = steps.collect();
        self.blocks.insert(entry, Rc::new(steps));
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }
}

/// A piece of RAM that a step wrote.
struct Write {
    step: usize,
    at: *mut u8,
    size: usize,
    old: [u8; MOST],
    new: [u8; MOST],
}

/// How far from where it was translated a block runs that begins at `linear`.
fn moved(steps: &[Step], linear: u64) -> u64 {
    steps.first().map_or(0, |step| linear.wrapping_sub(step.instruction.ip()))
}

fn peek(at: *mut u8, size: usize) -> [u8; MOST] {
    let mut bytes = [0; MOST];
    for (n, b) in bytes[..size].iter_mut().enumerate() {
        *b = crate::mmu::get(at.wrapping_add(n));
    }
    bytes
}

fn poke(at: *mut u8, bytes: &[u8]) {
    for (n, b) in bytes.iter().enumerate() {
        crate::mmu::put(at.wrapping_add(n), *b);
    }
}

/// What the interpreter made of a block: the registers after each instruction, and what it wrote.
struct Trial {
    /// After 0, 1, ... instructions: general registers, RIP, flags; and the state with vector registers from
    /// `wide[n].0` instructions on.
    narrow: Vec<([u64; 16], u64, u16)>,
    wide: Vec<(usize, X86State)>,
    writes: Vec<Write>,
    /// The block was executed up to where it is left.
    complete: bool,
}

impl Trial {
    fn undo(&self) {
        for w in self.writes.iter().rev() {
            poke(w.at, &w.old[..w.size]);
        }
    }
}

/// The arithmetic flags that have a meaning, at their places in RFLAGS.
fn mask(undefined: u32) -> u64 {
    use RflagsBits as R;
    [(R::OF, 11), (R::SF, 7), (R::ZF, 6), (R::AF, 4), (R::CF, 0), (R::PF, 2)]
        .iter()
        .filter(|(bit, _)| undefined & bit == 0)
        .fold(0, |mask, (_, at)| mask | 1 << at)
}

impl Cpu {
    /// As `run_translated`, block by block in both ways.
    pub(super) fn run_in_lockstep(&mut self) -> bool {
        let linear = self.state.rip;
        self.jit.site = 0;
        let Some(code) = self.find_translation(linear) else { return false };
        self.jit.forget_jump(linear);
        let Some(steps) = self.jit.lockstep.as_ref().and_then(|l| l.blocks.get(&code)).cloned() else {
            return false;
        };
        let before = (self.state.clone(), self.fl);
        let trial = self.rehearse(&steps);
        trial.undo();
        (self.state, self.fl) = (before.0.clone(), before.1);
        if trial.narrow.len() == 1 {
            return false;
        }
        self.enter_code(code);
        let Some(lockstep) = self.jit.lockstep.as_mut() else { return true };
        lockstep.compared += 1;
        let stopped = std::mem::take(&mut lockstep.stopped);
        let rip = self.state.rip;
        let done = if stopped {
            let moved = moved(&steps, linear);
            steps.iter().position(|s| s.instruction.ip().wrapping_add(moved) == rip).unwrap_or(usize::MAX)
        } else if trial.complete {
            trial.narrow.len() - 1
        } else {
            usize::MAX
        };
        let wrong = match trial.narrow.get(done) {
            Some(_) => self.differences(&steps, &trial, done),
            // Nothing was done: the code found that it is not valid any more.
            None if !stopped && rip == linear => return false,
            // It got further than the trial, which the TLB had stopped.
            None => None,
        };
        let Some(text) = wrong else {
            // Without AVX-512 there is nothing above AVX registers that a guest could see; the interpreter clears it.
            if !super::stubs::has_avx512(&self.jit.without)
                && let Some((_, wide)) = trial.wide.iter().rfind(|(n, _)| *n <= done)
            {
                for (ours, theirs) in self.state.zmm.iter_mut().zip(&wide.zmm) {
                    ours[32..].copy_from_slice(&theirs[32..]);
                }
            }
            let narrow = self.jit.lockstep.as_ref().map_or(0, |l| l.narrow);
            return self.narrowed(narrow, done == 0);
        };
        if !stopped && rip == linear && self.differences(&steps, &trial, 0).is_none() {
            return false;
        }
        // A device may have written what the block reads: is the difference still there?
        let after = (self.state.clone(), self.fl);
        trial.undo();
        (self.state, self.fl) = (before.0.clone(), before.1);
        let again = self.rehearse(&steps);
        again.undo();
        (self.state, self.fl) = after;
        if again.narrow.get(done) != trial.narrow.get(done) {
            return true;
        }
        let Some(lockstep) = self.jit.lockstep.as_mut() else { return true };
        if lockstep.narrow != 0 || steps.len() == 1 {
            let text = format!("{}{text}", lockstep.report);
            return self.fail(&text);
        }
        lockstep.narrow = steps.len() as u32 + 1;
        lockstep.report = format!("in the block at {linear:#x}:\n{text}and by itself:\n");
        (self.state, self.fl) = before;
        self.jit.clear();
        self.jit.most = 1;
        true
    }

    /// One instruction of a block with a difference was the same in both ways.
    fn narrowed(&mut self, left: u32, nothing: bool) -> bool {
        let Some(lockstep) = self.jit.lockstep.as_mut().filter(|_| left != 0) else { return !nothing };
        lockstep.narrow = left - 1;
        if left == 1 {
            let text = format!("{}no difference\n", lockstep.report);
            return self.fail(&text);
        }
        !nothing
    }

    fn fail(&mut self, text: &str) -> bool {
        report::error_report!("x-lockstep: the translation differs from the interpreter {text}");
        self.failed = true;
        true
    }

    /// Lets the interpreter execute the block as far as the TLB goes.
    fn rehearse(&mut self, steps: &[Step]) -> Trial {
        let mut trial = Trial {
            narrow: Vec::with_capacity(steps.len() + 1),
            wide: Vec::new(),
            writes: Vec::new(),
            complete: false,
        };
        trial.narrow.push((self.state.gpr, self.state.rip, self.fl));
        trial.wide.push((0, self.state.clone()));
        let moved = moved(steps, self.state.rip);
        for (n, step) in steps.iter().enumerate() {
            // SAFETY: instructions of live translations stay where they are.
            let insn = unsafe { &*step.insn };
            let first = trial.writes.len();
            let before = self.state.gpr;
            // Operands may be relative to it.
            self.state.rip = step.instruction.next_ip().wrapping_add(moved);
            if !self.expect(n, step, insn, &mut trial.writes) {
                break;
            }
            self.end = insn;
            if (insn.exec)(self, insn).is_err() {
                self.state.gpr = before;
                break;
            }
            if self.bits != 64 {
                self.state.rip &= 0xffff_ffff;
            }
            for w in &mut trial.writes[first..] {
                w.new = peek(w.at, w.size);
            }
            trial.narrow.push((self.state.gpr, self.state.rip, self.fl));
            if step.wide {
                trial.wide.push((n + 1, self.state.clone()));
            }
            // The end, or the way off a trace.
            let follows = |next: &Step| next.instruction.ip().wrapping_add(moved) == self.state.rip;
            if !steps.get(n + 1).is_some_and(follows) {
                trial.complete = true;
                break;
            }
        }
        trial
    }

    /// Whether the TLB knows what `step` accesses; notes what it will write.
    fn expect(&mut self, n: usize, step: &Step, insn: &Insn, writes: &mut Vec<Write>) -> bool {
        let wrap = if self.long { u64::MAX } else { 0xffff_ffff };
        let stack = self.state.gpr[4];
        let mut pieces: [Option<(u64, u64, bool)>; 3] = [None; 3];
        if let Some((size, write)) = step.memory {
            let Ok(at) = self.ea(insn, size, write) else { return false };
            pieces[0] = Some((at, size, write));
        }
        if step.push != 0 {
            pieces[1] = Some((stack.wrapping_sub(step.push) & wrap, step.push, true));
        } else if step.pop != 0 {
            pieces[1] = Some((stack & wrap, step.pop, false));
        } else if step.leave != 0 {
            pieces[1] = Some((self.state.gpr[5] & wrap, step.leave, false));
        }
        for (at, size, write) in pieces.into_iter().flatten() {
            let set = self.set;
            let found =
                |cpu: &Self| if write { cpu.tlb.write(set, at, size) } else { cpu.tlb.read(set, at, size) };
            let host = found(self).or_else(|| {
                self.tlb.promote(set, at);
                found(self)
            });
            let Some(host) = host else { return false };
            if write {
                let size = size as usize;
                writes.push(Write { step: n, at: host, size, old: peek(host, size), new: [0; MOST] });
            }
        }
        true
    }

    /// What differs from the trial after `done` instructions, and brings RAM to what both should have written.
    fn differences(&mut self, steps: &[Step], trial: &Trial, done: usize) -> Option<String> {
        use std::fmt::Write as _;
        let (gpr, rip, fl) = trial.narrow.get(done)?;
        let wide = trial.wide.iter().rfind(|(n, _)| *n <= done).map(|(_, s)| s)?;
        let mut text = String::new();
        for (n, (ours, theirs)) in self.state.gpr.iter().zip(gpr).enumerate() {
            if ours != theirs {
                let _ = writeln!(text, "  register {n}: {ours:#x}, interpreter {theirs:#x}");
            }
        }
        if self.state.rip != *rip {
            let _ = writeln!(text, "  RIP: {:#x}, interpreter {rip:#x}", self.state.rip);
        }
        let keep = if done == 0 { mask(0) } else { mask(steps[done - 1].undefined) };
        let ours = self.arith_flags() & keep;
        let now = std::mem::replace(&mut self.fl, *fl);
        let theirs = self.arith_flags() & keep;
        self.fl = now;
        if ours != theirs {
            let _ = writeln!(text, "  flags: {ours:#x}, interpreter {theirs:#x}");
        }
        let (count, size) = if super::stubs::has_avx512(&self.jit.without) { (32, 64) } else { (16, 32) };
        for (n, (ours, theirs)) in self.state.zmm.iter().zip(&wide.zmm).take(count).enumerate() {
            if ours[..size] != theirs[..size] {
                let _ =
                    writeln!(text, "  vector {n}: {:x?}, interpreter {:x?}", &ours[..size], &theirs[..size]);
            }
        }
        if self.state.opmask != wide.opmask {
            let _ = writeln!(text, "  masks: {:x?}, interpreter {:x?}", self.state.opmask, wide.opmask);
        }
        if self.state.x87 != wide.x87 {
            let _ = writeln!(text, "  x87: {:x?}, interpreter {:x?}", self.state.x87, wide.x87);
        }
        if self.state.mxcsr != wide.mxcsr {
            let _ = writeln!(text, "  MXCSR: {:#x}, interpreter {:#x}", self.state.mxcsr, wide.mxcsr);
        }
        // What is in memory now against what the trial's writes leave.
        let found: Vec<_> = trial.writes.iter().map(|w| peek(w.at, w.size)).collect();
        trial.undo();
        for w in trial.writes.iter().filter(|w| w.step < done) {
            poke(w.at, &w.new[..w.size]);
        }
        for (w, found) in trial.writes.iter().zip(&found) {
            let wanted = peek(w.at, w.size);
            if wanted != *found {
                let _ = writeln!(
                    text,
                    "  memory of {:?}: {:x?}, interpreter {:x?}",
                    steps[w.step].instruction.code(),
                    &found[..w.size],
                    &wanted[..w.size]
                );
            }
            poke(w.at, &found[..w.size]);
        }
        if text.is_empty() {
            return None;
        }
        let mut all = String::new();
        for s in &steps[..done] {
            let _ = writeln!(all, "  {:#x} {:?}", s.instruction.ip(), s.instruction.code());
        }
        Some(all + &text)
    }
}
