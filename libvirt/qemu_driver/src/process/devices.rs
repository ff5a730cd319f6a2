//! Devices as parts of definitions: which kinds can come and go, which one a client means.

use crate::error::{Result, error, internal, invalid, xml};
use domain_xml::address::{Address, Alias, HasInfo};
use domain_xml::chardev::CharDevice;
use domain_xml::controller::ControllerType;
use domain_xml::disk::VirtioModel;
use domain_xml::hostdev::Hostdev;
use domain_xml::input::{Input, InputBus, InputType};
use domain_xml::memory::Memory;
use domain_xml::misc::{Filesystem, Rng, Watchdog, WatchdogModel};
use domain_xml::{Devices, Domain as Definition};
use rpc::{Code, Error, Origin};

/// The kind of a device, as libvirt calls it.
pub(super) fn kind(devices: &Devices) -> Option<&'static str> {
    let characters = [&devices.serial, &devices.parallel, &devices.console, &devices.channel];
    let kinds = [
        (!devices.disk.is_empty(), "disk"),
        (!devices.interface.is_empty(), "interface"),
        (!devices.graphics.is_empty(), "graphics"),
        (!devices.lease.is_empty(), "lease"),
        (!devices.filesystem.is_empty(), "filesystem"),
        (!devices.input.is_empty(), "input"),
        (!devices.sound.is_empty(), "sound"),
        (!devices.video.is_empty(), "video"),
        (!devices.hostdev.is_empty(), "hostdev"),
        (devices.watchdog.is_some(), "watchdog"),
        (!devices.controller.is_empty(), "controller"),
        (!devices.hub.is_empty(), "hub"),
        (!devices.redirdev.is_empty(), "redirdev"),
        (!devices.smartcard.is_empty(), "smartcard"),
        (characters.iter().any(|list| !list.is_empty()), "chr"),
        (devices.memballoon.is_some(), "memballoon"),
        (!devices.rng.is_empty(), "rng"),
        (!devices.shmem.is_empty(), "shmem"),
        (!devices.tpm.is_empty(), "tpm"),
        (!devices.panic.is_empty(), "panic"),
        (!devices.memory.is_empty(), "memory"),
        (devices.iommu.is_some(), "iommu"),
        (devices.vsock.is_some(), "vsock"),
        (!devices.audio.is_empty(), "audio"),
    ];
    kinds.into_iter().find(|(there, _)| *there).map(|(_, kind)| kind)
}

/// Calls a macro with the kinds of which there are any number, and which can be added.
macro_rules! lists {
    ($with:ident) => {
        $with!(
            interface, hostdev, input, rng, sound, serial, parallel, console, channel, redirdev, memory,
            shmem, filesystem
        )
    };
}

/// Refuses kinds that a running guest, which is `there`, cannot be given.
pub(super) fn check_live(there: &Definition, devices: &Devices) -> Result<()> {
    let refused =
        ["sound", "video", "graphics", "hub", "smartcard", "memballoon", "tpm", "panic", "iommu", "audio"];
    if let Some(kind) = kind(devices).filter(|kind| refused.contains(kind)) {
        let detail = format!("live attach of device '{kind}' is not supported");
        return Err(error(Code::OperationUnsupported, detail));
    }
    if devices.filesystem.iter().any(|filesystem| !is_virtiofs(filesystem)) {
        return Err(error(Code::OperationUnsupported, NOT_VIRTIOFS));
    }
    let is_serial = |console: &CharDevice| {
        let kind = console.target.as_ref().and_then(|target| target.kind.as_deref());
        kind.is_none_or(|kind| kind == "serial")
    };
    if devices.console.iter().any(is_serial) {
        return Err(error(Code::OperationUnsupported, "attaching serial console is not supported"));
    }
    let mut controllers = there.devices.controller.iter();
    let ports = !devices.channel.is_empty() || !devices.console.is_empty();
    if ports && !controllers.any(|controller| controller.kind == ControllerType::VirtioSerial) {
        return Err(internal("no virtio-serial controllers are available"));
    }
    Ok(())
}

const NOT_VIRTIOFS: &str = "only virtiofs filesystems can be hotplugged";

