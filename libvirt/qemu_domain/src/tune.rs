//! What the guest gets of the host: limits, processors of its threads, nodes of its memory.

use std::collections::{BTreeMap, BTreeSet};

use domain_xml::cpu::{Cpu, Distances, Sibling};
use domain_xml::tune::{CpuTune, NumaMemory, NumaMode, Placement, Sched};
use domain_xml::units::Kib;
use domain_xml::{Code, Domain, Error, Result};

use crate::defaults::{bitmap, numbers};

/// In KiB: no limit (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`).
const UNLIMITED: u64 = 9_007_199_254_740_991;

/// Completes and checks what the guest gets of the host. The vCPUs' number and the I/O threads are known.
pub fn complete(domain: &mut Domain) -> Result<()> {
    memory_limits(domain);
    placement(domain)?;
    let threads: Vec<u32> = threads(domain);
    if let Some(tune) = &mut domain.cputune {
        pins(tune, &threads)?;
        schedulers(tune, &threads)?;
        if *tune == CpuTune::default() {
            domain.cputune = None;
        }
    }
    Ok(())
}

/// A limit that is none is not said.
fn memory_limits(domain: &mut Domain) {
    let Some(tune) = &mut domain.memtune else { return };
    let limits =
        [&mut tune.hard_limit, &mut tune.soft_limit, &mut tune.min_guarantee, &mut tune.swap_hard_limit];
    for limit in limits {
        *limit = limit.filter(|Kib(size)| *size < UNLIMITED);
    }
    if *tune == Default::default() {
        domain.memtune = None;
    }
}

/// Where processors and memory are on the host: chosen by numad where either is left to it and nothing else is said.
fn placement(domain: &mut Domain) -> Result<()> {
    let by_hand = domain.vcpu.as_ref().is_none_or(|vcpu| vcpu.placement != Some(Placement::Auto));
    let given = domain.numatune.as_ref().and_then(|tune| tune.memory.clone());
    let memory = if given.is_some() || !by_hand { Some(memory_placement(given, by_hand)?) } else { None };
    let automatic = memory.as_ref().is_some_and(|memory| memory.placement == Some(Placement::Auto));
    if let Some(memory) = memory.filter(|memory| *memory != NumaMemory::default()) {
        domain.numatune.get_or_insert_default().memory = Some(memory);
    }
    memory_nodes(domain, automatic)?;
    let tuned = domain.cputune.as_ref().is_some_and(|tune| {
        !tune.vcpupin.is_empty() || tune.emulatorpin.is_some() || !tune.iothreadpin.is_empty()
    });
    if let Some(vcpu) = &mut domain.vcpu {
        if vcpu.placement == Some(Placement::Auto) {
            vcpu.cpuset = None;
        }
        if automatic && vcpu.cpuset.is_none() && !tuned {
            vcpu.placement = Some(Placement::Auto);
        }
    }
    Ok(())
}

