//! The thread that processes a device's queues.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

#[derive(Default)]
struct State {
    /// Queues to look at, as a mask per 64.
    notified: [u64; 16],
    /// A batch is being processed.
    busy: bool,
    /// Nothing is to be begun.
    held: u32,
    end: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A worker; its thread starts with the first notification and ends when this is dropped.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    start: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Worker {
    /// A worker that calls `process` with the number of each notified queue.
    pub(crate) fn new(name: &str, process: impl Fn(usize) + Send + 'static) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let of_thread = shared.clone();
        // Linux shows 15 bytes of a thread's name.
        let name: String = name.chars().take(15).collect();
        let start = Box::new(move || {
            let body = move || of_thread.run(&process);
            // Without a thread the device never answers; the guest times out.
            let _ = std::thread::Builder::new().name(name).spawn(body);
        });
        Self { shared, start: Mutex::new(Some(start)) }
    }

    /// Asks for a look at queue `index`.
    pub(crate) fn notify(&self, index: usize) {
        if let Some(start) = self.start.lock().take() {
            start();
        }
        if let Some(word) = self.shared.state.lock().notified.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        self.shared.changed.notify_all();
    }

    /// Runs `f` while nothing is being processed, and forgets notifications that came before.
    pub(crate) fn while_idle<R>(&self, f: impl FnOnce() -> R) -> R {
        {
            let mut state = self.shared.state.lock();
            state.held += 1;
            while state.busy {
                self.shared.changed.wait(&mut state);
            }
            state.notified = [0; 16];
        }
        let result = f();
        self.shared.state.lock().held -= 1;
        self.shared.changed.notify_all();
        result
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.state.lock().end = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self, process: &dyn Fn(usize)) {
        let mut state = self.state.lock();
        while !state.end {
            let next = state.notified.iter().position(|w| *w != 0).filter(|_| state.held == 0);
            let Some(word) = next else {
                self.changed.wait(&mut state);
                continue;
            };
            let bit = state.notified[word].trailing_zeros() as usize;
            state.notified[word] &= !(1 << bit);
            state.busy = true;
            drop(state);
            process(word * 64 + bit);
            state = self.state.lock();
            state.busy = false;
            self.changed.notify_all();
        }
    }
}
