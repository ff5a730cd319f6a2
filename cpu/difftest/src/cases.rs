//! Which encodings are tried, and on what registers.

use crate::native::{CODE, SCRATCH, SCRATCH_SIZE, State};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use x86::reg::{flags, gpr};

/// A small reproducible generator (xorshift).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 is replaced.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit.max(1)
    }

    /// A value with a taste for corners.
    pub fn value(&mut self) -> u64 {
        let value = self.number();
        match self.below(8) {
            0 => [0, 1, u64::MAX, 1 << 63, 0x7fff_ffff, 0x8000_0000, 0x80, 0xffff][self.below(8) as usize],
            1 => value & 0xff,
            2 => value as u32 as i32 as i64 as u64,
            _ => value,
        }
    }
}

/// Every legacy encoding once: prefix, REX.W, map, opcode, ModRM.reg, memory or register.
pub const LEGACY: u64 = 4 * 2 * 4 * 256 * 8 * 2;
/// Every VEX encoding once: pp, W, L, map, opcode, ModRM.reg, memory or register.
pub const VEX: u64 = 4 * 2 * 2 * 3 * 256 * 8 * 2;

/// Writes encoding number `n` (below [`LEGACY`] + [`VEX`]) with random operands.
pub fn encode(mut n: u64, random: &mut Random) -> Vec<u8> {
    let mut take = |count: u64| {
        let part = n % count;
        n /= count;
        part as u8
    };
    let (memory, reg) = (take(2) == 1, take(8));
    let opcode = take(256);
    let (prefix, w) = (take(4), take(2));
    let mut rest = take(4 + 2 * 3);
    let mut code = Vec::with_capacity(24);
    let (r, x, b) = (random.below(2) as u8, random.below(2) as u8, random.below(2) as u8);
    if rest < 4 {
        code.extend([&[][..], &[0x66], &[0xf2], &[0xf3]][usize::from(prefix)]);
        code.push(0x40 | w << 3 | r << 2 | x << 1 | b);
        code.extend([&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]][usize::from(rest)]);
    } else {
        rest -= 4;
        let second = random.below(16) as u8;
        code.extend([0xc4, (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (1 + rest / 2)]);
        code.push(
            w << 7
                | (second ^ if random.below(2) == 0 { 15 } else { second }) << 3
                | (rest % 2) << 2
                | prefix,
        );
    }
    code.push(opcode);
    let rm = random.below(8) as u8;
    code.push(if memory { 0x80 } else { 0xc0 } | reg << 3 | rm);
    if memory && rm == 4 {
        code.push(random.number() as u8);
    }
    code.extend((0..12).map(|_| random.number() as u8));
    if memory {
        // A displacement that stays near.
        let at = code.len() - 12;
        code[at..at + 4].copy_from_slice(&(random.below(512) as i32 - 256).to_le_bytes());
    }
    code
}

/// The instruction in `code`, if a test may run it.
pub fn acceptable(code: &[u8]) -> Option<Instruction> {
    let insn = Decoder::with_ip(64, code, CODE, DecoderOptions::NONE).decode();
    if insn.is_invalid()
        || insn.is_privileged()
        || insn.is_save_restore_instruction()
        || insn.has_lock_prefix()
    {
        return None;
    }
    match insn.flow_control() {
        FlowControl::Next | FlowControl::Exception => {}
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
            let near = insn.near_branch_target().wrapping_sub(CODE + insn.len() as u64);
            // AMD processors cut RIP to 16 bits with an operand-size prefix in 64-bit mode, Intel's do not.
            if !matches!(insn.op0_kind(), OpKind::NearBranch64)
                || near >= 4000
                || code[..insn.len()].contains(&0x66)
            {
                // Outside the page, or back into itself for ever.
                return None;
            }
        }
        _ => return None,
    }
    // AMD processors let F2 and F3 choose the condition of LOOPcc; the manuals say that they are ignored.
    let repeat = insn.has_rep_prefix()
        || insn.has_repne_prefix()
        || code[..insn.len()].iter().any(|b| matches!(b, 0xf2 | 0xf3));
    if repeat && insn.is_loop() | insn.is_loopcc() {
        return None;
    }
    if matches!(insn.segment_prefix(), Register::FS | Register::GS) || insn.code() == Code::Pause {
        return None;
    }
    let name = format!("{:?}", insn.code());
    // What depends on the machine, the kernel or time; or reaches other memory.
    const OTHER: &[&str] = &[
        "Rd",
        "Cpuid",
        "Xgetbv",
        "Int",
        "Sys",
        "Popf",
        "Pushf",
        "Sldt",
        "Str_",
        "Sgdt",
        "Sidt",
        "Smsw",
        "Lar",
        "Lsl",
        "Ver",
        "Wr",
        "Swap",
        "Mov_Sreg",
        "Lfs",
        "Lgs",
        "Lss",
        "Pop_FS",
        "Pop_GS",
        "Popq_FS",
        "Popq_GS",
        "Popw_FS",
        "Popw_GS",
        "In_",
        "Out",
        "Ins",
        "Xbegin",
        "Xabort",
        "Xend",
        "Xtest",
        "Monitor",
        "Mwait",
        "Umonitor",
        "Tpause",
        "Umwait",
        "Clzero",
        "Fnst",
        "Fldenv",
        "Frstor",
        "Fnsave",
        "Movdir",
        "Enqcmd",
        "Incssp",
        "Saves",
        "Ptw",
        "Vm",
        "Tdcall",
        "Seam",
        "Sen",
        "Clui",
        "Stui",
        "Testui",
        "Uiret",
        "Pconfig",
        "Enclu",
        "Encl",
        "Hreset",
        "Ud",
        "Prefetch",
        "Loadall",
        "Skinit",
        "Clgi",
        "Stgi",
        "Psmash",
        "Pvalid",
        "Rmp",
        "Getsec",
        "Enclv",
        "Stac",
        "Clac",
        "Xcrypt",
        "Xstore",
        "Xsha",
        "Montmul",
        "Serialize",
        "Mov_rm16_Sreg",
        "Mov_r32m16_Sreg",
        "Mov_r64m16_Sreg",
        "Push",
        "Enter",
        "Cl1invmb",
        "Wait",
    ];
    if OTHER.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    for n in 0..insn.op_count() {
        match insn.op_kind(n) {
            OpKind::Memory => {
                let plain = |register: Register| register.is_gpr64();
                if !plain(insn.memory_base())
                    || insn.memory_index() != Register::None
                        && (!plain(insn.memory_index()) || insn.memory_index() == insn.memory_base())
                    || matches!(insn.memory_segment(), Register::FS | Register::GS)
                {
                    return None;
                }
            }
            OpKind::Register if insn.op_register(n).is_segment_register() => return None,
            _ => {}
        }
    }
    Some(insn)
}

