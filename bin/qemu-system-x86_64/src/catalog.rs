//! What this program has to offer.

use cmdline::{Catalog, MachineRow};

/// Everything that the command line can name.
pub fn catalog() -> Catalog {
    Catalog {
        machines: vec![
            MachineRow {
                name: "pc-i440fx-9.1",
                alias: Some("pc"),
                description: "Standard PC (i440FX + PIIX, 1996)",
                default: true,
                max_cpus: 255,
            },
            MachineRow {
                name: "pc-q35-9.1",
                alias: Some("q35"),
                description: "Standard PC (Q35 + ICH9, 2009)",
                default: false,
                max_cpus: 4096,
            },
        ],
        devices: vm::devices(),
        cpu_help: x86::models::help,
        machine_help: |name| {
            format!(
                "{name}-machine options:\n\
                 {:2}append=<string>        - Linux kernel command line\n\
                 {:2}firmware=<string>      - Firmware image\n\
                 {:2}initrd=<string>        - Linux initial ramdisk file\n\
                 {:2}kernel=<string>        - Linux kernel image file\n\
                 {:2}memory-backend=<string> - Set RAM backend\n",
                "", "", "", "", ""
            )
        },
    }
}
