//! The x86 CPU engine behind `-accel tcg`: tier 1, the interpreter.

mod arena;
mod block;
mod cpu;
mod debug;
mod debugger;
mod decode;
mod evex;
mod exceptions;
mod fault;
mod features;
pub mod fpu;
mod insn;
mod integer;
mod log;
mod machine;
mod mmu;
mod options;
mod run;
mod shared;
mod status;
mod system;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod translator;
pub mod vector;

pub use cpu::Cpu;
pub use fault::Fault;
pub use features::{supported_features, supported_features_without, supported_names};
pub use insn::Insn;
pub use machine::Tcg;
pub use options::{LaneB, Options, Without};
