//! Debuggers over GDB's protocol: what packets are answered, and that code stops where it should, in every tier.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blackbox::emulator::{Emulator, Running};
use blackbox::gdb::Gdb;
use blackbox::guests;
use blackbox::initramfs::Initramfs;
use blackbox::payload::Payload;

const LATER: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(300);
/// Our tiers.
const TIERS: [&str; 2] = ["tcg,tier=1", "tcg,tier=2,x-threshold=0"];
const RIP: u32 = 16;
const RCX: u32 = 2;
const DESCRIPTION: &str = "qXfer:features:read:target.xml:0,ffb";

fn start(emulator: &Emulator, folder: &Path, name: &str, words: &str) -> (Running, Gdb) {
    let socket = folder.join(format!("{name}.gdb"));
    let words = format!(
        "-nodefaults -display none -no-reboot -gdb unix:{},server=on,wait=off {words}",
        socket.display()
    );
    let running = emulator.start(&words.split_whitespace().collect::<Vec<_>>()).expect("start");
    let gdb = Gdb::connect(&socket, LATER).expect("a debugger's port");
    (running, gdb)
}

/// Packets whose answers do not depend on who answers, with the answers.
const ROWS: &[(&str, &str)] = &[
    ("vMustReplyEmpty", ""),
    ("Hg0", "OK"),
    ("qTStatus", ""),
    ("?", "T05thread:p01.01;"),
    ("qAttached", "1"),
    ("qC", "QCp01.01"),
    ("vCont?", "vCont;c;C;s;S"),
    ("p10", "f0ff000000000000"),
    ("p1b", "1000006000000000"),
    ("pff", "E14"),
    ("mfffffff0,5", "ea5be000f0"),
    ("M10000,2:0102", "OK"),
    ("m10000,4", "01020000"),
    ("qqemu.sstepbits", "ENABLE=1,NOIRQ=2,NOTIMER=4"),
    ("qqemu.sstep", "0x7"),
    ("Qqemu.sstep=1", "OK"),
    ("qqemu.sstep", "0x1"),
    ("Qqemu.sstep=7", "OK"),
    ("qqemu.PhyMemMode", "0"),
    ("Qqemu.PhyMemMode:1", "OK"),
    ("m10000,4", "01020000"),
    ("Qqemu.PhyMemMode:0", "OK"),
    ("Z0,fff0,1", "OK"),
    ("z0,fff0,1", "OK"),
    ("z0,fff0,1", "E22"),
    ("Z1,fff0,1", "OK"),
    ("z1,fff0,1", "OK"),
    ("Z2,1000,4", "OK"),
    ("z2,1000,4", "OK"),
    ("Z3,1000,4", "OK"),
    ("z3,1000,4", "OK"),
    ("Z4,1000,4", "OK"),
    ("z4,1000,4", "OK"),
    ("Z5,0,1", ""),
    ("Z2,1000,0", "E22"),
    ("s", "T05thread:p01.01;"),
    ("p10", "5be0000000000000"),
    ("vCont;s:p1.1", "T05thread:p01.01;"),
    ("Hgp1.2", "OK"),
    ("p10", "f0ff000000000000"),
    ("Tp1.1", "OK"),
    ("Tp1.3", "E22"),
    ("Hgp1.1", "OK"),
    ("P2=1122334400000000", "OK"),
    ("p2", "1122334400000000"),
    ("qSymbol::", ""),
    ("!", "OK"),
    ("QStartNoAckMode", ""),
    ("vAttach;1", "T05thread:p01.01;"),
];

