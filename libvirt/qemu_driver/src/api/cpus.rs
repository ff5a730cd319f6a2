//! Processors that clients describe: compared with the host's, and what several have in common.

use crate::capabilities;
use crate::core::Core;
use crate::error::{Result, error};
use cpu_map::{Comparison, Cpu, CpuError, Feature, Kind, Map, Match, Mode, Policy};
use domain_xml::DomainType;
use qemu_caps::{Accelerator, QemuCaps, VirtType};
use rpc::{Code, Error, Origin};
use std::sync::Arc;

/// `VIR_CONNECT_COMPARE_CPU_...` and `VIR_CONNECT_BASELINE_CPU_...`
pub(super) mod flags {
    pub(in super::super) const FAIL_INCOMPATIBLE: u32 = 1;
    pub(in super::super) const VALIDATE_XML: u32 = 2;
    pub(in super::super) const COMPARE: u32 = FAIL_INCOMPATIBLE | VALIDATE_XML;
    pub(in super::super) const EXPAND_FEATURES: u32 = 1;
    pub(in super::super) const MIGRATABLE: u32 = 2;
}

/// Features that no guest has of its model: QEMU sets them by itself.
const NOT_OF_GUESTS: [&str; 5] = ["cmt", "mbm_total", "mbm_local", "osxsave", "ospke"];

/// libvirt's names of architectures.
const ARCHITECTURES: &str = "alpha armv6l armv7l armv7b aarch64 cris i686 ia64 lm32 loongarch64 m68k microblaze \
    microblazeel mips mipsel mips64 mips64el openrisc parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb riscv32 riscv64 \
    s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb";

/// An emulator, and how it is to run guests.
pub(super) struct Emulator {
    pub(super) caps: Arc<QemuCaps>,
    pub(super) virt: VirtType,
    /// The machine type; `None`: the emulator's default.
    pub(super) machine: Option<String>,
}

impl Emulator {
    /// What a client means who names some of this.
    ///
    /// # Errors
    /// libvirt's, for what does not exist or does not go together.
    pub(super) fn find(core: &Core, wishes: [&Option<String>; 4]) -> Result<Self> {
        let [binary, arch, machine, virt] = wishes.map(Option::as_deref);
        let wrong = |detail: String| error(Code::InvalidArg, detail);
        let wanted = match virt {
            None => None,
            Some("kvm") => Some(VirtType::Kvm),
            Some("qemu") => Some(VirtType::Qemu),
            Some(other) if <DomainType as xml::Value>::parse(other).is_ok() => {
                let shown = binary.map_or_else(
                    || core.emulator(arch.unwrap_or(std::env::consts::ARCH)),
                    |path| Some(path.into()),
                );
                let emulator = shown.unwrap_or_default();
                return Err(wrong(format!(
                    "Emulator '{}' does not support virt type '{other}'",
                    emulator.display()
                )));
            }
            Some(other) => return Err(wrong(format!("unknown virttype: {other}"))),
        };
        if let Some(arch) = arch
            && !ARCHITECTURES.split_whitespace().any(|known| known == arch)
        {
            return Err(wrong(format!("unknown architecture: {arch}")));
        }
        let name = arch.unwrap_or(std::env::consts::ARCH);
        let binary = match binary {
            Some(path) => path.into(),
            None => core.emulator(name).ok_or_else(|| {
                let detail = format!("unable to find any emulator to serve '{name}' architecture");
                error(Code::ConfigUnsupported, detail)
            })?,
        };
        let caps = core.capabilities(&binary)?;
        let x86 = |arch: &str| matches!(arch, "x86_64" | "i686");
        if caps.arch != name && !(x86(&caps.arch) && x86(name)) {
            return Err(wrong(format!(
                "architecture from emulator '{}' doesn't match given architecture '{name}'",
                caps.arch
            )));
        }
        let virt = wanted.unwrap_or_else(|| caps.default_virt());
        if virt == VirtType::Kvm && caps.accelerator(virt).is_none() {
            return Err(wrong(format!(
                "the accel 'kvm' is not supported by '{}' on this host",
                binary.display()
            )));
        }
        let machine = match machine {
            Some(name) => {
                let found = caps.machine(virt, name).ok_or_else(|| {
                    let binary = binary.display();
                    wrong(format!("the machine '{name}' is not supported by emulator '{binary}'"))
                })?;
                Some(found.name.clone())
            }
            None => None,
        };
        Ok(Self { caps, virt, machine })
    }

