//! `qemu-pr-helper` from outside: the same scripts against the original, where it is installed, and against ours.
#![forbid(unsafe_code)]

use blackbox::{paths, skip};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ORIGINAL: &str = "/usr/bin/qemu-pr-helper";

fn ours() -> PathBuf {
    paths::program("qemu-pr-helper", "TINAMOU_PR_HELPER").expect("the program under test")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ours, and the original where it is installed.
fn programs() -> Vec<PathBuf> {
    let original = Path::new(ORIGINAL);
    let mut all = vec![ours()];
    if original.exists() {
        all.push(original.into());
    } else {
        println!("SKIPPED {}: no {ORIGINAL} to compare with", blackbox::current_test());
    }
    all
}

/// A line of a process's `status`.
fn status(id: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    text.lines().find_map(|l| l.strip_prefix(key)).unwrap().trim_start_matches(':').trim().to_owned()
}

struct Helper {
    child: Child,
    socket: PathBuf,
}

impl Helper {
    fn start(program: &Path, socket: PathBuf, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.arg("-k").arg(&socket).args(args);
        Self::spawn(command, socket)
    }

    fn spawn(mut command: Command, socket: PathBuf) -> Self {
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spawn");
        let helper = Self { child, socket };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !fs::symlink_metadata(&helper.socket).is_ok_and(|m| m.file_type().is_socket()) {
            assert!(Instant::now() < deadline, "the socket never appeared");
            std::thread::sleep(Duration::from_millis(5));
        }
        helper
    }

    fn connect(&self) -> UnixStream {
        // The original's path exists before it listens.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
                    return stream;
                }
                Err(err) => assert!(Instant::now() < deadline, "{err}"),
            }
        }
    }

    fn greeted(&self) -> UnixStream {
        let mut stream = self.connect();
        let mut hello = [0xff; 4];
        stream.read_exact(&mut hello).unwrap();
        assert_eq!(hello, [0; 4]);
        stream.write_all(&[0; 4]).unwrap();
        stream
    }

    /// The helper's own child, which looks after multipath devices.
    fn multipath_process(&self) -> u32 {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.trim().parse().expect("one child")
    }

    /// SIGTERM, exit status and standard error.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(6);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "still there after SIGTERM");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let sent =
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    assert_eq!(sent, Ok(bytes.len()));
}

fn cdb(opcode: u8, action: u8, length: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, action);
    cdb[7..9].copy_from_slice(&length.to_be_bytes());
    cdb
}

/// All that comes until the stream ends or `count` bytes are there.
fn receive(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buf = [0; 4096];
    while bytes.len() < count {
        match stream.read(&mut buf) {
            Ok(n) if n > 0 => bytes.extend(&buf[..n]),
            _ => break,
        }
    }
    bytes
}

