//! Debugging of guests over GDB's remote protocol (`-gdb`, `-s`): registers, memory, breakpoints, watchpoints, steps.
//!
//! Packets are those of GDB's manual, appendix E; answers and errors are the reference's. All vCPUs are threads of one
//! process, numbered from 1.
#![forbid(unsafe_code)]

mod commands;
mod packet;
mod registers;
mod resume;
mod session;
#[cfg(test)]
mod tests;

pub use session::Session;

use accel::{DebugRequest, DebugStop};
use x86::X86State;

/// Why the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A vCPU met what its debugger had asked for.
    Debug(usize, DebugStop),
    /// For any other reason, as this signal of GDB's (`include/gdb/signals.def`).
    Signal(u8),
}

/// The machine that is debugged. All calls come from the main loop's thread.
pub trait Target: Send + Sync {
    /// How many vCPUs there are.
    fn cpu_count(&self) -> usize;
    /// Whether the vCPUs run.
    fn is_running(&self) -> bool;
    /// Whether a vCPU waits for an interrupt.
    fn is_halted(&self, cpu: usize) -> bool;
    /// A vCPU's registers, and its task priority (CR8).
    fn registers(&self, cpu: usize) -> (X86State, u64);
    /// Replaces them.
    fn set_registers(&self, cpu: usize, state: &X86State, cr8: u64);
    /// Reads memory at linear or physical addresses; false where there is none.
    fn read(&self, cpu: usize, physical: bool, address: u64, bytes: &mut [u8]) -> bool;
    /// Writes memory, read-only pages of the guest's too.
    fn write(&self, cpu: usize, physical: bool, address: u64, bytes: &[u8]) -> bool;
    /// What the debugger wants of a vCPU from now on.
    fn set_debugger(&self, cpu: usize, request: &DebugRequest);
    /// Keeps a vCPU standing when the others run, or not any longer.
    fn set_frozen(&self, cpu: usize, frozen: bool);
    /// Stops the machine; [`Session::stopped`] is called when it stands.
    fn stop(&self);
    /// Lets the machine run; false when it cannot.
    fn cont(&self) -> bool;
    /// Ends the process.
    fn quit(&self);
    /// Does what a line for the human monitor says, and gives what it prints.
    fn monitor(&self, line: &str) -> String;
}
