//! What is known of a client.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Its process; 0: unknown.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A connection, as its calls' methods see it.
#[derive(Debug)]
pub struct ClientContext {
    id: u64,
    identity: RwLock<Identity>,
    read_only: AtomicBool,
    open: AtomicBool,
    closed: AtomicBool,
    driver: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl ClientContext {
    /// A connection that has not been opened.
    pub fn new(id: u64, identity: Identity, read_only: bool) -> Self {
        Self {
            id,
            identity: RwLock::new(identity),
            read_only: AtomicBool::new(read_only),
            open: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            driver: OnceLock::new(),
        }
    }

    /// Its number, never used again in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another daemon speaks for somebody.
    pub fn set_identity(&self, identity: Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// It may only look.
    pub fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// From now on it may only look.
    pub fn set_read_only(&self) {
        self.read_only.store(true, Ordering::Relaxed);
    }

    /// `CONNECT_OPEN` succeeded.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Marks it as opened or not.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// It has gone: what works for it may stop.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Marks it as gone; whether it was before.
    pub fn set_closed(&self) -> bool {
        self.closed.swap(true, Ordering::AcqRel)
    }

    /// What the driver keeps of this connection; made by `make` when it is asked for first. `None`: what is kept is of
    /// another type.
    pub fn driver_state<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.driver.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_state_is_made_once() {
        let client = ClientContext::new(1, Identity::default(), false);
        assert_eq!(client.driver_state(|| 5u32), Some(&5));
        assert_eq!(client.driver_state(|| 6u32), Some(&5));
        assert_eq!(client.driver_state(|| 'x'), None);
    }
}
