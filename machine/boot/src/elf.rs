//! The parts of ELF that a loader needs: entry point, loadable segments, notes (System V gABI, chapters 4 and 5).

use crate::BootError;
use crate::bytes::{u16_at, u32_at, u64_at};
use guestmem::AddressSpace;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
/// More program headers than any kernel has.
const MAX_SEGMENTS: u16 = 64;

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
}

/// A parsed ELF executable for x86.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    image: &'a [u8],
    pub(crate) is_64: bool,
    pub(crate) entry: u64,
    segments: Vec<Segment>,
}

impl<'a> Elf<'a> {
    /// Reads the headers; `None` when this is not an x86 ELF file or its headers are damaged.
    pub(crate) fn parse(image: &'a [u8]) -> Option<Self> {
        if image.get(..4)? != b"\x7fELF" || *image.get(5)? != 1 {
            return None;
        }
        let is_64 = match *image.get(4)? {
            1 => false,
            2 => true,
            _ => return None,
        };
        if u16_at(image, 18)? != if is_64 { EM_X86_64 } else { EM_386 } {
            return None;
        }
        let word = |at32: usize, at64: usize| {
            if is_64 { u64_at(image, at64) } else { u32_at(image, at32).map(u64::from) }
        };
        let entry = word(24, 24)?;
        let table = usize::try_from(word(28, 32)?).ok()?;
        let (size, count) = if is_64 { (54, 56) } else { (42, 44) };
        let (size, count) = (usize::from(u16_at(image, size)?), u16_at(image, count)?);
        let mut segments = Vec::new();
        for i in 0..usize::from(count.min(MAX_SEGMENTS)) {
            let header = image.get(table.checked_add(i.checked_mul(size)?)?..)?;
            segments.push(if is_64 {
                Segment {
                    kind: u32_at(header, 0)?,
                    offset: u64_at(header, 8)?,
                    physical: u64_at(header, 24)?,
                    file_size: u64_at(header, 32)?,
                    memory_size: u64_at(header, 40)?,
                }
            } else {
                Segment {
                    kind: u32_at(header, 0)?,
                    offset: u32_at(header, 4)?.into(),
                    physical: u32_at(header, 12)?.into(),
                    file_size: u32_at(header, 16)?.into(),
                    memory_size: u32_at(header, 20)?.into(),
                }
            });
        }
        Some(Self { image, is_64, entry, segments })
    }

    fn contents(&self, segment: &Segment) -> Option<&'a [u8]> {
        let start = usize::try_from(segment.offset).ok()?;
        let len = usize::try_from(segment.file_size).ok()?;
        self.image.get(start..start.checked_add(len)?)
    }

    /// Where the loadable segments lie: the lowest start and the highest end.
    pub(crate) fn extent(&self) -> Option<(u64, u64)> {
        let mut whole: Option<(u64, u64)> = None;
        for segment in self.segments.iter().filter(|s| s.kind == PT_LOAD && s.memory_size != 0) {
            let end = segment.physical.checked_add(segment.memory_size)?;
            let (start, last) = whole.unwrap_or((segment.physical, end));
            whole = Some((start.min(segment.physical), last.max(end)));
        }
        whole
    }

    /// Copies the loadable segments to their physical addresses and returns the end of the highest.
    pub(crate) fn load(&self, memory: &AddressSpace) -> Result<u64, BootError> {
        let damaged = || BootError::Invalid("Error while loading elf kernel".to_owned());
        let mut end = 0;
        for segment in self.segments.iter().filter(|s| s.kind == PT_LOAD && s.memory_size != 0) {
            let data = self.contents(segment).ok_or_else(damaged)?;
            let last = segment.physical.checked_add(segment.memory_size).ok_or_else(damaged)?;
            let fits = segment.file_size <= segment.memory_size
                && memory.slices(segment.physical, segment.memory_size, true).is_some();
            if !fits {
                return Err(BootError::TooLarge(format!(
                    "kernel segment {:#x}-{last:#x} does not lie in guest RAM",
                    segment.physical
                )));
            }
            // Fresh guest RAM is zero already beyond the contents, except after a reset.
            memory.load(segment.physical, data);
            zero(memory, segment.physical + segment.file_size, segment.memory_size - segment.file_size);
            end = end.max(last);
        }
        if end == 0 { Err(damaged()) } else { Ok(end) }
    }

    /// The contents of the note with this owner and type.
    pub(crate) fn note(&self, owner: &[u8], kind: u32) -> Option<&'a [u8]> {
        let notes = self.segments.iter().filter(|s| s.kind == PT_NOTE).filter_map(|s| self.contents(s));
        for mut data in notes {
            while let (Some(name_size), Some(size), Some(found)) =
                (u32_at(data, 0), u32_at(data, 4), u32_at(data, 8))
            {
                let padded = |n: u32| (n as usize).checked_next_multiple_of(4);
                let Some(start) = padded(name_size).and_then(|n| n.checked_add(12)) else { break };
                let Some(end) = padded(size).and_then(|n| n.checked_add(start)) else { break };
                let name = data.get(12..12 + name_size as usize);
                let contents = data.get(start..start + size as usize);
                if name == Some(owner) && found == kind {
                    return contents;
                }
                match data.get(end..) {
                    Some(rest) => data = rest,
                    None => break,
                }
            }
        }
        None
    }
}

/// Clears guest memory without a buffer of that size.
pub(crate) fn zero(memory: &AddressSpace, mut address: u64, mut len: u64) {
    let zeros = [0; 4096];
    while len > 0 {
        let part = len.min(4096);
        memory.load(address, &zeros[..part as usize]);
        address += part;
        len -= part;
    }
}
