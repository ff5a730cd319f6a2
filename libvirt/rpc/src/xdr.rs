//! XDR (RFC 4506): values in units of four bytes, big endian.
//!
//! Nothing that a peer claims is believed: a count is compared with the protocol's limit and with what is left of the
//! message before anything is allocated for it.

use crate::protocol::limits::STRING_MAX;

/// What cannot be decoded, or cannot be sent because it is longer than the protocol allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

/// A value with a form on the wire.
pub trait Xdr: Sized {
    /// Writes the value.
    fn encode(&self, encoder: &mut Encoder);

    /// Reads a value.
    ///
    /// # Errors
    /// The bytes are none.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid>;
}

/// Collects what is sent.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    excess: bool,
}

impl Encoder {
    /// An encoder that appends to `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, excess: false }
    }

    /// What has been written.
    ///
    /// # Errors
    /// Something was longer than its limit.
    pub fn finish(self) -> Result<Vec<u8>, Invalid> {
        if self.excess { Err(Invalid) } else { Ok(self.bytes) }
    }

    /// Writes bytes as they are.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_count(&mut self, count: usize, limit: usize) {
        self.excess |= count > limit;
        // Beyond the limit nothing is sent, so that the cut does not matter.
        self.put_raw(&(count as u32).to_be_bytes());
    }

    fn put_padded(&mut self, bytes: &[u8]) {
        self.put_raw(bytes);
        self.put_raw(&[0; 3][..bytes.len().wrapping_neg() % 4]);
    }
}

/// Reads what was received.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Invalid> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Invalid)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Invalid)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A count of items that take `unit` bytes at least.
    fn take_count(&mut self, limit: usize, unit: usize) -> Result<usize, Invalid> {
        let count = u32::decode(self)? as usize;
        if count > limit || count > self.rest.len() / unit {
            return Err(Invalid);
        }
        Ok(count)
    }

    fn take_padded(&mut self, limit: usize) -> Result<&'a [u8], Invalid> {
        let count = self.take_count(limit, 1)?;
        let bytes = self.take(count)?;
        self.take(count.wrapping_neg() % 4)?;
        Ok(bytes)
    }
}

macro_rules! number {
    ($($type:ty),*) => {
        $(impl Xdr for $type {
            fn encode(&self, encoder: &mut Encoder) {
                encoder.put_raw(&self.to_be_bytes());
            }

            fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
                Ok(Self::from_be_bytes(decoder.take_array()?))
            }
        })*
    };
}
number!(u32, i32, u64, i64, f64);

impl Xdr for () {
    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(())
    }
}

