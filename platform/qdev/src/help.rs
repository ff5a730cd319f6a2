//! `-device help` and `-device X,help`.

use crate::{Category, DeviceSpec};
use std::fmt::Write as _;

/// The list of types that `-device` can make, by category, in QEMU's layout.
pub fn device_help(registry: &[&'static DeviceSpec]) -> String {
    let mut specs: Vec<_> = registry.iter().filter(|s| s.user_creatable).collect();
    specs.sort_by_key(|s| (s.category, s.name));
    let mut out = String::new();
    let mut heading: Option<Category> = None;
    for spec in specs {
        if heading != Some(spec.category) {
            if heading.is_some() {
                out.push('\n');
            }
            let _ = writeln!(out, "{} devices:", spec.category.heading());
            heading = Some(spec.category);
        }
        let _ = write!(out, "name \"{}\"", spec.name);
        if spec.bus != "System" {
            let _ = write!(out, ", bus {}", spec.bus);
        }
        if let [alias, ..] = spec.aliases {
            let _ = write!(out, ", alias \"{alias}\"");
        }
        if !spec.desc.is_empty() {
            let _ = write!(out, ", desc \"{}\"", spec.desc);
        }
        out.push('\n');
    }
    out
}

/// The properties of a type, sorted by name, in QEMU's layout.
pub fn property_help(spec: &DeviceSpec) -> String {
    let mut lines = Vec::new();
    (spec.properties)().visit(&mut |info, field| {
        let mut line = format!("  {}=<{}>", info.name, field.type_name());
        let default = field.default_text();
        if !info.help.is_empty() || default.is_some() {
            line = format!("{line:<24} - {}", info.help);
            if let Some(default) = default {
                let _ = write!(line, " (default: {default})");
            }
        }
        lines.push(line);
    });
    if lines.is_empty() {
        return format!("There are no options for {}.\n", spec.name);
    }
    lines.sort();
    format!("{} options:\n{}\n", spec.name, lines.join("\n"))
}
