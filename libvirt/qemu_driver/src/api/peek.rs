//! Looks into disks and memory of guests, and what is measured there.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, not_running, system, unsupported};
use crate::query;
use domain_xml::Domain as Definition;
use domain_xml::disk::Disk;
use domain_xml::source::{DiskFormat, SourceType};
use domain_xml::words::OnOff;
use json::dict;
use rpc::Code;
use rpc::protocol::device::*;
use rpc::protocol::limits::{DOMAIN_BLOCK_PEEK_BUFFER_MAX, DOMAIN_MEMORY_PEEK_BUFFER_MAX};
use rpc::protocol::stats::DomainStartDirtyRateCalcArgs;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, fchown};

fn invalid(detail: impl Into<String>) -> rpc::Error {
    error(Code::InvalidArg, detail)
}

/// The buffer that an answer fits into.
fn buffer(size: u32, most: usize) -> Result<Vec<u8>> {
    match usize::try_from(size) {
        Ok(size) if size <= most => Ok(vec![0; size]),
        _ => Err(crate::error::internal("size > maximum buffer size")),
    }
}

/// The disk with that target or path.
fn disk_named<'a>(definition: &'a Definition, name: &str) -> Result<&'a Disk> {
    query::find_disk(definition, name).ok_or_else(|| invalid(format!("disk '{name}' not found in domain")))
}

/// The target of `vda` and `vda[3]`, and the number.
fn target_and_index(name: &str) -> Option<(&str, Option<u32>)> {
    match name.split_once('[') {
        None => Some((name, None)),
        Some((target, rest)) => Some((target, Some(rest.strip_suffix(']')?.parse().ok()?))),
    }
}

/// The number of the image that a name means: of the disk's own, or of one that it stands on.
fn image_named(definition: &Definition, name: &str) -> Result<u32> {
    let unknown = |name: &str| invalid(format!("failed to find disk '{name}'"));
    let (target, wanted) =
        target_and_index(name).ok_or_else(|| invalid(format!("failed to parse block device '{name}'")))?;
    let disk = definition.devices.disk.iter().find(|disk| disk.dev() == target);
    let disk = disk.ok_or_else(|| unknown(target))?;
    if disk.kind == SourceType::VhostUser {
        let detail = "setting device threshold is not supported for vhostuser disk";
        return Err(error(Code::OperationUnsupported, detail));
    }
    let own = disk.source.as_ref().and_then(|source| source.index);
    let Some(wanted) = wanted.filter(|wanted| *wanted > 0) else { return own.ok_or_else(|| unknown(name)) };
    let mut found = own == Some(wanted);
    let mut link = disk.backing_store.as_deref();
    while let Some(store) = link {
        found |= store.index == Some(wanted);
        link = store.backing_store.as_deref();
    }
    if found { Ok(wanted) } else { Err(unknown(name)) }
}

