use crate::loader::sum;
use crate::*;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The tables that a system finds from the RSDP on, by signature.
fn walk(tables: &[u8], rsdp: &[u8], base: u32) -> Vec<(String, Vec<u8>)> {
    let at = |address: u32| {
        let start = (address - base) as usize;
        tables[start..start + u32_at(tables, start + 4) as usize].to_vec()
    };
    assert_eq!((&rsdp[..8], sum(&rsdp[..20])), (&b"RSD PTR "[..], 0));
    let rsdt = at(u32_at(rsdp, 16));
    let mut out = vec![rsdt.clone()];
    for entry in (36..rsdt.len()).step_by(4) {
        let table = at(u32_at(&rsdt, entry));
        if table.starts_with(b"FACP") {
            out.extend([at(u32_at(&table, 36)), at(u32_at(&table, 40))]);
        }
        out.push(table);
    }
    out.into_iter()
        .map(|table| {
            let signature = String::from_utf8_lossy(&table[..4]).into_owned();
            assert!(signature == "FACS" || sum(&table) == 0, "checksum of {signature}");
            (signature, table)
        })
        .collect()
}

fn q35() -> Config {
    Config {
        cpus: (0..4).map(|n| Cpu { apic_id: n, present: n < 2 }).collect(),
        high_end: 8 << 30,
        below_4g: 2 << 30,
        functions: vec![
            Function { devfn: 0xf8, kind: FunctionKind::IsaBridge, hotpluggable: false },
            Function { devfn: 0, kind: FunctionKind::Plain, hotpluggable: false },
        ],
        isa: IsaDevices {
            keyboard: true,
            rtc: true,
            serial: [true, false, false, true],
            parallel: [true, false, false],
            floppy: None,
            pvpanic: Some(0x505),
        },
        ..Config::new(Board::Q35)
    }
}

fn pc() -> Config {
    let plain = |devfn| Function { devfn, kind: FunctionKind::Plain, hotpluggable: false };
    Config {
        functions: vec![
            plain(0),
            Function { devfn: 8, kind: FunctionKind::IsaBridge, hotpluggable: false },
            plain(9),
            plain(11),
            Function { hotpluggable: true, ..plain(0x18) },
            Function { kind: FunctionKind::Vga, ..plain(0x10) },
        ],
        isa: IsaDevices {
            serial: [true; 4],
            floppy: Some([
                Some(FloppyDrive { drive_type: 5, max_cylinder: 79, max_sector: 18, max_head: 1 }),
                None,
            ]),
            ..Config::new(Board::I440fx).isa
        },
        ..Config::new(Board::I440fx)
    }
}

const AT: Placement = Placement { tables: 0x7fe_0000, rsdp: 0xf_5000 };

#[test]
fn a_system_finds_every_table() {
    for (config, expected) in [
        (pc(), "RSDT FACS DSDT FACP APIC HPET WAET"),
        (q35(), "RSDT FACS DSDT FACP APIC HPET MCFG WAET"),
        (Config { hpet: false, ..pc() }, "RSDT FACS DSDT FACP APIC WAET"),
    ] {
        let (tables, rsdp) = Tables::build(&config).resolve(AT);
        let names: Vec<_> = walk(&tables, &rsdp, AT.tables).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.join(" "), expected);
    }
}

#[test]
fn the_fixed_description_tells_where_the_registers_are() {
    let (tables, rsdp) = Tables::build(&pc()).resolve(AT);
    let found = walk(&tables, &rsdp, AT.tables);
    let fadt = &found.iter().find(|(name, _)| name == "FACP").expect("FADT").1;
    let at = |offset| u32_at(fadt, offset);
    assert_eq!((fadt.len(), fadt[8]), (116, 1));
    assert_eq!((at(56), at(64), at(76), at(80)), (0x600, 0x604, 0x608, 0xafe0));
    assert_eq!((at(48), fadt[52], fadt[53], fadt[46], fadt[108]), (0xb2, 0xf1, 0xf0, 9, 0x32));
    assert_eq!(at(112), 0x80a5);

    let (tables, rsdp) = Tables::build(&q35()).resolve(AT);
    let found = walk(&tables, &rsdp, AT.tables);
    let fadt = &found.iter().find(|(name, _)| name == "FACP").expect("FADT").1;
    assert_eq!((fadt.len(), fadt[8], u32_at(fadt, 112)), (244, 3, 0x84a5));
    assert_eq!((u32_at(fadt, 120), fadt[128], u32_at(fadt, 140)), (0xcf9, 15, u32_at(fadt, 40)));
}

