//! The ISA bus: I/O ports and sixteen interrupt lines, for devices that `-device` adds.
#![forbid(unsafe_code)]

use guestmem::Region;
use irq::{IrqLine, SharedLine};
use parking_lot::Mutex;
use qdev::{Bus, Context, Device, DeviceError, DeviceSpec, Properties};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Interrupt lines of the bus.
pub const LINES: usize = 16;

/// What a device occupies, for firmware tables and for chips that tell the system what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Device type.
    pub device: &'static str,
    /// First port.
    pub port: u16,
    /// Number of ports.
    pub len: u16,
    /// Interrupt line, if it has one.
    pub irq: Option<u8>,
}

#[derive(Default)]
struct State {
    resources: Vec<Resource>,
    /// How many devices of a type there are, for types that number themselves.
    ordinals: BTreeMap<&'static str, u32>,
}

/// An ISA bus.
pub struct IsaBus {
    own: Weak<Self>,
    name: String,
    ports: Region,
    lines: Vec<Arc<SharedLine>>,
    state: Mutex<State>,
}

impl IsaBus {
    /// A bus called `name` (`isa.0`) whose ports appear in `ports` and whose interrupt n drives `lines[n]`.
    pub fn new(name: &str, ports: &Region, lines: Vec<IrqLine>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            name: name.to_owned(),
            ports: ports.clone(),
            lines: lines.into_iter().take(LINES).map(SharedLine::new).collect(),
            state: Mutex::default(),
        })
    }

    /// What the devices on the bus occupy.
    pub fn resources(&self) -> Vec<Resource> {
        self.state.lock().resources.clone()
    }

    /// Counts a device that the board itself made, and returns how many of its type were counted before.
    pub fn count(&self, device: &'static str) -> u32 {
        let mut state = self.state.lock();
        let ordinal = state.ordinals.entry(device).or_default();
        *ordinal += 1;
        *ordinal - 1
    }

    /// The wire of interrupt `irq`; devices that name the same share it.
    ///
    /// # Errors
    /// There is no such line.
    pub fn line(&self, irq: u32) -> Result<IrqLine, DeviceError> {
        let line = usize::try_from(irq).ok().and_then(|n| self.lines.get(n));
        line.map(SharedLine::input).ok_or_else(|| {
            DeviceError::new(format!("ISA interrupt {irq} does not exist (maximum: {})", LINES - 1))
        })
    }
}

impl Bus for IsaBus {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn bus_type(&self) -> &'static str {
        "ISA"
    }

    fn plug(
        &self,
        spec: &'static DeviceSpec,
        properties: Box<dyn Properties>,
        context: Context,
    ) -> Result<Arc<dyn Device>, DeviceError> {
        let bus = self.own.upgrade().ok_or_else(|| DeviceError::new("ISA: the bus is gone"))?;
        (spec.realize)(properties, &mut IsaSlot { bus, context })
    }
}

/// What an ISA device is made with.
pub struct IsaSlot {
    bus: Arc<IsaBus>,
    context: Context,
}

impl IsaSlot {
    /// The place behind a bus-neutral realize call.
    ///
    /// # Errors
    /// The device is not being plugged into an ISA bus.
    pub fn from_any(slot: &mut dyn Any) -> Result<&mut Self, DeviceError> {
        slot.downcast_mut().ok_or_else(|| DeviceError::new("not an ISA slot"))
    }

    /// What every device is given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many devices of a type came before this one: the number of a device that numbers itself.
    pub fn count(&self, device: &'static str) -> u32 {
        self.bus.count(device)
    }

    /// The wire of interrupt `irq`.
    ///
    /// # Errors
    /// As [`IsaBus::line`].
    pub fn line(&self, irq: u32) -> Result<IrqLine, DeviceError> {
        self.bus.line(irq)
    }

    /// Shows `len` ports of `region` at `port`. A port address that does not exist makes the device unreachable, as a
    /// wrong jumper does.
    pub fn map(&self, device: &'static str, region: &Region, port: u32, len: u16, irq: Option<u8>) {
        self.bus.ports.add_overlap(region, port.into(), 0);
        if let Ok(port) = u16::try_from(port) {
            self.bus.state.lock().resources.push(Resource { device, port, len, irq });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bus_are_refused() {
        let lines = (0..16).map(|_| IrqLine::unconnected()).collect();
        let bus = IsaBus::new("isa.0", &Region::whole("io"), lines);
        assert!(bus.line(15).is_ok());
        assert_eq!(bus.line(77).expect_err("line").0, "ISA interrupt 77 does not exist (maximum: 15)");
    }
}
