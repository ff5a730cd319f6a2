//! The back ends on a real event loop.

use crate::{Address, Chardevs, Event, Handler, Kind, SocketSpec, Spec};
use eventloop::EventLoop;
use parking_lot::Mutex;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Sink {
    bytes: Mutex<Vec<u8>>,
    events: Mutex<Vec<Event>>,
    room: Mutex<usize>,
}

impl Handler for Sink {
    fn can_receive(&self) -> usize {
        *self.room.lock()
    }
    fn receive(&self, bytes: &[u8]) {
        *self.room.lock() -= bytes.len();
        self.bytes.lock().extend_from_slice(bytes);
    }
    fn event(&self, event: Event) {
        self.events.lock().push(event);
    }
}

fn sink(room: usize) -> (Arc<Sink>, Weak<dyn Handler>) {
    let sink = Arc::new(Sink { room: Mutex::new(room), ..Sink::default() });
    let dynamic: Arc<dyn Handler> = sink.clone();
    let weak = Arc::downgrade(&dynamic);
    (sink, weak)
}

fn spec(id: &str, kind: Kind) -> Spec {
    Spec { id: id.to_owned(), kind, mux: false, logfile: None, logappend: false }
}

fn turn_until(event_loop: &EventLoop, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !done() {
        assert!(Instant::now() < end, "nothing happened for 5 s");
        event_loop.turn(Some(Instant::now() + Duration::from_millis(20))).expect("turn");
    }
}

fn scratch(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("chardev-{}-{name}", std::process::id()));
    path.to_str().expect("utf-8").to_owned()
}

#[test]
fn a_socket_server_takes_one_peer_after_another() {
    let event_loop = EventLoop::new().expect("loop");
    let devices = Chardevs::new(event_loop.handle(), || {});
    let path = scratch("server");
    let address = Address::Unix { path: path.clone(), abstract_name: false };
    let socket = SocketSpec { address, server: true, wait: false, nodelay: false, reconnect_ms: 0 };
    devices.create(&spec("s", Kind::Socket(socket))).expect("create");
    let front = devices.claim("s").expect("claim");
    assert!(devices.claim("s").is_err());
    let (sink, weak) = sink(3);
    front.set_handler(Some(weak));
    let mut peer = UnixStream::connect(&path).expect("connect");
    peer.write_all(b"hello").expect("write");
    turn_until(&event_loop, || sink.bytes.lock().len() == 3);
    assert_eq!(*sink.events.lock(), [Event::Open]);
    *sink.room.lock() = 100;
    front.accept_input();
    turn_until(&event_loop, || sink.bytes.lock().len() == 5);
    assert_eq!(front.write(b"reply"), 5);
    let mut got = [0; 5];
    peer.read_exact(&mut got).expect("read");
    assert_eq!(&got, b"reply");
    drop(peer);
    turn_until(&event_loop, || sink.events.lock().contains(&Event::Close));
    assert!(!front.is_open());
    let _second = UnixStream::connect(&path).expect("connect");
    turn_until(&event_loop, || front.is_open());
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_file_takes_output_and_gives_input_that_cannot_be_polled() {
    let event_loop = EventLoop::new().expect("loop");
    let devices = Chardevs::new(event_loop.handle(), || {});
    let (out, input) = (scratch("out"), scratch("in"));
    std::fs::write(&input, b"0123456789").expect("write");
    let kind = Kind::File { path: out.clone(), input: Some(input.clone()), append: false };
    devices.create(&spec("f", kind)).expect("create");
    let front = devices.claim("f").expect("claim");
    let (sink, weak) = sink(4);
    front.set_handler(Some(weak));
    turn_until(&event_loop, || sink.bytes.lock().len() == 4);
    *sink.room.lock() = 100;
    front.accept_input();
    turn_until(&event_loop, || sink.bytes.lock().len() == 10);
    front.write_all(b"abc");
    assert_eq!(std::fs::read(&out).expect("read"), b"abc");
    let _ = (std::fs::remove_file(out), std::fs::remove_file(input));
}

#[test]
fn the_escape_key_moves_the_focus_and_sends_breaks() {
    let event_loop = EventLoop::new().expect("loop");
    let devices = Chardevs::new(event_loop.handle(), || {});
    let pty_spec = Spec { mux: true, ..spec("m", Kind::Pty) };
    devices.create(&pty_spec).expect("create");
    let path = devices.info()[0].description.strip_prefix("pty:").expect("pty").to_owned();
    let mut terminal = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("slave");
    let (one, weak_one) = sink(100);
    let (two, weak_two) = sink(100);
    let first = devices.claim("m").expect("claim");
    let second = devices.claim("m").expect("claim");
    first.set_handler(Some(weak_one));
    second.set_handler(Some(weak_two));
    terminal.write_all(b"a\x01b\x01cz\x01\x01").expect("write");
    turn_until(&event_loop, || two.bytes.lock().len() == 2);
    assert_eq!(*one.bytes.lock(), b"a");
    assert_eq!(*two.bytes.lock(), b"z\x01");
    assert_eq!(*one.events.lock(), [Event::MuxIn, Event::Open, Event::Break, Event::MuxOut]);
    assert_eq!(*two.events.lock(), [Event::MuxOut, Event::Open, Event::MuxIn]);
}

#[test]
fn a_ring_buffer_keeps_the_last_bytes() {
    let event_loop = EventLoop::new().expect("loop");
    let devices = Chardevs::new(event_loop.handle(), || {});
    devices.create(&spec("r", Kind::RingBuf { size: 4 })).expect("create");
    assert!(devices.create(&spec("r", Kind::Null)).is_err());
    assert!(devices.create(&spec("q", Kind::RingBuf { size: 5 })).is_err());
    devices.claim("r").expect("claim").write(b"abcdef");
    assert_eq!(devices.read_ringbuf("r", 100).expect("ring"), b"cdef");
}
