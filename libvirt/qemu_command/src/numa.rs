//! Nodes of processors and memory.

use crate::command::Builder;
use crate::memory::Block;
use crate::{Error, Result};
use domain_xml::Domain;
use domain_xml::cpu::{Latency, NumaCache, NumaCell};

/// Most members that a set is taken apart to.
const MOST: u32 = 1 << 14;

/// The members of a set such as `0-3,^2,8`.
pub(crate) fn members(set: &str) -> Result<Vec<u32>> {
    let wrong =
        || Error { code: xml::Code::InvalidArgument, detail: format!("Failed to parse bitmap '{set}'") };
    let mut found: Vec<u32> = Vec::new();
    for part in set.split(',').map(str::trim) {
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MOST).ok_or_else(wrong);
        if let Some(out) = part.strip_prefix('^') {
            let out = number(out)?;
            found.retain(|n| *n != out);
        } else if let Some((first, last)) = part.split_once('-') {
            found.extend(number(first)?..=number(last)?);
        } else {
            found.push(number(part)?);
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether a set has the member; a set that cannot be read has none.
pub(crate) fn in_set(set: &str, member: u32) -> bool {
    members(set).is_ok_and(|members| members.contains(&member))
}

/// Runs of neighbours: `0-3`, `8`.
fn ranges(members: &[u32]) -> Vec<String> {
    let mut text = Vec::new();
    let mut rest = members;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(a, b)| **a == *b).count();
        let last = first + run as u32 - 1;
        text.push(if run == 1 { first.to_string() } else { format!("{first}-{last}") });
        rest = &rest[run..];
    }
    text
}

/// Whether the domain says how far memory is from processors.
pub(crate) fn has_hmat(domain: &Domain) -> bool {
    let Some(numa) = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()) else { return false };
    numa.interconnects.is_some() || numa.cell.iter().any(|cell| !cell.cache.is_empty())
}

