//! The properties of the machines (`-machine hpet=off,...`).

use crate::BoardModel;
use qdev::{Input, OnOffAuto, Properties, Size};

/// The properties that both boards have.
#[derive(Clone, Debug, Properties)]
pub struct MachineOptions {
    /// Enable ACPI
    pub acpi: OnOffAuto,
    /// Linux kernel command line
    pub append: String,
    /// Include guest memory in a core dump
    #[prop(default = true)]
    pub dump_guest_core: bool,
    /// Firmware image
    pub firmware: String,
    /// Set on/off to enable/disable graphics emulation
    #[prop(default = true)]
    pub graphics: bool,
    /// Enable/disable high precision event timer emulation
    #[prop(default = true)]
    pub hpet: bool,
    /// Enable/disable Intel 8042 PS/2 controller emulation
    #[prop(default = true)]
    pub i8042: bool,
    /// Linux initial ramdisk file
    pub initrd: String,
    /// Linux kernel image file
    pub kernel: String,
    /// Maximum ram below the 4G boundary (32bit boundary)
    pub max_ram_below_4g: Size,
    /// Enable/disable memory merge support
    #[prop(default = true)]
    pub mem_merge: bool,
    /// Enable i8259 PIC
    pub pic: OnOffAuto,
    /// Enable i8254 PIT
    pub pit: OnOffAuto,
    /// Enable/disable Serial ATA bus
    #[prop(default = true)]
    pub sata: bool,
    /// SMBIOS Entry Point type [32, 64]
    #[prop(name = "smbios-entry-point-type", default = "auto")]
    pub smbios_entry_point: String,
    /// Enable/disable system management bus
    #[prop(default = true)]
    pub smbus: bool,
    /// Enable SMM
    pub smm: OnOffAuto,
    /// Set on to disable self-describing migration
    pub suppress_vmdesc: bool,
    /// Set on/off to enable/disable usb
    #[prop(default = false)]
    pub usb: bool,
    /// Enable vmport (pc & q35)
    pub vmport: OnOffAuto,
    /// Override the default value of field OEMID in ACPI table header.The string may be up to 6 bytes in size
    pub x_oem_id: String,
    /// Override the default value of field OEM Table ID in ACPI table header.The string may be up to 8 bytes in size
    pub x_oem_table_id: String,
}

/// Properties of QEMU's boards whose values would need parts that do not exist here.
const NOT_BUILT: [&str; 12] = [
    "boot",
    "bus-lock-ratelimit",
    "confidential-guest-support",
    "default-bus-bypass-iommu",
    "dt-compatible",
    "dtb",
    "dumpdtb",
    "max-fw-size",
    "memory",
    "memory-encryption",
    "phandle-start",
    "sgx-epc",
];

impl MachineOptions {
    /// The options that a machine called `machine` (`pc-i440fx-9.1`) has after `settings`, in order.
    ///
    /// # Errors
    /// There is no such property, it does not take the value, or the value asks for something that is not built.
    pub fn parse<'a>(
        machine: &str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in settings {
            if NOT_BUILT.contains(&name) {
                return Err(format!("Machine property '{name}' is not supported by this build"));
            }
            qdev::set(&mut options, &format!("{machine}-machine"), name, &Input::Text(value))
                .map_err(|error| error.0)?;
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        let limit = self.max_ram_below_4g.0;
        if limit > 4 << 30 {
            return Err(format!(
                "Machine option 'max-ram-below-4g={limit}' expects size less than or equal to 4G"
            ));
        }
        for (text, name, size) in
            [(&self.x_oem_id, "x-oem-id", 6), (&self.x_oem_table_id, "x-oem-table-id", 8)]
        {
            if text.len() > size {
                return Err(format!("User specified {name} value is bigger than {size} bytes in size"));
            }
        }
        // What no value but the default is built for.
        let unbuilt = [
            ("smm", self.smm == OnOffAuto::On, "on"),
            ("vmport", self.vmport == OnOffAuto::On, "on"),
            ("usb", self.usb, "on"),
            ("mem-merge", !self.mem_merge, "off"),
            ("dump-guest-core", !self.dump_guest_core, "off"),
            ("smbios-entry-point-type", self.smbios_entry_point == "64", "64"),
        ];
        for (name, wanted, value) in unbuilt {
            if wanted {
                return Err(format!("Machine property '{name}={value}' is not supported by this build"));
            }
        }
        if !["auto", "32", "64"].contains(&self.smbios_entry_point.as_str()) {
            return Err(format!(
                "Parameter 'smbios-entry-point-type' does not accept value '{}'",
                self.smbios_entry_point
            ));
        }
        Ok(())
    }

    /// Whether the board has the interval timer.
    pub fn has_pit(&self) -> bool {
        self.pit != OnOffAuto::Off
    }

