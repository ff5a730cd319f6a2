//! Address spaces: how guest and devices reach what the region tree shows.

use crate::io::mask;
use crate::ram::RamSlice;
use crate::region::Region;
use crate::view::{FlatView, IoSlot, Target};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;

type Subscriber = Box<dyn Fn(&Arc<FlatView>) + Send + Sync>;

pub(crate) struct SpaceInner {
    name: String,
    root: Region,
    view: ArcSwap<FlatView>,
    /// Held while a new view is rendered, so that views are swapped in the order of the changes.
    rendering: Mutex<()>,
    subscribers: Mutex<Vec<Subscriber>>,
    /// What a read of nothing gives.
    empty: u64,
}

impl SpaceInner {
    pub(crate) fn render(&self) {
        let _guard = self.rendering.lock();
        let view = Arc::new(FlatView::render(&self.root));
        self.view.store(view.clone());
        for subscriber in self.subscribers.lock().iter() {
            subscriber(&view);
        }
    }
}

/// A space of addresses: memory, or I/O ports. Cloning gives another handle on the same space.
#[derive(Clone)]
pub struct AddressSpace {
    inner: Arc<SpaceInner>,
}

impl AddressSpace {
    fn build(name: &str, root: &Region, empty: u64) -> Self {
        let inner = Arc::new(SpaceInner {
            name: name.to_owned(),
            root: root.clone(),
            view: ArcSwap::default(),
            rendering: Mutex::new(()),
            subscribers: Mutex::default(),
            empty,
        });
        root.inner.spaces.lock().push(Arc::downgrade(&inner));
        inner.render();
        Self { inner }
    }

    /// A memory space: reads of nothing give 0, as in QEMU.
    pub fn memory(name: &str, root: &Region) -> Self {
        Self::build(name, root, 0)
    }

    /// A port space: reads of nothing give all ones.
    pub fn ports(name: &str, root: &Region) -> Self {
        Self::build(name, root, u64::MAX)
    }

    /// The space's name, as `info mtree` shows it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The root of the region tree.
    pub fn root(&self) -> &Region {
        &self.inner.root
    }

    /// The current flat view.
    pub fn view(&self) -> Arc<FlatView> {
        self.inner.view.load_full()
    }

    /// Calls `subscriber` with every new view, on the thread that changed the tree.
    pub fn subscribe(&self, subscriber: impl Fn(&Arc<FlatView>) + Send + Sync + 'static) {
        self.inner.subscribers.lock().push(Box::new(subscriber));
    }

    /// Reads a number of `size` (1, 2, 4 or 8) bytes.
    pub fn read_int(&self, address: u64, size: u8) -> u64 {
        let view = self.inner.view.load();
        let Some(range) = view.lookup(address) else { return self.inner.empty & mask(size) };
        if !range.holds_access(address, size) {
            // Over the end of the range: byte by byte.
            drop(view);
            return (0..size).fold(0, |value, i| {
                value | self.read_int(address.wrapping_add(i.into()), 1) << (8 * u32::from(i))
            });
        }
        let inside = address - range.start;
        match &range.target {
            Target::Ram { block, offset, .. } => block.read_int(offset + inside, size),
            Target::Io(IoSlot { io, offset }) => {
                let (io, offset) = (io.clone(), offset + inside);
                drop(view);
                io.read(offset, size).unwrap_or(self.inner.empty & mask(size))
            }
        }
    }

    /// Writes a number of `size` (1, 2, 4 or 8) bytes.
    pub fn write_int(&self, address: u64, size: u8, value: u64) {
        let view = self.inner.view.load();
        let Some(range) = view.lookup(address) else { return };
        if !range.holds_access(address, size) {
            drop(view);
            for i in 0..size {
                self.write_int(address.wrapping_add(i.into()), 1, value >> (8 * u32::from(i)) & 0xff);
            }
            return;
        }
        let inside = address - range.start;
        match &range.target {
            Target::Ram { readonly: true, .. } => {}
            Target::Ram { block, offset, .. } => block.write_int(offset + inside, size, value),
            Target::Io(IoSlot { io, offset }) => {
                let (io, offset) = (io.clone(), offset + inside);
                // A register write may change the tree: hold no view over it.
                drop(view);
                io.write(offset, size, value);
            }
        }
    }

