//! ICH9's LPC bridge (interrupt routing, ACPI base, chipset configuration, reset control) and SMBus function.

use crate::intel;
use crate::smbus::SmbusHost;
use guestmem::{IoHandler, IoRules, Region};
use irq::{IrqLine, IrqSink};
use parking_lot::Mutex;
use pci::{BarKind, Devfn, FunctionBuilder, IntxRouter, PciBus, PciFunction, PciHooks};
use qdev::{Device, DeviceError, SystemControl, SystemRequest};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

/// ACPI registers' base: bit 0 fixed, bits 15..7 the address.
const PM_BASE: u16 = 0x40;
/// Bit 7 shows the ACPI registers; bits 2..0 route SCI.
const ACPI_CONTROL: u16 = 0x44;
/// Which legacy ports lie behind the bridge.
const LPC_ENABLE: u16 = 0x82;
/// Bit 4 locks SMI settings.
const GEN_PMCON_1: u16 = 0xa0;
/// Chipset configuration's base: bit 0 on.
const RCBA: u16 = 0xf0;
/// Bytes of chipset configuration.
const RCRB_SIZE: usize = 0x4000;
/// Interrupt route registers of devices 31 down to 25 in chipset configuration (device 30 is fixed).
const ROUTES: [(u8, usize); 6] =
    [(31, 0x3140), (29, 0x3144), (28, 0x3146), (27, 0x3148), (26, 0x314c), (25, 0x3150)];

/// Register of wire `wire` (PIRQA to PIRQH): bit 7 off, bits 3..0 the interrupt.
fn pirq(wire: usize) -> u16 {
    if wire < 4 { 0x60 + wire as u16 } else { 0x68 + wire as u16 - 4 }
}

struct Routing {
    wires: [bool; 8],
    sci: bool,
    driven: [bool; 24],
}

/// 8086:2918 at 1f.0.
pub struct Ich9Lpc {
    function: Arc<PciFunction>,
    bus: Weak<PciBus>,
    gsi: Vec<IrqLine>,
    routing: Mutex<Routing>,
    chipset: Mutex<Vec<u8>>,
    /// Held while registers move.
    moving: Mutex<()>,
    io: Region,
    system_memory: Region,
    pm: Region,
    rcrb: Region,
    /// What LPC_EN tells of the board's ports.
    legacy_ports: u8,
    reset_control: AtomicU8,
    system: Arc<dyn SystemControl>,
}

/// Port 0xcf9.
struct ResetPort(Weak<Ich9Lpc>);
/// Chipset configuration in memory.
struct Rcrb(Weak<Ich9Lpc>);
/// The SCI input.
struct Sci(Weak<Ich9Lpc>);

/// The legacy ports of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LegacyPorts {
    /// COM1 and COM2.
    pub serial: [bool; 2],
    /// LPT1.
    pub parallel: bool,
}

