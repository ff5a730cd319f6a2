//! What an emulator reports, and what follows from it.

use crate::core::{Core, Level};
use crate::guest::Guest;
use crate::process::DumpKind;
use crate::process::{Live, lifecycle};
use crate::state::{Crashed, Paused, PmSuspended, Running, Shutdown, Shutoff, State};
use domain_xml::clock::EventAction;
use domain_xml::disk::Tray;
use domain_xml::misc::WatchdogAction;
use json::{Dict, Value};
use qmp::{Event, Notice};
use rpc::DomainEvent;
use rpc::protocol::events::*;
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why an agent's channel is as it is: the guest was started with it,
pub(super) const AGENT_STARTED: i32 = 1;
/// or the guest opened or closed it.
const AGENT_CHANNEL: i32 = 2;

fn text<'a>(data: &'a Dict, key: &str) -> &'a str {
    data.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Core {
    /// Takes what the monitor of the guest's run `id` has to tell.
    pub(super) fn notice(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, notice: Notice) {
        if guest.lock().id() != id || self.stopping.load(Ordering::SeqCst) {
            return;
        }
        match notice {
            Notice::Event(event) => {
                if let Some(sink) = self.events.get() {
                    let details =
                        (!event.data.is_empty()).then(|| Value::Dict(event.data.clone()).to_string());
                    let micros = u32::try_from(event.at.microseconds).unwrap_or(0);
                    sink.monitor_event(
                        &guest.reference(),
                        &event.name,
                        event.at.seconds,
                        micros,
                        details.as_deref(),
                    );
                }
                self.qemu_event(guest, id, &event);
            }
            Notice::Lost(count) => {
                let name = guest.lock().name.clone();
                self.log(Level::Warning, &format!("{count} events of '{name}' were lost"));
                self.refresh_state(guest, id);
            }
            Notice::Closed(reason) => self.monitor_closed(guest, id, reason.is_some()),
        }
    }

    /// The connection has ended: with the process, or because of what it said.
    fn monitor_closed(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, broken: bool) {
        let monitor = guest.with_live(id, |live| live.monitor.take()).flatten();
        drop(monitor);
        if broken {
            self.event(DomainEvent::ControlError(DomainEventControlErrorMsg { dom: guest.reference() }));
            return;
        }
        // Whoever ends the guest, or fails to start it, does the rest and holds its job.
        let _job = guest.jobs.begin_surely("monitor EOF");
        let Some((false, shutdown)) = guest.with_live(id, |live| (live.ending, live.shutdown_seen)) else {
            return;
        };
        // The process may live on without its monitor; it is of no use then.
        self.end_process(guest, id);
        let (reason, detail) = if shutdown { (Shutoff::Shutdown, 0) } else { (Shutoff::Crashed, 5) };
        self.clean_up(guest, id, reason, Some(detail));
    }

    /// Asks the emulator for its state, and follows it.
    pub fn refresh_state(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) {
        let Ok(status) = guest.execute("query-status", Dict::default()) else { return };
        match (status.get("running").and_then(Value::as_bool), status.get("status").and_then(Value::as_str)) {
            (Some(true), _) => {
                self.set_running(guest, id, Running::Unpaused);
            }
            (_, Some("shutdown")) => self.shut_down(guest, id, 0),
            (_, Some("io-error")) => {
                self.set_paused(guest, id, Paused::IoError);
            }
            (_, Some("watchdog")) => {
                self.set_paused(guest, id, Paused::Watchdog);
            }
            (_, Some("guest-panicked")) => {
                guest.lock().state = Crashed::Panicked.into();
                self.save_status(guest);
            }
            (Some(false), _) => {
                self.set_paused(guest, id, Paused::Unknown);
            }
            _ => {}
        }
    }

    fn qemu_event(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, event: &Event) {
        let data = &event.data;
        let dom = || guest.reference();
        match event.name.as_str() {
            "SHUTDOWN" => {
                let detail = match data.get("guest").and_then(Value::as_bool) {
                    Some(true) => 1,
                    Some(false) => 2,
                    None => 0,
                };
                self.shut_down(guest, id, detail);
            }
            "STOP" => {
                let because = guest.with_live(id, |live| live.paused_because).flatten();
                self.set_paused(guest, id, because.unwrap_or(Paused::Unknown));
                // The emulator says that the watchdog stops the guest before it does so: a dump by then would be
                // followed by the stop.
                let dumps = |live: &mut Live| {
                    live.paused_because = live.paused_because.filter(|because| *because != Paused::Watchdog);
                    let watchdog = live.definition.devices.watchdog.as_ref();
                    watchdog.is_some_and(|watchdog| watchdog.action == WatchdogAction::Dump)
                };
                if because == Some(Paused::Watchdog) && guest.with_live(id, dumps) == Some(true) {
                    let (core, guest) = (self.clone(), guest.clone());
                    std::thread::spawn(move || core.dump_and_resume(&guest, id));
                }
            }
            "RESUME" => {
                // A guest that starts is said to run by who starts it.
                if !matches!(guest.lock().state, State::Paused(Paused::StartingUp)) {
                    let because = guest.with_live(id, |live| live.running_because).flatten();
                    self.set_running(guest, id, because.unwrap_or(Running::Unpaused));
                }
            }
            "RESET" => {
                if guest.with_live(id, |live| std::mem::take(&mut live.fake_reboot)) == Some(true) {
                    self.save_status(guest);
                }
                self.event(DomainEvent::Reboot(DomainEventRebootMsg { dom: dom() }));
            }
            "GUEST_PANICKED" => self.panicked(guest, id),
            "GUEST_CRASHLOADED" => self.lifecycle(guest, lifecycle::CRASHED, 1),
            "WATCHDOG" => {
                let action = match text(data, "action") {
                    "pause" => 1,
                    "reset" => 2,
                    "poweroff" => 3,
                    "shutdown" => 4,
                    "debug" => 5,
                    "inject-nmi" => 6,
                    _ => 0,
                };
                if action == 1 {
                    guest.with_live(id, |live| live.paused_because = Some(Paused::Watchdog));
                }
                self.event(DomainEvent::Watchdog(DomainEventWatchdogMsg { dom: dom(), action }));
                if action == 1 {
                    self.set_paused(guest, id, Paused::Watchdog);
                }
            }
            "DUMP_COMPLETED" => {
                let failure = data.get("error").and_then(Value::as_str).map(str::to_owned);
                guest.with_live(id, |live| live.dump_failure = failure);
            }
            "BLOCK_IO_ERROR" => self.block_io_error(guest, id, data),
            "BLOCK_WRITE_THRESHOLD" => self.block_threshold(guest, id, data),
            "RTC_CHANGE" => {
                if let Some(offset) = data.get("offset").and_then(Value::as_i64) {
                    self.event(DomainEvent::RtcChange(DomainEventRtcChangeMsg { dom: dom(), offset }));
                }
            }
            "BALLOON_CHANGE" => {
                if let Some(actual) = data.get("actual").and_then(Value::as_u64) {
                    let actual = actual.div_ceil(1024);
                    guest.with_live(id, |live| {
                        live.change(|it| {
                            it.current_memory = Some(domain_xml::units::Kib(actual));
                        })
                    });
                    self.save_status(guest);
                    let event = DomainEventBalloonChangeMsg { dom: dom(), actual };
                    self.event(DomainEvent::BalloonChange(event));
                }
            }
            "DEVICE_TRAY_MOVED" => {
                let reason = i32::from(data.get("tray-open").and_then(Value::as_bool) != Some(true));
                let dev_alias = alias_of(data);
                guest.with_live(id, |live| {
                    let open = (reason == 0).then_some(Tray::Open);
                    live.change(|it| crate::definition::set_tray(it, &dev_alias, open));
                });
                self.save_status(guest);
                self.event(DomainEvent::TrayChange(DomainEventTrayChangeMsg {
                    dom: dom(),
                    dev_alias,
                    reason,
                }));
            }
            "SUSPEND" | "SUSPEND_DISK" => {
                guest.lock().state = PmSuspended::Unknown.into();
                self.save_status(guest);
                if event.name == "SUSPEND" {
                    self.lifecycle(guest, lifecycle::PMSUSPENDED, 0);
                    self.event(DomainEvent::PmSuspend(DomainEventPmsuspendMsg { dom: dom() }));
                } else {
                    self.lifecycle(guest, lifecycle::PMSUSPENDED, 1);
                    self.event(DomainEvent::PmSuspendDisk(DomainEventPmsuspendDiskMsg { dom: dom() }));
                }
            }
            "WAKEUP" => {
                let woke = {
                    let mut inner = guest.lock();
                    let asleep = matches!(inner.state, State::PmSuspended(_));
                    if asleep {
                        inner.state = Running::Wakeup.into();
                    }
                    asleep
                };
                if woke {
                    self.save_status(guest);
                    self.lifecycle(guest, lifecycle::STARTED, 4);
                }
                self.event(DomainEvent::PmWakeup(DomainEventPmwakeupMsg { dom: dom() }));
            }
            "DEVICE_DELETED" => {
                if let Some(alias) = data.get("device").and_then(Value::as_str) {
                    self.device_deleted(guest, id, alias);
                }
            }
            "DEVICE_UNPLUG_GUEST_ERROR" => {
                self.device_kept(guest, id, text(data, "device"));
            }
            "ACPI_DEVICE_OST" => {
                /// ACPI 6, section 6.3.5: what the guest tells of (a request to eject, by us or by it), and that it failed.
                const EJECT: [i64; 2] = [3, 0x103];
                const FAILED: i64 = 1;
                let Some(info) = data.get("info") else { return };
                let word = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
                let number = |key: &str| info.get(key).and_then(Value::as_i64).unwrap_or(0);
                let failed = EJECT.contains(&number("source")) && number("status") == FAILED;
                if word("slot-type") == "DIMM" && failed {
                    self.device_kept(guest, id, word("device"));
                }
            }
            "MIGRATION_PASS" => {
                if let Some(pass) = data.get("pass").and_then(Value::as_u64) {
                    let iteration = i32::try_from(pass).unwrap_or(i32::MAX);
                    self.event(DomainEvent::MigrationIteration(DomainEventCallbackMigrationIterationMsg {
                        callback_id: 0,
                        dom: dom(),
                        iteration,
                    }));
                }
            }
            "PR_MANAGER_STATUS_CHANGED" => {
                let lost = data.get("connected").and_then(Value::as_bool) == Some(false);
                if lost && text(data, "id") == super::reservations::NAME {
                    self.restart_reservations(guest, id);
                }
            }
            "NIC_RX_FILTER_CHANGED" => {
                let (core, guest) = (self.clone(), guest.clone());
                let alias = text(data, "name").to_owned();
                // The emulator is asked, which the thread that hears it cannot wait for.
                std::thread::spawn(move || super::network::follow_guest(&core, &guest, id, &alias));
            }
            "VSERPORT_CHANGE" => self.channel_changed(guest, id, data),
            name => {
                let phase = match name {
                    "VNC_CONNECTED" | "SPICE_CONNECTED" => 0,
                    "VNC_INITIALIZED" | "SPICE_INITIALIZED" => 1,
                    "VNC_DISCONNECTED" | "SPICE_DISCONNECTED" => 2,
                    _ => return,
                };
                self.event(graphics_event(dom(), phase, data));
            }
        }
    }

    /// The guest does not let go of a device.
    fn device_kept(&self, guest: &Arc<Guest>, id: i32, alias: &str) {
        guest.with_live(id, |live| live.kept_device = Some(alias.to_owned()));
        self.event(DomainEvent::DeviceRemovalFailed(DomainEventCallbackDeviceRemovalFailedMsg {
            callback_id: 0,
            dom: guest.reference(),
            dev_alias: alias.to_owned(),
        }));
    }

    /// The guest was powered off, by itself (1), by us (2) or by whomever (0).
    fn shut_down(self: &Arc<Self>, guest: &Arc<Guest>, id: i32, detail: i32) {
        let restarts =
            |live: &mut Live| live.fake_reboot || live.definition.on_poweroff == Some(EventAction::Restart);
        match guest.with_live(id, |live| (restarts(live), live.ending)) {
            Some((true, false)) => {
                let (core, guest) = (self.clone(), guest.clone());
                std::thread::spawn(move || core.reboot_instead(&guest, id));
                return;
            }
            Some((false, false)) => {}
            // We end it ourselves.
            _ => {
                if guest.with_live(id, |live| live.destroyed) == Some(true) {
                    self.lifecycle(guest, lifecycle::SHUTDOWN, detail);
                }
                return;
            }
        }
        guest.lock().state = Shutdown::Unknown.into();
        let child = guest.with_live(id, |live| {
            live.shutdown_seen = true;
            live.child.clone()
        });
        self.save_status(guest);
        self.lifecycle(guest, lifecycle::SHUTDOWN, detail);
        // Its end comes as the end of its monitor.
        if let Some(child) = child {
            let _ = child.signal(Signal::TERM);
        }
    }

    fn reboot_instead(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) {
        let _job = guest.jobs.begin_surely("fake reboot");
        if guest.with_live(id, |live| live.ending) != Some(false) {
            return;
        }
        let done = guest.execute("system_reset", Dict::default());
        let done = done.and_then(|_| guest.execute("cont", Dict::default()));
        guest.with_live(id, |live| live.fake_reboot = false);
        if done.is_err() {
            self.end_process(guest, id);
            self.clean_up(guest, id, Shutoff::Crashed, Some(5));
            return;
        }
        self.save_status(guest);
        self.set_running(guest, id, Running::Booted);
    }

    fn panicked(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) {
        guest.lock().state = Crashed::Panicked.into();
        self.save_status(guest);
        self.lifecycle(guest, lifecycle::CRASHED, 0);
        let action = guest.with_live(id, |live| live.definition.on_crash).flatten();
        let (core, guest) = (self.clone(), guest.clone());
        match action {
            Some(EventAction::Preserve) => {}
            Some(EventAction::Restart) => {
                std::thread::spawn(move || core.reboot_instead(&guest, id));
            }
            Some(EventAction::CoredumpRestart) => {
                std::thread::spawn(move || {
                    core.auto_dump(&guest, id, DumpKind::Memory("elf"));
                    core.reboot_instead(&guest, id);
                });
            }
            _ => {
                std::thread::spawn(move || {
                    if action == Some(EventAction::CoredumpDestroy) {
                        core.auto_dump(&guest, id, DumpKind::Memory("elf"));
                    }
                    let _job = guest.jobs.begin_surely("guest panic");
                    core.end_process(&guest, id);
                    core.clean_up(&guest, id, Shutoff::Crashed, Some(2));
                });
            }
        }
    }

    /// The guest's watchdog wants it dumped; then it goes on.
    fn dump_and_resume(self: &Arc<Self>, guest: &Arc<Guest>, id: i32) {
        self.auto_dump(guest, id, DumpKind::State);
        let _job = guest.jobs.begin_surely("watchdog");
        if guest.lock().id() == id
            && let Err(error) = self.resume(guest, Running::Unpaused)
        {
            self.log(Level::Error, &format!("resuming after dump failed: {error}"));
        }
    }

    fn block_io_error(&self, guest: &Arc<Guest>, id: i32, data: &Dict) {
        let action = match text(data, "action") {
            "stop" => 1,
            "report" => 2,
            _ => 0,
        };
        let dom = guest.reference();
        let device = text(data, "device");
        let alias = device.strip_prefix("drive-").unwrap_or(device);
        let node = text(data, "node-name");
        let (src_path, dev_alias) = guest
            .with_live(id, |live| crate::definition::disk_of_node(&live.definition, node, alias))
            .flatten()
            .unwrap_or_else(|| (String::new(), alias.to_owned()));
        let nospace = data.get("nospace").and_then(Value::as_bool) == Some(true);
        let reason = if nospace { "enospc".to_owned() } else { String::new() };
        if action == 1 {
            guest.with_live(id, |live| live.paused_because = Some(Paused::IoError));
        }
        self.event(DomainEvent::IoError(DomainEventIoErrorMsg {
            dom: dom.clone(),
            src_path: src_path.clone(),
            dev_alias: dev_alias.clone(),
            action,
        }));
        self.event(DomainEvent::IoErrorReason(DomainEventIoErrorReasonMsg {
            dom,
            src_path,
            dev_alias,
            action,
            reason,
        }));
        if action == 1 {
            self.set_paused(guest, id, Paused::IoError);
        }
    }

    /// An image has grown beyond what a client wanted to be told of.
    fn block_threshold(&self, guest: &Arc<Guest>, id: i32, data: &Dict) {
        let number = |key: &str| data.get(key).and_then(Value::as_u64).unwrap_or(0);
        let (threshold, excess) = (number("write-threshold"), number("amount-exceeded"));
        let image = text(data, "node-name").strip_prefix("libvirt-").and_then(|rest| rest.split('-').next());
        let Some(image) = image.and_then(|image| image.parse::<u32>().ok()) else { return };
        let found = guest.with_live(id, |live| {
            let (dev, path, is_own) = crate::definition::image_of(&live.definition, image)?;
            Some((dev, path, is_own && !live.indexed_thresholds.contains(&image)))
        });
        let Some((dev, path, by_name)) = found.flatten() else { return };
        let by_index = format!("{dev}[{image}]");
        for dev in by_name.then_some(dev).into_iter().chain([by_index]) {
            self.event(DomainEvent::BlockThreshold(DomainEventBlockThresholdMsg {
                callback_id: 0,
                dom: guest.reference(),
                dev,
                path: path.clone(),
                threshold,
                excess,
            }));
        }
    }

    fn channel_changed(&self, guest: &Arc<Guest>, id: i32, data: &Dict) {
        let (alias, open) = (text(data, "id"), data.get("open").and_then(Value::as_bool) == Some(true));
        let state = if open { "connected" } else { "disconnected" };
        let agent = guest
            .with_live(id, |live| {
                let mut agent = None;
                live.change(|it| agent = crate::definition::set_channel_state(it, alias, state));
                agent
            })
            .flatten();
        self.save_status(guest);
        if agent == Some(true) {
            self.agent_channel(guest, open, AGENT_CHANNEL);
        }
    }

    /// Tells that the agent's channel is open, or not, and why that is so.
    pub(super) fn agent_channel(&self, guest: &Guest, open: bool, reason: i32) {
        self.event(DomainEvent::AgentLifecycle(DomainEventCallbackAgentLifecycleMsg {
            callback_id: 0,
            dom: guest.reference(),
            state: if open { 1 } else { 2 },
            reason,
        }));
    }
}

