//! Where the tests' code and data lie, on the host and in the guest alike. Both are mapped twice: within the low 4 GiB
//! for compatibility mode and 32-bit addresses, and above.

/// Bytes of code: two pages. What falls off their end faults.
pub const CODE_SIZE: usize = 2 * 4096;
/// Bytes of data: two writable pages and one that can only be read. The pages before and behind fault.
pub const SCRATCH_SIZE: usize = 3 * 4096;
/// Bytes of the data that can be written.
pub const WRITABLE: usize = 2 * 4096;

/// What kind of code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 64-bit mode.
    Long,
    /// Compatibility mode, code and stack of 32 bits in flat segments.
    Flat,
    /// Compatibility mode, code and stack of 16 bits in segments with limits.
    Small,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Long, Self::Flat, Self::Small];

    /// The default operand size in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Long => 64,
            Self::Flat => 32,
            Self::Small => 16,
        }
    }
}

/// The first bytes of [`Mode::Small`]'s data segment lie before the data: the guard pages.
pub const SMALL_START: u64 = 0x1000;
/// The last offset in [`Mode::Small`]'s data segment: the last one of the data.
pub const SMALL_LIMIT: u32 = 0x1000 + SCRATCH_SIZE as u32 - 1;

/// One of the mappings, by offsets in the segments of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the code.
    pub code: u64,
    /// Address of the data, within reach of RIP-relative operands.
    pub scratch: u64,
}

impl Place {
    /// Above 4 GiB.
    pub const HIGH: Self = Self { code: 0x10_0000_0000, scratch: 0x10_0010_0000 };
    /// Below 4 GiB.
    pub const LOW: Self = Self { code: 0x3000_0000, scratch: 0x3010_0000 };

    /// The low mapping, in segments of its own.
    pub const SMALL: Self = Self { code: 0, scratch: SMALL_START };
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HIGH, Self::LOW, Self::SMALL];

    /// Where code of `mode` runs.
    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Long => Self::HIGH,
            Mode::Flat => Self::LOW,
            Mode::Small => Self::SMALL,
        }
    }

    /// Whether an access of up to 2 KiB at `address` stays in the data or its guard pages.
    pub fn is_near(self, address: u64) -> bool {
        address.wrapping_sub(self.scratch - 0x1800) < SCRATCH_SIZE as u64 + 0x1800 + 0x1800
    }
}
