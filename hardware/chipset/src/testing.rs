//! What the chips' unit tests share.

use guestmem::{AddressSpace, Region};
use irq::{IrqLine, IrqSink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The far end of one line: its level, and how often it rose.
#[derive(Default)]
pub(crate) struct Wire {
    level: AtomicBool,
    rises: AtomicU32,
}

impl Wire {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn line(self: &Arc<Self>) -> IrqLine {
        IrqLine::new(self.clone(), 0)
    }

    pub(crate) fn level(&self) -> bool {
        self.level.load(Ordering::SeqCst)
    }

    pub(crate) fn rises(&self) -> u32 {
        self.rises.load(Ordering::SeqCst)
    }
}

impl IrqSink for Wire {
    fn set_level(&self, _line: u32, level: bool) {
        if !self.level.swap(level, Ordering::SeqCst) && level {
            self.rises.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn import_level(&self, _line: u32, level: bool) {
        self.level.store(level, Ordering::SeqCst);
    }
}

/// A port space with these windows.
pub(crate) fn port_space(windows: Vec<(u64, Region)>) -> AddressSpace {
    let root = Region::container("io", 0x1_0000);
    for (port, region) in windows {
        root.add(&region, port);
    }
    AddressSpace::ports("I/O", &root)
}

/// Random accesses of random sizes at `addresses`, the same every time.
pub(crate) fn hammer(space: &AddressSpace, addresses: &[u64], count: u32) {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..count {
        let r = next();
        let address = addresses[(r >> 8) as usize % addresses.len()];
        let size = [1, 1, 1, 2, 4, 4, 8][(r >> 40) as usize % 7];
        if r & 1 == 0 {
            space.read_int(address, size);
        } else {
            space.write_int(address, size, next());
        }
    }
}
