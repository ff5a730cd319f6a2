//! The register blocks that ACPI's hotplug methods use: processors and PCI slots.
//!
//! Source: the interface descriptions in QEMU's documentation (`docs/specs/acpi_cpu_hotplug`,
//! `docs/specs/acpi_pci_hotplug`). Nothing is plugged while the machine runs, so no event is ever pending; what the
//! tables' methods read at boot (who is there, which slots may be ejected) is answered.

use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of the bitmap of present processors that the old interface shows.
const BITMAP: usize = 32;
/// Bytes of the present interface.
const CPU_WINDOW: u64 = 12;
/// Flag: the selected processor is there.
const ENABLED: u32 = 1;
/// Buses that the interface could number; there is one, number 0.
const BUSES: u32 = 256;
/// Command: find the next processor with an event.
const NEXT_WITH_EVENT: u8 = 0;
/// Command: data is the processor's APIC ID.
const GET_ID: u8 = 3;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct CpuState {
    /// The guest has switched from the bitmap to the present interface.
    switched: bool,
    selector: u32,
    command: u8,
}

/// The processor hotplug block (at 0xaf00 on a 440FX board, 0xcd8 on a Q35 board).
pub struct CpuHotplug {
    /// The APIC ID of each possible processor, and whether it is there.
    cpus: Vec<(u32, bool)>,
    state: Mutex<CpuState>,
}

impl CpuHotplug {
    /// A block for these possible processors: APIC ID, and whether it is there.
    pub fn new(cpus: Vec<(u32, bool)>) -> Arc<Self> {
        Arc::new(Self { cpus, state: Mutex::default() })
    }

    /// The registers, to be mapped at the board's port.
    pub fn region(self: &Arc<Self>) -> Region {
        let rules = IoRules { valid_max: 4, impl_max: 4, ..IoRules::ANY };
        let size = BITMAP as u64;
        window(
            "acpi-cpu-hotplug",
            size,
            rules,
            self,
            |c, o, s| c.read(o, s),
            |c, o, _, v| {
                c.write(o, u32::try_from(v & 0xffff_ffff).unwrap_or(0));
            },
        )
    }

    /// System reset.
    pub fn reset(&self) {
        *self.state.lock() = CpuState::default();
    }

