//! `-global` for what boards consist of, and for what is not there.

use crate::devices::is_type;
use crate::known_types::KNOWN_TYPES;
use chipset::acpi_pm::PmConfig;
use cmdline::Plan;
use pc::BoardModel;
use qdev::{Category, DeviceError, DeviceSpec, Global, Globals, Properties};

/// The plan's `-global`s.
pub(crate) fn of(plan: &Plan) -> Globals {
    let entry = |global: &cmdline::Global| Global {
        driver: global.driver.clone(),
        property: global.property.clone(),
        value: global.value.clone(),
    };
    Globals::new(plan.globals.iter().map(entry).collect())
}

/// Properties of the chip with the ACPI registers.
#[derive(Properties)]
struct PmProperties {
    #[prop(name = "disable_s3", default = 0u8)]
    disable_s3: u8,
    #[prop(name = "disable_s4", default = 0u8)]
    disable_s4: u8,
    #[prop(name = "s4_val", default = 2u8)]
    s4_val: u8,
}

const fn onboard(name: &'static str) -> DeviceSpec {
    DeviceSpec {
        name,
        aliases: &[],
        desc: "",
        bus: "PCI",
        category: Category::Bridge,
        user_creatable: false,
        properties: || Box::<PmProperties>::default(),
        realize: |_, _| Err(DeviceError::new("part of the board")),
    }
}

static PIIX4_PM: DeviceSpec = onboard("PIIX4_PM");
static ICH9_LPC: DeviceSpec = onboard("ICH9-LPC");

/// What the list says of the board's power management.
///
/// # Errors
/// A property that does not exist, or that is not built: the text for the user.
pub(crate) fn sleep(globals: &Globals, model: BoardModel) -> Result<PmConfig, String> {
    let spec = match model {
        BoardModel::I440fx => &PIIX4_PM,
        BoardModel::Q35 => &ICH9_LPC,
    };
    let mut properties = PmProperties::default();
    globals.apply(spec, &mut properties).map_err(|error| error.0)?;
    Ok(PmConfig {
        disable_s3: properties.disable_s3 != 0,
        disable_s4: properties.disable_s4 != 0,
        s4_val: properties.s4_val,
        ..PmConfig::default()
    })
}

/// The board's devices whose properties are not built.
fn is_onboard(model: BoardModel, driver: &str) -> bool {
    let common = [
        "isa-i8259",
        "isa-pit",
        "ioapic",
        "apic",
        "hpet",
        "i8042",
        "i8257",
        "port92",
        "fw_cfg_io",
        "mc146818rtc",
        "cpu",
        "vmport",
        "vmmouse",
    ];
    let own: &[&str] = match model {
        BoardModel::I440fx => &["i440FX", "i440FX-pcihost", "PIIX3", "piix3-ide"],
        BoardModel::Q35 => &["mch", "q35-pcihost", "ich9-ahci", "ICH9-SMB"],
    };
    common.contains(&driver) || own.contains(&driver) || driver.ends_with("-cpu")
}

/// Looks at what nothing has asked for, once all devices exist.
///
/// # Errors
/// The machine has such a device, and the property is not built: the text for the user.
pub(crate) fn check_unused(globals: &Globals, model: BoardModel) -> Result<(), String> {
    for Global { driver, property, .. } in globals.unused() {
        if is_onboard(model, &driver) {
            return Err(format!("global {driver}.{property} is not supported by this build"));
        }
        if !is_type(&driver) && KNOWN_TYPES.binary_search(&driver.as_str()).is_err() {
            report::warn_report!("global {driver}.{property} has invalid class name");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(list: &[(&str, &str, &str)]) -> Globals {
        let entry = |(driver, property, value): &(&str, &str, &str)| Global {
            driver: (*driver).to_owned(),
            property: (*property).to_owned(),
            value: (*value).to_owned(),
        };
        Globals::new(list.iter().map(entry).collect())
    }

    #[test]
    fn sleep_states_are_switched_on_the_board_that_has_the_chip() {
        let list = globals(&[("PIIX4_PM", "disable_s3", "1"), ("ICH9-LPC", "disable_s4", "1")]);
        let config = sleep(&list, BoardModel::I440fx).expect("pc");
        assert_eq!((config.disable_s3, config.disable_s4), (true, false));
        check_unused(&list, BoardModel::I440fx).expect("the other board's chip is not there");
        let wrong = globals(&[("PIIX4_PM", "foo", "1")]);
        assert_eq!(
            sleep(&wrong, BoardModel::I440fx).expect_err("foo"),
            "can't apply global PIIX4_PM.foo=1: Property 'PIIX4_PM.foo' not found"
        );
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let list = globals(&[("hpet", "timers", "4")]);
        assert!(check_unused(&list, BoardModel::Q35).expect_err("hpet").contains("hpet.timers"));
        assert!(KNOWN_TYPES.is_sorted());
    }
}
