//! Smaller devices.

use xml::{Internal, element, words};

use crate::address::{BootInfo, Info, VirtioDriver, VirtioOptions};
use crate::chardev::{CharMode, CharSource, CharType};
use crate::units::{Bytes, Mib};
use crate::words::{OnOff, YesNo};

/// How a file system is shared.
#[element]
pub struct FilesystemDriver {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub format: Option<String>,
    #[attr]
    pub wrpolicy: Option<String>,
    #[attr]
    pub queue: Option<u64>,
    #[flatten]
    pub virtio: VirtioOptions,
}

/// A mode of something.
#[element]
pub struct Mode {
    #[attr]
    pub mode: String,
}

/// Which locks are passed on.
#[element]
pub struct Lock {
    #[attr]
    pub posix: Option<OnOff>,
    #[attr]
    pub flock: Option<OnOff>,
}

/// A number of threads.
#[element]
pub struct ThreadPool {
    #[attr]
    pub size: i32,
}

/// The program that serves a file system.
#[element]
pub struct FilesystemBinary {
    #[attr]
    pub path: Option<String>,
    #[attr]
    pub xattr: Option<OnOff>,
    #[child]
    pub cache: Option<Mode>,
    #[child]
    pub sandbox: Option<Mode>,
    #[child]
    pub lock: Option<Lock>,
    #[child]
    pub thread_pool: Option<ThreadPool>,
}

/// What is shared.
#[element]
pub struct FilesystemSource {
    #[attr]
    pub dir: Option<String>,
    #[attr]
    pub socket: Option<String>,
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub file: Option<String>,
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub usage: Option<u64>,
    #[attr]
    pub units: Option<String>,
    #[attr]
    pub pool: Option<String>,
    #[attr]
    pub volume: Option<String>,
}

/// The name in the guest.
#[element]
pub struct FilesystemTarget {
    #[attr]
    pub dir: String,
}

/// A shared file system.
#[element]
pub struct Filesystem {
    #[attr("type", default)]
    pub kind: FilesystemType,
    #[attr]
    pub accessmode: Option<AccessMode>,
    #[attr]
    pub model: Option<crate::disk::VirtioModel>,
    #[attr]
    pub multidevs: Option<String>,
    #[attr]
    pub fmode: Option<String>,
    #[attr]
    pub dmode: Option<String>,
    #[child]
    pub driver: Option<FilesystemDriver>,
    #[child]
    pub binary: Option<FilesystemBinary>,
    #[child]
    pub source: Option<FilesystemSource>,
    #[child]
    pub target: Option<FilesystemTarget>,
    #[flag("readonly")]
    pub read_only: bool,
    #[child]
    pub space_hard_limit: Option<Bytes>,
    #[child]
    pub space_soft_limit: Option<Bytes>,
    #[flatten]
    pub info: BootInfo,
}

/// Kinds of shared file systems.
#[words]
pub enum FilesystemType {
    Mount,
    Block,
    File,
    Template,
    Ram,
    Bind,
    Volume,
}

/// With whose rights files are reached.
#[words]
pub enum AccessMode {
    Passthrough,
    Mapped,
    Squash,
}

/// A limit of randomness.
#[element]
pub struct RngRate {
    #[attr]
    pub bytes: u32,
    #[attr]
    pub period: Option<u32>,
}

/// Where randomness comes from.
#[element]
pub struct RngBackend {
    #[attr]
    pub model: RngModel,
    #[flatten]
    pub source: CharSource,
    #[content]
    pub path: Option<String>,
}

/// Where randomness comes from.
#[words]
pub enum RngModel {
    Random,
    Egd,
    Builtin,
}

/// A source of randomness.
#[element]
pub struct Rng {
    #[attr]
    pub model: crate::disk::VirtioModel,
    #[child]
    pub rate: Option<RngRate>,
    #[child]
    pub backend: Option<RngBackend>,
    #[child]
    pub driver: Option<VirtioDriver>,
    #[flatten]
    pub info: Info,
}

/// Models of security modules.
#[words]
pub enum TpmModel {
    TpmTis,
    TpmCrb,
    TpmSpapr,
    SpaprTpmProxy,
}

/// What a security module is at the host.
#[words]
pub enum TpmType {
    Passthrough,
    Emulator,
    External,
}

/// A file of the host.
#[element]
pub struct DevicePath {
    #[attr]
    pub path: String,
}

/// The secret that a state is encrypted with.
#[element]
pub struct TpmEncryption {
    #[attr]
    pub secret: String,
}

/// The active banks of registers.
#[element]
pub struct PcrBanks {
    #[flag]
    pub sha1: bool,
    #[flag]
    pub sha256: bool,
    #[flag]
    pub sha384: bool,
    #[flag]
    pub sha512: bool,
}

/// The socket of a security module.
#[element]
pub struct TpmSource {
    #[attr("type")]
    pub kind: CharType,
    #[attr]
    pub mode: Option<CharMode>,
    #[attr]
    pub path: Option<String>,
}

