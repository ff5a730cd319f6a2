//! The end of a guest, and the ways to it.

use crate::core::{Core, Level};
use crate::error::{Result, monitor, not_running, system};
use crate::files;
use crate::guest::Guest;
use crate::process::network::Owner;
use crate::process::{Live, lifecycle};
use crate::state::{Paused, Running, Shutoff, State};
use domain_xml::Domain as Definition;
use json::Dict;
use qmp::Monitor;
use rustix::process::Signal;
use security::Given;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an emulator may take to end when asked to.
const WILLING: Duration = Duration::from_secs(10);
/// How long the kernel may take to end it.
const UNWILLING: Duration = Duration::from_secs(30);
/// How long the events of an emulator that has ended may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long an emulator that is only asked something may take.
const ANSWER: Duration = Duration::from_secs(10);
/// An emulator that owes an answer for so long hangs, or does something that takes long.
const SILENCE: Duration = Duration::from_secs(2);

impl Shutoff {
    /// The word of the guest's log.
    pub(super) fn log_word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Shutdown => "shutdown",
            Self::Destroyed => "destroyed",
            Self::Crashed => "crashed",
            Self::Migrated => "migrated",
            Self::Saved => "saved",
            Self::Failed => "failed",
            Self::FromSnapshot => "from snapshot",
            Self::Daemon => "daemon",
        }
    }

    /// The detail of the event that tells that the guest stopped.
    pub fn stopped_detail(self) -> i32 {
        match self {
            Self::Destroyed => 1,
            Self::Crashed => 2,
            Self::Migrated => 3,
            Self::Saved => 4,
            Self::Failed | Self::Daemon => 5,
            Self::FromSnapshot => 6,
            Self::Shutdown | Self::Unknown => 0,
        }
    }
}

impl Guest {
    /// The guest's connection.
    ///
    /// # Errors
    /// It does not run.
    pub fn monitor(&self) -> Result<Arc<Monitor>> {
        let inner = self.lock();
        let live = inner.live.as_ref().ok_or_else(not_running)?;
        live.monitor.clone().ok_or_else(not_running)
    }

    /// Executes a command on the guest's monitor.
    ///
    /// # Errors
    /// It does not run, or the emulator refuses.
    pub fn execute(&self, command: &str, arguments: Dict) -> Result<json::Value> {
        self.monitor()?.execute(command, arguments).map_err(|error| monitor(error, command))
    }

    /// Asks the guest's emulator what can be done without: one that hangs is not waited for as long as for what must be
    /// done, and not asked again before it answers.
    ///
    /// # Errors
    /// It does not run, does not answer, or the emulator refuses.
    pub fn ask(&self, command: &str, arguments: Dict) -> Result<json::Value> {
        let qemu = self.monitor()?;
        if qemu.silent_for().is_some_and(|silence| silence > SILENCE) {
            return Err(monitor(qmp::Error::Deadline(command.to_owned()), command));
        }
        qemu.execute_within(ANSWER, command, arguments).map_err(|error| monitor(error, command))
    }

    /// What `look` finds at the running guest of that number.
    pub fn with_live<T>(&self, id: i32, look: impl FnOnce(&mut Live) -> T) -> Option<T> {
        self.lock().live.as_deref_mut().filter(|live| live.id == id).map(look)
    }
}

/// What clients are told about why a guest goes on (`VIR_DOMAIN_EVENT_RESUMED_...`).
fn resumed_detail(reason: Running) -> i32 {
    match reason {
        Running::Migrated | Running::MigrationCanceled => 1,
        Running::Restored | Running::FromSnapshot => 2,
        Running::Postcopy => 3,
        Running::PostcopyFailed => 4,
        _ => 0,
    }
}

impl Core {
    /// The guest runs now, if it did not: whoever notices first says so.
    pub fn set_running(&self, guest: &Guest, id: i32, reason: Running) -> bool {
        let changed = {
            let mut inner = guest.lock();
            let is = inner.id() == id && !matches!(inner.state, State::Running(_));
            if is {
                inner.state = reason.into();
                if let Some(live) = &mut inner.live {
                    live.paused_because = None;
                    live.running_because = None;
                }
            }
            is
        };
        if changed {
            self.save_status(guest);
            self.lifecycle(guest, lifecycle::RESUMED, resumed_detail(reason));
        }
        changed
    }

    /// The guest is paused now, if it was not.
    pub fn set_paused(&self, guest: &Guest, id: i32, reason: Paused) -> bool {
        let changed = {
            let mut inner = guest.lock();
            let is = inner.id() == id && matches!(inner.state, State::Running(_));
            if is {
                inner.state = reason.into();
            }
            is
        };
        if changed {
            self.save_status(guest);
            let detail = match reason {
                Paused::Migration => 1,
                Paused::IoError => 2,
                Paused::Watchdog => 3,
                Paused::FromSnapshot | Paused::Snapshot => 5,
                Paused::ApiError => 6,
                Paused::Postcopy => 7,
                Paused::PostcopyFailed => 8,
                _ => 0,
            };
            self.lifecycle(guest, lifecycle::SUSPENDED, detail);
        }
        changed
    }

    /// Asks the emulator to end; whether it did in time.
    pub fn ask_to_end(&self, guest: &Guest, id: i32) -> bool {
        let Some(child) = guest.with_live(id, |live| {
            live.ending = true;
            live.child.clone()
        }) else {
            return true;
        };
        // Gone is what was wanted.
        let _ = child.signal(Signal::TERM);
        // One that somebody has stopped hears it only when it goes on.
        let _ = child.signal(Signal::CONT);
        child.wait(WILLING).unwrap_or(false)
    }

