//! Multipath devices through a libmpathpersist.so.0 and a device mapper that the test makes up: service actions, the
//! library's structures, sense, a missing library, one that crashes or hangs.
//!
//! Without the test harness, because the process with the library is forked and must have no threads.
#![forbid(unsafe_code)]

use daemon::server::{Connection, Handler};
use daemon::{process, socket};
use scsi_pr::device::{self, Device};
use scsi_pr::multipath::{self, mapper::Mapper};
use scsi_pr::service::Service;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Devices that play the parts of mapped ones: (1, 3), (1, 5), (1, 7).
const MULTIPATH: &str = "/dev/null";
const LINEAR: &str = "/dev/zero";
const BROKEN: &str = "/dev/full";

struct FakeMapper;

impl Mapper for FakeMapper {
    fn is_multipath(&mut self, number: u64) -> io::Result<bool> {
        match number & 0xff {
            3 => Ok(true),
            5 => Ok(false),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A conversation with a service of its own thread.
struct Client(UnixStream);

impl Client {
    fn new(service: &Arc<Service>) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let connection = Connection::new(far.into()).unwrap();
        let service = Arc::clone(service);
        std::thread::spawn(move || service.serve(&connection));
        let mut client = Self(near);
        client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut hello = [1; 4];
        client.0.read_exact(&mut hello).unwrap();
        assert_eq!(hello, [0; 4]);
        client.0.write_all(&[0; 4]).unwrap();
        client
    }

    /// Sends a command; answers status, the sense triple, payload.
    fn command(&mut self, path: &str, cdb: [u8; 3], list: &[u8], length: u16) -> (u8, (u8, u8, u8), Vec<u8>) {
        let device = File::options().read(true).write(true).open(path).unwrap();
        let mut block = [0; 16];
        block[..3].copy_from_slice(&cdb);
        block[7..9].copy_from_slice(&length.to_be_bytes());
        socket::send_message(self.0.as_fd(), &block, Some(device.as_fd())).unwrap();
        self.0.write_all(list).unwrap();
        let mut reply = [0; 104];
        self.0.read_exact(&mut reply).unwrap();
        let size = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        let mut payload = vec![0; size as usize];
        self.0.read_exact(&mut payload).unwrap();
        (reply[3], (reply[10], reply[20], reply[21]), payload)
    }

    fn read(&mut self, action: u8, length: u16) -> (u8, (u8, u8, u8), Vec<u8>) {
        self.command(MULTIPATH, [0x5e, action, 0], &[], length)
    }

    fn write(&mut self, action: u8, key: &[u8; 8]) -> (u8, (u8, u8, u8), Vec<u8>) {
        let mut list = [0; 24];
        list[..8].copy_from_slice(key);
        self.command(MULTIPATH, [0x5f, action, 5], &list, 24)
    }
}

const NONE: (u8, u8, u8) = (0, 0, 0);

fn main() {
    let folder = std::env::temp_dir().join(format!("fake-mpathpersist-{}", std::process::id()));
    if std::env::var_os("FAKE_LOG").is_none() {
        // The loader looks at its search path when a program starts.
        fs::create_dir_all(&folder).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .env("LD_LIBRARY_PATH", &folder)
            .env("FAKE_FOLDER", &folder)
            .env("FAKE_LOG", folder.join("log"))
            .status()
            .unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(status.success(), "{status}");
        println!("test multipath ... ok\ntest result: ok. 1 passed; 0 failed");
        return;
    }
    let folder = std::env::var("FAKE_FOLDER").unwrap();
    let folder = Path::new(&folder);
    let (service, messages) = start(folder);
    without_the_library(&service);
    build(folder);
    reads(&service);
    writes(&service, folder);
    refusals(&service);
    crashes_and_hangs(&service);
    drop(service);
    let text = fs::read_to_string(messages).unwrap();
    let missing: Vec<_> = text.lines().filter(|l| l.contains("libmpathpersist.so.0")).collect();
    assert_eq!(missing.len(), 1, "{text}");
    assert!(missing[0].contains("device 1:3 is a multipath device"), "{text}");
}

/// The process with the library, and a service that takes every device for a mapped one.
fn start(folder: &Path) -> (Arc<Service>, std::path::PathBuf) {
    let (ours, theirs): (OwnedFd, OwnedFd) = socket::message_pair().unwrap();
    let messages = folder.join("messages");
    if process::fork().unwrap() == process::Side::Child {
        drop(ours);
        redirect(&messages);
        let status = multipath::process::serve(&theirs, &mut FakeMapper, 3);
        process::exit(i32::from(status.is_err()));
    }
    let service = Service::new(multipath::Client::new(ours))
        .classified_by(|fd| device::number(fd).map_or(Device::Other, Device::Mapped));
    (Arc::new(service), messages)
}

/// Sends standard error to a file.
fn redirect(path: &Path) {
    daemon::process::redirect_errors(&File::create(path).unwrap()).unwrap();
}

/// Builds the library in place.
fn build(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_mpathpersist.c");
    let output = folder.join("libmpathpersist.so.0");
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(output).arg(source).status();
    assert!(status.unwrap().success(), "cc");
}

fn without_the_library(service: &Arc<Service>) {
    let mut client = Client::new(service);
    for _ in 0..3 {
        assert_eq!(client.read(0, 8), (2, (4, 0x44, 0), vec![]));
    }
    // What is not multipath goes the plain way, and fails there for want of SG_IO.
    assert_eq!(client.command(LINEAR, [0x5e, 0, 0], &[], 8), (2, (0xb, 0, 6), vec![]));
    // A device mapper that cannot be asked is no reason to send the command to one path.
    assert_eq!(client.command(BROKEN, [0x5e, 0, 0], &[], 8), (2, (4, 0x44, 0), vec![]));
}

fn reads(service: &Arc<Service>) {
    let mut client = Client::new(service);
    let keys = b"\x01\x02\x03\x04\0\0\0\x10key1____key2____";
    assert_eq!(client.read(0, 8192), (0, NONE, keys.to_vec()));
    assert_eq!(client.read(0, 8), (0, NONE, keys[..8].to_vec()));
    let reservation = b"\0\0\0\x05\0\0\0\x10key1____\0\0\0\0\0\x05\0\0";
    assert_eq!(client.read(1, 255), (0, NONE, reservation.to_vec()));
    assert_eq!(client.read(2, 8), (0, NONE, vec![0, 8, 0x11, 0x80, 0xea, 1, 0, 0]));
    let full = b"\0\0\0\x06\0\0\0\x30key1____\0\0\0\0\x01\x05\0\0\0\0\0\x02\0\0\0\x18\x06\0\0\0sasaddrs";
    let (status, _, payload) = client.read(3, 8192);
    assert_eq!((status, payload.len(), &payload[..44]), (0, 56, &full[..]));
    for action in [4, 5, 0x1f, 0x80] {
        assert_eq!(client.read(action, 8), (2, (5, 0x24, 0), vec![]), "{action}");
    }
}

fn writes(service: &Arc<Service>, folder: &Path) {
    let log = folder.join("log");
    let first = fs::read_to_string(&log).unwrap();
    assert!(first.starts_with("in 0 init 1 fd 1 noisy 0 verbose 3 3\n"), "{first}");
    fs::remove_file(&log).unwrap();
    let mut client = Client::new(service);
    for action in 0..=6 {
        assert_eq!(client.write(action, b"mykey___"), (0, NONE, vec![]), "{action}");
    }
    for action in [7, 8, 0x1f, 0xe0] {
        assert_eq!(client.write(action, b"mykey___"), (2, (5, 0x24, 0), vec![]), "{action}");
    }
    let mut list = vec![0; 24];
    list[8..16].copy_from_slice(b"newkey__");
    list[20] = 0x0d;
    let ids = [
        &[0u8; 8][..],
        b"nportnam\0\0\0\0\0\0\0\0",
        b"\x06\0\0\0sasaddrs\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x45\0\0\x08iqn.a\0\0\0",
    ]
    .concat();
    list.extend((ids.len() as u32).to_be_bytes());
    list.extend(ids);
    let length = list.len() as u16;
    assert_eq!(client.command(MULTIPATH, [0x5f, 0, 0x15], &list, length), (0, NONE, vec![]));
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert_eq!(lines[1], "out 1 scope 0 type 5 key mykey___ sa  flags 0 ids 0");
    assert_eq!(
        lines[7],
        "out 0 scope 1 type 5 key  sa newkey__ flags 13 ids 3 0/0:nportnam 0/6:sasaddrs 64/5:iqn.a"
    );
    // Lists of a wrong length, identifiers of a wrong form or number.
    for (list, sense) in [
        (vec![0; 0], (5, 0x1a, 0)),
        (vec![0; 23], (5, 0x1a, 0)),
        (vec![0; 27], (5, 0x1a, 0)),
        ([&[0; 24][..], &[0, 0, 0, 24], &[1; 24]].concat(), (5, 0x26, 0)),
        ([&[0; 24][..], &[0, 0, 0, 25], &[0; 24]].concat(), (5, 0x26, 0)),
        ([&[0; 24][..], &(24u32 * 33).to_be_bytes(), &[0; 24 * 33]].concat(), (5, 0x26, 0)),
    ] {
        let length = list.len() as u16;
        assert_eq!(client.command(MULTIPATH, [0x5f, 0, 0], &list, length), (2, sense, vec![]), "{length}");
    }
}

fn refusals(service: &Arc<Service>) {
    let mut client = Client::new(service);
    assert_eq!(client.write(1, b"code11\0\0"), (0x18, NONE, vec![]));
    for (key, sense) in [
        (b"code2\0\0\0", (2, 4, 0)),
        (b"code3\0\0\0", (3, 0x11, 0)),
        (b"code4\0\0\0", (4, 0x44, 0)),
        (b"code5\0\0\0", (5, 0x26, 0)),
        (b"code6\0\0\0", (6, 0x29, 2)),
        (b"code7\0\0\0", (5, 0x20, 0)),
        (b"code8\0\0\0", (0xb, 0, 6)),
        (b"code9\0\0\0", (0, 0, 0)),
        (b"code15\0\0", (0xb, 8, 0)),
        (b"code-1\0\0", (0xb, 8, 0)),
    ] {
        assert_eq!(client.write(1, key), (2, sense, vec![]));
    }
}

fn crashes_and_hangs(service: &Arc<Service>) {
    let mut client = Client::new(service);
    assert_eq!(client.write(1, b"abort___"), (2, (0xb, 8, 0), vec![]));
    assert_eq!(client.write(1, b"mykey___"), (0, NONE, vec![]));
    // Paths that hang keep nobody else waiting, however many commands are on their way.
    let mut slow: Vec<_> = (0..8).map(|_| Client::new(service)).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in &mut slow {
            scope.spawn(move || assert_eq!(client.write(1, b"sleep___"), (0, NONE, vec![])));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(client.write(1, b"mykey___"), (0, NONE, vec![]));
        assert!(begin.elapsed() < Duration::from_millis(1800), "{:?}", begin.elapsed());
    });
    assert!(begin.elapsed() >= Duration::from_secs(2));
}
