//! vCPUs, memory, scheduling.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, invalid, not_running};
use crate::guest::Guest;
use crate::process::counters::{self, EVENTS};
use crate::process::launch_error;
use crate::query;
use domain_xml::Domain as Definition;
use domain_xml::tune::NumaMode;
use domain_xml::units::Kib;
use json::dict;
use rpc::protocol::tuning::*;
use rpc::{ClientContext, Code, TypedParam, TypedValue};
use std::path::Path;
use std::sync::Arc;

/// `VIR_DOMAIN_AFFECT_...`, and what goes with it.
const LIVE: u32 = 1;
const CONFIG: u32 = 2;
const MAXIMUM: u32 = 4;
/// The guest's agent is asked.
pub(super) const GUEST: u32 = 8;
/// The client understands parameters that are texts.
const TYPED_STRING: u32 = 4;

/// No limit, in KiB as libvirt counts.
const UNLIMITED: u64 = 9_007_199_254_740_991;

/// The numbers of a set such as `0-3,^2`.
fn numbers(text: &str) -> Vec<usize> {
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let (part, take) = match part.strip_prefix('^') {
            Some(rest) => (rest, false),
            None => (part, true),
        };
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else { continue };
        for number in (first..=last).take(1 << 14) {
            if take {
                set.insert(number);
            } else {
                set.remove(&number);
            }
        }
    }
    set.into_iter().collect()
}

