//! What the administration changes outside of the servers.

use crate::log;
use rpc::Error;
use rpc::server::LogControl;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Seconds without clients and guests until the end; 0: none.
#[derive(Debug, Default)]
pub struct Timeout(AtomicU32);

impl Timeout {
    /// The seconds.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes them.
    pub fn set(&self, seconds: u32) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

/// The log and the timeout.
pub struct Control {
    /// The timeout.
    pub timeout: Arc<Timeout>,
    /// Called when it has been changed.
    pub changed: Box<dyn Fn() + Send + Sync>,
}

impl LogControl for Control {
    fn outputs(&self) -> (String, u32) {
        log::outputs()
    }

    fn filters(&self) -> (Option<String>, u32) {
        log::filters()
    }

    fn set_outputs(&self, outputs: Option<&str>) -> Result<(), Error> {
        log::set_outputs(outputs)
    }

    fn set_filters(&self, filters: Option<&str>) -> Result<(), Error> {
        log::set_filters(filters)
    }

    fn set_timeout(&self, seconds: u32) {
        self.timeout.set(seconds);
        (self.changed)();
    }

    fn names(&self, uid: u32, gid: u32) -> (Option<String>, Option<String>) {
        (daemon::privileges::user_name(uid), daemon::privileges::group_name(gid))
    }
}
