//! A small assembler for the fixed sequences around translated instructions (SDM vol. 2, chapter 2).

use crate::options::Without;

/// Number of a host general register.
pub(super) type Reg = u8;
pub(super) const RAX: Reg = 0;
pub(super) const RCX: Reg = 1;
pub(super) const RDX: Reg = 2;
pub(super) const RBX: Reg = 3;
pub(super) const RSP: Reg = 4;
pub(super) const RBP: Reg = 5;
pub(super) const RSI: Reg = 6;
pub(super) const RDI: Reg = 7;
pub(super) const R9: Reg = 9;
pub(super) const R10: Reg = 10;
pub(super) const R11: Reg = 11;

/// A memory operand.
#[derive(Clone, Copy)]
pub(super) enum Mem {
    /// A field of the processor: GS base plus offset.
    Cpu(u32),
    /// Register plus displacement.
    Base(Reg, i32),
    /// Two registers, neither of them RSP as the second, plus displacement.
    Sum(Reg, Reg, i32),
}

/// Condition codes as encoded.
pub(super) const CC_E: u8 = 4;
pub(super) const CC_NE: u8 = 5;
pub(super) const CC_A: u8 = 7;
pub(super) const CC_AE: u8 = 3;
pub(super) const CC_B: u8 = 2;
pub(super) const CC_BE: u8 = 6;

/// Opcodes `op r/m, r`.
pub(super) const MOV: u8 = 0x89;
pub(super) const OR_RR: u8 = 0x09;
pub(super) const AND_RR: u8 = 0x21;
pub(super) const ADD_RR: u8 = 0x01;
pub(super) const SUB_RR: u8 = 0x29;
pub(super) const TEST_RR: u8 = 0x85;
pub(super) const CMP_RR: u8 = 0x39;
/// Extension of opcode 83.
pub(super) const CMP: Reg = 7;
pub(super) const OR: Reg = 1;
pub(super) const ADD: Reg = 0;
pub(super) const SUB: Reg = 5;

/// Whether RORX is used.
pub(super) fn has_bmi2(without: &Without) -> bool {
    !without.bmi2 && is_x86_feature_detected!("bmi2")
}

/// A place in the code that jumps lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Machine code that will run at `origin`.
pub(super) struct Assembler {
    pub(super) code: Vec<u8>,
    origin: u64,
    bmi2: bool,
    labels: Vec<Option<usize>>,
    fixups: Vec<(usize, Label)>,
    /// From this offset on the code will run at that address.
    cold: (usize, u64),
}

impl Assembler {
    pub(super) fn new(origin: u64, bmi2: bool) -> Self {
        Self {
            code: Vec::with_capacity(1024),
            origin,
            bmi2,
            labels: Vec::new(),
            fixups: Vec::new(),
            cold: (usize::MAX, 0),
        }
    }

    /// Begins anew, with the memory that there is.
    pub(super) fn restart(&mut self, origin: u64, bmi2: bool) {
        self.code.clear();
        self.labels.clear();
        self.fixups.clear();
        (self.origin, self.bmi2, self.cold) = (origin, bmi2, (usize::MAX, 0));
    }

    /// Address of the next byte.
    pub(super) fn here(&self) -> u64 {
        self.address(self.code.len())
    }

    fn address(&self, offset: usize) -> u64 {
        let (start, origin) = self.cold;
        if offset < start { self.origin + offset as u64 } else { origin + (offset - start) as u64 }
    }

    /// What follows will run at `origin`, away from what was emitted before.
    pub(super) fn go_cold(&mut self, origin: u64) {
        self.cold = (self.code.len(), origin);
    }

    /// The code before and after [`Assembler::go_cold`].
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.code.split_at(self.cold.0.min(self.code.len()))
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts `label` here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Where `label` will be.
    pub(super) fn address_of(&self, label: Label) -> Option<u64> {
        self.labels[label.0].map(|offset| self.address(offset))
    }

