//! The calls.

mod actions;
mod agent;
mod block_jobs;
mod capabilities;
mod checkpoints;
mod cpus;
mod devices;
mod displays;
mod domains;
mod domstats;
mod dump;
mod guest_vcpus;
pub(crate) mod io_tune;
mod jobs;
mod keys;
mod limits;
mod migration;
mod params;
mod peek;
mod pinning;
mod qemu;
mod save;
mod sev;
mod shares;
mod snapshots;
mod stats;
mod tuning;
mod vcpus;

use crate::driver::QemuDriver;
use crate::error::Result;
use crate::guest::Guest;
use rpc::Domain;
use std::sync::Arc;

impl QemuDriver {
    /// The domain that a client refers to.
    fn guest(&self, dom: &Domain) -> Result<Arc<Guest>> {
        self.core.table.get(dom)
    }
}
