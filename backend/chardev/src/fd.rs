//! Reading and writing descriptors from the event loop, with back pressure.

use crate::core::Core;
use crate::frontend::OnceCall;
use eventloop::{LoopHandle, Ready, Watch};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::{Arc, Weak};

/// Most bytes read at once.
const CHUNK: usize = 4096;

/// The loop's hold on a descriptor that is read.
enum Reading {
    /// The front end has no room, or has just been asked.
    Paused,
    /// The loop watches the descriptor.
    Watched(#[expect(dead_code, reason = "held for its drop")] Watch),
    /// The descriptor cannot be polled (a regular file): the next read is a deferred call.
    Deferred,
    /// End of file, an error, or closed by us.
    Ended,
}

/// Reads a descriptor into the front end as long as there is room.
pub(crate) struct FdReader {
    core: Arc<Core>,
    fd: Arc<OwnedFd>,
    state: Mutex<Reading>,
    on_end: Box<dyn Fn() + Send + Sync>,
    me: Weak<Self>,
}

impl FdReader {
    /// A reader of a non-blocking descriptor; `on_end` is called on the loop's thread at end of file or on an error.
    pub(crate) fn new(
        core: Arc<Core>,
        fd: Arc<OwnedFd>,
        on_end: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            core,
            fd,
            state: Mutex::new(Reading::Paused),
            on_end: Box::new(on_end),
            me: me.clone(),
        })
    }

    /// Looks for input again; any thread, never calls the front end.
    pub(crate) fn resume(&self) {
        let mut state = self.state.lock();
        if !matches!(*state, Reading::Paused) {
            return;
        }
        let me = self.me.clone();
        let watched = self.core.handle.watch(self.fd.clone(), Ready::READ, move |_| {
            if let Some(me) = me.upgrade() {
                me.ready();
            }
        });
        match watched {
            Ok(watch) => *state = Reading::Watched(watch),
            Err(_) => self.defer(&mut state),
        }
    }

    fn defer(&self, state: &mut Reading) {
        *state = Reading::Deferred;
        let me = self.me.clone();
        self.core.handle.defer(move || {
            if let Some(me) = me.upgrade() {
                me.ready();
            }
        });
    }

    fn ready(&self) {
        if matches!(*self.state.lock(), Reading::Ended) {
            return;
        }
        let room = self.core.room().min(CHUNK);
        if room == 0 {
            let old = std::mem::replace(&mut *self.state.lock(), Reading::Paused);
            drop(old);
            // Room may have appeared between the question and the pause, when nobody could resume.
            if self.core.room() > 0 {
                self.resume();
            }
            return;
        }
        let mut buffer = [0; CHUNK];
        match rustix::io::read(&*self.fd, &mut buffer[..room]) {
            Ok(0) => self.end(),
            Ok(n) => {
                self.core.deliver(&buffer[..n]);
                let mut state = self.state.lock();
                if matches!(*state, Reading::Deferred) {
                    self.defer(&mut state);
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.end(),
        }
    }

    fn end(&self) {
        self.close();
        (self.on_end)();
    }

    /// Stops reading for good.
    pub(crate) fn close(&self) {
        let old = std::mem::replace(&mut *self.state.lock(), Reading::Ended);
        drop(old);
    }
}

/// Writes a descriptor without blocking.
pub(crate) struct FdWriter {
    fd: Arc<OwnedFd>,
    handle: LoopHandle,
    waiting: Mutex<(Option<Watch>, Vec<OnceCall>)>,
    me: Weak<Self>,
}

impl FdWriter {
    /// A writer. `fd` must not be one that the loop watches for reading: a duplicate is needed then.
    pub(crate) fn new(handle: LoopHandle, fd: Arc<OwnedFd>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { fd, handle, waiting: Mutex::default(), me: me.clone() })
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&*self.fd, bytes)?)
    }

    pub(crate) fn on_writable(&self, call: OnceCall) {
        let mut waiting = self.waiting.lock();
        waiting.1.push(call);
        if waiting.0.is_some() {
            return;
        }
        let me = self.me.clone();
        let flush = move || {
            if let Some(me) = me.upgrade() {
                me.flush();
            }
        };
        let on_ready = flush.clone();
        match self.handle.watch(self.fd.clone(), Ready::WRITE, move |_| on_ready()) {
            Ok(watch) => waiting.0 = Some(watch),
            // A descriptor that cannot be polled never blocks.
            Err(_) => self.handle.defer(flush),
        }
    }

    /// Calls everybody who waits, whether there is room or not (they try again and wait again).
    pub(crate) fn flush(&self) {
        let (watch, calls) = std::mem::take(&mut *self.waiting.lock());
        drop(watch);
        for call in calls {
            call();
        }
    }

    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(&*self.fd, PollFlags::OUT)];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
    }
}

/// A second descriptor for the same open file, close-on-exec.
pub(crate) fn duplicate(fd: &OwnedFd) -> io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(rustix::io::fcntl_dupfd_cloexec(fd, 3)?))
}

/// Makes reads and writes return instead of waiting.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(())
}
