//! Devices that come and go while a guest runs.
//!
//! What a device is made of is read off the command lines of the guest with and without it: the difference is what
//! the emulator is told over its monitor.

use crate::core::{Core, Level};
use crate::definition::Complete;
use crate::error::{Result, error, failed, unsupported, xml};
use crate::guest::Guest;
use crate::process::begun::{Begun, undo_of};
use crate::process::command::{self, Context};
use crate::process::devices;
use crate::process::missing;
use crate::process::network::{self, Connected, Owner};
use crate::process::reservations;
use crate::process::start::launch_error as confinement_error;
use crate::state::State;
use domain_xml::{Devices, Domain as Definition};
use json::{Dict, Value, dict};
use rpc::protocol::events::{DomainEventCallbackDeviceAddedMsg, DomainEventDeviceRemovedMsg};
use rpc::{Code, DomainEvent};
use security::Confined;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest may take to let go of a device before the caller is told that it was asked to.
const UNPLUG: Duration = Duration::from_secs(5);

/// One thing that a device is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    option: String,
    properties: Dict,
}

impl Part {
    /// What it is like.
    pub(super) fn properties(&self) -> &Dict {
        &self.properties
    }

    pub(super) fn add(&self) -> &'static str {
        match self.option.as_str() {
            "-object" => "object-add",
            "-netdev" => "netdev_add",
            "-blockdev" => "blockdev-add",
            "-chardev" => "chardev-add",
            "-watchdog-action" => "watchdog-set-action",
            _ => "device_add",
        }
    }

    /// The command that takes it away again.
    pub(super) fn remove(&self) -> Option<(&'static str, Dict)> {
        let name = |key: &str| self.properties.get(key).cloned();
        match self.option.as_str() {
            "-object" => Some(("object-del", dict! { "id" => name("id")? })),
            "-netdev" => Some(("netdev_del", dict! { "id" => name("id")? })),
            "-blockdev" => Some(("blockdev-del", dict! { "node-name" => name("node-name")? })),
            "-chardev" => Some(("chardev-remove", dict! { "id" => name("id")? })),
            _ => None,
        }
    }
}

/// What `with` has more than `without`.
pub(super) fn difference(without: &[String], with: &[String]) -> Result<Vec<Part>> {
    let pairs = |arguments: &[String]| -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut at = 0;
        while let Some(option) = arguments.get(at) {
            let value = arguments.get(at + 1).filter(|value| !value.starts_with('-')).cloned();
            at += 1 + usize::from(value.is_some());
            pairs.push((option.clone(), value.unwrap_or_default()));
        }
        pairs
    };
    let mut old = pairs(without);
    let mut parts = Vec::new();
    for (option, value) in pairs(with) {
        if let Some(at) = old.iter().position(|pair| pair.0 == option && pair.1 == value) {
            old.remove(at);
            continue;
        }
        let plugged = matches!(
            option.as_str(),
            "-object" | "-netdev" | "-blockdev" | "-chardev" | "-watchdog-action" | "-device"
        );
        let properties = match option.as_str() {
            "-chardev" => super::chardev::described(&value),
            "-watchdog-action" => Some(dict! { "action" => value.as_str() }),
            _ => json::parse(value.as_bytes()).ok().and_then(|value| value.as_dict().cloned()),
        };
        match properties {
            Some(properties) if plugged => parts.push(Part { option, properties }),
            _ => {
                return Err(error(
                    Code::OperationUnsupported,
                    format!("a device that needs '{option}' cannot be plugged yet"),
                ));
            }
        }
    }
    Ok(parts)
}

/// Reads the XML of one device.
///
/// # Errors
/// It is none.
pub fn parse_device(text: &str) -> Result<Devices> {
    // A declaration may stand before the element only where a document begins.
    let body = text.trim_start();
    let body = match body.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>").map_or(rest, |(_, body)| body),
        None => body,
    };
    xml::from_str(&format!("<devices>{body}</devices>"), "devices").map_err(|error| xml(&error))
}

/// Each descriptor and the name under which the emulator is passed it.
fn named_descriptors(connected: &[Connected]) -> Vec<(String, BorrowedFd<'_>)> {
    connected
        .iter()
        .flat_map(|one| {
            let names = one.names();
            let descriptors = one.tap.iter().chain(&one.vhost).map(AsFd::as_fd);
            names.tap.into_iter().chain(names.vhost).zip(descriptors)
        })
        .collect()
}

