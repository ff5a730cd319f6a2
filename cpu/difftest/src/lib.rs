//! Single instructions on the host processor, on a state of the caller's choice, with faults caught: what the engine's
//! results are compared with.
//!
//! This crate has unsafe code: it maps memory at fixed addresses, handles signals and executes the bytes it is given.
//! It is for tests only; no program links it.
//!
//! No assembly is needed. A signal's handler replaces the interrupted context by the wanted registers, so that the
//! kernel loads all of them (XSAVE state included) when the handler returns; the instruction runs, and the breakpoint
//! behind it, or its own fault, brings another signal whose context has all registers of the result.

mod cases;
mod compare;
mod guest;
mod native;

pub use cases::Random;
pub use compare::{Report, run};
pub use guest::Guest;
pub use native::{CODE, CODE_SIZE, Fault, Native, SCRATCH, SCRATCH_SIZE, State};