#[test]
fn large_apic_ids_have_entries_of_their_own() {
    let cpus = [0, 254, 255, 300].map(|apic_id| Cpu { apic_id, present: true });
    let (tables, rsdp) = Tables::build(&Config { cpus: cpus.to_vec(), ..q35() }).resolve(AT);
    let found = walk(&tables, &rsdp, AT.tables);
    let madt = &found.iter().find(|(name, _)| name == "APIC").expect("MADT").1;
    let mut entries = Vec::new();
    let mut at = 44;
    while at < madt.len() {
        let len = usize::from(madt[at + 1]);
        entries.push((madt[at], len));
        at += len;
    }
    assert_eq!(at, madt.len());
    let kinds: Vec<_> = entries.iter().map(|e| e.0).collect();
    assert_eq!(kinds, [0, 0, 9, 9, 1, 2, 2, 2, 2, 2, 0x0a, 4]);
}

/// Follows the script as firmware does.
fn run_script(files: &[(&str, Vec<u8>)], at: Placement) -> (Vec<u8>, Vec<u8>) {
    let get = |name: &str| files.iter().find(|f| f.0 == name).expect("file").1.clone();
    let (mut tables, mut rsdp) = (get("etc/acpi/tables"), get("etc/acpi/rsdp"));
    let address = |name: &[u8]| if name.starts_with(b"etc/acpi/rsdp\0") { at.rsdp } else { at.tables };
    for entry in get("etc/table-loader").chunks(128) {
        let file = |name: &[u8], tables: &mut Vec<u8>, rsdp: &mut Vec<u8>, work: &dyn Fn(&mut [u8])| {
            work(if name.starts_with(b"etc/acpi/rsdp\0") { rsdp } else { tables });
        };
        match u32_at(entry, 0) {
            2 => {
                let (offset, size) = (u32_at(entry, 116) as usize, usize::from(entry[120]));
                let base = u64::from(address(&entry[60..116]));
                file(&entry[4..60], &mut tables, &mut rsdp, &|bytes| {
                    let mut value = [0; 8];
                    value[..size].copy_from_slice(&bytes[offset..offset + size]);
                    let sum = (u64::from_le_bytes(value) + base).to_le_bytes();
                    bytes[offset..offset + size].copy_from_slice(&sum[..size]);
                });
            }
            3 => {
                let [offset, start, len] = [60, 64, 68].map(|n| u32_at(entry, n) as usize);
                file(&entry[4..60], &mut tables, &mut rsdp, &|bytes| {
                    bytes[offset] = 0;
                    bytes[offset] = sum(&bytes[start..start + len]).wrapping_neg();
                });
            }
            _ => {}
        }
    }
    (tables, rsdp)
}

#[test]
fn firmware_arrives_at_what_is_installed_directly() {
    for config in [pc(), q35()] {
        let tables = Tables::build(&config);
        let files = tables.files();
        assert_eq!(files.each_ref().map(|f| f.1.len()), [0x2_0000, 20, 0x1000]);
        let (mut blob, rsdp) = run_script(&files, AT);
        blob.truncate(tables.size() as usize);
        assert!((blob, rsdp) == tables.resolve(AT));
    }
}

fn smbios() -> Smbios {
    Smbios {
        bios: ["A", "1.0", "01/02/2003"].map(str::to_owned),
        manufacturer: "QEMU".into(),
        product: "Standard PC (i440FX + PIIX, 1996)".into(),
        version: "pc-i440fx-9.1".into(),
        uuid: *b"0123456789abcdef",
        ram: 40 << 30,
        ranges: vec![(0, 3 << 30), (4 << 30, 37 << 30)],
        sockets: 2,
        cores: 1,
        threads: 2,
        processor_id: [0x60fb1, 0x178b_fbfd],
    }
}

