//! How tables get their addresses: by firmware that follows the script `etc/table-loader`, or by us.
//!
//! The script (QEMU's `bios-linker-loader`): entries of 128 bytes, a command number and its arguments. 1 allocates a file's
//! memory, 2 adds a file's address to a pointer, 3 sums up.

use crate::tables::Tables;
use guestmem::AddressSpace;

/// Bytes of an entry of the script.
const ENTRY: usize = 128;
/// Bytes of a file's name in it.
const NAME: usize = 56;
/// The files' sizes are multiples of these, so that they change rarely.
const TABLES_ALIGN: usize = 0x2_0000;
const SCRIPT_ALIGN: usize = 0x1000;

/// A file of fw_cfg that the script works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Rsdp,
    Tables,
}

impl File {
    fn name(self) -> &'static str {
        match self {
            Self::Rsdp => "etc/acpi/rsdp",
            Self::Tables => "etc/acpi/tables",
        }
    }
}

/// Where a file's memory has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Anywhere below 4 GiB.
    High = 1,
    /// From 0xf0000 to 0xfffff.
    FSegment = 2,
}

/// A command of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Allocate { file: File, align: u32, zone: Zone },
    Pointer { file: File, at: usize, size: u8, to: File },
    Checksum { file: File, at: usize, start: usize, len: usize },
}

fn name(file: File) -> [u8; NAME] {
    let mut out = [0; NAME];
    for (to, from) in out.iter_mut().zip(file.name().bytes()) {
        *to = from;
    }
    out
}

impl Command {
    fn entry(&self) -> [u8; ENTRY] {
        let number = |n: usize| (n as u32).to_le_bytes();
        let parts = match *self {
            Self::Allocate { file, align, zone } => {
                [&number(1)[..], &name(file), &align.to_le_bytes(), &[zone as u8]].concat()
            }
            Self::Pointer { file, at, size, to } => {
                [&number(2)[..], &name(file), &name(to), &number(at), &[size]].concat()
            }
            Self::Checksum { file, at, start, len } => {
                [&number(3)[..], &name(file), &number(at), &number(start), &number(len)].concat()
            }
        };
        let mut out = [0; ENTRY];
        for (to, from) in out.iter_mut().zip(parts) {
            *to = from;
        }
        out
    }
}

/// Where the tables are put by [`Tables::install`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Address of the tables, a multiple of 64 below 4 GiB.
    pub tables: u32,
    /// Address of the RSDP, a multiple of 16 between 0xe0000 and 0xfffff.
    pub rsdp: u32,
}

impl Tables {
    /// The files of fw_cfg for firmware: name and contents.
    pub fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        let mut tables = self.blob.clone();
        tables.resize(tables.len().next_multiple_of(TABLES_ALIGN), 0);
        let mut script: Vec<u8> = self.commands.iter().flat_map(Command::entry).collect();
        script.resize(script.len().next_multiple_of(SCRIPT_ALIGN), 0);
        [(File::Tables.name(), tables), (File::Rsdp.name(), self.rsdp.clone()), ("etc/table-loader", script)]
    }

    /// Bytes that the tables take in memory, without the RSDP.
    pub fn size(&self) -> u64 {
        self.blob.len() as u64
    }

    /// Bytes of the RSDP.
    pub fn rsdp_size(&self) -> u32 {
        self.rsdp.len() as u32
    }

    /// The tables and the RSDP as they are in memory when they are at these places.
    pub fn resolve(&self, at: Placement) -> (Vec<u8>, Vec<u8>) {
        let (mut tables, mut rsdp) = (self.blob.clone(), self.rsdp.clone());
        for command in &self.commands {
            match *command {
                Command::Allocate { .. } => {}
                Command::Pointer { file, at: offset, size, to } => {
                    let base = u64::from(if to == File::Rsdp { at.rsdp } else { at.tables });
                    let bytes = if file == File::Rsdp { &mut rsdp } else { &mut tables };
                    let Some(place) = bytes.get_mut(offset..offset + usize::from(size)) else { continue };
                    let old = place.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
                    for (to, from) in place.iter_mut().zip((old + base).to_le_bytes()) {
                        *to = from;
                    }
                }
                Command::Checksum { file, at: offset, start, len } => {
                    let bytes = if file == File::Rsdp { &mut rsdp } else { &mut tables };
                    let sum = bytes.get(start..start + len).map_or(0, sum);
                    if let Some(place) = bytes.get_mut(offset) {
                        *place = place.wrapping_sub(sum);
                    }
                }
            }
        }
        (tables, rsdp)
    }

    /// Writes the tables to guest memory, as firmware would.
    pub fn install(&self, memory: &AddressSpace, at: Placement) {
        let (tables, rsdp) = self.resolve(at);
        memory.load(at.tables.into(), &tables);
        memory.load(at.rsdp.into(), &rsdp);
    }
}

/// The sum of all bytes.
pub(crate) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &b| sum.wrapping_add(b))
}
