//! Elements in few bytes, for what is kept by the thousand and seldom looked at.
//!
//! The fields follow each other in the order of their declaration, without names. What is not there, is empty, false or
//! zero is a zero byte, and zero bytes in a row are counted, so that the many parts which an element might have and has
//! not cost next to nothing. The form is of this process alone: it is never written to a file.

use crate::tree::Tree;
use crate::{Any, Hex, Internal, Split, SplitIf};

/// What can be packed. `#[xml::element]` and `#[xml::words]` implement it.
pub trait Pack: Sized {
    /// Adds the value.
    fn pack(&self, to: &mut Packer);
    /// Takes a value of this type out; `None`: there is none.
    fn unpack(from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Where values are packed.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    /// Zero bytes that have not been written yet.
    zeros: u64,
}

/// What values are taken out of.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    zeros: u64,
}

/// The value in few bytes.
pub fn pack<T: Pack>(value: &T) -> Box<[u8]> {
    let mut packer = Packer::default();
    value.pack(&mut packer);
    packer.end_zeros();
    packer.bytes.into_boxed_slice()
}

/// The value that [`pack`] made these bytes of; `None`: it was none of that type.
pub fn unpack<T: Pack>(bytes: &[u8]) -> Option<T> {
    let mut unpacker = Unpacker { bytes, zeros: 0 };
    let value = T::unpack(&mut unpacker)?;
    (unpacker.bytes.is_empty() && unpacker.zeros == 0).then_some(value)
}

impl Packer {
    fn end_zeros(&mut self) {
        if self.zeros > 0 {
            self.bytes.push(0);
            let zeros = std::mem::take(&mut self.zeros);
            self.digits(zeros);
        }
    }

    /// Seven bits a byte, the lowest first; all but the last have the highest bit.
    fn digits(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// Adds a number; the smaller, the fewer bytes.
    pub fn number(&mut self, number: u64) {
        if number == 0 {
            self.zeros += 1;
        } else {
            self.end_zeros();
            self.digits(number);
        }
    }
}

impl<'a> Unpacker<'a> {
    fn digits(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Takes a number.
    pub fn number(&mut self) -> Option<u64> {
        if self.zeros == 0 {
            let number = self.digits()?;
            if number != 0 {
                return Some(number);
            }
            self.zeros = self.digits()?;
        }
        self.zeros = self.zeros.checked_sub(1)?;
        Some(0)
    }

    /// A count of things that take a bit of a byte each at least.
    fn count(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let count = self.count()?;
        let (text, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }
}

macro_rules! unsigned {
    ($($type:ty)*) => {$(
        impl Pack for $type {
            fn pack(&self, to: &mut Packer) {
                to.number(u64::from(*self));
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                from.number()?.try_into().ok()
            }
        }
    )*};
}
unsigned!(u8 u16 u32 u64);

macro_rules! signed {
    ($($type:ty)*) => {$(
        impl Pack for $type {
            /// The sign is the lowest bit, so that small negative numbers are short too.
            fn pack(&self, to: &mut Packer) {
                let number = i64::from(*self);
                to.number(((number << 1) ^ (number >> 63)).cast_unsigned());
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                let number = from.number()?;
                let number = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
                number.try_into().ok()
            }
        }
    )*};
}
signed!(i32 i64);

impl Pack for bool {
    fn pack(&self, to: &mut Packer) {
        to.number((*self).into());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(from.number()? != 0)
    }
}

impl<const DIGITS: usize> Pack for Hex<DIGITS> {
    fn pack(&self, to: &mut Packer) {
        to.number(self.0);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        from.number().map(Self)
    }
}

impl Pack for String {
    fn pack(&self, to: &mut Packer) {
        to.number(self.len() as u64);
        if !self.is_empty() {
            to.bytes.extend_from_slice(self.as_bytes());
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        from.text().map(str::to_owned)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer) {
        to.number(self.is_some().into());
        if let Some(value) = self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(if from.number()? == 0 { None } else { Some(T::unpack(from)?) })
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer) {
        to.number(self.len() as u64);
        for value in self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = from.count()?;
        // A count may be wrong, and elements are large.
        let mut values = Self::with_capacity(count.min(64));
        for _ in 0..count {
            values.push(T::unpack(from)?);
        }
        Some(values)
    }
}

impl<T: Pack> Pack for Box<T> {
    fn pack(&self, to: &mut Packer) {
        (**self).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        T::unpack(from).map(Self::new)
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
        self.1.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some((A::unpack(from)?, B::unpack(from)?))
    }
}

impl Pack for SplitIf {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Pack::unpack(from).map(Self)
    }
}

impl Pack for Split {
    fn pack(&self, _: &mut Packer) {}

    fn unpack(_: &mut Unpacker<'_>) -> Option<Self> {
        Some(Self)
    }
}

impl Pack for Any {
    fn pack(&self, to: &mut Packer) {
        self.attributes.pack(to);
        self.children.pack(to);
        self.text.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(Self {
            attributes: Pack::unpack(from)?,
            children: Pack::unpack(from)?,
            text: Pack::unpack(from)?,
        })
    }
}

impl Pack for Internal {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Pack::unpack(from).map(Self)
    }
}

impl Pack for Tree {
    fn pack(&self, to: &mut Packer) {
        match self {
            Self::Element(name, attributes, children) => {
                to.number(0);
                name.pack(to);
                attributes.pack(to);
                children.pack(to);
            }
            Self::Text(text) => {
                to.number(1);
                text.pack(to);
            }
            Self::Comment(text) => {
                to.number(2);
                text.pack(to);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(match from.number()? {
            0 => Self::Element(Pack::unpack(from)?, Pack::unpack(from)?, Pack::unpack(from)?),
            1 => Self::Text(Pack::unpack(from)?),
            2 => Self::Comment(Pack::unpack(from)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Everything = (Vec<Option<String>>, (Vec<i64>, Vec<(u64, Option<Box<bool>>)>));

    fn check(value: &Everything) -> usize {
        let bytes = pack(value);
        assert_eq!(unpack::<Everything>(&bytes).as_ref(), Some(value), "{bytes:?}");
        bytes.len()
    }

    #[test]
    fn what_was_packed_comes_out() {
        let texts = vec![None, Some(String::new()), Some("é\0".to_owned()), Some("x".repeat(300))];
        let signed = vec![0, 1, -1, 127, -128, i64::MAX, i64::MIN];
        let unsigned = vec![(u64::MAX, None), (0, Some(Box::new(true))), (0x80, Some(Box::new(false)))];
        check(&(texts, (signed, unsigned)));
        // Each time two bytes for the count and three for all the zeros.
        assert_eq!(check(&(vec![None; 200], (vec![0; 200], Vec::new()))), 10);
        assert_eq!(check(&Everything::default()), 2);
    }

    #[test]
    fn what_is_something_else_is_noticed() {
        let bytes = pack(&vec!["one".to_owned()]);
        assert_eq!(unpack::<Vec<String>>(&bytes[..bytes.len() - 1]), None);
        assert_eq!(unpack::<bool>(&bytes), None);
        assert_eq!(unpack::<u8>(&pack(&300u32)), None);
        assert_eq!(unpack::<Vec<u64>>(&[0xff; 12]), None);
        assert_eq!(unpack::<String>(&[1, 0xff]), None);
        assert_eq!(unpack::<u64>(&[0, 0]), None);
        assert_eq!(unpack::<u64>(&[]), None);
    }
}
