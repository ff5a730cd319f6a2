//! The nodes of memory.

use crate::parse::{list, meminfo, number, text};
use std::path::Path;

/// Large pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Size of a page in KiB.
    pub size: u64,
    /// How many there are.
    pub total: u64,
    /// How many nobody uses.
    pub free: u64,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its number.
    pub id: usize,
    /// Its memory in KiB.
    pub memory: u64,
    /// Of that, what nobody uses.
    pub free: u64,
    /// Its processors.
    pub cpus: Vec<usize>,
    /// The distances to all nodes.
    pub distances: Vec<u32>,
    /// Its large pages, the smallest first.
    pub huge_pages: Vec<HugePages>,
}

impl Cell {
    /// How many nodes the host below `root` has, and KiB of memory of all of them.
    pub(crate) fn totals(root: &Path) -> (usize, u64) {
        let directory = root.join(NODES);
        let total = |file: &Path| meminfo(&text(file), "MemTotal").unwrap_or(0);
        match &numbers(root)[..] {
            [] => (1, total(&root.join("proc/meminfo"))),
            ids => {
                let of = |id| total(&directory.join(format!("node{id}/meminfo")));
                (ids.len(), ids.iter().map(of).sum())
            }
        }
    }

    /// The nodes of the host below `root`; a host that tells of none has one.
    pub fn read_all(root: &Path) -> Vec<Self> {
        let directory = root.join(NODES);
        let ids = numbers(root);
        if ids.is_empty() {
            let memory = text(&root.join("proc/meminfo"));
            return vec![Self {
                memory: meminfo(&memory, "MemTotal").unwrap_or(0),
                free: meminfo(&memory, "MemFree").unwrap_or(0),
                cpus: list(&text(&root.join("sys/devices/system/cpu/online"))),
                huge_pages: huge_pages(&root.join("sys/kernel/mm/hugepages")),
                ..Self::default()
            }];
        }
        ids.into_iter().map(|id| Self::read(&directory.join(format!("node{id}")), id)).collect()
    }

    fn read(place: &Path, id: usize) -> Self {
        let memory = text(&place.join("meminfo"));
        let distances = text(&place.join("distance"));
        Self {
            id,
            memory: meminfo(&memory, "MemTotal").unwrap_or(0),
            free: meminfo(&memory, "MemFree").unwrap_or(0),
            cpus: list(&text(&place.join("cpulist"))),
            distances: distances.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
            huge_pages: huge_pages(&place.join("hugepages")),
        }
    }

    /// Pages of the usual size, in KiB: what is not in large ones.
    pub fn small_pages(&self, size: u64) -> u64 {
        let large: u64 = self.huge_pages.iter().map(|pages| pages.size * pages.total).sum();
        self.memory.saturating_sub(large) / size.max(1)
    }
}

/// The nodes' directory.
const NODES: &str = "sys/devices/system/node";

/// The numbers of the nodes; none on a host that tells of none.
fn numbers(root: &Path) -> Vec<usize> {
    list(&text(&root.join(NODES).join("online")))
}

fn huge_pages(place: &Path) -> Vec<HugePages> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = |file: &str| number(&entry.path().join(file)).unwrap_or(0);
            Some(HugePages { size, total: count("nr_hugepages"), free: count("free_hugepages") })
        })
        .collect();
    found.sort_by_key(|pages| pages.size);
    found
}

/// Size of a page of the usual kind, in KiB.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64 / 1024
}
