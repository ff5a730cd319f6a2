//! The x86-64 processor as data: its registers, and what CPUID says of it.
//!
//! One [`X86State`] serves every accelerator, the monitor, the debugger stub and saved state.
#![forbid(unsafe_code)]

pub mod cpuid;
pub mod dump;
pub mod features;
pub mod models;
pub mod reg;
mod segment;
mod state;

pub use segment::{Segment, TableRegister};
pub use state::{Activity, X86State, X87};
