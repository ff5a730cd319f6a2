//! Asking silent clients whether they live.

use super::Server;
use super::connection::{Connection, Keepalive};
use crate::message::{self, Header, Kind, STATUS_OK};
use crate::protocol::{KEEPALIVE_PROGRAM, VERSION};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PING: u32 = 1;
const PONG: u32 = 2;

/// Whether a message of the program asks for an answer.
pub(super) fn is_ping(header: &Header) -> bool {
    header.version == VERSION && header.kind == Kind::Message as u32 && header.procedure == PING
}

fn packet(procedure: u32) -> Vec<u8> {
    let kind = Kind::Message as u32;
    let header = Header {
        program: KEEPALIVE_PROGRAM,
        version: VERSION,
        procedure,
        kind,
        serial: 0,
        status: STATUS_OK,
    };
    message::encode(&header, None, &()).unwrap_or_default()
}

/// The answer.
pub(super) fn pong() -> Vec<u8> {
    packet(PONG)
}

impl Keepalive {
    /// Something came.
    pub(super) fn hear(&self) {
        if self.started.load(Ordering::Relaxed) {
            self.unanswered.store(0, Ordering::Relaxed);
            *self.heard.lock() = Instant::now();
        }
    }
}

impl Connection {
    /// The client understands pings.
    pub(super) fn start_keepalive(&self) {
        *self.keepalive.heard.lock() = Instant::now();
        self.keepalive.started.store(true, Ordering::Relaxed);
    }
}

impl Server {
    /// Asks the clients that have been silent for long, and gives those up that do not answer. Answers when this is to
    /// be called next; `None`: when a client has come.
    pub fn check_clients(self: &Arc<Self>) -> Option<Instant> {
        let limits = self.limits();
        let interval = Duration::from_secs(u64::try_from(limits.keepalive_interval).unwrap_or(0));
        if interval.is_zero() {
            return None;
        }
        let now = Instant::now();
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        let mut next: Option<Instant> = None;
        for connection in connections {
            let keepalive = &connection.keepalive;
            if !keepalive.started.load(Ordering::Relaxed) {
                continue;
            }
            let due = *keepalive.heard.lock() + interval;
            if due <= now {
                let unanswered = keepalive.unanswered.fetch_add(1, Ordering::Relaxed);
                if unanswered >= limits.keepalive_count {
                    self.drop_client(&connection);
                    continue;
                }
                *keepalive.heard.lock() = now;
                let sent = connection.send_event(packet(PING));
                self.sent(&connection, sent);
            }
            let due = due.max(now) + if due <= now { interval } else { Duration::ZERO };
            next = Some(next.map_or(due, |at| at.min(due)));
        }
        next
    }
}
