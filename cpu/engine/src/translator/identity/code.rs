//! What has been translated for one helper process.

use super::encode::{Flavour, Piece, Point, State, distance, entry};
use super::image::{CODE, CODE_SIZE, TABLE};
use super::process::Process;
use crate::block::{Mix, Watched};
use std::hash::BuildHasherDefault;

type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Mix>>;

/// Bytes that are left for the last piece.
const RESERVE: u64 = 64 << 10;

/// A page that was translated from.
#[derive(Clone, Copy)]
pub(super) struct Page {
    /// Its host address.
    pub(super) host: u64,
    pub(super) watched: Watched,
}

/// The translations; addresses are those of the process.
pub(super) struct Translated {
    /// Where the next piece goes, from the area's start.
    used: u64,
    start: u64,
    /// Bytes that pieces may take.
    room: u64,
    points: Vec<Point>,
    pub(super) heads: HashMap<u64, u64>,
    /// Distances that are to lead to guest addresses once these are translated.
    waiting: HashMap<u64, Vec<u64>>,
    entries: HashMap<u64, u64>,
    /// By linear address.
    pub(super) pages: HashMap<u64, Page>,
    pub(super) flavour: Flavour,
}

impl Translated {
    /// Nothing, to begin at `start` from the area's start, of `room` bytes at most.
    pub(super) fn new(start: u64, room: u64, flavour: Flavour) -> Self {
        let start = start.next_multiple_of(16);
        Self {
            used: start,
            start,
            room: room.clamp(2 * RESERVE, CODE + CODE_SIZE - start),
            points: Vec::new(),
            heads: HashMap::default(),
            waiting: HashMap::default(),
            entries: HashMap::default(),
            pages: HashMap::default(),
            flavour,
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, process: &mut Process, flavour: Flavour) {
        if self.used != self.start {
            process.clear_table();
        }
        *self = Self::new(self.start, self.room, flavour);
    }

    pub(super) fn is_full(&self) -> bool {
        self.used + RESERVE > self.start + self.room
    }

    pub(super) fn next(&self, process: &Process) -> u64 {
        process.base + self.used
    }

    /// Adds a piece that was made for [`Translated::next`] from the code at `rip`.
    pub(super) fn add(&mut self, process: &mut Process, rip: u64, piece: &Piece) {
        let head = self.next(process);
        process.put_code(self.used, &piece.code);
        self.used = (self.used + piece.code.len() as u64).next_multiple_of(16);
        self.points.extend_from_slice(&piece.points);
        for (site, target) in &piece.links {
            self.waiting.entry(*target).or_default().push(*site);
        }
        self.heads.insert(rip, head);
        for site in self.waiting.remove(&rip).into_iter().flatten() {
            process.put_code(site - process.base, &distance(site, head));
        }
    }

    /// Lets indirect jumps find the code for `rip`.
    pub(super) fn enter(&mut self, process: &mut Process, rip: u64) {
        let Some(&head) = self.heads.get(&rip) else { return };
        if self.entries.contains_key(&rip) || self.is_full() {
            return;
        }
        let slot = TABLE + (rip & 0xffff) * 8;
        let other = process.read_u64(slot);
        let at = self.next(process);
        let code = entry(at, rip, head, other);
        process.put_code(self.used, &code);
        self.used = (self.used + code.len() as u64).next_multiple_of(16);
        self.entries.insert(rip, at);
        process.put_u64(slot, at);
    }

    /// What is known of the guest at host address `at`; `None` outside the pieces.
    pub(super) fn point(&self, at: u64) -> Option<Point> {
        let n = self.points.partition_point(|p| p.at <= at);
        self.points.get(n.checked_sub(1)?).copied()
    }

    /// The guest's RIP at host address `at` when everything is in place there.
    pub(super) fn boundary(&self, at: u64) -> Option<u64> {
        let point = self.point(at)?;
        match point.state {
            State::Boundary if point.at == at => Some(point.rip),
            State::Link | State::Leave if at - point.at < super::encode::WAY_OUT => Some(point.rip),
            _ => None,
        }
    }

    /// Guest addresses that are jumped to and not translated.
    pub(super) fn missing(&self, among: &Piece) -> Vec<u64> {
        among.links.iter().map(|l| l.1).filter(|t| !self.heads.contains_key(t)).collect()
    }
}
