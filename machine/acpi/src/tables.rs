//! The tables other than the DSDT, and how they hang together.
//!
//! Source: ACPI specification 6.5, chapter 5.2; IA-PC HPET specification 1.0a; Windows ACPI Emulated Devices Table;
//! PCI firmware specification 3.3 (MCFG).

use crate::config::{Board, Config};
use crate::dsdt;
use crate::loader::{Command, File, Zone};

/// Length of the header that every table but RSDP and FACS begins with.
const HEADER: usize = 36;
/// Where the checksum is in it.
const CHECKSUM: usize = 9;
const FACS_LEN: usize = 64;
/// Length of an RSDP of revision 0.
pub(crate) const RSDP_LEN: usize = 20;

// Offsets in the FADT.
const FADT_FACS: usize = 36;
const FADT_DSDT: usize = 40;
const FADT_X_DSDT: usize = 140;

// FADT flags.
const WBINVD: u32 = 1 << 0;
const C1_ON_ALL: u32 = 1 << 2;
const NO_SLEEP_BUTTON: u32 = 1 << 5;
const RTC_WAKES_FROM_S4: u32 = 1 << 7;
const RESET_REGISTER: u32 = 1 << 10;
const PLATFORM_TIMER: u32 = 1 << 15;
const CLUSTER_MODEL: u32 = 1 << 18;

/// Most processors whose APICs take logical destinations in the flat model.
const FLAT_APICS: usize = 8;
/// Lowest APIC ID that needs an x2APIC entry.
const X2APIC_ID: u32 = 255;

/// The tables, with offsets in place of addresses and without checksums, and the commands that mend both.
#[derive(Clone, Debug)]
pub struct Tables {
    pub(crate) blob: Vec<u8>,
    pub(crate) rsdp: Vec<u8>,
    pub(crate) commands: Vec<Command>,
}

struct Builder<'a> {
    config: &'a Config,
    tables: Tables,
    /// Offsets of the tables that the RSDT lists.
    listed: Vec<usize>,
}

impl Tables {
    /// Describes the board.
    pub fn build(config: &Config) -> Self {
        let allocate = vec![
            Command::Allocate { file: File::Rsdp, align: 16, zone: Zone::FSegment },
            Command::Allocate { file: File::Tables, align: 64, zone: Zone::High },
        ];
        let tables = Self { blob: Vec::new(), rsdp: Vec::new(), commands: allocate };
        let mut builder = Builder { config, tables, listed: Vec::new() };
        builder.facs();
        let dsdt = builder.table(*b"DSDT", 1, &dsdt::build(config));
        builder.fadt(dsdt);
        builder.list(*b"APIC", 3, &madt(config));
        if config.hpet {
            builder.list(*b"HPET", 1, &hpet());
        }
        if let Some(base) = config.mcfg {
            builder.list(*b"MCFG", 1, &mcfg(base));
        }
        // Bit 1: the PM timer needs no second read.
        builder.list(*b"WAET", 1, &2u32.to_le_bytes());
        builder.root();
        builder.tables
    }
}

