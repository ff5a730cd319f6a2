//! Every procedure that is about domains and the host, called in every state with libvirt's own daemon and with ours:
//! what is refused is refused with the same words.

#![forbid(unsafe_code)]

use blackbox::raw_client::{Message, REMOTE, Raw};
use blackbox::virtqemud::{self, Daemon};
use blackbox::{compare, or_skip, paths};
use rpc::Domain;
use rpc::procedure::{Answer, Procedure};
use rpc::protocol::{self, QEMU_PROGRAM, types::WireError};
use rpc::xdr::{from_bytes, to_bytes};
use std::time::Duration;

/// The last procedure that libvirt 9.0 knows.
const LAST_OF_9_0: u32 = 443;
const OPEN: u32 = 1;
const AUTH_LIST: u32 = 66;
const DEFINE: u32 = 11;
const DESTROY: u32 = 12;
const CREATE: u32 = 9;
const LOOKUP_BY_NAME: u32 = 23;

/// What ends the connection, changes who is at its other end, or lets events come.
const LEFT_OUT: &[&str] = &[
    // After this libvirt 9.0 never answers again about a domain that does not run.
    "DOMAIN_SAVE_PARAMS",
    // The original tells again what it last told anybody.
    "AUTH_POLKIT",
    "CONNECT_OPEN",
    "CONNECT_CLOSE",
    "CONNECT_SET_IDENTITY",
    "CONNECT_DOMAIN_EVENT_REGISTER",
    "CONNECT_DOMAIN_EVENT_REGISTER_ANY",
    "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
    "CONNECT_DOMAIN_MONITOR_EVENT_REGISTER",
];

fn folder() -> std::path::PathBuf {
    paths::repository().join("tests/procedures")
}

/// What neither daemon supports.
const UNSUPPORTED: &[&str] = &[
    "DOMAIN_CREATE_XML_WITH_FILES",
    "DOMAIN_CREATE_WITH_FILES",
    "DOMAIN_SEND_PROCESS_SIGNAL",
    "CONNECT_DOMAIN_XML_FROM_NATIVE",
    "DOMAIN_ATTACH",
];

/// The procedures, with their programs, that both daemons answer themselves.
fn procedures() -> impl Iterator<Item = (u32, &'static Procedure)> {
    let of = |program| protocol::procedures(program).map(move |row| (program, row));
    of(REMOTE).chain(of(QEMU_PROGRAM)).filter(|(program, row)| {
        (matches!(row.answer, Answer::Handler | Answer::Server) || UNSUPPORTED.contains(&row.name))
            && (*program != REMOTE || row.number <= LAST_OF_9_0)
            && !LEFT_OUT.contains(&row.name)
    })
}

/// The arguments of a procedure: nothing, nought and the shortest text, but for the domain and the flags.
fn arguments(program: u32, row: &Procedure, dom: &Domain, flags: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind) in protocol::arguments(program, row.number).expect("a procedure") {
        let number = if *name == "flags" { flags } else { 0 };
        match *kind {
            "Domain" => bytes.extend(to_bytes(dom).expect("short")),
            "DomainSnapshot" | "DomainCheckpoint" => {
                bytes.extend(to_bytes(&"x".to_owned()).expect("short"));
                bytes.extend(to_bytes(dom).expect("short"));
            }
            "str" => bytes.extend(to_bytes(&"x".to_owned()).expect("short")),
            "u32" | "i32" | "bytes" | "chars" => bytes.extend((number as u32).to_be_bytes()),
            "u64" | "i64" => bytes.extend(number.to_be_bytes()),
            "Uuid" => bytes.extend([0; 16]),
            kind if kind.ends_with('?') || kind.starts_with('[') => bytes.extend([0; 4]),
            kind => panic!("{}: {name}: {kind}", row.name),
        }
    }
    bytes
}

/// What came of a call.
fn outcome(answer: &Message) -> String {
    if answer.header[0] == 0 {
        return "no answer\n".to_owned();
    }
    if answer.header[5] == 0 {
        return "done\n".to_owned();
    }
    let mut error: WireError = from_bytes(&answer.payload).expect("an error");
    // libvirt 10.0 numbers what is filled in.
    error.str1 = error.str1.map(|text| text.replace("%1$s", "%s"));
    format!(
        "{}\ncode {} domain {} level {}\n{:?} {:?} {:?} {} {}\n",
        error.message.unwrap_or_default(),
        error.code,
        error.domain,
        error.level,
        error.str1,
        error.str2,
        error.str3,
        error.int1,
        error.int2
    )
}

/// A client of one daemon.
struct Client(Raw);

impl Client {
    fn open(daemon: &Daemon, socket: &str) -> Self {
        let mut this = Self(Raw::connect(&daemon.socket(socket)));
        this.0.socket.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
        assert_eq!(this.call(REMOTE, AUTH_LIST, &[]).header[5], 0);
        let name = to_bytes(&"qemu:///system".to_owned()).expect("short");
        let opened = this.call(REMOTE, OPEN, &[&[0, 0, 0, 1][..], &name, &[0; 4]].concat());
        assert_eq!(opened.header[5], 0, "{}", outcome(&opened));
        this
    }