    /// Whether the board has the legacy interrupt controllers.
    pub fn has_pic(&self) -> bool {
        self.pic != OnOffAuto::Off
    }

    /// Whether the board has ACPI tables.
    pub fn has_acpi(&self) -> bool {
        self.acpi != OnOffAuto::Off
    }
}

/// The text of `-machine NAME,help` for a board's full name.
pub fn machine_help(name: &str) -> String {
    let mut lines = vec!["  memory-backend=<string> - Set RAM backend".to_owned()];
    MachineOptions::default().visit(&mut |info, field| {
        let kind = match field.type_name() {
            "str" => "string",
            other => other,
        };
        let line = format!("  {}=<{kind}>", info.name);
        lines.push(format!("{line:<24} - {}", info.help));
    });
    lines.sort();
    format!("{name}-machine options:\n{}\n", lines.join("\n"))
}

/// A machine type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineType {
    /// The versioned name.
    pub name: &'static str,
    /// The board.
    pub model: BoardModel,
}

impl MachineType {
    /// The newest type, which `pc` and `q35` stand for.
    pub fn newest(model: BoardModel) -> &'static str {
        match model {
            BoardModel::I440fx => "pc-i440fx-9.1",
            BoardModel::Q35 => "pc-q35-9.1",
        }
    }

    /// The type of this full name.
    pub fn find(name: &str) -> Option<Self> {
        MACHINES.iter().find(|machine| machine.name == name).copied()
    }
}

const fn i440fx(name: &'static str) -> MachineType {
    MachineType { name, model: BoardModel::I440fx }
}

const fn q35(name: &'static str) -> MachineType {
    MachineType { name, model: BoardModel::Q35 }
}

/// Every machine type, in the order of `-machine help`. The versions name the same hardware: what older ones had
/// otherwise (ACPI tables' revisions, features of devices) guests find as in the newest.
pub const MACHINES: [MachineType; 32] = [
    i440fx("pc-i440fx-9.1"),
    i440fx("pc-i440fx-9.0"),
    i440fx("pc-i440fx-8.2"),
    i440fx("pc-i440fx-8.1"),
    i440fx("pc-i440fx-8.0"),
    i440fx("pc-i440fx-7.2"),
    i440fx("pc-i440fx-7.1"),
    i440fx("pc-i440fx-7.0"),
    i440fx("pc-i440fx-6.2"),
    i440fx("pc-i440fx-6.1"),
    i440fx("pc-i440fx-6.0"),
    i440fx("pc-i440fx-5.2"),
    i440fx("pc-i440fx-5.1"),
    i440fx("pc-i440fx-5.0"),
    i440fx("pc-i440fx-4.2"),
    i440fx("pc-i440fx-4.1"),
    q35("pc-q35-9.1"),
    q35("pc-q35-9.0"),
    q35("pc-q35-8.2"),
    q35("pc-q35-8.1"),
    q35("pc-q35-8.0"),
    q35("pc-q35-7.2"),
    q35("pc-q35-7.1"),
    q35("pc-q35-7.0"),
    q35("pc-q35-6.2"),
    q35("pc-q35-6.1"),
    q35("pc-q35-6.0"),
    q35("pc-q35-5.2"),
    q35("pc-q35-5.1"),
    q35("pc-q35-5.0"),
    q35("pc-q35-4.2"),
    q35("pc-q35-4.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, value: &str) -> String {
        MachineOptions::parse("pc-q35-9.1", [(name, value)]).expect_err("refused")
    }

    #[test]
    fn errors_are_worded_as_in_qemu() {
        assert_eq!(error("foo", "1"), "Property 'pc-q35-9.1-machine.foo' not found");
        assert_eq!(error("hpet", "foo"), "Parameter 'hpet' expects 'on' or 'off'");
        assert_eq!(
            error("max-ram-below-4g", "5G"),
            "Machine option 'max-ram-below-4g=5368709120' expects size less than or equal to 4G"
        );
        assert_eq!(error("pit", "maybe"), "Parameter 'pit' does not accept value 'maybe'");
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (name, value) in [("smm", "on"), ("vmport", "on"), ("usb", "on"), ("dtb", "x")] {
            assert!(error(name, value).contains(name), "{name}");
        }
        let settings = [("smm", "off"), ("vmport", "off"), ("usb", "off"), ("hpet", "off"), ("pit", "off")];
        let options = MachineOptions::parse("pc-q35-9.1", settings).expect("defaults");
        assert!(!options.hpet && !options.has_pit() && options.has_pic());
    }

    #[test]
    fn help_lists_the_properties_by_name() {
        let help = machine_help("pc-q35-9.1");
        assert!(help.starts_with("pc-q35-9.1-machine options:\n  acpi=<OnOffAuto>       - Enable ACPI\n"));
        assert!(help.contains("\n  memory-backend=<string> - Set RAM backend\n"));
    }
}