fn memory_placement(given: Option<NumaMemory>, by_hand: bool) -> Result<NumaMemory> {
    let mut memory = given.unwrap_or(NumaMemory { placement: Some(Placement::Auto), ..Default::default() });
    if memory == NumaMemory::default() {
        return Ok(memory);
    }
    if let Some(set) = &mut memory.nodeset {
        *set = nodes(set)?;
    }
    memory.mode.get_or_insert(NumaMode::Strict);
    let chosen = if memory.nodeset.is_some() || by_hand { Placement::Static } else { Placement::Auto };
    match *memory.placement.get_or_insert(chosen) {
        Placement::Static if memory.nodeset.is_none() => {
            Err(Error::unsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'"))
        }
        Placement::Static => {
            // That is what a set of nodes means.
            memory.placement = None;
            Ok(memory)
        }
        Placement::Auto => {
            memory.nodeset = None;
            Ok(memory)
        }
    }
}

/// A set of nodes, which must have one.
fn nodes(set: &str) -> Result<String> {
    let text = bitmap(set)?;
    if text.is_empty() {
        return Err(Error::unsupported(format!("Invalid value of 'nodeset': {set}")));
    }
    Ok(text)
}

fn memory_nodes(domain: &mut Domain, automatic: bool) -> Result<()> {
    let cells = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(0, |numa| numa.cell.len());
    let Some(tune) = &mut domain.numatune else { return Ok(()) };
    if tune.memnode.is_empty() {
        return Ok(());
    }
    if automatic {
        return Err(Error::unsupported("Per-node binding is not compatible with automatic NUMA placement."));
    }
    if cells == 0 {
        return Err(Error::xml("Element 'memnode' is invalid without any guest NUMA cells"));
    }
    let restrictive = tune.memory.as_ref().is_some_and(|memory| memory.mode == Some(NumaMode::Restrictive));
    let mut seen = BTreeSet::new();
    for node in &mut tune.memnode {
        if node.cellid as usize >= cells {
            return Err(Error::xml(
                "Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell",
            ));
        }
        if !seen.insert(node.cellid) {
            return Err(Error::xml(format!("Multiple memnode elements with cellid {}", node.cellid)));
        }
        if restrictive && node.mode != NumaMode::Restrictive {
            return Err(Error::xml(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element",
            ));
        }
        node.nodeset = nodes(&node.nodeset)?;
    }
    tune.memnode.sort_by_key(|node| node.cellid);
    Ok(())
}

/// The numbers of the threads for disks, in the domain's order.
fn threads(domain: &Domain) -> Vec<u32> {
    let mut threads: Vec<u32> =
        domain.iothreadids.iter().flat_map(|ids| &ids.iothread).map(|thread| thread.id).collect();
    let count = domain.iothreads.unwrap_or(0) as usize;
    let free: Vec<u32> =
        (1..).filter(|id| !threads.contains(id)).take(count.saturating_sub(threads.len())).collect();
    threads.extend(free);
    threads
}

fn no_thread(id: u32) -> Error {
    Error::unsupported(format!("Cannot find 'iothread' : {id}"))
}

fn pins(tune: &mut CpuTune, threads: &[u32]) -> Result<()> {
    for pin in &mut tune.vcpupin {
        pin.cpuset = bitmap(&pin.cpuset)?;
    }
    tune.vcpupin.sort_by_key(|pin| pin.vcpu);
    if let Some(pin) = &mut tune.emulatorpin {
        pin.cpuset = bitmap(&pin.cpuset)?;
    }
    let mut seen = BTreeSet::new();
    for pin in &mut tune.iothreadpin {
        if !threads.contains(&pin.iothread) {
            return Err(no_thread(pin.iothread));
        }
        if !seen.insert(pin.iothread) {
            return Err(Error::internal(format!(
                "duplicate iothreadpin for same iothread '{}'",
                pin.iothread
            )));
        }
        pin.cpuset = bitmap(&pin.cpuset)?;
    }
    tune.iothreadpin.sort_by_key(|pin| threads.iter().position(|id| *id == pin.iothread));
    Ok(())
}

/// One line for each thread.
fn schedulers(tune: &mut CpuTune, threads: &[u32]) -> Result<()> {
    let single = |lines: &mut Vec<Sched>, what: &str| {
        let attribute = format!("{what}s");
        let mut each: BTreeMap<u32, Sched> = BTreeMap::new();
        for line in lines.drain(..) {
            let set = if what == "vcpu" { &line.vcpus } else { &line.iothreads };
            for id in numbers(set.as_deref().unwrap_or_default())? {
                let text = Some(id.to_string());
                let (vcpus, iothreads) = if what == "vcpu" { (text, None) } else { (None, text) };
                let own = Sched { vcpus, iothreads, ..line.clone() };
                if each.insert(id, own).is_some() {
                    return Err(Error {
                        code: Code::Detail,
                        detail: format!("'{what}sched' attributes '{attribute}' must not overlap"),
                    });
                }
            }
        }
        Ok(each)
    };
    tune.vcpusched = single(&mut tune.vcpusched, "vcpu")?.into_values().collect();
    let mut each = single(&mut tune.iothreadsched, "iothread")?;
    if let Some(id) = each.keys().find(|id| !threads.contains(id)) {
        return Err(no_thread(*id));
    }
    tune.iothreadsched = threads.iter().filter_map(|id| each.remove(id)).collect();
    Ok(())
}

/// Distances of nodes: from a node to itself it is 10, and back it is as far as there, unless that is said.
pub fn distances(cpu: &mut Cpu) -> Result<()> {
    const LOCAL: u32 = 10;
    const UNREACHABLE: u32 = 255;
    let Some(numa) = &mut cpu.numa else { return Ok(()) };
    let cells = numa.cell.len() as u32;
    let mut all: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    for (own, cell) in (0..).zip(&numa.cell) {
        let Some(distances) = &cell.distances else { continue };
        if distances.sibling.is_empty() {
            return Err(Error::xml("NUMA distances defined without siblings"));
        }
        for sibling in &distances.sibling {
            let Sibling { id, value } = *sibling;
            if id >= cells {
                return Err(Error::xml(format!(
                    "'sibling_id {id}' does not refer to a valid cell within NUMA 'cell id {own}'"
                )));
            }
            if !(LOCAL..=UNREACHABLE).contains(&value) || (id == own) != (value == LOCAL) {
                return Err(Error::xml(format!(
                    "'value {value}' is invalid for 'sibling id {id}' under NUMA 'cell id {own}'"
                )));
            }
            let there = all.entry(own).or_default();
            there.entry(own).or_insert(LOCAL);
            there.insert(id, value);
            let back = all.entry(id).or_default();
            back.entry(id).or_insert(LOCAL);
            back.entry(own).or_insert(value);
        }
    }
    for (own, cell) in (0..).zip(&mut numa.cell) {
        cell.distances = all.remove(&own).map(|to| Distances {
            sibling: to.into_iter().map(|(id, value)| Sibling { id, value }).collect(),
        });
    }
    Ok(())
}
