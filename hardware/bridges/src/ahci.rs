//! ICH9's SATA function in AHCI mode, without drives (Serial ATA AHCI 1.3, section 3).

use crate::intel;
use guestmem::{IoHandler, IoRules, Region};
use parking_lot::Mutex;
use pci::{BarKind, Devfn, FunctionBuilder, PciBus, PciFunction};
use qdev::{Device, DeviceError};
use std::sync::Arc;

/// Ports.
const PORTS: usize = 6;
/// CAP: 64-bit addresses, native queueing, AHCI only, first-generation speed, 32 command slots, 6 ports.
const CAP: u32 = 1 << 31 | 1 << 30 | 1 << 20 | 1 << 18 | 31 << 8 | (PORTS as u32 - 1);
/// GHC: AHCI enable, which cannot be switched off.
const GHC_AHCI: u32 = 1 << 31;
/// Bits of a port's CMD that the host sets itself.
const CMD_READ_ONLY: u32 = 0x007d_ffe0;
/// CMD: interface power state requests, which are done at once.
const CMD_STATE: u32 = 0xf << 28;

/// One port without a drive: its sixteen first registers.
#[derive(Clone, Copy)]
struct Port {
    list: [u32; 2],
    received: [u32; 2],
    interrupt_enable: u32,
    command: u32,
    control: u32,
}

impl Port {
    const RESET: Self = Self { list: [0; 2], received: [0; 2], interrupt_enable: 0, command: 6, control: 0 };

    fn read(&self, register: u64) -> u32 {
        match register {
            0x00 | 0x04 => self.list[register as usize / 4],
            0x08 | 0x0c => self.received[register as usize / 4 - 2],
            0x14 => self.interrupt_enable,
            0x18 => self.command,
            // Task file: busy, as with no drive; signature: none.
            0x20 => 0x7f,
            0x24 => 0xffff_ffff,
            0x2c => self.control,
            _ => 0,
        }
    }

    fn write(&mut self, register: u64, value: u32) {
        match register {
            0x00 => self.list[0] = value & !0x3ff,
            0x04 => self.list[1] = value,
            0x08 => self.received[0] = value & !0xff,
            0x0c => self.received[1] = value,
            0x14 => self.interrupt_enable = value & 0xfdc0_00ff,
            0x18 => {
                let kept = self.command & CMD_READ_ONLY & !0xc000;
                // Running follows start at once: the list (15) and the receive area (14).
                let running = (value & 1) << 15 | (value >> 4 & 1) << 14;
                self.command = kept | value & !(CMD_READ_ONLY | CMD_STATE) | running;
            }
            0x2c => self.control = value,
            _ => {}
        }
    }
}

struct Registers {
    global: u32,
    ports: [Port; PORTS],
    index: u32,
}

struct Hba(Mutex<Registers>);

impl Hba {
    fn get(&self, offset: u64) -> u32 {
        let r = self.0.lock();
        match offset {
            0x00 => CAP,
            0x04 => r.global,
            0x0c => (1 << PORTS) - 1,
            0x10 => 0x0001_0000,
            0x100.. => r.ports.get((offset as usize - 0x100) / 0x80).map_or(0, |p| p.read(offset & 0x7c)),
            _ => 0,
        }
    }

    fn put(&self, offset: u64, value: u32) {
        let mut r = self.0.lock();
        match offset {
            0x04 if value & 1 != 0 => r.reset(),
            0x04 => r.global = value & 3 | GHC_AHCI,
            0x100.. => {
                if let Some(port) = r.ports.get_mut((offset as usize - 0x100) / 0x80) {
                    port.write(offset & 0x7c, value);
                }
            }
            _ => {}
        }
    }
}

impl Registers {
    fn reset(&mut self) {
        self.global = GHC_AHCI;
        self.ports = [Port::RESET; PORTS];
    }
}

/// The registers in memory.
struct Memory(Arc<Hba>);
/// The same by index (at 16) and data (at 20) ports.
struct IndexData(Arc<Hba>);

impl IoHandler for Memory {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.0.get(offset).into()
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        self.0.put(offset, value as u32);
    }
}

impl IoHandler for IndexData {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let index = self.0.0.lock().index;
        match offset {
            16 => index.into(),
            20 => self.0.get(index.into()).into(),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, _size: u8, value: u64) {
        let index = self.0.0.lock().index;
        match offset {
            16 => self.0.0.lock().index = value as u32 & 0xffc,
            20 => self.0.put(index.into(), value as u32),
            _ => {}
        }
    }
}

/// 8086:2922 at 1f.2.
pub struct Ich9Ahci {
    function: Arc<PciFunction>,
    hba: Arc<Hba>,
}

impl Ich9Ahci {
    /// Puts the function on `bus`.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(bus: &Arc<PciBus>) -> Result<Arc<Self>, DeviceError> {
        let registers = Registers { global: GHC_AHCI, ports: [Port::RESET; PORTS], index: 0 };
        let hba = Arc::new(Hba(Mutex::new(registers)));
        let whole = IoRules { impl_min: 4, ..IoRules::UP_TO_4 };
        let memory = Region::io("ahci", 0x1000, Arc::new(Memory(hba.clone())), whole);
        let ports = Region::io("ahci-idp", 32, Arc::new(IndexData(hba.clone())), whole);
        let builder = FunctionBuilder::new("ich9-ahci", intel(0x2922, 2, 0x0106, 1))
            .multifunction(true)
            .pin(1)
            .config(0x90, 1, 0x40)
            // SATA capability: revision 1.0, index and data ports at dword 4 of BAR4.
            .capability(0x12, Some(0xa8), &[0x10, 0x00, 0x48, 0x00, 0x00, 0x00])
            .msi(Some(0x80))
            .bar(4, BarKind::Io, &ports)
            .bar(5, BarKind::Memory32 { prefetchable: false }, &memory);
        let function = bus.add(Devfn::new(31, 2), builder)?;
        Ok(Arc::new(Self { function, hba }))
    }

    /// Does what firmware does: lets the function reach memory.
    pub fn firmware_setup(&self) {
        let command = self.function.config(pci::regs::COMMAND, 2);
        self.function.config_write(pci::regs::COMMAND, 2, command | u32::from(pci::regs::COMMAND_MASTER));
    }
}

impl Device for Ich9Ahci {
    fn reset(&self) {
        self.function.reset();
        let mut registers = self.hba.0.lock();
        registers.reset();
        registers.index = 0;
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
