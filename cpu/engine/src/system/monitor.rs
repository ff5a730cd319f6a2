//! MONITOR and MWAIT: waiting for a store of another vCPU (SDM vol. 3, 8.10).
//!
//! No store tells anybody that it was made, so the one that waits looks at the memory now and then, and gives up after a
//! while: MWAIT may return for any reason.

use crate::cpu::Cpu;
use accel::Vcpu;
use irq::Event;
use std::time::{Duration, Instant};

/// Words of a monitored line, 64 bytes.
const WORDS: u64 = 8;
/// The time between the first two looks; it doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_micros(20);
const SLOWEST: Duration = Duration::from_millis(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_millis(10);

/// A line of memory as MONITOR found it.
#[derive(Clone, Copy)]
pub(crate) struct Monitored {
    physical: u64,
    words: [u64; WORDS as usize],
}

impl Cpu {
    /// Watches the line of the linear address `at`, which can be read.
    pub(crate) fn arm_monitor(&mut self, at: u64) {
        self.monitored = self.translate_quietly(at).and_then(|physical| {
            let physical = physical & !(8 * WORDS - 1);
            Some(Monitored { physical, words: self.line(physical)? })
        });
    }

    /// A line of RAM; registers have no lines.
    fn line(&self, physical: u64) -> Option<[u64; WORDS as usize]> {
        let r = self.ram.find(physical).filter(|r| r.last - physical >= 8 * WORDS - 1)?;
        Some(std::array::from_fn(|n| r.block.read_int(r.offset + (physical - r.start) + 8 * n as u64, 8)))
    }

    /// Sleeps until the monitored line changes, an event comes, or a short time has passed. Without a monitored line
    /// there is nothing to wait for.
    pub(crate) fn wait_for_store(&mut self) {
        let Some(monitored) = self.monitored.take() else { return };
        if self.exclusive {
            return;
        }
        let events = self.wake_mask() | Event::Accel as u32;
        let end = Instant::now() + LONGEST;
        let mut step = FIRST;
        // The others need not wait for this one meanwhile.
        self.peers.leave(self.index);
        while self.signals.pending() & events == 0
            && self.line(monitored.physical) == Some(monitored.words)
            && Instant::now() < end
        {
            self.signals.wait(events, Some(step));
            step = SLOWEST.min(2 * step);
            self.io.poll_timers();
        }
        self.peers.enter(self.index);
        self.carry_out_requests();
    }
}
