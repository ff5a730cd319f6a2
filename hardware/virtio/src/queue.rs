//! The split virtqueue, device side (Virtio 1.2, section 2.7). Everything the driver writes is checked; what makes no
//! sense breaks the queue, and the device asks to be reset.

use guestmem::{Dma, RamSlice};
use std::sync::atomic::{Ordering, fence};

/// Descriptor flag: another follows.
const NEXT: u16 = 1;
/// Descriptor flag: the device writes.
const WRITE: u16 = 2;
/// Descriptor flag: a table of descriptors.
const INDIRECT: u16 = 4;
/// Most entries that a queue may have.
pub(crate) const MAX_SIZE: u16 = 1024;

/// What the driver got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// More chains are offered than the ring holds.
    TooManyOffered,
    /// A descriptor number beyond the ring.
    BadIndex,
    /// More descriptors than any chain may have.
    Looped,
    /// An indirect table whose size is no multiple of a descriptor's, or that is within another.
    BadIndirect,
    /// A writable descriptor before a readable one.
    BadOrder,
    /// A buffer that is not in RAM.
    BadBuffer,
}

/// One request: the buffers of a chain of descriptors.
pub struct Chain {
    head: u16,
    /// What the device reads.
    pub readable: Vec<RamSlice>,
    /// What the device writes.
    pub writable: Vec<RamSlice>,
}

impl Chain {
    /// Bytes that the device may read.
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(RamSlice::len).sum()
    }

    /// Bytes that the device may write.
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(RamSlice::len).sum()
    }
}

/// Copies from `slices`, `skip` bytes in, to `buf`; the number of bytes copied.
pub(crate) fn gather(slices: &[RamSlice], skip: u64, buf: &mut [u8]) -> usize {
    let mut done = 0;
    for slice in part(slices, skip, buf.len() as u64) {
        done += slice.copy_to(&mut buf[done..]);
    }
    done
}

/// Copies `buf` to `slices`, `skip` bytes in; the number of bytes copied.
pub(crate) fn scatter(slices: &[RamSlice], skip: u64, buf: &[u8]) -> usize {
    let mut done = 0;
    for slice in part(slices, skip, buf.len() as u64) {
        done += slice.copy_from(&buf[done..]);
    }
    done
}

/// The part of `slices` that starts `skip` bytes in and has at most `len` bytes.
pub(crate) fn part(slices: &[RamSlice], mut skip: u64, mut len: u64) -> Vec<RamSlice> {
    let mut out = Vec::new();
    for slice in slices {
        let from = skip.min(slice.len());
        skip -= from;
        let take = (slice.len() - from).min(len);
        len -= take;
        if take != 0
            && let Some(part) = slice.block().slice(slice.offset() + from, take)
        {
            out.push(part);
        }
    }
    out
}

/// A queue's rings and where the device is in them.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Entries, a power of two; the driver may make it smaller than `max`.
    pub size: u16,
    /// Most entries that the device offers.
    pub max: u16,
    /// Whether the driver has switched the queue on.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring.
    pub available: u64,
    /// Address of the used ring.
    pub used: u64,
    /// MSI-X vector; 0xffff: none.
    pub vector: u16,
    /// Whether both sides say at which entry they want to hear of the other.
    pub event_idx: bool,
    next_available: u16,
    next_used: u16,
    signalled: Option<u16>,
    broken: bool,
}

impl Queue {
    /// A queue of `max` entries as after a reset.
    pub fn new(max: u16) -> Self {
        Self {
            size: max,
            max,
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
            vector: 0xffff,
            event_idx: false,
            next_available: 0,
            next_used: 0,
            signalled: None,
            broken: false,
        }
    }

