//! The error contract of the command line: what the reference emulator says on standard error, and the exit
//! status, ours must say too.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::compare::{Outcome, difference};
use blackbox::emulator::Emulator;

const LATER: Duration = Duration::from_secs(30);

/// Takes away what differs between versions of the reference: the version in machine names, and the name
/// that newer ones add to a message.
fn mask_versions(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = ["pc-i440fx-", "pc-q35-"].iter().filter_map(|p| Some(rest.find(p)? + p.len())).min()
    {
        masked.push_str(&rest[..at]);
        masked.push('N');
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    masked.push_str(rest);
    let lines = masked.lines().map(|line| match line.split_once("unsupported machine type") {
        Some((before, _)) => format!("{before}unsupported machine type\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// Runs both with the rows of arguments (words divided by blanks) and reports every row that differs.
fn compare(rows: &[&str]) {
    let reference = blackbox::or_skip!(Emulator::reference());
    let ours = Emulator::ours().expect("the emulator");
    let mut report = String::new();
    for row in rows {
        let mut arguments = vec!["-nodefaults", "-display", "none", "-S"];
        arguments.extend(row.split(' '));
        let expected = Outcome::of(&reference, &arguments, LATER).expect("the reference ends by itself");
        match Outcome::of(&ours, &arguments, LATER) {
            Ok(found) => {
                let difference = difference(&mask_versions(&expected.errors), &mask_versions(&found.errors));
                if !difference.is_empty() || found.status != expected.status {
                    report.push_str(&format!(
                        "{row}: status {}, expected {}\n{difference}",
                        found.status, expected.status
                    ));
                }
            }
            Err(error) => report.push_str(&format!("{row}: {error}\n")),
        }
    }
    assert!(report.is_empty(), "- is what the reference says, + what ours says:\n{report}");
}

#[test]
fn versions_are_masked() {
    assert_eq!(mask_versions("'pc-i440fx-7.2' is\n"), "'pc-i440fx-N' is\n");
    assert_eq!(
        mask_versions("p: unsupported machine type: \"x\"\nUse\n"),
        "p: unsupported machine type\nUse\n"
    );
}

#[test]
fn options() {
    compare(&[
        "-foo",
        "--foo",
        "-m",
        "-append",
        "x.img",
        "-prom-env a=b",
        "-semihosting",
        "-old-param",
        "-g 1x1x8",
        "-dfilter foo",
        "-dfilter 0x1000",
        "-dfilter x+1",
        "-dfilter 0x1000+",
        "-dfilter 0x2000..0x1000",
        "-dfilter 0x1000+0x10,5-10",
    ]);
}

#[test]
fn machines_processors_accelerators() {
    compare(&[
        "-M foo",
        "-machine type=foo",
        "-cpu foo",
        "-accel foo",
        "-accel tcg,thread=foo",
        "-smp 300",
        "-smp foo",
        "-smp 2,cores=3",
        "-m foo",
        "-uuid foo",
        "-rtc foo=bar",
        "-msg foo=on",
        "-name a,foo=b",
        "-action panic=foo",
    ]);
}

#[test]
fn devices_and_objects() {
    compare(&[
        "-device foo",
        "-device virtio-rng-pci,foo=1",
        "-device {\"driver\":\"foo\"}",
        "-device {",
        "-object foo,id=a",
        "-object rng-builtin",
    ]);
}

#[test]
fn back_ends() {
    compare(&[
        "-drive file=/nonexistent/X",
        "-blockdev foo,node-name=a",
        "-blockdev raw",
        "-chardev foo,id=c",
        "-chardev null",
        "-chardev file,id=a",
        "-serial foo",
        "-monitor foo",
        "-display foo",
        "-pidfile /nonexistent/x",
    ]);
}

#[test]
fn kernels() {
    compare(&["-append x", "-initrd x"]);
}