    /// Calls a procedure; what comes of a stream that it opens is not waited for.
    fn call(&mut self, program: u32, number: u32, payload: &[u8]) -> Message {
        self.0.send([program, 1, number, 0, 7, 0], payload);
        loop {
            let Some(answer) = self.0.receive() else {
                // Whoever is not answered has another header.
                return Message { header: [0; 6], payload: b"no answer".to_vec() };
            };
            if answer.header[1..3] == [0, 0] {
                continue;
            }
            if answer.header[..3] == [program, 1, number] && matches!(answer.header[3], 1 | 5) {
                return answer;
            }
        }
    }

    fn define(&mut self, xml: &str) -> Domain {
        let answer = self.call(REMOTE, DEFINE, &to_bytes(&xml.to_owned()).expect("short"));
        assert_eq!(answer.header[5], 0, "{}", outcome(&answer));
        from_bytes(&answer.payload).expect("a domain")
    }
}

/// The state in which procedures are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody knows the domain.
    Unknown,
    /// It does not run.
    Inactive,
    /// It runs.
    Running,
}

const TINY: &str = "<domain type='qemu'><name>tiny</name><uuid>12345678-1234-4234-8234-123456789012</uuid>\
                    <memory unit='MiB'>16</memory><os><type machine='pc'>hvm</type></os>\
                    <devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>";

/// Calls all procedures: in the name of the state, and what came of it.
fn all(socket: &str, daemon: &Daemon, title: &str, state: State, flags: u64) -> Vec<(String, String)> {
    let mut main = Client::open(daemon, "-sock");
    let mut found = Vec::new();
    let mut client = Client::open(daemon, socket);
    let mut dom = main.define(TINY);
    if state == State::Running {
        let answer = main.call(REMOTE, CREATE, &to_bytes(&dom).expect("short"));
        assert_eq!(answer.header[5], 0, "{}", outcome(&answer));
        let answer = main.call(REMOTE, LOOKUP_BY_NAME, &to_bytes(&dom.name).expect("short"));
        dom = from_bytes(&answer.payload).expect("a domain");
    }
    if state == State::Unknown {
        dom = Domain { name: "nobody".to_owned(), ..dom };
        dom.uuid.0[0] = 0xff;
    }
    for (program, row) in procedures() {
        let has_flags =
            protocol::arguments(program, row.number).is_some_and(|all| all.iter().any(|it| it.0 == "flags"));
        if state == State::Running && !has_flags {
            continue;
        }
        let payload = arguments(program, row, &dom, flags);
        let answer = client.call(program, row.number, &payload);
        found.push((format!("{title}: {}", row.name), outcome(&answer)));
        if answer.header[0] == 0 {
            eprintln!("{title}: {}: no answer", row.name);
            client = Client::open(daemon, socket);
            main = Client::open(daemon, "-sock");
            continue;
        }
        if answer.header[5] == 0 {
            if row.stream != rpc::procedure::Streaming::None {
                client = Client::open(daemon, socket);
            }
            if state == State::Inactive && row.write {
                main.call(REMOTE, DESTROY, &to_bytes(&dom).expect("short"));
                main.define(TINY);
            }
        }
    }
    if state == State::Running {
        main.call(REMOTE, DESTROY, &to_bytes(&dom).expect("short"));
    }
    found
}

#[test]
fn what_is_refused_is_refused_in_the_same_words() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    /// A flag that no procedure has.
    const UNKNOWN_FLAG: u64 = 0x4000_0000;
    let [theirs, ours] = virtqemud::on_both(&original, Daemon::alone, |daemon| {
        [
            all("-sock", daemon, "unknown", State::Unknown, 0),
            all("-sock", daemon, "unknown flag", State::Unknown, UNKNOWN_FLAG),
            all("-sock", daemon, "inactive flag", State::Inactive, UNKNOWN_FLAG),
            all("-sock", daemon, "inactive", State::Inactive, 0),
            all("-sock", daemon, "running flag", State::Running, UNKNOWN_FLAG),
            all("-sock-ro", daemon, "read-only", State::Inactive, 0),
        ]
        .concat()
    });
    let outcomes: Vec<_> =
        theirs.into_iter().zip(ours).map(|((name, theirs), (_, ours))| (name, (theirs, ours))).collect();
    let different = std::fs::read_to_string(folder().join("different")).expect("a file of the repository");
    let known: Vec<String> = different
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let wrong = compare::unexpected(&outcomes, &known);
    let scratch = paths::scratch(&blackbox::current_test());
    std::fs::write(scratch.join("differences"), &wrong).expect("the build directory is writable");
    assert!(wrong.is_empty(), "{wrong}");
}
