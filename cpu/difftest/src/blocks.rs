//! Random blocks: 2 to 40 instructions with branches among them, whose every access stays within the data pages or
//! faults in the guard pages, whatever the registers' values are.
//!
//! Registers have roles, which make that so: pointers into the data, small numbers to scale, and the rest, which any
//! instruction may write. A register that is written loses its role. Where pointers lead is chosen anew for each run:
//! the same block crosses pages in one run and faults in the next.

use crate::cases::Maker;
use crate::encode::{Catalogue, decode, encode};
use crate::layout::{CODE_SIZE, Mode, Place};
use crate::native::State;
use crate::rules::{not_compared, reads_old_stack_pointer, rflags, undefined_flags};
use iced_x86::{
    Code, ConstantOffsets, CpuidFeature, FlowControl, Instruction, Mnemonic as M, OpAccess, OpKind, Register,
};
use std::collections::BTreeMap;
use x86::reg::{flags, gpr};

/// An instruction of a block.
pub struct Mark {
    /// Its offset in the block.
    pub at: usize,
    /// Arithmetic flags without a meaning before it.
    pub undefined: u64,
    /// What it is.
    pub insn: Instruction,
}

/// A block.
pub struct Block {
    /// What kind of code it is.
    pub mode: Mode,
    /// Where it is in the code pages.
    pub at: usize,
    /// The bytes.
    pub code: Vec<u8>,
    /// Its instructions, and one for its end.
    pub marks: Vec<Mark>,
    roles: Roles,
}

impl Block {
    /// The instruction at offset `at`, or the end.
    pub fn mark(&self, at: usize) -> Option<&Mark> {
        self.marks.binary_search_by_key(&at, |mark| mark.at).ok().map(|n| &self.marks[n])
    }
}

/// What registers are for, as sets of their numbers.
#[derive(Clone, Copy, Default)]
struct Roles {
    /// Into the data.
    pointers: u16,
    /// Of these, those below 4 GiB, which 32-bit addresses may use.
    low: u16,
    /// Less than [`SMALL`].
    small: u16,
    /// Not to be written.
    locked: u16,
}

/// What registers that are indices are below.
const SMALL: u64 = 256;
/// How far displacements of four bytes reach, either way.
const REACH: u64 = 1024;
const RSP: u16 = 1 << gpr::RSP;
const RCX: u16 = 1 << gpr::RCX;
/// The pointers of string instructions.
const STRINGS: u16 = 1 << gpr::RSI | 1 << gpr::RDI;

/// Codes that may be in blocks, and their encodings: the integer instructions first, which make up half of a block.
pub struct Vocabulary {
    codes: Vec<(Code, Vec<u32>)>,
    integer: usize,
}

impl Vocabulary {
    /// What `wanted` accepts of `mode`'s codes.
    pub fn new(mode: Mode, maker: &mut Maker, wanted: impl Fn(Code) -> bool) -> Self {
        let all = Catalogue::new(mode, &mut maker.random, |code| {
            wanted(code) && code.op_code().cpl3() && not_compared(code, mode).is_none()
        });
        let (mut codes, rest): (Vec<_>, Vec<_>) = all.codes.into_iter().partition(|(code, _)| {
            use CpuidFeature as F;
            let plain = |f: &F| {
                matches!(f, F::INTEL8086 | F::INTEL186 | F::INTEL386 | F::INTEL486 | F::X64 | F::CMOV)
                    || matches!(f, F::BMI1 | F::BMI2 | F::ADX | F::POPCNT | F::LZCNT | F::MOVBE)
            };
            code.cpuid_features().iter().all(plain)
        });
        let integer = codes.len();
        codes.extend(rest);
        Self { codes, integer }
    }

    /// Leaves out `code`, which the host does not have.
    pub fn forget(&mut self, code: Code) {
        if let Some(n) = self.codes.iter().position(|(known, _)| *known == code) {
            self.codes.remove(n);
            self.integer -= usize::from(n < self.integer);
        }
    }
}

