//! Guest instructions as host instructions that use the same registers and the same addresses.
//!
//! Nearly all are copied byte for byte. What remains: operands relative to RIP, jumps, calls, returns, and what the
//! engine has to execute. The flags are the guest's at all times. A fault in the middle of a sequence finds the
//! guest's registers in place or in their spill slots, as the [`Point`] in force says.

use super::frame::RIP;
use super::image::{FRAME, GS_BASE, ORIGIN, SPILL_OTHER, SPILL_R11, SPILL_RCX, TABLE, TSC_AUX, TSC_OFFSET};
use crate::translator::asm::*;
use crate::translator::classify::{self, Kind, Vectors};
use crate::translator::registers::number;
use crate::translator::{flow, x87};
use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, Encoder, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpKind, Register,
};

/// Bytes of a planned way out.
pub(super) const WAY_OUT: u64 = 17;
/// Most instructions in one piece.
const MOST: usize = 96;

/// What the guest's state is when the host is about to execute an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Before a guest instruction, everything in place.
    Boundary,
    /// Within the guest instruction, which has had no effect yet but for registers in their spill slots.
    Within(Spilled),
    /// On the way out: the target is to be translated.
    Link,
    /// On the way out: the engine executes the instruction.
    Leave,
}

/// Registers that are in spill slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spilled {
    None,
    R11,
    Other(u8),
}

/// From host address `at` on (until the next point) the guest is at `rip`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) rip: u64,
    pub(super) state: State,
}

/// What translations depend on besides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flavour {
    pub(super) sse: bool,
    pub(super) avx: bool,
    pub(super) avx512: bool,
    /// The model has TZCNT and LZCNT.
    pub(super) zero_counts: bool,
    /// RDTSC is allowed and RORX can be used.
    pub(super) time: bool,
    /// The x87 unit can be used.
    pub(super) x87: bool,
}

/// A translated piece of code.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) code: Vec<u8>,
    pub(super) points: Vec<Point>,
    /// Where 32-bit distances lead to traps in place of these targets.
    pub(super) links: Vec<(u64, u64)>,
    /// Guest addresses behind calls.
    pub(super) returns: Vec<u64>,
    /// Where in guest memory the targets of indirect jumps are.
    pub(super) pointers: Vec<u64>,
    /// Guest bytes consumed.
    pub(super) len: usize,
}

/// The guest's code and what it is translated for.
pub(super) struct Input<'a> {
    /// Bytes from `rip` on.
    pub(super) bytes: &'a [u8],
    /// Instructions begin before this offset.
    pub(super) limit: usize,
    pub(super) rip: u64,
    pub(super) flavour: Flavour,
    /// Where the code will run.
    pub(super) origin: u64,
    /// The process's way out.
    pub(super) leave: u64,
    /// Whether the model has the instruction.
    pub(super) offered: &'a mut dyn FnMut(&Instruction) -> bool,
    /// The host code for a guest address.
    pub(super) known: &'a dyn Fn(u64) -> Option<u64>,
}

/// A distance to be filled in: its offset and the target.
struct Jump {
    at: usize,
    target: u64,
}

struct Builder<'a> {
    a: Assembler,
    piece: Piece,
    jumps: Vec<Jump>,
    /// Distances to 8-byte constants.
    constants: Vec<(usize, u64)>,
    encoder: Option<Encoder>,
    info: Option<InstructionInfoFactory>,
    known: &'a dyn Fn(u64) -> Option<u64>,
    leave: u64,
}

fn gs(at: u64) -> Mem {
    Mem::Cpu(at as u32)
}

