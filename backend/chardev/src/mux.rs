//! The multiplexer: several front ends share one back end, and the user switches between them with an escape key.

use crate::frontend::{CharFrontend, Event, Handler, OnceCall, Port};
use eventloop::LoopHandle;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Most front ends of one multiplexer.
pub(crate) const MAX_FRONTENDS: usize = 4;
/// What is kept for a front end that has no room.
const BUFFER: usize = 32;

/// The escape key (`-echr`), Ctrl-A by default.
pub(crate) static ESCAPE: AtomicU8 = AtomicU8::new(1);

struct Slot {
    handler: Option<Weak<dyn Handler>>,
    buffer: VecDeque<u8>,
    /// What the handler has been told about the other side.
    told_open: bool,
    /// Whether the handler knows its place (foreground or background); nothing is told before.
    placed: bool,
}

struct State {
    slots: Vec<Slot>,
    focus: Option<usize>,
    escaped: bool,
    timestamps: Option<Instant>,
    line_start: bool,
}

/// A multiplexer in front of one back end.
pub(crate) struct Mux {
    below: CharFrontend,
    handle: LoopHandle,
    state: Mutex<State>,
    open: AtomicBool,
    on_quit: Arc<dyn Fn() + Send + Sync>,
    me: Weak<Self>,
}

struct MuxPort {
    mux: Arc<Mux>,
    index: usize,
}

impl Mux {
    pub(crate) fn new(
        below: CharFrontend,
        handle: LoopHandle,
        on_quit: Arc<dyn Fn() + Send + Sync>,
    ) -> Arc<Self> {
        let mux = Arc::new_cyclic(|me: &Weak<Self>| Self {
            below,
            handle,
            state: Mutex::new(State {
                slots: Vec::new(),
                focus: None,
                escaped: false,
                timestamps: None,
                line_start: true,
            }),
            open: AtomicBool::new(false),
            on_quit,
            me: me.clone(),
        });
        let handler: Weak<dyn Handler> = mux.me.clone();
        mux.below.set_handler(Some(handler));
        mux
    }

    /// A place for one more front end; none when all are taken.
    pub(crate) fn attach(self: &Arc<Self>) -> Option<CharFrontend> {
        let mut state = self.state.lock();
        if state.slots.len() == MAX_FRONTENDS {
            return None;
        }
        state.slots.push(Slot { handler: None, buffer: VecDeque::new(), told_open: false, placed: false });
        let index = state.slots.len() - 1;
        Some(CharFrontend::new(Arc::new(MuxPort { mux: self.clone(), index })))
    }

    fn handler(&self, index: usize) -> Option<Arc<dyn Handler>> {
        self.state.lock().slots.get(index)?.handler.as_ref()?.upgrade()
    }

    /// Tells a front end whether the other side is there, once; loop thread only.
    fn tell_open(&self, index: usize) {
        let open = self.open.load(Ordering::SeqCst);
        let Some(handler) = self.handler(index) else { return };
        let news = {
            let mut state = self.state.lock();
            let slot = &mut state.slots[index];
            slot.placed && std::mem::replace(&mut slot.told_open, open) != open
        };
        if news {
            handler.event(if open { Event::Open } else { Event::Close });
        }
    }

    fn set_focus(&self, index: usize) {
        let old = {
            let mut state = self.state.lock();
            state.focus.replace(index)
        };
        if let Some(handler) = old.and_then(|old| self.handler(old)) {
            handler.event(Event::MuxOut);
        }
        if let Some(handler) = self.handler(index) {
            handler.event(Event::MuxIn);
        }
    }

    /// What an escape sequence's second key does; true when the byte is data after all.
    fn command(&self, byte: u8) -> bool {
        let escape = ESCAPE.load(Ordering::Relaxed);
        match byte {
            b'?' | b'h' => self.help(escape),
            b'x' => {
                self.below.write_all(b"QEMU: Terminated\n\r");
                (self.on_quit)();
            }
            b'b' => {
                let focus = self.state.lock().focus;
                if let Some(handler) = focus.and_then(|index| self.handler(index)) {
                    handler.event(Event::Break);
                }
            }
            b'c' => {
                let next = {
                    let state = self.state.lock();
                    let count = state.slots.len();
                    let from = state.focus.unwrap_or(0);
                    (1..=count)
                        .map(|step| (from + step) % count)
                        .find(|&at| state.slots[at].handler.is_some())
                };
                if let Some(next) = next {
                    self.set_focus(next);
                }
            }
            b't' => {
                let mut state = self.state.lock();
                state.timestamps = if state.timestamps.is_some() { None } else { Some(Instant::now()) };
                state.line_start = false;
            }
            b's' => self.below.write_all(b"\n\rno drive has a temporary overlay to commit\n\r"),
            _ => return byte == escape,
        }
        false
    }

