//! The machine's life: run states, and what becomes of a reset, a power-off, a panic or a signal.
//!
//! Devices and processors only leave a note ([`SystemControl::request`]) and stop the processors; the main loop acts
//! on the notes in [`Life::process`]. Everything else here is for the main loop's thread alone.

use crate::machine::Machine;
use crate::vcpus::Gate;
use accel::DebugStop;
use clock::Clock;
use cmdline::{Actions, OnPanic, OnReboot, OnShutdown, OnWatchdog};
use eventloop::LoopHandle;
use gdbstub::{Session, Stopped};
use hostio::signals;
use parking_lot::Mutex;
use qdev::{SystemControl, SystemRequest};
use std::sync::{Arc, OnceLock, Weak};

/// What the machine is doing; the names are those of `info status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Made, not started.
    Prelaunch,
    /// The processors run.
    Running,
    /// Stopped by the user.
    Paused,
    /// The guest has powered off, and `-no-shutdown` keeps the process.
    Shutdown,
    /// The guest sleeps (S3).
    Suspended,
    /// The guest has told of its panic.
    GuestPanicked,
    /// The accelerator cannot go on.
    InternalError,
    /// The host could not read or write a disk (`werror=stop`).
    IoError,
    /// A watchdog ran out.
    Watchdog,
    /// A processor met what its debugger had asked for.
    Debug,
}

impl RunState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prelaunch => "prelaunch",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
            Self::Suspended => "suspended",
            Self::GuestPanicked => "guest-panicked",
            Self::InternalError => "internal-error",
            Self::IoError => "io-error",
            Self::Watchdog => "watchdog",
            Self::Debug => "debug",
        }
    }

    /// As what a debugger is told of it: a signal in GDB's numbering.
    fn signal(self) -> u8 {
        match self {
            Self::Prelaunch | Self::Running | Self::Paused => 2,
            Self::Debug => 5,
            Self::InternalError => 6,
            Self::Shutdown => 3,
            Self::IoError => 23,
            Self::Watchdog => 14,
            Self::Suspended | Self::GuestPanicked => 143,
        }
    }

    /// Whether only a reset leads out of it.
    fn needs_reset(self) -> bool {
        matches!(self, Self::Shutdown | Self::InternalError)
    }
}

/// Why the machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The guest powered off, or reset where a reset ends.
    Guest,
    /// The guest panicked.
    Panic,
    /// The user, or a signal.
    Host,
}

/// What the main loop has to do.
#[derive(Default)]
struct Notes {
    scheduled: bool,
    end: Option<End>,
    reset: bool,
    suspend: bool,
    wake: bool,
    powerdown: bool,
    panicked: bool,
    internal_error: bool,
    io_error: bool,
    watchdog: bool,
    debugged: Option<(usize, DebugStop)>,
    signal: Option<signals::Request>,
}

/// The states and the notes.
pub(crate) struct Life {
    handle: LoopHandle,
    clock: Clock,
    gate: Arc<Gate>,
    machine: OnceLock<Weak<Machine>>,
    debugger: OnceLock<Weak<Session>>,
    me: Weak<Self>,
    state: Mutex<RunState>,
    actions: Mutex<Actions>,
    notes: Mutex<Notes>,
    /// The process's exit status, once it is known.
    ended: Mutex<Option<i32>>,
}

