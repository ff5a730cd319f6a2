use super::*;
use crate::cpuid::Leaf;
use crate::features::Feature;

fn supported(text: &str) -> FeatureSet {
    let line = text.lines().find_map(|line| line.strip_prefix("features ")).unwrap();
    FeatureSet::from_names(line).unwrap()
}

/// Compares every answer in a dump with ours; the number of answers compared.
fn compare(text: &str) -> usize {
    let supported = supported(text);
    let (mut table, mut name, mut count, mut wrong) =
        (crate::cpuid::CpuidTable::default(), "", 0, Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("features")) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[0] == "cpu" {
            name = fields[1];
            let topology =
                Topology { threads: fields[2].parse().unwrap(), cores: fields[3].parse().unwrap() };
            table = parse(name).unwrap().realize(&supported, topology, 40).unwrap().table;
            continue;
        }
        let number: Vec<u32> = fields.iter().map(|field| u32::from_str_radix(field, 16).unwrap()).collect();
        let theirs = Leaf { eax: number[2], ebx: number[3], ecx: number[4], edx: number[5] };
        let mut ours = table.read(number[0], number[1]);
        if number[0] == 0x8000_0001 && table.read(0, 0).ecx == u32::from_le_bytes(*b"ntel") {
            // Intel processors show SYSCALL in 64-bit mode only, and the dump is from real mode.
            ours.edx &= !(1 << 11);
        }
        count += 1;
        if ours != theirs {
            wrong.push(format!("{name} {:x}.{}: {ours:x?}, QEMU {theirs:x?}", number[0], number[1]));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n"));
    count
}

#[test]
fn leaves_are_qemus() {
    assert!(compare(include_str!("testdata/cpuid.txt")) > 400);
}

#[test]
fn every_line_of_the_table_is_read() {
    let lines = include_str!("models.txt").lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(models().len(), lines);
    assert!(Model::find("Haswell-noTSX").is_some_and(|model| model.name == "Haswell-v2"));
    assert!(Model::find("EPYC").is_some_and(|model| model.name == "EPYC-v1"));
    assert!(!Model::find("Haswell-v2").unwrap().features.has("rtm"));
}

#[test]
fn errors_are_qemus() {
    let error = |argument: &str| parse(argument).unwrap_err();
    assert_eq!(error("foo"), "unable to find CPU model 'foo'");
    assert_eq!(error(""), "-cpu option cannot be empty");
    assert_eq!(error("host"), "CPU model 'host' requires KVM or HVF");
    assert_eq!(error("qemu64,+foo"), "Property 'qemu64-x86_64-cpu.foo' not found");
    let global = "can't apply global Haswell-x86_64-cpu.";
    assert_eq!(error("Haswell,foo=1"), format!("{global}foo=1: Property 'Haswell-x86_64-cpu.foo' not found"));
    assert_eq!(
        error("Haswell,avx=maybe"),
        format!("{global}avx=maybe: Parameter 'avx' expects 'on' or 'off'")
    );
    assert_eq!(
        error("Haswell,vendor=abc"),
        format!("{global}vendor=abc: Property '.vendor' doesn't take value 'abc'")
    );
    assert_eq!(
        error("Haswell,family=4000"),
        format!("{global}family=4000: Property .family doesn't take value 4000 (minimum: 0, maximum: 270)")
    );
}

#[test]
fn options_change_the_processor() {
    let all = supported(include_str!("testdata/cpuid.txt"));
    let realize = |argument: &str| parse(argument).unwrap().realize(&all, Topology::default(), 40);
    let plain = realize("qemu64").unwrap();
    assert_eq!(plain.warnings, Vec::<String>::new());
    let more = realize("qemu64,+avx,-sse3,family=6,model=0x5e,model-id=Test,level=13").unwrap();
    assert!(more.features.has("avx") && !more.features.has("pni"));
    assert_eq!(more.table.read(1, 0).eax >> 4, 0x5060 | 0xe);
    assert_eq!(more.table.read(0x8000_0002, 0).eax, u32::from_le_bytes(*b"Test"));
    let missing = realize("qemu64,+avx512f").unwrap();
    assert_eq!(missing.warnings, ["TCG doesn't support requested feature: CPUID.07H:EBX.avx512f [bit 16]"]);
    assert!(!missing.features.has("avx512f"));
    let refused = realize("qemu64,+avx512f,enforce").unwrap_err();
    assert!(refused.ends_with("TCG doesn't support requested features"), "{refused}");
    assert_eq!(
        realize("Haswell,phys-bits=99").unwrap_err(),
        "phys-bits should be between 32 and 52  (but is 99)"
    );
    let max = realize("max,-avx2").unwrap();
    assert_eq!(max.features.minus(&all).iter().count(), 0);
    assert_eq!(all.minus(&max.features).iter().map(Feature::name).collect::<Vec<_>>(), ["avx2"]);
}

#[test]
fn help_has_qemus_layout() {
    let text = help();
    assert!(
        text.starts_with("Available CPUs:\n  486                   (alias configured by machine type)\n")
    );
    assert!(text.contains("\n  Haswell-v2            Intel Core Processor (Haswell, no TSX)\n"));
    assert!(text.contains("\nRecognized CPUID flags:\n  3dnow 3dnowext "));
}
