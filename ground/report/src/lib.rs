//! What the programs tell their user on standard error and in the `-d` log.
//!
//! The layout is QEMU's: `PROGRAM: message`, `PROGRAM: warning: message`, with an ISO 8601 timestamp in front when
//! `-msg timestamp=on` asks for it. Nothing here ever fails: a message that cannot be written is dropped.
#![forbid(unsafe_code)]

pub mod log;

use parking_lot::RwLock;
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static PROGRAM: RwLock<String> = RwLock::new(String::new());
static GUEST_NAME: RwLock<Option<String>> = RwLock::new(None);
static TIMESTAMP: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);

/// Sets the program name that stands in front of every message (`argv[0]`, as QEMU prints it).
pub fn set_program(name: &str) {
    *PROGRAM.write() = name.to_owned();
}

/// The program name in front of every message.
pub fn program() -> String {
    PROGRAM.read().clone()
}

/// `-msg timestamp=on`: put the time in front of every message.
pub fn set_timestamp(on: bool) {
    TIMESTAMP.store(on, Ordering::Relaxed);
}

/// `-msg guest-name=on`: put the guest's name in front of every message.
pub fn set_guest_name(name: Option<String>) {
    *GUEST_NAME.write() = name;
}

/// Drops all messages from now on: a fuzz target makes millions.
pub fn set_quiet(on: bool) {
    QUIET.store(on, Ordering::Relaxed);
}

thread_local! {
    static LOCATION: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// While it lives, messages of this thread carry a place on the command line: `PROGRAM: -device foo: message`.
#[must_use = "the location ends with this value"]
pub struct Location(());

impl Location {
    /// Messages are about `place` from now on; an empty place is none.
    pub fn enter(place: &str) -> Self {
        LOCATION.with_borrow_mut(|places| places.push(place.to_owned()));
        Self(())
    }
}

impl Drop for Location {
    fn drop(&mut self) {
        LOCATION.with_borrow_mut(|places| places.pop());
    }
}

/// How a message is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No mark.
    Error,
    /// `warning: `
    Warning,
    /// `info: `
    Info,
}

/// Writes one message line; use the macros [`error_report!`], [`warn_report!`] and [`info_report!`].
pub fn emit(level: Level, message: fmt::Arguments<'_>) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    let mut line = String::new();
    if TIMESTAMP.load(Ordering::Relaxed) {
        line.push_str(&iso8601(SystemTime::now()));
        line.push(' ');
    }
    if let Some(name) = &*GUEST_NAME.read() {
        line.push_str(name);
        line.push(' ');
    }
    line.push_str(&PROGRAM.read());
    line.push_str(": ");
    LOCATION.with_borrow(|places| {
        if let Some(place) = places.last().filter(|place| !place.is_empty()) {
            line.push_str(place);
            line.push_str(": ");
        }
    });
    line.push_str(match level {
        Level::Error => "",
        Level::Warning => "warning: ",
        Level::Info => "info: ",
    });
    line.push_str(&message.to_string());
    line.push('\n');
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Writes `PROGRAM: message` to standard error.
#[macro_export]
macro_rules! error_report { ($($t:tt)*) => { $crate::emit($crate::Level::Error, format_args!($($t)*)) } }

/// Writes `PROGRAM: warning: message` to standard error.
#[macro_export]
macro_rules! warn_report { ($($t:tt)*) => { $crate::emit($crate::Level::Warning, format_args!($($t)*)) } }

/// Writes `PROGRAM: info: message` to standard error.
#[macro_export]
macro_rules! info_report { ($($t:tt)*) => { $crate::emit($crate::Level::Info, format_args!($($t)*)) } }

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Shift the epoch to 0000-03-01 so that the leap day ends a year.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = u32::try_from(doy - (153 * mp + 2) / 5 + 1).unwrap_or(1);
    let month = u32::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).unwrap_or(1);
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// `2024-05-06T07:08:09.123456Z`, as QEMU's `-msg timestamp=on` prints it.
pub fn iso8601(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = since.as_secs();
    let (year, month, day) = civil_from_days((secs / 86_400).cast_signed());
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_iso_8601() {
        assert_eq!(iso8601(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        let leap = UNIX_EPOCH + Duration::new(1_709_210_096, 789_000_000);
        assert_eq!(iso8601(leap), "2024-02-29T12:34:56.789000Z");
    }
}