/// The map of `length` bytes with these processors.
fn map_of(cpus: &[usize], length: usize) -> Vec<u8> {
    let mut map = vec![0; length];
    for cpu in cpus {
        if let Some(byte) = map.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    map
}

/// The processors in a map.
pub(super) fn numbers_of_map(map: &[u8]) -> Vec<usize> {
    (0..map.len() * 8).filter(|cpu| map[cpu / 8] & (1 << (cpu % 8)) != 0).collect()
}

/// The processors of the host that are online.
fn online() -> Vec<usize> {
    host::online(Path::new("/"))
}

/// Where one vCPU may run.
fn vcpu_set(definition: &Definition, vcpu: u32) -> Vec<usize> {
    let tune = definition.cputune.as_ref();
    let pin = tune.and_then(|tune| tune.vcpupin.iter().find(|pin| pin.vcpu == vcpu));
    let text = pin.map(|pin| pin.cpuset.as_str()).or_else(|| definition.vcpu.as_ref()?.cpuset.as_deref());
    text.map_or_else(online, numbers)
}

pub(super) fn counts(definition: &Definition) -> (u32, u32) {
    let vcpu = definition.vcpu.as_ref();
    let maximum = vcpu.map_or(1, |vcpu| vcpu.count);
    (vcpu.and_then(|vcpu| vcpu.current).unwrap_or(maximum), maximum)
}

impl QemuDriver {
    /// The definition that a call with these flags is about.
    pub(super) fn meant(&self, guest: &Guest, flags: u32) -> Result<(Arc<Definition>, bool)> {
        let inner = guest.lock();
        let (live, _) = self.targets(&inner, flags)?;
        let found = if live { inner.current() } else { inner.inactive() };
        let found = found.ok_or_else(|| crate::error::internal("no definition"))?;
        Ok((found, live))
    }

    fn set_memory(&self, dom: &rpc::Domain, kib: u64, flags: u32, api: &'static str) -> Result<()> {
        check_flags(flags, LIVE | CONFIG | MAXIMUM, "qemuDomainSetMemoryFlags")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let (live, config) = {
            let inner = guest.lock();
            self.targets(&inner, flags)?
        };
        if flags & MAXIMUM != 0 {
            if live {
                return Err(invalid("cannot resize the maximum memory on an active domain"));
            }
            return self.change(&guest, CONFIG, &mut |it| {
                it.memory.size = Kib(kib);
                if it.current_memory.is_some_and(|current| current.0 > kib) {
                    it.current_memory = Some(Kib(kib));
                }
            });
        }
        let (definition, _) = self.meant(&guest, flags)?;
        if kib > definition.memory_kib() {
            return Err(error(Code::InvalidArg, "cannot set memory higher than max memory"));
        }
        if live {
            if crate::definition::balloon_target(&definition).is_none() {
                let detail = "Unable to change memory of active domain without the balloon device and guest OS balloon driver";
                return Err(error(Code::OperationInvalid, detail));
            }
            // What the guest gives comes as an event.
            guest.execute("balloon", dict! { "value" => kib * 1024 })?;
        }
        if config {
            self.change(&guest, CONFIG, &mut |it| it.current_memory = Some(Kib(kib)))?;
        }
        Ok(())
    }
}

impl DomainTuning for QemuDriver {
    fn domain_get_max_memory(
        &self,
        _: &ClientContext,
        args: DomainGetMaxMemoryArgs,
    ) -> Result<DomainGetMaxMemoryRet> {
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, 0)?;
        Ok(DomainGetMaxMemoryRet { memory: definition.memory_kib() })
    }

    fn domain_get_max_vcpus(
        &self,
        _: &ClientContext,
        args: DomainGetMaxVcpusArgs,
    ) -> Result<DomainGetMaxVcpusRet> {
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, LIVE)?;
        Ok(DomainGetMaxVcpusRet { num: counts(&definition).1 as i32 })
    }

    fn domain_get_vcpus_flags(
        &self,
        _: &ClientContext,
        args: DomainGetVcpusFlagsArgs,
    ) -> Result<DomainGetVcpusFlagsRet> {
        check_flags(args.flags, LIVE | CONFIG | MAXIMUM | GUEST, "qemuDomainGetVcpusFlags")?;
        let guest = self.guest(&args.dom)?;
        let (definition, _) = self.meant(&guest, args.flags)?;
        if args.flags & GUEST != 0 {
            let num = self.count_guest_vcpus(&guest, args.flags & MAXIMUM != 0)?;
            return Ok(DomainGetVcpusFlagsRet { num: i32::try_from(num).unwrap_or(i32::MAX) });
        }
        let (current, maximum) = counts(&definition);
        Ok(DomainGetVcpusFlagsRet { num: if args.flags & MAXIMUM != 0 { maximum } else { current } as i32 })
    }

    fn domain_get_vcpus(&self, _: &ClientContext, args: DomainGetVcpusArgs) -> Result<DomainGetVcpusRet> {
        let guest = self.guest(&args.dom)?;
        let (definition, pid, threads) = {
            let inner = guest.lock();
            let live = inner
                .live
                .as_ref()
                .ok_or_else(|| invalid("cannot retrieve vcpu information for inactive domain"))?;
            (live.definition.clone(), live.pid, live.vcpus.clone())
        };
        let most = usize::try_from(args.maxinfo).unwrap_or(0);
        let length = usize::try_from(args.maplen).unwrap_or(0);
        let (mut info, mut cpumaps) = (Vec::new(), Vec::new());
        for (id, tid) in threads.into_iter().take(most) {
            let thread = query::thread(pid, tid).unwrap_or_default();
            const RUNNING: i32 = 1;
            info.push(VcpuInfo { number: id, state: RUNNING, cpu_time: thread.time, cpu: thread.cpu });
            cpumaps.extend(map_of(&vcpu_set(&definition, id), length));
        }
        Ok(DomainGetVcpusRet { info, cpumaps })
    }

    fn domain_get_vcpu_pin_info(
        &self,
        _: &ClientContext,
        args: DomainGetVcpuPinInfoArgs,
    ) -> Result<DomainGetVcpuPinInfoRet> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetVcpuPinInfo")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let count = counts(&definition).1.min(u32::try_from(args.ncpumaps).unwrap_or(0));
        let length = usize::try_from(args.maplen).unwrap_or(0);
        let maps = (0..count).flat_map(|vcpu| map_of(&vcpu_set(&definition, vcpu), length));
        Ok(DomainGetVcpuPinInfoRet { cpumaps: maps.collect(), num: count as i32 })
    }

    fn domain_get_emulator_pin_info(
        &self,
        _: &ClientContext,
        args: DomainGetEmulatorPinInfoArgs,
    ) -> Result<DomainGetEmulatorPinInfoRet> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetEmulatorPinInfo")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let pin = definition.cputune.as_ref().and_then(|tune| tune.emulatorpin.as_ref());
        let text = pin.map(|pin| pin.cpuset.as_str()).or_else(|| definition.vcpu.as_ref()?.cpuset.as_deref());
        let length = usize::try_from(args.maplen).unwrap_or(0);
        Ok(DomainGetEmulatorPinInfoRet {
            cpumaps: map_of(&text.map_or_else(online, numbers), length),
            ret: 1,
        })
    }

    fn domain_set_memory(&self, _: &ClientContext, args: DomainSetMemoryArgs) -> Result<()> {
        self.set_memory(&args.dom, args.memory, LIVE, "virDomainSetMemory")
    }

    fn domain_set_max_memory(&self, _: &ClientContext, args: DomainSetMaxMemoryArgs) -> Result<()> {
        self.set_memory(&args.dom, args.memory, MAXIMUM, "virDomainSetMaxMemory")
    }

    fn domain_set_memory_flags(&self, _: &ClientContext, args: DomainSetMemoryFlagsArgs) -> Result<()> {
        self.set_memory(&args.dom, args.memory, args.flags, "virDomainSetMemoryFlags")
    }

    fn domain_set_vcpus(&self, _: &ClientContext, args: DomainSetVcpusArgs) -> Result<()> {
        self.set_vcpus(&args.dom, args.nvcpus, LIVE, "virDomainSetVcpus")
    }

    fn domain_set_vcpus_flags(&self, _: &ClientContext, args: DomainSetVcpusFlagsArgs) -> Result<()> {
        self.set_vcpus(&args.dom, args.nvcpus, args.flags, "virDomainSetVcpusFlags")
    }

    fn domain_set_vcpu(&self, _: &ClientContext, args: DomainSetVcpuArgs) -> Result<()> {
        self.set_vcpu(&args)
    }

    fn domain_set_numa_parameters(&self, _: &ClientContext, args: DomainSetNumaParametersArgs) -> Result<()> {
        self.set_memory_nodes(&args)
    }

    fn domain_set_memory_stats_period(
        &self,
        _: &ClientContext,
        args: DomainSetMemoryStatsPeriodArgs,
    ) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetMemoryStatsPeriod")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetMemoryStatsPeriod")?;
        let (definition, live) = self.meant(&guest, args.flags)?;
        if crate::definition::balloon_target(&definition).is_none() {
            let detail = "No memory balloon device configured, can not set the collection period";
            return Err(internal(detail));
        }
        if live {
            let value = i64::from(args.period);
            let arguments = dict! { "path" => query::BALLOON, "property" => "guest-stats-polling-interval", "value" => value };
            guest.execute("qom-set", arguments)?;
        }
        let period = Some(args.period).filter(|period| *period > 0);
        self.change(&guest, args.flags, &mut |it| {
            if let Some(balloon) = &mut it.devices.memballoon {
                balloon.stats = period.map(|period| domain_xml::misc::BalloonStats { period });
            }
        })
    }

    fn domain_get_scheduler_type(
        &self,
        _: &ClientContext,
        args: DomainGetSchedulerTypeArgs,
    ) -> Result<DomainGetSchedulerTypeRet> {
        self.guest(&args.dom)?;
        Ok(DomainGetSchedulerTypeRet { kind: "posix".to_owned(), nparams: 9 })
    }

    fn domain_get_scheduler_parameters(
        &self,
        _: &ClientContext,
        args: DomainGetSchedulerParametersArgs,
    ) -> Result<DomainGetSchedulerParametersRet> {
        let params = self.scheduler(&args.dom, 0)?;
        Ok(DomainGetSchedulerParametersRet { params: cut(params, args.nparams) })
    }

    fn domain_get_scheduler_parameters_flags(
        &self,
        _: &ClientContext,
        args: DomainGetSchedulerParametersFlagsArgs,
    ) -> Result<DomainGetSchedulerParametersFlagsRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetSchedulerParametersFlags")?;
        let params = self.scheduler(&args.dom, args.flags)?;
        Ok(DomainGetSchedulerParametersFlagsRet { params: cut(params, args.nparams) })
    }

    fn domain_get_memory_parameters(
        &self,
        _: &ClientContext,
        args: DomainGetMemoryParametersArgs,
    ) -> Result<DomainGetMemoryParametersRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetMemoryParameters")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let tune = definition.memtune.clone().unwrap_or_default();
        let limit = |value: Option<Kib>| value.map_or(UNLIMITED, |value| value.0);
        let all = vec![
            TypedParam::new("hard_limit", limit(tune.hard_limit)),
            TypedParam::new("soft_limit", limit(tune.soft_limit)),
            TypedParam::new("swap_hard_limit", limit(tune.swap_hard_limit)),
        ];
        let nparams = all.len() as i32;
        Ok(DomainGetMemoryParametersRet { params: cut(all, args.nparams), nparams })
    }

    fn domain_get_numa_parameters(
        &self,
        _: &ClientContext,
        args: DomainGetNumaParametersArgs,
    ) -> Result<DomainGetNumaParametersRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetNumaParameters")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let memory = definition.numatune.as_ref().and_then(|tune| tune.memory.as_ref());
        let nodes = memory.and_then(|memory| memory.nodeset.clone()).unwrap_or_default();
        let mode = match memory.and_then(|memory| memory.mode) {
            None | Some(NumaMode::Strict) => 0,
            Some(NumaMode::Preferred) => 1,
            Some(NumaMode::Interleave) => 2,
            Some(NumaMode::Restrictive) => 3,
        };
        let all = vec![TypedParam::new("numa_mode", mode), TypedParam::new("numa_nodeset", nodes)];
        Ok(DomainGetNumaParametersRet { params: cut(all, args.nparams), nparams: 2 })
    }

    fn domain_set_scheduler_parameters(
        &self,
        _: &ClientContext,
        args: DomainSetSchedulerParametersArgs,
    ) -> Result<()> {
        self.set_scheduler(&args.dom, &args.params, LIVE, "virDomainSetSchedulerParameters")
    }

    fn domain_set_scheduler_parameters_flags(
        &self,
        _: &ClientContext,
        args: DomainSetSchedulerParametersFlagsArgs,
    ) -> Result<()> {
        self.set_scheduler(&args.dom, &args.params, args.flags, "virDomainSetSchedulerParametersFlags")
    }

    fn domain_set_memory_parameters(
        &self,
        _: &ClientContext,
        args: DomainSetMemoryParametersArgs,
    ) -> Result<()> {
        self.set_memory_limits(&args.dom, &args.params, args.flags)
    }

    fn domain_pin_vcpu(&self, _: &ClientContext, args: DomainPinVcpuArgs) -> Result<()> {
        self.pin_vcpu(&args.dom, args.vcpu, &args.cpumap, LIVE, "virDomainPinVcpu")
    }

    fn domain_pin_vcpu_flags(&self, _: &ClientContext, args: DomainPinVcpuFlagsArgs) -> Result<()> {
        self.pin_vcpu(&args.dom, args.vcpu, &args.cpumap, args.flags, "virDomainPinVcpuFlags")
    }

    fn domain_pin_emulator(&self, _: &ClientContext, args: DomainPinEmulatorArgs) -> Result<()> {
        self.pin_emulator(&args.dom, &args.cpumap, args.flags)
    }

    fn domain_pin_iothread(&self, _: &ClientContext, args: DomainPinIothreadArgs) -> Result<()> {
        self.pin_io_thread(&args.dom, args.iothreads_id, &args.cpumap, args.flags)
    }

    fn domain_add_iothread(&self, _: &ClientContext, args: DomainAddIothreadArgs) -> Result<()> {
        self.add_io_thread(&args.dom, args.iothread_id, args.flags)
    }

    fn domain_del_iothread(&self, _: &ClientContext, args: DomainDelIothreadArgs) -> Result<()> {
        self.remove_io_thread(&args.dom, args.iothread_id, args.flags)
    }

    fn domain_set_iothread_params(&self, _: &ClientContext, args: DomainSetIothreadParamsArgs) -> Result<()> {
        self.set_io_thread(&args.dom, args.iothread_id, &args.params, args.flags)
    }

    fn domain_set_perf_events(&self, _: &ClientContext, args: DomainSetPerfEventsArgs) -> Result<()> {
        let known: Vec<(&str, &str)> = EVENTS.iter().map(|(name, _)| (*name, "boolean")).collect();
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetPerfEvents")?;
        super::params::check(&args.params, &known)?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetPerfEvents")?;
        let (live, config) = self.targets(&guest.lock(), args.flags)?;
        let wanted = args.params.iter().filter_map(|param| match param.value {
            TypedValue::Boolean(on) => Some((param.field.as_str(), on)),
            _ => None,
        });
        if live {
            let mut count = wanted.clone().map(|(name, on)| match &mut guest.lock().live {
                Some(live) => live.count(name, on),
                None => Err(not_running()),
            });
            // What was before a failure stays.
            let counted = count.try_for_each(|counted| counted);
            self.core.save_status(&guest);
            counted?;
        }
        if config {
            self.change(&guest, CONFIG, &mut |it| {
                wanted.clone().for_each(|(name, on)| counters::note(it, name, on));
            })?;
        }
        Ok(())
    }

    fn domain_get_perf_events(
        &self,
        _: &ClientContext,
        args: DomainGetPerfEventsArgs,
    ) -> Result<DomainGetPerfEventsRet> {
        check_flags(args.flags, LIVE | CONFIG | TYPED_STRING, "qemuDomainGetPerfEvents")?;
        let (definition, _) = self.meant(&*self.guest(&args.dom)?, args.flags)?;
        let param = |name: &str| TypedParam::new(name, counters::wants(&definition, name));
        let params = EVENTS.iter().map(|(name, _)| param(name)).collect();
        Ok(DomainGetPerfEventsRet { params })
    }

    fn domain_get_iothread_info(
        &self,
        _: &ClientContext,
        args: DomainGetIothreadInfoArgs,
    ) -> Result<DomainGetIothreadInfoRet> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainGetIOThreadInfo")?;
        let guest = self.guest(&args.dom)?;
        let (definition, live) = self.meant(&guest, args.flags)?;
        let all = online();
        let length = all.last().map_or(1, |last| last / 8 + 1);
        let told =
            |id: u32, cpus: &[usize]| DomainIothreadInfo { iothread_id: id, cpumap: map_of(cpus, length) };
        let info: Vec<_> = if live {
            // In the emulator's order; where its threads may run is the host's word.
            let threads = super::pinning::io_threads(&guest)?.into_iter();
            let one = |(id, thread)| Ok(told(id, &confinement::process::affinity(thread)?));
            threads.map(one).collect::<confinement::Result<_>>().map_err(|error| launch_error(&error))?
        } else {
            let tune = definition.cputune.as_ref();
            let pinned = |id: u32| tune?.iothreadpin.iter().find(|pin| pin.iothread == id);
            let one = |id| told(id, &pinned(id).map_or_else(|| all.clone(), |pin| numbers(&pin.cpuset)));
            super::pinning::io_thread_ids(&definition).into_iter().map(one).collect()
        };
        let ret = info.len() as u32;
        Ok(DomainGetIothreadInfoRet { info, ret })
    }
}

