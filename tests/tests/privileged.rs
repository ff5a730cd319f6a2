//! What a processor does with its privileged state, compared with the reference emulator: small programs in
//! `payloads` write what they find to the debug console.
//!
//! Where the reference does not do as processors do, `NAME.differences` has its lines (`-`) and ours (`+`), each group
//! under the manual's reason. No other line may differ, and each of those must.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::monitor::Monitor;
use blackbox::paths::{repository, scratch};

/// Runs a tool of the GNU binutils; the error says what is missing or wrong.
fn tool(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(repository().join("tests/payloads"))
        .output()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Assembles a payload to a 32-bit ELF image, as multiboot wants it.
fn assemble(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let [object, linked, image] = ["o", "linked", "elf"].map(|end| folder.join(name).with_extension(end));
    let text = |path: &Path| path.to_str().expect("paths are text").to_owned();
    tool("as", &["--64", "-o", &text(&object), &format!("{name}.S")])?;
    let script = ["-m", "elf_x86_64", "--no-warn-rwx-segments", "-T", "payload.ld", "-o"];
    tool("ld", &[&script[..], &[&text(&linked), &text(&object)]].concat())?;
    tool("objcopy", &["-O", "elf32-i386", &text(&linked), &text(&image)])?;
    Ok(image)
}

/// What the payload writes when `emulator` runs it.
fn run(
    emulator: &Emulator,
    accelerator: &str,
    image: &Path,
    console: &Path,
    cpu: &str,
) -> Result<String, String> {
    let arguments = [
        "-M",
        "pc",
        "-m",
        "64",
        "-cpu",
        cpu,
        "-accel",
        accelerator,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-kernel",
        &image.display().to_string(),
        "-debugcon",
        &format!("file:{}", console.display()),
    ];
    let ended = emulator.run(&arguments, Duration::from_secs(60));
    let text = std::fs::read_to_string(console).unwrap_or_default();
    match ended {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{error}; the console says\n{}", text.lines().last().unwrap_or_default())),
    }
}

/// The lines that differ, one by one when there are as many.
fn lines_that_differ(reference: &str, ours: &str) -> String {
    if reference.lines().count() != ours.lines().count() {
        return difference(reference, ours);
    }
    let pairs = reference.lines().zip(ours.lines()).filter(|(a, b)| a != b);
    pairs.map(|(a, b)| format!("-{}\n+{}\n", a.trim_end(), b.trim_end())).collect()
}

/// The differences that the manuals explain.
fn known_differences(name: &str) -> String {
    let path = repository().join(format!("tests/payloads/{name}.differences"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(['-', '+'])).map(|line| format!("{line}\n")).collect()
}

/// Tier 1, and tier 2 for code that is hot and for all code.
const ACCELERATORS: [&str; 3] = ["tcg,tier=1", "tcg", "tcg,x-threshold=1"];

fn compare_with(reference: &Emulator, name: &str, cpu: &str) {
    let ours = Emulator::ours().expect("the emulator");
    let folder = scratch(&format!("privileged-{name}"));
    let image = blackbox::or_skip!(assemble(name, &folder));
    let expected =
        run(reference, "tcg", &image, &folder.join("reference"), cpu).expect("the reference ends by itself");
    assert!(expected.ends_with("end\n"), "the payload does not come to its end on the reference");
    let known = known_differences(name);
    for accelerator in ACCELERATORS {
        let found = run(&ours, accelerator, &image, &folder.join("ours"), cpu).expect("the payload ends");
        let found = lines_that_differ(&expected, &found);
        let unexpected = difference(&known, &found);
        assert!(
            unexpected.is_empty(),
            "{accelerator}: - is the reference, + is ours, within the file of differences:\n{unexpected}"
        );
    }
}

fn compare(name: &str, cpu: &str) {
    let reference = blackbox::or_skip!(Emulator::reference());
    compare_with(&reference, name, cpu);
}

/// What the payload writes when the monitor's NMI button is pressed each time that it is ready.
fn press(emulator: &Emulator, image: &Path, folder: &Path) -> Result<String, String> {
    const WITHIN: Duration = Duration::from_secs(30);
    let (socket, console) = (folder.join("monitor"), folder.join("console"));
    let _ = std::fs::remove_file(&socket);
    let _ = std::fs::remove_file(&console);
    let options = format!(
        "-M pc -m 64 -cpu max -accel tcg -nodefaults -display none -no-reboot -kernel {} -debugcon file:{} \
         -monitor unix:{},server=on,wait=off",
        image.display(),
        console.display(),
        socket.display()
    );
    let mut running = emulator.start(&options.split(' ').collect::<Vec<_>>())?;
    let mut monitor = Monitor::connect(&socket, WITHIN)?;
    let text = || std::fs::read_to_string(&console).unwrap_or_default();
    let end = Instant::now() + WITHIN;
    for presses in 1..=4 {
        while text().matches("ready").count() < presses {
            if Instant::now() > end {
                return Err(format!("press {presses}: {}", text()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if presses < 4 {
            monitor.command("nmi", WITHIN)?;
        } else {
            // It ends by itself.
            monitor.last_command("nmi", WITHIN)?;
        }
    }
    running.wait(WITHIN)?;
    Ok(text())
}

#[test]
fn the_monitors_button_is_the_local_apics_pin() {
    let ours = Emulator::ours().expect("the emulator");
    let folder = scratch("privileged-button");
    let image = blackbox::or_skip!(assemble("button", &folder));
    let reference = blackbox::or_skip!(Emulator::reference());
    let expected = press(&reference, &image, &folder).expect("the reference ends");
    assert!(expected.ends_with("end\n"), "{expected}");
    assert_eq!(expected, press(&ours, &image, &folder).expect("the payload ends"));
}

#[test]
fn segments_gates_and_far_transfers() {
    compare("segments", "qemu64");
}

#[test]
fn tasks_virtual_8086_mode_debugging_and_real_mode() {
    compare("modes", "qemu64");
}

#[test]
fn long_mode_paging_gates_and_registers() {
    compare("long", "max");
}

#[test]
fn paging_of_32_bit_mode() {
    compare("paging", "max");
}

#[test]
fn task_switches_with_every_part_at_fault() {
    compare("tasks", "qemu64");
}

#[test]
fn debug_registers_and_single_steps() {
    compare("debugging", "qemu64");
}

#[test]
fn limits_call_gates_system_calls_alignment_and_ports() {
    compare("limits", "qemu64");
}

#[test]
fn virtual_8086_mode_and_its_extensions() {
    compare("v86", "qemu64,+vme");
}

#[test]
fn interrupts_that_cannot_be_masked() {
    compare("nmi", "qemu64");
}

#[test]
fn x2apic_mode() {
    // QEMU 7.2 does not emulate it.
    let reference = blackbox::or_skip!(Emulator::newer_reference());
    compare_with(&reference, "x2apic", "max");
}

#[test]
fn long_mode_addresses_reserved_bits_and_system_calls() {
    compare("system64", "max");
}

#[test]
fn protection_keys() {
    compare("keys", "max");
}

#[test]
fn addresses_of_57_bits() {
    compare("la57", "max");
}
