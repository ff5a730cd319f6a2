//! State and statistics.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, not_running};
use crate::process::times;
use crate::query::{self, AllBlockStats, BlockStats};
use rpc::protocol::stats::*;
use rpc::{ClientContext, Code, TypedParam};

impl DomainStats for QemuDriver {
    fn domain_get_info(&self, _: &ClientContext, args: DomainGetInfoArgs) -> Result<DomainGetInfoRet> {
        let guest = self.guest(&args.dom)?;
        let inner = guest.lock();
        let definition = inner.current();
        let definition = definition.as_deref();
        let max_mem = definition.map_or(0, |definition| definition.memory_kib());
        let current = definition.and_then(|definition| definition.current_memory).map_or(max_mem, |it| it.0);
        let vcpus = definition.and_then(|definition| definition.vcpu.as_ref());
        Ok(DomainGetInfoRet {
            state: inner.state.numbers().0 as u32,
            max_mem,
            memory: current,
            nr_virt_cpu: vcpus.map_or(1, |vcpu| vcpu.current.unwrap_or(vcpu.count)),
            cpu_time: inner.live.as_ref().and_then(|live| times(live.pid)).map_or(0, |times| times.total()),
        })
    }

    fn domain_get_state(&self, _: &ClientContext, args: DomainGetStateArgs) -> Result<DomainGetStateRet> {
        check_flags(args.flags, 0, "qemuDomainGetState")?;
        let (state, reason) = self.guest(&args.dom)?.lock().state.numbers();
        Ok(DomainGetStateRet { state, reason })
    }

    fn domain_get_control_info(
        &self,
        _: &ClientContext,
        args: DomainGetControlInfoArgs,
    ) -> Result<DomainGetControlInfoRet> {
        const OK: u32 = 0;
        const JOB: u32 = 1;
        const ERROR: u32 = 3;
        const ERROR_MONITOR: u32 = 2;
        check_flags(args.flags, 0, "qemuDomainGetControlInfo")?;
        let guest = self.guest(&args.dom)?;
        let connected = guest.lock().live.as_ref().map(|live| live.monitor.is_some());
        let held = guest.jobs.held_for();
        let (state, details) = match connected.ok_or_else(not_running)? {
            false => (ERROR, ERROR_MONITOR),
            true if held.is_some() => (JOB, 0),
            true => (OK, 0),
        };
        let state_time = held.map_or(0, |held| held.as_millis() as u64);
        Ok(DomainGetControlInfoRet { state, details, state_time })
    }

    fn domain_get_security_label(
        &self,
        _: &ClientContext,
        args: DomainGetSecurityLabelArgs,
    ) -> Result<DomainGetSecurityLabelRet> {
        self.guest(&args.dom)?;
        // The first security model is none, which has no labels.
        Ok(DomainGetSecurityLabelRet { label: vec![0], enforcing: 0 })
    }

    fn domain_get_messages(
        &self,
        _: &ClientContext,
        args: DomainGetMessagesArgs,
    ) -> Result<DomainGetMessagesRet> {
        const DEPRECATION: u32 = 1;
        const TAINTING: u32 = 2;
        check_flags(args.flags, DEPRECATION | TAINTING, "qemuDomainGetMessages")?;
        let guest = self.guest(&args.dom)?;
        let inner = guest.lock();
        let taints = inner.live.iter().flat_map(|live| &live.taints);
        let wanted = args.flags == 0 || args.flags & TAINTING != 0;
        let msgs = taints.filter(|_| wanted).map(|taint| format!("tainted: {}", taint.text())).collect();
        Ok(DomainGetMessagesRet { msgs })
    }

    fn domain_block_stats(
        &self,
        _: &ClientContext,
        args: DomainBlockStatsArgs,
    ) -> Result<DomainBlockStatsRet> {
        let stats = self.block_stats(&args.dom, &args.path)?;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(DomainBlockStatsRet {
            rd_req: signed(stats.read[0]),
            rd_bytes: signed(stats.read[1]),
            wr_req: signed(stats.write[0]),
            wr_bytes: signed(stats.write[1]),
            errs: -1,
        })
    }

