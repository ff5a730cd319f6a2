//! Writing: one line, `", "` and `": "` as separators, everything beyond ASCII escaped.

use crate::Value;
use std::fmt::{self, Write as _};

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            // JSON has no way to write these.
            Self::Float(value) if !value.is_finite() => f.write_str("null"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Str(text) => string(f, text),
            Self::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Dict(dict) => {
                f.write_char('{')?;
                for (index, (key, value)) in dict.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    string(f, key)?;
                    f.write_str(": ")?;
                    value.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

impl Value {
    /// The text without blanks, and with everything beyond ASCII as it is: how libvirt writes JSON.
    #[must_use]
    pub fn compact(&self) -> String {
        let mut text = String::new();
        self.write_compact(&mut text);
        text
    }

    fn write_compact(&self, text: &mut String) {
        match self {
            Self::Str(value) => compact_string(text, value),
            Self::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    item.write_compact(text);
                }
                text.push(']');
            }
            Self::Dict(dict) => {
                text.push('{');
                for (index, (key, value)) in dict.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    compact_string(text, key);
                    text.push(':');
                    value.write_compact(text);
                }
                text.push('}');
            }
            other => {
                let _ = write!(text, "{other}");
            }
        }
    }
}

fn compact_string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..'\u{20}' | '\u{7f}' => {
                let _ = write!(text, "\\u{:04X}", c as u32);
            }
            _ => text.push(c),
        }
    }
    text.push('"');
}

fn string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            ' '..='~' => f.write_char(c)?,
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(f, "\\u{unit:04X}")?;
                }
            }
        }
    }
    f.write_char('"')
}
