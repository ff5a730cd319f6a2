//! Which address spaces run in processes: those that compute for long between their entries into the kernel.
//!
//! At each external interrupt it is looked at whose code was interrupted. An address space that is found there mostly,
//! and which enters the kernel seldom, is promoted; one that comes back from its process too often is demoted,
//! and stays out for a while, the longer the more often that has happened.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long is measured before an address space is promoted.
const MEASURE: Duration = Duration::from_millis(12);
/// User code runs this long between entries into the kernel, at least, to be promoted.
const PROMOTE: Duration = Duration::from_micros(100);
/// Less than this in a process, and it is not worth it.
const DEMOTE: Duration = Duration::from_micros(40);
/// How long is measured in a process.
const MEASURE_INSIDE: Duration = Duration::from_millis(100);
/// Returns after which that is enough: a program full of instructions that are the engine's is to come out soon.
const MOST_RETURNS: u32 = 1000;
/// How long a demoted address space is left alone at first.
const BANNED: Duration = Duration::from_secs(1);
/// Address spaces that are remembered.
const MOST: usize = 64;

/// What is measured of the code that runs outside of processes.
struct Window {
    space: u64,
    since: Instant,
    /// Entries into the kernel at that time.
    entries: u64,
    /// Interrupts of this address space's user code, and of anything else.
    own: u32,
    others: u32,
}

/// What is measured of a process.
#[derive(Default)]
pub(super) struct Stays {
    since: Option<Instant>,
    inside: Duration,
    left: u32,
}

/// What is known of all address spaces.
#[derive(Default)]
pub(super) struct Policy {
    window: Option<Window>,
    promoted: Vec<u64>,
    banned: HashMap<u64, (Instant, u32)>,
}

impl Policy {
    pub(super) fn is_promoted(&self, space: u64) -> bool {
        self.promoted.contains(&space)
    }

    /// An interrupt came in while user code of `space` ran (`None`: something else); `entries` into the kernel were
    /// made up to now. True when an address space was promoted.
    pub(super) fn sample(&mut self, space: Option<u64>, entries: u64, now: Instant) -> bool {
        let Some(window) = &mut self.window else {
            self.window = space.map(|space| Window { space, since: now, entries, own: 0, others: 0 });
            return false;
        };
        if space == Some(window.space) {
            window.own += 1;
        } else {
            window.others += 1;
        }
        let elapsed = now - window.since;
        if elapsed < MEASURE {
            return false;
        }
        let made = entries.wrapping_sub(window.entries).max(1);
        let seldom = elapsed.as_nanos() >= u128::from(made) * PROMOTE.as_nanos();
        let hot = window.own >= 2 && window.own >= window.others && seldom;
        let which = window.space;
        self.window = space.map(|space| Window { space, since: now, entries, own: 0, others: 0 });
        if !hot || self.is_promoted(which) || self.banned.get(&which).is_some_and(|(until, _)| now < *until) {
            return false;
        }
        if self.promoted.len() >= MOST {
            self.promoted.remove(0);
        }
        self.promoted.push(which);
        true
    }

    /// The address space is not what it was.
    pub(super) fn forget(&mut self, space: u64) {
        self.promoted.retain(|s| *s != space);
    }

    /// Notes that a process of `space` was left after `inside`; true when it was demoted.
    pub(super) fn left(&mut self, stays: &mut Stays, space: u64, inside: Duration, now: Instant) -> bool {
        let since = *stays.since.get_or_insert(now);
        stays.inside += inside;
        stays.left += 1;
        if now - since < MEASURE_INSIDE && stays.left < MOST_RETURNS {
            return false;
        }
        let short = stays.inside < DEMOTE * stays.left;
        *stays = Stays::default();
        if !short || !self.is_promoted(space) {
            return false;
        }
        self.forget(space);
        if self.banned.len() >= MOST {
            self.banned.retain(|_, (until, _)| now < *until);
        }
        if self.banned.len() < MOST {
            let (until, times) = self.banned.entry(space).or_insert((now, 0));
            *until = now + BANNED * (1 << (*times).min(6));
            *times += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn who_computes_is_promoted_and_who_calls_is_not() {
        let start = Instant::now();
        let mut p = Policy::default();
        for tick in 0..10 {
            let promoted = p.sample(Some(0x1000), tick * 2, at(start, 4 * tick));
            assert_eq!(promoted, tick == 3, "{tick}");
        }
        assert!(p.is_promoted(0x1000));
        let mut p = Policy::default();
        assert!((0..50).all(|tick| !p.sample(Some(0x2000), tick * 1000, at(start, 4 * tick))));
        assert!((0..50).all(|tick| !p.sample(
            (tick % 3 == 0).then_some(0x3000),
            0,
            at(start, 500 + 4 * tick)
        )));
    }

    #[test]
    fn who_leaves_too_often_is_kept_out_for_a_while() {
        let start = Instant::now();
        let mut p = Policy { promoted: vec![0x1000], ..Policy::default() };
        let mut stays = Stays::default();
        let mut leave = |p: &mut Policy, inside: u64, n: u64| {
            p.left(&mut stays, 0x1000, Duration::from_micros(inside), at(start, n))
        };
        assert!((0..300).all(|n| !leave(&mut p, 90, n)));
        assert!((300..500).any(|n| leave(&mut p, 10, n)));
        assert!(!p.is_promoted(0x1000));
        let mut early = Policy { promoted: vec![0x1000], ..Policy::default() };
        let mut stays = Stays::default();
        let mut out = |n: u64| early.left(&mut stays, 0x1000, Duration::from_micros(5), at(start, n / 100));
        assert_eq!((0..3000).position(&mut out), Some(999));
        let hot =
            |p: &mut Policy, from: u64| (0..20).any(|t| p.sample(Some(0x1000), 0, at(start, from + 4 * t)));
        assert!(!hot(&mut p, 600));
        assert!(hot(&mut p, 2000));
    }
}
