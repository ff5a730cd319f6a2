//! The device's end of a character device.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

/// Something that happened on a character device, told to its front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other side is there (a socket's peer connected; for most back ends: from the start).
    Open,
    /// The other side went away.
    Close,
    /// The line was held in the break condition.
    Break,
    /// This front end of a multiplexer got the focus.
    MuxIn,
    /// This front end of a multiplexer lost the focus.
    MuxOut,
}

/// What a device does with what arrives.
///
/// All calls come from the event loop's thread, one at a time, with no lock of this crate held; a handler may take the
/// device's lock and may write to the front end. No handler is ever called from within a call *of* the front end.
pub trait Handler: Send + Sync {
    /// How many bytes the device takes now. When this was 0, nothing arrives until [`CharFrontend::accept_input`].
    fn can_receive(&self) -> usize;
    /// Takes bytes, at most as many as [`Handler::can_receive`] just said and at least one.
    fn receive(&self, bytes: &[u8]);
    /// Takes an event.
    fn event(&self, event: Event);
}

/// A call that is made once, on the event loop's thread.
pub type OnceCall = Box<dyn FnOnce() + Send>;

/// What stands behind a front end: a back end, or one place at a multiplexer.
pub(crate) trait Port: Send + Sync {
    fn label(&self) -> String;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    fn on_writable(&self, call: OnceCall);
    fn wait_writable(&self);
    fn set_handler(&self, handler: Option<Weak<dyn Handler>>);
    fn accept_input(&self);
    fn is_open(&self) -> bool;
    fn set_echo(&self, echo: bool);
    fn take_focus(&self);
    fn disconnect(&self);
}

/// A device's handle on its character device. Exclusive: one device a back end, or one place at a multiplexer.
pub struct CharFrontend {
    port: Arc<dyn Port>,
}

impl fmt::Debug for CharFrontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CharFrontend").field(&self.port.label()).finish()
    }
}

impl CharFrontend {
    pub(crate) fn new(port: Arc<dyn Port>) -> Self {
        Self { port }
    }

    /// The id of the character device.
    pub fn label(&self) -> String {
        self.port.label()
    }

    /// Offers bytes without waiting; returns how many were taken. Fewer than offered means that the back end is full:
    /// ask [`CharFrontend::on_writable`] and offer the rest again. A back end without a peer, or one in error, takes
    /// and drops everything, as an unplugged cable does.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.port.write(&bytes[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return bytes.len(),
            }
        }
        done
    }

    /// Writes everything, waiting for the back end where it is full. Not for a vCPU's thread.
    pub fn write_all(&self, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let n = self.write(&bytes[done..]);
            done += n;
            if n == 0 {
                self.port.wait_writable();
            }
        }
    }

    /// Waits a little for room.
    pub(crate) fn wait_writable(&self) {
        self.port.wait_writable();
    }

    /// Calls `call` once, on the event loop's thread, when writing is worth another try.
    pub fn on_writable(&self, call: impl FnOnce() + Send + 'static) {
        self.port.on_writable(Box::new(call));
    }

    /// Sets who takes what arrives; `None` leaves input waiting. The new handler gets [`Event::Open`] soon when the
    /// other side is there already.
    pub fn set_handler(&self, handler: Option<Weak<dyn Handler>>) {
        self.port.set_handler(handler);
    }

    /// Says that [`Handler::can_receive`] may have grown. To be called whenever a device that was full has room again;
    /// any thread, and under the device's lock too.
    pub fn accept_input(&self) {
        self.port.accept_input();
    }

    /// Whether the other side is there.
    pub fn is_open(&self) -> bool {
        self.port.is_open()
    }

    /// Whether a terminal behind the back end echoes what is typed (line mode) or is raw.
    pub fn set_echo(&self, echo: bool) {
        self.port.set_echo(echo);
    }

    /// On a multiplexer: brings this front end to the foreground.
    pub fn take_focus(&self) {
        self.port.take_focus();
    }

    /// Ends the connection to the present peer, if the back end has such a thing.
    pub fn disconnect(&self) {
        self.port.disconnect();
    }
}

impl Drop for CharFrontend {
    fn drop(&mut self) {
        self.port.set_handler(None);
    }
}
