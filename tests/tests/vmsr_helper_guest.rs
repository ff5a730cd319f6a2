//! `qemu-vmsr-helper` with the real driver of model-specific registers, in a guest that claims to be Intel's; the original
//! of the backports suite answers the same requests.
#![forbid(unsafe_code)]

use blackbox::initramfs::{Initramfs, Section};
use blackbox::programs::Programs;
use blackbox::{guests, or_skip, paths};
use std::path::Path;
use std::time::Duration;

fn run() -> Result<Vec<Section>, String> {
    let kernel = guests::kernel("cloud")?;
    let folder = paths::scratch(&blackbox::current_test());
    let ours = paths::program("qemu-vmsr-helper", "TINAMOU_VMSR_HELPER")?;
    let mut programs = Programs::new(folder.join("root"), &[]).unwrap();
    programs.program(&ours, "qemu-vmsr-helper").unwrap();
    programs.program(Path::new(env!("CARGO_BIN_EXE_vmsr-client")), "vmsr-client").unwrap();
    // Its libraries are those of the machine's own QEMU.
    if let Err(reason) = guests::vmsr_original()
        .and_then(|file| programs.program(&file, "original").map_err(|error| format!("{error:#}")))
    {
        blackbox::note_skip(format_args!("the comparison with the original: {reason}"));
    }
    let initramfs = Initramfs::new(&kernel)
        .modules(&["msr"])
        .tree(programs.folder().to_owned())
        .script(include_str!("../guest/vmsr-helper.sh"));
    let cpu = ["-smp", "2", "-cpu", "max,vendor=GenuineIntel,family=6,model=94"];
    blackbox::initramfs::run(&initramfs, &folder, &cpu, Duration::from_secs(900))
}

fn text<'a>(sections: &'a [Section], name: &str) -> Option<&'a str> {
    sections.iter().find(|s| s.name == name).map(|s| &*s.text)
}

#[test]
fn registers_of_a_host_with_rapl() {
    let found = or_skip!(run());
    let ours = |name| text(&found, name).unwrap_or_else(|| panic!("no section {name}"));
    // The original, where it is: the same answers, and the same words at start.
    for (mine, original) in [
        ("ours", "original"),
        ("fake", "original-fake"),
        ("refused", "original-refused"),
        ("bad", "original-bad"),
    ] {
        if let Some(original) = text(&found, original) {
            assert_eq!(ours(mine), original.replace("original", "qemu-vmsr-helper"));
        }
    }
    let refused = ours("refused");
    assert!(refused.contains("Error opening /sys/class/powercap/intel-rapl/enabled"), "{refused}");
    assert_eq!(refused.matches("RAPL driver not enable").count(), 2, "{refused}");
    assert_eq!(refused.matches("exit 1").count(), 2, "{refused}");
    assert_eq!(ours("bad").matches("exit 1\n").count(), 10, "{}", ours("bad"));
    // The emulated processor's registers are zero; the closed conversations are what tells.
    let expected = "606:0 0\n610:0 0\n611:0 0\n614:0 0\n606:1 0\n611:0:1 0\n611:0 0\n611:99 0\n619:0 closed\n\
                    611:0 0\n0:0 closed\n611:0 closed\n";
    assert_eq!(ours("ours").replace("0000000000000000", "0"), expected);
    assert!(ours("stop").contains("info: Listening on /tmp/ours.sock\n"), "{}", ours("stop"));
    assert!(ours("stop").contains("Requested unallowed msr: 1561\n"), "{}", ours("stop"));
    assert!(ours("stop").starts_with("exit 0\n"));
    let fake = ours("fake");
    assert!(fake.contains("611:0 0000000004030201\n"), "{fake}");
    assert!(fake.contains("606:1 0000000000000009\n"), "{fake}");
    assert!(fake.contains("611:0:1 0000000000000000\n"), "another's thread: {fake}");
    for (name, user) in [("confined", "0"), ("nobody", "65534")] {
        let none = "0000000000000000";
        for word in [
            format!("CapEff:\t{none}"),
            format!("CapPrm:\t{none}"),
            format!("CapBnd:\t{none}"),
            "NoNewPrivs:\t1".into(),
            "Seccomp:\t2".into(),
            format!("Uid:\t{user}\t{user}\t{user}\t{user}"),
        ] {
            assert!(ours(name).contains(&word), "{name} {word}: {}", ours(name));
        }
    }
    // --quiet leaves the line about listening alone.
    assert_eq!(ours("nobody-stop").lines().count(), 2, "{}", ours("nobody-stop"));
    let soft: u64 = ours("limited").split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft >= 2048, "{}", ours("limited"));
    let plugged = ours("plugged");
    assert_eq!(plugged.matches("CPU 1 was not there at start and reads as 0").count(), 1, "{plugged}");
    assert_eq!(plugged.matches("611:1 0000000000000000").count(), 3, "{plugged}");
}
