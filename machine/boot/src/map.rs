//! The physical memory map that a kernel is told of (e820).

/// What a range is for; the numbers are e820's (ACPI specification, table 15.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// RAM for the guest.
    Usable = 1,
    /// Not for the guest.
    Reserved = 2,
    /// ACPI tables; RAM once they are read.
    Acpi = 3,
    /// ACPI memory to keep over sleep.
    Nvs = 4,
}

/// One range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// What it is for.
    pub kind: MemoryKind,
}

/// All ranges, by ascending address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMap {
    /// The ranges.
    pub ranges: Vec<MemoryRange>,
}

impl MemoryMap {
    /// The map of a PC: `below_4g` and `above_4g` bytes of RAM, of which the last `tables` bytes below 4 GiB are kept
    /// for ACPI tables. They are reserved rather than ACPI memory, as SeaBIOS has it.
    pub fn pc(below_4g: u64, above_4g: u64, tables: u64) -> Self {
        let mut map = Self::default();
        let mut add = |start, end: u64, kind| {
            if end > start {
                map.ranges.push(MemoryRange { start, len: end - start, kind });
            }
        };
        // The EBDA below 640 KiB and the BIOS area below 1 MiB are reserved on every PC.
        add(0, below_4g.min(0x9_fc00), MemoryKind::Usable);
        add(0x9_fc00, 0xa_0000, MemoryKind::Reserved);
        add(0xf_0000, 0x10_0000, MemoryKind::Reserved);
        let tables_start = below_4g.saturating_sub(tables).max(0x10_0000);
        add(0x10_0000, tables_start, MemoryKind::Usable);
        add(tables_start, below_4g, MemoryKind::Reserved);
        add(1 << 32, (1 << 32) + above_4g, MemoryKind::Usable);
        map
    }

    /// Adds a range at its place by address. Empty ranges are left out.
    pub fn add(&mut self, start: u64, len: u64, kind: MemoryKind) {
        if len > 0 {
            let at = self.ranges.partition_point(|r| r.start < start);
            self.ranges.insert(at, MemoryRange { start, len, kind });
        }
    }

    /// End of the usable range that holds `address`; `None` when it lies in none.
    pub fn usable_end(&self, address: u64) -> Option<u64> {
        self.ranges
            .iter()
            .find(|r| r.kind == MemoryKind::Usable && (r.start..r.start + r.len).contains(&address))
            .map(|r| r.start + r.len)
    }

    /// The ranges as e820 entries: start, length, type, 20 bytes each.
    pub fn e820(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 * self.ranges.len());
        for range in &self.ranges {
            out.extend_from_slice(&range.start.to_le_bytes());
            out.extend_from_slice(&range.len.to_le_bytes());
            out.extend_from_slice(&(range.kind as u32).to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pc_has_its_holes_and_its_tables_at_the_top() {
        let map = MemoryMap::pc(512 << 20, 1 << 30, 0x2_0000);
        let shape: Vec<_> = map.ranges.iter().map(|r| (r.start, r.start + r.len, r.kind)).collect();
        assert_eq!(
            shape,
            [
                (0, 0x9_fc00, MemoryKind::Usable),
                (0x9_fc00, 0xa_0000, MemoryKind::Reserved),
                (0xf_0000, 0x10_0000, MemoryKind::Reserved),
                (0x10_0000, 0x1ffe_0000, MemoryKind::Usable),
                (0x1ffe_0000, 0x2000_0000, MemoryKind::Reserved),
                (1 << 32, 5 << 30, MemoryKind::Usable),
            ]
        );
        assert_eq!(map.usable_end(0x10_0000), Some(0x1ffe_0000));
        assert_eq!(map.usable_end(0xa_0000), None);
        assert_eq!(map.e820().len(), 120);
        let mut map = map;
        map.add(0xb000_0000, 4096, MemoryKind::Reserved);
        assert_eq!(map.ranges[5].start, 0xb000_0000);
    }
}
