//! PIIX3's ISA bridge and PIIX4's power management function.

use crate::intel;
use crate::smbus::SmbusHost;
use guestmem::{IoHandler, IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use pci::{Devfn, FunctionBuilder, IntxRouter, PciBus, PciFunction, PciHooks};
use qdev::{Device, DeviceError, SystemControl, SystemRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// First of the four PIRQ routing registers: bit 7 off, bits 3..0 the interrupt.
const PIRQ: u16 = 0x60;

struct Routing {
    wires: [bool; 4],
    /// Levels that the 16 ISA interrupts were last given.
    driven: [bool; 16],
}

/// 8086:7000: interrupt routing and reset control.
pub struct Piix3 {
    function: Arc<PciFunction>,
    gsi: Vec<IrqLine>,
    routing: Mutex<Routing>,
    reset_control: AtomicU8,
    system: Arc<dyn SystemControl>,
}

/// Port 0xcf9.
struct ResetPort(Arc<Piix3>);

impl Piix3 {
    /// Puts the bridge at 01.0 of `bus`, routes the bus's interrupts through it to `gsi` (0 to 15) and its reset
    /// control to port 0xcf9 of `io`.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(
        bus: &Arc<PciBus>,
        io: &Region,
        gsi: Vec<IrqLine>,
        system: Arc<dyn SystemControl>,
    ) -> Result<Arc<Self>, DeviceError> {
        let builder = FunctionBuilder::new("PIIX3", intel(0x7000, 0, 0x0601, 0)).multifunction(true).config(
            pci::regs::STATUS,
            2,
            0x0200,
        );
        let function = bus.add(Devfn::new(1, 0), builder)?;
        let this = Arc::new(Self {
            function: function.clone(),
            gsi,
            routing: Mutex::new(Routing { wires: [false; 4], driven: [false; 16] }),
            reset_control: AtomicU8::new(0),
            system,
        });
        function.set_hooks(this.clone());
        bus.set_router(this.clone());
        let port = Region::io("piix3-reset-control", 1, Arc::new(ResetPort(this.clone())), IoRules::ANY);
        io.add_overlap(&port, 0xcf9, 1);
        this.reset();
        Ok(this)
    }

    /// The interrupt of a function's pin (0 for INTA#) under the present routing.
    pub fn line(&self, devfn: Devfn, pin: u8) -> u8 {
        self.function.config(PIRQ + u16::from(self.map(devfn, pin)), 1) as u8
    }

    /// Does what firmware does: routes the four wires to interrupts 10, 10, 11 and 11.
    pub fn firmware_setup(&self) {
        for (i, irq) in [10, 10, 11, 11].into_iter().enumerate() {
            self.function.config_write(PIRQ + i as u16, 1, irq);
        }
    }

    fn update(&self) {
        let mut routing = self.routing.lock();
        let mut wanted = [false; 16];
        for (wire, high) in routing.wires.into_iter().enumerate() {
            let route = self.function.config(PIRQ + wire as u16, 1) as usize;
            if let Some(level) = wanted.get_mut(route) {
                *level |= high;
            }
        }
        for (irq, level) in wanted.into_iter().enumerate() {
            if routing.driven[irq] != level {
                routing.driven[irq] = level;
                if let Some(line) = self.gsi.get(irq) {
                    line.set(level);
                }
            }
        }
    }
}

impl IntxRouter for Piix3 {
    fn map(&self, devfn: Devfn, pin: u8) -> u8 {
        // Slot 1's INTA# is wire A, and each slot is turned by one.
        (pin + devfn.device()).wrapping_sub(1) & 3
    }

    fn set(&self, wire: u8, level: bool) {
        self.routing.lock().wires[usize::from(wire & 3)] = level;
        self.update();
    }
}

impl PciHooks for Piix3 {
    fn before_read(&self, _function: &PciFunction, _offset: u16, _size: u8) {}

    fn after_write(&self, _function: &PciFunction, offset: u16, size: u8) {
        if offset < PIRQ + 4 && offset + u16::from(size) > PIRQ {
            self.update();
        }
    }
}

impl IoHandler for ResetPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.reset_control.load(Ordering::SeqCst).into()
    }

    fn write(&self, _offset: u64, _size: u8, value: u64) {
        if value & 4 != 0 {
            self.0.system.request(SystemRequest::Reset);
        } else {
            self.0.reset_control.store(value as u8 & 2, Ordering::SeqCst);
        }
    }
}

