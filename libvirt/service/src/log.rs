//! The log: levels, filters by source, and several outputs.

use parking_lot::{Mutex, RwLock};
use rpc::{Code, Error, Origin};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for a mistake.
    Debug = 1,
    /// What goes on.
    Info = 2,
    /// Something is wrong, and goes on.
    Warning = 3,
    /// Something failed.
    Error = 4,
}

impl Level {
    fn from_number(number: u32) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| *level as u32 == number)
    }

    /// The level of a number or a name, as in the environment.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "1" | "debug" => Self::Debug,
            "2" | "info" => Self::Info,
            "3" | "warning" => Self::Warning,
            "4" | "error" => Self::Error,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The priority of syslog(3).
    fn syslog(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warning => 4,
            Self::Error => 3,
        }
    }
}

/// Where lines go.
enum Target {
    Stderr,
    File(String, File),
    Syslog(String, UnixDatagram),
    Journald(UnixDatagram),
}

struct Output {
    level: Level,
    target: Target,
    begun: bool,
}

struct Filter {
    level: Level,
    source: String,
}

static OUTPUTS: Mutex<Vec<Output>> = Mutex::new(Vec::new());
static FILTERS: RwLock<Vec<Filter>> = RwLock::new(Vec::new());
static LEVEL: AtomicU32 = AtomicU32::new(Level::Warning as u32);
static DEFAULT_OUTPUT: RwLock<String> = RwLock::new(String::new());
static VERSION: RwLock<String> = RwLock::new(String::new());

fn invalid(text: String) -> Error {
    Error::new(Origin::None, Code::InvalidArg, text)
}

/// Sets the level of sources without a filter.
pub fn set_level(level: Level) {
    LEVEL.store(level as u32, Ordering::Relaxed);
}

/// Sets what the log begins with, and where it goes by default.
pub fn set_default(version: &str, output: &str) {
    *VERSION.write() = version.to_owned();
    *DEFAULT_OUTPUT.write() = output.to_owned();
}

fn parse_level(text: &str) -> Option<Level> {
    text.parse().ok().and_then(Level::from_number)
}

fn parse_output(text: &str) -> Result<Output, Error> {
    let parts: Vec<&str> = text.split(':').collect();
    let [level, kind, rest @ ..] = parts.as_slice() else {
        return Err(invalid(format!("Malformed format for log output '{text}'")));
    };
    let level = parse_level(level)
        .ok_or_else(|| invalid(format!("Invalid log priority '{level}' for log output '{text}'")))?;
    let failed = |error: std::io::Error, what: &str| Error::system(Origin::None, &error, what);
    let target = match (*kind, rest) {
        ("stderr", []) => Target::Stderr,
        ("journald", []) => {
            let socket = connect("/run/systemd/journal/socket");
            Target::Journald(socket.map_err(|error| failed(error, "failed to connect to journald"))?)
        }
        ("file", [path]) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
            let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
            let what = format!("failed to open {}", path.display());
            Target::File(path.display().to_string(), file.map_err(|error| failed(error, &what))?)
        }
        ("syslog", [name]) => {
            let socket = connect("/dev/log").map_err(|error| failed(error, "failed to connect to syslog"))?;
            Target::Syslog((*name).to_owned(), socket)
        }
        ("stderr" | "journald" | "file" | "syslog", _) => {
            return Err(invalid(format!(
                "Log output '{text}' does not meet the format requirements for destination type '{kind}'"
            )));
        }
        _ => return Err(invalid(format!("Invalid log destination '{kind}' for log output '{text}'"))),
    };
    Ok(Output { level, target, begun: false })
}

fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    // A log that is not read must not stop the daemon.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Changes the outputs; empty or none: the default.
///
/// # Errors
/// The text is none, or an output cannot be opened.
pub fn set_outputs(text: Option<&str>) -> Result<(), Error> {
    let default = DEFAULT_OUTPUT.read().clone();
    let text = text.filter(|text| !text.is_empty()).unwrap_or(&default);
    let mut outputs: Vec<Output> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let output = parse_output(word)?;
        // The last one of a kind counts.
        outputs.retain(|known| describe(&known.target) != describe(&output.target));
        outputs.push(output);
    }
    *OUTPUTS.lock() = outputs;
    Ok(())
}

/// Changes the filters; none: no filters.
///
/// # Errors
/// The text is none.
pub fn set_filters(text: Option<&str>) -> Result<(), Error> {
    let mut filters = Vec::new();
    for word in text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        let Some((level, rest)) = word.split_once(':') else {
            return Err(invalid(format!("Malformed format for filter '{word}'")));
        };
        let level = parse_level(level)
            .ok_or_else(|| invalid(format!("Invalid priority '{level}' for filter '{word}'")))?;
        let rest = rest.split(':').next().unwrap_or_default();
        // A plus sign once asked for a stack trace.
        let source = rest.strip_prefix('+').unwrap_or(rest);
        if source.is_empty() {
            return Err(invalid(format!("Invalid match string '{rest}'")));
        }
        filters.push(Filter { level, source: format!("*{source}*") });
    }
    *FILTERS.write() = filters;
    Ok(())
}

