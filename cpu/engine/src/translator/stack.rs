//! PUSH, POP and the pushes of calls.

use super::asm::*;
use super::emit::Emitter;
use super::registers::{host, number};
use super::stubs::{GUEST_RSP, T0, T1};
use iced_x86::OpKind;

impl Emitter<'_> {
    pub(super) fn check_stack(&mut self, n: usize, disp: i32, size: u32, write: bool, live: u32) -> Label {
        self.a.lea(T0, GUEST_RSP, disp);
        self.check(n, size, write, live, 1)
    }

    pub(super) fn push(&mut self, n: usize, live: u32) {
        let i = self.source.instructions[n];
        let back = self.check_stack(n, -8, 8, true, live);
        if i.op0_kind() == OpKind::Register {
            let from = number(i.op0_register()).unwrap_or(0);
            let r = host(from).unwrap_or(T1);
            if r == T1 {
                self.a.load(T1, self.slots.gpr(from));
            }
            self.a.store(Mem::Base(T0, 0), r);
        } else {
            self.a.store_imm(Mem::Base(T0, 0), i.immediate(0) as i32);
        }
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
        self.a.bind(back);
    }

    /// Pushes the return address of the call that is instruction `n`.
    pub(super) fn push_constant(&mut self, n: usize, value: u64, live: u32) {
        self.a.lea(T0, GUEST_RSP, -8);
        self.check_or_end(n, 8, true, live);
        match i32::try_from(value.cast_signed()) {
            Ok(v) => self.a.store_imm(Mem::Base(T0, 0), v),
            Err(_) => {
                self.a.imm(T1, value);
                self.a.store(Mem::Base(T0, 0), T1);
            }
        }
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
    }
}