/// One conversation for each row of the protocol; what came back, by name.
fn conversations(helper: &Helper) -> Vec<(String, Vec<u8>)> {
    let mut results = Vec::new();
    let mut note = |name: &str, bytes| results.push((name.to_owned(), bytes));
    let mut devices = vec![("/dev/null", true), ("/dev/null", false)];
    if is_root() && Path::new("/dev/loop0").exists() {
        devices.extend([("/dev/loop0", true), ("/dev/loop0", false)]);
    }
    for (path, writable) in devices {
        let file = File::options().read(true).write(writable).open(path).unwrap();
        let fd = file.as_raw_fd();
        for (opcode, length) in [(0x5e, 8), (0x5e, 8192), (0x5e, 0), (0x5f, 24), (0x5f, 0), (0x5f, 8192)] {
            let mut s = helper.greeted();
            send(&s, &cdb(opcode, 0, length), &[fd]);
            if opcode == 0x5f {
                s.write_all(&vec![0; length.into()]).unwrap();
            }
            note(&format!("{path} {writable} {opcode:x} {length}"), receive(&mut s, 104));
        }
    }
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let fd = null.as_raw_fd();
    let read_keys = cdb(0x5e, 0, 8);

    let mut s = helper.greeted();
    send(&s, &read_keys[..3], &[]);
    std::thread::sleep(Duration::from_millis(20));
    send(&s, &read_keys[3..9], &[fd]);
    std::thread::sleep(Duration::from_millis(20));
    send(&s, &read_keys[9..], &[]);
    note("in pieces, descriptor in the middle", receive(&mut s, 104));

    let mut s = helper.greeted();
    send(&s, &read_keys, &[fd]);
    send(&s, &read_keys, &[fd]);
    note("pipelined", receive(&mut s, 208));

    let mut s = helper.greeted();
    send(&s, &read_keys, &[fd]);
    s.shutdown(Shutdown::Write).unwrap();
    note("half closed", receive(&mut s, 105));

    let mut s = helper.connect();
    send(&s, &[0; 4], &[fd]);
    send(&s, &read_keys, &[fd]);
    note("descriptor with the hello", receive(&mut s, 108));

    let mut s = helper.connect();
    s.write_all(&[0, 0, 0, 1]).unwrap();
    note("unknown feature", receive(&mut s, 5));

    for (name, bytes, fds) in [
        ("no descriptor", read_keys, &[][..]),
        ("two descriptors", read_keys, &[fd, fd]),
        ("TEST UNIT READY", [0; 16], &[fd]),
        ("INQUIRY", cdb(0x12, 0, 0), &[fd]),
        ("opcode ff", cdb(0xff, 0, 0), &[fd]),
        ("PR OUT of 8193", cdb(0x5f, 0, 8193), &[fd]),
        ("PR IN of 8193", cdb(0x5e, 0, 8193), &[fd]),
    ] {
        let mut s = helper.greeted();
        send(&s, &bytes, fds);
        note(name, receive(&mut s, 1));
    }

    let mut s = helper.greeted();
    send(&s, &read_keys[..8], &[fd]);
    std::thread::sleep(Duration::from_millis(20));
    send(&s, &read_keys[8..], &[fd]);
    note("a second descriptor later", receive(&mut s, 1));

    for (name, bytes) in [("EOF in CDB", &read_keys[..7]), ("EOF in parameters", &cdb(0x5f, 0, 24)[..])] {
        let mut s = helper.greeted();
        send(&s, bytes, &[fd]);
        s.shutdown(Shutdown::Write).unwrap();
        note(name, receive(&mut s, 1));
    }
    results
}

