//! Registers: what a device does when guest code reads or writes its part of an address space.

use std::sync::Arc;

/// A device's registers.
///
/// `offset` counts from the start of the region; `size` is 1, 2, 4 or 8 bytes and within the region's
/// [`IoRules`], so an implementation never checks buffer lengths. Values are little-endian numbers in the low bytes.
/// Calls come from any vCPU thread: keep state behind a lock of the device, and act on other parts after releasing it.
pub trait IoHandler: Send + Sync {
    /// The guest reads.
    fn read(&self, offset: u64, size: u8) -> u64;
    /// The guest writes.
    fn write(&self, offset: u64, size: u8, value: u64);
}

/// Which access sizes a region's registers know; the bus splits, widens and refuses accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoRules {
    /// Smallest size that the guest may use; smaller accesses behave as if nothing were there.
    pub valid_min: u8,
    /// Largest size that the guest may use; larger accesses behave as if nothing were there.
    pub valid_max: u8,
    /// Whether an access that is not aligned to its size is let through.
    pub unaligned: bool,
    /// Smallest size that the handler sees: smaller accesses are widened.
    pub impl_min: u8,
    /// Largest size that the handler sees: larger accesses are split.
    pub impl_max: u8,
}

impl IoRules {
    /// Sizes 1 to 8, handed on as they are.
    pub const ANY: Self = Self { valid_min: 1, valid_max: 8, unaligned: true, impl_min: 1, impl_max: 8 };
    /// Sizes 1 to 4, handed on as they are.
    pub const UP_TO_4: Self = Self { valid_min: 1, valid_max: 4, unaligned: true, impl_min: 1, impl_max: 4 };
    /// Byte registers: wider accesses reach them byte by byte.
    pub const BYTES: Self = Self { valid_min: 1, valid_max: 8, unaligned: true, impl_min: 1, impl_max: 1 };
    /// 32-bit registers that may only be used whole.
    pub const DWORD_ONLY: Self =
        Self { valid_min: 4, valid_max: 4, unaligned: false, impl_min: 4, impl_max: 4 };

    /// Whether the guest may use this access at all.
    fn allows(&self, offset: u64, size: u8) -> bool {
        (self.valid_min..=self.valid_max).contains(&size)
            && (self.unaligned || offset.is_multiple_of(u64::from(size)))
    }
}

/// A handler with its rules: what the flat view holds of an I/O region.
pub(crate) struct IoTarget {
    pub(crate) handler: Arc<dyn IoHandler>,
    pub(crate) rules: IoRules,
    /// Bytes in the region.
    pub(crate) size: u64,
}

/// The low `size` bytes set.
pub(crate) fn mask(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * u32::from(size))) - 1 }
}

impl IoTarget {
    /// Reads by the rules; `None` when the access is not allowed.
    pub(crate) fn read(&self, offset: u64, size: u8) -> Option<u64> {
        if !self.rules.allows(offset, size) {
            return None;
        }
        let (min, max) = (self.rules.impl_min, self.rules.impl_max);
        if size > max {
            let mut value = 0;
            for done in (0..size).step_by(max.into()) {
                let part = self.handler.read(offset + u64::from(done), max) & mask(max);
                value |= part << (8 * u32::from(done));
            }
            return Some(value & mask(size));
        }
        if size < min {
            let base = offset & !u64::from(min - 1);
            let shift = 8 * (offset - base);
            let wide = self.handler.read(base, min) & mask(min);
            // An access over the end of the wide register sees its upper part only.
            return Some((wide >> shift) & mask(size));
        }
        Some(self.handler.read(offset, size) & mask(size))
    }

    /// Writes by the rules; false when the access is not allowed.
    pub(crate) fn write(&self, offset: u64, size: u8, value: u64) -> bool {
        if !self.rules.allows(offset, size) {
            return false;
        }
        let (min, max) = (self.rules.impl_min, self.rules.impl_max);
        if size > max {
            for done in (0..size).step_by(max.into()) {
                let part = (value >> (8 * u32::from(done))) & mask(max);
                self.handler.write(offset + u64::from(done), max, part);
            }
        } else if size < min {
            let base = offset & !u64::from(min - 1);
            self.handler.write(base, min, (value & mask(size)) << (8 * (offset - base)));
        } else {
            self.handler.write(offset, size, value & mask(size));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, u8, Option<u64>)>>);

    impl IoHandler for Log {
        fn read(&self, offset: u64, size: u8) -> u64 {
            self.0.lock().push((offset, size, None));
            0x1122_3344_5566_7788 >> (8 * (offset & 7))
        }
        fn write(&self, offset: u64, size: u8, value: u64) {
            self.0.lock().push((offset, size, Some(value)));
        }
    }

    #[test]
    fn wide_accesses_are_split_and_narrow_ones_widened() {
        let log = Arc::new(Log::default());
        let bytes = IoTarget { handler: log.clone(), rules: IoRules::BYTES, size: 8 };
        assert_eq!(bytes.read(0, 4), Some(0x5566_7788));
        assert!(bytes.write(1, 2, 0xabcd));
        assert_eq!(log.0.lock()[4..], [(1, 1, Some(0xcd)), (2, 1, Some(0xab))]);
        let wide = IoTarget { rules: IoRules { impl_min: 4, ..IoRules::UP_TO_4 }, ..bytes };
        assert_eq!(wide.read(2, 1), Some(0x66));
        assert_eq!(wide.read(0, 8), None);
    }

    #[test]
    fn misaligned_accesses_are_refused_where_the_rules_say_so() {
        let io = IoTarget { handler: Arc::new(Log::default()), rules: IoRules::DWORD_ONLY, size: 8 };
        assert_eq!(io.read(2, 4), None);
        assert!(!io.write(0, 2, 0));
    }
}
