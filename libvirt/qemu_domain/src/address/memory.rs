//! Slots of memory modules.

use domain_xml::address::{Address, DimmAddress};
use domain_xml::memory::MemoryModel;
use domain_xml::{Domain, Error, Result};

pub fn assign(domain: &mut Domain) -> Result<()> {
    let Some(slots) = domain.max_memory.as_ref().map(|max| max.slots) else { return Ok(()) };
    let mut used: Vec<u32> = Vec::new();
    let modules = &mut domain.devices.memory;
    for module in modules.iter() {
        if let Some(Address::Dimm(address)) = &module.info.address {
            if address.slot >= slots {
                return Err(Error::unsupported(format!(
                    "memory device slot '{}' exceeds slots count '{slots}'",
                    address.slot
                )));
            }
            if used.contains(&address.slot) {
                return Err(Error::unsupported(format!(
                    "memory device slot '{}' already in use",
                    address.slot
                )));
            }
            used.push(address.slot);
        }
    }
    for module in modules.iter_mut() {
        if !matches!(module.model, MemoryModel::Dimm | MemoryModel::Nvdimm) || module.info.address.is_some() {
            continue;
        }
        let slot = (0..slots)
            .find(|slot| !used.contains(slot))
            .ok_or_else(|| Error::internal("no free memory device slot available"))?;
        used.push(slot);
        module.info.address = Some(Address::Dimm(DimmAddress { slot, base: None }));
    }
    Ok(())
}
