//! Host timers: a set of deadlines that the loop looks at each round.

use crate::LoopHandle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

type Callback = Arc<dyn Fn() + Send + Sync>;

/// All armed timers of a loop, by deadline; the id makes equal deadlines distinct.
#[derive(Default)]
pub(crate) struct Timers {
    armed: Mutex<BTreeMap<(Instant, u64), Callback>>,
    next_id: AtomicU64,
}

impl Timers {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.armed.lock().first_key_value().map(|(key, _)| key.0)
    }

    pub(crate) fn run_expired(&self, now: Instant) {
        loop {
            let callback = {
                let mut armed = self.armed.lock();
                match armed.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            callback();
        }
    }
}

/// A one-shot timer of a loop. Dropping it disarms it.
pub struct HostTimer {
    handle: LoopHandle,
    id: u64,
    callback: Callback,
    deadline: Mutex<Option<Instant>>,
}

impl HostTimer {
    pub(crate) fn new(handle: LoopHandle, callback: Callback) -> Self {
        let id = handle.timers().next_id.fetch_add(1, Ordering::Relaxed);
        Self { handle, id, callback, deadline: Mutex::new(None) }
    }

    /// Calls back once at `deadline`; a deadline set before is forgotten.
    pub fn arm(&self, deadline: Instant) {
        let mut current = self.deadline.lock();
        let mut armed = self.handle.timers().armed.lock();
        if let Some(old) = current.take() {
            armed.remove(&(old, self.id));
        }
        let first_before = armed.first_key_value().map(|(key, _)| key.0);
        armed.insert((deadline, self.id), self.callback.clone());
        *current = Some(deadline);
        drop(armed);
        // The loop sleeps until the earliest deadline it knew.
        if first_before.is_none_or(|first| deadline < first) {
            self.handle.wake();
        }
    }

    /// Forgets the deadline. A callback that has begun runs to its end.
    pub fn disarm(&self) {
        if let Some(old) = self.deadline.lock().take() {
            self.handle.timers().armed.lock().remove(&(old, self.id));
        }
    }
}

impl Drop for HostTimer {
    fn drop(&mut self) {
        self.disarm();
    }
}