/// Translates what follows `input.rip`; empty when there is no whole instruction.
pub(super) fn piece(input: Input) -> Piece {
    let mut b = Builder {
        a: Assembler::new(input.origin, input.flavour.time),
        piece: Piece { points: Vec::with_capacity(32), ..Piece::default() },
        jumps: Vec::new(),
        constants: Vec::new(),
        encoder: None,
        info: None,
        known: input.known,
        leave: input.leave,
    };
    let mut decoder = Decoder::with_ip(64, input.bytes, input.rip, DecoderOptions::NONE);
    let mut count = 0;
    let mut next = input.rip;
    loop {
        let at = decoder.position();
        if at >= input.limit || count == MOST || count > 0 && (b.known)(next).is_some() {
            b.jump(next);
            break;
        }
        let i = decoder.decode();
        if i.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
            if count == 0 {
                return Piece::default();
            }
            b.jump(next);
            break;
        }
        count += 1;
        next = i.next_ip();
        let bytes = &input.bytes[at..at + i.len()];
        b.point(i.ip(), State::Boundary);
        let usable = !i.is_invalid() && (input.offered)(&i);
        let done = if usable { b.instruction(&i, bytes, input.flavour) } else { Done::Leave };
        b.piece.len = decoder.position();
        match done {
            Done::Next => {}
            Done::End => break,
            Done::Leave => {
                b.trap(i.ip(), State::Leave);
                break;
            }
        }
    }
    b.finish()
}

/// How a piece goes on behind an instruction.
enum Done {
    Next,
    End,
    /// The engine has to execute it; nothing was emitted.
    Leave,
}

