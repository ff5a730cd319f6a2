//! libvirt's RPC.
//!
//! [`protocol`] declares the procedures, once; [`xdr`] is how values are written; [`error`] is what clients are told
//! when a call fails. How a procedure is served is told in [`protocol`].
#![forbid(unsafe_code)]

pub mod call;
pub mod client;
pub mod driver;
pub mod error;
pub mod event;
pub mod message;
pub mod procedure;
pub mod protocol;
pub mod relay;
pub mod server;
pub mod xdr;

pub use client::{ClientContext, Identity};
pub use driver::Hypervisor;
pub use error::{Code, Error, Origin};
pub use event::{DomainEvent, EventSink};
pub use protocol::Driver;
pub use protocol::types::{Domain, TypedParam, TypedValue, Uuid};
