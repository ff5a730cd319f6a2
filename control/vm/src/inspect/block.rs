//! `info block`: the disks and who uses them.

use block::{BlockBackend, NoMedium};
use qdev::{DeviceTree, Links, Node};
use std::fmt::Write as _;
use std::sync::Arc;

/// The disks of `-drive` (`drives`: their ids, in order), then those that devices name as nodes.
pub(crate) fn disks(drives: &[String], links: &Links, tree: &DeviceTree) -> String {
    let users: Vec<(String, String)> = users(tree);
    let user = |name: &str| users.iter().find(|(drive, _)| drive == name).map(|(_, path)| path.as_str());
    let nodes = users.iter().map(|(drive, _)| drive).filter(|drive| !drives.contains(drive));
    let mut blocks = Vec::new();
    for name in drives.iter().chain(nodes) {
        let mut out = String::new();
        if let Some(disk) = links.get::<BlockBackend>(name) {
            let options = disk.options();
            let mode = if disk.is_read_only() { ", read-only" } else { "" };
            let _ = writeln!(out, "{name}: {} (raw{mode})", disk.path());
            attached(&mut out, user(name));
            let _ = write!(
                out,
                "    Cache mode:       {}",
                if options.cache.writeback { "writeback" } else { "writethrough" }
            );
            out.push_str(if options.cache.direct && !options.snapshot { ", direct" } else { "" });
            let unflushed = options.cache.no_flush || options.snapshot;
            out.push_str(if unflushed { ", ignore flushes" } else { "" });
            out.push('\n');
            if options.snapshot {
                let _ = writeln!(out, "    Backing file:     {} (chain depth: 1)", disk.path());
            }
            if let Some(group) = disk.throttle() {
                let limits = group.limits().describe();
                let _ = writeln!(out, "    I/O throttling:   {limits} group={}", group.name());
            }
        } else if links.get::<NoMedium>(name).is_some() {
            let _ = writeln!(out, "{name}: [not inserted]");
            attached(&mut out, user(name));
        }
        blocks.push(out);
    }
    blocks.join("\n")
}

fn attached(out: &mut String, user: Option<&str>) {
    let _ = match user {
        Some(path) => writeln!(out, "    Attached to:      {path}"),
        None => writeln!(out, "    Removable device: not locked, tray closed"),
    };
}

/// The disks that devices name, each with its device's path in QEMU's object tree.
fn users(tree: &DeviceTree) -> Vec<(String, String)> {
    let mut anonymous = 0;
    let mut users = Vec::new();
    for node in tree.nodes().iter().filter(|node| !node.onboard) {
        let place = match &node.id {
            Some(id) => format!("/machine/peripheral/{id}"),
            None => {
                anonymous += 1;
                format!("/machine/peripheral-anon/device[{}]", anonymous - 1)
            }
        };
        if let Some(drive) = drive_of(node) {
            users.push((drive, format!("{place}/virtio-backend")));
        }
    }
    users
}

fn drive_of(node: &Arc<Node>) -> Option<String> {
    let name = node.property("drive")?.trim_matches('"');
    (!name.is_empty()).then(|| name.to_owned())
}
