//! Watchdogs: timers that the guest has to set back again and again; one that runs out makes the machine do what
//! `-action watchdog=` says.

mod i6300esb;
mod ib700;

pub use i6300esb::{I6300ESB_SPEC, I6300esb};
pub use ib700::{IB700_SPEC, Ib700};

#[cfg(test)]
mod tests;
