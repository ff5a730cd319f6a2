//! The argument of `-cpu`: a model's name, `+feature`, `-feature` and `property=value`.

use super::Model;
use super::leaves::{self, Topology};
use crate::cpuid::CpuidTable;
use crate::features::{Feature, FeatureSet};

/// Switches that act only under KVM, or only on what a migration or a guest of another accelerator sees: they are
/// properties of every model, and with this accelerator neither QEMU nor we do anything with them.
const INERT_SWITCHES: &[&str] = &[
    "kvm",
    "kvm-pv-enforce-cpuid",
    "pmu",
    "lmce",
    "vmware-cpuid-freq",
    "kvm-no-smi-migration",
    "fill-mtrr-mask",
    "xen-vapic",
];

/// A processor as configured.
#[derive(Clone, Debug)]
pub struct CpuConfig {
    /// The name that was given.
    pub name: String,
    /// Vendor, 12 characters.
    pub vendor: String,
    /// Family, extended family added.
    pub family: u32,
    /// Model, extended model included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// The brand string, at most 48 bytes.
    pub model_id: String,
    /// Highest basic leaf: as given, or else at least `min_level`.
    pub level: Option<u32>,
    /// Highest extended leaf: as given, or else at least `min_xlevel`.
    pub xlevel: Option<u32>,
    /// Highest leaf of the 0xC0000000 range.
    pub xlevel2: u32,
    /// What the model's features may raise to get the highest basic leaf.
    pub min_level: u32,
    /// What the model's features may raise to get the highest extended leaf.
    pub min_xlevel: u32,
    /// Physical address bits; 0: 40.
    pub phys_bits: u32,
    /// Take the physical address bits from the host.
    pub host_phys_bits: bool,
    /// What the model has (for `max`: nothing).
    pub features: FeatureSet,
    /// Whether it is `max`: everything that the accelerator has.
    pub max: bool,
    /// Asked for by name.
    pub added: FeatureSet,
    /// Turned off by name.
    pub removed: FeatureSet,
    /// Say what is missing.
    pub check: bool,
    /// Fail when something is missing.
    pub enforce: bool,
    /// Show a level 3 cache.
    pub l3_cache: bool,
    /// Show the old cache description instead of the model's own.
    pub legacy_cache: bool,
    /// Show leaf 0xB.
    pub leaf_b: bool,
    /// Show the accelerator's signature at 0x40000000.
    pub signature: bool,
    /// Raise the levels to what the features need.
    pub auto_level: bool,
    /// TSC frequency in Hz, if given.
    pub tsc_frequency: Option<u64>,
    /// What to print before the machine starts.
    pub warnings: Vec<String>,
    /// Whose features are missing where some are: `TCG`, or the host.
    pub provider: &'static str,
}

/// The host's processor, where the accelerator shows guests its features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// Vendor, 12 characters.
    pub vendor: String,
    /// Family, extended family added.
    pub family: u32,
    /// Model, extended model included.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// The brand string.
    pub model_id: String,
    /// Highest basic leaf.
    pub level: u32,
    /// Highest extended leaf.
    pub xlevel: u32,
}

/// What came of a configuration: the CPUID table, the features behind it, and warnings.
#[derive(Clone, Debug)]
pub struct Realized {
    /// What CPUID answers.
    pub table: CpuidTable,
    /// What the guest is shown.
    pub features: FeatureSet,
    /// QEMU's warnings, without the word `warning`.
    pub warnings: Vec<String>,
}

/// Reads the argument of `-cpu`, for processors made in software.
///
/// # Errors
/// QEMU's message: an unknown model or property, a value out of range.
pub fn parse(argument: &str) -> Result<CpuConfig, String> {
    parse_on(argument, None)
}

/// Reads the argument of `-cpu`, for an accelerator that runs guests on the processor `host` (KVM).
///
/// # Errors
/// QEMU's message: an unknown model or property, a value out of range.
pub fn parse_on(argument: &str, host: Option<&HostCpu>) -> Result<CpuConfig, String> {
    let (name, options) = argument.split_once(',').unwrap_or((argument, ""));
    if name.is_empty() {
        return Err("-cpu option cannot be empty".to_owned());
    }
    let mut config = base(name, host)?;
    let kind = format!("{name}-x86_64-cpu");
    let (mut added, mut removed, mut assigned) = (Vec::new(), Vec::new(), Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        if let Some(feature) = option.strip_prefix('+') {
            added.push(feature);
        } else if let Some(feature) = option.strip_prefix('-') {
            removed.push(feature);
        } else {
            let (key, value) = option.split_once('=').unwrap_or((option, "on"));
            assigned.push(key);
            config.assign(&key.replace('_', "-"), value).map_err(|error| {
                let error = error.unwrap_or_else(|| format!("Property '{kind}.{key}' not found"));
                format!("can't apply global {kind}.{key}={value}: {error}")
            })?;
        }
    }
    for (list, sign) in [(&added, '+'), (&removed, '-')] {
        for feature in list.iter() {
            if let Some(other) = assigned.iter().find(|key| *key == feature) {
                let text = format!(
                    "Ambiguous CPU model string. Don't mix both \"{sign}{feature}\" and \"{other}=\""
                );
                config.warnings.push(text);
            }
            let Some(bit) = Feature::find(feature) else {
                return Err(format!("Property '{kind}.{feature}' not found"));
            };
            config.switch(bit, sign == '+');
        }
    }
    Ok(config)
}

