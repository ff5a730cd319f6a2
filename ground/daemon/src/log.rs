//! Messages on standard error as `NAME: TEXT`, with a limit for those that a client can cause.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

static NAME: OnceLock<String> = OnceLock::new();
static QUIET: AtomicBool = AtomicBool::new(false);

/// Sets the program name that begins every message; the first call wins.
pub fn set_name(name: &str) {
    let _ = NAME.set(name.to_owned());
}

/// The program name set by [`set_name`].
#[must_use]
pub fn name() -> &'static str {
    NAME.get().map_or("daemon", String::as_str)
}

/// Suppresses [`client_error`] messages (`-q`).
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Writes `NAME: TEXT` and a newline by one write; a failing write is ignored.
pub fn error(text: &str) {
    let line = format!("{}: {text}\n", name());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Tokens for messages that clients cause: a burst of 20, then two a second.
struct Bucket {
    tokens: u32,
    refilled: Option<Instant>,
}
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(500);
static BUCKET: Mutex<Bucket> = Mutex::new(Bucket { tokens: BURST, refilled: None });
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// A message about what a client did: nothing under `-q`, and at most a burst of 20 and two a second after that.
pub fn client_error(text: &str) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    let allowed = {
        let mut bucket = BUCKET.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.saturating_duration_since(*bucket.refilled.get_or_insert(now));
        let gained = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if gained > 0 {
            bucket.tokens = bucket.tokens.saturating_add(gained).min(BURST);
            bucket.refilled = Some(now);
        }
        let allowed = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        allowed
    };
    if !allowed {
        SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let suppressed = SUPPRESSED.swap(0, Ordering::Relaxed);
    if suppressed > 0 {
        error(&format!("{suppressed} messages suppressed"));
    }
    error(text);
}
