//! The items of fw_cfg that describe the board.

use crate::board::{AMD_HOLE, Pc};
use boot::MemoryKind;
use chipset::hpet::HPET_BASE;
use fwcfg::key;

/// The HPET's capabilities, low half: revision 1, three timers, 64 bits, legacy replacement, vendor 8086.
const HPET_ID: u32 = 0x8086_a201;

impl Pc {
    /// Fills fw_cfg with what is the board's own; files that are there already stay. To be called when all devices and
    /// the tables' files are there.
    pub(crate) fn fill_fw_cfg(&self) {
        let fw = &self.fw_cfg;
        let layout = self.memory.layout;
        let limit = self.possible_cpus.iter().map(|(id, _)| id + 1).max().unwrap_or(1);
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        fw.add_bytes(key::UUID, self.identity.uuid.to_vec());
        fw.add_u64(key::RAM_SIZE, layout.below_4g + layout.above_4g);
        fw.add_u16(key::NOGRAPHIC, u16::from(self.identity.nographic || !self.options.graphics));
        fw.add_u16(key::NB_CPUS, short(self.cpus.len()));
        fw.add_u16(key::MAX_CPUS, short(limit as usize));
        fw.add_bytes(key::NUMA, vec![0; 8 * (1 + limit as usize)]);
        fw.add_bytes(key::ACPI_TABLES, Vec::new());
        fw.add_u32(key::IRQ0_OVERRIDE, 1);
        let mut hpet = vec![u8::from(self.options.hpet)];
        if self.options.hpet {
            hpet.extend(HPET_ID.to_le_bytes());
            hpet.extend(HPET_BASE.to_le_bytes());
        }
        hpet.resize(121, 0);
        fw.add_bytes(key::HPET, hpet);

        let mut files = vec![
            ("bios-geometry", Vec::new()),
            ("bootorder", Vec::new()),
            ("etc/boot-fail-wait", vec![0xff; 4]),
            ("etc/e820", self.e820_file()),
            ("etc/system-states", self.system_states()),
        ];
        if self.options.has_acpi() {
            files.push(("etc/tpm/log", Vec::new()));
        }
        for (name, data) in files {
            if !fw.has_file(name) && fw.add_file(name, data).is_err() {
                report::warn_report!("no room for the fw_cfg file {name}");
            }
        }
    }

    /// RAM, and what is neither RAM nor free, for firmware's own memory map.
    fn e820_file(&self) -> Vec<u8> {
        let layout = self.memory.layout;
        let mut file = Vec::new();
        let mut add = |start: u64, len: u64, kind: MemoryKind| {
            if len > 0 {
                file.extend(start.to_le_bytes());
                file.extend(len.to_le_bytes());
                file.extend((kind as u32).to_le_bytes());
            }
        };
        if self.amd {
            let (start, len) = AMD_HOLE;
            add(start, len, MemoryKind::Reserved);
        }
        add(0, layout.below_4g, MemoryKind::Usable);
        add(1 << 32, layout.above_4g, MemoryKind::Usable);
        file
    }

    /// The sleep types of S0 to S5, bit 7 where a state is offered.
    fn system_states(&self) -> Vec<u8> {
        let offered = |off: bool| if off { 0 } else { 0x80 };
        vec![
            0x80,
            0,
            0,
            1 | offered(self.sleep.disable_s3),
            self.sleep.s4_val & 0x7f | offered(self.sleep.disable_s4),
            0x80,
        ]
    }
}
