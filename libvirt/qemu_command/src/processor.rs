//! The guest's processors: what is settled about them when it starts.

use crate::{Error, Result};
use cpu_map::{Comparison, Cpu, CpuError, Feature, Kind, Map, Match, Mode, Offered, Policy, Usable};
use domain_xml::cpu::{CpuCheck, CpuFeature, CpuMatch, CpuMode, CpuModel, Fallback, FeaturePolicy};
use domain_xml::{Domain, DomainType};
use qemu_caps::{Accelerator, PropertyValue, QemuCaps};

/// The models that the emulator offers and that have a name here.
pub fn offered(accelerator: &Accelerator) -> Vec<Offered> {
    let map = Map::get();
    let known = |name: &&str| map.model(name).is_some();
    accelerator
        .cpus
        .iter()
        .filter(|cpu| known(&cpu.name.as_str()))
        .map(|cpu| Offered {
            name: cpu.name.clone(),
            usable: match cpu.usable {
                qemu_caps::Usable::Yes => Usable::Yes,
                qemu_caps::Usable::No => Usable::No,
                qemu_caps::Usable::Unknown => Usable::Unknown,
            },
            blockers: cpu
                .blockers
                .iter()
                .map(|name| map.feature_of_qemu(name).map_or_else(|| name.clone(), |it| it.name.to_owned()))
                .collect(),
            deprecated: cpu.deprecated,
        })
        .collect()
}

/// The host's processor as a guest with that accelerator sees it, by names; everything, or only what can migrate.
pub fn host_model(accelerator: &Accelerator, everything: bool) -> Option<Cpu> {
    let host = accelerator.host.as_ref()?;
    let map = Map::get();
    let number = |name: &str| {
        let found = host.properties.iter().find(|property| property.name == name)?;
        match &found.value {
            PropertyValue::Number(value) => u32::try_from(*value).ok(),
            _ => None,
        }
    };
    let vendor =
        host.properties.iter().find_map(|property| match (&property.value, property.name.as_str()) {
            (PropertyValue::Text(text), "vendor") => Some(text.as_str()),
            _ => None,
        });
    let on = host.properties.iter().filter(|property| {
        property.value == PropertyValue::Bool(true)
            && (everything || !host.migratability || property.migratable == Some(true))
    });
    let features: Vec<&str> = on.map(|property| property.name.as_str()).collect();
    let bits = map.bits_of_qemu(features, vendor, (number("family")?, number("model")?, number("stepping")?));
    let wanted = Cpu { kind: Kind::Guest, mode: Mode::Custom, fallback: false, ..Cpu::default() };
    map.decode(&wanted, &bits, Some(&offered(accelerator)), &[]).ok()
}

