//! How `virtqemud` starts: in the background, by the service manager, as a user's own daemon; and whom it asks about what
//! it does not know itself.
#![forbid(unsafe_code)]

use blackbox::or_skip;
use blackbox::raw_client::{REMOTE, Raw};
use blackbox::virtqemud::{find, folder, namespaces, program};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user that owns nothing.
const NOBODY: &str = "65534";

/// A user's own daemon, run as nobody.
struct Session {
    folder: PathBuf,
    child: Option<Child>,
}

impl Session {
    fn new() -> Self {
        let folder = folder("vs");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(folder.join("run")).unwrap();
        std::fs::set_permissions(folder.join("run"), std::fs::Permissions::from_mode(0o777)).unwrap();
        // The build may lie where nobody may look.
        let copy = folder.join("virtqemud");
        std::fs::copy(program(), &copy).unwrap();
        Self { folder, child: None }
    }

    fn command(&self, before: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"])
            .args(before)
            .arg(self.folder.join("virtqemud"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.folder.join("stderr")).unwrap());
        command
    }

    fn start(&mut self) {
        self.child = Some(self.command(&[]).spawn().unwrap());
        self.await_socket();
    }

    fn await_socket(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(self.socket("virtqemud-sock")).is_err() {
            let said = std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            assert!(Instant::now() < deadline, "no socket: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.join("run/libvirt").join(name)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Becoming another user takes root, and a program.
fn needed() -> Result<(), String> {
    namespaces()?;
    find("setpriv").map(drop)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_users_own_daemon_has_his_folders() {
    or_skip!(needed());
    let mut session = Session::new();
    session.start();
    assert_eq!(mode(&session.socket("virtqemud-sock")), 0o700);
    assert_eq!(mode(&session.socket("virtqemud-admin-sock")), 0o700);
    assert!(!session.socket("virtqemud-sock-ro").exists());
    assert!(session.socket("virtqemud.pid").exists());
    let mut client = Raw::connect(&session.socket("virtqemud-sock"));
    // Nobody has to show who he is: the list of ways has one entry, none.
    assert_eq!(client.call(REMOTE, 66, &[]).payload, [0, 0, 0, 1, 0, 0, 0, 0]);
    let answer = client.call(REMOTE, 1, b"\0\0\0\x01\0\0\0\x0eqemu:///system\0\0\0\0\0\0");
    assert!(answer.error().1.contains("try qemu:///session"), "{answer:?}");
    assert_eq!(client.call(REMOTE, 1, b"\0\0\0\x01\0\0\0\x0fqemu:///session\0\0\0\0\0").header[5], 0);
    // The admin socket is for the user himself, not even for root.
    let mut admin = Raw::connect(&session.socket("virtqemud-admin-sock"));
    assert!(admin.ended());
}

/// Reads one message from a client of a daemon that we play: its header, and its payload.
fn read(stream: &mut impl Read) -> Option<([u32; 6], Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut bytes).ok()?;
    let mut header = [0; 6];
    for (word, bytes) in header.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().unwrap());
    }
    Some((header, bytes[24..].to_vec()))
}

fn write(stream: &mut impl Write, header: [u32; 6], payload: &[u8]) {
    let mut bytes = (28 + payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend(header.iter().flat_map(|word| word.to_be_bytes()));
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes).unwrap();
}

/// A storage daemon that knows nothing, but answers: calls with their procedure and arguments, the download of a volume
/// (209) with a stream of two pieces, the upload (208) with what it got. It also sends an event with each call.
fn storage_daemon(listener: UnixListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut uploaded = Vec::new();
    while let Some((header, payload)) = read(&mut stream) {
        let [program, version, procedure, kind, serial, status] = header;
        let reply = |kind: u32, status: u32| [program, version, procedure, kind, serial, status];
        match (procedure, kind) {
            (66, 0) => write(&mut stream, reply(1, 0), &[0, 0, 0, 1, 0, 0, 0, 0]),
            (1, 0) => {
                assert!(payload.windows(18).any(|name| name == b"storage:///session"), "{payload:?}");
                write(&mut stream, reply(1, 0), &[]);
            }
            (208, 3) if status == 2 => uploaded.extend(payload),
            (208, 3) => {
                assert_eq!(uploaded, b"what the client sends");
                write(&mut stream, reply(3, 0), &[]);
            }
            (209, 3) => write(&mut stream, reply(3, 0), &[]),
            _ => {
                write(&mut stream, [program, version, 367, 2, 0, 0], b"event");
                write(&mut stream, reply(1, 0), &[&procedure.to_be_bytes()[..], &payload].concat());
                if procedure == 209 {
                    write(&mut stream, reply(3, 2), b"first");
                    write(&mut stream, reply(3, 2), b"");
                }
            }
        }
        if procedure == 87 {
            return;
        }
    }
}

#[test]
fn other_daemons_answer_for_what_is_theirs() {
    or_skip!(needed());
    let mut session = Session::new();
    session.start();
    let mut client = Raw::connect(&session.socket("virtqemud-sock"));
    client.call(REMOTE, 66, &[]);
    assert_eq!(client.call(REMOTE, 1, &[0; 8]).header[5], 0);
    // Without the daemon:
    let missing = client.call(REMOTE, 71, &[]).error();
    let socket = session.socket("virtstoraged-sock");
    let text = format!("Failed to connect socket to '{}': No such file or directory", socket.display());
    assert_eq!(missing, (38, text));
    // With one:
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = std::thread::spawn(move || storage_daemon(listener));
    let expect_event = |client: &mut Raw| {
        let event = client.receive().expect("an event");
        assert_eq!((event.header, event.payload.as_slice()), ([REMOTE, 1, 367, 2, 0, 0], &b"event"[..]));
    };
    for serial in [70, 7] {
        client.send([REMOTE, 1, 71, 0, serial, 0], &[1, 2, 3, 4]);
        expect_event(&mut client);
        let answer = client.receive().expect("an answer");
        assert_eq!(answer.header, [REMOTE, 1, 71, 1, serial, 0]);
        assert_eq!(answer.payload, [0, 0, 0, 71, 1, 2, 3, 4]);
    }
    // A stream to the client.
    client.send([REMOTE, 1, 209, 0, 5, 0], &[]);
    expect_event(&mut client);
    assert_eq!(client.receive().expect("an answer").header, [REMOTE, 1, 209, 1, 5, 0]);
    let piece = client.receive().expect("a piece");
    assert_eq!((piece.header, piece.payload.as_slice()), ([REMOTE, 1, 209, 3, 5, 2], &b"first"[..]));
    assert_eq!(client.receive().expect("the end").payload, b"");
    client.send([REMOTE, 1, 209, 3, 5, 0], &[]);
    assert_eq!(client.receive().expect("the confirmation").header, [REMOTE, 1, 209, 3, 5, 0]);
    // A stream from the client.
    client.send([REMOTE, 1, 208, 0, 6, 0], &[]);
    expect_event(&mut client);
    assert_eq!(client.receive().expect("an answer").header, [REMOTE, 1, 208, 1, 6, 0]);
    for piece in [&b"what the "[..], b"client sends"] {
        client.send([REMOTE, 1, 208, 3, 6, 2], piece);
    }
    client.send([REMOTE, 1, 208, 3, 6, 0], &[]);
    assert_eq!(client.receive().expect("the confirmation").header, [REMOTE, 1, 208, 3, 6, 0]);
    // The daemon goes in the middle of a call: this one ends after its answer, the next is told.
    client.send([REMOTE, 1, 87, 0, 9, 0], &[]);
    expect_event(&mut client);
    assert_eq!(client.receive().expect("an answer").header[4], 9);
    daemon.join().unwrap();
    let (code, text) = client.call(REMOTE, 71, &[]).error();
    assert!([38, 39].contains(&code), "{text}");
    assert!(client.alive());
}

#[test]
fn in_the_background_the_caller_waits_until_clients_may_come() {
    or_skip!(needed());
    let session = Session::new();
    let mut command = session.command(&[]);
    let status = command.args(["-d", "-t", "2"]).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let pid: i32 = std::fs::read_to_string(session.socket("virtqemud.pid")).unwrap().parse().unwrap();
    let mut client = Raw::connect(&session.socket("virtqemud-sock"));
    assert!(client.alive());
    // A second one: the first process says that its start failed.
    let status = session.command(&[]).arg("-d").status().unwrap();
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(session.folder.join("stderr")).unwrap();
    let expected =
        "error: Unable to obtain pidfile. Check /var/log/messages or run without --daemon for more info.";
    assert!(said.contains(expected), "{said}");
    drop(client);
    // And it ends by itself.
    let deadline = Instant::now() + Duration::from_secs(15);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!session.socket("virtqemud-sock").exists());
}

#[test]
fn the_service_manager_may_bring_the_sockets() {
    or_skip!(needed());
    let mut session = Session::new();
    let path = session.folder.join("activated");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    // The shell gives the socket the number 3 and keeps its own process id for the daemon.
    let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
    let inherit = |names: &str| {
        format!("exec 3<&{number}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names}; exec \"$@\"")
    };
    let flags = nix::fcntl::FdFlag::empty();
    nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_SETFD(flags)).unwrap();
    for (names, expected) in [
        ("virtqemud.socket:x", "Expecting 1 FD names but got 2"),
        ("other.socket", "Some activation file descriptors are unclaimed"),
    ] {
        let script = inherit(names);
        let status = session.command(&["sh", "-c", &script, "sh"]).status().unwrap();
        assert_eq!(status.code(), Some(6));
        let said = std::fs::read_to_string(session.folder.join("stderr")).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    let script = inherit("virtqemud.socket");
    session.child = Some(session.command(&["sh", "-c", &script, "sh"]).spawn().unwrap());
    let mut client = Raw::connect(&path);
    client.socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(client.alive());
    assert!(!session.socket("virtqemud-sock").exists());
}
