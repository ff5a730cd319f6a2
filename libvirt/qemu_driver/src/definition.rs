//! From a client's XML to a definition.

use crate::core::Core;
use crate::error::{Result, error, unsupported, xml};
use crate::uuid;
use domain_xml::chardev::CharDevice;
use domain_xml::disk::Disk;
use domain_xml::graphics::{GraphicsType, ListenType};
use domain_xml::misc::BalloonModel;
use domain_xml::source::SourceType;
use domain_xml::{Domain as Definition, DomainType};
use qemu_caps::{QemuCaps, VirtType};
use qemu_domain::{Context, Generate, Settings};
use rpc::{Code, Error, Origin, Uuid};
use std::path::PathBuf;
use std::sync::Arc;

/// A definition that is complete, and what belongs to it.
pub struct Complete {
    /// The definition.
    pub definition: Definition,
    /// Its UUID.
    pub uuid: Uuid,
    /// What its emulator can do.
    pub caps: Arc<QemuCaps>,
}

/// How the guest's code is executed.
///
/// # Errors
/// The type is not QEMU's.
pub fn virt_type(definition: &Definition) -> Result<VirtType> {
    match definition.kind {
        DomainType::Qemu => Ok(VirtType::Qemu),
        DomainType::Kvm => Ok(VirtType::Kvm),
        _ => {
            let emulator = definition.devices.emulator.as_deref().unwrap_or_default();
            Err(no_virt_type(emulator, &type_word(definition)))
        }
    }
}

/// Nothing here runs such domains.
fn no_capabilities(arch: &str, definition: &Definition) -> Error {
    let domain_type = type_word(definition);
    error(Code::InvalidArg, format!("could not find capabilities for arch={arch} domaintype={domain_type} "))
}

fn no_virt_type(emulator: &str, word: &str) -> Error {
    unsupported(format!("Emulator '{emulator}' does not support virt type '{word}'"))
}

fn type_word(definition: &Definition) -> String {
    xml::Value::format(&definition.kind).into()
}

/// New values for domains that have none.
struct Fresh {
    failure: Option<std::io::Error>,
}

impl Fresh {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        crate::files::random().unwrap_or_else(|error| {
            self.failure = Some(error);
            [0; N]
        })
    }
}

impl Generate for Fresh {
    fn uuid(&mut self) -> String {
        let bytes = self.bytes();
        uuid::of_random(bytes).to_string()
    }

    fn mac(&mut self) -> [u8; 3] {
        self.bytes()
    }
}

impl Core {
    /// Reads the XML of a domain that is to be defined or created.
    ///
    /// # Errors
    /// The XML is wrong, or asks for what the emulator does not have.
    pub fn read_definition(&self, text: &str) -> Result<Complete> {
        let definition = domain_xml::parse(text).map_err(|error| xml(&error))?;
        self.complete(definition, true)
    }

    /// Adds what a definition leaves open; `update_abi` when it is new.
    ///
    /// # Errors
    /// As [`Core::read_definition`].
    pub fn complete(&self, mut definition: Definition, update_abi: bool) -> Result<Complete> {
        check_name(definition.name())?;
        let arch = definition.os.kind.as_ref().and_then(|kind| kind.arch.clone());
        let arch = arch.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let emulator = match &definition.devices.emulator {
            Some(path) => PathBuf::from(path),
            None => self.emulator(&arch).ok_or_else(|| no_capabilities(&arch, &definition))?,
        };
        let caps = self.capabilities(&emulator)?;
        let shown = emulator.display();
        let virt = virt_type(&definition).ok().filter(|virt| caps.accelerator(*virt).is_some());
        let virt = virt.ok_or_else(|| no_virt_type(&emulator.to_string_lossy(), &type_word(&definition)))?;
        if let Some(machine) = definition.os.kind.as_ref().and_then(|kind| kind.machine.as_deref())
            && caps.machine(virt, machine).is_none()
        {
            let detail = format!("Emulator '{shown}' does not support machine type '{machine}'");
            return Err(unsupported(detail));
        }
        let mut fresh = Fresh { failure: None };
        let mut context =
            Context { caps: &caps, settings: &self.domain_settings(), update_abi, generate: &mut fresh };
        qemu_domain::complete(&mut definition, &mut context).map_err(|error| xml(&error))?;
        // What the driver itself has written stays usable, whatever rules are added.
        if update_abi {
            let settings = self.domain_settings();
            qemu_domain::validate::domain(&definition, &caps, &settings).map_err(|error| xml(&error))?;
            crate::process::check_tpm(&definition)?;
        }
        if let Some(failure) = fresh.failure {
            return Err(crate::error::system(&failure, "no random numbers"));
        }
        let uuid = definition.uuid.as_deref().and_then(uuid::parse);
        let uuid = uuid.ok_or_else(|| crate::error::internal("malformed uuid element"))?;
        Ok(Complete { definition, uuid, caps })
    }

