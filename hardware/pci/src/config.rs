//! Configuration space: bytes, which bits the guest may write, and capabilities.

/// Offsets and bits of the header (PCI 3.0, section 6.1).
pub mod regs {
    /// Vendor id, 16 bits.
    pub const VENDOR: u16 = 0x00;
    /// Device id, 16 bits.
    pub const DEVICE: u16 = 0x02;
    /// Command, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// COMMAND: answers in I/O space.
    pub const COMMAND_IO: u16 = 1 << 0;
    /// COMMAND: answers in memory space.
    pub const COMMAND_MEMORY: u16 = 1 << 1;
    /// COMMAND: may master the bus.
    pub const COMMAND_MASTER: u16 = 1 << 2;
    /// COMMAND: may report SERR#.
    pub const COMMAND_SERR: u16 = 1 << 8;
    /// COMMAND: INTx stays off.
    pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    /// Status, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// STATUS: an INTx interrupt is pending.
    pub const STATUS_INTERRUPT: u16 = 1 << 3;
    /// STATUS: there is a capability list.
    pub const STATUS_CAPABILITIES: u16 = 1 << 4;
    /// Revision, 8 bits; programming interface and class follow.
    pub const REVISION: u16 = 0x08;
    /// Cache line size, 8 bits.
    pub const CACHE_LINE: u16 = 0x0c;
    /// Header type, 8 bits.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// HEADER_TYPE: the device has several functions.
    pub const HEADER_MULTIFUNCTION: u8 = 0x80;
    /// First base address register.
    pub const BAR0: u16 = 0x10;
    /// Subsystem vendor id, then subsystem id.
    pub const SUBSYSTEM: u16 = 0x2c;
    /// Expansion ROM base address.
    pub const ROM: u16 = 0x30;
    /// First capability.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line, 8 bits.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// Interrupt pin, 8 bits: 0 none, 1 INTA#, ...
    pub const INTERRUPT_PIN: u16 = 0x3d;
}

/// The bytes of one function's configuration space (256, or 4096 with PCI Express) with the masks of what a guest
/// write changes.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    write_1_clears: Vec<u8>,
    used: Vec<bool>,
}

impl ConfigSpace {
    /// An all-zero space: header writable as the specification says, everything from 0x40 on plain storage.
    pub fn new(express: bool) -> Self {
        let size = if express { 4096 } else { 256 };
        let mut this = Self {
            bytes: vec![0; size],
            writable: vec![0; size],
            write_1_clears: vec![0; size],
            used: vec![false; size],
        };
        this.writable[0x40..].fill(0xff);
        this.writable[usize::from(regs::CACHE_LINE)] = 0xff;
        this.writable[usize::from(regs::INTERRUPT_LINE)] = 0xff;
        let command = regs::COMMAND_IO
            | regs::COMMAND_MEMORY
            | regs::COMMAND_MASTER
            | regs::COMMAND_SERR
            | regs::COMMAND_INTX_DISABLE;
        this.set_writable(regs::COMMAND, 2, command.into());
        // Parity, aborts and system errors: latched, written with ones to clear.
        this.put(&mut |s| &mut s.write_1_clears, regs::STATUS, 2, 0xf900);
        this
    }

