//! What is shown of translated code: `-d` with `-dfilter`, `info jit`, `-perfmap`, `-jitdump`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use blackbox::emulator::Emulator;
use blackbox::monitor::Monitor;
use blackbox::payload::Payload;

const LATER: Duration = Duration::from_secs(60);
/// Where payloads are.
const CODE: std::ops::Range<u64> = 0x10_0000..0x11_0000;

/// The emulators to test, with the accelerator that translates everything.
fn emulators() -> Vec<(Emulator, &'static str)> {
    let reference = Emulator::reference().map_err(|reason| blackbox::note_skip(format_args!("{reason}")));
    let ours = (Emulator::ours().expect("the emulator"), "tcg,tier=2,x-threshold=0");
    reference.into_iter().map(|reference| (reference, "tcg")).chain([ours]).collect()
}

fn kernel(payload: &Payload) -> (PathBuf, String) {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let kernel = payload.write(&folder);
    let words = format!(
        "-M pc -m 64 -nodefaults -display none -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=1 -kernel {}",
        kernel.display()
    );
    (folder, words)
}

fn split(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

#[test]
fn the_log_shows_blocks_in_the_filter_alone() {
    let payload = Payload::new().print("x").out8(0xf4, 5).stop();
    for (emulator, accel) in emulators() {
        let (folder, words) = kernel(&payload);
        let log = folder.join("log");
        let filter = format!("0x{:x}..0x{:x}", CODE.start, CODE.end - 1);
        let words = format!(
            "{words} -accel {accel} -d in_asm,out_asm,exec,cpu,nochain -dfilter {filter} -D {}",
            log.display()
        );
        emulator.run(&split(&words), LATER).expect("end");
        let text = std::fs::read_to_string(&log).expect("log");
        let who = emulator.program.display();
        for part in ["IN: \n0x0010", "OUT: [size=", "  -- guest addr 0x", "Trace 0: 0x", "EIP=0010"] {
            assert!(text.contains(part), "{part} on {who}: {text}");
        }
        let mut entered = 0;
        for line in text.lines().filter(|line| line.starts_with("Trace 0: ")) {
            let pc = line.split('/').nth(1).and_then(|word| u64::from_str_radix(word, 16).ok()).expect(line);
            assert!(CODE.contains(&pc), "{line}");
            entered += 1;
        }
        assert!(entered >= 1, "{entered} blocks on {who}: {text}");
    }
}

#[test]
fn changes_of_control_registers_are_logged() {
    // mov eax, cr0; mov cr0, eax
    let payload = Payload::new().raw(&[0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0]).out8(0xf4, 5).stop();
    for (emulator, accel) in emulators() {
        let (folder, words) = kernel(&payload);
        let log = folder.join("log");
        emulator
            .run(&split(&format!("{words} -accel {accel} -d mmu -D {}", log.display())), LATER)
            .expect("end");
        let text = std::fs::read_to_string(&log).expect("log");
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(last, "CR0 update: CR0=0x00000011", "{}", emulator.program.display());
    }
}

#[test]
fn info_jit_counts() {
    for (emulator, accel) in emulators() {
        let (folder, words) = kernel(&Payload::new().print("r").count_for_ever());
        let socket = folder.join("monitor");
        let words =
            format!("{words} -accel {accel} -smp 2 -monitor unix:{},server=on,wait=off", socket.display());
        let mut running = emulator.start(&split(&words)).expect("start");
        running.expect("r", LATER).expect("output");
        let mut monitor = Monitor::connect(&socket, LATER).expect("monitor");
        let end = Instant::now() + LATER;
        let mut text = String::new();
        while text.is_empty() || text.contains("TB count            0\n") && Instant::now() < end {
            text = monitor.command("info jit", LATER).expect("answer").replace('\r', "");
        }
        let value = |name: &str| {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            let number: String =
                line[name.len()..].trim_start().chars().take_while(char::is_ascii_digit).collect();
            number.parse::<u64>().unwrap_or_else(|_| panic!("{line}"))
        };
        for name in ["gen code size", "TB count", "TB avg target size", "TB avg host size"] {
            assert!(value(name) > 0, "{name}: {text}");
        }
        assert_eq!(value("TB flush count"), 0);
        monitor.last_command("quit", LATER).expect("end");
        assert_eq!(running.wait(LATER).expect("end").code(), Some(0));
    }
}

/// Waits until `ready` says so of the file.
fn wait_for(file: &std::path::Path, ready: impl Fn(&[u8]) -> bool) {
    let end = Instant::now() + LATER;
    while !std::fs::read(file).is_ok_and(|bytes| ready(&bytes)) {
        assert!(Instant::now() < end, "{}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn profilers_find_translated_code() {
    let emulator = Emulator::ours().expect("the emulator");
    let (folder, words) = kernel(&Payload::new().print("r").count_for_ever());
    let words = format!("{words} -accel tcg,tier=2,x-threshold=0 -perfmap -jitdump");
    let mut child = emulator
        .command()
        .args(split(&words))
        .current_dir(&folder)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start");
    let map = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
    wait_for(&map, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().any(|line| line.ends_with(" stubs")) && text.contains(" tb-0x10")
    });
    let dump = folder.join(format!("jit-{}.dump", child.id()));
    let name = b"tb-0x10";
    wait_for(&dump, |bytes| {
        bytes.get(..4) == Some(&0x4a69_5444_u32.to_ne_bytes()[..])
            && bytes.windows(name.len()).any(|w| w == name)
    });
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).expect("maps");
    let both = maps.lines().find(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains("wx")));
    assert_eq!(both, None, "writable and executable");
    child.kill().expect("kill");
    child.wait().expect("end");
    std::fs::remove_file(map).expect("the map");
}