    fn help(&self, escape: u8) {
        let name = if escape < 32 {
            format!("C-{}", char::from(escape + b'a' - 1))
        } else {
            char::from(escape).to_string()
        };
        let rows = [
            ("h", "print this help"),
            ("x", "exit emulator"),
            ("s", "save disk data back to file (if -snapshot)"),
            ("t", "toggle console timestamps"),
            ("b", "send break (magic sysrq)"),
            ("c", "switch between console and monitor"),
            (name.as_str(), "sends"),
        ];
        let mut text = "\n\r".to_owned();
        for (key, what) in rows {
            if key == name {
                text.push_str(&format!("{name} {name}  {what} {name}\n\r"));
            } else {
                text.push_str(&format!("{name} {key}    {what}\n\r"));
            }
        }
        self.below.write_all(text.as_bytes());
    }

    /// Hands what is buffered to the front end with the focus; loop thread only.
    fn drain(&self) {
        let Some(focus) = self.state.lock().focus else { return };
        let Some(handler) = self.handler(focus) else { return };
        loop {
            let room = handler.can_receive();
            let chunk: Vec<u8> = {
                let mut state = self.state.lock();
                let buffer = &mut state.slots[focus].buffer;
                let n = room.min(buffer.len());
                buffer.drain(..n).collect()
            };
            if chunk.is_empty() {
                return;
            }
            handler.receive(&chunk);
        }
    }
}

impl Handler for Mux {
    fn can_receive(&self) -> usize {
        let state = self.state.lock();
        let Some(focus) = state.focus else { return 1 };
        BUFFER.saturating_sub(state.slots[focus].buffer.len())
    }

    fn receive(&self, bytes: &[u8]) {
        for &byte in bytes {
            let escaped = std::mem::take(&mut self.state.lock().escaped);
            let data = if escaped {
                self.command(byte)
            } else if byte == ESCAPE.load(Ordering::Relaxed) {
                self.state.lock().escaped = true;
                false
            } else {
                true
            };
            if data {
                {
                    let mut state = self.state.lock();
                    if let Some(focus) = state.focus
                        && state.slots[focus].buffer.len() < BUFFER
                    {
                        state.slots[focus].buffer.push_back(byte);
                    }
                }
                self.drain();
            }
        }
    }

    fn event(&self, event: Event) {
        if matches!(event, Event::Open | Event::Close) {
            self.open.store(event == Event::Open, Ordering::SeqCst);
        }
        let count = self.state.lock().slots.len();
        for index in 0..count {
            if matches!(event, Event::Open | Event::Close) {
                self.tell_open(index);
            } else if let Some(handler) = self.handler(index) {
                handler.event(event);
            }
        }
    }
}

impl Port for MuxPort {
    fn label(&self) -> String {
        self.mux.below.label()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.mux.state.lock();
        let Some(since) = state.timestamps else {
            drop(state);
            return Ok(self.mux.below.write(bytes));
        };
        // A stamp in front of each line; the bytes go one line at a time so that the count stays right.
        if state.line_start {
            state.line_start = false;
            let ms = since.elapsed().as_millis();
            let stamp = format!(
                "[{:02}:{:02}:{:02}.{:03}] ",
                ms / 3_600_000,
                ms / 60_000 % 60,
                ms / 1000 % 60,
                ms % 1000
            );
            self.mux.below.write(stamp.as_bytes());
        }
        let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let done = self.mux.below.write(&bytes[..end]);
        if done > 0 && bytes[done - 1] == b'\n' {
            state.line_start = true;
        }
        Ok(done)
    }

    fn on_writable(&self, call: OnceCall) {
        self.mux.below.on_writable(call);
    }

    fn wait_writable(&self) {
        self.mux.below.wait_writable();
    }

    fn set_handler(&self, handler: Option<Weak<dyn Handler>>) {
        let present = handler.is_some();
        let first = {
            let mut state = self.mux.state.lock();
            state.slots[self.index].handler = handler;
            state.slots[self.index].told_open = false;
            state.slots[self.index].placed = false;
            present && state.focus.is_none()
        };
        if present {
            let (mux, index) = (self.mux.clone(), self.index);
            self.mux.handle.defer(move || {
                // The first front end with a handler starts in the foreground.
                if first && mux.state.lock().focus.is_none() {
                    mux.set_focus(index);
                    mux.below.accept_input();
                }
                let background = mux.state.lock().focus.is_some_and(|focus| focus != index);
                if background && let Some(handler) = mux.handler(index) {
                    handler.event(Event::MuxOut);
                }
                mux.state.lock().slots[index].placed = true;
                mux.tell_open(index);
                mux.drain();
            });
        }
    }

    fn accept_input(&self) {
        let mux = self.mux.clone();
        self.mux.handle.defer(move || {
            mux.drain();
            mux.below.accept_input();
        });
    }

    fn is_open(&self) -> bool {
        self.mux.open.load(Ordering::SeqCst)
    }

    fn set_echo(&self, echo: bool) {
        self.mux.below.set_echo(echo);
    }

    fn take_focus(&self) {
        let (mux, index) = (self.mux.clone(), self.index);
        self.mux.handle.defer(move || mux.set_focus(index));
    }

    fn disconnect(&self) {
        self.mux.below.disconnect();
    }
}
