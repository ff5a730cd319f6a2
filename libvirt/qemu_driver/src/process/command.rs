//! What is chosen when a guest starts, and what its emulator is handed.

use crate::core::Core;
use crate::definition;
use crate::error::{Result, system, xml};
use crate::process::network::{self, Connected, Owner};
use crate::process::secret::Key;
use crate::process::start::launch_error;
use domain_xml::Domain as Definition;
use domain_xml::address::HasInfo as _;
use domain_xml::cpu::{CpuMode, Fallback};
use domain_xml::interface::{Interface, InterfaceType};
use domain_xml::source::PoolMode;
use qemu_caps::QemuCaps;
use qemu_command::prepare::{self, Displays};
use qemu_command::processor;
use qemu_command::{Error, Host, Sealed, Settings, Tap, Tls, Volume};
use rpc::Code;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The first number of a descriptor that is passed.
const FIRST_DESCRIPTOR: i32 = 20;

/// What a command line depends on besides the definition.
pub struct Context<'a> {
    /// What the emulator can do.
    pub caps: &'a QemuCaps,
    /// The guest's number.
    pub id: i32,
    /// The guest's directory.
    pub directory: &'a Path,
    /// The directory of its channels' sockets.
    pub channels: &'a Path,
    /// It goes on from a saved state.
    pub restore: bool,
}

/// What is to be started.
pub struct Plan {
    /// The emulator.
    pub binary: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Descriptors, and the numbers at which it finds them.
    pub passed: Vec<(OwnedFd, i32)>,
    /// Files that must be there.
    pub files: Vec<String>,
    /// Ports that were taken for it.
    pub ports: Vec<u16>,
}

/// The command line; the definition is completed by what is chosen here. `intend` is called with what will have to be
/// given back, before any of it is made.
///
/// # Errors
/// The guest has something that cannot be had. Ports that were taken are free again.
pub fn plan(
    core: &Core,
    domain: &mut Definition,
    context: &Context<'_>,
    intend: &dyn Fn(&Definition) -> Result<()>,
) -> Result<Plan> {
    let mut opener = Opener::new(core, Purpose::Start(intend), context.directory);
    let planned = opener.plan(domain, context);
    if planned.is_err() {
        opener.ports.iter().for_each(|port| core.ports.release(*port));
    }
    planned
}

/// The command line of a definition that is complete, for looking at: nothing is opened for it. Of tap devices those in
/// `taps` have descriptors, by the interfaces' names.
///
/// # Errors
/// As [`plan`].
pub fn arguments(
    core: &Core,
    domain: &Definition,
    context: &Context<'_>,
    taps: &[(String, Tap)],
) -> Result<Vec<String>> {
    let mut opener = Opener::new(core, Purpose::Compare(taps), context.directory);
    opener.tpm = core.paths.tpm_socket(context.id, domain.name());
    opener.guest = domain.uuid.as_deref().and_then(crate::uuid::parse);
    let settings = opener.settings(domain, context);
    let command = qemu_command::build(domain, context.caps, &settings, &mut opener, None);
    Ok(command.map_err(|error| xml(&error))?.args)
}

/// The command line that would start a definition, for people to read: nothing is opened for it.
///
/// # Errors
/// As [`plan`].
pub fn shown(core: &Core, domain: &mut Definition, caps: &QemuCaps) -> Result<Plan> {
    const NO_ID: i32 = -1;
    for interface in &mut domain.devices.interface {
        // Taps and their like are made by whoever starts it.
        *interface = Interface {
            kind: InterfaceType::Ethernet,
            mac: interface.mac.take(),
            model: interface.model.take(),
            script: interface.script.take(),
            ..Interface::default()
        };
    }
    qemu_domain::address::assign(domain, caps, true).map_err(|error| xml(&error))?;
    core.choose_firmware(domain, false, false)?;
    let (directory, channels) =
        (core.paths.guest(NO_ID, domain.name()), core.paths.channels(NO_ID, domain.name()));
    let context = Context { caps, id: NO_ID, directory: &directory, channels: &channels, restore: false };
    Opener::new(core, Purpose::Show, context.directory).plan(domain, &context)
}