/// The structures: type, formatted part, strings.
fn structures(mut table: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
    let mut out = Vec::new();
    while !table.is_empty() {
        let (formatted, rest) = table.split_at(usize::from(table[1]));
        let end = rest.windows(2).position(|w| w == [0, 0]).expect("end of strings");
        let strings = rest[..end].split(|&b| b == 0).filter(|s| !s.is_empty());
        let strings = strings.map(|s| String::from_utf8_lossy(s).into_owned()).collect();
        out.push((formatted[0], formatted.to_vec(), strings));
        table = &rest[end + 2..];
    }
    out
}

#[test]
fn smbios_tells_of_processors_and_modules() {
    let (anchor, table) = smbios().build(0xf_6000);
    assert_eq!((sum(&anchor), sum(&anchor[16..])), (0, 0));
    assert_eq!((anchor.len(), u32_at(&anchor, 24)), (31, 0xf_6000));
    assert_eq!(usize::from(u16::from_le_bytes([anchor[22], anchor[23]])), table.len());
    let found = structures(&table);
    let kinds: Vec<_> = found.iter().map(|s| s.0).collect();
    assert_eq!(kinds, [0, 1, 3, 4, 4, 16, 17, 17, 17, 19, 19, 32, 127]);
    assert_eq!(usize::from(anchor[28]), found.len());
    assert_eq!(found[1].2, ["QEMU", "Standard PC (i440FX + PIIX, 1996)", "pc-i440fx-9.1"]);
    assert_eq!(found[1].1[8..24], *b"3210547689abcdef");
    // The last of three modules has what is left: 8 GiB.
    assert_eq!((found[8].1[12..14].to_vec(), &found[8].2[0]), (vec![0, 0x20], &"DIMM 2".to_owned()));
    assert_eq!(u32_at(&found[10].1, 8), (41 << 20) - 1);
}

#[test]
fn the_mp_table_leaves_pcis_interrupts_to_pci() {
    let mp = MpTable {
        apic_ids: vec![0, 2],
        processor_id: [1, 2],
        pci: vec![PciInterrupt { device: 3, pin: 0, line: 11 }],
    };
    let (pointer, table) = mp.build(0xf_5020);
    assert_eq!((sum(&pointer), sum(&table), u32_at(&pointer, 4)), (0, 0, 0xf_5020));
    assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
    let mut at = 44;
    let mut kinds = [0; 5];
    while at < table.len() {
        kinds[usize::from(table[at])] += 1;
        at += if table[at] == 0 { 20 } else { 8 };
    }
    assert_eq!((at, kinds), (table.len(), [2, 2, 1, 12, 2]));
}

#[test]
fn what_does_not_fit_is_left_out() {
    use guestmem::{AddressSpace, RamBlock, Region};
    let root = Region::whole("system");
    root.add(&Region::ram("ram", RamBlock::new("ram", 16 << 20).expect("ram")), 0);
    let memory = AddressSpace::memory("memory", &root);
    let many = Smbios { sockets: 4096, ..smbios() };
    let tables = Tables::build(&pc());
    let done = install(&memory, Some((0xfe_0000, &tables)), &many, &MpTable::default());
    assert_eq!((done.rsdp, done.smbios), (0xf_5000, 0));
    assert_eq!(memory.read_int(u64::from(done.mp), 4), u64::from(u32::from_le_bytes(*b"_MP_")));
    let done = install(&memory, Some((0xfe_0000, &tables)), &smbios(), &MpTable::default());
    assert_eq!(memory.read_int(u64::from(done.smbios), 4), u64::from(u32::from_le_bytes(*b"_SM_")));
    assert_eq!(memory.read_int(0xfe_0000, 4), u64::from(u32::from_le_bytes(*b"FACS")));
}
