//! State and statistics.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, not_running};
use crate::process::times;
use rpc::ClientContext;
use rpc::protocol::stats::*;

impl DomainStats for QemuDriver {
    fn domain_get_info(&self, _: &ClientContext, args: DomainGetInfoArgs) -> Result<DomainGetInfoRet> {
        let guest = self.guest(&args.dom)?;
        let inner = guest.lock();
        let definition = inner.current();
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
}
