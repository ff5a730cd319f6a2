//! What the vCPUs of one machine tell each other: which pages hold code, and who runs alone.

use irq::{CpuSignals, Event};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most pages kept for a vCPU that does not look; beyond that it drops every write translation.
const MAX_PAGES: usize = 1024;

/// One vCPU as the others see it.
struct Peer {
    index: u32,
    signals: Arc<CpuSignals>,
    /// Whether its thread is where guest instructions are executed.
    inside: bool,
    /// Host pages whose fast write translations have to go.
    pages: Vec<u64>,
    /// `pages` overflowed.
    all: bool,
    /// Number of the last request put into `pages`.
    asked: u64,
    /// Number of the last request carried out.
    done: u64,
}

#[derive(Default)]
struct Inner {
    list: Vec<Peer>,
    /// Number of the last request of all.
    last: u64,
    /// Pages with code that some vCPU may still write unnoticed, with the request that ends this.
    unsettled: HashMap<u64, u64>,
    /// The vCPU that wants to run, or runs, alone.
    owner: Option<u32>,
}

impl Inner {
    fn own(&mut self, index: u32) -> Option<&mut Peer> {
        self.list.iter_mut().find(|p| p.index == index)
    }

    fn settled(&self, own: u32, ticket: u64) -> bool {
        self.list.iter().all(|p| p.index == own || !p.inside || p.done >= ticket || p.asked < ticket)
    }
}

/// Who may run, of vCPUs that do so one at a time.
#[derive(Default)]
struct Turn {
    /// The one whose turn it is.
    owner: Option<u32>,
    /// Those who wait for theirs, in order.
    waiting: VecDeque<u32>,
}

/// How long the others have to wait while one runs on.
const SLICE: Duration = Duration::from_millis(2);

/// The list of all vCPUs.
#[derive(Default)]
pub(crate) struct Peers {
    /// vCPUs run one at a time.
    single: AtomicBool,
    turn: Mutex<Turn>,
    next: Condvar,
    inner: Mutex<Inner>,
    /// Somebody went outside.
    quiet: Condvar,
    /// Nobody runs alone any more.
    resumed: Condvar,
    /// Some vCPU has run user code in a process.
    processes: AtomicBool,
}

/// What a vCPU was asked for: host pages to protect, or (`all`) every page.
pub(crate) struct Requests {
    pub(crate) pages: Vec<u64>,
    pub(crate) all: bool,
    number: u64,
}

impl Peers {
    pub(crate) fn add(&self, index: u32, signals: Arc<CpuSignals>) {
        self.inner.lock().list.push(Peer {
            index,
            signals,
            inside: false,
            pages: Vec::new(),
            all: false,
            asked: 0,
            done: 0,
        });
    }

    /// Lets one vCPU run at a time from now on.
    pub(crate) fn set_single(&self) {
        self.single.store(true, Ordering::Relaxed);
    }

    /// Waits until it is `own`'s turn.
    fn begin_turn(&self, own: u32) {
        if !self.single.load(Ordering::Relaxed) {
            return;
        }
        let mut turn = self.turn.lock();
        turn.waiting.push_back(own);
        while turn.owner.is_some() || turn.waiting.front() != Some(&own) {
            if !self.next.wait_for(&mut turn, SLICE).timed_out() {
                continue;
            }
            // Only the first in line asks.
            let asked = turn.owner.filter(|_| turn.waiting.front() == Some(&own));
            if let Some(owner) = asked {
                MutexGuard::unlocked(&mut turn, || {
                    if let Some(peer) = self.inner.lock().own(owner) {
                        peer.signals.raise(Event::Accel);
                    }
                });
            }
        }
        turn.waiting.pop_front();
        turn.owner = Some(own);
    }

    /// Whether vCPUs run one at a time, and another waits for its turn.
    pub(crate) fn is_awaited(&self) -> bool {
        self.single.load(Ordering::Relaxed) && !self.turn.lock().waiting.is_empty()
    }

