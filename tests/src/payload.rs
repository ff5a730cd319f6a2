//! Small programs for a bare machine, started as multiboot kernels: 32-bit protected mode, no operating system.

use std::path::{Path, PathBuf};

/// Where the image is loaded.
const BASE: u32 = 0x10_0000;
/// Bytes of the multiboot header (version 0.6.96, with the address fields).
const HEADER: u32 = 32;

/// A program being written. Methods append machine code; registers are free for each to use.
#[derive(Clone, Default)]
pub struct Payload {
    code: Vec<u8>,
}

impl Payload {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// Machine code as it is.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.code.extend_from_slice(bytes);
        self
    }

    /// The address of what is appended next.
    pub fn here(&self) -> u32 {
        BASE + HEADER + u32::try_from(self.code.len()).expect("a small program")
    }

    /// OUT of one byte.
    #[must_use]
    pub fn out8(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0x66, 0xba, low, high, 0xb0, value, 0xee])
    }

    /// OUT of two bytes.
    #[must_use]
    pub fn out16(self, port: u16, value: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        let [first, second] = value.to_le_bytes();
        self.raw(&[0x66, 0xba, low, high, 0x66, 0xb8, first, second, 0x66, 0xef])
    }

    /// OUT of four bytes.
    #[must_use]
    pub fn out32(self, port: u16, value: u32) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0x66, 0xba, low, high, 0xb8]).raw(&value.to_le_bytes()).raw(&[0xef])
    }

    /// A store of one byte.
    #[must_use]
    pub fn store8(self, address: u32, value: u8) -> Self {
        self.raw(&[0xc6, 0x05]).raw(&address.to_le_bytes()).raw(&[value])
    }

    /// A store of four bytes.
    #[must_use]
    pub fn store32(self, address: u32, value: u32) -> Self {
        self.raw(&[0xc7, 0x05]).raw(&address.to_le_bytes()).raw(&value.to_le_bytes())
    }

    /// Writes text to the first serial port.
    #[must_use]
    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |program, byte| program.out8(0x3f8, byte))
    }

    /// Counts its own executions in memory that a reset leaves alone, and writes the digit.
    #[must_use]
    pub fn print_count(self) -> Self {
        // incb 0x300000; mov 0x300000, %al; add $'0', %al; mov $0x3f8, %dx; out %al, %dx
        self.raw(&[0xfe, 0x05, 0, 0, 0x30, 0, 0xa0, 0, 0, 0x30, 0, 0x04, b'0', 0x66, 0xba, 0xf8, 0x03, 0xee])
    }

    /// Goes on only when the count is below `limit`; otherwise ends the emulator by isa-debug-exit at 0xf4.
    #[must_use]
    pub fn exit_at(self, limit: u8, status: u8) -> Self {
        let exit = Self::new().out8(0xf4, status).stop();
        let skip = u8::try_from(exit.code.len()).expect("short");
        // cmpb $limit, 0x300000; jb over
        self.raw(&[0x80, 0x3d, 0, 0, 0x30, 0, limit, 0x72, skip]).raw(&exit.code)
    }

    /// Stops for good: interrupts off, HLT.
    #[must_use]
    pub fn stop(self) -> Self {
        self.raw(&[0xfa, 0xf4, 0xeb, 0xfd])
    }

    /// Counts in a 32-bit word at 0x300004, for ever.
    #[must_use]
    pub fn count_for_ever(self) -> Self {
        // incl 0x300004; jmp back
        self.raw(&[0xff, 0x05, 0x04, 0, 0x30, 0, 0xeb, 0xf8])
    }

    /// A triple fault: an empty interrupt table, then a breakpoint.
    #[must_use]
    pub fn triple_fault(self) -> Self {
        // push $0; push $0; lidt (%esp); int3
        self.raw(&[0xbc, 0, 0, 0x20, 0, 0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24, 0xcc])
    }

    /// Waits until `mask` is set in the 16-bit register at `port`.
    #[must_use]
    pub fn wait16(self, port: u16, mask: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        let [first, second] = mask.to_le_bytes();
        // mov $port, %dx; 1: in (%dx), %ax; test $mask, %ax; jz 1b
        self.raw(&[0x66, 0xba, low, high, 0x66, 0xed, 0x66, 0xa9, first, second, 0x74, 0xf8])
    }

    /// The whole image.
    pub fn image(&self) -> Vec<u8> {
        const MAGIC: u32 = 0x1bad_b002;
        // The address fields are valid.
        const FLAGS: u32 = 1 << 16;
        let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(FLAGS);
        let mut image = Vec::new();
        for word in [MAGIC, FLAGS, checksum, BASE, BASE, 0, 0, BASE + HEADER] {
            image.extend_from_slice(&word.to_le_bytes());
        }
        image.extend_from_slice(&self.code);
        // The header is looked for in whole blocks.
        image.resize(image.len().max(0x400), 0);
        image
    }

    /// Writes the image into a folder and returns its path.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("payload");
        std::fs::write(&path, self.image()).expect("the scratch folder is writable");
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_adds_up_to_zero() {
        let image = Payload::new().print("x").stop().image();
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().expect("word"));
        assert_eq!(word(0).wrapping_add(word(4)).wrapping_add(word(8)), 0);
        assert_eq!((word(28), image[32]), (0x10_0020, 0x66));
    }
}
