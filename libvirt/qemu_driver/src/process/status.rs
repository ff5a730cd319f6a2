//! The status file of a running guest, in libvirt's form.
//!
//! It is written before a guest's process may do anything, and after whatever changes. A daemon that starts finds there
//! which guests run and what was under way. `<operation>`, `<restored>` and `<ownersNoted>` are ours, which libvirt passes over; the other
//! elements are libvirt's, and those of them that only libvirt has a use for are kept as they were found.

mod notes;

use crate::core::{Core, Level};
use crate::files;
use crate::guest::Guest;
use crate::process::{Begun, Live, Phase, Taint};
use crate::state::{Paused, State};
use crate::uuid;
use confinement::dac::Journal;
use domain_xml::Domain as Definition;
pub(super) use notes::is_of_nobody;
use rpc::Uuid;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xml::{Any, Node, Writer};

/// Longest status file.
const MAX_STATUS: u64 = 16 << 20;

/// The elements before the definition, in libvirt's order.
const ORDER: [&str; 34] = [
    "taint",
    "deprecation",
    "monitor",
    "dbusDaemon",
    "dbusVMState",
    "dbusVMStateIds",
    "namespaces",
    "vcpus",
    "qemuCaps",
    "lockstate",
    "job",
    "operation",
    "restored",
    "ownersNoted",
    "fakereboot",
    "devices",
    "numad",
    "libDir",
    "channelTargetDir",
    "cpu",
    "chardevStdioLogd",
    "rememberOwner",
    "allowReboot",
    "prDaemon",
    "nodename",
    "fdset",
    "memPrealloc",
    "blockjobs",
    "slirp",
    "agentTimeout",
    "backups",
    "originalMemlock",
    "preMigrationMemlock",
    "domain",
];

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Spawned => "spawned",
            Self::Connected => "connected",
            Self::Ready => "ready",
        }
    }
}

/// A part of a status file that is kept as it is: its name, and what it holds.
pub type Kept = (String, Any);

/// What a status file tells.
#[derive(Debug)]
pub struct Status {
    /// The state when it was written.
    pub state: State,
    /// The process.
    pub pid: i32,
    /// Its number.
    pub id: i32,
    /// Its UUID.
    pub uuid: Uuid,
    /// The guest's mounts are its own.
    pub mount_namespace: bool,
    /// Owners of files are remembered with the files.
    pub remembers_owners: bool,
    /// What is under way, in libvirt's words.
    pub job: Option<Any>,
    /// What is under way, in ours.
    pub operation: Option<Any>,
    /// What was begun with its devices, which is an operation too.
    pub begun: Option<Begun>,
    /// The managed save that it goes on from.
    pub restored_from: Option<PathBuf>,
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
    /// The names of its devices, as the emulator knows them.
    pub devices: Vec<String>,
    /// The highest number of an image so far.
    pub last_node: u64,
    /// How long the agent may take, as [`Guest::agent_timeout`].
    pub agent_timeout: i32,
    /// Which files it was given is noted in its directory: not so when another daemon had it meanwhile.
    pub owners_noted: bool,
    /// What is there besides.
    pub kept: Vec<Kept>,
    /// The definition in force.
    pub definition: Arc<Definition>,
}

/// What is known at the start of a guest and stays.
pub(super) fn known_at_start(caps: &qemu_caps::QemuCaps) -> Vec<Kept> {
    let flags = caps.lasting_flags().map(|flag| ("flag", Any::with(&[("name", flag)])));
    vec![
        ("qemuCaps".to_owned(), Any::of(flags)),
        ("fdset".to_owned(), Any::with(&[("index", "0")])),
        ("blockjobs".to_owned(), Any::with(&[("active", "no")])),
    ]
}

/// What is under way, in libvirt's words.
fn job(job: &str) -> Any {
    Any::with(&[("type", "none"), ("async", job), ("flags", "0x0")])
}

/// How far a start has come, in ours.
fn starting(phase: Phase) -> Any {
    Any::with(&[("name", "start"), ("phase", phase.word())])
}

