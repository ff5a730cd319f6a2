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
    /// The numbers of the nodes of the host below `root`; none if it tells of none.
    pub(crate) fn numbers(root: &Path) -> Vec<usize> {
        list(&text(&root.join(NODES).join("online")))
    }

    /// What tells of the memory of a node, or of the host.
    fn meminfo_of(root: &Path, node: Option<usize>) -> String {
        let own = node.map(|id| text(&root.join(NODES).join(format!("node{id}/meminfo"))));
        own.filter(|text| !text.is_empty()).unwrap_or_else(|| text(&root.join("proc/meminfo")))
    }

    /// KiB that nobody uses, of a node or of the host.
    pub(crate) fn free_of(root: &Path, node: Option<usize>) -> u64 {
        meminfo(&Self::meminfo_of(root, node), "MemFree").unwrap_or(0)
    }

    /// Pages of `size` KiB that nobody uses, of a node or of the host; none if there is no such size.
    pub(crate) fn free_large_pages(root: &Path, node: Option<usize>, size: u64) -> Option<u64> {
        let own = node.map(|id| root.join(NODES).join(format!("node{id}/hugepages")));
        let pools = own.filter(|path| path.exists()).unwrap_or_else(|| root.join("sys/kernel/mm/hugepages"));
        number(&pools.join(format!("hugepages-{size}kB/free_hugepages")))
    }

    /// How many nodes the host below `root` has, and KiB of memory of all of them.
    pub(crate) fn totals(root: &Path) -> (usize, u64) {
        let of = |cell| meminfo(&Self::meminfo_of(root, cell), "MemTotal").unwrap_or(0);
        match &Self::numbers(root)[..] {
            [] => (1, of(None)),
            ids => (ids.len(), ids.iter().map(|id| of(Some(*id))).sum()),
        }
    }

    /// The nodes of the host below `root`; a host that tells of none has one.
    pub fn read_all(root: &Path) -> Vec<Self> {
        let directory = root.join(NODES);
        let ids = Self::numbers(root);
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

fn huge_pages(place: &Path) -> Vec<HugePages> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(HugePages { size, total: number(&entry.path().join("nr_hugepages")).unwrap_or(0) })
        })
        .collect();
    found.sort_by_key(|pages| pages.size);
    found
}

/// Size of a page of the usual kind, in KiB.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64 / 1024
}