    /// Ends the emulator, whatever it takes; whether it is gone.
    pub fn end_process(&self, guest: &Guest, id: i32) -> bool {
        let Some(child) = guest.with_live(id, |live| {
            live.ending = true;
            live.child.clone()
        }) else {
            return true;
        };
        if self.ask_to_end(guest, id) {
            return true;
        }
        let _ = child.signal(Signal::KILL);
        let gone = child.wait(UNWILLING).unwrap_or(false);
        if !gone {
            self.log(Level::Error, &format!("Failed to terminate process {} with SIGKILL", child.pid()));
        }
        gone
    }

    /// Ends the guest's process for a client; its number.
    ///
    /// # Errors
    /// It does not run, or its process cannot be ended.
    pub fn end_for_client(&self, guest: &Guest, graceful: bool) -> Result<i32> {
        let (id, pid) = {
            let mut inner = guest.lock();
            let live = inner.live.as_mut().ok_or_else(not_running)?;
            live.destroyed = true;
            (live.id, live.pid)
        };
        let gone = if graceful { self.ask_to_end(guest, id) } else { self.end_process(guest, id) };
        if !gone {
            guest.with_live(id, |live| (live.ending, live.destroyed) = (false, false));
            let busy = rustix::io::Errno::BUSY.into();
            let signal = if graceful { "SIGTERM" } else { "SIGKILL" };
            return Err(system(&busy, &format!("Failed to terminate process {pid} with {signal}")));
        }
        // Its last words are reported before its end is.
        let end = Instant::now() + LAST_WORDS;
        while guest.with_live(id, |live| live.monitor.is_some()) == Some(true) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(id)
    }

    /// Ends the guest for a client. Its job is held by the caller.
    ///
    /// # Errors
    /// It does not run, or its process cannot be ended.
    pub fn destroy(&self, guest: &Arc<Guest>, graceful: bool) -> Result<()> {
        let id = self.end_for_client(guest, graceful)?;
        self.clean_up(guest, id, Shutoff::Destroyed, Some(Shutoff::Destroyed.stopped_detail()));
        Ok(())
    }

    /// Removes what belongs to the run of that number, whose process has ended; `event` is the detail of the event
    /// that tells so. The status file goes last: until then somebody else would begin here again.
    pub fn clean_up(&self, guest: &Arc<Guest>, id: i32, reason: Shutoff, event: Option<i32>) {
        let Some((name, directory, channels, ports)) = ({
            let inner = guest.lock();
            inner.live.as_ref().filter(|live| live.id == id).map(|live| {
                (inner.name.clone(), live.directory.clone(), live.channels.clone(), live.ports.clone())
            })
        }) else {
            return;
        };
        let given = guest.with_live(id, |live| (live.definition.clone(), live.confined.take()));
        let definition = given.as_ref().map(|(definition, _)| definition.clone());
        if let Some((definition, confined)) = given {
            self.hook_ended(&definition, "stopped");
            let given = confined.as_deref().map_or(Given::Nothing, Given::By);
            self.take_back(&definition, given, reason);
            super::network::release(self, Owner::of(&definition), &definition.devices.interface);
            self.stop_helpers(&definition, id, &directory);
            if !guest.lock().is_persistent() {
                self.forget_tpm(&definition, false, false);
            }
        }
        self.guest_log(&name, &format!("shutting down, reason={}", reason.log_word()));
        let _ = std::fs::remove_dir_all(directory);
        let _ = std::fs::remove_dir_all(channels);
        let _ = files::remove(&self.paths.pid_file(&name));
        {
            let _turn = guest.status_turn.lock();
            if let Err(error) = files::remove(&self.paths.status(&name)) {
                self.log(Level::Warning, &format!("Failed to remove domain XML for {name}: {error}"));
            }
        }
        ports.iter().for_each(|port| self.ports.release(*port));
        if let Some(definition) = definition {
            self.hook_ended(&definition, "release");
        }
        // Clients are told of the run that ends: with its number.
        let reference = guest.reference();
        self.table.clear_id(id);
        guest.agent_timeout.store(crate::agent::BLOCK, Ordering::Relaxed);
        let (live, transient) = {
            let mut inner = guest.lock();
            inner.state = reason.into();
            (inner.live.take(), !inner.is_persistent())
        };
        if live.is_some() {
            self.inhibitor.guest_ended();
        }
        // Its connection ends here.
        drop(live);
        if let Some(detail) = event {
            self.event(rpc::DomainEvent::Lifecycle(rpc::protocol::events::DomainEventLifecycleMsg {
                dom: reference,
                event: lifecycle::STOPPED,
                detail,
            }));
        }
        if transient {
            self.table.remove(guest, &name);
        }
    }

    /// What a guest that has ended was given of the host goes back.
    pub(super) fn take_back(&self, definition: &Definition, given: Given<'_>, reason: Shutoff) {
        for error in self.security.release(definition, given, reason == Shutoff::Migrated) {
            self.log(
                Level::Warning,
                &format!("Unable to restore labels of '{}': {error}", definition.name()),
            );
        }
    }

    /// A client has gone: its guests that live no longer end.
    pub fn client_gone(self: &Arc<Self>, client: u64) {
        self.groups.client_gone(client);
        for guest in self.table.all() {
            let its = move |live: &Live| live.autodestroy == Some(client);
            if guest.lock().live.as_deref().is_some_and(its) {
                let core = self.clone();
                std::thread::spawn(move || {
                    let _job = guest.jobs.begin_surely("autodestroy");
                    if guest.lock().live.as_deref().is_some_and(its) {
                        let _ = core.destroy(&guest, false);
                    }
                });
            }
        }
    }
}
