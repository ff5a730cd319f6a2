//! `virtqemud` from outside: how it is started and ended, and clients that behave badly.
#![forbid(unsafe_code)]

use blackbox::raw_client::{REMOTE, Raw};
use blackbox::virtqemud::{Daemon, find, namespaces, program};
use blackbox::{or_skip, skip};
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// All that a client printed.
fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn a_client_is_seen_and_sent_away() {
    or_skip!(namespaces());
    or_skip!(find("virsh"));
    let ours = Daemon::ours("", &[]);
    let mut client = Raw::open(&ours.socket("-sock"));
    let list = text(&ours.virt_admin("srv-list"));
    assert!(list.contains(" 0    admin\n 1    virtqemud\n"), "{list}");
    let list = text(&ours.virt_admin("srv-clients-list virtqemud"));
    let id =
        list.lines().nth(2).and_then(|line| line.split_whitespace().next()).expect("a client").to_owned();
    let info = text(&ours.virt_admin(&format!("client-info virtqemud {id}")));
    for line in ["readonly       : no", "unix_user_name : root", "transport      : unix"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(info.contains(&format!("unix_process_id: {}", std::process::id())), "{info}");
    assert!(client.alive());
    ours.virt_admin(&format!("client-disconnect virtqemud {id}"));
    assert!(client.ended());
}

#[test]
fn others_than_root_have_to_ask_polkit() {
    or_skip!(namespaces());
    or_skip!(find("virsh"));
    or_skip!(find("setpriv"));
    if std::path::Path::new("/run/dbus/system_bus_socket").exists() {
        skip!("this host has a bus, and perhaps polkit");
    }
    let ours = Daemon::ours("", &[]);
    for suffix in ["-sock", "-sock-ro"] {
        let output = ours.shell(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups -- virsh -c 'qemu:///system?socket={}' list",
            ours.socket(suffix).display()
        ));
        let said = text(&output);
        assert!(said.contains("internal error: Unable to get system bus connection: "), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn odd_messages_are_answered_or_dropped() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut client = Raw::connect(&ours.socket("-sock"));
    let mut error = |header: [u32; 6], payload: &[u8]| {
        client.send(header, payload);
        let answer = client.receive().expect("an answer");
        assert_eq!(answer.header, [header[0], header[1], header[2], 1, header[4], 1]);
        answer.error()
    };
    let rpc = |text: &str| (39, text.to_owned());
    // The socket lets root in only after AUTH_LIST.
    assert_eq!(error([REMOTE, 1, 1, 0, 1, 0], &[0; 8]), rpc("authentication required"));
    assert_eq!(error([REMOTE, 1, 157, 0, 2, 0], &[]), rpc("authentication required"));
    assert_eq!(error([REMOTE, 1, 999, 0, 3, 0], &[]), rpc("unknown procedure: 999"));
    assert_eq!(error([REMOTE, 1, 0, 0, 4, 0], &[]), rpc("unknown procedure: 0"));
    assert_eq!(error([REMOTE, 1, 318, 0, 4, 0], &[]).0, 39);
    assert_eq!(error([7, 1, 1, 0, 5, 0], &[]), rpc("Cannot find program 7 version 1"));
    assert_eq!(error([REMOTE, 2, 66, 0, 6, 0], &[]), rpc("Cannot find program 536903814 version 2"));
    assert_eq!(error([REMOTE, 1, 66, 0, 6, 1], &[]), rpc("Unexpected message status 1"));
    assert!(client.alive());
    // Types that are no calls are dropped, on any procedure.
    for kind in [1, 2, 3, 5, 6, 7, u32::MAX] {
        let count = if kind == 5 { &[0, 0, 0, 0][..] } else { &[] };
        client.send([REMOTE, 1, 66, kind, 8, 0], count);
        assert!(client.alive(), "type {kind}");
    }
    let mut error = |procedure: u32, payload: &[u8]| client.call(REMOTE, procedure, payload).error();
    assert_eq!(error(157, &[]), (1, "internal error: hypervisor connection not open".to_owned()));
    for payload in
        [&[][..], &[0, 0, 0, 2], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0, 0x50, 0, 0]]
    {
        assert_eq!(error(1, payload), rpc("Unable to decode message payload"), "{payload:?}");
    }
    // What follows the arguments is ignored.
    assert_eq!(client.call(REMOTE, 1, &[0; 100]).header[5], 0);
    let mut error = |procedure: u32, payload: &[u8]| client.call(REMOTE, procedure, payload).error();
    assert_eq!(error(1, &[0; 8]), (1, "internal error: connection already open".to_owned()));
    assert_eq!(error(344, &[0xff; 16]), rpc("Unable to decode message payload"));
    assert_eq!(client.call(0x0006_8000, 1, &[]).error().0, 3);
    // CONNECT_CLOSE is answered, then the connection ends.
    assert_eq!(client.call(REMOTE, 2, &[]).header[5], 0);
    assert!(client.ended());
}

#[test]
fn what_is_no_message_ends_the_connection() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let header = |kind: u32| {
        let words = [32, REMOTE, 1, 66, kind, 1, 0, 33];
        words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect::<Vec<u8>>()
    };
    for bytes in [vec![0, 0, 0, 27], vec![0, 0, 0, 0], vec![2, 0, 0, 5], vec![0xff; 4], header(4)] {
        let mut client = Raw::connect(&ours.socket("-sock"));
        client.socket.write_all(&bytes).expect("write");
        assert!(client.ended(), "{bytes:?}");
    }
    // The other sockets' programs are not to be had here, nor these there.
    let mut client = Raw::connect(&ours.socket("-sock"));
    assert_eq!(client.call(0x0690_0690, 1, &[0; 4]).error().0, 39);
    let mut client = Raw::connect(&ours.socket("-admin-sock"));
    assert_eq!(client.call(REMOTE, 66, &[]).error().0, 39);
    assert_eq!(client.call(0x0690_0690, 3, &[]).error().1, "internal error: hypervisor connection not open");
    assert_eq!(client.call(0x0690_0690, 1, &[0; 4]).header[5], 0);
    assert_eq!(client.call(0x0690_0690, 3, &[]).payload, 10_000_000u64.to_be_bytes());
}