    /// Back to the state after a reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.max);
    }

    /// Whether there is anything to find in the rings.
    pub fn is_usable(&self) -> bool {
        self.ready && !self.broken && self.size != 0
    }

    fn entry(&self, index: u16) -> u64 {
        // Sizes of legacy queues are powers of two too; the remainder is right for any.
        u64::from(index % self.size)
    }

    fn offered(&self, dma: &Dma) -> u16 {
        let index = dma.read_int(self.available.wrapping_add(2), 2) as u16;
        // What the index covers was written before it.
        fence(Ordering::SeqCst);
        index
    }

    /// Takes the next request; `None` when there is none.
    ///
    /// # Errors
    /// The driver broke the rules; the queue is dead until it is reset.
    pub fn pop(&mut self, dma: &Dma) -> Result<Option<Chain>, QueueError> {
        if !self.is_usable() {
            return Ok(None);
        }
        let outcome = self.try_pop(dma);
        self.broken = outcome.is_err();
        outcome
    }

    fn try_pop(&mut self, dma: &Dma) -> Result<Option<Chain>, QueueError> {
        let waiting = self.offered(dma).wrapping_sub(self.next_available);
        if waiting == 0 {
            if !self.event_idx {
                return Ok(None);
            }
            // Ask to hear of the next one, and look again: it may have come in between.
            self.set_wanted(dma);
            fence(Ordering::SeqCst);
            if self.offered(dma) == self.next_available {
                return Ok(None);
            }
        } else if waiting > self.size {
            return Err(QueueError::TooManyOffered);
        }
        let at = self.available.wrapping_add(4 + 2 * self.entry(self.next_available));
        let head = dma.read_int(at, 2) as u16;
        if head >= self.size {
            return Err(QueueError::BadIndex);
        }
        let chain = self.chain(dma, head)?;
        self.next_available = self.next_available.wrapping_add(1);
        if self.event_idx {
            self.set_wanted(dma);
        }
        Ok(Some(chain))
    }

    /// Tells the driver after which entry the device wants a notification.
    fn set_wanted(&self, dma: &Dma) {
        let at = self.used.wrapping_add(4 + 8 * u64::from(self.size));
        dma.write_int(at, 2, self.next_available.into());
    }

    fn chain(&self, dma: &Dma, head: u16) -> Result<Chain, QueueError> {
        let mut chain = Chain { head, readable: Vec::new(), writable: Vec::new() };
        let (mut table, mut entries, mut index) = (self.descriptors, u32::from(self.size), u32::from(head));
        let (mut indirect, mut count) = (false, 0u16);
        loop {
            if index >= entries {
                return Err(QueueError::BadIndex);
            }
            count += 1;
            if count > MAX_SIZE {
                return Err(QueueError::Looped);
            }
            let mut raw = [0; 16];
            dma.read(table.wrapping_add(16 * u64::from(index)), &mut raw);
            let word = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
            let address = u64::from_le_bytes(std::array::from_fn(|i| raw[i]));
            let len = u32::from_le_bytes(std::array::from_fn(|i| raw[8 + i]));
            let (flags, next) = (word(12), word(14));
            if flags & INDIRECT != 0 {
                if indirect || len == 0 || !len.is_multiple_of(16) || flags & NEXT != 0 {
                    return Err(QueueError::BadIndirect);
                }
                (table, entries, index, indirect) = (address, len / 16, 0, true);
                // The table itself is no buffer.
                count -= 1;
                continue;
            }
            let write = flags & WRITE != 0;
            if len != 0 {
                let slices = dma.slices(address, len.into(), write).ok_or(QueueError::BadBuffer)?;
                if write {
                    chain.writable.extend(slices);
                } else if chain.writable.is_empty() {
                    chain.readable.extend(slices);
                } else {
                    return Err(QueueError::BadOrder);
                }
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next.into();
        }
    }

    /// Gives a request back, with `written` bytes written to its buffers.
    pub fn push(&mut self, dma: &Dma, chain: &Chain, written: u32) {
        if !self.is_usable() {
            return;
        }
        let at = self.used.wrapping_add(4 + 8 * self.entry(self.next_used));
        dma.write_int(at, 4, chain.head.into());
        dma.write_int(at.wrapping_add(4), 4, written.into());
        self.next_used = self.next_used.wrapping_add(1);
        fence(Ordering::SeqCst);
        dma.write_int(self.used.wrapping_add(2), 2, self.next_used.into());
    }

    /// Puts the last request taken back, unprocessed.
    pub fn unpop(&mut self) {
        self.next_available = self.next_available.wrapping_sub(1);
    }

    /// Whether the driver wants an interrupt for what was given back since the last question.
    pub fn wants_interrupt(&mut self, dma: &Dma) -> bool {
        if !self.is_usable() {
            return false;
        }
        fence(Ordering::SeqCst);
        let old = self.signalled.replace(self.next_used);
        if old == Some(self.next_used) {
            return false;
        }
        if !self.event_idx {
            return dma.read_int(self.available, 2) & 1 == 0;
        }
        let event = dma.read_int(self.available.wrapping_add(4 + 2 * u64::from(self.size)), 2) as u16;
        match old {
            None => true,
            // Section 2.7.7.2: the event index lies within what was added.
            Some(old) => {
                self.next_used.wrapping_sub(event).wrapping_sub(1) < self.next_used.wrapping_sub(old)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use guestmem::{AddressSpace, RamBlock, Region};

    /// Guest memory of 1 MiB with a driver's side of a queue of 8 entries at 0x1000.
    pub(crate) struct Driver {
        pub(crate) dma: Dma,
        pub(crate) next: u16,
    }

    impl Driver {
        pub(crate) fn new() -> Self {
            let root = Region::whole("system");
            root.add(&Region::ram("ram", RamBlock::new("ram", 1 << 20).expect("ram")), 0);
            Self { dma: Dma::new(&AddressSpace::memory("memory", &root)), next: 0 }
        }

        pub(crate) fn queue() -> Queue {
            let mut queue = Queue::new(8);
            (queue.descriptors, queue.available, queue.used) = (0x1000, 0x2000, 0x3000);
            queue.ready = true;
            queue
        }

        pub(crate) fn describe(&self, table: u64, index: u64, address: u64, len: u32, flags: u16, next: u16) {
            let at = table + 16 * index;
            self.dma.write_int(at, 8, address);
            self.dma.write_int(at + 8, 4, len.into());
            self.dma.write_int(at + 12, 2, flags.into());
            self.dma.write_int(at + 14, 2, next.into());
        }

        pub(crate) fn offer(&mut self, head: u16) {
            self.dma.write_int(0x2004 + 2 * u64::from(self.next % 8), 2, head.into());
            self.next = self.next.wrapping_add(1);
            self.dma.write_int(0x2002, 2, self.next.into());
        }
    }

    #[test]
    fn a_chain_is_taken_and_given_back() {
        let mut driver = Driver::new();
        let mut queue = Driver::queue();
        driver.describe(0x1000, 2, 0x8000, 16, NEXT, 5);
        driver.describe(0x1000, 5, 0x9000, 512, NEXT | WRITE, 1);
        driver.describe(0x1000, 1, 0xa000, 1, WRITE, 0);
        driver.offer(2);
        let chain = queue.pop(&driver.dma).expect("pop").expect("chain");
        assert_eq!((chain.readable_len(), chain.writable_len()), (16, 513));
        assert!(queue.pop(&driver.dma).expect("pop").is_none());
        queue.push(&driver.dma, &chain, 513);
        assert_eq!(driver.dma.read_int(0x3002, 2), 1);
        assert_eq!((driver.dma.read_int(0x3004, 4), driver.dma.read_int(0x3008, 4)), (2, 513));
        assert!(queue.wants_interrupt(&driver.dma));
        assert!(!queue.wants_interrupt(&driver.dma));
    }

    #[test]
    fn indirect_tables_are_followed_once() {
        let mut driver = Driver::new();
        let mut queue = Driver::queue();
        driver.describe(0x1000, 0, 0x4000, 32, INDIRECT, 0);
        driver.describe(0x4000, 0, 0x8000, 16, NEXT, 1);
        driver.describe(0x4000, 1, 0x9000, 8, WRITE, 0);
        driver.offer(0);
        let chain = queue.pop(&driver.dma).expect("pop").expect("chain");
        assert_eq!((chain.readable_len(), chain.writable_len()), (16, 8));
        driver.describe(0x4000, 1, 0x4000, 32, INDIRECT, 0);
        driver.offer(0);
        assert_eq!(queue.pop(&driver.dma).err(), Some(QueueError::BadIndirect));
        assert!(queue.pop(&driver.dma).expect("dead").is_none());
    }

    #[test]
    fn broken_rules_break_the_queue() {
        type Break = fn(&mut Driver);
        let cases: [(Break, QueueError); 5] = [
            (
                |d| {
                    d.describe(0x1000, 0, 0x8000, 16, NEXT, 0);
                    d.offer(0);
                },
                QueueError::Looped,
            ),
            (|d| d.offer(8), QueueError::BadIndex),
            (
                |d| {
                    d.next = 8;
                    d.offer(0);
                },
                QueueError::TooManyOffered,
            ),
            (
                |d| {
                    d.describe(0x1000, 0, 0xffff_f000, 16, 0, 0);
                    d.offer(0);
                },
                QueueError::BadBuffer,
            ),
            (
                |d| {
                    d.describe(0x1000, 0, 0x8000, 16, NEXT | WRITE, 1);
                    d.describe(0x1000, 1, 0x8000, 16, 0, 0);
                    d.offer(0);
                },
                QueueError::BadOrder,
            ),
        ];
        for (broken, error) in cases {
            let mut driver = Driver::new();
            let mut queue = Driver::queue();
            broken(&mut driver);
            assert_eq!(queue.pop(&driver.dma).err(), Some(error));
        }
    }

    #[test]
    fn event_index_says_when_to_interrupt() {
        let mut driver = Driver::new();
        let mut queue = Driver::queue();
        queue.event_idx = true;
        driver.describe(0x1000, 0, 0x8000, 16, 0, 0);
        // The driver wants to hear of entry 1 (the second).
        driver.dma.write_int(0x2000 + 4 + 16, 2, 1);
        let mut heard = Vec::new();
        for _ in 0..3 {
            driver.offer(0);
            let chain = queue.pop(&driver.dma).expect("pop").expect("chain");
            queue.push(&driver.dma, &chain, 0);
            heard.push(queue.wants_interrupt(&driver.dma));
        }
        assert_eq!(heard, [true, true, false]);
        assert_eq!(driver.dma.read_int(0x3000 + 4 + 64, 2), 3);
    }

    #[test]
    fn random_rings_neither_panic_nor_hang() {
        let driver = Driver::new();
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..2000 {
            let mut queue = Driver::queue();
            queue.event_idx = random() & 1 != 0;
            for at in (0x1000..0x1080).step_by(8) {
                let value = random();
                let value = if at % 16 == 0 { value & 0x1_ffff } else { value & 0x0007_0007_0000_1fff };
                driver.dma.write_int(at, 8, value);
            }
            for at in (0x2000..0x2018).step_by(2) {
                driver.dma.write_int(at, 2, random() & 0xf);
            }
            for _ in 0..20 {
                if let Ok(Some(chain)) = queue.pop(&driver.dma) {
                    queue.push(&driver.dma, &chain, 1);
                    queue.wants_interrupt(&driver.dma);
                }
            }
        }
    }
}
