//! One monitor on one character device.

use crate::MachineControl;
use crate::commands::{self, Scope};
use crate::memory::Format;
use crate::readline::{Edited, Readline};
use chardev::{CharFrontend, Event, Handler};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Most output kept while another front end has the terminal.
const MAX_HIDDEN: usize = 1 << 20;

struct State {
    readline: Readline,
    cpu: usize,
    format: Format,
    hidden: Option<Vec<u8>>,
    greeted: bool,
}

/// A human monitor. It lives as long as the value that [`Monitor::attach`] returns.
pub struct Monitor {
    front: CharFrontend,
    machine: Arc<dyn MachineControl>,
    state: Mutex<State>,
}

impl Monitor {
    /// Puts a monitor on a character device. On a multiplexer whoever comes first has the focus, so that the serial
    /// port is to be attached before.
    pub fn attach(front: CharFrontend, machine: Arc<dyn MachineControl>) -> Arc<Self> {
        let monitor = Arc::new(Self {
            front,
            machine,
            state: Mutex::new(State {
                readline: Readline::new("(qemu) "),
                cpu: 0,
                format: Format { count: 1, letter: 'x', size: 4 },
                hidden: None,
                greeted: false,
            }),
        });
        let handler: Arc<dyn Handler> = monitor.clone();
        let weak: Weak<dyn Handler> = Arc::downgrade(&handler);
        monitor.front.set_handler(Some(weak));
        monitor
    }

    /// Shows bytes, with line feeds as terminals want them, or keeps them until the terminal is ours.
    fn show(&self, state: &mut State, bytes: &[u8]) {
        let mut cooked = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == b'\n' {
                cooked.push(b'\r');
            }
            cooked.push(byte);
        }
        match &mut state.hidden {
            Some(kept) => {
                let room = MAX_HIDDEN.saturating_sub(kept.len());
                kept.extend_from_slice(&cooked[..cooked.len().min(room)]);
            }
            None => self.front.write_all(&cooked),
        }
    }

    /// Does what a line says; false when no other will follow.
    fn run(&self, state: &mut State, line: &str) -> bool {
        let mut out = String::new();
        let (mut cpu, mut format) = (state.cpu, state.format);
        let history = state.readline.history();
        let mut scope = Scope {
            machine: &*self.machine,
            cpu: &mut cpu,
            format: &mut format,
            ended: false,
            history: &history,
            out: &mut out,
        };
        commands::execute(&mut scope, line);
        let ended = scope.ended;
        (state.cpu, state.format) = (cpu, format);
        self.show(state, out.as_bytes());
        !ended
    }

    fn complete(&self, state: &mut State, text: &str) {
        let (prefix, names) = commands::completions(text);
        let mut out = Vec::new();
        match names.as_slice() {
            [] => {}
            [one] => state.readline.insert_text(&format!("{} ", &one[prefix.len()..]), &mut out),
            [first, rest @ ..] => {
                let common = rest.iter().fold(first.len(), |length, name| {
                    first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count().min(length)
                });
                if common > prefix.len() {
                    state.readline.insert_text(&first[prefix.len()..common], &mut out);
                } else {
                    out.extend_from_slice(format!("\n{}\n", names.join(" ")).as_bytes());
                    state.readline.show_prompt(&mut out);
                }
            }
        }
        self.show(state, &out);
    }
}

impl Handler for Monitor {
    fn can_receive(&self) -> usize {
        // The greeting comes first.
        if self.state.lock().greeted { 4096 } else { 0 }
    }

    fn receive(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        for &byte in bytes {
            let mut out = Vec::new();
            let edited = state.readline.byte(byte, &mut out);
            self.show(&mut state, &out);
            match edited {
                Edited::Nothing => {}
                Edited::Complete(text) => self.complete(&mut state, &text),
                Edited::Line(line) => {
                    if !self.run(&mut state, &line) {
                        return;
                    }
                    let mut out = Vec::new();
                    state.readline.show_prompt(&mut out);
                    self.show(&mut state, &out);
                }
            }
        }
    }

    fn event(&self, event: Event) {
        let mut state = self.state.lock();
        match event {
            Event::Open => {
                let mut out = b"QEMU 9.1.0 monitor - type 'help' for more information\n".to_vec();
                state.readline.restart();
                if state.hidden.is_none() {
                    state.readline.show_prompt(&mut out);
                }
                state.greeted = true;
                self.show(&mut state, &out);
                self.front.accept_input();
            }
            Event::Close => {
                state.readline.restart();
                state.greeted = false;
            }
            Event::MuxIn => {
                if let Some(kept) = state.hidden.take() {
                    self.front.write_all(&kept);
                    if state.greeted {
                        let mut out = Vec::new();
                        state.readline.show_prompt(&mut out);
                        self.show(&mut state, &out);
                    }
                }
            }
            Event::MuxOut => {
                if state.hidden.is_none() {
                    if state.greeted {
                        self.show(&mut state, b"\n");
                    }
                    state.hidden = Some(Vec::new());
                }
            }
            Event::Break => {}
        }
    }
}
