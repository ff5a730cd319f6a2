//! Memory as a device sees it.

use crate::ram::RamSlice;
use crate::space::AddressSpace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A device's access to memory; off while the device may not master its bus. Cloning gives another handle.
#[derive(Clone)]
pub struct Dma {
    space: AddressSpace,
    enabled: Arc<AtomicBool>,
}

impl Dma {
    /// Access to `space`, on at first.
    pub fn new(space: &AddressSpace) -> Self {
        Self { space: space.clone(), enabled: Arc::new(AtomicBool::new(true)) }
    }

    /// Switches the access on or off (PCI's bus master enable).
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::SeqCst);
    }

    /// Whether the device may access memory.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::SeqCst)
    }

    /// Reads bytes; false (and zeros) while the access is off.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> bool {
        if !self.is_enabled() {
            buf.fill(0);
            return false;
        }
        self.space.read(address, buf);
        true
    }

    /// Writes bytes; false (and nothing written) while the access is off.
    pub fn write(&self, address: u64, buf: &[u8]) -> bool {
        let enabled = self.is_enabled();
        if enabled {
            self.space.write(address, buf);
        }
        enabled
    }

    /// Reads a number of `size` (1, 2, 4 or 8) bytes; 0 while the access is off.
    pub fn read_int(&self, address: u64, size: u8) -> u64 {
        if self.is_enabled() { self.space.read_int(address, size) } else { 0 }
    }

    /// Writes a number of `size` (1, 2, 4 or 8) bytes; nothing while the access is off.
    pub fn write_int(&self, address: u64, size: u8, value: u64) {
        if self.is_enabled() {
            self.space.write_int(address, size, value);
        }
    }

    /// The RAM behind all of `address..address+len`; `None` when part of it is not RAM or the access is off.
    pub fn slices(&self, address: u64, len: u64, write: bool) -> Option<Vec<RamSlice>> {
        if self.is_enabled() { self.space.slices(address, len, write) } else { None }
    }
}
