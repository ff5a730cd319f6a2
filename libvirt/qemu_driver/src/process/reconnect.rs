//! Guests that ran before this daemon did.

use crate::core::{Core, Level};
use crate::guest::Guest;
use crate::hooks::About;
use crate::process::network::Owner;
use crate::process::start::StartOptions;
use crate::process::status::Status;
use crate::process::{Image, Live, Phase};
use crate::state::{Paused, Running, Shutoff, State};
use confinement::launch::{Child, holder};
use domain_xml::Domain as Definition;
use json::Dict;
use qemu_caps::QemuCaps;
use qmp::{Monitor, Notice, Options};
use security::Given;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a guest may take to answer a daemon that comes back before that is noted, and tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an emulator may take to give up saving.
const LETTING_GO: Duration = Duration::from_secs(30);

impl Core {
    /// Finds the guests that status files tell of. Each is taken up again on a thread of its own; its job is held
    /// until that is done, so that whoever wants to change it waits.
    pub fn reconnect_all(self: &Arc<Self>) {
        let mut threads = Vec::new();
        qemu_caps::end_left_over(&self.paths.lib);
        let (statuses, complete) = self.read_statuses();
        if complete {
            self.sweep(&statuses);
        }
        for status in statuses {
            self.note_id(status.id);
            let name = status.definition.name().to_owned();
            let Some((guest, child)) = self.take_up(status) else { continue };
            let core = self.clone();
            let (sender, taken) = std::sync::mpsc::sync_channel(0);
            let thread = std::thread::Builder::new().name("reconnect".to_owned()).spawn(move || {
                let _job = guest.jobs.begin_surely("reconnect");
                // The job is held before anybody else can ask for it.
                let _ = sender.send(());
                core.reconnect(&guest, &child);
            });
            match thread {
                Ok(thread) => {
                    let _ = taken.recv();
                    threads.push(thread);
                }
                Err(error) => self.log(Level::Error, &format!("cannot reconnect to '{name}': {error}")),
            }
        }
    }

    /// Removes what a daemon has left that was killed before it wrote a guest's status file, or a file at all.
    fn sweep(&self, statuses: &[Status]) {
        let names = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let paths = &self.paths;
        let of_guests = [paths.lib.clone(), paths.data.join("channel/target")];
        for path in of_guests.iter().flat_map(|directory| names(directory)) {
            let used = statuses.iter().any(|status| status.directory == path || status.channels == path);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix("domain-").and_then(|rest| rest.split('-').next());
            if !used && number.is_some_and(|number| number.parse::<i32>().is_ok_and(|number| number > 0)) {
                let _ = match path.is_dir() {
                    true => std::fs::remove_dir_all(&path),
                    false => crate::files::remove(&path),
                };
            }
        }
        let written = [paths.config.clone(), paths.autostart(), paths.state.clone()];
        for path in written.iter().flat_map(|directory| names(directory)) {
            if crate::files::is_unfinished(&path) {
                let _ = crate::files::remove(&path);
            }
        }
        for path in names(&paths.state) {
            let of_nobody = path.extension().is_some_and(|end| end == "pid")
                && path != paths.driver_lock()
                && statuses.iter().all(|status| path != paths.pid_file(status.definition.name()));
            if of_nobody {
                let _ = crate::files::remove(&path);
            }
        }
    }

