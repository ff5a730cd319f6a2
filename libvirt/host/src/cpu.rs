//! The processor itself.

use crate::parse::text;
use cpu_map::{Cpu, Kind, Map};
use std::path::Path;

/// What is known of the host's processor.
#[derive(Clone, Debug, Default)]
pub struct HostCpu {
    /// As a model with features; none on a host that is no PC.
    pub model: Option<Cpu>,
    /// Its microcode.
    pub microcode: Option<u64>,
    /// Family, model and stepping.
    pub signature: Option<(u32, u32, u32)>,
    /// The frequency of its time stamp counter in Hz, if that is constant, and whether guests may have another.
    pub tsc: Option<(u64, bool)>,
    /// Bits of a physical address.
    pub address_bits: Option<u32>,
    /// MHz, for `nodeinfo`.
    pub mhz: u32,
}

impl HostCpu {
    /// The processor that executes this, with what `/proc` below `root` says of it.
    pub fn read(root: &Path) -> Self {
        let all = text(&root.join("proc/cpuinfo"));
        let first = all.split("\n\n").next().unwrap_or_default();
        let field = |name: &str| {
            let mut lines = first.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        let number = |name: &str| field(name)?.parse::<u32>().ok();
        let mhz = field("cpu MHz").and_then(|text| text.parse::<f64>().ok());
        let flags = field("flags").unwrap_or_default();
        let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
        let constant = has("constant_tsc") && has("nonstop_tsc");
        let hertz = mhz.map(|mhz| (mhz * 1_000_000.0) as u64);
        let bits = field("address sizes").and_then(|text| text.split_whitespace().next()?.parse().ok());
        Self {
            model: model(),
            microcode: field("microcode")
                .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()),
            signature: (|| Some((number("cpu family")?, number("model")?, number("stepping")?)))(),
            tsc: hertz.filter(|_| constant).map(|hertz| (hertz, has("tsc_scale"))),
            address_bits: bits,
            mhz: mhz.map_or(0, |mhz| mhz as u32),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn model() -> Option<Cpu> {
    let bits = cpu_map::read_leaves(|leaf, subleaf| {
        let words = std::arch::x86_64::__cpuid_count(leaf, subleaf);
        [words.eax, words.ebx, words.ecx, words.edx]
    });
    let wanted = Cpu { kind: Kind::Host, arch: Some("x86_64".to_owned()), fallback: true, ..Cpu::default() };
    Map::get().decode(&wanted, &bits, None, &[]).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn model() -> Option<Cpu> {
    None
}