impl Life {
    pub(crate) fn new(handle: LoopHandle, clock: Clock, gate: Arc<Gate>, actions: Actions) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            handle,
            clock,
            gate,
            machine: OnceLock::new(),
            debugger: OnceLock::new(),
            me: me.clone(),
            state: Mutex::new(RunState::Prelaunch),
            actions: Mutex::new(actions),
            notes: Mutex::default(),
            ended: Mutex::new(None),
        })
    }

    /// Tells whose life this is; once.
    pub(crate) fn set_machine(&self, machine: &Arc<Machine>) {
        let _ = self.machine.set(Arc::downgrade(machine));
    }

    /// Whom to tell when the machine stops; once.
    pub(crate) fn set_debugger(&self, debugger: &Arc<Session>) {
        let _ = self.debugger.set(Arc::downgrade(debugger));
    }

    fn machine(&self) -> Option<Arc<Machine>> {
        self.machine.get()?.upgrade()
    }

    pub(crate) fn state(&self) -> RunState {
        *self.state.lock()
    }

    /// The exit status of a machine that has ended.
    pub(crate) fn ended(&self) -> Option<i32> {
        *self.ended.lock()
    }

    /// Ends the process with this status; what else is to be done is left.
    fn end(&self, status: i32) {
        self.ended.lock().get_or_insert(status);
        self.handle.stop();
    }

    /// Leaves a note and has the main loop look at it; the processors stand until it has.
    fn note(&self, write: impl FnOnce(&mut Notes)) {
        let fresh = {
            let mut notes = self.notes.lock();
            write(&mut notes);
            !std::mem::replace(&mut notes.scheduled, true)
        };
        self.gate.hold();
        if fresh && let Some(me) = self.me.upgrade() {
            self.handle.defer(move || me.process());
        }
    }

    /// A processor stopped on a triple fault.
    pub(crate) fn triple_fault(&self) {
        self.request(SystemRequest::Reset);
    }

    /// A processor cannot go on.
    pub(crate) fn internal_error(&self) {
        self.note(|notes| notes.internal_error = true);
    }

    /// A processor met what its debugger had asked for.
    pub(crate) fn debugged(&self, cpu: usize, stop: DebugStop) {
        self.note(|notes| {
            notes.debugged.get_or_insert((cpu, stop));
        });
    }

    /// A signal asks the process to end.
    pub(crate) fn signal(&self, request: signals::Request) {
        self.actions.lock().shutdown = OnShutdown::Poweroff;
        self.note(|notes| {
            notes.signal = Some(request);
            notes.end = Some(End::Host);
        });
    }

    /// The user ends the process, whatever `-no-shutdown` says.
    pub(crate) fn quit(&self) {
        self.actions.lock().shutdown = OnShutdown::Poweroff;
        self.note(|notes| notes.end = Some(End::Host));
    }

    /// The user presses the power button.
    pub(crate) fn powerdown(&self) {
        self.note(|notes| notes.powerdown = true);
    }

    /// The user, or a key, wakes the guest.
    ///
    /// # Errors
    /// It does not sleep.
    pub(crate) fn wake(&self) -> Result<(), String> {
        if self.state() != RunState::Suspended {
            return Err("Unable to wake up: guest is not in suspended state".to_owned());
        }
        self.note(|notes| notes.wake = true);
        Ok(())
    }

    /// Lets the processors and the clock run.
    ///
    /// # Errors
    /// The machine needs a reset first.
    pub(crate) fn cont(&self) -> Result<(), String> {
        let state = self.state();
        if state.needs_reset() {
            return Err("Resetting the Virtual Machine is required".to_owned());
        }
        if !matches!(state, RunState::Running | RunState::Suspended) {
            *self.state.lock() = RunState::Running;
            if let Some(machine) = self.machine() {
                machine.thaw();
                machine.tree.resumed();
            }
            self.clock.start();
            self.gate.resume();
        }
        Ok(())
    }

    /// Stops processors and clock; a machine that stands already stays in its state.
    pub(crate) fn stop(&self, to: RunState) {
        self.stop_because(to, Stopped::Signal(to.signal()));
    }

    fn stop_because(&self, to: RunState, why: Stopped) {
        if self.state() == RunState::Running {
            self.clock.stop();
            self.gate.pause();
            if let Some(machine) = self.machine() {
                machine.freeze();
            }
            *self.state.lock() = to;
            if let Some(debugger) = self.debugger.get().and_then(Weak::upgrade) {
                debugger.stopped(why);
            }
        }
    }

    /// Acts on the notes, in QEMU's order.
    fn process(&self) {
        let (notes, actions) = {
            let mut notes = self.notes.lock();
            (std::mem::take(&mut *notes), *self.actions.lock())
        };
        if self.ended().is_some() {
            return;
        }
        let mut end = notes.end;
        if notes.internal_error {
            self.stop(RunState::InternalError);
        }
        if notes.io_error {
            self.stop(RunState::IoError);
        }
        if notes.watchdog {
            self.stop(RunState::Watchdog);
        }
        if let Some((cpu, stop)) = notes.debugged {
            self.stop_because(RunState::Debug, Stopped::Debug(cpu, stop));
        }
        if notes.panicked {
            self.panicked(&actions, &mut end);
        }
        if notes.suspend && self.state() == RunState::Running {
            self.gate.pause();
            *self.state.lock() = RunState::Suspended;
        }
        if let Some(why) = end {
            if let Some(signal) = notes.signal {
                report::error_report!("{}", signal.describe());
            }
            if actions.shutdown == OnShutdown::Pause {
                self.stop(RunState::Shutdown);
            } else {
                let failure = why == End::Panic && actions.panic == OnPanic::ExitFailure;
                return self.end(failure.into());
            }
        }
        if notes.reset {
            self.reset();
        }
        if notes.wake && self.state() == RunState::Suspended {
            if let Some(machine) = self.machine() {
                machine.wake();
            }
            *self.state.lock() = RunState::Running;
            self.gate.resume();
        }
        if notes.powerdown
            && let Some(machine) = self.machine()
        {
            machine.power_button();
        }
        if !self.notes.lock().scheduled {
            self.gate.release();
        }
    }

    fn panicked(&self, actions: &Actions, end: &mut Option<End>) {
        match actions.panic {
            OnPanic::None => {}
            OnPanic::Pause => self.stop(RunState::GuestPanicked),
            OnPanic::Shutdown if actions.shutdown == OnShutdown::Pause => self.stop(RunState::GuestPanicked),
            OnPanic::Shutdown | OnPanic::ExitFailure => {
                self.stop(RunState::GuestPanicked);
                *end = Some(End::Panic);
            }
        }
    }

    /// What becomes of a watchdog that runs out, from now on.
    pub(crate) fn set_watchdog(&self, action: OnWatchdog) {
        self.actions.lock().watchdog = action;
    }

    fn watchdog(&self) {
        let action = self.actions.lock().watchdog;
        match action {
            OnWatchdog::Reset => self.request(SystemRequest::Reset),
            OnWatchdog::Shutdown => self.powerdown(),
            OnWatchdog::Poweroff => self.request(SystemRequest::Exit(0)),
            OnWatchdog::Pause => self.note(|notes| notes.watchdog = true),
            OnWatchdog::Debug => eprintln!("watchdog: timer fired"),
            OnWatchdog::None => {}
            OnWatchdog::InjectNmi => {
                if let Some(machine) = self.machine() {
                    machine.board.nmi();
                }
            }
        }
    }

    fn reset(&self) {
        self.gate.pause();
        let outcome = self.machine().map_or(Ok(()), |machine| machine.reset());
        if let Err(text) = outcome {
            report::error_report!("{text}");
            return self.end(1);
        }
        let mut state = self.state.lock();
        match *state {
            RunState::Running => self.gate.resume(),
            RunState::Suspended => {
                *state = RunState::Running;
                self.gate.resume();
            }
            _ => *state = RunState::Prelaunch,
        }
    }
}

impl SystemControl for Life {
    fn request(&self, request: SystemRequest) {
        match request {
            SystemRequest::Reset => {
                let ends = self.actions.lock().reboot == OnReboot::Shutdown;
                self.note(|notes| if ends { notes.end = Some(End::Guest) } else { notes.reset = true });
            }
            SystemRequest::Shutdown => self.note(|notes| notes.end = Some(End::Guest)),
            SystemRequest::Suspend => self.note(|notes| notes.suspend = true),
            SystemRequest::GuestPanicked => self.note(|notes| notes.panicked = true),
            // The guest goes on by itself, in its crash kernel.
            SystemRequest::GuestCrashLoaded => {}
            SystemRequest::IoError => self.note(|notes| notes.io_error = true),
            SystemRequest::Watchdog => self.watchdog(),
            SystemRequest::Exit(status) => {
                self.gate.hold();
                self.end(status);
            }
        }
    }
}
