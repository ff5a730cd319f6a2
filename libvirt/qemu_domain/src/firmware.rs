//! Firmware that fits a domain, chosen by the descriptions that firmware is installed with (QEMU's
//! `docs/interop/firmware.json`).

use std::collections::BTreeMap;
use std::path::Path;

use domain_xml::features::{Features, Smm};
use domain_xml::os::{Firmware, Loader, LoaderType, Nvram};
use domain_xml::words::{OnOff, YesNo, yes};
use domain_xml::{Code, Domain, Error, Result};
use json::Value;

/// The longest description, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// How firmware gets to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Copied to memory.
    Memory(String),
    /// A flash chip for the code and one for variables, which start as a copy of the template.
    Split {
        /// The code's file.
        code: String,
        /// The template's file.
        template: String,
    },
    /// A flash chip with the code, and variables that are not kept.
    Stateless(String),
    /// A flash chip with both.
    Combined(String),
}

/// A description of firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    interfaces: Vec<String>,
    mapping: Mapping,
    /// Architectures, each with patterns of machines' names.
    targets: Vec<(String, Vec<String>)>,
    features: Vec<String>,
}

fn member<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let Value::Dict(dict) = value { dict.get(key) } else { None }
}

fn text(value: &Value, key: &str) -> Option<String> {
    member(value, key)?.as_str().map(str::to_owned)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    if let Some(Value::List(items)) = member(value, key) { items } else { &[] }
}

fn words(value: &Value, key: &str) -> Vec<String> {
    list(value, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The file of a flash chip, if it holds the bytes as they are.
fn raw_file(value: Option<&Value>) -> Option<String> {
    let value = value?;
    text(value, "filename").filter(|_| text(value, "format").as_deref() == Some("raw"))
}

impl Description {
    /// Reads a description; none if it is of a form that is not known here.
    pub fn parse(source: &str) -> Option<Self> {
        let value = json::parse(source.as_bytes()).ok()?;
        let mapping = member(&value, "mapping")?;
        let mapping = match text(mapping, "device")?.as_str() {
            "memory" => Mapping::Memory(text(mapping, "filename")?),
            "flash" => {
                let code = raw_file(member(mapping, "executable"))?;
                match text(mapping, "mode").as_deref() {
                    None | Some("split") => {
                        let template = raw_file(member(mapping, "nvram-template"))?;
                        Mapping::Split { code, template }
                    }
                    Some("stateless") => Mapping::Stateless(code),
                    Some("combined") => Mapping::Combined(code),
                    Some(_) => return None,
                }
            }
            _ => return None,
        };
        let targets = list(&value, "targets")
            .iter()
            .filter_map(|target| Some((text(target, "architecture")?, words(target, "machines"))))
            .collect();
        Some(Self {
            interfaces: words(&value, "interface-types"),
            mapping,
            targets,
            features: words(&value, "features"),
        })
    }

    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|own| own == feature)
    }

    fn suits_machine(&self, domain: &Domain) -> bool {
        let arch = domain.os.kind.as_ref().and_then(|kind| kind.arch.as_deref()).unwrap_or("x86_64");
        self.is_for(arch, domain.machine())
    }

    fn is_for(&self, arch: &str, machine: &str) -> bool {
        let arch = if arch == "i686" { "i386" } else { arch };
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, machine));
        self.targets.iter().any(|(own, patterns)| own == arch && fits(patterns))
    }

    /// The file of the code.
    fn code(&self) -> &str {
        match &self.mapping {
            Mapping::Memory(code)
            | Mapping::Split { code, .. }
            | Mapping::Stateless(code)
            | Mapping::Combined(code) => code,
        }
    }

    /// Whether the firmware is what the domain asks for.
    fn suits(&self, domain: &Domain, interface: &str) -> bool {
        let os = &domain.os;
        if !self.interfaces.iter().any(|own| own == interface) || !self.suits_machine(domain) {
            return false;
        }
        let pm = domain.pm.clone().unwrap_or_default();
        let sleeps = |sleep: &Option<domain_xml::clock::Sleep>| {
            sleep.as_ref().is_some_and(|sleep| sleep.enabled == YesNo::Yes)
        };
        if sleeps(&pm.suspend_to_mem) && !self.has("acpi-s3")
            || sleeps(&pm.suspend_to_disk) && !self.has("acpi-s4")
        {
            return false;
        }
        let wishes = os.features.iter().flat_map(|features| &features.feature);
        let known = ["secure-boot", "enrolled-keys"];
        for wish in wishes.filter(|wish| known.contains(&wish.name.as_str())) {
            if self.has(&wish.name) != (wish.enabled == YesNo::Yes) {
                return false;
            }
        }
        let loader = os.loader.clone().unwrap_or_default();
        if yes(loader.secure) && !self.has("requires-smm") {
            return false;
        }
        match &self.mapping {
            Mapping::Memory(_) => true,
            Mapping::Split { .. } => !yes(loader.stateless),
            Mapping::Stateless(_) => yes(loader.stateless),
            Mapping::Combined(_) => false,
        }
    }
}

