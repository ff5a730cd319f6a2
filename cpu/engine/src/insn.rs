//! The decoded instruction that executors get.

use crate::cpu::Cpu;
use crate::fault::Fault;
use iced_x86::Code;

/// Executes one instruction. `state.rip` is already that of the next one; on `Err` it is put back.
pub(crate) type Exec = fn(&mut Cpu, &Insn) -> Result<(), Fault>;

/// Register number "none" (and of an operand that is no register).
pub const NONE: u8 = 17;
/// Base register number of RIP-relative operands.
pub const RIP: u8 = 16;
/// Flag in the number of an 8-bit register: AH, CH, DH, BH are `HIGH | 0..=3`.
pub const HIGH: u8 = 0x80;

/// A LOCK prefix.
pub const F_LOCK: u8 = 1;
/// F3 (REP, REPE).
pub const F_REP: u8 = 2;
/// F2 (REPNE).
pub const F_REPNE: u8 = 4;
/// The instruction has an explicit memory operand.
pub const F_MEM: u8 = 8;
/// The operand needs no segment base, limit check or address wrap.
pub const F_FLAT: u8 = 16;
/// The instruction works on the x87 unit's registers (in translated blocks only).
pub const F_FPU: u8 = 32;

/// One decoded instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Insn {
    pub(crate) exec: Exec,
    /// Immediate (sign-extended where the instruction does so), or the branch displacement relative to the next
    /// instruction; far pointers: offset in the low 32 bits, selector above.
    pub imm: u64,
    /// Displacement of the memory operand; RIP-relative: relative to the next instruction.
    pub disp: u64,
    /// iced's [`Code`].
    pub code: u16,
    /// Offset of the next instruction from the start of the block.
    pub next: u16,
    /// Operand registers in operand order: general 0-15 (8-bit: see `HIGH`), vector, mask, x87, segment numbers;
    /// `NONE` for others.
    pub regs: [u8; 5],
    /// Memory operand: base register, `RIP` or `NONE`.
    pub base: u8,
    /// Memory operand: index register (a vector number for gathers) or `NONE`.
    pub index: u8,
    /// Memory operand: log2 of the factor of the index.
    pub scale: u8,
    /// Memory operand: segment number.
    pub seg: u8,
    /// Address size in bytes: 2, 4, 8.
    pub address_size: u8,
    /// Bytes of the instruction.
    pub len: u8,
    /// `F_*`.
    pub flags: u8,
    /// Operand size of the mode and prefixes in bytes: 2, 4 or 8.
    pub op_size: u8,
    /// Vector length in bytes: 16, 32, 64 (16 for legacy forms).
    pub vector_len: u8,
    /// Second immediate (ENTER, EXTRQ, INSERTQ).
    pub imm2: u8,
    /// EVEX write mask register, 0 for none.
    pub mask: u8,
    /// Which operand is the memory operand (0 to 4).
    pub mem_op: u8,
}

impl Insn {
    /// iced's code.
    pub fn code(&self) -> Code {
        Code::try_from(usize::from(self.code)).unwrap_or(Code::INVALID)
    }

    /// Whether there is an explicit memory operand.
    #[inline(always)]
    pub fn is_mem(&self) -> bool {
        self.flags & F_MEM != 0
    }

    /// Whether the explicit memory operand is in the stack segment.
    #[inline]
    pub fn is_on_stack(&self) -> bool {
        self.is_mem() && usize::from(self.seg) == x86::reg::seg::SS
    }

    /// Whether there is a LOCK prefix.
    #[inline(always)]
    pub fn is_locked(&self) -> bool {
        self.flags & F_LOCK != 0
    }
}

const _: () = assert!(size_of::<Insn>() <= 64);