    /// Makes the guest of a status file active; none if its process has ended, of which everything is removed then.
    fn take_up(self: &Arc<Self>, status: Status) -> Option<(Arc<Guest>, Arc<Child>)> {
        let name = status.definition.name().to_owned();
        let emulator = status.definition.devices.emulator.clone();
        let emulator = emulator.unwrap_or_default();
        // Whoever has the lock was started as this guest's; a program that became another one has it still.
        let pid_file = self.paths.pid_file(&name);
        let locks = || holder(&pid_file).is_some_and(|holder| holder.pid() == status.pid);
        let is_its = |_: &Child| locks() || is_its_process(&status, &emulator);
        let Some(child) = Child::of_pid(status.pid).ok().filter(is_its) else {
            self.bury_beside(name, status);
            return None;
        };
        let make = || Guest::new(status.uuid, name.clone());
        let guest = match self.table.get_or_insert(status.uuid, &name, make) {
            Ok((guest, _)) => guest,
            Err(error) => {
                self.log(Level::Error, &format!("status of '{name}': {error}"));
                return None;
            }
        };
        let caps = self.capabilities_at_start(Path::new(&emulator), &status);
        let (starting, saving) = (status.is_starting(), status.saving());
        guest.agent_timeout.store(status.agent_timeout, Ordering::Relaxed);
        let ports = crate::definition::display_ports(&status.definition);
        ports.iter().for_each(|port| self.ports.note(*port));
        let definition = &status.definition;
        super::network::take_up(self, Owner::of(definition), &definition.devices.interface);
        let (id, child) = (status.id, Arc::new(child));
        let journal = status.journal();
        // Without a journal nobody knows whether one that is still starting was given its files.
        let known = !starting || journal.is_some();
        let confined = known.then(|| Arc::new(self.security.find(&status.definition, status.pid, journal)));
        let mut definition = status.definition;
        let counters = super::counters::resume(Arc::make_mut(&mut definition), status.pid);
        let live = Live {
            id,
            pid: status.pid,
            child: child.clone(),
            confined,
            phase: if starting { Phase::Spawned } else { Phase::Ready },
            definition,
            monitor: None,
            vcpus: status.vcpus,
            devices: status.devices,
            owners_noted: status.owners_noted,
            kept: status.kept,
            directory: status.directory,
            channels: status.channels,
            caps,
            taints: status.taints,
            shutdown_seen: matches!(status.state, State::Shutdown(_)),
            fake_reboot: status.fake_reboot,
            ending: false,
            destroyed: false,
            begun: status.begun,
            kept_device: None,
            saving,
            work: None,
            restored_from: status.restored_from,
            paused_because: None,
            running_because: None,
            indexed_thresholds: Vec::new(),
            dump_failure: None,
            autodestroy: None,
            counters,
            ports,
        };
        {
            let mut inner = guest.lock();
            inner.state = status.state;
            inner.live = Some(Box::new(live));
        }
        self.table.set_id(&guest, id);
        self.inhibitor.guest_started();
        Some((guest, child))
    }

    /// What the emulator could do when it was started: that on the disk may be another one by now, or gone.
    fn capabilities_at_start(&self, emulator: &Path, status: &Status) -> Arc<QemuCaps> {
        let now = self.capabilities(emulator).unwrap_or_default();
        let flags = status.capability_flags();
        if flags.is_empty() || now.lasting_flags().eq(flags.iter().map(String::as_str)) {
            return now;
        }
        let mut then = QemuCaps::clone(&now);
        then.flags = flags.into_iter().collect();
        Arc::new(then)
    }

    /// As [`Self::bury`]; nobody else waits for scripts that are told of it.
    fn bury_beside(self: &Arc<Self>, name: String, status: Status) {
        let defined = self.table.find(&status.uuid).filter(|_| self.hooks.present(About::Qemu));
        let Some(guest) = defined else { return self.bury(&name, &status) };
        let (core, (sender, taken)) = (self.clone(), std::sync::mpsc::sync_channel(0));
        let thread = std::thread::Builder::new().name("bury".to_owned()).spawn(move || {
            let _job = guest.jobs.begin_surely("reconnect");
            let _ = sender.send(());
            core.bury(&name, &status);
        });
        match thread {
            Ok(_) => drop(taken.recv()),
            Err(error) => self.log(Level::Error, &format!("cannot clean up after a guest: {error}")),
        }
    }

    /// Removes what a run left whose process ended while nobody looked.
    fn bury(&self, name: &str, status: &Status) {
        let reason = match status.state {
            State::Shutdown(_) => Shutoff::Shutdown,
            _ if status.is_starting() => Shutoff::Failed,
            _ if status.saving().as_deref().is_some_and(is_saved) => Shutoff::Saved,
            _ => Shutoff::Crashed,
        };
        let definition = &status.definition;
        self.hook_ended(definition, "stopped");
        super::network::release(self, Owner::of(definition), &definition.devices.interface);
        self.stop_helpers(definition, status.id, &status.directory);
        let journal = status.journal();
        let given = match &journal {
            None if status.is_starting() => Given::Nothing,
            journal => Given::Before(journal.as_ref()),
        };
        self.take_back(&status.definition, given, reason);
        self.guest_log(name, &format!("shutting down, reason={}", reason.log_word()));
        let _ = std::fs::remove_dir_all(&status.directory);
        let _ = std::fs::remove_dir_all(&status.channels);
        let _ = crate::files::remove(&self.paths.pid_file(name));
        if let Some(path) = status.saving().filter(|path| Image::is_partial(path)) {
            let _ = crate::files::remove(&path);
        }
        let _ = crate::files::remove(&self.paths.status(name));
        self.hook_ended(&status.definition, "release");
        if let Some(guest) = self.table.find(&status.uuid) {
            guest.lock().state = reason.into();
        }
    }

