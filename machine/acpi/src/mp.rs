//! The MP configuration table (Intel MultiProcessor Specification 1.4), for systems that do without ACPI.

use crate::loader::sum;

/// Where a PCI function's interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciInterrupt {
    /// Slot on the root bus.
    pub device: u8,
    /// Pin, 0 for INTA#.
    pub pin: u8,
    /// Input of the I/O APIC.
    pub line: u8,
}

/// What the table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MpTable {
    /// APIC IDs of the processors that are there, one of each package; the first starts.
    pub apic_ids: Vec<u8>,
    /// EAX and EDX of CPUID leaf 1.
    pub processor_id: [u32; 2],
    /// PCI interrupts.
    pub pci: Vec<PciInterrupt>,
}

const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
const IOAPIC: u8 = 0;
/// ISA interrupts that are not PCI's, nor the cascade.
const ISA_LINES: [u8; 11] = [0, 1, 3, 4, 6, 7, 8, 12, 13, 14, 15];

impl MpTable {
    /// The floating pointer, 16 bytes, and the table that it says is at `address`.
    pub fn build(&self, address: u32) -> (Vec<u8>, Vec<u8>) {
        let mut entries = Vec::new();
        for (n, &id) in self.apic_ids.iter().enumerate() {
            // Enabled; the first is the boot processor.
            let mut entry = vec![0, id, 0x14, if n == 0 { 3 } else { 1 }];
            entry.extend(self.processor_id.iter().flat_map(|v| v.to_le_bytes()));
            entry.resize(20, 0);
            entries.push(entry);
        }
        let bus = |id: u8, name: &[u8; 6]| [&[1, id][..], name].concat();
        entries.push(bus(PCI_BUS, b"PCI   "));
        entries.push(bus(ISA_BUS, b"ISA   "));
        let mut ioapic = vec![2, IOAPIC, 0x11, 1];
        ioapic.extend(0xfec0_0000u32.to_le_bytes());
        entries.push(ioapic);
        for i in &self.pci {
            entries.push(vec![3, 0, 1, 0, PCI_BUS, i.device << 2 | i.pin & 3, IOAPIC, i.line]);
        }
        for line in ISA_LINES {
            // The PIT's interrupt is at input 2.
            entries.push(vec![3, 0, 0, 0, ISA_BUS, line, IOAPIC, if line == 0 { 2 } else { line }]);
        }
        // The PICs at LINT0 of the first processor, NMI at LINT1 of all.
        entries.push(vec![4, 3, 0, 0, ISA_BUS, 0, 0, 0]);
        entries.push(vec![4, 1, 0, 0, ISA_BUS, 0, 0xff, 1]);

        let body = entries.concat();
        let mut table = b"PCMP".to_vec();
        table.extend(((44 + body.len()) as u16).to_le_bytes());
        table.extend([4, 0]);
        table.extend(*b"BOCHSCPU0.1         ");
        table.extend([0; 6]);
        table.extend((entries.len() as u16).to_le_bytes());
        table.extend(0xfee0_0000u32.to_le_bytes());
        table.extend([0; 4]);
        table.extend(body);
        table[7] = sum(&table).wrapping_neg();

        let mut pointer = b"_MP_".to_vec();
        pointer.extend(address.to_le_bytes());
        pointer.extend([1, 4, 0, 0, 0, 0, 0, 0]);
        pointer[10] = sum(&pointer).wrapping_neg();
        (pointer, table)
    }
}
