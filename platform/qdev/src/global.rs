//! `-global`: defaults for the properties of all devices of a type.

use crate::{DeviceError, DeviceSpec, Input, Properties};
use parking_lot::Mutex;

/// One `-global`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Device type, or a type that it descends from (`virtio-pci`, `pci-device`).
    pub driver: String,
    /// Property.
    pub property: String,
    /// Value as text.
    pub value: String,
}

/// All of a machine, in order.
#[derive(Default)]
pub struct Globals {
    entries: Vec<Global>,
    used: Mutex<Vec<bool>>,
}

/// The types that devices on a bus descend from, besides their own.
fn is_a(spec: &DeviceSpec, driver: &str) -> bool {
    if driver == spec.name || driver == "device" {
        return true;
    }
    match driver {
        "pci-device" => spec.bus == "PCI",
        "isa-device" => spec.bus == "ISA",
        "virtio-pci" => spec.bus == "PCI" && spec.name.starts_with("virtio-"),
        _ => {
            // virtio-blk-device is what virtio-blk-pci and its forms consist of.
            let base = driver.strip_suffix("-device").filter(|_| spec.bus == "PCI");
            base.is_some_and(|base| spec.name.strip_prefix(base).is_some_and(|rest| rest.starts_with("-pci")))
        }
    }
}

/// The name of a property's type.
fn type_of(properties: &mut dyn Properties, name: &str) -> Option<&'static str> {
    let mut found = None;
    properties.visit(&mut |info, field| {
        if info.name == name {
            found = Some(field.type_name());
        }
    });
    found
}

impl Globals {
    /// The list.
    pub fn new(entries: Vec<Global>) -> Self {
        let used = Mutex::new(vec![false; entries.len()]);
        Self { entries, used }
    }

    /// Sets what the list says of a device of this type.
    ///
    /// # Errors
    /// There is no such property, or it does not take the value: QEMU's texts.
    pub fn apply(&self, spec: &DeviceSpec, properties: &mut dyn Properties) -> Result<(), DeviceError> {
        for (index, global) in self.entries.iter().enumerate().filter(|(_, g)| is_a(spec, &g.driver)) {
            self.used.lock()[index] = true;
            let Global { driver, property, value } = global;
            crate::set(properties, spec.name, property, &Input::Text(value)).map_err(|error| {
                // QEMU reads these with another parser, which names the width that it reads with.
                let width = match type_of(properties, property) {
                    Some(name) if name.starts_with("uint") => "uint64",
                    _ => "int64",
                };
                let text = match error.0.strip_suffix("expects integer") {
                    Some(start) => format!("{start}expects {width}"),
                    None => error.0,
                };
                DeviceError(format!("can't apply global {driver}.{property}={value}: {text}"))
            })?;
        }
        Ok(())
    }

    /// The last value for exactly this driver and property, for what a board decides itself.
    pub fn value(&self, driver: &str, property: &str) -> Option<&str> {
        let matching = |g: &Global| g.driver == driver && g.property == property;
        let mut found = None;
        for (index, global) in self.entries.iter().enumerate().filter(|(_, g)| matching(g)) {
            self.used.lock()[index] = true;
            found = Some(global.value.as_str());
        }
        found
    }

    /// Those that nothing has asked for yet.
    pub fn unused(&self) -> Vec<Global> {
        let used = self.used.lock();
        self.entries.iter().zip(&*used).filter(|(_, used)| !**used).map(|(g, _)| g.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Category, NoProperties};

    static RNG: DeviceSpec = DeviceSpec {
        name: "virtio-rng-pci",
        aliases: &[],
        desc: "",
        bus: "PCI",
        category: Category::Misc,
        user_creatable: true,
        properties: || Box::new(NoProperties),
        realize: |_, _| Err(DeviceError::new("never made")),
    };

    #[test]
    fn a_type_and_what_it_descends_from_are_met() {
        for driver in ["virtio-rng-pci", "virtio-pci", "pci-device", "virtio-rng-device", "device"] {
            assert!(is_a(&RNG, driver), "{driver}");
        }
        for driver in ["virtio-blk-device", "isa-device", "virtio-rng", "foo", "-device"] {
            assert!(!is_a(&RNG, driver), "{driver}");
        }
    }

    #[test]
    fn what_does_not_fit_is_worded_as_in_qemu_and_the_rest_is_unused() {
        let global = |driver: &str, property: &str| Global {
            driver: driver.to_owned(),
            property: property.to_owned(),
            value: "1".to_owned(),
        };
        let list = Globals::new(vec![global("foo", "a"), global("virtio-rng-pci", "foo")]);
        assert_eq!(
            list.apply(&RNG, &mut NoProperties).expect_err("no such property").0,
            "can't apply global virtio-rng-pci.foo=1: Property 'virtio-rng-pci.foo' not found"
        );
        assert_eq!(list.unused(), [global("foo", "a")]);
        assert_eq!((list.value("foo", "a"), list.unused().len()), (Some("1"), 0));
    }
}
