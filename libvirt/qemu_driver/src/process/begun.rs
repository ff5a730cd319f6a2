//! What was begun with a running guest's devices: noted in its status file before each step, so that whoever finds the
//! guest after a daemon was killed can take back what is not complete.

use super::hotplug::{Part, plugged};
use super::network;
use crate::core::{Core, Level};
use crate::error::Result;
use crate::guest::Guest;
use domain_xml::disk::Disk;
use domain_xml::interface::Interface;
use json::{Dict, dict};
use std::sync::Arc;
use std::time::Duration;
use xml::Any;

/// Commands that take back what the emulator has, each with its argument's name: nothing else is done for a file's sake.
const COMMANDS: [(&str, &str); 5] = [
    ("object-del", "id"),
    ("netdev_del", "id"),
    ("chardev-remove", "id"),
    ("blockdev-del", "node-name"),
    ("closefd", "fdname"),
];
/// How often is looked whether a device is gone: what the guest has to let go of itself may take it some time, and stays
/// where it does not; and what a device stood on is free a moment after it.
const MOST: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// One thing that the emulator may have: the command that takes it away, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    command: &'static str,
    name: String,
}

impl Undo {
    /// `name` is what `command` takes.
    pub fn new(command: &str, name: &str) -> Option<Self> {
        let (command, _) = COMMANDS.iter().find(|(known, _)| *known == command)?;
        Some(Self { command, name: name.to_owned() })
    }

    fn argument(&self) -> &'static str {
        COMMANDS.iter().find(|(known, _)| *known == self.command).map_or("id", |(_, argument)| argument)
    }

    /// Whether the emulator had it, and no longer has.
    fn perform(&self, guest: &Guest) -> bool {
        guest.execute(self.command, dict! { self.argument() => self.name.as_str() }).is_ok()
    }
}

/// What was begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Devices are plugged in.
    Plug {
        /// The host's ends of interfaces among them.
        interfaces: Vec<Interface>,
        /// What the emulator may have of them, beside the devices themselves; what comes later stands on what was before.
        undo: Vec<Undo>,
    },
    /// A drive gets another medium: what the disk will be.
    Medium(Box<Disk>),
}

impl Begun {
    /// As a part of a status file.
    pub(super) fn noted(&self) -> Any {
        match self {
            Self::Plug { interfaces, undo } => {
                let undo = undo.iter().map(|undo| {
                    ("undo", Any::with(&[("command", undo.command), ("name", undo.name.as_str())]))
                });
                let interfaces = interfaces.iter().map(|interface| ("interface", Any::like(interface)));
                let mut part = Any::of(undo.chain(interfaces));
                part.attributes.push(("name".to_owned(), "plug".to_owned()));
                part
            }
            Self::Medium(disk) => {
                let mut part = Any::of([("disk", Any::like(&**disk))]);
                part.attributes.push(("name".to_owned(), "medium".to_owned()));
                part
            }
        }
    }

    /// The reverse of [`Begun::noted`]; none: it is something else.
    pub(super) fn read(part: &Any) -> Option<Self> {
        match part.attribute("name")? {
            "plug" => {
                let (mut interfaces, mut undo) = (Vec::new(), Vec::new());
                for (name, child) in &part.children {
                    match name.as_str() {
                        "undo" => {
                            undo.extend(Undo::new(child.attribute("command")?, child.attribute("name")?));
                        }
                        "interface" => {
                            interfaces.push(xml::from_str(&xml::to_string(child, name), name).ok()?);
                        }
                        _ => {}
                    }
                }
                Some(Self::Plug { interfaces, undo })
            }
            "medium" => {
                let disk = xml::to_string(part.child("disk")?, "disk");
                Some(Self::Medium(Box::new(xml::from_str(&disk, "disk").ok()?)))
            }
            _ => None,
        }
    }
}

/// What takes the parts away again that are no devices, and the descriptors of those names.
pub(super) fn undo_of<'a>(parts: &[Part], descriptors: impl Iterator<Item = &'a str>) -> Vec<Undo> {
    let named = |(command, arguments): (&str, Dict)| {
        let (_, argument) = COMMANDS.iter().find(|(known, _)| *known == command)?;
        Undo::new(command, arguments.get(argument)?.as_str()?)
    };
    let descriptors = descriptors.filter_map(|name| Undo::new("closefd", name));
    descriptors.chain(parts.iter().filter_map(Part::remove).filter_map(named)).collect()
}

