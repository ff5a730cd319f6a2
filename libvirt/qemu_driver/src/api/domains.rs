//! Domains: list, look-up, definition, life.

use crate::definition::Form;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, failed, internal, invalid, system};
use crate::files;
use crate::guest::{Guest, Inner};
use crate::process::StartOptions;
use crate::state::{Paused, Running, State};
use domain_xml::Domain as Definition;
use domain_xml::clock::EventAction;
use json::Dict;
use rpc::protocol::domain::*;
use rpc::protocol::events::DomainEventCallbackMetadataChangeMsg;
use rpc::{ClientContext, Code, Domain, DomainEvent, Error, Origin};
use std::sync::Arc;
use std::time::Duration;

/// `VIR_DOMAIN_XML_...`
mod xml_flags {
    pub(super) const SECURE: u32 = 1;
    pub(super) const INACTIVE: u32 = 2;
    pub(super) const UPDATE_CPU: u32 = 4;
    pub(super) const MIGRATABLE: u32 = 8;
}

/// `VIR_DOMAIN_UNDEFINE_...`
mod undefine {
    pub(super) const MANAGED_SAVE: u32 = 1;
    pub(super) const SNAPSHOTS_METADATA: u32 = 2;
    pub(super) const NVRAM: u32 = 4;
    pub(super) const KEEP_NVRAM: u32 = 8;
    pub(super) const CHECKPOINTS_METADATA: u32 = 16;
    pub(super) const TPM: u32 = 32;
    pub(super) const KEEP_TPM: u32 = 64;
    pub(super) const ALL: u32 =
        MANAGED_SAVE | SNAPSHOTS_METADATA | NVRAM | KEEP_NVRAM | CHECKPOINTS_METADATA | TPM | KEEP_TPM;
}

/// `VIR_DOMAIN_START_...`
mod create {
    pub(super) const PAUSED: u32 = 1;
    pub(super) const AUTODESTROY: u32 = 2;
    pub(super) const BYPASS_CACHE: u32 = 4;
    pub(super) const FORCE_BOOT: u32 = 8;
    pub(super) const VALIDATE: u32 = 16;
    pub(super) const RESET_NVRAM: u32 = 32;
}

fn create_options(client: &ClientContext, flags: u32) -> StartOptions {
    StartOptions {
        paused: flags & create::PAUSED != 0,
        autodestroy: (flags & create::AUTODESTROY != 0).then(|| client.id()),
        reset_nvram: flags & create::RESET_NVRAM != 0,
        bypass_cache: flags & create::BYPASS_CACHE != 0,
        ..StartOptions::default()
    }
}

/// `VIR_DOMAIN_AFFECT_...`
mod affect {
    pub(super) const LIVE: u32 = 1;
    pub(super) const CONFIG: u32 = 2;
}

/// Events of the life cycle, and their details.
mod event {
    pub(super) const DEFINED: i32 = 0;
    pub(super) const DEFINED_ADDED: i32 = 0;
    pub(super) const DEFINED_UPDATED: i32 = 1;
    pub(super) const DEFINED_RENAMED: i32 = 2;
    pub(super) const UNDEFINED: i32 = 1;
    pub(super) const UNDEFINED_REMOVED: i32 = 0;
    pub(super) const UNDEFINED_RENAMED: i32 = 1;
}

/// The filters of a list (`VIR_CONNECT_LIST_DOMAINS_...`): in each group, no flag or all flags choose all.
fn chosen(inner: &Inner, has_save: bool, flags: u32) -> bool {
    let group = |wanted: u32, is: u32| flags & wanted == 0 || flags & is != 0;
    let active = if inner.is_active() { 1 } else { 2 };
    let persistent = if inner.is_persistent() { 4 } else { 8 };
    let state = match inner.state {
        State::Running(_) => 16,
        State::Paused(_) => 32,
        State::Shutoff(_) => 64,
        _ => 128,
    };
    let save = if has_save { 256 } else { 512 };
    let autostart = if inner.autostart { 1024 } else { 2048 };
    // There are neither snapshots nor checkpoints.
    group(1 | 2, active)
        && group(4 | 8, persistent)
        && group(16 | 32 | 64 | 128, state)
        && group(256 | 512, save)
        && group(1024 | 2048, autostart)
        && group(4096 | 8192, 8192)
        && group(16_384 | 32_768, 32_768)
}