/// Registers on which `insn` reaches memory near the data pages only.
pub fn registers(insn: &Instruction, random: &mut Random) -> State {
    let mut state = State::default();
    for value in &mut state.gpr {
        *value = random.value();
    }
    state.rflags = random.number() & flags::ARITH | flags::FIXED;
    for byte in &mut state.xsave[160..416] {
        *byte = random.number() as u8;
    }
    for byte in &mut state.xsave[576..] {
        *byte = random.number() as u8;
    }
    // Where: the middle, the border of the two pages, or across the end.
    let place = match random.below(8) {
        0 => SCRATCH + SCRATCH_SIZE as u64 - random.below(40),
        1 | 2 => SCRATCH + 4096 - random.below(40),
        3 | 4 => SCRATCH + 1024 + random.below(1024),
        _ => SCRATCH + 1024 + random.below(64) * 32,
    };
    let pointer = |state: &mut State, register: usize| state.gpr[register] = place;
    for register in [gpr::RSI, gpr::RDI, gpr::RSP, gpr::RBP, gpr::RBX] {
        pointer(&mut state, register);
    }
    if insn.has_rep_prefix() || insn.has_repne_prefix() {
        state.gpr[gpr::RCX] = random.below(20);
    }
    let memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
    if memory {
        let bits = matches!(insn.mnemonic() as u32, _ if format!("{:?}", insn.code()).starts_with("Bt"));
        if bits && insn.op1_kind() == OpKind::Register {
            state.gpr[insn.op1_register().number()] = random.below(256);
        }
        let mut offset = insn.memory_displacement64();
        if insn.memory_index() != Register::None {
            let index = insn.memory_index().number();
            if index != gpr::RSP {
                state.gpr[index] = random.below(64);
            }
            offset = offset.wrapping_add(state.gpr[index].wrapping_mul(insn.memory_index_scale().into()));
        }
        state.gpr[insn.memory_base().number()] = place.wrapping_sub(offset);
    }
    state
}

/// Flags that the manual leaves undefined after `insn`, in RFLAGS.
pub fn undefined(insn: &Instruction) -> u64 {
    use iced_x86::RflagsBits as R;
    let bits = insn.rflags_undefined();
    let pairs = [
        (R::OF, flags::OF),
        (R::SF, flags::SF),
        (R::ZF, flags::ZF),
        (R::AF, flags::AF),
        (R::CF, flags::CF),
        (R::PF, flags::PF),
    ];
    let mut mask = pairs.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |mask, (_, flag)| mask | flag);
    let name = format!("{:?}", insn.code());
    // Shifts and rotates: which flags are defined depends on the count.
    if ["Sh", "Sa", "Ro", "Rc"].iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with("Sahf") {
        mask |= flags::OF | flags::AF;
        if name.starts_with("Sh") {
            mask |= flags::CF;
        }
        if name.starts_with("Shld") || name.starts_with("Shrd") {
            mask |= flags::ARITH;
        }
    }
    mask
}

/// Whether the manual defines the result: not for 16-bit double shifts by more than 16, nor for the upper half of what
/// EXTRQ leaves.
pub fn defined(insn: &Instruction, state: &State) -> bool {
    let name = format!("{:?}", insn.code());
    let count = if insn.op_count() == 3 && insn.op2_kind() == OpKind::Immediate8 {
        insn.immediate8().into()
    } else {
        state.gpr[gpr::RCX]
    };
    let double = name.starts_with("Shld_rm16") || name.starts_with("Shrd_rm16");
    !(name.starts_with("Extrq") || double && count & 31 > 16)
}
