//! The command line.

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

/// The options: letter, word, whether an argument follows, its description.
const OPTIONS: [(char, &str, Option<&str>, &str); 7] = [
    ('h', "help", None, "Display program help"),
    ('v', "verbose", None, "Verbose messages"),
    ('d', "daemon", None, "Run as a daemon & write PID file"),
    ('t', "timeout", Some("secs"), "Exit after timeout period"),
    ('f', "config", Some("file"), "Configuration file"),
    ('V', "version", None, "Display version information"),
    ('p', "pid-file", Some("file"), "Change name of PID file"),
];

/// Reads the words after the program's name, in the manner of getopt_long(3).
pub fn parse(program: &str, words: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut words = words.into_iter();
    let mut options = Options::default();
    let mut extra = false;
    let wrong = |message: String| Parsed::Wrong { message: format!("{program}: {message}"), usage: true };
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        if text == "--" {
            extra |= words.next().is_some();
            break;
        }
        let mut found: Vec<(char, Option<OsString>)> = Vec::new();
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (long, None),
            };
            let fitting: Vec<_> = OPTIONS.iter().filter(|option| option.1.starts_with(name)).collect();
            let exact = OPTIONS.iter().find(|option| option.1 == name);
            let option = match (exact, fitting.as_slice()) {
                (Some(option), _) => option,
                (None, [option]) => *option,
                (None, []) => return wrong(format!("unrecognized option '--{name}'")),
                (None, several) => {
                    let names: Vec<_> = several.iter().map(|option| format!("'--{}'", option.1)).collect();
                    let names = names.join(" ");
                    return wrong(format!("option '--{name}' is ambiguous; possibilities: {names}"));
                }
            };
            let value = match (option.2, value) {
                (None, Some(_)) => {
                    return wrong(format!("option '--{}' doesn't allow an argument", option.1));
                }
                (None, None) => None,
                (Some(_), Some(value)) => Some(value),
                (Some(_), None) => match words.next() {
                    Some(value) => Some(value),
                    None => return wrong(format!("option '--{}' requires an argument", option.1)),
                },
            };
            found.push((option.0, value));
        } else if text.len() > 1 && text.starts_with('-') {
            for (at, letter) in text.char_indices().skip(1) {
                let Some(option) = OPTIONS.iter().find(|option| option.0 == letter) else {
                    return wrong(format!("invalid option -- '{letter}'"));
                };
                if option.2.is_none() {
                    found.push((letter, None));
                    continue;
                }
                let rest = &text[at + letter.len_utf8()..];
                let value = if rest.is_empty() { words.next() } else { Some(rest.into()) };
                let Some(value) = value else {
                    return wrong(format!("option requires an argument -- '{letter}'"));
                };
                found.push((letter, Some(value)));
                break;
            }
        } else {
            extra = true;
        }
        for (letter, value) in found {
            match (letter, value) {
                ('h', _) => return Parsed::Help,
                ('V', _) => return Parsed::Version,
                ('v', _) => options.verbose = true,
                ('d', _) => options.daemon = true,
                ('t', Some(value)) => match seconds(&value.to_string_lossy()) {
                    Some(seconds) => options.timeout = seconds,
                    None => return Parsed::WrongTimeout,
                },
                ('f', value) => options.config = value.map(PathBuf::from),
                ('p', value) => options.pid_file = value.map(PathBuf::from),
                _ => {}
            }
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
    for (letter, word, argument, description) in OPTIONS {
        let argument = argument.map(|name| format!(" <{name}>")).unwrap_or_default();
        text.push_str(&format!("  {:<22} {description}\n", format!("-{letter} | --{word}{argument}")));
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