    /// Ends `own`'s turn.
    fn end_turn(&self, own: u32) {
        if self.single.load(Ordering::Relaxed) {
            let mut turn = self.turn.lock();
            if turn.owner == Some(own) {
                turn.owner = None;
            }
            self.next.notify_all();
        }
    }

    /// Takes the vCPU off the list.
    pub(crate) fn remove(&self, index: u32) {
        self.inner.lock().list.retain(|p| p.index != index);
    }

    /// Begins to watch a page for `own`: `watch` says whether the page was not watched before. The number of the
    /// request that must be carried out before writes by others are noticed for sure; 0 when they are now.
    pub(crate) fn watch(&self, own: u32, host: u64, watch: impl FnOnce() -> bool) -> (bool, u64) {
        let mut inner = self.inner.lock();
        let fresh = watch();
        if inner.list.len() < 2 {
            return (fresh, 0);
        }
        if !fresh {
            let ticket = inner.unsettled.get(&host).copied().unwrap_or(0);
            return (fresh, ticket);
        }
        inner.last += 1;
        let ticket = inner.last;
        for peer in inner.list.iter_mut().filter(|p| p.index != own) {
            if peer.pages.len() < MAX_PAGES {
                peer.pages.push(host);
            } else {
                peer.all = true;
            }
            peer.asked = ticket;
            // Outside it looks before it executes anything.
            if peer.inside {
                peer.signals.raise(Event::Accel);
            }
        }
        inner.unsettled.insert(host, ticket);
        (fresh, ticket)
    }

    /// Notes that a vCPU runs user code in a process from now on.
    pub(crate) fn note_processes(&self) {
        self.processes.store(true, Ordering::SeqCst);
    }

    /// Whether any vCPU has done so.
    pub(crate) fn have_processes(&self) -> bool {
        self.processes.load(Ordering::SeqCst)
    }

    /// Has every other vCPU look up from what it executes: code has changed.
    pub(crate) fn call_others(&self, own: u32) {
        for peer in self.inner.lock().list.iter().filter(|p| p.index != own && p.inside) {
            peer.signals.raise(Event::Accel);
        }
    }

    /// Whether every other vCPU has carried out request `ticket` for the page at `host`, or will before it executes
    /// an instruction.
    pub(crate) fn settled(&self, own: u32, host: u64, ticket: u64) -> bool {
        let mut inner = self.inner.lock();
        let settled = inner.settled(own, ticket);
        // Another vCPU that is outside now may ask the same later: it takes its own requests first.
        if settled && inner.own(own).is_some_and(|p| p.done >= ticket || p.asked < ticket) {
            if inner.unsettled.get(&host) == Some(&ticket) {
                inner.unsettled.remove(&host);
            }
            return true;
        }
        false
    }

    /// What was asked of `own`; [`Peers::carried_out`] has to follow.
    pub(crate) fn take(&self, own: u32) -> Requests {
        let mut inner = self.inner.lock();
        inner.own(own).map_or(Requests { pages: Vec::new(), all: false, number: 0 }, |p| Requests {
            pages: std::mem::take(&mut p.pages),
            all: std::mem::take(&mut p.all),
            number: p.asked,
        })
    }

    /// `requests` were carried out by `own`.
    pub(crate) fn carried_out(&self, own: u32, requests: &Requests) {
        if let Some(p) = self.inner.lock().own(own) {
            p.done = p.done.max(requests.number);
        }
    }

    /// `own` is about to execute instructions, once nobody runs alone.
    pub(crate) fn enter(&self, own: u32) {
        self.begin_turn(own);
        let mut inner = self.inner.lock();
        while inner.owner.is_some() {
            self.resumed.wait(&mut inner);
        }
        if let Some(p) = inner.own(own) {
            p.inside = true;
        }
    }

    /// `own` executes no instructions for now.
    pub(crate) fn leave(&self, own: u32) {
        if let Some(p) = self.inner.lock().own(own) {
            p.inside = false;
        }
        self.quiet.notify_all();
        self.end_turn(own);
    }

    /// Lets another vCPU run alone, when one wants to.
    pub(crate) fn yield_to_owner(&self, own: u32) {
        let awaited = self.inner.lock().owner.is_some() || self.is_awaited();
        if awaited {
            self.leave(own);
            self.enter(own);
        }
    }

