//! What the host has: vendor, RAPL, CPUs.

use crate::protocol::Vendor;
use std::arch::x86_64::{__cpuid, CpuidResult};
use std::fs;
use std::path::{Path, PathBuf};

/// Says whether the kernel's RAPL driver is on; the tree has Intel's name on AMD hosts, too.
pub const POWERCAP: &str = "/sys/class/powercap/intel-rapl/enabled";

/// The vendor, if this host has RAPL.
///
/// # Errors
/// The message to end with.
pub fn check(powercap: &Path) -> Result<Vendor, String> {
    let leaf = __cpuid(0);
    let vendor = match &vendor_name(leaf) {
        b"GenuineIntel" => Vendor::Intel,
        // CPUID 8000_0007h EDX bit 14: RAPL.
        b"AuthenticAMD"
            if __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 14 != 0 =>
        {
            return Ok(Vendor::Amd);
        }
        b"AuthenticAMD" => return Err("error: CPU has no RAPL".to_owned()),
        _ => return Err("error: CPU is not INTEL cpu".to_owned()),
    };
    match fs::read_to_string(powercap) {
        Err(_) => Err(format!(
            "Error opening {}\n{}: error: RAPL driver not enable",
            powercap.display(),
            daemon::log::name()
        )),
        Ok(text) if text.trim() == "1" => Ok(vendor),
        Ok(_) => Err("error: RAPL driver not enable".to_owned()),
    }
}

fn vendor_name(leaf: CpuidResult) -> [u8; 12] {
    let mut name = [0; 12];
    for (part, register) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        part.copy_from_slice(&register.to_le_bytes());
    }
    name
}

/// A CPU with its register device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Number.
    pub number: u32,
    /// Package it is part of; the CPU's own number where the kernel does not say.
    pub package: u32,
    /// Its register device.
    pub device: PathBuf,
}

/// The CPUs that have a folder in `folder` (`/dev/cpu`), by number.
#[must_use]
pub fn cpus(folder: &Path) -> Vec<Cpu> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut cpus: Vec<Cpu> = entries
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let topology = format!("/sys/devices/system/cpu/cpu{number}/topology/physical_package_id");
            let package =
                fs::read_to_string(topology).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(number);
            Some(Cpu { number, package, device: entry.path().join("msr") })
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.number);
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vendors() {
        let leaf = CpuidResult { eax: 0, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 };
        assert_eq!(&vendor_name(leaf), b"GenuineIntel");
    }
}
