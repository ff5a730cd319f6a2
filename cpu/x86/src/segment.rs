//! Segment registers with their hidden parts, and descriptor-table registers.

/// A segment register: the selector and the descriptor that was loaded with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Linear address of byte 0.
    pub base: u64,
    /// Last valid offset, in bytes (granularity already applied).
    pub limit: u32,
    /// Bits 8 to 23 of the descriptor's second word, shifted down to bit 0: type, S, DPL, P, (limit), AVL, L, D/B, G.
    pub attributes: u16,
    /// The visible part.
    pub selector: u16,
}

impl Segment {
    /// Type field: bit 0, accessed.
    pub const ACCESSED: u16 = 1 << 0;
    /// Type field: writable (data) or readable (code).
    pub const WRITABLE: u16 = 1 << 1;
    /// Type field: expand-down (data) or conforming (code).
    pub const EXPAND_DOWN: u16 = 1 << 2;
    /// Type field: code segment.
    pub const CODE: u16 = 1 << 3;
    /// Code or data, not system.
    pub const NON_SYSTEM: u16 = 1 << 4;
    /// Present. A null selector loads a segment that is not.
    pub const PRESENT: u16 = 1 << 7;
    /// 64-bit code.
    pub const LONG: u16 = 1 << 13;
    /// Default operand size 32, or 32-bit stack.
    pub const BIG: u16 = 1 << 14;
    /// The limit counts pages.
    pub const GRANULARITY: u16 = 1 << 15;

    /// A segment as real mode loads it: base = selector * 16, limit 64 KiB, data or code writable at DPL 0.
    pub fn real_mode(selector: u16, code: bool) -> Self {
        let kind = if code { Self::CODE } else { 0 };
        Self {
            base: u64::from(selector) << 4,
            limit: 0xffff,
            attributes: Self::PRESENT | Self::NON_SYSTEM | Self::WRITABLE | Self::ACCESSED | kind,
            selector,
        }
    }

    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// Whether a present descriptor is loaded.
    pub fn is_present(&self) -> bool {
        self.attributes & Self::PRESENT != 0
    }

    /// The 4-bit type field.
    pub fn kind(&self) -> u8 {
        (self.attributes & 15) as u8
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableRegister {
    /// Linear address of the table.
    pub base: u64,
    /// Last valid offset, in bytes.
    pub limit: u16,
}
