//! The named CPU models, and the `-cpu` argument.

mod argument;
mod leaves;

use crate::features::FeatureSet;
use std::fmt::Write as _;
use std::sync::OnceLock;

pub use argument::{CpuConfig, HostCpu, parse, parse_on};
pub use leaves::Topology;

/// One version of a named model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Name with version: `Haswell-v1`.
    pub name: &'static str,
    /// Other names of this version.
    pub aliases: Vec<&'static str>,
    /// Vendor, 12 characters.
    pub vendor: &'static str,
    /// Family, extended family added.
    pub family: u32,
    /// Model, extended model included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Highest basic leaf.
    pub level: u32,
    /// Highest extended leaf.
    pub xlevel: u32,
    /// Physical address bits; 0: the accelerator's default.
    pub phys_bits: u32,
    /// The brand string.
    pub model_id: &'static str,
    /// What this version is about, for the help.
    pub note: &'static str,
    /// Features.
    pub features: FeatureSet,
}

impl Model {
    /// The name without the version, which the machine type resolves (to version 1).
    pub fn family_name(&self) -> &'static str {
        self.name.rsplit_once("-v").map_or(self.name, |(name, _)| name)
    }

    /// The model called `name`: with a version, an alias of a version, or without one for version 1.
    pub fn find(name: &str) -> Option<&'static Self> {
        let versioned = models().iter().find(|model| model.name == name || model.aliases.contains(&name));
        versioned.or_else(|| models().iter().find(|model| model.family_name() == name))
    }
}

/// Every model, sorted by name and version.
pub fn models() -> &'static [Model] {
    static TABLE: OnceLock<Vec<Model>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut models: Vec<Model> = Vec::new();
        for line in include_str!("models.txt").lines().filter(|line| !line.starts_with('#')) {
            let previous = models.last().map(|model| (model.family_name(), model.features));
            models.extend(read_line(line, previous));
        }
        models
    })
}

/// One line of `models.txt`; `previous` is the name and the features of the line before.
fn read_line(line: &'static str, previous: Option<(&str, FeatureSet)>) -> Option<Model> {
    let fields: Vec<&'static str> = line.split('|').collect();
    let [name, aliases, vendor, signature, level, xlevel, phys_bits, model_id, note, features] = fields[..]
    else {
        return None;
    };
    let mut signature = signature.split(' ').map_while(|number| number.parse::<u32>().ok());
    let mut model = Model {
        name,
        aliases: aliases.split_whitespace().collect(),
        vendor,
        family: signature.next()?,
        model: signature.next()?,
        stepping: signature.next()?,
        level: level.parse().ok()?,
        xlevel: u32::from_str_radix(xlevel.strip_prefix("0x")?, 16).ok()?,
        phys_bits: phys_bits.parse().ok()?,
        model_id,
        note,
        features: FeatureSet::default(),
    };
    if !name.ends_with("-v1") {
        model.features = previous.filter(|(family, _)| *family == model.family_name())?.1;
    }
    for feature in features.split_whitespace() {
        match feature.strip_prefix('-') {
            Some(name) => model.features.remove(crate::features::Feature::find(name)?),
            None => model.features.insert(crate::features::Feature::find(feature.trim_start_matches('+'))?),
        }
    }
    Some(model)
}

/// The text of `-cpu help`.
pub fn help() -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for model in models() {
        if model.name.ends_with("-v1") {
            rows.push((model.family_name().to_owned(), "(alias configured by machine type)".to_owned()));
        }
        rows.extend(
            model.aliases.iter().map(|alias| ((*alias).to_owned(), format!("(alias of {})", model.name))),
        );
        let note = if model.note.is_empty() { String::new() } else { format!(" [{}]", model.note) };
        rows.push((model.name.to_owned(), format!("{}{note}", model.model_id)));
    }
    rows.sort();
    let special = [
        ("base", "base CPU model type with no features enabled"),
        ("host", "processor with all supported host features "),
        ("max", "Enables all features supported by the accelerator in the current host"),
    ];
    rows.extend(special.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let mut text = "Available CPUs:\n".to_owned();
    for (name, description) in rows {
        let _ = writeln!(text, "  {name:<20}  {description}");
    }
    text.push_str("\nRecognized CPUID flags:\n");
    let mut names: Vec<&str> =
        crate::features::words().iter().flat_map(|word| word.names).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let mut line = String::new();
    for name in names {
        if !line.is_empty() && line.len() + name.len() + 1 >= 75 {
            let _ = writeln!(text, "  {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(name);
    }
    let _ = writeln!(text, "  {line}");
    text
}

#[cfg(test)]
mod tests;
