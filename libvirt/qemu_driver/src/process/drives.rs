//! What is in the guest's drives: it may have changed while nobody looked.

use super::update::drive_name;
use crate::core::Core;
use crate::error::Result;
use crate::guest::Guest;
use domain_xml::Domain as Definition;
use domain_xml::disk::{Disk, DiskDevice, Tray};
use json::{Dict, Value, dict};
use std::sync::Arc;

/// What the emulator says of a drive.
struct Drive {
    /// The node of its medium.
    node: Option<String>,
    /// None: it has no tray.
    open: Option<bool>,
}

impl Drive {
    /// The drive of that name among those of `query-block`.
    fn find(drives: &Value, name: &str) -> Option<Self> {
        let its = |row: &&Value| row.get("qdev").and_then(Value::as_str) == Some(name);
        let row = drives.as_list().unwrap_or_default().iter().find(its)?;
        let node = row.get("inserted").and_then(|inserted| inserted.get("node-name")?.as_str());
        Some(Self { node: node.map(str::to_owned), open: row.get("tray_open").and_then(Value::as_bool) })
    }

    /// Whether what the disk is made of is what the drive has.
    fn has(&self, disk: &Disk) -> bool {
        let index = disk.source.as_ref().and_then(|source| source.index);
        match (index, &self.node) {
            (Some(index), Some(node)) => node.starts_with(&format!("libvirt-{index}-")),
            (index, node) => index.is_none() && node.is_none(),
        }
    }
}

fn name_of(disk: &Disk) -> Option<String> {
    crate::definition::disk_alias(disk).map(|alias| drive_name(disk, alias))
}

fn is_removable(disk: &Disk) -> bool {
    matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy)
}

/// Notes in the definition what the emulator says of the drives.
fn note(definition: &mut Definition, drives: &Value) {
    for disk in definition.devices.disk.iter_mut().filter(|disk| is_removable(disk)) {
        let Some(drive) = name_of(disk).and_then(|name| Drive::find(drives, &name)) else { continue };
        if drive.node.is_none() {
            (disk.source, disk.backing_store) = (None, None);
        }
        if let (Some(open), Some(target)) = (drive.open, &mut disk.target) {
            target.tray = open.then_some(Tray::Open);
        }
    }
}

impl Core {
    /// Follows what the guest did with its drives.
    ///
    /// # Errors
    /// The emulator does not answer.
    pub(super) fn refresh_drives(&self, guest: &Arc<Guest>, id: i32) -> Result<()> {
        let some = guest.with_live(id, |live| live.definition.devices.disk.iter().any(is_removable));
        if some != Some(true) {
            return Ok(());
        }
        let drives = guest.execute("query-block", Dict::default())?;
        guest.with_live(id, |live| live.change(|it| note(it, &drives)));
        Ok(())
    }

    /// The drive has the medium of `disk`, which it was to get, the one before, or none: so says the definition from now
    /// on.
    ///
    /// # Errors
    /// The emulator does not answer.
    pub(super) fn settle_medium(&self, guest: &Arc<Guest>, id: i32, disk: &Disk) -> Result<()> {
        let Some(name) = name_of(disk) else { return Ok(()) };
        let drives = guest.execute("query-block", Dict::default())?;
        if Drive::find(&drives, &name).is_some_and(|drive| drive.has(disk)) {
            guest.with_live(id, |live| {
                live.change(|it| {
                    let mut disks = it.devices.disk.iter_mut();
                    if let Some(own) = disks.find(|own| own.dev() == disk.dev()) {
                        own.clone_from(disk);
                    }
                });
            });
        }
        // One without a tray has none that is open.
        let _ = guest.execute("blockdev-close-tray", dict! { "id" => name });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_followed() {
        let text = "<domain type='qemu'><name>a</name><memory>1024</memory><os><type machine='pc'>hvm</type></os>\
            <devices><disk type='file' device='cdrom'><source file='/a' index='3'/><target dev='hda' bus='ide'/>\
            <alias name='ide0-0-0'/></disk><disk type='file'><source file='/b' index='1'/><target dev='hdb' bus='ide'/>\
            <alias name='ide0-0-1'/></disk></devices></domain>";
        let mut it = domain_xml::parse(text).expect("xml");
        let drives = |text: &str| json::parse(text.as_bytes()).expect("json");
        let open = |it: &Definition| it.devices.disk[0].target.as_ref().and_then(|target| target.tray);
        let with =
            "[{\"qdev\":\"ide0-0-0\",\"tray_open\":true,\"inserted\":{\"node-name\":\"libvirt-3-format\"}}]";
        note(&mut it, &drives(with));
        assert!(open(&it) == Some(Tray::Open) && it.devices.disk[0].source.is_some());
        let drive = Drive::find(&drives(with), "ide0-0-0").expect("found");
        assert!(drive.has(&it.devices.disk[0]) && !drive.has(&it.devices.disk[1]));
        note(&mut it, &drives("[{\"qdev\":\"ide0-0-0\",\"tray_open\":false},{\"qdev\":\"ide0-0-1\"}]"));
        assert!(open(&it).is_none() && it.devices.disk[0].source.is_none());
        assert!(it.devices.disk[1].source.is_some());
    }
}
