//! Where everything goes in guest memory when there is no firmware.

use crate::{MpTable, Placement, Smbios, Tables};
use guestmem::AddressSpace;

/// Start and end of the part of the BIOS area that is ours.
const AREA: (u32, u32) = (0xf_5000, 0x10_0000);

/// Where things went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Address of the RSDP; 0 without ACPI tables.
    pub rsdp: u32,
    /// Address of the SMBIOS entry point; 0 when the structures found no place.
    pub smbios: u32,
    /// Address of the MP table's pointer; 0 when the table found no place.
    pub mp: u32,
}

/// Takes `len` bytes of the BIOS area.
fn take(next: &mut u32, len: usize) -> Option<u32> {
    let start = next.next_multiple_of(16);
    let end = start.checked_add(u32::try_from(len).ok()?).filter(|&end| end <= AREA.1)?;
    *next = end;
    Some(start)
}

/// Writes the ACPI tables (`tables`: address, a multiple of 64 below 4 GiB with room for [`Tables::size`] bytes, and what)
/// to their place, and what points to them to the BIOS area below 1 MiB, which has to be RAM; there the SMBIOS structures
/// and the MP table go as well.
pub fn install(
    memory: &AddressSpace,
    tables: Option<(u32, &Tables)>,
    smbios: &Smbios,
    mp: &MpTable,
) -> Installed {
    let mut next = AREA.0;
    let mut out = Installed { rsdp: 0, smbios: 0, mp: 0 };
    if let Some((at, tables)) = tables
        && let Some(rsdp) = take(&mut next, tables.rsdp_size() as usize)
    {
        out.rsdp = rsdp;
        tables.install(memory, Placement { tables: at, rsdp });
    }
    let (pointer, table) = mp.build(0);
    if let (Some(at), Some(table_at)) = (take(&mut next, pointer.len()), take(&mut next, table.len())) {
        let (pointer, table) = mp.build(table_at);
        memory.load(at.into(), &pointer);
        memory.load(table_at.into(), &table);
        out.mp = at;
    }
    let (anchor, table) = smbios.build(0);
    if let (Some(at), Some(table_at)) = (take(&mut next, anchor.len()), take(&mut next, table.len())) {
        let (anchor, table) = smbios.build(table_at);
        memory.load(at.into(), &anchor);
        memory.load(table_at.into(), &table);
        out.smbios = at;
    }
    out
}
