//! What other threads ask of a vCPU: interrupts, INIT, stop requests.

use parking_lot::{Condvar, Mutex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// One kind of request to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Event {
    /// An interrupt controller has a maskable interrupt for this vCPU. A level: set and cleared by the controller.
    Intr = 1 << 0,
    /// A non-maskable interrupt.
    Nmi = 1 << 1,
    /// The INIT signal.
    Init = 1 << 2,
    /// A start-up message; its vector is [`CpuSignals::sipi_vector`].
    Sipi = 1 << 3,
    /// Leave `run` as soon as possible (pause, stop, reset, quit).
    Exit = 1 << 4,
    /// The memory map or the A20 gate changed: drop every cached translation.
    MapChanged = 1 << 5,
    /// The accelerator's own cross-vCPU requests (it keeps the details itself).
    Accel = 1 << 6,
}

/// The mailbox of one vCPU. Any thread posts, the vCPU's thread takes.
#[derive(Default)]
pub struct CpuSignals {
    bits: AtomicU32,
    sipi: AtomicU8,
    sleeping: Mutex<bool>,
    woken: Condvar,
    kick: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl CpuSignals {
    /// An empty mailbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Installs what makes a vCPU leave guest mode when polling [`CpuSignals::pending`] is not enough (KVM).
    /// Only the first call has an effect.
    pub fn set_kick(&self, kick: Box<dyn Fn() + Send + Sync>) {
        let _ = self.kick.set(kick);
    }

    /// Posts `event` and wakes the vCPU.
    pub fn raise(&self, event: Event) {
        let before = self.bits.fetch_or(event as u32, Ordering::SeqCst);
        if before & event as u32 != 0 {
            return;
        }
        // The lock orders this with a vCPU that has just looked and is about to sleep.
        let sleeping = *self.sleeping.lock();
        if sleeping {
            self.woken.notify_all();
        } else if let Some(kick) = self.kick.get() {
            kick();
        }
    }

    /// Where [`CpuSignals::pending`] reads; valid as long as `self`.
    pub fn pending_word(&self) -> *const AtomicU32 {
        &raw const self.bits
    }

    /// Takes `event` back (a level that went low).
    pub fn clear(&self, event: Event) {
        self.bits.fetch_and(!(event as u32), Ordering::SeqCst);
    }

    /// Posts a start-up message with its vector (the start page number).
    pub fn raise_sipi(&self, vector: u8) {
        self.sipi.store(vector, Ordering::SeqCst);
        self.raise(Event::Sipi);
    }

    /// The vector of the last start-up message.
    pub fn sipi_vector(&self) -> u8 {
        self.sipi.load(Ordering::SeqCst)
    }

    /// All posted events as a mask; one relaxed load, for the vCPU's inner loop.
    #[inline]
    pub fn pending(&self) -> u32 {
        self.bits.load(Ordering::Relaxed)
    }

    /// Whether `event` is posted.
    pub fn is_raised(&self, event: Event) -> bool {
        self.bits.load(Ordering::SeqCst) & event as u32 != 0
    }

    /// Takes `event` out of the mailbox; true when it was there.
    pub fn take(&self, event: Event) -> bool {
        self.bits.fetch_and(!(event as u32), Ordering::SeqCst) & event as u32 != 0
    }

    /// Sleeps until an event in `mask` is posted, or `timeout` has passed. Returns at once when one already is.
    pub fn wait(&self, mask: u32, timeout: Option<Duration>) {
        let mut sleeping = self.sleeping.lock();
        *sleeping = true;
        while self.bits.load(Ordering::SeqCst) & mask == 0 {
            match timeout {
                Some(limit) => {
                    self.woken.wait_for(&mut sleeping, limit);
                    break;
                }
                None => self.woken.wait(&mut sleeping),
            }
        }
        *sleeping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_sleeping_vcpu_is_woken_by_an_event_in_its_mask() {
        let signals = Arc::new(CpuSignals::new());
        let sleeper = {
            let signals = signals.clone();
            std::thread::spawn(move || {
                signals.wait(Event::Nmi as u32, None);
                signals.take(Event::Nmi)
            })
        };
        signals.raise(Event::Nmi);
        assert!(sleeper.join().expect("sleeper"));
        assert_eq!(signals.pending(), 0);
    }

    #[test]
    fn the_kick_runs_once_for_an_event_that_is_already_posted() {
        let signals = CpuSignals::new();
        let count = Arc::new(AtomicU32::new(0));
        let seen = count.clone();
        signals.set_kick(Box::new(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        signals.raise(Event::Intr);
        signals.raise(Event::Intr);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        signals.raise_sipi(0x9a);
        assert_eq!((signals.sipi_vector(), count.load(Ordering::SeqCst)), (0x9a, 2));
    }
}
