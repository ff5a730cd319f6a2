//! One debugger on one character device.

use crate::packet::{self, Reader, Received};
use crate::{Stopped, Target};
use accel::{DebugRequest, DebugStop, Watchpoint};
use chardev::{CharFrontend, Event, Handler};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// SIGTRAP.
const TRAP: u8 = 5;
/// Single steps are possible, do without interrupts, and without timers (which tell themselves by interrupts).
pub(crate) const STEP_BITS: [(&str, u32); 3] = [("ENABLE", 1), ("NOIRQ", 2), ("NOTIMER", 4)];

/// A breakpoint or watchpoint, as the debugger has set it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// 0 and 1: code; 2: writes, 3: reads, 4: both.
    pub(crate) kind: u8,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

pub(crate) struct State {
    reader: Reader,
    /// The last packet, which was not acknowledged yet.
    last: Vec<u8>,
    attached: bool,
    pub(crate) multiprocess: bool,
    pub(crate) physical: bool,
    /// [`STEP_BITS`] of a single step.
    pub(crate) step_flags: u32,
    /// The vCPU that `c` and `s` are about, and the one that everything else is.
    pub(crate) resumed: usize,
    pub(crate) looked_at: usize,
    pub(crate) points: Vec<Point>,
    /// The machine was let go, and its end is to be told.
    waiting: bool,
}

/// A debugger's connection. It lives as long as the value that [`Session::attach`] returns.
pub struct Session {
    front: CharFrontend,
    pub(crate) target: Arc<dyn Target>,
    state: Mutex<State>,
}

impl Session {
    /// Serves whoever connects to a character device.
    pub fn attach(front: CharFrontend, target: Arc<dyn Target>) -> Arc<Self> {
        let state = State {
            reader: Reader::default(),
            last: Vec::new(),
            attached: false,
            multiprocess: false,
            physical: false,
            step_flags: 7,
            resumed: 0,
            looked_at: 0,
            points: Vec::new(),
            waiting: false,
        };
        let session = Arc::new(Self { front, target, state: Mutex::new(state) });
        let handler: Arc<dyn Handler> = session.clone();
        let weak: Weak<dyn Handler> = Arc::downgrade(&handler);
        session.front.set_handler(Some(weak));
        session
    }

    /// Sends a packet.
    pub(crate) fn send(&self, state: &mut State, data: &[u8]) {
        state.last = packet::frame(data);
        self.front.write_all(&state.last);
    }

    /// The machine stands.
    pub fn stopped(&self, why: Stopped) {
        let mut state = self.state.lock();
        self.settle(&mut state);
        if !std::mem::take(&mut state.waiting) {
            return;
        }
        let (signal, mut more) = match why {
            Stopped::Signal(signal) => (signal, String::new()),
            Stopped::Debug(cpu, stop) => {
                (state.resumed, state.looked_at) = (cpu, cpu);
                match stop {
                    DebugStop::Watchpoint(Watchpoint { address, reads, writes, .. }) => {
                        let kind = match (reads, writes) {
                            (true, true) => "a",
                            (true, false) => "r",
                            _ => "",
                        };
                        (TRAP, format!("{kind}watch:{address:016x};"))
                    }
                    _ => (TRAP, String::new()),
                }
            }
        };
        more.insert_str(0, &format!("T{signal:02x}thread:{};", state.thread(state.resumed)));
        self.send(&mut state, more.as_bytes());
    }

    /// The process is about to end.
    pub fn ended(&self, status: i32) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.attached) {
            self.send(&mut state, format!("W{:02x}", status & 0xff).as_bytes());
        }
    }

    /// No vCPU steps or is kept any more.
    fn settle(&self, state: &mut State) {
        for cpu in 0..self.target.cpu_count() {
            self.target.set_frozen(cpu, false);
            self.target.set_debugger(cpu, &state.request(false));
        }
    }

    /// Tells all vCPUs of the breakpoints.
    pub(crate) fn points_changed(&self, state: &State) {
        for cpu in 0..self.target.cpu_count() {
            self.target.set_debugger(cpu, &state.request(false));
        }
    }

    /// Lets the machine go on: the vCPUs for which `actions` has something, one instruction or for good.
    pub(crate) fn go(&self, state: &mut State, actions: &[Option<Action>]) {
        for (cpu, action) in actions.iter().enumerate() {
            self.target.set_frozen(cpu, action.is_none());
            self.target.set_debugger(cpu, &state.request(*action == Some(Action::Step)));
        }
        state.waiting = true;
        if !self.target.cont() {
            // It stands for good, as a machine that needs a reset does.
            state.waiting = false;
            self.settle(state);
            let text = format!("T{TRAP:02x}thread:{};", state.thread(state.resumed));
            self.send(state, text.as_bytes());
        }
    }

    /// Forgets all breakpoints.
    pub(crate) fn remove_points(&self, state: &mut State) {
        if !std::mem::take(&mut state.points).is_empty() {
            self.points_changed(state);
        }
    }

    fn byte(&self, byte: u8) {
        let mut state = self.state.lock();
        if !state.last.is_empty() {
            match byte {
                b'-' => self.front.write_all(&state.last),
                b'+' | b'$' => state.last.clear(),
                _ => {}
            }
            if byte != b'$' && byte != 3 {
                return;
            }
        }
        if self.target.is_running() {
            // Whatever comes now is meant to stop it.
            drop(state);
            return self.target.stop();
        }
        match state.reader.byte(byte) {
            Received::Nothing => {}
            Received::Bad => self.front.write_all(b"-"),
            Received::Packet(packet) => {
                self.front.write_all(b"+");
                self.handle(&mut state, &packet);
            }
        }
    }
}

/// What a vCPU does when the machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Continue,
    Step,
}

impl State {
    /// A vCPU's name.
    pub(crate) fn thread(&self, cpu: usize) -> String {
        if self.multiprocess { format!("p01.{:02x}", cpu + 1) } else { format!("{:02x}", cpu + 1) }
    }

    fn request(&self, step: bool) -> DebugRequest {
        let code = |point: &&Point| point.kind < 2;
        let watched = |point: &Point| Watchpoint {
            address: point.address,
            length: point.length,
            reads: point.kind != 2,
            writes: point.kind != 3,
        };
        DebugRequest {
            step,
            hold_interrupts: self.step_flags & 2 != 0,
            breakpoints: self.points.iter().filter(code).map(|point| point.address).collect(),
            watchpoints: self.points.iter().filter(|p| !code(p)).map(watched).collect(),
        }
    }
}

impl Handler for Session {
    fn can_receive(&self) -> usize {
        packet::LARGEST
    }

    fn receive(&self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Open => {
                {
                    let mut state = self.state.lock();
                    state.reader = Reader::default();
                    state.last.clear();
                    state.attached = true;
                    state.waiting = false;
                    (state.multiprocess, state.physical) = (false, false);
                    (state.resumed, state.looked_at) = (0, 0);
                }
                self.target.stop();
            }
            Event::Close => {
                let mut state = self.state.lock();
                (state.attached, state.waiting) = (false, false);
            }
            _ => {}
        }
    }
}
