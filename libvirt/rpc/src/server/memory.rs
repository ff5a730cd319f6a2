//! What clients make the server hold: messages that have come and are not answered, answers that have not been taken.
//!
//! One client's part is bounded by the length of messages and by what it may have unread; that of thousands together is
//! bounded here. Beyond [`MOST`], the user of whose clients most is held loses those that hold most.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all clients of a server together may make it hold.
pub(super) const MOST: usize = 256 << 20;

/// A sum of bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Total(Arc<AtomicUsize>);

impl Total {
    /// Whether that is more than there may be.
    pub(super) fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST
    }
}

/// One client's part of a total.
#[derive(Debug)]
pub(crate) struct Account {
    total: Total,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    bytes: usize,
    /// The client has gone: what is left of its part does not count any more.
    closed: bool,
}

impl Account {
    pub(super) fn of(total: &Total) -> Arc<Self> {
        Arc::new(Self { total: total.clone(), own: Mutex::default() })
    }

    /// Bytes of this client.
    pub(super) fn bytes(&self) -> usize {
        self.own.lock().bytes
    }

    pub(super) fn add(&self, bytes: usize) {
        let mut own = self.own.lock();
        if !own.closed {
            own.bytes += bytes;
            self.total.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn subtract(&self, bytes: usize) {
        let mut own = self.own.lock();
        if !own.closed {
            own.bytes -= bytes;
            self.total.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The client has gone, and nobody else is to pay for what is still under way.
    pub(super) fn close(&self) {
        let mut own = self.own.lock();
        own.closed = true;
        self.total.0.fetch_sub(std::mem::take(&mut own.bytes), Ordering::Relaxed);
    }

    /// Bytes that were added go with the value.
    pub(super) fn held(self: &Arc<Self>, bytes: usize) -> Held {
        Held { account: self.clone(), bytes }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
    }
}

/// Bytes of an account, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let total = Total::default();
        let (one, other) = (Account::of(&total), Account::of(&total));
        one.add(MOST);
        other.add(7);
        assert!(total.is_too_much());
        let held = other.held(5);
        drop(held);
        assert_eq!((one.bytes(), other.bytes()), (MOST, 2));
        let under_way = other.held(2);
        one.close();
        assert!(!total.is_too_much());
        other.close();
        // What comes or goes then is not counted.
        other.add(3);
        drop(under_way);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }
}
