//! The life of a machine: resets, power-off, pauses, exit statuses. Small programs run on the reference emulator and
//! on ours, and both must do what the rows say.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use blackbox::compare::Outcome;
use blackbox::emulator::{Emulator, Running};
use blackbox::monitor::Monitor;
use blackbox::payload::Payload;

const LATER: Duration = Duration::from_secs(60);

/// The emulators to test: the reference first, if there is one.
fn emulators() -> Vec<Emulator> {
    let reference = Emulator::reference().map_err(|reason| blackbox::note_skip(format_args!("{reason}")));
    reference.into_iter().chain([Emulator::ours().expect("the emulator")]).collect()
}

fn arguments(kernel: &Path, more: &str) -> Vec<String> {
    let base = "-M pc,accel=tcg -m 64 -nodefaults -display none -device isa-debug-exit,iobase=0xf4,iosize=1";
    let mut words: Vec<String> = base.split(' ').map(str::to_owned).collect();
    words.extend(["-kernel".to_owned(), kernel.display().to_string()]);
    words.extend(more.split_whitespace().map(str::to_owned));
    words
}

/// Runs a program to its end on every emulator: exit status and what it printed must be as told.
fn ends(name: &str, payload: &Payload, more: &str, status: i32, output: &str) {
    let folder = blackbox::paths::scratch(&format!("{}-{name}", blackbox::current_test()));
    let kernel = payload.write(&folder);
    for emulator in emulators() {
        let words = arguments(&kernel, &format!("-serial stdio {more}"));
        let found = Outcome::of(&emulator, &words, LATER).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (found.status, found.output.as_str()),
            (status, output),
            "{name} on {}: {}",
            emulator.program.display(),
            found.errors
        );
    }
}

/// A running program with its monitor.
struct Session {
    running: Running,
    monitor: Monitor,
}

impl Session {
    fn start(emulator: &Emulator, payload: &Payload, more: &str) -> Self {
        let folder = blackbox::paths::scratch(&blackbox::current_test());
        let kernel = payload.write(&folder);
        let socket = folder.join("monitor");
        let _ = std::fs::remove_file(&socket);
        let more = format!("-serial stdio -monitor unix:{},server=on,wait=off {more}", socket.display());
        let running = emulator.start(&arguments(&kernel, &more)).expect("start");
        let monitor = Monitor::connect(&socket, LATER).expect("monitor");
        Self { running, monitor }
    }

