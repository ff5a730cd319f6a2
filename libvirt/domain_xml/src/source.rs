//! Where a disk's data comes from.

use xml::{Internal, element, words};

use crate::address::PciAddress;
use crate::units::Bytes;
use crate::words::YesNo;

/// The kinds of places.
#[words]
pub enum SourceType {
    File,
    Block,
    Dir,
    Network,
    Volume,
    Nvme,
    #[word("vhostuser")]
    VhostUser,
}

/// Protocols of disks that are reached by the network.
#[words]
pub enum Protocol {
    Nbd,
    Rbd,
    Sheepdog,
    Gluster,
    Iscsi,
    Http,
    Https,
    Ftp,
    Ftps,
    Tftp,
    Vxhs,
    Nfs,
    Ssh,
}

/// How a host is reached.
#[words]
pub enum Transport {
    Tcp,
    Unix,
    Rdma,
}

/// A host that serves a disk.
#[element]
pub struct Host {
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub port: Option<u16>,
    #[attr]
    pub transport: Option<Transport>,
    #[attr]
    pub socket: Option<String>,
}

/// A reference to a secret.
#[element]
pub struct Secret {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub usage: Option<String>,
    #[attr]
    pub uuid: Option<String>,
}

/// Who a disk's server is told that we are.
#[element]
pub struct Auth {
    #[attr]
    pub username: String,
    #[child]
    pub secret: Option<Secret>,
}

/// Algorithm of an encryption.
#[element]
pub struct Cipher {
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub size: Option<u32>,
    #[attr]
    pub mode: Option<String>,
    #[attr]
    pub hash: Option<String>,
}

/// Formats of encrypted disks.
#[words]
pub enum EncryptionFormat {
    Default,
    Qcow,
    Luks,
    Luks2,
    #[word("luks-any")]
    LuksAny,
}

/// What decrypts a disk.
#[words]
pub enum EncryptionEngine {
    Qemu,
    Librbd,
}

/// A disk's encryption.
#[element]
pub struct Encryption {
    #[attr]
    pub format: EncryptionFormat,
    #[attr]
    pub engine: Option<EncryptionEngine>,
    #[child]
    pub secret: Vec<Secret>,
    #[child]
    pub cipher: Option<Cipher>,
    #[child]
    pub ivgen: Option<Cipher>,
}

/// A security label of a file.
#[element]
pub struct SourceLabel {
    #[attr]
    pub model: Option<String>,
    #[attr]
    pub relabel: Option<YesNo>,
    #[attr]
    pub labelskip: Option<YesNo>,
    #[text]
    pub label: Option<String>,
}

/// A name of something at the source.
#[element]
pub struct Named {
    #[attr]
    pub name: String,
}

/// A configuration file.
#[element]
pub struct ConfigFile {
    #[attr]
    pub file: String,
}

/// A cookie for the server.
#[element]
pub struct Cookie {
    #[attr]
    pub name: String,
    #[content]
    pub value: String,
}

/// The cookies.
#[element]
pub struct Cookies {
    #[child]
    pub cookie: Vec<Cookie>,
}

/// Whether certificates are looked at.
#[element]
pub struct Ssl {
    #[attr]
    pub verify: YesNo,
}

/// How much is read ahead.
#[element]
pub struct Readahead {
    #[attr]
    pub size: u64,
}

/// How long the server is waited for.
#[element]
pub struct Timeout {
    #[attr]
    pub seconds: u64,
}

/// How often a connection is tried again.
#[element]
pub struct Reconnect {
    #[attr]
    pub enabled: YesNo,
    #[attr]
    pub timeout: Option<u32>,
}

/// How often the connection of a disk is tried again; for how long that of NBD, in seconds.
#[element]
pub struct DiskReconnect {
    #[attr]
    pub enabled: Option<YesNo>,
    #[attr]
    pub timeout: Option<u32>,
    #[attr]
    pub delay: Option<u32>,
}

/// Who the initiator of iSCSI is.
#[element]
pub struct Iqn {
    #[child]
    pub iqn: Option<Named>,
}

/// Who an NFS server is told that we are.
#[element]
pub struct Identity {
    #[attr]
    pub user: Option<String>,
    #[attr]
    pub group: Option<String>,
}

/// A part of a disk.
#[element]
pub struct Slice {
    #[attr("type")]
    pub kind: String,
    #[attr]
    pub offset: u64,
    #[attr]
    pub size: u64,
}