/// Why single instructions may not be in blocks: they change what blocks rely on, have results without a meaning, or
/// access what the roles do not cover.
fn is_left_out(insn: &Instruction) -> bool {
    use M::*;
    let memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
    match insn.mnemonic() {
        // With REX.B it exchanges registers, which the decoder does not say.
        Pause => true,
        // Segments, reserved or trapping bits of flags and control words, large areas.
        Pop | Mov | Push if (0..2).any(|n| insn.op_register(n).is_segment_register()) => true,
        Les | Lds | Lss | Lfs | Lgs | Popf | Popfd | Popfq | Wrfsbase | Wrgsbase | Ldmxcsr | Vldmxcsr
        | Fldcw => true,
        Fldenv | Fnstenv | Frstor | Fnsave | Fxsave | Fxsave64 | Fxrstor | Fxrstor64 | Xsave | Xsave64 => {
            true
        }
        Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 | Enter | Popa | Popad | Lar | Lsl
        | Verr | Verw => true,
        // The processor's choice: see `is_excused` and `undefined_result`.
        Maskmovq | Maskmovdqu | Vmaskmovdqu | Ud0 | Ud1 | Ud2 | Clac | Stac | Extrq | Insertq => true,
        Sha1msg1 | Sha1msg2 | Sha1nexte | Sha1rnds4 | Sha256msg1 | Sha256msg2 | Sha256rnds2 | Cvtpi2ps => {
            memory
        }
        Fbld | Fbstp => true,
        Fld | Fstp => memory && insn.memory_size().size() == 10,
        Movsxd | Bswap | Shld | Shrd => {
            insn.op0_register().size() == 2 || memory && insn.memory_size().size() == 2
        }
        Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr => false,
        _ => insn.memory_index().is_vector_register(),
    }
}

/// Which flags have no meaning after `insn` when `before` had none before it.
fn undefined_after(insn: &Instruction, before: u64) -> u64 {
    use M::*;
    if matches!(insn.mnemonic(), Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar | Shld | Shrd) {
        let last = insn.op_count() - 1;
        if insn.op_kind(last) == OpKind::Register {
            // Whatever the count is, none included.
            let all = if matches!(insn.mnemonic(), Rol | Ror | Rcl | Rcr) { flags::OF } else { flags::ARITH };
            return before | all;
        }
        let wide = insn.op0_register().size() == 8 || insn.memory_size().size() == 8;
        let immediate = if insn.op_kind(last) == OpKind::Immediate8 { insn.immediate8() } else { 1 };
        if immediate & if wide { 63 } else { 31 } == 0 {
            return before;
        }
        let undefined = undefined_flags(insn, &State::new(Mode::Long));
        // Rotations through CF may come around to where they began.
        return before & !rflags(insn.rflags_modified()) | undefined;
    }
    let kept = if insn.has_rep_prefix() || insn.has_repne_prefix() { before } else { 0 };
    before & !rflags(insn.rflags_modified()) | rflags(insn.rflags_undefined()) | kept
}

/// A block in the making.
struct Draft {
    mode: Mode,
    start: u64,
    code: Vec<u8>,
    marks: Vec<Mark>,
    roles: Roles,
    undefined: u64,
    /// Short jumps whose displacement is at the offset, and how many instructions they skip yet; flags as above.
    open: Vec<(usize, u32, u64)>,
}

impl Draft {
    /// Appends instructions that are right as they are.
    fn raw(&mut self, code: &[u8]) {
        let end = self.code.len() + code.len();
        self.code.extend(code);
        let mut at = self.marks.last().map_or(0, |mark| mark.at + mark.insn.len());
        while at < end {
            let (insn, _) = decode(&self.code[at..], self.start + at as u64, self.mode);
            self.marks.push(Mark { at, undefined: self.undefined, insn });
            self.undefined = undefined_after(&insn, self.undefined);
            at += insn.len().max(1);
        }
    }

    /// Lets jumps end here: all, or those that have skipped enough.
    fn land(&mut self, all: bool) {
        let here = self.code.len();
        let (code, undefined) = (&mut self.code, &mut self.undefined);
        self.open.retain_mut(|(at, left, flags)| {
            if *left > 0 && !all && here - *at < 90 {
                *left -= 1;
                return true;
            }
            code[*at] = (here - *at - 1) as u8;
            *undefined |= *flags;
            false
        });
    }
}