impl Builder<'_> {
    fn point(&mut self, rip: u64, state: State) {
        let at = self.a.here();
        self.piece.points.push(Point { at, rip, state });
    }

    fn within(&mut self, rip: u64, spilled: Spilled) {
        self.point(rip, State::Within(spilled));
    }

    fn trap(&mut self, rip: u64, state: State) {
        self.point(rip, state);
        let at = self.a.here();
        // The area is a multiple of 4 GiB.
        self.a.store_imm32(gs(FRAME + RIP), (at as u32).cast_signed());
        self.a.jmp_to(self.leave);
        debug_assert_eq!(self.a.here() - at, WAY_OUT);
    }

    /// `jmp` to the code for `target`.
    fn jump(&mut self, target: u64) {
        self.point(target, State::Boundary);
        self.a.bytes(&[0xe9]);
        self.distance(target);
    }

    fn distance(&mut self, target: u64) {
        self.jumps.push(Jump { at: self.a.code.len(), target });
        self.a.bytes(&[0; 4]);
    }

    fn instruction(&mut self, i: &Instruction, bytes: &[u8], flavour: Flavour) -> Done {
        if i.op0_kind() == OpKind::NearBranch64 && i.near_branch_target() >= super::TOP {
            return Done::Leave;
        }
        match i.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch => return self.condition(i),
            FlowControl::UnconditionalBranch
                if matches!(i.code(), Code::Jmp_rel8_64 | Code::Jmp_rel32_64) =>
            {
                self.a.bytes(&[0xe9]);
                self.distance(i.near_branch_target());
                return Done::End;
            }
            FlowControl::Call if i.code() == Code::Call_rel32_64 => {
                self.push(i);
                self.jump(i.near_branch_target());
                return Done::End;
            }
            FlowControl::IndirectBranch if i.code() == Code::Jmp_rm64 => return self.indirect(i, false),
            FlowControl::IndirectCall if i.code() == Code::Call_rm64 => return self.indirect(i, true),
            FlowControl::Return if matches!(i.code(), Code::Retnq | Code::Retnq_imm16) => {
                self.ret(i);
                return Done::End;
            }
            _ => return Done::Leave,
        }
        if matches!(i.mnemonic(), Mnemonic::Rdtsc | Mnemonic::Rdtscp) && flavour.time {
            self.time(i);
            return Done::Next;
        }
        match self.plain(i, bytes, flavour) {
            true => Done::Next,
            false => Done::Leave,
        }
    }

    fn condition(&mut self, i: &Instruction) -> Done {
        use Code as C;
        if i.is_jcc_short_or_near() && i.op0_kind() == OpKind::NearBranch64 {
            self.a.bytes(&[0x0f, 0x80 | flow::condition(i)]);
            self.distance(i.near_branch_target());
            return Done::Next;
        }
        let (prefix, opcode): (&[u8], u8) = match i.code() {
            C::Loopne_rel8_64_RCX => (&[], 0xe0),
            C::Loope_rel8_64_RCX => (&[], 0xe1),
            C::Loop_rel8_64_RCX => (&[], 0xe2),
            C::Jrcxz_rel8_64 => (&[], 0xe3),
            C::Loopne_rel8_64_ECX => (&[0x67], 0xe0),
            C::Loope_rel8_64_ECX => (&[0x67], 0xe1),
            C::Loop_rel8_64_ECX => (&[0x67], 0xe2),
            C::Jecxz_rel8_64 => (&[0x67], 0xe3),
            _ => return Done::Leave,
        };
        self.a.bytes(prefix);
        self.a.bytes(&[opcode, 2]);
        self.point(i.next_ip(), State::Boundary);
        self.a.bytes(&[0xeb, 5]);
        self.jump(i.near_branch_target());
        Done::Next
    }

    /// Pushes the address behind the call `i`.
    fn push(&mut self, i: &Instruction) {
        let next = i.next_ip();
        self.piece.returns.push(next);
        match u32::try_from(next) {
            Ok(v) if v < 0x8000_0000 => {
                self.a.bytes(&[0x68]);
                self.a.bytes(&v.to_le_bytes());
            }
            _ => {
                self.a.bytes(&[0xff, 0x35]); // push [rip + distance]
                self.constants.push((self.a.code.len(), next));
                self.a.bytes(&[0; 4]);
            }
        }
    }

    /// On to the guest address in R11, with RCX and R11 in their slots. The instruction began at `origin`.
    fn lookup(&mut self, origin: u64) {
        // The area is a multiple of 4 GiB.
        self.a.store_imm32(gs(ORIGIN), (origin as u32).cast_signed());
        self.a.bytes(&[0x41, 0x0f, 0xb7, 0xcb]); // movzx ecx, r11w
        self.a.bytes(&[0x65, 0xff, 0x24, 0xcd]); // jmp gs:[rcx*8 + table]
        self.a.bytes(&(TABLE as u32).to_le_bytes());
    }

    fn ret(&mut self, i: &Instruction) {
        let origin = self.a.here();
        self.a.store(gs(SPILL_RCX), RCX);
        self.within(i.ip(), Spilled::None);
        self.a.store(gs(SPILL_R11), R11);
        self.a.pop(R11);
        self.within(i.ip(), Spilled::R11);
        if i.op_count() == 1 {
            self.a.lea(RSP, RSP, i.immediate16().into());
        }
        self.lookup(origin);
    }

    fn indirect(&mut self, i: &Instruction, call: bool) -> Done {
        let mut load = *i;
        load.set_code(Code::Mov_r64_rm64);
        load.set_op1_kind(i.op0_kind());
        if i.op0_kind() == OpKind::Register {
            load.set_op1_register(i.op0_register());
        }
        load.set_op0_kind(OpKind::Register);
        load.set_op0_register(Register::R11);
        let relative = i.is_ip_rel_memory_operand();
        if i.memory_segment() == Register::GS && i.op0_kind() == OpKind::Memory
            || relative && i.memory_base() != Register::RIP
        {
            return Done::Leave;
        }
        if relative {
            load.set_memory_base(Register::R11);
            load.set_memory_displacement64(0);
            load.set_memory_displ_size(0);
        }
        let Some(load) = self.encoded(&load) else { return Done::Leave };
        let origin = self.a.here();
        self.a.store(gs(SPILL_RCX), RCX);
        self.within(i.ip(), Spilled::None);
        self.a.store(gs(SPILL_R11), R11);
        if relative {
            self.piece.pointers.push(i.ip_rel_memory_address());
            self.a.imm(R11, i.ip_rel_memory_address());
            self.within(i.ip(), Spilled::R11);
        }
        self.a.bytes(&load);
        if call {
            self.within(i.ip(), Spilled::R11);
            self.push(i);
        }
        self.within(i.ip(), Spilled::R11);
        self.lookup(origin);
        Done::End
    }

    /// The guest's time-stamp counter; no flag changes.
    fn time(&mut self, i: &Instruction) {
        self.a.bytes(&[0x0f, 0x31]);
        self.within(i.ip(), Spilled::None);
        self.a.rotate(RDX, RDX, 32);
        self.a.lea_sum(RAX, RAX, RDX);
        self.a.load(RDX, gs(TSC_OFFSET));
        self.a.lea_sum(RAX, RAX, RDX);
        self.a.rotate(RDX, RAX, 32);
        self.a.bytes(&[0x89, 0xd2, 0x89, 0xc0]); // mov edx, edx; mov eax, eax
        if i.mnemonic() == Mnemonic::Rdtscp {
            self.a.load32(RCX, gs(TSC_AUX));
        }
    }

    fn encoded(&mut self, i: &Instruction) -> Option<Vec<u8>> {
        let encoder = self.encoder.get_or_insert_with(|| Encoder::new(64));
        let ok = encoder.encode(i, self.a.here()).is_ok();
        let bytes = encoder.take_buffer();
        ok.then_some(bytes)
    }

    /// Emits an instruction that the host executes itself; false (and nothing emitted) for others.
    fn plain(&mut self, i: &Instruction, bytes: &[u8], flavour: Flavour) -> bool {
        if is_nothing(i) {
            return true;
        }
        if !is_plain(i, flavour) {
            return false;
        }
        if i.memory_segment() == Register::GS && i.mnemonic() != Mnemonic::Lea && has_memory(i) {
            return self.through_gs(i);
        }
        if !i.is_ip_rel_memory_operand() {
            self.a.bytes(bytes);
            return true;
        }
        self.relative(i)
    }

    /// An operand in GS, whose base is the host's here: the address is made in a register. No flag changes.
    fn through_gs(&mut self, i: &Instruction) -> bool {
        let (base, index) = (i.memory_base(), i.memory_index());
        let wide = |r: Register| r == Register::None || r.is_gpr64();
        let moved = i.mnemonic() == Mnemonic::Pop && base == Register::RSP;
        let explicit = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
        // Addresses of 32 bits without a register tell by their size.
        let absolute = base == Register::None && index == Register::None;
        if !explicit || !wide(base) || !wide(index) || moved || absolute && i.memory_displ_size() < 8 {
            return false;
        }
        let Some(scratch) = self.unused(i) else { return false };
        let to = register64(scratch);
        let mut sum = Instruction::default();
        sum.set_code(Code::Lea_r64_m);
        sum.set_op0_kind(OpKind::Register);
        sum.set_op0_register(to);
        sum.set_op1_kind(OpKind::Memory);
        sum.set_memory_base(to);
        sum.set_memory_index_scale(1);
        let mut parts = Vec::new();
        if base != Register::None {
            let mut part = sum;
            part.set_memory_index(base);
            if base == Register::RSP {
                // It is no index.
                part.set_memory_base(base);
                part.set_memory_index(to);
            }
            parts.push(part);
        }
        let mut rest = sum;
        rest.set_memory_index(index);
        rest.set_memory_index_scale(i.memory_index_scale());
        rest.set_memory_displacement64(i.memory_displacement64());
        rest.set_memory_displ_size(i.memory_displ_size());
        parts.push(rest);
        let mut new = *i;
        new.set_segment_prefix(Register::None);
        new.set_memory_base(to);
        new.set_memory_index(Register::None);
        new.set_memory_index_scale(1);
        new.set_memory_displ_size(0);
        new.set_memory_displacement64(0);
        let mut bytes = Vec::new();
        for part in parts.iter().chain([&new]) {
            let Some(part) = self.encoded(part) else { return false };
            bytes.push(part);
        }
        let Some(last) = bytes.pop() else { return false };
        self.a.store(gs(SPILL_OTHER), scratch);
        self.within(i.ip(), Spilled::None);
        self.a.load(scratch, gs(GS_BASE));
        self.within(i.ip(), Spilled::Other(scratch));
        bytes.iter().for_each(|part| self.a.bytes(part));
        self.a.bytes(&last);
        // Only passed through: nothing can fault any more.
        self.within(i.ip(), Spilled::None);
        self.a.load(scratch, gs(SPILL_OTHER));
        true
    }

    fn relative(&mut self, i: &Instruction) -> bool {
        if i.memory_base() != Register::RIP {
            return false;
        }
        let target = i.ip_rel_memory_address();
        let first = i.op0_register();
        let whole = i.op0_kind() == OpKind::Register && (first.is_gpr64() || first.is_gpr32());
        if i.mnemonic() == Mnemonic::Lea {
            let Some(to) = number(first).filter(|_| whole) else { return false };
            self.a.imm(to, if first.is_gpr64() { target } else { target & 0xffff_ffff });
            return true;
        }
        let mut new = *i;
        if target < 0x8000_0000 {
            new.set_memory_base(Register::None);
            new.set_memory_displ_size(8);
            new.set_memory_displacement64(target);
            let Some(bytes) = self.encoded(&new) else { return false };
            self.a.bytes(&bytes);
            return true;
        }
        let load =
            matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd)
                && whole;
        let scratch = if load { number(first) } else { self.unused(i) };
        let Some(scratch) = scratch else { return false };
        new.set_memory_base(register64(scratch));
        new.set_memory_displ_size(0);
        new.set_memory_displacement64(0);
        let Some(bytes) = self.encoded(&new) else { return false };
        self.a.store(gs(SPILL_OTHER), scratch);
        self.within(i.ip(), Spilled::None);
        self.a.imm(scratch, target);
        self.within(i.ip(), Spilled::Other(scratch));
        self.a.bytes(&bytes);
        if !load {
            // Only passed through: nothing can fault any more.
            self.within(i.ip(), Spilled::None);
            self.a.load(scratch, gs(SPILL_OTHER));
        }
        true
    }

    /// A register that the instruction has nothing to do with.
    fn unused(&mut self, i: &Instruction) -> Option<Reg> {
        let mut used = 1u16 << RSP;
        for r in self.info.get_or_insert_with(InstructionInfoFactory::new).info(i).used_registers() {
            if r.register().is_gpr() {
                used |= 1 << (r.register().full_register().number() & 15);
            }
        }
        [11, 10, 9, 8, 7, 6, 2, 1, 0, 3, 5, 12, 13, 14, 15].into_iter().find(|r| used >> r & 1 == 0)
    }

    fn finish(mut self) -> Piece {
        let mut jumps = std::mem::take(&mut self.jumps);
        jumps.sort_by_key(|j| j.target);
        let mut trap = None;
        for jump in jumps {
            let to = match (self.known)(jump.target) {
                Some(to) => to,
                None => {
                    let at = match trap {
                        Some((target, at)) if target == jump.target => at,
                        _ => {
                            let at = self.a.here();
                            self.trap(jump.target, State::Link);
                            at
                        }
                    };
                    trap = Some((jump.target, at));
                    let site = self.a.here() - self.a.code.len() as u64 + jump.at as u64;
                    self.piece.links.push((site, jump.target));
                    at
                }
            };
            self.fill(jump.at, to);
        }
        for (at, value) in std::mem::take(&mut self.constants) {
            while !self.a.code.len().is_multiple_of(8) {
                self.a.bytes(&[0xcc]);
            }
            let to = self.a.here();
            self.a.bytes(&value.to_le_bytes());
            self.fill(at, to);
        }
        self.piece.code = std::mem::take(&mut self.a.code);
        self.piece
    }

    /// Fills in the distance at offset `at`.
    fn fill(&mut self, at: usize, to: u64) {
        let here = self.a.here() - self.a.code.len() as u64 + at as u64;
        self.a.code[at..at + 4].copy_from_slice(&distance(here, to));
    }
}

