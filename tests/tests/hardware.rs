//! What Debian's kernel finds on our boards is what it finds on the reference emulator's.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::guests::{self, Kernel};
use blackbox::initramfs::{DISK_MODULES, DONE, Initramfs, Section, sections};

/// An interpreter on a loaded machine takes its time.
const BOOT: Duration = Duration::from_secs(300);

/// What the guest tells about the hardware it found; addresses and counts that vary between two runs
/// of the same emulator are left out.
const HARDWARE: &str = r#"
pci() {
    for d in /sys/bus/pci/devices/*; do
        cd $d
        echo ${d##*/} $(cat class vendor device subsystem_vendor subsystem_device revision)
    done
}
acpi_devices() {
    for d in /sys/bus/acpi/devices/*; do
        cd $d
        echo $(cat path) $([ -e hid ] && cat hid)
    done | sort
}
acpi_tables() { ls /sys/firmware/acpi/tables | grep -v -e data -e dynamic; }
interrupts() { sed 1d /proc/interrupts | awk '{ $2 = ""; print }'; }
ports() { cat /proc/ioports; }
# Whether the time stamp counter is a clock depends on how busy the host is; the jiffies are one until it is chosen.
clocks() { tr ' ' '\n' </sys/devices/system/clocksource/clocksource0/available_clocksource | grep -v -e tsc -e jiffies; cat /sys/class/rtc/*/name; }
consoles() { cat /proc/tty/driver/serial | sed 's/ tx:.*//'; }
input() { grep -e Name -e Phys /proc/bus/input/devices; }
for part in pci acpi_devices acpi_tables interrupts ports clocks consoles input; do section $part $part; done
section processors nproc
section message printf 'from user space\n'
"#;

/// Lines that differ and why: the floppy controller is not built (the clock behind it moves up), QEMU 9.1 describes
/// the other functions of a slot, and no firmware leaves a text mode without a display.
const KNOWN: [&str; 6] = ["FDC0", "rtc_cmos 00:", "PCI0.S09_", "PCI0.S0B_", "PCI0.SFA_", ": cga"];

/// Boots the kernel to the end of the script; gives the sections.
fn boot(emulator: &Emulator, machine: &str, kernel: &Kernel, initramfs: &Initramfs) -> Vec<Section> {
    let initrd = blackbox::paths::scratch(&blackbox::current_test()).join("initrd");
    std::fs::write(&initrd, initramfs.build().expect("an initial file system")).expect("a file");
    let (image, initrd) = (kernel.image.to_string_lossy(), initrd.to_string_lossy());
    let arguments = "-nodefaults -display none -serial stdio -no-reboot -m 512 -cpu qemu64 -M";
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.extend([machine, "-kernel", &image, "-initrd", &initrd]);
    // The kernel's check of its timer would tell about the load of the host.
    arguments.extend(["-append", "console=ttyS0 quiet loglevel=1 no_timer_check"]);
    let mut running = emulator.start(&arguments).expect("it starts");
    let text = running.expect(DONE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    running.wait(BOOT).unwrap_or_else(|error| panic!("{error}"));
    sections(&text)
}

fn same_hardware(machine: &str) {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let reference = blackbox::or_skip!(Emulator::reference());
    let initramfs = Initramfs::new(&kernel).modules(DISK_MODULES).script(HARDWARE);
    let found = boot(&Emulator::ours().expect("the emulator"), machine, &kernel, &initramfs);
    let expected = boot(&reference, machine, &kernel, &initramfs);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let mut report = String::new();
    for (a, b) in expected.iter().zip(&found) {
        let difference = difference(&a.text, &b.text);
        if difference.lines().any(|line| !KNOWN.iter().any(|known| line.contains(known))) {
            report.push_str(&format!("{}:\n{difference}", a.name));
        }
    }
    assert!(report.is_empty(), "- is what the reference has, + what ours has:\n{report}");
}

#[test]
fn of_pc() {
    same_hardware("pc");
}

#[test]
fn of_q35() {
    same_hardware("q35");
}
