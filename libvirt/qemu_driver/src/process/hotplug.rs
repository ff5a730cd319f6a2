//! Devices that come and go while a guest runs.
//!
//! What a device is made of is read off the command lines of the guest with and without it: the difference is what
//! the emulator is told over its monitor.

use crate::core::{Core, Level};
use crate::error::{Result, error, internal, invalid, unsupported, xml};
use crate::guest::Guest;
use crate::process::begun::{Begun, undo_of};
use crate::process::command::{self, Context};
use crate::process::network::{self, Connected, Owner};
use crate::process::start::launch_error as confinement_error;
use domain_xml::{Devices, Domain as Definition};
use json::{Dict, Value, dict};
use rpc::protocol::events::{DomainEventCallbackDeviceAddedMsg, DomainEventDeviceRemovedMsg};
use rpc::{Code, DomainEvent, Error, Origin};
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
        let plugged = matches!(option.as_str(), "-object" | "-netdev" | "-blockdev" | "-device");
        let properties = json::parse(value.as_bytes()).ok();
        match properties {
            Some(Value::Dict(properties)) if plugged => parts.push(Part { option, properties }),
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

/// Adds the devices of `from` that are no others.
fn append(devices: &mut Devices, from: Devices) -> Result<()> {
    let other = Devices {
        disk: Vec::new(),
        interface: Vec::new(),
        controller: Vec::new(),
        hostdev: Vec::new(),
        input: Vec::new(),
        rng: Vec::new(),
        sound: Vec::new(),
        watchdog: None,
        ..from.clone()
    };
    if other != Devices::default() {
        return Err(error(Code::OperationUnsupported, "live attach of this device is not supported yet"));
    }
    for disk in &from.disk {
        if let Some(old) = devices.disk.iter().find(|old| old.dev() == disk.dev()) {
            let path = |disk| crate::query::local_path(disk).unwrap_or_default().to_owned();
            let (dev, one, other) = (disk.dev(), path(old), path(disk));
            let detail = format!("target '{dev}' duplicated for disk sources '{one}' and '{other}'");
            return Err(Error::new(Origin::Domain, Code::XmlError, detail));
        }
    }
    devices.disk.extend(from.disk);
    devices.interface.extend(from.interface);
    devices.controller.extend(from.controller);
    devices.hostdev.extend(from.hostdev);
    devices.input.extend(from.input);
    devices.rng.extend(from.rng);
    devices.sound.extend(from.sound);
    if from.watchdog.is_some() {
        if devices.watchdog.is_some() {
            return Err(invalid("domain already has a watchdog"));
        }
        devices.watchdog = from.watchdog;
    }
    Ok(())
}

/// Puts a disk among those of its bus, by name.
fn insert_disk(disks: &mut Vec<domain_xml::disk::Disk>, disk: domain_xml::disk::Disk) {
    let name = |disk: &domain_xml::disk::Disk| (disk.dev().len(), disk.dev().to_owned());
    let of_bus = |own: &domain_xml::disk::Disk| own.bus() == disk.bus();
    let after = disks.iter().rposition(|own| of_bus(own) && name(own) < name(&disk)).map(|place| place + 1);
    let place = after.or_else(|| disks.iter().position(of_bus)).unwrap_or(disks.len());
    disks.insert(place, disk);
}

/// What `completed` has more than `live`: it is `live` with devices added and without what only a running guest has.
fn take_new(live: &mut Devices, completed: Devices) {
    for disk in completed.disk {
        if !live.disk.iter().any(|old| old.dev() == disk.dev()) {
            insert_disk(&mut live.disk, disk);
        }
    }
    for controller in completed.controller {
        let same = |old: &domain_xml::controller::Controller| {
            old.kind == controller.kind && old.index() == controller.index()
        };
        if !live.controller.iter().any(same) {
            live.controller.push(controller);
        }
    }
    macro_rules! take_last {
        ($($field:ident),*) => {$({
            let known = live.$field.len();
            live.$field.extend(completed.$field.into_iter().skip(known));
        })*};
    }
    take_last!(interface, hostdev, input, rng, sound);
    if live.watchdog.is_none() {
        live.watchdog = completed.watchdog;
    }
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
pub(super) fn devices(guest: &Guest) -> Result<Vec<String>> {
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
    pub fn with_devices(&self, definition: &Definition, devices: Devices) -> Result<Definition> {
        qemu_domain::each::names_are_unique(&[&definition.devices, &devices]).map_err(|error| xml(&error))?;
        let mut definition = definition.clone();
        append(&mut definition.devices, devices)?;
        Ok(self.complete(definition, false)?.definition)
    }

    /// Plugs devices into a running guest. Its job is held by the caller.
    ///
    /// # Errors
    /// They cannot be plugged; then the guest is as before.
    pub fn plug(self: &Arc<Self>, guest: &Arc<Guest>, devices: Devices) -> Result<()> {
        let id = guest.running_id()?;
        let found = guest.with_live(id, |live| {
            (live.definition.clone(), live.caps.clone(), live.directory.clone(), live.channels.clone())
        });
        let (old, caps, directory, channels) = found.ok_or_else(crate::error::not_running)?;
        let completed = self.with_devices(&old, devices)?;
        let mut new = Definition::clone(&old);
        take_new(&mut new.devices, completed.devices);
        qemu_domain::address::assign(&mut new, &caps, true).map_err(|error| xml(&error))?;
        qemu_domain::alias::assign(&mut new).map_err(|error| xml(&error))?;
        command::end_chains(&mut new);
        qemu_command::prepare::number_new_sources(&mut new);
        let context = Context { caps: &caps, id, directory: &directory, channels: &channels, restore: false };
        let known = old.devices.interface.len();
        let mut interfaces = new.devices.interface.split_off(known);
        network::choose(self, &mut interfaces)?;
        if !interfaces.is_empty() {
            self.begin(guest, id, Begun::Plug { interfaces: interfaces.clone(), undo: Vec::new() })?;
        }
        let connected = network::connect(self, Owner::of(&old), &mut interfaces);
        new.devices.interface.extend(interfaces);
        let plugged = connected.and_then(|connected| {
            self.plug_completed(guest, &context, &old, new.clone(), &connected)
                .inspect_err(|_| network::release(self, &new.devices.interface[known..]))
        });
        plugged.inspect_err(|_| {
            guest.with_live(id, |live| live.begun = None);
            self.save_status(guest);
        })
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
        guest.with_live(id, |live| {
            live.begun = None;
            live.definition = Arc::new(new);
            live.devices.extend(plugged.iter().cloned());
        });
        self.save_status(guest);
        for dev_alias in plugged {
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
        guest.execute("device_del", dict! { "id" => alias })?;
        let begin = Instant::now();
        while begin.elapsed() < UNPLUG {
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
        if old.devices.rng.iter().any(|rng| named(rng.info.alias.as_ref())) {
            let _ = guest.execute("object-del", dict! { "id" => format!("obj{alias}") });
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
        network::release(self, &gone);
        self.save_status(guest);
        self.event(DomainEvent::DeviceRemoved(DomainEventDeviceRemovedMsg {
            dom: guest.reference(),
            dev_alias: alias.to_owned(),
        }));
    }
}

/// The name of the running guest's device that the XML of a client means.
///
/// # Errors
/// There is none, or the kind of device is not one that can be unplugged yet.
pub fn alias_of(live: &Definition, wanted: &Devices) -> Result<String> {
    let name = |alias: Option<&domain_xml::address::Alias>| alias.map(|alias| alias.name.clone());
    let missing = |what: String| error(Code::DeviceMissing, what);
    let devices = &live.devices;
    if let Some(disk) = wanted.disk.first() {
        let found = devices.disk.iter().find(|old| old.dev() == disk.dev());
        let found = found.and_then(|disk| name(disk.info.alias.as_ref()));
        return found.ok_or_else(|| missing(format!("disk {} not found", disk.dev())));
    }
    if let Some(interface) = wanted.interface.first() {
        let mac = interface.mac.as_ref().map(|mac| mac.address.to_ascii_lowercase());
        let same = |old: &&domain_xml::interface::Interface| {
            mac.is_none() || old.mac.as_ref().map(|mac| mac.address.to_ascii_lowercase()) == mac
        };
        let found = devices.interface.iter().find(same).and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| {
            let (none, mac) = ("(<null>)", mac.as_deref().unwrap_or("(<null>)"));
            missing(format!(
                "no device found at address '{none}' matching MAC address '{mac}' and alias '{none}'"
            ))
        });
    }
    if let Some(controller) = wanted.controller.first() {
        let same = |old: &&domain_xml::controller::Controller| {
            old.kind == controller.kind && old.index() == controller.index()
        };
        let found = devices.controller.iter().find(same).and_then(|it| name(it.alias.as_ref()));
        return found.ok_or_else(|| missing("matching controller not found".to_owned()));
    }
    if let Some(rng) = wanted.rng.first() {
        let bare = |rng: &domain_xml::misc::Rng| {
            let mut rng = rng.clone();
            (rng.info.alias, rng.info.address) = (None, None);
            rng
        };
        let found = devices.rng.iter().find(|old| bare(old) == bare(rng));
        let found = found.and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| missing("matching RNG device not found".to_owned()));
    }
    Err(error(Code::OperationUnsupported, "live detach of this device is not supported yet"))
}

/// Takes the devices that the XML of a client means out of a definition.
///
/// # Errors
/// One is not there.
pub fn without(definition: &Definition, wanted: &Devices) -> Result<Definition> {
    let mut named = definition.clone();
    qemu_domain::alias::assign(&mut named).map_err(|error| xml(&error))?;
    let alias = alias_of(&named, wanted)?;
    let mut left = definition.clone();
    // The names tell the places; the definition itself keeps none.
    macro_rules! remove {
        ($($field:ident $($inner:ident)?),*) => {$({
            let its = |name: Option<&domain_xml::address::Alias>| name.is_some_and(|name| name.name == alias);
            let place = named.devices.$field.iter().position(|device| its(device.$($inner.)?alias.as_ref()));
            if let Some(place) = place.filter(|place| *place < left.devices.$field.len()) {
                left.devices.$field.remove(place);
                return Ok(left);
            }
        })*};
    }
    remove!(disk info, interface info, controller, rng info);
    Err(internal(format!("device '{alias}' is not in the definition")))
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
        assert!(difference(&old, &words("-S -name a -chardev pty,id=x")).is_err());
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