/// All filters.
const LIST_FLAGS: u32 = 0xffff;

impl QemuDriver {
    fn define(&self, text: &str) -> Result<Arc<Guest>> {
        let complete = self.core.read_definition(text)?;
        let (definition, uuid) = (complete.definition, complete.uuid);
        let name = definition.name().to_owned();
        // A domain that another call removes meanwhile is made anew.
        loop {
            let make = || Guest::new(uuid, name.clone());
            let (guest, new) = self.core.table.get_or_insert(uuid, &name, make)?;
            let _job = guest.jobs.begin("virDomainDefineXMLFlags")?;
            if !new && self.core.table.find(&uuid).is_none_or(|other| !Arc::ptr_eq(&other, &guest)) {
                continue;
            }
            if let Err(error) = self.core.save_definition(&definition) {
                if new {
                    self.core.table.remove(&guest, &name);
                }
                return Err(error);
            }
            let updated = {
                let mut inner = guest.lock();
                let updated = inner.is_persistent();
                inner.set_config(Some(&definition));
                updated
            };
            let detail = if updated { event::DEFINED_UPDATED } else { event::DEFINED_ADDED };
            self.core.lifecycle(&guest, event::DEFINED, detail);
            drop(_job);
            return Ok(guest);
        }
    }

    fn undefine(&self, guest: &Arc<Guest>, flags: u32) -> Result<()> {
        let _job = guest.jobs.begin("virDomainUndefineFlags")?;
        let (name, nvram, definition) = {
            let inner = guest.lock();
            let Some(config) = inner.config() else {
                return Err(invalid("cannot undefine transient domain"));
            };
            let nvram = self.core.variables_of(&config);
            (inner.name.clone(), nvram, config)
        };
        let save = self.core.paths.managed_save(&name);
        if save.exists() {
            if flags & undefine::MANAGED_SAVE == 0 {
                return Err(invalid("Refusing to undefine while domain managed save image exists"));
            }
            files::remove(&save).map_err(|_| failed("Failed to remove domain managed save image"))?;
        }
        if let Some(path) = nvram.filter(|path| std::path::Path::new(path).exists()) {
            if flags & undefine::NVRAM != 0 {
                files::remove(path.as_ref())
                    .map_err(|error| system(&error, &format!("failed to remove nvram: {path}")))?;
            } else if flags & undefine::KEEP_NVRAM == 0 {
                return Err(invalid("cannot undefine domain with nvram"));
            }
        }
        let path = self.core.paths.definition(&name);
        files::remove(&self.core.paths.autostart_link(&name))
            .and_then(|()| files::remove(&path))
            .map_err(|error| system(&error, &format!("cannot remove config {}", path.display())))?;
        let gone = {
            let mut inner = guest.lock();
            inner.set_config(None);
            inner.autostart = false;
            !inner.is_active()
        };
        if gone {
            self.core.forget_tpm(&definition, flags & undefine::TPM != 0, flags & undefine::KEEP_TPM != 0);
        }
        self.core.lifecycle(guest, event::UNDEFINED, event::UNDEFINED_REMOVED);
        if gone {
            self.core.table.remove(guest, &name);
        }
        Ok(())
    }

