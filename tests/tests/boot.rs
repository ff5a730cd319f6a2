//! Debian's kernels boot to user space on each board, and the machine ends as the guest or the user wants it to.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::emulator::{Emulator, Running};
use blackbox::guests::{self, Kernel};
use blackbox::initramfs::{DISK_MODULES, DONE, Finish, Initramfs, Section, USERSPACE, sections};

/// An interpreter on a loaded machine takes its time.
const BOOT: Duration = Duration::from_secs(300);

/// What the emulator is started with, without a console.
fn arguments(machine: &str, kernel: &Kernel, initramfs: &Initramfs, append: &str) -> Vec<String> {
    let initrd = blackbox::paths::scratch(&blackbox::current_test()).join("initrd");
    std::fs::write(&initrd, initramfs.build().expect("an initial file system")).expect("a file");
    let list = ["-nodefaults", "-m", "512", "-M", machine, "-kernel", &kernel.image.to_string_lossy()];
    let mut list = list.map(str::to_owned).to_vec();
    list.extend(["-initrd".to_owned(), initrd.to_string_lossy().into_owned()]);
    // The kernel's check of its timer would tell about the load of the host.
    list.extend(["-append".to_owned(), format!("console=ttyS0 quiet no_timer_check {append}")]);
    list
}

/// Starts ours with the first serial port on the console.
fn start(arguments: &[String], more: &[&str]) -> Running {
    let mut list = arguments.to_vec();
    list.extend(["-display", "none", "-serial", "stdio"].map(str::to_owned));
    list.extend(more.iter().map(|&text| text.to_owned()));
    let mut running = Emulator::ours().expect("the emulator").start(&list).expect("it starts");
    until(&mut running, USERSPACE);
    running
}

/// Waits for a text on the console; gives what came before.
fn until(running: &mut Running, text: &str) -> String {
    running.expect(text, BOOT).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the end, which must be a good one.
fn ends_well(running: &mut Running) {
    let status = running.wait(BOOT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(status.code(), Some(0), "{}", running.errors.log());
}

fn text<'a>(sections: &'a [Section], name: &str) -> &'a str {
    let section = sections.iter().find(|section| section.name == name).expect(name);
    assert_eq!(section.status, 0, "{name}: {}", section.text);
    section.text.trim()
}

/// The guest tells about itself and turns the machine off.
fn boots(machine: &str, kernel: &str) {
    boots_with(machine, kernel, &[]);
}

fn boots_with(machine: &str, kernel: &str, more: &[&str]) {
    let kernel = blackbox::or_skip!(guests::kernel(kernel));
    let script = "section release uname -r\n\
                  section processors nproc\n\
                  section sum sh -c 'seq 1 20000 | sha256sum'";
    let initramfs = Initramfs::new(&kernel).modules(DISK_MODULES).script(script);
    let more: Vec<&str> = more.iter().copied().chain(["-no-reboot"]).collect();
    let mut running = start(&arguments(machine, &kernel, &initramfs, ""), &more);
    let found = sections(&until(&mut running, DONE));
    assert_eq!(text(&found, "release"), kernel.release);
    assert_eq!(text(&found, "processors"), "1");
    // The same on the host.
    assert_eq!(text(&found, "sum"), "f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -");
    ends_well(&mut running);
}

#[test]
fn cloud_kernel_on_pc() {
    boots("pc", "cloud");
}

#[test]
fn cloud_kernel_on_q35() {
    boots("q35", "cloud");
}

#[test]
fn pae_kernel_on_pc() {
    boots("pc", "686");
}

/// The same without the translator.
#[test]
fn cloud_kernel_in_tier_1() {
    boots_with("pc", "cloud", &["-accel", "tcg,tier=1"]);
}

#[test]
fn pae_kernel_in_tier_1() {
    boots_with("pc", "686", &["-accel", "tcg,tier=1"]);
}

/// A person at a terminal: a shell, the escape keys, the monitor.
#[test]
fn shell_on_a_terminal() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let initramfs = Initramfs::new(&kernel).then(Finish::Shell);
    let mut arguments = arguments("pc", &kernel, &initramfs, "");
    arguments.extend(["-nographic", "-serial", "mon:stdio"].map(str::to_owned));
    let ours = Emulator::ours().expect("the emulator");
    let mut running = ours.start_on_terminal(&arguments).expect("it starts");
    let running = &mut running;
    let type_in = |running: &mut Running, keys: &str| running.console.send(keys).expect("a terminal");
    until(running, "/ # ");
    assert_eq!(running.terminal_is_raw(), Some(true));
    type_in(running, "echo $((6 * 7)) answers\r");
    until(running, "42 answers");
    // The interrupt key is the guest's: it ends the guest's command, not the emulator.
    // (What prints and what sleeps are one foreground job, so that the key cannot come before it.)
    type_in(running, "sh -c \"echo be''gins; exec sleep 1000\"\r");
    until(running, "begins");
    type_in(running, "\x03");
    until(running, "/ # ");
    // The escape key and h: help; c: to the monitor and back.
    type_in(running, "\x01h");
    until(running, "C-a x    exit emulator");
    type_in(running, "\x01c");
    until(running, "(qemu) ");
    type_in(running, "info status\r");
    until(running, "VM status: running");
    type_in(running, "\x01c\r");
    until(running, "/ # ");
    type_in(running, "\x01x");
    until(running, "QEMU: Terminated");
    ends_well(running);
    assert_eq!(running.terminal_is_raw(), Some(false), "the terminal is as it was");
}

#[test]
fn leaving_the_shell_turns_the_machine_off() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let initramfs = Initramfs::new(&kernel).then(Finish::Shell);
    let mut running = start(&arguments("pc", &kernel, &initramfs, ""), &[]);
    until(&mut running, "/ # ");
    running.console.send("exit\n").expect("a pipe");
    ends_well(&mut running);
}

#[test]
fn a_reset_starts_the_guest_again() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let initramfs = Initramfs::new(&kernel).then(Finish::Reboot);
    let arguments = arguments("pc", &kernel, &initramfs, "");
    let mut running = start(&arguments, &[]);
    until(&mut running, USERSPACE);
    drop(running);
    let mut running = start(&arguments, &["-no-reboot"]);
    until(&mut running, DONE);
    ends_well(&mut running);
}

#[test]
fn a_panic_stops_the_guest_or_resets_the_machine() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    // The end of init is the end of the kernel.
    let initramfs = Initramfs::new(&kernel).script("exit 1");
    let stays = arguments("pc", &kernel, &initramfs, "");
    let mut running = start(&stays, &["-no-reboot"]);
    until(&mut running, "Kernel panic - not syncing: Attempted to kill init!");
    until(&mut running, "end Kernel panic");
    assert!(running.wait(Duration::from_secs(2)).is_err(), "a guest that stands still ends nothing");
    drop(running);
    let resets = arguments("pc", &kernel, &initramfs, "panic=-1");
    let mut running = start(&resets, &["-no-reboot"]);
    until(&mut running, "Kernel panic - not syncing: Attempted to kill init!");
    ends_well(&mut running);
}
