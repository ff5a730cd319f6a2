//! How an image is opened and used, and the keys of `-drive`.

use crate::BlockError;
use crate::throttle::{Throttling, check_aliases};

/// How the host caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bypass the host's page cache.
    pub direct: bool,
    /// Ignore flush requests.
    pub no_flush: bool,
    /// The device tells the guest that it has a write cache; off: every write is flushed.
    pub writeback: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { direct: false, no_flush: false, writeback: true }
    }
}

impl Cache {
    /// The mode that `cache=` names.
    pub fn by_name(name: &str) -> Option<Self> {
        let (direct, no_flush, writeback) = match name {
            "none" | "off" => (true, false, true),
            "writeback" => (false, false, true),
            "writethrough" => (false, false, false),
            "directsync" => (true, false, false),
            "unsafe" => (false, true, true),
            _ => return None,
        };
        Some(Self { direct, no_flush, writeback })
    }
}

/// What happens to discarded blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// Nothing.
    #[default]
    Ignore,
    /// Their space is given back to the host.
    Unmap,
}

/// What happens to writes of nothing but zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// They are writes.
    #[default]
    Off,
    /// They become write-zeroes requests.
    On,
    /// They become write-zeroes requests that may give space back, where discarding is on.
    Unmap,
}

/// Whether the image is locked against other users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Where the host's file system can.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How the kernel is asked to read and write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aio {
    /// By system calls that wait.
    #[default]
    Threads,
    /// By Linux's native asynchronous I/O.
    Native,
    /// By io_uring.
    IoUring,
}

impl Aio {
    /// The engine called `name`.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "threads" => Self::Threads,
            "native" => Self::Native,
            "io_uring" => Self::IoUring,
            _ => return None,
        })
    }
}

/// What a device does when the host cannot read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The guest is told.
    Report,
    /// The guest is told that all went well.
    Ignore,
    /// The machine stops, and tries again when it goes on.
    Stop,
    /// As `Stop` when the host has no space left, as `Report` otherwise.
    Enospc,
}

impl OnError {
    /// The policy called `name`; `write` tells which requests it is for.
    fn by_name(name: &str, write: bool) -> Result<Self, BlockError> {
        Ok(match name {
            "report" => Self::Report,
            "ignore" => Self::Ignore,
            "stop" => Self::Stop,
            "enospc" if write => Self::Enospc,
            _ => {
                let kind = if write { "write" } else { "read" };
                return Err(BlockError(format!("'{name}' invalid {kind} error action")));
            }
        })
    }
}

/// Where `-drive if=` puts the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interface {
    /// A device names it by id.
    None,
    /// A virtio-blk device is made for it.
    Virtio,
    /// By a device that is not built.
    Unbuilt(&'static str),
}

/// One image with how to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// The path; `None`: a drive without medium.
    pub file: Option<String>,
    /// `format=`; `None`: guess.
    pub format: Option<String>,
    /// Writes are refused.
    pub read_only: bool,
    /// A file that cannot be opened for writing is opened for reading.
    pub auto_read_only: bool,
    /// Other users are neither locked out nor minded.
    pub force_share: bool,
    /// Locks.
    pub locking: Locking,
    /// `aio=`.
    pub aio: Aio,
    /// `cache=` and its parts.
    pub cache: Cache,
    /// `discard=`.
    pub discard: Discard,
    /// `detect-zeroes=`.
    pub detect_zeroes: DetectZeroes,
    /// Where in the file the disk begins.
    pub offset: u64,
    /// Size of the disk; `None`: the rest of the file.
    pub size: Option<u64>,
    /// Writes go to a temporary file.
    pub snapshot: bool,
    /// A device is made for it without being asked for (`if=virtio`).
    pub automatic: bool,
    /// Policy for reads, unless the device has one.
    pub read_error: OnError,
    /// Policy for writes, unless the device has one.
    pub write_error: OnError,
    /// What is read from the image through a temporary file comes into that file.
    pub copy_on_read: bool,
    /// The limits of its requests.
    pub throttling: Throttling,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self {
            file: None,
            format: None,
            read_only: false,
            auto_read_only: false,
            force_share: false,
            locking: Locking::Auto,
            aio: Aio::Threads,
            cache: Cache::default(),
            discard: Discard::Ignore,
            detect_zeroes: DetectZeroes::Off,
            offset: 0,
            size: None,
            snapshot: false,
            automatic: false,
            read_error: OnError::Report,
            write_error: OnError::Enospc,
            copy_on_read: false,
            throttling: Throttling::default(),
        }
    }
}

