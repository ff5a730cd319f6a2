//! Values of a group: what it may use, and what it has used.
//!
//! Files and forms are those of the kernel's documentation, "Control Group v2".

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use super::{Cgroup, Controllers, Group, write};
use crate::dbus::Value;
use crate::error::reason;
use crate::systemd::Systemd;
use crate::{Code, Error, Result};

/// A limit of memory, in KiB, that is none (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`).
pub const MEMORY_UNLIMITED: u64 = 9_007_199_254_740_991;
/// A quota, in microseconds, that is none.
pub const QUOTA_UNLIMITED: i64 = 17_592_186_044_415;

const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
const LEAST_QUOTA: i64 = 1000;

/// A limit of what goes to or comes from a block device each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockLimit {
    /// Requests to read.
    ReadRequests,
    /// Requests to write.
    WriteRequests,
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
}

impl BlockLimit {
    fn key(self) -> &'static str {
        match self {
            Self::ReadRequests => "riops",
            Self::WriteRequests => "wiops",
            Self::ReadBytes => "rbps",
            Self::WriteBytes => "wbps",
        }
    }
}

/// What a group's memory is used for, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Files' contents.
    pub cache: u64,
    /// Memory without a file that was used lately.
    pub active_anonymous: u64,
    /// Memory without a file that was not.
    pub inactive_anonymous: u64,
    /// Files' contents that were used lately.
    pub active_file: u64,
    /// Files' contents that were not.
    pub inactive_file: u64,
    /// What cannot be paged out.
    pub unevictable: u64,
}

/// `MAJOR:MINOR` of a block device.
fn device(path: &str) -> Result<String> {
    let found = std::fs::metadata(path)
        .map_err(|error| Error::system(format!("Path '{path}' is not accessible"), error))?;
    if !found.file_type().is_block_device() {
        let text = format!("Path '{path}' must be a block device");
        return Err(Error::system(text, rustix::io::Errno::INVAL));
    }
    let number = found.rdev();
    Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.trim().parse().map_err(|_| Error::internal(format!("Unable to parse '{text}' as an integer")))
}

impl Group {
    fn file(&self, controller: Controllers, name: &str) -> Result<PathBuf> {
        if !self.controllers.has(controller) {
            let known = Controllers::NAMES.iter().find(|(.., one)| *one == controller);
            let shown = known
                .map_or("", |(libvirts, kernels, _)| if kernels.is_empty() { libvirts } else { kernels });
            return Err(Error::internal(format!("v2 controller '{shown}' is not available")));
        }
        Ok(self.folder.join(name))
    }