    fn ask(&mut self, command: &str) -> String {
        self.monitor.command(command, LATER).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn see(&mut self, text: &str) {
        self.running.expect(text, LATER).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Asks until the answer is `wanted`.
    fn until(&mut self, command: &str, wanted: &str) {
        let end = std::time::Instant::now() + LATER;
        loop {
            let answer = self.ask(command);
            if answer == wanted {
                return;
            }
            assert!(std::time::Instant::now() < end, "{command}: {answer:?}, expected {wanted:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn quit(mut self, status: i32) {
        self.monitor.last_command("quit", LATER).expect("quit");
        assert_eq!(self.running.wait(LATER).expect("end").code(), Some(status));
    }

    /// The word that [`Payload::count_for_ever`] counts in.
    fn count(&mut self) -> u32 {
        let line = self.ask("xp/1wx 0x300004");
        let word = line.trim().rsplit("0x").next().expect("a word");
        u32::from_str_radix(word, 16).expect("hexadecimal")
    }
}

#[test]
fn isa_debug_exit_gives_the_status() {
    ends("3", &Payload::new().print("x").out8(0xf4, 3).stop(), "", 7, "x");
    ends("0", &Payload::new().out8(0xf4, 0).stop(), "", 1, "");
    ends("255", &Payload::new().out8(0xf4, 255).stop(), "", 255, "");
}

#[test]
fn every_way_to_reset_starts_over() {
    let count = Payload::new().print_count().exit_at(3, 1);
    for (name, reset) in [
        ("keyboard", count.clone().out8(0x64, 0xfe)),
        ("pci", count.clone().out8(0xcf9, 2).out8(0xcf9, 6)),
        ("port92", count.clone().out8(0x92, 1)),
        ("triple", count.clone().triple_fault()),
    ] {
        ends(name, &reset.clone().stop(), "", 3, "123");
        ends(name, &reset.clone().stop(), "-no-reboot", 0, "1");
        ends(name, &reset.stop(), "-action reboot=shutdown", 0, "1");
    }
}

#[test]
fn a_panic_does_what_the_action_says() {
    // The reference stops the processor at the next jump: mov $0x1000, %ecx; 1: loop 1b.
    let jumps = [0xb9, 0, 0x10, 0, 0, 0xe2, 0xfe];
    let panic = Payload::new().print("a").out8(0x505, 1).raw(&jumps).print("b").out8(0xf4, 9).stop();
    for (action, status, output) in [("none", 19, "ab"), ("shutdown", 0, "a"), ("exit-failure", 1, "a")] {
        ends(action, &panic, &format!("-device pvpanic -action panic={action}"), status, output);
    }
    for emulator in emulators() {
        let mut session = Session::start(&emulator, &panic, "-device pvpanic -action panic=pause");
        session.see("a");
        session.until("info status", "VM status: paused (guest-panicked)\n");
        assert_eq!(session.ask("cont"), "");
        session.see("b");
        assert_eq!(session.running.wait(LATER).expect("end").code(), Some(19));
    }
}

/// Starts the ISA watchdog with no time at all, again and again; counts in a word at 0x300004.
fn bite(program: Payload) -> Payload {
    // 1: mov $0x443, %dx; mov $15, %al; out %al, %dx; incl 0x300004; jmp 1b
    program.raw(&[0x66, 0xba, 0x43, 0x04, 0xb0, 15, 0xee, 0xff, 0x05, 0x04, 0, 0x30, 0, 0xeb, 0xf1])
}

#[test]
fn a_watchdog_does_what_the_action_says() {
    let count = Payload::new().print_count().exit_at(3, 1);
    let bites = bite(count.clone());
    ends("default", &bites, "-device ib700", 3, "123");
    ends("reset", &bites, "-device ib700 -action watchdog=none,watchdog=reset", 3, "123");
    ends("no-reboot", &bites, "-device ib700 -no-reboot", 0, "1");
    ends("poweroff", &bites, "-device ib700 -watchdog-action poweroff -no-shutdown", 0, "1");
    // An NMI that finds no handler ends in a reset: push $0; push $0; lidt (%esp).
    let nmi = bite(count.raw(&[0xbc, 0, 0, 0x20, 0, 0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24]));
    ends("inject-nmi", &nmi, "-device ib700 -action watchdog=inject-nmi", 3, "123");
    let button = Payload::new().out16(0x602, 0x100).out8(0x443, 15).wait16(0x600, 0x100).out8(0xf4, 5).stop();
    ends("shutdown", &button, "-device ib700 -action watchdog=shutdown", 11, "");
    for emulator in emulators() {
        let program = bite(Payload::new().print("b"));
        let mut session = Session::start(&emulator, &program, "-device ib700 -action watchdog=none");
        session.see("b");
        assert_eq!(session.ask("info status"), "VM status: running\n");
        assert_eq!(session.ask("watchdog_action debug"), "");
        session.running.errors.expect("watchdog: timer fired\n", LATER).expect("the message");
        assert_eq!(session.ask("watchdog_action pause"), "");
        session.until("info status", "VM status: paused (watchdog)\n");
        assert_eq!(session.ask("watchdog_action none"), "");
        assert_eq!(session.ask("cont"), "");
        let before = session.count();
        while session.count() == before {}
        session.quit(0);
    }
}

#[test]
fn the_pci_watchdog_resets_after_both_stages() {
    const REGISTERS: u32 = 0xfe00_0000;
    let unlock = |p: Payload| p.store8(REGISTERS + 0xc, 0x80).store8(REGISTERS + 0xc, 0x86);
    let program = Payload::new().print_count().exit_at(3, 1);
    let program = program.out32(0xcf8, 0x8000_2810).out32(0xcfc, REGISTERS);
    let program = program.out32(0xcf8, 0x8000_2804).out32(0xcfc, 2);
    let program = unlock(unlock(program).store32(REGISTERS, 1)).store32(REGISTERS + 4, 1);
    // 1 MHz; enabled.
    let program = program.out32(0xcf8, 0x8000_2860).out16(0xcfc, 4);
    let program = program.out32(0xcf8, 0x8000_2868).out8(0xcfc, 2).count_for_ever();
    ends("reset", &program, "-device i6300esb,addr=5", 3, "123");
}

#[test]
fn power_off_ends_or_pauses() {
    // S5 through the PM1 control register, where firmware puts it on this board.
    let off = Payload::new().print_count().out16(0x604, 0x2000).stop();
    ends("off", &off, "", 0, "1");
    for emulator in emulators() {
        let mut session = Session::start(&emulator, &off, "-no-shutdown");
        session.see("1");
        session.until("info status", "VM status: paused (shutdown)\n");
        assert_eq!(session.ask("cont"), "Error: Resetting the Virtual Machine is required\n");
        assert_eq!(session.ask("system_reset"), "");
        session.until("info status", "VM status: paused (prelaunch)\n");
        assert_eq!(session.ask("cont"), "");
        session.see("2");
        session.until("info status", "VM status: paused (shutdown)\n");
        session.quit(0);
    }
}

#[test]
fn a_stopped_machine_stands_still() {
    for emulator in emulators() {
        let mut session = Session::start(&emulator, &Payload::new().print("r").count_for_ever(), "-S");
        assert_eq!(session.ask("info status"), "VM status: paused (prelaunch)\n");
        assert_eq!(session.count(), 0);
        assert_eq!(session.ask("cont"), "");
        session.see("r");
        assert_eq!(session.ask("info status"), "VM status: running\n");
        assert_eq!(session.ask("stop"), "");
        assert_eq!(session.ask("info status"), "VM status: paused\n");
        let (one, two) = (session.count(), session.count());
        assert_eq!(one, two, "it runs on");
        assert_eq!(session.ask("cont"), "");
        let end = std::time::Instant::now() + LATER;
        while session.count() == two {
            assert!(std::time::Instant::now() < end, "it does not go on");
        }
        session.quit(0);
    }
}

#[test]
fn the_power_button_reaches_the_guest() {
    // Power button enabled, then waited for.
    let wait =
        Payload::new().out16(0x602, 0x100).print("w").wait16(0x600, 0x100).print("p").out8(0xf4, 5).stop();
    for emulator in emulators() {
        let mut session = Session::start(&emulator, &wait, "");
        session.see("w");
        assert_eq!(session.ask("system_powerdown"), "");
        session.see("p");
        assert_eq!(session.running.wait(LATER).expect("end").code(), Some(11));
    }
}

#[test]
fn a_halted_machine_is_idle_and_ends_by_a_signal() {
    for emulator in emulators() {
        let mut session = Session::start(&emulator, &Payload::new().print("h").stop(), "");
        session.see("h");
        std::thread::sleep(Duration::from_millis(300));
        let before = session.running.usage().expect("running").processor;
        std::thread::sleep(Duration::from_millis(500));
        let used = session.running.usage().expect("running").processor - before;
        assert!(used < Duration::from_millis(100), "{used:?} in half a second");
        let pid = i32::try_from(session.running.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
            .expect("kill");
        assert_eq!(session.running.wait(LATER).expect("end").code(), Some(0));
        let line = session.running.errors.expect("terminating on signal 15 from pid ", LATER);
        line.expect("the message");
    }
}

#[test]
fn firmware_starts_at_the_reset_vector() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    // At the reset vector: print, exit; the rest of 64 KiB is filled.
    let mut image = vec![0xf4; 0x1_0000];
    let code = [0xba, 0xf8, 0x03, 0xb0, b'f', 0xee, 0xb0, 4, 0xe6, 0xf4, 0xf4];
    image[..code.len()].copy_from_slice(&code);
    // ljmp $0xf000, $0
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    std::fs::write(folder.join("own.bin"), image).expect("write");
    for emulator in emulators() {
        for bios in [folder.join("own.bin").display().to_string(), format!("own.bin -L {}", folder.display())]
        {
            let line = format!(
                "-M pc,accel=tcg -nodefaults -display none -serial stdio -device \
                 isa-debug-exit,iobase=0xf4,iosize=1 -bios {bios}"
            );
            let words: Vec<&str> = line.split_whitespace().collect();
            let found = Outcome::of(&emulator, &words, LATER).expect("it ends");
            assert_eq!((found.status, found.output.as_str()), (9, "f"), "{bios}: {}", found.errors);
        }
        let words = ["-nodefaults", "-display", "none", "-bios", "/nonexistent/x"];
        let found = Outcome::of(&emulator, &words, LATER).expect("it ends");
        assert_eq!(found.status, 1);
        assert!(found.errors.contains("could not load PC BIOS '/nonexistent/x'"), "{}", found.errors);
    }
}

#[test]
fn debug_console_and_fw_cfg_reach_the_guest() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let path = folder.join("debugcon");
    // The signature of fw_cfg, byte by byte, to the debug console.
    let mut program = Payload::new().out16(0x510, 0);
    for _ in 0..4 {
        // mov $0x511, %dx; in (%dx), %al; out %al, $0xe9
        program = program.raw(&[0x66, 0xba, 0x11, 0x05, 0xec, 0xe6, 0xe9]);
    }
    let program = program.out8(0xf4, 1).stop();
    let more = format!("-debugcon file:{} -fw_cfg opt/own,string=x", path.display());
    ends("fw_cfg", &program, &more, 3, "");
    assert_eq!(std::fs::read(&path).expect("debugcon"), b"QEMU");
}
