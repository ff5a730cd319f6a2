//! PUSH, POP and the pushes of calls.

use super::asm::*;
use super::emit::{ColdPath, Emitter};
use super::registers::{host, number};
use super::stubs::{GUEST_RSP, T0, T1};
use iced_x86::OpKind;

impl Emitter<'_> {
    /// Bytes of a pointer and of what PUSH and POP move.
    pub(super) fn width(&self) -> u32 {
        u32::from(self.source.bits / 8)
    }

    /// `to = from + disp`, wrapped as pointers are; flags untouched.
    pub(super) fn add_pointer(&mut self, to: Reg, from: Reg, disp: i32) {
        match (self.source.bits, disp) {
            (32, _) => self.a.lea32(to, from, disp),
            (_, 0) => self.a.mov(to, from),
            _ => self.a.lea(to, from, disp),
        }
    }

    /// Loads a value of a pointer's size.
    pub(super) fn load_word(&mut self, to: Reg, mem: Mem) {
        if self.source.bits == 32 { self.a.load32(to, mem) } else { self.a.load(to, mem) }
    }

    pub(super) fn store_word(&mut self, mem: Mem, from: Reg) {
        if self.source.bits == 32 { self.a.store32(mem, from) } else { self.a.store(mem, from) }
    }

    pub(super) fn store_word_imm(&mut self, mem: Mem, v: i32) {
        if self.source.bits == 32 { self.a.store_imm32(mem, v) } else { self.a.store_imm(mem, v) }
    }

    /// As [`Emitter::check`] for 8 bytes at RSP plus `disp`, read or written, by way of the stack's page.
    pub(super) fn check_stack(&mut self, n: usize, disp: i32, live: u32) -> Label {
        let (slow, back) = (self.a.label(), self.a.label());
        self.translate_stack(slow, disp, live);
        self.push_cold(slow, Some(back), ColdPath::Run(n));
        back
    }

    /// The same for the last instruction of the block.
    pub(super) fn check_stack_or_end(&mut self, n: usize, disp: i32, live: u32) {
        let slow = self.a.label();
        self.translate_stack(slow, disp, live);
        self.push_cold(slow, None, ColdPath::RunEnd(n));
    }

    /// Puts the host address of up to 8 bytes at RSP plus `disp` into T0.
    pub(super) fn translate_stack(&mut self, slow: Label, disp: i32, live: u32) {
        let (other, found) = (self.a.label(), self.a.label());
        self.give_up_rflags(live);
        self.add_pointer(T0, GUEST_RSP, disp);
        self.a.xor(T0, self.slots.stack_tag);
        self.a.cmp(T0, self.slots.stack_limit);
        self.a.jcc(CC_AE, other);
        self.a.add(T0, self.slots.stack_host);
        self.a.bind(found);
        self.push_cold(other, Some(found), ColdPath::Stack(slow));
    }

    pub(super) fn push(&mut self, n: usize, live: u32) {
        let i = self.source.instructions[n];
        let grouped = self.in_group(n, live);
        let back = if grouped { self.a.label() } else { self.check_stack(n, -(self.width() as i32), live) };
        let to = if grouped { self.at_rsp(-8) } else { Mem::Base(T0, 0) };
        if i.op0_kind() == OpKind::Register {
            let from = number(i.op0_register()).unwrap_or(0);
            let r = host(from).unwrap_or(T1);
            if r == T1 {
                self.a.load(T1, self.slots.gpr(from));
            }
            self.store_word(to, r);
        } else {
            self.store_word_imm(to, i.immediate(0) as i32);
        }
        if grouped {
            self.behind -= 8;
        } else {
            self.add_pointer(GUEST_RSP, GUEST_RSP, -(self.width() as i32));
        }
        self.a.bind(back);
    }

    /// PUSH from memory; false (and nothing emitted) when the address cannot be computed here.
    pub(super) fn push_memory(&mut self, n: usize, live: u32) -> bool {
        let i = self.source.instructions[n];
        let before = self.a.code.len();
        if !self.address(&i) {
            self.a.code.truncate(before);
            return false;
        }
        let from = self.check(n, 8, false, live, 1);
        self.a.load(T0, Mem::Base(T0, 0));
        self.a.store(self.slots.temp2, T0);
        let to = self.check_stack(n, -8, live);
        self.a.load(T1, self.slots.temp2);
        self.a.store(Mem::Base(T0, 0), T1);
        self.a.lea(GUEST_RSP, GUEST_RSP, -8);
        self.a.bind(from);
        self.a.bind(to);
        true
    }

    /// Pushes the return address of the call that is instruction `n`.
    pub(super) fn push_constant(&mut self, n: usize, value: u64, live: u32) {
        let call = self.kinds[n] == super::classify::Kind::Call;
        let grouped = call && self.in_group(n, live);
        let to = if grouped {
            self.at_rsp(-8)
        } else {
            self.check_stack_or_end(n, -(self.width() as i32), live);
            Mem::Base(T0, 0)
        };
        match i32::try_from(value.cast_signed()) {
            _ if self.source.shared => {
                self.rip(T1, value);
                self.a.store(to, T1);
            }
            _ if self.source.bits == 32 => self.a.store_imm32(to, value as i32),
            Ok(v) => self.a.store_imm(to, v),
            Err(_) => {
                self.a.imm(T1, value);
                self.a.store(to, T1);
            }
        }
        if grouped {
            self.behind -= 8;
        } else {
            self.add_pointer(GUEST_RSP, GUEST_RSP, -(self.width() as i32));
        }
    }
}
