//! The SMBus host controller of PIIX4 and ICH9, with nothing on the bus: every transaction ends in a device error.

use guestmem::{IoHandler, IoRules, Region};
use parking_lot::Mutex;
use std::sync::Arc;

/// Status: the device did not answer.
const DEVICE_ERROR: u8 = 1 << 2;
/// Auxiliary control: block transfers go through the buffer.
const BLOCK_BUFFER: u8 = 1 << 1;
/// Control: begin a transaction (reads as 0).
const START: u8 = 1 << 6;

#[derive(Default)]
struct Registers {
    status: u8,
    control: u8,
    command: u8,
    address: u8,
    data: [u8; 2],
    auxiliary: u8,
}

impl Registers {
    fn reset() -> Self {
        Self { auxiliary: BLOCK_BUFFER, ..Self::default() }
    }
}

/// The controller.
pub(crate) struct SmbusHost(Mutex<Registers>);

impl SmbusHost {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Registers::reset())))
    }

    pub(crate) fn region(this: &Arc<Self>) -> Region {
        Region::io("pm-smbus", 64, this.clone(), IoRules::BYTES)
    }

    pub(crate) fn reset(&self) {
        *self.0.lock() = Registers::reset();
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
            0xd => r.auxiliary,
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
            0xd => r.auxiliary = value & 3,
            _ => {}
        }
    }
}
