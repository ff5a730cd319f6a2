//! The command line and start-up sequence that QEMU's helpers share.

use crate::{activation, detach, listen, log, os_text, pidfile, privileges, signals};
pub use getopt::{Complete, Opt};
use getopt::{Item, Parser, Program};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tracepoint::{Applied, Event, Options, OptionsError};

/// `-h`, `-V`.
pub const INFO_OPTIONS: &[Opt] = &[
    Opt {
        short: 'h',
        long: "help",
        arg: None,
        help: &["display this help and exit"],
        manual: "Display help and exit.",
        complete: Complete::Nothing,
    },
    Opt {
        short: 'V',
        long: "version",
        arg: None,
        help: &["output version information and exit"],
        manual: "Display version information and exit.",
        complete: Complete::Nothing,
    },
];

/// The options about places and the process of the daemon with this name, and where it puts its socket and PID file
/// unless told otherwise.
#[macro_export]
macro_rules! options_of_daemon {
    ($name:literal) => {
        const SOCKET: &str = concat!("/var/run/", $name, ".sock");
        const PIDFILE: &str = concat!("/var/run/", $name, ".pid");
        const PROCESS_OPTIONS: &[$crate::app::Opt] = &[
            $crate::app::DAEMON_OPTION,
            $crate::app::Opt {
                short: 'f',
                long: "pidfile",
                arg: Some("PATH"),
                help: &["PID file when running as a daemon", concat!("(default '/var/run/", $name, ".pid')")],
                manual: concat!(
                    "PID file. Written with this option or with --daemon, and removed at exit. Default: /var/run/",
                    $name,
                    ".pid"
                ),
                complete: $crate::app::Complete::Files,
            },
            $crate::app::Opt {
                short: 'k',
                long: "socket",
                arg: Some("PATH"),
                help: &["path to the unix socket", concat!("(default '/var/run/", $name, ".sock')")],
                manual: concat!(
                    "Absolute path of the Unix socket to listen on. A stale socket is replaced; one on which a ",
                    "process listens is refused. Default: /var/run/",
                    $name,
                    ".sock"
                ),
                complete: $crate::app::Complete::Files,
            },
            $crate::app::TRACE_OPTION,
            $crate::app::USER_OPTION,
            $crate::app::GROUP_OPTION,
        ];
    };
}

/// The rows both helpers share after the two paths, as a macro so that each table stays one constant.
pub const TRACE_OPTION: Opt = Opt {
    short: 'T',
    long: "trace",
    arg: Some("[[enable=]<pattern>][,events=<file>][,file=<file>]"),
    help: &["specify tracing options"],
    manual: "Switch on the trace events that match PATTERN (wildcards * and ?), and those matching the patterns in the events FILE, one a line. A leading - switches off. The trace goes to standard error or to the file given by file=. The pattern help lists all events. May be repeated.",
    complete: Complete::Nothing,
};
/// `-u`.
pub const USER_OPTION: Opt = Opt {
    short: 'u',
    long: "user",
    arg: Some("USER"),
    help: &["user to drop privileges to"],
    manual: "User (name or number) to run as once everything is open.",
    complete: Complete::Users,
};
/// `-g`.
pub const GROUP_OPTION: Opt = Opt {
    short: 'g',
    long: "group",
    arg: Some("GROUP"),
    help: &["group to drop privileges to"],
    manual: "Group (name or number) to run as once everything is open.",
    complete: Complete::Groups,
};
/// `-d`.
pub const DAEMON_OPTION: Opt = Opt {
    short: 'd',
    long: "daemon",
    arg: None,
    help: &["run in the background"],
    manual: "Run in the background; the command ends once the daemon is ready. Writes a PID file.",
    complete: Complete::Nothing,
};
/// `-v`, `-q`: understood, but as with the original not part of `--help`.
pub const VERBOSITY_OPTIONS: &[Opt] = &[
    Opt {
        short: 'v',
        long: "verbose",
        arg: None,
        help: &[],
        manual: "Say more. May be repeated.",
        complete: Complete::Nothing,
    },
    Opt {
        short: 'q',
        long: "quiet",
        arg: None,
        help: &[],
        manual: "Say nothing about clients' mistakes.",
        complete: Complete::Nothing,
    },
];

/// What tells one helper from the other.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name, options and texts.
    pub program: &'static Program,
    /// Trace events.
    pub events: &'static [&'static Event],
    /// Socket when `-k` is not given.
    pub default_socket: &'static str,
    /// PID file of `-d` without `-f`.
    pub default_pidfile: &'static str,
    /// The words for `-k` together with activation (the originals differ in a blank).
    pub activation_and_socket: &'static str,
    /// The words after the program's name for more than one passed socket.
    pub activation_many: &'static str,
}

