//! Which function executes which arithmetic, logic, bit or move instruction: by mnemonic, operand size and where the
//! operands are.

use super::{alu, bits};
use crate::insn::Exec;
use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};

/// The instance of a generic executor for operands of `$size` bytes.
macro_rules! sized {
    ($size:expr, $module:ident :: $name:ident $(, $argument:tt)*) => {
        match $size {
            1 => $module::$name::<u8 $(, $argument)*> as Exec,
            2 => $module::$name::<u16 $(, $argument)*>,
            4 => $module::$name::<u32 $(, $argument)*>,
            _ => $module::$name::<u64 $(, $argument)*>,
        }
    };
}

/// The instance for one of the sixteen conditions.
macro_rules! conditional {
    ($condition:expr, $module:ident :: $name:ident $(, $first:ty)?) => {
        match $condition {
            0 => $module::$name::<$($first,)? 0> as Exec,
            1 => $module::$name::<$($first,)? 1>,
            2 => $module::$name::<$($first,)? 2>,
            3 => $module::$name::<$($first,)? 3>,
            4 => $module::$name::<$($first,)? 4>,
            5 => $module::$name::<$($first,)? 5>,
            6 => $module::$name::<$($first,)? 6>,
            7 => $module::$name::<$($first,)? 7>,
            8 => $module::$name::<$($first,)? 8>,
            9 => $module::$name::<$($first,)? 9>,
            10 => $module::$name::<$($first,)? 10>,
            11 => $module::$name::<$($first,)? 11>,
            12 => $module::$name::<$($first,)? 12>,
            13 => $module::$name::<$($first,)? 13>,
            14 => $module::$name::<$($first,)? 14>,
            _ => $module::$name::<$($first,)? 15>,
        }
    };
}
pub(super) use conditional;

/// Where an instruction's operands are.
struct Form {
    /// Bytes of operand 0.
    size: usize,
    /// Bytes of the last operand.
    source: usize,
    /// Which operand is in memory.
    memory: Option<u32>,
    /// The last operand is an immediate.
    immediate: bool,
    /// The last operand is CL (of shifts).
    cl: bool,
    operands: u32,
    lock: bool,
}

impl Form {
    /// `None` unless all operands are general registers, memory and immediates.
    fn of(code: Code, from: &Instruction) -> Option<Self> {
        let size = |n: u32| match from.op_kind(n) {
            OpKind::Register => Some(from.op_register(n)).filter(|r| r.is_gpr()).map(|r| r.size()),
            OpKind::Memory => Some(from.memory_size().size()),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Some(0),
            _ => None,
        };
        let operands = from.op_count();
        let last = operands.checked_sub(1)?;
        for n in 0..operands {
            size(n)?;
        }
        let name = |code: Code| code.mnemonic();
        let shift = matches!(
            name(code),
            M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd
        );
        let register = from.op_kind(last) == OpKind::Register;
        // LEA's operand is an address, not so many bytes.
        let own = if from.op_kind(0) == OpKind::Memory && size(0)? == 0 { size(last)? } else { size(0)? };
        Some(Self {
            size: own,
            source: size(last)?,
            memory: (0..operands).find(|n| from.op_kind(*n) == OpKind::Memory),
            immediate: size(last)? == 0 && from.op_kind(last) != OpKind::Memory,
            cl: shift && register,
            operands,
            lock: from.has_lock_prefix(),
        })
    }
}

/// Two operands, the first of which is changed (`OP` as in [`super::int::op`]).
fn binary<const OP: u8>(form: &Form) -> Exec {
    match (form.memory, form.immediate, form.lock) {
        (Some(0), true, true) => sized!(form.size, alu::mi, OP, true),
        (Some(0), true, false) => sized!(form.size, alu::mi, OP, false),
        (Some(0), false, true) => sized!(form.size, alu::mr, OP, true),
        (Some(0), false, false) => sized!(form.size, alu::mr, OP, false),
        (Some(_), ..) => sized!(form.size, alu::rm, OP),
        (None, true, _) => sized!(form.size, alu::ri, OP),
        (None, false, _) => sized!(form.size, alu::rr, OP),
    }
}

fn mov(form: &Form) -> Exec {
    match (form.memory, form.immediate) {
        (Some(0), true) => sized!(form.size, alu::mov_mi),
        (Some(0), false) => sized!(form.size, alu::mov_mr),
        (Some(_), _) => sized!(form.size, alu::mov_rm),
        (None, true) => sized!(form.size, alu::mov_ri),
        (None, false) => sized!(form.size, alu::mov_rr),
    }
}

/// A shift or rotate by an immediate (that of the short forms, 1, is an operand too) or by CL.
fn shift<const OP: u8>(form: &Form) -> Exec {
    if form.cl { sized!(form.size, alu::shift_cl, OP) } else { sized!(form.size, alu::shift_imm, OP) }
}

fn double_shift<const LEFT: bool>(form: &Form) -> Exec {
    if form.cl {
        sized!(form.size, alu::double_shift, LEFT, true)
    } else {
        sized!(form.size, alu::double_shift, LEFT, false)
    }
}

fn bit<const KIND: u8>(form: &Form) -> Exec {
    if form.immediate { sized!(form.size, alu::bit_imm, KIND) } else { sized!(form.size, alu::bit_reg, KIND) }
}