#[test]
fn packets_are_answered_as_by_the_original() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let reference = Emulator::reference().map_err(|reason| blackbox::note_skip(format_args!("{reason}")));
    let reference = reference.into_iter().map(|emulator| (emulator, "tcg"));
    let ours = TIERS.map(|tier| (Emulator::ours().expect("the emulator"), tier));
    for (n, (emulator, accel)) in reference.chain(ours).enumerate() {
        let (mut running, mut gdb) =
            start(&emulator, &folder, &n.to_string(), &format!("-M pc -m 64 -smp 2 -S -accel {accel}"));
        let who = format!("{} {accel}", emulator.program.display());
        let features = gdb.ask("qSupported:multiprocess+").expect("an answer");
        assert_eq!(features, "PacketSize=1000;qXfer:features:read+;vContSupported+;multiprocess+", "{who}");
        // The original shows no registers one by one before this.
        let text = gdb.ask(DESCRIPTION).expect("a description");
        assert!(text.contains("<architecture>i386:x86-64</architecture>"), "{text} on {who}");
        for (packet, expected) in ROWS {
            assert_eq!(gdb.ask(packet).expect(packet), *expected, "{packet} on {who}");
        }
        let status: String = "info status".bytes().map(|byte| format!("{byte:02x}")).collect();
        let told = gdb.ask(&format!("qRcmd,{status}")).expect("output");
        assert_eq!(told, "O564d207374617475733a2070617573656420286465627567290d0a", "{who}");
        assert_eq!(gdb.answer().expect("an answer"), "OK", "{who}");
        gdb.send("k").expect("sent");
        assert_eq!(gdb.answer().expect("the end"), "W00", "{who}");
        assert_eq!(running.wait(LATER).expect("the end").code(), Some(0), "{who}");
    }
}

/// Stops code that runs for ever in every way there is. `code`: where the loop begins, where it stores `count`, and the
/// instruction after that.
fn stop_in_every_way(gdb: &mut Gdb, who: &str, code: [u64; 3], count: u64) {
    let [start, store, end] = code;
    let trap = "T05thread:01;";
    let ask =
        |gdb: &mut Gdb, packet: &str| gdb.ask(packet).unwrap_or_else(|error| panic!("{error} on {who}"));
    for kind in [0, 1] {
        assert_eq!(ask(gdb, &format!("Z{kind},{store:x},1")), "OK");
        assert_eq!(ask(gdb, "c"), trap, "breakpoint {kind} on {who}");
        assert_eq!(gdb.register(RIP), Ok(store), "breakpoint {kind} on {who}");
        let next = (gdb.memory(count, 4).expect("memory") + 1) & 0xffff_ffff;
        assert_eq!(gdb.register(RCX).expect("RCX") & 0xffff_ffff, next, "{who}");
        assert_eq!(ask(gdb, "s"), trap);
        assert_eq!(gdb.register(RIP), Ok(end), "a step on {who}");
        assert_eq!(gdb.memory(count, 4), Ok(next), "{who}");
        // The next time round.
        assert_eq!(ask(gdb, "c"), trap);
        assert_eq!((gdb.register(RIP), gdb.memory(count, 4)), (Ok(store), Ok(next)), "{who}");
        assert_eq!(ask(gdb, &format!("z{kind},{store:x},1")), "OK");
    }
    for (kind, name, at) in [(2, "watch", Some(end)), (3, "rwatch", None), (4, "awatch", None)] {
        assert_eq!(ask(gdb, &format!("Z{kind},{count:x},4")), "OK");
        assert_eq!(ask(gdb, "c"), format!("{trap}{name}:{count:016x};"), "{who}");
        let rip = gdb.register(RIP).expect("RIP");
        assert!(at.map_or((start..=end).contains(&rip), |at| rip == at), "{name} at {rip:x} on {who}");
        assert_eq!(ask(gdb, &format!("z{kind},{count:x},4")), "OK");
    }
    // A register that the debugger changes is what the code goes on with.
    assert_eq!(ask(gdb, &format!("Z0,{store:x},1")), "OK");
    assert_eq!(ask(gdb, "c"), trap);
    assert_eq!(ask(gdb, &format!("P{RCX:x}=0000030000000000")), "OK");
    assert_eq!(ask(gdb, &format!("z0,{store:x},1")), "OK");
    assert_eq!(ask(gdb, "s"), trap);
    assert_eq!(gdb.memory(count, 4), Ok(0x3_0000), "{who}");
    // Without breakpoints it runs until it is interrupted, at full speed again.
    gdb.send("c").expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    gdb.raw(&[3]).expect("sent");
    assert_eq!(gdb.answer().expect("an answer"), "T02thread:01;", "{who}");
    let counted = gdb.memory(count, 4).expect("memory");
    assert!(counted > 0x3_0000 + 1000, "{counted:x} on {who}");
}

