//! One thread's event loop: descriptors, host timers and deferred calls.
//!
//! An [`EventLoop`] runs on one thread; everything else talks to it through a [`LoopHandle`], which is cheap to clone
//! and may be used from any thread. Callbacks run on the loop's thread, one at a time, without any lock of the loop
//! held, so they may add and remove watches and timers, and may drop the very watch that called them.
#![forbid(unsafe_code)]

mod timers;
pub use timers::HostTimer;

use parking_lot::Mutex;
use rustix::event::epoll;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use timers::Timers;

/// What a watch waits for, and what a callback is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read (or end of file).
    pub readable: bool,
    /// Writing would not block.
    pub writable: bool,
    /// The peer hung up or the descriptor is in error. Always reported, never asked for.
    pub hangup: bool,
}

impl Ready {
    /// Interest in reading.
    pub const READ: Self = Self { readable: true, writable: false, hangup: false };
    /// Interest in writing.
    pub const WRITE: Self = Self { readable: false, writable: true, hangup: false };
    /// Interest in both.
    pub const BOTH: Self = Self { readable: true, writable: true, hangup: false };
    /// Interest in nothing (hang-ups are reported all the same).
    pub const NONE: Self = Self { readable: false, writable: false, hangup: false };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.readable);
        flags.set(epoll::EventFlags::OUT, self.writable);
        flags
    }

    fn from_flags(flags: epoll::EventFlags) -> Self {
        Self {
            readable: flags.contains(epoll::EventFlags::IN),
            writable: flags.contains(epoll::EventFlags::OUT),
            hangup: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
        }
    }
}

type Callback = Arc<dyn Fn(Ready) + Send + Sync>;
type Deferred = Box<dyn FnOnce() + Send>;

struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    watches: Mutex<HashMap<u64, (Arc<OwnedFd>, Callback)>>,
    next_key: AtomicU64,
    deferred: Mutex<VecDeque<Deferred>>,
    timers: Timers,
    stop: AtomicBool,
}

/// The key of the wake-up descriptor; watches start above it.
const WAKE: u64 = 0;

/// An event loop; runs on the thread that calls [`EventLoop::run`].
pub struct EventLoop {
    shared: Arc<Shared>,
}

/// A handle on an [`EventLoop`], for any thread.
#[derive(Clone)]
pub struct LoopHandle {
    shared: Arc<Shared>,
}

/// A registered descriptor; dropping it ends the watch.
pub struct Watch {
    shared: Arc<Shared>,
    key: u64,
    fd: Arc<OwnedFd>,
}

impl EventLoop {
    /// A new loop.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Self {
            shared: Arc::new(Shared {
                epoll,
                wake,
                watches: Mutex::default(),
                next_key: AtomicU64::new(WAKE + 1),
                deferred: Mutex::default(),
                timers: Timers::default(),
                stop: AtomicBool::new(false),
            }),
        })
    }

    /// A handle for other threads and for callbacks.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle { shared: self.shared.clone() }
    }

    /// Runs until [`LoopHandle::stop`].
    ///
    /// # Errors
    /// Waiting for events failed.
    pub fn run(&self) -> io::Result<()> {
        while !self.shared.stop.swap(false, Ordering::SeqCst) {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Runs everything that is due now, waiting at most until `deadline` for something to be (`None`: for ever).
    ///
    /// # Errors
    /// Waiting for events failed.
    pub fn turn(&self, deadline: Option<Instant>) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 32];
        let next = match (self.shared.timers.next_deadline(), deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let timeout = if self.shared.deferred.lock().is_empty() {
            next.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(std::time::Duration::ZERO)
        };
        let timeout =
            timeout.map(|t| Timespec { tv_sec: t.as_secs().cast_signed(), tv_nsec: t.subsec_nanos().into() });
        let n = match self.shared.wait(&mut events, timeout.as_ref()) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let _running = Running::enter(&self.shared);
        for event in &events[..n] {
            let key = event.data.u64();
            if key == WAKE {
                let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
                continue;
            }
            let callback = self.shared.watches.lock().get(&key).map(|(_, callback)| callback.clone());
            if let Some(callback) = callback {
                callback(Ready::from_flags(event.flags));
            }
        }
        self.shared.timers.run_expired(Instant::now());
        // Only what was there at the start: a call that defers itself again must not starve the descriptors.
        let due = std::mem::take(&mut *self.shared.deferred.lock());
        for call in due {
            call();
        }
        Ok(())
    }
}