impl QemuDriver {
    pub(super) fn block_peek(&self, args: &DomainBlockPeekArgs) -> Result<DomainBlockPeekRet> {
        let mut buffer = buffer(args.size, DOMAIN_BLOCK_PEEK_BUFFER_MAX)?;
        check_flags(args.flags, 0, "qemuDomainBlockPeek")?;
        let guest = self.guest(&args.dom)?;
        let definition = guest.lock().current();
        let definition = definition.ok_or_else(|| crate::error::internal("no definition"))?;
        let disk = disk_named(&definition, &args.path)?;
        let refuse = |detail: String| Err(error(Code::OperationUnsupported, detail));
        if disk.kind == SourceType::VhostUser {
            return refuse("peeking is not supported for vhostuser disk".to_owned());
        }
        let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::None);
        if format != DiskFormat::Raw {
            return refuse(format!("peeking is only supported for disk with 'raw' format not '{format}'"));
        }
        if disk.source.as_ref().is_some_and(|source| source.fdgroup.is_some()) {
            return refuse("peeking is not supported for FD passed images".to_owned());
        }
        let path = query::local_path(disk).ok_or_else(|| {
            let protocol = disk.source.as_ref().and_then(|source| source.protocol);
            let protocol = protocol.map_or_else(|| "none".to_owned(), |protocol| protocol.to_string());
            let kind = disk.kind;
            crate::error::internal(format!(
                "storage file reading is not supported for storage type {kind} (protocol: {protocol})"
            ))
        })?;
        let failed =
            |what: &str, error: &std::io::Error| system(error, &format!("Failed to {what} file '{path}'"));
        let file = File::open(path).map_err(|error| failed("open", &error))?;
        let mut filled = 0;
        while filled < buffer.len() {
            let place = args.offset.saturating_add(filled as u64);
            match file.read_at(&mut buffer[filled..], place) {
                Ok(0) => {
                    let (path, offset) = (&args.path, args.offset);
                    let detail = format!("'{path}' starting from {offset} has only {filled} bytes available");
                    return Err(invalid(detail));
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &error)),
            }
        }
        Ok(DomainBlockPeekRet { buffer })
    }

    pub(super) fn memory_peek(&self, args: &DomainMemoryPeekArgs) -> Result<DomainMemoryPeekRet> {
        const VIRTUAL: u32 = 1;
        const PHYSICAL: u32 = 2;
        let mut buffer = buffer(args.size, DOMAIN_MEMORY_PEEK_BUFFER_MAX)?;
        check_flags(args.flags, VIRTUAL | PHYSICAL, "qemuDomainMemoryPeek")?;
        let guest = self.guest(&args.dom)?;
        let command = match args.flags {
            VIRTUAL => "memsave",
            PHYSICAL => "pmemsave",
            _ => return Err(invalid("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL")),
        };
        let _job = guest.jobs.begin("virDomainMemoryPeek")?;
        let directory = guest.lock().live.as_ref().ok_or_else(not_running)?.directory.clone();
        let random: [u8; 8] = crate::files::random().map_err(|error| system(&error, "no random numbers"))?;
        let path = directory.join(format!("qemu.mem.{:016x}", u64::from_ne_bytes(random)));
        let shown = path.to_string_lossy().into_owned();
        let failed = |error: std::io::Error| system(&error, &format!("cannot use temporary file '{shown}'"));
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let mut file = opened.map_err(failed)?;
        let saved = || {
            if let Some((user, group)) = self.core.config.owner {
                fchown(&file, Some(user), Some(group)).map_err(failed)?;
            }
            let arguments =
                dict! { "val" => args.offset, "size" => u64::from(args.size), "filename" => shown.as_str() };
            guest.execute(command, arguments)
        };
        let saved = saved();
        let _ = std::fs::remove_file(&path);
        saved?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]).map_err(failed)? {
                0 => {
                    return Err(crate::error::internal(
                        "the emulator saved less memory than it was asked for",
                    ));
                }
                count => filled += count,
            }
        }
        Ok(DomainMemoryPeekRet { buffer })
    }

    pub(super) fn set_block_threshold(&self, args: &DomainSetBlockThresholdArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainSetBlockThreshold")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetBlockThreshold")?;
        let definition = guest.lock().live.as_ref().ok_or_else(not_running)?.definition.clone();
        let image = image_named(&definition, &args.dev)?;
        let node = format!("libvirt-{image}-storage");
        let arguments = dict! { "node-name" => node, "write-threshold" => args.threshold };
        guest.execute("block-set-write-threshold", arguments)?;
        if let Some(live) = &mut guest.lock().live {
            live.indexed_thresholds.retain(|indexed| *indexed != image);
            // Who names the image wants it named in the event.
            live.indexed_thresholds.extend(args.dev.contains('[').then_some(image));
        }
        Ok(())
    }

    pub(super) fn start_dirty_rate(&self, args: &DomainStartDirtyRateCalcArgs) -> Result<()> {
        const BITMAP: u32 = 1;
        const RING: u32 = 2;
        const SECONDS: std::ops::RangeInclusive<i32> = 1..=60;
        check_flags(args.flags, BITMAP | RING, "qemuDomainStartDirtyRateCalc")?;
        let seconds = args.seconds;
        if !SECONDS.contains(&seconds) {
            let detail = format!("seconds={seconds} is invalid, please choose value within [1, 60].");
            return Err(unsupported(detail));
        }
        let guest = self.guest(&args.dom)?;
        let (definition, caps) = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            (live.definition.clone(), live.caps.clone())
        };
        let refuse = |detail: &str| Err(error(Code::OperationUnsupported, detail));
        if !caps.has("calc-dirty-rate") {
            return refuse("QEMU does not support calculating dirty page rate");
        }
        let mut arguments = dict! { "calc-time" => i64::from(seconds) };
        if args.flags & BITMAP != 0 {
            arguments.insert("mode", "dirty-bitmap".into());
        } else if args.flags & RING != 0 {
            let ring = definition.features.as_ref().and_then(|features| features.kvm.as_ref());
            if ring.and_then(|kvm| kvm.dirty_ring.as_ref()).is_none_or(|ring| ring.state != OnOff::On) {
                return refuse("dirty-ring calculation mode requires dirty-ring feature enabled.");
            }
            arguments.insert("mode", "dirty-ring".into());
        }
        let _job = guest.jobs.begin("virDomainStartDirtyRateCalc")?;
        guest.execute("calc-dirty-rate", arguments).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let text = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
            <disk type='file' device='disk'><source file='/a' index='3'/><backingStore type='file' index='4'>\
            <format type='raw'/><source file='/b'/><backingStore/></backingStore><target dev='vda'/></disk>\
            </devices></domain>";
        let definition = domain_xml::parse(text).expect("xml");
        assert_eq!(image_named(&definition, "vda").expect("the disk's own"), 3);
        assert_eq!(image_named(&definition, "vda[4]").expect("what it stands on"), 4);
        let refused = |name: &str| image_named(&definition, name).expect_err("refused").to_string();
        assert_eq!(refused("vdb"), "invalid argument: failed to find disk 'vdb'");
        assert_eq!(refused("vda[5]"), "invalid argument: failed to find disk 'vda[5]'");
        assert_eq!(refused("vda[x]"), "invalid argument: failed to parse block device 'vda[x]'");
        assert!(buffer(5, 4).is_err() && buffer(4, 4).is_ok());
    }
}
