//! The guest's memory: how much, and where it comes from.

use xml::{element, words};

use crate::address::Info;
use crate::units::Kib;
use crate::words::{OnOff, YesNo};

/// How much memory the guest starts with.
#[element]
pub struct MemorySize {
    #[attr("dumpCore")]
    pub dump_core: Option<OnOff>,
    #[flatten]
    pub size: Kib,
}

/// How much memory the guest can have at most.
#[element]
pub struct MaxMemory {
    #[attr]
    pub slots: u32,
    #[flatten]
    pub size: Kib,
}

/// Pages of one size.
#[element]
pub struct Page {
    #[attr]
    pub size: String,
    #[attr]
    pub unit: Option<String>,
    #[attr]
    pub nodeset: Option<String>,
}

impl Page {
    /// The size in KiB.
    pub fn kib(&self) -> Option<u64> {
        let factor = crate::units::scale(self.unit.as_deref().unwrap_or("KiB"))?;
        Some(self.size.trim().parse::<u64>().ok()?.checked_mul(factor)? / 1024)
    }
}

/// Large pages.
#[element]
pub struct HugePages {
    #[child]
    pub page: Vec<Page>,
}

/// What memory is made of.
#[words]
pub enum MemorySourceType {
    None,
    File,
    Anonymous,
    Memfd,
}

/// What memory is made of.
#[element]
pub struct BackingSource {
    #[attr("type")]
    pub kind: MemorySourceType,
}

/// Whether memory is shared with other programs.
#[words]
pub enum MemoryAccess {
    Default,
    Shared,
    Private,
}

/// Whether memory is shared with other programs.
#[element]
pub struct BackingAccess {
    #[attr]
    pub mode: MemoryAccess,
}

/// When memory is taken.
#[words]
pub enum Allocate {
    None,
    Immediate,
    Ondemand,
}

/// When memory is taken.
#[element]
pub struct Allocation {
    #[attr]
    pub mode: Option<Allocate>,
    #[attr]
    pub threads: Option<u32>,
}

/// Where the guest's memory comes from.
#[element]
pub struct MemoryBacking {
    #[child]
    pub hugepages: Option<HugePages>,
    #[flag]
    pub nosharepages: bool,
    #[flag]
    pub locked: bool,
    #[child]
    pub source: Option<BackingSource>,
    #[child]
    pub access: Option<BackingAccess>,
    #[child]
    pub allocation: Option<Allocation>,
    #[flag]
    pub discard: bool,
}

/// Kinds of memory modules.
#[words]
pub enum MemoryModel {
    Dimm,
    Nvdimm,
    VirtioPmem,
    VirtioMem,
    SgxEpc,
}

/// Where a module's memory comes from.
#[element]
pub struct MemorySource {
    #[text]
    pub nodemask: Option<String>,
    #[child]
    pub pagesize: Option<Kib>,
    #[text]
    pub path: Option<String>,
    #[child]
    pub alignsize: Option<Kib>,
    #[flag]
    pub pmem: bool,
}

/// The label of a module.
#[element]
pub struct MemoryLabel {
    #[child]
    pub size: Option<Kib>,
}

/// What the guest sees of a module.
#[element]
pub struct MemoryTarget {
    #[child]
    pub size: Option<Kib>,
    #[text]
    pub node: Option<u32>,
    #[child]
    pub label: Option<MemoryLabel>,
    #[flag("readonly")]
    pub read_only: bool,
    #[child]
    pub block: Option<Kib>,
    #[child]
    pub requested: Option<Kib>,
    #[child]
    pub current: Option<Kib>,
}

/// A memory module.
#[element]
pub struct Memory {
    #[attr]
    pub model: MemoryModel,
    #[attr]
    pub access: Option<MemoryAccess>,
    #[attr]
    pub discard: Option<YesNo>,
    #[text]
    pub uuid: Option<String>,
    #[child]
    pub source: Option<MemorySource>,
    #[child]
    pub target: Option<MemoryTarget>,
    #[flatten]
    pub info: Info,
}

impl Memory {
    /// The size in KiB.
    pub fn size(&self) -> u64 {
        self.target.as_ref().and_then(|target| target.size).map_or(0, |size| size.0)
    }

    /// The node of the guest's memory that the module belongs to.
    pub fn node(&self) -> Option<u32> {
        self.target.as_ref()?.node
    }
}
