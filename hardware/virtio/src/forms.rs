//! The three device types that each virtio PCI device comes in.

/// `forms!(TABLE, "virtio-x", Category::Y, properties, realize)`: the [`DeviceSpec`](qdev::DeviceSpec)s of `virtio-x-pci`
/// (also called `virtio-x`) and of the types whose name says which interfaces they have.
///
/// `properties` makes a set with its `virtio` group; the two named forms lack the choice of interfaces.
macro_rules! forms {
    ($(#[$doc:meta])* $table:ident, $name:literal, $category:expr, $properties:path, $realize:path) => {
        $(#[$doc])*
        pub static $table: [qdev::DeviceSpec; 3] = {
            const fn form(
                name: &'static str,
                aliases: &'static [&'static str],
                properties: fn() -> Box<dyn qdev::Properties>,
                realize: qdev::Realize,
            ) -> qdev::DeviceSpec {
                let (bus, category) = ("PCI", $category);
                qdev::DeviceSpec { name, aliases, desc: "", bus, category, user_creatable: true, properties, realize }
            }
            fn fixed() -> Box<dyn qdev::Properties> {
                let mut properties = $properties();
                properties.virtio.mode.fix();
                Box::new(properties)
            }
            const GENERIC: &str = concat!($name, "-pci");
            const NON_TRANSITIONAL: &str = concat!($name, "-pci-non-transitional");
            const TRANSITIONAL: &str = concat!($name, "-pci-transitional");
            use crate::transport::Family;
            [
                form(GENERIC, &[$name], || Box::new($properties()), |p, s| $realize(GENERIC, Family::Generic, p, s)),
                form(NON_TRANSITIONAL, &[], fixed, |p, s| {
                    $realize(NON_TRANSITIONAL, Family::NonTransitional, p, s)
                }),
                form(TRANSITIONAL, &[], fixed, |p, s| $realize(TRANSITIONAL, Family::Transitional, p, s)),
            ]
        };
    };
}
pub(crate) use forms;
