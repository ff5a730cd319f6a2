//! AML, the byte code of definition blocks (ACPI specification 6.5, chapter 20.2).
//!
//! Every function returns the encoding of one term; terms are put together by value. Names are written as in ASL
//! (`\_SB.PCI0`), short segments are filled up with underscores.

/// The encoding of one term or list of terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term(Vec<u8>);

/// Whether a method lets one thread in at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Serialized,
    Free,
}

/// Address space of an operation region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Memory = 0,
    Io = 1,
    PciConfig = 2,
}

/// How wide a field's accesses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Byte = 1,
    Dword = 3,
}

/// What a write puts into the bits around a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Preserve = 0,
    Zeros = 2,
}

/// A part of a field list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit<'a> {
    /// A named field of so many bits.
    Field(&'a str, usize),
    /// Bits without a name.
    Skip(usize),
}

impl Term {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn op(code: &[u8], parts: &[&Term]) -> Self {
        let mut out = code.to_vec();
        for part in parts {
            out.extend_from_slice(&part.0);
        }
        Self(out)
    }
}

/// `code`, then the length of all that follows, then that.
fn package_of(code: &[u8], body: Vec<u8>) -> Term {
    let mut out = code.to_vec();
    out.extend(length_of(body.len()));
    out.extend(body);
    Term(out)
}

/// PkgLength of a body of `len` bytes: the field counts itself.
fn length_of(len: usize) -> Vec<u8> {
    // One byte holds 6 bits; more bytes hold 4 bits in the first and 8 in each further one.
    if len < 63 {
        return vec![byte(len + 1)];
    }
    let extra = (1..=2).find(|&n| len + n + 1 < 1 << (4 + 8 * n)).unwrap_or(3);
    encode_length(len + extra + 1, extra)
}

fn encode_length(total: usize, extra: usize) -> Vec<u8> {
    let mut out = vec![byte(extra << 6 | total & 0xf)];
    out.extend((0..extra).map(|i| byte(total >> (4 + 8 * i) & 0xff)));
    out
}

/// A number of bits in a field list: as PkgLength, but without counting itself.
fn bits(count: usize) -> Vec<u8> {
    if count < 64 {
        return vec![byte(count)];
    }
    encode_length(count, (1..=2).find(|&n| count < 1 << (4 + 8 * n)).unwrap_or(3))
}

fn byte(value: usize) -> u8 {
    debug_assert!(value < 256);
    (value & 0xff) as u8
}

fn segment(name: &str) -> [u8; 4] {
    debug_assert!((1..=4).contains(&name.len()), "{name}");
    let mut out = [b'_'; 4];
    for (to, from) in out.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    out
}

fn joined(terms: impl IntoIterator<Item = Term>) -> Vec<u8> {
    terms.into_iter().flat_map(|t| t.0).collect()
}

/// Several terms as one.
pub(crate) fn list(terms: impl IntoIterator<Item = Term>) -> Term {
    Term(joined(terms))
}

/// A NameString.
pub(crate) fn path(name: &str) -> Term {
    let rest = name.trim_start_matches(['\\', '^']);
    let mut out = name.as_bytes()[..name.len() - rest.len()].to_vec();
    let segments: Vec<_> = rest.split('.').filter(|s| !s.is_empty()).map(segment).collect();
    match segments.len() {
        0 => out.push(0),
        1 => {}
        2 => out.push(0x2e),
        n => out.extend([0x2f, byte(n)]),
    }
    out.extend(segments.as_flattened());
    Term(out)
}

/// An integer in its shortest form.
pub(crate) fn int(value: u64) -> Term {
    let bytes = value.to_le_bytes();
    let (code, len) = match value {
        0 => return Term(vec![0x00]),
        1 => return Term(vec![0x01]),
        2..=0xff => (0x0a, 1),
        0x100..=0xffff => (0x0b, 2),
        0x1_0000..=0xffff_ffff => (0x0c, 4),
        _ => (0x0e, 8),
    };
    let mut out = vec![code];
    out.extend_from_slice(&bytes[..len]);
    Term(out)
}

/// A string.
pub(crate) fn string(text: &str) -> Term {
    let mut out = vec![0x0d];
    out.extend(text.bytes().filter(|&b| b != 0));
    out.push(0);
    Term(out)
}

/// A compressed EISA identifier such as `PNP0A03`: three letters of five bits, four hexadecimal digits.
pub(crate) fn eisa_id(id: &str) -> Term {
    debug_assert!(id.len() == 7);
    let letters =
        id.bytes().take(3).fold(0u32, |value, b| value << 5 | u32::from(b.wrapping_sub(0x40) & 0x1f));
    let number = id.get(3..).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let mut out = vec![0x0c];
    out.extend((letters << 16 | number & 0xffff).to_be_bytes());
    Term(out)
}

/// A buffer with these bytes.
pub(crate) fn buffer(bytes: &[u8]) -> Term {
    let mut body = int(bytes.len() as u64).0;
    body.extend_from_slice(bytes);
    package_of(&[0x11], body)
}

