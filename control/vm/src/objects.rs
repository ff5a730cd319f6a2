//! `-object`: the things that devices and the board use by id.

use crate::accels::reason;
use cmdline::{Object, ObjectKind, Plan};
use guestmem::RamBlock;
use qdev::Links;
use std::sync::Arc;
use virtio::{RngBuiltin, RngRandom, RngSource};

/// Makes all objects and makes them known by their ids; `shared`: guest RAM is to be something that can be mapped by
/// others too.
///
/// # Errors
/// The text for the user.
pub(crate) fn create(plan: &Plan, links: &Links, shared: bool) -> Result<(), String> {
    for object in &plan.objects {
        make(object, links, shared)?;
    }
    Ok(())
}

fn make(object: &Object, links: &Links, shared: bool) -> Result<(), String> {
    let Object { location, id, kind } = object;
    match kind {
        ObjectKind::RngBuiltin => {
            let source = RngBuiltin::new().map_err(|error| error.to_string())?;
            links.insert(id, Arc::new(RngSource::builtin(source)));
        }
        ObjectKind::RngRandom { filename } => {
            let source = RngRandom::open(filename).map_err(|error| error.to_string())?;
            links.insert(id, Arc::new(RngSource::random(source)));
        }
        ObjectKind::MemoryBackendRam { size, prealloc, merge, dump } => {
            let failed = |error: std::io::Error| {
                format!("{location}: cannot set up guest memory '{id}': {}", reason(&error))
            };
            let block = memory(id, *size, shared).map_err(failed)?;
            block.advise(*merge, *dump).map_err(failed)?;
            if *prealloc {
                block.touch();
            }
            links.insert(id, block);
        }
    }
    Ok(())
}

/// Guest RAM, which others can map where it is `shared` and the host has memory files.
fn memory(name: &str, size: u64, shared: bool) -> std::io::Result<Arc<RamBlock>> {
    let file = shared.then(|| RamBlock::shared(name, size).ok()).flatten();
    file.map_or_else(|| RamBlock::new(name, size), Ok)
}

/// The guest's RAM: the memory that the plan names, or a block of its own.
///
/// # Errors
/// The memory does not exist, is not of the size that `-m` asks for, or the host has no room: the text for the user.
pub(crate) fn ram(plan: &Plan, links: &Links, shared: bool) -> Result<Arc<RamBlock>, String> {
    let Some(id) = &plan.machine.memory_backend else {
        return memory("pc.ram", plan.ram, shared)
            .map_err(|error| format!("cannot set up guest memory 'pc.ram': {}", reason(&error)));
    };
    let Some(block) = links.get::<RamBlock>(id) else {
        return Err(format!("Memory backend '{id}' not found"));
    };
    if plan.ram_given && plan.ram != block.size() {
        return Err("Machine memory size does not match the size of the memory backend".to_owned());
    }
    Ok(block)
}