/// The configuration of a model without options.
fn base(name: &str, host: Option<&HostCpu>) -> Result<CpuConfig, String> {
    let mut config = CpuConfig {
        name: name.to_owned(),
        vendor: "AuthenticAMD".to_owned(),
        family: 15,
        model: 107,
        stepping: 1,
        model_id: String::new(),
        level: None,
        xlevel: None,
        xlevel2: 0,
        min_level: 0,
        min_xlevel: 0,
        phys_bits: 0,
        host_phys_bits: false,
        features: FeatureSet::default(),
        max: false,
        added: FeatureSet::default(),
        removed: FeatureSet::default(),
        check: true,
        enforce: false,
        l3_cache: true,
        legacy_cache: !["EPYC", "Dhyana"].iter().any(|prefix| name.starts_with(prefix)),
        leaf_b: true,
        signature: true,
        auto_level: true,
        tsc_frequency: None,
        warnings: Vec::new(),
        provider: if host.is_some() { "host" } else { "TCG" },
    };
    if let ("max" | "host", Some(host)) = (name, host) {
        config.max = true;
        host.vendor.clone_into(&mut config.vendor);
        (config.family, config.model, config.stepping) = (host.family, host.model, host.stepping);
        host.model_id.clone_into(&mut config.model_id);
        (config.min_level, config.min_xlevel) = (host.level.min(0xd), host.xlevel.min(0x8000_0008));
        config.host_phys_bits = true;
        return Ok(config);
    }
    match name {
        "max" => {
            config.max = true;
            (config.family, config.model, config.stepping) = (6, 6, 3);
            config.model_id = "QEMU TCG CPU version 2.5+".to_owned();
            (config.min_level, config.min_xlevel) = (0xd, 0x8000_000a);
        }
        "host" => return Err("CPU model 'host' requires KVM or HVF".to_owned()),
        "base" => {
            (config.vendor, config.family, config.model, config.stepping) = ("\0".repeat(12), 0, 0, 0);
        }
        _ => {
            let model = Model::find(name).ok_or_else(|| format!("unable to find CPU model '{name}'"))?;
            config.vendor = model.vendor.to_owned();
            (config.family, config.model, config.stepping) = (model.family, model.model, model.stepping);
            model.model_id.clone_into(&mut config.model_id);
            (config.min_level, config.min_xlevel) = (model.level, model.xlevel);
            config.phys_bits = model.phys_bits;
            config.features = model.features;
            // What QEMU turns off by default: on its software CPU, and under KVM.
            let off: &[&str] = if host.is_some() { &["acpi", "monitor", "svm"] } else { &["vme"] };
            for feature in off.iter().filter_map(|name| Feature::find(name)) {
                config.features.remove(feature);
            }
            if let Some(hypervisor) = Feature::find("hypervisor") {
                config.features.insert(hypervisor);
            }
        }
    }
    Ok(config)
}

impl CpuConfig {
    fn switch(&mut self, feature: Feature, on: bool) {
        if on {
            self.added.insert(feature);
            self.removed.remove(feature);
        } else {
            self.removed.insert(feature);
            self.added.remove(feature);
        }
    }