/// Whether a name fits a pattern in which `*` stands for any text and `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // What fits the part of the pattern that was seen: the beginnings of the name with these lengths.
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for mark in pattern {
        let mut next = vec![false; name.len() + 1];
        for length in 0..=name.len() {
            next[length] = match mark {
                '*' => fits[length] || length > 0 && next[length - 1],
                '?' => length > 0 && fits[length - 1],
                other => length > 0 && fits[length - 1] && name[length - 1] == other,
            };
        }
        fits = next;
    }
    fits[name.len()]
}

/// Reads the descriptions in folders, the most important folder first, in the order of the files' names. A file hides
/// those of its name in later folders; an empty one hides them without taking their place.
pub fn read(folders: &[impl AsRef<Path>]) -> Vec<Description> {
    let mut files = BTreeMap::new();
    for folder in folders {
        for entry in folder.as_ref().read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    files
        .into_values()
        .filter(|path| path.metadata().is_ok_and(|about| about.is_file() && about.len() <= MAX_SIZE))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter_map(|source| Description::parse(&source))
        .collect()
}

/// What firmware there is for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Available {
    /// There is some that acts as a BIOS.
    pub bios: bool,
    /// There is some that acts as UEFI.
    pub efi: bool,
    /// There is some that keeps its variables from the guest's system.
    pub secure: bool,
    /// The files, each once.
    pub files: Vec<String>,
}

/// What firmware there is for a machine; none without descriptions for it.
pub fn available(descriptions: &[Description], arch: &str, machine: &str) -> Option<Available> {
    let mut available: Option<Available> = None;
    for own in descriptions.iter().filter(|own| own.is_for(arch, machine)) {
        let available = available.get_or_insert_default();
        let acts_as = |name: &str| own.interfaces.iter().any(|own| own == name);
        available.bios |= acts_as("bios");
        available.efi |= acts_as("uefi");
        available.secure |= own.has("requires-smm");
        if !available.files.iter().any(|file| file == own.code()) {
            available.files.push(own.code().to_owned());
        }
    }
    available
}

/// Code and variables that are known without descriptions.
pub const WELL_KNOWN: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),
];

