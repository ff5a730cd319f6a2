//! Memory: its pages, and modules.

use domain_xml::address::Address;
use domain_xml::memory::{Allocate, Memory, MemoryModel, MemorySourceType};
use domain_xml::{Code, Domain, Error, Result};
use qemu_caps::QemuCaps;

fn unsupported<T>(detail: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(detail))
}

pub fn check(domain: &Domain, caps: &QemuCaps) -> Result<()> {
    pages(domain)?;
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| numa.cell.len());
    for module in &domain.devices.memory {
        target(module, cells)?;
        if module.model == MemoryModel::SgxEpc && !caps.has("sgx-epc") {
            return unsupported("sgx epc isn't supported by this QEMU binary");
        }
    }
    plugged(domain, cells)
}

fn pages(domain: &Domain) -> Result<()> {
    let Some(backing) = domain.memory_backing.as_ref().filter(|backing| backing.hugepages.is_some()) else {
        return Ok(());
    };
    if backing.allocation.as_ref().and_then(|it| it.mode) == Some(Allocate::Ondemand) {
        return unsupported("hugepages are not allowed with memory allocation ondemand");
    }
    if backing.source.as_ref().map(|source| source.kind) == Some(MemorySourceType::Anonymous) {
        return unsupported("hugepages are not allowed with anonymous memory source");
    }
    Ok(())
}

fn target(module: &Memory, cells: usize) -> Result<()> {
    let detail = |detail: String| Err(Error { code: Code::Detail, detail });
    match module.node() {
        Some(_) if cells == 0 => {
            detail("can't add memory backend as guest has no NUMA nodes configured".to_owned())
        }
        Some(node) if node as usize >= cells => detail(format!(
            "can't add memory backend for guest node '{node}' as the guest has only '{cells}' NUMA nodes configured"
        )),
        _ => Ok(()),
    }
}

/// What needs the slots that `<maxMemory>` gives.
fn plugged(domain: &Domain, cells: usize) -> Result<()> {
    let modules = domain.devices.memory.iter().filter(|module| module.model != MemoryModel::SgxEpc);
    let count = modules.clone().count();
    let Some(max) = &domain.max_memory else {
        return if count == 0 {
            Ok(())
        } else {
            unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined")
        };
    };
    if cells == 0 {
        return unsupported("At least one numa node has to be configured when enabling memory hotplug");
    }
    let slots = max.slots;
    if count > slots as usize {
        return unsupported(format!("memory device count '{count}' exceeds slots count '{slots}'"));
    }
    for module in modules {
        if module.model != MemoryModel::VirtioPmem && module.node().is_none() {
            return unsupported("target NUMA node needs to be specified for memory device");
        }
        match (module.model, &module.info.address) {
            (_, None) => {}
            (MemoryModel::Dimm | MemoryModel::Nvdimm, Some(Address::Dimm(at))) => {
                if at.slot >= slots {
                    return unsupported(format!(
                        "memory device slot '{}' exceeds slots count '{slots}'",
                        at.slot
                    ));
                }
            }
            (MemoryModel::Dimm | MemoryModel::Nvdimm, Some(_)) => {
                return unsupported("only 'dimm' addresses are supported for the pc-dimm device");
            }
            (_, Some(Address::Pci(_))) => {}
            (model, Some(_)) => {
                return unsupported(format!("only 'pci' addresses are supported for the {model} device"));
            }
        }
    }
    Ok(())
}