impl Maker {
    /// A block of `vocabulary`'s instructions.
    pub fn block(&mut self, mode: Mode, vocabulary: &Vocabulary) -> Block {
        let random = &mut self.random;
        let wanted = 2 + random.below(39) as usize;
        let at = match random.below(8) {
            0 => 4096 - 1 - random.below(120),
            1 => random.below(3) * 64,
            _ => random.below(CODE_SIZE as u64 - 1024),
        } as usize;
        let roles = self.roles(mode);
        let start = Place::of(mode).code + at as u64;
        let mut draft =
            Draft { mode, start, code: Vec::new(), marks: Vec::new(), roles, undefined: 0, open: Vec::new() };
        // Where a loop begins, its counter, and how many instructions it is to have yet.
        let mut around: Option<(usize, u8, u32)> = None;
        while draft.marks.len() < wanted {
            draft.land(false);
            around = match around {
                Some((head, counter, 0)) => {
                    draft.land(true);
                    self.end_loop(&mut draft, head, counter);
                    None
                }
                Some((head, counter, left)) => Some((head, counter, left - 1)),
                None if self.random.one_in(16) => self.begin_loop(&mut draft),
                None => None,
            };
            match self.random.below(16) {
                0 | 1 => self.condition(&mut draft),
                2 => self.call(&mut draft),
                _ => self.any(&mut draft, vocabulary, around.is_some()),
            }
        }
        draft.land(true);
        if let Some((head, counter, _)) = around {
            self.end_loop(&mut draft, head, counter);
        }
        let end = Mark { at: draft.code.len(), undefined: draft.undefined, insn: Instruction::default() };
        draft.marks.push(end);
        Block { mode, at, code: draft.code, marks: draft.marks, roles }
    }

    fn roles(&mut self, mode: Mode) -> Roles {
        let long = mode == Mode::Long;
        let mut roles = Roles { pointers: RSP, low: if long { 0 } else { RSP }, ..Roles::default() };
        for n in (0..if long { 16 } else { 8 }).filter(|n| *n != gpr::RSP) {
            match self.random.below(16) {
                0..7 => {
                    roles.pointers |= 1 << n;
                    if !long || self.random.one_in(3) {
                        roles.low |= 1 << n;
                    }
                }
                7 | 8 => roles.small |= 1 << n,
                _ => {}
            }
        }
        // Both at the same addresses: of strings that overlap at others only, processors copy as much at once as they like.
        if roles.low & STRINGS != STRINGS {
            roles.low &= !STRINGS;
        }
        roles
    }

    /// A register without a role, for a counter or a target.
    fn free(&mut self, draft: &Draft) -> Option<u8> {
        let taken = draft.roles.pointers | draft.roles.small | draft.roles.locked;
        let count = if draft.mode == Mode::Long { 16 } else { 8 };
        let free: Vec<u8> = (0..count).filter(|n| taken >> n & 1 == 0).collect();
        let n = self.random.below(free.len().max(1) as u64) as usize;
        free.get(n).copied()
    }

    fn begin_loop(&mut self, draft: &mut Draft) -> Option<(usize, u8, u32)> {
        let counter = self.free(draft)?;
        draft.land(true);
        let times = 1 + self.random.below(6) as u8;
        // mov counter, times
        let rex = [0x40 | counter >> 3];
        draft.raw(
            &[if counter >= 8 { &rex[..] } else { &[] }, &[0xb8 | counter & 7, times, 0, 0, 0]].concat(),
        );
        draft.roles.locked |= 1 << counter;
        // What the end leaves.
        draft.undefined = flags::ARITH;
        Some((draft.code.len(), counter, 1 + self.random.below(10) as u32))
    }

    fn end_loop(&mut self, draft: &mut Draft, head: usize, counter: u8) {
        // dec counter; jnz head
        let rex = [0x40 | counter >> 3];
        draft.raw(&[if counter >= 8 { &rex[..] } else { &[] }, &[0xff, 0xc8 | counter & 7]].concat());
        let back = (head as i64 - (draft.code.len() as i64 + 6)) as i32;
        draft.raw(&[&[0x0f, 0x85][..], &back.to_le_bytes()].concat());
        draft.roles.locked &= !(1 << counter);
    }

    /// A conditional jump over some instructions.
    fn condition(&mut self, draft: &mut Draft) {
        let n = self.random.below(34) as u8;
        let opcode = match n {
            32 => 0xe3,
            33 => 0xeb,
            _ => 0x70 | n & 15,
        };
        let (insn, _) = decode(&[opcode, 0], 0, draft.mode);
        if rflags(insn.rflags_read()) & draft.undefined != 0 {
            return;
        }
        draft.raw(&[opcode, 0]);
        draft.open.push((draft.code.len() - 1, self.random.below(4) as u32, draft.undefined));
    }

