//! Where the tests' code and data lie, on the host and in the guest alike. Both are mapped twice: within the low 4 GiB
//! for compatibility mode and 32-bit addresses, and above.

/// Bytes of code: two pages. What falls off their end faults.
pub const CODE_SIZE: usize = 2 * 4096;
/// Bytes of data: two writable pages and one that can only be read. The pages before and behind fault.
pub const SCRATCH_SIZE: usize = 3 * 4096;
/// Bytes of the data that can be written.
pub const WRITABLE: usize = 2 * 4096;

/// One of the two mappings.
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

    /// Where code of 64-bit mode (`long`) or compatibility mode runs.
    pub fn of(long: bool) -> Self {
        if long { Self::HIGH } else { Self::LOW }
    }

    /// Whether an access of up to 2 KiB at `address` stays in the data or its guard pages.
    pub fn is_near(self, address: u64) -> bool {
        address.wrapping_sub(self.scratch - 0x1800) < SCRATCH_SIZE as u64 + 0x1800 + 0x1800
    }
}
