//! PIIX3's IDE function without drives.

use crate::intel;
use guestmem::{IoHandler, IoRules, Region};
use parking_lot::Mutex;
use pci::{BarKind, Devfn, FunctionBuilder, PciBus, PciFunction};
use qdev::{Device, DeviceError};
use std::sync::Arc;

/// Bus-master registers of one channel.
#[derive(Clone, Copy, Default)]
struct Channel {
    command: u8,
    status: u8,
    table: u32,
}

struct BusMaster(Mutex<[Channel; 2]>);

impl IoHandler for BusMaster {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let channel = self.0.lock()[offset as usize >> 3 & 1];
        u64::from(match offset & 7 {
            0 => channel.command,
            2 => channel.status,
            at @ 4..=7 => channel.table.to_le_bytes()[at as usize - 4],
            _ => 0xff,
        })
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        let value = value as u8;
        let channel = &mut self.0.lock()[offset as usize >> 3 & 1];
        match offset & 7 {
            0 => channel.command = value & 0x09,
            // Drive capabilities are plain bits, interrupt and error are cleared by ones, active is read-only.
            2 => channel.status = value & 0x60 | channel.status & 1 | channel.status & !value & 0x06,
            at @ 4..=7 => {
                let mut bytes = channel.table.to_le_bytes();
                bytes[at as usize - 4] = value;
                channel.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }
}

/// Ports of a channel that no drive is connected to: everything reads as 0.
struct NoDrive;

impl IoHandler for NoDrive {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, _offset: u64, _size: u8, _value: u64) {}
}

/// Puts the ports of two IDE channels without drives into `io`.
pub fn no_drives(io: &Region) {
    for (command, control) in [(0x1f0, 0x3f6), (0x170, 0x376)] {
        io.add(&Region::io("ide", 8, Arc::new(NoDrive), IoRules::ANY), command);
        io.add(&Region::io("ide", 1, Arc::new(NoDrive), IoRules::ANY), control);
    }
}

/// 8086:7010: the IDE function with its bus-master BAR.
pub struct Piix3Ide {
    function: Arc<PciFunction>,
    registers: Arc<BusMaster>,
}

impl Piix3Ide {
    /// Puts the function at 01.1 of `bus` and its channels' ports into `io`.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(bus: &Arc<PciBus>, io: &Region) -> Result<Arc<Self>, DeviceError> {
        let registers = Arc::new(BusMaster(Mutex::default()));
        let bar = Region::io("piix-bmdma-container", 16, registers.clone(), IoRules::BYTES);
        let builder = FunctionBuilder::new("piix3-ide", intel(0x7010, 0, 0x0101, 0x80))
            .config(pci::regs::STATUS, 2, 0x0280)
            .bar(4, BarKind::Io, &bar);
        let function = bus.add(Devfn::new(1, 1), builder)?;
        no_drives(io);
        Ok(Arc::new(Self { function, registers }))
    }

    /// Does what firmware does: both channels decode their ports.
    pub fn firmware_setup(&self) {
        self.function.config_write(0x40, 4, 0x8000_8000);
    }
}

impl Device for Piix3Ide {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
        });
        *self.registers.0.lock() = Default::default();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
