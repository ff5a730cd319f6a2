//! libvirt's command-line clients, used on libvirt's daemon and on ours: both sides print the same.

#![forbid(unsafe_code)]

use blackbox::daemons::{self, Daemon};
use blackbox::{or_skip, paths};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
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
    match line.chars().next() {
        Some('~') => without_numbers(&outcome),
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
fn run(program: &Path, log: &Path, lines: &[String]) -> Vec<String> {
    let daemon = Daemon::start(program, log).unwrap_or_else(|error| {
        panic!("{}: {error}\n{}", program.display(), std::fs::read_to_string(log).unwrap_or_default())
    });
    for entry in std::fs::read_dir(folder()).expect("the folder").flatten() {
        daemon.put(&entry.path()).expect("a file is copied");
    }
    daemon.shell(IMAGES).expect("images are made");
    let one = |line: &String| {
        let words = line.trim_start_matches(['~', '%', ' ']);
        let output = match words.strip_prefix('$') {
            Some(words) => daemon.shell(words),
            None => daemon.virsh(words),
        };
        outcome(line, &output.expect("a command runs"))
    };
    lines.iter().map(one).collect()
}

/// The lines between the common beginning and the common end: first the original's, then ours.
fn difference(theirs: &str, ours: &str) -> String {
    let (theirs, ours): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
    let same = theirs.iter().zip(&ours).take_while(|(theirs, ours)| theirs == ours).count();
    let (theirs, ours) = (&theirs[same..], &ours[same..]);
    let end = theirs.iter().rev().zip(ours.iter().rev()).take_while(|(theirs, ours)| theirs == ours).count();
    let part = |mark: char, lines: &[&str]| -> String {
        lines[..lines.len() - end].iter().map(|line| format!("{mark} {line}\n")).collect()
    };
    part('-', theirs) + &part('+', ours)
}

/// Every line's outcome is the original's, except where `tests/virsh/different` gives a reason; a line that is there
/// without need is an error.
#[test]
fn commands_print_what_they_print_with_the_original() {
    or_skip!(daemons::requirements());
    let original = or_skip!(daemons::original());
    let ours = paths::program("virtqemud", "TINAMOU_VIRTQEMUD").expect("virtqemud is built");
    let scratch = paths::scratch(&blackbox::current_test());
    let lines = lines("commands");
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(&original, &scratch.join("original"), &lines));
        let ours = run(&ours, &scratch.join("ours"), &lines);
        (theirs.join().expect("the original's side"), ours)
    });
    let known = self::lines("different");
    let (mut wrong, mut count) = (String::new(), 0);
    let mut idle: BTreeSet<&String> = known.iter().collect();
    for (line, (theirs, ours)) in lines.iter().zip(theirs.iter().zip(&ours)) {
        if theirs == ours {
            count += 1;
        } else if known.contains(line) {
            idle.remove(line);
        } else {
            let _ = writeln!(wrong, "== {line}\n{}", difference(theirs, ours));
        }
    }
    for line in idle {
        let _ = writeln!(wrong, "== {line}\nis equal, but listed as different");
    }
    println!("{count} of {} commands equal", lines.len());
    std::fs::write(scratch.join("differences"), &wrong).expect("the build directory is writable");
    assert!(wrong.is_empty(), "{wrong}");
}
