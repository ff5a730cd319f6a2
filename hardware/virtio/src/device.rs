//! What a virtio device is to its transport.

use crate::queue::{Chain, Queue};
use crate::transport::VirtioPci;
use guestmem::Dma;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The device side of one queue, while the device processes it.
pub struct QueueAccess<'a> {
    pub(crate) queue: &'a Mutex<Queue>,
    pub(crate) dma: &'a Dma,
    pub(crate) broken: &'a AtomicBool,
    pub(crate) interrupt: &'a dyn Fn(),
}

impl QueueAccess<'_> {
    /// Takes the next request. A broken ring ends the device's work until it is reset.
    pub fn pop(&mut self) -> Option<Chain> {
        match self.queue.lock().pop(self.dma) {
            Ok(chain) => chain,
            Err(_) => {
                self.broken.store(true, Ordering::SeqCst);
                None
            }
        }
    }

    /// Gives a request back, with `written` bytes written to its buffers.
    pub fn push(&mut self, chain: &Chain, written: u32) {
        self.queue.lock().push(self.dma, chain, written);
    }

    /// Puts the last request taken back, unprocessed.
    pub fn unpop(&mut self) {
        self.queue.lock().unpop();
    }

    /// Interrupts the driver, if it wants that.
    pub fn notify(&mut self) {
        let wanted = self.queue.lock().wants_interrupt(self.dma);
        if wanted {
            (self.interrupt)();
        }
    }

    /// Whether the device has asked to be reset, or its ring makes no sense.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// The request makes no sense: the device asks to be reset.
    pub fn set_broken(&mut self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

/// A kind of virtio device.
pub trait VirtioDevice: Send + Sync {
    /// Virtio device id (2 disk, 3 console, 4 entropy).
    fn id(&self) -> u16;
    /// Offered features below the transport's own (bits 0 to 23 and 50 up).
    fn features(&self) -> u64;
    /// Entries of each queue.
    fn queues(&self) -> Vec<u16>;
    /// The device's configuration space.
    fn config(&self) -> Vec<u8>;
    /// The driver wrote `data` at `offset` of it.
    fn write_config(&self, offset: usize, data: &[u8]);
    /// The driver has agreed to `features`.
    fn set_features(&self, features: u64);
    /// The driver notified queue `index`, or it has just been switched on. Runs on the device's worker thread and does
    /// a bounded amount of work; true: there may be more to do.
    fn process(&self, index: usize, queue: &mut QueueAccess<'_>) -> bool;
    /// Back to the power-up state; no queue is being processed.
    fn reset(&self);
    /// The machine goes on after a stop; true: requests wait that could not be done before it.
    fn resumed(&self) -> bool {
        false
    }
    /// The buses that the device provides.
    fn buses(&self) -> Vec<Arc<dyn qdev::Bus>> {
        Vec::new()
    }
    /// Tells the device how to reach its transport, once.
    fn attach(&self, _transport: Weak<VirtioPci>) {}
}
