//! The calls.

mod capabilities;
mod domains;
mod others;
mod stats;

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
