//! Random numbers, values and contents with a taste for corners.

/// A small reproducible generator (xorshift).
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Single-precision numbers that matter: zeros, infinities, NaNs, subnormals, bounds of conversions, halves.
const F32: [u32; 16] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f80_0001,
    1,
    0x807f_ffff,
    0x7f7f_ffff,
    0x0080_0000,
    0x4f00_0000,
    0xcf00_0000,
    0x5f00_0000,
    0x3fc0_0000,
];
/// The same in double precision.
const F64: [u64; 16] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    1,
    0x800f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x41e0_0000_0000_0000,
    0xc1e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x4004_0000_0000_0000,
];

impl Random {
    /// From a seed; 0 is replaced.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
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
        (self.number() >> 11) % limit.max(1)
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// An integer with a taste for corners.
    pub fn value(&mut self) -> u64 {
        let value = self.number();
        match self.below(8) {
            0 => [0, 1, u64::MAX, 1 << 63, 0x7fff_ffff, 0x8000_0000, 0x80, 0xffff][self.below(8) as usize],
            1 => value & 0xff,
            2 => value as u32 as i32 as i64 as u64,
            _ => value,
        }
    }

    /// Contents of a vector or of memory (a multiple of 8 bytes): integers, or floating-point numbers of either size.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_exact_mut(8) {
            let value = self.number();
            let pick = |n: u64| F32[(value >> n & 15) as usize];
            let value = match self.below(8) {
                0 => F64[(value & 15) as usize],
                1 => u64::from(pick(0)) << 32 | u64::from(pick(4)),
                // Near one: sums and products stay finite.
                2 => value & 0x807f_ffff_807f_ffff | 0x3f00_0000_3f80_0000,
                3 => value & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000,
                4 => self.value(),
                _ => value,
            };
            part.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// An 80-bit number.
    pub fn extended(&mut self) -> [u8; 10] {
        let exponents = [0, 1, 0x3ffe, 0x3fff, 0x4000, 0x401e, 0x403e, 0x7ffe, 0x7fff];
        let mut exponent = match self.below(3) {
            0 => exponents[self.below(9) as usize],
            1 => 0x3ff0 + self.below(80) as u16,
            _ => self.number() as u16 & 0x7fff,
        };
        let fractions = [0, 1 << 63, 3 << 62, u64::MAX, 1];
        let fraction = match self.below(8) {
            0 => fractions[self.below(5) as usize],
            1 => self.number(),
            2 => self.number() & 0xffff_0000_0000_0000 | 1 << 63,
            _ => self.number() | 1 << 63,
        };
        exponent |= (self.below(2) as u16) << 15;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&fraction.to_le_bytes());
        bytes[8..].copy_from_slice(&exponent.to_le_bytes());
        bytes
    }
}
