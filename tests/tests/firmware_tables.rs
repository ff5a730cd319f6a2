//! The tables that firmware leaves: what a guest finds with ours and with the reference, and what it does with them.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::guests::{self, Kernel};
use blackbox::initramfs::{DONE, Initramfs, Section, sections};
use blackbox::monitor::Monitor;

const BOOT: Duration = Duration::from_secs(300);

/// What the guest tells: its ACPI objects, the tables' bytes, what the kernel says of them, and what the machine calls
/// itself.
const SCRIPT: &str = r#"section devices sh -c 'cd /sys/bus/acpi/devices; for d in *; do echo "$d $(cat $d/path)"; done'
for t in APIC HPET WAET FACP FACS MCFG; do
    [ -e /sys/firmware/acpi/tables/$t ] && section $t od -An -v -tx1 /sys/firmware/acpi/tables/$t
done
section complaints sh -c 'dmesg | grep -iE "acpi (bios )?(error|warning|exception)" || true'
section mp sh -c 'dmesg | grep -c "found SMP MP-table"'
section dmi sh -c 'cd /sys/class/dmi/id; for f in sys_vendor product_* chassis_* ; do [ -f $f ] && echo "$f $(cat $f)"; done'
section sleep cat /sys/power/state
"#;

fn boot(emulator: &Emulator, kernel: &Kernel, name: &str, machine: &str) -> Vec<Section> {
    let initrd = blackbox::paths::scratch(&blackbox::current_test()).join(format!("initrd-{name}"));
    let archive = Initramfs::new(kernel).script(SCRIPT).build().expect("an initial file system");
    std::fs::write(&initrd, archive).expect("a file");
    let arguments = ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-smp", "2"];
    let mut list = arguments.map(str::to_owned).to_vec();
    list.extend(["-M", machine, "-m", "512", "-kernel", &kernel.image.to_string_lossy()].map(str::to_owned));
    list.extend(["-initrd".to_owned(), initrd.to_string_lossy().into_owned()]);
    list.extend(["-append".to_owned(), "console=ttyS0 quiet no_timer_check".to_owned()]);
    let mut running = emulator.start(&list).expect("it starts");
    let text = running.expect(DONE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    // Power-off is ACPI's.
    let status = running.wait(BOOT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(0), "{}", running.errors.log());
    sections(&text)
}

fn text<'a>(found: &'a [Section], name: &str) -> &'a str {
    found.iter().find(|section| section.name == name).map_or("", |section| section.text.trim())
}

fn bytes(found: &[Section], table: &str) -> Vec<u8> {
    text(found, table).split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// The objects that do not depend on the reference's version. Older ones name fewer PCI functions; the floppy controller
/// is a device that ours does not have.
fn objects(found: &[Section], every_function: bool) -> String {
    let wanted = |line: &&str| {
        let function = line.starts_with("device:");
        !line.starts_with("PNP0700") && (every_function || !function)
    };
    let mut lines: Vec<&str> = text(found, "devices").lines().filter(wanted).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn agrees_with_the_reference(alias: &str, versioned: &str) {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let newer = Emulator::newer_reference();
    let exact = newer.is_ok();
    let reference = blackbox::or_skip!(newer.or_else(|_| Emulator::reference()));
    let theirs = boot(&reference, &kernel, "reference", if exact { versioned } else { alias });
    let ours = boot(&Emulator::ours().expect("the emulator"), &kernel, "ours", alias);

    assert!(objects(&ours, false).contains("LNXCPU:01 \\_SB_.CPUS.C001"), "{}", objects(&ours, false));
    let differs = difference(&objects(&theirs, exact), &objects(&ours, exact));
    assert!(differs.is_empty(), "objects:\n{differs}");
    for table in ["APIC", "HPET", "WAET", "FACS", "FACP", "MCFG"] {
        let (mut a, mut b) = (bytes(&theirs, table), bytes(&ours, table));
        // Versions differ in the header's revision; addresses depend on the size of the DSDT.
        for table_bytes in [&mut a, &mut b] {
            for (at, byte) in table_bytes.iter_mut().enumerate() {
                let header = table != "FACS" && (at == 8 || at == 9);
                let address = table == "FACP" && ((36..44).contains(&at) || (132..148).contains(&at));
                if header || address {
                    *byte = 0;
                }
            }
        }
        assert_eq!(a, b, "{table}");
        assert_eq!(a.is_empty(), table == "MCFG" && alias == "pc", "{table}");
    }
    assert_eq!(text(&ours, "complaints"), text(&theirs, "complaints"));
    for name in ["mp", "sleep"] {
        assert_eq!(text(&ours, name), text(&theirs, name), "{name}");
    }
    // The machine's version is part of what it calls itself.
    let dmi = |found: &[Section]| {
        let lines = text(found, "dmi").lines().filter(|line| exact || !line.contains("version"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let differs = difference(&dmi(&theirs), &dmi(&ours));
    assert!(differs.is_empty(), "DMI:\n{differs}");
}

#[test]
fn tables_of_pc() {
    agrees_with_the_reference("pc", "pc-i440fx-9.1");
}

#[test]
fn tables_of_q35() {
    agrees_with_the_reference("q35", "pc-q35-9.1");
}

/// `system_powerdown` presses ACPI's power button.
#[test]
fn the_power_button_is_noticed() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let (initrd, socket) = (folder.join("initrd"), folder.join("monitor"));
    let script = "echo 'button ready'\n\
                  until grep -q '^ *[1-9]' /sys/firmware/acpi/interrupts/ff_pwr_btn; do usleep 50000; done\n";
    let archive =
        Initramfs::new(&kernel).modules(&["button"]).script(script).build().expect("an initial file system");
    std::fs::write(&initrd, archive).expect("a file");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let mut list =
        ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "512", "-M", "q35"]
            .map(str::to_owned)
            .to_vec();
    list.extend(["-kernel".to_owned(), kernel.image.to_string_lossy().into_owned()]);
    list.extend(["-initrd".to_owned(), initrd.to_string_lossy().into_owned()]);
    list.extend(["-append", "console=ttyS0 quiet", "-monitor", &monitor].map(str::to_owned));
    let mut running = Emulator::ours().expect("the emulator").start(&list).expect("it starts");
    running.expect("button ready", BOOT).unwrap_or_else(|error| panic!("{error}"));
    let mut monitor = Monitor::connect(&socket, BOOT).expect("a monitor");
    assert_eq!(monitor.command("system_powerdown", BOOT).expect("an answer"), "");
    running.expect(DONE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(running.wait(BOOT).expect("an end").code(), Some(0));
}