/// What a command line is made for.
enum Purpose<'a> {
    /// The emulator is started with it. Called with what is about to be made.
    Start(&'a dyn Fn(&Definition) -> Result<()>),
    /// It is compared with the same guest's before or after a change: nothing is opened. Of tap devices those named here
    /// have descriptors.
    Compare(&'a [(String, Tap)]),
    /// It is shown to people: nothing is opened, and sockets are called by their paths.
    Show,
}

/// Opens what the emulator is handed.
struct Opener<'a> {
    core: &'a Core,
    purpose: Purpose<'a>,
    /// The guest's directory.
    directory: &'a Path,
    /// The socket of its emulated security module.
    tpm: PathBuf,
    /// The guest.
    guest: Option<rpc::Uuid>,
    passed: Vec<(OwnedFd, i32)>,
    /// How many descriptors a command line has that is only shown.
    promised: i32,
    ports: Vec<u16>,
    /// What interfaces have, until it is passed.
    connected: Vec<Connected>,
}

impl<'a> Opener<'a> {
    fn new(core: &'a Core, purpose: Purpose<'a>, directory: &'a Path) -> Self {
        Self {
            core,
            purpose,
            directory,
            tpm: PathBuf::new(),
            guest: None,
            passed: Vec::new(),
            promised: 0,
            ports: Vec::new(),
            connected: Vec::new(),
        }
    }

    /// Whether it opens anything.
    fn opens(&self) -> bool {
        matches!(self.purpose, Purpose::Start(_))
    }

    /// Seals what only the emulator is to know.
    fn sealed(&self, plain: &[u8]) -> Result<Sealed> {
        match self.purpose {
            Purpose::Start(_) => {
                let iv = crate::files::random().map_err(|error| system(&error, "no random numbers"))?;
                Ok(Key::read(self.directory)?.seal(plain, iv))
            }
            Purpose::Compare(_) => Ok(Key::read(self.directory)?.seal_again(plain)),
            Purpose::Show => Ok(Key::random()?.seal_again(plain)),
        }
    }

    fn plan(&mut self, domain: &mut Definition, context: &Context<'_>) -> Result<Plan> {
        self.tpm = self.core.paths.tpm_socket(context.id, domain.name());
        self.guest = domain.uuid.as_deref().and_then(crate::uuid::parse);
        let settings = self.settings(domain, context);
        self.core.security.label(domain).map_err(|error| launch_error(&error))?;
        end_chains(domain);
        forget_formats(domain);
        processor::update(domain, context.caps, host::model()).map_err(|error| xml(&error))?;
        qemu_domain::alias::assign(domain).map_err(|error| xml(&error))?;
        if self.opens() {
            super::file_server::choose(domain)?;
        }
        let config = &self.core.config;
        let displays = Displays {
            vnc: config.vnc_listen.clone(),
            vnc_socket: false,
            spice: config.spice_listen.clone(),
            spice_socket: false,
        };
        prepare::all(domain, &displays, &settings, self).map_err(|error| xml(&error))?;
        if let Purpose::Start(intend) = self.purpose {
            network::choose(self.core, &mut domain.devices.interface)?;
            intend(domain)?;
            let mut interfaces = std::mem::take(&mut domain.devices.interface);
            let connected = network::connect(self.core, Owner::of(domain), &mut interfaces, &|interfaces| {
                let mut noted = domain.clone();
                noted.devices.interface = interfaces.to_vec();
                intend(&noted)
            });
            domain.devices.interface = interfaces;
            self.connected = connected?;
        }
        let incoming = context.restore.then_some("defer");
        let command = qemu_command::build(domain, context.caps, &settings, self, incoming);
        let command = command.map_err(|error| {
            network::release(self.core, Owner::of(domain), &domain.devices.interface);
            xml(&error)
        })?;
        Ok(Plan {
            binary: command.program,
            arguments: command.args,
            environment: command.env,
            passed: std::mem::take(&mut self.passed),
            files: definition::local_files(domain),
            ports: std::mem::take(&mut self.ports),
        })
    }