    fn get(&self, controller: Controllers, name: &str) -> Result<String> {
        let path = self.file(controller, name)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::system(format!("Unable to read from '{}'", path.display()), error))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    fn set(&self, controller: Controllers, name: &str, value: &str) -> Result<()> {
        let path = self.file(controller, name)?;
        write(&path, value).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => Error {
                code: Code::SystemError,
                message: format!("Invalid value '{value}' for '{name}': {}", reason(&error)),
            },
            _ => Error::system(format!("Unable to write to '{}'", path.display()), error),
        })
    }

    fn weight_file(&self) -> Result<(&'static str, bool)> {
        for (name, is_plain) in [("io.bfq.weight", true), ("io.weight", false)] {
            if self.file(Controllers::BLKIO, name)?.exists() {
                return Ok((name, is_plain));
            }
        }
        let text = "Requested operation is not valid: blkio weight is valid only for bfq or cfq scheduler";
        Err(Error { code: Code::OperationInvalid, message: text.to_owned() })
    }

    /// The share of block devices' time, 1 to 10,000 (100 at first).
    ///
    /// # Errors
    /// `Requested operation is not valid: blkio weight is valid only for bfq or cfq scheduler`
    pub fn set_block_weight(&self, systemd: &Systemd, weight: u32) -> Result<()> {
        let (name, is_plain) = self.weight_file()?;
        if let Some(unit) = &self.unit {
            return systemd.set_unit_property(unit, "IOWeight", Value::U64(weight.into()));
        }
        let value = if is_plain { weight.to_string() } else { format!("default {weight}") };
        self.set(Controllers::BLKIO, name, &value)
    }

    /// The reverse of [`Group::set_block_weight`].
    ///
    /// # Errors
    /// As there.
    pub fn block_weight(&self) -> Result<u32> {
        let text = self.get(Controllers::BLKIO, self.weight_file()?.0)?;
        let line = text.lines().find_map(|line| line.strip_prefix("default ")).unwrap_or(&text);
        number(line)
    }

    fn device_weight_exists(&self) -> Result<()> {
        if self.file(Controllers::BLKIO, "io.weight")?.exists() {
            return Ok(());
        }
        let text = "Requested operation is not valid: blkio device weight is valid only for cfq scheduler";
        Err(Error { code: Code::OperationInvalid, message: text.to_owned() })
    }

    /// The share of one block device's time.
    ///
    /// # Errors
    /// `Requested operation is not valid: blkio device weight is valid only for cfq scheduler`; `Path 'PATH' must be a
    /// block device: ...`.
    pub fn set_device_weight(&self, systemd: &Systemd, path: &str, weight: u32) -> Result<()> {
        self.device_weight_exists()?;
        if let Some(unit) = &self.unit {
            let pair = Value::Struct(vec![path.into(), Value::U64(weight.into())]);
            let value = Value::Array("(st)".into(), vec![pair]);
            return systemd.set_unit_property(unit, "IODeviceWeight", value);
        }
        self.set(Controllers::BLKIO, "io.weight", &format!("{} {weight}", device(path)?))
    }

    /// The reverse of [`Group::set_device_weight`]; 0: it has none of its own.
    ///
    /// # Errors
    /// As there.
    pub fn device_weight(&self, path: &str) -> Result<u32> {
        self.device_weight_exists()?;
        let text = self.get(Controllers::BLKIO, "io.weight")?;
        let prefix = device(path)? + " ";
        text.lines().find_map(|line| line.strip_prefix(&prefix)).map_or(Ok(0), number)
    }

    /// Limits what goes to or comes from a block device each second; 0: no limit.
    ///
    /// # Errors
    /// `Path 'PATH' must be a block device: ...`, `Unable to write to '...': ...`.
    pub fn set_block_limit(&self, limit: BlockLimit, path: &str, value: u64) -> Result<()> {
        let shown = if value == 0 { "max".to_owned() } else { value.to_string() };
        self.set(Controllers::BLKIO, "io.max", &format!("{} {}={shown}", device(path)?, limit.key()))
    }

    /// The reverse of [`Group::set_block_limit`].
    ///
    /// # Errors
    /// `internal error: Unable to find 'KEY=' limit for block device 'PATH'`
    pub fn block_limit(&self, limit: BlockLimit, path: &str) -> Result<u64> {
        let text = self.get(Controllers::BLKIO, "io.max")?;
        let prefix = device(path)? + " ";
        let Some(line) = text.lines().find_map(|line| line.strip_prefix(&prefix)) else { return Ok(0) };
        let key = limit.key();
        let value = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        match value {
            Some("max") => Ok(0),
            Some(value) => number(value),
            None => Err(Error::internal(format!("Unable to find '{key}=' limit for block device '{path}'"))),
        }
    }

    /// Bytes read and written, requests to read and to write, of all block devices.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn block_use(&self) -> Result<[u64; 4]> {
        let text = self.get(Controllers::BLKIO, "io.stat")?;
        Ok(["rbytes=", "wbytes=", "rios=", "wios="].map(|key| {
            let values =
                text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
            values.fold(0, u64::saturating_add)
        }))
    }

    fn set_memory(&self, name: &str, kib: u64) -> Result<()> {
        if kib > MEMORY_UNLIMITED {
            return Err(Error::argument(format!("Memory '{kib}' must be less than {MEMORY_UNLIMITED}")));
        }
        let value = if kib == MEMORY_UNLIMITED { "max".to_owned() } else { (kib << 10).to_string() };
        self.set(Controllers::MEMORY, name, &value)
    }

    fn memory(&self, name: &str) -> Result<u64> {
        match &*self.get(Controllers::MEMORY, name)? {
            "max" => Ok(MEMORY_UNLIMITED),
            text => {
                let failed = || Error::internal(format!("Failed to parse value '{text}' as number."));
                let bytes: u64 = text.parse().map_err(|_| failed())?;
                Ok((bytes >> 10).min(MEMORY_UNLIMITED))
            }
        }
    }

    /// Most memory, in KiB.
    ///
    /// # Errors
    /// `invalid argument: Memory 'N' must be less than M`
    pub fn set_memory_hard_limit(&self, kib: u64) -> Result<()> {
        self.set_memory("memory.max", kib)
    }

    /// The reverse of [`Group::set_memory_hard_limit`].
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn memory_hard_limit(&self) -> Result<u64> {
        self.memory("memory.max")
    }

    /// The memory above which the group is slowed down, in KiB.
    ///
    /// # Errors
    /// `invalid argument: Memory 'N' must be less than M`
    pub fn set_memory_soft_limit(&self, kib: u64) -> Result<()> {
        self.set_memory("memory.high", kib)
    }

    /// The reverse of [`Group::set_memory_soft_limit`].
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn memory_soft_limit(&self) -> Result<u64> {
        self.memory("memory.high")
    }

    /// Most swap space, in KiB.
    ///
    /// # Errors
    /// `invalid argument: Memory 'N' must be less than M`
    pub fn set_swap_hard_limit(&self, kib: u64) -> Result<()> {
        self.set_memory("memory.swap.max", kib)
    }

    /// The reverse of [`Group::set_swap_hard_limit`].
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn swap_hard_limit(&self) -> Result<u64> {
        self.memory("memory.swap.max")
    }

    /// Memory in use, in KiB.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn memory_usage(&self) -> Result<u64> {
        self.memory("memory.current")
    }

    /// What the memory is used for.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn memory_use(&self) -> Result<MemoryUse> {
        let text = self.get(Controllers::MEMORY, "memory.stat")?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line.map_or(Ok(0), number).map(|bytes: u64| bytes >> 10)
        };
        Ok(MemoryUse {
            cache: value("file")?,
            active_anonymous: value("active_anon")?,
            inactive_anonymous: value("inactive_anon")?,
            active_file: value("active_file")?,
            inactive_file: value("inactive_file")?,
            unevictable: value("unevictable")?,
        })
    }

    /// The share of the processors' time: the kernel's weight, 1 to 10,000 (100 at first).
    ///
    /// # Errors
    /// `invalid argument: shares 'N' must be in range [2, 262144]`; `Invalid value 'N' for 'cpu.weight': ...`.
    pub fn set_cpu_shares(&self, systemd: &Systemd, shares: u64) -> Result<()> {
        if !SHARES.contains(&shares) {
            let (least, most) = (SHARES.start(), SHARES.end());
            return Err(Error::argument(format!("shares '{shares}' must be in range [{least}, {most}]")));
        }
        if let Some(unit) = &self.unit {
            return systemd.set_unit_property(unit, "CPUWeight", Value::U64(shares));
        }
        self.set(Controllers::CPU, "cpu.weight", &shares.to_string())
    }

    /// The reverse of [`Group::set_cpu_shares`].
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn cpu_shares(&self) -> Result<u64> {
        number(&self.get(Controllers::CPU, "cpu.weight")?)
    }

    fn cpu_max(&self) -> Result<(String, u64)> {
        let text = self.get(Controllers::CPU, "cpu.max")?;
        let (quota, period) =
            text.split_once(' ').ok_or_else(|| Error::internal("Invalid 'cpu.max' data."))?;
        let failed = |_| Error::internal(format!("Failed to parse value '{text}' from cpu.max."));
        Ok((quota.to_owned(), period.trim().parse().map_err(failed)?))
    }

    /// The period of the quota, in microseconds, 100,000 at first.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn cpu_period(&self) -> Result<u64> {
        self.cpu_max().map(|(_, period)| period)
    }

    /// The quota, in microseconds; [`QUOTA_UNLIMITED`]: none.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn cpu_quota(&self) -> Result<i64> {
        let (quota, _) = self.cpu_max()?;
        if quota == "max" { Ok(QUOTA_UNLIMITED) } else { number(&quota) }
    }

    fn set_cpu_period(&self, period: u64) -> Result<()> {
        if !PERIODS.contains(&period) {
            let (least, most) = (PERIODS.start(), PERIODS.end());
            return Err(Error::argument(format!("cfs_period '{period}' must be in range ({least}, {most})")));
        }
        let (quota, _) = self.cpu_max()?;
        self.set(Controllers::CPU, "cpu.max", &format!("{quota} {period}"))
    }

    fn set_cpu_quota(&self, quota: i64) -> Result<()> {
        if quota >= 0 && !(LEAST_QUOTA..=QUOTA_UNLIMITED).contains(&quota) {
            let text = format!("cfs_quota '{quota}' must be in range ({LEAST_QUOTA}, {QUOTA_UNLIMITED})");
            return Err(Error::argument(text));
        }
        let value = if quota < 0 || quota == QUOTA_UNLIMITED { "max".to_owned() } else { quota.to_string() };
        self.set(Controllers::CPU, "cpu.max", &value)
    }

    /// Lets the group have `quota` microseconds of processors' time in each `period`; 0 leaves what is set, a negative
    /// quota is none. Both are set, or none is.
    ///
    /// # Errors
    /// `invalid argument: cfs_period 'N' must be in range (1000, 1000000)`, and so on.
    pub fn set_cpu_bandwidth(&self, period: u64, quota: i64) -> Result<()> {
        let mut before = None;
        if period != 0 {
            before = Some(self.cpu_period()?);
            self.set_cpu_period(period)?;
        }
        if quota == 0 {
            return Ok(());
        }
        self.set_cpu_quota(quota).inspect_err(|_| {
            if let Some(period) = before {
                // What was wrong first is what to tell.
                let _ = self.set_cpu_period(period);
            }
        })
    }

    /// The processors' time that was used, in nanoseconds: altogether, in user mode, in the kernel.
    ///
    /// # Errors
    /// `internal error: cannot parse cpu usage stat '...'`
    pub fn cpu_use(&self) -> Result<[u64; 3]> {
        let text = self.get(Controllers::CPUACCT, "cpu.stat")?;
        let value = |key: &str, what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            let line =
                line.ok_or_else(|| Error::internal(format!("cannot parse cpu {what} stat '{text}'")))?;
            number(line).map(|time: u64| time.saturating_mul(1000))
        };
        Ok([value("usage_usec", "usage")?, value("user_usec", "user")?, value("system_usec", "sys")?])
    }

    /// The processors that may be used, as a list (`0-3,7`).
    ///
    /// # Errors
    /// `Invalid value 'LIST' for 'cpuset.cpus': ...`
    pub fn set_cpus(&self, list: &str) -> Result<()> {
        self.set(Controllers::CPUSET, "cpuset.cpus", list)
    }

    /// The reverse of [`Group::set_cpus`]; empty: all that the group above has.
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn cpus(&self) -> Result<String> {
        self.get(Controllers::CPUSET, "cpuset.cpus")
    }

    /// The memory nodes that may be used, as a list.
    ///
    /// # Errors
    /// `Invalid value 'LIST' for 'cpuset.mems': ...`
    pub fn set_memory_nodes(&self, list: &str) -> Result<()> {
        self.set(Controllers::CPUSET, "cpuset.mems", list)
    }

    /// The reverse of [`Group::set_memory_nodes`].
    ///
    /// # Errors
    /// `Unable to read from '...': ...`
    pub fn memory_nodes(&self) -> Result<String> {
        self.get(Controllers::CPUSET, "cpuset.mems")
    }
}

