//! `qemu-pr-helper` with real SCSI disks, in a guest under the reference emulator: a LIO disk seen through two nexuses, used by
//! sg_persist directly and through the helpers; multipath; a device that hangs.
#![forbid(unsafe_code)]

use blackbox::initramfs::{Initramfs, Section};
use blackbox::programs::Programs;
use blackbox::{guests, or_skip, paths};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CPU: &[&str] = &["-cpu", "max"];
const LONG: Duration = Duration::from_secs(900);
const MODULES: &[&str] = &[
    "configfs",
    "target_core_mod",
    "target_core_file",
    "tcm_loop",
    "sd_mod",
    "sg",
    "dm_mod",
    "dm_multipath",
    "dm_round_robin",
    "dm_service_time",
    "scsi_dh_alua",
    "crc32c_generic",
];

/// The programs of all scripts, in the test's folder.
fn programs(
    folder: &Path,
    tools: &Path,
    more: impl FnOnce(&mut Programs) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let search: Vec<PathBuf> =
        ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib"].iter().map(|p| tools.join(p)).collect();
    let mut programs = Programs::new(folder.join("root"), &search)?;
    let ours = paths::program("qemu-pr-helper", "TINAMOU_PR_HELPER").map_err(anyhow::Error::msg)?;
    programs.program(&ours, "qemu-pr-helper")?;
    programs.program(Path::new(env!("CARGO_BIN_EXE_pr-client")), "pr-client")?;
    programs.program(&tools.join("usr/bin/sg_persist"), "sg_persist")?;
    programs.program(&tools.join("sbin/dmsetup"), "dmsetup")?;
    programs.program(&tools.join("sbin/multipathd"), "multipathd")?;
    let original = Path::new("/usr/bin/qemu-pr-helper");
    if original.exists() {
        programs.program(original, "original")?;
    }
    more(&mut programs)?;
    programs.library(&tools.join("lib/libmpathpersist.so.0"))?;
    // Not where the loader looks, at first.
    let root = programs.folder().to_owned();
    std::fs::create_dir_all(root.join("mpath"))?;
    let library = "libmpathpersist.so.0";
    std::fs::rename(root.join("lib/x86_64-linux-gnu").join(library), root.join("mpath").join(library))?;
    for entry in std::fs::read_dir(tools.join("lib/multipath"))?.flatten() {
        let name = entry.file_name();
        programs.file(&entry.path(), &format!("lib/multipath/{}", name.to_string_lossy()))?;
    }
    Ok(root)
}

/// Runs a script in a guest, and gives its sections.
fn run(
    script: &str,
    options: &[&str],
    more: impl FnOnce(&mut Programs) -> anyhow::Result<()>,
) -> Result<Vec<Section>, String> {
    let kernel = guests::kernel("cloud")?;
    let tools = guests::scsi_tools()?;
    let folder = paths::scratch(&blackbox::current_test());
    let initramfs = Initramfs::new(&kernel)
        .modules(MODULES)
        .tree(programs(&folder, &tools, more).unwrap())
        .script(include_str!("../guest/pr-common.sh"))
        .script(script);
    blackbox::initramfs::run(&initramfs, &folder, options, LONG)
}

fn text<'a>(sections: &'a [Section], name: &str) -> &'a str {
    &sections.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no section {name}")).text
}

/// The lines of commands, as (command, status, sense, data).
fn replies(text: &str) -> Vec<[&str; 4]> {
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            words.try_into().unwrap_or_else(|words| panic!("{words:?}"))
        })
        .collect()
}

const GOOD: [&str; 2] = ["00", "0/00/00"];
const CONFLICT: [&str; 2] = ["18", "0/00/00"];

