//! The start of a guest, in steps that are written down before they are taken:
//!
//! | written | then |
//! |---|---|
//! | nothing | directories, key; the next daemon removes what has no status file |
//! | `planned`, with the names of what will be made | ports of networks, sockets, security module, profile |
//! | `spawned`, with the process's number | the process becomes the emulator |
//! | `connected` | it is asked and set up |
//! | `ready` | it runs |
//!
//! Whoever finds a guest that is not `ready` ends it.

use crate::core::Core;
use crate::error::{Result, internal, invalid, monitor, system};
use crate::files;
use crate::guest::Guest;
use crate::process::command::{self, Plan};
use crate::process::log::{GuestLog, command_text};
use crate::process::network::{self, Owner};
use crate::process::status::Status;
use crate::process::{Live, Phase, Taint, lifecycle, reservations};
use crate::state::{Paused, Running, Shutoff, State};
use confinement::cgroup::Thread;
use confinement::dac::Journal;
use confinement::launch::{Child, Held, Launch};
use domain_xml::Domain as Definition;
use domain_xml::clock::EventAction;
use json::{Dict, Value, dict};
use qemu_caps::QemuCaps;
use qmp::{Monitor, Options};
use rpc::{Code, Error, Origin};
use security::Given;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a guest is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// It does not run yet.
    pub paused: bool,
    /// The client whose end is the guest's end.
    pub autodestroy: Option<u64>,
    /// The variables of its firmware begin anew.
    pub reset_nvram: bool,
    /// The host's memory keeps nothing of the saved state that it goes on from.
    pub bypass_cache: bool,
    /// It goes on from what this file holds.
    pub restore: Option<Arc<Restore>>,
    /// A script has changed its definition.
    pub changed_by_hook: bool,
}

/// A saved state that a guest goes on from.
#[derive(Debug)]
pub struct Restore {
    /// The file, at the place where the emulator's stream begins.
    pub stream: OwnedFd,
    /// Its path, if it is to be removed once the guest goes on.
    pub used_up: Option<PathBuf>,
}

/// What a start needs to know of the guest.
struct Starting<'a> {
    core: &'a Arc<Core>,
    guest: &'a Arc<Guest>,
    name: String,
    id: i32,
    directory: PathBuf,
    channels: PathBuf,
    caps: Arc<QemuCaps>,
    options: &'a StartOptions,
    /// What scripts were told of.
    told: RefCell<Option<Definition>>,
    /// They were told its end.
    told_end: Cell<bool>,
}

impl Core {
    /// Starts the guest as `definition` says. Its job is held by the caller.
    ///
    /// # Errors
    /// It runs already, or cannot be started; then nothing of the attempt is left.
    pub fn start(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        definition: Arc<Definition>,
        options: &StartOptions,
    ) -> Result<()> {
        let name = {
            let inner = guest.lock();
            if inner.is_active() {
                return Err(invalid("domain is already running"));
            }
            inner.name.clone()
        };
        let emulator = definition.devices.emulator.as_deref();
        let emulator = emulator.ok_or_else(|| internal("no emulator"))?;
        let caps = self.capabilities(Path::new(emulator))?;
        let id = self.next_id();
        let (directory, channels) = (self.paths.guest(id, &name), self.paths.channels(id, &name));
        let (told, told_end) = (RefCell::new(None), Cell::new(false));
        let starting =
            Starting { core: self, guest, name, id, directory, channels, caps, options, told, told_end };
        starting.run(&definition).inspect_err(|_| starting.undo())
    }
}

