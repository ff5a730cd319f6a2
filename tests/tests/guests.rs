//! The guests themselves: Debian's kernels with our initial file systems boot on the reference emulator, so that
//! a boot that fails on ours is known to be ours.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::emulator::Emulator;
use blackbox::guests;
use blackbox::initramfs::{DISK_MODULES, DONE, Initramfs, USERSPACE, sections};
use blackbox::monitor::Monitor;

const BOOT: Duration = Duration::from_secs(300);

fn boots(kernel: &str, machine: &str) {
    let reference = blackbox::or_skip!(Emulator::reference());
    let kernel = blackbox::or_skip!(guests::kernel(kernel));
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let (initrd, socket) = (folder.join("initrd"), folder.join("monitor"));
    let initramfs = Initramfs::new(&kernel).modules(DISK_MODULES).script("section release uname -r");
    std::fs::write(&initrd, initramfs.build().unwrap()).unwrap();
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let mut running = reference
        .start(&[
            "-nodefaults",
            "-display",
            "none",
            "-S",
            "-serial",
            "stdio",
            "-monitor",
            &monitor,
            "-no-reboot",
            "-M",
            machine,
            "-kernel",
            &kernel.image.to_string_lossy(),
            "-initrd",
            &initrd.to_string_lossy(),
            "-append",
            "console=ttyS0 quiet",
        ])
        .unwrap();
    let mut monitor = Monitor::connect(&socket, BOOT).unwrap();
    assert_eq!(monitor.command("info status", BOOT).unwrap(), "VM status: paused (prelaunch)\n");
    assert_eq!(monitor.command("cont", BOOT).unwrap(), "");
    running.expect(USERSPACE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    let text = running.expect(DONE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    let release = sections(&text).pop().expect("one section");
    assert_eq!((release.text.trim(), release.status), (kernel.release.as_str(), 0));
    assert_eq!(running.wait(BOOT).unwrap().code(), Some(0));
}

#[test]
fn cloud_kernel_boots_on_the_reference() {
    boots("cloud", "q35");
}

#[test]
fn pae_kernel_boots_on_the_reference() {
    boots("686", "pc");
}
