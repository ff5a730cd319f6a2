//! A client of QEMU's machine protocol (QMP).
//!
//! A [`Monitor`] is one connection. Any thread may [execute](Monitor::execute) a command on it; each waits for its own
//! reply until its own deadline, so that an emulator that hangs holds up nobody but those who asked it something.
//! Events are handed to one callback, one at a time and in order, on a thread that may execute commands itself.
//!
//! Whatever the emulator sends is bounded: the length of a message, its depth, the number of its values and of the
//! keys of an object, and the events that wait to be handled.
#![forbid(unsafe_code)]

mod decode;
mod events;
mod monitor;
mod send;

pub use decode::{Decoder, Event, Greeting, MAX_MESSAGE, Message, ProtocolError, Timestamp, Version};
pub use events::{EVENT_QUEUE, Notice};
pub use monitor::{Error, Monitor, Options};

#[cfg(test)]
mod tests;
