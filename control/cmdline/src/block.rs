//! Drives and block nodes.

use crate::misc::reason;
use crate::parse::{Builder, Raw, Stop, refuse};
use crate::{Blockdev, Cache, Drive, DriveInterface};
use json::Value;
use keyval::{Opts, parse_bool};

/// Keys of `-drive` that QEMU knows and this build does not.
fn known_but_unbuilt(key: &str) -> bool {
    matches!(
        key,
        "bus"
            | "unit"
            | "rerror"
            | "werror"
            | "copy-on-read"
            | "detect-zeroes"
            | "group"
            | "driver"
            | "node-name"
            | "auto-read-only"
            | "force-share"
            | "offset"
            | "size"
            | "locking"
            | "stats-intervals"
    ) || ["bps", "iops", "throttling.", "file.", "stats-"].iter().any(|prefix| key.starts_with(prefix))
}

pub(crate) fn drive(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, None);
    let interface = opts.get("if").unwrap_or("ide");
    if !["none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen"].contains(&interface) {
        return refuse(format!("unsupported bus type '{interface}'"));
    }
    let Some(file) = opts.get("file") else { return refuse("Must specify either driver or file") };
    let mut drive = Drive {
        location: raw.location.clone(),
        id: String::new(),
        file: file.to_owned(),
        interface: DriveInterface::None,
        format_given: false,
        read_only: false,
        cache: Cache::default(),
        discard: false,
    };
    for (key, value) in opts.iter() {
        match key {
            "file" | "id" | "if" | "index" => {}
            "media" if value == "disk" => {}
            "media" if value != "cdrom" => return refuse(format!("'{value}' invalid media")),
            "format" if value == "raw" => drive.format_given = true,
            "format" => {
                let known = [
                    "qcow2",
                    "qed",
                    "qcow",
                    "vmdk",
                    "vdi",
                    "vpc",
                    "vhdx",
                    "dmg",
                    "parallels",
                    "bochs",
                    "cloop",
                    "luks",
                ];
                if !known.contains(&value) {
                    return refuse(format!("Unknown driver '{value}'"));
                }
                return refuse(format!("format '{value}' is not supported by this build"));
            }
            "readonly" | "read-only" => drive.read_only = parse_bool("read-only", value)?,
            "cache" => match cache_mode(value) {
                Some(mode) => drive.cache = mode,
                None => return refuse("invalid cache option"),
            },
            "cache.direct" => drive.cache.direct = parse_bool(key, value)?,
            "cache.no-flush" => drive.cache.no_flush = parse_bool(key, value)?,
            "cache.writeback" => drive.cache.writeback = parse_bool(key, value)?,
            "discard" => match value {
                "unmap" | "on" => drive.discard = true,
                "ignore" | "off" => drive.discard = false,
                _ => return refuse("Invalid discard option"),
            },
            "aio" if value == "threads" => {}
            "snapshot" if !parse_bool(key, value)? => {}
            "aio" if !matches!(value, "native" | "io_uring") => return refuse("invalid aio option"),
            "aio" | "snapshot" | "media" => {
                return refuse(format!("'{key}={value}' is not supported by this build"));
            }
            _ if known_but_unbuilt(key) => return refuse(format!("'{key}' is not supported by this build")),
            _ => return refuse(format!("Block format 'raw' does not support the option '{key}'")),
        }
    }
    if let Some(error) = std::fs::File::open(&drive.file).err() {
        return refuse(format!("Could not open '{}': {}", drive.file, reason(&error)));
    }
    drive.interface = match interface {
        "none" => DriveInterface::None,
        "virtio" => DriveInterface::Virtio,
        _ => return refuse(format!("'if={interface}' is not supported by this build")),
    };
    drive.id = match opts.get("id") {
        Some(id) => id.to_owned(),
        None => {
            let index = builder.plan.drives.len();
            match drive.interface {
                DriveInterface::Virtio => {
                    builder.virtio_drives += 1;
                    format!("virtio{}", builder.virtio_drives - 1)
                }
                DriveInterface::None => format!("none{index}"),
            }
        }
    };
    builder.claim_id("drive", &drive.id.clone())?;
    builder.plan.drives.push(drive);
    Ok(())
}

fn cache_mode(name: &str) -> Option<Cache> {
    let mode = |writeback, direct, no_flush| Some(Cache { writeback, direct, no_flush });
    match name {
        "none" | "off" => mode(true, true, false),
        "writeback" => mode(true, false, false),
        "writethrough" => mode(false, false, false),
        "directsync" => mode(false, true, false),
        "unsafe" => mode(true, false, true),
        _ => None,
    }
}

/// Block drivers that QEMU knows and this build does not.
const UNBUILT_DRIVERS: &[&str] = &[
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
    "host_cdrom",
    "host_device",
    "http",
    "https",
    "iscsi",
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
    "ssh",
    "throttle",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
    "vvfat",
    "snapshot-access",
    "io_uring",
];

pub(crate) fn blockdev(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let node = keyval::dict(raw.value, Some("driver"))?;
    check_node(&node)?;
    let Some(Value::Str(name)) = node.get("node-name") else {
        return refuse("'node-name' must be specified for the root node");
    };
    check_node_name(name)?;
    if !builder.ids.insert(("node", name.clone())) {
        return refuse(format!("Duplicate nodes with node-name='{name}'"));
    }
    builder.plan.blockdevs.push(Blockdev { location: raw.location.clone(), node });
    Ok(())
}

fn check_node_name(name: &str) -> Result<(), Stop> {
    if name.len() > 31 {
        return refuse("Node name too long");
    }
    crate::items::check_id(name).or_else(|_| refuse(format!("Invalid node-name: '{name}'")))
}

fn check_node(node: &json::Dict) -> Result<(), Stop> {
    let driver = match node.get("driver") {
        None => return refuse("Parameter 'driver' is missing"),
        Some(Value::Str(driver)) => driver,
        Some(_) => return refuse("Invalid parameter type for 'driver', expected: string"),
    };
    match driver.as_str() {
        "file" => match node.get("filename") {
            Some(Value::Str(_)) => Ok(()),
            Some(_) => refuse("Invalid parameter type for 'filename', expected: string"),
            None => refuse("Parameter 'filename' is missing"),
        },
        "raw" => match node.get("file") {
            Some(Value::Dict(inner)) => check_node(inner),
            Some(Value::Str(_)) => Ok(()),
            Some(_) => refuse("Invalid parameter type for 'file', expected: BlockdevRef"),
            None => refuse("Parameter 'file' is missing"),
        },
        other if UNBUILT_DRIVERS.contains(&other) => {
            refuse(format!("block driver '{other}' is not supported by this build"))
        }
        other => refuse(format!("Parameter 'driver' does not accept value '{other}'")),
    }
}