impl LoopHandle {
    /// Calls `callback` on the loop's thread soon.
    pub fn defer(&self, callback: impl FnOnce() + Send + 'static) {
        self.shared.deferred.lock().push_back(Box::new(callback));
        self.shared.wake();
    }

    /// Calls `callback` on the loop's thread whenever `fd` is ready for `interest` (level-triggered) or hangs up.
    ///
    /// # Errors
    /// `fd` cannot be polled (a regular file: `EPERM`), or is watched by this loop already.
    pub fn watch(
        &self,
        fd: Arc<OwnedFd>,
        interest: Ready,
        callback: impl Fn(Ready) + Send + Sync + 'static,
    ) -> io::Result<Watch> {
        let key = self.shared.next_key.fetch_add(1, Ordering::Relaxed);
        self.shared.watches.lock().insert(key, (fd.clone(), Arc::new(callback)));
        let added = epoll::add(&self.shared.epoll, &*fd, epoll::EventData::new_u64(key), interest.flags());
        if let Err(error) = added {
            self.shared.watches.lock().remove(&key);
            return Err(error.into());
        }
        Ok(Watch { shared: self.shared.clone(), key, fd })
    }

    /// A timer, disarmed at first, that calls `callback` on the loop's thread.
    pub fn timer(&self, callback: impl Fn() + Send + Sync + 'static) -> HostTimer {
        HostTimer::new(self.clone(), Arc::new(callback))
    }

    /// Makes [`EventLoop::run`] return after the current round.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
    }

    fn timers(&self) -> &Timers {
        &self.shared.timers
    }

    fn wake(&self) {
        self.shared.wake();
    }
}

thread_local! {
    /// Which loop's callbacks this thread runs now: the address of its shared part; 0: none's.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// Marks this thread as running a loop's callbacks.
struct Running(usize);

impl Running {
    fn enter(shared: &Arc<Shared>) -> Self {
        Self(RUNNING.replace(Arc::as_ptr(shared).addr()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

impl Shared {
    /// Waits for events. The kernel counts the time of `epoll_wait` in milliseconds, which is too coarse for guests'
    /// timers: `ppoll` waits in its place.
    fn wait(&self, events: &mut [epoll::Event], timeout: Option<&Timespec>) -> rustix::io::Result<usize> {
        match timeout {
            Some(timeout) if timeout.tv_sec != 0 || timeout.tv_nsec != 0 => {
                let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
                if poll(&mut ready, Some(timeout))? == 0 {
                    return Ok(0);
                }
                epoll::wait(&self.epoll, events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
            }
            _ => epoll::wait(&self.epoll, events, timeout),
        }
    }

    fn wake(&self) {
        // The loop looks at everything again before it waits.
        if RUNNING.get() == std::ptr::from_ref(self).addr() {
            return;
        }
        // A full counter means that a wake-up is pending already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Watch {
    /// Changes what is waited for.
    pub fn set_interest(&self, interest: Ready) {
        let data = epoll::EventData::new_u64(self.key);
        // Fails only when the descriptor is not registered, which Watch rules out.
        let _ = epoll::modify(&self.shared.epoll, &*self.fd, data, interest.flags());
    }

    /// The watched descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = epoll::delete(&self.shared.epoll, &*self.fd);
        let removed = self.shared.watches.lock().remove(&self.key);
        // The callback may own things whose drop takes locks: drop it after the table's lock is released.
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[test]
    fn a_watch_reports_data_and_ends_when_dropped() {
        let event_loop = EventLoop::new().expect("loop");
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let watch = event_loop
            .handle()
            .watch(Arc::new(reader), Ready::READ, move |ready| {
                assert!(ready.readable);
                count.fetch_add(1, Ordering::SeqCst);
            })
            .expect("watch");
        rustix::io::write(&writer, b"x").expect("write");
        event_loop.turn(None).expect("turn");
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        drop(watch);
        event_loop.turn(Some(Instant::now())).expect("turn");
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn deferred_calls_and_timers_run_on_the_loop() {
        let event_loop = EventLoop::new().expect("loop");
        let handle = event_loop.handle();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (a, b) = (order.clone(), order.clone());
        let stop = handle.clone();
        let timer = handle.timer(move || {
            b.lock().push("timer");
            stop.stop();
        });
        timer.arm(Instant::now() + Duration::from_millis(2));
        handle.defer(move || a.lock().push("deferred"));
        event_loop.run().expect("run");
        assert_eq!(*order.lock(), ["deferred", "timer"]);
    }
}
