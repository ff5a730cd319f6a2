//! The two 8237 DMA controllers (`i8257`) and their page registers.
//!
//! Source: Intel 8237A data sheet; the page ports of the IBM AT. An ISA device moves its data through
//! [`DmaPair::transfer`].

use crate::window::{byte, window};
use guestmem::{Dma, IoRules, Region};
use parking_lot::Mutex;
use std::sync::Arc;

/// Page register offsets (from 0x80, or 0x88) by channel: 7, 3, 1, 2.
const PAGES: [u64; 4] = [7, 3, 1, 2];

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Channel {
    base_address: u16,
    base_count: u16,
    /// Where the present transfer began, and how many units it has moved.
    start: u16,
    done: u16,
    page: u8,
    mode: u8,
}

impl Channel {
    fn downwards(&self) -> bool {
        self.mode & 0x20 != 0
    }

    fn address(&self) -> u16 {
        if self.downwards() { self.start.wrapping_sub(self.done) } else { self.start.wrapping_add(self.done) }
    }

    fn count(&self) -> u16 {
        self.base_count.wrapping_sub(self.done)
    }

    /// A transfer begins anew.
    fn load(&mut self) {
        (self.start, self.done) = (self.base_address, 0);
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Controller {
    channels: [Channel; 4],
    status: u8,
    command: u8,
    mask: u8,
    /// The next access means the high byte.
    high: bool,
}

impl Controller {
    fn clear(&mut self) {
        self.high = false;
        self.mask = 0xff;
        self.status = 0;
        self.command = 0;
    }

    fn read(&mut self, register: u64) -> u8 {
        match register {
            0..=7 => {
                let channel = &self.channels[usize::try_from(register >> 1).unwrap_or(0)];
                let value = if register & 1 == 0 { channel.address() } else { channel.count() };
                let high = self.flip();
                value.to_le_bytes()[usize::from(high)]
            }
            8 => {
                let status = self.status;
                // Reading clears the terminal-count bits.
                self.status &= 0xf0;
                status
            }
            // The mask reads where requests are written, as in QEMU.
            9 => self.mask,
            _ => 0,
        }
    }

    fn flip(&mut self) -> bool {
        let high = self.high;
        self.high = !high;
        high
    }

    fn write(&mut self, register: u64, value: u8) {
        match register {
            0..=7 => {
                let high = usize::from(self.flip());
                let channel = &mut self.channels[usize::try_from(register >> 1).unwrap_or(0)];
                let base =
                    if register & 1 == 0 { &mut channel.base_address } else { &mut channel.base_count };
                let mut bytes = base.to_le_bytes();
                bytes[high] = value;
                *base = u16::from_le_bytes(bytes);
                if high == 1 {
                    channel.load();
                }
            }
            8 => self.command = value,
            9 => {
                let bit = 1 << (value & 3);
                if value & 4 != 0 {
                    self.status |= bit << 4;
                } else {
                    self.status &= !(bit << 4);
                }
            }
            0xa => {
                let bit = 1 << (value & 3);
                self.mask = if value & 4 != 0 { self.mask | bit } else { self.mask & !bit };
            }
            0xb => self.channels[usize::from(value & 3)].mode = value,
            0xc => self.high = false,
            0xd => self.clear(),
            0xe => self.mask = 0,
            _ => self.mask = value,
        }
    }
}

/// Which way an ISA device's transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaDirection {
    /// From memory to the device.
    ToDevice,
    /// From the device to memory.
    ToMemory,
}

/// The pair: channels 0 to 3 move bytes, 5 to 7 words.
pub struct DmaPair {
    memory: Dma,
    state: Mutex<[Controller; 2]>,
}

impl DmaPair {
    /// A pair in its reset state that masters `memory`.
    pub fn new(memory: Dma) -> Arc<Self> {
        let pair = Arc::new(Self { memory, state: Mutex::default() });
        pair.reset();
        pair
    }