/// A conversion from operand 1's size to operand 0's.
macro_rules! widening {
    ($form:expr, $module:ident :: $name:ident) => {
        match ($form.size, $form.source) {
            (2, 1) => $module::$name::<u16, u8> as Exec,
            (4, 1) => $module::$name::<u32, u8>,
            (8, 1) => $module::$name::<u64, u8>,
            (2, 2) => $module::$name::<u16, u16>,
            (4, 2) => $module::$name::<u32, u16>,
            (8, 2) => $module::$name::<u64, u16>,
            (4, 4) => $module::$name::<u32, u32>,
            (8, 4) => $module::$name::<u64, u32>,
            _ => return None,
        }
    };
}

fn crc32(form: &Form) -> Exec {
    match form.source {
        1 => bits::crc32::<u8>,
        2 => bits::crc32::<u16>,
        4 => bits::crc32::<u32>,
        _ => bits::crc32::<u64>,
    }
}

/// The executor of `code`; `None` when it is not of this table.
pub(super) fn lookup(code: Code, from: &Instruction) -> Option<Exec> {
    match code.mnemonic() {
        M::Cbw => return Some(alu::convert::<u16, u8>),
        M::Cwde => return Some(alu::convert::<u32, u16>),
        M::Cdqe => return Some(alu::convert::<u64, u32>),
        M::Cwd => return Some(alu::spread::<u16>),
        M::Cdq => return Some(alu::spread::<u32>),
        M::Cqo => return Some(alu::spread::<u64>),
        _ => {}
    }
    let form = &Form::of(code, from)?;
    if let Some(condition) = (code.condition_code() as u8).checked_sub(1)
        && !code.is_jcc_short_or_near()
    {
        return Some(match (form.operands, form.size) {
            (1, 1) => conditional!(condition, alu::set),
            (2, 2) => conditional!(condition, alu::cmov, u16),
            (2, 4) => conditional!(condition, alu::cmov, u32),
            (2, 8) => conditional!(condition, alu::cmov, u64),
            _ => return None,
        });
    }
    Some(match code.mnemonic() {
        M::Add => binary::<0>(form),
        M::Or => binary::<1>(form),
        M::Adc => binary::<2>(form),
        M::Sbb => binary::<3>(form),
        M::And => binary::<4>(form),
        M::Sub => binary::<5>(form),
        M::Xor => binary::<6>(form),
        M::Cmp => binary::<7>(form),
        M::Test => binary::<8>(form),
        M::Mov => mov(form),
        M::Inc => sized!(form.size, alu::inc),
        M::Dec => sized!(form.size, alu::dec),
        M::Neg => sized!(form.size, alu::neg),
        M::Not => sized!(form.size, alu::not),
        M::Xchg => sized!(form.size, alu::xchg),
        M::Xadd => sized!(form.size, alu::xadd),
        M::Cmpxchg => sized!(form.size, alu::cmpxchg),
        M::Rol => shift::<0>(form),
        M::Ror => shift::<1>(form),
        M::Rcl => shift::<2>(form),
        M::Rcr => shift::<3>(form),
        M::Shl | M::Sal => shift::<4>(form),
        M::Shr => shift::<5>(form),
        M::Sar => shift::<7>(form),
        M::Shld => double_shift::<true>(form),
        M::Shrd => double_shift::<false>(form),
        M::Bt => bit::<0>(form),
        M::Bts => bit::<1>(form),
        M::Btr => bit::<2>(form),
        M::Btc => bit::<3>(form),
        M::Bsf => sized!(form.size, alu::scan, 0),
        M::Bsr => sized!(form.size, alu::scan, 1),
        M::Tzcnt => sized!(form.size, alu::scan, 2),
        M::Lzcnt => sized!(form.size, alu::scan, 3),
        M::Popcnt => sized!(form.size, alu::scan, 4),
        M::Mul => sized!(form.size, alu::mul, false),
        M::Imul => match form.operands {
            1 => sized!(form.size, alu::mul, true),
            2 => sized!(form.size, alu::imul2),
            _ => sized!(form.size, alu::imul3),
        },
        M::Div => sized!(form.size, alu::div, false),
        M::Idiv => sized!(form.size, alu::div, true),
        M::Lea => sized!(form.size, alu::lea),
        M::Bswap => sized!(form.size, alu::bswap),
        M::Movbe => sized!(form.size, alu::movbe),
        M::Movzx => widening!(form, alu::movzx),
        M::Movsx | M::Movsxd => widening!(form, alu::movsx),
        M::Bound => sized!(form.size, bits::bound),
        M::Crc32 => crc32(form),
        M::Adcx => sized!(form.size, bits::add_with, 0),
        M::Adox => sized!(form.size, bits::add_with, 1),
        M::Andn => sized!(form.size, bits::andn),
        M::Bextr if form.operands == 3 && !form.immediate => sized!(form.size, bits::bextr),
        M::Bzhi => sized!(form.size, bits::bzhi),
        M::Blsi => sized!(form.size, bits::lowest, 0),
        M::Blsmsk => sized!(form.size, bits::lowest, 1),
        M::Blsr => sized!(form.size, bits::lowest, 2),
        M::Mulx => sized!(form.size, bits::mulx),
        M::Pdep => sized!(form.size, bits::pdep),
        M::Pext => sized!(form.size, bits::pext),
        M::Rorx => sized!(form.size, bits::rorx),
        M::Shlx => sized!(form.size, bits::shift_free, 4),
        M::Shrx => sized!(form.size, bits::shift_free, 5),
        M::Sarx => sized!(form.size, bits::shift_free, 7),
        _ => return None,
    })
}
