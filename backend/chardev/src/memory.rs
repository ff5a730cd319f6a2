//! A back end in memory, for the tests of devices.

use crate::frontend::{CharFrontend, Event, Handler, OnceCall, Port};
use parking_lot::Mutex;
use std::io;
use std::sync::{Arc, Weak};

struct Memory {
    label: String,
    output: Mutex<Vec<u8>>,
    room: Mutex<usize>,
    waiting: Mutex<Vec<OnceCall>>,
    handler: Mutex<Option<Weak<dyn Handler>>>,
}

/// The other side of [`memory`]: what the test holds.
pub struct MemoryPeer {
    inner: Arc<Memory>,
}

/// A front end and its peer, without an event loop: the peer's calls run the handler on the caller's thread.
pub fn memory(label: &str) -> (CharFrontend, MemoryPeer) {
    let inner = Arc::new(Memory {
        label: label.to_owned(),
        output: Mutex::default(),
        room: Mutex::new(usize::MAX),
        waiting: Mutex::default(),
        handler: Mutex::default(),
    });
    (CharFrontend::new(inner.clone()), MemoryPeer { inner })
}

impl MemoryPeer {
    fn handler(&self) -> Option<Arc<dyn Handler>> {
        self.inner.handler.lock().as_ref()?.upgrade()
    }

    /// Offers bytes to the device as a terminal would; returns how many it took.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let Some(handler) = self.handler() else { return 0 };
        let mut done = 0;
        while done < bytes.len() {
            let n = handler.can_receive().min(bytes.len() - done);
            if n == 0 {
                break;
            }
            handler.receive(&bytes[done..done + n]);
            done += n;
        }
        done
    }

    /// Sends an event to the device.
    pub fn event(&self, event: Event) {
        if let Some(handler) = self.handler() {
            handler.event(event);
        }
    }

    /// Everything written since the last call.
    pub fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut *self.inner.output.lock())
    }

    /// Limits how many more bytes are taken, and calls those who wait for room.
    pub fn set_room(&self, room: usize) {
        *self.inner.room.lock() = room;
        for call in std::mem::take(&mut *self.inner.waiting.lock()) {
            call();
        }
    }
}

impl Port for Memory {
    fn label(&self) -> String {
        self.label.clone()
    }
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock();
        let n = bytes.len().min(*room);
        *room -= n;
        self.output.lock().extend_from_slice(&bytes[..n]);
        Ok(n)
    }
    fn on_writable(&self, call: OnceCall) {
        self.waiting.lock().push(call);
    }
    fn wait_writable(&self) {
        *self.room.lock() = usize::MAX;
    }
    fn set_handler(&self, handler: Option<Weak<dyn Handler>>) {
        *self.handler.lock() = handler;
    }
    fn accept_input(&self) {}
    fn is_open(&self) -> bool {
        true
    }
    fn set_echo(&self, _echo: bool) {}
    fn take_focus(&self) {}
    fn disconnect(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_peer_takes_part_and_calls_back() {
        let (front, peer) = memory("m");
        peer.set_room(2);
        assert_eq!(front.write(b"abc"), 2);
        let called = Arc::new(Mutex::new(false));
        let flag = called.clone();
        front.on_writable(move || *flag.lock() = true);
        assert!(!*called.lock());
        peer.set_room(10);
        assert!(*called.lock());
        assert_eq!(front.write(b"c"), 1);
        assert_eq!(peer.take_output(), b"abc");
    }
}
