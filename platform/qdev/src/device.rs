//! Device types, devices and buses.

use crate::{Context, DeviceError, Properties};
use std::any::Any;
use std::sync::Arc;

/// The heading under which `-device help` lists a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Controllers, bridges and hubs.
    Bridge,
    /// USB devices.
    Usb,
    /// Disks and their controllers.
    Storage,
    /// Network cards.
    Network,
    /// Keyboards, serial ports and the like.
    Input,
    /// Display adapters.
    Display,
    /// Sound cards.
    Sound,
    /// Everything else.
    Misc,
    /// Processors.
    Cpu,
    /// Watchdogs.
    Watchdog,
    /// No heading fits.
    Uncategorized,
}

impl Category {
    /// The heading in `-device help`.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Bridge => "Controller/Bridge/Hub",
            Self::Usb => "USB",
            Self::Storage => "Storage",
            Self::Network => "Network",
            Self::Input => "Input",
            Self::Display => "Display",
            Self::Sound => "Sound",
            Self::Misc => "Misc",
            Self::Cpu => "CPU",
            Self::Watchdog => "Watchdog",
            Self::Uncategorized => "Uncategorized",
        }
    }
}

/// What makes a device of some type: takes its properties and the slot that its bus prepared.
///
/// The slot is the bus's own type (`pci::PciSlot`, ...); the bus crate offers a typed wrapper, so that device files
/// never see the `dyn Any`.
pub type Realize = fn(Box<dyn Properties>, &mut dyn Any) -> Result<Arc<dyn Device>, DeviceError>;

/// The declaration of a device type.
pub struct DeviceSpec {
    /// The type's name.
    pub name: &'static str,
    /// Other names for `-device`.
    pub aliases: &'static [&'static str],
    /// `desc` in `-device help`; empty: none.
    pub desc: &'static str,
    /// Type of the bus that it sits on: `PCI`, `ISA`, `virtio-serial-bus`, `System`, ...
    pub bus: &'static str,
    /// Heading in `-device help`.
    pub category: Category,
    /// Whether `-device` may make one; otherwise only the board does.
    pub user_creatable: bool,
    /// A set of properties with their defaults.
    pub properties: fn() -> Box<dyn Properties>,
    /// Makes the device.
    pub realize: Realize,
}

/// A device, as the machine sees it.
pub trait Device: Any + Send + Sync {
    /// Returns to the power-up state. Called with all vCPUs stopped.
    fn reset(&self);

    /// Lines that `info qtree` shows below the properties (PCI class and BARs, ...).
    fn describe(&self) -> Vec<String> {
        Vec::new()
    }

    /// Its GPIO lines, as `info qtree` shows them above the properties.
    fn gpios(&self) -> Vec<String> {
        Vec::new()
    }

    /// The device that it contains, whose properties are marked as such ([`crate::PropertyInfo::part`]).
    fn part(&self) -> Option<Part> {
        None
    }

    /// What property `name` came to, where the device decided it (its place on the bus, ...), as `info qtree` shows it.
    fn property(&self, _name: &str) -> Option<String> {
        None
    }

    /// The machine goes on after a stop: what an error of the host's held up may be tried again.
    fn resumed(&self) {}

    /// The buses that the device provides, for `bus=` and for devices that look for one.
    fn buses(&self) -> Vec<Arc<dyn Bus>> {
        Vec::new()
    }
}

/// A device inside another, as `info qtree` shows it: on a bus of its own that nothing else is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the bus.
    pub bus: &'static str,
    /// The bus's type.
    pub bus_type: &'static str,
    /// The device's type.
    pub device: String,
}

/// A bus that devices are plugged into.
pub trait Bus: Send + Sync {
    /// The bus's name: `pci.0`, `isa.0`, `virtio-serial0.0`.
    fn name(&self) -> String;
    /// What [`DeviceSpec::bus`] must say of its devices.
    fn bus_type(&self) -> &'static str;
    /// The type's name in `info qtree`.
    fn qtree_type(&self) -> String {
        self.bus_type().to_owned()
    }
    /// Whether another device fits.
    fn has_room(&self) -> bool {
        true
    }
    /// Finds a slot for the device, and makes it by [`DeviceSpec::realize`].
    ///
    /// # Errors
    /// No free slot, the slot that the properties name is taken, or the device could not be made.
    fn plug(
        &self,
        spec: &'static DeviceSpec,
        properties: Box<dyn Properties>,
        context: Context,
    ) -> Result<Arc<dyn Device>, DeviceError>;
}