const KEEPALIVE: u32 = 0x6b65_6570;

#[test]
fn pings_are_answered_and_asked() {
    or_skip!(namespaces());
    let ours = Daemon::ours("keepalive_interval = 1\nkeepalive_count = 2\n", &[]);
    let mut client = Raw::open(&ours.socket("-sock"));
    client.send([KEEPALIVE, 1, 1, 2, 0, 0], &[]);
    assert_eq!(client.receive().expect("a pong").header, [KEEPALIVE, 1, 2, 2, 0, 0]);
    // A client that says it understands pings is asked; one that does not answer is given up.
    assert_eq!(client.call(REMOTE, 60, &10u32.to_be_bytes()).payload, [0, 0, 0, 1]);
    let begin = Instant::now();
    let mut pings = 0;
    while let Some(message) = client.receive() {
        assert_eq!(message.header, [KEEPALIVE, 1, 1, 2, 0, 0]);
        pings += 1;
    }
    assert_eq!(pings, 2);
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn registrations_are_numbered_and_checked() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut client = Raw::open(&ours.socket("-sock"));
    let register = |client: &mut Raw, event: u32| {
        let answer = client.call(REMOTE, 316, &[event.to_be_bytes(), [0; 4]].concat());
        u32::from_be_bytes(answer.payload.try_into().expect("a number"))
    };
    assert_eq!([register(&mut client, 0), register(&mut client, 0), register(&mut client, 26)], [0, 1, 2]);
    let mut error = |procedure: u32, words: &[u32]| {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        client.call(REMOTE, procedure, &payload).error().1
    };
    assert_eq!(error(316, &[27, 0]), "internal error: unsupported event ID 27");
    assert_eq!(error(316, &[u32::MAX, 0]), "internal error: unsupported event ID -1");
    assert_eq!(error(167, &[16]), "internal error: unsupported event ID 16");
    assert_eq!(error(168, &[1]), "internal error: domain event 1 not registered");
    assert_eq!(error(317, &[7]), "internal error: domain event callback 7 not registered");
    assert_eq!(client.call(REMOTE, 317, &1u32.to_be_bytes()).header[5], 0);
    assert_eq!(client.call(REMOTE, 105, &[]).header[5], 0);
    // The first of the kind goes, whoever it is, as in the original.
    assert_eq!(client.call(REMOTE, 106, &[]).header[5], 0);
    assert_eq!(client.call(REMOTE, 106, &[]).header[5], 0);
    assert_eq!(client.call(REMOTE, 106, &[]).error().1, "internal error: domain event 0 not registered");
}

