//! Limits of memory and of processors' time, and how much of the latter was used.

use super::params;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, invalid, not_running, unsupported};
use crate::process::launch_error;
use confinement::cgroup::{Controllers, MEMORY_UNLIMITED, Thread};
use domain_xml::Domain as Definition;
use domain_xml::tune::{BlkioDevice, CpuTune, MemTune};
use domain_xml::units::Kib;
use rpc::protocol::device::{DomainGetBlkioParametersArgs, DomainGetBlkioParametersRet};
use rpc::protocol::stats::{DomainGetCpuStatsArgs, DomainGetCpuStatsRet};
use rpc::{Code, Domain, TypedParam, TypedValue};
use security::Confined;
use std::path::Path;
use std::sync::Arc;

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

const PERIODS: std::ops::RangeInclusive<i64> = 1000..=1_000_000;
const QUOTAS: std::ops::RangeInclusive<i64> = 1000..=17_592_186_044_415;

/// What a setting of the scheduler is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Vcpus,
    Emulator,
    IoThreads,
    Whole,
}

const SCHEDULER: &[(&str, &str)] = &[
    ("cpu_shares", "ullong"),
    ("vcpu_period", "ullong"),
    ("vcpu_quota", "llong"),
    ("global_period", "ullong"),
    ("global_quota", "llong"),
    ("emulator_period", "ullong"),
    ("emulator_quota", "llong"),
    ("iothread_period", "ullong"),
    ("iothread_quota", "llong"),
];

/// A setting of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Shares(u64),
    Period(Scope, u64),
    Quota(Scope, i64),
}

impl Setting {
    fn read(param: &TypedParam) -> Result<Option<Self>> {
        let (field, range) = (param.field.as_str(), |value: i64, range: std::ops::RangeInclusive<i64>| {
            if value > 0 && value < *range.start() || value > *range.end() {
                let (least, most) = range.into_inner();
                let detail = format!("value of '{}' is out of range [{least}, {most}]", param.field);
                return Err(error(Code::InvalidArg, detail));
            }
            Ok(())
        });
        let scope = match field.split('_').next() {
            Some("vcpu") => Scope::Vcpus,
            Some("emulator") => Scope::Emulator,
            Some("iothread") => Scope::IoThreads,
            _ => Scope::Whole,
        };
        match param.value {
            TypedValue::Ullong(value) if field == "cpu_shares" => Ok(Some(Self::Shares(value))),
            TypedValue::Ullong(value) => {
                range(i64::try_from(value).unwrap_or(i64::MAX), PERIODS)?;
                Ok(Some(Self::Period(scope, value)))
            }
            TypedValue::Llong(value) => {
                range(value, QUOTAS)?;
                Ok(Some(Self::Quota(scope, value)))
            }
            _ => Ok(None),
        }
    }

    fn note(self, definition: &mut Definition) {
        let tune = definition.cputune.get_or_insert_with(CpuTune::default);
        // 0 is no setting.
        let period = |value: u64| Some(value).filter(|value| *value > 0);
        let quota = |value: i64| Some(value).filter(|value| *value != 0);
        match self {
            Self::Shares(value) => tune.shares = Some(value),
            Self::Period(Scope::Vcpus, value) => tune.period = period(value),
            Self::Period(Scope::Emulator, value) => tune.emulator_period = period(value),
            Self::Period(Scope::IoThreads, value) => tune.iothread_period = period(value),
            Self::Period(Scope::Whole, value) => tune.global_period = period(value),
            Self::Quota(Scope::Vcpus, value) => tune.quota = quota(value),
            Self::Quota(Scope::Emulator, value) => tune.emulator_quota = quota(value),
            Self::Quota(Scope::IoThreads, value) => tune.iothread_quota = quota(value),
            Self::Quota(Scope::Whole, value) => tune.global_quota = quota(value),
        }
    }

