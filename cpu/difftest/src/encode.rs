//! Encodings: every opcode of every map, with random operands; and which codes they give.

use crate::layout::Mode;
use crate::random::Random;
use iced_x86::{Code, ConstantOffsets, Decoder, DecoderOptions, Instruction};

/// Legacy encodings: prefix, REX.W, map, opcode, ModRM.reg, memory or register.
const LEGACY: u32 = 4 * 2 * 4 * 256 * 8 * 2;
/// VEX encodings: pp, W, L, map, opcode, ModRM.reg, memory or register.
const VEX: u32 = 4 * 2 * 2 * 3 * 256 * 8 * 2;
/// EVEX encodings: pp, W, L'L, b, map, opcode, memory or register; ModRM.reg is random.
const EVEX: u32 = 4 * 2 * 4 * 2 * 3 * 256 * 2;

/// Decodes the instruction in `code` at `ip`.
pub fn decode(code: &[u8], ip: u64, mode: Mode) -> (Instruction, ConstantOffsets) {
    let mut decoder = Decoder::with_ip(mode.bits(), code, ip, DecoderOptions::NONE);
    let insn = decoder.decode();
    let offsets = decoder.get_constant_offsets(&insn);
    (insn, offsets)
}

/// Writes encoding number `n` with random operands, at most 15 bytes of which matter.
pub fn encode(mut n: u32, mode: Mode, random: &mut Random) -> Vec<u8> {
    if n >= LEGACY + VEX {
        return encode_evex(n - LEGACY - VEX, mode, random);
    }
    let long = mode == Mode::Long;
    let mut take = |count: u32| {
        let part = n % count;
        n /= count;
        part as u8
    };
    let (memory, reg) = (take(2) == 1, take(8));
    let opcode = take(256);
    let (prefix, w) = (take(4), take(2));
    let mut map = take(4 + 2 * 3);
    let mut code = Vec::with_capacity(32);
    let mut bit = || if long { random.below(2) as u8 } else { 0 };
    let (r, x, b) = (bit(), bit(), bit());
    if random.one_in(8) {
        code.push(0x67);
    }
    if mode == Mode::Small && random.one_in(4) {
        code.push(0x66);
    }
    if random.one_in(8) {
        code.push([0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e][random.below(if long { 2 } else { 6 }) as usize]);
    }
    if map < 4 {
        if memory && random.one_in(8) {
            code.push(0xf0);
        }
        if prefix >= 2 && random.one_in(4) {
            code.push(0x66);
        }
        code.extend([&[][..], &[0x66], &[0xf2], &[0xf3]][usize::from(prefix)]);
        let rex = 0x40 | w << 3 | r << 2 | x << 1 | b;
        // Without REX the registers 4 to 7 of byte instructions are AH to BH.
        if long && (rex != 0x40 || random.one_in(2)) {
            code.push(rex);
        }
        code.extend([&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]][usize::from(map)]);
    } else {
        map -= 4;
        // The second operand: sometimes none.
        let second = if random.one_in(2) { 15 } else { random.below(16) as u8 };
        let last = w << 7 | (second ^ 15) << 3 | (map % 2) << 2 | prefix;
        let last = if random.one_in(2) { last } else { last | 0x78 };
        if map / 2 == 0 && w == 0 && x == 0 && b == 0 && random.one_in(2) {
            code.extend([0xc5, (r ^ 1) << 7 | last & 0x7f]);
        } else {
            code.extend([0xc4, (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (1 + map / 2), last]);
        }
    }
    code.push(opcode);
    let rm = random.below(8) as u8;
    let mode = if memory { random.below(3) as u8 } else { 3 };
    code.push(mode << 6 | reg << 3 | rm);
    code.extend((0..14).map(|_| random.number() as u8));
    code
}

/// As [`encode`], of the EVEX encodings (SDM volume 2, 2.7).
fn encode_evex(mut n: u32, mode: Mode, random: &mut Random) -> Vec<u8> {
    let long = mode == Mode::Long;
    let mut take = |count: u32| {
        let part = n % count;
        n /= count;
        part as u8
    };
    let memory = take(2) == 1;
    let opcode = take(256);
    let (prefix, w, length, b, map) = (take(4), take(2), take(4), take(2), 1 + take(3));
    let mut code = Vec::with_capacity(32);
    if random.one_in(8) {
        code.push(0x67);
    }
    if random.one_in(8) {
        code.push([0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e][random.below(if long { 2 } else { 6 }) as usize]);
    }
    // R, X, B, R' and V' are inverted; outside 64-bit mode the first two tell it from BOUND.
    let registers = if long { random.number() as u8 & 0xf0 } else { 0xf0 };
    let (second, high) = match random.below(3) {
        0 => (15, 8),
        _ => (random.below(16) as u8, if long { random.below(2) as u8 * 8 } else { 8 }),
    };
    let second = if long { second } else { second | 8 };
    let mask = if random.one_in(3) { 0 } else { random.below(8) as u8 };
    let zeroing = if random.one_in(3) && mask != 0 { 0x80 } else { 0 };
    code.extend([0x62, registers | map, w << 7 | second << 3 | 4 | prefix]);
    code.extend([zeroing | length << 5 | b << 4 | high | mask, opcode]);
    let kind = if memory { random.below(3) as u8 } else { 3 };
    code.push(kind << 6 | random.below(64) as u8);
    code.extend((0..14).map(|_| random.number() as u8));
    code
}

/// All codes of a mode, and which encodings may give them.
pub struct Catalogue {
    /// Sorted by code.
    pub codes: Vec<(Code, Vec<u32>)>,
}

impl Catalogue {
    /// Decodes every encoding a few times; keeps the codes that `wanted` accepts.
    pub fn new(mode: Mode, random: &mut Random, wanted: impl Fn(Code) -> bool) -> Self {
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); Code::values().len()];
        for n in 0..LEGACY + VEX + EVEX {
            for _ in 0..if n < LEGACY + VEX { 4 } else { 16 } {
                let (insn, _) = decode(&encode(n, mode, random), 0, mode);
                let list = &mut found[insn.code() as usize];
                if !insn.is_invalid() && list.last() != Some(&n) {
                    list.push(n);
                }
            }
        }
        let codes = Code::values().zip(found).filter(|(code, list)| !list.is_empty() && wanted(*code));
        Self { codes: codes.collect() }
    }
}