#[test]
fn protocol_as_the_original() {
    if !is_root() {
        skip!("needs root: the helpers drop privileges");
    }
    let folder = paths::scratch("pr_protocol");
    let mut results = Vec::new();
    for (index, program) in programs().iter().enumerate() {
        let helper = Helper::start(program, folder.join(format!("{index}.sock")), &[]);
        let result = conversations(&helper);
        let (status, stderr) = helper.stop();
        assert_eq!(status, Some(0));
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let mut lines: Vec<_> = stderr.lines().map(|l| l.replace(&name, "NAME")).collect();
        lines.sort();
        results.push((result, lines));
    }
    // Whether compared or not, the essence must hold.
    let ours: std::collections::BTreeMap<_, _> = results[0].0.iter().cloned().collect();
    assert_eq!(
        ours["/dev/null true 5e 8"][..24],
        [0, 0, 0, 2, 0, 0, 0, 0, 0x70, 0, 0xb, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 6, 0, 0]
    );
    assert_eq!(ours["pipelined"].len(), 208);
    assert_eq!(ours["half closed"].len(), 104);
    for closed in ["no descriptor", "two descriptors", "TEST UNIT READY", "PR OUT of 8193", "EOF in CDB"] {
        assert_eq!(ours[closed], [], "{closed}");
    }
    if let [mine, original] = &results[..] {
        for (mine, original) in mine.0.iter().zip(&original.0) {
            assert_eq!(mine, original);
        }
        assert_eq!(mine.1, original.1, "messages");
    }
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn bad_command_lines_as_the_original() {
    let long = format!("/tmp/{}", "a".repeat(104));
    let rows: &[&[&str]] = &[
        &["--foo"],
        &["-z"],
        &["-k"],
        &["--pidfile"],
        &["--verbose=3"],
        &["--v"],
        &["-k", "relative"],
        &["-k", ""],
        &["-k", "/nonexistent/x"],
        &["-k", "/tmp"],
        &["-k", &long],
        &["-u", "no-such-user"],
        &["-u", "99999999999"],
        &["-u", "0x10"],
        &["-u", ""],
        &["-g", "no-such-group"],
        &["operand", "-z"],
        &["-T", "enable=x*,bla=1"],
        &["-T", "events=/nonexistent"],
        &["-T", "nosuch", "-k", "z"],
        &["-T", "a*,b"],
    ];
    let programs = programs();
    for args in rows {
        let mut seen = Vec::new();
        for program in &programs {
            let output = run(program, args);
            let full = program.to_string_lossy().into_owned();
            let text = String::from_utf8(output.stderr).unwrap().replace(&full, "qemu-pr-helper");
            assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
            seen.push(text);
        }
        assert!(seen[0].starts_with("qemu-pr-helper:"), "{args:?}: {}", seen[0]);
        if let [mine, original] = &seen[..] {
            assert_eq!(mine, original, "{args:?}");
        }
    }
}

#[test]
fn help_version_and_trace_list() {
    let mut helps = Vec::new();
    for program in programs() {
        let output = run(&program, &["-h"]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap().replace(&*program.to_string_lossy(), "NAME");
        helps.push(text.split("\n\nSee <").next().unwrap().split("\n\nPart of").next().unwrap().to_owned());
        assert_eq!(run(&program, &["--vers"]).status.code(), Some(0));
    }
    assert!(helps[0].contains("-k, --socket=PATH"));
    if let [mine, original] = &helps[..] {
        assert_eq!(mine, original);
    }
    let list = String::from_utf8(run(&ours(), &["-T", "help"]).stdout).unwrap();
    for event in ["pr_conn_open", "pr_conn_close", "pr_request", "pr_in", "pr_out", "pr_outcome"] {
        assert!(list.lines().any(|l| l == event), "{event}");
    }
}

#[test]
fn traces_to_a_file_by_pattern_and_events_file() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_trace");
    let (log, events) = (folder.join("log"), folder.join("events"));
    fs::write(&events, "pr_conn_*\n-pr_conn_close\n").unwrap();
    let trace = format!("pr_[i]n,events={},file={}", events.display(), log.display());
    let bad = run(&ours(), &["-T", &trace, "-k", "z"]);
    assert!(String::from_utf8(bad.stderr).unwrap().contains("trace event 'pr_[i]n' does not exist"));
    let trace = trace.replace("pr_[i]n", "pr_?n");
    let helper = Helper::start(&ours(), folder.join("s"), &["-T", &trace, "-T", "pr_outcome"]);
    let null = File::open("/dev/null").unwrap();
    let mut s = helper.greeted();
    send(&s, &cdb(0x5e, 1, 16), &[null.as_raw_fd()]);
    assert_eq!(receive(&mut s, 104).len(), 104);
    drop(s);
    helper.stop();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("pr_conn_open pid="), "{text}");
    assert_eq!(lines[1..], ["pr_in service_action=1 length=16", "pr_outcome status=0x02 payload=0"]);
    // A file alone switches nothing on, and takes what another option switches on.
    fs::remove_file(&log).unwrap();
    let file = format!("file={}", log.display());
    for (more, wanted) in [(&[][..], 0), (&["-T", "pr_conn*"][..], 2)] {
        let args = [&["-T", &file], more].concat();
        let helper = Helper::start(&ours(), folder.join("s"), &args);
        drop(helper.greeted());
        std::thread::sleep(Duration::from_millis(300));
        helper.stop();
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), wanted, "{text}");
    }
}

