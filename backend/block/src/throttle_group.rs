//! Disks that share their limits, and whose turn it is.
//!
//! A request that may not go at once waits in its device. The group knows which disks wait, one line for reads and one
//! for writes: the first disk of a line has the turn, waits until its time has come, and then goes to the line's end.

use crate::throttle::{Buckets, Limits};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Called, without a lock held, with the number of a queue whose turn it has become.
pub type Wake = Arc<dyn Fn(usize) + Send + Sync>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes now, and was counted.
    Go,
    /// It is to ask again at this time (nanoseconds).
    Until(u64),
    /// It is not its turn; its queue is woken when it is.
    Line,
}

/// A disk that waits, with its queues that wait.
struct Waiting {
    member: u64,
    queues: VecDeque<usize>,
}

/// Those who wait with requests of one direction.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// When the first may go.
    due: u64,
}

impl Line {
    fn first(&self) -> Option<(u64, usize)> {
        let first = self.waiting.front()?;
        Some((first.member, *first.queues.front()?))
    }

    fn enter(&mut self, member: u64, queue: usize) {
        match self.waiting.iter_mut().find(|waiting| waiting.member == member) {
            Some(waiting) if waiting.queues.contains(&queue) => {}
            Some(waiting) => waiting.queues.push_back(queue),
            None => self.waiting.push_back(Waiting { member, queues: VecDeque::from([queue]) }),
        }
    }

    /// The first has gone: the next disk has the turn.
    fn rotate(&mut self) {
        if let Some(mut first) = self.waiting.pop_front() {
            first.queues.pop_front();
            if !first.queues.is_empty() {
                self.waiting.push_back(first);
            }
        }
    }
}

#[derive(Default)]
struct State {
    limits: Limits,
    buckets: Buckets,
    /// Of reads and of writes.
    lines: [Line; 2],
    members: BTreeMap<u64, Wake>,
    next: u64,
}

/// Disks that share limits.
pub struct ThrottleGroup {
    name: String,
    state: Mutex<State>,
}

impl ThrottleGroup {
    /// A group without limits or members.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), state: Mutex::default() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    /// Sets the limits; what was used so far is forgotten.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.state.lock();
        state.limits = limits;
        state.buckets = Buckets::new(&limits);
    }

    /// Takes a disk in.
    pub fn join(self: &Arc<Self>, wake: Wake) -> ThrottleMember {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.members.insert(id, wake);
        ThrottleMember { group: self.clone(), id }
    }
}

/// A disk's place in a group; it leaves the group when this is dropped.
pub struct ThrottleMember {
    group: Arc<ThrottleGroup>,
    id: u64,
}

impl ThrottleMember {
    /// Whether the first request of a queue for a direction may go at `now` (nanoseconds of the same clock for the
    /// whole group). A queue that is told to wait asks again, or the others of its group wait for it.
    pub fn admit(&self, queue: usize, write: bool, bytes: u64, now: u64) -> Admission {
        let mut guard = self.group.state.lock();
        let State { buckets, lines, members, .. } = &mut *guard;
        let line = &mut lines[usize::from(write)];
        match line.first() {
            None => {
                let wait = buckets.wait(write, now);
                if wait != 0 {
                    line.enter(self.id, queue);
                    line.due = now.saturating_add(wait);
                    return Admission::Until(line.due);
                }
                buckets.account(write, bytes);
            }
            Some(first) if first != (self.id, queue) => {
                line.enter(self.id, queue);
                return Admission::Line;
            }
            Some(_) if now < line.due => return Admission::Until(line.due),
            // Its time was set when it got the turn: what the other direction used since does not delay it further, or
            // the one direction could keep the other from ever going.
            Some(_) => {
                buckets.account(write, bytes);
                line.rotate();
                if let Some((member, queue)) = line.first() {
                    line.due = now.saturating_add(buckets.wait(write, now));
                    let wake = members.get(&member).cloned();
                    drop(guard);
                    if let Some(wake) = wake {
                        wake(queue);
                    }
                }
            }
        }
        Admission::Go
    }

    /// None of the disk's requests waits any more.
    pub fn leave(&self) {
        self.depart(false);
    }

