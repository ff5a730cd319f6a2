//! What all back ends share: the front end's handler, the open state, the log file.

use crate::frontend::{Event, Handler, OnceCall, Port};
use eventloop::LoopHandle;
use parking_lot::{Mutex, RwLock};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The shared part of a character device; back ends hold it to reach the front end.
pub(crate) struct Core {
    pub(crate) label: String,
    pub(crate) handle: LoopHandle,
    description: RwLock<String>,
    handler: Mutex<Option<Weak<dyn Handler>>>,
    open: AtomicBool,
    /// What the present front end has been told about `open`.
    told_open: AtomicBool,
    log: Mutex<Option<File>>,
}

/// What differs between back ends.
pub(crate) trait Backend: Send + Sync {
    /// Offers bytes without waiting.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Calls once when writing is worth another try.
    fn on_writable(&self, call: OnceCall);
    /// Waits a little for room.
    fn wait_writable(&self);
    /// The front end may have room again; must not call the handler from within.
    fn accept_input(&self);
    /// Line mode or raw, where there is a terminal.
    fn set_echo(&self, _echo: bool) {}
    /// Ends the present connection, where there is one.
    fn disconnect(&self) {}
    /// The program ends: takes back what it left in the file system.
    fn finish(&self) {}
    /// The concrete type, for the monitor's commands on one kind of back end (ring buffer).
    fn ringbuf(&self) -> Option<&crate::ringbuf::RingBuf> {
        None
    }
}

impl Core {
    pub(crate) fn new(label: &str, handle: LoopHandle, description: &str, log: Option<File>) -> Arc<Self> {
        Arc::new(Self {
            label: label.to_owned(),
            handle,
            description: RwLock::new(description.to_owned()),
            handler: Mutex::new(None),
            open: AtomicBool::new(false),
            told_open: AtomicBool::new(false),
            log: Mutex::new(log),
        })
    }

    fn handler(&self) -> Option<Arc<dyn Handler>> {
        self.handler.lock().as_ref()?.upgrade()
    }

    /// How many bytes the front end takes now; loop thread only.
    pub(crate) fn room(&self) -> usize {
        self.handler().map_or(0, |handler| handler.can_receive())
    }

    /// Hands bytes to the front end; loop thread only.
    pub(crate) fn deliver(&self, bytes: &[u8]) {
        if let Some(handler) = self.handler() {
            handler.receive(bytes);
        }
    }

    /// Tells the front end of an event; loop thread only.
    pub(crate) fn event(&self, event: Event) {
        if let Some(handler) = self.handler() {
            handler.event(event);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Records that the other side is there or gone; the front end hears of a change from the loop.
    pub(crate) fn set_open(self: &Arc<Self>, open: bool) {
        if self.open.swap(open, Ordering::SeqCst) != open {
            let core = self.clone();
            self.handle.defer(move || core.tell_open());
        }
    }

    /// Tells the front end whether the other side is there, once; loop thread only.
    fn tell_open(&self) {
        let open = self.is_open();
        if self.told_open.swap(open, Ordering::SeqCst) != open {
            self.event(if open { Event::Open } else { Event::Close });
        }
    }

    /// The back end in one line, as `info chardev` shows it.
    pub(crate) fn description(&self) -> String {
        self.description.read().clone()
    }

    pub(crate) fn set_description(&self, text: String) {
        *self.description.write() = text;
    }

    fn log_bytes(&self, bytes: &[u8]) {
        if let Some(file) = self.log.lock().as_mut() {
            let _ = file.write_all(bytes);
        }
    }
}

/// One character device: the shared part and its back end.
pub(crate) struct Device {
    pub(crate) core: Arc<Core>,
    pub(crate) backend: Box<dyn Backend>,
}

impl Port for Device {
    fn label(&self) -> String {
        self.core.label.clone()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.backend.write(bytes)?;
        self.core.log_bytes(&bytes[..taken.min(bytes.len())]);
        Ok(taken)
    }

    fn on_writable(&self, call: OnceCall) {
        self.backend.on_writable(call);
    }

    fn wait_writable(&self) {
        self.backend.wait_writable();
    }

    fn set_handler(&self, handler: Option<Weak<dyn Handler>>) {
        let present = handler.is_some();
        *self.core.handler.lock() = handler;
        if present {
            self.core.told_open.store(false, Ordering::SeqCst);
            let core = self.core.clone();
            self.core.handle.defer(move || core.tell_open());
            self.backend.accept_input();
        }
    }

    fn accept_input(&self) {
        self.backend.accept_input();
    }

    fn is_open(&self) -> bool {
        self.core.is_open()
    }

    fn set_echo(&self, echo: bool) {
        self.backend.set_echo(echo);
    }

    fn take_focus(&self) {}

    fn disconnect(&self) {
        self.backend.disconnect();
    }
}