    fn accelerator(&self, lacking: &str) -> Result<&Accelerator> {
        self.caps.accelerator(self.virt).ok_or_else(|| self.unsupported(lacking))
    }

    fn unsupported(&self, lacking: &str) -> Error {
        let (binary, virt) = (self.caps.binary.display(), self.virt.name());
        let detail = format!("QEMU '{binary}' does not support {lacking} for virttype '{virt}'");
        error(Code::OperationUnsupported, detail)
    }

    /// The processor that its guests see of the host.
    fn host_model(&self, core: &Core) -> Result<Arc<Cpu>> {
        let found = core.host_models.get(&self.caps, self.virt);
        found.ok_or_else(|| self.unsupported("reporting CPU model"))
    }
}

/// Compares with the host's own processor: -1 cannot be, 0 incompatible, 1 identical, 2 the host can do more.
pub(super) fn compare_with_host(xml: &str, flags: u32) -> Result<i32> {
    compare(host::model(), xml, flags)
}

/// As [`compare_with_host`], with what the emulator's guests see of it.
pub(super) fn compare_with_guests(core: &Core, emulator: &Emulator, xml: &str, flags: u32) -> Result<i32> {
    compare(Some(&*emulator.host_model(core)?), xml, flags)
}

fn compare(host: Option<&Cpu>, xml: &str, flags: u32) -> Result<i32> {
    if flags & flags::VALIDATE_XML != 0 {
        crate::schema::validate(xml, "cpu", "cpu.rng")?;
    }
    let cpu = read(xml, None)?;
    match Map::get().compare(host, &cpu).map_err(cpu_error)? {
        Comparison::Incompatible(why) if flags & flags::FAIL_INCOMPATIBLE != 0 => {
            Err(Error::new(Origin::Cpu, Code::CpuIncompatible, why.unwrap_or_default()))
        }
        Comparison::Incompatible(_) => Ok(0),
        Comparison::Identical => Ok(1),
        Comparison::Superset => Ok(2),
    }
}

/// The processor that all hosts of these descriptions have in common, as XML.
pub(super) fn baseline_of_hosts(descriptions: &[String], flags: u32) -> Result<String> {
    let cpus = read_all(descriptions, Some(Kind::Host))?;
    let migratable = flags & flags::MIGRATABLE != 0;
    let mut cpu = Map::get().baseline(&cpus, None, None, migratable).map_err(cpu_error)?;
    cpu.features.retain(|feature| !NOT_OF_GUESTS.contains(&feature.name.as_str()));
    finish(cpu, flags)
}

/// As [`baseline_of_hosts`], of what the emulator can run.
pub(super) fn baseline_of_guests(emulator: &Emulator, descriptions: &[String], flags: u32) -> Result<String> {
    const LACKING: &str = "any CPU models";
    let cpus = read_all(descriptions, None)?;
    let accelerator = emulator.accelerator(LACKING)?;
    let offered = capabilities::offered(accelerator);
    if offered.is_empty() {
        return Err(emulator.unsupported(LACKING));
    }
    let mut migratable = flags & flags::MIGRATABLE != 0;
    let map = Map::get();
    let features = accelerator.host.as_ref().map(|host| {
        let kept = host.properties.iter().filter(|it| !(migratable && it.migratable == Some(false)));
        let name = |name: &str| map.feature_of_qemu(name).map_or(name, |it| it.name).to_owned();
        let names: Vec<String> = kept.map(|property| name(&property.name)).collect();
        if host.migratability {
            // The emulator has left out the others already.
            migratable = false;
        }
        names
    });
    let cpu = map.baseline(&cpus, Some(&offered), features.as_deref(), migratable).map_err(cpu_error)?;
    finish(Cpu { fallback: false, ..cpu }, flags)
}