impl Builder<'_> {
    pub(crate) fn numa(&mut self) -> Result<()> {
        let cells = self.cells();
        if cells.is_empty() {
            return Ok(());
        }
        let hmat = has_hmat(self.domain);
        let machine = self.caps.machine(self.virt(), self.domain.machine());
        let mut needed = hmat || !machine.is_some_and(|m| m.numa_mem);
        let mut backends = Vec::new();
        for (index, cell) in cells.iter().enumerate() {
            let node = cell.id.unwrap_or(index as u32);
            let alias = format!("ram-node{node}");
            let block = Block {
                size: domain_xml::cpu::cell_size(cell).0,
                node: Some(node),
                alias: &alias,
                access: None,
                discard: None,
                module: None,
                system: false,
            };
            let backend = self.backend(&block, &alias, false)?;
            needed |= backend.needed;
            backends.push(backend.props);
        }
        let backing = self.domain.memory_backing.as_ref().and_then(|b| b.allocation.as_ref());
        if !needed && backing.is_some_and(|a| a.mode == Some(domain_xml::memory::Allocate::Immediate)) {
            self.flag("-mem-prealloc");
        }
        let first = cells.iter().position(|cell| cell.cpus.is_some());
        let first = first.ok_or_else(|| Error::unsupported("At least one NUMA node has to have CPUs"))?;
        for (index, (cell, backend)) in cells.iter().zip(backends).enumerate() {
            if needed {
                self.backend_objects(backend);
            }
            let mut text = format!("node,nodeid={index}");
            if let Some(cpus) = &cell.cpus {
                for range in ranges(&members(cpus)?) {
                    text += &format!(",cpus={range}");
                }
            }
            if hmat {
                text += &format!(",initiator={}", self.initiator(index).unwrap_or(first as u32));
            }
            text += &if needed {
                format!(",memdev=ram-node{index}")
            } else {
                format!(",mem={}", domain_xml::cpu::cell_size(cell).0 / 1024)
            };
            self.option("-numa", text);
        }
        self.distances(cells);
        if hmat {
            self.latencies()?;
            for (index, cell) in cells.iter().enumerate() {
                for cache in &cell.cache {
                    self.cache(index, cache)?;
                }
            }
        }
        Ok(())
    }

    /// The node whose processors are nearest to a node's memory: its own, or the one that a latency or width names.
    fn initiator(&self, node: usize) -> Option<u32> {
        if self.cells().get(node).is_some_and(|cell| cell.cpus.is_some()) {
            return Some(node as u32);
        }
        let numa = self.domain.cpu.as_ref()?.numa.as_ref()?;
        let links = numa.interconnects.as_ref()?;
        let to_it = |list: &[Latency], better: fn(u64, u64) -> bool| {
            let mut best: Option<&Latency> = None;
            let mut seen = None;
            for link in list.iter().filter(|link| link.target == node as u32) {
                let _ = seen.get_or_insert(link.initiator);
                if best.is_none_or(|b| better(link.value, b.value)) {
                    best = Some(link);
                }
            }
            best.map(|link| link.initiator)
        };
        to_it(&links.latency, |new, old| new < old).or_else(|| to_it(&links.bandwidth, |new, old| new > old))
    }

    /// If one distance is given, all are.
    fn distances(&mut self, cells: &[NumaCell]) {
        if cells.iter().all(|cell| cell.distances.is_none()) {
            return;
        }
        let given = |from: usize, to: usize| {
            let siblings = cells[from].distances.as_ref()?.sibling.iter();
            siblings.into_iter().find(|s| s.id as usize == to).map(|s| s.value)
        };
        for from in 0..cells.len() {
            for to in 0..cells.len() {
                let usual = if from == to { 10 } else { 20 };
                let value = given(from, to).or_else(|| given(to, from)).unwrap_or(usual);
                self.option("-numa", format!("dist,src={from},dst={to},val={value}"));
            }
        }
    }

    fn latencies(&mut self) -> Result<()> {
        let numa = self.domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
        let Some(links) = numa.and_then(|numa| numa.interconnects.as_ref()) else { return Ok(()) };
        let both = links.latency.iter().map(|l| (l, true)).chain(links.bandwidth.iter().map(|l| (l, false)));
        for (link, time) in both {
            let level = link.cache.unwrap_or(0);
            let hierarchy = ["memory", "first-level", "second-level", "third-level"].get(level as usize);
            let hierarchy =
                hierarchy.ok_or_else(|| Error::xml(format!("'cache' level {level} is not supported")))?;
            let value = if time {
                format!("latency,latency={}", link.value)
            } else {
                let factor = domain_xml::units::scale(link.unit.as_deref().unwrap_or("KiB")).unwrap_or(1024);
                format!("bandwidth,bandwidth={}K", link.value.saturating_mul(factor) / 1024)
            };
            self.option(
                "-numa",
                format!(
                    "hmat-lb,initiator={},target={},hierarchy={hierarchy},data-type={}-{value}",
                    link.initiator, link.target, link.kind
                ),
            );
        }
        Ok(())
    }

    fn cache(&mut self, node: usize, cache: &NumaCache) -> Result<()> {
        let bytes = |size: &domain_xml::cpu::CacheSize| {
            size.value.saturating_mul(domain_xml::units::scale(&size.unit).unwrap_or(1))
        };
        let word = |word: &str, table: &[(&str, &'static str)]| {
            table.iter().find(|(name, _)| *name == word).map(|(_, option)| *option)
        };
        let associativity =
            word(&cache.associativity, &[("none", "none"), ("direct", "direct"), ("full", "complex")]);
        let policy = word(
            &cache.policy,
            &[("none", "none"), ("writeback", "write-back"), ("writethrough", "write-through")],
        );
        let (Some(associativity), Some(policy)) = (associativity, policy) else {
            return Err(Error::xml("Invalid cache associativity or policy"));
        };
        let mut text = format!(
            "hmat-cache,node-id={node},size={}K,level={},associativity={associativity},policy={policy}",
            cache.size.as_ref().map_or(0, |size| bytes(size) / 1024),
            cache.level
        );
        if let Some(line) = cache.line.as_ref().map(bytes).filter(|line| *line > 0) {
            text += &format!(",line={line}");
        }
        self.option("-numa", text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_taken_apart_and_put_together() {
        let set = members("0-3,^2,8,9").expect("a set");
        assert_eq!(set, [0, 1, 3, 8, 9]);
        assert_eq!(ranges(&set), ["0-1", "3", "8-9"]);
        assert!(members("0-4000000000").is_err());
        assert!(members("x").is_err());
        assert!(!in_set("x", 0));
    }
}