/// The host's end of a security module.
#[element]
pub struct TpmBackend {
    #[attr("type")]
    pub kind: TpmType,
    #[attr]
    pub version: Option<String>,
    #[attr]
    pub persistent_state: Option<YesNo>,
    #[child]
    pub device: Option<DevicePath>,
    #[child]
    pub encryption: Option<TpmEncryption>,
    #[child]
    pub active_pcr_banks: Option<PcrBanks>,
    #[child]
    pub source: Option<TpmSource>,
}

/// A security module.
#[element]
pub struct Tpm {
    #[attr]
    pub model: Option<TpmModel>,
    #[child]
    pub backend: Option<TpmBackend>,
    #[flatten]
    pub info: Info,
    /// What the driver notes of a running guest's module.
    #[child("privateData")]
    pub private: Internal,
}

/// Models of watchdogs.
#[words]
pub enum WatchdogModel {
    I6300esb,
    Ib700,
    Diag288,
    Itco,
}

/// What a watchdog does.
#[words]
pub enum WatchdogAction {
    Reset,
    Shutdown,
    Poweroff,
    Pause,
    Dump,
    None,
    #[word("inject-nmi")]
    InjectNmi,
}

/// A watchdog.
#[element]
pub struct Watchdog {
    #[attr]
    pub model: WatchdogModel,
    #[attr(default)]
    pub action: WatchdogAction,
    #[flatten]
    pub info: Info,
}

/// Models of balloons.
#[words]
pub enum BalloonModel {
    Virtio,
    Xen,
    None,
    VirtioTransitional,
    VirtioNonTransitional,
}

/// How often statistics are asked for, in seconds.
#[element]
pub struct BalloonStats {
    #[attr]
    pub period: i32,
}

/// What gives memory back to the host.
#[element]
pub struct Balloon {
    #[attr]
    pub model: BalloonModel,
    #[attr]
    pub autodeflate: Option<OnOff>,
    #[attr("freePageReporting")]
    pub free_page_reporting: Option<OnOff>,
    #[child]
    pub stats: Option<BalloonStats>,
    #[flatten]
    pub info: Info,
    #[child]
    pub driver: Option<VirtioDriver>,
}

/// Models of devices that report a panic.
#[words]
pub enum PanicModel {
    Isa,
    Pseries,
    Hyperv,
    S390,
    Pvpanic,
}

/// A device that reports a panic.
#[element]
pub struct Panic {
    #[attr]
    pub model: Option<PanicModel>,
    #[flatten]
    pub info: Info,
}

/// The address of a guest's sockets.
#[element]
pub struct Cid {
    #[attr]
    pub auto: Option<YesNo>,
    #[attr]
    pub address: Option<u32>,
}

/// Sockets between host and guest.
#[element]
pub struct Vsock {
    #[attr]
    pub model: Option<crate::disk::VirtioModel>,
    #[child]
    pub cid: Option<Cid>,
    #[flatten]
    pub info: Info,
}

/// How shared memory is shown to the guest.
#[element]
pub struct ShmemModel {
    #[attr("type")]
    pub kind: String,
}

/// The server of shared memory.
#[element]
pub struct ShmemServer {
    #[attr]
    pub path: Option<String>,
}

/// Interrupts of shared memory.
#[element]
pub struct ShmemMsi {
    #[attr]
    pub enabled: Option<YesNo>,
    #[attr]
    pub vectors: Option<u32>,
    #[attr]
    pub ioeventfd: Option<OnOff>,
}

/// Memory that guests share.
#[element]
pub struct Shmem {
    #[attr]
    pub name: String,
    #[attr]
    pub role: Option<String>,
    #[child]
    pub model: Option<ShmemModel>,
    #[child]
    pub size: Option<Mib>,
    #[child]
    pub server: Option<ShmemServer>,
    #[child]
    pub msi: Option<ShmemMsi>,
    #[flatten]
    pub info: Info,
}

/// Models of address translation for devices.
#[words]
pub enum IommuModel {
    Intel,
    Smmuv3,
    Virtio,
}

/// Options of address translation for devices.
#[element]
pub struct IommuDriver {
    #[attr]
    pub intremap: Option<OnOff>,
    #[attr]
    pub caching_mode: Option<OnOff>,
    #[attr]
    pub eim: Option<OnOff>,
    #[attr]
    pub iotlb: Option<OnOff>,
    #[attr]
    pub aw_bits: Option<u32>,
}

/// Address translation for devices.
#[element]
pub struct Iommu {
    #[attr]
    pub model: IommuModel,
    #[child]
    pub driver: Option<IommuDriver>,
    #[flatten]
    pub info: Info,
}

/// A USB hub.
#[element]
pub struct Hub {
    #[attr("type")]
    pub kind: HubType,
    #[flatten]
    pub info: Info,
}

/// Kinds of hubs.
#[words]
pub enum HubType {
    Usb,
}

/// A lock that a lease is taken on.
#[element]
pub struct Lease {
    #[text]
    pub lockspace: Option<String>,
    #[text]
    pub key: Option<String>,
    #[child]
    pub target: Option<LeaseTarget>,
}

/// The file of a lock.
#[element]
pub struct LeaseTarget {
    #[attr]
    pub path: String,
    #[attr]
    pub offset: Option<u64>,
}
