//! Clients and other daemons that mean ill: they cost themselves only.

#![forbid(unsafe_code)]

use blackbox::or_skip;
use blackbox::raw_client::{REMOTE, Raw};
use blackbox::virtqemud::{Daemon, namespaces};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DEFINE_XML: u32 = 11;
const HOSTNAME: u32 = 59;
const VOL_DOWNLOAD: u32 = 209;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = words(&[text.len() as u32]);
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Whether the daemon has hung up, after what it had still to say.
fn is_gone(client: &mut Raw) -> bool {
    client.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut bytes = [0; 64 << 10];
    loop {
        match client.socket.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Messages that are no calls, and pings, without pause, from more clients than there are workers.
#[test]
fn who_sends_without_pause_takes_no_turn_from_others() {
    or_skip!(namespaces());
    let ours = Daemon::ours("min_workers = 2\nmax_workers = 4\nprio_workers = 1\n", &[]);
    let mut good = Raw::open(&ours.socket("-sock"));
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for kind in [1, 2, 1, 2, 1, 2] {
            let mut client = Raw::open(&ours.socket("-sock"));
            client.socket.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            let program = if kind == 1 { REMOTE } else { 0x6b65_6570 };
            let messages = words(&[28, program, 1, 1, kind, 7, 0]).repeat(10_000);
            let end = &end;
            scope.spawn(
                move || {
                    while !end.load(Ordering::Relaxed) && client.socket.write(&messages).is_ok() {}
                },
            );
        }
        std::thread::sleep(Duration::from_millis(200));
        let begin = Instant::now();
        for _ in 0..100 {
            assert!(good.alive());
            assert!(begin.elapsed() < Duration::from_secs(8), "others wait for their turns");
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(good.alive());
}

#[test]
fn all_clients_together_have_a_bound() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut good = Raw::open(&ours.socket("-sock"));
    let before = ours.memory();
    let piece = vec![0; 1 << 20];
    let mut clients: Vec<_> = (0..20).map(|_| Raw::open(&ours.socket("-sock"))).collect();
    let mut most = 0;
    for client in &mut clients {
        client.socket.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut write = || {
            client.socket.write_all(&words(&[32 << 20, REMOTE, 1, DEFINE_XML, 0, 2, 0]))?;
            (0..31).try_for_each(|_| client.socket.write_all(&piece))
        };
        // Some are sent away in the middle of it.
        let _ = write();
        most = most.max(ours.memory());
    }
    assert!(most < before + (400 << 10), "{most} KiB, {before} before");
    assert!(good.alive());
    let gone = clients.iter_mut().filter(|client| {
        client.socket.set_nonblocking(true).expect("a mode");
        (&client.socket).read(&mut [0]).is_ok()
    });
    assert!((8..20).contains(&gone.count()), "those that hold most go, and no more than must");
    // Who has not said who he is sends nothing long.
    let mut stranger = Raw::connect(&ours.socket("-sock-ro"));
    stranger.socket.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let _ = stranger.socket.write_all(&words(&[32 << 20, REMOTE, 1, 66, 0, 2, 0]));
    let _ = stranger.socket.write_all(&piece);
    assert!(is_gone(&mut stranger));
}

/// Sends bytes with that many descriptors.
fn send_with(client: &Raw, bytes: &[u8], count: usize) {
    let file = File::open("/dev/null").expect("a file");
    let descriptors = vec![file.as_raw_fd(); count];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let sent = sendmsg::<()>(
        client.socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        if count > 0 { &rights } else { &[] },
        MsgFlags::empty(),
        None,
    );
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn descriptors_that_nobody_needs() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", ours.pid())).expect("descriptors").count();
    let call = |kind| words(&[28, REMOTE, 1, HOSTNAME, kind, 9, 0]);
    let mut client = Raw::open(&ours.socket("-sock"));
    let before = open();
    // With a message that says that it has them, and does not need them.
    let mut with = words(&[32, REMOTE, 1, HOSTNAME, 4, 9, 0, 3]);
    with.extend([0; 3]);
    for _ in 0..50 {
        send_with(&client, &with, 3);
        assert_eq!(client.receive().expect("an answer").header[4..], [9, 0]);
    }
    assert!(open() <= before + 3, "{} descriptors, {before} before", open());
    // With one that does not: they wait for one that does, and more than a message may have are too many.
    for _ in 0..2 {
        send_with(&client, &call(0), 16);
        assert_eq!(client.receive().expect("an answer").header[5], 0);
    }
    send_with(&client, &call(0), 1);
    assert!(is_gone(&mut client));
    let begin = Instant::now();
    while open() >= before {
        assert!(begin.elapsed() < Duration::from_secs(10), "{} descriptors, {before} before", open());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Announced and not sent.
    let mut client = Raw::open(&ours.socket("-sock"));
    client.socket.write_all(&with).expect("write");
    assert!(is_gone(&mut client));
    // Who may only look, and who has not said who he is, has no use for them.
    for mut client in [Raw::open(&ours.socket("-sock-ro")), Raw::connect(&ours.socket("-sock"))] {
        send_with(&client, &call(0), 1);
        assert!(is_gone(&mut client));
    }
}

#[test]
fn events_that_are_not_read() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut deaf = Raw::open(&ours.socket("-sock"));
    for _ in 0..4096 {
        assert_eq!(deaf.call(REMOTE, 316, &[0; 8]).header[5], 0);
    }
    assert_eq!(deaf.call(REMOTE, 316, &[0; 8]).error().1, "internal error: too many event callbacks");
    let mut good = Raw::open(&ours.socket("-sock"));
    let before = ours.memory();
    let domain = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os></domain>";
    for _ in 0..80 {
        let defined = good.call(REMOTE, DEFINE_XML, &text(domain.as_bytes()));
        assert_eq!(defined.header[5], 0, "{}", defined.error().1);
        let undefined = good.call(REMOTE, 35, &defined.payload);
        assert_eq!(undefined.header[5], 0);
    }
    assert!(ours.memory() < before + (48 << 10), "{} KiB, {before} before", ours.memory());
    assert!(is_gone(&mut deaf));
}

#[test]
fn texts_that_take_long_to_read() {
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let mut client = Raw::open(&ours.socket("-sock"));
    let deep = format!("<domain>{}", "<a>".repeat(1 << 20));
    let entities: String =
        (1..30).map(|at| format!("<!ENTITY a{at} \"&a{};&a{};\">", at - 1, at - 1)).collect();
    let bomb = format!(
        "<!DOCTYPE d [<!ENTITY a0 \"ha\">{entities}]><domain type='qemu'><name>&a29;</name></domain>"
    );
    let attributes: String = (0..300_000).map(|at| format!(" a{at}=''")).collect();
    let wide = format!("<domain{attributes}/>");
    let metadata: String = (0..100).map(|at| format!(" xmlns:n{at}='u{at}'")).collect();
    let spaced = format!(
        "<domain type='qemu'><metadata><a xmlns='b'{metadata}>{}</a></metadata></domain>",
        "<n1:a n2:b=''/>".repeat(20_000)
    );
    let many = format!("<domain type='qemu'>{}</domain>", "<a/>".repeat(1 << 20));
    let spaces = format!("<domain xmlns:a='b' type='qemu'>{}", " ".repeat((4 << 20) - 100));
    for text in [deep, bomb, wide, spaced, many, spaces] {
        let begin = Instant::now();
        let answer = client.call(REMOTE, DEFINE_XML, &self::text(text.as_bytes()));
        assert!(answer.error().1.len() < 10_000);
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}: {:.40}", begin.elapsed(), text);
    }
    // Longer than the protocol's texts, and of a length that is negative.
    for payload in [text(&vec![b' '; (4 << 20) + 1]), words(&[0xffff_fff0, 0, 0])] {
        assert_eq!(client.call(REMOTE, DEFINE_XML, &payload).error().1, "Unable to decode message payload");
    }
    assert!(client.alive());
}

/// Answers a download, but for its end, and goes in the middle of a call.
fn storage_daemon(listener: &UnixListener) {
    let (socket, _) = listener.accept().expect("a client");
    let mut peer = Raw { socket };
    while let Some(call) = peer.receive() {
        let [program, version, procedure, _, serial, _] = call.header;
        let answer: &[u8] = if procedure == 66 { &[0, 0, 0, 1, 0, 0, 0, 0] } else { &[] };
        if procedure == 281 {
            return;
        }
        peer.send([program, version, procedure, 1, serial, 0], answer);
        if procedure == VOL_DOWNLOAD {
            peer.send([program, version, procedure, 3, serial, 2], &[7; 64]);
        }
    }
}

#[test]
fn another_daemon_that_goes() {
    const LIST_ALL_STORAGE_POOLS: u32 = 281;
    or_skip!(namespaces());
    let ours = Daemon::ours("", &[]);
    let path = format!("/proc/{}/root/run/libvirt/virtstoraged-sock", ours.pid());
    let listener = UnixListener::bind(path).expect("the other daemon's socket");
    let storage = std::thread::spawn(move || storage_daemon(&listener));
    let mut client = Raw::open(&ours.socket("-sock"));
    client.send([REMOTE, 1, VOL_DOWNLOAD, 0, 9, 0], &[]);
    assert_eq!(client.receive().expect("the answer").header, [REMOTE, 1, VOL_DOWNLOAD, 1, 9, 0]);
    assert_eq!(client.receive().expect("a piece").payload.len(), 64);
    client.send([REMOTE, 1, LIST_ALL_STORAGE_POOLS, 0, 10, 0], &[0; 8]);
    let mut ends: Vec<_> = (0..2).map(|_| client.receive().expect("an end")).collect();
    ends.sort_by_key(|end| end.header[3]);
    assert_eq!(ends[0].header, [REMOTE, 1, LIST_ALL_STORAGE_POOLS, 1, 10, 1]);
    assert_eq!(ends[1].header, [REMOTE, 1, VOL_DOWNLOAD, 3, 9, 1]);
    for end in &ends {
        assert_eq!(end.error().1, "Cannot read data: end of file from the daemon");
    }
    assert!(client.alive());
    storage.join().expect("the other daemon");
}