    fn domain_block_stats_flags(
        &self,
        _: &ClientContext,
        args: DomainBlockStatsFlagsArgs,
    ) -> Result<DomainBlockStatsFlagsRet> {
        const TYPED_STRING: u32 = 4;
        check_flags(args.flags, TYPED_STRING, "qemuDomainBlockStatsFlags")?;
        let stats = self.block_stats(&args.dom, &args.path)?;
        let all = [
            ("wr_bytes", stats.write[1]),
            ("wr_operations", stats.write[0]),
            ("rd_bytes", stats.read[1]),
            ("rd_operations", stats.read[0]),
            ("flush_operations", stats.flush[0]),
            ("wr_total_times", stats.write[2]),
            ("rd_total_times", stats.read[2]),
            ("flush_total_times", stats.flush[1]),
        ];
        let nparams = all.len() as i32;
        let room = usize::try_from(args.nparams).unwrap_or(0);
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let params =
            all.iter().take(room).map(|(name, value)| TypedParam::new(*name, signed(*value))).collect();
        Ok(DomainBlockStatsFlagsRet { params, nparams })
    }

    fn domain_interface_stats(
        &self,
        _: &ClientContext,
        args: DomainInterfaceStatsArgs,
    ) -> Result<DomainInterfaceStatsRet> {
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let its = |interface: &&domain_xml::interface::Interface| {
            let target = interface.target.as_ref().and_then(|target| target.dev.as_deref());
            let mac = interface.mac.as_ref().map(|mac| mac.address.to_string());
            target == Some(args.device.as_str())
                || mac.is_some_and(|mac| mac.eq_ignore_ascii_case(&args.device))
        };
        let invalid = || {
            rpc::Error::new(
                rpc::Origin::Domain,
                Code::InvalidArg,
                format!("'{}' is not a known interface", args.device),
            )
        };
        let interface = definition.devices.interface.iter().find(its).ok_or_else(invalid)?;
        interface.target.as_ref().and_then(|target| target.dev.as_ref()).ok_or_else(invalid)?;
        let stats = super::devices::interface_stats(interface)
            .ok_or_else(|| internal("/proc/net/dev: Interface not found"))?;
        let [rx_bytes, rx_packets, rx_errs, rx_drop, tx_bytes, tx_packets, tx_errs, tx_drop] =
            stats.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        Ok(DomainInterfaceStatsRet {
            rx_bytes,
            rx_packets,
            rx_errs,
            rx_drop,
            tx_bytes,
            tx_packets,
            tx_errs,
            tx_drop,
        })
    }

    fn domain_memory_stats(
        &self,
        _: &ClientContext,
        args: DomainMemoryStatsArgs,
    ) -> Result<DomainMemoryStatsRet> {
        const ACTUAL: i32 = 6;
        const RSS: i32 = 7;
        const LAST_UPDATE: i32 = 9;
        if args.max_stats == 0 {
            return Ok(DomainMemoryStatsRet { stats: Vec::new() });
        }
        check_flags(args.flags, 0, "qemuDomainMemoryStats")?;
        let guest = self.guest(&args.dom)?;
        let pid = guest.lock().live.as_ref().map(|live| live.pid).ok_or_else(not_running)?;
        let (actual, memory) = query::memory(&guest)?;
        let mut stats: Vec<_> = actual.map(|actual| (ACTUAL, actual)).into_iter().collect();
        stats.extend(memory.stats);
        stats.extend(memory.updated.map(|updated| (LAST_UPDATE, updated)));
        stats.extend(query::resident(pid).map(|rss| (RSS, rss)));
        stats.truncate(args.max_stats as usize);
        let stats = stats.into_iter().map(|(tag, val)| DomainMemoryStat { tag, val }).collect();
        Ok(DomainMemoryStatsRet { stats })
    }

