//! The i8042 keyboard controller with a PS/2 keyboard and mouse, the A20 gate, and port 0x92.
//!
//! Source: IBM PS/2 technical reference (keyboard and auxiliary device controller), the keyboard's and the mouse's
//! own command sets.

mod a20;
mod ps2;
#[cfg(test)]
mod tests;

pub use a20::{A20Gate, Port92};

use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use ps2::{Keyboard, Mouse, translate};
use std::collections::VecDeque;
use std::sync::Arc;

const STATUS_OBF: u8 = 1;
const STATUS_SYSTEM: u8 = 4;
const STATUS_COMMAND: u8 = 8;
const STATUS_UNLOCKED: u8 = 0x10;
const STATUS_AUX: u8 = 0x20;

const MODE_KBD_INT: u8 = 1;
const MODE_AUX_INT: u8 = 2;
const MODE_KBD_OFF: u8 = 0x10;
const MODE_AUX_OFF: u8 = 0x20;
const MODE_TRANSLATE: u8 = 0x40;

const OUT_RESET: u8 = 1;
const OUT_A20: u8 = 2;
/// Lines of the output port that read high.
const OUT_ONES: u8 = 0xcc;

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    status: u8,
    mode: u8,
    output_port: u8,
    /// The command that waits for its data byte.
    command: u8,
    data: u8,
    /// Answers of the controller itself; true: as if from the mouse.
    replies: VecDeque<(u8, bool)>,
    keyboard: Keyboard,
    mouse: Mouse,
    /// The byte before was the release prefix, while translating.
    release: bool,
}

impl State {
    fn reset() -> Self {
        Self {
            status: STATUS_COMMAND | STATUS_UNLOCKED,
            mode: MODE_KBD_INT | MODE_AUX_INT,
            output_port: OUT_RESET | OUT_A20 | OUT_ONES,
            command: 0,
            data: 0,
            replies: VecDeque::new(),
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
            release: false,
        }
    }

    /// Fills the output buffer if it is free.
    fn fill(&mut self) {
        while self.status & STATUS_OBF == 0 {
            let (value, aux) = if let Some(reply) = self.replies.pop_front() {
                reply
            } else if let Some(code) = self.next_key() {
                if self.mode & MODE_TRANSLATE != 0 {
                    if code == 0xf0 {
                        self.release = true;
                        continue;
                    }
                    let release = std::mem::take(&mut self.release);
                    (translate(code) | if release { 0x80 } else { 0 }, false)
                } else {
                    (code, false)
                }
            } else if self.mode & MODE_AUX_OFF == 0
                && let Some(code) = self.mouse.queue.pop_front()
            {
                (code, true)
            } else {
                return;
            };
            self.data = value;
            self.status = self.status & !STATUS_AUX | STATUS_OBF | if aux { STATUS_AUX } else { 0 };
        }
    }

    fn next_key(&mut self) -> Option<u8> {
        if self.mode & MODE_KBD_OFF == 0 { self.keyboard.queue.pop_front() } else { None }
    }

    /// Levels of the keyboard's and the mouse's line.
    fn levels(&self) -> [bool; 2] {
        let full = self.status & STATUS_OBF != 0;
        let aux = self.status & STATUS_AUX != 0;
        [full && !aux && self.mode & MODE_KBD_INT != 0, full && aux && self.mode & MODE_AUX_INT != 0]
    }

    fn reply(&mut self, value: u8) {
        // A guest that never reads cannot make this grow.
        if self.replies.len() < 16 {
            self.replies.push_back((value, false));
        }
    }
}

/// What a write asks of the board.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    A20(bool),
    Reset,
}

/// The controller.
pub struct I8042 {
    lines: [IrqLine; 2],
    a20: Arc<A20Gate>,
    reset_machine: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    /// Held while the lines are driven, so that levels arrive in the order they were computed.
    wire: Mutex<[bool; 2]>,
}