/// The buffer that ASL's `ToUUID` makes: the first three groups are little-endian.
pub(crate) fn uuid(text: &str) -> Term {
    let digits: Vec<u8> = text.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
    let raw: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |v, d| v << 4 | d)).collect();
    debug_assert!(raw.len() == 16);
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    buffer(&order.map(|i| raw.get(i).copied().unwrap_or(0)))
}

/// A package with these elements.
pub(crate) fn package(elements: Vec<Term>) -> Term {
    let mut body = vec![byte(elements.len())];
    body.extend(joined(elements));
    package_of(&[0x12], body)
}

/// `Name (name, value)`.
pub(crate) fn name(name: &str, value: Term) -> Term {
    Term::op(&[0x08], &[&path(name), &value])
}

/// `Scope (name) {body}`.
pub(crate) fn scope(name: &str, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = path(name).0;
    content.extend(joined(body));
    package_of(&[0x10], content)
}

/// `Device (name) {body}`.
pub(crate) fn device(name: &str, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = path(name).0;
    content.extend(joined(body));
    package_of(&[0x5b, 0x82], content)
}

/// `Processor (name, id, 0, 0) {body}`: the form of ACPI 5 and before.
pub(crate) fn processor(name: &str, id: u8, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = path(name).0;
    content.extend([id, 0, 0, 0, 0, 0]);
    content.extend(joined(body));
    package_of(&[0x5b, 0x83], content)
}

/// `Method (name, arguments, sync) {body}`.
pub(crate) fn method(name: &str, args: u8, sync: Sync, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = path(name).0;
    content.push(args & 7 | u8::from(sync == Sync::Serialized) << 3);
    content.extend(joined(body));
    package_of(&[0x14], content)
}

/// `Mutex (name, 0)`.
pub(crate) fn mutex(name: &str) -> Term {
    let mut out = Term::op(&[0x5b, 0x01], &[&path(name)]);
    out.0.push(0);
    out
}

/// `Acquire (name, 0xffff)`: waits for ever.
pub(crate) fn acquire(name: &str) -> Term {
    let mut out = Term::op(&[0x5b, 0x23], &[&path(name)]);
    out.0.extend([0xff, 0xff]);
    out
}

/// `Release (name)`.
pub(crate) fn release(name: &str) -> Term {
    Term::op(&[0x5b, 0x27], &[&path(name)])
}

/// `OperationRegion (name, space, offset, len)`.
pub(crate) fn region(name: &str, space: Space, offset: u64, len: u64) -> Term {
    let mut out = Term::op(&[0x5b, 0x80], &[&path(name)]);
    out.0.push(space as u8);
    out.0.extend(int(offset).0);
    out.0.extend(int(len).0);
    out
}