    /// Reads bytes. RAM is copied; registers are read in naturally aligned numbers of up to 8 bytes.
    pub fn read(&self, address: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = address.wrapping_add(done as u64);
            done += match self.slice_at(at, (buf.len() - done) as u64, false) {
                Some(slice) => slice.copy_to(&mut buf[done..]),
                None => {
                    let size = chunk(at, buf.len() - done);
                    let value = self.read_int(at, size).to_le_bytes();
                    buf[done..done + usize::from(size)].copy_from_slice(&value[..usize::from(size)]);
                    usize::from(size)
                }
            };
        }
    }

    /// Writes bytes. RAM is copied to, ROM left alone; registers are written in naturally aligned numbers.
    pub fn write(&self, address: u64, buf: &[u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = address.wrapping_add(done as u64);
            done += match self.slice_at(at, (buf.len() - done) as u64, true) {
                Some(slice) => slice.copy_from(&buf[done..]),
                None => {
                    let size = chunk(at, buf.len() - done);
                    let mut value = [0; 8];
                    value[..usize::from(size)].copy_from_slice(&buf[done..done + usize::from(size)]);
                    self.write_int(at, size, u64::from_le_bytes(value));
                    usize::from(size)
                }
            };
        }
    }

    /// Writes bytes to RAM and to ROM, as a loader does before the machine runs; registers are left alone.
    pub fn load(&self, address: u64, buf: &[u8]) {
        let view = self.view();
        let mut done = 0;
        while done < buf.len() {
            let at = address.wrapping_add(done as u64);
            let slice = view.lookup(at).and_then(|r| r.ram_slice(at, (buf.len() - done) as u64));
            done += slice.map_or(1, |slice| slice.copy_from(&buf[done..]).max(1));
        }
    }

    /// The RAM from `address` on, at most `len` bytes of it and at most to the end of its range; `None` where there
    /// is no RAM (or, for a writer, ROM).
    pub fn slice_at(&self, address: u64, len: u64, write: bool) -> Option<RamSlice> {
        let view = self.inner.view.load();
        let range = view.lookup(address)?;
        if write && matches!(range.target, Target::Ram { readonly: true, .. }) {
            return None;
        }
        range.ram_slice(address, len).filter(|s| !s.is_empty())
    }

    /// The RAM behind all of `address..address+len`, in order; `None` when any part of it is not RAM.
    pub fn slices(&self, address: u64, len: u64, write: bool) -> Option<Vec<RamSlice>> {
        let mut slices = Vec::new();
        let mut done = 0;
        while done < len {
            let slice = self.slice_at(address.checked_add(done)?, len - done, write)?;
            done += slice.len();
            slices.push(slice);
        }
        Some(slices)
    }
}

/// The largest naturally aligned access at `address` within `left` bytes.
fn chunk(address: u64, left: usize) -> u8 {
    for size in [8u8, 4, 2] {
        if address.is_multiple_of(size.into()) && left >= usize::from(size) {
            return size;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IoHandler, IoRules, RamBlock};

    struct Constant(u64);
    impl IoHandler for Constant {
        fn read(&self, _offset: u64, _size: u8) -> u64 {
            self.0
        }
        fn write(&self, _offset: u64, _size: u8, _value: u64) {}
    }

    fn io(name: &str, size: u64, value: u64) -> Region {
        Region::io(name, size, Arc::new(Constant(value)), IoRules::ANY)
    }

    fn ram(name: &str, pages: u64) -> Region {
        Region::ram(name, RamBlock::new(name, pages * 4096).expect("ram"))
    }

    fn shape(space: &AddressSpace) -> Vec<(u64, u64, String)> {
        space.view().ranges().iter().map(|r| (r.start, r.last, r.name.clone())).collect()
    }

    #[test]
    fn higher_priority_is_seen_and_disabling_uncovers_what_is_below() {
        let root = Region::whole("system");
        let space = AddressSpace::memory("memory", &root);
        root.add(&ram("ram", 4), 0);
        let window = io("vga", 0x1000, 0xaa);
        root.add_overlap(&window, 0x1000, 1);
        assert_eq!(
            shape(&space),
            [(0, 0xfff, "ram".into()), (0x1000, 0x1fff, "vga".into()), (0x2000, 0x3fff, "ram".into())]
        );
        assert_eq!(space.read_int(0x1000, 1), 0xaa);
        space.write_int(0x2000, 4, 7);
        window.set_enabled(false);
        assert_eq!(shape(&space), [(0, 0x3fff, "ram".into())]);
        assert_eq!(space.read_int(0x2000, 4), 7);
        root.move_to(&window, 0x3000);
        window.set_enabled(true);
        assert_eq!(space.read_int(0x3ffe, 4), 0xaaaa, "two bytes of registers, then nothing");
        root.remove(&window);
        assert_eq!(space.read_int(0x3000, 1), 0);
    }

    #[test]
    fn an_alias_shows_part_of_its_target_even_when_that_changes() {
        let root = Region::whole("system");
        let space = AddressSpace::memory("memory", &root);
        let pci = Region::whole("pci");
        let hole = Region::alias("hole", &pci, 0x10_0000, 0x1_0000);
        root.add(&hole, 0x10_0000);
        let bar = io("bar", 0x100, 0x55);
        pci.add(&bar, 0x10_0080);
        assert_eq!(space.read_int(0x10_0080, 1), 0x55);
        pci.move_to(&bar, 0xf_ff80);
        assert_eq!(shape(&space), [(0x10_0000, 0x10_007f, "bar".into())]);
    }

    #[test]
    fn bytes_cross_from_ram_to_registers_and_rom_ignores_writes() {
        let root = Region::whole("system");
        let space = AddressSpace::memory("memory", &root);
        root.add(&ram("ram", 1), 0);
        let rom = Region::rom("rom", RamBlock::new("rom", 4096).expect("rom"));
        root.add(&rom, 0x1000);
        space.load(0x0ffe, b"abcd");
        space.write(0x0ffe, b"efgh");
        let mut buf = [0; 6];
        space.read(0x0ffd, &mut buf);
        assert_eq!(&buf, b"\0efcd\0");
        assert!(space.slices(0x0ffe, 4, true).is_none());
        assert_eq!(space.slices(0x0ffe, 4, false).map(|s| s.len()), Some(2));
        assert!(space.slices(u64::MAX - 1, 4, false).is_none());
    }

    #[test]
    fn ports_read_as_ones_where_nothing_is() {
        let root = Region::container("io", 0x1_0000);
        let space = AddressSpace::ports("I/O", &root);
        assert_eq!(space.read_int(0x80, 2), 0xffff);
        root.add(&io("port", 1, 0x12), 0x80);
        assert_eq!(space.read_int(0x80, 1), 0x12);
        assert_eq!(space.read_int(0xffff, 4), 0xffff_ffff);
    }
}