#[test]
fn code_of_the_board_s_stops() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let head = Payload::new().print("r");
    let start_at = u64::from(head.here());
    // mov ecx, [0x300004]; inc ecx; mov [0x300004], ecx; nop; jmp back
    let payload = head.raw(&[0x8b, 0x0d, 4, 0, 0x30, 0, 0x41, 0x89, 0x0d, 4, 0, 0x30, 0, 0x90, 0xeb, 0xf0]);
    let kernel = payload.write(&folder);
    let reference = Emulator::reference().map_err(|reason| blackbox::note_skip(format_args!("{reason}")));
    let reference = reference.into_iter().map(|emulator| (emulator, "tcg"));
    let ours = [
        "tcg,tier=1",
        "tcg,tier=2",
        "tcg,tier=2,x-threshold=0",
        "tcg,one-insn-per-tb=on",
        "tcg,thread=single",
    ]
    .map(|accel| (Emulator::ours().expect("the emulator"), accel));
    for (n, (emulator, accel)) in reference.chain(ours).enumerate() {
        let words = format!("-M pc -m 64 -serial stdio -kernel {} -accel {accel}", kernel.display());
        let (mut running, mut gdb) = start(&emulator, &folder, &n.to_string(), &format!("-S {words}"));
        gdb.ask("qSupported:").expect("an answer");
        gdb.ask(DESCRIPTION).expect("a description");
        assert_eq!(gdb.ask("?").expect("an answer"), "T05thread:01;");
        gdb.send("c").expect("sent");
        running.expect("r", LATER).expect("output");
        gdb.raw(&[3]).expect("sent");
        assert_eq!(gdb.answer().expect("an answer"), "T02thread:01;");
        let code = [start_at, start_at + 7, start_at + 13];
        stop_in_every_way(&mut gdb, &format!("{} {accel}", emulator.program.display()), code, 0x30_0004);
        gdb.send("k").expect("sent");
        assert_eq!(running.wait(LATER).expect("the end").code(), Some(0));
    }
}

/// An initial file system whose init turns round a loop for ever.
fn spinning(folder: &Path, kernel: &guests::Kernel) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(&tree).expect("a folder");
    let made = Command::new("cc")
        .args(["-O1", "-static", "-no-pie", "-o"])
        .arg(tree.join("spin"))
        .arg(blackbox::paths::repository().join("tests/guest/spin.c"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "no C compiler");
    let initrd = folder.join("initrd");
    let archive = Initramfs::new(kernel).tree(tree).script("/spin").build().expect("an initial file system");
    std::fs::write(&initrd, archive).expect("a file");
    initrd
}

#[test]
fn code_of_programs_stops_in_both_lanes() {
    let kernel = blackbox::or_skip!(guests::kernel("cloud"));
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let initrd = spinning(&folder, &kernel);
    for (n, accel) in ["tcg,tier=2,x-lane-b=off", "tcg,tier=2,x-lane-b=always"].into_iter().enumerate() {
        let words = format!(
            "-m 256 -cpu max -accel {accel} -serial stdio -kernel {} -initrd {}",
            kernel.image.display(),
            initrd.display()
        );
        let socket = folder.join(format!("{n}.gdb"));
        let words =
            format!("-nodefaults -display none -gdb unix:{},server=on,wait=off {words}", socket.display());
        let mut list: Vec<&str> = words.split_whitespace().collect();
        list.extend(["-append", "console=ttyS0 quiet no_timer_check nokaslr"]);
        let mut running = Emulator::ours().and_then(|ours| ours.start(&list)).expect("start");
        running.expect("spin ", BOOT).expect("user space");
        let line = running.expect("\n", LATER).expect("addresses");
        let numbers: Vec<u64> =
            line.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        let [start, store, end, count] = numbers[..] else { panic!("{line}") };
        // What connects stops the machine, wherever it is just then.
        let mut gdb = Gdb::connect(&socket, LATER).expect("a debugger's port");
        gdb.ask("qSupported:").expect("an answer");
        gdb.ask(DESCRIPTION).expect("a description");
        assert_eq!(gdb.ask("?").expect("an answer"), "T05thread:01;");
        stop_in_every_way(&mut gdb, accel, [start, store, end], count);
        gdb.send("k").expect("sent");
        assert_eq!(running.wait(LATER).expect("the end").code(), Some(0));
    }
}