    fn create(
        &self,
        client: &ClientContext,
        dom: &Domain,
        flags: u32,
        api: &'static str,
    ) -> Result<Arc<Guest>> {
        use create::{AUTODESTROY, BYPASS_CACHE, FORCE_BOOT, PAUSED, RESET_NVRAM};
        check_flags(
            flags,
            PAUSED | AUTODESTROY | BYPASS_CACHE | FORCE_BOOT | RESET_NVRAM,
            "qemuDomainCreateWithFlags",
        )?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let definition = {
            let inner = guest.lock();
            if inner.is_active() {
                return Err(invalid("domain is already running"));
            }
            inner.config().ok_or_else(|| invalid("domain has no definition"))?
        };
        let options = create_options(client, flags);
        if !self.start_saved(&guest, &options, flags & FORCE_BOOT != 0)? {
            self.core.start(&guest, definition, &options)?;
        }
        drop(_job);
        Ok(guest)
    }

    fn destroy(&self, dom: &Domain, flags: u32, api: &'static str) -> Result<()> {
        const GRACEFUL: u32 = 1;
        const REMOVE_LOGS: u32 = 2;
        /// What does not wait for an emulator that hangs is done by then.
        const BRIEFLY: Duration = Duration::from_secs(1);
        check_flags(flags, GRACEFUL | REMOVE_LOGS, "qemuDomainDestroyFlags")?;
        let guest = self.guest(dom)?;
        let graceful = flags & GRACEFUL != 0;
        if let Ok(_job) = guest.jobs.begin_within(api, BRIEFLY) {
            self.core.destroy(&guest, graceful)?;
        } else {
            // Whoever holds it may be waiting for the emulator, whose end is his.
            self.core.end_for_client(&guest, graceful)?;
            let _job = guest.jobs.begin(api)?;
            if guest.lock().is_active() {
                self.core.destroy(&guest, graceful)?;
            }
        }
        if flags & REMOVE_LOGS != 0 {
            let name = guest.lock().name.clone();
            // A log that stays is no failure of the end.
            let _ = files::remove(&self.core.paths.log_file(&name));
        }
        Ok(())
    }

    /// Asks a guest for its end or its reset: by its agent when there is one and nothing else is asked for, else by
    /// its power button.
    fn power(&self, dom: &Domain, flags: u32, reboot: bool, api: &'static str) -> Result<()> {
        const AGENT: u32 = 2;
        let guest = self.guest(dom)?;
        let reboot = {
            let inner = guest.lock();
            let definition = inner.current();
            let (off, again) = definition
                .as_ref()
                .map_or((None, None), |definition| (definition.on_poweroff, definition.on_reboot));
            match reboot {
                true => !matches!(again, Some(EventAction::Destroy | EventAction::Preserve)),
                false => matches!(off, Some(EventAction::Restart | EventAction::RenameRestart)),
            }
        };
        if flags & AGENT != 0 || (flags == 0 && guest.has_agent()) {
            let asked = self.agent_power(&guest, reboot, api);
            if asked.is_ok() || flags == AGENT {
                return asked;
            }
            // It may have gone while it was asked.
            if !guest.lock().is_active() {
                return Ok(());
            }
        }
        let _job = guest.jobs.begin(api)?;
        self.core.power_button(&guest, reboot)
    }

    /// Whether a managed save of the domain exists.
    pub(super) fn has_managed_save(&self, guest: &Guest) -> bool {
        let name = guest.lock().name.clone();
        self.core.paths.managed_save(&name).exists()
    }

    pub(super) fn listed(&self, flags: u32) -> Vec<Arc<Guest>> {
        let all = self.core.table.all();
        let wants_save = flags & (256 | 512) != 0;
        all.into_iter()
            .filter(|guest| {
                let save = wants_save && self.has_managed_save(guest);
                chosen(&guest.lock(), save, flags)
            })
            .collect()
    }

