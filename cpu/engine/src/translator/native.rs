//! Instructions that are executed as they are, with other registers and a checked host address.

use super::asm::*;
use super::classify::{ARITH, Kind, alignment, flags, is_wide};
use super::emit::{Emitter, FlagsIn};
use super::registers::{host, number, sized};
use super::stubs::{T0, T1};
use iced_x86::{Instruction, OpAccess, OpKind, Register};

impl Emitter<'_> {
    /// Emits `i` as it is, with what `change` does to it.
    pub(super) fn encode(&mut self, i: &Instruction) -> bool {
        let ok = self.encoder.encode(i, self.a.here()).is_ok();
        let bytes = self.encoder.take_buffer();
        if ok {
            self.a.bytes(&bytes);
        }
        self.give_back(bytes);
        ok
    }

    /// The encoder's memory is used again.
    fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.encoder.set_buffer(bytes);
    }

    /// Re-encodes instruction `n`; false (and nothing emitted) when that cannot be done.
    pub(super) fn native(&mut self, n: usize, live: u32, live_after: u32) -> bool {
        let original = self.source.instructions[n];
        let mut i = original;
        let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
        let mut access = OpAccess::None;
        let mut operand_access = [OpAccess::None; 5];
        {
            let info = self.info.info(&original);
            for (k, a) in operand_access.iter_mut().enumerate() {
                *a = info.op_access(k as u32);
            }
            match info.used_memory() {
                [] if !memory => {}
                [one] if memory => access = one.access(),
                _ => return false,
            }
        }
        let size = original.memory_size().size() as u32;
        if memory && (size == 0 || size > 64) {
            return false;
        }
        // Registers that are kept in memory go through temporaries; with a memory operand one is left.
        let free: &[Reg] = if memory { &[T1] } else { &[T1, T0] };
        let mut held: Vec<(u8, Reg, bool, bool)> = Vec::new();
        for k in 0..i.op_count() {
            if i.op_kind(k) != OpKind::Register {
                continue;
            }
            let r = i.op_register(k);
            let Some(guest) = number(r) else { continue };
            let target = match host(guest) {
                Some(h) => h,
                None => match held.iter().position(|h| h.0 == guest) {
                    Some(at) => held[at].1,
                    None => match free.get(held.len()) {
                        Some(t) => {
                            held.push((guest, *t, false, false));
                            *t
                        }
                        None => return false,
                    },
                },
            };
            if let Some(h) = held.iter_mut().find(|h| h.0 == guest) {
                let a = operand_access[k as usize];
                let whole = a == OpAccess::Write && r.size() >= 4;
                h.2 |= !whole;
                h.3 |= matches!(
                    a,
                    OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
                );
            }
            i.set_op_register(k, sized(target, r));
        }
        let grouped = self.operand_in_group(n);
        let spanned = self.operand_in_span(n);
        if memory {
            let (base, index, disp) = match (grouped, spanned) {
                (Some(disp), _) => (Register::R9, Register::R10, disp),
                (None, Some(disp)) => (Register::R10, Register::None, disp),
                (None, None) => (Register::R10, Register::None, 0),
            };
            i.set_memory_base(base);
            i.set_memory_index(index);
            i.set_memory_index_scale(1);
            i.set_memory_displacement64(i64::from(disp) as u64);
            i.set_memory_displ_size(match disp {
                0 => 0,
                _ if i8::try_from(disp).is_ok() => 1,
                _ => 8,
            });
            i.set_segment_prefix(Register::None);
        }
        // Whether it can be encoded at all, before anything is emitted.
        let encodable = self.encoder.encode(&i, 0).is_ok();
        let code = self.encoder.take_buffer();
        if !encodable {
            self.give_back(code);
            return false;
        }
        let (read, written) = flags(&original, Kind::Native);
        // Flags that it leaves as they are have to be where it writes the others.
        let needs = read != 0 || written != 0 && live_after & !written != 0;
        let x87 = super::x87::concerns(&original);
        let wide = is_wide(&original);
        let mut back = None;
        if memory {
            let before = self.a.code.len();
            let stack = stack_offset(&original).filter(|_| size <= 8 && !x87);
            let found = grouped.is_some() || spanned.is_some() || stack.is_some();
            if !found && !self.address(&original) || x87 && !self.note_operand(&original) {
                self.a.code.truncate(before);
                return false;
            }
            if x87 && !self.fpu {
                self.a.code.truncate(before);
                self.need_fpu(live);
                self.address(&original);
                self.note_operand(&original);
            }
            if wide && !self.wide {
                // T0 keeps what it holds, T1 does not.
                self.a.code.truncate(before);
                self.need_wide(live);
                if !found {
                    self.address(&original);
                }
            }
            let write = matches!(
                access,
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if !write && !matches!(access, OpAccess::Read | OpAccess::CondRead) {
                self.a.code.truncate(before);
                return false;
            }
            back = Some(match stack {
                _ if grouped.is_some() => {
                    self.in_group(n, live);
                    self.a.label()
                }
                _ if spanned.is_some() => {
                    self.reach_span(n);
                    self.a.label()
                }
                Some(disp) => self.check_stack(n, disp, live),
                None => self.check(n, size, write, live, alignment(&original)),
            });
        }
        if wide && !memory {
            self.need_wide(live);
        }
        if x87 && !memory {
            self.need_fpu(live);
        }
        if needs {
            self.need_flags();
        }
        for h in held.iter().filter(|h| h.2) {
            self.a.load(h.1, self.slots.gpr(h.0));
        }
        self.a.bytes(&code);
        self.give_back(code);
        for h in held.iter().filter(|h| h.3) {
            self.a.store(self.slots.gpr(h.0), h.1);
        }
        if x87 {
            self.remember(&original);
        }
        if written != 0 || read == ARITH {
            let recipe = super::recipe::of(n, &original);
            self.flags = FlagsIn { recipe, ..FlagsIn::RFLAGS };
        }
        if let Some(back) = back {
            self.a.bind(back);
        }
        true
    }
}

/// The displacement of a memory operand that is found from RSP alone.
pub(super) fn stack_offset(i: &Instruction) -> Option<i32> {
    let plain = i.memory_base() == Register::RSP
        && i.memory_index() == Register::None
        && !matches!(i.memory_segment(), Register::FS | Register::GS);
    i32::try_from(i.memory_displacement64().cast_signed()).ok().filter(|_| plain)
}