    fn bitmap(&self, at: u64) -> u8 {
        let here = self.cpus.iter().filter(|(id, there)| *there && u64::from(id / 8) == at);
        here.fold(0, |bits, (id, _)| bits | 1 << (id % 8))
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        let state = *self.state.lock();
        if !state.switched {
            return (0..u64::from(size))
                .fold(0, |value, i| value | u64::from(self.bitmap(offset + i)) << (8 * i));
        }
        if offset >= CPU_WINDOW {
            return u64::MAX;
        }
        let Some((id, there)) = usize::try_from(state.selector).ok().and_then(|i| self.cpus.get(i)) else {
            return 0;
        };
        match (offset, state.command) {
            (4, _) if *there => ENABLED.into(),
            (8, NEXT_WITH_EVENT) => state.selector.into(),
            (8, GET_ID) => (*id).into(),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, value: u32) {
        let mut state = self.state.lock();
        if !state.switched {
            // Nobody ever wrote to the bitmap: a zero at its start asks for the present interface.
            state.switched = offset == 0 && value == 0;
            return;
        }
        match offset {
            0 => state.selector = value,
            5 if (state.selector as usize) < self.cpus.len() => state.command = byte(value.into()),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct PciState {
    selected: u32,
    /// Slots whose device may be ejected, or that are empty.
    removable: u32,
}

/// The PCI hotplug block (at 0xae00 on a 440FX board, 0xcc0 on a Q35 board) of the root bus.
pub struct PciHotplug {
    eject: Box<dyn Fn(u8) + Send + Sync>,
    state: Mutex<PciState>,
}

impl PciHotplug {
    /// A block that asks for a device to be taken out by `eject` with its device number.
    pub fn new(eject: impl Fn(u8) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            eject: Box::new(eject),
            state: Mutex::new(PciState { selected: 0, removable: u32::MAX }),
        })
    }

    /// Says which device numbers hold something that stays (a mask).
    pub fn set_fixed(&self, fixed: u32) {
        self.state.lock().removable = !fixed;
    }

    /// The registers, to be mapped at the board's port.
    pub fn region(self: &Arc<Self>) -> Region {
        // The registers are used whole: less reads zero and writes nothing.
        window(
            "acpi-pci-hotplug",
            0x18,
            IoRules::UP_TO_4,
            self,
            |p, o, size| if size == 4 { p.read(o).into() } else { 0 },
            |p, o, size, v| {
                if size == 4 {
                    p.write(o, u32::try_from(v & 0xffff_ffff).unwrap_or(0));
                }
            },
        )
    }

    /// System reset.
    pub fn reset(&self) {
        self.state.lock().selected = 0;
    }

    fn read(&self, offset: u64) -> u32 {
        let state = *self.state.lock();
        match (offset, state.selected) {
            // Which slots were plugged (0), are to be unplugged (4): none. What is supported (8): nothing optional.
            (0xc, 0) => state.removable,
            (0xc, 1..BUSES) => u32::MAX,
            (0x10, _) => state.selected,
            _ => 0,
        }
    }

    fn write(&self, offset: u64, value: u32) {
        let slots = {
            let mut state = self.state.lock();
            match offset {
                8 if state.selected == 0 => value & state.removable,
                0x10 => {
                    state.selected = value;
                    0
                }
                _ => 0,
            }
        };
        if slots != 0 {
            (self.eject)(slots.trailing_zeros() as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hammer, port_space};

    #[test]
    fn processors_are_a_bitmap_until_the_guest_switches() {
        let cpus = CpuHotplug::new(vec![(0, true), (9, true), (10, false)]);
        let io = port_space(vec![(0xaf00, cpus.region())]);
        assert_eq!([io.read_int(0xaf00, 1), io.read_int(0xaf01, 1), io.read_int(0xaf1f, 1)], [1, 2, 0]);
        io.write_int(0xaf00, 4, 0);
        let mut seen = Vec::new();
        for selector in 0..4 {
            io.write_int(0xaf00, 4, selector);
            io.write_int(0xaf05, 1, 3);
            seen.push((io.read_int(0xaf04, 1), io.read_int(0xaf08, 4), io.read_int(0xaf00, 4)));
        }
        assert_eq!(seen, [(1, 0, 0), (1, 9, 0), (0, 10, 0), (0, 0, 0)]);
        // No event is pending: the search ends where it began.
        io.write_int(0xaf00, 4, 1);
        io.write_int(0xaf05, 1, 0);
        assert_eq!(io.read_int(0xaf08, 4), 1);
        cpus.reset();
        assert_eq!(io.read_int(0xaf00, 1), 1);
    }

    #[test]
    fn slots_that_may_be_ejected_are_known() {
        let ejected = Arc::new(Mutex::new(Vec::new()));
        let log = ejected.clone();
        let slots = PciHotplug::new(move |slot| log.lock().push(slot));
        slots.set_fixed(3);
        let io = port_space(vec![(0xae00, slots.region())]);
        io.write_int(0xae10, 4, 0);
        assert_eq!([io.read_int(0xae00, 4), io.read_int(0xae04, 4)], [0, 0]);
        assert_eq!(io.read_int(0xae0c, 4), 0xffff_fffc);
        io.write_int(0xae08, 4, 1 << 1);
        io.write_int(0xae08, 4, 1 << 5);
        io.write_int(0xae10, 4, 7);
        assert_eq!(io.read_int(0xae0c, 4), 0xffff_ffff);
        assert_eq!(io.read_int(0xae0c, 1), 0);
        io.write_int(0xae08, 4, 1 << 6);
        assert_eq!(*ejected.lock(), [5]);
        hammer(&io, &(0xadfe..0xae1a).collect::<Vec<_>>(), 1000);
    }
}