impl Core {
    /// Takes back what a daemon that was killed had begun with the guest's devices, or completes it.
    ///
    /// # Errors
    /// The emulator does not answer.
    pub(super) fn settle(&self, guest: &Arc<Guest>, id: i32, known: &[String]) -> Result<()> {
        let begun = guest.with_live(id, |live| live.begun.clone()).flatten();
        self.unplug_unknown(guest, known)?;
        match &begun {
            Some(Begun::Plug { interfaces, undo }) => {
                for undo in undo.iter().rev() {
                    // It may not have come so far.
                    let _ = undo.perform(guest);
                }
                if let Some(definition) = guest.with_live(id, |live| live.definition.clone()) {
                    network::release(self, network::Owner::of(&definition), interfaces);
                }
            }
            Some(Begun::Medium(disk)) => self.settle_medium(guest, id, disk)?,
            None => {}
        }
        self.refresh_drives(guest, id)?;
        self.remove_unused_nodes(guest, id)?;
        guest.with_live(id, |live| live.begun = None);
        let found = guest.with_live(id, |live| (live.definition.clone(), live.directory.clone()));
        if let Some((definition, directory)) = found {
            self.stop_unneeded_helpers(&definition, &directory);
        }
        let found = guest.with_live(id, |live| (live.definition.clone(), live.confined.clone()));
        if let Some((definition, Some(confined))) = found {
            for error in self.security.reclaim(&definition, &confined) {
                self.log(
                    Level::Warning,
                    &format!("Unable to restore labels of '{}': {error}", definition.name()),
                );
            }
        }
        Ok(())
    }

    /// Takes away the devices that nobody knows of.
    fn unplug_unknown(&self, guest: &Arc<Guest>, known: &[String]) -> Result<()> {
        let unknown: Vec<String> =
            plugged(guest)?.into_iter().filter(|alias| !known.contains(alias)).collect();
        for alias in &unknown {
            guest.execute("device_del", dict! { "id" => alias.as_str() })?;
        }
        for _ in 0..MOST {
            let left = plugged(guest)?;
            if !unknown.iter().any(|alias| left.contains(alias)) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Takes away images that no disk has.
    fn remove_unused_nodes(&self, guest: &Arc<Guest>, id: i32) -> Result<()> {
        let Some(definition) = guest.with_live(id, |live| live.definition.clone()) else { return Ok(()) };
        let nodes = guest.execute("query-named-block-nodes", Dict::default())?;
        let nodes = nodes.as_list().unwrap_or_default().iter();
        let names = nodes.filter_map(|node| node.get("node-name")?.as_str());
        let mut unused: Vec<Undo> = names
            .filter(|name| super::status::is_of_nobody(&definition, name))
            .filter_map(|name| Undo::new("blockdev-del", name))
            .collect();
        // Formats before what they stand on.
        unused.sort_by_key(|undo| !undo.name.ends_with("-format"));
        for _ in 0..MOST {
            unused.retain(|undo| !undo.perform(guest));
            if unused.is_empty() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read() {
        let devices = crate::process::hotplug::parse_device(
            "<interface type='network'><source network='default' portid='p'/></interface>\
             <disk type='file' device='cdrom'><source file='/a' index='7'/><target dev='hda'/></disk>",
        )
        .expect("devices");
        let undo = vec![
            Undo::new("netdev_del", "hostnet1").expect("known"),
            Undo::new("closefd", "tapfd-net10").expect("known"),
        ];
        let plug = Begun::Plug { interfaces: devices.interface.clone(), undo };
        assert_eq!(Begun::read(&plug.noted()), Some(plug));
        let medium = Begun::Medium(Box::new(devices.disk[0].clone()));
        assert_eq!(Begun::read(&medium.noted()), Some(medium));
        assert_eq!(Begun::read(&Any::with(&[("name", "start")])), None);
        assert_eq!(Undo::new("quit", "x"), None);
    }
}
