//! Device and function numbers.

use std::fmt;

/// A function's address on its bus: device number 0 to 31 and function number 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Devfn(pub u8);

impl Devfn {
    /// From device number (0 to 31) and function number (0 to 7); higher bits are dropped.
    pub const fn new(device: u8, function: u8) -> Self {
        Self(device << 3 | (function & 7))
    }

    /// Device number.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Function number.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }

    /// Reads `addr=`: hexadecimal `DEVICE` or `DEVICE.FUNCTION`, each with or without `0x`.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str| {
            let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).unwrap_or(part);
            if digits.starts_with('+') { None } else { u8::from_str_radix(digits, 16).ok() }
        };
        let (device, function) = match text.split_once('.') {
            Some((device, function)) => (hex(device)?, hex(function)?),
            None => (hex(text)?, 0),
        };
        (device < 32 && function < 8).then(|| Self::new(device, function))
    }
}

impl fmt::Display for Devfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.device(), self.function())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hexadecimal() {
        assert_eq!(Devfn::parse("0x5.0x1"), Some(Devfn::new(5, 1)));
        assert_eq!(Devfn::parse("1f.2"), Some(Devfn::new(31, 2)));
        assert_eq!(Devfn::parse("5"), Some(Devfn::new(5, 0)));
        for bad in ["", "20", "1.8", "x", "1.", "-1", "+1"] {
            assert_eq!(Devfn::parse(bad), None, "{bad}");
        }
        assert_eq!(Devfn::new(31, 2).to_string(), "1f.2");
    }
}
