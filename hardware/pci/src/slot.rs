//! What a PCI device is made with, and the properties that all of them have.

use crate::address::Devfn;
use crate::bus::PciBus;
use crate::function::{FunctionBuilder, PciFunction};
use qdev::{Context, DeviceError, Input, Only, Properties, PropertyField};
use std::any::Any;
use std::sync::Arc;

/// The place that the bus prepared for a device.
pub struct PciSlot {
    bus: Arc<PciBus>,
    at: Devfn,
    multifunction: bool,
    context: Context,
}

impl PciSlot {
    /// The place `at` on `bus`.
    pub fn new(bus: Arc<PciBus>, at: Devfn, multifunction: bool, context: Context) -> Self {
        Self { bus, at, multifunction, context }
    }

    /// The slot behind a bus-neutral realize call.
    ///
    /// # Errors
    /// The device is not being plugged into a PCI bus.
    pub fn from_any(slot: &mut dyn Any) -> Result<&mut Self, DeviceError> {
        slot.downcast_mut().ok_or_else(|| DeviceError::new("not a PCI slot"))
    }

    /// The bus.
    pub fn bus(&self) -> &Arc<PciBus> {
        &self.bus
    }

    /// What every device is given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What firmware calls a device of class `kind` (`scsi`, `ethernet`, ...) at this place.
    pub fn firmware_path(&self, kind: &str) -> String {
        let (device, function) = (self.at.device(), self.at.function());
        let root = "/pci@i0cf8";
        if function == 0 {
            format!("{root}/{kind}@{device:x}")
        } else {
            format!("{root}/{kind}@{device:x},{function:x}")
        }
    }

    /// Puts the device's function on the bus.
    ///
    /// # Errors
    /// As [`PciBus::add`].
    pub fn add(&self, builder: FunctionBuilder) -> Result<Arc<PciFunction>, DeviceError> {
        let builder = if self.multifunction { builder.multifunction(true) } else { builder };
        let function = self.bus.add(self.at, builder)?;
        function.set_id(self.context.id.as_deref().unwrap_or(""));
        Ok(function)
    }
}

/// `addr=`: a place on the bus, or none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address(pub Option<Devfn>);

impl PropertyField for Address {
    fn type_name(&self) -> &'static str {
        "int32"
    }

    fn set(&mut self, _owner: &str, name: &str, value: &Input<'_>) -> Result<(), String> {
        let refused = |text: &str| format!("Property '{_owner}.{name}' doesn't take value '{text}'");
        self.0 = match value {
            Input::Text(text) | Input::Str(text) => Some(Devfn::parse(text).ok_or_else(|| refused(text))?),
            Input::Int(-1) => None,
            Input::Int(number) => {
                Some(Devfn(u8::try_from(*number).map_err(|_| refused(&number.to_string()))?))
            }
            Input::Bool(_) => {
                return Err(format!("Invalid parameter type for '{name}', expected int or str"));
            }
        };
        Ok(())
    }

    fn text(&self) -> String {
        self.0.map_or_else(|| "-1".to_owned(), |at| at.to_string())
    }
}

/// The properties of every PCI device. Expansion ROMs, failover, ACPI indices and PCI Express's fine points are not
/// built.
#[derive(Properties)]
pub struct PciProperties {
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Address,
    #[prop(default = Only::new(String::new()))]
    romfile: Only<String>,
    #[prop(default = Only::new(u32::MAX))]
    romsize: Only<u32>,
    #[prop(default = Only::new(1u32))]
    rombar: Only<u32>,
    /// on/off
    #[prop(default = false)]
    pub multifunction: bool,
    /// on/off
    #[prop(default = Only::new(true))]
    x_pcie_lnksta_dllla: Only<bool>,
    /// on/off
    #[prop(default = Only::new(true))]
    x_pcie_extcap_init: Only<bool>,
    #[prop(default = Only::new(String::new()), name = "failover_pair_id")]
    failover_pair_id: Only<String>,
    #[prop(default = Only::new(0u32))]
    acpi_index: Only<u32>,
}

/// What the properties say of the device's place.
pub(crate) fn address_of(properties: &mut dyn Properties) -> (Option<Devfn>, bool) {
    let addr = qdev::get(properties, "addr").and_then(|text| Devfn::parse(&text));
    let multifunction = qdev::get(properties, "multifunction").as_deref() == Some("true");
    (addr, multifunction)
}