impl Status {
    /// Of a guest that has no process yet, whose directories are these.
    pub(super) fn planned(definition: &Definition, directory: &Path, channels: &Path) -> Option<Self> {
        Some(Self {
            state: Paused::StartingUp.into(),
            pid: 0,
            id: definition.id?,
            uuid: definition.uuid.as_deref().and_then(uuid::parse)?,
            mount_namespace: false,
            remembers_owners: false,
            job: Some(job("start")),
            operation: Some(starting(Phase::Planned)),
            begun: None,
            restored_from: None,
            fake_reboot: false,
            monitor: super::monitor_path(directory),
            directory: directory.to_owned(),
            channels: channels.to_owned(),
            taints: Vec::new(),
            vcpus: Vec::new(),
            devices: Vec::new(),
            last_node: 0,
            agent_timeout: crate::agent::BLOCK,
            owners_noted: true,
            kept: Vec::new(),
            definition: Arc::new(notes::noted(definition)),
        })
    }

    fn of(state: State, live: &Live, guest: (Uuid, i32)) -> Self {
        let (mut under_way, mut operation) = (None, None);
        if live.phase < Phase::Ready {
            under_way = Some(job("start"));
            operation = Some(starting(live.phase));
        }
        if let Some(begun) = &live.begun {
            operation = Some(begun.noted());
        }
        if let Some(to) = &live.saving {
            under_way = Some(job("save"));
            operation = Some(Any::with(&[("name", "save"), ("path", &to.to_string_lossy())]));
        }
        let confined = live.confined.as_ref();
        Self {
            state,
            pid: live.pid,
            id: live.id,
            uuid: guest.0,
            mount_namespace: confined.is_some_and(|confined| confined.has_namespace()),
            remembers_owners: confined.is_some_and(|confined| confined.remembers_owners()),
            job: under_way,
            operation,
            begun: live.begun.clone(),
            restored_from: live.restored_from.clone(),
            fake_reboot: live.fake_reboot,
            monitor: live.monitor_path(),
            directory: live.directory.clone(),
            channels: live.channels.clone(),
            taints: live.taints.clone(),
            vcpus: live.vcpus.clone(),
            devices: live.devices.clone(),
            last_node: notes::last_node(&live.definition),
            agent_timeout: guest.1,
            owners_noted: live.owners_noted,
            kept: live.kept.clone(),
            definition: Arc::new(notes::noted(&live.definition)),
        }
    }

    /// Where it is noted which files the guest was given.
    pub fn journal(&self) -> Option<Journal> {
        self.owners_noted.then(|| Journal::of(&self.directory))
    }

    /// Whether the guest was still starting.
    pub fn is_starting(&self) -> bool {
        self.has_job("start")
    }

    /// Where its state was being saved. Of another daemon's file only that knows the place; the guest goes on then.
    pub fn saving(&self) -> Option<PathBuf> {
        let path = || self.operation.as_ref()?.attribute("path").map(PathBuf::from);
        self.has_job("save").then(|| path().unwrap_or_default())
    }

    /// Whether its state was being written to somewhere, for which it may have been stopped.
    pub fn is_written(&self) -> bool {
        ["save", "dump", "snapshot"].iter().any(|job| self.has_job(job))
    }

    fn has_job(&self, name: &str) -> bool {
        self.job.as_ref().and_then(|job| job.attribute("async")) == Some(name)
    }

    /// The flags of the emulator's capabilities when it was started.
    pub fn capability_flags(&self) -> Vec<String> {
        let caps = self.kept.iter().find(|(name, _)| name == "qemuCaps");
        let flags = caps.iter().flat_map(|(_, caps)| &caps.children);
        flags.filter_map(|(_, flag)| flag.attribute("name").map(str::to_owned)).collect()
    }

