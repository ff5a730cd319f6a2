//! What the server asks of the driver beside calls.

use crate::client::ClientContext;
use crate::error::Error;
use crate::event::EventSink;
use crate::protocol::Driver;
use std::sync::Arc;

/// A driver as the daemon holds it.
pub trait Hypervisor: Driver {
    /// A client opens a connection to `uri` (none: the default one).
    ///
    /// # Errors
    /// The URI is not the driver's, or the connection is not allowed.
    fn open(&self, client: &ClientContext, uri: Option<&str>) -> Result<(), Error>;

    /// A client whose connection was open has gone: domains that live no longer than it end.
    fn closed(&self, client: &ClientContext);

    /// Events go to `sink` from now on; called once, before the first client.
    fn set_events(&self, sink: Arc<dyn EventSink>);

    /// Whether the feature (`VIR_DRV_FEATURE_...`) is supported by the driver; the server has answered for those that
    /// are its own.
    ///
    /// # Errors
    /// What the client is told.
    fn supports_feature(&self, client: &ClientContext, feature: i32) -> Result<bool, Error>;

    /// Starts everything that takes its time (state, running guests); called on a thread of its own before the sockets
    /// accept clients.
    ///
    /// # Errors
    /// The daemon ends.
    fn start(&self) -> Result<(), Error>;

    /// SIGHUP: reads configuration anew.
    fn reload(&self);

    /// How many guests run: the daemon does not end for want of clients while there are any.
    fn running(&self) -> usize;

    /// The daemon ends; guests live on.
    fn stop(&self);
}
