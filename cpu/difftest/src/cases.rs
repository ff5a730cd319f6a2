//! One case: an instruction, and registers and memory on which it stays within the data pages.

use crate::encode::{decode, encode};
use crate::layout::{CODE_SIZE, Mode, Place, SCRATCH_SIZE, WRITABLE};
use crate::model::address;
use crate::native::{SETTABLE, State, has_wide};
use crate::random::Random;
use crate::rules::{is_vendor_specific, not_compared};
use iced_x86::{
    Code, ConstantOffsets, FlowControl, Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpKind,
    Register,
};
use x86::reg::{flags, gpr};

/// An instruction with its surroundings.
pub struct Case {
    /// The bytes.
    pub code: Vec<u8>,
    /// What they say.
    pub insn: Instruction,
    /// The registers to start from.
    pub before: State,
}

/// What cases are made from.
pub struct Maker {
    /// The numbers.
    pub random: Random,
    /// Contents of the writable data pages; changes a little from case to case.
    pub memory: Vec<u8>,
    /// The FS base to use, where user code may read it.
    pub fs_base: Option<u64>,
    /// The decoder's tables.
    pub info: InstructionInfoFactory,
}

impl Maker {
    /// A maker with `seed`.
    pub fn new(seed: u64, fs_base: Option<u64>) -> Self {
        let mut random = Random::new(seed);
        let mut memory = vec![0; WRITABLE];
        random.fill(&mut memory);
        Self { random, memory, fs_base, info: InstructionInfoFactory::new() }
    }

    /// Encoding number `n` with random operands, registers and memory; `None` when the host must not run it.
    pub fn make(&mut self, n: u32, mode: Mode) -> Option<Case> {
        let place = Place::of(mode);
        let random = &mut self.random;
        let mut code = encode(n, mode, random);
        // Anywhere in the pages; sometimes across their border or end.
        let ip = place.code
            + match random.below(32) {
                0 => 4096 - 1 - random.below(14),
                1 if mode != Mode::Small => CODE_SIZE as u64 - 1 - random.below(14),
                _ => 256 + random.below(3000),
            };
        let (insn, offsets) = decode(&code, ip, mode);
        if insn.is_invalid() || not_compared(insn.code(), mode).is_some() {
            return None;
        }
        if is_vendor_specific(&insn, &code[..insn.len()], mode) {
            return None;
        }
        code.truncate(insn.len());
        let mut before = State::new(mode);
        before.rip = ip;
        self.registers(&mut before);
        self.implicit(&insn, &mut before);
        let target = self.explicit(&insn, &offsets, &mut code, &mut before)?;
        self.contents(&before, target);
        self.branch(&insn, &offsets, &mut code, &mut before, target)?;
        self.special(&insn, &mut before, target);
        if mode != Mode::Long {
            for value in &mut before.gpr {
                *value &= 0xffff_ffff;
            }
            before.gpr[8..].fill(0);
        }
        let (insn, _) = decode(&code, ip, mode);
        (insn.len() == code.len() && self.is_safe(&insn, &before)).then_some(Case { code, insn, before })
    }