impl Starting<'_> {
    fn run(&self, definition: &Arc<Definition>) -> Result<()> {
        self.directories()?;
        let mut definition = Definition::clone(definition);
        definition.id = Some(self.id);
        super::missing::refuse(&definition)?;
        *self.told.borrow_mut() = Some(definition.clone());
        // Before anything of the host is looked at: it may make disks and bridges.
        self.core.hook(&definition, "prepare")?;
        let dropped = super::missing::drop_media(&mut definition, self.options.restore.is_some())?;
        let (restored, reset) = (self.options.restore.is_some(), self.options.reset_nvram);
        self.core.choose_firmware(&mut definition, restored, reset)?;
        let monitor_path = super::monitor_path(&self.directory);
        let mut plan = command::plan(
            self.core,
            &mut definition,
            &command::Context {
                caps: &self.caps,
                id: self.id,
                directory: &self.directory,
                channels: &self.channels,
                restore: self.options.restore.is_some(),
            },
            &|definition| self.intend(definition),
        )?;
        let ports = std::mem::take(&mut plan.ports);
        let launched = self.check_files(&plan).and_then(|()| {
            self.core.prepare_variables(&definition, reset)?;
            self.core.security.load_profile(&definition).map_err(|error| launch_error(&error))?;
            self.core.start_tpm(&definition, self.id, &self.directory)?;
            self.core.start_file_servers(&definition, &self.directory)?;
            let log = self.log(&plan)?;
            self.core.hook(&definition, "start")?;
            let held = self.launch(plan, &definition, &log)?;
            Ok((held, log))
        });
        let (mut held, log) = launched.inspect_err(|_| {
            self.tell_end();
            self.core.take_back(&definition, Given::Nothing, Shutoff::Failed);
            network::release(self.core, Owner::of(&definition), &definition.devices.interface);
            self.core.stop_helpers(&definition, self.id, &self.directory);
            ports.iter().for_each(|port| self.core.ports.release(*port));
        })?;
        self.adopt(&held, definition, ports)?;
        super::missing::tell(self.core, self.guest, dropped);
        // From here on it leaves behind who this process is as well.
        self.core.write_status(self.guest).map_err(|error| status_error(&error))?;
        held.wait_ready().map_err(|error| launch_error(&error))?;
        self.confine(held.pid())?;
        self.count(held.pid())?;
        held.release().map_err(|error| launch_error(&error))?;
        self.connect(&monitor_path, &log)?;
        self.set_up().map_err(|error| self.with_words(error, &log))?;
        self.finish()?;
        let definition = self.with_live(|live| live.definition.clone())?;
        self.core.hook(&definition, "started")
    }

    /// From here on a daemon that is killed leaves behind what has to be given back.
    fn intend(&self, definition: &Definition) -> Result<()> {
        let status = Status::planned(definition, &self.directory, &self.channels);
        let status = status.ok_or_else(|| internal("no uuid"))?;
        {
            let _turn = self.guest.status_turn.lock();
            self.core.put_status(&self.name, &status).map_err(|error| status_error(&error))?;
        }
        *self.told.borrow_mut() = Some(definition.clone());
        Ok(())
    }

    fn directories(&self) -> Result<()> {
        for path in [&self.directory, &self.channels] {
            // A number is used once; what is there is left from an earlier boot.
            if path.exists() {
                let _ = std::fs::remove_dir_all(path);
            }
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(path)
                .map_err(|error| system(&error, &format!("Cannot create directory '{}'", path.display())))?;
            self.give(path)?;
        }
        let path = self.directory.join(super::secret::KEY_FILE);
        let key: [u8; 32] = files::random().map_err(|error| system(&error, "no random numbers"))?;
        let write = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            std::io::Write::write_all(&mut file, &key)
        };
        write().map_err(|error| system(&error, "failed to write master key file"))?;
        self.give(&path)
    }

    /// The emulator's user owns what was just made; never what that user has put in its place.
    fn give(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.core.config.owner else { return Ok(()) };
        lchown(path, Some(user), Some(group))
            .map_err(|error| system(&error, &format!("unable to set user and group on '{}'", path.display())))
    }

    fn check_files(&self, plan: &Plan) -> Result<()> {
        let owner = self.core.config.owner;
        let (user, group) = owner
            .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        for path in &plan.files {
            std::fs::metadata(path).map_err(|error| {
                let text = format!("Cannot access storage file '{path}' (as uid:{user}, gid:{group})");
                Error::system(Origin::Storage, &error, &text)
            })?;
        }
        Ok(())
    }

    fn log(&self, plan: &Plan) -> Result<GuestLog> {
        let version = self.caps.version;
        let number = format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000);
        let qemu = format!("{number}{}", self.caps.package);
        let command = command_text(&environment(plan), &plan.binary, &plan.arguments);
        GuestLog::begin(self.core, &self.name, &qemu, &command).map_err(|error| {
            let path = self.core.paths.log_file(&self.name);
            system(&error, &format!("Failed to open file '{}'", path.display()))
        })
    }

    fn launch(&self, plan: Plan, definition: &Definition, log: &GuestLog) -> Result<Held> {
        let output = log.output().map_err(|error| system(&error, "cannot duplicate the log"))?;
        let environment = environment(&plan);
        let launch = Launch::new(&plan.binary).arguments(plan.arguments).output(output);
        let mut launch =
            self.core.security.launch(definition, launch).map_err(|error| launch_error(&error))?;
        for (name, value) in environment {
            launch = launch.environment(&name, &value);
        }
        for (descriptor, number) in plan.passed {
            launch = launch.pass(descriptor, number);
        }
        let pid_file = self.core.paths.pid_file(&self.name);
        let _ = files::remove(&pid_file);
        launch
            .pid_file(&pid_file.to_string_lossy())
            .start(&self.core.launcher)
            .map_err(|error| launch_error(&error))
    }

    /// The process is this guest's from now on.
    fn adopt(&self, held: &Held, definition: Definition, ports: Vec<u16>) -> Result<()> {
        let child = Child::of_pid(held.pid()).map_err(|error| launch_error(&error))?;
        let mut taints = Vec::new();
        if self.core.config.owner.is_none_or(|(user, _)| user == 0) && self.core.paths.privileged {
            taints.push(Taint::HighPrivileges);
        }
        if definition.commandline.is_some() {
            taints.push(Taint::CustomArgv);
        }
        if self.options.changed_by_hook {
            taints.push(Taint::Hook);
        }
        for taint in &taints {
            self.core.log_taint(&self.name, self.id, *taint);
        }
        let live = Live {
            id: self.id,
            pid: held.pid(),
            child: Arc::new(child),
            confined: None,
            phase: Phase::Spawned,
            definition: Arc::new(definition),
            monitor: None,
            vcpus: Vec::new(),
            devices: Vec::new(),
            kept: super::status::known_at_start(&self.caps),
            owners_noted: true,
            directory: self.directory.clone(),
            channels: self.channels.clone(),
            caps: self.caps.clone(),
            taints,
            shutdown_seen: false,
            fake_reboot: false,
            ending: false,
            destroyed: false,
            begun: None,
            kept_device: None,
            saving: None,
            work: None,
            restored_from: self.options.restore.as_ref().and_then(|restore| restore.used_up.clone()),
            paused_because: None,
            running_because: None,
            indexed_thresholds: Vec::new(),
            dump_failure: None,
            autodestroy: self.options.autodestroy,
            counters: Vec::new(),
            ports,
        };
        {
            let mut inner = self.guest.lock();
            inner.live = Some(Box::new(live));
            inner.state = Paused::StartingUp.into();
        }
        self.core.table.set_id(self.guest, self.id);
        self.core.inhibitor.guest_started();
        Ok(())
    }

    /// The process waits to become the emulator: what it may use is set up.
    fn confine(&self, pid: i32) -> Result<()> {
        let definition = self.with_live(|live| live.definition.clone())?;
        let interfaces = definition.devices.interface.iter().filter(|it| network::has_tap(it));
        let names = interfaces.filter_map(|it| it.target.as_ref()?.dev.as_deref());
        let indices = names.filter_map(|name| hostio::netdev::index(name)?.try_into().ok());
        let indices: Vec<i32> = indices.collect();
        let confined =
            self.core.security.confine(&definition, pid, &indices, Some(Journal::of(&self.directory)));
        let confined = Arc::new(confined.map_err(|error| launch_error(&error))?);
        self.with_live(|live| live.confined = Some(confined.clone()))?;
        self.core.adopt_helpers(self.guest, self.id)?;
        if reservations::is_wanted(&definition) {
            self.core.start_reservations(&definition, &self.directory, Some(&confined))?;
        }
        Ok(())
    }

    /// The events of the process and of its threads to come are counted.
    fn count(&self, pid: i32) -> Result<()> {
        let counters = super::counters::begin(&*self.with_live(|live| live.definition.clone())?, pid)?;
        self.with_live(|live| live.counters = counters)
    }

    /// The emulator's threads go where the definition wants them.
    fn place_threads(&self, qemu: &Monitor) -> Result<()> {
        let (confined, definition, vcpus) =
            self.with_live(|live| (live.confined.clone(), live.definition.clone(), live.vcpus.clone()))?;
        let Some(confined) = confined else { return Ok(()) };
        let mut threads: Vec<(Thread, i32)> =
            vcpus.into_iter().map(|(number, thread)| (Thread::Vcpu(number), thread)).collect();
        if definition.iothreads.is_some() || definition.iothreadids.is_some() {
            let reply = qemu
                .execute("query-iothreads", Dict::default())
                .map_err(|error| monitor(error, "query-iothreads"))?;
            threads.extend(reply.as_list().unwrap_or_default().iter().filter_map(|item| {
                let number = item.get("id")?.as_str()?.strip_prefix("iothread")?.parse().ok()?;
                Some((Thread::IoThread(number), item.get("thread-id")?.as_i64()?.try_into().ok()?))
            }));
        }
        threads
            .into_iter()
            .try_for_each(|(thread, id)| confined.place(&definition, thread, id))
            .and_then(|()| confined.set_emulator_scheduler(&definition))
            .map_err(|error| launch_error(&error))
    }

    fn connect(&self, path: &Path, log: &GuestLog) -> Result<()> {
        let (core, guest, id) = (Arc::downgrade(self.core), Arc::downgrade(self.guest), self.id);
        let notify = move |notice| {
            if let (Some(core), Some(guest)) = (core.upgrade(), guest.upgrade()) {
                core.notice(&guest, id, notice);
            }
        };
        let connected = Monitor::connect(path, Options::default(), notify);
        let connected = connected.map_err(|error| match error {
            qmp::Error::Closed | qmp::Error::Connect(_) => {
                let words = log.words();
                if words.is_empty() {
                    let name = &self.name;
                    internal(format!("QEMU unexpectedly closed the monitor (vm='{name}')"))
                } else {
                    internal(format!("process exited while connecting to monitor: {words}"))
                }
            }
            other => monitor(other, "qmp_capabilities"),
        })?;
        self.with_live(|live| {
            live.monitor = Some(Arc::new(connected));
            live.phase = Phase::Connected;
        })?;
        self.core.save_status(self.guest);
        Ok(())
    }

    /// The guest's emulator may have ended meanwhile.
    fn with_live<T>(&self, act: impl FnOnce(&mut Live) -> T) -> Result<T> {
        let mut inner = self.guest.lock();
        match &mut inner.live {
            Some(live) if live.id == self.id => Ok(act(live)),
            _ => Err(internal("guest unexpectedly quit")),
        }
    }

    fn monitor(&self) -> Result<Arc<Monitor>> {
        self.with_live(|live| live.monitor.clone())?.ok_or_else(|| internal("guest unexpectedly quit"))
    }

    /// Asks what is known only now, and sets what the command line cannot say.
    fn set_up(&self) -> Result<()> {
        let qemu = self.monitor()?;
        let ask =
            |command: &str| qemu.execute(command, Dict::default()).map_err(|error| monitor(error, command));
        if let Ok(capabilities) = qemu.execute("query-migrate-capabilities", Dict::default()) {
            let named = |item: &Value| item.get("capability").and_then(Value::as_str) == Some("events");
            if capabilities.as_list().is_some_and(|list| list.iter().any(named)) {
                let wanted = vec![dict! { "capability" => "events", "state" => true }];
                qemu.execute("migrate-set-capabilities", dict! { "capabilities" => wanted })
                    .map_err(|error| monitor(error, "migrate-set-capabilities"))?;
            }
        }
        let chardevs = ask("query-chardev")?;
        super::vcpus::plug_at_start(&qemu, &*self.with_live(|live| live.definition.clone())?)?;
        let cpus = ask("query-cpus-fast")?;
        let mut definition = Definition::clone(&*self.with_live(|live| live.definition.clone())?);
        crate::process::chardev::note_paths(&mut definition, &chardevs);
        crate::process::chardev::note_states(&mut definition, &chardevs);
        let asked_for = definition.cpu.clone();
        crate::process::cpu::note_features(&mut definition, &qemu, &cpus);
        let devices = super::hotplug::plugged(self.guest)?;
        let (balloon, agent) = self.with_live(|live| {
            live.vcpus = threads(&cpus);
            live.devices = devices;
            if let Some(cpu) = asked_for.filter(|cpu| definition.cpu.as_ref() != Some(cpu)) {
                live.kept.push(("cpu".to_owned(), xml::Any::like(&cpu)));
            }
            live.definition = Arc::new(definition);
            let definition = &live.definition;
            (crate::definition::balloon_target(definition), crate::definition::agent_state(definition))
        })?;
        if let Some(open) = agent {
            self.core.agent_channel(self.guest, open, super::events::AGENT_STARTED);
        }
        if self.with_live(|live| live.definition.vcpus.is_some())? {
            self.core.refresh_vcpus(self.guest, self.id)?;
        }
        if let Some(kib) = balloon.filter(|_| self.options.restore.is_none()) {
            qemu.execute("balloon", dict! { "value" => kib * 1024 })
                .map_err(|error| monitor(error, "balloon"))?;
        }
        if balloon.is_some() {
            let actual = ask("query-balloon")?;
            self.with_live(|live| live.change(|it| crate::definition::note_balloon(it, &actual)))?;
        }
        for alias in self.with_live(|live| crate::definition::links_down(&live.definition))? {
            qemu.execute("set_link", dict! { "name" => alias, "up" => false })
                .map_err(|error| monitor(error, "set_link"))?;
        }
        self.place_threads(&qemu)?;
        let definition = self.with_live(|live| live.definition.clone())?;
        crate::api::io_tune::limit_disks(self.guest, &definition.devices.disk)?;
        let destroyed = self.with_live(|live| live.definition.on_reboot == Some(EventAction::Destroy))?;
        if destroyed && self.caps.has("set-action") {
            qemu.execute("set-action", dict! { "reboot" => "shutdown" })
                .map_err(|error| monitor(error, "set-action"))?;
        }
        self.set_passwords(&qemu)
    }

    fn set_passwords(&self, qemu: &Monitor) -> Result<()> {
        let passwords = self.with_live(|live| crate::definition::passwords(&live.definition))?;
        for (protocol, password) in passwords {
            let arguments = dict! { "protocol" => protocol, "password" => password };
            qemu.execute("set_password", arguments).map_err(|error| monitor(error, "set_password"))?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        /// Details of the events: the guest goes on from a saved state.
        const STARTED_RESTORED: i32 = 2;
        const SUSPENDED_RESTORED: i32 = 4;
        let qemu = self.monitor()?;
        let restored = self.options.restore.is_some();
        if let Some(restore) = &self.options.restore {
            let fds = [restore.stream.as_fd()];
            qemu.execute_with_fds("getfd", dict! { "fdname" => "restore" }, &fds)
                .map_err(|error| monitor(error, "getfd"))?;
            qemu.execute("migrate-incoming", dict! { "uri" => "fd:restore" })
                .map_err(|error| monitor(error, "migrate-incoming"))?;
            super::save::await_migration(&qemu, "domain restore job")?;
            self.core.refresh_drives(self.guest, self.id)?;
        }
        self.with_live(|live| live.phase = Phase::Ready)?;
        if restored {
            // The guest is what the file was from now on: whoever comes after us keeps the one and removes the other.
            self.core.write_status(self.guest).map_err(|error| status_error(&error))?;
            self.core.forget_save(self.guest, self.id);
        }
        if self.options.paused {
            self.guest.lock().state = State::from(if restored { Paused::Migration } else { Paused::User });
            self.core.save_status(self.guest);
            self.core.lifecycle(self.guest, lifecycle::STARTED, if restored { STARTED_RESTORED } else { 0 });
            self.core.lifecycle(
                self.guest,
                lifecycle::SUSPENDED,
                if restored { SUSPENDED_RESTORED } else { 0 },
            );
            return Ok(());
        }
        if restored {
            self.core.lifecycle(self.guest, lifecycle::STARTED, STARTED_RESTORED);
        }
        let definition = self.with_live(|live| live.definition.clone())?;
        network::set_online(&definition.devices.interface, true)?;
        qemu.execute("cont", Dict::default()).map_err(|error| monitor(error, "cont"))?;
        let reason = if restored { Running::Restored } else { Running::Booted };
        self.core.set_running(self.guest, self.id, reason);
        if !restored {
            self.core.lifecycle(self.guest, lifecycle::STARTED, 0);
        }
        Ok(())
    }

    fn with_words(&self, error: Error, log: &GuestLog) -> Error {
        let words = log.words();
        let gone =
            error.message.as_deref().is_some_and(|text| text.contains("End of file from qemu monitor"));
        if gone && !words.is_empty() {
            return internal(format!("qemu unexpectedly closed the monitor: {words}"));
        }
        error
    }

    /// Nothing of the attempt is left.
    fn undo(&self) {
        let adopted = self.guest.lock().id() == self.id;
        if adopted {
            self.core.end_process(self.guest, self.id);
            self.core.clean_up(self.guest, self.id, Shutoff::Failed, None);
        } else {
            self.tell_end();
            let _ = std::fs::remove_dir_all(&self.directory);
            let _ = std::fs::remove_dir_all(&self.channels);
            let _ = files::remove(&self.core.paths.pid_file(&self.name));
            {
                let _turn = self.guest.status_turn.lock();
                let _ = files::remove(&self.core.paths.status(&self.name));
            }
            if let Some(definition) = &*self.told.borrow() {
                self.core.hook_ended(definition, "release");
            }
            self.guest.lock().state = Shutoff::Failed.into();
        }
    }

    /// Scripts that were told that the guest is prepared are told that it has stopped: once.
    fn tell_end(&self) {
        if let Some(definition) = self.told.borrow().as_ref().filter(|_| !self.told_end.replace(true)) {
            self.core.hook_ended(definition, "stopped");
        }
    }
}

/// The emulator's environment.
pub(crate) fn environment(plan: &Plan) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let mut all = vec![("LC_ALL".to_owned(), "C".to_owned()), ("PATH".to_owned(), path)];
    all.extend(plan.environment.iter().cloned());
    all
}

/// The threads of the vCPUs.
pub(super) fn threads(reply: &Value) -> Vec<(u32, i32)> {
    let row = |item: &Value| {
        let number = |key| item.get(key).and_then(Value::as_i64);
        Some((number("cpu-index")?.try_into().ok()?, number("thread-id")?.try_into().ok()?))
    };
    reply.as_list().unwrap_or_default().iter().filter_map(row).collect()
}

/// What a client is told when a guest's status file cannot be written.
pub(super) fn status_error(error: &std::io::Error) -> Error {
    system(error, "Unable to write the status file")
}

pub(crate) fn launch_error(error: &confinement::Error) -> Error {
    let code = Code::from_number(error.code.number()).unwrap_or(Code::InternalError);
    let mut told = crate::error::error(code, error.message.clone());
    // The text is whole already.
    told.message = Some(error.message.clone());
    told
}