/// As the original's strings end at their first NUL, so do these. Bytes that are no UTF-8 become U+FFFD: what they name
/// does not exist.
impl Xdr for String {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.put_count(self.len(), STRING_MAX);
        encoder.put_padded(self.as_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        let bytes = decoder.take_padded(STRING_MAX)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(Self::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

impl<T: Xdr> Xdr for Option<T> {
    fn encode(&self, encoder: &mut Encoder) {
        put_optional(self, encoder, T::encode);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        get_optional(decoder, T::decode)
    }
}

/// Writes an optional by `put`.
pub fn put_optional<T>(value: &Option<T>, encoder: &mut Encoder, put: impl Fn(&T, &mut Encoder)) {
    u32::from(value.is_some()).encode(encoder);
    if let Some(value) = value {
        put(value, encoder);
    }
}

/// Reads an optional by `get`. Any flag but 0 says that it is there, as with the original: go-libvirt sends other ones.
///
/// # Errors
/// `get` fails.
pub fn get_optional<T>(
    decoder: &mut Decoder<'_>,
    get: impl Fn(&mut Decoder<'_>) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    match u32::decode(decoder)? {
        0 => Ok(None),
        _ => get(decoder).map(Some),
    }
}

/// Writes a list of `limit` items at most by `put`.
pub fn put_list<T>(values: &[T], encoder: &mut Encoder, limit: usize, put: impl Fn(&T, &mut Encoder)) {
    encoder.put_count(values.len(), limit);
    for value in values.iter().take(limit) {
        put(value, encoder);
    }
}

/// Reads a list of `limit` items at most by `get`.
///
/// # Errors
/// There are more, or `get` fails.
pub fn get_list<T>(
    decoder: &mut Decoder<'_>,
    limit: usize,
    get: impl Fn(&mut Decoder<'_>) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    // Every item takes one unit at least.
    let count = decoder.take_count(limit, 4)?;
    // An item may be larger in memory than on the wire: the list grows with what has really been read.
    let mut values = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        values.push(get(decoder)?);
    }
    Ok(values)
}

/// Writes opaque data.
pub fn put_bytes(value: &[u8], encoder: &mut Encoder, limit: usize) {
    encoder.put_count(value.len(), limit);
    encoder.put_padded(value);
}

/// Reads opaque data.
///
/// # Errors
/// It is longer than `limit`.
pub fn get_bytes(decoder: &mut Decoder<'_>, limit: usize) -> Result<Vec<u8>, Invalid> {
    Ok(decoder.take_padded(limit)?.to_vec())
}

/// Writes characters, each of which takes a unit.
pub fn put_chars(value: &[u8], encoder: &mut Encoder, limit: usize) {
    encoder.put_count(value.len(), limit);
    put_fixed_chars(value, encoder);
}

/// Reads characters, each of which takes a unit.
///
/// # Errors
/// There are more than `limit`.
pub fn get_chars(decoder: &mut Decoder<'_>, limit: usize) -> Result<Vec<u8>, Invalid> {
    let count = decoder.take_count(limit, 4)?;
    Ok(decoder.take(count * 4)?.chunks_exact(4).map(|unit| unit[3]).collect())
}

/// Writes characters without a count. They are signed.
pub fn put_fixed_chars(value: &[u8], encoder: &mut Encoder) {
    for byte in value {
        i32::from(byte.cast_signed()).encode(encoder);
    }
}

/// Reads `N` characters.
///
/// # Errors
/// There are fewer.
pub fn get_fixed_chars<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], Invalid> {
    let mut characters = [0; N];
    for (character, unit) in characters.iter_mut().zip(decoder.take(N * 4)?.chunks_exact(4)) {
        *character = unit[3];
    }
    Ok(characters)
}

/// Encodes one value.
///
/// # Errors
/// It is longer than its limits.
pub fn to_bytes(value: &impl Xdr) -> Result<Vec<u8>, Invalid> {
    let mut encoder = Encoder::default();
    value.encode(&mut encoder);
    encoder.finish()
}

/// Decodes a value and encodes it again.
///
/// # Errors
/// The bytes are none, or what they are cannot be sent.
pub fn recode<T: Xdr>(bytes: &[u8]) -> Result<Vec<u8>, Invalid> {
    to_bytes(&from_bytes::<T>(bytes)?)
}

/// Decodes one value; what follows it is ignored.
///
/// # Errors
/// The bytes are none.
pub fn from_bytes<T: Xdr>(bytes: &[u8]) -> Result<T, Invalid> {
    T::decode(&mut Decoder::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_padded_and_end_at_a_nul() {
        let bytes = to_bytes(&"abcde".to_owned()).expect("bytes");
        assert_eq!(bytes, b"\0\0\0\x05abcde\0\0\0");
        assert_eq!(from_bytes::<String>(&bytes), Ok("abcde".to_owned()));
        assert_eq!(from_bytes::<String>(b"\0\0\0\x04a\0bc"), Ok("a".to_owned()));
        assert_eq!(from_bytes::<String>(b"\0\0\0\x01\xff\0\0\0"), Ok("\u{fffd}".to_owned()));
        // The padding must be there.
        assert_eq!(from_bytes::<String>(b"\0\0\0\x01a\0\0"), Err(Invalid));
    }

    #[test]
    fn counts_are_not_believed() {
        let numbers = |bytes: &[u8]| get_list(&mut Decoder::new(bytes), 2, u32::decode);
        assert_eq!(numbers(b"\0\0\0\x01\0\0\0\x07"), Ok(vec![7]));
        assert_eq!(numbers(b"\0\0\0\x03\0\0\0\x07\0\0\0\x07\0\0\0\x07"), Err(Invalid));
        assert_eq!(numbers(b"\0\0\0\x02\0\0\0\x07"), Err(Invalid));
        assert_eq!(numbers(b"\xff\xff\xff\xff\0\0\0\x07"), Err(Invalid));
        assert_eq!(from_bytes::<String>(b"\xff\xff\xff\xff"), Err(Invalid));
        assert_eq!(get_chars(&mut Decoder::new(b"\0\0\0\x01\xff\xff\xff\xfe"), 1), Ok(vec![0xfe]));
    }

    #[test]
    fn any_flag_but_zero_is_true() {
        assert_eq!(from_bytes::<Option<u32>>(b"\0\0\0\x01\0\0\0\x02"), Ok(Some(2)));
        assert_eq!(from_bytes::<Option<u32>>(b"\x01\0\0\0\0\0\0\x02"), Ok(Some(2)));
        assert_eq!(from_bytes::<Option<u32>>(b"\0\0\0\0"), Ok(None));
        assert_eq!(from_bytes::<Option<u32>>(b"\0\0\0\x02"), Err(Invalid));
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let mut encoder = Encoder::default();
        put_list(&[1u32, 2, 3], &mut encoder, 2, |value, encoder| value.encode(encoder));
        assert_eq!(encoder.finish(), Err(Invalid));
    }
}