    /// Calls, returns and indirect jumps, all to what follows.
    fn call(&mut self, draft: &mut Draft) {
        let long = draft.mode == Mode::Long;
        match self.random.below(4) {
            0 => draft.raw(&[0xe8, 0, 0, 0, 0]),
            // call 1; jmp 2; 1: ret; 2:
            1 => {
                let undefined = draft.undefined;
                draft.raw(&[0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3]);
                draft.undefined = undefined;
            }
            kind => {
                let Some(n) = self.free(draft).filter(|_| long) else { return };
                // lea n, [rip + 1 or 3 or so]; jmp n, or push n; ret
                let (high, low) = (n >> 3, n & 7);
                let prefix = [0x41];
                let prefix = if high != 0 { &prefix[..] } else { &[] };
                let tail = if kind == 2 { vec![0xff, 0xe0 | low] } else { vec![0x50 | low, 0xc3] };
                let distance = (prefix.len() + tail.len()) as u8;
                let lea = [0x48 | high << 2, 0x8d, 5 | low << 3, distance, 0, 0, 0];
                draft.raw(&[&lea[..], prefix, &tail].concat());
            }
        }
    }

    /// Some instruction, if one is found that keeps to the roles.
    fn any(&mut self, draft: &mut Draft, vocabulary: &Vocabulary, in_loop: bool) {
        for _ in 0..100 {
            let integer = self.random.one_in(2) && vocabulary.integer > 0;
            let count = if integer { vocabulary.integer } else { vocabulary.codes.len() };
            let (code, templates) = &vocabulary.codes[self.random.below(count as u64) as usize];
            for _ in 0..8 {
                let n = templates[self.random.below(templates.len() as u64) as usize];
                let mut bytes = encode(n, draft.mode, &mut self.random);
                let ip = draft.start + draft.code.len() as u64;
                let (insn, offsets) = decode(&bytes, ip, draft.mode);
                if insn.code() != *code || is_left_out(&insn) || reads_old_stack_pointer(&insn, &bytes) {
                    continue;
                }
                bytes.truncate(insn.len());
                self.displacement(&insn, &offsets, &mut bytes, draft.mode);
                let (insn, _) = decode(&bytes, ip, draft.mode);
                if let Some(roles) = self.accept(&insn, draft, in_loop) {
                    draft.roles = roles;
                    return draft.raw(&bytes);
                }
            }
        }
    }

