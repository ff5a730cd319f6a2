//! Firmware on the host's KVM: real-mode code with ports, timer interrupts and HLT.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::emulator::Emulator;

const WITHIN: Duration = Duration::from_secs(60);

/// Counts five interrupts of the timer, prints a line to the first serial port, and ends with isa-debug-exit at 0x501.
fn firmware() -> Vec<u8> {
    #[rustfmt::skip]
    let code: &[&[u8]] = &[
        // cli; xor ax,ax; mov ss,ax; mov sp,0x7000; mov ds,ax
        &[0xfa, 0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x70, 0x8e, 0xd8],
        // Vector 0x20: f000:0100.
        &[0xc7, 0x06, 0x80, 0x00, 0x00, 0x01, 0xc7, 0x06, 0x82, 0x00, 0x00, 0xf0],
        // mov ecx,0x1b; rdmsr; and ah,0xf7; wrmsr: the local APIC off, so that the PIC's interrupts reach the processor.
        &[0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, 0x80, 0xe4, 0xf7, 0x0f, 0x30],
        // The PIC: vectors from 0x20 on, only the timer.
        &[0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21],
        &[0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21],
        // The timer: mode 2, every 4096 ticks.
        &[0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x00, 0xe6, 0x40, 0xb0, 0x10, 0xe6, 0x40],
        // sti; 1: hlt; cmp word [0x600],5; jb 1b; cli
        &[0xfb, 0xf4, 0x83, 0x3e, 0x00, 0x06, 0x05, 0x72, 0xf8, 0xfa],
        // push cs; pop ds; mov si,0x120; mov dx,0x3f8; cld; mov cx,14; 1: lodsb; out dx,al; loop 1b
        &[0x0e, 0x1f, 0xbe, 0x20, 0x01, 0xba, 0xf8, 0x03, 0xfc, 0xb9, 0x0e, 0x00, 0xac, 0xee, 0xe2, 0xfc],
        // mov dx,0x501; mov al,0x10; out dx,al; 1: hlt; jmp 1b
        &[0xba, 0x01, 0x05, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd],
    ];
    let mut image = vec![0; 0x1_0000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &code.concat());
    // push ax; inc word [0x600]; mov al,0x20; out 0x20,al; pop ax; iret
    put(0x100, &[0x50, 0xff, 0x06, 0x00, 0x06, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]);
    put(0x120, b"ticks counted\n");
    // jmp f000:0000
    put(0xfff0, &[0xea, 0x00, 0x00, 0x00, 0xf0]);
    image
}

fn runs(options: &[&str]) {
    let path = blackbox::paths::scratch(&blackbox::current_test()).join("firmware");
    std::fs::write(&path, firmware()).expect("a file");
    let path = path.to_string_lossy();
    let mut list = vec!["-nodefaults", "-display", "none", "-serial", "stdio", "-bios", &path];
    list.extend(["-device", "isa-debug-exit,iobase=0x501"]);
    list.extend(options);
    let output = Emulator::ours().expect("the emulator").run(&list, WITHIN).expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ticks counted\n", "{errors}");
    assert_eq!(output.status.code(), Some(33), "{errors}");
}

/// Whether this machine has KVM for us.
fn kvm() -> Result<(), String> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    device.map(drop).map_err(|error| format!("/dev/kvm: {error}"))
}

#[test]
fn real_mode_firmware_runs_in_software() {
    runs(&["-accel", "tcg"]);
}

#[test]
fn real_mode_firmware_runs_on_kvm() {
    blackbox::or_skip!(kvm());
    runs(&["-accel", "kvm"]);
    runs(&["-enable-kvm", "-M", "q35", "-cpu", "max"]);
    runs(&["-M", "pc,accel=kvm:tcg", "-cpu", "host"]);
}

#[test]
fn the_hosts_processor_is_kvms_alone() {
    let list = ["-accel", "tcg", "-cpu", "host", "-display", "none"];
    let output = Emulator::ours().expect("the emulator").run(&list, WITHIN).expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.ends_with(": CPU model 'host' requires KVM or HVF\n"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}