#[test]
fn bad_clients_cost_only_themselves() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut good = Raw::open(&ours.socket("-sock"));
    let before = ours.memory();
    // Half a message that claims to be as long as can be.
    let mut halves: Vec<_> = (0..10).map(|_| Raw::connect(&ours.socket("-sock"))).collect();
    for client in &mut halves {
        client.socket.write_all(&[2, 0, 0, 0, 1, 2, 3]).expect("write");
    }
    // Calls whose answers are never read: the daemon stops reading, and the client's writes would block at last.
    let mut greedy: Vec<_> = (0..5).map(|_| Raw::open(&ours.socket("-sock"))).collect();
    for client in &mut greedy {
        client.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let words = [28, REMOTE, 1, 59, 0, 1, 0];
        let call: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        let calls = call.repeat(1000);
        let mut sent = 0;
        while sent < 100_000_000 && client.socket.write_all(&calls).is_ok() {
            sent += calls.len();
        }
        assert!(sent < 100_000_000, "the daemon reads without end");
    }
    let begin = Instant::now();
    for _ in 0..200 {
        assert!(good.alive());
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(ours.memory() < before + 20_000, "{} KiB, {before} before", ours.memory());
    // They come and go, in the middle of what they say.
    for round in 0..200 {
        let mut client = Raw::connect(&ours.socket("-sock"));
        client.socket.write_all(&[0, 0, 0, 28, 0x20, 0][..round % 7]).expect("write");
    }
    assert!(good.alive());
}

/// What stands in for the storage daemon: lets clients in and answers a download with so many pieces.
fn storage_daemon(listener: &UnixListener, pieces: usize) {
    let (socket, _) = listener.accept().expect("a client");
    let mut peer = Raw { socket };
    while let Some(call) = peer.receive() {
        let [program, version, procedure, _, serial, _] = call.header;
        let answer: &[u8] = if procedure == 66 { &[0, 0, 0, 1, 0, 0, 0, 0] } else { &[] };
        peer.send([program, version, procedure, 1, serial, 0], answer);
        if procedure == VOL_DOWNLOAD {
            for _ in 0..pieces {
                peer.send([program, version, procedure, 3, serial, 2], &[7; 64 << 10]);
            }
            peer.send([program, version, procedure, 3, serial, 2], &[]);
        }
    }
}

const VOL_DOWNLOAD: u32 = 209;