    fn reconnect(self: &Arc<Self>, guest: &Arc<Guest>, child: &Child) {
        let Some((id, starting, shut, path)) = ({
            let mut inner = guest.lock();
            let shut = matches!(inner.state, State::Shutdown(_));
            inner.live.as_mut().map(|live| (live.id, live.phase < Phase::Ready, shut, live.monitor_path()))
        }) else {
            return;
        };
        let name = guest.lock().name.clone();
        let saving = guest.with_live(id, |live| live.saving.clone()).flatten();
        if saving.as_deref().is_some_and(is_saved) {
            // Going on would make the saved state one of the past, which its disks no longer fit.
            self.end_process(guest, id);
            self.clean_up(guest, id, Shutoff::Saved, Some(Shutoff::Saved.stopped_detail()));
            return;
        }
        if starting || shut {
            // A start that nobody waits for any more; or an end that was not completed.
            self.end_process(guest, id);
            let reason = if shut { Shutoff::Shutdown } else { Shutoff::Failed };
            self.clean_up(guest, id, reason, Some(reason.stopped_detail()));
            return;
        }
        let taken = loop {
            match self.connect_again(guest, id, &path) {
                // It hangs. That is no reason to end it, however long it takes: whoever wants that destroys it.
                Err(qmp::Error::Deadline(_)) if !child.wait(Duration::ZERO).unwrap_or(false) => {
                    if self.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    self.log(Level::Warning, &format!("'{name}' does not answer on its monitor"));
                }
                other => break other,
            }
        };
        if let Err(error) = taken {
            self.log(Level::Error, &format!("cannot reconnect to '{name}': {error}"));
            let gone = child.wait(Duration::ZERO).unwrap_or(false);
            let destroyed = guest.with_live(id, |live| live.ending) == Some(true);
            self.end_process(guest, id);
            let reason = match (destroyed, gone) {
                (true, _) => Shutoff::Destroyed,
                (false, true) => Shutoff::Crashed,
                (false, false) => Shutoff::Daemon,
            };
            self.clean_up(guest, id, reason, Some(reason.stopped_detail()));
            return;
        }
        self.forget_save(guest, id);
        if let Err(error) = self.catch_up(guest, id) {
            self.log(Level::Error, &format!("cannot reconnect to '{name}': {error}"));
            self.end_process(guest, id);
            self.clean_up(guest, id, Shutoff::Daemon, Some(Shutoff::Daemon.stopped_detail()));
            return;
        }
        self.save_status(guest);
        let definition = guest.with_live(id, |live| live.definition.clone());
        if let Some(Err(error)) = definition.map(|definition| self.hook(&definition, "reconnect")) {
            self.log(Level::Error, &format!("cannot reconnect to '{name}': {error}"));
            self.end_process(guest, id);
            self.clean_up(guest, id, Shutoff::Daemon, Some(Shutoff::Daemon.stopped_detail()));
        }
    }

    /// Connects to the guest's emulator.
    fn connect_again(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        id: i32,
        path: &Path,
    ) -> std::result::Result<(), qmp::Error> {
        let (core, weak) = (Arc::downgrade(self), Arc::downgrade(guest));
        let accepted = Arc::new(AtomicBool::new(false));
        let is_accepted = accepted.clone();
        let notify = move |notice| {
            // The end of an attempt is not the end of the guest.
            let of_attempt = matches!(notice, Notice::Closed(_)) && !is_accepted.load(Ordering::SeqCst);
            if let (Some(core), Some(guest), false) = (core.upgrade(), weak.upgrade(), of_attempt) {
                core.notice(&guest, id, notice);
            }
        };
        let options = Options { connect: PATIENCE, ..Options::default() };
        let monitor = Monitor::connect(path, options, notify)?;
        accepted.store(true, Ordering::SeqCst);
        guest.with_live(id, |live| live.monitor = Some(Arc::new(monitor)));
        Ok(())
    }

