//! Processors that a guest's system uses or not, as its agent tells and does it.

use crate::agent::answers::{self, Vcpu};
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal};
use crate::guest::Guest;
use json::{Dict, dict};
use rpc::Code;
use rpc::protocol::guest::DomainSetGuestVcpusArgs;
use std::collections::BTreeSet;

/// The processors that change so that `count` are online, and what they become. The first one stays, if all others can
/// be taken out of use: systems do not sleep well without it.
fn changes(vcpus: &[Vcpu], count: usize) -> Result<Vec<Vcpu>> {
    if vcpus.iter().any(|vcpu| !vcpu.online && !vcpu.offlinable) {
        return Err(internal("Invalid data provided by guest agent"));
    }
    let mut vcpus = vcpus.to_vec();
    let online = vcpus.iter().filter(|vcpu| vcpu.online).count();
    let mut offlinable = vcpus.iter().filter(|vcpu| vcpu.online && vcpu.offlinable).count();
    if offlinable == online
        && let Some(first) = vcpus.iter_mut().find(|vcpu| vcpu.id == 0 && vcpu.online)
    {
        first.offlinable = false;
        offlinable -= 1;
    }
    if count > vcpus.len() {
        return Err(internal("guest agent reports less cpu than requested"));
    }
    if count < online - offlinable {
        return Err(error(Code::InvalidArg, "Cannot offline enough CPUs"));
    }
    let off = vcpus.iter().filter(|vcpu| vcpu.online && vcpu.offlinable).take(online.saturating_sub(count));
    let on = vcpus.iter().filter(|vcpu| !vcpu.online).take(count.saturating_sub(online));
    Ok(off.chain(on).map(|vcpu| Vcpu { online: !vcpu.online, ..*vcpu }).collect())
}

impl QemuDriver {
    /// The processors that the guest's system knows; its agent job is held.
    fn guest_vcpus(&self, guest: &Guest) -> Result<Vec<Vcpu>> {
        answers::vcpus(&self.ask_now(guest, "guest-get-vcpus", Dict::default())?)
    }

    /// Lets processors be as they are given; the guest's agent job is held.
    fn change_guest_vcpus(&self, guest: &Guest, mut changes: Vec<Vcpu>) -> Result<()> {
        // An agent may do a part of it and leave the rest to be asked for again.
        while !changes.is_empty() {
            let row = |vcpu: &Vcpu| dict! { "logical-id" => i64::from(vcpu.id), "online" => vcpu.online };
            let rows: Vec<Dict> = changes.iter().map(row).collect();
            let answer = self.ask_now(guest, "guest-set-vcpus", dict! { "vcpus" => rows })?;
            let done = answer.as_u64().and_then(|done| usize::try_from(done).ok());
            let done = done
                .filter(|done| (1..=changes.len()).contains(done))
                .ok_or_else(|| internal("guest agent returned malformed or invalid return value"))?;
            changes.drain(..done);
        }
        Ok(())
    }

    /// How many processors the guest's system has: all of them, or those that it uses.
    pub(super) fn count_guest_vcpus(&self, guest: &Guest, all: bool) -> Result<usize> {
        let _job = guest.agent_jobs.begin("virDomainGetVcpusFlags")?;
        if !guest.lock().is_active() {
            let detail = "vCPU count provided by the guest agent can only be requested for live domains";
            return Err(error(Code::InvalidArg, detail));
        }
        guest.need_agent()?;
        Ok(self.guest_vcpus(guest)?.iter().filter(|vcpu| all || vcpu.online).count())
    }

    /// Lets the guest's system use so many of its `most` processors.
    pub(super) fn set_count_of_guest_vcpus(
        &self,
        dom: &rpc::Domain,
        count: u32,
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        let guest = self.guest(dom)?;
        let _job = guest.agent_jobs.begin(api)?;
        self.both(&guest, flags)?;
        guest.need_agent()?;
        let most = guest.lock().current().map_or(0, |definition| super::tuning::counts(&definition).0);
        if count > most {
            let detail = "requested vcpu count is greater than the count of enabled vcpus in the domain";
            return Err(error(Code::InvalidArg, format!("{detail}: {count} > {most}")));
        }
        let changes = changes(&self.guest_vcpus(&guest)?, count as usize)?;
        self.change_guest_vcpus(&guest, changes)
    }

    pub(super) fn set_guest_vcpus(&self, args: &DomainSetGuestVcpusArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainSetGuestVcpus")?;
        let online = match args.state {
            0 => false,
            1 => true,
            _ => return Err(error(Code::InvalidArg, "unsupported state value")),
        };
        let mut wanted = crate::error::bitmap(qemu_domain::numbers(&args.cpumap))?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.agent_jobs.begin("virDomainSetGuestVcpus")?;
        let mut changes = Vec::new();
        for vcpu in self.guest_vcpus(&guest)? {
            if !wanted.remove(&vcpu.id) {
                continue;
            }
            if !online && !vcpu.offlinable {
                let detail = format!("vCPU '{}' is not offlinable", vcpu.id);
                return Err(error(Code::OperationUnsupported, detail));
            }
            changes.push(Vcpu { online, ..vcpu });
        }
        if !wanted.is_empty() {
            let left: BTreeSet<u32> = wanted.into_iter().collect();
            let detail = format!("guest is missing vCPUs '{}'", qemu_domain::ranges(&left));
            return Err(error(Code::InvalidArg, detail));
        }
        self.change_guest_vcpus(&guest, changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_changes() {
        let vcpu = |id, online, offlinable| Vcpu { id, online, offlinable };
        let all = [vcpu(0, true, true), vcpu(1, true, true), vcpu(2, false, true)];
        let changed = |count| -> Vec<(u32, bool)> {
            changes(&all, count).expect("changes").iter().map(|vcpu| (vcpu.id, vcpu.online)).collect()
        };
        assert_eq!(changed(2), []);
        assert_eq!(changed(1), [(1, false)]);
        assert_eq!(changed(3), [(2, true)]);
        let refused = |vcpus: &[Vcpu], count| changes(vcpus, count).expect_err("refused").to_string();
        assert_eq!(refused(&all, 0), "invalid argument: Cannot offline enough CPUs");
        assert_eq!(refused(&all, 4), "internal error: guest agent reports less cpu than requested");
        let odd = [vcpu(0, false, false)];
        assert_eq!(refused(&odd, 1), "internal error: Invalid data provided by guest agent");
    }
}