    /// Fills in the jumps to labels.
    pub(super) fn finish(&mut self) {
        for n in 0..self.fixups.len() {
            let (at, label) = self.fixups[n];
            let to = self.labels[label.0].unwrap_or(at + 4);
            let distance = self.address(to).wrapping_sub(self.address(at) + 4) as i32;
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.fixups.clear();
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn imm32(&mut self, v: i32) {
        self.bytes(&v.to_le_bytes());
    }

    /// `[66/F2/F3 prefix] [REX]` opcode ModRM for a memory operand.
    fn op_mem(&mut self, prefix: u8, w: bool, opcode: &[u8], reg: Reg, mem: Mem) {
        if matches!(mem, Mem::Cpu(_)) {
            self.code.push(0x65);
        }
        if prefix != 0 {
            self.code.push(prefix);
        }
        let (base, index) = match mem {
            Mem::Cpu(_) => (0, 0),
            Mem::Base(base, _) => (base, 0),
            Mem::Sum(base, index, _) => (base, index),
        };
        let rex = 0x40 | u8::from(w) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0x40 {
            self.code.push(rex);
        }
        self.bytes(opcode);
        self.modrm(reg, mem);
    }

    fn modrm(&mut self, reg: Reg, mem: Mem) {
        match mem {
            Mem::Cpu(offset) => {
                self.bytes(&[(reg & 7) << 3 | 4, 0x25]);
                self.imm32(offset as i32);
            }
            Mem::Sum(base, index, disp) => {
                let size = if i8::try_from(disp).is_ok() { 0x40 } else { 0x80 };
                self.bytes(&[size | (reg & 7) << 3 | 4, (index & 7) << 3 | base & 7]);
                self.displacement(disp);
            }
            Mem::Base(base, disp) => {
                let size = if i8::try_from(disp).is_ok() { 0x40 } else { 0x80 };
                self.code.push(size | (reg & 7) << 3 | base & 7);
                if base & 7 == 4 {
                    self.code.push(0x24);
                }
                self.displacement(disp);
            }
        }
    }

    /// In one byte where that does.
    fn displacement(&mut self, disp: i32) {
        match i8::try_from(disp) {
            Ok(small) => self.code.push(small as u8),
            Err(_) => self.imm32(disp),
        }
    }

    fn op_reg(&mut self, w: bool, opcode: &[u8], reg: Reg, rm: Reg) {
        let rex = 0x40 | u8::from(w) << 3 | (reg >> 3) << 2 | rm >> 3;
        if rex != 0x40 {
            self.code.push(rex);
        }
        self.bytes(opcode);
        self.code.push(0xc0 | (reg & 7) << 3 | rm & 7);
    }

    pub(super) fn mov(&mut self, to: Reg, from: Reg) {
        self.op_reg(true, &[0x89], from, to);
    }

    /// `op to, from` with an opcode of the form `op r/m, r`; `w`: 64 bits.
    pub(super) fn alu(&mut self, w: bool, opcode: u8, to: Reg, from: Reg) {
        self.op_reg(w, &[opcode], from, to);
    }

    /// Opcode 83 with extension `op`.
    pub(super) fn alu_imm8(&mut self, w: bool, op: Reg, to: Reg, v: i8) {
        self.op_reg(w, &[0x83], op, to);
        self.code.push(v as u8);
    }

    /// Opcode 81 with extension `op`.
    pub(super) fn alu_imm32(&mut self, w: bool, op: Reg, to: Reg, v: i32) {
        self.op_reg(w, &[0x81], op, to);
        self.imm32(v);
    }

    /// `sar to, bits`.
    pub(super) fn sar_imm(&mut self, w: bool, to: Reg, bits: u8) {
        self.op_reg(w, &[0xc1], 7, to);
        self.code.push(bits);
    }

    pub(super) fn load(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x8b], to, mem);
    }

