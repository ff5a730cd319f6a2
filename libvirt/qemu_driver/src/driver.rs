//! The driver as the server sees it.

use crate::config::Config;
use crate::core::{Core, Level, Log};
use crate::error::{Result, internal, system};
use crate::files;
use crate::guest::Guest;
use crate::hooks::Hooks;
use crate::paths::Paths;
use crate::uuid;
use domain_xml::Domain as Definition;
use rpc::{ClientContext, Code, Error, EventSink, Hypervisor, Origin, Uuid};
use rustix::fs::FlockOperation;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest file of a definition.
const MAX_DEFINITION: u64 = 4 << 20;

/// Serves the calls about QEMU's guests.
pub struct QemuDriver {
    pub(crate) core: Arc<Core>,
}

impl QemuDriver {
    /// A driver for the files in `paths`; nothing is touched before it is started.
    pub fn new(paths: Paths, config: Config, host_uuid: Uuid, log: Log) -> Self {
        Self { core: Core::new(paths, config, host_uuid, log) }
    }

    /// The administrator's scripts.
    pub fn hooks(&self) -> &Hooks {
        &self.core.hooks
    }

    /// The URI of this driver.
    pub(crate) fn uri(&self) -> &'static str {
        if self.core.paths.privileged { "qemu:///system" } else { "qemu:///session" }
    }

    /// Keeps a second daemon away from the same files.
    fn take_lock(&self) -> Result<()> {
        let path = self.core.paths.driver_lock();
        let shown = path.display();
        let failed = |error: std::io::Error| system(&error, &format!("Failed to open pid file '{shown}'"));
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| system(&errno.into(), &format!("Failed to acquire pid file '{shown}'")))?;
        file.set_len(0).map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        *self.core.lock.lock() = Some(file);
        Ok(())
    }

    /// Reads the persistent definitions.
    fn load_definitions(&self) -> Result<()> {
        let directory = &self.core.paths.config;
        let entries = std::fs::read_dir(directory)
            .map_err(|error| system(&error, &format!("Failed to open dir '{}'", directory.display())))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "xml")) {
            if let Err(error) = self.load_definition(path) {
                self.core.log(Level::Error, &format!("{}: {error}", path.display()));
            }
        }
        Ok(())
    }

    fn load_definition(&self, path: &Path) -> Result<()> {
        let text = files::read(path, MAX_DEFINITION)
            .map_err(|error| system(&error, &format!("failed to read '{}'", path.display())))?;
        let definition: Definition = domain_xml::parse(&text).map_err(|error| crate::error::xml(&error))?;
        let name = definition.name().to_owned();
        if path.file_stem().is_none_or(|stem| stem != name.as_str()) {
            let detail = format!("Failed to load config for domain '{name}': the file has another name");
            return Err(internal(detail));
        }
        let uuid = definition.uuid.as_deref().and_then(uuid::parse);
        let uuid = uuid.ok_or_else(|| internal("the definition has no uuid"))?;
        let make = || Guest::new(uuid, name.clone());
        let (guest, _) = self.core.table.get_or_insert(uuid, &name, make)?;
        let mut inner = guest.lock();
        inner.set_config(Some(&definition));
        // A link that leads elsewhere is not ours.
        let target = std::fs::read_link(self.core.paths.autostart_link(&name));
        inner.autostart = target.is_ok_and(|target| target == path);
        Ok(())
    }
}

impl Hypervisor for QemuDriver {
    fn open(&self, _client: &ClientContext, uri: Option<&str>) -> Result<()> {
        let Some(uri) = uri.filter(|uri| !uri.is_empty()) else { return Ok(()) };
        let path = uri.strip_prefix("qemu://").map(|rest| rest.split(['?', '#']).next().unwrap_or_default());
        let refuse = |detail: String| Err(internal(detail));
        match (path.and_then(|path| path.find('/').map(|at| &path[at..])), self.core.paths.privileged) {
            // Root's session is the system's.
            (Some("/system" | "/session"), true) | (Some("/session"), false) => Ok(()),
            (Some(path), privileged) => {
                let wanted = if privileged { "/system" } else { "/session" };
                refuse(format!("unexpected QEMU URI path '{path}', try qemu://{wanted}"))
            }
            (None, _) => Err(Error::new(Origin::None, Code::NoConnect, uri)),
        }
    }

    fn closed(&self, client: &ClientContext) {
        self.core.client_gone(client.id());
    }

    fn set_events(&self, sink: Arc<dyn EventSink>) {
        // The server calls this once.
        let _ = self.core.events.set(sink);
    }

    fn supports_feature(&self, _client: &ClientContext, feature: i32) -> Result<bool> {
        const MIGRATION_V2: i32 = 3;
        const MIGRATION_V3: i32 = 6;
        const MIGRATE_CHANGE_PROTECTION: i32 = 7;
        const XML_MIGRATABLE: i32 = 11;
        const MIGRATION_PARAMS: i32 = 13;
        const MIGRATION_OFFLINE: i32 = 12;
        match feature {
            XML_MIGRATABLE => Ok(true),
            // Not before migration is there.
            MIGRATION_V2
            | MIGRATION_V3
            | MIGRATE_CHANGE_PROTECTION
            | MIGRATION_PARAMS
            | MIGRATION_OFFLINE => Ok(false),
            _ => Ok(false),
        }
    }

    fn start(&self) -> Result<()> {
        self.core.paths.create(self.core.config.owner).map_err(|(path, error)| {
            system(&error, &format!("Failed to create directory '{}'", path.display()))
        })?;
        self.take_lock()?;
        self.load_definitions()?;
        self.core.reconnect_all();
        self.core.autostart_all();
        Ok(())
    }

    fn reload(&self) {
        if let Err(error) = self.load_definitions() {
            self.core.log(Level::Error, &error.to_string());
        }
    }

    fn running(&self) -> usize {
        self.core.table.running()
    }

    fn stop(&self) {
        self.core.stopping.store(true, Ordering::SeqCst);
        for guest in self.core.table.all() {
            // Guests live on; their connections end so that nothing is taken for their end.
            let monitor = guest.lock().live.as_mut().and_then(|live| live.monitor.take());
            drop(monitor);
        }
        *self.core.lock.lock() = None;
    }
}
