//! Guest time and device timers.
//!
//! A [`Clock`] counts nanoseconds; it stands still while the machine is paused. A device gets a [`Timer`] on it.
//! Callbacks run on the thread of the event loop that drives the clock, without any lock held.
#![forbid(unsafe_code)]

use eventloop::{HostTimer, LoopHandle};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds in a second.
pub const NANOS: u64 = 1_000_000_000;

type Callback = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Copy)]
enum Source {
    /// Runs with the host: guest time was `at` when the host's clock showed `since`.
    Running { since: Instant, at: u64 },
    /// Stands still.
    Stopped { at: u64 },
}

struct Inner {
    source: Mutex<Source>,
    armed: Mutex<BTreeMap<(u64, u64), Callback>>,
    next_id: AtomicU64,
    driver: Mutex<Option<HostTimer>>,
    manual: bool,
}

/// A guest clock. Cloning gives another handle on the same clock.
#[derive(Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

impl Clock {
    /// A clock at 0 that stands still until [`Clock::start`]; its timers fire on `driver`'s thread.
    pub fn new(driver: &LoopHandle) -> Self {
        let clock = Self::build(false);
        let weak = Arc::downgrade(&clock.inner);
        let timer = driver.timer(move || {
            if let Some(inner) = weak.upgrade() {
                Self { inner }.run_expired();
            }
        });
        *clock.inner.driver.lock() = Some(timer);
        clock
    }

    /// A clock for tests, moved by [`Clock::advance`] alone.
    pub fn manual() -> Self {
        Self::build(true)
    }

    fn build(manual: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                source: Mutex::new(Source::Stopped { at: 0 }),
                armed: Mutex::default(),
                next_id: AtomicU64::new(0),
                driver: Mutex::new(None),
                manual,
            }),
        }
    }

    /// Guest time in nanoseconds.
    pub fn now(&self) -> u64 {
        match *self.inner.source.lock() {
            Source::Running { since, at } => {
                at + u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX - at)
            }
            Source::Stopped { at } => at,
        }
    }

    /// Lets time run (no effect on a manual clock).
    pub fn start(&self) {
        if self.inner.manual {
            return;
        }
        {
            let mut source = self.inner.source.lock();
            if let Source::Stopped { at } = *source {
                *source = Source::Running { since: Instant::now(), at };
            }
        }
        self.program();
    }

    /// Stops time; timers keep their deadlines.
    pub fn stop(&self) {
        let at = self.now();
        *self.inner.source.lock() = Source::Stopped { at };
        self.program();
    }

    /// Moves a manual clock forward by `nanos`, firing each timer at its own time.
    pub fn advance(&self, nanos: u64) {
        let end = self.now() + nanos;
        loop {
            let due = self.inner.armed.lock().first_key_value().map(|(key, _)| key.0);
            let Some(at) = due.filter(|&at| at <= end) else { break };
            let at = at.max(self.now());
            *self.inner.source.lock() = Source::Stopped { at };
            self.run_expired();
        }
        *self.inner.source.lock() = Source::Stopped { at: end };
    }

    /// Moves a manual clock forward with no timer firing, as on a host that let nothing run meanwhile.
    pub fn skip(&self, nanos: u64) {
        if self.inner.manual {
            *self.inner.source.lock() = Source::Stopped { at: self.now() + nanos };
        }
    }

    /// A timer, disarmed at first.
    pub fn timer(&self, callback: impl Fn() + Send + Sync + 'static) -> Timer {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        Timer { clock: self.clone(), id, callback: Arc::new(callback), deadline: Mutex::new(None) }
    }

    /// Fires the timers that are due, on this thread. The driver does so by itself; a thread that runs guest code calls
    /// this now and then, so that guest timers do not wait for the driver's thread on a busy host.
    pub fn poll(&self) {
        let first = self.inner.armed.lock().first_key_value().map(|(key, _)| key.0);
        if !self.inner.manual && first.is_some_and(|at| at <= self.now()) {
            self.run_expired();
        }
    }

    fn run_expired(&self) {
        let now = self.now();
        loop {
            let callback = {
                let mut armed = self.inner.armed.lock();
                match armed.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => break,
                }
            };
            callback();
        }
        self.program();
    }

    /// Sets the host timer to the earliest deadline.
    fn program(&self) {
        let driver = self.inner.driver.lock();
        let Some(timer) = driver.as_ref() else { return };
        let first = self.inner.armed.lock().first_key_value().map(|(key, _)| key.0);
        match (*self.inner.source.lock(), first) {
            (Source::Running { since, at }, Some(deadline)) => {
                timer.arm(since + Duration::from_nanos(deadline.saturating_sub(at)));
            }
            _ => timer.disarm(),
        }
    }
}

