//! Ports for displays: each is tried by listening on it, and kept for one guest.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::TcpListener;

/// The ports of a range that are taken by guests.
#[derive(Default)]
pub struct Ports {
    taken: Mutex<BTreeSet<u16>>,
}

impl Ports {
    /// A free port of the range.
    pub fn acquire(&self, (first, last): (u16, u16)) -> Option<u16> {
        let mut taken = self.taken.lock();
        let port = (first..=last).find(|port| !taken.contains(port) && is_free(*port))?;
        taken.insert(port);
        Some(port)
    }

    /// The port is used by a guest that was found running, or that asked for it.
    pub fn note(&self, port: u16) {
        self.taken.lock().insert(port);
    }

    /// The port's guest has gone.
    pub fn release(&self, port: u16) {
        self.taken.lock().remove(&port);
    }
}

fn is_free(port: u16) -> bool {
    // Whoever listens at one address only is as much in the way.
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_used_once() {
        let ports = Ports::default();
        let range = (47_000, 47_100);
        let one = ports.acquire(range).expect("port");
        let two = ports.acquire(range).expect("port");
        assert_ne!(one, two);
        let listener =
            (47_010..47_020).find_map(|port| Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port)));
        let (_listener, busy) = listener.expect("a free port");
        assert!((0..20).all(|_| ports.acquire(range).expect("port") != busy));
        ports.release(one);
        assert_eq!(ports.acquire(range), Some(one));
    }
}