#[test]
fn reservations_through_two_nexuses() {
    let found = or_skip!(run(include_str!("../guest/pr-nexuses.sh"), CPU, |_| Ok(())));
    let direct = text(&found, "direct");
    for line in ["register A 0", "reserve A 0", "reserve B 24", "preempt 0", "release 0", "clear 0"] {
        assert!(direct.lines().any(|l| l == line), "{line}: {direct}");
    }
    let ours = text(&found, "ours");
    // As root, as nobody, and through the original: byte for byte the same.
    assert_eq!(text(&found, "nobody"), ours);
    if found.iter().any(|s| s.name == "original") {
        assert_eq!(ours, text(&found, "original"));
    }
    let replies = replies(ours);
    let of = |nth: usize, command: &str| {
        let reply = replies.iter().filter(|r| r[0] == command).nth(nth);
        let [_, status, sense, data] = reply.unwrap_or_else(|| panic!("no {command}"));
        ([*status, *sense], *data)
    };
    assert_eq!(of(0, "in:0:4").0, ["02", "5/24/00"], "the device judges short lengths");
    let both = "24:0000001000000000000000110000000000000022";
    assert_eq!(of(2, "in:0:2000"), (GOOD, both), "both registered");
    assert_eq!(of(0, "in:0:10"), (GOOD, "16:000000100000000000000011"), "cut to the allocation length");
    assert_eq!(of(0, "out:0:0:99:0:0").0, CONFLICT, "a wrong key");
    assert_eq!(of(0, "out:1:1:11:0:0").0, GOOD, "reserved");
    assert_eq!(of(0, "in:1:2000"), (GOOD, "24:0000001000000000000000110000000000010000"));
    assert_eq!(of(0, "out:1:1:22:0:0").0, CONFLICT, "the other nexus");
    assert_eq!(of(0, "out:4:1:22:11:0").0, GOOD, "preempted");
    assert_eq!(of(4, "in:0:2000").0, ["02", "6/2a/05"], "the loser hears of it");
    assert_eq!(of(1, "out:1:1:11:0:0").0, CONFLICT, "and has no rights");
    assert_eq!(of(0, "out:2:3:11:0:0").0, CONFLICT, "released with a wrong type");
    assert_eq!(of(0, "out:2:1:11:0:0").0, GOOD, "released");
    assert_eq!(of(0, "out:6:0:0:11:1").0, GOOD, "through power loss");
    assert_eq!(of(0, "in:1f:8").0, ["02", "5/24/00"], "the device judges service actions");
    assert_eq!(of(0, "fixed:0:17").0, ["02", "5/1a/00"]);
    assert_eq!(of(2, "out:0:0:0:11:0").0, GOOD, "a SCSI generic device");
    assert_eq!(of(1, "out:0:0:0:11:0").0, ["02", "5/20/00"], "a descriptor for reading only");
    for (name, user) in [("confined", "65534")] {
        let lines: Vec<_> = text(&found, name).lines().collect();
        let kept = ["0000000000020000", "0000000000220000"];
        assert_eq!(lines.len(), kept.len(), "the server and the process for multipath devices");
        for (line, kept) in lines.iter().zip(kept) {
            for word in [
                &format!("CapEff:\t{kept}"),
                "NoNewPrivs:\t1",
                "Seccomp:\t2",
                &format!("Uid:\t{user}\t{user}"),
            ] {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
    }
    assert_eq!(text(&found, "stop"), "exit 0\n");
    assert_eq!(text(&found, "stop-nobody"), "exit 0\n");
}

#[test]
fn multipath_with_the_distributions_library() {
    let found = or_skip!(run(include_str!("../guest/pr-multipath.sh"), CPU, |_| Ok(())));
    assert!(text(&found, "by-hand").contains("hand: 0 32768 multipath"), "{}", text(&found, "by-hand"));
    let without = replies(text(&found, "without"));
    let (to_map, to_others): (Vec<&[&str; 4]>, Vec<&[&str; 4]>) =
        without.iter().partition(|r| r[2] == "4/44/00");
    assert_eq!((to_map.len(), to_others.len()), (15, 2));
    for other in to_others {
        assert_eq!(
            other[1..],
            ["00", "0/00/00", "8:00000000"],
            "a path and a linear map work without the library"
        );
    }
    let messages = text(&found, "stop-without");
    assert_eq!(messages.lines().count(), 2, "one message: {messages}");
    assert!(messages.contains("is a multipath device, and reservations on those need libmpathpersist"));

    assert!(text(&found, "mapped").contains("service-time 0 2"), "{}", text(&found, "mapped"));
    let found_replies = replies(text(&found, "multipath"));
    let lines: Vec<String> = found_replies.iter().map(|r| r.join(" ")).collect();
    let expected = [
        "in:0:2000 00 0/00/00 8:00000000",
        "in:1:2000 00 0/00/00 8:00000000",
        "in:2:2000 00 0/00/00 8:ea010000",
        "out:0:0:0:11:0 00 0/00/00 0:",
        // One registration is one of each path.
        "in:0:2000 00 0/00/00 24:0000001000000000000000110000000000000011",
        "in:0:2000 00 0/00/00 24:0000001000000000000000110000000000000011",
    ];
    assert_eq!(lines[..6], expected);
    let full = &lines[6];
    for nexus in ["000100000018060000006001405aaaaaaaa1", "000200000018060000006001405aaaaaaaa2"] {
        assert!(full.starts_with("in:3:2000 00 0/00/00 104:00000060") && full.contains(nexus), "{full}");
    }
    let expected = [
        "out:1:5:11:0:0 00 0/00/00 0:",
        "in:1:2000 00 0/00/00 24:0000001000000000000000110000000000050000",
        "out:2:5:11:0:0 00 0/00/00 0:",
        "in:1:2000 00 0/00/00 8:00000000",
        "out:3:0:11:0:0 00 0/00/00 0:",
        "in:0:2000 00 0/00/00 8:00000000",
        "in:4:8 02 5/24/00 0:",
        "out:7:0:11:0:0 02 5/24/00 0:",
        "fixed:0:17 02 5/1a/00 0:",
    ];
    assert_eq!(lines[7..], expected);
    assert_eq!(
        text(&found, "stop-multipath"),
        "exit 0\n",
        "the library has nothing to complain about in its sandbox"
    );
}

#[test]
fn a_device_that_never_answers_does_not_keep_the_helper() {
    let found = or_skip!(run(include_str!("../guest/pr-stuck.sh"), CPU, |_| Ok(())));
    let stuck = text(&found, "stuck");
    assert!(stuck.contains("socket gone\n"), "{stuck}");
    let after = stuck.lines().find_map(|l| l.strip_prefix("ended after ")).expect("an end");
    let seconds: u32 = after.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds <= 5 && (after.ends_with("state Z") || after.ends_with("state ")), "{stuck}");
    assert!(stuck.contains("request on device 8:16 for process "), "{stuck}");
}

/// Adds the machine's own QEMU, with the firmware that it wants to see.
fn add_qemu(programs: &mut Programs) -> anyhow::Result<()> {
    let reference = blackbox::emulator::Emulator::reference().map_err(anyhow::Error::msg)?;
    programs.program(&reference.program, "qemu")?;
    programs.program(Path::new(env!("CARGO_BIN_EXE_qemu-scsi")), "qemu-scsi")?;
    // Debian's has its accelerators apart.
    let module = Path::new("/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so");
    if module.exists() {
        programs.file(module, "usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so")?;
    }
    programs.file(Path::new("/usr/share/seabios/bios-256k.bin"), "usr/share/qemu/bios-256k.bin")?;
    programs.file(Path::new("/usr/share/qemu/kvmvapic.bin"), "usr/share/qemu/kvmvapic.bin")
}

#[test]
fn a_real_qemu_through_a_helper_as_libvirt_starts_it() {
    if !Path::new("/usr/share/seabios/bios-256k.bin").exists() {
        blackbox::skip!("the machine has no firmware for its QEMU");
    }
    or_skip!(blackbox::emulator::Emulator::reference());
    let options = ["-cpu", "max", "-m", "1024"];
    let found = or_skip!(run(include_str!("../guest/pr-qemu.sh"), &options, add_qemu));
    let text = text(&found, "emulator");
    assert!(!text.contains("not listening yet"), "{text}");
    let lines: Vec<_> = text.lines().collect();
    for line in [
        // From the other nexus: QEMU's key and ours, QEMU's reservation, and the socket's path is the one of the start.
        "    0x33",
        "    0x22",
        "reserve B 24",
        "same socket",
        "exit 0",
        "socket gone",
        "machine 0",
        // QEMU's own commands, the last of them through the second helper.
        "in:0:2000 00 0/00/00 8:00000000",
        "in:2:2000 00 0/00/00 8:ea010000",
        "out:0:0:0:33:0 00 0/00/00 0:",
        "in:0:2000 00 0/00/00 16:000000080000000000000033",
        "out:1:1:33:0:0 00 0/00/00 0:",
        "in:1:2000 00 0/00/00 24:0000001000000000000000330000000000010000",
        "out:2:1:33:0:0 00 0/00/00 0:",
        "in:1:2000 00 0/00/00 8:00000000",
        "out:0:0:99:0:0 18 0/00/00 0:",
        "out:1f:0:33:0:0 02 5/24/00 0:",
        "in:1f:8 02 5/24/00 0:",
        "out:3:0:33:0:0 00 0/00/00 0:",
    ] {
        assert!(lines.contains(&line), "{line}: {text}");
    }
}
