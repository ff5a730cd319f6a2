//! The pair of 8259A interrupt controllers (`isa-i8259`), with the edge/level registers.
//!
//! Source: Intel 8259A data sheet; ELCR from Intel's PIIX data sheets. One lock for both chips, since the second
//! hangs on the first. The output is driven with the lock held, so that it is always what the registers say.

use crate::window::{byte, window};
use guestmem::{IoRules, Region};
use irq::{IrqLine, IrqSink};
use parking_lot::Mutex;
use std::sync::Arc;

/// The input of the first chip that the second hangs on.
const CASCADE: u8 = 2;

/// What the next write to the data port means.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Init {
    #[default]
    Done,
    Icw2,
    Icw3,
    Icw4,
}

#[derive(Default, Clone, PartialEq, Eq, Debug)]
struct Chip {
    master: bool,
    /// Levels of the inputs as last seen by the edge detector.
    last: u8,
    irr: u8,
    imr: u8,
    isr: u8,
    /// The input with the highest priority.
    top: u8,
    base: u8,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    init: Init,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_fully_nested: bool,
    init4: bool,
    single: bool,
    /// ICW1's LTIM: all inputs level-triggered.
    all_level: bool,
    elcr: u8,
}

impl Chip {
    /// Which inputs' trigger mode can be chosen.
    fn elcr_mask(&self) -> u8 {
        if self.master { 0xf8 } else { 0xde }
    }

    fn is_level(&self, input: u8) -> bool {
        self.all_level || self.elcr & 1 << input != 0
    }

    fn set(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        if self.is_level(input) {
            if level {
                self.irr |= bit;
                self.last |= bit;
            } else {
                self.irr &= !bit;
                self.last &= !bit;
            }
        } else if level {
            if self.last & bit == 0 {
                if self.irr & bit == 0 && self.imr & bit == 0 {
                    irq::delivery::taken();
                }
                self.irr |= bit;
            }
            self.last |= bit;
        } else {
            self.last &= !bit;
        }
    }

    /// Rank of the highest-priority input in `mask`; 8 for none.
    fn rank(&self, mask: u8) -> u8 {
        (0..8).find(|r| mask & 1 << ((r + self.top) & 7) != 0).unwrap_or(8)
    }

    /// The input that asks for service now.
    fn request(&self) -> Option<u8> {
        let rank = self.rank(self.irr & !self.imr);
        if rank == 8 {
            return None;
        }
        let mut served = self.isr;
        if self.special_mask {
            served &= !self.imr;
        }
        if self.special_fully_nested && self.master {
            served &= !(1 << CASCADE);
        }
        (rank < self.rank(served)).then_some((rank + self.top) & 7)
    }

    fn acknowledge(&mut self, input: u8) {
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.top = (input + 1) & 7;
            }
        } else {
            self.isr |= 1 << input;
        }
        if !self.is_level(input) {
            self.irr &= !(1 << input);
        }
    }

    fn start_init(&mut self, icw1: u8) {
        let (master, elcr) = (self.master, self.elcr);
        let irr = self.irr & elcr;
        *self = Self { master, elcr, irr, ..Self::default() };
        self.init = Init::Icw2;
        self.init4 = icw1 & 1 != 0;
        self.single = icw1 & 2 != 0;
        self.all_level = icw1 & 8 != 0;
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.start_init(value);
        } else if value & 8 != 0 {
            if value & 4 != 0 {
                self.poll = true;
            }
            if value & 2 != 0 {
                self.read_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            command @ (0 | 4) => self.rotate_on_auto_eoi = command == 4,
            command @ (1 | 5) => {
                let rank = self.rank(self.isr);
                if rank < 8 {
                    let input = (rank + self.top) & 7;
                    self.isr &= !(1 << input);
                    if command == 5 {
                        self.top = (input + 1) & 7;
                    }
                }
            }
            3 => self.isr &= !(1 << level),
            6 => self.top = (level + 1) & 7,
            7 => {
                self.isr &= !(1 << level);
                self.top = (level + 1) & 7;
            }
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        let after = |init4| if init4 { Init::Icw4 } else { Init::Done };
        match self.init {
            Init::Done => self.imr = value,
            Init::Icw2 => {
                self.base = value & 0xf8;
                self.init = if self.single { after(self.init4) } else { Init::Icw3 };
            }
            Init::Icw3 => self.init = after(self.init4),
            Init::Icw4 => {
                self.special_fully_nested = value & 0x10 != 0;
                self.auto_eoi = value & 2 != 0;
                self.init = Init::Done;
            }
        }
    }

    fn read(&mut self, offset: u64) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.request() {
                Some(input) => {
                    self.acknowledge(input);
                    input | 0x80
                }
                None => 0,
            };
        }
        match (offset, self.read_isr) {
            (0, true) => self.isr,
            (0, false) => self.irr,
            _ => self.imr,
        }
    }
}