    fn put(&mut self, which: &mut dyn FnMut(&mut Self) -> &mut Vec<u8>, offset: u16, size: u8, value: u32) {
        for (i, byte) in value.to_le_bytes().iter().take(size.into()).enumerate() {
            if let Some(slot) = which(self).get_mut(usize::from(offset) + i) {
                *slot = *byte;
            }
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u16 {
        self.bytes.len() as u16
    }

    /// Reads `size` (1, 2 or 4) bytes; beyond the end there are ones.
    pub fn get(&self, offset: u16, size: u8) -> u32 {
        let mut value = [0; 4];
        for (i, byte) in value.iter_mut().take(size.min(4).into()).enumerate() {
            *byte = self.bytes.get(usize::from(offset) + i).copied().unwrap_or(0xff);
        }
        u32::from_le_bytes(value)
    }

    /// Sets `size` (1, 2 or 4) bytes whatever the masks say.
    pub fn set(&mut self, offset: u16, size: u8, value: u32) {
        self.put(&mut |s| &mut s.bytes, offset, size, value);
    }

    /// Sets which bits of `size` bytes the guest may write.
    pub fn set_writable(&mut self, offset: u16, size: u8, mask: u32) {
        self.put(&mut |s| &mut s.writable, offset, size, mask);
    }

    /// Which bits of `size` bytes the guest may write.
    pub fn writable(&self, offset: u16, size: u8) -> u32 {
        let mut value = [0; 4];
        for (i, byte) in value.iter_mut().take(size.min(4).into()).enumerate() {
            *byte = self.writable.get(usize::from(offset) + i).copied().unwrap_or(0);
        }
        u32::from_le_bytes(value)
    }

    /// A guest write of `size` (1, 2 or 4) bytes.
    pub fn guest_write(&mut self, offset: u16, size: u8, value: u32) {
        for (i, byte) in value.to_le_bytes().iter().take(size.min(4).into()).enumerate() {
            let at = usize::from(offset) + i;
            if at >= self.bytes.len() {
                return;
            }
            let (old, writable) = (self.bytes[at], self.writable[at]);
            let clears = self.write_1_clears[at] & byte;
            self.bytes[at] = ((old & !writable) | (byte & writable)) & !clears;
        }
    }

    /// Clears every guest-writable or latched bit of `size` bytes, as a reset does.
    pub(crate) fn clear_writable(&mut self, offset: u16, size: u8) {
        for at in usize::from(offset)..(usize::from(offset) + usize::from(size)).min(self.bytes.len()) {
            self.bytes[at] &= !(self.writable[at] | self.write_1_clears[at]);
        }
    }

    /// Adds a capability with `body` after its two header bytes, at `at` or at the first gap; its bytes are read-only
    /// until [`ConfigSpace::set_writable`]. Returns its offset; `None` when there is no room.
    pub fn add_capability(&mut self, id: u8, at: Option<u8>, body: &[u8]) -> Option<u8> {
        let len = body.len() + 2;
        let free = |from: usize| from + len <= 256 && self.used[from..from + len].iter().all(|u| !u);
        let at = match at {
            Some(at) => usize::from(at),
            None => (0x40..256).step_by(4).find(|&at| free(at))?,
        };
        if !free(at) {
            return None;
        }
        let next = self.bytes[usize::from(regs::CAPABILITIES)];
        self.bytes[at] = id;
        self.bytes[at + 1] = next;
        self.bytes[at + 2..at + len].copy_from_slice(body);
        self.writable[at..at + len].fill(0);
        // Capabilities keep to dwords; the rest of the last one stays plain storage, but is not given away.
        self.used[at..(at + len).next_multiple_of(4).min(256)].fill(true);
        self.bytes[usize::from(regs::CAPABILITIES)] = at as u8;
        self.bytes[usize::from(regs::STATUS)] |= regs::STATUS_CAPABILITIES as u8;
        Some(at as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_respect_the_masks() {
        let mut space = ConfigSpace::new(false);
        space.set(regs::VENDOR, 4, 0x7000_8086);
        space.guest_write(regs::VENDOR, 4, 0);
        assert_eq!(space.get(regs::VENDOR, 4), 0x7000_8086);
        space.guest_write(regs::COMMAND, 2, 0xffff);
        assert_eq!(space.get(regs::COMMAND, 2), 0x0507);
        space.set(regs::STATUS, 2, 0xf210);
        space.guest_write(regs::STATUS, 2, 0x8010);
        assert_eq!(space.get(regs::STATUS, 2), 0x7210);
        space.guest_write(0xfe, 4, 0x1122_3344);
        assert_eq!(space.get(0xfe, 4), 0xffff_3344);
    }

    #[test]
    fn capabilities_are_chained_latest_first() {
        let mut space = ConfigSpace::new(false);
        assert_eq!(space.add_capability(9, None, &[0; 14]), Some(0x40));
        assert_eq!(space.add_capability(0x11, Some(0x98), &[0; 10]), Some(0x98));
        assert_eq!(space.add_capability(9, None, &[0; 3]), Some(0x50));
        assert_eq!(space.add_capability(9, Some(0x99), &[0; 3]), None);
        assert_eq!(space.get(regs::CAPABILITIES, 1), 0x50);
        assert_eq!((space.get(0x51, 1), space.get(0x99, 1), space.get(0x41, 1)), (0x98, 0x40, 0));
        space.guest_write(0x40, 4, 0xffff_ffff);
        assert_eq!(space.get(0x40, 1), 9);
    }
}