    /// Makes displacements of four and eight bytes right.
    fn displacement(&mut self, insn: &Instruction, offsets: &ConstantOffsets, code: &mut [u8], mode: Mode) {
        let (at, len) = (offsets.displacement_offset(), offsets.displacement_size());
        let explicit = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
        if len < 4 || !explicit {
            return;
        }
        let value = match insn.memory_base() {
            Register::RIP => (Place::HIGH.scratch.wrapping_add(self.offset())).wrapping_sub(insn.next_ip()),
            Register::None => {
                let place = if len == 8 { Place::of(mode) } else { Place::LOW };
                place.scratch.wrapping_add(self.offset())
            }
            _ => self.random.below(2 * REACH).wrapping_sub(REACH),
        };
        code[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    /// The roles after `insn`, when it may follow.
    fn accept(&mut self, insn: &Instruction, draft: &Draft, in_loop: bool) -> Option<Roles> {
        let mut roles = draft.roles;
        let long = draft.mode == Mode::Long;
        if insn.is_invalid() || insn.flow_control() != FlowControl::Next {
            return None;
        }
        let pushes = matches!(insn.mnemonic(), M::Pushf | M::Pushfd | M::Pushfq);
        let read = if pushes { flags::ARITH } else { rflags(insn.rflags_read()) };
        if read & draft.undefined != 0 {
            return None;
        }
        let number = |r: Register| 1u16 << r.full_register().number();
        let used = self.info.info(insn);
        for memory in used.used_memory().iter().filter(|memory| memory.access() != OpAccess::NoMemAccess) {
            let (base, index) = (memory.base(), memory.index());
            let size = if base != Register::None { base.size() } else { index.size() };
            let (with_base, with_index) = (base != Register::None, index != Register::None);
            let segment_fits = match memory.segment() {
                Register::FS => false,
                Register::GS => long,
                _ => true,
            };
            // All pointers are in reach of full addresses.
            let pointers = if size == 4 { roles.low } else { roles.pointers };
            let base_fits = match base {
                Register::None => true,
                Register::RIP => !with_index,
                _ => base.is_gpr() && pointers & number(base) != 0,
            };
            let xlat = insn.mnemonic() == M::Xlatb && index == Register::AL;
            let index_fits = !with_index || xlat || index.is_gpr() && roles.small & number(index) != 0;
            // 16-bit addresses lead to where nothing is mapped, in 64-bit mode no less.
            if !segment_fits || !base_fits || !index_fits || (with_base || with_index) && size < 4 {
                return None;
            }
        }
        let bits = matches!(insn.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
            && insn.op0_kind() == OpKind::Memory
            && insn.op1_kind() == OpKind::Register;
        if bits && roles.small & number(insn.op1_register()) == 0 {
            return None;
        }
        let stack =
            matches!(insn.mnemonic(), M::Push | M::Pushf | M::Pushfd | M::Pushfq | M::Pusha | M::Pushad)
                || insn.mnemonic() == M::Pop && insn.op0_register().full_register() != Register::RSP;
        let repeated = insn.has_rep_prefix() || insn.has_repne_prefix();
        for register in used.used_registers().iter().filter(|used| used.register().is_gpr()) {
            use OpAccess as A;
            if !matches!(register.access(), A::Write | A::CondWrite | A::ReadWrite | A::ReadCondWrite) {
                continue;
            }
            let bit = number(register.register());
            let advances = insn.is_string_instruction() && bit & STRINGS != 0
                || stack && bit == RSP
                // A loop that counts in it would go on for 2^32 rounds.
                || repeated && insn.is_string_instruction() && bit == RCX && roles.locked & RCX == 0
                // LEAVE: the stack goes on where RBP led.
                || insn.mnemonic() == M::Leave && bit == RSP && !in_loop;
            if advances {
                continue;
            }
            let has_role = (roles.pointers | roles.small) & bit != 0;
            if bit == RSP || roles.locked & bit != 0 || has_role && (in_loop || !self.random.one_in(4)) {
                return None;
            }
            roles.pointers &= !bit;
            roles.low &= !bit;
            roles.small &= !bit;
        }
        Some(roles)
    }

    /// Registers for a run of `block`, and new contents here and there in the data.
    pub fn block_state(&mut self, block: &Block) -> State {
        let mut state = State::new(block.mode);
        let long = block.mode == Mode::Long;
        state.rip = Place::of(block.mode).code + block.at as u64;
        self.registers(&mut state);
        if long && self.fs_base.is_some() {
            state.gs_base = self.random.below(64) * 8;
        }
        for n in 0..16 {
            if block.roles.pointers >> n & 1 != 0 {
                let place = if block.roles.low >> n & 1 != 0 { Place::LOW } else { Place::HIGH };
                // Beyond the pages in some runs only, or few blocks would come to their ends.
                let offset = match self.random.below(4) {
                    0 => self.offset(),
                    1 => 4096 - self.random.below(64),
                    _ => 1536 + self.random.below(640) * 8,
                };
                state.gpr[n] = match self.random.below(200) {
                    0 if long && block.roles.low >> n & 1 == 0 => (1 << 47) + self.random.below(4096) + 4096,
                    // Sums that wrap around at 4 GiB.
                    0 if !long => 0xffff_ff00 + self.random.below(256),
                    _ => place.scratch.wrapping_add(offset),
                };
            } else if block.roles.small >> n & 1 != 0 {
                state.gpr[n] = self.random.below(SMALL);
            }
            if !long {
                state.gpr[n] = if n < 8 { state.gpr[n] & 0xffff_ffff } else { 0 };
            }
        }
        for _ in 0..4 {
            let at = self.random.below(self.memory.len() as u64 / 64) as usize * 64;
            self.random.fill(&mut self.memory[at..at + 64]);
        }
        state
    }

    /// Lets the pointers of `state` lead to `goals`, or a little beside them: only for guests.
    pub fn go_astray(&mut self, block: &Block, state: &mut State, goals: &[u64]) {
        for n in (0..16).filter(|n| block.roles.pointers >> n & 1 != 0) {
            if self.random.one_in(2) && !goals.is_empty() {
                let goal = goals[self.random.below(goals.len() as u64) as usize];
                let mut wild = match self.random.below(4) {
                    // As a sum that wraps around, or with bits that an address has not.
                    0 => goal.wrapping_sub(self.random.below(2 * REACH)),
                    1 => goal ^ 1 << self.random.below(64),
                    2 => self.random.number(),
                    _ => goal.wrapping_add(self.random.below(4096)),
                };
                if block.mode != Mode::Long {
                    wild &= 0xffff_ffff;
                }
                // Not the code under test, which would no longer be what the block says.
                let is_code = |place: &Place| wild.wrapping_sub(place.code - 0x8_0000) < 0x10_0000;
                if ![Place::HIGH, Place::LOW].iter().any(is_code) {
                    state.gpr[n] = wild;
                }
            }
        }
    }

    /// How often a vocabulary's codes are in blocks.
    pub fn tally(block: &Block, tally: &mut BTreeMap<(Mode, Code), u64>) {
        for mark in block.marks.iter().filter(|mark| !mark.insn.is_invalid()) {
            *tally.entry((block.mode, mark.insn.code())).or_default() += 1;
        }
    }
}
