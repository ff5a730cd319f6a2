//! Single instructions on the host processor and on the engine, from the same random states: registers, flags, memory and
//! faults are compared. Where both run the same host instruction, [`model`] checks what a comparison cannot show.
//!
//! [`ThreeWays`] does the same with random blocks of up to 40 instructions, which the translator makes code of as in a
//! machine: traces, shared checks, flags that nobody reads. There exceptions are delivered to a small kernel.
//!
//! This crate has unsafe code: it maps memory at fixed addresses, handles signals and executes the bytes it is given.
//! It is for tests only; no program links it.
//!
//! A signal's handler replaces the interrupted context by the wanted registers, so that the kernel loads all of them
//! (XSAVE state and code segment included) when the handler returns; the instruction runs, and the breakpoint behind it, or
//! its own fault, brings another signal whose context has all registers of the result.

mod blocks;
mod cases;
mod compare;
mod encode;
mod guest;
mod layout;
pub mod model;
mod native;
mod random;
mod rules;
mod three_ways;

pub use compare::{Comparison, Report, Row};
pub use guest::Guest;
pub use layout::{Mode, Place};
pub use native::{Fault, Native, State, Wide, has_wide};
pub use three_ways::{BlockReport, ThreeWays};
