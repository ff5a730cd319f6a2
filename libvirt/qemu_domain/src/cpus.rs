//! The model of processors, and the nodes that they belong to.

use domain_xml::cpu::{Cpu, CpuCheck, CpuMatch, CpuMode, CpuModel, Fallback, FeaturePolicy};
use domain_xml::words::OnOff;
use domain_xml::{Domain, DomainType, Error, Result};
use qemu_caps::QemuCaps;

use crate::defaults::{numbers, ranges};
use crate::{missing, tune, virt_type};

/// Completes the processors.
pub fn complete(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    // An empty element says nothing.
    domain.cpu = domain.cpu.take().filter(|cpu| *cpu != Cpu::default());
    if let Some(cpu) = &mut domain.cpu {
        read(cpu)?;
    }
    let chosen = domain
        .cpu
        .as_ref()
        .is_some_and(|cpu| cpu.mode.is_some_and(|mode| mode != CpuMode::Custom) || has_model(cpu));
    if !chosen {
        default_model(domain, caps)?;
    }
    let count = domain.vcpu.as_ref().map_or(1, |vcpu| vcpu.count);
    let tcg = domain.kind == DomainType::Qemu;
    if let Some(cpu) = &mut domain.cpu {
        if cpu.mode == Some(CpuMode::HostPassthrough) && cpu.migratable.is_none() {
            cpu.migratable = Some(if caps.has("cpu.migratable") { OnOff::On } else { OnOff::Off });
        }
        if has_model(cpu) || cpu.mode.is_some_and(|mode| mode != CpuMode::Custom) {
            cpu.check.get_or_insert(match cpu.mode {
                Some(CpuMode::HostPassthrough | CpuMode::Maximum) => CpuCheck::None,
                Some(CpuMode::HostModel) => CpuCheck::Partial,
                _ if tcg => CpuCheck::None,
                _ => CpuCheck::Partial,
            });
        }
        nodes(cpu, count)?;
        tune::distances(cpu)?;
        if let Some(topology) = &mut cpu.topology {
            let dies = *topology.dies.get_or_insert(1);
            let parts = [topology.sockets, dies, topology.cores, topology.threads];
            let all = parts.into_iter().try_fold(1_u32, u32::checked_mul);
            if all != Some(count) && caps.has("query-hotpluggable-cpus") {
                return Err(Error::unsupported("CPU topology doesn't match maximum vcpu count"));
            }
        }
    }
    Ok(())
}

fn has_model(cpu: &Cpu) -> bool {
    cpu.model.as_ref().is_some_and(|model| model.name.is_some())
}

fn read(cpu: &mut Cpu) -> Result<()> {
    let model = has_model(cpu);
    let mode = cpu.mode.unwrap_or(CpuMode::Custom);
    cpu.mode = Some(mode).filter(|mode| model || *mode != CpuMode::Custom);
    if mode == CpuMode::Custom {
        if model {
            cpu.matching.get_or_insert(CpuMatch::Exact);
        }
    } else {
        cpu.matching = None;
    }
    if mode == CpuMode::HostModel {
        // It is the host's, whatever is said here; only the vendor may be another.
        cpu.model = cpu
            .model
            .take()
            .and_then(|model| model.vendor_id)
            .map(|vendor| CpuModel { vendor_id: Some(vendor), ..CpuModel::default() });
    } else if let Some(model) = &mut cpu.model
        && model.name.is_some()
    {
        model.fallback.get_or_insert(Fallback::Allow);
    }
    if !model && mode == CpuMode::Custom && !cpu.feature.is_empty() {
        return Err(Error::internal("Non-empty feature list specified without CPU model"));
    }
    for (index, feature) in cpu.feature.iter().enumerate() {
        if cpu.feature[..index].iter().any(|other| other.name == feature.name) {
            return Err(Error::xml(format!("CPU feature '{}' specified more than once", feature.name)));
        }
    }
    for feature in &mut cpu.feature {
        feature.policy.get_or_insert(FeaturePolicy::Require);
    }
    Ok(())
}

/// The model that the machine has of itself.
fn default_model(domain: &mut Domain, caps: &QemuCaps) -> Result<()> {
    let machine = caps.machine(virt_type(domain), domain.machine());
    let Some(type_name) = machine.and_then(|machine| machine.default_cpu.as_deref()) else {
        return Ok(());
    };
    let accelerator = caps.accelerator(virt_type(domain));
    let known = accelerator
        .and_then(|a| a.cpus.iter().find(|cpu| cpu.type_name.as_deref() == Some(type_name)))
        .map(|cpu| cpu.name.clone());
    let suffix = format!("-{}-cpu", caps.arch);
    let name =
        known.unwrap_or_else(|| type_name.strip_suffix(suffix.as_str()).unwrap_or(type_name).to_owned());
    if name == "host" && domain.kind != DomainType::Kvm {
        return Err(Error::internal(
            "QEMU reports invalid default CPU model \"host\" for non-kvm domain virt type",
        ));
    }
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    if name == "host" {
        cpu.mode = Some(CpuMode::HostPassthrough);
        return Ok(());
    }
    cpu.mode = Some(CpuMode::Custom);
    cpu.check = Some(CpuCheck::None);
    cpu.matching = Some(CpuMatch::Exact);
    cpu.model = Some(CpuModel { fallback: Some(Fallback::Forbid), name: Some(name), ..CpuModel::default() });
    Ok(())
}

/// Processors that no node names belong to the first one.
fn nodes(cpu: &mut Cpu, count: u32) -> Result<()> {
    let Some(numa) = &mut cpu.numa else { return Ok(()) };
    let cells = numa.cell.len() as u32;
    for (index, cell) in numa.cell.iter_mut().enumerate() {
        cell.id.get_or_insert(index as u32);
        let size = domain_xml::cpu::cell_size(cell);
        cell.memory = size.0;
        cell.unit = Some("KiB".to_owned());
        if cell.id.is_some_and(|id| id >= cells) {
            return Err(missing(
                "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 are not allowed",
            ));
        }
    }
    numa.cell.sort_by_key(|cell| cell.id);
    let mut taken = std::collections::BTreeSet::new();
    for cell in &mut numa.cell {
        if let Some(cpus) = &mut cell.cpus {
            let set = numbers(cpus)?;
            *cpus = ranges(&set);
            if !taken.is_disjoint(&set) {
                return Err(Error::xml("NUMA cells have overlapping vCPU ids"));
            }
            taken.extend(set);
        }
    }
    let rest: Vec<u32> = (0..count).filter(|cpu| !taken.contains(cpu)).collect();
    if !rest.is_empty()
        && (taken.len() as u32) < count
        && let Some(first) = numa.cell.first_mut()
    {
        let mut set = first.cpus.as_deref().map_or_else(|| Ok(Default::default()), numbers)?;
        set.extend(rest);
        first.cpus = Some(ranges(&set));
    }
    Ok(())
}