    /// What may have changed meanwhile.
    fn catch_up(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) -> crate::error::Result<()> {
        if let Some(path) = guest.with_live(id, |live| live.saving.clone()).flatten() {
            self.give_up_saving(guest, id, &path)?;
        }
        self.refresh_state(guest, id);
        if matches!(guest.lock().state, State::Paused(Paused::Dump)) {
            // Nobody waits for the dump any more.
            guest.execute("cont", Dict::default())?;
            self.set_running(guest, id, Running::SaveCanceled);
        }
        let devices = super::hotplug::plugged(guest)?;
        let known = guest.with_live(id, |live| live.devices.clone()).unwrap_or_default();
        for alias in known.iter().filter(|alias| !devices.contains(alias)) {
            self.device_deleted(guest, id, alias);
        }
        if guest.with_live(id, |live| live.owners_noted) == Some(true) {
            self.settle(guest, id, &known)?;
        }
        let devices = super::hotplug::plugged(guest)?;
        guest.with_live(id, |live| live.devices = devices);
        let vcpus = super::start::threads(&guest.execute("query-cpus-fast", Dict::default())?);
        let chardevs = guest.execute("query-chardev", Dict::default())?;
        guest.with_live(id, |live| {
            live.vcpus = vcpus;
            live.change(|it| {
                super::chardev::note_paths(it, &chardevs);
                super::chardev::note_states(it, &chardevs);
            });
        });
        self.refresh_balloon(guest, id);
        self.refresh_reservations(guest, id)
    }

    /// The state that was being saved is not wanted any more: the guest goes on, if it was stopped for that.
    fn give_up_saving(&self, guest: &Arc<Guest>, id: i32, path: &Path) -> crate::error::Result<()> {
        guest.execute("migrate_cancel", Dict::default())?;
        let for_that = matches!(guest.lock().state, State::Paused(Paused::Save));
        let begin = std::time::Instant::now();
        while for_that && begin.elapsed() < LETTING_GO {
            // The emulator takes a moment to let go.
            if guest.execute("cont", Dict::default()).is_ok() {
                self.set_running(guest, id, Running::SaveCanceled);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        guest.with_live(id, |live| live.saving = None);
        // Only what says of itself that it is not complete.
        if Image::is_partial(path) {
            let _ = crate::files::remove(path);
        }
        Ok(())
    }

    /// Starts the domains that start with the host, once a boot of the host.
    pub fn autostart_all(self: &Arc<Self>) {
        let mark = self.paths.autostarted();
        if mark.exists() {
            return;
        }
        if let Err(error) = crate::files::replace(&mark, b"") {
            // Without the mark they would be started again and again.
            self.log(
                Level::Error,
                &format!("Failed to create autostarted file '{}': {error}", mark.display()),
            );
            return;
        }
        for guest in self.table.all() {
            let wanted = {
                let inner = guest.lock();
                inner.autostart && !inner.is_active()
            };
            if !wanted {
                continue;
            }
            let core = self.clone();
            std::thread::spawn(move || {
                let _job = guest.jobs.begin_surely("autostart");
                let Some(definition) = guest.lock().config() else { return };
                if let Err(error) = core.start(&guest, definition, &StartOptions::default()) {
                    let name = guest.lock().name.clone();
                    core.log(Level::Error, &format!("Failed to autostart VM '{name}': {error}"));
                }
            });
        }
    }
}

/// Whether a complete state is there.
fn is_saved(path: &Path) -> bool {
    Image::open(path, false).is_ok()
}

/// Whether the process with the number of the status file is the one that it means: the number may be another's now.
fn is_its_process(status: &Status, emulator: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{}/cmdline", status.pid)) else { return false };
    let mut words = line.split(|byte| *byte == 0);
    let binary = words.next().unwrap_or_default();
    if status.is_starting() && binary != emulator.as_bytes() {
        // Not the emulator yet: our own program, which prepares the process and ends when nobody answers.
        return std::fs::read_link(format!("/proc/{}/exe", status.pid)).ok()
            == std::fs::read_link("/proc/self/exe").ok();
    }
    let name = format!("guest={}", status.definition.name().replace(',', ",,"));
    binary == emulator.as_bytes() && words.any(|word| word.starts_with(name.as_bytes()))
}

impl Live {
    /// Where its monitor listens.
    pub fn monitor_path(&self) -> std::path::PathBuf {
        super::monitor_path(&self.directory)
    }

    /// The definition that is kept with the guest's state, or goes elsewhere with it: the processor is the one that was
    /// asked for.
    pub fn portable(&self) -> Definition {
        let mut definition = Definition::clone(&self.definition);
        let asked_for = self.kept.iter().find(|(name, _)| name == "cpu");
        if let Some(Ok(cpu)) = asked_for.map(|(name, cpu)| xml::from_str(&xml::to_string(cpu, name), name)) {
            definition.cpu = Some(cpu);
        }
        definition
    }

    /// Changes the definition in force.
    pub fn change(&mut self, change: impl FnOnce(&mut Definition)) {
        change(Arc::make_mut(&mut self.definition));
    }
}
