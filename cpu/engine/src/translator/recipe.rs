//! Flags that are made again only where somebody asks for them.
//!
//! Most arithmetic flags are overwritten unread, but a frame of an exception would show them. Instead of saving them
//! before a check of a memory operand destroys RFLAGS, the slow path makes them again from the registers that they
//! came from, as long as these have not changed.

use super::asm::*;
use super::emit::Emitter;
use super::registers::{host, number, sized};
use super::stubs::T1;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};

/// How to make the flags that an instruction has left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The instruction's number in the block.
    n: usize,
    form: Form,
    /// Guest registers (bit = number) that must not change.
    pub(super) registers: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// CMP and TEST: once more.
    Repeat,
    /// Those of a register minus itself.
    Zero,
    /// AND, OR, XOR: from the result.
    Result,
    /// ADD and SUB: undone and repeated, aside.
    Undo,
}

/// How the flags after instruction `n`, which is `i`, can be made later.
pub(super) fn of(n: usize, i: &Instruction) -> Option<Recipe> {
    use Mnemonic as M;
    let mut registers = 0;
    for k in 0..i.op_count() {
        match i.op_kind(k) {
            OpKind::Register => {
                let guest = number(i.op_register(k)).filter(|&r| host(r).is_some())?;
                registers |= 1 << guest;
            }
            OpKind::Memory => return None,
            _ => {}
        }
    }
    let same = i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register();
    let wide = i.op0_register().size() >= 4;
    let form = match i.mnemonic() {
        M::Cmp | M::Test => Form::Repeat,
        M::Xor | M::Sub if same => {
            registers = 0;
            Form::Zero
        }
        M::And | M::Or | M::Xor if wide => {
            registers = 1 << number(i.op0_register())?;
            Form::Result
        }
        M::Add | M::Sub if wide && !same && (i.op1_kind() == OpKind::Register || amount(i).is_some()) => {
            Form::Undo
        }
        _ => return None,
    };
    Some(Recipe { n, form, registers })
}

/// The constant that `i` adds or subtracts, when its negative fits too.
fn amount(i: &Instruction) -> Option<i32> {
    let v = i.immediate(1).cast_signed();
    let v = if i.op0_register().size() == 4 { i64::from(v as i32) } else { v };
    i32::try_from(v).ok().filter(|v| *v != i32::MIN)
}

/// Guest general registers (bit = number) that `i` writes.
pub(super) fn changed_registers(info: &mut InstructionInfoFactory, i: &Instruction) -> u16 {
    info.info(i).used_registers().iter().fold(0, |all, used| {
        use OpAccess as A;
        let written = matches!(used.access(), A::Write | A::CondWrite | A::ReadWrite | A::ReadCondWrite);
        let r = used.register();
        if written && r.is_gpr() { all | 1 << (r.full_register().number() & 15) } else { all }
    })
}

impl Emitter<'_> {
    /// Makes the flags in RFLAGS; T1 is lost.
    pub(super) fn make_flags(&mut self, recipe: Recipe) {
        let i = self.source.instructions[recipe.n];
        let of = |k| number(i.op_register(k)).and_then(host).unwrap_or(T1);
        let wide = i.op0_register().size() == 8;
        match recipe.form {
            Form::Repeat => {
                let mut again = i;
                for k in (0..i.op_count()).filter(|k| i.op_kind(*k) == OpKind::Register) {
                    again.set_op_register(k, sized(of(k), i.op_register(k)));
                }
                self.encode(&again);
            }
            Form::Zero => self.a.alu(false, CMP_RR, T1, T1),
            Form::Result => self.a.alu(wide, TEST_RR, of(0), of(0)),
            Form::Undo => {
                let add = i.mnemonic() == Mnemonic::Add;
                if i.op1_kind() == OpKind::Register {
                    let (undo, redo) = if add { (SUB_RR, ADD_RR) } else { (ADD_RR, SUB_RR) };
                    self.a.mov(T1, of(0));
                    self.a.alu(wide, undo, T1, of(1));
                    self.a.alu(wide, redo, T1, of(1));
                } else {
                    let v = amount(&i).unwrap_or(0);
                    let (back, op) = if add { (-v, ADD) } else { (v, SUB) };
                    if wide {
                        self.a.lea(T1, of(0), back)
                    } else {
                        self.a.lea32(T1, of(0), back)
                    }
                    self.a.alu_imm32(wide, op, T1, v);
                }
            }
        }
    }
}