    /// System reset.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        *state = Default::default();
        state.iter_mut().for_each(Controller::clear);
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        // Channels and controls have windows of their own; a wide access goes on from one into the other.
        let mut ports = vec![
            (
                0x00,
                window(
                    "dma-chan",
                    8,
                    IoRules::BYTES,
                    self,
                    |d, o, _| d.state.lock()[0].read(o).into(),
                    |d, o, _, v| d.state.lock()[0].write(o, byte(v)),
                ),
            ),
            (
                0x08,
                window(
                    "dma-cont",
                    8,
                    IoRules::BYTES,
                    self,
                    |d, o, _| d.state.lock()[0].read(o + 8).into(),
                    |d, o, _, v| d.state.lock()[0].write(o + 8, byte(v)),
                ),
            ),
            (
                0xc0,
                window(
                    "dma-chan",
                    0x10,
                    IoRules::BYTES,
                    self,
                    |d, o, _| d.state.lock()[1].read(o >> 1).into(),
                    |d, o, _, v| d.state.lock()[1].write(o >> 1, byte(v)),
                ),
            ),
            (
                0xd0,
                window(
                    "dma-cont",
                    0x10,
                    IoRules::BYTES,
                    self,
                    |d, o, _| d.state.lock()[1].read((o >> 1) + 8).into(),
                    |d, o, _, v| d.state.lock()[1].write((o >> 1) + 8, byte(v)),
                ),
            ),
        ];
        for (first, read, write) in PAGE_WINDOWS {
            ports.push((first, window("dma-page", 3, IoRules::BYTES, self, read, write)));
        }
        for (port, read, write) in PAGE_SINGLES {
            ports.push((port, window("dma-page", 1, IoRules::BYTES, self, read, write)));
        }
        ports
    }

    fn page(&self, controller: usize, offset: u64) -> u64 {
        let channel = PAGES.iter().position(|&p| p == offset).unwrap_or(0);
        self.state.lock()[controller].channels[channel].page.into()
    }

    fn set_page(&self, controller: usize, offset: u64, value: u64) {
        let channel = PAGES.iter().position(|&p| p == offset).unwrap_or(0);
        self.state.lock()[controller].channels[channel].page = byte(value);
    }

    /// Moves up to `buf.len()` bytes between `buf` and memory on behalf of the device at `channel` (0 to 7), by the
    /// channel's registers; returns how many were moved. 0 when the guest has not set the channel up for it.
    pub fn transfer(&self, channel: u8, direction: DmaDirection, buf: &mut [u8]) -> usize {
        let (number, wide) = (usize::from(channel & 3), channel >= 4);
        let (address, count, down) = {
            let mut state = self.state.lock();
            let chip = &mut state[usize::from(wide)];
            let c = chip.channels[number];
            let wanted = if direction == DmaDirection::ToMemory { 4 } else { 8 };
            if chip.mask & 1 << number != 0 || chip.command & 4 != 0 || c.mode & 0xc != wanted {
                return 0;
            }
            let unit = if wide { 2 } else { 1 };
            let left = (usize::from(c.count()) + 1) * unit;
            let count = left.min(buf.len()) / unit * unit;
            let steps = u16::try_from(count / unit % 0x1_0000).unwrap_or(0);
            let down = c.downwards();
            let c = &mut chip.channels[number];
            let start = u64::from(c.page) << 16;
            let address = if wide {
                (start & !0x1_ffff) + 2 * u64::from(c.address())
            } else {
                start + u64::from(c.address())
            };
            c.done = c.done.wrapping_add(steps);
            if count == left {
                chip.status |= 1 << number;
                if c.mode & 0x10 != 0 {
                    c.load();
                } else {
                    chip.mask |= 1 << number;
                }
            }
            (address, count, down)
        };
        let buf = &mut buf[..count];
        // Downwards, the first byte is at the highest address.
        let start = if down { address.saturating_sub(count.saturating_sub(1) as u64) } else { address };
        match direction {
            DmaDirection::ToDevice => {
                self.memory.read(start, buf);
                if down {
                    buf.reverse();
                }
            }
            DmaDirection::ToMemory => {
                if down {
                    buf.reverse();
                }
                self.memory.write(start, buf);
            }
        }
        count
    }
}