    fn depart(&self, forever: bool) {
        let mut woken = Vec::new();
        {
            let mut guard = self.group.state.lock();
            let State { lines, members, .. } = &mut *guard;
            if forever {
                members.remove(&self.id);
            }
            for line in lines {
                let first = line.first();
                line.waiting.retain(|waiting| waiting.member != self.id);
                if let Some((member, queue)) = line.first().filter(|next| Some(*next) != first) {
                    woken.extend(members.get(&member).cloned().map(|wake| (wake, queue)));
                }
            }
        }
        for (wake, queue) in woken {
            wake(queue);
        }
    }
}

impl Drop for ThrottleMember {
    fn drop(&mut self) {
        self.depart(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::Rate;

    const SECOND: u64 = 1_000_000_000;

    fn group() -> Arc<ThrottleGroup> {
        let group = ThrottleGroup::new("g");
        let mut limits = Limits::default();
        limits.rates[3] = Rate { average: 10, ..Rate::default() };
        limits.check().expect("sound");
        group.set_limits(limits);
        group
    }

    type Woken = Arc<Mutex<Vec<(usize, usize)>>>;

    fn member(group: &Arc<ThrottleGroup>, name: usize, woken: &Woken) -> ThrottleMember {
        let woken = woken.clone();
        group.join(Arc::new(move |queue| woken.lock().push((name, queue))))
    }

    #[test]
    fn disks_take_turns() {
        let (group, woken) = (group(), Woken::default());
        let disks = [0, 1, 2].map(|name| member(&group, name, &woken));
        // Disk 0 is greedy: it has two queues.
        assert_eq!(disks[0].admit(0, false, 512, 0), Admission::Go);
        assert_eq!(disks[0].admit(0, false, 512, 0), Admission::Go);
        assert_eq!(disks[0].admit(0, false, 512, 0), Admission::Until(SECOND / 10));
        assert_eq!(disks[0].admit(1, false, 512, 0), Admission::Line);
        assert_eq!(disks[1].admit(0, false, 512, 0), Admission::Line);
        assert_eq!(disks[2].admit(5, false, 512, 0), Admission::Line);
        let mut turn = (0, 0);
        let mut turns = Vec::new();
        for step in 1..=7 {
            let (disk, queue) = turn;
            let now = step * SECOND / 10;
            assert_eq!(disks[disk].admit(queue, false, 512, now - 1), Admission::Until(now));
            assert_eq!(disks[disk].admit(queue, false, 512, now), Admission::Go);
            // It has another.
            assert_eq!(disks[disk].admit(queue, false, 512, now), Admission::Line);
            turns.push(turn);
            turn = woken.lock().pop().expect("the next is woken");
            assert!(woken.lock().is_empty());
        }
        assert_eq!(turns, [(0, 0), (1, 0), (2, 5), (0, 1), (1, 0), (2, 5), (0, 0)]);
    }

    #[test]
    fn who_leaves_passes_the_turn_on() {
        let (group, woken) = (group(), Woken::default());
        let disks = [0, 1].map(|name| member(&group, name, &woken));
        for write in [false, true] {
            disks[0].admit(0, write, 512, 0);
        }
        for write in [false, true] {
            assert_eq!(disks[0].admit(0, write, 512, 0), Admission::Until(SECOND / 10));
            assert_eq!(disks[1].admit(3, write, 512, 0), Admission::Line);
        }
        disks[0].leave();
        assert_eq!(*woken.lock(), [(1, 3), (1, 3)]);
        assert_eq!(disks[1].admit(3, true, 512, 0), Admission::Until(SECOND / 10));
        assert_eq!(disks[0].admit(0, true, 512, 0), Admission::Line);
        // Both directions go when their time has come, though either uses what the other waits for.
        assert_eq!(disks[1].admit(3, true, 512, SECOND / 10), Admission::Go);
        assert_eq!(disks[1].admit(3, false, 512, SECOND / 10), Admission::Go);
        assert_eq!(woken.lock().pop(), Some((0, 0)));
        let [first, second] = disks;
        assert_eq!(second.admit(3, true, 512, SECOND / 10), Admission::Line);
        drop(first);
        assert_eq!(woken.lock().pop(), Some((1, 3)));
        assert_eq!(second.admit(3, true, 512, 9 * SECOND), Admission::Go);
        assert_eq!(second.admit(3, true, 512, 9 * SECOND), Admission::Go);
    }
}
