//! One change of a domain at a time.

use crate::error::{Result, error};
use parking_lot::{Condvar, Mutex};
use rpc::Code;
use std::time::{Duration, Instant};

/// How long a call waits for the change before it.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    /// The API function whose call holds the domain.
    holder: Option<(&'static str, Instant)>,
}

/// Who changes a domain.
pub struct Jobs {
    /// What those who hold it speak with.
    peer: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

/// A change under way; dropping it lets the next one begin.
#[must_use = "the domain is free again when this is dropped"]
pub struct Job<'a>(&'a Jobs);

impl Default for Jobs {
    fn default() -> Self {
        Self { peer: "monitor", state: Mutex::default(), changed: Condvar::default() }
    }
}

impl Jobs {
    /// Those that speak with the agent of a guest.
    pub fn of_agent() -> Self {
        Self { peer: "agent", ..Self::default() }
    }

    /// Waits for the change before this one.
    ///
    /// # Errors
    /// It takes too long.
    pub fn begin(&self, api: &'static str) -> Result<Job<'_>> {
        self.begin_within(api, WAIT)
    }

    /// As [`Jobs::begin`], for at most that long.
    ///
    /// # Errors
    /// It takes too long.
    pub fn begin_within(&self, api: &'static str, wait: Duration) -> Result<Job<'_>> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        while let Some((holder, _)) = state.holder {
            if self.changed.wait_until(&mut state, deadline).timed_out() && state.holder.is_some() {
                let detail = format!("cannot acquire state change lock (held by {}={holder})", self.peer);
                return Err(error(Code::OperationTimeout, detail));
            }
        }
        state.holder = Some((api, Instant::now()));
        Ok(Job(self))
    }

    /// Waits for the change before this one, however long it takes: for what must be done.
    pub fn begin_surely(&self, what: &'static str) -> Job<'_> {
        let mut state = self.state.lock();
        while state.holder.is_some() {
            self.changed.wait(&mut state);
        }
        state.holder = Some((what, Instant::now()));
        Job(self)
    }

    /// For how long the domain has been held.
    pub fn held_for(&self) -> Option<Duration> {
        self.state.lock().holder.map(|(_, since)| since.elapsed())
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.0.state.lock().holder = None;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other() {
        let jobs = Jobs::default();
        let first = jobs.begin("one").expect("free");
        let refused = jobs.begin_within("two", Duration::from_millis(20)).err().expect("held");
        assert_eq!(
            refused.to_string(),
            "Timed out during operation: cannot acquire state change lock (held by monitor=one)"
        );
        assert!(jobs.held_for().is_some());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(jobs.begin("three").expect("free soon")));
            drop(first);
            waiter.join().expect("thread");
        });
        assert!(jobs.held_for().is_none());
    }
}
