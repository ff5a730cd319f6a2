//! The accelerator: the first of those asked for that works.

use crate::Failed;
use accel::Accelerator;
use cmdline::Accel;
use engine::{LaneB, Options, Tcg, Without};
use kvm::{Kvm, OpenError};
use report::error_report;
use std::io;
use x86::features::FeatureSet;
use x86::models::HostCpu;

/// The C library's text for an error, without Rust's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

/// Physical address bits of processors made in software.
const SOFTWARE_PHYS_BITS: u32 = 40;

/// An accelerator, and what processors it makes.
pub(crate) struct Chosen {
    pub(crate) accelerator: Box<dyn Accelerator>,
    /// The features that guests can be shown.
    pub(crate) features: FeatureSet,
    /// The host's processor, if guests can be shown it.
    pub(crate) host: Option<HostCpu>,
    /// Width of physical addresses.
    pub(crate) phys_bits: u32,
    /// It has processes of its own map the guest's RAM, where the host can share that.
    pub(crate) shares_ram: bool,
}

/// Tries the accelerators in order. Each failure is told as QEMU tells it; `failed`: one has failed before;
/// `profile`: whether perf gets a map of translated code, and the code itself.
///
/// # Errors
/// None works; everything has been said.
pub(crate) fn choose(wanted: &[Accel], mut failed: bool, profile: (bool, bool)) -> Result<Chosen, Failed> {
    for accel in wanted {
        let opened = match accel.name.as_str() {
            "tcg" => tcg(accel, profile),
            "kvm" => {
                if let Some(value @ ("on" | "split")) = accel.kernel_irqchip.as_deref() {
                    let text = format!("kernel_irqchip={value} is not supported by this build");
                    return Err(Failed::because(text));
                }
                kvm().map_err(|text| format!("failed to initialize kvm: {text}"))
            }
            other => Err(format!("invalid accelerator {other}")),
        };
        match opened {
            Ok(chosen) => {
                if failed {
                    let name = chosen.accelerator.name();
                    error_report!("falling back to {}", if name == "kvm" { "KVM" } else { name });
                }
                return Ok(chosen);
            }
            Err(text) => {
                let _place = report::Location::enter(accel.location.as_deref().unwrap_or_default());
                error_report!("{text}");
                failed = true;
            }
        }
    }
    Err(Failed::told())
}

fn tcg(accel: &Accel, (perfmap, jitdump): (bool, bool)) -> Result<Chosen, String> {
    let wanted = &accel.tcg;
    let without = match wanted.without.as_deref().map(Without::parse) {
        Some(Err(name)) => return Err(format!("unknown feature in x-without: {name}")),
        Some(Ok(without)) => without,
        None => Without::default(),
    };
    let size = usize::try_from(wanted.tb_size).ok().and_then(|mib| mib.checked_mul(1 << 20));
    let Some(size) = size else { return Err(format!("tb-size={} is too large", wanted.tb_size)) };
    let options = Options {
        translate: wanted.tier != Some(1),
        code_size: (size != 0).then_some(size),
        one_instruction: wanted.one_insn_per_tb,
        tiny_tlb: wanted.tiny_tlb,
        threshold: wanted.threshold,
        lazy_flags: wanted.lazy_flags,
        lockstep: wanted.lockstep,
        lane_b: match wanted.lane_b.as_deref() {
            Some("always") => LaneB::Always,
            Some("off") => LaneB::Off,
            _ => LaneB::On,
        },
        single: wanted.single,
        without,
        perfmap,
        jitdump,
    };
    let mut shares_ram = options.runs_processes();
    let engine = Tcg::with(options).unwrap_or_else(|lack| {
        if wanted.tier.is_some() {
            let _place = report::Location::enter(accel.location.as_deref().unwrap_or_default());
            report::warn_report!("{lack}: everything is left to tier 1");
        }
        shares_ram = false;
        Tcg::with(Options { translate: false, ..options }).unwrap_or_default()
    });
    Ok(Chosen {
        accelerator: Box::new(engine),
        features: engine::supported_features_without(without),
        host: None,
        phys_bits: SOFTWARE_PHYS_BITS,
        shares_ram,
    })
}

fn kvm() -> Result<Chosen, String> {
    let kvm = Kvm::open().map_err(|error| match error {
        // The line has no program name in QEMU either, and tools look for it.
        OpenError::Access(error) => {
            eprintln!("Could not access KVM kernel module: {}", reason(&error));
            reason(&error)
        }
        OpenError::Unusable(text) => text,
    })?;
    Ok(Chosen {
        features: kvm.supported_features(),
        host: Some(kvm.host_cpu()),
        phys_bits: kvm.phys_bits(),
        shares_ram: false,
        accelerator: Box::new(kvm),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accel(name: &str) -> Accel {
        Accel::named(name)
    }

    #[test]
    fn the_first_that_works_is_taken() {
        assert_eq!(
            choose(&[accel("foo"), accel("tcg")], false, (false, false)).map(|c| c.accelerator.name()).ok(),
            Some("tcg")
        );
        assert_eq!(
            choose(&[accel("foo")], false, (false, false)).map(|c| c.accelerator.name()).err(),
            Some(Failed::told())
        );
    }
}
