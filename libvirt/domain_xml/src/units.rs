//! Sizes that are read with a unit.

use xml::{Element, Error, Node, Pack, Packer, Result, Unpacker, Writer};

/// The factor of a unit's name (`virScaleInteger`): `KiB`, `k`, `KB` and so on.
pub fn scale(unit: &str) -> Option<u64> {
    if unit.is_empty()
        || unit.eq_ignore_ascii_case("b")
        || unit.eq_ignore_ascii_case("byte")
        || unit == "bytes"
    {
        return Some(1);
    }
    let (prefix, rest) =
        (unit.chars().next()?.to_ascii_lowercase(), &unit[unit.chars().next()?.len_utf8()..]);
    let base: u64 = match rest.to_ascii_lowercase().as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    let power = "kmgtpe".find(prefix)? as u32 + 1;
    base.checked_pow(power)
}

fn read(node: &Node<'_>, default: u64) -> Result<u64> {
    let text = node.text();
    let text = text.trim();
    let number: u64 = text.parse().map_err(|_| {
        Error::xml(format!("Invalid value '{text}' for element or attribute './{}'", node.name()))
    })?;
    let factor = match node.attribute("unit") {
        None => default,
        Some(unit) => scale(unit).ok_or_else(|| Error {
            code: xml::Code::InvalidArgument,
            detail: format!("unknown suffix '{unit}'"),
        })?,
    };
    number.checked_mul(factor).ok_or_else(|| Error {
        code: xml::Code::Xml,
        detail: format!("value too large: {text}{}", node.attribute("unit").unwrap_or("")),
    })
}

macro_rules! size {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $step:literal $(, exact $fault:literal)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl Element for $name {
            fn begin(&mut self, node: &Node<'_>) -> Result<()> {
                let bytes = read(node, $step)?;
                $(if bytes % $step != 0 {
                    return Err(Error::unsupported($fault));
                })?
                self.0 = bytes.div_ceil($step);
                Ok(())
            }

            fn attribute(&mut self, name: &str, _: &str, _: &str) -> Result<bool> {
                Ok(name == "unit")
            }

            fn child(&mut self, _: &str, _: &Node<'_>) -> Result<bool> {
                Ok(false)
            }

            fn text(&mut self, _: &str, _: &str) -> Result<bool> {
                Ok(true)
            }

            fn write_attributes(&self, writer: &mut Writer) {
                writer.attribute("unit", $unit);
            }

            fn write_content(&self, writer: &mut Writer) {
                writer.text(&self.0.to_string());
            }
        }

        impl Pack for $name {
            fn pack(&self, to: &mut Packer) {
                to.number(self.0);
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                from.number().map(Self)
            }
        }
    };
}

size! {
    /// A size in KiB, rounded up.
    Kib, "KiB", 1024
}
size! {
    /// A size in bytes.
    Bytes, "bytes", 1
}
size! {
    /// A size in MiB, rounded up.
    Mib, "M", 1_048_576
}

size! {
    /// A size in whole MiB.
    MibLong, "MiB", 1_048_576, exact "SMM TSEG size must be divisible by 1 MiB"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(scale("KiB"), Some(1024));
        assert_eq!(scale("k"), Some(1024));
        assert_eq!(scale("KB"), Some(1000));
        assert_eq!(scale("GB"), Some(1_000_000_000));
        assert_eq!(scale("T"), Some(1 << 40));
        assert_eq!(scale("bytes"), Some(1));
        assert_eq!(scale("furlong"), None);
        assert_eq!(scale("é"), None);
    }
}
