//! Command lines: any words, with what the emulator knows.

use cmdline::{Catalog, MachineRow, Outcome};
use std::sync::LazyLock;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog {
    machines: pc::MACHINES
        .iter()
        .map(|machine| MachineRow {
            name: machine.name,
            alias: Some(machine.model.alias()),
            description: machine.model.description(),
            default: machine.model == pc::BoardModel::I440fx,
            max_cpus: machine.model.max_cpus(),
        })
        .collect(),
    devices: vm::devices(),
    cpu_help: x86::models::help,
    machine_help: pc::machine_help,
});

/// The input: words divided by line feeds.
pub fn run(data: &[u8]) {
    report::set_quiet(true);
    let words: Vec<String> =
        data.split(|&byte| byte == b'\n').map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    match cmdline::parse(&words, &CATALOG) {
        Ok(Outcome::Run(plan)) => {
            if let Some(cpu) = &plan.cpu
                && let Ok(config) = x86::models::parse(cpu)
            {
                let _ = config.realize(&engine::supported_features(), Default::default(), 40);
            }
            let machine = &plan.machine;
            if let Some(found) = pc::MachineType::find(&machine.name) {
                let properties = machine.props.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let _ = pc::MachineOptions::parse(found.name, properties);
            }
        }
        Ok(Outcome::Text(..)) => {}
        Err(refused) => assert!(!refused.to_string().is_empty(), "a refusal says why"),
    }
}
