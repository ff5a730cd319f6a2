//! The status file of a running guest, in libvirt's form.
//!
//! It is written before a guest's process may do anything, and after whatever changes. A daemon that starts finds there
//! which guests run and what was under way: `<operation>` is ours, the other elements are libvirt's.

use crate::core::{Core, Level};
use crate::files;
use crate::guest::Guest;
use crate::process::{Live, Phase, Taint};
use crate::state::State;
use crate::uuid;
use domain_xml::Domain as Definition;
use rpc::Uuid;
use std::path::PathBuf;
use xml::{Node, Writer};

/// Longest status file.
const MAX_STATUS: u64 = 16 << 20;

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Spawned => "spawned",
            Self::Connected => "connected",
            Self::Ready => "ready",
        }
    }
}

/// What a status file tells.
#[derive(Debug)]
pub struct Status {
    /// The state when it was written.
    pub state: State,
    /// The process.
    pub pid: i32,
    /// The guest was still starting.
    pub starting: bool,
    /// The managed save that it goes on from.
    pub restored_from: Option<PathBuf>,
    /// Where its state was being saved.
    pub saving: Option<PathBuf>,
    /// A power-off is to become a reset.
    pub fake_reboot: bool,
    /// Where its monitor listens.
    pub monitor: PathBuf,
    /// Its directory.
    pub directory: PathBuf,
    /// The directory of its channels' sockets.
    pub channels: PathBuf,
    /// What makes its behaviour nobody's promise.
    pub taints: Vec<Taint>,
    /// vCPUs and their threads.
    pub vcpus: Vec<(u32, i32)>,
    /// Its number.
    pub id: i32,
    /// Its UUID.
    pub uuid: Uuid,
    /// The definition in force.
    pub definition: Definition,
}

fn empty(writer: &mut Writer, name: &str, attributes: &[(&str, &str)]) {
    let write = |writer: &mut Writer| {
        for (key, value) in attributes {
            writer.attribute(key, value);
        }
    };
    writer.with(name, write, |_| ());
}

fn group(writer: &mut Writer, name: &str, content: impl FnOnce(&mut Writer)) {
    writer.with(name, |_| (), content);
}

/// The text of a guest's status file.
pub fn format(state: State, live: &Live) -> String {
    let mut writer = Writer::default();
    let (word, reason) = state.words();
    let attributes = |writer: &mut Writer| {
        writer.attribute("state", word);
        writer.attribute("reason", reason);
        writer.attribute("pid", &live.pid.to_string());
    };
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    writer.with("domstatus", attributes, |writer| {
        for taint in &live.taints {
            empty(writer, "taint", &[("flag", taint.word())]);
        }
        empty(writer, "monitor", &[("path", &path(&live.monitor_path())), ("type", "unix")]);
        let confined = live.confined.as_ref();
        if confined.is_some_and(|confined| confined.has_namespace()) {
            group(writer, "namespaces", |writer| empty(writer, "mount", &[]));
        }
        if !live.vcpus.is_empty() {
            group(writer, "vcpus", |writer| {
                for (id, pid) in &live.vcpus {
                    empty(writer, "vcpu", &[("id", &id.to_string()), ("pid", &pid.to_string())]);
                }
            });
        }
        group(writer, "qemuCaps", |writer| {
            for flag in &live.caps.flags {
                empty(writer, "flag", &[("name", flag)]);
            }
        });
        if live.phase < Phase::Ready {
            empty(writer, "job", &[("type", "none"), ("async", "start"), ("phase", "none")]);
            empty(writer, "operation", &[("name", "start"), ("phase", live.phase.word())]);
        }
        if let Some(to) = &live.saving {
            empty(writer, "job", &[("type", "none"), ("async", "save"), ("phase", "none")]);
            empty(writer, "operation", &[("name", "save"), ("path", &path(to))]);
        }
        if let Some(from) = &live.restored_from {
            empty(writer, "restored", &[("path", &path(from))]);
        }
        if live.fake_reboot {
            empty(writer, "fakereboot", &[]);
        }
        empty(writer, "libDir", &[("path", &path(&live.directory))]);
        empty(writer, "channelTargetDir", &[("path", &path(&live.channels))]);
        if confined.is_some_and(|confined| confined.remembers_owners()) {
            empty(writer, "rememberOwner", &[]);
        }
        empty(writer, "blockjobs", &[("active", "no")]);
        writer.element("domain", &*live.definition);
    });
    writer.finish()
}

