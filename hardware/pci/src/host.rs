//! The guest's two ways to configuration space: ports 0xcf8 and 0xcfc, and memory (PCI Express).

use crate::address::Devfn;
use crate::bus::PciBus;
use guestmem::{IoHandler, IoRules, Region};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Configuration mechanism 1 (PCI 3.0, section 3.2.2.3.2): an address port and a data port.
pub struct ConfigPorts {
    bus: Arc<PciBus>,
    address: AtomicU32,
}

struct AddressPort(Arc<ConfigPorts>);
struct DataPort(Arc<ConfigPorts>);

impl ConfigPorts {
    /// The ports for `bus`, placed at 0xcf8 and 0xcfc of `io`.
    pub fn install(bus: &Arc<PciBus>, io: &Region) -> Arc<Self> {
        let this = Arc::new(Self { bus: bus.clone(), address: AtomicU32::new(0) });
        let address = Arc::new(AddressPort(this.clone()));
        let data = Arc::new(DataPort(this.clone()));
        io.add(&Region::io("pci-conf-idx", 4, address, IoRules::UP_TO_4), 0xcf8);
        io.add(&Region::io("pci-conf-data", 4, data, IoRules::UP_TO_4), 0xcfc);
        this
    }

    /// Forgets the address.
    pub fn reset(&self) {
        self.address.store(0, Ordering::SeqCst);
    }

    /// Where a data access at `offset` (0 to 3) leads; `None` while the enable bit is off or the bus is not there.
    fn target(&self, offset: u64) -> Option<(Devfn, u16)> {
        let address = self.address.load(Ordering::SeqCst);
        let here = address >> 31 != 0 && address >> 16 & 0xff == 0;
        here.then_some((Devfn((address >> 8) as u8), (address & 0xff) as u16 | (offset & 3) as u16))
    }
}

impl IoHandler for AddressPort {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        u64::from(self.0.address.load(Ordering::SeqCst)) >> (8 * (offset & 3))
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if offset == 0 && size == 4 {
            self.0.address.store(value as u32, Ordering::SeqCst);
        }
    }
}

impl IoHandler for DataPort {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.target(offset).map_or(u64::MAX, |(at, register)| {
            // The ports reach the first 256 bytes only.
            let room = (256 - register).min(size.into()) as u8;
            let ones = if room < 4 { u32::MAX << (8 * room) } else { 0 };
            u64::from(self.0.bus.config_read(at, register, size) | ones)
        })
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if let Some((at, register)) = self.0.target(offset) {
            let size = (256 - register).min(size.into()) as u8;
            self.0.bus.config_write(at, register, size, value as u32);
        }
    }
}

/// Memory-mapped configuration space (PCI Express 3.0, section 7.2.2): 4 KiB a function, 1 MiB a bus.
pub struct Ecam {
    bus: Arc<PciBus>,
}

impl Ecam {
    /// A region of `buses` MiB that shows the configuration space of `bus` as bus 0.
    pub fn region(bus: &Arc<PciBus>, buses: u16) -> Region {
        let handler = Arc::new(Self { bus: bus.clone() });
        Region::io("pcie-mmcfg-mmio", u64::from(buses) << 20, handler, IoRules::UP_TO_4)
    }
}

impl IoHandler for Ecam {
    fn read(&self, offset: u64, size: u8) -> u64 {
        if offset >> 20 != 0 {
            return u64::MAX;
        }
        self.bus.config_read(Devfn((offset >> 12) as u8), (offset & 0xfff) as u16, size).into()
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        if offset >> 20 == 0 {
            self.bus.config_write(Devfn((offset >> 12) as u8), (offset & 0xfff) as u16, size, value as u32);
        }
    }
}
