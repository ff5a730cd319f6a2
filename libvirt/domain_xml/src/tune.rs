//! What the guest gets of the host.

use xml::{element, words};

use crate::units::Kib;
use crate::words::YesNo;

/// How virtual processors are placed.
#[words]
pub enum Placement {
    Static,
    Auto,
}

/// The number of processors.
#[element]
pub struct Vcpu {
    #[attr]
    pub placement: Option<Placement>,
    #[attr]
    pub cpuset: Option<String>,
    #[attr]
    pub current: Option<u32>,
    #[content]
    pub count: u32,
}

/// One processor.
#[element]
pub struct VcpuState {
    #[attr]
    pub id: u32,
    #[attr]
    pub enabled: YesNo,
    #[attr]
    pub hotpluggable: Option<YesNo>,
    #[attr]
    pub order: Option<u32>,
}

/// The processors one by one.
#[element]
pub struct Vcpus {
    #[child]
    pub vcpu: Vec<VcpuState>,
}

/// A thread for disks.
#[element]
pub struct IoThread {
    #[attr]
    pub id: u32,
    #[attr]
    pub thread_pool_min: Option<i32>,
    #[attr]
    pub thread_pool_max: Option<i32>,
}

/// Threads for disks.
#[element]
pub struct IoThreadIds {
    #[child]
    pub iothread: Vec<IoThread>,
}

/// Sizes of the main thread's pool.
#[element]
pub struct DefaultIoThread {
    #[attr]
    pub thread_pool_min: Option<i32>,
    #[attr]
    pub thread_pool_max: Option<i32>,
}

/// Where a virtual processor runs.
#[element]
pub struct VcpuPin {
    #[attr]
    pub vcpu: u32,
    #[attr]
    pub cpuset: String,
}

/// Where the emulator runs.
#[element]
pub struct EmulatorPin {
    #[attr]
    pub cpuset: String,
}

/// Where a thread for disks runs.
#[element]
pub struct IoThreadPin {
    #[attr]
    pub iothread: u32,
    #[attr]
    pub cpuset: String,
}

/// How threads are scheduled.
#[element]
pub struct Sched {
    #[attr]
    pub vcpus: Option<String>,
    #[attr]
    pub iothreads: Option<String>,
    #[attr]
    pub scheduler: String,
    #[attr]
    pub priority: Option<i32>,
}

/// Shares of processor time.
#[element]
pub struct CpuTune {
    #[text]
    pub shares: Option<u64>,
    #[text]
    pub period: Option<u64>,
    #[text]
    pub quota: Option<i64>,
    #[text]
    pub global_period: Option<u64>,
    #[text]
    pub global_quota: Option<i64>,
    #[text]
    pub emulator_period: Option<u64>,
    #[text]
    pub emulator_quota: Option<i64>,
    #[text]
    pub iothread_period: Option<u64>,
    #[text]
    pub iothread_quota: Option<i64>,
    #[child]
    pub vcpupin: Vec<VcpuPin>,
    #[child]
    pub emulatorpin: Option<EmulatorPin>,
    #[child]
    pub iothreadpin: Vec<IoThreadPin>,
    #[child]
    pub emulatorsched: Option<Sched>,
    #[child]
    pub vcpusched: Vec<Sched>,
    #[child]
    pub iothreadsched: Vec<Sched>,
}

/// Limits of memory.
#[element]
pub struct MemTune {
    #[child]
    pub hard_limit: Option<Kib>,
    #[child]
    pub soft_limit: Option<Kib>,
    #[child]
    pub min_guarantee: Option<Kib>,
    #[child]
    pub swap_hard_limit: Option<Kib>,
}

/// How nodes of the host's memory are used.
#[words]
pub enum NumaMode {
    Strict,
    Preferred,
    Interleave,
    Restrictive,
}

/// The host's nodes for all memory.
#[element]
pub struct NumaMemory {
    #[attr]
    pub mode: Option<NumaMode>,
    #[attr]
    pub nodeset: Option<String>,
    #[attr]
    pub placement: Option<Placement>,
}

/// The host's nodes for one of the guest's.
#[element]
pub struct MemNode {
    #[attr]
    pub cellid: u32,
    #[attr]
    pub mode: NumaMode,
    #[attr]
    pub nodeset: String,
}

/// The host's nodes of memory.
#[element]
pub struct NumaTune {
    #[child]
    pub memory: Option<NumaMemory>,
    #[child]
    pub memnode: Vec<MemNode>,
}

/// Limits of a disk of the host.
#[element]
pub struct BlkioDevice {
    #[text]
    pub path: Option<String>,
    #[text]
    pub weight: Option<u32>,
    #[text]
    pub read_iops_sec: Option<u32>,
    #[text]
    pub write_iops_sec: Option<u32>,
    #[text]
    pub read_bytes_sec: Option<u64>,
    #[text]
    pub write_bytes_sec: Option<u64>,
}

/// Shares of disk traffic.
#[element]
pub struct BlkioTune {
    #[text]
    pub weight: Option<u32>,
    #[child]
    pub device: Vec<BlkioDevice>,
}

/// Where the guest's processes are counted.
#[element]
pub struct Resource {
    #[text]
    pub partition: Option<String>,
    #[child]
    pub fibrechannel: Option<FibreChannel>,
}

/// How traffic of Fibre Channel is marked.
#[element]
pub struct FibreChannel {
    #[attr]
    pub appid: String,
}

/// How user numbers are mapped.
#[element]
pub struct IdMapRow {
    #[attr]
    pub start: u32,
    #[attr]
    pub target: u32,
    #[attr]
    pub count: u32,
}

/// How user numbers are mapped.
#[element]
pub struct IdMap {
    #[child]
    pub uid: Vec<IdMapRow>,
    #[child]
    pub gid: Vec<IdMapRow>,
}

/// A counter of the host's processors.
#[element]
pub struct PerfEvent {
    #[attr]
    pub name: String,
    #[attr]
    pub enabled: YesNo,
}

/// Counters of the host's processors.
#[element]
pub struct Perf {
    #[child]
    pub event: Vec<PerfEvent>,
}

/// A security label.
#[element]
pub struct SecLabel {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub model: Option<String>,
    #[attr]
    pub relabel: Option<YesNo>,
    #[text]
    pub label: Option<String>,
    #[text]
    pub imagelabel: Option<String>,
    #[text]
    pub baselabel: Option<String>,
}

/// Encryption of the guest's memory.
#[element]
pub struct LaunchSecurity {
    #[attr("type")]
    pub kind: String,
    #[attr("kernelHashes")]
    pub kernel_hashes: Option<YesNo>,
    #[text]
    pub cbitpos: Option<u32>,
    #[text("reducedPhysBits")]
    pub reduced_phys_bits: Option<u32>,
    #[text]
    pub policy: Option<xml::Hex<4>>,
    #[text("dhCert")]
    pub dh_cert: Option<String>,
    #[text]
    pub session: Option<String>,
}