impl Cgroup {
    /// systemd, for those settings of [`Cgroup::whole`] that go through it.
    #[must_use]
    pub fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    /// The guest's processes, which in a scope are a group below [`Cgroup::whole`].
    #[must_use]
    pub fn inner(&self) -> &Group {
        &self.inner
    }
}

/// The error for a definition that asks for tuning which the host cannot do, by the controller that lacks.
#[must_use]
pub fn missing(controller: Controllers) -> Error {
    Error::unsupported(match controller {
        Controllers::BLKIO => "Block I/O tuning is not available on this host",
        Controllers::MEMORY => "Memory cgroup is not available on this host",
        Controllers::CPU => "CPU tuning is not available on this host",
        _ => "cgroup cpu is required for scheduler tuning",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files as the kernel would have them.
    struct Scene {
        group: Group,
    }

    impl Scene {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let folder = std::env::temp_dir().join(format!("confinement-tune-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            for (name, text) in files {
                std::fs::write(folder.join(name), text).unwrap();
            }
            Self { group: Group { folder, controllers: Controllers::ALL, unit: None } }
        }

        fn file(&self, name: &str) -> String {
            std::fs::read_to_string(self.group.folder.join(name)).unwrap()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.group.folder);
        }
    }

    #[test]
    fn values_are_written_in_the_kernels_forms() {
        let scene = Scene::new(
            "write",
            &[("memory.max", ""), ("cpu.weight", ""), ("io.weight", ""), ("cpuset.cpus", "")],
        );
        let group = &scene.group;
        group.set_memory_hard_limit(1024).unwrap();
        assert_eq!(scene.file("memory.max"), "1048576");
        assert_eq!(group.memory_hard_limit().unwrap(), 1024);
        group.set_cpu_shares(&Systemd::default(), 2048).unwrap();
        assert_eq!(group.cpu_shares().unwrap(), 2048);
        group.set_block_weight(&Systemd::default(), 500).unwrap();
        assert_eq!(scene.file("io.weight"), "default 500");
        assert_eq!(group.block_weight().unwrap(), 500);
        group.set_cpus("0-3,7").unwrap();
        assert_eq!(group.cpus().unwrap(), "0-3,7");
        let error = group.set_swap_hard_limit(1).unwrap_err().message;
        assert!(
            error.starts_with("Unable to write to '")
                && error.ends_with("memory.swap.max': No such file or directory")
        );
    }

    #[test]
    fn values_are_read_in_the_kernels_forms() {
        let scene = Scene::new(
            "read",
            &[
                ("memory.max", "max\n"),
                ("cpu.max", "max 100000\n"),
                ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 0\n"),
                ("memory.stat", "anon 1\nfile 2048\nkernel 5\nactive_anon 4096\nunevictable 1024\n"),
                (
                    "io.stat",
                    "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n",
                ),
                ("io.bfq.weight", "default 100\n8:0 200\n"),
            ],
        );
        let group = &scene.group;
        assert_eq!(group.memory_hard_limit().unwrap(), MEMORY_UNLIMITED);
        assert_eq!((group.cpu_period().unwrap(), group.cpu_quota().unwrap()), (100_000, QUOTA_UNLIMITED));
        assert_eq!(group.cpu_use().unwrap(), [5000, 3000, 2000]);
        let used = group.memory_use().unwrap();
        assert_eq!((used.cache, used.active_anonymous, used.unevictable, used.active_file), (2, 4, 1, 0));
        assert_eq!(group.block_use().unwrap(), [15, 20, 2, 2]);
        assert_eq!(group.block_weight().unwrap(), 100);
        std::fs::write(group.folder.join("cpu.stat"), "nothing").unwrap();
        let error = group.cpu_use().unwrap_err().message;
        assert_eq!(error, "internal error: cannot parse cpu usage stat 'nothing'");
    }

    #[test]
    fn what_is_out_of_range_or_not_there_is_refused() {
        let scene = Scene::new("refuse", &[("cpu.max", "max 100000\n"), ("io.max", "")]);
        let group = &scene.group;
        let text = |result: Result<()>| result.unwrap_err().message;
        let shares = text(group.set_cpu_shares(&Systemd::default(), 1));
        assert_eq!(shares, "invalid argument: shares '1' must be in range [2, 262144]");
        let period = text(group.set_cpu_bandwidth(5, 0));
        assert_eq!(period, "invalid argument: cfs_period '5' must be in range (1000, 1000000)");
        let quota = text(group.set_cpu_bandwidth(0, 5));
        assert_eq!(quota, "invalid argument: cfs_quota '5' must be in range (1000, 17592186044415)");
        let memory = text(group.set_memory_soft_limit(u64::MAX));
        assert!(memory.starts_with("invalid argument: Memory '18446744073709551615' must be less than "));
        let weight = group.block_weight().unwrap_err();
        assert_eq!(weight.code, Code::OperationInvalid);
        let device = text(group.set_block_limit(BlockLimit::ReadBytes, "/dev/null", 1));
        assert_eq!(device, "Path '/dev/null' must be a block device: Invalid argument");
        let none = Group { folder: group.folder.clone(), controllers: Controllers::CPUACCT, unit: None };
        assert_eq!(text(none.set_cpus("0")), "internal error: v2 controller 'cpuset' is not available");
        assert_eq!(missing(Controllers::MEMORY).code.number(), 67);
    }
}
