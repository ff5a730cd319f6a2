//! What the command line depends on besides the domain.

use crate::Result;
use domain_xml::interface::Interface;
use domain_xml::source::{Auth, PoolMode, Source, SourceType};

/// Where certificates are and what they are good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether TLS is used where the domain does not say.
    pub enabled: bool,
    /// Folder of the certificates.
    pub directory: String,
    /// Whether clients must have a certificate.
    pub verify: bool,
    /// The secret that decrypts the key.
    pub secret: Option<String>,
}

/// A place where large pages are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePageMount {
    /// The folder.
    pub directory: String,
    /// Size of a page in KiB.
    pub size: u64,
    /// Whether it has the host's default size.
    pub default: bool,
}

/// What the daemon's configuration says (keys of `qemu.conf` in parentheses).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether the daemon is the system's rather than a user's.
    pub privileged: bool,
    /// The guest's own folder.
    pub guest_folder: String,
    /// Folder of the guest's channels; the daemon's `channel/target/domain-ID-NAME`.
    pub channel_folder: String,
    /// Folder of firmware's variables.
    pub nvram_folder: String,
    /// Folder of the sockets of passt.
    pub passt_folder: String,
    /// Folder for memory in files (`memory_backing_dir`), with the guest's own part.
    pub memory_folder: String,
    /// The guest's part of paths in mounts of large pages: `libvirt/qemu/ID-NAME`.
    pub huge_page_part: String,
    /// Mounts of large pages (`hugetlbfs_mount`).
    pub huge_pages: Vec<HugePageMount>,
    /// Whether processes carry the guest's name (`set_process_name`).
    pub set_process_name: bool,
    /// Whether core dumps have the guest's memory (`dump_guest_core`).
    pub dump_guest_core: bool,
    /// Whether messages have a time (`log_timestamp`).
    pub log_timestamp: bool,
    /// `seccomp_sandbox`: on where there is no 0.
    pub sandbox: bool,
    /// What becomes of deprecated interfaces (`deprecation_behavior`).
    pub deprecation: String,
    /// `gluster_debug_level`.
    pub gluster_debug: u32,
    /// TLS of VNC (`vnc_tls*`).
    pub vnc_tls: Tls,
    /// Whether VNC clients need a password (`vnc_password`).
    pub vnc_password: bool,
    /// `vnc_sasl` and `vnc_sasl_dir`.
    pub vnc_sasl: Option<Option<String>>,
    /// TLS of Spice (`spice_tls*`).
    pub spice_tls: Tls,
    /// Whether Spice clients need a password (`spice_password`).
    pub spice_password: bool,
    /// `spice_sasl` and `spice_sasl_dir`.
    pub spice_sasl: Option<Option<String>>,
    /// TLS of character devices (`chardev_tls*`).
    pub chardev_tls: Tls,
    /// TLS of network block devices (`nbd_tls*`).
    pub nbd_tls: Tls,
    /// Whether the host enforces FIPS.
    pub fips: bool,
    /// The machine's architecture.
    pub host_arch: String,
}

/// The descriptors of a network interface, as they are called on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// Of tap devices, one a queue.
    pub tap: Vec<String>,
    /// Of vhost-net, one a queue; empty: not used.
    pub vhost: Vec<String>,
}

/// A volume of a storage pool, as a source of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// What it is.
    pub kind: SourceType,
    /// Where it is.
    pub source: Source,
    /// Who the pool's server is told that we are.
    pub auth: Option<Auth>,
}

/// A secret, sealed with the guest's master key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// AES-256-CBC, base64.
    pub data: String,
    /// Initialisation vector, base64.
    pub iv: String,
}

/// What the host is asked for while the command line is made. Each descriptor that it opens is handed to the emulator;
/// the names are what the command line calls them.
pub trait Host {
    /// Listens at the socket `path` for the device `alias`; `None`: the emulator does it.
    fn listen(&mut self, alias: &str, path: &str) -> Result<Option<String>>;
    /// Opens the other end of what a vhost-user device talks to.
    fn vhost_user(&mut self, alias: &str) -> Result<String>;
    /// Opens the file behind a character device; `None`: the emulator does it.
    fn output(&mut self, alias: &str, path: &str, append: bool) -> Result<Option<String>>;
    /// Makes the devices of an interface that has some.
    fn tap(&mut self, interface: &Interface) -> Result<Tap>;
    /// Opens a device for use through a set of descriptors.
    fn open(&mut self, path: &str, writable: bool) -> Result<String>;
    /// The descriptors that a client left under a name, and whether it wants to write; see `virDomainFDAssociate`.
    fn group(&mut self, name: &str) -> Result<(Vec<String>, bool)>;
    /// Whether the host has these nodes of memory.
    fn nodes_are_there(&mut self, nodes: &[u32]) -> Result<()>;
    /// Opens `/dev/vhost-scsi`.
    fn vhost_scsi(&mut self) -> Result<String>;
    /// Opens `/dev/vhost-vsock` and reserves the guest's address.
    fn vhost_vsock(&mut self, alias: &str) -> Result<(String, u32)>;
    /// The secret with that UUID or usage (`uuid:...`, `TYPE:usage`), sealed for the guest.
    fn secret(&mut self, reference: &str) -> Result<Sealed>;
    /// Seals a text of ours for the guest.
    fn seal(&mut self, text: &str) -> Result<Sealed>;
    /// A port for a display; the first that is free of the range for `kind`: `vnc`, `websocket`, `spice`, `spice-tls`.
    fn port(&mut self, kind: &str) -> Result<u16>;
    /// The number of the SCSI generic device (`/dev/sgN`) at an address of the host.
    fn scsi_generic(&mut self, adapter: &str, bus: u32, target: u32, unit: u64) -> Result<String>;
    /// Whether the path is a drive for disks that can be changed.
    fn is_cdrom(&mut self, path: &str) -> bool;
    /// Where a volume of a storage pool is.
    fn volume(&mut self, pool: &str, volume: &str, mode: Option<PoolMode>) -> Result<Volume>;
    /// The node of a graphics card that can draw.
    fn render_node(&mut self) -> Result<String>;
    /// The time in seconds since 1970, and what local time is ahead of it.
    fn now(&mut self) -> (i64, i64);
    /// The control file that cancels commands of the security module at `path`.
    fn tpm_cancel(&mut self, path: &str) -> Result<String>;
    /// The socket of the program that emulates the guest's security module.
    fn tpm_socket(&mut self, alias: &str) -> Result<String>;
}