impl Ich9Lpc {
    /// Puts the bridge at 1f.0 of `bus` and routes the bus's interrupts through it to `gsi` (0 to 23). `pm` holds the
    /// ACPI registers (128 bytes), which appear in `io` where the guest says; chipset configuration appears in
    /// `memory`. A register shows which of `legacy` exist.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(
        bus: &Arc<PciBus>,
        io: &Region,
        memory: &Region,
        pm: &Region,
        gsi: Vec<IrqLine>,
        legacy: LegacyPorts,
        system: Arc<dyn SystemControl>,
    ) -> Result<Arc<Self>, DeviceError> {
        let builder = FunctionBuilder::new("ICH9-LPC", intel(0x2918, 2, 0x0601, 0))
            .multifunction(true)
            .writable(PM_BASE, 4, 0xff87);
        let function = bus.add(Devfn::new(31, 0), builder)?;
        let this = Arc::new_cyclic(|weak: &Weak<Self>| Self {
            function: function.clone(),
            bus: Arc::downgrade(bus),
            gsi,
            routing: Mutex::new(Routing { wires: [false; 8], sci: false, driven: [false; 24] }),
            chipset: Mutex::new(vec![0; RCRB_SIZE]),
            moving: Mutex::new(()),
            io: io.clone(),
            system_memory: memory.clone(),
            pm: pm.clone(),
            rcrb: Region::io(
                "lpc-rcrb-mmio",
                RCRB_SIZE as u64,
                Arc::new(Rcrb(weak.clone())),
                IoRules { impl_max: 4, ..IoRules::ANY },
            ),
            legacy_ports: u8::from(legacy.serial[0])
                | u8::from(legacy.serial[1]) << 1
                | u8::from(legacy.parallel) << 2,
            reset_control: AtomicU8::new(0),
            system,
        });
        this.pm.set_enabled(false);
        io.add(&this.pm, 0);
        this.rcrb.set_enabled(false);
        memory.add_overlap(&this.rcrb, 0, 1);
        function.set_hooks(this.clone());
        let port = Arc::new(ResetPort(Arc::downgrade(&this)));
        io.add_overlap(&Region::io("lpc-reset-control", 1, port, IoRules::ANY), 0xcf9, 1);
        this.reset();
        bus.set_router(this.clone());
        Ok(this)
    }

    /// Where the ACPI registers' SCI goes.
    pub fn sci(self: &Arc<Self>) -> IrqLine {
        IrqLine::new(Arc::new(Sci(Arc::downgrade(self))), 0)
    }

    /// The legacy interrupt of a function's pin (0 for INTA#) under the present routing.
    pub fn line(&self, devfn: Devfn, pin: u8) -> u8 {
        self.function.config(pirq(usize::from(self.map(devfn, pin))), 1) as u8
    }

    /// Does what firmware does: routes the wires to interrupts 10 and 11, ACPI registers at `base`, SCI on 9,
    /// chipset configuration at 0xfed1c000.
    pub fn firmware_setup(&self, base: u16) {
        for wire in 0..8 {
            let irq = if wire & 2 == 0 { 10 } else { 11 };
            self.function.config_write(pirq(wire), 1, irq);
        }
        self.function.config_write(PM_BASE, 4, u32::from(base) | 1);
        self.function.config_write(ACPI_CONTROL, 1, 0x80);
        self.function.config_write(RCBA, 4, 0xfed1_c001);
    }

    fn update(&self) {
        let control = self.function.config(ACPI_CONTROL, 1);
        let sci_gsi = match control & 7 {
            1 => 10,
            2 => 11,
            4 => 20,
            5 => 21,
            _ => 9,
        };
        let mut routing = self.routing.lock();
        let mut wanted = [false; 24];
        for (wire, high) in routing.wires.into_iter().enumerate() {
            let route = self.function.config(pirq(wire), 1) as usize;
            if route < 16 {
                wanted[route] |= high;
            }
            wanted[16 + wire] |= high;
        }
        wanted[sci_gsi] |= routing.sci;
        for (irq, level) in wanted.into_iter().enumerate() {
            if routing.driven[irq] != level {
                routing.driven[irq] = level;
                if let Some(line) = self.gsi.get(irq) {
                    line.set(level);
                }
            }
        }
    }

    fn follow(&self) {
        let _one = self.moving.lock();
        let base = u64::from(self.function.config(PM_BASE, 2) & 0xff80);
        let wanted = (self.function.config(ACPI_CONTROL, 1) & 0x80 != 0).then_some(base);
        crate::place(&self.io, &self.pm, wanted);
        let rcba = u64::from(self.function.config(RCBA, 4));
        let wanted = (rcba & 1 != 0).then_some(rcba & 0xffff_c000);
        crate::place(&self.system_memory, &self.rcrb, wanted);
    }
}

impl IntxRouter for Ich9Lpc {
    fn map(&self, devfn: Devfn, pin: u8) -> u8 {
        let device = devfn.device();
        if let Some((_, at)) = ROUTES.into_iter().find(|(d, _)| *d == device) {
            let chipset = self.chipset.lock();
            let route = u16::from_le_bytes([chipset[at], chipset[at + 1]]);
            return (route >> (4 * (pin & 3)) & 7) as u8;
        }
        // Device 30 is the bridge to conventional PCI; its pins go to E to H straight.
        if device == 30 { 4 + (pin & 3) } else { 4 + ((device + pin) & 3) }
    }

    fn set(&self, wire: u8, level: bool) {
        self.routing.lock().wires[usize::from(wire & 7)] = level;
        self.update();
    }
}

