//! The chips of a PC.
//!
//! Each chip is a struct that is made with the handles it needs (interrupt lines, a clock, callbacks), offers its
//! register windows as [`guestmem::Region`]s (`ports()`, `region()`), and has `reset()`. The board decides where
//! the windows go. What a register means comes from the chip's data sheet; where QEMU's chip differs, guests see
//! what they see under QEMU.
#![forbid(unsafe_code)]

pub mod acpi_pm;
pub mod dma;
pub mod hotplug;
pub mod hpet;
pub mod i8042;
pub mod ioapic;
pub mod lapic;
pub mod misc;
pub mod misc_specs;
pub mod pic;
pub mod pit;
pub mod rtc;
pub mod watchdog;
mod window;

#[cfg(test)]
mod testing;
