//! Descriptions of processors that clients send and get: `<cpu>`, of a host or for a guest.

use crate::error::{Result, error};
use cpu_map::{Cpu, CpuError, Feature, Kind, Mode, Policy};
use rpc::{Code, Error, Origin};
use xml::{Node, Writer};

/// What the map of processors reports.
pub fn map_error(what: &CpuError) -> Error {
    let code = match what {
        CpuError::Internal(_) => Code::InternalError,
        CpuError::Unsupported(_) => Code::ConfigUnsupported,
        CpuError::Failed(_) => Code::OperationFailed,
        CpuError::Argument(_) => Code::InvalidArg,
    };
    Error::new(Origin::Cpu, code, what.to_string())
}

/// Reads a description. One with an architecture is a host's; it may be wrapped into capabilities.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Cpu> {
    let read = xml::parse(text, "cpu", |node| Ok(read(node)));
    read.map_err(|error| crate::error::xml(&error))
}

fn read(node: &Node<'_>) -> Cpu {
    let child = |name: &str| node.children().find(|child| child.name() == name);
    let text =
        |name: &str| child(name).map(|child| child.text().trim().to_owned()).filter(|text| !text.is_empty());
    let arch = text("arch");
    let host = arch.is_some();
    let policy = |word: Option<&str>| match word {
        Some("force") => Policy::Force,
        Some("optional") => Policy::Optional,
        Some("disable") => Policy::Disable,
        Some("forbid") => Policy::Forbid,
        _ => Policy::Require,
    };
    let features = node.children().filter(|child| child.name() == "feature").filter_map(|child| {
        let name = child.attribute("name")?.to_owned();
        Some(Feature { name, policy: (!host).then(|| policy(child.attribute("policy"))) })
    });
    Cpu {
        kind: if host { Kind::Host } else { Kind::Guest },
        arch,
        mode: match node.attribute("mode") {
            Some("host-model") => Mode::HostModel,
            Some("host-passthrough") => Mode::HostPassthrough,
            Some("maximum") => Mode::Maximum,
            _ => Mode::Custom,
        },
        matching: match node.attribute("match") {
            Some("minimum") => cpu_map::Match::Minimum,
            Some("strict") => cpu_map::Match::Strict,
            _ => cpu_map::Match::default(),
        },
        model: text("model"),
        fallback: child("model").is_none_or(|model| model.attribute("fallback") != Some("forbid")),
        vendor: text("vendor"),
        features: features.collect(),
        ..Cpu::default()
    }
}

/// The text of a description for a guest.
pub fn format(cpu: &Cpu) -> String {
    let mut writer = Writer::default();
    let attributes = |writer: &mut Writer| {
        writer.attribute("mode", "custom");
        writer.attribute("match", "exact");
    };
    writer.with("cpu", attributes, |writer| {
        let fallback = if cpu.fallback { "allow" } else { "forbid" };
        writer.with(
            "model",
            |writer| writer.attribute("fallback", fallback),
            |writer| writer.text(cpu.model.as_deref().unwrap_or_default()),
        );
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
            let attributes = |writer: &mut Writer| {
                writer.attribute("policy", policy);
                writer.attribute("name", &feature.name);
            };
            writer.with("feature", attributes, |_| ());
        }
    });
    writer.finish()
}

/// What a comparison found, as clients are told it (`virCPUCompareResult`).
///
/// # Errors
/// The client asked for an error if the host cannot do it.
pub fn compared(found: cpu_map::Comparison, flags: u32) -> Result<i32> {
    const FAIL_INCOMPATIBLE: u32 = 1;
    use cpu_map::Comparison;
    match found {
        Comparison::Incompatible(why) if flags & FAIL_INCOMPATIBLE != 0 => Err(match why {
            Some(why) => error(Code::CpuIncompatible, why),
            None => Error::plain(Origin::Qemu, Code::CpuIncompatible),
        }),
        Comparison::Incompatible(_) => Ok(0),
        Comparison::Identical => Ok(1),
        Comparison::Superset => Ok(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        let text = "<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>Haswell</model>\n  \
                    <vendor>Intel</vendor>\n  <feature policy='disable' name='vmx'/>\n</cpu>\n";
        let cpu = parse(text).expect("guest");
        assert_eq!((cpu.kind, cpu.fallback), (Kind::Guest, false));
        assert_eq!(format(&cpu), text);
        let host =
            parse("<cpu><arch>x86_64</arch><model>qemu64</model><feature name='vmx'/></cpu>").expect("host");
        assert_eq!((host.kind, host.features[0].policy), (Kind::Host, None));
        assert!(parse("<domain/>").is_err());
    }
}
