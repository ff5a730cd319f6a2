//! Reading.

use crate::{Dict, Value};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 1024;
/// Longest text, in bytes.
pub const MAX_SIZE: usize = 64 << 20;

/// Why a text is no JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSON parse error, {0}")]
pub struct Error(String);

/// What a text may hold at most, for those who read what an untrusted peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep objects and arrays may nest.
    pub depth: usize,
    /// How many values there may be altogether. A value costs about 32 bytes, written with two.
    pub values: usize,
    /// How many keys one object may have. Finding one takes time in proportion to their number.
    pub keys: usize,
}

/// No limits but the dialect's own.
const DIALECT: Limits = Limits { depth: MAX_DEPTH, values: usize::MAX, keys: usize::MAX };

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    limits: Limits,
    values: usize,
}

/// Reads one value; nothing but white space may follow it.
///
/// # Errors
/// The text is no JSON value.
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    parse_limited(text, DIALECT)
}

/// As [`parse`], for texts that keep `limits`.
///
/// # Errors
/// The text is no JSON value, or exceeds a limit.
pub fn parse_limited(text: &[u8], limits: Limits) -> Result<Value, Error> {
    if text.len() > MAX_SIZE {
        return Err(Error("JSON token size limit exceeded".to_owned()));
    }
    let limits = Limits { depth: limits.depth.min(MAX_DEPTH), ..limits };
    let mut parser = Parser { text, at: 0, limits, values: 0 };
    let value = parser.value(0)?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.stray());
    }
    Ok(value)
}

fn error<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error(text.into()))
}

impl Parser<'_> {
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Result<u8, Error> {
        self.space();
        self.text.get(self.at).copied().ok_or_else(|| Error("premature EOI".to_owned()))
    }

    fn stray(&self) -> Error {
        let rest = &self.text[self.at.min(self.text.len())..];
        let end = rest.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(rest.len()).clamp(1, 40);
        Error(format!("stray '{}'", String::from_utf8_lossy(&rest[..end.min(rest.len())])))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > self.limits.depth {
            return error("JSON nesting depth limit exceeded");
        }
        self.values += 1;
        if self.values > self.limits.values {
            return error("JSON token count limit exceeded");
        }
        match self.peek()? {
            b'{' => self.dict(depth),
            b'[' => self.list(depth),
            b'"' | b'\'' => Ok(Value::Str(self.string()?)),
            b'-' | b'0'..=b'9' => self.number(),
            b'a'..=b'z' => self.keyword(),
            _ => error("expecting value"),
        }
    }

    fn keyword(&mut self) -> Result<Value, Error> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_lowercase) {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            b"true" => Ok(Value::Bool(true)),
            b"false" => Ok(Value::Bool(false)),
            b"null" => Ok(Value::Null),
            other => error(format!("invalid keyword '{}'", String::from_utf8_lossy(other))),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut dict = Dict::default();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(Value::Dict(dict));
        }
        loop {
            if !matches!(self.peek()?, b'"' | b'\'') {
                return error("key is not a string in object");
            }
            let key = self.string()?;
            if self.peek()? != b':' {
                return error("missing : in object pair");
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            if dict.insert(key, value).is_some() {
                return error("duplicate key");
            }
            if dict.len() > self.limits.keys {
                return error("JSON token count limit exceeded");
            }
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Value::Dict(dict));
                }
                _ => return error("expected separator in dict"),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return error("expected separator in list"),
            }
        }
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while parser.text.get(parser.at).is_some_and(u8::is_ascii_digit) {
                parser.at += 1;
            }
            parser.at - from
        };
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        let first = self.at;
        let count = digits(self);
        let mut valid = count > 0 && (count == 1 || self.text[first] != b'0');
        let mut integer = true;
        if self.text.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            valid &= digits(self) > 0;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            valid &= digits(self) > 0;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if !valid {
            self.at = start;
            return Err(self.stray());
        }
        if integer {
            if let Ok(value) = text.parse() {
                return Ok(Value::Int(value));
            }
            if let Ok(value) = text.parse() {
                return Ok(Value::Uint(value));
            }
        }
        text.parse().map(Value::Float).or_else(|_| error("expecting value"))
    }

    fn string(&mut self) -> Result<String, Error> {
        let quote = self.text[self.at];
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(&byte) = self.text.get(self.at) else { return error("premature EOI") };
            self.at += 1;
            match byte {
                _ if byte == quote => break,
                b'\\' => {
                    let c = self.escape()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..=0x1f => {
                    self.at -= 1;
                    return Err(self.stray());
                }
                _ => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).or_else(|_| error("invalid UTF-8 sequence in string"))
    }

    fn escape(&mut self) -> Result<char, Error> {
        let Some(&byte) = self.text.get(self.at) else { return error("premature EOI") };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\'' => '\'',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return error(format!("\\u{high:04X}\\u{low:04X} is not a valid Unicode character"));
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                let found = char::from_u32(code).filter(|&c| c != '\0');
                found.ok_or_else(|| Error(format!("\\u{high:04X} is not a valid Unicode character")))?
            }
            other => return error(format!("invalid escape sequence '\\{}' in string", char::from(other))),
        })
    }

    fn hex4(&mut self) -> Result<u32, Error> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return error("invalid hex escape '\\u' in string") };
        self.at += 4;
        let text = std::str::from_utf8(digits).unwrap_or_default();
        u32::from_str_radix(text, 16).or_else(|_| error("invalid hex escape '\\u' in string"))
    }
}