    fn settings(&self, domain: &Definition, context: &Context<'_>) -> Settings {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let part = context.directory.file_name().map(|name| name.to_string_lossy().into_owned());
        let part = part.unwrap_or_default();
        let part = part.strip_prefix("domain-").unwrap_or(&part);
        let paths = &self.core.paths;
        Settings {
            privileged: paths.privileged,
            guest_folder: text(context.directory),
            channel_folder: text(context.channels),
            passt_folder: text(&paths.state.join("passt")),
            memory_folder: text(&paths.data.join("ram").join(format!("{}-{}", context.id, domain.name()))),
            huge_page_part: format!("libvirt/qemu/{part}"),
            huge_pages: Vec::new(),
            set_process_name: false,
            dump_guest_core: self.core.config.dump_guest_core,
            log_timestamp: true,
            sandbox: self.core.config.sandbox,
            deprecation: "none".to_owned(),
            gluster_debug: 4,
            nbd_tls: Tls { directory: "/etc/pki/qemu".to_owned(), ..Tls::default() },
            host_arch: std::env::consts::ARCH.to_owned(),
            ..Settings::default()
        }
    }

    /// The emulator finds the descriptor at a number of its own; the number as text.
    fn pass(&mut self, descriptor: impl Into<OwnedFd>) -> String {
        let number = FIRST_DESCRIPTOR + self.passed.len() as i32;
        self.passed.push((descriptor.into(), number));
        number.to_string()
    }

    /// The emulator's user owns what was just made; never what that user has put in its place.
    fn give(&self, path: &str) -> std::io::Result<()> {
        match self.core.config.owner {
            Some((user, group)) => lchown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

fn io_error(error: &std::io::Error, what: &str) -> Error {
    told(&system(error, what))
}

/// What a client would be told, as a part of what it is told of the command line.
fn told(error: &rpc::Error) -> Error {
    let known = [
        (Code::SystemError, xml::Code::System),
        (Code::InvalidArg, xml::Code::InvalidArgument),
        (Code::OperationFailed, xml::Code::OperationFailed),
        (Code::OperationInvalid, xml::Code::OperationInvalid),
        (Code::ConfigUnsupported, xml::Code::Unsupported),
    ];
    let code = known.into_iter().find(|(code, _)| *code as i32 == error.code).map(|(_, code)| code);
    match (code, error.str2.clone()) {
        (Some(code), Some(detail)) => Error { code, detail },
        _ => Error::internal(error.message.clone().unwrap_or_default()),
    }
}

impl Host for Opener<'_> {
    fn listen(&mut self, _: &str, path: &str) -> Result<Option<String>, Error> {
        match self.purpose {
            Purpose::Start(_) => {}
            // The emulator makes the socket of a device that is plugged itself.
            Purpose::Compare(_) | Purpose::Show => return Ok(None),
        }
        let failed = |error| io_error(&error, &format!("Unable to bind to UNIX socket path '{path}'"));
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o775)).map_err(failed)?;
        self.give(path).map_err(failed)?;
        Ok(Some(self.pass(listener)))
    }

    fn vhost_user(&mut self, alias: &str) -> Result<String, Error> {
        Err(Error::unsupported(format!("the program behind '{alias}' cannot be started yet")))
    }

