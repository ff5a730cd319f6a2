//! The command line: one table of options, and what becomes of them.
//!
//! `argv` → located items → [`Plan`]. Informational options (`-h`, `-device help`) end in [`Outcome::Text`]; whatever
//! cannot be done ends in [`Refused`], whose text is QEMU's. Options that are not built are refused by name.
#![forbid(unsafe_code)]

mod block;
mod catalog;
mod chars;
mod help;
mod items;
mod misc;
mod objects;
mod options;
mod parse;
mod plan;
mod topology;

pub use catalog::{Catalog, MachineRow};
pub use options::{Apply, OPTIONS, Opt};
pub use parse::{Outcome, Refused, parse};
pub use plan::*;

#[cfg(test)]
mod tests;
