//! Resource descriptors, the contents of `_CRS` and `_PRS` (ACPI specification 6.5, chapter 6.4).

use crate::aml::{Term, buffer};

/// A descriptor's encoding.
pub(crate) type Descriptor = Vec<u8>;

/// Flags of an address space descriptor: both ends are fixed, the range is produced for children.
const FIXED: u8 = 0x0c;

/// Whether memory may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cacheable {
    Yes,
    No,
}

impl Cacheable {
    /// Type-specific flags of read-write memory.
    fn flags(self) -> u8 {
        1 | u8::from(self == Self::Yes) << 1
    }
}

/// `ResourceTemplate () {descriptors}`.
pub(crate) fn template(descriptors: impl IntoIterator<Item = Descriptor>) -> Term {
    let mut bytes: Vec<u8> = descriptors.into_iter().flatten().collect();
    // The end tag; a checksum of zero means that there is none.
    bytes.extend([0x79, 0]);
    buffer(&bytes)
}

/// `IO (Decode16, port, port, align, len)`.
pub(crate) fn io(port: u16, align: u8, len: u8) -> Descriptor {
    let [low, high] = port.to_le_bytes();
    vec![0x47, 1, low, high, low, high, align, len]
}

/// `IRQNoFlags () {irq}`.
pub(crate) fn irq(irq: u8) -> Descriptor {
    let [low, high] = (1u16 << (irq & 15)).to_le_bytes();
    vec![0x22, low, high]
}

/// `DMA (Compatibility, NotBusMaster, Transfer8) {channel}`.
pub(crate) fn dma(channel: u8) -> Descriptor {
    vec![0x2a, 1 << (channel & 7), 0]
}

/// `Memory32Fixed (ReadOnly, base, len)`.
pub(crate) fn memory_32_fixed(base: u32, len: u32) -> Descriptor {
    let mut out = vec![0x86, 9, 0, 0];
    out.extend(base.to_le_bytes());
    out.extend(len.to_le_bytes());
    out
}

/// `Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {lines}`.
pub(crate) fn interrupts(lines: &[u32]) -> Descriptor {
    let count = lines.len() as u8;
    let mut out = vec![0x89, 2 + 4 * count, 0, 9, count];
    out.extend(lines.iter().flat_map(|line| line.to_le_bytes()));
    out
}

fn word(kind: u8, flags: u8, first: u16, last: u16) -> Descriptor {
    let mut out = vec![0x88, 13, 0, kind, FIXED, flags];
    let len = last.wrapping_sub(first).wrapping_add(1);
    for value in [0, first, last, 0, len] {
        out.extend(value.to_le_bytes());
    }
    out
}

/// `WordBusNumber` for the buses `first` to `last`.
pub(crate) fn buses(first: u8, last: u8) -> Descriptor {
    word(2, 0, first.into(), last.into())
}

/// `WordIO` for the ports `first` to `last`.
pub(crate) fn ports(first: u16, last: u16) -> Descriptor {
    word(1, 3, first, last)
}

/// `DWordMemory` for the addresses `first` to `last`.
pub(crate) fn memory_32(cacheable: Cacheable, first: u32, last: u32) -> Descriptor {
    let mut out = vec![0x87, 23, 0, 0, FIXED, cacheable.flags()];
    let len = last.wrapping_sub(first).wrapping_add(1);
    for value in [0, first, last, 0, len] {
        out.extend(value.to_le_bytes());
    }
    out
}

/// `QWordMemory` for the addresses `first` to `last`.
pub(crate) fn memory_64(cacheable: Cacheable, first: u64, last: u64) -> Descriptor {
    let mut out = vec![0x8a, 43, 0, 0, FIXED, cacheable.flags()];
    let len = last.wrapping_sub(first).wrapping_add(1);
    for value in [0, first, last, 0, len] {
        out.extend(value.to_le_bytes());
    }
    out
}