/// The parts of a disk.
#[element]
pub struct Slices {
    #[child]
    pub slice: Vec<Slice>,
}

/// Where persistent reservations are handled.
#[element]
pub struct ReservationsSource {
    #[attr("type")]
    pub kind: String,
    #[attr]
    pub path: Option<String>,
    #[attr]
    pub mode: Option<String>,
}

/// Persistent reservations.
#[element]
pub struct Reservations {
    #[attr]
    pub managed: YesNo,
    #[child]
    pub source: Option<ReservationsSource>,
}

/// How a pool's volume is attached.
#[words]
pub enum PoolMode {
    Host,
    Direct,
}

/// Where a disk's data is. Which parts count depends on the disk's [`SourceType`].
#[element]
pub struct Source {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub file: Option<String>,
    #[attr]
    pub fdgroup: Option<String>,
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub dir: Option<String>,
    #[attr]
    pub protocol: Option<Protocol>,
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub query: Option<String>,
    #[attr]
    pub tls: Option<YesNo>,
    #[attr("tlsHostname")]
    pub tls_hostname: Option<String>,
    #[attr("tlsFromConfig")]
    pub tls_from_config: Option<u32>,
    #[attr]
    pub pool: Option<String>,
    #[attr]
    pub volume: Option<String>,
    #[attr]
    pub mode: Option<PoolMode>,
    #[attr]
    pub managed: Option<YesNo>,
    #[attr]
    pub namespace: Option<u64>,
    #[attr]
    pub path: Option<String>,
    #[attr("startupPolicy")]
    pub startup_policy: Option<String>,
    #[attr]
    pub index: Option<u32>,
    #[child]
    pub host: Vec<Host>,
    #[child]
    pub initiator: Option<Iqn>,
    #[child]
    pub identity: Option<Identity>,
    #[child]
    pub snapshot: Option<Named>,
    #[child]
    pub config: Option<ConfigFile>,
    #[child]
    pub ssl: Option<Ssl>,
    #[child]
    pub cookies: Option<Cookies>,
    #[child]
    pub readahead: Option<Readahead>,
    #[child]
    pub timeout: Option<Timeout>,
    #[child]
    pub address: Option<PciAddress>,
    #[child]
    pub reconnect: Option<DiskReconnect>,
    #[child]
    pub slices: Option<Slices>,
    #[child]
    pub seclabel: Vec<SourceLabel>,
    #[child]
    pub auth: Option<Auth>,
    #[child]
    pub encryption: Option<Encryption>,
    #[child]
    pub reservations: Option<Reservations>,
    /// What the driver notes of a running guest's image.
    #[child("privateData")]
    pub private: Internal,
}

/// Size of a cache of a format's metadata.
#[element]
pub struct MetadataCache {
    #[child]
    pub max_size: Option<Bytes>,
}

/// Format of a backing file.
#[element]
pub struct BackingFormat {
    #[attr("type")]
    pub kind: DiskFormat,
    #[child]
    pub metadata_cache: Option<MetadataCache>,
}

/// Formats of disk images.
#[words]
pub enum DiskFormat {
    Raw,
    None,
    Dir,
    Bochs,
    Cloop,
    Dmg,
    Iso,
    Vpc,
    Vdi,
    Fat,
    Vhd,
    Ploop,
    Cow,
    Qcow,
    Qcow2,
    Qed,
    Vmdk,
}

/// A link of the chain that a disk stands on. Empty: the end of the chain.
#[element]
pub struct BackingStore {
    #[attr("type")]
    pub kind: Option<SourceType>,
    #[attr]
    pub index: Option<u32>,
    #[child]
    pub format: Option<BackingFormat>,
    #[child]
    pub source: Option<Source>,
    #[child("backingStore")]
    pub backing_store: Option<Box<BackingStore>>,
}

/// A disk that data is copied to.
#[element]
pub struct Mirror {
    #[attr("type")]
    pub kind: Option<SourceType>,
    #[attr]
    pub file: Option<String>,
    #[attr("format")]
    pub format_name: Option<DiskFormat>,
    #[attr]
    pub job: Option<String>,
    #[attr]
    pub ready: Option<String>,
    #[child]
    pub format: Option<BackingFormat>,
    #[child]
    pub source: Option<Source>,
    #[child("backingStore")]
    pub backing_store: Option<Box<BackingStore>>,
}