impl I8042 {
    /// A controller whose keyboard drives `keyboard` and whose mouse drives `mouse`; `reset_machine` is called when
    /// the guest pulses the reset line.
    pub fn new(
        keyboard: IrqLine,
        mouse: IrqLine,
        a20: Arc<A20Gate>,
        reset_machine: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            lines: [keyboard, mouse],
            a20,
            reset_machine: Box::new(reset_machine),
            state: Mutex::new(State::reset()),
            wire: Mutex::new([false; 2]),
        })
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        vec![
            (
                0x60,
                window(
                    "i8042-data",
                    1,
                    IoRules::BYTES,
                    self,
                    |k, _, _| k.read_data().into(),
                    |k, _, _, v| {
                        k.write_data(byte(v));
                    },
                ),
            ),
            (
                0x64,
                window(
                    "i8042-cmd",
                    1,
                    IoRules::BYTES,
                    self,
                    |k, _, _| k.state.lock().status.into(),
                    |k, _, _, v| k.write_command(byte(v)),
                ),
            ),
        ]
    }

    /// System reset.
    pub fn reset(&self) {
        *self.state.lock() = State::reset();
        self.a20.set(true);
        self.update();
    }

    /// Presses or releases a key, given by its set 1 scan code (`0xe0` codes: `extended`).
    pub fn key(&self, code: u8, extended: bool, down: bool) {
        self.state.lock().keyboard.key(code, extended, down);
        self.refill();
    }

    /// Moves the mouse by (`dx`, `dy`; down is positive) and its wheel by `dz`; `buttons`: 1 left, 2 right, 4 middle.
    pub fn mouse(&self, dx: i32, dy: i32, dz: i32, buttons: u8) {
        self.state.lock().mouse.motion(dx, dy, dz, buttons);
        self.refill();
    }

    fn refill(&self) {
        self.state.lock().fill();
        self.update();
    }

    fn update(&self) {
        let mut wire = self.wire.lock();
        let levels = self.state.lock().levels();
        for (i, line) in self.lines.iter().enumerate() {
            if wire[i] != levels[i] {
                line.set(levels[i]);
            }
        }
        *wire = levels;
    }

    fn read_data(&self) -> u8 {
        let value = {
            let mut state = self.state.lock();
            state.status &= !(STATUS_OBF | STATUS_AUX);
            state.data
        };
        // The line falls between two bytes.
        self.update();
        self.refill();
        value
    }

    fn act(&self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::A20(on) => self.a20.set(on),
            Effect::Reset => (self.reset_machine)(),
        }
    }

    fn write_data(&self, value: u8) {
        let effect = {
            let mut state = self.state.lock();
            let command = std::mem::take(&mut state.command);
            let mut effect = Effect::None;
            match command {
                0x60 => state.mode = value,
                0xd1 => {
                    state.output_port = value;
                    effect = if value & OUT_RESET == 0 {
                        Effect::Reset
                    } else {
                        Effect::A20(value & OUT_A20 != 0)
                    };
                }
                0xd2 => state.reply(value),
                0xd3 => {
                    if state.replies.len() < 16 {
                        state.replies.push_back((value, true));
                    }
                }
                0xd4 => {
                    state.mode &= !MODE_AUX_OFF;
                    state.mouse.command(value);
                }
                _ => {
                    // A byte for the keyboard switches its interface on.
                    state.mode &= !MODE_KBD_OFF;
                    let translated = state.mode & MODE_TRANSLATE != 0;
                    state.keyboard.command(value, translated);
                }
            }
            state.fill();
            effect
        };
        self.update();
        self.act(effect);
    }

    fn write_command(&self, value: u8) {
        let effect = {
            let mut state = self.state.lock();
            let mut effect = Effect::None;
            match value {
                0x20 => {
                    let mode = state.mode;
                    state.reply(mode);
                }
                0x60 | 0xd1..=0xd4 => state.command = value,
                0xa7 => state.mode |= MODE_AUX_OFF,
                0xa8 => state.mode &= !MODE_AUX_OFF,
                0xa9 | 0xab => state.reply(0),
                0xaa => {
                    state.status |= STATUS_SYSTEM;
                    state.reply(0x55);
                }
                0xad => state.mode |= MODE_KBD_OFF,
                0xae => state.mode &= !MODE_KBD_OFF,
                0xc0 => state.reply(0x80),
                0xd0 => {
                    let mut port = state.output_port & !OUT_A20;
                    if self.a20.is_on() {
                        port |= OUT_A20;
                    }
                    if state.status & STATUS_OBF != 0 {
                        port |= if state.status & STATUS_AUX != 0 { 0x20 } else { 0x10 };
                    }
                    state.reply(port);
                }
                0xdd => effect = Effect::A20(false),
                0xdf => effect = Effect::A20(true),
                // Pulse output lines: bit 0 clear pulses the reset line.
                0xf0..=0xff if value & 1 == 0 => effect = Effect::Reset,
                _ => {}
            }
            state.fill();
            effect
        };
        self.update();
        self.act(effect);
    }
}