#[test]
fn a_download_waits_for_its_reader() {
    const PIECES: usize = 1024;
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let path = format!("/proc/{}/root/run/libvirt/virtstoraged-sock", ours.pid());
    let listener = UnixListener::bind(path).expect("the other daemon's socket");
    let storage = std::thread::spawn(move || storage_daemon(&listener, PIECES));
    let mut client = Raw::open(&ours.socket("-sock"));
    let before = ours.memory();
    client.send([REMOTE, 1, VOL_DOWNLOAD, 0, 9, 0], &[]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(ours.memory() < before + 8_000, "{} KiB, {before} before", ours.memory());
    // Others are served meanwhile.
    assert!(Raw::open(&ours.socket("-sock")).alive());
    assert_eq!(client.receive().expect("the answer").header, [REMOTE, 1, VOL_DOWNLOAD, 1, 9, 0]);
    for _ in 0..PIECES {
        let piece = client.receive().expect("a piece");
        assert_eq!((piece.header[3], piece.header[4], piece.payload.len()), (3, 9, 64 << 10));
    }
    assert!(client.receive().expect("the end").payload.is_empty());
    // Who goes in the middle of it holds nobody up.
    drop(client);
    storage.join().expect("the other daemon");
}

/// Also when every worker waits: calls of high priority are served, and pings are answered.
#[test]
fn another_daemon_that_does_not_answer_holds_nobody_up() {
    or_skip!(namespaces());
    let ours = Daemon::ours("min_workers = 2\nmax_workers = 4\nprio_workers = 2\n", &[]);
    let path = format!("/proc/{}/root/run/libvirt/virtstoraged-sock", ours.pid());
    let _listener = UnixListener::bind(path).expect("the other daemon's socket");
    for _ in 0..8 {
        let mut client = Raw::open(&ours.socket("-sock"));
        client.send([REMOTE, 1, VOL_DOWNLOAD, 0, 9, 0], &[]);
        std::thread::sleep(Duration::from_millis(20));
        // Data for a stream that is not there, and the client's end.
        client.send([REMOTE, 1, VOL_DOWNLOAD, 3, 5, 2], &[]);
    }
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..20 {
        assert!(Raw::open(&ours.socket("-sock")).alive());
    }
    let mut client = Raw::open(&ours.socket("-sock"));
    client.send([REMOTE, 1, VOL_DOWNLOAD, 0, 9, 0], &[]);
    client.send([KEEPALIVE, 1, 1, 2, 0, 0], &[]);
    assert_eq!(client.receive().expect("a pong").header, [KEEPALIVE, 1, 2, 2, 0, 0]);
}

#[test]
fn pipelined_calls_are_all_answered() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut client = Raw::open(&ours.socket("-sock"));
    let mut reader = Raw { socket: client.socket.try_clone().expect("a second handle") };
    let all = 2000;
    let answers = std::thread::spawn(move || {
        let mut serials: Vec<_> = (0..all).map(|_| reader.receive().expect("an answer").header[4]).collect();
        serials.sort_unstable();
        serials
    });
    for serial in 0..all {
        // Both priorities by turns.
        let procedure = if serial % 3 == 0 { 7 } else { 157 };
        client.send([REMOTE, 1, procedure, 0, serial, 0], &[]);
    }
    assert_eq!(answers.join().expect("the reader"), Vec::from_iter(0..all));
}

#[test]
fn too_many_clients_wait() {
    or_skip!(namespaces());
    let ours = Daemon::ours("max_clients = 4\nmax_anonymous_clients = 2\n", &[]);
    // Start-up's probe may still count.
    std::thread::sleep(Duration::from_millis(200));
    let first = Raw::open(&ours.socket("-sock"));
    let anonymous: Vec<_> = (0..2).map(|_| Raw::connect(&ours.socket("-sock"))).collect();
    std::thread::sleep(Duration::from_millis(100));
    let mut waiting = Raw::connect(&ours.socket("-sock"));
    waiting.send([REMOTE, 1, 66, 0, 7, 0], &[]);
    waiting.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert!(waiting.receive().is_none());
    waiting.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    drop(anonymous);
    assert_eq!(waiting.receive().expect("an answer").header[5], 0);
    drop(first);
}

fn run(words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(program()).args(words).stdin(Stdio::null()).output().expect("virtqemud");
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (format!("{stdout}{stderr}"), output.status.code())
}

