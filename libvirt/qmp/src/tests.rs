//! Against made-up emulators, mostly bad ones, and against QEMU.

use crate::{Decoder, Error, Event, MAX_MESSAGE, Message, Monitor, Notice, Options, ProtocolError};
use json::{Value, dict};
use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n";
const SHORT: Options = Options { connect: Duration::from_millis(300), command: Duration::from_millis(300) };

/// A monitor whose emulator is the closure: it gets the other end, and the monitor is made meanwhile.
fn against(
    options: Options,
    emulator: impl FnOnce(UnixStream) + Send + 'static,
) -> (Result<Monitor, Error>, Receiver<Notice>) {
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    std::thread::spawn(move || emulator(theirs));
    let (sender, notices) = channel();
    (Monitor::from_stream(ours, options, move |notice| drop(sender.send(notice))), notices)
}

/// Answers the negotiation; the rest of the requests are for the caller.
fn negotiate(stream: &UnixStream) -> BufReader<UnixStream> {
    let mut writer = stream;
    writer.write_all(GREETING.as_bytes()).expect("greeting");
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("request");
    assert_eq!(line, "{\"execute\": \"qmp_capabilities\", \"id\": \"libvirt-1\"}\r\n");
    writer.write_all(b"{\"return\": {}, \"id\": \"libvirt-1\"}\r\n").expect("reply");
    reader
}

fn next(notices: &Receiver<Notice>) -> Notice {
    notices.recv_timeout(Duration::from_secs(10)).expect("a notice")
}

#[test]
fn replies_come_in_any_order_and_events_between() {
    let (monitor, notices) = against(Options::default(), |mut stream| {
        let mut reader = negotiate(&stream);
        let (mut first, mut second) = (String::new(), String::new());
        reader.read_line(&mut first).expect("request");
        reader.read_line(&mut second).expect("request");
        let id = |line: &str| json::parse(line.as_bytes()).expect("json").get("id").cloned().expect("id");
        let text = format!(
            "{{\"return\": \"second\", \"id\": {}}}\n{{\"event\": \"STOP\", \"timestamp\": {{\"seconds\": 5, \"microseconds\": 6}}}}\n\
             {{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no\"}}, \"id\": {}}}\n",
            id(&second),
            id(&first)
        );
        // In pieces, cut anywhere.
        for piece in text.as_bytes().chunks(7) {
            stream.write_all(piece).expect("write");
        }
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
    });
    let monitor = monitor.expect("connected");
    assert_eq!(monitor.greeting().version.number(), 7_002_022);
    assert_eq!(monitor.greeting().version.package, "Debian");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            monitor.execute("second", json::Dict::default())
        });
        let refused = monitor.execute("first", dict! { "a" => 1i64 });
        assert_eq!(refused, Err(Error::Command { class: "GenericError".into(), desc: "no".into() }));
        assert_eq!(other.join().expect("thread"), Ok(Value::from("second")));
    });
    assert!(
        matches!(next(&notices), Notice::Event(Event { name, at, .. }) if name == "STOP" && at.seconds == 5)
    );
    drop(monitor);
    assert_eq!(next(&notices), Notice::Closed(None));
}