/// A `-drive` as its keys say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveOptions {
    /// `id=`.
    pub id: Option<String>,
    /// `node-name=`.
    pub node_name: Option<String>,
    /// `if=`.
    pub interface: Interface,
    /// Place among the drives of the interface, if it was given (`index=` or `unit=`).
    pub index: Option<u64>,
    /// `bus=`, if given.
    pub bus: Option<u64>,
    /// `media=cdrom`: nothing writes to it.
    pub cdrom: bool,
    /// `snapshot=` was given: `-snapshot` does not change it.
    pub snapshot_given: bool,
    /// The image.
    pub image: BlockOptions,
}

fn on_off(key: &str, value: &str) -> Result<bool, BlockError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(BlockError(format!("Parameter '{key}' expects 'on' or 'off'"))),
    }
}

fn number(key: &str, value: &str) -> Result<u64, BlockError> {
    value.parse().map_err(|_| BlockError(format!("Parameter '{key}' expects a number")))
}

/// A number of bytes with an optional suffix.
fn size(key: &str, value: &str) -> Result<u64, BlockError> {
    keyval::parse_size(key, value, 1).map_err(|error| BlockError(error.0))
}

fn refuse(key: &str, value: &str) -> BlockError {
    BlockError(format!("'{key}={value}' is not supported by this build"))
}

/// Formats that QEMU knows and that are not built.
pub(crate) const UNBUILT_FORMATS: &[&str] = &[
    "blkdebug",
    "blklogwrites",
    "blkreplay",
    "blkverify",
    "bochs",
    "cloop",
    "compress",
    "copy-before-write",
    "copy-on-read",
    "dmg",
    "ftp",
    "ftps",
    "gluster",
    "host_cdrom",
    "host_device",
    "http",
    "https",
    "io_uring",
    "iscsi",
    "iser",
    "luks",
    "nbd",
    "nfs",
    "null-aio",
    "null-co",
    "nvme",
    "parallels",
    "preallocate",
    "qcow",
    "qcow2",
    "qed",
    "quorum",
    "rbd",
    "replication",
    "snapshot-access",
    "ssh",
    "throttle",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
    "vvfat",
];

/// Refuses names that are not those of files: `nbd:...`, `json:...`. A colon behind a slash is part of a path.
fn check_protocol(name: &str) -> Result<(), BlockError> {
    let Some((protocol, _)) = name.split_once(':').filter(|(protocol, _)| !protocol.contains('/')) else {
        return Ok(());
    };
    let known = ["json", "fat", "nbd+unix", "nbd+tcp", "rbd", "sheepdog", "gluster", "gluster+unix", "fd"];
    match protocol {
        "file" => Ok(()),
        _ if UNBUILT_FORMATS.contains(&protocol) || known.contains(&protocol) => {
            Err(BlockError(format!("protocol '{protocol}' is not supported by this build")))
        }
        _ => Err(BlockError(format!("Unknown protocol '{protocol}'"))),
    }
}

/// Checks that the format is one that is built.
pub(crate) fn check_format(name: &str) -> Result<(), BlockError> {
    match name {
        "raw" => Ok(()),
        _ if UNBUILT_FORMATS.contains(&name) => {
            Err(BlockError(format!("format '{name}' is not supported by this build")))
        }
        _ => Err(BlockError(format!("Unknown driver '{name}'"))),
    }
}

/// Keys of QEMU's that are not built.
fn is_known(key: &str) -> bool {
    key.starts_with("stats-") || matches!(key, "file.pr-manager" | "file.aio-max-batch" | "file.drop-cache")
}

/// Keys about the drive rather than its image, which a drive without one may have (limits are another matter).
fn is_of_the_drive(key: &str) -> bool {
    let own =
        ["if", "media", "index", "unit", "bus", "id", "file", "snapshot", "readonly", "read-only", "aio"];
    let others = ["werror", "rerror", "copy-on-read", "detect-zeroes"];
    own.contains(&key) || others.contains(&key) || key.starts_with("stats-")
}

/// What QEMU's option list checks before anything is made of it.
fn check_types(key: &str, value: &str) -> Result<(), BlockError> {
    match key {
        "index" | "bus" | "unit" => number(key, value).map(drop),
        "snapshot" | "copy-on-read" | "cache.direct" | "cache.no-flush" | "cache.writeback" => {
            on_off(key, value).map(drop)
        }
        // The old spelling is renamed before it is looked at.
        "readonly" | "read-only" => on_off("read-only", value).map(drop),
        _ => Ok(()),
    }
}