    /// The parts that stand before the definition.
    fn parts(&self) -> Vec<Kept> {
        let path = |path: &Path| Any::with(&[("path", &path.to_string_lossy())]);
        let mut parts: Vec<(&'static str, Any)> = Vec::new();
        parts.extend(self.taints.iter().map(|taint| ("taint", Any::with(&[("flag", taint.word())]))));
        let monitor = self.monitor.to_string_lossy();
        parts.push(("monitor", Any::with(&[("path", &monitor), ("type", "unix")])));
        if self.mount_namespace {
            parts.push(("namespaces", Any::of([("mount", Any::default())])));
        }
        if !self.vcpus.is_empty() {
            let vcpu = |(id, pid): &(u32, i32)| {
                ("vcpu", Any::with(&[("id", &id.to_string()), ("pid", &pid.to_string())]))
            };
            parts.push(("vcpus", Any::of(self.vcpus.iter().map(vcpu))));
        }
        parts.extend(self.job.clone().map(|job| ("job", job)));
        parts.extend(self.operation.clone().map(|operation| ("operation", operation)));
        parts.extend(self.restored_from.as_deref().map(|from| ("restored", path(from))));
        parts.extend(self.owners_noted.then(|| ("ownersNoted", Any::default())));
        parts.extend(self.fake_reboot.then(|| ("fakereboot", Any::default())));
        if !self.devices.is_empty() {
            let device = |alias: &String| ("device", Any::with(&[("alias", alias)]));
            parts.push(("devices", Any::of(self.devices.iter().map(device))));
        }
        parts.push(("libDir", path(&self.directory)));
        parts.push(("channelTargetDir", path(&self.channels)));
        parts.extend(self.remembers_owners.then(|| ("rememberOwner", Any::default())));
        let reserves = super::reservations::is_wanted(&self.definition)
            && self.kept.iter().all(|(name, _)| name != "prDaemon");
        parts.extend(reserves.then(|| ("prDaemon", Any::default())));
        parts.push(("nodename", Any::with(&[("index", &self.last_node.to_string())])));
        parts.push(("agentTimeout", Any::text(self.agent_timeout)));
        let own = parts.into_iter().map(|(name, part)| (name.to_owned(), part));
        let mut all: Vec<Kept> = own.chain(self.kept.iter().cloned()).collect();
        // What has no place in the order stands last.
        let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
        all.sort_by_key(|(name, _)| place(name));
        all
    }

    /// The text of the file.
    pub fn format(&self) -> String {
        let mut writer = Writer::internal();
        let (word, reason) = self.state.words();
        let attributes = |writer: &mut Writer| {
            writer.attribute("state", word);
            writer.attribute("reason", reason);
            writer.attribute("pid", &self.pid.to_string());
        };
        writer.with("domstatus", attributes, |writer| {
            self.parts().iter().for_each(|(name, part)| writer.element(name, part));
            writer.element("domain", &notes::taken_apart(&self.definition));
        });
        writer.finish()
    }
}

/// Reads a status file, ours or libvirt's.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Status, String> {
    xml::parse_internal(text, "domstatus", |root| read(root).map_err(xml::Error::internal))
        .map_err(|error| error.to_string())
}

