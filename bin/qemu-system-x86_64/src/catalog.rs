//! What this program has to offer.

use cmdline::{Catalog, MachineRow};
use pc::{BoardModel, MachineType};

/// Everything that the command line can name.
pub fn catalog() -> Catalog {
    Catalog {
        machines: pc::MACHINES
            .iter()
            .map(|machine| {
                let newest = MachineType::newest(machine.model) == machine.name;
                MachineRow {
                    name: machine.name,
                    alias: newest.then(|| machine.model.alias()),
                    description: machine.model.description(),
                    default: newest && machine.model == BoardModel::I440fx,
                    max_cpus: machine.model.max_cpus(),
                }
            })
            .collect(),
        devices: vm::devices(),
        cpu_help: x86::models::help,
        machine_help: pc::machine_help,
    }
}
