//! `qemu-vmsr-helper` from outside, as far as a host without RAPL can tell.
#![forbid(unsafe_code)]

use blackbox::{paths, skip};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(args: &[&str]) -> Output {
    let program = paths::program("qemu-vmsr-helper", "TINAMOU_VMSR_HELPER").expect("the program under test");
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_and_version_on_any_host() {
    for args in [["-h"], ["-V"], ["--help"], ["--version"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(String::from_utf8(output.stdout).unwrap().contains("qemu-vmsr-helper"));
    }
    let help = String::from_utf8(run(&["-h"]).stdout).unwrap();
    for option in ["--daemon", "--pidfile=PATH", "--socket=PATH", "--trace", "--user=USER", "--group=GROUP"] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn bad_command_lines() {
    for (args, text) in [
        (&["-k", "relative"][..], "socket path must be absolute"),
        (&["--user=no-such-user"], "invalid user 'no-such-user'"),
        (&["--group", "no-such-group"], "invalid group 'no-such-group'"),
        (&["-T", "bla=1"], "Invalid parameter 'bla'"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), format!("qemu-vmsr-helper: {text}\n"));
    }
    assert!(stderr(&run(&["--nope"])).contains("unrecognized option '--nope'"));
}

#[test]
fn a_host_without_rapl_is_told_so() {
    if Path::new("/sys/class/powercap/intel-rapl").exists() {
        skip!("this host has RAPL");
    }
    for args in [&[][..], &["--quiet", "--verbose"], &["-u", "root", "-g", "root"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).starts_with("qemu-vmsr-helper: "), "{}", stderr(&output));
    }
}
