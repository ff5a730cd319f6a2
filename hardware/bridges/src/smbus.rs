//! The SMBus host controller of PIIX4 and ICH9, with nothing on the bus: every transaction ends in a device error.

use guestmem::{IoHandler, IoRules, Region};
use parking_lot::Mutex;
use std::sync::Arc;

/// Status: the device did not answer.
const DEVICE_ERROR: u8 = 1 << 2;
/// Control: begin a transaction (reads as 0).
const START: u8 = 1 << 6;

#[derive(Default)]
struct Registers {
    status: u8,
    control: u8,
    command: u8,
    address: u8,
    data: [u8; 2],
}

/// The controller.
pub(crate) struct SmbusHost(Mutex<Registers>);

impl SmbusHost {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    pub(crate) fn region(this: &Arc<Self>) -> Region {
        Region::io("pm-smbus", 64, this.clone(), IoRules::BYTES)
    }

    pub(crate) fn reset(&self) {
        *self.0.lock() = Registers::default();
    }
}

impl IoHandler for SmbusHost {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let r = self.0.lock();
        u64::from(match offset {
            0 => r.status,
            2 => r.control,
            3 => r.command,
            4 => r.address,
            5 | 6 => r.data[offset as usize - 5],
            _ => 0,
        })
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        let mut r = self.0.lock();
        match offset {
            0 => r.status &= !(value & !1),
            2 => {
                r.control = value & !START;
                if value & START != 0 {
                    r.status |= DEVICE_ERROR;
                }
            }
            3 => r.command = value,
            4 => r.address = value,
            5 | 6 => r.data[offset as usize - 5] = value,
            _ => {}
        }
    }
}