fn finish(mut cpu: Cpu, flags: u32) -> Result<String> {
    if flags & flags::EXPAND_FEATURES != 0 {
        Map::get().expand(&mut cpu).map_err(cpu_error)?;
    }
    Ok(write(&cpu))
}

fn cpu_error(what: CpuError) -> Error {
    let code = match what {
        CpuError::Internal(_) => Code::InternalError,
        CpuError::Unsupported(_) => Code::ConfigUnsupported,
        CpuError::Failed(_) => Code::OperationFailed,
        CpuError::Argument(_) => Code::InvalidArg,
    };
    Error::new(Origin::Cpu, code, what.to_string())
}

fn read_all(descriptions: &[String], kind: Option<Kind>) -> Result<Vec<Cpu>> {
    if descriptions.is_empty() {
        return Err(error(Code::InvalidArg, "no CPUs given"));
    }
    descriptions.iter().map(|text| read(text, kind)).collect()
}

/// Reads a description; without `kind`, one that names its architecture is a host's.
fn read(text: &str, kind: Option<Kind>) -> Result<Cpu> {
    xml::parse(text, "cpu", |node| of(node, kind)).map_err(|error| crate::error::xml(&error))
}

fn of(node: &xml::Node<'_>, kind: Option<Kind>) -> xml::Result<Cpu> {
    let child = |name: &str| node.children().find(|child| child.name() == name);
    let text = |name: &str| child(name).map(|child| child.text().trim().to_owned());
    let arch = text("arch");
    let kind = kind.unwrap_or(if arch.is_some() { Kind::Host } else { Kind::Guest });
    let guest = kind == Kind::Guest;
    let model = child("model");
    if model.is_none() && !guest {
        return Err(xml::Error::xml("Missing CPU model name"));
    }
    if guest && arch.is_some() {
        return Err(xml::Error::xml(
            "'arch' element cannot be used inside 'cpu' element with 'match' attribute",
        ));
    }
    let word = |name: &str| node.attribute(name).filter(|_| guest);
    let mut cpu = Cpu {
        kind,
        arch,
        mode: match word("mode") {
            None | Some("custom") => Mode::Custom,
            Some("host-model") => Mode::HostModel,
            Some("host-passthrough") => Mode::HostPassthrough,
            Some("maximum") => Mode::Maximum,
            Some(other) => return Err(xml::Error::xml(format!("Invalid mode attribute '{other}'"))),
        },
        matching: match word("match") {
            None | Some("exact") => Match::Exact,
            Some("minimum") => Match::Minimum,
            Some("strict") => Match::Strict,
            Some(_) => return Err(xml::Error::xml("Invalid match attribute for CPU specification")),
        },
        fallback: guest && model.as_ref().and_then(|it| it.attribute("fallback")) != Some("forbid"),
        vendor_id: model.as_ref().and_then(|it| it.attribute("vendor_id")).map(str::to_owned),
        model: text("model"),
        vendor: text("vendor"),
        ..Cpu::default()
    };
    for feature in node.children().filter(|child| child.name() == "feature") {
        let name = feature.attribute("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| xml::Error::xml("Invalid CPU feature name"))?;
        if cpu.features.iter().any(|known| known.name == name) {
            return Err(xml::Error::xml(format!("CPU feature '{name}' specified more than once")));
        }
        let policy = match feature.attribute("policy").filter(|_| guest) {
            None => guest.then_some(Policy::Require),
            Some("force") => Some(Policy::Force),
            Some("require") => Some(Policy::Require),
            Some("optional") => Some(Policy::Optional),
            Some("disable") => Some(Policy::Disable),
            Some("forbid") => Some(Policy::Forbid),
            Some(_) => return Err(xml::Error::xml("Invalid CPU feature policy")),
        };
        cpu.features.push(Feature { name: name.to_owned(), policy });
    }
    Ok(cpu)
}

/// A guest's processor as XML.
fn write(cpu: &Cpu) -> String {
    let mut writer = xml::Writer::default();
    let attributes = |writer: &mut xml::Writer| {
        writer.attribute("mode", "custom");
        writer.attribute("match", "exact");
    };
    writer.with("cpu", attributes, |writer| {
        if let Some(model) = &cpu.model {
            let fallback = if cpu.fallback { "allow" } else { "forbid" };
            writer.with(
                "model",
                |writer| writer.attribute("fallback", fallback),
                |writer| writer.text(model),
            );
        }
        if let Some(vendor) = &cpu.vendor {
            writer.text_element("vendor", vendor);
        }
        for feature in &cpu.features {
            let policy = match feature.policy {
                Some(Policy::Force) => "force",
                Some(Policy::Optional) => "optional",
                Some(Policy::Disable) => "disable",
                Some(Policy::Forbid) => "forbid",
                Some(Policy::Require) | None => "require",
            };
            let attributes = |writer: &mut xml::Writer| {
                writer.attribute("policy", policy);
                writer.attribute("name", &feature.name);
            };
            writer.with("feature", attributes, |_| ());
        }
    });
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WESTMERE: &str = "<cpu><arch>x86_64</arch><model>Westmere</model><vendor>Intel</vendor>\
        <feature name='aes'/><feature name='vmx'/></cpu>";
    const NEHALEM: &str = "<cpu><arch>x86_64</arch><model>Nehalem</model><vendor>Intel</vendor>\
        <feature name='osxsave'/></cpu>";

    #[test]
    fn what_hosts_have_in_common() {
        let text = baseline_of_hosts(&[WESTMERE.to_owned(), NEHALEM.to_owned()], 0).unwrap();
        assert_eq!(
            text,
            "<cpu mode='custom' match='exact'>\n  <model fallback='allow'>Nehalem</model>\n  \
             <vendor>Intel</vendor>\n</cpu>\n"
        );
        let expanded = baseline_of_hosts(&[NEHALEM.to_owned()], flags::EXPAND_FEATURES).unwrap();
        assert!(expanded.contains("<feature policy='require' name='sse4.2'/>"), "{expanded}");
        assert!(!expanded.contains("osxsave"));
        let error = baseline_of_hosts(&[], 0).unwrap_err().to_string();
        assert_eq!(error, "invalid argument: no CPUs given");
    }

    #[test]
    fn a_description_is_compared_with_a_host() {
        let host = read(WESTMERE, None).unwrap();
        let guest =
            |model: &str, rest: &str| format!("<cpu match='exact'><model>{model}</model>{rest}</cpu>");
        assert_eq!(compare(Some(&host), &guest("Nehalem", ""), 0).unwrap(), 2);
        assert_eq!(compare(Some(&host), &guest("Haswell", ""), 0).unwrap(), 0);
        assert_eq!(compare(Some(&host), WESTMERE, 0).unwrap(), 1);
        let error = compare(
            Some(&host),
            &guest("Nehalem", "<feature policy='forbid' name='vmx'/>"),
            flags::FAIL_INCOMPATIBLE,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the CPU is incompatible with host CPU: Host CPU provides forbidden features: vmx"
        );
        let error = compare(Some(&host), "<cpu><arch>x86_64</arch></cpu>", 0).unwrap_err().to_string();
        assert_eq!(error, "XML error: Missing CPU model name");
    }
}
