//! The wire format: 12 bytes in, 8 bytes out, host byte order; no hello.

/// Bytes of a request.
pub const REQUEST_SIZE: usize = 12;

/// Whose registers a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Intel (SDM volume 4, RAPL interfaces).
    Intel,
    /// AMD (PPR of family 17h and later).
    Amd,
}

impl Vendor {
    /// Registers that may be read.
    #[must_use]
    pub fn registers(self) -> &'static [u32] {
        match self {
            // POWER_UNIT, PKG_POWER_LIMIT, PKG_ENERGY_STATUS, PKG_POWER_INFO.
            Self::Intel => &[0x606, 0x610, 0x611, 0x614],
            // RAPL_PWR_UNIT, PKG_ENERGY_STAT.
            Self::Amd => &[0xc001_0299, 0xc001_029b],
        }
    }
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Register number.
    pub msr: u32,
    /// CPU to read on.
    pub cpu: u32,
    /// A thread of the client, in our PID namespace.
    pub tid: u32,
}

impl Request {
    /// Takes a request in.
    #[must_use]
    pub fn decode(bytes: [u8; REQUEST_SIZE]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { msr: word(0), cpu: word(4), tid: word(8) }
    }

    /// Whether `vendor`'s hosts let this register be read.
    #[must_use]
    pub fn is_allowed(&self, vendor: Vendor) -> bool {
        vendor.registers().contains(&self.msr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_registers() {
        let request = |msr: u32| {
            let mut bytes = [0; REQUEST_SIZE];
            bytes[..4].copy_from_slice(&msr.to_ne_bytes());
            bytes[4..8].copy_from_slice(&7u32.to_ne_bytes());
            bytes[8..].copy_from_slice(&9u32.to_ne_bytes());
            Request::decode(bytes)
        };
        assert_eq!(request(0x611), Request { msr: 0x611, cpu: 7, tid: 9 });
        for msr in [0x606, 0x610, 0x611, 0x614] {
            assert!(request(msr).is_allowed(Vendor::Intel) && !request(msr).is_allowed(Vendor::Amd));
        }
        for msr in [0xc001_0299, 0xc001_029b] {
            assert!(request(msr).is_allowed(Vendor::Amd) && !request(msr).is_allowed(Vendor::Intel));
        }
        for msr in [0, 0x619, 0x639, 0xc001_029a, u32::MAX] {
            assert!(!request(msr).is_allowed(Vendor::Intel) && !request(msr).is_allowed(Vendor::Amd));
        }
    }
}