/// Settles what depends on the host and the emulator: the mode, features that are optional, features that models once
/// had, a model that the emulator does not offer. Whether the host can do it is looked at first, if that is asked for.
///
/// # Errors
/// The host's processor cannot do it, or the emulator does not offer it.
///
/// `real` is the host's processor as it says itself: what it has counts where guests only have to be able to run,
/// whether or not they see it.
pub fn update(domain: &mut Domain, caps: &QemuCaps, real: Option<&Cpu>) -> Result<()> {
    let virt = qemu_domain::virt_type(domain);
    let kvm = domain.kind == DomainType::Kvm;
    let arch = domain.os.kind.as_ref().and_then(|kind| kind.arch.clone()).unwrap_or_default();
    let Some(cpu) = domain.cpu.as_mut().filter(|cpu| chosen(cpu)) else { return Ok(()) };
    let mode = cpu.mode.unwrap_or_default();
    let accelerator = caps.accelerator(virt);
    let supported = accelerator.is_some_and(|accelerator| match mode {
        CpuMode::HostPassthrough => kvm,
        CpuMode::HostModel => host_model(accelerator, true).is_some(),
        CpuMode::Custom => !accelerator.cpus.is_empty(),
        CpuMode::Maximum => caps.has("cpu-max"),
    });
    let Some(accelerator) = accelerator.filter(|_| supported) else {
        return Err(Error::unsupported(format!(
            "CPU mode '{mode}' for {arch} {} domain on {} host is not supported by hypervisor",
            domain.kind,
            std::env::consts::ARCH
        )));
    };
    let checked = cpu.check.is_some_and(|check| check != CpuCheck::None);
    let everything = if checked { host_model(accelerator, true).map(|seen| full(real, seen)) } else { None };
    if let Some(host) = &everything {
        let forbidden = cpu.feature.iter().find(|feature| {
            feature.policy == Some(FeaturePolicy::Forbid)
                && host
                    .features
                    .iter()
                    .any(|own| own.name == feature.name && own.policy != Some(Policy::Disable))
        });
        if let Some(feature) = forbidden {
            let detail = format!("Host CPU provides forbidden feature '{}'", feature.name);
            return Err(Error { code: xml::Code::CpuIncompatible, detail });
        }
    }
    if matches!(mode, CpuMode::HostPassthrough | CpuMode::Maximum) {
        drop_unknown(cpu, accelerator);
        return Ok(());
    }
    let map = Map::get();
    if cpu.check == Some(CpuCheck::Partial)
        && let Comparison::Incompatible(why) =
            map.compare(everything.as_ref(), &described(cpu)).map_err(|error| failed(&error))?
    {
        return Err(Error { code: xml::Code::CpuIncompatible, detail: why.unwrap_or_default() });
    }
    take_host(cpu, accelerator)?;
    let mut guest = described(cpu);
    map.translate(&mut guest, Some(&offered(accelerator))).map_err(|error| failed(&error))?;
    describe(cpu, guest);
    if let Some(model) = &mut cpu.model {
        model.fallback = Some(Fallback::Forbid);
    }
    drop_unknown(cpu, accelerator);
    Ok(())
}

/// As a guest would have it that starts now on this host: what `host-model` stands for, and features that depend on
/// the host.
///
/// # Errors
/// The host's processor is not known.
pub fn settle(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    let virt = qemu_domain::virt_type(domain);
    match (domain.cpu.as_mut().filter(|cpu| chosen(cpu)), caps.accelerator(virt)) {
        (Some(cpu), Some(accelerator)) => take_host(cpu, accelerator),
        _ => Ok(()),
    }
}

/// Whether more is said than how processors are grouped.
fn chosen(cpu: &domain_xml::cpu::Cpu) -> bool {
    cpu.mode.is_some_and(|mode| mode != CpuMode::Custom)
        || cpu.model.as_ref().is_some_and(|model| model.name.is_some())
}

fn take_host(cpu: &mut domain_xml::cpu::Cpu, accelerator: &Accelerator) -> Result<()> {
    let mut guest = described(cpu);
    let relative = guest.mode == Mode::HostModel
        || guest.matching == Match::Minimum
        || guest.features.iter().any(|feature| feature.policy == Some(Policy::Optional));
    let host = if relative { host_model(accelerator, false) } else { None };
    Map::get().update(&mut guest, host.as_ref()).map_err(|error| failed(&error))?;
    describe(cpu, guest);
    Ok(())
}

/// All that the host can do: what its processor says, and what guests see besides.
fn full(real: Option<&Cpu>, seen: Cpu) -> Cpu {
    let Some(real) = real else { return seen };
    let mut full = Cpu { kind: Kind::Guest, ..real.clone() };
    for feature in &mut full.features {
        feature.policy = feature.policy.or(Some(Policy::Require));
    }
    for feature in seen.features.iter().filter(|it| matches!(it.policy, None | Some(Policy::Require))) {
        full.set_feature(&feature.name, feature.policy);
    }
    full
}

