//! `isa-serial`: the 16550A on the ISA bus.

use crate::{ISA_SERIAL, Serial, SerialConfig};
use chardev::Chardevs;
use isa::IsaSlot;
use qdev::{
    Category, Device, DeviceError, DeviceSpec, Only, Properties, PropertyField as _, take_properties,
};
use std::any::Any;
use std::sync::Arc;

/// Ports of a 16550A.
const PORTS: u16 = 8;

/// Properties of the port.
#[derive(Properties)]
pub struct IsaSerialProperties {
    #[prop(default = u32::MAX)]
    index: u32,
    #[prop(default = u32::MAX)]
    iobase: u32,
    #[prop(default = u32::MAX)]
    irq: u32,
    /// ID of a chardev to use as a backend
    #[prop(part)]
    chardev: String,
    #[prop(part, default = 115_200u32)]
    baudbase: u32,
    #[prop(part, default = Only::new(false))]
    wakeup: Only<bool>,
}

struct IsaSerial {
    serial: Arc<Serial>,
    index: u32,
    port: u32,
    irq: u32,
}

impl Device for IsaSerial {
    fn reset(&self) {
        self.serial.reset();
    }

    fn property(&self, name: &str) -> Option<String> {
        Some(match name {
            "index" => self.index.text(),
            "iobase" => self.port.text(),
            "irq" => self.irq.text(),
            _ => return None,
        })
    }
}

fn realize(properties: Box<dyn Properties>, slot: &mut dyn Any) -> Result<Arc<dyn Device>, DeviceError> {
    let properties = take_properties::<IsaSerialProperties>(properties)?;
    let slot = IsaSlot::from_any(slot)?;
    // Ports with a number of their own are counted too.
    let count = slot.count("isa-serial");
    let index = if properties.index == u32::MAX { count } else { properties.index };
    let standard = usize::try_from(index).ok().and_then(|n| ISA_SERIAL.get(n));
    let Some(&(port, irq)) = standard else {
        return Err(DeviceError::new(format!(
            "Max. supported number of ISA serial ports is {}.",
            ISA_SERIAL.len()
        )));
    };
    let port = if properties.iobase == u32::MAX { port.into() } else { properties.iobase };
    let irq = if properties.irq == u32::MAX { irq } else { properties.irq };
    if properties.baudbase == 0 {
        return Err(DeviceError::new("baudbase must be larger than 0"));
    }
    let line = slot.line(irq)?;
    let context = slot.context();
    let front = Chardevs::link(&context.links, "serial", &properties.chardev)?;
    let serial = Serial::new(&context.clock, line, front, SerialConfig { baudbase: properties.baudbase });
    slot.map("isa-serial", &serial.region(), port, PORTS, u8::try_from(irq).ok());
    Ok(Arc::new(IsaSerial { serial, index, port, irq }))
}

/// `isa-serial`.
pub static ISA_SERIAL_SPEC: DeviceSpec = DeviceSpec {
    name: "isa-serial",
    aliases: &[],
    desc: "",
    bus: "ISA",
    category: Category::Input,
    user_creatable: true,
    properties: || Box::<IsaSerialProperties>::default(),
    realize,
};