    pub(crate) fn domain_settings(&self) -> Settings {
        let host_audio = std::env::var("QEMU_AUDIO_DRV").ok().and_then(|word| xml::Value::parse(&word).ok());
        let below = |name: &str| self.paths.data.join(name).to_string_lossy().into_owned();
        Settings {
            lib: self.paths.data.to_string_lossy().into_owned(),
            nvram: below("nvram"),
            channels: below("channel/target"),
            vnc_auto_unix_socket: false,
            spice_auto_unix_socket: false,
            vnc_allow_host_audio: false,
            nographics_allow_host_audio: false,
            spice_tls: false,
            label_model: self.security.models().into_iter().next().map(|model| model.name.to_string()),
            host_audio,
            sdl_audio: std::env::var("SDL_AUDIODRIVER").ok(),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.contains('\n') || name == "." || name == ".." {
        return Err(Error::new(Origin::Domain, Code::XmlError, format!("name '{name}' is not a file name")));
    }
    Ok(())
}

/// Which form of a definition is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// With secrets.
    pub secure: bool,
    /// Without what only a running guest has.
    pub inactive: bool,
    /// Without what older daemons do not know, and what other hosts have otherwise.
    pub migratable: bool,
}

impl Form {
    /// That of saved states.
    pub const SAVED: Self = Self { secure: true, inactive: true, migratable: true };
}

impl Core {
    /// The text of a definition for clients and saved states.
    pub fn format(&self, definition: &Definition, form: Form) -> String {
        let mut shown = definition.clone();
        if form.inactive {
            qemu_domain::inactive::strip(&mut shown);
        }
        if form.migratable {
            qemu_domain::inactive::for_migration(&mut shown, &self.domain_settings());
        }
        if !form.secure {
            qemu_domain::inactive::strip_cookies(&mut shown);
        }
        for graphics in &mut shown.devices.graphics {
            if !form.secure {
                graphics.passwd = None;
            }
            // Where values come from is for our own files; old clients look for the address here.
            graphics.websocket_generated = None;
            for listen in &mut graphics.listens {
                listen.from_config = None;
                listen.auto_generated = None;
            }
            let first = graphics.listens.first().filter(|listen| listen.kind == ListenType::Address);
            if let Some(address) = first.and_then(|listen| listen.address.clone()) {
                graphics.listen = Some(address);
            }
        }
        domain_xml::format(&shown)
    }
}

/// What the balloon is set to at start, in KiB; none without a balloon.
pub fn balloon_target(definition: &Definition) -> Option<u64> {
    let balloon = definition.devices.memballoon.as_ref()?;
    (balloon.model != BalloonModel::None)
        .then(|| definition.current_memory.map_or_else(|| definition.memory_kib(), |current| current.0))
}

/// Notes how much memory the balloon leaves to the guest, by the emulator's answer.
pub fn note_balloon(definition: &mut Definition, reply: &json::Value) {
    if let Some(actual) = reply.get("actual").and_then(json::Value::as_u64) {
        definition.current_memory = Some(domain_xml::units::Kib(actual.div_ceil(1024)));
    }
}

/// The passwords of displays, by protocol.
pub fn passwords(definition: &Definition) -> Vec<(&'static str, String)> {
    let graphics = &definition.devices.graphics;
    let protocol = |kind| match kind {
        GraphicsType::Vnc => Some("vnc"),
        GraphicsType::Spice => Some("spice"),
        _ => None,
    };
    graphics.iter().filter_map(|one| Some((protocol(one.kind)?, one.passwd.clone()?))).collect()
}

/// The ports at which displays listen.
pub fn display_ports(definition: &Definition) -> Vec<u16> {
    let graphics = &definition.devices.graphics;
    let ports = graphics.iter().flat_map(|one| [one.port, one.tls_port, one.websocket]);
    ports.flatten().filter_map(|port| u16::try_from(port).ok()).filter(|port| *port > 0).collect()
}

/// The source and the alias of the disk with that node (`libvirt-1-format`), or with that alias.
pub fn disk_of_node(definition: &Definition, node: &str, alias: &str) -> Option<(String, String)> {
    let named = |disk: &&Disk| {
        let index = disk.source.as_ref().and_then(|source| source.index);
        let is_node = index.is_some_and(|index| {
            [format!("libvirt-{index}-format"), format!("libvirt-{index}-storage")]
                .iter()
                .any(|name| name == node)
        });
        is_node || disk_alias(disk) == Some(alias)
    };
    let disk = definition.devices.disk.iter().find(named)?;
    let path = disk.source.as_ref().and_then(|source| source.file.clone().or_else(|| source.dev.clone()));
    Some((path.unwrap_or_default(), disk_alias(disk).unwrap_or(alias).to_owned()))
}

/// The disk that has the image of that number: its target, the image's path, and whether it is the disk's own rather
/// than one that it stands on.
pub fn image_of(definition: &Definition, number: u32) -> Option<(String, Option<String>, bool)> {
    use domain_xml::source::Source;
    let path = |source: &Source| source.file.clone().or_else(|| source.dev.clone());
    definition.devices.disk.iter().find_map(|disk| {
        let dev = disk.dev().to_owned();
        if let Some(source) = disk.source.as_ref().filter(|source| source.index == Some(number)) {
            return Some((dev, path(source), true));
        }
        let mut link = disk.backing_store.as_deref();
        while let Some(store) = link {
            if store.index == Some(number) {
                return Some((dev, store.source.as_ref().and_then(path), false));
            }
            link = store.backing_store.as_deref();
        }
        None
    })
}

/// The name of a disk while it runs.
pub fn disk_alias(disk: &Disk) -> Option<&str> {
    disk.info.alias.as_ref().map(|alias| alias.name.as_str())
}

/// Notes whether somebody in the guest has opened the channel; whether it is the agent's, if there is such a channel.
pub fn set_channel_state(definition: &mut Definition, alias: &str, state: &str) -> Option<bool> {
    let named = |channel: &&mut CharDevice| channel.info.alias.as_ref().is_some_and(|it| it.name == alias);
    let channel = definition.devices.channel.iter_mut().find(named)?;
    let target = channel.target.as_mut()?;
    target.state = Some(state.to_owned());
    Some(target.name.as_deref() == Some(crate::agent::CHANNEL))
}

/// Whether the agent's channel is open, if there is one.
pub fn agent_state(definition: &Definition) -> Option<bool> {
    let targets = definition.devices.channel.iter().filter_map(|channel| channel.target.as_ref());
    let mut agents = targets.filter(|target| target.name.as_deref() == Some(crate::agent::CHANNEL));
    agents.next()?.state.as_deref().map(|state| state == "connected")
}

/// Notes where the tray of a drive is; none is closed.
pub fn set_tray(definition: &mut Definition, alias: &str, tray: Option<domain_xml::disk::Tray>) {
    let mut disks = definition.devices.disk.iter_mut();
    if let Some(target) =
        disks.find(|disk| disk_alias(disk) == Some(alias)).and_then(|disk| disk.target.as_mut())
    {
        target.tray = tray;
    }
}

/// Takes the device of that name out.
pub fn remove_device(definition: &mut Definition, alias: &str) {
    let devices = &mut definition.devices;
    let other = |name: Option<&domain_xml::address::Alias>| name.is_none_or(|name| name.name != alias);
    devices.disk.retain(|it| other(it.info.alias.as_ref()));
    devices.interface.retain(|it| other(it.info.alias.as_ref()));
    devices.controller.retain(|it| other(it.alias.as_ref()));
    devices.hostdev.retain(|it| other(it.info.alias.as_ref()));
    devices.serial.retain(|it| other(it.info.alias.as_ref()));
    devices.parallel.retain(|it| other(it.info.alias.as_ref()));
    devices.console.retain(|it| other(it.info.alias.as_ref()));
    devices.channel.retain(|it| other(it.info.alias.as_ref()));
    devices.input.retain(|it| other(it.info.alias.as_ref()));
    devices.rng.retain(|it| other(it.info.alias.as_ref()));
    devices.redirdev.retain(|it| other(it.info.alias.as_ref()));
    let modules =
        |devices: &domain_xml::Devices| devices.memory.iter().map(|module| module.size()).sum::<u64>();
    let before = modules(devices);
    devices.memory.retain(|it| other(it.info.alias.as_ref()));
    let total = &mut definition.memory.size.0;
    *total = total.saturating_sub(before.saturating_sub(modules(devices)));
    if let Some(current) = &mut definition.current_memory {
        current.0 = current.0.min(*total);
    }
    devices.shmem.retain(|it| other(it.info.alias.as_ref()));
    devices.filesystem.retain(|it| other(it.info.alias.as_ref()));
    devices.sound.retain(|it| other(it.info.alias.as_ref()));
    devices.watchdog = devices.watchdog.take().filter(|it| other(it.info.alias.as_ref()));
}

/// The names of the interfaces whose cables are not plugged in.
pub fn links_down(definition: &Definition) -> Vec<String> {
    let down = |interface: &&domain_xml::interface::Interface| {
        interface.link.as_ref().is_some_and(|link| link.state == domain_xml::interface::LinkState::Down)
    };
    let interfaces = definition.devices.interface.iter().filter(down);
    interfaces.filter_map(|interface| Some(interface.info.alias.as_ref()?.name.clone())).collect()
}

/// The host's files that disks are on.
pub fn local_files(definition: &Definition) -> Vec<String> {
    let path = |disk: &Disk| {
        let source = disk.source.as_ref()?;
        match disk.kind {
            SourceType::File => source.file.clone(),
            SourceType::Block => source.dev.clone(),
            _ => None,
        }
    };
    definition.devices.disk.iter().filter_map(path).filter(|path| !path.is_empty()).collect()
}

/// Whether a device has that name.
pub fn has_device(definition: &Definition, alias: &str) -> bool {
    let mut less = definition.clone();
    remove_device(&mut less, alias);
    less.devices != definition.devices
}