/// Reads a status file, ours or libvirt's.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Status, String> {
    let text = without_private_data(text);
    xml::parse(&text, "domstatus", |root| read(root).map_err(xml::Error::internal))
        .map_err(|error| error.to_string())
}

fn read(root: &Node<'_>) -> Result<Status, String> {
    let child = |name: &str| root.children().find(|child| child.name() == name);
    let need = |node: &Node<'_>, name: &str| {
        let missing = || format!("<{}> lacks '{name}'", node.name());
        node.attribute(name).map(str::to_owned).ok_or_else(missing)
    };
    let number = |text: String| text.parse::<i32>().map_err(|_| format!("malformed number '{text}'"));
    let (word, reason) = (need(root, "state")?, need(root, "reason")?);
    let state =
        State::from_words(&word, &reason).ok_or_else(|| format!("unknown state '{word}' ({reason})"))?;
    let monitor = child("monitor").ok_or("no monitor")?;
    let place = |name: &str| Some(PathBuf::from(child(name)?.attribute("path")?));
    let monitor = PathBuf::from(need(&monitor, "path")?);
    let directory = place("libDir").or_else(|| Some(monitor.parent()?.to_owned())).ok_or("no directory")?;
    let vcpus = child("vcpus").map(|list| {
        let vcpus = list.children().filter(|vcpu| vcpu.name() == "vcpu");
        vcpus.map(|vcpu| Ok((number(need(&vcpu, "id")?)? as u32, number(need(&vcpu, "pid")?)?))).collect()
    });
    let job = child("job").and_then(|job| job.attribute("async").map(str::to_owned));
    let domain = child("domain").ok_or("no domain")?;
    let definition: Definition = xml::read(&domain).map_err(|error| error.to_string())?;
    let uuid = definition.uuid.as_deref().and_then(uuid::parse).ok_or("no uuid")?;
    Ok(Status {
        state,
        pid: number(need(root, "pid")?)?,
        starting: job.as_deref() == Some("start"),
        restored_from: place("restored"),
        // Of another daemon's file only it knows the place; the guest goes on then.
        saving: (job.as_deref() == Some("save")).then(|| place("operation").unwrap_or_default()),
        fake_reboot: child("fakereboot").is_some(),
        channels: place("channelTargetDir").unwrap_or_else(|| directory.clone()),
        directory,
        monitor,
        taints: root
            .children()
            .filter(|node| node.name() == "taint")
            .filter_map(|node| Taint::from_word(node.attribute("flag")?))
            .collect(),
        vcpus: vcpus.unwrap_or_else(|| Ok::<_, String>(Vec::new()))?,
        id: definition.id.filter(|id| *id > 0).ok_or("no id")?,
        uuid,
        definition,
    })
}

/// The text without libvirt's notes inside of devices: what they say follows from the definition.
fn without_private_data(text: &str) -> String {
    let (mut rest, mut out) = (text, String::with_capacity(text.len()));
    while let Some(start) = rest.find("<privateData>") {
        let Some(length) = rest[start..].find("</privateData>") else { break };
        out.push_str(&rest[..start]);
        rest = &rest[start + length + "</privateData>".len()..];
    }
    out + rest
}

impl Core {
    /// Writes the guest's status file, if it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_status(&self, guest: &Guest) -> std::io::Result<()> {
        // Whoever comes later writes what is newer.
        let _turn = guest.status_turn.lock();
        let (name, text) = {
            let inner = guest.lock();
            let Some(live) = &inner.live else { return Ok(()) };
            (inner.name.clone(), format(inner.state, live))
        };
        let text = files::with_header(&format!("virsh edit {name}"), &text);
        files::replace(&self.paths.status(&name), text.as_bytes())
    }

    /// As [`Core::write_status`]; a failure is only noted, since what happened has happened.
    pub fn save_status(&self, guest: &Guest) {
        if let Err(error) = self.write_status(guest) {
            let name = guest.lock().name.clone();
            self.log(Level::Warning, &format!("Unable to save status on vm {name}: {error}"));
        }
    }

    /// The status files of all guests that ran.
    pub fn read_statuses(&self) -> Vec<Status> {
        let Ok(entries) = std::fs::read_dir(&self.paths.state) else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "xml"));
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            let text = files::read(&path, MAX_STATUS).map_err(|error| error.to_string());
            match text.and_then(|text| parse(&text)) {
                Ok(status) => found.push(status),
                Err(error) => {
                    self.log(Level::Error, &format!("Failed to read status {}: {error}", path.display()));
                }
            }
        }
        found
    }
}
