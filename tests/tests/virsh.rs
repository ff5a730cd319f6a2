//! libvirt's command-line clients, used on libvirt's daemon and on ours: both sides print the same.

#![forbid(unsafe_code)]

use blackbox::virtqemud::{self, Daemon};
use blackbox::{compare, or_skip, paths};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Output;

const IMAGES: &str = "truncate -s 1M disk.img && truncate -s 1M disk2.img more.img cd.img";

fn folder() -> PathBuf {
    paths::repository().join("tests/virsh")
}

/// The lines of a file in the folder, without comments.
fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(name)).expect("a file of the repository");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// What one line printed, and how it ended.
fn outcome(line: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let mut outcome = text(&output.stdout);
    let errors = text(&output.stderr);
    if !errors.is_empty() {
        let _ = write!(outcome, "\n{errors}");
    }
    let _ = write!(outcome, "\n\n[{}]", output.status.code().unwrap_or(-1));
    // Versions and names of daemons differ.
    let outcome = outcome.replace("10.0.0", "9.0.0").replace("libvirtd", "virtqemud");
    match line.chars().next() {
        Some('~') => without_numbers(&outcome),
        Some('&') => without_some_numbers(&outcome),
        Some('%') => sorted_paragraphs(&outcome),
        _ => outcome,
    }
}

/// The original keeps some lists in no order.
fn sorted_paragraphs(text: &str) -> String {
    let mut paragraphs: Vec<&str> = text.split("\n\n").map(str::trim).collect();
    paragraphs.sort_unstable();
    paragraphs.join("\n\n")
}

/// Behind these words stand numbers of another moment or another place.
const MARKS: &[&str] = &[
    "CPU time:       ",
    "/dev/pts/",
    "port='",
    "127.0.0.1:",
    "cpu.time=",
    "cpu.user=",
    "cpu.system=",
    "balloon.rss=",
    ".time=",
    ".wait=",
    ".delay=",
    ".times=",
    ".reqs=",
    ".bytes=",
    "rd_total_times ",
    "rss ",
    "CPU:            ",
    "\"id\": \"libvirt-",
];

/// Replaces the numbers behind [`MARKS`]; counters of KVM, which these guests do not use, and the times of processors
/// that have hardly run are left out.
fn without_some_numbers(text: &str) -> String {
    let mut out = text.to_owned();
    for mark in MARKS {
        let mut from = 0;
        while let Some(at) = out[from..].find(mark) {
            let start = from + at + mark.len();
            let length =
                out[start..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(out.len() - start);
            out.replace_range(start..start + length, "N");
            from = start + 1;
        }
    }
    let kept = |line: &&str| !line.contains("haltpoll") && !line.starts_with("CPU time");
    out.lines().filter(kept).collect::<Vec<_>>().join("\n")
}

/// Digits become one `N`, and the blanks around them one blank: columns are as wide as their numbers.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let mut masked = String::new();
            for character in word.chars() {
                match character {
                    '0'..='9' if masked.ends_with('N') => {}
                    '0'..='9' => masked.push('N'),
                    _ => masked.push(character),
                }
            }
            words.push(masked.replace("N.N", "N"));
        }
        let _ = writeln!(result, "{}", words.join(" "));
    }
    result
}

/// Runs all the lines on a daemon.
fn run(daemon: &Daemon, lines: &[String]) -> Vec<String> {
    daemon.put(&folder());
    daemon.shell(IMAGES);
    let one = |line: &String| {
        let words = line.trim_start_matches(['~', '%', '&', ' ']);
        let output = match words.strip_prefix('$') {
            Some(words) => daemon.shell(words),
            None => daemon.virsh(words),
        };
        outcome(line, &output)
    };
    lines.iter().map(one).collect()
}

/// Every line's outcome is the original's, except where `tests/virsh/different` gives a reason; a line that is there
/// without need is an error.
#[test]
fn commands_print_what_they_print_with_the_original() {
    or_skip!(virtqemud::machines());
    let original = or_skip!(virtqemud::original());
    let lines = lines("commands");
    let [theirs, ours] = virtqemud::on_both(&original, Daemon::alone, |daemon| run(daemon, &lines));
    let outcomes: Vec<_> = lines.into_iter().zip(theirs.into_iter().zip(ours)).collect();
    let wrong = compare::unexpected(&outcomes, &self::lines("different"));
    let scratch = paths::scratch(&blackbox::current_test());
    std::fs::write(scratch.join("differences"), &wrong).expect("the build directory is writable");
    assert!(wrong.is_empty(), "{wrong}");
}
