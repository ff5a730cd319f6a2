//! The command line.

use getopt::{Complete, Item, Opt, Parser, Program, Section};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `-v`: information is logged too.
    pub verbose: bool,
    /// `-d`: in the background.
    pub daemon: bool,
    /// `-t`: seconds without clients and guests until the end; 0: none.
    pub timeout: u32,
    /// `-f`.
    pub config: Option<PathBuf>,
    /// `-p`.
    pub pid_file: Option<PathBuf>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run.
    Run(Options),
    /// Show the version.
    Version,
    /// Show the usage.
    Help,
    /// The command line is wrong: the message, if there is one beside the usage, and whether the usage is shown.
    Wrong {
        /// What is wrong.
        message: String,
        /// The usage follows.
        usage: bool,
    },
    /// `-t` is no number of seconds.
    WrongTimeout,
}

const fn option(
    short: char,
    long: &'static str,
    arg: Option<&'static str>,
    help: &'static [&'static str],
    manual: &'static str,
) -> Opt {
    let complete = if arg.is_some() { Complete::Files } else { Complete::Nothing };
    Opt { short, long, arg, help, manual, complete }
}

/// The program.
pub const PROGRAM: Program = Program {
    name: "virtqemud",
    operands: "",
    summary: "libvirt QEMU management daemon",
    groups: &[&[
        option('h', "help", None, &["Display program help"], "Display the usage and exit."),
        option(
            'v',
            "verbose",
            None,
            &["Verbose messages"],
            "Log information too, not only warnings and errors.",
        ),
        option(
            'd',
            "daemon",
            None,
            &["Run as a daemon & write PID file"],
            "Run in the background. The command ends once the sockets listen.",
        ),
        Opt {
            complete: Complete::Nothing,
            ..option(
                't',
                "timeout",
                Some("secs"),
                &["Exit after timeout period"],
                "Exit after so many seconds without a client and without a running guest. 0, the default, means never.",
            )
        },
        option(
            'f',
            "config",
            Some("file"),
            &["Configuration file"],
            "Read this file instead of the default one. It must exist; the default one may be absent.",
        ),
        option(
            'V',
            "version",
            None,
            &["Display version information"],
            "Display version information and exit.",
        ),
        option(
            'p',
            "pid-file",
            Some("file"),
            &["Change name of PID file"],
            "Write the process's number to this file, and keep it locked while the daemon runs.",
        ),
    ]],
    closing: &[],
    section: 8,
    description: &[
        "Manages QEMU's virtual machines for libvirt's clients, such as virsh, virt-install and virt-manager: it defines, starts, watches and changes them. Unmodified clients connect to its Unix sockets with the URI qemu:///system, or qemu:///session for a daemon that an ordinary user runs.",
        "Its configuration, definitions and state are the files that libvirt's own virtqemud uses.",
        "Guests go on running when the daemon ends, and are found again when it starts.",
        "A service manager may pass the listening sockets (socket activation), named virtqemud.socket, virtqemud-ro.socket and virtqemud-admin.socket; those that are not passed are not served then.",
    ],
    sections: &[
        Section {
            title: "SIGNALS",
            paragraphs: &[
                "SIGTERM, SIGINT and SIGQUIT end the daemon; its guests go on. SIGHUP lets it read definitions that were changed on disk.",
            ],
        },
        Section {
            title: "FILES",
            paragraphs: &[
                "As root: /etc/libvirt/virtqemud.conf and /etc/libvirt/qemu.conf (configuration), /etc/libvirt/qemu (definitions), /run/libvirt/virtqemud-sock, virtqemud-sock-ro and virtqemud-admin-sock (sockets), /run/virtqemud.pid.",
                "As another user: the same names below $XDG_CONFIG_HOME/libvirt and $XDG_RUNTIME_DIR/libvirt, without the read-only socket.",
            ],
        },
        Section {
            title: "EXIT STATUS",
            paragraphs: &[
                "0 after a signal or the timeout, and after --help or --version; 1 for wrong options and configuration; other values, up to 11, name the step of the start that failed.",
            ],
        },
    ],
    see_also: &["virsh(1)", "virt-admin(1)", "qemu(1)", "systemd.socket(5)"],
};

