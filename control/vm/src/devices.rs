//! `-device` and `-global`: from names to devices on buses.

use crate::{catalog, drives};
use cmdline::{Item, Plan};
use pc::BoardModel;
use pci::PciBus;
use qdev::{Bus, Context, DeviceSpec, DeviceTree, Globals, Links};
use report::Location;
use std::sync::Arc;

/// Makes devices.
pub(crate) struct Maker<'a> {
    /// Where devices are remembered.
    pub(crate) tree: &'a DeviceTree,
    /// What each is given, but for its id.
    pub(crate) context: Context,
    /// Defaults for their properties.
    pub(crate) globals: &'a Globals,
}

/// Types that are part of boards and cannot be added.
const ONBOARD: &[&str] = &[
    "i440FX",
    "i440FX-pcihost",
    "PIIX3",
    "piix3-ide",
    "PIIX4_PM",
    "mch",
    "q35-pcihost",
    "ICH9-LPC",
    "isa-i8259",
    "isa-pit",
    "kvm-pit",
    "kvm-i8259",
    "ioapic",
    "kvm-ioapic",
    "apic",
    "hpet",
    "i8042",
    "i8257",
    "port92",
    "fw_cfg_io",
    "fw_cfg_mem",
    "kvmclock",
    "kvmvapic",
    "isa-fdc",
];
/// Types that others descend from.
const ABSTRACT: &[&str] = &[
    "device",
    "pci-device",
    "isa-device",
    "virtio-device",
    "virtio-pci",
    "sys-bus-device",
    "usb-device",
    "cpu",
    "x86_64-cpu",
    "virtio-serial-port",
    "scsi-device",
    "ide-device",
];

/// A type by its name or another of its names.
///
/// # Errors
/// There is none that can be added: QEMU's text.
fn spec_of(name: &str) -> Result<&'static DeviceSpec, String> {
    let found = catalog::devices().into_iter().find(|s| s.name == name || s.aliases.contains(&name));
    match found {
        Some(spec) if spec.user_creatable => Ok(spec),
        Some(_) => Err("Parameter 'driver' expects a pluggable device type".to_owned()),
        None if ONBOARD.contains(&name) => {
            Err("Parameter 'driver' expects a pluggable device type".to_owned())
        }
        None if ABSTRACT.contains(&name) => {
            Err("Parameter 'driver' expects a non-abstract device type".to_owned())
        }
        None => Err(format!("'{name}' is not a valid device model name")),
    }
}

/// Whether `-device` knows the name, if only to refuse it.
pub(crate) fn is_type(name: &str) -> bool {
    spec_of(name).is_ok() || ONBOARD.contains(&name) || ABSTRACT.contains(&name)
}

impl Maker<'_> {
    /// Makes all devices of the plan, in QEMU's order.
    ///
    /// # Errors
    /// The text for the user.
    pub(crate) fn make_all(&self, plan: &Plan) -> Result<(), String> {
        let drives = drives::devices(plan);
        for item in plan.devices.iter().filter(|item| !item.json).chain(&drives) {
            self.make(item)?;
        }
        for item in plan.devices.iter().filter(|item| item.json) {
            self.make(item)?;
        }
        Ok(())
    }

    /// Makes the device that one option names.
    ///
    /// # Errors
    /// The text for the user, with the option's place.
    pub(crate) fn make(&self, item: &Item) -> Result<(), String> {
        let _place = Location::enter(&item.location);
        self.plug(item).map_err(|error| format!("{}: {error}", item.location))
    }

    fn plug(&self, item: &Item) -> Result<(), String> {
        let spec = spec_of(&item.kind)?;
        let wanted = item.props.iter().rev().find(|(key, _)| key == "bus").map(|(_, value)| value.text());
        let bus = self.bus(spec, wanted.as_deref())?;
        if let Some(id) = &item.id
            && self.tree.find(id).is_some()
        {
            return Err(format!("Duplicate device ID '{id}'"));
        }
        let mut properties = (spec.properties)();
        self.globals.apply(spec, &mut *properties).map_err(|error| error.0)?;
        for (key, value) in item.props.iter().filter(|(key, _)| key != "bus") {
            let Some(input) = value.input() else {
                return Err(format!("Invalid parameter type for '{key}', expected: string"));
            };
            qdev::set(&mut *properties, spec.name, key, &input).map_err(|error| error.0)?;
        }
        let context = Context { id: item.id.clone(), ..self.context.clone() };
        self.tree.plug(&bus, spec, properties, context).map(drop).map_err(|error| error.0)
    }

    /// The bus that the user names, or the first that fits.
    fn bus(&self, spec: &'static DeviceSpec, wanted: Option<&str>) -> Result<Arc<dyn Bus>, String> {
        let Some(name) = wanted else {
            let fits = |bus: &Arc<dyn Bus>| bus.bus_type() == spec.bus && bus.has_room();
            return self
                .tree
                .buses()
                .into_iter()
                .find(fits)
                .ok_or_else(|| format!("No '{}' bus found for device '{}'", spec.bus, spec.name));
        };
        let bus = self.tree.bus(name).ok_or_else(|| format!("Bus '{name}' not found"))?;
        if bus.bus_type() != spec.bus {
            return Err(format!("Device '{}' can't go on {} bus", spec.name, bus.qtree_type()));
        }
        if !bus.has_room() {
            return Err(format!("Bus '{name}' is full"));
        }
        Ok(bus)
    }
}

/// Leaves the slots free that QEMU gives to default devices which are not built, and names those devices.
pub(crate) fn reserve_default_slots(plan: &Plan, model: BoardModel, bus: &PciBus) {
    if plan.no_defaults {
        return;
    }
    let mut missing = Vec::new();
    if !plan.no_vga {
        missing.push("display adapter (VGA)");
    }
    if !plan.no_nic {
        missing.push("network card (e1000)");
    }
    for _ in &missing {
        if let Some(at) = bus.free_slot() {
            bus.reserve(at.device());
        }
    }
    if !plan.no_parallel {
        missing.push("parallel port");
    }
    missing.push("CD-ROM drive");
    if model == BoardModel::I440fx {
        missing.push("floppy disk drive");
    }
    report::warn_report!(
        "default devices that are not built are left out: {} (-nodefaults leaves all out without a word)",
        missing.join(", ")
    );
}

/// The number of processors, for devices with a queue for each.
pub(crate) fn publish_cpus(links: &Links, cpus: u32) {
    links.insert("cpus", Arc::new(virtio::CpuCount(u16::try_from(cpus).unwrap_or(u16::MAX))));
}
