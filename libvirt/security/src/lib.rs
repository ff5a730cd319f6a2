//! What a domain's definition means for the confinement of its processes.
//!
//! The crate `confinement` knows how processes are confined, this one what of it a domain needs. A driver calls
//! [`Security::label`] and [`Security::load_profile`] before a start, [`Security::launch`] for the emulator, [`Security::confine`] while that is
//! held back, [`Confined::place`] for its threads, and [`Security::release`] at the end.
#![forbid(unsafe_code)]

mod guest;
mod helper;
mod list;
pub mod uses;

pub use guest::Confined;
pub use list::parse_list;

use confinement::apparmor::{AppArmor, Need, Rules};
use confinement::cgroup::{Cgroup, Controllers, Hierarchy};
use confinement::dac::{Dac, Journal, Owner, Transaction};
use confinement::launch::{Launch, Launcher, Limits, capability};
use confinement::namespace::{DEFAULT_NODES, PrivateDev};
use confinement::process::{MemoryMode, MemoryPolicy};
use confinement::systemd::Systemd;
use confinement::{Code, Error, Result};
use domain_xml::Domain;
use domain_xml::tune::{NumaMode, SecLabel};
use domain_xml::words::YesNo;

use uses::Use;

/// `CAP_SYS_RAWIO`: what disks and devices with `rawio` need.
const RAW_IO: u64 = capability(17);
/// A limit of locked memory in KiB that is none.
const UNLIMITED: u64 = confinement::cgroup::MEMORY_UNLIMITED;

/// What qemu.conf says of it, with libvirt's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The daemon is root's; else nothing is changed but limits and labels of AppArmor.
    pub privileged: bool,
    /// `user` and `group`.
    pub owner: Owner,
    /// `dynamic_ownership`.
    pub dynamic_ownership: bool,
    /// `remember_owner`.
    pub remember_owner: bool,
    /// `namespaces` holds `mount`.
    pub mount_namespace: bool,
    /// `cgroup_device_acl`.
    pub device_nodes: Vec<String>,
    /// `cgroup_controllers`.
    pub controllers: Controllers,
    /// `clear_emulator_capabilities`.
    pub clear_capabilities: bool,
    /// `max_processes`, 0: no limit of our own.
    pub max_processes: u64,
    /// `max_files`, 0: no limit of our own.
    pub max_files: u64,
    /// `max_threads_per_process`, 0: no limit of our own.
    pub max_threads: u64,
    /// `max_core`: bytes; `u64::MAX` is no limit.
    pub max_core: u64,
    /// `security_default_confined`.
    pub default_confined: bool,
    /// `security_require_confined`.
    pub require_confined: bool,
    /// `stdio_handler` is `logd`.
    pub files_by_logd: bool,
}

impl Settings {
    /// The defaults for a daemon whose emulators run as `owner`.
    #[must_use]
    pub fn new(privileged: bool, owner: Owner) -> Self {
        Self {
            privileged,
            owner,
            dynamic_ownership: privileged,
            remember_owner: privileged,
            mount_namespace: privileged,
            device_nodes: DEFAULT_NODES.map(str::to_owned).to_vec(),
            controllers: Controllers::ALL,
            clear_capabilities: true,
            max_processes: 0,
            max_files: 0,
            max_threads: 0,
            max_core: 0,
            default_confined: true,
            require_confined: false,
            files_by_logd: true,
        }
    }
}

/// The security drivers of a daemon, and its control groups.
#[derive(Debug)]
pub struct Security {
    settings: Settings,
    launcher: Launcher,
    dac: Dac,
    apparmor: Option<AppArmor>,
    hierarchy: Option<Hierarchy>,
    systemd: Systemd,
}

/// What a guest has been given that ended.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// What [`Security::confine`] or [`Security::find`] told.
    By(&'a Confined),
    /// What the journal says that a daemon which is gone like the guest gave it; all without one.
    Before(Option<&'a Journal>),
    /// It did not come so far that owners of files were changed: those must stay what they are, for they may be
    /// another guest's.
    Nothing,
}

/// A model of labels as clients see it in the capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Its domain of interpretation.
    pub doi: &'static str,
    /// The label that guests have that ask for none, of each type of domain alike.
    pub base_label: Option<String>,
}

fn unsupported(text: &str) -> Error {
    Error { code: Code::ConfigUnsupported, message: format!("unsupported configuration: {text}") }
}

fn internal(text: String) -> Error {
    Error { code: Code::InternalError, message: format!("internal error: {text}") }
}