/// A command line, taken in.
#[derive(Debug)]
pub struct Settings {
    socket: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    /// `-d`.
    pub background: bool,
    /// `-u`.
    pub uid: Option<u32>,
    /// `-g`.
    pub gid: Option<u32>,
    /// 1 unless `-v` (up to 3) or `-q` (0) say otherwise.
    pub verbosity: u32,
    activated: u32,
}

/// Everything that outlives start-up.
#[derive(Debug)]
pub struct Started {
    /// The listening socket.
    pub listener: OwnedFd,
    /// Its place in the file system, unless a service manager owns it.
    pub socket_file: Option<listen::SocketFile>,
    /// The PID file, if one was asked for.
    pub pid_file: Option<pidfile::PidFile>,
    ready: Option<detach::Ready>,
}

/// The program shall end with this status; everything to be said has been said.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit(pub i32);

fn fail<T>(text: &str) -> Result<T, Exit> {
    log::error(text);
    Err(Exit(1))
}

/// Version text of `-V`.
fn version(program: &Program, invoked_as: &str) -> String {
    format!(
        "{invoked_as} 9.1.0 (Tinamou {})\n{}\n\nLicensed under Apache-2.0 or MIT, at your option. There is NO\n\
         warranty; not even for MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.\n",
        env!("CARGO_PKG_VERSION"),
        program.summary
    )
}

impl Settings {
    /// Takes in the command line, first word included. Trace options take effect; their files are made
    /// once nothing of the line can be refused any more.
    ///
    /// # Errors
    /// After help, version, or a mistake: the status to end with.
    pub fn from_command_line(spec: &Spec, words: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        // The program may have come here without the standard library's own preparations.
        if let Err(err) = signals::ignore_broken_pipes().and_then(|()| detach::keep_standard_streams_taken())
        {
            return fail(&format!("Failed to start: {}", os_text(&err)));
        }
        let mut words = words.into_iter();
        let invoked = words.next().unwrap_or_else(|| spec.program.name.into());
        let invoked_as = invoked.to_string_lossy().into_owned();
        let base = invoked_as.rsplit('/').next().unwrap_or(&invoked_as);
        log::set_name(base);
        let mut settings = Self {
            socket: None,
            pidfile: None,
            background: false,
            uid: None,
            gid: None,
            verbosity: 1,
            activated: 0,
        };
        let (mut quiet, mut verbosity) = (false, 1);
        let mut traces = Vec::new();
        for item in Parser::new(spec.program, words) {
            let (letter, argument) = match item {
                Ok(Item::Option(letter, argument)) => (letter, argument.unwrap_or_default()),
                // Further words are passed over, as the original does.
                Ok(Item::Operand(_)) => continue,
                Err(mistake) => {
                    eprintln!("{invoked_as}: {mistake}");
                    return fail(&format!("Try `{invoked_as} --help' for more information."));
                }
            };
            let text = argument.to_string_lossy();
            match letter {
                'h' => {
                    print!("{}", spec.program.help(&invoked_as));
                    return Err(Exit(0));
                }
                'V' => {
                    print!("{}", version(spec.program, &invoked_as));
                    return Err(Exit(0));
                }
                'd' => settings.background = true,
                'f' => settings.pidfile = Some(argument.into()),
                'k' if argument.as_bytes().first() != Some(&b'/') => {
                    return fail("socket path must be absolute");
                }
                'k' => settings.socket = Some(argument.into()),
                'T' => traces.push(trace(spec, &text)?),
                'u' => match privileges::user(&text) {
                    Some(uid) => settings.uid = Some(uid),
                    None => return fail(&format!("invalid user '{text}'")),
                },
                'g' => match privileges::group(&text) {
                    Some(gid) => settings.gid = Some(gid),
                    None => return fail(&format!("invalid group '{text}'")),
                },
                'v' => verbosity = (verbosity + 1).min(3),
                'q' => quiet = true,
                _ => {}
            }
        }
        settings.verbosity = if quiet { 0 } else { verbosity };
        log::set_quiet(quiet);
        settings.activated = activation::take().or_else(|text| fail(&text))?;
        match settings.activated {
            0 => {}
            1 if settings.socket.is_some() => return fail(spec.activation_and_socket),
            1 => {}
            _ => return fail(&format!("{base} {}", spec.activation_many)),
        }
        for options in traces {
            options.open().or_else(trace_failed)?;
        }
        Ok(settings)
    }