/// Drops features that hosts alone have, and those that are switched off and that the emulator does not know.
fn drop_unknown(cpu: &mut domain_xml::cpu::Cpu, accelerator: &Accelerator) {
    const NOT_OF_GUESTS: &[&str] = &["cmt", "mbm_total", "mbm_local", "osxsave", "ospke"];
    let map = Map::get();
    let known = accelerator.host.as_ref().map(|host| {
        let name = |name: &str| map.feature_of_qemu(name).map_or(name, |feature| feature.name).to_owned();
        host.properties.iter().map(|property| name(&property.name)).collect::<Vec<String>>()
    });
    cpu.feature.retain(|feature| {
        let off = matches!(feature.policy, Some(FeaturePolicy::Disable | FeaturePolicy::Forbid));
        let unknown = off && known.as_ref().is_some_and(|known| !known.contains(&feature.name));
        !unknown && !NOT_OF_GUESTS.contains(&feature.name.as_str())
    });
}

fn failed(error: &CpuError) -> Error {
    let detail = error.to_string();
    match error {
        CpuError::Internal(_) => Error::internal(detail),
        CpuError::Failed(_) => Error { code: xml::Code::OperationFailed, detail },
        _ => Error::unsupported(detail),
    }
}

/// A domain's processor as the map of processors has it.
pub fn described(cpu: &domain_xml::cpu::Cpu) -> Cpu {
    Cpu {
        kind: Kind::Guest,
        mode: match cpu.mode.unwrap_or_default() {
            CpuMode::Custom => Mode::Custom,
            CpuMode::HostModel => Mode::HostModel,
            CpuMode::HostPassthrough => Mode::HostPassthrough,
            CpuMode::Maximum => Mode::Maximum,
        },
        matching: match cpu.matching {
            Some(CpuMatch::Minimum) => Match::Minimum,
            Some(CpuMatch::Strict) => Match::Strict,
            Some(CpuMatch::Exact) | None => Match::Exact,
        },
        model: cpu.model.as_ref().and_then(|model| model.name.clone()),
        fallback: cpu.model.as_ref().and_then(|model| model.fallback) != Some(Fallback::Forbid),
        vendor: cpu.vendor.clone(),
        vendor_id: cpu.model.as_ref().and_then(|model| model.vendor_id.clone()),
        features: cpu
            .feature
            .iter()
            .map(|feature| Feature { name: feature.name.clone(), policy: Some(policy(feature.policy)) })
            .collect(),
        ..Cpu::default()
    }
}

/// Takes model and features back into the domain's processor.
fn describe(cpu: &mut domain_xml::cpu::Cpu, guest: Cpu) {
    if guest.mode == Mode::Custom {
        cpu.mode = Some(CpuMode::Custom);
        cpu.matching = Some(match guest.matching {
            Match::Minimum => CpuMatch::Minimum,
            Match::Strict => CpuMatch::Strict,
            Match::Exact => CpuMatch::Exact,
        });
    }
    let model = cpu.model.get_or_insert_with(CpuModel::default);
    (model.name, model.vendor_id) = (guest.model, guest.vendor_id);
    model.fallback = Some(if guest.fallback { Fallback::Allow } else { Fallback::Forbid });
    cpu.vendor = guest.vendor;
    cpu.feature = guest
        .features
        .into_iter()
        .map(|feature| CpuFeature { policy: Some(policy_word(feature.policy)), name: feature.name })
        .collect();
}

/// What a domain wants of a feature; without a word it is required.
pub fn policy(policy: Option<FeaturePolicy>) -> Policy {
    match policy {
        Some(FeaturePolicy::Force) => Policy::Force,
        Some(FeaturePolicy::Optional) => Policy::Optional,
        Some(FeaturePolicy::Disable) => Policy::Disable,
        Some(FeaturePolicy::Forbid) => Policy::Forbid,
        Some(FeaturePolicy::Require) | None => Policy::Require,
    }
}

/// The word for [`policy`].
pub fn policy_word(policy: Option<Policy>) -> FeaturePolicy {
    match policy {
        Some(Policy::Force) => FeaturePolicy::Force,
        Some(Policy::Optional) => FeaturePolicy::Optional,
        Some(Policy::Disable) => FeaturePolicy::Disable,
        Some(Policy::Forbid) => FeaturePolicy::Forbid,
        Some(Policy::Require) | None => FeaturePolicy::Require,
    }
}