    /// Whether there is no other vCPU.
    pub(crate) fn is_alone(&self) -> bool {
        self.inner.lock().list.len() < 2
    }

    /// Waits until no other vCPU executes instructions, and keeps it so until [`Peers::end_exclusive`].
    pub(crate) fn begin_exclusive(&self, own: u32) {
        let mut inner = self.inner.lock();
        if let Some(p) = inner.own(own) {
            p.inside = false;
        }
        self.quiet.notify_all();
        while inner.owner.is_some() {
            self.resumed.wait(&mut inner);
        }
        inner.owner = Some(own);
        for p in inner.list.iter().filter(|p| p.inside) {
            p.signals.raise(Event::Accel);
        }
        while inner.list.iter().any(|p| p.inside) {
            self.quiet.wait(&mut inner);
        }
    }

    pub(crate) fn end_exclusive(&self, own: u32) {
        let mut inner = self.inner.lock();
        inner.owner = None;
        if let Some(p) = inner.own(own) {
            p.inside = true;
        }
        self.resumed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn peers(count: u32) -> Arc<Peers> {
        let peers = Arc::new(Peers::default());
        for n in 0..count {
            peers.add(n, Arc::new(CpuSignals::new()));
        }
        peers
    }

    #[test]
    fn a_page_settles_when_every_running_vcpu_has_looked() {
        let p = peers(3);
        p.enter(0);
        p.enter(1);
        let (fresh, ticket) = p.watch(0, 0x1000, || true);
        assert!(fresh && ticket != 0);
        assert!(!p.settled(0, 0x1000, ticket));
        assert_eq!(p.watch(2, 0x1000, || false), (false, ticket));
        let requests = p.take(1);
        assert_eq!((requests.pages.as_slice(), requests.all), (&[0x1000][..], false));
        assert!(!p.settled(0, 0x1000, ticket), "taken is not carried out");
        p.carried_out(1, &requests);
        assert!(p.settled(0, 0x1000, ticket));
        assert_eq!(p.watch(0, 0x1000, || false), (false, 0));
    }

    #[test]
    fn a_vcpu_that_does_not_look_is_told_to_drop_everything() {
        let p = peers(2);
        for n in 0..3000 {
            p.watch(0, n << 12, || true);
        }
        let requests = p.take(1);
        assert!(requests.all && requests.pages.len() == MAX_PAGES);
    }

    /// Each runs until it is asked to make room, and all come to their turns.
    #[test]
    fn one_runs_at_a_time() {
        let p = Arc::new(Peers::default());
        p.set_single();
        let signals: Vec<_> = (0..3).map(|_| Arc::new(CpuSignals::new())).collect();
        (0..3).for_each(|n| p.add(n, signals[n as usize].clone()));
        let (running, turns) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..3u32)
            .map(|own| {
                let (p, running, turns) = (p.clone(), running.clone(), turns.clone());
                let signals = signals[own as usize].clone();
                std::thread::spawn(move || {
                    p.enter(own);
                    for _ in 0..4 {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        let start = std::time::Instant::now();
                        while !signals.take(Event::Accel) && start.elapsed() < SLICE * 5 {
                            std::thread::yield_now();
                        }
                        turns.fetch_add(1, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        p.yield_to_owner(own);
                    }
                    p.leave(own);
                })
            })
            .collect();
        for t in threads {
            t.join().expect("vCPU");
        }
        assert_eq!(turns.load(Ordering::SeqCst), 12);
    }

    #[test]
    fn only_one_runs_alone() {
        let p = peers(4);
        let running = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|own| {
                let (p, running) = (p.clone(), running.clone());
                std::thread::spawn(move || {
                    p.enter(own);
                    for _ in 0..200 {
                        p.begin_exclusive(own);
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        running.fetch_sub(1, Ordering::SeqCst);
                        p.end_exclusive(own);
                        p.yield_to_owner(own);
                    }
                    p.leave(own);
                })
            })
            .collect();
        for t in threads {
            t.join().expect("vCPU");
        }
    }
}