impl Security {
    /// With what this host has. `apparmor` is [`AppArmor::find`]'s, unless `security_driver` forbids it.
    #[must_use]
    pub fn new(settings: Settings, launcher: Launcher, apparmor: Option<AppArmor>, systemd: Systemd) -> Self {
        let mount_namespace = settings.mount_namespace && settings.privileged && PrivateDev::is_available();
        let dynamic_ownership = settings.dynamic_ownership && settings.privileged;
        let dac = Dac { owner: settings.owner, dynamic_ownership, mount_namespace };
        let hierarchy = if settings.privileged { Hierarchy::find() } else { None };
        Self { settings, launcher, dac, apparmor, hierarchy, systemd }
    }

    /// The models, in the order of the capabilities.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        let (name, doi) = if self.apparmor.is_some() { AppArmor::MODEL } else { ("none", "0") };
        let mut models = vec![Model { name, doi, base_label: None }];
        if self.settings.privileged {
            let (name, doi) = Dac::MODEL;
            models.push(Model { name, doi, base_label: Some(self.dac.base_label()) });
        }
        models
    }

    fn remembers_owners(&self) -> bool {
        self.settings.remember_owner && self.settings.privileged
    }

    /// Gives a domain that is about to start its labels and its partition: what the others of these functions go by.
    ///
    /// # Errors
    /// `unsupported configuration: Unconfined guests are not allowed on this host`; `internal error: missing label for
    /// static security driver in domain NAME`.
    pub fn label(&self, domain: &mut Domain) -> Result<()> {
        if self.settings.privileged {
            domain.resource.get_or_insert_default().partition.get_or_insert_with(|| "/machine".to_owned());
        }
        if let Some(uuid) = domain.uuid.clone().filter(|_| self.apparmor.is_some()) {
            self.generate(domain, "apparmor", &AppArmor::profile_name(&uuid))?;
        }
        if self.settings.privileged {
            let label = self.dac.base_label();
            self.generate(domain, "dac", &label)?;
        }
        Ok(())
    }

    /// Loads the profile that a domain has by its label.
    ///
    /// # Errors
    /// `internal error: cannot load AppArmor profile '...'`.
    pub fn load_profile(&self, domain: &Domain) -> Result<()> {
        match self.profile_of(domain) {
            Some((apparmor, uuid)) => {
                apparmor.load(uuid, &self.rules(domain)?).map_err(|(told, _)| told).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Who has the profile that was made for the domain, and the UUID in its name.
    fn profile_of<'a>(&'a self, domain: &'a Domain) -> Option<(&'a AppArmor, &'a str)> {
        let label = uses::of_model(domain, "apparmor")?;
        let generated = label.kind.as_deref() == Some("dynamic");
        Some((self.apparmor.as_ref()?, domain.uuid.as_deref()?)).filter(|_| generated)
    }

    /// The domain's label of a driver.
    fn generate(&self, domain: &mut Domain, model: &str, text: &str) -> Result<()> {
        let name = domain.name().to_owned();
        let at = domain.seclabel.iter().position(|label| label.model.as_deref() == Some(model));
        let label = match at {
            Some(at) => &mut domain.seclabel[at],
            None if !self.settings.default_confined => return Ok(()),
            None => {
                let label = SecLabel { model: Some(model.to_owned()), ..SecLabel::default() };
                domain.seclabel.push(label);
                let last = domain.seclabel.len() - 1;
                &mut domain.seclabel[last]
            }
        };
        let kind = label.kind.get_or_insert_with(|| {
            (if self.settings.default_confined { "dynamic" } else { "none" }).to_owned()
        });
        match kind.as_str() {
            "none" if self.settings.require_confined => {
                return Err(unsupported("Unconfined guests are not allowed on this host"));
            }
            "none" => return Ok(()),
            "static" if label.label.is_none() => {
                return Err(internal(format!("missing label for static security driver in domain {name}")));
            }
            "static" => {}
            _ => {
                label.relabel.get_or_insert(YesNo::Yes);
                label.label = Some(text.to_owned());
            }
        }
        if label.relabel == Some(YesNo::Yes) && label.imagelabel.is_none() {
            label.imagelabel = label.label.clone();
        }
        Ok(())
    }

    /// What the domain's profile allows.
    fn rules(&self, domain: &Domain) -> Result<Rules> {
        let mut rules = Rules::of_guest(domain.name(), domain.id.unwrap_or(-1))?;
        for used in uses::of(domain, self.settings.files_by_logd)? {
            let image = matches!(used, Use::Images { .. });
            for (path, read_only) in used.paths() {
                rules.add_file(
                    &path,
                    match (image, read_only) {
                        (true, true) => Need::ReadAndLock,
                        (true, false) => Need::WriteAndLock,
                        (false, true) => Need::Read,
                        (false, false) => Need::Write,
                    },
                )?;
            }
        }
        helper::add_rules(domain, &mut rules)?;
        Ok(rules)
    }

    /// The emulator of a prepared domain: its user, limits, capabilities, profile and `/dev`.
    ///
    /// # Errors
    /// A label that cannot be read; a host device that is not there.
    pub fn launch(&self, domain: &Domain, launch: Launch) -> Result<Launch> {
        let settings = &self.settings;
        let some = |value: u64| (value != 0).then_some(value);
        let mut launch = launch.umask(0o002).limits(Limits {
            locked_memory: locked_memory(domain),
            processes: some(settings.max_processes),
            files: some(settings.max_files),
            core: Some(settings.max_core),
        });
        if settings.clear_capabilities {
            launch = launch.clear_capabilities();
        }
        let raw = domain.devices.disk.iter().any(|disk| disk.rawio == Some(YesNo::Yes))
            || domain.devices.hostdev.iter().any(|device| device.rawio == Some(YesNo::Yes));
        if raw {
            launch = launch.capabilities(RAW_IO);
        }
        launch = self.with_profile(domain, launch);
        if let Some(policy) = self.memory_policy(domain)? {
            launch = launch.memory_policy(policy);
        }
        if settings.privileged {
            launch = launch.identity(self.dac.identity(uses::domain_label(domain)?.as_ref())?);
        }
        if self.dac.mount_namespace {
            launch = launch.private_dev(PrivateDev { nodes: self.nodes(domain)?, selinux_context: None });
        }
        Ok(launch)
    }

    /// From which of the host's nodes the emulator has its memory; `None`: from any, or from those of its control group.
    fn memory_policy(&self, domain: &Domain) -> Result<Option<MemoryPolicy>> {
        let memory = domain.numatune.as_ref().and_then(|tune| tune.memory.as_ref());
        let Some((memory, nodes)) = memory.and_then(|memory| Some((memory, memory.nodeset.as_deref()?)))
        else {
            return Ok(None);
        };
        let wanted = self.settings.controllers.common(Controllers::CPUSET);
        let grouped = |hierarchy: &Hierarchy| hierarchy.available(wanted).has(Controllers::CPUSET);
        let grouped = self.hierarchy.as_ref().is_some_and(grouped);
        let mode = match memory.mode.unwrap_or(NumaMode::Strict) {
            // The group can be changed while the guest runs, the policy cannot.
            NumaMode::Strict if grouped => return Ok(None),
            NumaMode::Strict => MemoryMode::Strict,
            NumaMode::Preferred => MemoryMode::Preferred,
            NumaMode::Interleave => MemoryMode::Interleave,
            NumaMode::Restrictive if grouped => return Ok(None),
            NumaMode::Restrictive => {
                return Err(unsupported("restrictive memory mode requires the cgroup controller cpuset"));
            }
        };
        let nodes = parse_list(nodes)?.into_iter().map(|node| node as u32).collect();
        Ok(Some(MemoryPolicy { mode, nodes }))
    }

    /// What a guest's own `/dev` holds.
    fn nodes(&self, domain: &Domain) -> Result<Vec<String>> {
        let mut nodes = self.settings.device_nodes.clone();
        for used in uses::of(domain, self.settings.files_by_logd)? {
            nodes.extend(used.paths().into_iter().map(|(path, _)| path));
        }
        Ok(nodes)
    }

    /// Changes the owners of what a domain uses, all or none.
    fn set_owners(&self, domain: &Domain, used: &[Use], guest: &Confined) -> Result<()> {
        let label = uses::domain_label(domain)?;
        let label = label.as_ref();
        let mut transaction = Transaction::new();
        for one in used {
            match one {
                Use::Images { chain, label: parent } => {
                    self.dac.set_images(&mut transaction, label, chain, parent.as_ref(), true);
                }
                Use::File(path) => self.dac.set_file(&mut transaction, label, path),
                Use::SharedNode(path) => self.dac.set_shared_node(&mut transaction, label, path),
                Use::HostDevice { path, group } => {
                    self.dac.set_host_device(&mut transaction, label, path, *group);
                }
                Use::Channel { channel, label: own, remember } => {
                    self.dac.set_channel(&mut transaction, label, channel, own.as_ref(), *remember);
                }
                Use::Node { .. } => {}
            }
        }
        let process = guest.namespace_of();
        transaction.commit(&self.launcher, process, self.remembers_owners(), guest.journal())
    }

    /// Gives files back, each by itself: what one needs that cannot be given back is no reason to keep another. With a
    /// `journal` those that the guest has by it.
    fn restore_owners(
        &self,
        domain: &Domain,
        used: &[Use],
        process: Option<i32>,
        journal: Option<&Journal>,
        migrated: bool,
    ) -> Vec<Error> {
        let label = match uses::domain_label(domain) {
            Ok(label) => label,
            Err(error) => return vec![error],
        };
        let label = label.as_ref();
        let mut errors = Vec::new();
        let mut given = match journal.map(Journal::given).transpose() {
            Ok(given) => given,
            Err(error) => return vec![error],
        };
        for one in used {
            // The node that the guest was given was its own, and went with it; the host's was never changed.
            if process.is_none()
                && self.dac.mount_namespace
                && one.paths().iter().all(|(path, _)| is_node(path))
            {
                continue;
            }
            let mut transaction = Transaction::new();
            match one {
                Use::Images { chain, .. } => {
                    if let Some(top) = chain.first() {
                        self.dac.restore_image(&mut transaction, label, top, migrated);
                    }
                }
                Use::File(path) => self.dac.restore_file(&mut transaction, label, path),
                Use::HostDevice { path, group } => {
                    self.dac.restore_host_device(&mut transaction, label, path, *group);
                }
                Use::Channel { channel, label: own, remember } => {
                    self.dac.restore_channel(&mut transaction, label, channel, own.as_ref(), *remember);
                }
                Use::SharedNode(_) | Use::Node { .. } => {}
            }
            if let Some(given) = &mut given {
                transaction.retain(|path| {
                    let at = given.iter().position(|given| given == path);
                    at.map(|at| given.swap_remove(at)).is_some()
                });
            }
            let remembers = self.remembers_owners();
            errors.extend(transaction.commit(&self.launcher, process, remembers, journal).err());
        }
        errors
    }

    /// Takes back what a guest was given, which has ended or did not come up: owners, profile, control group. What cannot be taken back is returned, for the log. `migrated`: it runs
    /// elsewhere now.
    pub fn release(&self, domain: &Domain, given: Given<'_>, migrated: bool) -> Vec<Error> {
        let journal = match given {
            Given::By(confined) => confined.journal(),
            Given::Before(journal) => journal,
            Given::Nothing => None,
        };
        let mut errors = match uses::of(domain, self.settings.files_by_logd) {
            _ if matches!(given, Given::Nothing) => Vec::new(),
            Ok(used) => self.restore_owners(domain, &used, None, journal, migrated),
            Err(error) => vec![error],
        };
        if let Some((apparmor, uuid)) = self.profile_of(domain) {
            errors.extend(apparmor.unload(uuid).err());
        }
        match given {
            Given::By(confined) => confined.remove(),
            Given::Nothing | Given::Before(_) if self.settings.privileged => {
                let partition = domain.resource.as_ref().and_then(|resource| resource.partition.as_deref());
                let partition = partition.unwrap_or("/machine");
                Cgroup::forget(self.hierarchy.as_ref(), partition, &Self::machine(domain), &self.systemd);
            }
            Given::Nothing | Given::Before(_) => {}
        }
        errors
    }

    /// The launcher, for other processes of guests.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }
}

/// Whether the path is a device node in `/dev`, which a namespace has a copy of.
fn is_node(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = std::fs::metadata(path).map(|found| found.file_type());
    path.starts_with("/dev/") && kind.is_ok_and(|kind| kind.is_block_device() || kind.is_char_device())
}

/// How much memory an emulator may lock, in bytes; `None`: as much as the daemon.
fn locked_memory(domain: &Domain) -> Option<u64> {
    let hard = domain.memtune.as_ref().and_then(|tune| tune.hard_limit).map(|limit| limit.0);
    if let Some(limit) = hard.filter(|limit| *limit < UNLIMITED) {
        return Some(limit << 10);
    }
    if domain.memory_backing.as_ref().is_some_and(|backing| backing.locked) {
        return Some(u64::MAX);
    }
    use domain_xml::hostdev::HostdevType;
    let assigned = domain
        .devices
        .hostdev
        .iter()
        .filter(|device| matches!(device.kind, HostdevType::Pci | HostdevType::Mdev));
    let count = assigned.count() as u64;
    if count == 0 {
        return None;
    }
    // With an IOMMU of the guest's own, each device maps the memory by itself.
    let factor = if domain.devices.iommu.is_some() { count } else { 1 };
    Some((factor * domain.memory.size.0 + (1 << 20)) << 10)
}

#[cfg(test)]
mod tests;
