//! The processor itself.

use cpu_map::{Cpu, Kind, Map};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::LazyLock;

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
        let first = first_of_cpuinfo(root);
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
            model: model().cloned(),
            microcode: field("microcode")
                .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()),
            signature: (|| Some((number("cpu family")?, number("model")?, number("stepping")?)))(),
            tsc: hertz.filter(|_| constant).map(|hertz| (hertz, has("tsc_scale"))),
            address_bits: bits,
            mhz: mhz.map_or(0, |mhz| mhz as u32),
        }
    }
}

/// The processor that executes this as a model with features, which it stays; none on a host that is no PC. In a virtual
/// machine CPUID is slow, and what describes it best is sought among all models.
pub fn model() -> Option<&'static Cpu> {
    static MODEL: LazyLock<Option<Cpu>> = LazyLock::new(decoded);
    MODEL.as_ref()
}

/// MHz of the first processor of `/proc/cpuinfo` below `root`.
pub(crate) fn mhz(root: &Path) -> u32 {
    let first = first_of_cpuinfo(root);
    let line = first.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "cpu MHz");
    line.and_then(|(_, value)| value.trim().parse::<f64>().ok()).map_or(0, |mhz| mhz as u32)
}

/// What `/proc/cpuinfo` says of its first processor: of the others the kernel need not tell then.
fn first_of_cpuinfo(root: &Path) -> String {
    /// More than it says of any processor.
    const MOST: usize = 64 << 10;
    let Ok(file) = std::fs::File::open(root.join("proc/cpuinfo")) else { return String::new() };
    let (mut reader, mut first) = (BufReader::with_capacity(2 << 10, file), String::new());
    while first.len() < MOST && reader.read_line(&mut first).is_ok_and(|count| count > 1) {}
    first
}

#[cfg(target_arch = "x86_64")]
fn decoded() -> Option<Cpu> {
    let bits = cpu_map::read_leaves(|leaf, subleaf| {
        let words = std::arch::x86_64::__cpuid_count(leaf, subleaf);
        [words.eax, words.ebx, words.ecx, words.edx]
    });
    let wanted = Cpu { kind: Kind::Host, arch: Some("x86_64".to_owned()), fallback: true, ..Cpu::default() };
    Map::get().decode(&wanted, &bits, None, &[]).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn decoded() -> Option<Cpu> {
    None
}
/// How many guests with encrypted memory the host's processor can tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SevGuests {
    /// Those whose registers are not encrypted.
    pub plain: u32,
    /// Those whose registers are.
    pub encrypted_state: u32,
}

/// How many guests with encrypted memory there may be (CPUID 8000_001F).
pub fn sev_guests() -> SevGuests {
    #[cfg(target_arch = "x86_64")]
    {
        const LEAF: u32 = 0x8000_001f;
        if std::arch::x86_64::__cpuid(0x8000_0000).eax >= LEAF {
            let leaf = std::arch::x86_64::__cpuid(LEAF);
            return shared_out(leaf.ecx, leaf.edx);
        }
    }
    SevGuests::default()
}

/// Numbers of guests go from 1 to `last`; those without encrypted registers begin at `first_plain`.
fn shared_out(last: u32, first_plain: u32) -> SevGuests {
    match (last.checked_sub(first_plain), first_plain.checked_sub(1)) {
        (Some(plain), Some(encrypted_state)) => SevGuests { plain: plain + 1, encrypted_state },
        _ => SevGuests::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_encrypted_guests() {
        assert_eq!(shared_out(509, 100), SevGuests { plain: 410, encrypted_state: 99 });
        assert_eq!(shared_out(0, 0), SevGuests::default());
        assert_eq!(shared_out(1, 7), SevGuests::default());
    }
}
