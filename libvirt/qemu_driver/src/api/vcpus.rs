//! How many virtual processors guests have, and which.

use super::tuning::{GUEST, counts};
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error};
use crate::process::vcpus::{set_states, states};
use domain_xml::Domain as Definition;
use domain_xml::tune::VcpuState;
use domain_xml::words::YesNo;
use rpc::Code;
use rpc::protocol::tuning::DomainSetVcpuArgs;
use std::collections::BTreeSet;

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

fn refuse<T>(detail: impl Into<String>) -> Result<T> {
    Err(error(Code::InvalidArg, detail))
}

/// Lets a guest begin with that many.
fn set_count(definition: &mut Definition, count: u32, hotpluggable: bool) {
    let mut all = states(definition);
    let mut individual = false;
    let mut hotpluggable = hotpluggable;
    let mut now = counts(definition).0;
    for state in &mut all {
        state.order = None;
    }
    if now < count {
        for state in &mut all {
            if state.enabled == YesNo::Yes {
                // Those of the machine come first: after one that is plugged all are.
                hotpluggable |= definition.vcpus.is_some() && state.hotpluggable == Some(YesNo::Yes);
            } else if now < count {
                state.enabled = YesNo::Yes;
                state.hotpluggable = Some(YesNo::from(hotpluggable));
                individual |= hotpluggable;
                now += 1;
            }
        }
    } else {
        for state in all.iter_mut().rev().filter(|state| state.enabled == YesNo::Yes) {
            if now > count {
                state.enabled = YesNo::No;
                state.hotpluggable = Some(YesNo::Yes);
                now -= 1;
            }
        }
    }
    set_states(definition, all, individual);
}

/// Whether a guest may begin with these in another state.
fn check_set(states: &[VcpuState], set: &BTreeSet<u32>) -> Result<()> {
    if set.contains(&0) {
        return refuse("vCPU '0' can't be modified");
    }
    let first = set.first().copied().unwrap_or_default();
    let fixed = |state: &&VcpuState| {
        let on = state.enabled == YesNo::Yes && state.hotpluggable == Some(YesNo::No);
        state.id > first && !set.contains(&state.id) && on
    };
    match states.iter().find(fixed) {
        Some(_) => refuse(format!(
            "vcpu '{first}' can't be modified as it is followed by non-hotpluggable online vcpus"
        )),
        None => Ok(()),
    }
}

impl QemuDriver {
    pub(super) fn set_vcpus(
        &self,
        dom: &rpc::Domain,
        count: u32,
        flags: u32,
        api: &'static str,
    ) -> Result<()> {
        const MAXIMUM: u32 = 4;
        const HOTPLUGGABLE: u32 = 16;
        check_flags(flags, LIVE | CONFIG | MAXIMUM | GUEST | HOTPLUGGABLE, "qemuDomainSetVcpusFlags")?;
        if flags & GUEST != 0 {
            return self.set_count_of_guest_vcpus(dom, count, flags, api);
        }
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let (live, config) = self.both(&guest, flags)?;
        if count == 0 {
            return refuse("number of vcpus must be non-zero");
        }
        if flags & MAXIMUM != 0 {
            if live.is_some() {
                return refuse("maximum vcpu count of a live domain can't be modified");
            }
            let topology = config.as_ref().and_then(|it| it.cpu.as_ref()?.topology.clone());
            let product = topology.map(|it| it.sockets * it.dies.unwrap_or(1) * it.cores * it.threads);
            if product.is_some_and(|product| product != count) {
                return refuse("CPU topology doesn't match the desired vcpu count");
            }
            return self.change(&guest, CONFIG, &mut |it| {
                let mut all = states(it);
                all.truncate(count as usize);
                if let Some(vcpu) = &mut it.vcpu {
                    vcpu.count = count;
                    vcpu.current = vcpu.current.filter(|current| *current < count);
                }
                if let Some(vcpus) = &mut it.vcpus {
                    vcpus.vcpu = all;
                }
            });
        }
        for (target, definition) in [("live", &live), ("persistent", &config)] {
            let Some(definition) = definition else { continue };
            let most = counts(definition).1;
            if count > most {
                return refuse(format!(
                    "requested vcpus is greater than max allowable vcpus for the {target} domain: {count} > {most}"
                ));
            }
        }
        if live.is_some() {
            self.core.set_vcpu_count(&guest, count)?;
        }
        if config.is_some() {
            let hotpluggable = flags & HOTPLUGGABLE != 0;
            self.change(&guest, CONFIG, &mut |it| set_count(it, count, hotpluggable))?;
        }
        Ok(())
    }

    pub(super) fn set_vcpu(&self, args: &DomainSetVcpuArgs) -> Result<()> {
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainSetVcpu")?;
        let on = match args.state {
            0 => false,
            1 => true,
            _ => return refuse("unsupported state value"),
        };
        let set = crate::error::bitmap(qemu_domain::numbers(&args.cpumap))?;
        let Some(last) = set.last().copied() else { return refuse("no vcpus selected for modification") };
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetVcpu")?;
        let (live, config) = self.both(&guest, args.flags)?;
        for (target, definition) in [("persistent", &config), ("live", &live)] {
            if definition.as_ref().is_some_and(|definition| last >= counts(definition).1) {
                return refuse(format!("vcpu {last} is not present in {target} config"));
            }
        }
        if let Some(config) = &config {
            check_set(&states(config), &set)?;
        }
        if live.is_some() {
            self.core.set_vcpu_state(&guest, &set, on)?;
        }
        if config.is_some() {
            self.change(&guest, CONFIG, &mut |it| {
                let mut all = states(it);
                for state in &mut all {
                    state.order = None;
                    if set.contains(&state.id) {
                        (state.enabled, state.hotpluggable) = (YesNo::from(on), Some(YesNo::Yes));
                    }
                }
                set_states(it, all, true);
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sets() {
        let text = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu current='2'>4</vcpu>\
            <os><type>hvm</type></os></domain>";
        let mut it = domain_xml::parse(text).expect("xml");
        set_count(&mut it, 3, false);
        assert_eq!((counts(&it), it.vcpus.is_none()), ((3, 4), true));
        set_count(&mut it, 4, true);
        let last = it.vcpus.as_ref().and_then(|vcpus| vcpus.vcpu.last()).expect("listed");
        assert_eq!((last.enabled, last.hotpluggable), (YesNo::Yes, Some(YesNo::Yes)));
        set_count(&mut it, 1, false);
        assert_eq!(counts(&it), (1, 4));
        let refused = |set: &[u32]| {
            let all = states(&domain_xml::parse(&text.replace(" current='2'", "")).expect("xml"));
            check_set(&all, &set.iter().copied().collect()).expect_err("refused").to_string()
        };
        assert_eq!(refused(&[0]), "invalid argument: vCPU '0' can't be modified");
        assert_eq!(
            refused(&[2]),
            "invalid argument: vcpu '2' can't be modified as it is followed by non-hotpluggable online vcpus"
        );
    }
}