/// `Field (region, access, lock, update) {units}`.
pub(crate) fn field(region: &str, access: Access, lock: bool, update: Update, units: &[Unit<'_>]) -> Term {
    let mut body = path(region).0;
    body.push(access as u8 | u8::from(lock) << 4 | (update as u8) << 5);
    for unit in units {
        match *unit {
            Unit::Field(name, count) => {
                body.extend(segment(name));
                body.extend(bits(count));
            }
            Unit::Skip(count) => {
                body.push(0);
                body.extend(bits(count));
            }
        }
    }
    package_of(&[0x5b, 0x81], body)
}

/// `CreateDWordField (source, offset, name)`.
pub(crate) fn dword_field(source: &Term, offset: u64, name: &str) -> Term {
    Term::op(&[0x8a], &[source, &int(offset), &path(name)])
}

/// `LocalN`.
pub(crate) fn local(n: u8) -> Term {
    Term(vec![0x60 + (n & 7)])
}

/// `ArgN`.
pub(crate) fn arg(n: u8) -> Term {
    Term(vec![0x68 + n.min(6)])
}

/// `to = from`.
pub(crate) fn store(from: Term, to: &Term) -> Term {
    Term::op(&[0x70], &[&from, to])
}

/// A call of a method, or the value of a name where `args` is empty.
pub(crate) fn call(name: &str, args: impl IntoIterator<Item = Term>) -> Term {
    Term::op(&[], &[&path(name), &list(args)])
}

/// `Return (value)`.
pub(crate) fn ret(value: Term) -> Term {
    Term::op(&[0xa4], &[&value])
}

/// `If (condition) {body}`.
pub(crate) fn when(condition: Term, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = condition.0;
    content.extend(joined(body));
    package_of(&[0xa0], content)
}

/// `Else {body}`.
pub(crate) fn otherwise(body: impl IntoIterator<Item = Term>) -> Term {
    package_of(&[0xa1], joined(body))
}

/// `While (condition) {body}`.
pub(crate) fn repeat(condition: Term, body: impl IntoIterator<Item = Term>) -> Term {
    let mut content = condition.0;
    content.extend(joined(body));
    package_of(&[0xa2], content)
}

/// `Break`.
pub(crate) fn stop() -> Term {
    Term(vec![0xa5])
}

/// `Notify (object, value)`.
pub(crate) fn notify(object: &str, value: Term) -> Term {
    Term::op(&[0x86], &[&path(object), &value])
}

/// `target++`.
pub(crate) fn increment(target: &Term) -> Term {
    Term::op(&[0x75], &[target])
}

/// `a & b`, stored in `target` where one is given.
pub(crate) fn and(a: Term, b: Term, target: Option<&Term>) -> Term {
    Term::op(&[0x7b], &[&a, &b, target.unwrap_or(&Term(vec![0]))])
}

/// `a | b`, stored in `target` where one is given.
pub(crate) fn or(a: Term, b: Term, target: Option<&Term>) -> Term {
    Term::op(&[0x7d], &[&a, &b, target.unwrap_or(&Term(vec![0]))])
}

/// `a - b`.
pub(crate) fn subtract(a: Term, b: Term) -> Term {
    Term::op(&[0x74], &[&a, &b, &Term(vec![0])])
}

/// `a << b`.
pub(crate) fn shift_left(a: Term, b: Term) -> Term {
    Term::op(&[0x79], &[&a, &b, &Term(vec![0])])
}

/// `a >> b`.
pub(crate) fn shift_right(a: Term, b: Term) -> Term {
    Term::op(&[0x7a], &[&a, &b, &Term(vec![0])])
}

/// `a == b`.
pub(crate) fn equal(a: Term, b: Term) -> Term {
    Term::op(&[0x93], &[&a, &b])
}

/// `a < b`.
pub(crate) fn less(a: Term, b: Term) -> Term {
    Term::op(&[0x95], &[&a, &b])
}

/// `a && b`.
pub(crate) fn both(a: Term, b: Term) -> Term {
    Term::op(&[0x90], &[&a, &b])
}

/// `a || b`.
pub(crate) fn either(a: Term, b: Term) -> Term {
    Term::op(&[0x91], &[&a, &b])
}

/// `!a`.
pub(crate) fn not(a: Term) -> Term {
    Term::op(&[0x92], &[&a])
}

/// `SizeOf (object)`.
pub(crate) fn size_of(object: &Term) -> Term {
    Term::op(&[0x87], &[object])
}

/// `DerefOf (object [index])`.
pub(crate) fn element(object: &Term, index: Term) -> Term {
    Term::op(&[0x83], &[&place(object, index)])
}

/// `object [index]`, as the target of a store.
pub(crate) fn place(object: &Term, index: Term) -> Term {
    Term::op(&[0x88], &[object, &index, &Term(vec![0])])
}

/// `ToHexString (value, target)`.
pub(crate) fn to_hex_string(value: Term, target: &Term) -> Term {
    Term::op(&[0x98], &[&value, target])
}

/// `ToBuffer (value, target)`.
pub(crate) fn to_buffer(value: Term, target: &Term) -> Term {
    Term::op(&[0x96], &[&value, target])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_their_shortest_form() {
        for (value, bytes) in [
            (0, vec![0]),
            (1, vec![1]),
            (2, vec![0x0a, 2]),
            (0x100, vec![0x0b, 0, 1]),
            (0x1_0000, vec![0x0c, 0, 0, 1, 0]),
            (1 << 32, vec![0x0e, 0, 0, 0, 0, 1, 0, 0, 0]),
        ] {
            assert_eq!(int(value).0, bytes);
        }
    }

    #[test]
    fn names_and_identifiers() {
        assert_eq!(path("\\").0, [b'\\', 0]);
        assert_eq!(path("KBD").0, *b"KBD_");
        assert_eq!(path("\\_SB.PCI0").0, *b"\\\x2e_SB_PCI0");
        assert_eq!(path("\\_SB.PCI0.PRES").0, *b"\\\x2f\x03_SB_PCI0PRES");
        // The specification's own example, chapter 19.3.4.
        assert_eq!(eisa_id("PNP0501").0, [0x0c, 0x41, 0xd0, 0x05, 0x01]);
        assert_eq!(
            uuid("33db4d5b-1ff7-401c-9657-7441c03dd766").0[4..],
            [0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66]
        );
    }

    #[test]
    fn a_length_counts_itself() {
        for (len, bytes) in [
            (0, vec![1]),
            (62, vec![63]),
            (63, vec![0x41, 0x04]),
            (4093, vec![0x4f, 0xff]),
            (4094, vec![0x81, 0x00, 0x01]),
            ((1 << 20) - 4, vec![0x8f, 0xff, 0xff]),
            ((1 << 20) - 3, vec![0xc1, 0, 0, 1]),
        ] {
            assert_eq!(length_of(len), bytes, "{len}");
        }
        assert_eq!((bits(8), bits(64)), (vec![8], vec![0x40, 4]));
    }
}
