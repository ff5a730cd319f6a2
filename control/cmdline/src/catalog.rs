//! What this binary has to offer, told by the program to the command line.

/// A board.
#[derive(Clone, Copy, Debug)]
pub struct MachineRow {
    /// The versioned name (`pc-i440fx-9.1`).
    pub name: &'static str,
    /// The short name (`pc`).
    pub alias: Option<&'static str>,
    /// What `-machine help` says.
    pub description: &'static str,
    /// The board taken without `-machine`.
    pub default: bool,
    /// Most CPUs.
    pub max_cpus: u32,
}

/// Names and help texts of what can be made.
pub struct Catalog {
    /// Boards, in the order of `-machine help`.
    pub machines: Vec<MachineRow>,
    /// Device types.
    pub devices: Vec<&'static qdev::DeviceSpec>,
    /// The text of `-cpu help`.
    pub cpu_help: fn() -> String,
    /// The text of `-machine NAME,help` for a board's full name.
    pub machine_help: fn(&str) -> String,
}

impl Catalog {
    /// The board of this name or alias.
    pub fn machine(&self, name: &str) -> Option<&MachineRow> {
        self.machines.iter().find(|row| row.name == name || row.alias == Some(name))
    }

    /// The device type of this name or alias.
    pub fn device(&self, name: &str) -> Option<&'static qdev::DeviceSpec> {
        self.devices.iter().find(|spec| spec.name == name || spec.aliases.contains(&name)).copied()
    }
}