/// Passes the descriptors to the emulator.
fn pass(guest: &Guest, connected: &[Connected]) -> Result<()> {
    for (name, descriptor) in named_descriptors(connected) {
        let passed = guest.monitor()?.execute_with_fds("getfd", dict! { "fdname" => name }, &[descriptor]);
        if let Err(error) = passed {
            take_back(guest, connected);
            return Err(crate::error::monitor(error, "getfd"));
        }
    }
    Ok(())
}

/// The emulator closes those descriptors that no device has taken.
fn take_back(guest: &Guest, connected: &[Connected]) {
    for (name, _) in named_descriptors(connected) {
        // One that a device took is not there any more.
        let _ = guest.execute("closefd", dict! { "fdname" => name });
    }
}

/// The names of the guest's devices, as its emulator knows them.
///
/// # Errors
/// It does not run, or the emulator does not answer.
pub(super) fn plugged(guest: &Guest) -> Result<Vec<String>> {
    let reply = guest.execute("qom-list", dict! { "path" => "/machine/peripheral" })?;
    let name = |item: &Value| {
        let is_child = item.get("type")?.as_str()?.starts_with("child<");
        Some(item.get("name")?.as_str()?.to_owned()).filter(|_| is_child)
    };
    Ok(reply.as_list().unwrap_or_default().iter().filter_map(name).collect())
}

impl Core {
    /// A definition with devices added that are completed; for the next start.
    ///
    /// # Errors
    /// They cannot be added.
    pub fn with_devices(&self, definition: &Definition, added: Devices) -> Result<Definition> {
        qemu_domain::each::names_are_unique(&[&definition.devices, &added]).map_err(|error| xml(&error))?;
        let mut with = definition.clone();
        devices::append(&mut with, added)?;
        let Complete { definition: with, caps, .. } = self.complete(with, false)?;
        let settings = self.domain_settings();
        let checked = |definition| qemu_domain::validate::domain(definition, &caps, &settings);
        match checked(&with) {
            // What the guest has had before may stay, whatever rules were added since.
            Err(error) if checked(definition).is_ok() => Err(xml(&error)),
            _ => Ok(with),
        }
    }

    /// Plugs devices into a running guest. Its job is held by the caller.
    ///
    /// # Errors
    /// They cannot be plugged; then the guest is as before.
    pub fn plug(self: &Arc<Self>, guest: &Arc<Guest>, added: Devices) -> Result<()> {
        let id = guest.running_id()?;
        let characters = !(added.serial.is_empty() && added.console.is_empty() && added.channel.is_empty());
        let memory = !added.memory.is_empty();
        let found = guest.with_live(id, |live| {
            (live.definition.clone(), live.caps.clone(), live.directory.clone(), live.channels.clone())
        });
        let (old, caps, directory, channels) = found.ok_or_else(crate::error::not_running)?;
        devices::check_live(&old, &added)?;
        missing::refuse_held(&added, std::path::Path::new(missing::HOST_DEVICES))?;
        let completed = self.with_devices(&old, added)?;
        let mut new = Definition::clone(&old);
        devices::take_new(&mut new, completed);
        qemu_domain::address::assign(&mut new, &caps, true).map_err(|error| xml(&error))?;
        qemu_domain::alias::assign(&mut new).map_err(|error| xml(&error))?;
        let known = [old.devices.serial.len(), old.devices.parallel.len(), old.devices.channel.len()];
        let lists = [&new.devices.serial, &new.devices.parallel, &new.devices.channel];
        let new_ones = lists.into_iter().zip(known).flat_map(|(list, known)| list.iter().skip(known));
        new_ones.into_iter().try_for_each(devices::check_place)?;
        command::end_chains(&mut new);
        super::file_server::choose(&mut new)?;
        qemu_command::prepare::number_new_sources(&mut new);
        let context = Context { caps: &caps, id, directory: &directory, channels: &channels, restore: false };
        let known = old.devices.interface.len();
        let mut interfaces = new.devices.interface.split_off(known);
        network::choose(self, &mut interfaces)?;
        let folders = old.devices.filesystem.len();
        if !interfaces.is_empty() || new.devices.filesystem.len() > folders {
            self.begin(guest, id, Begun::Plug { interfaces: interfaces.clone(), undo: Vec::new() })?;
        }
        let connected = network::connect(self, Owner::of(&old), &mut interfaces, &|interfaces| {
            self.begin(guest, id, Begun::Plug { interfaces: interfaces.to_vec(), undo: Vec::new() })
        });
        new.devices.interface.extend(interfaces);
        let running = matches!(guest.lock().state, State::Running(_));
        let plugged = connected.and_then(|connected| {
            let plug = || {
                if running {
                    network::set_online(&new.devices.interface[known..], true)?;
                }
                self.start_new_helpers(guest, &old, &new, &directory)?;
                self.plug_completed(guest, &context, &old, new.clone(), &connected)
            };
            plug().inspect_err(|_| {
                network::release(self, Owner::of(&new), &new.devices.interface[known..]);
                self.stop_unneeded_helpers(&old, &directory);
            })
        });
        plugged.inspect_err(|_| {
            guest.with_live(id, |live| live.begun = None);
            self.save_status(guest);
        })?;
        if let Err(error) = self.adopt_helpers(guest, id) {
            self.log(Level::Warning, &format!("'{}': {error}", old.name()));
        }
        // What is known only now; the devices are there in any case.
        if characters && let Ok(reply) = guest.execute("query-chardev", Dict::default()) {
            guest.with_live(id, |live| live.change(|it| super::chardev::note_paths(it, &reply)));
            self.save_status(guest);
        }
        if memory {
            self.refresh_balloon(guest, id);
            self.save_status(guest);
        }
        Ok(())
    }