    /// Changes the definition of the next start, and the running one too, as `flags` ask.
    pub(super) fn change(
        &self,
        guest: &Arc<Guest>,
        flags: u32,
        change: &mut dyn FnMut(&mut Definition),
    ) -> Result<()> {
        let (live, config) = {
            let inner = guest.lock();
            let (live, config) = self.targets(&inner, flags)?;
            let changed = |definition: &Arc<Definition>, change: &mut dyn FnMut(&mut Definition)| {
                let mut definition = Definition::clone(definition);
                change(&mut definition);
                Arc::new(definition)
            };
            let live = inner.live.as_ref().filter(|_| live).map(|live| changed(&live.definition, change));
            let config = config.then(|| inner.config()).flatten().map(|config| changed(&config, change));
            (live, config)
        };
        if let Some(config) = config {
            self.core.save_definition(&config)?;
            guest.lock().set_config(Some(&config));
        }
        if let Some(definition) = live {
            if let Some(live) = &mut guest.lock().live {
                live.definition = definition;
            }
            self.core.save_status(guest);
        }
        Ok(())
    }

    /// Whether a call is about the running guest and about the definition of the next start.
    pub(crate) fn targets(&self, inner: &Inner, flags: u32) -> Result<(bool, bool)> {
        let active = inner.is_active();
        let wanted = flags & (affect::LIVE | affect::CONFIG);
        let (live, config) = match wanted {
            0 => (active, !active),
            _ => (wanted & affect::LIVE != 0, wanted & affect::CONFIG != 0),
        };
        if live && !active {
            return Err(crate::error::not_running());
        }
        if config && !inner.is_persistent() {
            return Err(invalid("transient domains do not have any persistent config"));
        }
        Ok((live, config))
    }
}

impl Domains for QemuDriver {
    fn domain_create(&self, client: &ClientContext, args: DomainCreateArgs) -> Result<()> {
        self.create(client, &args.dom, 0, "virDomainCreate").map(drop)
    }

    fn domain_create_with_flags(
        &self,
        client: &ClientContext,
        args: DomainCreateWithFlagsArgs,
    ) -> Result<DomainCreateWithFlagsRet> {
        let guest = self.create(client, &args.dom, args.flags, "virDomainCreateWithFlags")?;
        Ok(DomainCreateWithFlagsRet { dom: guest.reference() })
    }

    fn domain_create_xml(
        &self,
        client: &ClientContext,
        args: DomainCreateXmlArgs,
    ) -> Result<DomainCreateXmlRet> {
        use create::{AUTODESTROY, PAUSED, RESET_NVRAM, VALIDATE};
        check_flags(args.flags, PAUSED | AUTODESTROY | VALIDATE | RESET_NVRAM, "qemuDomainCreateXML")?;
        if args.flags & VALIDATE != 0 {
            crate::schema::validate(&args.xml_desc, "domain", "domain.rng")?;
        }
        let complete = self.core.read_definition(&args.xml_desc)?;
        let (uuid, name) = (complete.uuid, complete.definition.name().to_owned());
        let make = || Guest::new(uuid, name.clone());
        let (guest, new) = self.core.table.get_or_insert(uuid, &name, make)?;
        let _job = guest.jobs.begin("virDomainCreateXML")?;
        if guest.lock().is_active() {
            return Err(invalid(format!("domain '{name}' is already active")));
        }
        let definition = Arc::new(complete.definition);
        let started = self.core.start(&guest, definition, &create_options(client, args.flags));
        if started.is_err() && new {
            self.core.table.remove(&guest, &name);
        }
        started?;
        Ok(DomainCreateXmlRet { dom: guest.reference() })
    }

    fn domain_destroy(&self, _: &ClientContext, args: DomainDestroyArgs) -> Result<()> {
        self.destroy(&args.dom, 0, "virDomainDestroy")
    }

    fn domain_destroy_flags(&self, _: &ClientContext, args: DomainDestroyFlagsArgs) -> Result<()> {
        self.destroy(&args.dom, args.flags, "virDomainDestroyFlags")
    }

