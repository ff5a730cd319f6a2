//! A program that asks much of the processor (`guest/processor.c`) in guests of both tiers: what x86's memory model
//! forbids, code that changes while it is executed, debuggers, and what signal handlers are told of faults.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::guests;
use blackbox::initramfs::{DONE, Initramfs, USERSPACE, sections};
use blackbox::paths::{repository, scratch};

const WITHIN: Duration = Duration::from_secs(300);
const PARTS: [&str; 4] = ["litmus", "rewrite", "step", "faults"];

/// A guest's root file system with the program.
fn tree(folder: &Path) -> Result<std::path::PathBuf, String> {
    let tree = folder.join("tree");
    std::fs::create_dir_all(&tree).map_err(|error| error.to_string())?;
    let source = repository().join("tests/guest/processor.c");
    let made = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o"])
        .arg(tree.join("processor"))
        .arg(source)
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    if made.status.success() { Ok(tree) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
}

/// Runs all parts in a guest and compares what they write with what processors do.
fn compare(accelerator: &str, processors: &str) {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let folder = scratch(&blackbox::current_test());
    let tree = tree(&folder).expect("the program");
    let script: String = PARTS.iter().map(|part| format!("section {part} /processor {part} 0.1\n")).collect();
    let initrd = folder.join("initrd");
    let archive = Initramfs::new(&kernel).tree(tree).script(&script).build().expect("an initial file system");
    std::fs::write(&initrd, archive).expect("a file");
    let mut running = Emulator::ours()
        .and_then(|ours| {
            ours.start(&[
                "-nodefaults",
                "-display",
                "none",
                "-serial",
                "stdio",
                "-no-reboot",
                "-m",
                "256",
                "-cpu",
                "max",
                "-smp",
                processors,
                "-accel",
                accelerator,
                "-kernel",
                &kernel.image.to_string_lossy(),
                "-initrd",
                &initrd.to_string_lossy(),
                "-append",
                "console=ttyS0 quiet no_timer_check",
            ])
        })
        .expect("the emulator");
    running.expect(USERSPACE, WITHIN).unwrap_or_else(|error| panic!("{error}"));
    let text = running.expect(DONE, WITHIN).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(running.wait(WITHIN).expect("the end").code(), Some(0));
    let found: String = sections(&text)
        .iter()
        .map(|part| format!("== {}: {}\n{}", part.name, part.status, part.text))
        .collect();
    let expected =
        std::fs::read_to_string(repository().join("tests/guest/processor.expected")).expect("a file");
    let unexpected = difference(&expected, &found);
    assert!(unexpected.is_empty(), "{accelerator}: - is a processor's, + is ours\n{unexpected}");
}

#[test]
fn interpreter() {
    compare("tcg,tier=1", "2");
}

#[test]
fn translator() {
    compare("tcg,tier=2", "4");
}

#[test]
fn translator_with_few_entries_in_its_tlb_and_everything_translated() {
    compare("tcg,tier=2,x-tiny-tlb=on,x-threshold=0", "2");
}

#[test]
fn programs_in_processes_of_their_own() {
    compare("tcg,tier=2,x-lane-b=always", "2");
}

#[test]
fn translator_on_a_host_that_lacks_much() {
    compare("tcg,tier=2,x-threshold=0,x-without=bmi2:avx:fsgsbase:xsave", "2");
}
