//! What libvirt notes in the definition of a running guest for itself: by which names the emulator knows images and
//! drives, and what the interface of a network really is.

use domain_xml::Domain as Definition;
use domain_xml::disk::{Disk, DiskBus};
use domain_xml::graphics::GraphicsType;
use domain_xml::interface::{Interface, InterfaceSource, InterfaceType};
use domain_xml::source::{BackingStore, Source};
use domain_xml::words::YesNo;
use xml::Any;

/// The numbers of all images.
fn nodes(definition: &Definition) -> Vec<u32> {
    let mut nodes = Vec::new();
    for disk in &definition.devices.disk {
        nodes.extend(disk.source.as_ref().and_then(|source| source.index));
        nodes.extend(disk.mirror.as_ref().and_then(|mirror| mirror.source.as_ref()?.index));
        let mut below = disk.backing_store.as_deref();
        while let Some(store) = below {
            nodes.extend(store.index);
            below = store.backing_store.as_deref();
        }
    }
    nodes
}

/// The highest number of an image.
pub(super) fn last_node(definition: &Definition) -> u64 {
    nodes(definition).into_iter().max().unwrap_or(0).into()
}

/// Whether the node is one of an image that no disk of the definition has.
pub(in crate::process) fn is_of_nobody(definition: &Definition, node: &str) -> bool {
    let number = node.strip_prefix("libvirt-").and_then(|rest| rest.split('-').next()?.parse().ok());
    number.is_some_and(|number| !nodes(definition).contains(&number))
}

/// The definition with the notes that are not there yet.
pub(super) fn noted(definition: &Definition) -> Definition {
    let mut noted = definition.clone();
    for disk in &mut noted.devices.disk {
        note_disk(disk);
    }
    for graphics in &mut noted.devices.graphics {
        if graphics.kind == GraphicsType::Vnc {
            graphics.websocket_generated.get_or_insert(YesNo::No);
        }
        for listen in &mut graphics.listens {
            listen.from_config.get_or_insert(0);
            listen.auto_generated.get_or_insert(YesNo::No);
        }
    }
    noted
}

/// The definition as it stands in a status file.
pub(super) fn taken_apart(definition: &Definition) -> Definition {
    let mut apart = definition.clone();
    for interface in &mut apart.devices.interface {
        separate(interface);
    }
    apart
}

fn note_disk(disk: &mut Disk) {
    if let Some(source) = &mut disk.source
        && let Some(index) = source.index
    {
        note_source(source, index);
    }
    let mut below: Option<&mut BackingStore> = disk.backing_store.as_deref_mut();
    while let Some(store) = below {
        if let (Some(index), Some(source)) = (store.index, &mut store.source) {
            note_source(source, index);
        }
        below = store.backing_store.as_deref_mut();
    }
    if disk.private.0.is_none()
        && let Some(name) = qom_name(disk)
    {
        disk.private.0 = Some(Any::of([("qom", Any::with(&[("name", &name)]))]));
    }
}

fn note_source(source: &mut Source, index: u32) {
    if source.private.0.is_some() {
        return;
    }
    let mut kinds = vec!["storage", "format"];
    if source.slices.is_some() {
        kinds.push("slice");
    }
    let node = |kind: &str| {
        let (kind, name) = match kind {
            "slice" => ("slice-storage", format!("libvirt-{index}-slice-sto")),
            kind => (kind, format!("libvirt-{index}-{kind}")),
        };
        ("nodename", Any::with(&[("type", kind), ("name", &name)]))
    };
    let nodes = Any::of(kinds.into_iter().map(node));
    source.private.0 = Some(Any::of([("nodenames", nodes)]));
}

/// The drive's name or path among the emulator's objects.
fn qom_name(disk: &Disk) -> Option<String> {
    let alias = crate::definition::disk_alias(disk)?;
    match disk.bus()? {
        DiskBus::Virtio => Some(format!("/machine/peripheral/{alias}/virtio-backend")),
        DiskBus::Usb => Some(format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]")),
        DiskBus::Fdc | DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi => Some(alias.to_owned()),
        _ => None,
    }
}

/// Puts apart what was asked for and what it became.
fn separate(interface: &mut Interface) {
    let kind = interface.kind;
    let Some(source) = interface.source.as_mut().filter(|source| source.network.is_some()) else { return };
    let parts = match kind {
        InterfaceType::Network | InterfaceType::Bridge => {
            [("bridge", source.bridge.take()), ("macTableManager", source.mac_table_manager.take())]
        }
        InterfaceType::Direct => [("dev", source.dev.take()), ("mode", source.mode.take())],
        _ => return,
    };
    if parts.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    interface.kind = InterfaceType::Network;
    let actual = interface.actual.0.get_or_insert_default();
    if actual.attribute("type").is_none() {
        actual.attributes.insert(0, ("type".to_owned(), kind.to_string()));
    }
    if actual.child("source").is_none() {
        actual.children.insert(0, ("source".to_owned(), Any::default()));
    }
    if let Some(own) = actual.child_mut("source") {
        own.attributes.retain(|(name, _)| parts.iter().all(|(part, _)| part != name));
        let parts = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        own.attributes.splice(0..0, parts);
    }
}

/// Puts together again what [`taken_apart`] separates.
pub(super) fn take_in(definition: &mut Definition) {
    for interface in &mut definition.devices.interface {
        let Some(actual) = interface.actual.0.as_ref().filter(|_| interface.kind == InterfaceType::Network)
        else {
            continue;
        };
        let part = |name: &str| actual.child("source")?.attribute(name).map(str::to_owned);
        let source = interface.source.get_or_insert_with(InterfaceSource::default);
        match actual.attribute("type") {
            Some("network") => {}
            Some("bridge") => interface.kind = InterfaceType::Bridge,
            Some("direct") => {
                interface.kind = InterfaceType::Direct;
                (source.dev, source.mode) = (part("dev"), part("mode"));
                continue;
            }
            _ => continue,
        }
        (source.bridge, source.mac_table_manager) = (part("bridge"), part("macTableManager"));
    }
}