fn alias_of(data: &Dict) -> String {
    let id = text(data, "id");
    let name = if id.is_empty() { text(data, "device") } else { id };
    let name = name.strip_prefix("drive-").unwrap_or(name);
    name.rsplit('/').find(|part| !part.is_empty() && *part != "virtio-backend").unwrap_or(name).to_owned()
}

fn graphics_event(dom: rpc::Domain, phase: i32, data: &Dict) -> DomainEvent {
    let address = |key: &str| {
        let end = data.get(key);
        let field = |name: &str| end.and_then(|end| end.get(name)?.as_str()).unwrap_or_default().to_owned();
        let family = match field("family").as_str() {
            "ipv6" => 1,
            "unix" => 2,
            _ => 0,
        };
        let service =
            end.and_then(|end| end.get("service")?.as_str()).map_or_else(|| field("port"), str::to_owned);
        DomainEventGraphicsAddress { family, node: field("host"), service }
    };
    let client = |name: &str| data.get("client").and_then(|end| end.get(name)?.as_str());
    let identity =
        |kind: &str, name: &str| DomainEventGraphicsIdentity { kind: kind.to_owned(), name: name.to_owned() };
    let subject = [("x509dname", client("x509_dname")), ("saslUsername", client("sasl_username"))];
    DomainEvent::Graphics(DomainEventGraphicsMsg {
        dom,
        phase,
        local: address("server"),
        remote: address("client"),
        auth_scheme: data
            .get("server")
            .and_then(|end| end.get("auth")?.as_str())
            .unwrap_or_default()
            .to_owned(),
        subject: subject.iter().filter_map(|(kind, name)| Some(identity(kind, (*name)?))).collect(),
    })
}