/// By how much the branch `bytes` of the guest had moved RSP when it found its target.
pub(super) fn moved_stack(bytes: &[u8]) -> u64 {
    let i = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    match i.code() {
        Code::Retnq => 8,
        Code::Retnq_imm16 => 8 + u64::from(i.immediate16()),
        Code::Call_rm64 => 8u64.wrapping_neg(),
        _ => 0,
    }
}

/// The distance to `to` as it stands at `site`.
pub(super) fn distance(site: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(site + 4) as u32).to_le_bytes()
}

/// Code that an indirect jump to the guest address `rip` finds in the table: it leads to `head` when R11 is that
/// address, else to `other`.
pub(super) fn entry(origin: u64, rip: u64, head: u64, other: u64) -> Vec<u8> {
    let mut a = Assembler::new(origin, false);
    a.imm(RCX, rip.wrapping_neg());
    a.lea_sum(RCX, RCX, R11);
    a.bytes(&[0xe3, 5]); // jrcxz
    a.jmp_to(other);
    a.load(RCX, gs(SPILL_RCX));
    a.load(R11, gs(SPILL_R11));
    a.jmp_to(head);
    a.code
}

fn register64(n: Reg) -> Register {
    crate::translator::registers::sized(n, Register::RAX)
}

fn is_nothing(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Endbr32)
        || crate::translator::system::is_hint(i)
}