/// A one-shot timer on a guest clock. Dropping it disarms it.
pub struct Timer {
    clock: Clock,
    id: u64,
    callback: Callback,
    deadline: Mutex<Option<u64>>,
}

impl Timer {
    /// Calls back once when guest time reaches `deadline` (nanoseconds); a deadline set before is forgotten.
    ///
    /// The deadline stays readable through [`Timer::deadline`] after the call, until it is set anew.
    pub fn arm(&self, deadline: u64) {
        // A deadline centuries away would overflow the host's clock; it is never reached.
        let deadline = deadline.min(u64::MAX / 4);
        let earliest = {
            let mut current = self.deadline.lock();
            let mut armed = self.clock.inner.armed.lock();
            let first = armed.first_key_value().map(|(key, _)| *key);
            if let Some(old) = current.replace(deadline) {
                armed.remove(&(old, self.id));
            }
            armed.insert((deadline, self.id), self.callback.clone());
            first.is_none_or(|key| deadline < key.0 || key.1 == self.id)
        };
        if earliest {
            self.clock.program();
        }
    }

    /// Forgets the deadline. A callback that has begun runs to its end.
    pub fn disarm(&self) {
        if let Some(old) = self.deadline.lock().take() {
            self.clock.inner.armed.lock().remove(&(old, self.id));
        }
    }

    /// The deadline last set, if it was not disarmed since.
    pub fn deadline(&self) -> Option<u64> {
        *self.deadline.lock()
    }

    /// The clock that the timer runs on.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// `a * b / c` without overflow in between, rounded down; for conversions between frequencies. 0 when `c` is 0.
pub fn muldiv64(a: u64, b: u64, c: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide.checked_div(u128::from(c)).map_or(0, |q| u64::try_from(q).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventloop::EventLoop;

    #[test]
    fn a_thread_that_polls_does_not_wait_for_the_driver() {
        let event_loop = EventLoop::new().expect("loop");
        let clock = Clock::new(&event_loop.handle());
        let fired = Arc::new(AtomicU64::new(0));
        let count = fired.clone();
        let timer = clock.timer(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        timer.arm(1_000_000);
        clock.poll();
        assert_eq!(fired.load(Ordering::SeqCst), 0, "the clock stands still");
        clock.start();
        while clock.now() < 1_000_000 {
            std::thread::yield_now();
        }
        clock.poll();
        clock.poll();
        assert_eq!(fired.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_manual_clock_fires_each_timer_at_its_own_time() {
        let clock = Clock::manual();
        let log = Arc::new(Mutex::new(Vec::new()));
        let timer = |name: &'static str| {
            let (log, clock2) = (log.clone(), clock.clone());
            clock.timer(move || log.lock().push((name, clock2.now())))
        };
        let (a, b) = (timer("a"), timer("b"));
        a.arm(300);
        b.arm(100);
        clock.advance(250);
        assert_eq!(*log.lock(), [("b", 100)]);
        a.arm(260);
        clock.advance(250);
        assert_eq!(*log.lock(), [("b", 100), ("a", 260)]);
        a.arm(600);
        a.disarm();
        clock.advance(1000);
        assert_eq!(log.lock().len(), 2);
    }

    #[test]
    fn a_stopped_clock_stands_still_and_its_timers_wait() {
        let event_loop = EventLoop::new().expect("loop");
        let clock = Clock::new(&event_loop.handle());
        let stop = event_loop.handle();
        let timer = clock.timer(move || stop.stop());
        timer.arm(1_000_000);
        assert_eq!(clock.now(), 0);
        clock.start();
        event_loop.run().expect("run");
        assert!(clock.now() >= 1_000_000);
        clock.stop();
        let at = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), at);
    }

    #[test]
    fn muldiv_does_not_overflow() {
        assert_eq!(muldiv64(u64::MAX, 3, 6), u64::MAX / 2);
        assert_eq!(muldiv64(1, 1, 0), 0);
    }
}