/// Reads the words after the program's name, in the manner of getopt_long(3).
pub fn parse(program: &str, words: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut options = Options::default();
    let mut extra = false;
    for item in Parser::new(&PROGRAM, words) {
        match item {
            Err(mistake) => return Parsed::Wrong { message: format!("{program}: {mistake}"), usage: true },
            Ok(Item::Operand(_)) => extra = true,
            Ok(Item::Option('h', _)) => return Parsed::Help,
            Ok(Item::Option('V', _)) => return Parsed::Version,
            Ok(Item::Option('v', _)) => options.verbose = true,
            Ok(Item::Option('d', _)) => options.daemon = true,
            Ok(Item::Option('t', value)) => match seconds(&value.unwrap_or_default().to_string_lossy()) {
                Some(seconds) => options.timeout = seconds,
                None => return Parsed::WrongTimeout,
            },
            Ok(Item::Option('f', value)) => options.config = value.map(PathBuf::from),
            Ok(Item::Option('p', value)) => options.pid_file = value.map(PathBuf::from),
            Ok(Item::Option(letter, _)) => unreachable!("-{letter} is not in the table"),
        }
    }
    if extra {
        let message = format!("{program}: unexpected, non-option, command line arguments");
        return Parsed::Wrong { message, usage: false };
    }
    Parsed::Run(options)
}

/// A number of seconds that fits into 32 bits of milliseconds.
fn seconds(text: &str) -> Option<u32> {
    let digits = text.trim_start().strip_prefix('+').unwrap_or(text.trim_start());
    let seconds: u32 = digits.parse().ok()?;
    (seconds <= i32::MAX.cast_unsigned() / 1000).then_some(seconds)
}

/// The usage, for the system's daemon or a user's own.
pub fn usage(program: &str, privileged: bool) -> String {
    let mut text = format!("\nUsage:\n  {program} [options]\n\nOptions:\n");
    for option in PROGRAM.options() {
        let argument = option.arg.map(|name| format!(" <{name}>")).unwrap_or_default();
        let words = format!("-{} | --{}{argument}", option.short, option.long);
        text.push_str(&format!("  {words:<22} {}\n", option.help.concat()));
    }
    let (config, run, pid) = if privileged {
        ("/etc", "/run", "/run")
    } else {
        ("$XDG_CONFIG_HOME", "$XDG_RUNTIME_DIR", "$XDG_RUNTIME_DIR/libvirt")
    };
    text.push_str("\nlibvirt management daemon:\n\n  Default paths:\n\n");
    text.push_str("    Configuration file (unless overridden by -f):\n");
    text.push_str(&format!("      {config}/libvirt/virtqemud.conf\n\n"));
    text.push_str(&format!("    Sockets:\n      {run}/libvirt/virtqemud-sock\n"));
    if privileged {
        text.push_str(&format!("      {run}/libvirt/virtqemud-sock-ro\n"));
    }
    text.push_str(&format!("\n    PID file (unless overridden by -p):\n      {pid}/virtqemud.pid\n\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Parsed {
        parse("virtqemud", words.iter().map(OsString::from))
    }

    #[test]
    fn packaged_files_are_current() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging"));
        PROGRAM.check_generated(folder, std::env::var_os("UPDATE").is_some()).unwrap();
    }

    #[test]
    fn options_are_read() {
        let all = Options {
            verbose: true,
            daemon: true,
            timeout: 7,
            config: Some("/c".into()),
            pid_file: Some("/p".into()),
        };
        for words in [
            &["-vd", "-t", "7", "-f/c", "--pid-file=/p"][..],
            &["--verbose", "--daemon", "--timeout", "7", "--conf", "/c", "-p", "/p"],
        ] {
            assert_eq!(run(words), Parsed::Run(all.clone()));
        }
        assert_eq!(run(&["-vV"]), Parsed::Version);
        assert_eq!(run(&["--help"]), Parsed::Help);
        for bad in ["x", "-1", "2147484", "1s"] {
            assert_eq!(run(&["-t", bad]), Parsed::WrongTimeout, "{bad}");
        }
    }

    #[test]
    fn mistakes_are_told_as_getopt_does() {
        for (words, message, usage) in [
            (&["--bogus"][..], "virtqemud: unrecognized option '--bogus'", true),
            (&["-x"], "virtqemud: invalid option -- 'x'", true),
            (&["-t"], "virtqemud: option requires an argument -- 't'", true),
            (&["--config"], "virtqemud: option '--config' requires an argument", true),
            (&["--daemon=1"], "virtqemud: option '--daemon' doesn't allow an argument", true),
            (
                &["--ver"],
                "virtqemud: option '--ver' is ambiguous; possibilities: '--verbose' '--version'",
                true,
            ),
            (&["word"], "virtqemud: unexpected, non-option, command line arguments", false),
        ] {
            let message = message.to_owned();
            assert_eq!(run(words), Parsed::Wrong { message, usage }, "{words:?}");
        }
    }

    #[test]
    fn the_usage_names_the_paths() {
        let text = usage("p", true);
        assert!(text.starts_with(
            "\nUsage:\n  p [options]\n\nOptions:\n  -h | --help            Display program help\n"
        ));
        assert!(text.contains("      /run/libvirt/virtqemud-sock-ro\n"));
        assert!(!usage("p", false).contains("-sock-ro"));
    }
}