#[test]
fn confined_after_start() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_confined");
    for user in [None, Some("65534")] {
        let args: Vec<&str> = user.map_or(vec![], |u| vec!["-u", u, "-g", u]);
        let helper = Helper::start(&ours(), folder.join("s"), &args);
        drop(receive(&mut helper.greeted(), 0));
        std::thread::sleep(Duration::from_millis(100));
        // CAP_SYS_RAWIO; the process for multipath devices also has CAP_SYS_ADMIN.
        let other = helper.multipath_process();
        for (id, kept) in [(helper.child.id(), "0000000000020000"), (other, "0000000000220000")] {
            assert_eq!(status(id, "CapEff"), kept);
            assert_eq!(status(id, "CapPrm"), kept);
            for none in ["CapBnd", "CapInh", "CapAmb"] {
                assert_eq!(status(id, none), "0000000000000000", "{none}");
            }
            assert_eq!(status(id, "NoNewPrivs"), "1");
            assert_eq!(status(id, "Seccomp"), "2");
            for ids in ["Uid", "Gid"] {
                let ids = status(id, ids);
                assert!(ids.split_whitespace().all(|id| id == user.unwrap_or("0")), "{ids}");
            }
            assert_eq!(status(id, "Groups"), "");
        }
        // Its one descriptor beside the standard streams and the signals: nothing of the server's.
        let held = fs::read_dir(format!("/proc/{other}/fd")).unwrap().count();
        assert_eq!(held, 5);
        assert_eq!(helper.stop().0, Some(0));
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::read_to_string(format!("/proc/{other}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < deadline, "the process for multipath devices stays");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn sockets_and_pid_files_of_others_are_left_alone() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_files");
    let (socket, pid) = (folder.join("s"), folder.join("pid"));
    // A stale socket is replaced.
    drop(UnixListener::bind(&socket).unwrap());
    let helper = {
        let mut command = Command::new(ours());
        command.arg("-k").arg(&socket).arg("-f").arg(&pid);
        Helper::spawn(command, socket.clone())
    };
    drop(helper.greeted());
    assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{}\n", helper.child.id()));
    assert_eq!(fs::metadata(&pid).unwrap().permissions().mode() & 0o777, 0o600);
    // One in use is refused, and a locked PID file, and neither hurts the first.
    let second = run(&ours(), &["-k", socket.to_str().unwrap()]);
    let text = format!("qemu-pr-helper: socket path '{}' is in use\n", socket.display());
    assert_eq!((second.status.code(), String::from_utf8(second.stderr).unwrap()), (Some(1), text));
    let other = folder.join("other");
    let third = run(&ours(), &["-k", other.to_str().unwrap(), "-f", pid.to_str().unwrap()]);
    let text = "qemu-pr-helper: Cannot lock pid file: Resource temporarily unavailable\n";
    assert_eq!((third.status.code(), String::from_utf8(third.stderr).unwrap().as_str()), (Some(1), text));
    assert!(!other.exists());
    drop(helper.greeted());
    // What took their place by the end stays.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "mine").unwrap();
    assert_eq!(helper.stop().0, Some(0));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    assert!(!pid.exists());
}

#[test]
fn the_longest_legal_path() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let mut path = format!("/tmp/tinamou-{}-", std::process::id());
    path.push_str(&"p".repeat(107 - path.len()));
    let helper = Helper::start(&ours(), path.clone().into(), &[]);
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
    assert!(!Path::new(&path).exists());
}

#[test]
fn goes_to_the_background() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_background");
    let (socket, pid) = (folder.join("s"), folder.join("pid"));
    let output = run(&ours(), &["-d", "-k", socket.to_str().unwrap(), "-f", pid.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // No waiting: the parent ends only once all is there.
    let daemon: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{daemon}/cwd")).unwrap(), Path::new("/"));
    drop(UnixStream::connect(&socket).unwrap());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon), nix::sys::signal::Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while socket.exists() || pid.exists() {
        assert!(Instant::now() < deadline, "socket and PID file stay");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn activation_by_the_service_manager() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_activation");
    let socket = folder.join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let start = |redirect: &str, count: u32, args: &str| {
        let mut command = Command::new("sh");
        let line = format!(
            "exec {redirect}; export LISTEN_PID=$$ LISTEN_FDS={count}; exec '{}' {args}",
            ours().display()
        );
        command.arg("-c").arg(line).stdin(listener.try_clone().map(std::os::fd::OwnedFd::from).unwrap());
        command.stderr(Stdio::piped());
        command
    };
    for (redirect, count, args, text) in [
        ("3<&-", 1, "", "Socket activation failed: invalid file descriptor fd = 3: Bad file descriptor"),
        (
            "3</dev/null",
            1,
            "",
            "Failed to use socket activation: Unable to query remote socket address: Socket operation on non-socket",
        ),
        ("3<&0", 1, "-k /tmp/x", "Unix socket can't be set when using socket activation"),
        ("3<&0 4<&0", 2, "", "qemu-pr-helper does not support socket activation with LISTEN_FDS > 1"),
    ] {
        let output = start(redirect, count, args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("qemu-pr-helper: {text}\n"));
    }
    let child = start("3<&0", 1, "").spawn().unwrap();
    let helper = Helper { child, socket: socket.clone() };
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
    assert!(socket.exists(), "the service manager's socket is not ours to remove");
}

/// User and system time of a process, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn rude_clients_hurt_nobody() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = paths::scratch("pr_rude");
    let socket = folder.join("s");
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n 64; exec '{}' -k '{}'", ours().display(), socket.display()));
    let helper = Helper::spawn(command, socket);
    let null = File::open("/dev/null").unwrap();
    let mut good = helper.greeted();
    // One that stops in the middle of a request, and far more silent ones than there are places.
    let mut half = helper.greeted();
    send(&half, &cdb(0x5e, 0, 8)[..5], &[null.as_raw_fd()]);
    let begun = Instant::now();
    let silent: Vec<_> = (0..60).map(|_| helper.connect()).collect();
    let before = ticks(helper.child.id());
    for _ in 0..20 {
        send(&good, &cdb(0x5e, 0, 8), &[null.as_raw_fd()]);
        assert_eq!(receive(&mut good, 104).len(), 104);
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = ticks(helper.child.id()) - before;
    assert!(spent <= 10, "{spent} ticks of CPU time in a second");
    assert_eq!(receive(&mut half, 1), [], "the half request is sent away");
    assert!(begun.elapsed() < Duration::from_secs(13));
    drop(silent);
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
}

#[test]
fn a_silent_client_is_sent_away_and_an_idle_one_stays() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let helper = Helper::start(&ours(), paths::scratch("pr_silent").join("s"), &[]);
    let mut idle = helper.greeted();
    let mut silent = helper.connect();
    let begun = Instant::now();
    // Its hello, and then the end.
    assert_eq!(receive(&mut silent, 5), [0; 4]);
    let after = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&after), "{after:?}");
    let null = File::open("/dev/null").unwrap();
    send(&idle, &cdb(0x5e, 0, 8), &[null.as_raw_fd()]);
    assert_eq!(receive(&mut idle, 104).len(), 104);
    let (status, text) = helper.stop();
    assert_eq!(status, Some(0));
    assert!(text.contains("took too long"), "{text}");
}

