//! Processors: what guests see of them, and how many there can be.

use domain_xml::cpu::{Cpu, CpuCacheMode, CpuMode, MaxPhysAddrMode};
use domain_xml::tune::VcpuState;
use domain_xml::words::{YesNo, on};
use domain_xml::{Domain, Error, Result};
use qemu_caps::QemuCaps;

use crate::{machine, virt_type};

/// Interrupt controllers have room for so many processors, unless their mode is extended.
const WITHOUT_EXTENSION: u32 = 255;

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

pub fn check(domain: &Domain, caps: &QemuCaps) -> Result<()> {
    if let Some(cpu) = &domain.cpu {
        seen(cpu, caps)?;
    }
    number(domain, caps)?;
    one_by_one(domain)?;
    let Some(tune) = &domain.cputune else { return Ok(()) };
    if tune.shares.is_some_and(|shares| shares > 0 && !(2..=262_144).contains(&shares)) {
        return unsupported("Value of cputune 'shares' must be in range [2, 262144]");
    }
    let periods = [
        ("period", tune.period),
        ("global_period", tune.global_period),
        ("emulator_period", tune.emulator_period),
        ("iothread_period", tune.iothread_period),
    ];
    for (name, period) in periods {
        if period.is_some_and(|period| period > 0 && !(1000..=1_000_000).contains(&period)) {
            return unsupported(format!("Value of cputune '{name}' must be in range [1000, 1000000]"));
        }
    }
    let quotas = [
        ("quota", tune.quota),
        ("global_quota", tune.global_quota),
        ("emulator_quota", tune.emulator_quota),
        ("iothread_quota", tune.iothread_quota),
    ];
    for (name, quota) in quotas {
        if quota.is_some_and(|quota| quota > 0 && !(1000..=17_592_186_044_415).contains(&quota)) {
            return unsupported(format!("Value of cputune '{name}' must be in range [1000, 17592186044415]"));
        }
    }
    Ok(())
}

fn seen(cpu: &Cpu, caps: &QemuCaps) -> Result<()> {
    if let Some(address) = &cpu.maxphysaddr {
        let mode = address.mode;
        match (mode, address.bits) {
            (MaxPhysAddrMode::Passthrough, Some(_)) => {
                return unsupported(format!(
                    "CPU maximum physical address bits number specification cannot be used with mode='{mode}'"
                ));
            }
            (MaxPhysAddrMode::Emulate, None) => {
                return unsupported(format!(
                    "if using CPU maximum physical address mode='{mode}', bits= must be specified too"
                ));
            }
            _ => {}
        }
    }
    if let Some(cache) = &cpu.cache {
        let mode = cache.mode;
        let as_host = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
        match mode {
            CpuCacheMode::Emulate if cache.level != Some(3) => {
                return unsupported(format!("CPU cache mode '{mode}' can only be used with level='3'"));
            }
            CpuCacheMode::Passthrough if !as_host => {
                return unsupported(format!(
                    "CPU cache mode '{mode}' can only be used with 'host-passthrough' / 'maximum' CPUs"
                ));
            }
            CpuCacheMode::Passthrough | CpuCacheMode::Disable if cache.level.is_some() => {
                return unsupported(format!("unsupported CPU cache level for mode '{mode}'"));
            }
            _ => {}
        }
    }
    match cpu.mode {
        Some(CpuMode::HostPassthrough) if on(cpu.migratable) && !caps.has("cpu.migratable") => {
            unsupported("Migratable attribute for host-passthrough CPU is not supported by this QEMU binary")
        }
        Some(CpuMode::Maximum) if !caps.has("cpu-max") => {
            unsupported("maximum CPU is not supported by QEMU binary")
        }
        _ => Ok(()),
    }
}

fn number(domain: &Domain, caps: &QemuCaps) -> Result<()> {
    let count = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let most = caps.machine(virt_type(domain), domain.machine()).map_or(0, |machine| machine.max_cpus);
    if most > 0 && count > most {
        return unsupported(format!("Maximum CPUs greater than specified machine type limit {most}"));
    }
    if count > WITHOUT_EXTENSION {
        if !machine::is_q35(domain) {
            return unsupported(format!(
                "more than {WITHOUT_EXTENSION} vCPUs are only supported on q35-based machine types"
            ));
        }
        let driver = domain.devices.iommu.as_ref().and_then(|iommu| iommu.driver.as_ref());
        if !driver.is_some_and(|driver| on(driver.eim)) {
            return unsupported(format!(
                "more than {WITHOUT_EXTENSION} vCPUs require extended interrupt mode enabled on the iommu device"
            ));
        }
    }
    Ok(())
}

/// The first processor is always there; others that cannot be unplugged come before those that can.
fn one_by_one(domain: &Domain) -> Result<()> {
    let states: &[VcpuState] = domain.vcpus.as_ref().map_or(&[], |vcpus| &vcpus.vcpu);
    let Some(first) = states.first() else { return Ok(()) };
    let order = |state: &VcpuState| state.order.unwrap_or(0);
    if first.enabled != YesNo::Yes {
        return unsupported("vcpu 0 can't be offline");
    }
    if first.hotpluggable == Some(YesNo::Yes) {
        return unsupported("vcpu0 can't be hotpluggable");
    }
    if order(first) > 1 {
        return unsupported("vcpu0 must be enabled first");
    }
    for pair in states.windows(2) {
        let (before, own) = (&pair[0], &pair[1]);
        if own.enabled == YesNo::Yes && (order(own) != 0) != (order(first) != 0) {
            return unsupported("all vcpus must have either set or unset order");
        }
        if own.hotpluggable == Some(YesNo::No) {
            if before.hotpluggable == Some(YesNo::Yes) {
                return unsupported(
                    "online non-hotpluggable vcpus need to be ordered prior to hotplugable vcpus",
                );
            }
            if order(before) > order(own) {
                return unsupported("online non-hotpluggable vcpus must be ordered in ascending order");
            }
        }
    }
    Ok(())
}