impl Device for Piix3 {
    fn reset(&self) {
        self.function.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
            for (offset, value) in [
                (0x4c, 0x4d),
                (0x4e, 0x03),
                (0x60, 0x80),
                (0x61, 0x80),
                (0x62, 0x80),
                (0x63, 0x80),
                (0x69, 0x02),
                (0x70, 0x80),
                (0x76, 0x0c),
                (0x77, 0x0c),
                (0x78, 0x02),
                (0xa0, 0x08),
                (0xa8, 0x0f),
            ] {
                c.set(offset, 1, value);
            }
        });
        self.reset_control.store(0, Ordering::SeqCst);
        self.update();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}

/// PIIX4's ACPI registers' base: bit 0 fixed, bits 15..6 the address.
const PM_BASE: u16 = 0x40;
/// Bit 0 shows the ACPI registers.
const PM_ENABLE: u16 = 0x80;
/// The SMBus's base and its host configuration with the enable bit.
const SMB_BASE: u16 = 0x90;

/// 8086:7113: power management and SMBus.
pub struct Piix4Pm {
    function: Arc<PciFunction>,
    io: Region,
    pm: Region,
    /// Held while the registers move.
    moving: Mutex<()>,
    smbus: Arc<SmbusHost>,
    /// What the registers at 0x5f and 0x67 tell of the board's ports.
    legacy_ports: (u8, u8),
}

impl Piix4Pm {
    /// Puts the function at 01.3 of `bus`. `pm` holds the ACPI registers (64 bytes); they appear in `io` where the
    /// guest says. `serial` tells which of COM1 and COM2 exist, `parallel` whether LPT1 does: a register shows it.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn new(
        bus: &Arc<PciBus>,
        io: &Region,
        pm: &Region,
        serial: [bool; 2],
        parallel: bool,
    ) -> Result<Arc<Self>, DeviceError> {
        let builder = FunctionBuilder::new("PIIX4_PM", intel(0x7113, 3, 0x0680, 0)).pin(1).config(
            pci::regs::STATUS,
            2,
            0x0280,
        );
        let function = bus.add(Devfn::new(1, 3), builder)?;
        let smbus = SmbusHost::new();
        pm.set_enabled(false);
        io.add(pm, 0);
        io.add(&SmbusHost::region(&smbus), 0xb100);
        let legacy_ports =
            (0x10 | u8::from(parallel) << 7, u8::from(serial[0]) << 3 | if serial[1] { 0x90 } else { 0 });
        let this = Arc::new(Self {
            function: function.clone(),
            io: io.clone(),
            pm: pm.clone(),
            moving: Mutex::new(()),
            smbus,
            legacy_ports,
        });
        function.set_hooks(this.clone());
        this.reset();
        Ok(this)
    }

    /// Does what firmware does: SCI on 9, the ACPI registers at `base`, the SMBus's at `smbus`.
    pub fn firmware_setup(&self, base: u16, smbus: u16) {
        self.function.config_write(pci::regs::INTERRUPT_LINE, 1, 9);
        self.function.config_write(PM_BASE, 4, u32::from(base) | 1);
        self.function.config_write(PM_ENABLE, 1, 1);
        self.function.config_write(SMB_BASE, 4, u32::from(smbus) | 1);
        self.function.config_write(0xd2, 1, 9);
    }

    fn follow(&self) {
        let base = u64::from(self.function.config(PM_BASE, 2) & 0xffc0);
        let wanted = (self.function.config(PM_ENABLE, 1) & 1 != 0).then_some(base);
        let _one = self.moving.lock();
        crate::place(&self.io, &self.pm, wanted);
    }
}

impl PciHooks for Piix4Pm {
    fn before_read(&self, _function: &PciFunction, _offset: u16, _size: u8) {}

    fn after_write(&self, _function: &PciFunction, offset: u16, _size: u8) {
        if offset >= 0x40 {
            self.follow();
        }
    }
}

impl Device for Piix4Pm {
    fn reset(&self) {
        self.function.reset();
        self.smbus.reset();
        self.function.with_config(|c| {
            for offset in (0x40..0x100).step_by(4) {
                c.set(offset, 4, 0);
            }
            c.set(PM_BASE, 1, 1);
            // There is no system management mode: firmware finds it set up.
            c.set(0x5b, 1, 0x02);
            c.set(0x5f, 1, self.legacy_ports.0.into());
            c.set(0x63, 1, 0x60);
            c.set(0x67, 1, self.legacy_ports.1.into());
            c.set(SMB_BASE, 4, 0xb101);
            c.set(0xd2, 1, 0x09);
        });
        self.follow();
    }

    fn describe(&self) -> Vec<String> {
        self.function.qtree_lines()
    }
}