#[test]
fn the_command_line_is_the_originals() {
    let (text, status) = run(&["--version"]);
    assert_eq!((text, status), (format!("{} (libvirt) 10.0.0\n", program().display()), Some(0)));
    let (text, status) = run(&["--help"]);
    assert!(text.contains("  -t | --timeout <secs>  Exit after timeout period\n"), "{text}");
    assert_eq!(status, Some(0));
    for (words, expected) in [
        (&["--bogus"][..], "unrecognized option '--bogus'"),
        (&["word"], "unexpected, non-option, command line arguments"),
        (&["-t", "x"], "Invalid value for timeout"),
        (
            &["-f", "/nonexist"],
            "Can't load config file: Failed to open file '/nonexist': No such file or directory: /nonexist\n",
        ),
    ] {
        let (text, status) = run(words);
        assert!(text.contains(expected), "{words:?}: {text}");
        assert_eq!(status, Some(1), "{words:?}");
    }
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let file = folder.join("conf");
    let shown = file.display();
    for (text, expected) in [
        ("max_clients = \n", format!("configuration file syntax error: {shown}:1: expecting a value")),
        (
            "max_clients = \"x\"\n",
            format!("internal error: {shown}: expected an unsigned integer for 'max_clients' parameter"),
        ),
        ("log_outputs = \"1:nowhere\"\n", "Invalid log destination 'nowhere'".to_owned()),
        (
            "access_drivers = [ \"polkit\" ]\n",
            format!("unsupported configuration: {shown}: 'access_drivers' is not supported by this daemon"),
        ),
        ("host_uuid = \"x\"\n", "invalid host UUID: x".to_owned()),
    ] {
        std::fs::write(&file, text).unwrap();
        let (text, status) = run(&["-f", &shown.to_string()]);
        assert!(text.contains(&expected), "{text}");
        assert_eq!(status, Some(1));
    }
}

#[test]
fn it_ends_when_told_and_leaves_nothing() {
    or_skip!(namespaces());
    let mut ours = Daemon::ours("", &["-v"]);
    assert_eq!(std::fs::read_to_string(ours.folder().join("pid")).unwrap(), ours.pid().to_string());
    // A second one with the same PID file does not start.
    let (conf, pid) = (ours.folder().join("conf"), ours.folder().join("pid"));
    let (text, status) = run(&["-f", &conf.display().to_string(), "-p", &pid.display().to_string()]);
    let expected =
        format!("Failed to acquire pid file '{}': Resource temporarily unavailable\n", pid.display());
    assert!(text.ends_with(&expected), "{text}");
    assert_eq!(status, Some(1));
    ours.signal(Signal::SIGHUP);
    let mut client = Raw::open(&ours.socket("-sock"));
    assert!(client.alive());
    ours.signal(Signal::SIGTERM);
    assert_eq!(ours.wait(Duration::from_secs(5)), Some(0));
    assert!(client.ended());
    for file in ["-sock", "-sock-ro", "-admin-sock"] {
        assert!(!ours.socket(file).exists(), "{file}");
    }
    assert!(!pid.exists());
}

#[test]
fn it_ends_when_nobody_needs_it() {
    or_skip!(namespaces());
    let mut ours = Daemon::ours("", &["-t", "1"]);
    let client = Raw::open(&ours.socket("-sock"));
    std::thread::sleep(Duration::from_millis(1500));
    drop(client);
    let begin = Instant::now();
    assert_eq!(ours.wait(Duration::from_secs(5)), Some(0));
    assert!(begin.elapsed() > Duration::from_millis(700), "{:?}", begin.elapsed());
}

#[test]
fn idle_it_is_small() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    drop(Raw::open(&ours.socket("-sock")));
    // A build for debugging is larger than what is installed.
    assert!(ours.memory() < 16_400, "{} KiB", ours.memory());
}
