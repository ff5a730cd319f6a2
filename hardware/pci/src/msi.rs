//! MSI: one message address and data in configuration space (PCI 3.0, section 6.8.1).

use crate::config::ConfigSpace;
use irq::MsiMessage;

/// Capability id.
pub(crate) const ID: u8 = 0x05;

/// A single-vector, 64-bit MSI capability.
#[derive(Clone, Copy)]
pub(crate) struct Msi {
    at: u16,
}

impl Msi {
    /// Adds the capability at `at`; `None` when there is no room.
    pub(crate) fn add(config: &mut ConfigSpace, at: Option<u8>) -> Option<Self> {
        // Control: 64-bit address.
        let mut body = [0; 12];
        body[0] = 0x80;
        let at = u16::from(config.add_capability(ID, at, &body)?);
        config.set_writable(at + 2, 2, 0x0001);
        config.set_writable(at + 4, 4, 0xffff_fffc);
        config.set_writable(at + 8, 4, 0xffff_ffff);
        config.set_writable(at + 12, 2, 0xffff);
        Some(Self { at })
    }

    pub(crate) fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get(self.at + 2, 1) & 1 != 0
    }

    pub(crate) fn message(self, config: &ConfigSpace) -> MsiMessage {
        MsiMessage {
            address: u64::from(config.get(self.at + 4, 4)) | u64::from(config.get(self.at + 8, 4)) << 32,
            data: config.get(self.at + 12, 2),
        }
    }

    pub(crate) fn reset(self, config: &mut ConfigSpace) {
        for (offset, size) in [(2, 2), (4, 4), (8, 4), (12, 2)] {
            config.clear_writable(self.at + offset, size);
        }
    }
}