impl DriveOptions {
    /// Reads the keys of `-drive`.
    ///
    /// # Errors
    /// An unknown key, a value that does not fit, or something that is not built: QEMU's texts where it has one.
    pub fn parse(pairs: &[(&str, &str)]) -> Result<Self, BlockError> {
        let get = |key: &str| pairs.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value);
        check_aliases(pairs)?;
        for (key, value) in pairs {
            check_types(key, value)?;
        }
        let cdrom = match get("media") {
            None | Some("disk") => false,
            Some("cdrom") => true,
            Some(media) => return Err(BlockError(format!("'{media}' invalid media"))),
        };
        let interface = match get("if").unwrap_or("ide") {
            "none" => Interface::None,
            "virtio" => Interface::Virtio,
            other => {
                let known = ["ide", "scsi", "floppy", "pflash", "mtd", "sd", "xen"];
                match known.into_iter().find(|name| *name == other) {
                    Some(name) => Interface::Unbuilt(name),
                    None => return Err(BlockError(format!("unsupported bus type '{other}'"))),
                }
            }
        };
        let mut this = Self {
            id: None,
            node_name: None,
            interface,
            index: None,
            bus: None,
            cdrom,
            snapshot_given: get("snapshot").is_some(),
            image: BlockOptions {
                auto_read_only: true,
                automatic: interface == Interface::Virtio,
                ..BlockOptions::default()
            },
        };
        if get("index").is_some() && (get("bus").is_some() || get("unit").is_some()) {
            return Err(BlockError("index cannot be used with bus and unit".to_owned()));
        }
        for (key, value) in pairs.iter().filter(|(key, _)| matches!(*key, "cache" | "aio")) {
            this.set(key, value)?;
        }
        let mut rest = Vec::new();
        for (key, value) in pairs {
            if !this.image.throttling.set(key, value)? {
                rest.push((*key, *value));
            }
        }
        this.image.throttling.limits.check()?;
        let pairs = std::mem::take(&mut rest);
        for (key, value) in &pairs {
            if !this.set(key, value)? {
                rest.push((*key, *value));
            }
        }
        this.image.read_only |= cdrom;
        let image = &this.image;
        if let Some(format) = &image.format {
            check_format(format)?;
        }
        if get("format").is_some() && get("driver").is_some() {
            return Err(BlockError("Cannot specify both 'driver' and 'format'".to_owned()));
        }
        if get("file").is_some_and(|file| !file.is_empty()) && get("file.filename").is_some() {
            return Err(BlockError(
                "Can't specify 'file' and 'filename' options at the same time".to_owned(),
            ));
        }
        if image.file.is_none() && image.format.is_some() {
            return Err(BlockError("A block device must be specified for \"file\"".to_owned()));
        }
        if image.file.is_none() && get("file.driver").is_some() {
            return Err(BlockError("The 'file' block driver requires a file name".to_owned()));
        }
        if image.file.is_none() && pairs.iter().any(|(key, _)| !is_of_the_drive(key)) {
            return Err(BlockError("Must specify either driver or file".to_owned()));
        }
        if let Some((key, value)) = rest.iter().find(|(key, _)| is_known(key)) {
            return Err(refuse(key, value));
        }
        match rest.first() {
            Some((key, _)) => {
                let format = image.format.as_deref().unwrap_or("raw");
                Err(BlockError(format!("Block format '{format}' does not support the option '{key}'")))
            }
            None => Ok(this),
        }
    }

    /// Takes one key; false: it is not for us.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, BlockError> {
        let image = &mut self.image;
        match key {
            "if" | "media" => {}
            "id" => self.id = Some(value.to_owned()),
            "node-name" => self.node_name = Some(value.to_owned()),
            "index" | "unit" => self.index = Some(number(key, value)?),
            "bus" => self.bus = Some(number(key, value)?),
            "file" => {
                check_protocol(value)?;
                image.file = Some(value.to_owned()).filter(|path| !path.is_empty());
            }
            "file.filename" => image.file = Some(value.to_owned()).filter(|path| !path.is_empty()),
            "file.driver" => {
                if value != "file" {
                    check_format(value)
                        .and(Err(BlockError(format!("'{key}={value}' is not supported by this build"))))?;
                }
            }
            "file.locking" | "locking" => {
                image.locking = locking(key, value)
                    .map_err(|_| BlockError(format!("invalid parameter value: {value}")))?;
            }
            "format" | "driver" => image.format = Some(value.to_owned()),
            "readonly" | "read-only" => image.read_only = on_off("read-only", value)?,
            "auto-read-only" => image.auto_read_only = on_off(key, value)?,
            "force-share" => image.force_share = on_off(key, value)?,
            "snapshot" => image.snapshot = on_off(key, value)?,
            "cache" => {
                image.cache =
                    Cache::by_name(value).ok_or_else(|| BlockError("invalid cache option".to_owned()))?;
            }
            "cache.direct" => image.cache.direct = on_off(key, value)?,
            "cache.no-flush" => image.cache.no_flush = on_off(key, value)?,
            "cache.writeback" => image.cache.writeback = on_off(key, value)?,
            "aio" | "file.aio" => {
                image.aio = Aio::by_name(value).ok_or_else(|| BlockError("invalid aio option".to_owned()))?;
            }
            "discard" => {
                image.discard = match value {
                    "ignore" | "off" => Discard::Ignore,
                    "unmap" | "on" => Discard::Unmap,
                    _ => return Err(BlockError("Invalid discard option".to_owned())),
                }
            }
            "detect-zeroes" => {
                image.detect_zeroes = detect_zeroes(value)
                    .ok_or_else(|| BlockError(format!("invalid parameter value: {value}")))?;
            }
            "werror" => image.write_error = OnError::by_name(value, true)?,
            "rerror" => image.read_error = OnError::by_name(value, false)?,
            "offset" => image.offset = size(key, value)?,
            "size" => image.size = Some(size(key, value)?),
            "copy-on-read" => image.copy_on_read = on_off(key, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(crate) fn detect_zeroes(value: &str) -> Option<DetectZeroes> {
    Some(match value {
        "off" => DetectZeroes::Off,
        "on" => DetectZeroes::On,
        "unmap" => DetectZeroes::Unmap,
        _ => return None,
    })
}

pub(crate) fn locking(key: &str, value: &str) -> Result<Locking, BlockError> {
    Ok(match value {
        "auto" => Locking::Auto,
        "on" => Locking::On,
        "off" => Locking::Off,
        _ => return Err(BlockError(format!("Parameter '{key}' does not accept value '{value}'"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_read() {
        let drive = DriveOptions::parse(&[
            ("file", "x.img"),
            ("if", "none"),
            ("id", "d0"),
            ("format", "raw"),
            ("cache", "none"),
            ("readonly", "on"),
            ("werror", "stop"),
        ])
        .expect("drive");
        assert_eq!((drive.id.as_deref(), drive.interface), (Some("d0"), Interface::None));
        assert_eq!(drive.image.cache, Cache { direct: true, no_flush: false, writeback: true });
        assert!(drive.image.read_only && drive.image.auto_read_only);
        assert_eq!((drive.image.write_error, drive.image.read_error), (OnError::Stop, OnError::Report));
    }

    #[test]
    fn a_cdrom_is_not_written_to() {
        let drive =
            DriveOptions::parse(&[("file", "x.iso"), ("if", "none"), ("media", "cdrom")]).expect("drive");
        assert!(drive.image.read_only && drive.cdrom);
    }

    #[test]
    fn what_is_wrong_or_not_built_is_refused_by_name() {
        for (key, value, text) in [
            ("snapshot", "maybe", "Parameter 'snapshot' expects 'on' or 'off'"),
            ("stats-intervals", "5", "'stats-intervals=5' is not supported by this build"),
            ("throttling.foo", "5", "Block format 'raw' does not support the option 'throttling.foo'"),
            ("bps_max_length", "5", "Block format 'raw' does not support the option 'bps_max_length'"),
            ("copy-on-read", "maybe", "Parameter 'copy-on-read' expects 'on' or 'off'"),
            ("foo", "1", "Block format 'raw' does not support the option 'foo'"),
            ("cache", "foo", "invalid cache option"),
            ("format", "qcow2", "format 'qcow2' is not supported by this build"),
            ("format", "foo", "Unknown driver 'foo'"),
            ("rerror", "enospc", "'enospc' invalid read error action"),
            ("media", "foo", "'foo' invalid media"),
            ("if", "foo", "unsupported bus type 'foo'"),
            ("index", "x", "Parameter 'index' expects a number"),
            ("file", "foo:x", "Unknown protocol 'foo'"),
            ("file", "nbd:x:1", "protocol 'nbd' is not supported by this build"),
        ] {
            let pairs = [("file", "x"), ("if", "none"), (key, value)];
            assert_eq!(DriveOptions::parse(&pairs).expect_err(key).0, text);
        }
        assert!(DriveOptions::parse(&[("if", "none")]).expect("no medium").image.file.is_none());
        for (key, value) in [
            ("foo", "on"),
            ("cache", "none"),
            ("cache.direct", "on"),
            ("discard", "unmap"),
            ("node-name", "n"),
            ("file.locking", "on"),
            ("auto-read-only", "on"),
            ("size", "5"),
        ] {
            let refused = DriveOptions::parse(&[("if", "none"), (key, value)]).expect_err(key);
            assert_eq!(refused.0, "Must specify either driver or file", "{key}");
        }
        let nameless = DriveOptions::parse(&[("if", "none"), ("file.driver", "file")]).expect_err("no name");
        assert_eq!(nameless.0, "The 'file' block driver requires a file name");
        for (key, value) in [
            ("aio", "native"),
            ("readonly", "on"),
            ("snapshot", "on"),
            ("werror", "stop"),
            ("copy-on-read", "on"),
            ("detect-zeroes", "on"),
            ("bps", "100000"),
            ("throttling.group", "g"),
            ("media", "cdrom"),
            ("file", ""),
        ] {
            let empty = DriveOptions::parse(&[("if", "none"), (key, value)]).expect(key);
            assert!(empty.image.file.is_none(), "{key}");
        }
    }

    #[test]
    fn limits_are_read_and_contradictions_found() {
        let parse = |keys: &[(&'static str, &'static str)]| {
            let pairs = [&[("file", "x"), ("if", "none"), ("format", "raw")], keys].concat();
            DriveOptions::parse(&pairs).map(|drive| drive.image.throttling)
        };
        let made = parse(&[
            ("bps_rd", "5"),
            ("throttling.bps-read-max", "9"),
            ("throttling.bps-read-max-length", "3"),
            ("iops", "7"),
            ("iops_size", "0x1000"),
            ("group", "g"),
        ])
        .expect("sound");
        assert_eq!(made.group.as_deref(), Some("g"));
        assert_eq!(
            made.limits.describe(),
            "bps=0 bps_rd=5 bps_wr=0 bps_max=0 bps_rd_max=9 bps_wr_max=0 iops=7 iops_rd=0 iops_wr=0 iops_max=0 \
             iops_rd_max=0 iops_wr_max=0 iops_size=4096"
        );
        assert_eq!(made.limits.rates[1].length, 3);
        assert!(made.limits.any() && !parse(&[("bps", "0"), ("group", "g")]).expect("none").limits.any());
        const BOTH: &str = "bps/iops/max total values and read/write values cannot be used at the same time";
        const RANGE: &str = "bps/iops/max values must be within [0, 1000000000000000]";
        const LENGTH: &str = "throttling.bps-total-max-length";
        for (keys, text) in [
            (&[("bps", "5"), ("throttling.bps-read", "4")][..], BOTH),
            (&[("bps", "5"), ("bps_max", "5"), ("bps_wr_max", "5")], BOTH),
            (&[("bps", "1000000000000001")], RANGE),
            (&[("bps_max", "-1")], RANGE),
            (&[("bps", "5"), ("iops_size", "4")], "iops size requires an iops value to be set"),
            (&[("bps", "5"), (LENGTH, "0")], "the burst length cannot be 0"),
            (&[("bps", "5"), (LENGTH, "2")], "burst length set without burst rate"),
            (
                &[("bps", "5"), ("bps_max", "1000000000000"), (LENGTH, "1001")],
                "burst length too high for this burst rate",
            ),
            (&[("bps_max", "5")], "bps_max/iops_max require corresponding bps/iops values"),
            (&[("bps", "10"), ("bps_max", "5")], "bps_max/iops_max cannot be lower than bps/iops"),
            (
                &[("bps", "5"), ("throttling.bps-total", "5")],
                "'throttling.bps-total' and its alias 'bps' can't be used at the same time",
            ),
            (&[("iops", "1k")], "Parameter 'throttling.iops-total' expects a number"),
        ] {
            assert_eq!(parse(keys).expect_err(text).0, text, "{keys:?}");
        }
    }
}