    fn domain_suspend(&self, _: &ClientContext, args: DomainSuspendArgs) -> Result<()> {
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSuspend")?;
        self.core.suspend(&guest, Paused::User)
    }

    fn domain_resume(&self, _: &ClientContext, args: DomainResumeArgs) -> Result<()> {
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainResume")?;
        self.core.resume(&guest, Running::Unpaused)
    }

    fn domain_shutdown(&self, _: &ClientContext, args: DomainShutdownArgs) -> Result<()> {
        self.power(&args.dom, 0, false, "virDomainShutdown")
    }

    fn domain_shutdown_flags(&self, _: &ClientContext, args: DomainShutdownFlagsArgs) -> Result<()> {
        check_flags(args.flags, 3, "qemuDomainShutdownFlags")?;
        self.power(&args.dom, args.flags, false, "virDomainShutdownFlags")
    }

    fn domain_reboot(&self, _: &ClientContext, args: DomainRebootArgs) -> Result<()> {
        check_flags(args.flags, 3, "qemuDomainReboot")?;
        self.power(&args.dom, args.flags, true, "virDomainReboot")
    }

    fn domain_pm_wakeup(&self, _: &ClientContext, args: DomainPmWakeupArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainPMWakeup")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainPMWakeup")?;
        guest.execute("system_wakeup", Dict::default()).map(drop)
    }

    fn domain_reset(&self, _: &ClientContext, args: DomainResetArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainReset")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainReset")?;
        self.core.reset(&guest)
    }

    fn domain_define_xml(&self, _: &ClientContext, args: DomainDefineXmlArgs) -> Result<DomainDefineXmlRet> {
        Ok(DomainDefineXmlRet { dom: self.define(&args.xml)?.reference() })
    }

    fn domain_define_xml_flags(
        &self,
        _: &ClientContext,
        args: DomainDefineXmlFlagsArgs,
    ) -> Result<DomainDefineXmlFlagsRet> {
        const VALIDATE: u32 = 1;
        check_flags(args.flags, VALIDATE, "qemuDomainDefineXMLFlags")?;
        if args.flags & VALIDATE != 0 {
            crate::schema::validate(&args.xml, "domain", "domain.rng")?;
        }
        Ok(DomainDefineXmlFlagsRet { dom: self.define(&args.xml)?.reference() })
    }

    fn domain_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainGetXmlDescArgs,
    ) -> Result<DomainGetXmlDescRet> {
        use xml_flags::{INACTIVE, MIGRATABLE, SECURE, UPDATE_CPU};
        check_flags(args.flags, SECURE | INACTIVE | UPDATE_CPU | MIGRATABLE, "qemuDomainGetXMLDesc")?;
        let guest = self.guest(&args.dom)?;
        let migratable = args.flags & MIGRATABLE != 0;
        let form = Form {
            secure: migratable || args.flags & SECURE != 0,
            inactive: args.flags & INACTIVE != 0,
            migratable,
        };
        let definition = {
            let inner = guest.lock();
            let found = if form.inactive { inner.inactive() } else { inner.current() };
            let found = found.ok_or_else(|| internal("the domain has no definition"))?;
            let live = inner.live.as_ref().filter(|live| migratable && Arc::ptr_eq(&live.definition, &found));
            live.map_or(found, |live| Arc::new(live.portable()))
        };
        let definition = match args.flags & UPDATE_CPU {
            0 => definition,
            _ => Arc::new(self.core.with_host_cpu(&definition)?),
        };
        Ok(DomainGetXmlDescRet { xml: self.core.format(&definition, form) })
    }

    fn domain_get_autostart(
        &self,
        _: &ClientContext,
        args: DomainGetAutostartArgs,
    ) -> Result<DomainGetAutostartRet> {
        Ok(DomainGetAutostartRet { autostart: self.guest(&args.dom)?.lock().autostart.into() })
    }

    fn domain_set_autostart(&self, _: &ClientContext, args: DomainSetAutostartArgs) -> Result<()> {
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetAutostart")?;
        let wanted = args.autostart != 0;
        let name = {
            let inner = guest.lock();
            if !inner.is_persistent() {
                return Err(invalid("cannot set autostart for transient domain"));
            }
            if inner.autostart == wanted {
                return Ok(());
            }
            inner.name.clone()
        };
        let (link, target) = (self.core.paths.autostart_link(&name), self.core.paths.definition(&name));
        let shown = link.display();
        if wanted {
            let made = files::remove(&link).and_then(|()| std::os::unix::fs::symlink(&target, &link));
            made.map_err(|error| {
                system(&error, &format!("Failed to create symlink '{shown}' to '{}'", target.display()))
            })?;
        } else {
            files::remove(&link)
                .map_err(|error| system(&error, &format!("Failed to delete symlink '{shown}'")))?;
        }
        guest.lock().autostart = wanted;
        Ok(())
    }

    fn domain_get_os_type(&self, _: &ClientContext, args: DomainGetOsTypeArgs) -> Result<DomainGetOsTypeRet> {
        let guest = self.guest(&args.dom)?;
        let inner = guest.lock();
        let definition = inner.current();
        let kind = definition.as_ref().and_then(|definition| definition.os.kind.as_ref());
        Ok(DomainGetOsTypeRet { kind: kind.map_or_else(|| "hvm".to_owned(), |kind| kind.name.clone()) })
    }

    fn connect_list_defined_domains(
        &self,
        _: &ClientContext,
        args: ConnectListDefinedDomainsArgs,
    ) -> Result<ConnectListDefinedDomainsRet> {
        let names = self.listed(2).into_iter().map(|guest| guest.lock().name.clone());
        Ok(ConnectListDefinedDomainsRet {
            names: names.take(usize::try_from(args.maxnames).unwrap_or(0)).collect(),
        })
    }

    fn connect_num_of_defined_domains(&self, _: &ClientContext) -> Result<ConnectNumOfDefinedDomainsRet> {
        Ok(ConnectNumOfDefinedDomainsRet { num: self.listed(2).len() as i32 })
    }

    fn connect_list_domains(
        &self,
        _: &ClientContext,
        args: ConnectListDomainsArgs,
    ) -> Result<ConnectListDomainsRet> {
        let ids = self.listed(1).into_iter().map(|guest| guest.lock().id());
        Ok(ConnectListDomainsRet { ids: ids.take(usize::try_from(args.maxids).unwrap_or(0)).collect() })
    }

    fn connect_num_of_domains(&self, _: &ClientContext) -> Result<ConnectNumOfDomainsRet> {
        Ok(ConnectNumOfDomainsRet { num: self.listed(1).len() as i32 })
    }

    fn connect_list_all_domains(
        &self,
        _: &ClientContext,
        args: ConnectListAllDomainsArgs,
    ) -> Result<ConnectListAllDomainsRet> {
        check_flags(args.flags, LIST_FLAGS, "qemuConnectListAllDomains")?;
        let found = self.listed(args.flags);
        let ret = found.len() as u32;
        let domains = if args.need_results == 0 { Vec::new() } else { found };
        Ok(ConnectListAllDomainsRet { domains: domains.iter().map(|guest| guest.reference()).collect(), ret })
    }

    fn domain_lookup_by_id(
        &self,
        _: &ClientContext,
        args: DomainLookupByIdArgs,
    ) -> Result<DomainLookupByIdRet> {
        Ok(DomainLookupByIdRet { dom: self.core.table.by_id(args.id)?.reference() })
    }

    fn domain_lookup_by_name(
        &self,
        _: &ClientContext,
        args: DomainLookupByNameArgs,
    ) -> Result<DomainLookupByNameRet> {
        Ok(DomainLookupByNameRet { dom: self.core.table.by_name(&args.name)?.reference() })
    }

    fn domain_lookup_by_uuid(
        &self,
        _: &ClientContext,
        args: DomainLookupByUuidArgs,
    ) -> Result<DomainLookupByUuidRet> {
        Ok(DomainLookupByUuidRet { dom: self.core.table.by_uuid(&args.uuid)?.reference() })
    }

    fn domain_undefine(&self, _: &ClientContext, args: DomainUndefineArgs) -> Result<()> {
        self.undefine(&self.guest(&args.dom)?, 0)
    }

    fn domain_undefine_flags(&self, _: &ClientContext, args: DomainUndefineFlagsArgs) -> Result<()> {
        check_flags(args.flags, undefine::ALL, "qemuDomainUndefineFlags")?;
        let both = |one, other| args.flags & (one | other) == one | other;
        if both(undefine::NVRAM, undefine::KEEP_NVRAM) {
            return Err(invalid("cannot both keep and delete nvram"));
        }
        if both(undefine::TPM, undefine::KEEP_TPM) {
            return Err(invalid("cannot both keep and delete TPM"));
        }
        self.undefine(&self.guest(&args.dom)?, args.flags)
    }

    fn domain_is_active(&self, _: &ClientContext, args: DomainIsActiveArgs) -> Result<DomainIsActiveRet> {
        Ok(DomainIsActiveRet { active: self.guest(&args.dom)?.lock().is_active().into() })
    }

    fn domain_is_persistent(
        &self,
        _: &ClientContext,
        args: DomainIsPersistentArgs,
    ) -> Result<DomainIsPersistentRet> {
        Ok(DomainIsPersistentRet { persistent: self.guest(&args.dom)?.lock().is_persistent().into() })
    }

    fn domain_is_updated(&self, _: &ClientContext, args: DomainIsUpdatedArgs) -> Result<DomainIsUpdatedRet> {
        self.guest(&args.dom)?;
        // What may change beside the definition is written into it at once.
        Ok(DomainIsUpdatedRet { updated: 0 })
    }

    fn domain_rename(&self, _: &ClientContext, args: DomainRenameArgs) -> Result<DomainRenameRet> {
        check_flags(args.flags, 0, "qemuDomainRename")?;
        let new = args.new_name.unwrap_or_default();
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainRename")?;
        let (old, config) = {
            let inner = guest.lock();
            if inner.is_active() {
                return Err(invalid("cannot rename active domain"));
            }
            let Some(config) = inner.config() else {
                return Err(invalid("cannot rename a transient domain"));
            };
            if inner.autostart {
                return Err(invalid("cannot rename domain with autostart"));
            }
            (inner.name.clone(), config)
        };
        if new.is_empty() || new.contains(['/', '\n']) || new == "." || new == ".." {
            return Err(error(Code::XmlError, format!("name {new} cannot contain '/'")));
        }
        if new == old {
            return Err(failed("Can't rename domain to itself"));
        }
        if self.core.paths.managed_save(&old).exists() {
            return Err(invalid("domain with a managed saved state can't be renamed"));
        }
        self.core.table.rename(&guest, &old, &new)?;
        let mut definition = Definition::clone(&config);
        definition.name = Some(new.clone());
        if let Err(error) = self.core.save_definition(&definition) {
            let _ = self.core.table.rename(&guest, &new, &old);
            return Err(error);
        }
        // Until here the old file is what counts; a crash between leaves both, of which the second one is refused.
        let _ = files::remove(&self.core.paths.definition(&old));
        self.core.lifecycle(&guest, event::UNDEFINED, event::UNDEFINED_RENAMED);
        {
            let mut inner = guest.lock();
            inner.name = new;
            inner.set_config(Some(&definition));
        }
        self.core.lifecycle(&guest, event::DEFINED, event::DEFINED_RENAMED);
        Ok(DomainRenameRet { retcode: 0 })
    }

    fn domain_set_lifecycle_action(
        &self,
        _: &ClientContext,
        args: DomainSetLifecycleActionArgs,
    ) -> Result<()> {
        self.set_lifecycle_action(&args)
    }

    fn domain_set_metadata(&self, _: &ClientContext, args: DomainSetMetadataArgs) -> Result<()> {
        const DESCRIPTION: i32 = 0;
        const TITLE: i32 = 1;
        const ELEMENT: i32 = 2;
        check_flags(args.flags, affect::LIVE | affect::CONFIG, "qemuDomainSetMetadata")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainSetMetadata")?;
        let text = args.metadata.filter(|text| !text.is_empty());
        match args.kind {
            DESCRIPTION => self.change(&guest, args.flags, &mut |it| it.description.clone_from(&text))?,
            TITLE => {
                if text.as_ref().is_some_and(|title| title.contains('\n')) {
                    return Err(error(Code::InvalidArg, "metadata title can't contain newlines"));
                }
                self.change(&guest, args.flags, &mut |it| it.title.clone_from(&text))?;
            }
            ELEMENT => {
                let Some(uri) = args.uri.as_deref() else {
                    return Err(error(Code::InvalidArg, "uri in virDomainSetMetadata must not be NULL"));
                };
                let new = text.map(|text| own_element(&text, args.key.as_deref(), uri)).transpose()?;
                self.change(&guest, args.flags, &mut |it| {
                    let empty = || xml::Tree::Element("metadata".to_owned(), Vec::new(), Vec::new());
                    if new.is_some() || it.metadata.is_some() {
                        it.metadata.get_or_insert_with(empty).replace_namespace(uri, new.clone());
                    }
                })?;
            }
            _ => return Err(error(Code::InvalidArg, format!("unknown metadata type '{}'", args.kind))),
        }
        self.core.event(DomainEvent::MetadataChange(DomainEventCallbackMetadataChangeMsg {
            callback_id: 0,
            dom: guest.reference(),
            kind: args.kind,
            nsuri: args.uri,
        }));
        Ok(())
    }

    fn domain_get_metadata(
        &self,
        _: &ClientContext,
        args: DomainGetMetadataArgs,
    ) -> Result<DomainGetMetadataRet> {
        let guest = self.guest(&args.dom)?;
        let known = affect::LIVE | affect::CONFIG;
        Error::check_flags(Origin::Domain, args.flags, known, "virDomainObjGetMetadata")?;
        let inner = guest.lock();
        let (live, _) = self.targets(&inner, args.flags)?;
        let definition = if live { inner.current() } else { inner.inactive() };
        let definition = definition.ok_or_else(|| internal("the domain has no definition"))?;
        let found = match args.kind {
            0 => definition.description.clone(),
            1 => definition.title.clone(),
            2 => args.uri.as_deref().and_then(|uri| {
                let metadata = definition.metadata.as_ref()?;
                metadata.child_of_namespace(uri).map(|element| element.text())
            }),
            _ => return Err(error(Code::InvalidArg, "unknown metadata type")),
        };
        let metadata = found.ok_or_else(|| {
            rpc::Error::new(
                rpc::Origin::Domain,
                Code::NoDomainMetadata,
                "Requested metadata element is not present",
            )
        })?;
        Ok(DomainGetMetadataRet { metadata })
    }
}

/// A client's element, in its name space.
fn own_element(text: &str, key: Option<&str>, uri: &str) -> Result<xml::Tree> {
    let key = key.unwrap_or_default();
    let is_start = |c: char| c.is_alphabetic() || c == '_';
    if !key.starts_with(is_start) || !key.chars().all(|c| is_start(c) || c.is_numeric() || "-.".contains(c)) {
        return Err(internal("failed to validate prefix for a new XML namespace"));
    }
    let mut element = xml::Tree::parse(text, "(metadata_xml)").map_err(|error| crate::error::xml(&error))?;
    element.enter_namespace(key, uri);
    Ok(element)
}
