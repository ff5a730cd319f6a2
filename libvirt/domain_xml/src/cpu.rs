//! The guest's processors, and the nodes of its memory.

use xml::{element, words};

use crate::memory::MemoryAccess;
use crate::units::Kib;
use crate::words::{OnOff, YesNo};

/// How the model is chosen.
#[words]
pub enum CpuMode {
    Custom,
    HostModel,
    HostPassthrough,
    Maximum,
}

/// How exactly the guest must see the model.
#[words]
pub enum CpuMatch {
    Exact,
    Minimum,
    Strict,
}

/// Whether the guest's processors are checked when it starts.
#[words]
pub enum CpuCheck {
    Default,
    None,
    Partial,
    Full,
}

/// Whether another model will do.
#[words]
pub enum Fallback {
    Allow,
    Forbid,
}

/// The model.
#[element]
pub struct CpuModel {
    #[attr]
    pub fallback: Option<Fallback>,
    #[attr]
    pub vendor_id: Option<String>,
    #[content]
    pub name: Option<String>,
}

/// How processors are grouped.
#[element]
pub struct Topology {
    #[attr]
    pub sockets: u32,
    #[attr]
    pub dies: Option<u32>,
    #[attr]
    pub cores: u32,
    #[attr]
    pub threads: u32,
}

/// What the guest sees of caches.
#[element]
pub struct CpuCache {
    #[attr]
    pub level: Option<u32>,
    #[attr]
    pub mode: CpuCacheMode,
}

/// What the guest sees of caches.
#[words]
pub enum CpuCacheMode {
    Emulate,
    Passthrough,
    Disable,
}

/// The width of physical addresses.
#[element]
pub struct MaxPhysAddr {
    #[attr]
    pub mode: MaxPhysAddrMode,
    #[attr]
    pub bits: Option<u32>,
    /// The most that the host's width may give.
    #[attr]
    pub limit: Option<u32>,
}

/// Where the width of physical addresses comes from.
#[words]
pub enum MaxPhysAddrMode {
    Emulate,
    Passthrough,
}

/// What becomes of a feature.
#[words]
pub enum FeaturePolicy {
    Force,
    Require,
    Optional,
    Disable,
    Forbid,
}

/// A feature.
#[element]
pub struct CpuFeature {
    #[attr]
    pub policy: Option<FeaturePolicy>,
    #[attr]
    pub name: String,
}

/// A size of a cache.
#[element]
pub struct CacheSize {
    #[attr]
    pub value: u64,
    #[attr]
    pub unit: String,
}

/// A cache of a node's memory.
#[element]
pub struct NumaCache {
    #[attr]
    pub level: u32,
    #[attr]
    pub associativity: String,
    #[attr]
    pub policy: String,
    #[child]
    pub size: Option<CacheSize>,
    #[child]
    pub line: Option<CacheSize>,
}

/// The distance to another node.
#[element]
pub struct Sibling {
    #[attr]
    pub id: u32,
    #[attr]
    pub value: u32,
}

/// The distances to other nodes.
#[element]
pub struct Distances {
    #[child]
    pub sibling: Vec<Sibling>,
}

/// A node of processors and memory.
#[element]
pub struct NumaCell {
    #[attr]
    pub id: Option<u32>,
    #[attr]
    pub cpus: Option<String>,
    #[attr]
    pub memory: u64,
    #[attr]
    pub unit: Option<String>,
    #[attr("memAccess")]
    pub mem_access: Option<MemoryAccess>,
    #[attr]
    pub discard: Option<YesNo>,
    #[child]
    pub distances: Option<Distances>,
    #[child]
    pub cache: Vec<NumaCache>,
}

/// How long access to memory takes.
#[element]
pub struct Latency {
    #[attr]
    pub initiator: u32,
    #[attr]
    pub target: u32,
    #[attr]
    pub cache: Option<u32>,
    #[attr("type")]
    pub kind: String,
    #[attr]
    pub value: u64,
    #[attr]
    pub unit: Option<String>,
}

/// Times and widths between processors and memory.
#[element]
pub struct Interconnects {
    #[child]
    pub latency: Vec<Latency>,
    #[child]
    pub bandwidth: Vec<Latency>,
}

/// The nodes.
#[element]
pub struct Numa {
    #[child]
    pub cell: Vec<NumaCell>,
    #[child]
    pub interconnects: Option<Interconnects>,
}

/// The guest's processors.
#[element]
pub struct Cpu {
    #[attr]
    pub mode: Option<CpuMode>,
    #[attr("match")]
    pub matching: Option<CpuMatch>,
    #[attr]
    pub check: Option<CpuCheck>,
    #[attr]
    pub migratable: Option<OnOff>,
    #[child]
    pub model: Option<CpuModel>,
    #[text]
    pub vendor: Option<String>,
    #[child]
    pub topology: Option<Topology>,
    #[child]
    pub cache: Option<CpuCache>,
    #[child]
    pub maxphysaddr: Option<MaxPhysAddr>,
    #[child]
    pub feature: Vec<CpuFeature>,
    #[child]
    pub numa: Option<Numa>,
}

/// A size of a node in KiB, for use elsewhere.
pub fn cell_size(cell: &NumaCell) -> Kib {
    let factor = crate::units::scale(cell.unit.as_deref().unwrap_or("KiB")).unwrap_or(1024);
    Kib(cell.memory.saturating_mul(factor).div_ceil(1024))
}
