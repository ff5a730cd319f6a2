//! A disk's requests that wait because of I/O limits.

use crate::device::QueueAccess;
use crate::queue::Chain;
use crate::transport::VirtioPci;
use block::{Admission, ThrottleGroup, ThrottleMember};
use clock::{Clock, Timer};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Most buffers of one queue's waiting requests, so that a guest cannot have memory filled with them. Behind that the
/// queue is not looked at.
const MOST_BUFFERS: usize = 1 << 14;

/// What a request is to the limits: whether it writes, and its bytes.
pub(crate) type Cost = Option<(bool, u64)>;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Straight from the queue.
    Queue,
    /// It has waited; whether it writes.
    Waited(bool),
}

/// The waiting requests of one queue: reads and writes, in order.
#[derive(Default)]
struct Parked {
    chains: [VecDeque<(Chain, u64)>; 2],
    buffers: usize,
}

fn buffers(chain: &Chain) -> usize {
    chain.readable.len() + chain.writable.len()
}

impl Parked {
    fn len(&self) -> usize {
        self.chains.iter().map(VecDeque::len).sum()
    }
}

/// How the disk's queues are woken.
#[derive(Default)]
struct Wakeup {
    transport: OnceLock<Weak<VirtioPci>>,
    /// The queues whose turn it is: of reads and of writes.
    turns: [AtomicUsize; 2],
}

impl Wakeup {
    fn wake(&self, queue: usize) {
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            transport.kick(queue);
        }
    }
}

/// Lets a disk's requests wait as the limits of its group say. Nothing blocks: the disk's worker goes on with what may
/// go, and is notified by a timer on guest time. While the machine stands still, what waits goes on waiting.
pub(crate) struct Limiter {
    member: ThrottleMember,
    wakeup: Arc<Wakeup>,
    clock: Clock,
    timers: [Timer; 2],
    queues: Vec<Mutex<Parked>>,
    most: usize,
}

impl Limiter {
    /// For a disk with `queues` queues of `most` entries.
    pub(crate) fn new(group: &Arc<ThrottleGroup>, clock: &Clock, queues: u16, most: u16) -> Self {
        let wakeup = Arc::new(Wakeup::default());
        let timers = [0, 1].map(|direction| {
            let wakeup = wakeup.clone();
            clock.timer(move || wakeup.wake(wakeup.turns[direction].load(Ordering::SeqCst)))
        });
        let of_member = wakeup.clone();
        let member = group.join(Arc::new(move |queue| of_member.wake(queue)));
        let queues = (0..queues).map(|_| Mutex::default()).collect();
        Self { member, wakeup, clock: clock.clone(), timers, queues, most: most.into() }
    }

    /// Tells how the queues are woken.
    pub(crate) fn attach(&self, transport: Weak<VirtioPci>) {
        let _ = self.wakeup.transport.set(transport);
    }

    /// Whether the first waiting request of a queue may go; if not, the queue is woken when it may.
    fn admit(&self, queue: usize, write: bool, bytes: u64) -> bool {
        match self.member.admit(queue, write, bytes, self.clock.now()) {
            Admission::Go => true,
            Admission::Until(due) => {
                let direction = usize::from(write);
                self.wakeup.turns[direction].store(queue, Ordering::SeqCst);
                self.timers[direction].arm(due);
                false
            }
            Admission::Line => false,
        }
    }

    /// The next request that may be done. `cost` tells what one is to the limits; `None`: they do not hold for it.
    pub(crate) fn next(
        &self,
        index: usize,
        queue: &mut QueueAccess<'_>,
        cost: impl Fn(&Chain) -> Cost,
    ) -> Option<(Chain, Origin)> {
        let mut parked = self.queues.get(index)?.lock();
        for write in [false, true] {
            let first = parked.chains[usize::from(write)].front().map(|(_, bytes)| *bytes);
            if first.is_some_and(|bytes| self.admit(index, write, bytes)) {
                let (chain, _) = parked.chains[usize::from(write)].pop_front()?;
                parked.buffers -= buffers(&chain);
                return Some((chain, Origin::Waited(write)));
            }
        }
        while parked.len() < self.most && parked.buffers < MOST_BUFFERS {
            let chain = queue.pop()?;
            let Some((write, bytes)) = cost(&chain) else { return Some((chain, Origin::Queue)) };
            let waiting = &mut parked.chains[usize::from(write)];
            if waiting.is_empty() && self.admit(index, write, bytes) {
                return Some((chain, Origin::Queue));
            }
            waiting.push_back((chain, bytes));
            parked.buffers += waiting.back().map_or(0, |(chain, _)| buffers(chain));
        }
        None
    }

    /// Puts the last request from [`Limiter::next`] back before all others of its direction.
    pub(crate) fn put_back(&self, index: usize, write: bool, chain: Chain, bytes: u64) {
        if let Some(parked) = self.queues.get(index) {
            let mut parked = parked.lock();
            parked.buffers += buffers(&chain);
            parked.chains[usize::from(write)].push_front((chain, bytes));
        }
    }

    /// Forgets what waits; the others of the group wait for this disk no more.
    pub(crate) fn forget(&self) {
        self.timers.iter().for_each(Timer::disarm);
        self.queues.iter().for_each(|queue| *queue.lock() = Parked::default());
        self.member.leave();
    }
}
