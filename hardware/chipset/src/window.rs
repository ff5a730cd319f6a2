//! Several register windows of one device.

use guestmem::{IoHandler, IoRules, Region};
use std::sync::Arc;

/// One window: plain functions over the shared device.
struct Window<D> {
    device: Arc<D>,
    read: fn(&D, u64, u8) -> u64,
    write: fn(&D, u64, u8, u64),
}

impl<D: Send + Sync> IoHandler for Window<D> {
    fn read(&self, offset: u64, size: u8) -> u64 {
        (self.read)(&self.device, offset, size)
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        (self.write)(&self.device, offset, size, value);
    }
}

/// A region of `size` bytes of `device`'s registers.
pub(crate) fn window<D: Send + Sync + 'static>(
    name: &str,
    size: u64,
    rules: IoRules,
    device: &Arc<D>,
    read: fn(&D, u64, u8) -> u64,
    write: fn(&D, u64, u8, u64),
) -> Region {
    Region::io(name, size, Arc::new(Window { device: device.clone(), read, write }), rules)
}

/// The low byte.
pub(crate) fn byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}
