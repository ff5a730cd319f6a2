//! What the QEMU driver adds to a domain that was read: defaults, implicit devices, addresses and aliases.
//!
//! [`complete`] is for a domain that a client defines, [`alias::assign`] for one that is about to start.
#![forbid(unsafe_code)]

pub mod abi;
pub mod address;
pub mod alias;
mod controllers;
mod cpus;
mod defaults;
mod devices;
pub mod disks;
pub mod each;
pub mod firmware;
mod graphics;
pub mod inactive;
pub mod machine;
mod network;
mod os;
mod serial;
mod tune;
pub mod validate;

pub use defaults::{numbers, ranges};

use domain_xml::{Domain, DomainType, Error, Result};
use qemu_caps::{QemuCaps, VirtType};

/// Where values come from that must differ from domain to domain.
pub trait Generate {
    /// A new UUID as text.
    fn uuid(&mut self) -> String;
    /// The last three bytes of a hardware address.
    fn mac(&mut self) -> [u8; 3];
}

/// What of the driver's settings changes a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The driver's own folder, in which sockets of displays are made.
    pub lib: String,
    /// The folder that copies of firmware variables are in.
    pub nvram: String,
    /// The folder below which the sockets of channels are, if they have none of their own.
    pub channels: String,
    /// VNC listens at a socket unless told otherwise.
    pub vnc_auto_unix_socket: bool,
    /// Spice listens at a socket unless told otherwise.
    pub spice_auto_unix_socket: bool,
    /// The host's sound is used with VNC.
    pub vnc_allow_host_audio: bool,
    /// The host's sound is used without a display.
    pub nographics_allow_host_audio: bool,
    /// Whether Spice's clients may use TLS.
    pub spice_tls: bool,
    /// The model of labels that one without a model is of.
    pub label_model: Option<String>,
    /// What sound goes to where the host's is used.
    pub host_audio: Option<domain_xml::audio::AudioType>,
    /// What SDL's sound goes to then (`SDL_AUDIODRIVER`).
    pub sdl_audio: Option<String>,
}

/// What a domain is completed with.
pub struct Context<'a> {
    /// What the emulator can do.
    pub caps: &'a QemuCaps,
    /// The driver's settings.
    pub settings: &'a Settings,
    /// Whether what the guest sees may change: the domain is new, not an old one that is read again.
    pub update_abi: bool,
    /// The source of new values.
    pub generate: &'a mut dyn Generate,
}

/// Adds what is missing in a domain that a client defines, and drops what only a running one has.
pub fn complete(domain: &mut Domain, context: &mut Context<'_>) -> Result<()> {
    limits(domain)?;
    validate::written::check(domain)?;
    inactive::strip(domain);
    inactive::strip_names(domain);
    machine::plain(domain);
    inactive::strip_channel_paths(domain, context.settings);
    if let Some(metadata) = &mut domain.metadata {
        metadata.one_of_each_namespace();
    }
    defaults::general(domain, context)?;
    graphics::complete(domain, context.settings)?;
    controllers::order(domain);
    controllers::number(domain);
    devices::implicit(domain, context)?;
    machine::canonical(domain, context.caps);
    cpus::complete(domain, context.caps)?;
    serial::ports(domain)?;
    devices::complete(domain, context)?;
    disks::complete(domain)?;
    labels(domain, context.settings)?;
    tune::complete(domain)?;
    controllers::complete(domain, context.caps)?;
    defaults::late(domain, context.update_abi)?;
    os::complete(domain, context.settings)?;
    controllers::reject_duplicates(domain)?;
    serial::console(domain)?;
    controllers::implicit(domain)?;
    devices::implicit_video(domain, context.caps);
    serial::complete(domain)?;
    controllers::complete(domain, context.caps)?;
    graphics::late(domain);
    address::assign(domain, context.caps, context.update_abi)
}

/// Labels as they are kept: one without a model is of the host's first, and what is said of none is dropped.
fn labels(domain: &mut Domain, settings: &Settings) -> Result<()> {
    for label in &mut domain.seclabel {
        let dynamic = label.kind.as_deref().is_none_or(|kind| kind == "dynamic");
        let none = label.kind.as_deref() == Some("none");
        label.imagelabel = None;
        if label.model.is_some() || settings.label_model.is_none() {
            continue;
        }
        if !none && (!dynamic || label.baselabel.is_some()) {
            return Err(Error::xml("missing security model in domain seclabel"));
        }
        label.model.clone_from(&settings.label_model);
        if label.model.as_deref() == Some("none") {
            (label.kind, label.relabel) = (Some("none".to_owned()), None);
        }
    }
    for source in domain.devices.disk.iter_mut().filter_map(|disk| disk.source.as_mut()) {
        let says = |label: &domain_xml::source::SourceLabel| {
            label.label.is_some() || label.relabel == Some(domain_xml::words::YesNo::No)
        };
        source.seclabel.retain(says);
    }
    Ok(())
}

/// How the emulator runs the domain's code.
pub fn virt_type(domain: &Domain) -> VirtType {
    if domain.kind == DomainType::Kvm { VirtType::Kvm } else { VirtType::Qemu }
}

/// Most devices of one sort. Work grows with the square of their number; no machine has room for as many.
const MAX_DEVICES: usize = 4096;

/// Refuses domains that would take long only to be refused in the end.
fn limits(domain: &Domain) -> Result<()> {
    let devices = &domain.devices;
    let counts = [
        ("disk", devices.disk.len()),
        ("controller", devices.controller.len()),
        ("filesystem", devices.filesystem.len()),
        ("interface", devices.interface.len()),
        ("smartcard", devices.smartcard.len()),
        ("serial", devices.serial.len()),
        ("parallel", devices.parallel.len()),
        ("console", devices.console.len()),
        ("channel", devices.channel.len()),
        ("input", devices.input.len()),
        ("graphics", devices.graphics.len()),
        ("video", devices.video.len()),
        ("sound", devices.sound.len()),
        ("hostdev", devices.hostdev.len()),
        ("redirdev", devices.redirdev.len()),
        ("hub", devices.hub.len()),
        ("rng", devices.rng.len()),
        ("shmem", devices.shmem.len()),
        ("memory", devices.memory.len()),
        ("panic", devices.panic.len()),
    ];
    match counts.into_iter().find(|(_, count)| *count > MAX_DEVICES) {
        Some((name, _)) => {
            Err(Error::unsupported(format!("more than {MAX_DEVICES} devices of type '{name}'")))
        }
        None => Ok(()),
    }
}

fn missing(what: &str) -> Error {
    Error::xml(what)
}

#[cfg(test)]
mod tests;
