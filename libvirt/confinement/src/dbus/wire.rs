//! Values as they are on the wire: little-endian or big-endian, aligned to their size.

/// A value with its type. What stands in brackets is the type's code.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Byte (`y`).
    Byte(u8),
    /// Truth value (`b`).
    Bool(bool),
    /// Signed 16 bits (`n`).
    I16(i16),
    /// 16 bits (`q`).
    U16(u16),
    /// Signed 32 bits (`i`).
    I32(i32),
    /// 32 bits (`u`).
    U32(u32),
    /// Signed 64 bits (`x`).
    I64(i64),
    /// 64 bits (`t`).
    U64(u64),
    /// A double (`d`).
    Double(f64),
    /// Text (`s`).
    Str(String),
    /// The path of an object (`o`).
    Path(String),
    /// A signature (`g`).
    Signature(String),
    /// An index into the message's descriptors (`h`).
    Descriptor(u32),
    /// An array (`a`) of values of the type.
    Array(String, Vec<Value>),
    /// A structure (`(...)`).
    Struct(Vec<Value>),
    /// An entry of a dictionary (`{..}`).
    Entry(Box<(Value, Value)>),
    /// Any value, with its type on the wire (`v`).
    Variant(Box<Value>),
}

/// Containers may be nested this deep (32 arrays in 32 structures), variants counted as well.
const MAX_DEPTH: usize = 64;
/// Longest array, in bytes; the protocol's limit is 64 MiB.
const MAX_ARRAY: usize = 1 << 20;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl Value {
    /// `value` as a variant.
    #[must_use]
    pub fn variant(value: impl Into<Self>) -> Self {
        Self::Variant(Box::new(value.into()))
    }

    /// A dictionary `a{ss}`.
    #[must_use]
    pub fn texts<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entry = |(key, value): (&str, &str)| Self::Entry(Box::new((key.into(), value.into())));
        Self::Array("{ss}".into(), entries.into_iter().map(entry).collect())
    }

    /// A dictionary `a{sv}`.
    #[must_use]
    pub fn properties<'a>(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entry = |(key, value): (&str, Self)| Self::Entry(Box::new((key.into(), Self::variant(value))));
        Self::Array("{sv}".into(), entries.into_iter().map(entry).collect())
    }

    /// The text, if it is one, of whatever kind.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// The items of an array or structure.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Array(_, items) | Self::Struct(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn add_signature(&self, to: &mut String) {
        match self {
            Self::Byte(_) => to.push('y'),
            Self::Bool(_) => to.push('b'),
            Self::I16(_) => to.push('n'),
            Self::U16(_) => to.push('q'),
            Self::I32(_) => to.push('i'),
            Self::U32(_) => to.push('u'),
            Self::I64(_) => to.push('x'),
            Self::U64(_) => to.push('t'),
            Self::Double(_) => to.push('d'),
            Self::Str(_) => to.push('s'),
            Self::Path(_) => to.push('o'),
            Self::Signature(_) => to.push('g'),
            Self::Descriptor(_) => to.push('h'),
            Self::Array(item, _) => {
                to.push('a');
                to.push_str(item);
            }
            Self::Struct(items) => {
                to.push('(');
                items.iter().for_each(|item| item.add_signature(to));
                to.push(')');
            }
            Self::Entry(entry) => {
                to.push('{');
                entry.0.add_signature(to);
                entry.1.add_signature(to);
                to.push('}');
            }
            Self::Variant(_) => to.push('v'),
        }
    }
}

/// The signature of a message's body.
pub(super) fn signature(values: &[Value]) -> String {
    let mut text = String::new();
    values.iter().for_each(|value| value.add_signature(&mut text));
    text
}

fn alignment(code: u8) -> usize {
    match code {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Writes values, little-endian.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.number(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        // Ours are short; the limit is 255.
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(truth) => self.number(u32::from(*truth).to_le_bytes()),
            Value::I16(number) => self.number(number.to_le_bytes()),
            Value::U16(number) => self.number(number.to_le_bytes()),
            Value::I32(number) => self.number(number.to_le_bytes()),
            Value::U32(number) | Value::Descriptor(number) => self.number(number.to_le_bytes()),
            Value::I64(number) => self.number(number.to_le_bytes()),
            Value::U64(number) => self.number(number.to_le_bytes()),
            Value::Double(number) => self.number(number.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.signature(text),
            Value::Array(item, items) => {
                self.number([0; 4]);
                let at = self.bytes.len() - 4;
                self.align(alignment(item.as_bytes()[0]));
                let start = self.bytes.len();
                items.iter().for_each(|item| self.value(item));
                let size = length(self.bytes.len() - start);
                self.bytes[at..at + 4].copy_from_slice(&size);
            }
            Value::Struct(items) => {
                self.align(8);
                items.iter().for_each(|item| self.value(item));
            }
            Value::Entry(entry) => {
                self.align(8);
                self.value(&entry.0);
                self.value(&entry.1);
            }
            Value::Variant(value) => {
                let mut text = String::new();
                value.add_signature(&mut text);
                self.signature(&text);
                self.value(value);
            }
        }
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Reads values that a peer wrote; `None` is what has no meaning.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) big_endian: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.big_endian {
            bytes.reverse();
        }
        Some(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = self.take(length)?;
        (self.take(1)? == [0]).then_some(())?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// All values of a signature.
    pub(super) fn values(&mut self, mut signature: &str, depth: usize) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = split_first(signature)?;
            values.push(self.value(first, depth)?);
            signature = rest;
        }
        Some(values)
    }

    /// A value of one complete type.
    fn value(&mut self, signature: &str, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match signature.as_bytes()[0] {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return None,
            },
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.number()?)),
            b'h' => Value::Descriptor(self.u32()?),
            b's' => {
                let length = self.u32()?;
                Value::Str(self.text(length as usize)?)
            }
            b'o' => {
                let length = self.u32()?;
                Value::Path(self.text(length as usize)?)
            }
            b'g' => {
                let length = self.take(1)?[0];
                Value::Signature(self.text(length.into())?)
            }
            b'a' => self.array(&signature[1..], depth)?,
            b'(' => {
                self.align(8)?;
                Value::Struct(self.values(&signature[1..signature.len() - 1], depth + 1)?)
            }
            b'{' => {
                self.align(8)?;
                let mut pair = self.values(&signature[1..signature.len() - 1], depth + 1)?.into_iter();
                let entry = (pair.next()?, pair.next()?);
                pair.next().is_none().then_some(Value::Entry(Box::new(entry)))?
            }
            b'v' => {
                let length = self.take(1)?[0];
                let inner = self.text(length.into())?;
                let (first, rest) = split_first(&inner)?;
                rest.is_empty().then_some(())?;
                Value::Variant(Box::new(self.value(first, depth + 1)?))
            }
            _ => return None,
        })
    }

    fn array(&mut self, item: &str, depth: usize) -> Option<Value> {
        let size = self.u32()? as usize;
        if size > MAX_ARRAY {
            return None;
        }
        self.align(alignment(item.as_bytes()[0]))?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(item, depth + 1)?);
            // An empty structure would never end.
            (self.at > before).then_some(())?;
        }
        (self.at == end).then(|| Value::Array(item.to_owned(), items))
    }
}

