//! The workers: threads that wait for events of clients, and serve the calls that they find.
//!
//! A thread that has read a call serves it itself, so that a call costs no hand-over, as long as another thread goes on
//! waiting for events: the last one that waits never serves calls but queues them. Calls that wait for a slow guest
//! therefore never keep others from being read or pings from being answered.

use super::Server;
use super::connection::Connection;
use super::input::Incoming;
use super::memory::Held;
use super::stream::Stream;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a worker may find in the queue.
pub(super) enum Job {
    /// A call to be served.
    Call { connection: Arc<Connection>, message: Incoming<OwnedFd>, held: Held, high: bool },
    /// A client whose messages were left unread may be read again.
    Resume(Arc<Connection>),
    /// A stream goes on.
    Stream(Arc<Stream>),
    /// The driver is told that a client has gone, which may take its time.
    Closed(Arc<Connection>),
}

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// At least so many threads.
    pub min: u32,
    /// At most so many calls at once.
    pub max: u32,
    /// So many more, if they are of high priority.
    pub priority: u32,
}

/// What the pool does now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Threads.
    pub threads: u32,
    /// Calls being served.
    pub active: u32,
    /// Calls that wait.
    pub queued: u32,
}

struct State {
    workers: Workers,
    threads: u32,
    /// Threads that wait for events, or are about to.
    polling: u32,
    active: u32,
    queue: VecDeque<Job>,
    stopping: bool,
}

pub(super) struct Pool {
    state: Mutex<State>,
}

impl Pool {
    pub(super) fn new(workers: Workers) -> Self {
        let queue = VecDeque::new();
        Self {
            state: Mutex::new(State { workers, threads: 0, polling: 0, active: 0, queue, stopping: false }),
        }
    }

    pub(super) fn workers(&self) -> Workers {
        self.state.lock().workers
    }

    pub(super) fn load(&self) -> Load {
        let state = self.state.lock();
        let queued = state.queue.iter().filter(|job| matches!(job, Job::Call { .. })).count();
        Load {
            threads: state.threads,
            active: state.active,
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
        }
    }

    /// Changes the numbers of workers, and starts threads that are missing.
    pub(super) fn set_workers(&self, server: &Arc<Server>, workers: Workers) {
        self.state.lock().workers = workers;
        self.fill(server);
    }

    /// Starts threads until there are `min`; one at least.
    pub(super) fn fill(&self, server: &Arc<Server>) {
        let mut state = self.state.lock();
        while state.threads < state.workers.min.max(1) && Self::spawn(server, &mut state) {}
    }

    fn spawn(server: &Arc<Server>, state: &mut State) -> bool {
        let name = format!("rpc-{}", server.name());
        let worker = server.clone();
        let started = std::thread::Builder::new().name(name).stack_size(1 << 20).spawn(move || worker.work());
        if started.is_ok() {
            state.threads += 1;
            state.polling += 1;
        }
        started.is_ok()
    }

    /// Whether the calling thread, which waited for events, may serve a call now; [`Pool::end`] must follow.
    pub(super) fn begin(&self, server: &Arc<Server>, high: bool) -> bool {
        let mut state = self.state.lock();
        if !state.may_begin(high) {
            return false;
        }
        // Somebody must go on waiting for events.
        if state.polling == 1 && (state.stopping || !Self::spawn(server, &mut state)) {
            return false;
        }
        state.polling -= 1;
        state.active += 1;
        true
    }

    /// A call has been served: the next job, or `None`: the thread waits for events again. After a call
    /// or [`Job::Closed`] this must follow once more.
    pub(super) fn end(&self) -> Option<Job> {
        let mut state = self.state.lock();
        state.active -= 1;
        let job = state.take();
        match job {
            Some(Job::Call { .. } | Job::Closed(_)) => state.active += 1,
            _ => state.polling += 1,
        }
        job
    }

    /// Queues a job; some thread must be woken for it.
    pub(super) fn queue(&self, job: Job) {
        self.state.lock().queue.push_back(job);
    }

    /// Whether some job could be done now by another thread.
    pub(super) fn has_work(&self) -> bool {
        self.state.lock().next().is_some()
    }

    /// A job for the calling thread, which waited for events. After a call or
    /// [`Job::Closed`], [`Pool::end`] must follow.
    pub(super) fn take(&self, server: &Arc<Server>) -> Option<Job> {
        let mut state = self.state.lock();
        let alone = state.polling == 1;
        let at = state.next()?;
        let occupies = matches!(state.queue[at], Job::Call { .. } | Job::Closed(_));
        if occupies && alone && (state.stopping || !Self::spawn(server, &mut state)) {
            return None;
        }
        if occupies {
            state.polling -= 1;
            state.active += 1;
        }
        state.queue.remove(at)
    }

    /// Whether the calling thread, which has waited for long, is one too many; it must end then.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state.lock();
        let surplus = state.threads > state.workers.min.max(1) && state.polling > 1;
        if state.stopping || surplus {
            state.threads -= 1;
            state.polling -= 1;
            return true;
        }
        false
    }

    /// Whether there are threads that may leave.
    pub(super) fn surplus(&self) -> bool {
        let state = self.state.lock();
        state.threads > state.workers.min.max(1)
    }

    /// No more calls are begun.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.queue.retain(|job| !matches!(job, Job::Call { .. }));
    }

    pub(super) fn stopping(&self) -> bool {
        self.state.lock().stopping
    }
}

impl State {
    fn may_begin(&self, high: bool) -> bool {
        let more = if high { self.workers.priority } else { 0 };
        self.active < self.workers.max.max(1).saturating_add(more)
    }

    /// The place of the first job that may be done now.
    fn next(&self) -> Option<usize> {
        self.queue.iter().position(|job| match job {
            Job::Call { high, .. } => self.may_begin(*high),
            Job::Closed(_) => self.may_begin(true),
            Job::Resume(_) | Job::Stream(_) => true,
        })
    }

    fn take(&mut self) -> Option<Job> {
        let at = self.next()?;
        self.queue.remove(at)
    }
}
