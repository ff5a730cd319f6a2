//! Help texts.

use crate::Catalog;
use crate::options::{Apply, OPTIONS};
use std::fmt::Write as _;

/// The text of `-h`.
pub(crate) fn usage() -> String {
    let program = report::program();
    let mut out = version();
    let _ = write!(
        out,
        "usage: {program} [options] [disk_image]\n\n'disk_image' is a raw hard disk image for IDE hard disk 0\n"
    );
    let mut section = "";
    for option in OPTIONS {
        if option.section != section {
            section = option.section;
            let _ = write!(out, "\n{section}:\n");
        }
        let mut head = format!("-{}", option.name);
        if let Some(arg) = option.arg {
            let _ = write!(head, " {arg}");
        }
        let mark = match option.apply {
            Apply::Built(_) => "",
            Apply::Foreign => " [not for this target]",
            Apply::Unbuilt => " [not in this build]",
        };
        if head.len() < 16 {
            let _ = writeln!(out, "{head:<16}{}{mark}", option.help);
        } else {
            let _ = writeln!(out, "{head}\n{:16}{}{mark}", "", option.help);
        }
    }
    out.push_str("\nWhen using -nographic, press 'ctrl-a h' to get some help.\n");
    out
}

/// The text of `-version`; tools parse its first line.
pub(crate) fn version() -> String {
    format!(
        "QEMU emulator version 9.1.0 (Tinamou {})\nCopyright (c) the Tinamou authors; Apache-2.0 or MIT\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The text of `-machine help`.
pub(crate) fn machines(catalog: &Catalog) -> String {
    let mut out = "Supported machines are:\n".to_owned();
    for row in &catalog.machines {
        if let Some(alias) = row.alias {
            let _ = writeln!(out, "{alias:<20} {} (alias of {})", row.description, row.name);
        }
        let default = if row.default { " (default)" } else { "" };
        let _ = writeln!(out, "{:<20} {}{default}", row.name, row.description);
    }
    out
}
