//! The types that a property can have.

/// A value as the user gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// `key=value`: untyped text.
    Text(&'a str),
    /// A JSON string.
    Str(&'a str),
    /// A JSON number.
    Int(i128),
    /// A JSON boolean.
    Bool(bool),
}

impl Input<'_> {
    /// The text of a value of either syntax.
    fn text(&self) -> String {
        match self {
            Input::Text(text) | Input::Str(text) => (*text).to_owned(),
            Input::Int(number) => number.to_string(),
            Input::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        }
    }
}

/// A property's storage, seen without its type.
pub trait PropertyField {
    /// The type's name in `-device X,help`.
    fn type_name(&self) -> &'static str;
    /// Takes a value for property `name` of device type `owner`.
    ///
    /// # Errors
    /// The value does not fit: QEMU's text.
    fn set(&mut self, owner: &str, name: &str, value: &Input<'_>) -> Result<(), String>;
    /// The value as `info qtree` shows it.
    fn text(&self) -> String;
    /// The value as help shows a default; `None` when there is nothing to show.
    fn default_text(&self) -> Option<String> {
        Some(self.text())
    }
}

/// Reads a number as `strtoull(3)` with base 0 does: decimal, `0x` hexadecimal, `0` octal, with an optional sign.
fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i128::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits[1..], 8).ok()?
    } else if digits.starts_with(|c: char| c.is_ascii_digit()) {
        digits.parse().ok()?
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

fn integer(name: &str, value: &Input<'_>, type_name: &str) -> Result<i128, String> {
    match value {
        Input::Text(text) => parse_int(text).ok_or_else(|| format!("Parameter '{name}' expects integer")),
        Input::Int(number) => Ok(*number),
        Input::Str(_) | Input::Bool(_) => {
            Err(format!("Invalid parameter type for '{name}', expected: {type_name}"))
        }
    }
}

macro_rules! integer_field {
    ($($type:ty, $name:literal, $qapi:literal;)*) => {$(
        impl PropertyField for $type {
            fn type_name(&self) -> &'static str {
                $name
            }
            fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
                let mut number = integer(name, value, "integer").map_err(|error| match value {
                    // The one width that QEMU reads in a way of its own.
                    Input::Str(_) | Input::Bool(_) if $name == "uint64" => {
                        format!("Parameter '{name}' expects uint64")
                    }
                    _ => error,
                })?;
                if $name == "uint64" && (i128::from(i64::MIN)..0).contains(&number) {
                    // As strtoull(3): a sign counts from the top.
                    number += 1 << 64;
                }
                *self = <$type>::try_from(number).map_err(|_| format!("Parameter '{name}' expects {}", $qapi))?;
                Ok(())
            }
            fn text(&self) -> String {
                format!("{self} ({:#x})", i128::from(*self) as u64)
            }
            fn default_text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

integer_field! {
    u8, "uint8", "uint8_t";
    u16, "uint16", "uint16_t";
    u32, "uint32", "uint32_t";
    u64, "uint64", "uint64_t";
    i32, "int32", "int32_t";
    i64, "int64", "int64_t";
}

impl PropertyField for bool {
    fn type_name(&self) -> &'static str {
        "bool"
    }
    fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        *self = match value {
            Input::Bool(on) => *on,
            Input::Text("on" | "yes" | "true" | "y") => true,
            Input::Text("off" | "no" | "false" | "n") => false,
            Input::Text(_) => return Err(format!("Parameter '{name}' expects 'on' or 'off'")),
            Input::Str(_) | Input::Int(_) => {
                return Err(format!("Invalid parameter type for '{name}', expected: boolean"));
            }
        };
        Ok(())
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl PropertyField for String {
    fn type_name(&self) -> &'static str {
        "str"
    }
    fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        match value {
            Input::Text(text) | Input::Str(text) => {
                *self = (*text).to_owned();
                Ok(())
            }
            Input::Int(_) | Input::Bool(_) => {
                Err(format!("Invalid parameter type for '{name}', expected: string"))
            }
        }
    }
    fn text(&self) -> String {
        format!("\"{self}\"")
    }
    fn default_text(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.text())
    }
}

impl<T: PropertyField + Default> PropertyField for Option<T> {
    fn type_name(&self) -> &'static str {
        T::default().type_name()
    }
    fn set(&mut self, owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        let mut inner = T::default();
        inner.set(owner, name, value)?;
        *self = Some(inner);
        Ok(())
    }
    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), PropertyField::text)
    }
    fn default_text(&self) -> Option<String> {
        self.as_ref().and_then(PropertyField::default_text)
    }
}