type Read = fn(&DmaPair, u64, u8) -> u64;
type Write = fn(&DmaPair, u64, u8, u64);

/// Page ports 0x81 to 0x83 and 0x89 to 0x8b.
const PAGE_WINDOWS: [(u64, Read, Write); 2] = [
    (0x81, |d, o, _| d.page(0, o + 1), |d, o, _, v| d.set_page(0, o + 1, v)),
    (0x89, |d, o, _| d.page(1, o + 1), |d, o, _, v| d.set_page(1, o + 1, v)),
];
/// Page ports 0x87 and 0x8f.
const PAGE_SINGLES: [(u64, Read, Write); 2] = [
    (0x87, |d, _, _| d.page(0, 7), |d, _, _, v| d.set_page(0, 7, v)),
    (0x8f, |d, _, _| d.page(1, 7), |d, _, _, v| d.set_page(1, 7, v)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hammer, port_space};
    use guestmem::{AddressSpace, RamBlock};

    fn pair() -> (Arc<DmaPair>, AddressSpace, AddressSpace) {
        let root = Region::whole("system");
        root.add(&Region::ram("ram", RamBlock::new("ram", 0x10_0000).expect("ram")), 0);
        let memory = AddressSpace::memory("memory", &root);
        let pair = DmaPair::new(Dma::new(&memory));
        let io = port_space(pair.ports());
        (pair, memory, io)
    }

    #[test]
    fn registers_read_back_byte_by_byte() {
        let (_pair, _memory, io) = pair();
        for port in [0x04, 0xc8] {
            io.write_int(if port < 0xc0 { 0xc } else { 0xd8 }, 1, 0);
            io.write_int(port, 1, 0x34);
            io.write_int(port, 1, 0x12);
            assert_eq!((io.read_int(port, 1), io.read_int(port, 1)), (0x34, 0x12));
        }
        io.write_int(0x81, 1, 0x5);
        io.write_int(0x8f, 1, 0x6);
        assert_eq!((io.read_int(0x81, 1), io.read_int(0x8f, 1)), (5, 6));
        assert_eq!((io.read_int(0x0f, 1), io.read_int(0x09, 1), io.read_int(0x08, 1)), (0, 0xff, 0));
    }

    #[test]
    fn a_programmed_channel_moves_bytes_and_masks_itself_at_the_end() {
        let (pair, memory, io) = pair();
        for (port, value) in
            [(0xc, 0), (4, 0x00), (4, 0x10), (5, 7), (5, 0), (0x81, 2), (0xb, 0x46), (0xa, 2)]
        {
            io.write_int(port, 1, value);
        }
        let mut data = *b"0123456789";
        assert_eq!(pair.transfer(2, DmaDirection::ToDevice, &mut data), 0);
        assert_eq!(pair.transfer(2, DmaDirection::ToMemory, &mut data), 8);
        let mut seen = [0; 9];
        memory.read(0x2_1000, &mut seen);
        assert_eq!(&seen, b"01234567\0");
        assert_eq!(io.read_int(8, 1), 4);
        assert_eq!(pair.transfer(2, DmaDirection::ToMemory, &mut data), 0);
    }

    #[test]
    fn any_access_is_harmless_and_reset_is_complete() {
        let (pair, _memory, io) = pair();
        let ports: Vec<u64> = (0..0x10).chain(0x81..0x90).chain(0xc0..0xe0).collect();
        let mut buf = vec![0; 0x3_0000];
        for _ in 0..10 {
            hammer(&io, &ports, 1_000);
            for channel in 0..8 {
                pair.transfer(channel, DmaDirection::ToMemory, &mut buf);
                pair.transfer(channel, DmaDirection::ToDevice, &mut buf);
            }
        }
        pair.reset();
        let once = *pair.state.lock();
        pair.reset();
        assert_eq!(once, *pair.state.lock());
    }
}
