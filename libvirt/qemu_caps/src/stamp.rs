//! What a cached answer depends on.

use crate::Stamp;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// libvirt's version that this program reports.
pub const LIBVIRT_VERSION: u64 = 10_000_000;

/// Where distributions put the emulator's modules.
const MODULE_DIRECTORIES: &[&str] = &["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib64/qemu", "/usr/lib/qemu"];

impl Stamp {
    /// The stamp of this moment; none when the binary is not there.
    pub fn now(binary: &Path) -> Option<Self> {
        static HOST: OnceLock<HostStamp> = OnceLock::new();
        let host = HOST.get_or_init(HostStamp::now);
        let modules = MODULE_DIRECTORIES.iter().find_map(|path| std::fs::metadata(path).ok());
        Some(Self {
            binary: std::fs::metadata(binary).ok()?.ctime(),
            modules: modules.map_or(0, |found| found.mtime()),
            program: host.program,
            version: LIBVIRT_VERSION,
            microcode: host.microcode,
            cpu: host.cpu.clone(),
            kernel: host.kernel.clone(),
        })
    }
}

/// What does not change while this program runs.
struct HostStamp {
    program: i64,
    microcode: u64,
    cpu: String,
    kernel: String,
}

impl HostStamp {
    fn now() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let first = cpuinfo.split("\n\n").next().unwrap_or_default();
        let field = |name: &str| {
            let mut lines = first.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map_or("", |(_, value)| value.trim())
        };
        let microcode = u64::from_str_radix(field("microcode").trim_start_matches("0x"), 16).unwrap_or(0);
        let cpu = format!(
            "{}, {}, family: {}, model: {}, stepping: {}",
            field("vendor_id"),
            field("model name"),
            field("cpu family"),
            field("model"),
            field("stepping")
        );
        let uname = rustix::system::uname();
        let program = std::env::current_exe().and_then(std::fs::metadata).map_or(0, |found| found.ctime());
        Self {
            program,
            microcode,
            cpu,
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.version().to_string_lossy()),
        }
    }
}