    pub(super) fn load32(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, false, &[0x8b], to, mem);
    }

    pub(super) fn load16z(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, false, &[0x0f, 0xb7], to, mem);
    }

    /// `test dword [mem], r`.
    pub(super) fn test32(&mut self, mem: Mem, r: Reg) {
        self.op_mem(0, false, &[0x85], r, mem);
    }

    pub(super) fn store(&mut self, mem: Mem, from: Reg) {
        self.op_mem(0, true, &[0x89], from, mem);
    }

    pub(super) fn store16(&mut self, mem: Mem, from: Reg) {
        self.op_mem(0x66, false, &[0x89], from, mem);
    }

    pub(super) fn store32(&mut self, mem: Mem, from: Reg) {
        self.op_mem(0, false, &[0x89], from, mem);
    }

    pub(super) fn store_imm32(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, false, &[0xc7], 0, mem);
        self.imm32(v);
    }

    /// Stores a sign-extended constant as 64 bits.
    pub(super) fn store_imm(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, true, &[0xc7], 0, mem);
        self.imm32(v);
    }

    pub(super) fn lea(&mut self, to: Reg, base: Reg, disp: i32) {
        self.op_mem(0, true, &[0x8d], to, Mem::Base(base, disp));
    }

    /// `to = base + disp` in 32 bits.
    pub(super) fn lea32(&mut self, to: Reg, base: Reg, disp: i32) {
        self.op_mem(0, false, &[0x8d], to, Mem::Base(base, disp));
    }

    /// `to = a + b`, flags untouched.
    pub(super) fn lea_sum(&mut self, to: Reg, a: Reg, b: Reg) {
        self.sum(0x48, to, a, b);
    }

    /// The same in 32 bits.
    pub(super) fn lea_sum32(&mut self, to: Reg, a: Reg, b: Reg) {
        self.sum(0x40, to, a, b);
    }

    fn sum(&mut self, rex: u8, to: Reg, a: Reg, b: Reg) {
        // [a + b*1 + disp8]: the form with a displacement has no exceptions among bases; RSP is never an index here.
        let rex = rex | (to >> 3) << 2 | (b >> 3) << 1 | a >> 3;
        self.bytes(&[rex, 0x8d, 0x44 | (to & 7) << 3, (b & 7) << 3 | a & 7, 0]);
    }

    /// Loads a constant in its shortest form; flags untouched.
    pub(super) fn imm(&mut self, to: Reg, v: u64) {
        if u32::try_from(v).is_ok() {
            if to >= 8 {
                self.code.push(0x41);
            }
            self.code.push(0xb8 | to & 7);
            self.imm32(v as i32);
        } else if i32::try_from(v.cast_signed()).is_ok() {
            self.op_reg(true, &[0xc7], 0, to);
            self.imm32(v as i32);
        } else {
            self.bytes(&[0x48 | to >> 3, 0xb8 | to & 7]);
            self.bytes(&v.to_le_bytes());
        }
    }

    pub(super) fn add(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x03], to, mem);
    }

    pub(super) fn xor(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x33], to, mem);
    }

    pub(super) fn cmp(&mut self, a: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x3b], a, mem);
    }

    pub(super) fn and32_imm(&mut self, to: Reg, v: i32) {
        self.op_reg(false, &[0x81], 4, to);
        self.imm32(v);
    }

    /// `xor` of the low 32 bits; the upper become 0.
    pub(super) fn xor32(&mut self, to: Reg, from: Reg) {
        self.op_reg(false, &[0x31], from, to);
    }

    /// `shl` of the low 32 bits; the upper become 0.
    pub(super) fn shl32(&mut self, to: Reg, bits: u8) {
        self.op_reg(false, &[0xc1], 4, to);
        self.code.push(bits);
    }

    pub(super) fn and_imm(&mut self, to: Reg, v: i32) {
        self.op_reg(true, &[0x81], 4, to);
        self.imm32(v);
    }

    pub(super) fn xor_imm8(&mut self, to: Reg, v: i8) {
        self.op_reg(true, &[0x83], 6, to);
        self.code.push(v as u8);
    }

    pub(super) fn or(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x0b], to, mem);
    }

    pub(super) fn sub(&mut self, to: Reg, mem: Mem) {
        self.op_mem(0, true, &[0x2b], to, mem);
    }

    pub(super) fn shr(&mut self, to: Reg, bits: u8) {
        self.op_reg(true, &[0xc1], 5, to);
        self.code.push(bits);
    }

    /// `to *= v`.
    pub(super) fn imul_imm(&mut self, to: Reg, v: i32) {
        self.op_reg(true, &[0x69], to, to);
        self.imm32(v);
    }

    pub(super) fn store8_imm(&mut self, mem: Mem, v: u8) {
        self.op_mem(0, false, &[0xc6], 0, mem);
        self.code.push(v);
    }

    pub(super) fn shl(&mut self, to: Reg, bits: u8) {
        self.op_reg(true, &[0xc1], 4, to);
        self.code.push(bits);
    }

    pub(super) fn not(&mut self, to: Reg) {
        self.op_reg(true, &[0xf7], 2, to);
    }

    /// `test` of the low 32 bits.
    pub(super) fn test_imm32(&mut self, a: Reg, v: i32) {
        self.op_reg(false, &[0xf7], 0, a);
        self.imm32(v);
    }

    /// `or` of the upper 16 of the 64 bits at `mem`.
    pub(super) fn or_top(&mut self, mem: Mem, v: i8) {
        let top = match mem {
            Mem::Cpu(at) => Mem::Cpu(at + 6),
            Mem::Base(base, at) => Mem::Base(base, at + 6),
            Mem::Sum(base, index, at) => Mem::Sum(base, index, at + 6),
        };
        self.op_mem(0x66, false, &[0x83], 1, top);
        self.code.push(v as u8);
    }

    /// `and qword [mem], v`.
    pub(super) fn and_mem(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, true, &[0x81], 4, mem);
        self.imm32(v);
    }

    /// `and dword [mem], v`.
    pub(super) fn and_mem32(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, false, &[0x81], 4, mem);
        self.imm32(v);
    }

    /// `or qword [mem], v`.
    pub(super) fn or_mem(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, true, &[0x81], 1, mem);
        self.imm32(v);
    }

    /// `or dword [mem], v`.
    pub(super) fn or_mem32(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, false, &[0x81], 1, mem);
        self.imm32(v);
    }

    /// `add qword [mem], v`.
    pub(super) fn add_mem(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, true, &[0x81], 0, mem);
        self.imm32(v);
    }

    /// `test dword [mem], v`.
    pub(super) fn test_mem32(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, false, &[0xf7], 0, mem);
        self.imm32(v);
    }

    pub(super) fn cmp_imm(&mut self, a: Reg, v: i32) {
        self.op_reg(true, &[0x81], 7, a);
        self.imm32(v);
    }

    /// `test` of the low byte of R8 to R15.
    pub(super) fn test8_imm(&mut self, a: Reg, v: u8) {
        self.bytes(&[0x41, 0xf6, 0xc0 | a & 7, v]);
    }

    /// `sub dword [mem], v`.
    pub(super) fn sub32_mem(&mut self, mem: Mem, v: i8) {
        self.op_mem(0, false, &[0x83], 5, mem);
        self.code.push(v as u8);
    }

    /// `cmp dword [mem], v`.
    pub(super) fn cmp32_mem(&mut self, mem: Mem, v: i32) {
        self.op_mem(0, false, &[0x81], 7, mem);
        self.imm32(v);
    }

    /// `to = from rotated right`; the flags are lost.
    pub(super) fn rotate(&mut self, to: Reg, from: Reg, bits: u8) {
        if !self.bmi2 {
            self.mov(to, from);
            self.op_reg(true, &[0xc1], 1, to);
            self.code.push(bits);
            return;
        }
        let r = if to & 8 == 0 { 0x80 } else { 0 };
        let b = if from & 8 == 0 { 0x20 } else { 0 };
        self.bytes(&[0xc4, r | 0x40 | b | 3, 0xfb, 0xf0, 0xc0 | (to & 7) << 3 | from & 7, bits]);
    }

    pub(super) fn jmp_to(&mut self, target: u64) {
        self.code.push(0xe9);
        self.rel(target);
    }

    pub(super) fn call_to(&mut self, target: u64) {
        self.code.push(0xe8);
        self.rel(target);
    }

    fn rel(&mut self, target: u64) {
        let next = self.here() + 4;
        self.imm32(target.wrapping_sub(next) as i32);
    }

    pub(super) fn jmp(&mut self, label: Label) {
        self.code.push(0xe9);
        self.fixups.push((self.code.len(), label));
        self.imm32(0);
    }

    pub(super) fn call(&mut self, label: Label) {
        self.code.push(0xe8);
        self.fixups.push((self.code.len(), label));
        self.imm32(0);
    }

    pub(super) fn jcc(&mut self, cc: u8, label: Label) {
        self.bytes(&[0x0f, 0x80 | cc]);
        self.fixups.push((self.code.len(), label));
        self.imm32(0);
    }

    /// `jmp [mem]`.
    pub(super) fn jmp_mem(&mut self, mem: Mem) {
        self.op_mem(0, false, &[0xff], 4, mem);
    }

    pub(super) fn call_reg(&mut self, r: Reg) {
        self.op_reg(false, &[0xff], 2, r);
    }

    pub(super) fn push(&mut self, r: Reg) {
        if r >= 8 {
            self.code.push(0x41);
        }
        self.code.push(0x50 | r & 7);
    }

    pub(super) fn pop(&mut self, r: Reg) {
        if r >= 8 {
            self.code.push(0x41);
        }
        self.code.push(0x58 | r & 7);
    }

    /// `lahf; seto al`: the arithmetic flags into AX.
    pub(super) fn flags_to_ax(&mut self) {
        self.bytes(&[0x9f, 0x0f, 0x90, 0xc0]);
    }

    /// `add al, 0x7f; sahf`: the arithmetic flags from AX.
    pub(super) fn flags_from_ax(&mut self) {
        self.bytes(&[0x04, 0x7f, 0x9e]);
    }

    /// VMOVUPS YMM (`avx`) or MOVUPS XMM; `store`: to memory.
    pub(super) fn vector(&mut self, avx: bool, store: bool, n: u8, mem: Mem) {
        let opcode = 0x10 | u8::from(store);
        if avx {
            if matches!(mem, Mem::Cpu(_)) {
                self.code.push(0x65);
            }
            let base = if let Mem::Base(b, _) = mem { b } else { 0 };
            let r = if n & 8 == 0 { 0x80 } else { 0 };
            let b = if base & 8 == 0 { 0x20 } else { 0 };
            self.bytes(&[0xc4, r | 0x40 | b | 1, 0x7c, opcode]);
            self.modrm(n, mem);
        } else {
            self.op_mem(0, false, &[0x0f, opcode], n, mem);
        }
    }

    /// VMOVDQU64 ZMM; `store`: to the field.
    pub(super) fn wide_vector(&mut self, store: bool, n: u8, field: u32) {
        let r = if n & 8 == 0 { 0x80 } else { 0 };
        let high = if n & 16 == 0 { 0x10 } else { 0 };
        self.bytes(&[0x65, 0x62, r | high | 0x61, 0xfe, 0x48, if store { 0x7f } else { 0x6f }]);
        self.modrm(n, Mem::Cpu(field));
    }

    /// KMOVQ; `store`: to the field.
    pub(super) fn mask_register(&mut self, store: bool, n: u8, field: u32) {
        self.bytes(&[0x65, 0xc4, 0xe1, 0xf8, 0x90 | u8::from(store)]);
        self.modrm(n, Mem::Cpu(field));
    }

    /// FLDCW.
    pub(super) fn fldcw(&mut self, mem: Mem) {
        self.op_mem(0, false, &[0xd9], 5, mem);
    }

    /// XSAVE64.
    pub(super) fn xsave(&mut self, mem: Mem) {
        self.op_mem(0, true, &[0x0f, 0xae], 4, mem);
    }

    /// XRSTOR64.
    pub(super) fn xrstor(&mut self, mem: Mem) {
        self.op_mem(0, true, &[0x0f, 0xae], 5, mem);
    }

    /// LDMXCSR.
    pub(super) fn ldmxcsr(&mut self, mem: Mem) {
        self.op_mem(0, false, &[0x0f, 0xae], 2, mem);
    }

    /// STMXCSR.
    pub(super) fn stmxcsr(&mut self, mem: Mem) {
        self.op_mem(0, false, &[0x0f, 0xae], 3, mem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};

    fn text(build: impl FnOnce(&mut Assembler)) -> String {
        let mut a = Assembler::new(0x1000, true);
        build(&mut a);
        a.finish();
        let mut out = Vec::new();
        let mut formatter = GasFormatter::new();
        for i in &mut Decoder::with_ip(64, &a.code, 0x1000, DecoderOptions::NONE) {
            let mut s = String::new();
            formatter.format(&i, &mut s);
            out.push(s);
        }
        out.join("; ")
    }

    #[test]
    fn sequences_decode_to_what_was_meant() {
        assert_eq!(text(|a| a.load(R10, Mem::Cpu(0x80))), "mov %gs:0x80,%r10");
        assert_eq!(text(|a| a.store(Mem::Base(RSP, 8), R9)), "mov %r9,8(%rsp)");
        assert_eq!(text(|a| a.store(Mem::Sum(R9, R10, -8), 3)), "mov %rbx,-8(%r9,%r10)");
        assert_eq!(text(|a| a.store_imm(Mem::Sum(R9, R10, 16), 5)), "movq $5,0x10(%r9,%r10)");
        assert_eq!(text(|a| a.rotate(R11, R10, 7)), "rorx $7,%r10,%r11");
        assert_eq!(text(|a| a.lea_sum(R10, R10, R11)), "lea (%r10,%r11),%r10");
        assert_eq!(text(|a| a.lea(R9, R9, -8)), "lea -8(%r9),%r9");
        assert_eq!(text(|a| a.imm(R10, 0x1234)), "mov $0x1234,%r10d");
        assert_eq!(text(|a| a.imm(RAX, u64::MAX)), "mov $0xFFFFFFFFFFFFFFFF,%rax");
        assert_eq!(text(|a| a.imm(RBX, 1 << 40)), "movabs $0x10000000000,%rbx");
        assert_eq!(text(|a| a.vector(true, true, 9, Mem::Cpu(64))), "vmovups %ymm9,%gs:0x40");
        assert_eq!(text(|a| a.vector(false, false, 9, Mem::Base(RDI, 0))), "movups (%rdi),%xmm9");
        assert_eq!(text(|a| a.wide_vector(true, 9, 64)), "vmovdqu64 %zmm9,%gs:0x40");
        assert_eq!(text(|a| a.wide_vector(false, 23, 64)), "vmovdqu64 %gs:0x40,%zmm23");
        assert_eq!(text(|a| a.wide_vector(false, 31, 64)), "vmovdqu64 %gs:0x40,%zmm31");
        assert_eq!(text(|a| a.mask_register(false, 7, 64)), "kmovq %gs:0x40,%k7");
        assert_eq!(text(|a| a.mask_register(true, 1, 64)), "kmovq %k1,%gs:0x40");
        assert_eq!(text(|a| a.cmp32_mem(Mem::Base(R11, 0), 5)), "cmpl $5,(%r11)");
        assert_eq!(text(|a| a.alu(true, CMP_RR, 2, R10)), "cmp %r10,%rdx");
        assert_eq!(text(|a| a.alu_imm8(false, CMP, R11, 1)), "cmp $1,%r11d");
        assert_eq!(text(|a| a.sar_imm(true, R11, 63)), "sar $0x3F,%r11");
        assert_eq!(text(|a| a.fldcw(Mem::Cpu(8))), "fldcw %gs:8");
        assert_eq!(text(|a| a.xsave(Mem::Cpu(64))), "xsave64 %gs:0x40");
        assert_eq!(text(|a| a.xrstor(Mem::Cpu(64))), "xrstor64 %gs:0x40");
        assert_eq!(text(|a| a.test8_imm(R10, 15)), "test $0xF,%r10b");
        assert_eq!(text(|a| a.and_imm(RAX, -4096)), "and $0xFFFFFFFFFFFFF000,%rax");
        assert_eq!(text(|a| a.and_mem(Mem::Cpu(8), !0x200)), "andq $0xFFFFFFFFFFFFFDFF,%gs:8");
        assert_eq!(text(|a| a.and_mem32(Mem::Cpu(8), -2)), "andl $0xFFFFFFFE,%gs:8");
        assert_eq!(text(|a| a.or_mem(Mem::Cpu(8), 0x200)), "orq $0x200,%gs:8");
        assert_eq!(text(|a| a.or_mem32(Mem::Cpu(8), 1)), "orl $1,%gs:8");
        assert_eq!(text(|a| a.add_mem(Mem::Cpu(8), -64)), "addq $0xFFFFFFFFFFFFFFC0,%gs:8");
        assert_eq!(text(|a| a.test_mem32(Mem::Cpu(8), 4)), "testl $4,%gs:8");
        assert_eq!(text(|a| a.not(R10)), "not %r10");
        assert_eq!(text(|a| a.shl(R10, 48)), "shl $0x30,%r10");
        assert_eq!(text(|a| a.test_imm32(R10, 0x100)), "test $0x100,%r10d");
        assert_eq!(text(|a| a.or_top(Mem::Cpu(8), 3)), "orw $3,%gs:0xE");
        assert_eq!(text(|a| a.shr(RBX, 32)), "shr $0x20,%rbx");
        assert_eq!(text(|a| a.imul_imm(RBX, 5)), "imul $5,%rbx");
        assert_eq!(text(|a| a.store8_imm(Mem::Base(RBX, 0), 1)), "movb $1,(%rbx)");
        assert_eq!(text(|a| a.xor32(R11, R10)), "xor %r10d,%r11d");
        assert_eq!(text(|a| a.shl32(R11, 4)), "shl $4,%r11d");
    }

    #[test]
    fn labels_reach_into_cold_code_and_back() {
        let mut a = Assembler::new(0x1000, true);
        let (cold, back) = (a.label(), a.label());
        a.jmp(cold);
        a.bind(back);
        a.jmp_to(0x2000);
        a.go_cold(0x9000);
        a.bind(cold);
        a.jmp_to(0x2000);
        a.jmp(back);
        a.finish();
        let target = |code: &[u8], at: u64| Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode();
        let (hot, cold) = a.parts();
        assert_eq!(target(hot, 0x1000).near_branch_target(), 0x9000);
        assert_eq!(target(&hot[5..], 0x1005).near_branch_target(), 0x2000);
        assert_eq!(target(cold, 0x9000).near_branch_target(), 0x2000);
        assert_eq!(target(&cold[5..], 0x9005).near_branch_target(), 0x1005);
    }

    #[test]
    fn labels_reach_both_ways() {
        let s = text(|a| {
            let (back, on) = (a.label(), a.label());
            a.bind(back);
            a.jcc(CC_NE, on);
            a.jmp(back);
            a.bind(on);
        });
        assert_eq!(s, "jne 0x000000000000100B; jmp 0x0000000000001000");
    }
}