    fn domain_get_job_info(
        &self,
        _: &ClientContext,
        args: DomainGetJobInfoArgs,
    ) -> Result<DomainGetJobInfoRet> {
        self.job_info(&args.dom)
    }

    fn domain_get_job_stats(
        &self,
        _: &ClientContext,
        args: DomainGetJobStatsArgs,
    ) -> Result<DomainGetJobStatsRet> {
        self.job_stats(&args.dom, args.flags)
    }

    fn domain_get_cpu_stats(
        &self,
        _: &ClientContext,
        args: DomainGetCpuStatsArgs,
    ) -> Result<DomainGetCpuStatsRet> {
        self.cpu_stats(&args)
    }

    fn domain_abort_job(&self, _: &ClientContext, args: DomainAbortJobArgs) -> Result<()> {
        self.abort_job(&args.dom, 0)
    }

    fn domain_abort_job_flags(&self, _: &ClientContext, args: DomainAbortJobFlagsArgs) -> Result<()> {
        self.abort_job(&args.dom, args.flags)
    }

    fn domain_get_launch_security_info(
        &self,
        _: &ClientContext,
        args: DomainGetLaunchSecurityInfoArgs,
    ) -> Result<DomainGetLaunchSecurityInfoRet> {
        self.launch_security_info(&args)
    }

    fn domain_set_launch_security_state(
        &self,
        _: &ClientContext,
        args: DomainSetLaunchSecurityStateArgs,
    ) -> Result<()> {
        self.set_launch_security_state(&args)
    }

    fn domain_start_dirty_rate_calc(
        &self,
        _: &ClientContext,
        args: DomainStartDirtyRateCalcArgs,
    ) -> Result<()> {
        self.start_dirty_rate(&args)
    }

    fn connect_get_all_domain_stats(
        &self,
        _: &ClientContext,
        args: ConnectGetAllDomainStatsArgs,
    ) -> Result<ConnectGetAllDomainStatsRet> {
        Ok(ConnectGetAllDomainStatsRet { ret_stats: self.domain_stats(args)? })
    }

    fn domain_get_security_label_list(
        &self,
        _: &ClientContext,
        args: DomainGetSecurityLabelListArgs,
    ) -> Result<DomainGetSecurityLabelListRet> {
        let guest = self.guest(&args.dom)?;
        let none = DomainGetSecurityLabelRet { label: vec![0], enforcing: 0 };
        let mut labels = vec![none];
        if self.core.paths.privileged && guest.lock().is_active() {
            let (user, group) = self.core.config.owner.unwrap_or((0, 0));
            let label = format!("+{user}:+{group}\0").into_bytes();
            labels.push(DomainGetSecurityLabelRet { label, enforcing: 0 });
        }
        let ret = labels.len() as i32;
        Ok(DomainGetSecurityLabelListRet { labels, ret })
    }
}

impl QemuDriver {
    /// What a disk has done, or all of them if `path` is empty.
    fn block_stats(&self, dom: &rpc::Domain, path: &str) -> Result<BlockStats> {
        let guest = self.guest(dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        if path.is_empty() {
            let all = AllBlockStats::ask(&guest)?;
            let mut sum = BlockStats::default();
            for stats in definition.devices.disk.iter().filter_map(|disk| all.of(disk)) {
                (0..3).for_each(|at| sum.read[at] += stats.read[at]);
                (0..3).for_each(|at| sum.write[at] += stats.write[at]);
                (0..2).for_each(|at| sum.flush[at] += stats.flush[at]);
            }
            return Ok(sum);
        }
        let disk = query::find_disk(&definition, path)
            .ok_or_else(|| error(Code::InvalidArg, format!("invalid path: {path}")))?;
        let found = AllBlockStats::ask(&guest)?.of(disk);
        found.ok_or_else(|| internal(format!("cannot find statistics for device '{}'", disk.dev())))
    }
}