fn has_memory(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) >= OpKind::MemorySegSI)
}

/// Whether no operand in memory is in a segment with a base.
fn is_flat(i: &Instruction) -> bool {
    !has_memory(i) || !matches!(i.memory_segment(), Register::FS | Register::GS)
}

/// Whether the host executes `i`, which the model has, as the guest's processor would.
fn is_plain(i: &Instruction, flavour: Flavour) -> bool {
    use Mnemonic as M;
    let vectors = Vectors {
        sse: flavour.sse,
        avx: flavour.avx,
        avx512: flavour.avx512,
        x87: flavour.x87,
        bmi2: is_x86_feature_detected!("bmi2"),
        zero_counts: flavour.zero_counts,
    };
    match classify::kind(i, vectors) {
        // Through FS and GS the unit's operand pointer would be another one.
        Kind::Native => !x87::is_remembered(i) || is_flat(i),
        Kind::LoadControl => true,
        // WAIT reports what the unit has pending.
        Kind::Nothing => x87::concerns(i),
        Kind::Divide | Kind::Lea | Kind::Push | Kind::Pop | Kind::Leave | Kind::PushMemory => true,
        Kind::Interpret | Kind::System => {
            let ordinary = i.code() == Code::Pop_rm64
                || matches!(
                    i.mnemonic(),
                    M::Movsb
                        | M::Movsw
                        | M::Movsq
                        | M::Stosb
                        | M::Stosw
                        | M::Stosd
                        | M::Stosq
                        | M::Lodsb
                        | M::Lodsw
                        | M::Lodsd
                        | M::Lodsq
                        | M::Scasb
                        | M::Scasw
                        | M::Scasd
                        | M::Scasq
                        | M::Cmpsb
                        | M::Cmpsw
                        | M::Cmpsq
                        | M::Bt
                        | M::Bts
                        | M::Btr
                        | M::Btc
                        | M::Xlatb
                        | M::Pause
                        | M::Cld
                        | M::Std
                        | M::Div
                        | M::Idiv
                )
                || i.is_string_instruction() && matches!(i.mnemonic(), M::Movsd | M::Cmpsd);
            let vector = matches!(i.mnemonic(), M::Ldmxcsr | M::Stmxcsr) && flavour.sse
                || flavour.avx
                    && (i.is_vsib() && is_x86_feature_detected!("avx2")
                        || matches!(
                            i.mnemonic(),
                            M::Vmaskmovps
                                | M::Vmaskmovpd
                                | M::Vpmaskmovd
                                | M::Vpmaskmovq
                                | M::Vldmxcsr
                                | M::Vstmxcsr
                        ))
                    && i.encoding() == iced_x86::EncodingKind::VEX;
            ordinary || vector
        }
        _ => false,
    }
}