/// Puts firmware that fits in the place of what a domain asks for. `nvram` is the folder of the domains' variables.
pub fn select(domain: &mut Domain, descriptions: &[Description], nvram: &str) -> Result<()> {
    let Some(wanted) = domain.os.firmware else {
        template(domain, descriptions);
        return Ok(());
    };
    let interface = match wanted {
        Firmware::Bios => "bios",
        Firmware::Efi => "uefi",
    };
    let found = descriptions.iter().find(|own| own.suits(domain, interface)).ok_or_else(|| Error {
        code: Code::OperationFailed,
        detail: format!("Unable to find any firmware to satisfy '{wanted}'"),
    })?;
    let name = domain.name().to_owned();
    let os = &mut domain.os;
    let loader = os.loader.get_or_insert_with(Loader::default);
    match &found.mapping {
        Mapping::Memory(file) => {
            loader.kind = Some(LoaderType::Rom);
            loader.path = Some(file.clone());
        }
        Mapping::Split { code, .. } | Mapping::Stateless(code) | Mapping::Combined(code) => {
            loader.kind = Some(LoaderType::Pflash);
            loader.read_only = Some(YesNo::Yes);
            loader.path = Some(code.clone());
        }
    }
    if let Mapping::Split { template, .. } = &found.mapping {
        let own = os.nvram.get_or_insert_with(Nvram::default);
        if own.source.is_none() {
            own.path.get_or_insert_with(|| format!("{nvram}/{name}_VARS.fd"));
        }
        own.template.get_or_insert_with(|| template.clone());
    }
    if found.has("requires-smm") {
        loader.secure = Some(YesNo::Yes);
        let smm = domain.features.get_or_insert_with(Features::default).smm.get_or_insert_with(Smm::default);
        if smm.state == Some(OnOff::Off) {
            return Err(Error {
                code: Code::OperationInvalid,
                detail: "domain has SMM turned off but chosen firmware requires it".to_owned(),
            });
        }
        smm.state = Some(OnOff::On);
    }
    domain.os.firmware = None;
    domain.os.features = None;
    Ok(())
}

/// Variables for code that the domain names itself start as the template that comes with that code.
fn template(domain: &mut Domain, descriptions: &[Description]) {
    let Some(path) = domain.os.loader.as_ref().and_then(|loader| loader.path.clone()) else { return };
    let found = descriptions.iter().find_map(|own| match &own.mapping {
        Mapping::Split { code, template } if *code == path && own.suits_machine(domain) => Some(template),
        _ => None,
    });
    if let (Some(found), Some(nvram)) = (found, &mut domain.os.nvram) {
        nvram.template.get_or_insert_with(|| found.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(features: &str) -> Description {
        let source = format!(
            r#"{{"interface-types": ["uefi"], "mapping": {{"device": "flash",
            "executable": {{"filename": "/c", "format": "raw"}}, "nvram-template": {{"filename": "/t", "format": "raw"}}}},
            "targets": [{{"architecture": "x86_64", "machines": ["pc-q35-*"]}}], "features": [{features}]}}"#
        );
        Description::parse(&source).unwrap()
    }

    fn domain(wishes: &str) -> Domain {
        let text = format!(
            "<domain type='kvm'><name>d</name><os firmware='efi'><type arch='x86_64' machine='pc-q35-8.0'>hvm</type>\
             {wishes}</os></domain>"
        );
        domain_xml::parse(&text).unwrap()
    }

    #[test]
    fn patterns() {
        assert!(matches("pc-q35-*", "pc-q35-8.0"));
        assert!(matches("*", ""));
        assert!(matches("a?c*", "abcd"));
        assert!(!matches("pc-q35-*", "pc-i440fx-8.0"));
        assert!(!matches("a", "ab"));
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        let all = [description("\"secure-boot\", \"requires-smm\""), description("")];
        let mut own = domain("");
        select(&mut own, &all, "/n").unwrap();
        assert_eq!(own.os.nvram.as_ref().unwrap().path.as_deref(), Some("/n/d_VARS.fd"));
        assert_eq!(own.features.as_ref().unwrap().smm.as_ref().unwrap().state, Some(OnOff::On));
        let mut own = domain("<firmware><feature enabled='no' name='secure-boot'/></firmware>");
        select(&mut own, &all, "/n").unwrap();
        assert!(own.features.is_none());
        let error = select(&mut domain(""), &[], "/n").unwrap_err();
        assert!(error.to_string().ends_with("Unable to find any firmware to satisfy 'efi'"));
    }

    #[test]
    fn what_there_is_for_a_machine() {
        let all = [description("\"requires-smm\""), description("")];
        let found = available(&all, "x86_64", "pc-q35-9.0").unwrap();
        assert_eq!(found, Available { bios: false, efi: true, secure: true, files: vec!["/c".to_owned()] });
        assert_eq!(available(&all, "x86_64", "pc-i440fx-9.0"), None);
        assert_eq!(available(&all, "i686", "pc-q35-9.0"), None);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert!(Description::parse("").is_none());
        assert!(Description::parse("{\"mapping\": {\"device\": \"kernel\"}}").is_none());
    }
}