    fn output(&mut self, _alias: &str, path: &str, append: bool) -> Result<Option<String>, Error> {
        if !self.opens() {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.create(true).append(append).write(true).truncate(!append);
        let file =
            options.open(path).map_err(|error| io_error(&error, &format!("cannot open file '{path}'")))?;
        self.give(path).map_err(|error| io_error(&error, &format!("cannot open file '{path}'")))?;
        drop(file);
        // The emulator opens it itself.
        Ok(None)
    }

    fn tap(&mut self, interface: &Interface) -> Result<Tap, Error> {
        match self.purpose {
            Purpose::Start(_) => {}
            Purpose::Compare(taps) => {
                let named = taps.iter().find(|(alias, _)| alias == interface.info.name());
                return Ok(named.map(|(_, tap)| tap.clone()).unwrap_or_default());
            }
            Purpose::Show => {
                self.promised += 1;
                let number = FIRST_DESCRIPTOR + self.promised - 1;
                return Ok(Tap { tap: vec![number.to_string()], vhost: Vec::new() });
            }
        }
        let at = self.connected.iter().position(|one| one.alias == interface.info.name());
        let at = at.ok_or_else(|| Error::internal("the interface has no device of the host"))?;
        let one = self.connected.swap_remove(at);
        Ok(Tap {
            tap: one.tap.into_iter().map(|descriptor| self.pass(descriptor)).collect(),
            vhost: one.vhost.into_iter().map(|descriptor| self.pass(descriptor)).collect(),
        })
    }

    fn open(&mut self, path: &str, writable: bool) -> Result<String, Error> {
        match self.purpose {
            Purpose::Start(_) => {}
            Purpose::Compare(_) => {
                let detail = format!("'{path}' cannot be handed to a running emulator yet");
                return Err(Error::unsupported(detail));
            }
            Purpose::Show => return Ok(path.to_owned()),
        }
        let file = OpenOptions::new().read(true).write(writable).open(path);
        let file: File = file.map_err(|error| io_error(&error, &format!("cannot open file '{path}'")))?;
        Ok(self.pass(file))
    }

    fn group(&mut self, name: &str) -> Result<(Vec<String>, bool), Error> {
        let found = self.guest.and_then(|guest| self.core.groups.get(guest, name));
        let found = found.ok_or_else(|| Error {
            code: xml::Code::InvalidArgument,
            detail: format!("file descriptor group '{name}' was not associated with the domain"),
        })?;
        match self.purpose {
            Purpose::Start(_) => {}
            Purpose::Compare(_) => {
                let detail =
                    format!("file descriptor group '{name}' cannot be handed to a running emulator yet");
                return Err(Error::unsupported(detail));
            }
            Purpose::Show => return Ok((Vec::new(), false)),
        }
        let (descriptors, writable) = found.map_err(|error| {
            io_error(&error, &format!("failed to duplicate file descriptor for fd group '{name}'"))
        })?;
        Ok((descriptors.into_iter().map(|descriptor| self.pass(descriptor)).collect(), writable))
    }

    fn nodes_are_there(&mut self, nodes: &[u32]) -> Result<(), Error> {
        let missing =
            nodes.iter().find(|node| !Path::new(&format!("/sys/devices/system/node/node{node}")).exists());
        match missing {
            Some(node) => Err(Error::unsupported(format!("NUMA node {node} is unavailable"))),
            None => Ok(()),
        }
    }

    fn vhost_scsi(&mut self) -> Result<String, Error> {
        self.open("/dev/vhost-scsi", true)
    }

    fn vhost_vsock(&mut self, _alias: &str) -> Result<(String, u32), Error> {
        Err(Error::unsupported("vsock devices cannot be started yet"))
    }

    fn secret(&mut self, reference: &str) -> Result<Sealed, Error> {
        self.core.secret(reference).and_then(|value| self.sealed(&value)).map_err(|error| told(&error))
    }

    fn seal(&mut self, text: &str) -> Result<Sealed, Error> {
        self.sealed(text.as_bytes()).map_err(|error| told(&error))
    }

    fn port(&mut self, kind: &str) -> Result<u16, Error> {
        match self.purpose {
            Purpose::Start(_) => {}
            Purpose::Compare(_) => return Err(Error::internal("a running guest has its ports")),
            // The first that there is; it is nobody's.
            Purpose::Show => return Ok(if kind == "websocket" { 5700 } else { 5900 }),
        }
        let range = if kind == "websocket" { (5700, 65_535) } else { self.core.config.display_ports };
        let port = self.core.ports.acquire(range).ok_or_else(|| {
            let (name, (first, last)) = (kind.to_uppercase(), range);
            Error::internal(format!("Unable to find an unused port in range '{name}' ({first}-{last})"))
        })?;
        self.ports.push(port);
        Ok(port)
    }

    fn scsi_generic(&mut self, adapter: &str, bus: u32, target: u32, unit: u64) -> Result<String, Error> {
        let host = adapter.strip_prefix("scsi_host").unwrap_or(adapter);
        let place = format!("/sys/bus/scsi/devices/{host}:{bus}:{target}:{unit}/scsi_generic");
        let mut entries = std::fs::read_dir(&place)
            .map_err(|error| io_error(&error, &format!("cannot open directory '{place}'")))?;
        let found = entries.next().and_then(std::result::Result::ok);
        let found = found.ok_or_else(|| Error::internal(format!("no SCSI generic device at '{place}'")))?;
        Ok(found.file_name().to_string_lossy().into_owned())
    }

    fn is_cdrom(&mut self, path: &str) -> bool {
        let real = std::fs::canonicalize(path).unwrap_or_default();
        let name = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("sr")
            && std::fs::metadata(&real).is_ok_and(|found| found.file_type().is_block_device())
    }

    fn now(&mut self) -> (i64, i64) {
        if let Purpose::Compare(_) = self.purpose {
            // The same for both command lines that are compared.
            return (0, 0);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().cast_signed();
        (seconds, hostio::time::local_offset(seconds))
    }

    fn tpm_cancel(&mut self, path: &str) -> Result<String, Error> {
        let name =
            Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let places =
            [format!("/sys/class/tpm/{name}/device/cancel"), format!("/sys/class/misc/{name}/device/cancel")];
        let found = places.into_iter().find(|place| Path::new(place).exists());
        // Without such a file commands cannot be cancelled, which the emulator is told by this one.
        Ok(found.unwrap_or_else(|| "/dev/null".to_owned()))
    }

    fn volume(&mut self, pool: &str, name: &str, _: Option<PoolMode>) -> Result<Volume, Error> {
        Err(Error::unsupported(format!(
            "volume '{name}' of pool '{pool}' cannot be had: pools are not supported yet"
        )))
    }

    fn render_node(&mut self) -> Result<String, Error> {
        let entries = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with("renderD"));
        names.sort();
        let found = names.first().map(|name| format!("/dev/dri/{name}"));
        found.ok_or_else(|| Error::unsupported("No DRM render nodes available"))
    }

    fn tpm_socket(&mut self, _alias: &str) -> Result<String, Error> {
        Ok(self.tpm.to_string_lossy().into_owned())
    }
}

/// Notes of images that are known to stand on nothing else that they do.
pub fn end_chains(domain: &mut Definition) {
    use domain_xml::source::{BackingStore, DiskFormat, SourceType};
    for disk in &mut domain.devices.disk {
        let local = matches!(disk.kind, SourceType::File | SourceType::Block) && disk.source.is_some();
        let raw = disk.driver.as_ref().and_then(|driver| driver.format) == Some(DiskFormat::Raw);
        if local && raw && disk.backing_store.is_none() {
            disk.backing_store = Some(Box::new(BackingStore::default()));
        }
    }
}

/// What will be put into a drive that is empty is not known.
fn forget_formats(domain: &mut Definition) {
    for disk in domain.devices.disk.iter_mut().filter(|disk| disk.source.is_none()) {
        if let Some(driver) = &mut disk.driver {
            driver.format = None;
        }
    }
}

impl Core {
    /// The definition with the processor that the host has in place of `host-model`.
    ///
    /// # Errors
    /// What the emulator can do is not known.
    pub fn with_host_cpu(&self, definition: &Definition) -> Result<Definition> {
        let mut definition = definition.clone();
        let asked = definition.cpu.clone().unwrap_or_default();
        let emulator = definition.devices.emulator.clone().unwrap_or_default();
        let caps = self.capabilities(Path::new(&emulator))?;
        processor::settle(&mut definition, &caps).map_err(|error| xml(&error))?;
        let model = definition.cpu.as_mut().and_then(|cpu| cpu.model.as_mut());
        if let Some(model) = model.filter(|_| asked.mode == Some(CpuMode::HostModel)) {
            let fallback = asked.model.and_then(|model| model.fallback);
            model.fallback = Some(fallback.unwrap_or(Fallback::Allow));
        }
        Ok(definition)
    }
}
