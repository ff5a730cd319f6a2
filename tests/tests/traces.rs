//! What libvirt's clients and a daemon say to each other, with libvirt's own daemon and with ours: the same calls, the
//! same answers, the same errors and events.

#![forbid(unsafe_code)]

use blackbox::raw_client::REMOTE;
use blackbox::recorder::{Passed, Recorder};
use blackbox::virtqemud::{self, Daemon, SCENE};
use blackbox::{compare, or_skip, paths};
use rpc::protocol::{self, KEEPALIVE_PROGRAM, types::WireError};
use rpc::xdr::from_bytes;
use std::fmt::Write as _;
use std::path::PathBuf;

fn folder() -> PathBuf {
    paths::repository().join("tests/traces")
}

/// The lines of a file in the folder, without comments.
fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(name)).expect("a file of the repository");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Clients that watch something of long duration ask about it as often as there is time.
const WATCHING: &[&str] = &["DOMAIN_GET_JOB_INFO"];
/// Procedures whose answers begin with a number of things.
const COUNTED: &[&str] = &["LIST_ALL", "STATS", "PARAMETERS", "GET_MESSAGES", "MODEL_NAMES"];

/// One message of a conversation; none for what is of no interest.
fn line(passed: &Passed) -> Option<String> {
    const MESSAGE: u32 = 2;
    const STREAM: u32 = 3;
    let [program, _, number, kind, _, status] = passed.header;
    if program == KEEPALIVE_PROGRAM {
        return None;
    }
    let name = protocol::procedure(program, number).map_or("unknown", |row| row.name);
    if WATCHING.contains(&name) && program == REMOTE {
        return None;
    }
    let arrow = if passed.from_client { '>' } else { '<' };
    let word = |from_end: usize| {
        let at = passed.payload.len().checked_sub(4 * from_end)?;
        Some(u32::from_be_bytes(passed.payload.get(at..at + 4)?.try_into().ok()?))
    };
    Some(match (kind, status) {
        (MESSAGE, _) if name.ends_with("_LIFECYCLE") => format!("! {name} {:?} {:?}", word(2)?, word(1)?),
        (MESSAGE, _) => format!("! {name}"),
        (STREAM, status) => format!("{arrow} {name} stream, status {status}"),
        (_, 1) => {
            let error: WireError = from_bytes(&passed.payload).expect("an error");
            let text = error.message.unwrap_or_default();
            format!("{arrow} {name} error {} {} {}: {text}", error.code, error.domain, error.level)
        }
        _ if !passed.from_client && COUNTED.iter().any(|it| name.contains(it)) => {
            let count = passed.payload.get(..4).map(|bytes| bytes.try_into().map(u32::from_be_bytes));
            format!("{arrow} {name} {count:?}")
        }
        _ => format!("{arrow} {name}"),
    })
}

/// Conversations as text: of each connection calls and answers, and then what nobody asked for.
fn told(passed: &[Passed]) -> String {
    let mut text = String::new();
    let connections = passed.iter().map(|it| it.connection).max().map_or(0, |last| last + 1);
    for connection in 0..connections {
        let of = passed.iter().filter(|it| it.connection == connection);
        let (events, talk): (Vec<_>, Vec<_>) = of.filter_map(line).partition(|line| line.starts_with('!'));
        let _ = writeln!(text, "connection {connection}");
        // Data flows in pieces of any size, both ways at once.
        let (mut streams, talk): (Vec<_>, Vec<_>) =
            talk.into_iter().partition(|line| line.contains(" stream, "));
        streams.sort();
        streams.dedup();
        for line in talk.into_iter().chain(streams).chain(events) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn run(daemon: &Daemon, commands: &[String]) -> Vec<String> {
    daemon.put(&paths::repository().join("tests/virsh"));
    daemon.put(&folder());
    daemon.shell("truncate -s 1M disk.img disk2.img more.img cd.img");
    let recorder = Recorder::new(&daemon.inside(&format!("{SCENE}/trace")), &daemon.socket("-sock"));
    let one = |command: &String| {
        let uri = format!("qemu+unix:///system?socket={SCENE}/trace");
        daemon.shell(&format!("export LIBVIRT_DEFAULT_URI='{uri}'; {command}"));
        told(&recorder.take())
    };
    commands.iter().map(one).collect()
}

/// Every conversation is the original's, except where `tests/traces/different` gives a reason.
#[test]
fn clients_and_daemon_talk_as_with_the_original() {
    or_skip!(virtqemud::machines());
    or_skip!(virtqemud::find("virt-install"));
    let original = or_skip!(virtqemud::original());
    let commands = lines("commands");
    let [theirs, ours] = virtqemud::on_both(&original, Daemon::alone, |daemon| run(daemon, &commands));
    let outcomes: Vec<_> = commands.into_iter().zip(theirs.into_iter().zip(ours)).collect();
    for (command, (theirs, _)) in &outcomes {
        assert!(theirs.contains('>'), "{command}: nothing was said");
    }
    let wrong = compare::unexpected(&outcomes, &lines("different"));
    let scratch = paths::scratch(&blackbox::current_test());
    std::fs::write(scratch.join("differences"), &wrong).expect("the build directory is writable");
    assert!(wrong.is_empty(), "{wrong}");
}