    /// Whether a running guest is to be changed: 0 leaves it as it is.
    fn changes(self) -> bool {
        !matches!(self, Self::Period(_, 0) | Self::Quota(_, 0))
    }

    fn apply(self, confined: &Confined, vcpus: &[u32], io_threads: &[u32]) -> confinement::Result<()> {
        let Some(cgroup) = confined.cgroup() else { return Ok(()) };
        let (scope, period, quota) = match self {
            Self::Shares(value) => return cgroup.whole().set_cpu_shares(cgroup.systemd(), value),
            Self::Period(scope, value) => (scope, value, 0),
            Self::Quota(scope, value) => (scope, 0, value),
        };
        let threads: Vec<Thread> = match scope {
            Scope::Whole => return cgroup.whole().set_cpu_bandwidth(period, quota),
            Scope::Emulator => vec![Thread::Emulator],
            Scope::Vcpus => vcpus.iter().map(|id| Thread::Vcpu(*id)).collect(),
            Scope::IoThreads => io_threads.iter().map(|id| Thread::IoThread(*id)).collect(),
        };
        threads.into_iter().try_for_each(|thread| cgroup.thread(thread)?.set_cpu_bandwidth(period, quota))
    }
}

impl QemuDriver {
    /// The running guest's confinement, if the controller is there.
    pub(super) fn controlled(
        &self,
        guest: &crate::guest::Guest,
        controller: Controllers,
        missing: &str,
    ) -> Result<Arc<Confined>> {
        let confined = guest.lock().live.as_ref().and_then(|live| live.confined.clone());
        let has = confined.filter(|confined| confined.controllers().has(controller));
        has.ok_or_else(|| invalid(missing))
    }

    pub(super) fn set_scheduler(
        &self,
        dom: &Domain,
        given: &[TypedParam],
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetSchedulerParametersFlags")?;
        params::check(given, SCHEDULER)?;
        let guest = self.guest(dom)?;
        if !self.core.paths.privileged {
            return Err(unsupported("CPU tuning is not available in session mode"));
        }
        let _job = guest.jobs.begin(api)?;
        let (live, config) = self.both(&guest, flags)?;
        let confined = live
            .as_ref()
            .map(|_| self.controlled(&guest, Controllers::CPU, "cgroup CPU controller is not mounted"))
            .transpose()?;
        let settings =
            given.iter().filter_map(|param| Setting::read(param).transpose()).collect::<Result<Vec<_>>>()?;
        if let (Some(confined), Some(definition)) = (confined, live) {
            let vcpus = guest.lock().live.as_ref().map(|live| live.vcpus.clone()).unwrap_or_default();
            let vcpus: Vec<u32> = vcpus.into_iter().map(|(id, _)| id).collect();
            let threads = super::pinning::io_thread_ids(&definition);
            let changed: Vec<Setting> = settings.iter().copied().filter(|it| it.changes()).collect();
            for setting in &changed {
                setting.apply(&confined, &vcpus, &threads).map_err(|error| launch_error(&error))?;
            }
            self.change(&guest, LIVE, &mut |it| changed.iter().for_each(|setting| setting.note(it)))?;
            let told = given
                .iter()
                .filter(|param| !matches!(param.value, TypedValue::Ullong(0) | TypedValue::Llong(0)));
            let told = told.map(|param| TypedParam {
                field: format!("cputune.{}", param.field),
                value: param.value.clone(),
            });
            self.tunable(&guest, told.collect());
        }
        if config.is_some() {
            self.change(&guest, CONFIG, &mut |it| settings.iter().for_each(|setting| setting.note(it)))?;
        }
        Ok(())
    }

