//! Trace events of the small daemons, as `-T`/`--trace` steers them.
//!
//! A program declares its events once with [`events!`]; the list is enumerable (`-T help`), each event is one
//! atomic switch, and a disabled event costs one relaxed load. [`Options`] is the argument of `-T`:
//! `[[enable=]PATTERN][,events=FILE][,file=FILE]`, with `*` and `?` in patterns and a leading `-` to disable.
//!
//! ```
//! tracepoint::events! {
//!     /// All events of this program.
//!     pub static EVENTS;
//!     /// A client connected.
//!     CONN_OPEN = "conn_open";
//!     /// A client went away.
//!     CONN_CLOSE = "conn_close";
//! }
//! assert_eq!(tracepoint::enable(EVENTS, "conn_*"), Ok(2));
//! tracepoint::trace!(CONN_OPEN, "pid={}", 17);
//! ```
#![forbid(unsafe_code)]

mod glob;
mod options;
mod sink;

pub use glob::glob_match;
pub use options::{Applied, Options, OptionsError};
pub use sink::{emit, set_file};

use std::sync::atomic::{AtomicBool, Ordering};

/// One trace event: a name and a switch.
#[derive(Debug)]
pub struct Event {
    name: &'static str,
    enabled: AtomicBool,
}

impl Event {
    /// A disabled event called `name`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, enabled: AtomicBool::new(false) }
    }

    /// The name as `-T help` lists it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the event is to be recorded.
    #[inline]
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Switches the event on or off.
    pub fn set_enabled(&self, on: bool) {
        self.enabled.store(on, Ordering::Relaxed);
    }
}

/// A pattern without wildcard that names no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchEvent(pub String);

impl std::fmt::Display for NoSuchEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "trace event '{}' does not exist", self.0)
    }
}

impl std::error::Error for NoSuchEvent {}

/// Switches on all `events` that match `pattern`, or off when it begins with `-`; answers how many matched.
///
/// # Errors
/// [`NoSuchEvent`] when a pattern without wildcard matches nothing; a glob may match nothing.
pub fn enable(events: &[&Event], pattern: &str) -> Result<usize, NoSuchEvent> {
    let (on, glob) = match pattern.strip_prefix('-') {
        Some(rest) => (false, rest),
        None => (true, pattern),
    };
    let mut hits = 0;
    for event in events.iter().filter(|e| glob_match(glob, e.name)) {
        event.set_enabled(on);
        hits += 1;
    }
    if hits == 0 && !glob.contains(['*', '?']) {
        return Err(NoSuchEvent(glob.to_owned()));
    }
    Ok(hits)
}

/// Declares a program's events: one static per event and a slice of all of them.
#[macro_export]
macro_rules! events {
    ($(#[$all_doc:meta])* $vis:vis static $all:ident; $($(#[$doc:meta])* $id:ident = $name:literal;)+) => {
        $($(#[$doc])* $vis static $id: $crate::Event = $crate::Event::new($name);)+
        $(#[$all_doc])*
        $vis static $all: &[&$crate::Event] = &[$(&$id),+];
    };
}

/// Records an event: `trace!(EVENT, "format", args...)`. The arguments are evaluated only when it is enabled.
#[macro_export]
macro_rules! trace {
    ($event:expr, $($arg:tt)+) => {
        if $event.enabled() {
            $crate::emit(&$event, ::core::format_args!($($arg)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_switch_events() {
        let (a, b, c) = (Event::new("pr_in"), Event::new("pr_out"), Event::new("conn"));
        let all = [&a, &b, &c];
        assert_eq!(enable(&all, "pr_*"), Ok(2));
        assert!(a.enabled() && b.enabled() && !c.enabled());
        assert_eq!(enable(&all, "-pr_in"), Ok(1));
        assert!(!a.enabled() && b.enabled());
        assert_eq!(enable(&all, "none*"), Ok(0));
        assert_eq!(enable(&all, "none"), Err(NoSuchEvent("none".into())));
        assert_eq!(enable(&all, ""), Err(NoSuchEvent(String::new())));
    }
}
