//! Another medium in a drive.

use super::begun::Begun;
use super::command::{self, Context};
use super::hotplug::{self, Part};
use super::start::launch_error;
use super::update::drive_name;
use crate::core::Core;
use crate::error::{Result, failed, internal, not_running, system};
use crate::guest::Guest;
use domain_xml::Domain as Definition;
use domain_xml::disk::{Disk, DiskDevice, Tray};
use json::{Dict, dict};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest may take to open a tray.
const TRAY: Duration = Duration::from_secs(5);
/// How long is waited between two looks at one.
const PAUSE: Duration = Duration::from_millis(5);

/// The drive's part of a change of medium.
struct Swap<'a> {
    guest: &'a Arc<Guest>,
    id: i32,
    /// As it will be.
    disk: &'a Disk,
    /// The emulator's name for it.
    drive: &'a str,
    /// Against the guest's will.
    force: bool,
}

impl Swap<'_> {
    fn is_open(&self) -> bool {
        let tray = self.guest.with_live(self.id, |live| {
            let mut disks = live.definition.devices.disk.iter();
            disks.find(|own| own.dev() == self.disk.dev())?.target.as_ref()?.tray
        });
        tray.flatten() == Some(Tray::Open)
    }

    /// Does what wants the tray to be open, if there is one.
    fn with_open_tray(&self, command: &str, arguments: &Dict) -> Result<()> {
        let has_tray = self.disk.device == DiskDevice::Cdrom;
        let begin = Instant::now();
        loop {
            if has_tray && !self.is_open() {
                let open = dict! { "id" => self.drive, "force" => self.force };
                self.guest.execute("blockdev-open-tray", open)?;
                while !self.force && !self.is_open() {
                    if begin.elapsed() > TRAY {
                        let dev = self.disk.dev();
                        return Err(failed(format!("timed out waiting to open tray of '{dev}'")));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
            let Err(error) = self.guest.execute(command, arguments.clone()) else { return Ok(()) };
            // The guest may have closed it again, and its word for that be on its way.
            let closed = error.message.as_deref().is_some_and(|text| text.ends_with("is not open"));
            if !closed || begin.elapsed() > TRAY {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes out what is in it; `leaves` is what that is made of.
    fn take_out(&self, leaves: &[Part]) -> Result<()> {
        self.with_open_tray("blockdev-remove-medium", &dict! { "id" => self.drive })?;
        for (command, arguments) in leaves.iter().rev().filter_map(Part::remove) {
            // The new medium can be put in whatever stays of the old one.
            let _ = self.guest.execute(command, arguments);
        }
        Ok(())
    }

    /// Makes the new medium, if there is one, puts it in, and closes the tray.
    fn put_in(&self, comes: &[Part]) -> Result<()> {
        let mut top = None;
        for part in comes {
            self.guest.execute(part.add(), part.properties().clone())?;
            if part.add() == "blockdev-add" {
                top = part.properties().get("node-name").cloned();
            }
        }
        if let Some(node) = top {
            let medium = dict! { "id" => self.drive, "node-name" => node };
            self.with_open_tray("blockdev-insert-medium", &medium)?;
        }
        self.guest.execute("blockdev-close-tray", dict! { "id" => self.drive })?;
        Ok(())
    }
}

impl Core {
    /// Puts another medium into a drive: `new` is `old` with it.
    pub(super) fn change_medium(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        id: i32,
        old: &Definition,
        mut new: Definition,
        place: usize,
        force: bool,
    ) -> Result<()> {
        let found = guest.with_live(id, |live| {
            (live.caps.clone(), live.directory.clone(), live.channels.clone(), live.confined.clone())
        });
        let (caps, directory, channels, confined) = found.ok_or_else(not_running)?;
        command::end_chains(&mut new);
        let last = old.devices.disk.iter().filter_map(|disk| disk.source.as_ref()?.index).max();
        qemu_command::prepare::number_sources(&mut new, last.unwrap_or(0) + 1);
        let context = Context { caps: &caps, id, directory: &directory, channels: &channels, restore: false };
        let (had, has) =
            (command::arguments(self, old, &context, &[])?, command::arguments(self, &new, &context, &[])?);
        // The drive itself stays: only what it stands on comes and goes.
        let parts = |without: &[String], with: &[String]| -> Result<Vec<Part>> {
            let mut parts = hotplug::difference(without, with)?;
            parts.retain(|part| part.add() != "device_add");
            Ok(parts)
        };
        let (leaves, comes) = (parts(&has, &had)?, parts(&had, &has)?);
        let disk = new.devices.disk.get(place).ok_or_else(|| internal("no such disk"))?.clone();
        if let Some(path) = crate::query::local_path(&disk).filter(|path| !path.is_empty()) {
            std::fs::metadata(path)
                .map_err(|error| system(&error, &format!("Cannot access storage file '{path}'")))?;
        }
        let alias = crate::definition::disk_alias(&disk).ok_or_else(|| internal("the disk has no alias"))?;
        let drive = drive_name(&disk, alias);
        let used = self.security.difference(old, &new).map_err(|error| launch_error(&error))?;
        self.begin(guest, id, Begun::Medium(Box::new(disk.clone())))?;
        let given = match &confined {
            Some(confined) => {
                self.security.attach(old, confined, &used).map_err(|error| launch_error(&error))
            }
            None => Ok(()),
        };
        if given.is_err() {
            guest.with_live(id, |live| live.begun = None);
            self.save_status(guest);
            return given;
        }
        let swap = Swap { guest, id, disk: &disk, drive: &drive, force };
        let out = swap.take_out(&leaves);
        let removed = out.is_ok();
        if let Err(error) = out.and_then(|()| swap.put_in(&comes)) {
            for part in comes.iter().rev().filter_map(Part::remove) {
                // What was never added cannot be removed.
                let _ = guest.execute(part.0, part.1);
            }
            self.detach(old, confined.as_deref(), &used);
            guest.with_live(id, |live| {
                live.begun = None;
                if removed {
                    // The drive is empty then.
                    live.change(|it| {
                        if let Some(disk) = it.devices.disk.get_mut(place) {
                            disk.source = None;
                            disk.backing_store = None;
                        }
                    });
                }
            });
            self.save_status(guest);
            return Err(error);
        }
        let free = self.security.difference(&new, old).unwrap_or_default();
        // The tray has moved meanwhile.
        guest.with_live(id, |live| {
            live.begun = None;
            live.change(|it| {
                if let Some(own) = it.devices.disk.get_mut(place) {
                    let tray = own.target.as_ref().and_then(|target| target.tray);
                    *own = disk;
                    if let Some(target) = &mut own.target {
                        target.tray = tray;
                    }
                }
            });
        });
        self.save_status(guest);
        self.detach(old, confined.as_deref(), &free);
        Ok(())
    }
}