/// The first complete type of a signature, and the rest.
fn split_first(signature: &str) -> Option<(&str, &str)> {
    let bytes = signature.as_bytes();
    let mut open = 0_usize;
    for (at, code) in bytes.iter().enumerate() {
        match code {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            b'a' => continue,
            b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'h'
            | b'v' => {}
            _ => return None,
        }
        if open == 0 {
            // The brackets must be a pair, which nested ones see to in their turn.
            let first = bytes.iter().find(|code| **code != b'a')?;
            let pair = match first {
                b'(' => *code == b')',
                b'{' => *code == b'}',
                _ => true,
            };
            return pair.then(|| signature.split_at(at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(value: Value) {
        let mut writer = Writer::default();
        writer.value(&Value::Byte(7));
        writer.value(&value);
        let both = [Value::Byte(7), value];
        let text = signature(&both);
        let mut reader = Reader { bytes: &writer.bytes, at: 0, big_endian: false };
        assert_eq!(reader.values(&text, 0).as_deref(), Some(&both[..]), "{text}");
        assert_eq!(reader.at, writer.bytes.len());
        for cut in 0..writer.bytes.len() {
            let mut reader = Reader { bytes: &writer.bytes[..cut], at: 0, big_endian: false };
            assert_eq!(reader.values(&text, 0), None, "{text} cut to {cut}");
        }
    }

    #[test]
    fn values_come_back() {
        round(Value::texts([("a", "ä"), ("b", "")]));
        round(Value::Array("{ss}".into(), vec![Value::texts([("x", "y")]).items().unwrap()[0].clone()]));
        round(Value::properties([
            ("pid", Value::U32(7)),
            ("start-time", Value::U64(u64::MAX)),
            ("uid", Value::I32(-1)),
        ]));
        round(Value::Struct(vec![
            Value::Bool(true),
            Value::I64(-5),
            Value::Path("/x".into()),
            Value::U16(9),
        ]));
        round(Value::variant(Value::Array("as".into(), vec![Value::Array("s".into(), vec!["q".into()])])));
        round(Value::Signature("a{sv}".into()));
        round(Value::Double(1.5));
        round(Value::Descriptor(3));
    }

    #[test]
    fn bytes_are_where_the_specification_puts_them() {
        let mut writer = Writer::default();
        // The example of the specification: an array of one 64-bit 5.
        writer.value(&Value::Array("x".into(), vec![Value::I64(5)]));
        assert_eq!(writer.bytes, [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.value(&"foo".into());
        assert_eq!(writer.bytes, [3, 0, 0, 0, b'f', b'o', b'o', 0]);
        let mut reader = Reader { bytes: &[0, 0, 0, 1, 0, 9], at: 0, big_endian: true };
        assert_eq!(reader.values("uq", 0), Some(vec![Value::U32(1), Value::U16(9)]));
    }

    #[test]
    fn nonsense_has_no_meaning() {
        let zeros = [0; 64];
        for text in ["z", "a", "(s", "s)", "{s", "(}", "a{sv", "a()", "a{s}", "a{sss}"] {
            let mut bytes = zeros;
            bytes[0] = 16;
            let mut reader = Reader { bytes: &bytes, at: 0, big_endian: false };
            assert_eq!(reader.values(text, 0), None, "{text}");
        }
        // A variant in a variant, and so on.
        let mut bytes = Vec::new();
        for _ in 0..200 {
            bytes.extend([1, b'v', 0]);
        }
        let mut reader = Reader { bytes: &bytes, at: 0, big_endian: false };
        assert_eq!(reader.values("v", 0), None);
        let mut reader = Reader { bytes: &[2, 0, 0, 0], at: 0, big_endian: false };
        assert_eq!(reader.values("b", 0), None);
    }
}