fn read(root: &Node<'_>) -> Result<Status, String> {
    let mut definition = None;
    let mut parts: Vec<Kept> = Vec::new();
    for child in root.children() {
        let wrong = |error: xml::Error| error.to_string();
        match child.name() {
            "domain" => definition = Some(xml::read::<Definition>(&child).map_err(wrong)?),
            name => parts.push((name.to_owned(), xml::read(&child).map_err(wrong)?)),
        }
    }
    let mut definition = definition.ok_or("no domain")?;
    notes::take_in(&mut definition);
    let mut take = |name: &str| {
        let at = parts.iter().position(|(known, _)| known == name)?;
        Some(parts.remove(at).1)
    };
    let need = |part: &Any, what: &str, name: &str| {
        let missing = || format!("<{what}> lacks '{name}'");
        part.attribute(name).map(str::to_owned).ok_or_else(missing)
    };
    let number = |text: String| text.parse::<i32>().map_err(|_| format!("malformed number '{text}'"));
    let root = {
        let mut attributes = Any::default();
        attributes.attributes = root
            .attributes()
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.to_owned()))
            .collect();
        attributes
    };
    let (word, reason) = (need(&root, "domstatus", "state")?, need(&root, "domstatus", "reason")?);
    let state =
        State::from_words(&word, &reason).ok_or_else(|| format!("unknown state '{word}' ({reason})"))?;
    let monitor = PathBuf::from(need(&take("monitor").ok_or("no monitor")?, "monitor", "path")?);
    let mut place = |name: &str| Some(PathBuf::from(take(name)?.attribute("path")?));
    let directory = place("libDir").or_else(|| Some(monitor.parent()?.to_owned())).ok_or("no directory")?;
    let channels = place("channelTargetDir").unwrap_or_else(|| directory.clone());
    let restored_from = place("restored");
    let vcpus = take("vcpus").unwrap_or_default();
    let vcpus = vcpus.children.iter().map(|(_, vcpu)| {
        Ok((number(need(vcpu, "vcpu", "id")?)? as u32, number(need(vcpu, "vcpu", "pid")?)?))
    });
    let devices = take("devices").unwrap_or_default();
    let taints: Vec<Any> = std::iter::from_fn(|| take("taint")).collect();
    let uuid = definition.uuid.as_deref().and_then(uuid::parse).ok_or("no uuid")?;
    let operation = take("operation");
    let index = |part: Option<Any>| part?.attribute("index")?.parse::<u64>().ok();
    Ok(Status {
        state,
        pid: number(need(&root, "domstatus", "pid")?)?,
        id: definition.id.filter(|id| *id > 0).ok_or("no id")?,
        uuid,
        mount_namespace: take("namespaces").is_some_and(|namespaces| namespaces.child("mount").is_some()),
        remembers_owners: take("rememberOwner").is_some(),
        job: take("job"),
        begun: operation.as_ref().and_then(Begun::read),
        operation,
        restored_from,
        owners_noted: take("ownersNoted").is_some(),
        fake_reboot: take("fakereboot").is_some(),
        monitor,
        directory,
        channels,
        taints: taints.iter().filter_map(|taint| Taint::from_word(taint.attribute("flag")?)).collect(),
        vcpus: vcpus.collect::<Result<_, String>>()?,
        devices: devices
            .children
            .iter()
            .filter_map(|(_, one)| one.attribute("alias").map(str::to_owned))
            .collect(),
        last_node: index(take("nodename")).unwrap_or_default(),
        agent_timeout: take("agentTimeout")
            .and_then(|seconds| seconds.text.trim().parse().ok())
            .unwrap_or(crate::agent::BLOCK),
        kept: parts,
        definition: Arc::new(definition),
    })
}

impl Core {
    /// Writes the guest's status file, if it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_status(&self, guest: &Guest) -> std::io::Result<()> {
        // Whoever comes later writes what is newer.
        let _turn = guest.status_turn.lock();
        let agent_timeout = guest.agent_timeout.load(std::sync::atomic::Ordering::Relaxed);
        let (name, status) = {
            let inner = guest.lock();
            let Some(live) = &inner.live else { return Ok(()) };
            (inner.name.clone(), Status::of(inner.state, live, (guest.uuid, agent_timeout)))
        };
        self.put_status(&name, &status)
    }

    /// Writes the status file of a guest of that name, whose turn it is.
    pub(super) fn put_status(&self, name: &str, status: &Status) -> std::io::Result<()> {
        let text = files::with_header(&format!("virsh edit {name}"), &status.format());
        files::replace(&self.paths.status(name), text.as_bytes())
    }

    /// As [`Core::write_status`]; a failure is only noted, since what happened has happened.
    pub fn save_status(&self, guest: &Guest) {
        if let Err(error) = self.write_status(guest) {
            let name = guest.lock().name.clone();
            self.log(Level::Warning, &format!("Unable to save status on vm {name}: {error}"));
        }
    }

    /// The status files of all guests that ran, and whether all there are could be read.
    pub fn read_statuses(&self) -> (Vec<Status>, bool) {
        let Ok(entries) = std::fs::read_dir(&self.paths.state) else { return (Vec::new(), false) };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "xml"));
        paths.sort();
        let (mut found, mut complete) = (Vec::new(), true);
        for path in paths {
            let text = files::read(&path, MAX_STATUS).map_err(|error| error.to_string());
            match text.and_then(|text| parse(&text)) {
                Ok(status) => found.push(status),
                Err(error) => {
                    complete = false;
                    self.log(Level::Error, &format!("Failed to read status {}: {error}", path.display()));
                }
            }
        }
        (found, complete)
    }
}

#[cfg(test)]
mod tests;
