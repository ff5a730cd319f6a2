//! The human monitor: a line editor, a table of commands, and the machine behind a trait.
//!
//! The monitor knows the machine only as [`MachineControl`]; whoever assembles the machine implements it.
#![forbid(unsafe_code)]

mod commands;
mod disassembly;
mod expr;
mod keys;
mod memory;
mod readline;
mod session;

pub use commands::run;
pub use session::Monitor;
use std::io;

/// What the machine is doing, as `info status` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunState {
    /// The vCPUs run.
    pub running: bool,
    /// The state's name (`running`, `paused`, `prelaunch`, `shutdown`, `guest-panicked`, ...).
    pub name: &'static str,
}

/// What `info` can ask the machine to describe. The answers are whole texts with line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Active virtual memory mappings, as ranges.
    Mem,
    /// Virtual memory mappings, page by page.
    Tlb,
    /// The memory region tree.
    Mtree {
        /// With the regions that are switched off.
        disabled: bool,
    },
    /// The device tree.
    Qtree,
    /// PCI devices.
    Pci,
    /// Interrupt counts.
    Irq,
    /// Interrupt controllers.
    Pic,
    /// The local APIC of the monitor's CPU.
    Lapic,
    /// Block devices.
    Block,
    /// ROMs and loaded images.
    Roms,
    /// Blocks of RAM.
    Ramblock,
    /// What the accelerator has translated.
    Jit,
}

/// A machine, as the monitor steers it. All calls come from the main loop's thread.
pub trait MachineControl: Send + Sync {
    /// Stops the vCPUs; returns when all have stopped.
    fn stop(&self);
    /// Starts the vCPUs.
    ///
    /// # Errors
    /// The machine needs a reset first; the text is for the user.
    fn cont(&self) -> Result<(), String>;
    /// Resets the machine.
    fn reset(&self);
    /// Presses the power button.
    fn powerdown(&self);
    /// Wakes a guest that sleeps in memory.
    ///
    /// # Errors
    /// It does not sleep; the text is for the user.
    fn wake(&self) -> Result<(), String>;
    /// Ends the process.
    fn quit(&self);
    /// Raises an NMI on every vCPU.
    ///
    /// # Errors
    /// The machine has no way to; the text is for the user.
    fn nmi(&self) -> Result<(), String>;
    /// What the machine is doing.
    fn run_state(&self) -> RunState;
    /// The guest's name.
    fn name(&self) -> Option<String>;
    /// The system's UUID.
    fn uuid(&self) -> Option<[u8; 16]>;
    /// How many vCPUs there are.
    fn cpu_count(&self) -> usize;
    /// The host's id of a vCPU's thread.
    fn cpu_thread(&self, cpu: usize) -> Option<i32>;
    /// A vCPU's registers in the layout of `info registers`.
    fn registers(&self, cpu: usize) -> String;
    /// A vCPU's register by its lower-case name (`rip`, `eax`, `cs`, `cr3`, ...).
    fn register(&self, cpu: usize, name: &str) -> Option<u64>;
    /// How a vCPU reads code now: 16, 32 or 64 bits.
    fn code_bits(&self, cpu: usize) -> u32;
    /// The accelerator's name.
    fn accelerator(&self) -> &'static str;
    /// Bytes of RAM.
    fn ram(&self) -> u64;
    /// Presses the keys of scan code set 1 together (0xe0 in the high byte for the extended ones), then lets them go
    /// after `hold_ms` milliseconds.
    fn send_keys(&self, keys: &[u16], hold_ms: u64);
    /// Takes up to `max` bytes out of a ring buffer.
    ///
    /// # Errors
    /// There is no such device, or it is no ring buffer.
    fn ringbuf_read(&self, id: &str, max: usize) -> Result<Vec<u8>, String>;
    /// Reads memory through a vCPU's page tables; false when a page is not mapped.
    fn read_virtual(&self, cpu: usize, address: u64, bytes: &mut [u8]) -> bool;
    /// Reads physical memory; false where there is nothing.
    fn read_physical(&self, address: u64, bytes: &mut [u8]) -> bool;
    /// Reads an I/O port of 1, 2 or 4 bytes.
    fn port_in(&self, port: u16, size: usize) -> u32;
    /// Writes an I/O port of 1, 2 or 4 bytes.
    fn port_out(&self, port: u16, size: usize, value: u32);
    /// Makes or empties a file of the host for what a command saves.
    ///
    /// # Errors
    /// As of the host.
    fn create_file(&self, name: &str) -> io::Result<Box<dyn io::Write>>;
    /// Logs the items of this mask ([`report::log::items`]) and no others.
    ///
    /// # Errors
    /// The log's file cannot be created; the text is for the user.
    fn set_log_items(&self, mask: u32) -> Result<(), String>;
    /// Sends the log to a file.
    ///
    /// # Errors
    /// It cannot be created; the text is for the user.
    fn set_log_file(&self, name: &str) -> Result<(), String>;
    /// Says what becomes of a watchdog that runs out; false when there is no such action.
    fn set_watchdog_action(&self, action: &str) -> bool;
    /// Describes something.
    fn info(&self, topic: Topic, cpu: usize) -> String;
    /// The character devices: id and description.
    fn chardevs(&self) -> Vec<(String, String)>;
}

#[cfg(test)]
mod tests;