    /// Listens, goes to the background, writes the PID file: the originals' order. On a mistake nothing is left.
    ///
    /// # Errors
    /// The status to end with.
    pub fn start(&self, spec: &Spec) -> Result<Started, Exit> {
        let (listener, socket_file) = if self.activated > 0 {
            (activation::unix_listener().or_else(|text| fail(&text))?, None)
        } else {
            let path = self.socket.clone().unwrap_or_else(|| spec.default_socket.into());
            match listen::listen(&path, 128) {
                Ok((socket, file)) => (socket, Some(file)),
                Err(listen::ListenError::TooLong(path)) => {
                    log::error(&format!("UNIX socket path '{}' is too long", path.display()));
                    eprintln!("Path must be less than {} bytes", listen::MAX_PATH);
                    return Err(Exit(1));
                }
                Err(err) => return fail(&err.to_string()),
            }
        };
        let mut started = Started { listener, socket_file, pid_file: None, ready: None };
        // A relative PID file is meant from where the command was given.
        let pidfile = self.pidfile.as_ref().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone()));
        if self.background {
            match detach::detach() {
                Ok(ready) => started.ready = Some(ready),
                Err(err) => {
                    started.cleanup();
                    return fail(&format!("Failed to daemonize: {}", os_text(&err)));
                }
            }
        }
        if self.background || pidfile.is_some() {
            let path = pidfile.unwrap_or_else(|| spec.default_pidfile.into());
            match pidfile::PidFile::create(&path) {
                Ok(file) => started.pid_file = Some(file),
                Err(text) => {
                    started.cleanup();
                    return fail(&text);
                }
            }
        }
        Ok(started)
    }
}

impl Started {
    /// Lets the waiting parent of a background daemon end, once nothing can fail any more.
    ///
    /// # Errors
    /// When the standard streams cannot be sent to `/dev/null`.
    pub fn ready(&mut self) -> std::io::Result<()> {
        self.ready.take().map_or(Ok(()), detach::Ready::done)
    }

    /// Removes socket and PID file where they still are ours.
    pub fn cleanup(&self) {
        if let Some(file) = &self.socket_file {
            // Under `-u` the right to do so may be gone with root's; the next start replaces what is left.
            let _ = file.remove();
        }
        if let Some(file) = &self.pid_file {
            file.remove();
        }
    }

    /// Drops privileges to `keep`, or cleans up and says why not.
    ///
    /// # Errors
    /// The status to end with.
    pub fn drop_privileges(&self, settings: &Settings, keep: &[u32]) -> Result<(), Exit> {
        privileges::drop_to(settings.uid, settings.gid, keep).or_else(|err| {
            self.cleanup();
            fail(&format!("Failed to drop privileges: {}", os_text(&err)))
        })
    }

    /// The folders in which socket and PID file may have to be removed at the end.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let socket = self.socket_file.as_ref().and_then(|f| f.path().parent());
        let pid = self.pid_file.as_ref().and_then(|f| f.path().parent());
        socket.into_iter().chain(pid).map(PathBuf::from).collect()
    }
}

/// A `-T` that cannot be followed for a file's sake.
fn trace_failed<T>(err: OptionsError) -> Result<T, Exit> {
    eprintln!("{}:{err}", log::name());
    Err(Exit(1))
}

/// One `-T`: switches events; its trace file is still to be opened.
fn trace(spec: &Spec, argument: &str) -> Result<Options, Exit> {
    let applied = Options::parse(argument).and_then(|options| Ok((options.apply(spec.events)?, options)));
    match applied {
        Ok((Applied::Help, _)) => {
            for event in spec.events {
                println!("{}", event.name());
            }
            Err(Exit(0))
        }
        Ok((Applied::Done(warnings), options)) => {
            for warning in warnings {
                match warning.place {
                    Some(place) => eprintln!("{}:{place}: warning: {}", log::name(), warning.what),
                    None => log::error(&format!("warning: {}", warning.what)),
                }
            }
            Ok(options)
        }
        Err(err @ OptionsError::InvalidParameter { short_form, .. }) => {
            if let (true, OptionsError::InvalidParameter { key, .. }) = (short_form, &err) {
                log::error(&format!("warning: short-form boolean option '{key}' deprecated"));
                eprintln!("Please use {key}=on instead");
            }
            fail(&err.to_string())
        }
        Err(err) => trace_failed(err),
    }
}