#[test]
fn what_came_before_a_reply_can_be_waited_for() {
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    std::thread::spawn(move || {
        let mut stream = theirs;
        let mut reader = negotiate(&stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("request");
        let event = "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 5, \"microseconds\": 6}}\n";
        let text = format!("{event}{event}{{\"return\": {{}}, \"id\": \"libvirt-2\"}}\n");
        stream.write_all(text.as_bytes()).expect("write");
        let _ = reader.read_line(&mut line);
    });
    let (told, count) = (Arc::new(AtomicUsize::new(0)), |told: &AtomicUsize| told.load(Ordering::SeqCst));
    let counter = told.clone();
    let (gate, passed) = channel();
    let passed = Mutex::new(passed);
    let monitor = Monitor::from_stream(ours, Options::default(), move |_| {
        let _ = passed.lock().recv();
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let monitor = monitor.expect("connected");
    monitor.execute("any", json::Dict::default()).expect("reply");
    monitor.settle(Duration::from_millis(1));
    assert_eq!(count(&told), 0);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        (gate.send(()), gate.send(()))
    });
    monitor.settle(Duration::from_secs(10));
    assert_eq!(count(&told), 2);
    // With nothing on its way there is nothing to wait for.
    let begin = Instant::now();
    monitor.settle(Duration::from_secs(10));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_emulator_that_hangs_blocks_its_callers_until_their_deadlines() {
    let (monitor, _notices) = against(SHORT, |stream| {
        let _reader = negotiate(&stream);
        std::thread::sleep(Duration::from_secs(20));
    });
    let monitor = monitor.expect("connected");
    let begin = Instant::now();
    assert_eq!(
        monitor.execute("query-status", json::Dict::default()),
        Err(Error::Deadline("query-status".into()))
    );
    // More than the socket holds: what cannot be written in time ends the connection.
    let big = "x".repeat(8 << 20);
    assert_eq!(monitor.execute("big", dict! { "a" => big }), Err(Error::Closed));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn emulators_that_say_nothing_or_go() {
    let (monitor, _) = against(SHORT, |_stream| std::thread::sleep(Duration::from_secs(2)));
    assert_eq!(monitor.err(), Some(Error::Deadline("QMP".into())));
    let (monitor, notices) = against(SHORT, drop);
    assert_eq!(monitor.err(), Some(Error::Closed));
    assert_eq!(next(&notices), Notice::Closed(None));
    let (monitor, notices) = against(SHORT, |stream| {
        let mut line = String::new();
        let _ = negotiate(&stream).read_line(&mut line);
    });
    assert_eq!(monitor.expect("connected").execute("quit", json::Dict::default()), Err(Error::Closed));
    assert_eq!(next(&notices), Notice::Closed(None));
}

#[test]
fn what_is_not_the_protocol_ends_the_connection() {
    let deep = "[".repeat(100_000);
    let keys: String = (0..20_000).map(|n| format!("\"{n}\": 1, ")).collect();
    let values = format!("{{\"return\": [{}0]}}", "0,".repeat(1 << 20));
    for text in [
        "hello",
        "{}",
        "[]",
        "{\"event\": 5}",
        "{\"event\": \"A\", \"data\": []}",
        "{\"error\": {\"class\": \"A\"}}",
        "\u{0}",
        deep.as_str(),
        &format!("{{{keys} \"return\": 1}}"),
        &values,
    ] {
        let line = format!("{text}\n");
        let (monitor, notices) = against(Options::default(), move |mut stream| {
            let _reader = negotiate(&stream);
            let _ = stream.write_all(line.as_bytes());
            std::thread::sleep(Duration::from_secs(1));
        });
        let monitor = monitor.expect("connected");
        let shown = &text[..text.len().min(30)];
        assert!(matches!(next(&notices), Notice::Closed(Some(_))), "{shown}");
        let error = monitor.execute("query-status", json::Dict::default()).expect_err("ended");
        assert!(matches!(error, Error::Protocol(_)), "{shown}: {error:?}");
    }
}

#[test]
fn a_message_without_end_is_not_kept() {
    let mut decoder = Decoder::default();
    let piece = vec![b'['; 1 << 20];
    for _ in 0..MAX_MESSAGE >> 20 {
        decoder.feed(&piece, &mut |_| ()).expect("within the limit");
    }
    assert_eq!(decoder.feed(&piece, &mut |_| ()), Err(ProtocolError::TooLong));
}

#[test]
fn a_flood_of_events_is_cut_and_told() {
    let (go, wait) = channel::<()>();
    let wait = parking_lot::Mutex::new(wait);
    let (sender, notices) = channel();
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    std::thread::spawn(move || {
        let mut stream = theirs;
        let _reader = negotiate(&stream);
        for _ in 0..10_000 {
            stream.write_all(b"{\"event\": \"A\"}\n").expect("write");
        }
    });
    let _monitor = Monitor::from_stream(ours, Options::default(), move |notice| {
        // The handler is stuck until the flood is over.
        let _ = wait.lock().recv_timeout(Duration::from_secs(10));
        let _ = sender.send(notice);
    })
    .expect("connected");
    std::thread::sleep(Duration::from_millis(500));
    drop(go);
    let (mut events, mut lost) = (0, 0);
    loop {
        match next(&notices) {
            Notice::Event(_) => events += 1,
            Notice::Lost(count) => lost += count,
            Notice::Closed(None) => break,
            Notice::Closed(Some(error)) => panic!("{error}"),
        }
    }
    assert_eq!(events + lost, 10_000);
    assert!(lost > 0, "{events} {lost}");
}

#[test]
fn real_qemu() {
    const QEMU: &str = "/usr/bin/qemu-system-x86_64";
    if !std::path::Path::new(QEMU).exists() {
        println!("SKIPPED real_qemu: no {QEMU}");
        return;
    }
    let path = std::env::temp_dir().join(format!("qmp-test-{}", std::process::id()));
    let server = format!("unix:{},server=on,wait=off", path.display());
    let mut child = std::process::Command::new(QEMU)
        .args(["-M", "none", "-S", "-nodefaults", "-display", "none", "-qmp", &server])
        .spawn()
        .expect("qemu");
    let begin = Instant::now();
    let (sender, notices) = channel();
    let monitor = loop {
        let sender = sender.clone();
        match Monitor::connect(&path, Options::default(), move |notice| drop(sender.send(notice))) {
            Ok(monitor) => break monitor,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let status = monitor.execute("query-status", json::Dict::default()).expect("status");
    assert_eq!(status.get("running"), Some(&Value::Bool(false)));
    let schema = monitor.execute("query-qmp-schema", json::Dict::default()).expect("schema");
    assert!(schema.as_list().is_some_and(|entries| entries.len() > 500));
    let refused = monitor.execute("no-such-command", json::Dict::default()).expect_err("refused");
    assert!(refused.is_class("CommandNotFound"), "{refused:?}");
    assert!(monitor.human("info version").expect("version").contains('.'));
    // A descriptor arrives.
    let (ours, _theirs) = UnixStream::pair().expect("socketpair");
    let fds = [std::os::fd::AsFd::as_fd(&ours)];
    monitor.execute_with_fds("getfd", dict! { "fdname" => "x" }, &fds).expect("getfd");
    monitor.execute("closefd", dict! { "fdname" => "x" }).expect("closefd");
    monitor.execute("quit", json::Dict::default()).expect("quit");
    child.wait().expect("ended");
    let events: Vec<_> = notices.iter().take(2).collect();
    assert!(
        matches!(&events[..], [Notice::Event(event), Notice::Closed(None)] if event.name == "SHUTDOWN"),
        "{events:?}"
    );
    let _ = std::fs::remove_file(path);
}

#[test]
fn messages_are_taken_apart() {
    let mut seen = Vec::new();
    let text = "\r\n{\"return\": {}}\n{\"error\": {\"class\": \"C\", \"desc\": \"d\"}, \"id\": 7}\n{\"event\": \"E\", \"data\": {\"a\": 1}}\n";
    Decoder::default().feed(text.as_bytes(), &mut |message| seen.push(message)).expect("protocol");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], Message::Return { id: None, value: Value::Dict(json::Dict::default()) });
    assert_eq!(seen[1], Message::Error { id: Some(Value::Int(7)), class: "C".into(), desc: "d".into() });
    assert!(
        matches!(&seen[2], Message::Event(event) if event.data.get("a") == Some(&Value::Int(1)) && event.at.seconds == -1)
    );
}