    /// Follows how much memory the balloon leaves.
    pub(super) fn refresh_balloon(&self, guest: &Guest, id: i32) {
        if let Ok(balloon) = guest.execute("query-balloon", Dict::default()) {
            guest.with_live(id, |live| live.change(|it| crate::definition::note_balloon(it, &balloon)));
        }
    }

    /// Notes what is begun with the guest, before it is.
    ///
    /// # Errors
    /// It cannot be noted.
    pub(super) fn begin(&self, guest: &Guest, id: i32, begun: Begun) -> Result<()> {
        guest.with_live(id, |live| live.begun = Some(begun));
        self.write_status(guest).map_err(|error| {
            guest.with_live(id, |live| live.begun = None);
            crate::process::start::status_error(&error)
        })
    }

    /// Plugs what `new` has more than `old`; what its interfaces need of the host is there.
    fn plug_completed(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        context: &Context<'_>,
        old: &Definition,
        new: Definition,
        connected: &[Connected],
    ) -> Result<()> {
        let id = context.id;
        let taps: Vec<_> = connected.iter().map(|one| (one.alias.clone(), one.names())).collect();
        let line = |domain: &Definition| command::arguments(self, domain, context, &taps);
        let parts = difference(&line(old)?, &line(&new)?)?;
        if parts.is_empty() {
            return Err(unsupported("the device cannot be plugged"));
        }
        for path in crate::definition::local_files(&new) {
            std::fs::metadata(&path).map_err(|error| {
                crate::error::system(&error, &format!("Cannot access storage file '{path}'"))
            })?;
        }
        let confined = guest.with_live(id, |live| live.confined.clone()).flatten();
        let used = self.security.difference(old, &new).map_err(|error| confinement_error(&error))?;
        let descriptors = named_descriptors(connected);
        let undo = undo_of(&parts, descriptors.iter().map(|(name, _)| name.as_str()));
        let interfaces = new.devices.interface[old.devices.interface.len()..].to_vec();
        self.begin(guest, id, Begun::Plug { interfaces, undo })?;
        if let Some(confined) = &confined {
            self.security.attach(old, confined, &used).map_err(|error| confinement_error(&error))?;
        }
        if let Err(error) = pass(guest, connected) {
            self.detach(old, confined.as_deref(), &used);
            return Err(error);
        }
        for (at, part) in parts.iter().enumerate() {
            if let Err(error) = guest.execute(part.add(), part.properties.clone()) {
                for done in parts[..at].iter().rev().filter_map(Part::remove) {
                    // What cannot be taken back stays unused.
                    let _ = guest.execute(done.0, done.1);
                }
                take_back(guest, connected);
                self.detach(old, confined.as_deref(), &used);
                return Err(error);
            }
        }
        let added =
            |disk: &&domain_xml::disk::Disk| !old.devices.disk.iter().any(|it| it.dev() == disk.dev());
        for disk in new.devices.disk.iter().filter(added) {
            // The disk is there; that it is faster than it should be is no reason to take it away again.
            if let Err(error) = crate::api::io_tune::limit_disks(guest, std::slice::from_ref(disk)) {
                let (dev, name) = (disk.dev(), new.name());
                self.log(
                    Level::Warning,
                    &format!("failed to set blkdeviotune for '{dev}' of '{name}': {error}"),
                );
            }
        }
        let down = crate::definition::links_down(&new);
        for one in connected.iter().filter(|one| down.contains(&one.alias)) {
            // The device is there; that its cable is plugged in is no reason to take it away again.
            let set = guest.execute("set_link", dict! { "name" => one.alias.as_str(), "up" => false });
            if let Err(error) = set {
                let text = error.message.unwrap_or_default();
                self.log(
                    Level::Warning,
                    &format!("Couldn't set link state on interface {}: {text}", one.alias),
                );
            }
        }
        let plugged: Vec<String> = parts
            .iter()
            .filter(|part| part.option == "-device")
            .filter_map(|part| part.properties.get("id")?.as_str().map(str::to_owned))
            .collect();
        let memory: Vec<String> =
            new.devices.memory.iter().filter_map(|it| Some(it.info.alias.as_ref()?.name.clone())).collect();
        guest.with_live(id, |live| {
            live.begun = None;
            live.definition = Arc::new(new);
            live.devices.extend(plugged.iter().cloned());
        });
        self.save_status(guest);
        for device in plugged {
            // Of memory the original tells the name of what is behind it.
            let dev_alias = if memory.contains(&device) { format!("mem{device}") } else { device };
            self.event(DomainEvent::DeviceAdded(DomainEventCallbackDeviceAddedMsg {
                callback_id: 0,
                dom: guest.reference(),
                dev_alias,
            }));
        }
        Ok(())
    }