    pub(super) fn set_memory_limits(&self, dom: &Domain, given: &[TypedParam], flags: u32) -> Result<()> {
        const NAMES: &[(&str, &str)] =
            &[("hard_limit", "ullong"), ("soft_limit", "ullong"), ("swap_hard_limit", "ullong")];
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetMemoryParameters")?;
        params::check(given, NAMES)?;
        let guest = self.guest(dom)?;
        if !self.core.paths.privileged {
            let detail = "Memory tuning is not available in session mode";
            return Err(error(Code::OperationUnsupported, detail));
        }
        let _job = guest.jobs.begin("virDomainSetMemoryParameters")?;
        let (live, _) = self.both(&guest, flags)?;
        let missing = "cgroup memory controller is not mounted";
        let confined =
            live.as_ref().map(|_| self.controlled(&guest, Controllers::MEMORY, missing)).transpose()?;
        let value = |name: &str| {
            let found = given.iter().find(|param| param.field == name).map(|param| &param.value);
            match found {
                Some(TypedValue::Ullong(value)) => Some(*value),
                _ => None,
            }
        };
        let (hard, soft, swap) = (value("hard_limit"), value("soft_limit"), value("swap_hard_limit"));
        let now = guest.lock().current().and_then(|it| it.memtune.clone()).unwrap_or_default();
        let limit = |value: Option<Kib>| value.map_or(MEMORY_UNLIMITED, |value| value.0);
        let old_hard = limit(now.hard_limit);
        if (hard.is_some() || swap.is_some())
            && hard.unwrap_or(old_hard) > swap.unwrap_or(limit(now.swap_hard_limit))
        {
            let detail = "memory hard_limit tunable value must be lower than or equal to swap_hard_limit";
            return Err(error(Code::InvalidArg, detail));
        }
        if let Some(cgroup) = confined.as_ref().and_then(|confined| confined.cgroup()) {
            let whole = cgroup.whole();
            let set = || -> confinement::Result<()> {
                soft.map_or(Ok(()), |kib| whole.set_memory_soft_limit(kib))?;
                // The lower one may never be above the other.
                let first = hard.filter(|hard| *hard < old_hard);
                first.map_or(Ok(()), |kib| whole.set_memory_hard_limit(kib))?;
                swap.map_or(Ok(()), |kib| whole.set_swap_hard_limit(kib))?;
                hard.filter(|_| first.is_none()).map_or(Ok(()), |kib| whole.set_memory_hard_limit(kib))
            };
            set().map_err(|error| launch_error(&error))?;
        }
        self.change(&guest, flags, &mut |it| {
            let tune = it.memtune.get_or_insert_with(MemTune::default);
            let set = |field: &mut Option<Kib>, value: Option<u64>| {
                if let Some(value) = value {
                    *field = Some(Kib(value)).filter(|_| value < MEMORY_UNLIMITED);
                }
            };
            set(&mut tune.hard_limit, hard);
            set(&mut tune.soft_limit, soft);
            set(&mut tune.swap_hard_limit, swap);
            if *tune == MemTune::default() {
                it.memtune = None;
            }
        })
    }

    pub(super) fn block_limits(
        &self,
        args: &DomainGetBlkioParametersArgs,
    ) -> Result<DomainGetBlkioParametersRet> {
        const TYPED_STRING: u32 = 4;
        const COUNT: i32 = 6;
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetBlkioParameters")?;
        let guest = self.guest(&args.dom)?;
        if !self.core.paths.privileged {
            return Err(unsupported("Block I/O tuning is not available in session mode"));
        }
        if args.nparams == 0 {
            return Ok(DomainGetBlkioParametersRet { params: Vec::new(), nparams: COUNT });
        }
        let (definition, live) = self.meant(&guest, args.flags)?;
        let tune = definition.blkiotune.clone().unwrap_or_default();
        let mut weight = tune.weight.unwrap_or(0);
        if live {
            let confined = self.controlled(&guest, Controllers::BLKIO, "blkio cgroup isn't mounted")?;
            if let Some(cgroup) = confined.cgroup() {
                weight = cgroup.whole().block_weight().map_err(|error| launch_error(&error))?;
            }
        }
        let list = |of: &dyn Fn(&BlkioDevice) -> Option<u64>| {
            let one = |device: &BlkioDevice| {
                let value = of(device).filter(|value| *value > 0)?;
                Some(format!("{},{value}", device.path.as_deref().unwrap_or_default()))
            };
            tune.device.iter().filter_map(one).collect::<Vec<_>>().join(",")
        };
        let mut params = vec![
            TypedParam::new("weight", weight),
            TypedParam::new("device_weight", list(&|it| it.weight.map(u64::from))),
            TypedParam::new("device_read_iops_sec", list(&|it| it.read_iops_sec.map(u64::from))),
            TypedParam::new("device_write_iops_sec", list(&|it| it.write_iops_sec.map(u64::from))),
            TypedParam::new("device_read_bytes_sec", list(&|it| it.read_bytes_sec)),
            TypedParam::new("device_write_bytes_sec", list(&|it| it.write_bytes_sec)),
        ];
        params.truncate(usize::try_from(args.nparams).unwrap_or(0));
        let nparams = params.len() as i32;
        Ok(DomainGetBlkioParametersRet { params, nparams })
    }