impl Builder<'_> {
    /// The firmware control structure: only its length says anything here.
    fn facs(&mut self) {
        let blob = &mut self.tables.blob;
        blob.extend(*b"FACS");
        blob.extend((FACS_LEN as u32).to_le_bytes());
        blob.resize(FACS_LEN, 0);
    }

    /// Appends a table; its offset.
    fn table(&mut self, signature: [u8; 4], revision: u8, body: &[u8]) -> usize {
        let start = self.tables.blob.len();
        let len = HEADER + body.len();
        let blob = &mut self.tables.blob;
        blob.extend(signature);
        blob.extend((len as u32).to_le_bytes());
        blob.extend([revision, 0]);
        blob.extend(padded::<6>(&self.config.oem_id));
        blob.extend(padded::<8>(&self.config.oem_table_id));
        blob.extend(1u32.to_le_bytes());
        blob.extend(*b"BXPC");
        blob.extend(1u32.to_le_bytes());
        blob.extend(body);
        self.tables.commands.push(Command::Checksum { file: File::Tables, at: start + CHECKSUM, start, len });
        start
    }

    /// Appends a table that the RSDT lists.
    fn list(&mut self, signature: [u8; 4], revision: u8, body: &[u8]) {
        let at = self.table(signature, revision, body);
        self.listed.push(at);
    }

    /// Makes the `size` bytes at `at` of `file`, which hold an offset in the tables, an address. The checksum over them
    /// has to come after this.
    fn pointer(&mut self, file: File, at: usize, size: u8) {
        let command = Command::Pointer { file, at, size, to: File::Tables };
        // The checksum was queued with the table.
        let end = self.tables.commands.len();
        let before_checksum = match self.tables.commands.last() {
            Some(Command::Checksum { .. }) => end - 1,
            _ => end,
        };
        self.tables.commands.insert(before_checksum, command);
    }

    fn fadt(&mut self, dsdt: usize) {
        let body = fadt(self.config, dsdt as u32);
        let start = self.table(*b"FACP", if self.config.board == Board::Q35 { 3 } else { 1 }, &body);
        self.listed.push(start);
        self.pointer(File::Tables, start + FADT_FACS, 4);
        self.pointer(File::Tables, start + FADT_DSDT, 4);
        if self.config.board == Board::Q35 {
            self.pointer(File::Tables, start + FADT_X_DSDT, 8);
        }
    }

    fn root(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        let body: Vec<u8> = listed.iter().flat_map(|&at| (at as u32).to_le_bytes()).collect();
        let rsdt = self.table(*b"RSDT", 1, &body);
        for n in 0..listed.len() {
            self.pointer(File::Tables, rsdt + HEADER + 4 * n, 4);
        }
        let rsdp = &mut self.tables.rsdp;
        rsdp.extend(*b"RSD PTR ");
        rsdp.push(0);
        rsdp.extend(padded::<6>(&self.config.oem_id));
        rsdp.push(0);
        rsdp.extend((rsdt as u32).to_le_bytes());
        debug_assert_eq!(rsdp.len(), RSDP_LEN);
        let sum = Command::Checksum { file: File::Rsdp, at: 8, start: 0, len: RSDP_LEN };
        self.tables.commands.push(sum);
        self.pointer(File::Rsdp, 16, 4);
    }
}

/// An identifier, filled up with spaces.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    for (to, from) in out.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    out
}