/// As many parameters as the client has room for.
fn cut(mut params: Vec<TypedParam>, room: i32) -> Vec<TypedParam> {
    params.truncate(usize::try_from(room).unwrap_or(0));
    params
}

impl QemuDriver {
    /// What the definition asks of the host's scheduler; the defaults of a control group for the rest of a running
    /// guest.
    fn scheduler(&self, dom: &rpc::Domain, flags: u32) -> Result<Vec<TypedParam>> {
        let guest = self.guest(dom)?;
        let (definition, live) = self.meant(&guest, flags & (LIVE | CONFIG))?;
        if flags & LIVE != 0 && !live {
            return Err(not_running());
        }
        let tune = definition.cputune.clone().unwrap_or_default();
        let (shares, period, quota) = if live { (1024, 100_000, -1) } else { (0, 0, 0) };
        Ok(vec![
            TypedParam::new("cpu_shares", tune.shares.unwrap_or(shares)),
            TypedParam::new("vcpu_period", tune.period.unwrap_or(period)),
            TypedParam::new("vcpu_quota", tune.quota.unwrap_or(quota)),
            TypedParam::new("emulator_period", tune.emulator_period.unwrap_or(period)),
            TypedParam::new("emulator_quota", tune.emulator_quota.unwrap_or(quota)),
            TypedParam::new("global_period", tune.global_period.unwrap_or(period)),
            TypedParam::new("global_quota", tune.global_quota.unwrap_or(quota)),
            TypedParam::new("iothread_period", tune.iothread_period.unwrap_or(period)),
            TypedParam::new("iothread_quota", tune.iothread_quota.unwrap_or(quota)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_maps() {
        assert_eq!(numbers("0-3,^2,9"), [0, 1, 3, 9]);
        assert_eq!(map_of(&[0, 3, 9], 2), [0b1001, 0b10]);
        assert_eq!(map_of(&[9], 1), [0]);
        assert_eq!(numbers_of_map(&[0b1001, 0b10]), [0, 3, 9]);
    }
}
