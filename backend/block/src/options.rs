//! `-drive` and the raw and file drivers of `-blockdev`, as typed options.

use crate::BlockError;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Nothing.
    Ignore,
    /// Their space is given back to the host.
    Unmap,
}

/// Where `-drive if=` puts the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// A device names it by id.
    None,
    /// A virtio-blk device is made for it.
    Virtio,
    /// The board's default (IDE).
    Default,
}

/// One image with how to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// `id=` (or `node-name=`).
    pub id: Option<String>,
    /// `file=`.
    pub file: Option<String>,
    /// `format=`; `None`: guess.
    pub format: Option<String>,
    /// `if=`.
    pub interface: Interface,
    /// `readonly=`.
    pub read_only: bool,
    /// `snapshot=`: writes go to a temporary file. Refused for now.
    pub snapshot: bool,
    /// `cache=` and its parts.
    pub cache: Cache,
    /// `discard=`.
    pub discard: Discard,
    /// Whether other writers are tolerated.
    pub share_rw: bool,
    /// `offset=` of the raw format: where in the file the disk begins.
    pub offset: u64,
    /// `size=` of the raw format.
    pub size: Option<u64>,
    /// `serial=`.
    pub serial: Option<String>,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self {
            id: None,
            file: None,
            format: None,
            interface: Interface::Default,
            read_only: false,
            snapshot: false,
            cache: Cache { direct: false, no_flush: false, writeback: true },
            discard: Discard::Ignore,
            share_rw: false,
            offset: 0,
            size: None,
            serial: None,
        }
    }
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

fn refuse(key: &str, value: &str) -> BlockError {
    BlockError(format!("{key}={value} is not supported"))
}

impl BlockOptions {
    /// Reads the keys of `-drive`.
    ///
    /// # Errors
    /// An unknown key, a value that does not fit, or something that is not built: QEMU's texts where it has one.
    pub fn from_drive<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BlockError> {
        let mut this = Self::default();
        for (key, value) in pairs {
            match key {
                "id" | "node-name" => this.id = Some(value.to_owned()),
                "file" | "file.filename" => this.file = Some(value.to_owned()),
                "file.driver" if value == "file" => {}
                "format" | "driver" => this.format = Some(value.to_owned()),
                "if" => {
                    this.interface = match value {
                        "none" => Interface::None,
                        "virtio" => Interface::Virtio,
                        "ide" | "scsi" | "floppy" | "pflash" | "mtd" | "sd" | "xen" => {
                            return Err(refuse(key, value));
                        }
                        _ => return Err(BlockError(format!("unsupported bus type '{value}'"))),
                    }
                }
                "readonly" | "read-only" => this.read_only = on_off(key, value)?,
                "snapshot" => {
                    if on_off(key, value)? {
                        return Err(refuse(key, value));
                    }
                }
                "cache" => {
                    this.cache =
                        Cache::by_name(value).ok_or_else(|| BlockError("invalid cache option".to_owned()))?;
                }
                "cache.direct" => this.cache.direct = on_off(key, value)?,
                "cache.no-flush" => this.cache.no_flush = on_off(key, value)?,
                "cache.writeback" => this.cache.writeback = on_off(key, value)?,
                "aio" => match value {
                    "threads" => {}
                    "native" | "io_uring" => return Err(refuse(key, value)),
                    _ => return Err(BlockError("invalid aio option".to_owned())),
                },
                "discard" => {
                    this.discard = match value {
                        "ignore" | "off" => Discard::Ignore,
                        "unmap" | "on" => Discard::Unmap,
                        _ => return Err(BlockError("Invalid discard option".to_owned())),
                    }
                }
                "detect-zeroes" if value == "off" => {}
                "media" => match value {
                    "disk" => {}
                    "cdrom" => return Err(refuse(key, value)),
                    _ => return Err(BlockError(format!("'{value}' invalid media"))),
                },
                "werror" | "rerror" => return Err(refuse(key, value)),
                "offset" => this.offset = number(key, value)?,
                "size" => this.size = Some(number(key, value)?),
                "serial" => this.serial = Some(value.to_owned()),
                "index" | "bus" | "unit" => {
                    number(key, value)?;
                    if this.interface != Interface::None {
                        return Err(refuse(key, value));
                    }
                }
                _ if is_known(key) => return Err(refuse(key, value)),
                _ => {
                    let format = this.format.as_deref().unwrap_or("raw");
                    return Err(BlockError(format!(
                        "Block format '{format}' does not support the option '{key}'"
                    )));
                }
            }
        }
        Ok(this)
    }
}

/// Keys of QEMU's that are not built.
fn is_known(key: &str) -> bool {
    key.starts_with("throttling.")
        || key.starts_with("bps")
        || key.starts_with("iops")
        || matches!(key, "detect-zeroes" | "copy-on-read" | "stats-account-invalid" | "stats-account-failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_read() {
        let drive = BlockOptions::from_drive([
            ("file", "x.img"),
            ("if", "none"),
            ("id", "d0"),
            ("format", "raw"),
            ("cache", "none"),
            ("readonly", "on"),
        ])
        .expect("drive");
        assert_eq!((drive.id.as_deref(), drive.interface), (Some("d0"), Interface::None));
        assert_eq!(drive.cache, Cache { direct: true, no_flush: false, writeback: true });
        assert!(drive.read_only);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (key, value, text) in [
            ("snapshot", "on", "snapshot=on is not supported"),
            ("throttling.iops-total", "5", "throttling.iops-total=5 is not supported"),
            ("foo", "1", "Block format 'raw' does not support the option 'foo'"),
            ("cache", "foo", "invalid cache option"),
        ] {
            assert_eq!(BlockOptions::from_drive([(key, value)]).expect_err(key).0, text);
        }
    }
}