/// Writes `bytes` at offset `at` of the whole table.
fn put(body: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = body.get_mut(at - HEADER..at - HEADER + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// A generic address of a register in I/O space.
fn io_register(bits: u8, port: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..2].copy_from_slice(&[1, bits]);
    out[4..].copy_from_slice(&port.to_le_bytes());
    out
}

fn fadt(config: &Config, dsdt: u32) -> Vec<u8> {
    let q35 = config.board == Board::Q35;
    let mut body = vec![0; if q35 { 244 } else { 116 } - HEADER];
    let pm = u32::from(config.pm_base);
    let (gpe, gpe_len) = config.gpe();
    let flags = WBINVD | C1_ON_ALL | NO_SLEEP_BUTTON | RTC_WAKES_FROM_S4 | PLATFORM_TIMER;
    let flags = flags
        | if q35 { RESET_REGISTER } else { 0 }
        | if config.cpus.len() > FLAT_APICS { CLUSTER_MODEL } else { 0 };
    let (command, enable, disable) = match (config.smi, q35) {
        (false, _) => (0, 0, 0),
        (true, true) => (0xb2, 2, 3),
        (true, false) => (0xb2, 0xf1, 0xf0),
    };
    let dwords = [
        (FADT_DSDT, dsdt),
        (48, command),
        (56, pm),
        (64, pm + 4),
        (76, pm + 8),
        (80, gpe.into()),
        (112, flags),
    ];
    for (at, value) in dwords {
        put(&mut body, at, &value.to_le_bytes());
    }
    // Interrupts are routed by "multiple APIC"; the SCI is interrupt 9.
    put(&mut body, 44, &[1, 0, 9, 0]);
    put(&mut body, 52, &[enable, disable]);
    // Bytes of the PM1 event, PM1 control, PM2 control, PM timer and GPE0 blocks.
    put(&mut body, 88, &[4, 2, 0, 4, gpe_len]);
    // Latencies that say that C2 and C3 are not supported.
    put(&mut body, 96, &[0xff, 0x0f, 0xff, 0x0f]);
    put(&mut body, 108, &[0x32]);
    if q35 {
        // Boot flags: there is an 8042.
        put(&mut body, 109, &[if config.isa.keyboard { 2 } else { 0 }, 0]);
        put(&mut body, 116, &io_register(8, 0xcf9));
        put(&mut body, 128, &[0x0f]);
        put(&mut body, FADT_X_DSDT, &u64::from(dsdt).to_le_bytes());
        put(&mut body, 148, &io_register(32, pm.into()));
        put(&mut body, 172, &io_register(16, u64::from(pm) + 4));
        put(&mut body, 208, &io_register(32, u64::from(pm) + 8));
        put(&mut body, 220, &io_register(8 * gpe_len, gpe.into()));
    }
    body
}

/// The MADT's entry for a processor: number `uid`, APIC `apic_id`.
pub(crate) fn madt_cpu(uid: u32, apic_id: u32, enabled: bool) -> Vec<u8> {
    let flags = u32::from(enabled).to_le_bytes();
    match (u8::try_from(uid), u8::try_from(apic_id)) {
        (Ok(uid), Ok(id)) if apic_id < X2APIC_ID && uid < 255 => [&[0, 8, uid, id], &flags[..]].concat(),
        _ => [&[9, 16, 0, 0], &apic_id.to_le_bytes()[..], &flags, &uid.to_le_bytes()].concat(),
    }
}

fn madt(config: &Config) -> Vec<u8> {
    let mut out = 0xfee0_0000u32.to_le_bytes().to_vec();
    // There are two 8259s as well.
    out.extend(1u32.to_le_bytes());
    for (uid, cpu) in (0u32..).zip(&config.cpus) {
        out.extend(madt_cpu(uid, cpu.apic_id, cpu.present));
    }
    // The I/O APIC: ID 0, interrupts from 0 on.
    out.extend([1, 12, 0, 0]);
    out.extend(0xfec0_0000u32.to_le_bytes());
    out.extend([0; 4]);
    let mut reroute = |source: u8, to: u8, flags: u8| out.extend([2, 10, 0, source, to, 0, 0, 0, flags, 0]);
    if config.pit {
        reroute(0, 2, 0);
    }
    // PCI's interrupts are active high and level-triggered.
    for line in [5, 9, 10, 11] {
        reroute(line, line, 0x0d);
    }
    let x2apic = config.cpus.iter().any(|c| c.apic_id >= X2APIC_ID) || config.cpus.len() > 255;
    // NMI is at LINT1 of every processor.
    if x2apic {
        out.extend([0x0a, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    }
    out.extend([4, 6, 0xff, 0, 0, 1]);
    out
}

fn hpet() -> Vec<u8> {
    // Vendor 8086, legacy replacement, 64 bits, three comparators, revision 1.
    let mut out = 0x8086_a201u32.to_le_bytes().to_vec();
    out.extend([0; 4]);
    out.extend(0xfed0_0000u64.to_le_bytes());
    out.extend([0; 4]);
    out
}

fn mcfg(base: u32) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend(u64::from(base).to_le_bytes());
    // Segment 0, buses 0 to 255.
    out.extend([0, 0, 0, 0xff, 0, 0, 0, 0]);
    out
}