struct State {
    master: Chip,
    slave: Chip,
    output: bool,
}

impl State {
    fn reset() -> Self {
        Self { master: Chip { master: true, ..Chip::default() }, slave: Chip::default(), output: false }
    }

    fn chip(&mut self, slave: bool) -> &mut Chip {
        if slave { &mut self.slave } else { &mut self.master }
    }
}

/// The pair of controllers; as an [`IrqSink`], lines 0 to 15.
pub struct Pic {
    output: IrqLine,
    state: Mutex<State>,
}

impl Pic {
    /// A pair in its reset state that drives `output`.
    pub fn new(output: IrqLine) -> Arc<Self> {
        Arc::new(Self { output, state: Mutex::new(State::reset()) })
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        let bytes = IoRules::BYTES;
        vec![
            (
                0x20,
                window("pic", 2, bytes, self, |p, o, _| p.read(false, o), |p, o, _, v| p.write(false, o, v)),
            ),
            (
                0xa0,
                window("pic", 2, bytes, self, |p, o, _| p.read(true, o), |p, o, _, v| p.write(true, o, v)),
            ),
            (
                0x4d0,
                window(
                    "elcr",
                    1,
                    bytes,
                    self,
                    |p, _, _| p.state.lock().master.elcr.into(),
                    |p, _, _, v| {
                        p.write_elcr(false, v);
                    },
                ),
            ),
            (
                0x4d1,
                window(
                    "elcr",
                    1,
                    bytes,
                    self,
                    |p, _, _| p.state.lock().slave.elcr.into(),
                    |p, _, _, v| {
                        p.write_elcr(true, v);
                    },
                ),
            ),
        ]
    }

    /// System reset.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let output = state.output;
        *state = State::reset();
        state.output = output;
        self.update(&mut state);
    }

    /// Passes the second chip's output to the first, and the first's to the processor.
    fn update(&self, state: &mut State) {
        let cascade = state.slave.request().is_some();
        state.master.set(CASCADE, cascade);
        let output = state.master.request().is_some();
        if state.output != output {
            state.output = output;
            self.output.set(output);
        }
    }

    fn read(&self, slave: bool, offset: u64) -> u64 {
        let mut state = self.state.lock();
        let value = state.chip(slave).read(offset);
        self.update(&mut state);
        value.into()
    }

    fn write(&self, slave: bool, offset: u64, value: u64) {
        let mut state = self.state.lock();
        let chip = state.chip(slave);
        if offset == 0 {
            chip.write_command(byte(value))
        } else {
            chip.write_data(byte(value))
        }
        self.update(&mut state);
    }

    fn write_elcr(&self, slave: bool, value: u64) {
        let mut state = self.state.lock();
        let chip = state.chip(slave);
        chip.elcr = byte(value) & chip.elcr_mask();
    }

    /// The interrupt acknowledge cycle: the vector; `None` when the request went away.
    pub fn acknowledge(&self) -> Option<u8> {
        let mut state = self.state.lock();
        let input = state.master.request()?;
        let vector = if input == CASCADE {
            // A request of the second chip that went away reads as its input 7, without being in service.
            let second = state.slave.request();
            if let Some(second) = second {
                state.slave.acknowledge(second);
            }
            state.slave.base + second.unwrap_or(7)
        } else {
            state.master.base + input
        };
        state.master.acknowledge(input);
        self.update(&mut state);
        Some(vector)
    }

    /// `info pic`: one line a chip, in QEMU's layout.
    pub fn describe(&self) -> String {
        let state = self.state.lock();
        [&state.master, &state.slave]
            .iter()
            .enumerate()
            .rev()
            .map(|(i, c)| {
                format!(
                    "pic{i}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}\n",
                    c.irr,
                    c.imr,
                    c.isr,
                    c.top,
                    c.base,
                    u8::from(c.read_isr),
                    c.elcr,
                    u8::from(c.special_fully_nested)
                )
            })
            .collect()
    }
}

impl IrqSink for Pic {
    fn set_level(&self, line: u32, level: bool) {
        let Ok(line) = u8::try_from(line) else { return };
        if line >= 16 || line == CASCADE {
            return;
        }
        let mut state = self.state.lock();
        state.chip(line >= 8).set(line & 7, level);
        self.update(&mut state);
    }

