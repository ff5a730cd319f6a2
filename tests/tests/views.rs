//! What the monitor and fw_cfg show, beside the reference emulator.

#![forbid(unsafe_code)]

use blackbox::emulator::{Emulator, Running};
use blackbox::monitor::Monitor;
use blackbox::payload::Payload;
use std::path::Path;
use std::time::Duration;

const LATER: Duration = Duration::from_secs(60);

/// The reference and ours; nothing, and a note, without the reference.
fn both() -> Option<[Emulator; 2]> {
    let ours = Emulator::ours().expect("the emulator");
    match Emulator::reference() {
        Ok(reference) => Some([reference, ours]),
        Err(reason) => {
            blackbox::note_skip(format_args!("{reason}"));
            None
        }
    }
}

/// The answer of a machine that has not been started.
fn ask(emulator: &Emulator, folder: &Path, machine: &str, command: &str) -> String {
    let socket = folder.join("monitor");
    let _ = std::fs::remove_file(&socket);
    let line = format!(
        "-S -accel tcg -nodefaults -display none -monitor unix:{},server=on,wait=off {machine}",
        socket.display()
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    let _running: Running = emulator.start(&words).expect("start");
    let mut monitor = Monitor::connect(&socket, LATER).expect("monitor");
    monitor.command(command, LATER).expect(command)
}

/// Devices that are not built, with all that belongs to them.
const MISSING: [&str; 5] = ["smbus-eeprom", "vmmouse", "vmport", "isa-fdc", "kvmvapic"];

/// The lines of `info qtree` without those of devices that are not built.
fn without_missing(text: &str) -> Vec<String> {
    let mut skipped = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if skipped.is_some_and(|at| depth > at) {
            continue;
        }
        let name = line.trim_start().strip_prefix("dev: ").and_then(|rest| rest.split(',').next());
        skipped = name.filter(|name| MISSING.contains(name)).map(|_| depth);
        if skipped.is_none() {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[test]
fn the_device_tree_is_the_references() {
    let Some(emulators) = both() else { return };
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    for machine in [
        "-M pc -serial null -serial null",
        "-M q35 -serial null -device ib700 -device i6300esb,id=dog",
        "-M q35,hpet=off,sata=off,smbus=off -rtc driftfix=slew",
        "-M pc,i8042=off,pit=off -global PIIX4_PM.disable_s3=1 -global mc146818rtc.lost_tick_policy=slew",
    ] {
        let [reference, ours] = emulators
            .each_ref()
            .map(|emulator| without_missing(&ask(emulator, &folder, machine, "info qtree")));
        assert!(reference.len() > 100);
        for (line, (reference, ours)) in reference.iter().zip(&ours).enumerate() {
            assert_eq!(reference, ours, "{machine}: line {line}, the reference's and ours");
        }
        assert_eq!(reference.len(), ours.len(), "{machine}");
    }
}

/// Regions of devices that are not built, or that only QEMU's way of migrating needs.
const MISSING_REGIONS: [&str; 5] = ["rtc-index", "kvmvapic", "fdc", "vmport", "sm-tco"];

/// The sections of `info mtree` (QEMU has no order for them) without system management mode's, sorted.
fn sections(text: &str) -> Vec<Vec<String>> {
    let mut sections: Vec<Vec<String>> = text
        .split("\n\n")
        .map(|section| {
            let lines = section.lines().filter(|line| {
                let missing = MISSING_REGIONS.iter().any(|name| line.ends_with(&format!(": {name}")));
                // An address space of the same tree as the next one.
                !missing && *line != "address-space: cpu-memory-0"
            });
            lines.map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|section| {
            section.first().is_some_and(|head| !head.contains("cpu-smm") && !head.ends_with(" smram"))
        })
        .collect();
    sections.sort();
    sections
}

#[test]
fn the_memory_tree_is_the_references() {
    let Some(emulators) = both() else { return };
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    for machine in [
        "-M pc,smm=off -serial null",
        "-M q35,smm=off -m 3G -device ib700",
        "-M pc,smm=off,i8042=off,hpet=off -m 5G",
    ] {
        let [reference, ours] =
            emulators.each_ref().map(|emulator| sections(&ask(emulator, &folder, machine, "info mtree")));
        for (reference, ours) in reference.iter().zip(&ours) {
            assert_eq!(reference, ours, "{machine}: the reference's and ours");
        }
        assert_eq!(reference.len(), ours.len(), "{machine}");
    }
}

/// Bytes of fw_cfg's item `key` as a guest reads them.
fn item(emulator: &Emulator, folder: &Path, line: &str, key: u16, length: u32) -> Vec<u8> {
    let output = folder.join("output");
    let _ = std::fs::remove_file(&output);
    // mov $length, %ecx; mov $0x511, %dx; 1: in (%dx), %al; out %al, $0xe9; loop 1b
    let program = Payload::new()
        .out16(0x510, key)
        .raw(&[0xb9])
        .raw(&length.to_le_bytes())
        .raw(&[0x66, 0xba, 0x11, 0x05, 0xec, 0xe6, 0xe9, 0xe2, 0xfb])
        .out8(0xf4, 1)
        .stop();
    let line = format!(
        "-accel tcg -nodefaults -display none -device isa-debug-exit,iobase=0xf4,iosize=1 -debugcon file:{} -kernel {} \
         {line}",
        output.display(),
        program.write(folder).display()
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    let found = emulator.run(&words, LATER).expect("it ends");
    assert_eq!(found.status.code(), Some(3), "{}", String::from_utf8_lossy(&found.stderr));
    std::fs::read(output).expect("what the guest wrote")
}

/// A file of fw_cfg.
fn file(emulator: &Emulator, folder: &Path, line: &str, name: &str) -> Option<Vec<u8>> {
    let directory = item(emulator, folder, line, 0x19, 4 + 64 * 64);
    let mut entries = directory[4..].chunks(64);
    let entry = entries.find(|entry| entry[8..].starts_with(format!("{name}\0").as_bytes()))?;
    let size = u32::from_be_bytes(entry[..4].try_into().expect("four bytes"));
    let key = u16::from_be_bytes(entry[4..6].try_into().expect("two bytes"));
    Some(item(emulator, folder, line, key, size))
}

/// An image that prints `length` bytes of fw_cfg's item `key` on the debug console when it is started as firmware.
fn firmware(folder: &Path, key: u16, length: u32) -> String {
    let [low, high] = key.to_le_bytes();
    let [a, b, c, d] = length.to_le_bytes();
    // mov $0x510, %dx; mov $key, %ax; out %ax, %dx; inc %dx; mov $length, %ecx
    // 1: in %dx, %al; out %al, $0xe9; dec %ecx; jnz 1b; mov $1, %al; out %al, $0xf4; hlt
    let code = [
        0xba, 0x10, 0x05, 0xb8, low, high, 0xef, 0x42, 0x66, 0xb9, a, b, c, d, 0xec, 0xe6, 0xe9, 0x66, 0x49,
        0x75, 0xf9, 0xb0, 1, 0xe6, 0xf4, 0xf4,
    ];
    let mut image = vec![0xf4; 0x1_0000];
    image[..code.len()].copy_from_slice(&code);
    // ljmp $0xf000, $0
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    let path = folder.join("firmware");
    std::fs::write(&path, image).expect("write");
    path.display().to_string()
}

/// Bytes of an item as firmware finds them.
fn item_of_firmware(emulator: &Emulator, folder: &Path, line: &str, key: u16, length: u32) -> Vec<u8> {
    let output = folder.join("output");
    let _ = std::fs::remove_file(&output);
    let line = format!(
        "-accel tcg -nodefaults -display none -device isa-debug-exit,iobase=0xf4,iosize=1 -debugcon file:{} -bios {} \
         {line}",
        output.display(),
        firmware(folder, key, length)
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    let found = emulator.run(&words, LATER).expect("it ends");
    assert_eq!(found.status.code(), Some(3), "{}", String::from_utf8_lossy(&found.stderr));
    std::fs::read(output).expect("what the firmware wrote")
}

/// A bzImage of protocol 2.15 with recognisable bytes.
fn kernel() -> Vec<u8> {
    let mut image: Vec<u8> = (0..0x3000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    image[0x1f1] = 3;
    image[0x201] = 0x6a;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[0x0f, 2]);
    image[0x211] = 1;
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    image[0x236..0x238].copy_from_slice(&[0, 0]);
    image
}

#[test]
fn firmware_is_offered_the_kernel() {
    let Some(emulators) = both() else { return };
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    std::fs::write(folder.join("kernel"), kernel()).expect("write");
    std::fs::write(folder.join("initrd"), vec![0x77; 5000]).expect("write");
    let at = folder.display();
    let line =
        format!("-m 64 -M pc-i440fx-7.1 -kernel {at}/kernel -initrd {at}/initrd -append quiet,vga=0x317");
    // Addresses and sizes, then contents: kernel, command line, real-mode part, initial RAM disk.
    for (key, length) in [
        (0x07, 4),
        (0x08, 4),
        (0x0a, 4),
        (0x0b, 4),
        (0x13, 4),
        (0x14, 4),
        (0x16, 4),
        (0x17, 4),
        (0x11, 0x2800),
        (0x15, 20),
        (0x18, 0x800),
        (0x12, 5001),
    ] {
        let [reference, ours] =
            emulators.each_ref().map(|emulator| item_of_firmware(emulator, &folder, &line, key, length));
        assert_eq!(reference.len(), length as usize);
        let differs = reference.iter().zip(&ours).position(|(a, b)| a != b);
        assert_eq!(differs, None, "item {key:#x}: the reference's {reference:x?}, ours {ours:x?}");
    }
}

#[test]
fn firmware_is_told_what_boot_options_say() {
    let Some(emulators) = both() else { return };
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let picture = |name: &str, start: &[u8], depth: u8| {
        let mut bytes = start.to_vec();
        bytes.resize(100, 7);
        bytes[28..30].copy_from_slice(&[depth, 0]);
        std::fs::write(folder.join(name), bytes).expect("write");
    };
    picture("a.jpg", &[0xff, 0xd8], 0);
    picture("a.bmp", b"BM", 24);
    picture("bad.bmp", b"BM", 8);
    let at = folder.display();
    for (line, name) in [
        (format!("-boot splash={at}/a.jpg,splash-time=1234"), "bootsplash.jpg"),
        (format!("-boot splash={at}/a.jpg,splash-time=1234"), "etc/boot-menu-wait"),
        (format!("-boot splash=a.bmp -L {at}"), "bootsplash.bmp"),
        (format!("-boot splash={at}/bad.bmp"), "bootsplash.bmp"),
        ("-boot reboot-timeout=4660".to_owned(), "etc/boot-fail-wait"),
        ("-boot menu=on".to_owned(), "etc/boot-fail-wait"),
    ] {
        let [reference, ours] = emulators.each_ref().map(|emulator| file(emulator, &folder, &line, name));
        assert_eq!(reference, ours, "{line}: {name}, the reference's and ours");
        assert_eq!(ours.is_some(), !line.contains("bad"), "{line}");
    }
}