    /// Random values of all registers.
    pub fn registers(&mut self, state: &mut State) {
        let random = &mut self.random;
        for value in &mut state.gpr {
            *value = random.value();
        }
        state.rflags = random.number() & SETTABLE & !flags::DF | flags::FIXED;
        if random.one_in(4) {
            state.rflags |= flags::DF;
        }
        random.fill(&mut state.xsave[160..416]);
        random.fill(&mut state.xsave[576..]);
        if has_wide() {
            random.fill(state.wide.upper.as_flattened_mut());
            random.fill(state.wide.high.as_flattened_mut());
            for mask in &mut state.wide.masks {
                *mask = match random.below(8) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => 1 << random.below(64),
                    3 => (1 << random.below(64)) - 1,
                    _ => random.number(),
                };
            }
        } else {
            // What a host without them could not show.
            let filled = if random.one_in(2) { 0 } else { 0xa5 };
            state.wide.upper = [[filled; 32]; 16];
        }
        state.fs_base = self.fs_base.unwrap_or(0);
        state.gs_base = match random.below(3) {
            _ if self.fs_base.is_none() => 0,
            0 => random.below(1 << 20),
            1 => Place::HIGH.scratch,
            _ => random.below(1 << 40),
        };
        // x87: any precision but the reserved one, any rounding, tags, numbers; sometimes exceptions unmasked or pending.
        let precision = [0u16, 2, 3][random.below(3) as usize] << 8;
        let rounding = (random.below(4) as u16) << 10;
        let masks = if random.one_in(4) { random.number() as u16 & 0x3f } else { 0x3f };
        let control = 0x40 | precision | rounding | masks;
        let mut status = (random.number() as u16) & 0x7f00;
        if random.one_in(4) {
            status |= random.number() as u16 & 0x7f & (if random.one_in(4) { 0x7f } else { masks | 0x40 });
        }
        if status & !control & 0x3f != 0 {
            status |= 0x8080;
        }
        let tags = [0, 0xff, 0xff, random.number() as u8][random.below(4) as usize];
        state.xsave[0..2].copy_from_slice(&control.to_le_bytes());
        state.xsave[2..4].copy_from_slice(&status.to_le_bytes());
        state.xsave[4] = tags;
        for n in 0..8 {
            state.xsave[32 + 16 * n..42 + 16 * n].copy_from_slice(&random.extended());
        }
        let masks = if random.one_in(4) { random.number() as u32 & 0x1f80 } else { 0x1f80 };
        let modes = if random.one_in(2) { random.number() as u32 & 0xe07f } else { 0 };
        state.xsave[24..28].copy_from_slice(&(masks | modes).to_le_bytes());
    }

    /// Where an operand lies, as an offset from the start of the data.
    pub fn offset(&mut self) -> u64 {
        let random = &mut self.random;
        let near = random.below(72);
        match random.below(20) {
            0 => (SCRATCH_SIZE as u64).wrapping_sub(near),
            1 => (WRITABLE as u64).wrapping_sub(near),
            2 => 0u64.wrapping_sub(near),
            3 | 4 => 4096 - near,
            5 => WRITABLE as u64 + random.below(3000),
            6..=8 => 1024 + random.below(2048),
            _ => 1024 + random.below(32) * 64,
        }
    }

    /// Registers that instructions use as pointers without saying so.
    fn implicit(&mut self, insn: &Instruction, state: &mut State) {
        let long = state.mode == Mode::Long;
        let place = Place::of(state.mode);
        for n in [gpr::RSP, gpr::RBP, gpr::RSI, gpr::RDI, gpr::RBX] {
            let offset = self.offset();
            let odd = self.random.one_in(4);
            state.gpr[n] = place.scratch.wrapping_add(if odd { offset } else { offset & !7 });
        }
        let mut narrow = |n: usize, kind: OpKind, source: bool| {
            // In 16-bit segments the pointers are small already; the rest of a register does not count.
            if state.mode == Mode::Small {
                state.gpr[n] &= 0xffff;
                if matches!(kind, OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI) {
                    state.gpr[n] |= self.random.number() & 0xffff_0000;
                }
                return;
            }
            let small = matches!(kind, OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI);
            if small && long {
                let offset = state.gpr[n].wrapping_sub(place.scratch);
                let garbage = self.random.number() << 32;
                state.gpr[n] = garbage | Place::LOW.scratch.wrapping_add(offset) & 0xffff_ffff;
            }
            if source && matches!(insn.memory_segment(), Register::FS | Register::GS) && long {
                let base = if insn.memory_segment() == Register::FS { state.fs_base } else { state.gs_base };
                state.gpr[n] = state.gpr[n].wrapping_sub(base);
            }
        };
        for n in 0..insn.op_count() {
            match insn.op_kind(n) {
                kind @ (OpKind::MemorySegRSI | OpKind::MemorySegESI | OpKind::MemorySegSI) => {
                    narrow(gpr::RSI, kind, true)
                }
                kind @ (OpKind::MemorySegRDI | OpKind::MemorySegEDI | OpKind::MemorySegDI) => {
                    narrow(gpr::RDI, kind, true)
                }
                kind @ (OpKind::MemoryESRDI | OpKind::MemoryESEDI | OpKind::MemoryESDI) => {
                    narrow(gpr::RDI, kind, false)
                }
                _ => {}
            }
        }
        if insn.has_rep_prefix() || insn.has_repne_prefix() {
            let garbage = if self.random.one_in(2) && long { self.random.number() << 32 } else { 0 };
            let count = self.random.below(20);
            let wide = (0..insn.op_count())
                .any(|n| matches!(insn.op_kind(n), OpKind::MemorySegRSI | OpKind::MemoryESRDI));
            state.gpr[gpr::RCX] = if wide { count } else { count | garbage };
        }
    }

    /// Registers or displacement of the explicit memory operand; gives its address (that of the stack without one).
    fn explicit(
        &mut self,
        insn: &Instruction,
        offsets: &ConstantOffsets,
        code: &mut [u8],
        state: &mut State,
    ) -> Option<u64> {
        if !(0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory) {
            return Some(state.gpr[gpr::RSP]);
        }
        let (base, index, scale) = (insn.memory_base(), insn.memory_index(), insn.memory_index_scale());
        let vector = index.is_vector_register();
        let sized = [base, index].into_iter().find(|r| *r != Register::None && !r.is_vector_register());
        let size = match sized {
            Some(Register::RIP) => 8,
            Some(Register::EIP) => 4,
            Some(r) => r.size(),
            None if insn.memory_displ_size() == 8 => 8,
            None if insn.memory_displ_size() == 2 => 2,
            None => 4,
        };
        let small = state.mode == Mode::Small;
        if size == 2 && !small {
            // The low 64 KiB, where nothing is mapped.
            return Some(insn.memory_displacement64());
        }
        let offset = self.offset();
        let place = match size {
            8 => Place::HIGH,
            _ if small => Place::SMALL,
            _ => Place::LOW,
        };
        let mut target = place.scratch.wrapping_add(offset);
        if size == 8 && self.random.one_in(40) {
            target = (1u64 << 47).wrapping_sub(self.random.below(24));
        }
        let segment = match insn.memory_segment() {
            Register::FS if state.mode == Mode::Long => state.fs_base,
            Register::GS if state.mode == Mode::Long => state.gs_base,
            _ => 0,
        };
        let wanted = target.wrapping_sub(segment);
        if size == 4 && wanted >> 32 != 0 {
            return None;
        }
        let disp = insn.memory_displacement64();
        let patch = |code: &mut [u8], value: u64| {
            let (at, len) = (offsets.displacement_offset(), offsets.displacement_size());
            let wide = if len == 4 { value as u32 as i32 as i64 as u64 } else { value };
            let fits = match len {
                4 if state.mode == Mode::Long && size == 8 => wide == value,
                4 => value >> 32 == 0,
                2 => value >> 16 == 0,
                8 => true,
                _ => false,
            };
            if fits {
                code[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            }
            fits.then_some(())
        };
        if matches!(base, Register::RIP | Register::EIP) {
            let relative = wanted.wrapping_sub(insn.next_ip());
            let relative = if size == 4 { relative as u32 as i32 as i64 as u64 } else { relative };
            let (at, len) = (offsets.displacement_offset(), offsets.displacement_size());
            if len != 4 || relative as u32 as i32 as i64 as u64 != relative {
                return None;
            }
            code[at..at + 4].copy_from_slice(&relative.to_le_bytes()[..4]);
            return Some(target);
        }
        let mask = match size {
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => u64::MAX,
        };
        let garbage = self.random.number() & !mask;
        let mut put = |register: Register, value: u64| {
            state.gpr[register.full_register().number()] = value & mask | garbage & !mask;
        };
        let scale64 = u64::from(scale);
        match (base != Register::None, index != Register::None && !vector) {
            (false, false) => {
                let low = if size == 8 && offsets.displacement_size() == 4 { Place::LOW } else { place };
                target = low.scratch.wrapping_add(offset);
                patch(code, target.wrapping_sub(segment))?;
            }
            (true, false) => put(base, wanted.wrapping_sub(disp)),
            (false, true) => put(index, wanted.wrapping_sub(disp) / scale64),
            (true, true) if base.full_register() == index.full_register() => {
                put(base, wanted.wrapping_sub(disp) / (1 + scale64));
            }
            (true, true) => {
                let n = if self.random.one_in(2) { self.random.below(64) } else { self.random.number() };
                put(index, n);
                put(base, wanted.wrapping_sub(disp).wrapping_sub((n & mask).wrapping_mul(scale64)));
            }
        }
        if vector {
            let mut indices = state.vector(index.number());
            // Indices of eight bytes need their upper halves to be signs.
            let size = if is_wide_index(insn) { 8 } else { 4 };
            for at in (0..64).step_by(size) {
                let value = i64::from(self.random.below(96) as i32 - 32).to_le_bytes();
                indices[at..at + size].copy_from_slice(&value[..size]);
            }
            state.set_vector(index.number(), &indices);
        }
        Some(target)
    }

    /// New contents near what the instruction will touch.
    fn contents(&mut self, state: &State, target: u64) {
        for address in [target, state.gpr[gpr::RSP], state.gpr[gpr::RSI], state.gpr[gpr::RDI]] {
            let address = if state.mode == Mode::Small { address & 0xffff } else { address };
            let offset = Place::ALL.map(|place| address.wrapping_sub(place.scratch));
            if let Some(offset) = offset.into_iter().find(|offset| *offset < WRITABLE as u64) {
                let from = offset as usize & !63;
                let to = WRITABLE.min(from + 192);
                self.random.fill(&mut self.memory[from..to]);
            }
        }
    }

    /// Writes at an address, as far as it is in the writable data.
    fn put(&mut self, address: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            for place in Place::ALL {
                let at = address.wrapping_add(n as u64).wrapping_sub(place.scratch);
                if let Some(slot) = self.memory.get_mut(at as usize) {
                    *slot = *byte;
                }
            }
        }
    }

    /// Lets branches end in the code pages, or where nothing is.
    fn branch(
        &mut self,
        insn: &Instruction,
        offsets: &ConstantOffsets,
        code: &mut [u8],
        state: &mut State,
        target: u64,
    ) -> Option<()> {
        let place = Place::of(state.mode);
        let own = state.rip..insn.next_ip();
        let mut goal = place.code + self.random.below(CODE_SIZE as u64 - 1);
        if own.contains(&goal) {
            goal = own.end;
        }
        if self.random.one_in(16) {
            goal = match state.mode {
                Mode::Long => 1 << 47,
                Mode::Flat => 0x1000,
                Mode::Small => 0xfff0,
            };
        }
        let register = |state: &mut State| {
            if insn.op0_kind() == OpKind::Register {
                state.gpr[insn.op0_register().full_register().number()] = goal;
            }
        };
        if let OpKind::FarBranch16 | OpKind::FarBranch32 = insn.op0_kind() {
            let size = if insn.op0_kind() == OpKind::FarBranch16 { 2 } else { 4 };
            let (offset, selector) = self.far_pointer(size, state.mode);
            let at = code.len() - 2 - size;
            code[at..at + size].copy_from_slice(&offset.to_le_bytes()[..size]);
            code[at + size..].copy_from_slice(&selector.to_le_bytes());
            return Some(());
        }
        match insn.flow_control() {
            FlowControl::Next | FlowControl::Exception => Some(()),
            // Not what the host's kernel lets through: breakpoint, overflow, system call.
            FlowControl::Interrupt if insn.mnemonic() == M::Int => {
                (!matches!(insn.immediate8(), 3 | 4 | 0x80)).then_some(())
            }
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
                if insn.op0_kind() == OpKind::NearBranch16 && state.mode != Mode::Small {
                    // Into the low 64 KiB.
                    return Some(());
                }
                let to = insn.near_branch_target();
                let inside = (place.code..place.code + CODE_SIZE as u64).contains(&to);
                if inside && !own.contains(&to) {
                    return Some(());
                }
                let size = offsets.immediate_size();
                if size < 2 {
                    // Beyond the segment's limit nothing runs.
                    return (state.mode == Mode::Small && !own.contains(&to)).then_some(());
                }
                let goal = if goal.wrapping_sub(place.code) < CODE_SIZE as u64 { goal } else { own.end };
                let at = offsets.immediate_offset();
                let relative = goal.wrapping_sub(insn.next_ip());
                code[at..at + size].copy_from_slice(&relative.to_le_bytes()[..size]);
                Some(())
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall => {
                register(state);
                self.put(target, &goal.to_le_bytes());
                Some(())
            }
            FlowControl::Return => {
                self.put(state.gpr[gpr::RSP], &goal.to_le_bytes());
                Some(())
            }
            _ => None,
        }
    }

    /// Where a far transfer may go: code of either mode, and what is no code segment.
    fn far_pointer(&mut self, size: usize, mode: Mode) -> (u64, u16) {
        let random = &mut self.random;
        let selectors =
            [0x33, 0x33, 0x33, 0x23, 0x23, 0x23, 0x07, 0x07, 0x06, 0x22, 0x30, 0x2b, 0x0f, 0, 0x10, 0x1ff8];
        let selector = selectors[random.below(16) as usize];
        // With a stack of 16 bits, 64-bit code would use what Linux leaves in the rest of RSP.
        let selector = if mode == Mode::Small && selector & !3 == 0x30 { 0x07 } else { selector };
        let high = size == 8 && selector & !3 == 0x30 && random.one_in(2);
        let place = match selector & !3 {
            _ if high => Place::HIGH,
            4 => Place::SMALL,
            _ => Place::LOW,
        };
        let offset = place.code + 4096 + random.below(4000);
        (if random.one_in(16) && size == 8 { 1 << 47 } else { offset }, selector)
    }

    /// What IRET takes from the stack.
    fn interrupt_frame(&mut self, insn: &Instruction, state: &State) {
        let size = match insn.mnemonic() {
            M::Iret => 2,
            M::Iretd => 4,
            _ => 8,
        };
        let (offset, selector) = self.far_pointer(size, state.mode);
        let rflags = self.random.number() & (SETTABLE | flags::IF | flags::IOPL);
        let stack = Place::LOW.scratch + 1024 + self.random.below(128) * 8;
        let segment: u64 = [0x2b, 0x2b, 0x2b, 0x2b, 0, 0x28, 0x10, 0x33][self.random.below(8) as usize];
        let start = state.gpr[gpr::RSP];
        for (n, value) in [offset, selector.into(), rflags, stack, segment].into_iter().enumerate() {
            self.put(start.wrapping_add((n * size) as u64), &value.to_le_bytes()[..size]);
        }
    }

    /// What single instructions need.
    fn special(&mut self, insn: &Instruction, state: &mut State, target: u64) {
        let random = &mut self.random;
        match insn.mnemonic() {
            // A bit offset in a register reaches far.
            M::Bt | M::Bts | M::Btr | M::Btc if insn.op1_kind() == OpKind::Register
                && insn.op0_kind() == OpKind::Memory => {
                    let register = insn.op1_register();
                    let offset = random.below(8192).wrapping_sub(4096);
                    let mask = match register.size() {
                        2 => 0xffff,
                        4 => 0xffff_ffff,
                        _ => u64::MAX,
                    };
                    let value = &mut state.gpr[register.full_register().number()];
                    *value = *value & !mask | offset & mask;
                }
            M::Xlatb => {
                let base = match insn.memory_segment() {
                    Register::FS if state.mode == Mode::Long => state.fs_base,
                    Register::GS if state.mode == Mode::Long => state.gs_base,
                    _ => 0,
                };
                let al = state.gpr[gpr::RAX] & 0xff;
                let (place, old) = (Place::of(state.mode), state.gpr[gpr::RBX]);
                let narrow = insn.memory_base() == Register::EBX && state.mode == Mode::Long;
                let at = if narrow {
                    old.wrapping_sub(place.scratch).wrapping_add(Place::LOW.scratch)
                } else {
                    old
                };
                state.gpr[gpr::RBX] = at.wrapping_sub(al).wrapping_sub(base);
            }
            M::Div | M::Idiv => {
                // Quotients that fit, more often than not.
                if random.one_in(2) {
                    state.gpr[gpr::RDX] = if random.one_in(2) { 0 } else { u64::MAX };
                } else if random.one_in(2) {
                    state.gpr[gpr::RDX] &= 0xff;
                }
            }
            M::Popf | M::Popfd | M::Popfq => {
                // Neither single steps nor nested tasks nor alignment checks: the host's kernel would have to know.
                let allowed = SETTABLE | flags::IF | flags::IOPL;
                let value = random.number() & allowed;
                self.put(state.gpr[gpr::RSP], &value.to_le_bytes());
            }
            M::Cmpxchg
                // Equal, half the time.
                if random.one_in(2) => {
                    if insn.op0_kind() == OpKind::Memory {
                        let value = state.gpr[gpr::RAX].to_le_bytes();
                        self.put(target, &value);
                    } else {
                        state.gpr[insn.op0_register().full_register().number()] = state.gpr[gpr::RAX];
                    }
                }
            M::Cmpxchg8b | M::Cmpxchg16b
                if random.one_in(2) => {
                    let size = insn.memory_size().size() / 2;
                    let (low, high) = (state.gpr[gpr::RAX].to_le_bytes(), state.gpr[gpr::RDX].to_le_bytes());
                    self.put(target, &[&low[..size], &high[..size]].concat());
                }
            M::Ldmxcsr | M::Vldmxcsr => {
                let reserved = if random.one_in(8) { 1 << (18 + random.below(14)) } else { 0 };
                let value = random.number() as u32 & 0xffff | reserved;
                self.put(target, &value.to_le_bytes());
            }
            M::Wrfsbase | M::Wrgsbase => {
                let n = insn.op0_register().full_register().number();
                state.gpr[n] &= if random.one_in(8) { u64::MAX } else { (1 << 47) - 1 };
            }
            M::Mov if insn.op0_register().is_segment_register() => {
                let value = selector(random);
                if insn.op1_kind() == OpKind::Memory {
                    self.put(target, &value.to_le_bytes());
                } else {
                    let register = &mut state.gpr[insn.op1_register().full_register().number()];
                    *register = *register & !0xffff | u64::from(value);
                }
            }
            M::Pop if insn.op0_register().is_segment_register() => {
                let value = selector(random);
                self.put(state.gpr[gpr::RSP], &value.to_le_bytes());
            }
            M::Lar | M::Lsl | M::Verr | M::Verw => {
                let value = selector(random);
                let n = insn.op_count() - 1;
                if insn.op_kind(n) == OpKind::Memory {
                    self.put(target, &value.to_le_bytes());
                } else {
                    let register = &mut state.gpr[insn.op_register(n).full_register().number()];
                    *register = *register & !0xffff | u64::from(value);
                }
            }
            M::Jmp | M::Call if insn.is_jmp_far_indirect() || insn.is_call_far_indirect() => {
                let size = insn.memory_size().size() - 2;
                if insn.memory_base() != Register::RSP {
                    // The stack that either mode sees.
                    state.gpr[gpr::RSP] = Place::LOW.scratch + 2048 + random.below(256) * 8;
                }
                let (offset, selector) = self.far_pointer(size, state.mode);
                self.put(target, &offset.to_le_bytes()[..size]);
                self.put(target.wrapping_add(size as u64), &selector.to_le_bytes());
            }
            M::Retf => {
                let size = match insn.code() {
                    Code::Retfw | Code::Retfw_imm16 => 2,
                    Code::Retfd | Code::Retfd_imm16 => 4,
                    _ => 8,
                };
                let (offset, selector) = self.far_pointer(size, state.mode);
                let start = state.gpr[gpr::RSP];
                self.put(start, &offset.to_le_bytes()[..size]);
                self.put(start.wrapping_add(size as u64), &u64::from(selector).to_le_bytes()[..size]);
            }
            M::Iret | M::Iretd | M::Iretq => self.interrupt_frame(insn, state),
            M::Les | M::Lds | M::Lss | M::Lfs | M::Lgs => {
                let value = selector(random);
                let size = insn.op0_register().size() as u64;
                self.put(target.wrapping_add(size), &value.to_le_bytes());
            }
            M::Fxrstor | M::Fxrstor64 | M::Xrstor | M::Xrstor64 => self.area(insn, state, target),
            M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 | M::Xsavec | M::Xsavec64 => {
                self.area(insn, state, target);
            }
            M::Fldcw => {
                let value = random.number() as u16;
                let value = if value >> 8 & 3 == 1 { value | 0x300 } else { value };
                self.put(target, &value.to_le_bytes());
            }
            M::Fldenv | M::Frstor => {
                // No reserved precision.
                let value = random.number() as u16 | 0x300;
                self.put(target, &value.to_le_bytes());
            }
            _ => {}
        }
    }

    /// A save area to load or to write: aligned mostly, whole, with a header that makes sense mostly.
    fn area(&mut self, insn: &Instruction, state: &mut State, target: u64) {
        let random = &mut self.random;
        let components = random.number() & 7;
        state.gpr[gpr::RAX] = components;
        state.gpr[gpr::RDX] = 0;
        let mut bytes = vec![0; 832];
        random.fill(&mut bytes);
        bytes[0..2].copy_from_slice(&(0x340 | random.number() as u16 & 0xc3f).to_le_bytes());
        let reserved = if random.one_in(8) { 1 << (18 + random.below(14)) } else { 0 };
        let mxcsr = random.number() as u32 & 0xffff | reserved;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if !matches!(insn.mnemonic(), M::Fxrstor | M::Fxrstor64) {
            bytes[512..576].fill(0);
            bytes[512] = random.number() as u8 & 7;
            match random.below(8) {
                0 => bytes[512 + random.below(64) as usize] = random.number() as u8,
                1 | 2 => {
                    let layout = 1 << 63 | u64::from(bytes[512]) | random.number() & 7;
                    bytes[520..528].copy_from_slice(&layout.to_le_bytes());
                }
                _ => {}
            }
            // Components beyond ours would be the host's.
            bytes[512] &= 7;
            bytes[513..520].fill(0);
        }
        self.put(target, &bytes);
    }

    /// Whether every access is to the data pages, their guard pages, or nowhere.
    fn is_safe(&mut self, insn: &Instruction, state: &State) -> bool {
        if state.mode == Mode::Small {
            // The limits of the segments see to that. ESP's upper half is not ours.
            let esp = |r: Register| r == Register::ESP;
            return !(0..insn.op_count()).any(|n| esp(insn.op_register(n))) && !esp(insn.memory_base());
        }
        let harmless = |address: u64| {
            let canonical = (address << 16) as i64 >> 16 == address as i64;
            let hole = state.mode == Mode::Long && (!canonical || address.wrapping_add(64) >> 47 == 1);
            [Place::HIGH, Place::LOW].iter().any(|place| place.is_near(address)) || hole || address < 0x1_1000
        };
        let bits = matches!(insn.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
            && insn.op0_kind() == OpKind::Memory
            && insn.op1_kind() == OpKind::Register;
        if bits {
            let register = insn.op1_register().full_register();
            if [insn.memory_base(), insn.memory_index()].iter().any(|r| r.full_register() == register) {
                return false;
            }
        }
        // Into compatibility mode the stack must be where both modes see it.
        if insn.is_call_far_indirect() && state.gpr[gpr::RSP] >> 32 != 0 {
            return false;
        }
        let vector = insn.memory_index().is_vector_register();
        let elements = if vector { elements_of(insn) } else { 1 };
        let used = self.info.info(insn);
        used.used_memory().iter().all(|memory| {
            memory.access() == OpAccess::NoMemAccess
                || (0..elements).all(|element| address(state, memory, element).is_some_and(harmless))
        })
    }
}

/// A selector: null, user data, user code, kernel's, none.
fn selector(random: &mut Random) -> u16 {
    [0, 3, 0x2b, 0x2b, 0x23, 0x33, 0x10, 0x18, 0x28, 0x1ff8, 0x07, 0x0f, 0x0e, 0x17]
        [random.below(14) as usize]
}

/// Whether a gather's indices have eight bytes.
fn is_wide_index(insn: &Instruction) -> bool {
    matches!(
        insn.mnemonic(),
        M::Vpgatherqd
            | M::Vpgatherqq
            | M::Vgatherqps
            | M::Vgatherqpd
            | M::Vpscatterqd
            | M::Vpscatterqq
            | M::Vscatterqps
            | M::Vscatterqpd
    )
}

/// Elements of a gather.
pub(crate) fn elements_of(insn: &Instruction) -> usize {
    let data = insn.memory_size().element_size().max(4);
    let by_data = insn.op0_register().size().max(insn.op1_register().size()) / data;
    let by_index = insn.memory_index().size() / if is_wide_index(insn) { 8 } else { 4 };
    by_data.min(by_index)
}