    pub(super) fn cpu_stats(&self, args: &DomainGetCpuStatsArgs) -> Result<DomainGetCpuStatsRet> {
        const TYPED_STRING: u32 = 4;
        check_flags(args.flags, TYPED_STRING, "qemuDomainGetCPUStats")?;
        let guest = self.guest(&args.dom)?;
        if !guest.lock().is_active() {
            return Err(not_running());
        }
        let missing = "cgroup CPUACCT controller is not mounted";
        let confined = self.controlled(&guest, Controllers::CPUACCT, missing)?;
        let count = |nparams: usize| {
            Ok(DomainGetCpuStatsRet { params: Vec::new(), nparams: i32::try_from(nparams).unwrap_or(0) })
        };
        if args.start_cpu == -1 {
            const NAMES: [&str; 3] = ["cpu_time", "user_time", "system_time"];
            if args.nparams == 0 {
                return count(NAMES.len());
            }
            let cgroup = confined.cgroup().ok_or_else(|| invalid(missing))?;
            let used = cgroup.whole().cpu_use().map_err(|error| launch_error(&error))?;
            let all = NAMES.iter().zip(used).map(|(name, value)| TypedParam::new(*name, value));
            let params: Vec<_> = all.take(args.nparams as usize).collect();
            let nparams = params.len() as i32;
            return Ok(DomainGetCpuStatsRet { params, nparams });
        }
        if args.nparams == 0 && args.ncpus != 0 {
            // The time of a processor, and vCPUs' part of it.
            return count(2);
        }
        let total = host::online(Path::new("/")).last().map_or(0, |last| last + 1);
        if args.ncpus == 0 {
            return count(total);
        }
        if usize::try_from(args.start_cpu).is_ok_and(|start| start >= total) {
            let (start, last) = (args.start_cpu, total.saturating_sub(1));
            let detail = format!("start_cpu {start} larger than maximum of {last}");
            return Err(error(Code::InvalidArg, detail));
        }
        // The kernel counts a group's time on all processors together.
        let detail = "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'";
        Err(error(Code::OperationUnsupported, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let read = |field: &str, value: TypedValue| Setting::read(&TypedParam::new(field, value));
        let setting = read("emulator_quota", TypedValue::Llong(-1)).expect("in range");
        assert_eq!(setting, Some(Setting::Quota(Scope::Emulator, -1)));
        let refused = read("vcpu_period", TypedValue::Ullong(5)).expect_err("too short").to_string();
        assert_eq!(refused, "invalid argument: value of 'vcpu_period' is out of range [1000, 1000000]");
        assert!(!Setting::Period(Scope::Whole, 0).changes() && Setting::Shares(0).changes());
        let text =
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os></domain>";
        let mut definition = domain_xml::parse(text).expect("xml");
        Setting::Period(Scope::IoThreads, 5000).note(&mut definition);
        assert_eq!(definition.cputune.and_then(|tune| tune.iothread_period), Some(5000));
    }
}
