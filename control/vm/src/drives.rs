//! `-blockdev` and `-drive`: the disks that devices use by name.

use block::{BlockBackend, Interface, NoMedium, ThrottleGroup, Throttling};
use cmdline::{Item, Plan, PropValue};
use qdev::Links;
use report::Location;
use std::sync::Arc;

/// Opens all images and makes them known by their ids and node names.
///
/// # Errors
/// The text for the user.
pub(crate) fn create(plan: &Plan, links: &Links) -> Result<(), String> {
    for decl in &plan.blockdevs {
        let _place = Location::enter(&decl.location);
        let at = |text: String| format!("{}: {text}", decl.location);
        let find = |name: &str| links.get::<BlockBackend>(name);
        let node = BlockBackend::node(&decl.name, &decl.node, &find).map_err(|error| at(error.0))?;
        // Nodes described within others can be named too.
        if !links.insert(&decl.name, node) {
            return Err(at(format!("Duplicate nodes with node-name='{}'", decl.name)));
        }
    }
    for drive in &plan.drives {
        let _place = Location::enter(&drive.location);
        let at = |text: String| format!("{}: {text}", drive.location);
        let id = &drive.id;
        if links.get::<BlockBackend>(id).is_some() {
            return Err(at(format!("Device name '{id}' conflicts with an existing node name")));
        }
        let mut image = drive.options.image.clone();
        image.snapshot |= plan.snapshot && !drive.options.snapshot_given;
        if image.copy_on_read && image.read_only {
            report::warn_report!("disabling copy-on-read on read-only drive");
            image.copy_on_read = false;
        }
        if image.file.is_none() {
            links.insert(id, Arc::new(NoMedium));
            continue;
        }
        let backend = BlockBackend::open(id, &image).map_err(|error| at(error.0))?;
        if let Some(name) = &drive.options.node_name {
            block::check_name(name).map_err(|error| at(error.0))?;
            if !links.insert(name, backend.clone()) {
                return Err(at(format!("Duplicate nodes with node-name='{name}'")));
            }
        }
        if image.throttling.limits.any() {
            backend.limit(group(links, id, &image.throttling));
        }
        links.insert(id, backend);
    }
    Ok(())
}

/// The group that a drive says, or its own; the limits are those of the drive that came last.
fn group(links: &Links, drive: &str, throttling: &Throttling) -> Arc<ThrottleGroup> {
    let name = throttling.group.as_deref().unwrap_or(drive);
    let group = links.get::<ThrottleGroup>(name).unwrap_or_else(|| {
        let group = ThrottleGroup::new(name);
        links.insert(name, group.clone());
        group
    });
    group.set_limits(throttling.limits);
    group
}

/// The devices that `-drive if=virtio` stands for; they come after those of `-device`.
pub(crate) fn devices(plan: &Plan) -> Vec<Item> {
    let wanted = plan.drives.iter().filter(|drive| drive.options.interface == Interface::Virtio);
    wanted
        .map(|drive| Item {
            location: drive.location.clone(),
            kind: "virtio-blk-pci".to_owned(),
            id: None,
            props: vec![("drive".to_owned(), PropValue::Text(drive.id.clone()))],
            json: false,
        })
        .collect()
}