    /// Sets one property. The error is QEMU's reason; `None` when there is no such property.
    fn assign(&mut self, key: &str, value: &str) -> Result<(), Option<String>> {
        if let Some(feature) = Feature::find(key) {
            let on = switch(key, value)?;
            self.switch(feature, on);
            return Ok(());
        }
        match key {
            "check" => self.check = switch(key, value)?,
            "enforce" => self.enforce = switch(key, value)?,
            "l3-cache" => self.l3_cache = switch(key, value)?,
            "legacy-cache" => self.legacy_cache = switch(key, value)?,
            "cpuid-0xb" => self.leaf_b = switch(key, value)?,
            "tcg-cpuid" => self.signature = switch(key, value)?,
            "full-cpuid-auto-level" => self.auto_level = switch(key, value)?,
            "host-phys-bits" => self.host_phys_bits = switch(key, value)?,
            "migratable" if self.max => {
                switch(key, value)?;
            }
            "vendor" => {
                if value.len() != 12 {
                    return Err(Some(format!("Property '.vendor' doesn't take value '{value}'")));
                }
                value.clone_into(&mut self.vendor);
            }
            "model-id" => value.clone_into(&mut self.model_id),
            "family" => self.family = ranged(key, value, 255 + 15)?,
            "model" => self.model = ranged(key, value, 255)?,
            "stepping" => self.stepping = ranged(key, value, 15)?,
            "level" => self.level = Some(number(key, value, "uint64")?),
            "xlevel" => self.xlevel = Some(number(key, value, "uint64")?),
            "xlevel2" => self.xlevel2 = number(key, value, "uint64")?,
            "min-level" => self.min_level = number(key, value, "uint64")?,
            "min-xlevel" => self.min_xlevel = number(key, value, "uint64")?,
            "phys-bits" => self.phys_bits = number(key, value, "uint64")?,
            "tsc-frequency" => self.tsc_frequency = Some(number(key, value, "int64")?),
            "tsc-freq" => {
                let bad = || Some(format!("bad numerical value {value}"));
                self.tsc_frequency = Some(metric(value).ok_or_else(bad)?);
            }
            _ if INERT_SWITCHES.contains(&key) => {
                switch(key, value)?;
            }
            _ if key.starts_with("hv-") => {
                if value != "off" {
                    return Err(Some(format!("Hyper-V enlightenments are not built ({key})")));
                }
            }
            _ => return Err(None),
        }
        Ok(())
    }

    /// Checks the configuration against what the accelerator has and makes the CPUID table.
    ///
    /// `host_phys_bits` is the width of the host's physical addresses.
    ///
    /// # Errors
    /// QEMU's message: a missing feature with `enforce`, an impossible width.
    pub fn realize(
        &self,
        supported: &FeatureSet,
        topology: Topology,
        host_phys_bits: u32,
    ) -> Result<Realized, String> {
        let wanted = if self.max { *supported } else { self.features };
        let wanted = wanted.or(&self.added).minus(&self.removed);
        let mut hidden = wanted.minus(supported);
        // Without the feature that announces the MSR its bits are not missing: there is nothing to show them in.
        if !wanted.and(supported).has("arch-capabilities") {
            hidden = without_msr_bits(&hidden);
        }
        let mut warnings = self.warnings.clone();
        if self.check || self.enforce {
            let text = |feature: Feature| {
                format!("{} doesn't support requested feature: {}", self.provider, feature.describe())
            };
            // The default models have SVM, which guests do without: only who asks for it is told.
            let quiet = |feature: &Feature| {
                feature.name() == "svm" && !self.enforce && !self.added.iter().any(|added| added == *feature)
            };
            warnings.extend(hidden.iter().filter(|feature| !quiet(feature)).map(text));
        }
        if self.enforce && hidden.iter().next().is_some() {
            // QEMU prints the list before it gives up.
            let list: String = warnings.iter().map(|line| format!("warning: {line}\n")).collect();
            let who = if self.provider == "host" { "Host" } else { self.provider };
            return Err(format!("{list}{who} doesn't support requested features"));
        }
        let features = wanted.and(supported);
        let phys_bits = match (self.host_phys_bits, self.phys_bits) {
            (true, _) => host_phys_bits,
            (false, 0) => 40,
            (false, bits) => bits,
        };
        if features.has("lm") && !(32..=52).contains(&phys_bits) {
            return Err(format!("phys-bits should be between 32 and 52  (but is {phys_bits})"));
        }
        let table = leaves::build(self, &features, topology, phys_bits);
        Ok(Realized { table, features, warnings })
    }
}

fn without_msr_bits(set: &FeatureSet) -> FeatureSet {
    let mut set = *set;
    for feature in set.iter().filter(|feature| feature.describe().starts_with("MSR")).collect::<Vec<_>>() {
        set.remove(feature);
    }
    set
}

fn switch(key: &str, value: &str) -> Result<bool, Option<String>> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Some(format!("Parameter '{key}' expects 'on' or 'off'"))),
    }
}

fn number<T: TryFrom<u64>>(key: &str, value: &str, kind: &str) -> Result<T, Option<String>> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    let parsed = parsed.and_then(|number: u64| T::try_from(number).ok());
    parsed.ok_or_else(|| Some(format!("Parameter '{key}' expects {kind}")))
}

fn ranged(key: &str, value: &str, maximum: u32) -> Result<u32, Option<String>> {
    let wide: u64 = number(key, value, "uint64")?;
    u32::try_from(wide).ok().filter(|value| *value <= maximum).ok_or_else(|| {
        Some(format!("Property .{key} doesn't take value {wide} (minimum: 0, maximum: {maximum})"))
    })
}

/// A number with a decimal suffix: k, M, G, T.
fn metric(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let scale = match &value[digits.len()..] {
        "" | "B" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number * scale) as u64)
}