    /// The guest no longer needs what a device used.
    pub(super) fn detach(
        &self,
        definition: &Definition,
        confined: Option<&Confined>,
        used: &[security::uses::Use],
    ) {
        let Some(confined) = confined else { return };
        for error in self.security.detach(definition, confined, used) {
            self.log(
                Level::Warning,
                &format!("Unable to restore labels of '{}': {error}", definition.name()),
            );
        }
    }

    /// Asks the guest to let go of the device of that name, and waits a while for it. Its job is held by the caller.
    ///
    /// # Errors
    /// The emulator refuses.
    pub fn unplug(self: &Arc<Self>, guest: &Arc<Guest>, alias: &str) -> Result<()> {
        let id = guest.running_id()?;
        guest.with_live(id, |live| live.kept_device = None);
        guest.execute("device_del", dict! { "id" => alias })?;
        let begin = Instant::now();
        while begin.elapsed() < UNPLUG {
            if guest.with_live(id, |live| live.kept_device.as_deref() == Some(alias)) == Some(true) {
                return Err(failed("unplug of device was rejected by the guest"));
            }
            let there = guest.with_live(id, |live| crate::definition::has_device(&live.definition, alias));
            if there != Some(true) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The guest has let go of a device: what stood behind it goes too.
    pub(super) fn device_deleted(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, alias: &str) {
        let Some(old) = guest.with_live(id, |live| {
            // Whoever takes it off the list does what is to be done.
            let at = live.devices.iter().position(|device| device == alias)?;
            live.devices.remove(at);
            Some(live.definition.clone())
        }) else {
            return;
        };
        let Some(old) = old else { return };
        if let Some(number) = alias.strip_prefix("vcpu").and_then(|number| number.parse().ok()) {
            if let Err(error) = self.vcpu_gone(guest, id, number) {
                self.log(Level::Warning, &format!("'{alias}' of '{}': {error}", old.name()));
            }
        } else if !crate::definition::has_device(&old, alias) {
            return;
        }
        let disk = old.devices.disk.iter().find(|disk| crate::definition::disk_alias(disk) == Some(alias));
        if let Some(index) = disk.and_then(|disk| disk.source.as_ref()?.index) {
            for kind in ["format", "storage"] {
                let node = format!("libvirt-{index}-{kind}");
                // Not every image has both.
                let _ = guest.execute("blockdev-del", dict! { "node-name" => node });
            }
        }
        let named = |name: Option<&domain_xml::address::Alias>| name.is_some_and(|name| name.name == alias);
        if old.devices.interface.iter().any(|interface| named(interface.info.alias.as_ref())) {
            let _ = guest.execute("netdev_del", dict! { "id" => format!("host{alias}") });
        }
        let devices = &old.devices;
        let object = if devices.rng.iter().any(|rng| named(rng.info.alias.as_ref())) {
            Some(format!("obj{alias}"))
        } else if devices.memory.iter().any(|module| named(module.info.alias.as_ref())) {
            Some(format!("mem{alias}"))
        } else if devices.shmem.iter().any(|shared| named(shared.info.alias.as_ref())) {
            Some(format!("shmmem-{alias}"))
        } else {
            None
        };
        if let Some(object) = object {
            let _ = guest.execute("object-del", dict! { "id" => object });
        }
        let characters = [&devices.serial, &devices.parallel, &devices.console, &devices.channel];
        let character = characters.into_iter().flatten().any(|it| named(it.info.alias.as_ref()))
            || devices.redirdev.iter().any(|it| named(it.info.alias.as_ref()))
            || devices.shmem.iter().any(|it| named(it.info.alias.as_ref()));
        if devices.filesystem.iter().any(|it| named(it.info.alias.as_ref())) {
            let _ = guest.execute("chardev-remove", dict! { "id" => format!("chr-vu-{alias}") });
        }
        if character {
            // Shared memory without a server has none.
            let _ = guest.execute("chardev-remove", dict! { "id" => format!("char{alias}") });
        }
        let mut left = Definition::clone(&old);
        crate::definition::remove_device(&mut left, alias);
        if let Ok(used) = self.security.difference(&left, &old) {
            let confined = guest.with_live(id, |live| live.confined.clone()).flatten();
            self.detach(&old, confined.as_deref(), &used);
        }
        // Who sees that it is gone finds that what it used is free.
        guest.with_live(id, |live| live.change(|it| crate::definition::remove_device(it, alias)));
        let gone = |it: &&domain_xml::interface::Interface| named(it.info.alias.as_ref());
        let gone: Vec<_> = old.devices.interface.iter().filter(gone).cloned().collect();
        network::release(self, Owner::of(&old), &gone);
        if reservations::is_wanted(&old) && !reservations::is_wanted(&left) {
            let _ = guest.execute("object-del", dict! { "id" => reservations::NAME });
        }
        if let Some(directory) = guest.with_live(id, |live| live.directory.clone()) {
            self.stop_unneeded_helpers(&left, &directory);
        }
        if old.devices.memory.iter().any(|module| named(module.info.alias.as_ref())) {
            self.refresh_balloon(guest, id);
        }
        self.save_status(guest);
        self.event(DomainEvent::DeviceRemoved(DomainEventDeviceRemovedMsg {
            dom: guest.reference(),
            dev_alias: alias.to_owned(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_on_a_command_line() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let old = words("-S -name a -device {\"driver\":\"x\",\"id\":\"a\"}");
        let new = words(
            "-S -name a -blockdev {\"node-name\":\"n\"} -device {\"driver\":\"x\",\"id\":\"a\"} -device {\"driver\":\"y\",\"id\":\"b\"}",
        );
        let parts = difference(&old, &new).expect("parts");
        let commands: Vec<_> = parts.iter().map(Part::add).collect();
        assert_eq!(commands, ["blockdev-add", "device_add"]);
        assert_eq!(parts[0].remove(), Some(("blockdev-del", dict! { "node-name" => "n" })));
        assert!(difference(&old, &words("-S -name a -serial chardev:x")).is_err());
        assert_eq!(difference(&old, &old).expect("nothing"), []);
    }

    #[test]
    fn devices_are_read() {
        let devices = parse_device(
            "<?xml version='1.0'?>\n<disk type='file' device='disk'><target dev='vdb'/></disk>\n",
        );
        assert_eq!(devices.expect("disk").disk[0].dev(), "vdb");
        assert!(parse_device("<nonsense/>").is_err());
        assert!(parse_device("<disk").is_err());
    }
}
