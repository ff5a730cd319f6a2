//! The device types that `-device` knows: one line a device.

use qdev::DeviceSpec;

/// Every device type of this build.
pub fn devices() -> Vec<&'static DeviceSpec> {
    let mut list: Vec<&'static DeviceSpec> = vec![
        &uarts::ISA_SERIAL_SPEC,
        &chipset::misc_specs::DEBUGCON_SPEC,
        &chipset::misc_specs::DEBUG_EXIT_SPEC,
        &chipset::misc_specs::PVPANIC_SPEC,
        &chipset::misc_specs::PVPANIC_PCI_SPEC,
        &chipset::watchdog::IB700_SPEC,
        &chipset::watchdog::I6300ESB_SPEC,
    ];
    list.extend(&virtio::BLK_SPECS);
    list.extend(&virtio::RNG_SPECS);
    list.extend(&virtio::SERIAL_SPECS);
    list.extend(&virtio::PORT_SPECS);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_can_be_made() {
        let list = devices();
        let mut names: Vec<_> = list.iter().flat_map(|s| s.aliases.iter().chain([&s.name])).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for spec in list {
            let mut seen = std::collections::BTreeSet::new();
            (spec.properties)().visit(&mut |info, _| assert!(seen.insert(info.name), "{}", info.name));
        }
    }
}
