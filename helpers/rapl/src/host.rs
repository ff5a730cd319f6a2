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
    check_with(powercap, __cpuid)
}

fn check_with(powercap: &Path, cpuid: impl Fn(u32) -> CpuidResult) -> Result<Vendor, String> {
    let vendor = match &vendor_name(cpuid(0)) {
        b"GenuineIntel" => Vendor::Intel,
        // CPUID 8000_0007h EDX bit 14: RAPL. The registers are there whether or not a driver uses them.
        b"AuthenticAMD" if cpuid(0x8000_0000).eax >= 0x8000_0007 && cpuid(0x8000_0007).edx & 1 << 14 != 0 => {
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

    /// A processor of that vendor, with the highest extended leaf and its power-management bits.
    fn processor(vendor: &'static [u8; 12], extended: u32, power: u32) -> impl Fn(u32) -> CpuidResult {
        let word =
            |at: usize| u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]]);
        let none = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
        move |leaf| match leaf {
            0 => CpuidResult { eax: 1, ebx: word(0), edx: word(4), ecx: word(8) },
            0x8000_0000 => CpuidResult { eax: extended, ..none },
            0x8000_0007 => CpuidResult { edx: power, ..none },
            _ => none,
        }
    }

    #[test]
    fn hosts_with_and_without() {
        let path = std::env::temp_dir().join(format!("rapl-enabled-{}", std::process::id()));
        let intel = || check_with(&path, processor(b"GenuineIntel", 0, 0));
        assert!(intel().unwrap_err().starts_with(&format!("Error opening {}\n", path.display())));
        fs::write(&path, "0\n").unwrap();
        assert_eq!(intel(), Err("error: RAPL driver not enable".to_owned()));
        fs::write(&path, "1\n").unwrap();
        assert_eq!(intel(), Ok(Vendor::Intel));
        fs::remove_file(&path).unwrap();
        let amd = |extended, power| check_with(&path, processor(b"AuthenticAMD", extended, power));
        assert_eq!(amd(0x8000_0008, 1 << 14), Ok(Vendor::Amd));
        assert_eq!(amd(0x8000_0008, !(1 << 14)), Err("error: CPU has no RAPL".to_owned()));
        assert_eq!(amd(0x8000_0006, 1 << 14), Err("error: CPU has no RAPL".to_owned()));
        let other = check_with(&path, processor(b"CentaurHauls", 0x8000_0008, 1 << 14));
        assert_eq!(other, Err("error: CPU is not INTEL cpu".to_owned()));
    }
}