fn is_virtiofs(filesystem: &Filesystem) -> bool {
    filesystem.driver.as_ref().and_then(|driver| driver.kind.as_deref()) == Some("virtiofs")
}

/// Refuses a character device whose place in the guest is not one that comes and goes.
pub(super) fn check_place(device: &CharDevice) -> Result<()> {
    match device.info.address {
        Some(Address::Pci(_) | Address::Usb(_) | Address::VirtioSerial(_)) => Ok(()),
        _ => Err(crate::error::unsupported("Unsupported address type for character device")),
    }
}

/// Adds the devices of `from`.
pub(super) fn append(definition: &mut Definition, from: Devices) -> Result<()> {
    let mut other = from.clone();
    other.disk.clear();
    other.controller.clear();
    other.watchdog = None;
    macro_rules! clear {
        ($($field:ident),*) => {$(other.$field.clear();)*};
    }
    lists!(clear);
    if let Some(kind) = kind(&other) {
        let detail = format!("persistent attach of device '{kind}' is not supported");
        return Err(error(Code::OperationUnsupported, detail));
    }
    let devices = &mut definition.devices;
    for disk in &from.disk {
        if let Some(old) = devices.disk.iter().find(|old| old.dev() == disk.dev()) {
            let path = |disk| crate::query::local_path(disk).unwrap_or_default().to_owned();
            let (dev, one, other) = (disk.dev(), path(old), path(disk));
            let detail = format!("target '{dev}' duplicated for disk sources '{one}' and '{other}'");
            return Err(Error::new(Origin::Domain, Code::XmlError, detail));
        }
    }
    for character in [&from.serial, &from.parallel, &from.console, &from.channel].into_iter().flatten() {
        let all = [&devices.serial, &devices.parallel, &devices.console, &devices.channel];
        if all.into_iter().flatten().any(|old| is_same_character(old, character) && named(character)) {
            return Err(invalid("chardev already exists"));
        }
    }
    if !from.memory.is_empty() && definition.max_memory.is_none() {
        let detail = "cannot use/hotplug a memory device when domain 'maxMemory' is not defined";
        return Err(crate::error::unsupported(detail));
    }
    let more = from.memory.iter().fold(0, |sum: u64, module| sum.saturating_add(module.size()));
    definition.memory.size.0 = definition.memory.size.0.saturating_add(more);
    devices.disk.extend(from.disk);
    devices.controller.extend(from.controller);
    macro_rules! extend {
        ($($field:ident),*) => {$(devices.$field.extend(from.$field);)*};
    }
    lists!(extend);
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
pub(super) fn take_new(live: &mut Definition, completed: Definition) {
    live.memory = completed.memory;
    let (live, completed) = (&mut live.devices, completed.devices);
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
    lists!(take_last);
    if live.watchdog.is_none() {
        live.watchdog = completed.watchdog;
    }
}

/// The device's own name, or nothing else to tell it from others.
fn named(device: &CharDevice) -> bool {
    device.target.as_ref().is_some_and(|target| target.name.is_some() || target.port.is_some())
}

fn is_same_character(old: &CharDevice, wanted: &CharDevice) -> bool {
    let target = |device: &CharDevice| device.target.clone().unwrap_or_default();
    let (a, b) = (target(old), target(wanted));
    let ends = |device: &CharDevice| {
        let ends = device.source.ends.iter();
        ends.map(|end| (end.path.clone(), end.host.clone(), end.service.clone(), end.mode))
            .collect::<Vec<_>>()
    };
    let alike = |a: &Option<String>, b: &Option<String>| b.is_none() || a == b;
    // The path of a terminal, or of a socket that has its place by default, is known to the running guest alone.
    let same_ends = ends(wanted).iter().all(|(path, ..)| path.is_none()) || ends(old) == ends(wanted);
    old.source.kind() == wanted.source.kind()
        && same_ends
        && alike(&a.kind, &b.kind)
        && alike(&a.name, &b.name)
        && (b.port.is_none() || a.port == b.port)
}

/// Whether the addresses are the same, or the client gave none.
fn fits_place(old: &impl HasInfo, wanted: &impl HasInfo) -> bool {
    wanted.address().is_none() || old.address() == wanted.address()
}

fn is_same_input(old: &Input, wanted: &Input) -> bool {
    let event = |input: &Input| input.source.as_ref().and_then(|source| source.evdev.clone());
    old.kind == wanted.kind
        && (wanted.bus.is_none() || old.bus == wanted.bus)
        && (wanted.kind != InputType::Passthrough || event(old) == event(wanted))
        && fits_place(&old.info, &wanted.info)
}

fn is_same_module(old: &Memory, wanted: &Memory) -> bool {
    let place = match (&old.info.address, &wanted.info.address) {
        (Some(Address::Dimm(a)), Some(Address::Dimm(b))) => a.slot == b.slot,
        _ => fits_place(&old.info, &wanted.info),
    };
    // What is found only in the running guest is not asked for.
    let target = |module: &Memory| {
        let mut target = module.target.clone().unwrap_or_default();
        target.current = None;
        target
    };
    old.model == wanted.model && target(old) == target(wanted) && old.source == wanted.source && place
}

/// The name of the device that the XML of a client means.
///
/// # Errors
/// There is none, or the kind of device is not one that can be unplugged.
pub fn alias_of(live: &Definition, wanted: &Devices) -> Result<String> {
    let name = |alias: Option<&Alias>| alias.map(|alias| alias.name.clone());
    let missing = |what: String| error(Code::DeviceMissing, what);
    let devices = &live.devices;
    if let Some(disk) = wanted.disk.first() {
        let found = devices.disk.iter().find(|old| old.dev() == disk.dev());
        let found = found.and_then(|disk| name(disk.info.alias.as_ref()));
        return found.ok_or_else(|| missing(format!("disk {} not found", disk.dev())));
    }
    if let Some(interface) = wanted.interface.first() {
        let found = super::update::find_interface(devices, interface)?;
        let found = devices.interface.get(found).and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| internal("the interface has no alias"));
    }
    if let Some(controller) = wanted.controller.first() {
        let same = |old: &&domain_xml::controller::Controller| {
            old.kind == controller.kind && old.index() == controller.index()
        };
        if controller.kind != ControllerType::Scsi {
            let detail = format!("'{}' controller cannot be hot unplugged.", controller.kind);
            return Err(error(Code::OperationUnsupported, detail));
        }
        let found = devices.controller.iter().find(same).and_then(|it| name(it.alias.as_ref()));
        return found.ok_or_else(|| {
            missing(format!("controller {}:{} not found", controller.kind, controller.index()))
        });
    }
    if let Some(rng) = wanted.rng.first() {
        let bare = |rng: &Rng| {
            let mut rng = rng.clone();
            (rng.info.alias, rng.info.address) = (None, None);
            rng
        };
        let found = devices.rng.iter().find(|old| bare(old) == bare(rng) && fits_place(&old.info, &rng.info));
        let found = found.and_then(|it| name(it.info.alias.as_ref()));
        // The original takes the model's number for that of a kind of source.
        let model = match rng.model {
            VirtioModel::Virtio => "random",
            VirtioModel::VirtioTransitional => "egd",
            VirtioModel::VirtioNonTransitional => "builtin",
        };
        let text = || format!("model '{model}' RNG device not present in domain configuration");
        return found.ok_or_else(|| missing(text()));
    }
    if let Some(input) = wanted.input.first() {
        let found = devices.input.iter().find(|old| is_same_input(old, input));
        let found = found.ok_or_else(|| missing("matching input device not found".to_owned()))?;
        if let Some(bus @ (InputBus::Ps2 | InputBus::Xen | InputBus::Parallels)) = found.bus {
            let detail = format!("input device on bus '{bus}' cannot be detached");
            return Err(error(Code::OperationUnsupported, detail));
        }
        return name(found.info.alias.as_ref()).ok_or_else(|| internal("the device has no alias"));
    }
    if let Some(watchdog) = &wanted.watchdog {
        return watchdog_alias(devices.watchdog.as_ref(), watchdog);
    }
    let characters = [
        ("serial", &wanted.serial, &devices.serial),
        ("parallel", &wanted.parallel, &devices.parallel),
        ("console", &wanted.console, &devices.console),
        ("channel", &wanted.channel, &devices.channel),
    ];
    for (kind, wanted, there) in characters {
        let Some(character) = wanted.first() else { continue };
        let found = there.iter().find(|old| is_same_character(old, character));
        let found = found.and_then(|it| name(it.info.alias.as_ref()));
        let text = || format!("chr type '{kind}' device not present in domain configuration");
        return found.ok_or_else(|| missing(text()));
    }
    if let Some(module) = wanted.memory.first() {
        let found = devices.memory.iter().find(|old| is_same_module(old, module));
        let found = found.and_then(|it| name(it.info.alias.as_ref()));
        let text =
            || format!("model '{}' memory device not present in the domain configuration", module.model);
        return found.ok_or_else(|| missing(text()));
    }
    if let Some(hostdev) = wanted.hostdev.first() {
        let same = |old: &&Hostdev| old.kind == hostdev.kind && old.source == hostdev.source;
        let found = devices.hostdev.iter().find(same).and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| missing("device not present in domain configuration".to_owned()));
    }
    if let Some(redirected) = wanted.redirdev.first() {
        let same = |old: &&domain_xml::chardev::RedirDevice| {
            old.bus == redirected.bus
                && old.source == redirected.source
                && fits_place(&old.info, &redirected.info)
        };
        let found = devices.redirdev.iter().find(same).and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| invalid("no matching redirdev was not found"));
    }
    if let Some(shared) = wanted.shmem.first() {
        let same = |old: &&domain_xml::misc::Shmem| old.name == shared.name && old.size == shared.size;
        let found = devices.shmem.iter().find(same).and_then(|it| name(it.info.alias.as_ref()));
        return found.ok_or_else(|| missing("shmem device not present in domain configuration".to_owned()));
    }
    if let Some(filesystem) = wanted.filesystem.first() {
        let target = |it: &Filesystem| it.target.as_ref().map(|target| target.dir.clone());
        let same = |old: &&Filesystem| {
            target(old) == target(filesystem)
                && (filesystem.source.is_none() || old.source == filesystem.source)
        };
        let found = devices.filesystem.iter().find(same);
        let found = found.ok_or_else(|| missing("matching filesystem device was not found".to_owned()))?;
        if !is_virtiofs(found) {
            return Err(error(Code::OperationUnsupported, NOT_VIRTIOFS));
        }
        return name(found.info.alias.as_ref()).ok_or_else(|| internal("the device has no alias"));
    }
    let kind = kind(wanted).unwrap_or("none");
    Err(error(Code::OperationUnsupported, format!("live detach of device '{kind}' is not supported")))
}

