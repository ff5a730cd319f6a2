//! The `key=value,...` grammars of the command line.
//!
//! Two live side by side. [`Opts`] is the older one: a flat list in which later values win, and a key alone is a switch.
//! [`dict`] is the newer one: dotted keys make nested objects and lists, and every key needs a value. In both a comma
//! in a value is written twice, and the first key may be implied.
#![forbid(unsafe_code)]

mod nested;
mod scalar;

pub use nested::dict;
pub use scalar::{parse_bool, parse_number, parse_size};

/// What is wrong with an option's text; this is what the user sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// A flat option list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opts {
    entries: Vec<(String, String)>,
    /// Keys that stood alone, as written: deprecated in QEMU for everything but a few options.
    pub flags: Vec<String>,
}

/// Cuts the next value off `text` at a single comma; doubled commas become one.
pub(crate) fn take_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let Some(at) = rest.find(',') else {
            value.push_str(rest);
            return (value, "");
        };
        value.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(after) = rest.strip_prefix(',') else { return (value, rest) };
        value.push(',');
        rest = after;
    }
}

impl Opts {
    /// Reads a list; `implied` is the key of a first value that stands alone.
    pub fn parse(text: &str, implied: Option<&str>) -> Self {
        let mut opts = Self::default();
        let mut rest = text;
        let mut first = implied;
        while !rest.is_empty() {
            let key_end = rest.find(['=', ',']).unwrap_or(rest.len());
            if rest[key_end..].starts_with('=') {
                let key = rest[..key_end].to_owned();
                let (value, after) = take_value(&rest[key_end + 1..]);
                opts.entries.push((key, value));
                rest = after;
            } else {
                let (word, after) = take_value(rest);
                rest = after;
                match first {
                    Some(key) => opts.entries.push((key.to_owned(), word)),
                    None => {
                        opts.flags.push(word.clone());
                        match word.strip_prefix("no") {
                            Some(key) if !key.is_empty() => {
                                opts.entries.push((key.to_owned(), "off".to_owned()))
                            }
                            _ => opts.entries.push((word, "on".to_owned())),
                        }
                    }
                }
            }
            first = None;
        }
        opts
    }

    /// The last value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the user asks for help (`help` or `?` as a switch or as the implied value).
    pub fn wants_help(&self) -> bool {
        self.flags.iter().any(|flag| flag == "help" || flag == "?")
            || self.entries.iter().any(|(_, value)| value == "help" || value == "?")
    }

    /// Refuses keys that are not in `known`.
    ///
    /// # Errors
    /// There is one.
    pub fn check(&self, known: &[&str]) -> Result<(), Error> {
        match self.entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(Error(format!("Invalid parameter '{key}'"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