/// A folder that every user can get to.
struct Public(PathBuf);

impl Public {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tinamou-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that keeps connections; how many were let in.
struct Holder(Child);

impl Holder {
    fn start(socket: &Path, number: usize, user: u32) -> (Self, usize) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pr-client"))
            .arg(socket)
            .args(["--user", &user.to_string(), "--hold", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        (Self(child), line.trim().parse().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn caps_by_process_by_user_and_in_total() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    if !Command::new("setpriv").arg("--version").output().is_ok_and(|o| o.status.success()) {
        skip!("needs setpriv to start a helper that cannot raise its limit");
    }
    let folder = Public::new("caps");
    let socket = folder.0.join("s");
    let mut command = Command::new("sh");
    // 64 descriptors are 20 clients: 10 of one process, 15 of one user other than root.
    command.arg("-c").arg(format!(
        "umask 0; ulimit -n 64; exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource '{}' -k '{}'",
        ours().display(),
        socket.display()
    ));
    let helper = Helper::spawn(command, socket.clone());
    let (one, let_in) = Holder::start(&socket, 12, 65534);
    assert_eq!(let_in, 10, "of one process");
    let (two, let_in) = Holder::start(&socket, 8, 65534);
    assert_eq!(let_in, 5, "of one user");
    let (three, let_in) = Holder::start(&socket, 4, 65533);
    assert_eq!(let_in, 4, "another user");
    let before = ticks(helper.child.id());
    let (four, let_in) = Holder::start(&socket, 4, 65533);
    assert_eq!(let_in, 1, "in total");
    assert!(ticks(helper.child.id()) - before <= 30, "waiting takes CPU time");
    drop((one, two, three, four));
    drop(helper.greeted());
    let (status, text) = helper.stop();
    assert_eq!(status, Some(0));
    assert!(text.contains("Too many connections from process "), "{text}");
}

#[test]
fn at_the_descriptor_limit_nothing_turns_in_circles() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let helper = Helper::start(&ours(), paths::scratch("pr_limit").join("s"), &[]);
    drop(helper.greeted());
    // Below what the caps were made for, so that accepting itself fails.
    let limited =
        Command::new("prlimit").args(["--nofile=20", "--pid", &helper.child.id().to_string()]).status();
    if !limited.is_ok_and(|status| status.success()) {
        skip!("needs prlimit to limit the running helper");
    }
    let mut good = helper.greeted();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", helper.child.id())).unwrap().count();
    let alone = descriptors();
    let many: Vec<_> = (0..40).map(|_| helper.connect()).collect();
    std::thread::sleep(Duration::from_millis(200));
    let before = ticks(helper.child.id());
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(helper.child.id()) - before;
    assert!(spent <= 10, "{spent} ticks of CPU time in two idle seconds");
    // With all descriptors taken there is none for a device either; once some are free, there is.
    drop(many);
    let begin = Instant::now();
    while descriptors() > alone {
        assert!(begin.elapsed() < Duration::from_secs(10), "the clients are not all let go");
        std::thread::sleep(Duration::from_millis(5));
    }
    let null = File::open("/dev/null").unwrap();
    send(&good, &cdb(0x5e, 0, 8), &[null.as_raw_fd()]);
    assert_eq!(receive(&mut good, 104).len(), 104);
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
}

#[test]
fn sixty_four_clients_get_alike() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let helper = Helper::start(&ours(), paths::scratch("pr_fair").join("s"), &[]);
    let mut streams: Vec<_> = (0..64).map(|_| helper.greeted()).collect();
    let null = File::open("/dev/null").unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    let mut counts: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = streams
            .iter_mut()
            .map(|stream| {
                let null = &null;
                scope.spawn(move || {
                    let mut count = 0;
                    while Instant::now() < end {
                        send(stream, &cdb(0x5e, 0, 8), &[null.as_raw_fd()]);
                        assert_eq!(receive(stream, 104).len(), 104);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    counts.sort_unstable();
    assert!(counts[0] > 0 && counts[0] * 5 >= counts[32], "{counts:?}");
    assert_eq!(helper.stop().0, Some(0));
}

#[test]
fn memory_stays_bounded_with_hundreds_of_half_requests() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let helper = Helper::start(&ours(), paths::scratch("pr_memory").join("s"), &[]);
    let null = File::open("/dev/null").unwrap();
    let clients: Vec<_> = (0..300)
        .map(|_| {
            let stream = helper.greeted();
            send(&stream, &cdb(0x5f, 0, 8192)[..9], &[null.as_raw_fd()]);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let resident = status(helper.child.id(), "VmRSS");
    let kilobytes: u64 = resident.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 16 << 10, "{resident}");
    drop(clients);
    assert_eq!(helper.stop().0, Some(0));
}

#[test]
fn the_socket_goes_or_stays_under_another_user() {
    if !is_root() {
        skip!("needs root: the helper drops privileges");
    }
    let folder = Public::new("user");
    let socket = folder.0.join("s");
    let args = ["-u", "65534", "-g", "65534"];
    // In root's folder it has to stay, without a word, and the next start replaces it.
    for _ in 0..2 {
        let helper = Helper::start(&ours(), socket.clone(), &args);
        drop(helper.greeted());
        let (status, text) = helper.stop();
        assert_eq!((status, text.as_str()), (Some(0), ""));
        assert!(socket.exists());
    }
    let helper = Helper::start(&ours(), socket.clone(), &[]);
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
    assert!(!socket.exists());
    // In the user's own folder it goes.
    let own = folder.0.join("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).unwrap();
    let helper = Helper::start(&ours(), own.join("s"), &args);
    drop(helper.greeted());
    assert_eq!(helper.stop().0, Some(0));
    assert!(!own.join("s").exists());
}

#[test]
fn without_the_right_to_drop_privileges() {
    if !is_root() {
        skip!("needs root to become somebody else");
    }
    let folder = Public::new("unprivileged");
    std::os::unix::fs::chown(&folder.0, Some(65534), Some(65534)).unwrap();
    let mut seen = Vec::new();
    for (index, program) in programs().iter().enumerate() {
        let copy = folder.0.join(index.to_string()).join("qemu-pr-helper");
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(program, &copy).unwrap();
        let socket = folder.0.join("s");
        let mut command = Command::new(&copy);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let output = command.arg("-k").arg(&socket).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        // Ours leaves nothing behind; the original its socket.
        assert_eq!(socket.exists(), index > 0);
        seen.push(String::from_utf8(output.stderr).unwrap());
    }
    assert_eq!(seen[0], "qemu-pr-helper: Failed to drop privileges: Operation not permitted\n");
    assert!(seen.iter().all(|text| *text == seen[0]), "{seen:?}");
}
