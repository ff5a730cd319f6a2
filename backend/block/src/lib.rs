//! Block back ends: what a disk device reads and writes.
//!
//! A [`BlockBackend`] is an image file in raw format, or a part of one: opened with the caching that was asked for,
//! locked against other users in QEMU's byte layout as soon as a device uses it, and addressed in bytes. Other formats
//! are refused by name.
#![forbid(unsafe_code)]

mod backend;
mod file;
mod lock;
mod node;
mod options;
mod overlay;
mod pieces;
mod probe;
mod throttle;
mod throttle_group;

pub use backend::{BlockBackend, NoMedium};
pub use node::{Child, Node, check_name};
pub use options::{
    Aio, BlockOptions, Cache, DetectZeroes, Discard, DriveOptions, Interface, Locking, OnError,
};
pub use throttle::{Limits, Rate, Throttling};
pub use throttle_group::{Admission, ThrottleGroup, ThrottleMember, Wake};

use thiserror::Error;

/// A block back end could not be made; the text is what the user sees after the option's location.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BlockError(pub String);
