//! Values of attributes and texts.

use std::borrow::Cow;

use crate::{Error, INVALID_ATTRIBUTE};

/// What was expected where a value is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// One of some words.
    Word,
    /// A number without sign.
    Unsigned,
    /// A number.
    Signed,
    /// `on` or `off`, `yes` or `no`.
    Switch,
    /// A UUID.
    Uuid,
}

impl Expected {
    /// The error in libvirt's words.
    pub fn error(self, name: &str, element: &str, value: &str) -> Error {
        let more = match self {
            Self::Word | Self::Switch => "",
            Self::Unsigned => " Expected non-negative integer value",
            Self::Signed => " Expected integer value",
            Self::Uuid => " Expected UUID",
        };
        Error::xml(format!("{INVALID_ATTRIBUTE} '{name}' in element '{element}': '{value}'.{more}"))
    }
}

/// A value that is written as text.
pub trait Value: Clone {
    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Expected>;
    /// The text.
    fn format(&self) -> Cow<'_, str>;
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, Expected> {
        Ok(text.to_owned())
    }

    fn format(&self) -> Cow<'_, str> {
        self.into()
    }
}

/// Reads a number as C's `strtoull` does with base 0: decimal, hexadecimal after `0x`, octal after `0`.
fn unsigned(text: &str) -> Result<u64, Expected> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(Expected::Unsigned);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Expected::Unsigned)
}

macro_rules! unsigned_value {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, Expected> {
                unsigned(text)?.try_into().map_err(|_| Expected::Unsigned)
            }

            fn format(&self) -> Cow<'_, str> {
                self.to_string().into()
            }
        }
    )*};
}
unsigned_value!(u8 u16 u32 u64);

macro_rules! signed_value {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, Expected> {
                text.trim().parse().map_err(|_| Expected::Signed)
            }

            fn format(&self) -> Cow<'_, str> {
                self.to_string().into()
            }
        }
    )*};
}
signed_value!(i32 i64);

/// A number that is written in hexadecimal with that many digits after `0x`; read in any base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const DIGITS: usize>(pub u64);

impl<const DIGITS: usize> Value for Hex<DIGITS> {
    fn parse(text: &str) -> Result<Self, Expected> {
        unsigned(text).map(Self)
    }

    fn format(&self) -> Cow<'_, str> {
        format!("{:#0width$x}", self.0, width = DIGITS + 2).into()
    }
}
