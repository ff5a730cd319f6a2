//! The PS/2 keyboard and mouse behind the controller.

use std::collections::VecDeque;

/// Bytes that a device holds for the controller; what does not fit is lost, as on the real thing.
const QUEUE: usize = 256;
/// How many of them are input rather than answers.
const INPUT: usize = 16;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// Scan codes of set 1 by those of set 2, as the controller translates them.
const SET_2_TO_1: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, 0x65,
    0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, 0x67, 0x2e,
    0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, 0x69, 0x31, 0x30,
    0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17,
    0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a,
    0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a,
    0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01,
    0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];

/// The controller's translation of one byte from set 2.
pub(super) fn translate(code: u8) -> u8 {
    match code {
        0x83 => 0x41,
        0x84 => 0x54,
        _ => SET_2_TO_1.get(usize::from(code)).copied().unwrap_or(code),
    }
}

fn to_set_2(code: u8) -> u8 {
    if code == 0x41 {
        return 0x83;
    }
    SET_2_TO_1.iter().position(|&c| c == code).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keyboard {
    pub(super) queue: VecDeque<u8>,
    /// The command that waits for its parameter.
    command: u8,
    scanning: bool,
    set: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self { queue: VecDeque::new(), command: 0, scanning: true, set: 2 }
    }
}

impl Keyboard {
    fn put(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }

    pub(super) fn key(&mut self, code: u8, extended: bool, down: bool) {
        if !self.scanning || code == 0 || code > 0x7f || self.queue.len() >= INPUT {
            return;
        }
        let mut bytes = Vec::with_capacity(3);
        if extended {
            bytes.push(0xe0);
        }
        if self.set == 1 {
            bytes.push(code | if down { 0 } else { 0x80 });
        } else {
            if !down {
                bytes.push(0xf0);
            }
            bytes.push(to_set_2(code));
        }
        self.put(&bytes);
    }

    pub(super) fn command(&mut self, value: u8, translated: bool) {
        match std::mem::take(&mut self.command) {
            0xed | 0xf3 => self.put(&[ACK]),
            0xf0 => match value {
                0 => {
                    let set = if translated { translate(self.set) } else { self.set };
                    self.put(&[ACK, set]);
                }
                1..=3 => {
                    self.set = value;
                    self.put(&[ACK]);
                }
                _ => self.put(&[RESEND]),
            },
            _ => self.begin(value),
        }
    }

    fn begin(&mut self, value: u8) {
        match value {
            0x00 | 0xf7..=0xfa => self.put(&[ACK]),
            0xed | 0xf0 | 0xf3 => {
                self.command = value;
                self.put(&[ACK]);
            }
            0xee => self.put(&[0xee]),
            0xf2 => self.put(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.scanning = true;
                self.put(&[ACK]);
            }
            0xf5 | 0xf6 => {
                self.scanning = value == 0xf6;
                self.set = 2;
                self.queue.clear();
                self.put(&[ACK]);
            }
            0xff => {
                *self = Self::default();
                self.put(&[ACK, 0xaa]);
            }
            _ => self.put(&[RESEND]),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mouse {
    pub(super) queue: VecDeque<u8>,
    command: u8,
    enabled: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
    rate: u8,
    resolution: u8,
    /// Device ID: 0 plain, 3 with wheel, 4 with five buttons.
    kind: u8,
    /// The last sample rates, whose sequence unlocks the wheel.
    knock: [u8; 2],
    delta: [i32; 3],
    buttons: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            command: 0,
            enabled: false,
            remote: false,
            wrap: false,
            scaling: false,
            rate: 100,
            resolution: 0,
            kind: 0,
            knock: [0; 2],
            delta: [0; 3],
            buttons: 0,
        }
    }
}

impl Mouse {
    fn put(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }

    pub(super) fn motion(&mut self, dx: i32, dy: i32, dz: i32, buttons: u8) {
        let moves = [dx, dy.saturating_neg(), dz];
        for (sum, step) in self.delta.iter_mut().zip(moves) {
            *sum = sum.saturating_add(step);
        }
        self.buttons = buttons & 7;
        if self.enabled && !self.remote && self.queue.len() < INPUT {
            self.packet();
        }
    }

    fn packet(&mut self) {
        let mut bytes = vec![8 | self.buttons];
        for (axis, sign) in [(0, 0x10), (1, 0x20)] {
            let step = self.delta[axis].clamp(-127, 127);
            self.delta[axis] -= step;
            if step < 0 {
                bytes[0] |= sign;
            }
            bytes.push(step.to_le_bytes()[0]);
        }
        let step =
            self.delta[2].clamp(if self.kind == 4 { -7 } else { -127 }, if self.kind == 4 { 7 } else { 127 });
        self.delta[2] = 0;
        match self.kind {
            3 => bytes.push(step.to_le_bytes()[0]),
            4 => bytes.push(step.to_le_bytes()[0] & 0xf),
            _ => {}
        }
        self.put(&bytes);
    }

    pub(super) fn command(&mut self, value: u8) {
        match std::mem::take(&mut self.command) {
            0xf3 => self.set_rate(value),
            0xe8 => {
                self.resolution = value;
                self.put(&[ACK]);
            }
            _ if self.wrap && value != 0xec && value != 0xff => self.put(&[value]),
            _ => self.begin(value),
        }
    }

    fn set_rate(&mut self, rate: u8) {
        match (self.knock, rate) {
            ([200, 100], 80) => self.kind = 3,
            ([200, 200], 80) => self.kind = 4,
            _ => {}
        }
        self.knock = [self.knock[1], rate];
        self.rate = rate;
        self.put(&[ACK]);
    }

    fn begin(&mut self, value: u8) {
        match value {
            0xe6 | 0xe7 => self.scaling = value == 0xe7,
            0xe8 | 0xf3 => self.command = value,
            0xe9 => {
                let flags = u8::from(self.remote) << 6
                    | u8::from(self.enabled) << 5
                    | u8::from(self.scaling) << 4
                    | (self.buttons & 1) << 2
                    | (self.buttons & 2) >> 1
                    | (self.buttons & 4) >> 1;
                let bytes = [ACK, flags, self.resolution, self.rate];
                return self.put(&bytes);
            }
            0xea => self.remote = false,
            0xeb => {
                self.put(&[ACK]);
                return self.packet();
            }
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => return self.put(&[ACK, self.kind]),
            0xf4 => self.enabled = true,
            0xf5 => self.enabled = false,
            0xf6 => {
                let kind = self.kind;
                *self =
                    Self { queue: std::mem::take(&mut self.queue), kind, resolution: 2, ..Self::default() };
            }
            0xff => {
                *self = Self { resolution: 2, ..Self::default() };
                return self.put(&[ACK, 0xaa, 0]);
            }
            _ => return self.put(&[RESEND]),
        }
        self.put(&[ACK]);
    }
}