impl IrqSink for Sci {
    fn set_level(&self, _line: u32, level: bool) {
        if let Some(lpc) = self.0.upgrade() {
            lpc.routing.lock().sci = level;
            lpc.update();
        }
    }

    fn import_level(&self, line: u32, level: bool) {
        self.set_level(line, level);
    }
}

impl PciHooks for Ich9Lpc {
    fn before_read(&self, _function: &PciFunction, _offset: u16, _size: u8) {}

    fn after_write(&self, function: &PciFunction, offset: u16, _size: u8) {
        if offset < 0x40 {
            return;
        }
        function.with_config(|c| {
            // Once set, the lock bit stays.
            if c.get(GEN_PMCON_1, 1) & 0x10 != 0 {
                c.set_writable(GEN_PMCON_1, 1, 0xef);
            }
        });
        self.follow();
        self.update();
    }
}

impl IoHandler for ResetPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.upgrade().map_or(0, |lpc| lpc.reset_control.load(Ordering::SeqCst).into())
    }

    fn write(&self, _offset: u64, _size: u8, value: u64) {
        if let Some(lpc) = self.0.upgrade() {
            if value & 4 != 0 {
                lpc.system.request(SystemRequest::Reset);
            } else {
                lpc.reset_control.store(value as u8 & 0x0a, Ordering::SeqCst);
            }
        }
    }
}

impl IoHandler for Rcrb {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let Some(lpc) = self.0.upgrade() else { return 0 };
        let chipset = lpc.chipset.lock();
        (0..u64::from(size)).fold(0, |value, i| {
            value | u64::from(chipset.get((offset + i) as usize).copied().unwrap_or(0)) << (8 * i)
        })
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        let Some(lpc) = self.0.upgrade() else { return };
        {
            let mut chipset = lpc.chipset.lock();
            for i in 0..u64::from(size) {
                if let Some(byte) = chipset.get_mut((offset + i) as usize) {
                    *byte = (value >> (8 * i)) as u8;
                }
            }
        }
        if (0x3140..0x3154).contains(&offset)
            && let Some(bus) = lpc.bus.upgrade()
        {
            bus.remap_intx();
        }
    }
}

impl Device for Ich9Lpc {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
            c.set(PM_BASE, 4, 1);
            c.set(0x60, 4, 0x8080_8080);
            c.set(0x68, 4, 0x8080_8080);
            c.set(LPC_ENABLE, 1, self.legacy_ports.into());
            c.set_writable(GEN_PMCON_1, 1, 0xff);
        });
        {
            let mut chipset = self.chipset.lock();
            chipset.fill(0);
            for at in ROUTES.into_iter().map(|(_, at)| at).chain([0x3142]) {
                chipset[at..at + 2].copy_from_slice(&0x3210u16.to_le_bytes());
            }
            chipset[0x310c..0x3110].copy_from_slice(&0x0021_4321u32.to_le_bytes());
            chipset[0x3410] = 0x20;
        }
        self.reset_control.store(0, Ordering::SeqCst);
        self.follow();
        self.update();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}

/// 8086:2930 at 1f.3.
pub struct Ich9Smbus {
    function: Arc<PciFunction>,
    host: Arc<SmbusHost>,
}

impl Ich9Smbus {
    /// Puts the function on `bus`.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(bus: &Arc<PciBus>) -> Result<Arc<Self>, DeviceError> {
        let host = SmbusHost::new();
        let builder = FunctionBuilder::new("ICH9-SMB", intel(0x2930, 2, 0x0c05, 0))
            .multifunction(true)
            .pin(1)
            .writable(0x40, 1, 0xf7)
            .bar(4, BarKind::Io, &SmbusHost::region(&host));
        let function = bus.add(Devfn::new(31, 3), builder)?;
        Ok(Arc::new(Self { function, host }))
    }

    /// Does what firmware does: the registers at port `base`, on. Comes after BARs were assigned.
    pub fn firmware_setup(&self, base: u16) {
        self.function.config_write(0x20, 4, u32::from(base) | 1);
        self.function.config_write(0x40, 1, 1);
    }
}

impl Device for Ich9Smbus {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
        });
        self.host.reset();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