    fn import_level(&self, line: u32, level: bool) {
        let mut state = self.state.lock();
        let bit = 1 << (line & 7);
        let chip = state.chip(line >= 8);
        chip.last = if level { chip.last | bit } else { chip.last & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Wire, hammer, port_space};

    fn pair() -> (Arc<Pic>, Arc<Wire>, guestmem::AddressSpace) {
        let wire = Wire::new();
        let pic = Pic::new(wire.line());
        let io = port_space(pic.ports());
        for (port, base) in [(0x20_u64, 0x08_u64), (0xa0, 0x70)] {
            io.write_int(port, 1, 0x11);
            io.write_int(port + 1, 1, base);
            io.write_int(port + 1, 1, if port == 0x20 { 4 } else { 2 });
            io.write_int(port + 1, 1, 1);
        }
        (pic, wire, io)
    }

    #[test]
    fn an_edge_is_delivered_once_and_a_higher_priority_nests() {
        let (pic, wire, io) = pair();
        pic.set_level(4, true);
        assert!(wire.level());
        assert_eq!(pic.acknowledge(), Some(0x0c));
        assert!(!wire.level());
        pic.set_level(5, true);
        assert!(!wire.level());
        pic.set_level(1, true);
        assert_eq!(pic.acknowledge(), Some(0x09));
        io.write_int(0x20, 1, 0x20);
        io.write_int(0x20, 1, 0x20);
        assert_eq!(pic.acknowledge(), Some(0x0d));
        assert_eq!(pic.acknowledge(), None);
    }

    #[test]
    fn the_second_chip_goes_through_input_2_and_needs_two_ends() {
        let (pic, wire, io) = pair();
        pic.set_level(12, true);
        assert_eq!(pic.acknowledge(), Some(0x74));
        io.write_int(0x20, 1, 0x0b);
        assert_eq!(io.read_int(0x20, 1), 4);
        pic.set_level(8, true);
        // A higher input of the second chip waits for the first chip's end of interrupt.
        assert!(!wire.level());
        io.write_int(0x20, 1, 0x62);
        assert_eq!(pic.acknowledge(), Some(0x70));
    }

    #[test]
    fn level_inputs_ask_again_while_high_and_masks_hold_them() {
        let (pic, wire, io) = pair();
        io.write_int(0x4d1, 1, 0xff);
        assert_eq!(io.read_int(0x4d1, 1), 0xde);
        io.write_int(0x4d0, 1, 0xff);
        assert_eq!(io.read_int(0x4d0, 1), 0xf8);
        pic.set_level(5, true);
        assert_eq!(pic.acknowledge(), Some(0x0d));
        io.write_int(0x20, 1, 0x20);
        assert!(wire.level());
        io.write_int(0x21, 1, 0x20);
        assert!(!wire.level());
        io.write_int(0x21, 1, 0);
        pic.set_level(5, false);
        assert!(!wire.level());
    }

    #[test]
    fn rotation_auto_eoi_poll_and_special_mask() {
        let (pic, wire, io) = pair();
        io.write_int(0x20, 1, 0xc0 | 3);
        pic.set_level(3, true);
        pic.set_level(4, true);
        assert_eq!(pic.acknowledge(), Some(0x0c));
        io.write_int(0x20, 1, 0xa0);
        assert_eq!(pic.acknowledge(), Some(0x0b));
        io.write_int(0x20, 1, 0x20);
        io.write_int(0x20, 1, 0xc7);
        // Special mask: with input 3 in service and masked, lower ones get through.
        pic.set_level(3, false);
        pic.set_level(3, true);
        assert_eq!(pic.acknowledge(), Some(0x0b));
        io.write_int(0x21, 1, 8);
        pic.set_level(6, true);
        assert!(!wire.level());
        io.write_int(0x20, 1, 0x68);
        assert_eq!(pic.acknowledge(), Some(0x0e));
        io.write_int(0x20, 1, 0x66);
        pic.set_level(7, true);
        io.write_int(0x20, 1, 0x0c);
        assert_eq!(io.read_int(0x20, 1), 0x87);
        assert_eq!(io.read_int(0x21, 1), 8);
    }

    #[test]
    fn any_access_is_harmless_and_reset_is_complete() {
        let (pic, wire, io) = pair();
        hammer(&io, &[0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1], 10_000);
        pic.reset();
        let once = pic.describe();
        assert!(!wire.level());
        pic.reset();
        assert_eq!(pic.describe(), once);
        assert_eq!(once, pic_reset_text());
    }

    fn pic_reset_text() -> String {
        let line = |i| format!("pic{i}: irr=00 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n");
        line(1) + &line(0)
    }
}