fn watchdog_alias(there: Option<&Watchdog>, wanted: &Watchdog) -> Result<String> {
    let missing = |what: String| error(Code::DeviceMissing, what);
    let own =
        there.ok_or_else(|| missing("watchdog device not present in domain configuration".to_owned()))?;
    let model = own.model;
    if model != wanted.model || own.action != wanted.action || !fits_place(&own.info, &wanted.info) {
        return Err(missing(format!("model '{model}' watchdog device not present in domain configuration")));
    }
    if model != WatchdogModel::I6300esb {
        let detail = format!("hot unplug of watchdog of model {model} is not supported");
        return Err(error(Code::OperationUnsupported, detail));
    }
    let alias = own.info.alias.as_ref().map(|alias| alias.name.clone());
    alias.ok_or_else(|| internal("the device has no alias"))
}

/// Takes the devices that the XML of a client means out of a definition.
///
/// # Errors
/// One is not there.
pub fn without(definition: &Definition, wanted: &Devices) -> Result<Definition> {
    let mut left = definition.clone();
    qemu_domain::alias::assign(&mut left).map_err(|error| xml(&error))?;
    let alias = alias_of(&left, wanted)?;
    crate::definition::remove_device(&mut left, &alias);
    // The names tell the places; the definition itself keeps none but those that its user gave.
    qemu_domain::inactive::strip_names(&mut left);
    Ok(left)
}