fn describe(target: &Target) -> String {
    match target {
        Target::Stderr => "stderr".to_owned(),
        Target::File(path, _) => format!("file:{path}"),
        Target::Syslog(name, _) => format!("syslog:{name}"),
        Target::Journald(_) => "journald".to_owned(),
    }
}

/// The outputs as they are set, and how many.
pub fn outputs() -> (String, u32) {
    let outputs = OUTPUTS.lock();
    let words: Vec<_> = outputs
        .iter()
        .map(|output| format!("{}:{}", output.level as u32, describe(&output.target)))
        .collect();
    (words.join(" "), u32::try_from(words.len()).unwrap_or(u32::MAX))
}

/// The filters as they are set, and how many.
pub fn filters() -> (Option<String>, u32) {
    let filters = FILTERS.read();
    let text: String =
        filters.iter().map(|filter| format!("{}:{} ", filter.level as u32, filter.source)).collect();
    (Some(text).filter(|text| !text.is_empty()), u32::try_from(filters.len()).unwrap_or(u32::MAX))
}

/// Whether lines of `source` (`daemon.main`) with `level` are logged.
pub fn enabled(source: &str, level: Level) -> bool {
    let filters = FILTERS.read();
    let wanted = filters
        .iter()
        .find(|filter| matches(filter.source.as_bytes(), source.as_bytes()))
        .map(|filter| filter.level);
    level as u32 >= wanted.map_or_else(|| LEVEL.load(Ordering::Relaxed), |level| level as u32)
}

/// Whether a pattern with `*` and `?` fits; in linear space, and time at most length times length.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut again = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                again = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star, taken)) = again else { return false };
                again = Some((star, taken + 1));
                at = star + 1;
                from = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Logs one line.
#[track_caller]
pub fn write(level: Level, source: &str, text: &str) {
    if !enabled(source, level) {
        return;
    }
    let place = std::panic::Location::caller();
    let file = Path::new(place.file()).file_stem().unwrap_or_default().to_string_lossy();
    let line = format!("{} : {file}:{} : {text}", level.name(), place.line());
    for output in OUTPUTS.lock().iter_mut() {
        if level >= output.level {
            output.line(level, source, &line, text);
        }
    }
}

impl Output {
    fn line(&mut self, level: Level, source: &str, line: &str, text: &str) {
        // A log that cannot be written is not worth the daemon's life.
        match &mut self.target {
            Target::Stderr | Target::File(..) => {
                if !std::mem::replace(&mut self.begun, true) {
                    let name = rustix::system::uname();
                    let host = name.nodename().to_string_lossy().into_owned();
                    let version = VERSION.read().clone();
                    self.put(&format!("info : libvirt version: {version}"));
                    self.put(&format!("info : hostname: {host}"));
                }
                self.put(line);
            }
            Target::Syslog(name, socket) => {
                // Facility 3: daemons.
                let priority = 3 << 3 | level.syslog();
                let message = format!("<{priority}>{name}[{}]: {line}", std::process::id());
                let _ = socket.send(message.as_bytes());
            }
            Target::Journald(socket) => {
                let text = text.replace('\n', " ");
                let message = format!(
                    "MESSAGE={text}\nPRIORITY={}\nLIBVIRT_SOURCE={source}\nSYSLOG_FACILITY=3\n",
                    level.syslog()
                );
                let _ = socket.send(message.as_bytes());
            }
        }
    }

    fn put(&mut self, line: &str) {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let line = format!("{}: {thread}: {line}\n", timestamp(SystemTime::now()));
        let _ = match &mut self.target {
            Target::File(_, file) => file.write_all(line.as_bytes()),
            _ => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// `2026-11-21 10:05:51.790+0000`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = report::civil_from_days(days.cast_signed());
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}+0000",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn texts_are_checked() {
        for (text, message) in [
            ("1", "Malformed format for log output '1'"),
            ("5:stderr", "Invalid log priority '5' for log output '5:stderr'"),
            ("1:x", "Invalid log destination 'x' for log output '1:x'"),
            (
                "1:stderr:x",
                "Log output '1:stderr:x' does not meet the format requirements for destination type 'stderr'",
            ),
        ] {
            let error = parse_output(text).err().expect("an error");
            assert_eq!(error.to_string(), format!("invalid argument: {message}"));
        }
        for (text, message) in [
            ("x", "Malformed format for filter 'x'"),
            ("0:x", "Invalid priority '0' for filter '0:x'"),
            ("1:+", "Invalid match string '+'"),
        ] {
            let error = set_filters(Some(text)).expect_err("an error");
            assert_eq!(error.to_string(), format!("invalid argument: {message}"));
        }
    }

    #[test]
    fn patterns_fit_or_not() {
        for (pattern, text, fits) in [
            ("*qemu*", "qemu.qemu_driver", true),
            ("*rpc*", "qemu.qemu_driver", false),
            ("*util.*d*", "util.systemd", true),
            ("*q?mu_d*", "qemu.qemu_driver", true),
            ("**", "", true),
            ("*a*", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn times_are_written_as_the_original_does() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_255_551_790);
        assert_eq!(timestamp(time), "2026-11-21 10:05:51.790+0000");
    }
}