/// A number of bytes, with suffixes (`64k`, `1G`) in the untyped syntax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

impl From<u64> for Size {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl PropertyField for Size {
    fn type_name(&self) -> &'static str {
        "size"
    }
    fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        let bytes = match value {
            Input::Text(text) => {
                let (digits, shift) = match text.char_indices().next_back() {
                    Some((at, suffix)) if suffix.is_ascii_alphabetic() && !text.starts_with("0x") => {
                        let shift = "BKMGTPE".find(suffix.to_ascii_uppercase());
                        (&text[..at], shift.map(|s| 10 * s))
                    }
                    _ => (*text, Some(0)),
                };
                let number = parse_int(digits).and_then(|n| u64::try_from(n).ok());
                number.zip(shift).and_then(|(n, s)| n.checked_mul(1 << s))
            }
            Input::Int(number) => u64::try_from(*number).ok(),
            Input::Str(_) | Input::Bool(_) => None,
        };
        self.0 = bytes.ok_or_else(|| match value {
            Input::Text(_) => format!("Parameter '{name}' expects size"),
            _ => format!("Parameter '{name}' expects uint64"),
        })?;
        Ok(())
    }
    fn text(&self) -> String {
        format!("{} ({})", self.0, with_unit(self.0))
    }
    fn default_text(&self) -> Option<String> {
        self.0.default_text()
    }
}

/// A number of bytes with three digits and a unit: `2 GiB`, `1.5 KiB`.
fn with_unit(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    // From 1000 of a unit on the next one is taken, so that three digits suffice.
    let unit = (0..6).find(|unit| bytes >> (10 * unit) < 1000).unwrap_or(6);
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}B", UNITS[unit])
}

/// A property with a fixed list of values; implement this and [`PropertyField`] follows.
pub trait Enumeration: Sized + Copy + PartialEq + 'static {
    /// The type's name in help.
    const TYPE: &'static str;
    /// Every value with its name.
    const VALUES: &'static [(&'static str, Self)];
}

impl<T: Enumeration> PropertyField for T {
    fn type_name(&self) -> &'static str {
        T::TYPE
    }
    fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        if let Input::Int(_) | Input::Bool(_) = value {
            return Err(format!("Invalid parameter type for '{name}', expected: string"));
        }
        let text = value.text();
        let found = T::VALUES.iter().find(|(known, _)| *known == text);
        *self = found.ok_or_else(|| format!("Parameter '{name}' does not accept value '{text}'"))?.1;
        Ok(())
    }
    fn text(&self) -> String {
        let name = T::VALUES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name);
        format!("\"{name}\"")
    }
}

/// On, off, or as the device thinks best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOffAuto {
    /// As the device thinks best.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Enumeration for OnOffAuto {
    const TYPE: &'static str = "OnOffAuto";
    const VALUES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoull_does() {
        for (text, value) in
            [("10", Some(10)), ("0x1F", Some(31)), ("010", Some(8)), ("-1", Some(-1)), ("0", Some(0))]
        {
            assert_eq!(parse_int(text), value, "{text}");
        }
        for text in ["", "x", "1x", "0x", "--1", "09"] {
            assert_eq!(parse_int(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_in_the_device_tree() {
        assert_eq!(
            (5u32.text(), (-1i64).text()),
            ("5 (0x5)".to_owned(), "-1 (0xffffffffffffffff)".to_owned())
        );
        for (bytes, text) in
            [(0, "0 (0 B)"), (512, "512 (512 B)"), (1000, "1000 (0.98 KiB)"), (1536, "1536 (1.5 KiB)")]
        {
            assert_eq!(Size(bytes).text(), text);
        }
        assert_eq!(with_unit(2 << 30), "2 GiB");
        assert_eq!(with_unit(u64::MAX), "16 EiB");
    }

    #[test]
    fn sizes_take_suffixes() {
        let mut size = Size(0);
        for (text, bytes) in [("64k", 64 << 10), ("1G", 1 << 30), ("0x10", 16), ("5", 5)] {
            size.set("d", "s", &Input::Text(text)).expect(text);
            assert_eq!(size.0, bytes);
        }
        assert!(size.set("d", "s", &Input::Text("1x")).is_err());
        assert!(size.set("d", "s", &Input::Text("é")).is_err());
        assert!(size.set("d", "s", &Input::Text("99999999999999999999E")).is_err());
    }
}
