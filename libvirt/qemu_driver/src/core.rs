//! What all parts of the driver share.

use crate::capabilities::HostModels;
use crate::config::Config;
use crate::error::{Result, internal};
use crate::files;
use crate::groups::Groups;
use crate::guest::Guest;
use crate::hooks::Hooks;
use crate::paths::Paths;
use crate::process::{Names, Ports};
use crate::table::Table;
use confinement::apparmor::AppArmor;
use confinement::dac::Owner;
use confinement::launch::Launcher;
use confinement::systemd::{Inhibitor, Systemd};
use domain_xml::Domain as Definition;
use parking_lot::Mutex;
use qemu_caps::{QemuCaps, Settings, Store};
use rpc::protocol::events::DomainEventLifecycleMsg;
use rpc::{DomainEvent, EventSink};
use security::Security;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

/// How important a line of the daemon's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong, and goes on.
    Warning,
    /// Something failed.
    Error,
}

/// Where the driver writes what concerns the whole daemon.
pub type Log = Box<dyn Fn(Level, &str) + Send + Sync>;

/// The driver's common parts.
pub struct Core {
    /// Where files are.
    pub paths: Paths,
    /// `qemu.conf`.
    pub config: Config,
    /// The domains.
    pub table: Table,
    /// What emulators can do.
    pub caps: Store,
    /// What their guests see of the host's processor.
    pub(crate) host_models: HostModels,
    /// Where events go.
    pub events: OnceLock<Arc<dyn EventSink>>,
    /// The ports of displays.
    pub ports: Ports,
    /// The names of tap devices.
    pub interfaces: Names,
    /// Descriptors that clients leave.
    pub groups: Groups,
    /// What starts emulators.
    pub launcher: Launcher,
    /// What confines guests.
    pub security: Security,
    /// Lets a shutdown of the host wait while guests run.
    pub inhibitor: Inhibitor,
    /// The host's UUID.
    pub host_uuid: rpc::Uuid,
    /// The daemon ends: what happens to guests is the next one's business.
    pub stopping: AtomicBool,
    /// The administrator's scripts.
    pub hooks: Hooks,
    last_id: AtomicI32,
    log: Arc<Log>,
    /// The lock of the daemon that uses these files.
    pub(crate) lock: Mutex<Option<std::fs::File>>,
}

impl Core {
    /// The common parts; nothing is touched yet.
    pub fn new(paths: Paths, config: Config, host_uuid: rpc::Uuid, log: Log) -> Arc<Self> {
        let settings = Settings { directory: paths.lib.clone(), owner: config.owner };
        let security = make_security(&config, &paths);
        let caps = Store::new(paths.cache.join("capabilities"), settings);
        let log = Arc::new(log);
        let hooks = Hooks::new(paths.hooks.clone(), log.clone());
        Arc::new(Self {
            paths,
            config,
            table: Table::default(),
            caps,
            host_models: HostModels::default(),
            events: OnceLock::new(),
            ports: Ports::default(),
            interfaces: Names::default(),
            groups: Groups::default(),
            launcher: Launcher::default(),
            security,
            inhibitor: Inhibitor::new(Systemd::default()),
            host_uuid,
            stopping: AtomicBool::new(false),
            hooks,
            last_id: AtomicI32::new(0),
            log,
            lock: Mutex::new(None),
        })
    }

    /// Writes a line of the daemon's log.
    pub fn log(&self, level: Level, text: &str) {
        (self.log)(level, text);
    }

    /// A number for a guest that starts.
    pub fn next_id(&self) -> i32 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number is taken by a guest that was found running.
    pub fn note_id(&self, id: i32) {
        self.last_id.fetch_max(id, Ordering::Relaxed);
    }

    /// Sends an event.
    pub fn event(&self, event: DomainEvent) {
        if let Some(sink) = self.events.get() {
            sink.domain_event(event);
        }
    }

    /// Sends a life-cycle event (`virDomainEventType`, and its detail).
    pub fn lifecycle(&self, guest: &Guest, event: i32, detail: i32) {
        self.event(DomainEvent::Lifecycle(DomainEventLifecycleMsg { dom: guest.reference(), event, detail }));
    }

    /// The emulator of an architecture.
    pub fn emulator(&self, arch: &str) -> Option<PathBuf> {
        let name = match arch {
            "i686" => "i386",
            other => other,
        };
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        std::env::split_paths(&path)
            .map(|directory| directory.join(format!("qemu-system-{name}")))
            .find(|candidate| is_executable(candidate))
    }

    /// What an emulator can do.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn capabilities(&self, emulator: &Path) -> Result<Arc<QemuCaps>> {
        let shown = emulator.display();
        self.caps.get(emulator).map_err(|error| match error {
            qemu_caps::Error::Missing(_) => {
                let missing = rustix::io::Errno::NOENT.into();
                crate::error::system(&missing, &format!("Cannot check QEMU binary {shown}"))
            }
            qemu_caps::Error::NotExecutable(_) => {
                let refused = rustix::io::Errno::ACCESS.into();
                crate::error::system(&refused, &format!("QEMU binary {shown} is not executable"))
            }
            other => internal(other.to_string()),
        })
    }

    /// Writes a persistent definition to its file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_definition(&self, definition: &Definition) -> Result<()> {
        let name = definition.name();
        let path = self.paths.definition(name);
        let text = files::with_header(&format!("virsh edit {name}"), &domain_xml::format(definition));
        files::replace(&path, text.as_bytes()).map_err(|error| {
            crate::error::system(&error, &format!("cannot create config file '{}'", path.display()))
        })
    }
}

fn make_security(config: &Config, paths: &Paths) -> Security {
    let settings = config.security.clone().unwrap_or_else(|| {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (user, group) = config.owner.unwrap_or(own);
        security::Settings::new(paths.privileged, Owner { user, group })
    });
    let apparmor = AppArmor::find().filter(|_| config.apparmor && paths.privileged);
    Security::new(settings, Launcher::default(), apparmor, Systemd::default())
}

/// Whether somebody may execute the file.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
