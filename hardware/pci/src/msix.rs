//! MSI-X: a table of messages and an array of pending bits in a memory BAR (PCI 3.0, section 6.8.2).

use crate::config::ConfigSpace;
use crate::function::PciFunction;
use guestmem::{IoHandler, IoRules, Region};
use irq::MsiMessage;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Capability id.
pub(crate) const ID: u8 = 0x11;
/// Message control: the function uses MSI-X.
const ENABLE: u32 = 1 << 15;
/// Message control: all vectors masked.
const MASK_ALL: u32 = 1 << 14;
/// Bytes of a table entry.
const ENTRY: u64 = 16;

/// Where a function's MSI-X table and pending bits are.
#[derive(Clone, Copy, Debug)]
pub struct MsixLayout {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// BAR of both; the builder makes a BAR of its own for them.
    pub bar: u8,
    /// Offset of the capability; `None`: the first gap.
    pub capability: Option<u8>,
}

impl MsixLayout {
    /// Offset of the pending bits in the BAR: behind the table, at least at half a page.
    pub(crate) fn pba(self) -> u64 {
        (u64::from(self.vectors) * ENTRY).next_power_of_two().max(0x800)
    }

    /// Size of the BAR, a power of two of at least a page.
    pub(crate) fn bar_size(self) -> u64 {
        (self.pba() + u64::from(self.vectors).div_ceil(64) * 8).next_power_of_two().max(0x1000)
    }
}

struct Table {
    entries: Vec<[u32; 4]>,
    pending: Vec<bool>,
}

/// A function's MSI-X state.
pub(crate) struct Msix {
    at: u16,
    table: Arc<Mutex<Table>>,
}

/// What a vector's message is to do now.
pub(crate) enum Vector {
    Send(MsiMessage),
    Held,
}

impl Msix {
    /// Adds the capability; the BAR's region has its table wired to `function` later.
    pub(crate) fn add(
        config: &mut ConfigSpace,
        layout: MsixLayout,
        name: &str,
        function: &Weak<PciFunction>,
    ) -> Option<(Self, Region)> {
        let bir = u32::from(layout.bar);
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(layout.vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&bir.to_le_bytes());
        body[6..].copy_from_slice(&(layout.pba() as u32 | bir).to_le_bytes());
        let at = u16::from(config.add_capability(ID, layout.capability, &body)?);
        config.set_writable(at + 2, 2, ENABLE | MASK_ALL);
        let count = usize::from(layout.vectors);
        let table =
            Arc::new(Mutex::new(Table { entries: vec![masked(); count], pending: vec![false; count] }));
        let region = Region::container(&format!("{name}-msix"), layout.bar_size());
        let rules = IoRules { valid_min: 4, valid_max: 8, unaligned: false, impl_min: 4, impl_max: 4 };
        let window = |part: &str, pba: bool, size: u64| {
            let handler = Arc::new(Window { table: table.clone(), function: function.clone(), pba });
            Region::io(&format!("msix-{part}"), size, handler, rules)
        };
        region.add(&window("table", false, count as u64 * ENTRY), 0);
        region.add(&window("pba", true, (count as u64).div_ceil(64) * 8), layout.pba());
        Some((Self { at, table }, region))
    }

    pub(crate) fn is_enabled(&self, config: &ConfigSpace) -> bool {
        config.get(self.at + 2, 2) & ENABLE != 0
    }

    fn function_masked(&self, config: &ConfigSpace) -> bool {
        config.get(self.at + 2, 2) & (ENABLE | MASK_ALL) != ENABLE
    }

    /// Takes an interrupt on `vector`: the message, or a pending bit while it is masked.
    pub(crate) fn raise(&self, config: &ConfigSpace, vector: u16) -> Vector {
        let mut table = self.table.lock();
        let index = usize::from(vector);
        let Some(entry) = table.entries.get(index).copied() else { return Vector::Held };
        if self.function_masked(config) || entry[3] & 1 != 0 {
            table.pending[index] = true;
            return Vector::Held;
        }
        Vector::Send(message(&entry))
    }

    /// Takes the messages that became due since masks changed.
    pub(crate) fn take_due(&self, config: &ConfigSpace) -> Vec<MsiMessage> {
        if self.function_masked(config) {
            return Vec::new();
        }
        let mut table = self.table.lock();
        let Table { entries, pending } = &mut *table;
        let due = entries.iter().zip(pending.iter_mut()).filter(|(e, p)| **p && e[3] & 1 == 0);
        due.map(|(entry, pending)| {
            *pending = false;
            message(entry)
        })
        .collect()
    }

    pub(crate) fn reset(&self, config: &mut ConfigSpace) {
        config.clear_writable(self.at + 2, 2);
        let mut table = self.table.lock();
        table.entries.fill(masked());
        table.pending.fill(false);
    }
}

/// An entry after reset: masked.
fn masked() -> [u32; 4] {
    [0, 0, 0, 1]
}

fn message(entry: &[u32; 4]) -> MsiMessage {
    MsiMessage { address: u64::from(entry[0] & !3) | u64::from(entry[1]) << 32, data: entry[2] }
}

/// The table's or the pending bits' registers.
struct Window {
    table: Arc<Mutex<Table>>,
    function: Weak<PciFunction>,
    pba: bool,
}

impl IoHandler for Window {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let table = self.table.lock();
        if self.pba {
            let first = (offset / 4 * 32) as usize;
            return (0..32).fold(0, |bits, i| {
                bits | u64::from(table.pending.get(first + i).copied().unwrap_or(false)) << i
            });
        }
        table.entries.get((offset / ENTRY) as usize).map_or(0, |e| e[(offset % ENTRY / 4) as usize].into())
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        if self.pba {
            return;
        }
        if let Some(entry) = self.table.lock().entries.get_mut((offset / ENTRY) as usize) {
            entry[(offset % ENTRY / 4) as usize] = value as u32;
        }
        if let Some(function) = self.function.upgrade() {
            function.send_due();
        }
    }
}
