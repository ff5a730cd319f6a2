//! The fw_cfg device: what the machine tells its firmware.
//!
//! Source: the interface description in QEMU's documentation (`docs/specs/fw_cfg`). Selector port 0x510, data port
//! 0x511, DMA address register 0x514. Items are read-only for the guest unless they were added as writable.
#![forbid(unsafe_code)]

use guestmem::{Dma, IoHandler, IoRules, Region};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// First port: selector, then data.
pub const FW_CFG_PORT: u64 = 0x510;

/// Keys of the items with a fixed meaning (`FW_CFG_*`).
pub mod key {
    /// The bytes `QEMU`.
    pub const SIGNATURE: u16 = 0x00;
    /// Interface bits: 1 the ports, 2 the DMA interface.
    pub const ID: u16 = 0x01;
    /// The machine's UUID, 16 bytes.
    pub const UUID: u16 = 0x02;
    /// RAM in bytes, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// Whether the machine has no display, 16 bits.
    pub const NOGRAPHIC: u16 = 0x04;
    /// Number of processors, 16 bits.
    pub const NB_CPUS: u16 = 0x05;
    /// Address of the kernel, 32 bits.
    pub const KERNEL_ADDR: u16 = 0x07;
    /// Size of the kernel, 32 bits.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Address of the initial RAM disk, 32 bits.
    pub const INITRD_ADDR: u16 = 0x0a;
    /// Size of the initial RAM disk, 32 bits.
    pub const INITRD_SIZE: u16 = 0x0b;
    /// The boot device, a letter in 16 bits.
    pub const BOOT_DEVICE: u16 = 0x0c;
    /// NUMA table.
    pub const NUMA: u16 = 0x0d;
    /// Whether to show a boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0e;
    /// Highest processor number plus one, 16 bits.
    pub const MAX_CPUS: u16 = 0x0f;
    /// Entry point of the kernel, 32 bits.
    pub const KERNEL_ENTRY: u16 = 0x10;
    /// The kernel.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// Address of the command line, 32 bits.
    pub const CMDLINE_ADDR: u16 = 0x13;
    /// Size of the command line, 32 bits.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The command line.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Address of the real-mode part of the kernel, 32 bits.
    pub const SETUP_ADDR: u16 = 0x16;
    /// Size of the real-mode part of the kernel, 32 bits.
    pub const SETUP_SIZE: u16 = 0x17;
    /// The real-mode part of the kernel.
    pub const SETUP_DATA: u16 = 0x18;
    /// The directory of files.
    pub const FILE_DIR: u16 = 0x19;
    /// The first file.
    pub const FILE_FIRST: u16 = 0x20;
    /// ACPI tables (x86).
    pub const ACPI_TABLES: u16 = 0x8000;
    /// SMBIOS entries (x86).
    pub const SMBIOS_ENTRIES: u16 = 0x8001;
    /// IRQ0 override (x86), 32 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    /// HPET table (x86).
    pub const HPET: u16 = 0x8004;
}

/// Longest name of a file, without the terminating zero.
pub const MAX_NAME: usize = 55;

// DMA control bits.
const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 2;
const DMA_SKIP: u32 = 4;
const DMA_SELECT: u32 = 8;
const DMA_WRITE: u32 = 16;
/// What the DMA address register reads: `QEMU CFG`, big-endian.
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;
/// Bytes moved in one piece.
const CHUNK: usize = 64 * 1024;

type WriteCallback = Box<dyn Fn(&[u8]) + Send + Sync>;

struct Item {
    data: Vec<u8>,
    /// The guest may write it, and this is called with the whole item after it did.
    written: Option<Arc<WriteCallback>>,
}

struct File {
    name: String,
    item: Item,
}

struct State {
    items: BTreeMap<u16, Item>,
    files: Vec<File>,
    directory: Vec<u8>,
    selected: u16,
    offset: usize,
    /// The upper half of the DMA address, big-endian as written.
    dma_high: u32,
}

impl State {
    fn item(&mut self, key: u16) -> Option<&mut Item> {
        // Bit 14 once asked for write access; bit 15 marks architecture-specific items.
        let key = key & 0xbfff;
        if let Some(index) = key.checked_sub(key::FILE_FIRST)
            && let Some(file) = self.files.get_mut(usize::from(index))
        {
            return Some(&mut file.item);
        }
        self.items.get_mut(&key)
    }

    fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// Copies from the selected item; what is past its end reads as zeros.
    fn take(&mut self, buf: &mut [u8]) {
        buf.fill(0);
        let (key, offset) = (self.selected, self.offset);
        let copied = match (key & 0xbfff, self.item(key)) {
            (key::FILE_DIR, _) => copy(&self.directory, offset, buf),
            (_, Some(item)) => copy(&item.data, offset, buf),
            _ => 0,
        };
        self.offset = offset + copied;
    }

    fn rebuild_directory(&mut self) {
        let mut dir = Vec::with_capacity(4 + 64 * self.files.len());
        let count = u32::try_from(self.files.len()).unwrap_or(0);
        dir.extend(count.to_be_bytes());
        for (key, file) in (key::FILE_FIRST..).zip(&self.files) {
            dir.extend(u32::try_from(file.item.data.len()).unwrap_or(u32::MAX).to_be_bytes());
            dir.extend(key.to_be_bytes());
            dir.extend([0; 2]);
            let mut name = [0; MAX_NAME + 1];
            name[..file.name.len()].copy_from_slice(file.name.as_bytes());
            dir.extend(name);
        }
        self.directory = dir;
    }
}

fn copy(data: &[u8], offset: usize, buf: &mut [u8]) -> usize {
    let rest = data.get(offset..).unwrap_or(&[]);
    let count = rest.len().min(buf.len());
    buf[..count].copy_from_slice(&rest[..count]);
    count
}

/// Why a file cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The name is longer than [`MAX_NAME`] bytes, or empty.
    BadName,
    /// There is such a file already.
    Duplicate,
    /// Every file slot is taken.
    Full,
}

/// The device.
pub struct FwCfg {
    dma: Option<Dma>,
    slots: usize,
    state: Mutex<State>,
}

impl FwCfg {
    /// A device with `slots` file slots (`x-file-slots`); with `dma`, it offers the DMA interface on that memory.
    pub fn new(dma: Option<Dma>, slots: u16) -> Arc<Self> {
        let fw_cfg = Arc::new(Self {
            slots: slots.into(),
            state: Mutex::new(State {
                items: BTreeMap::new(),
                files: Vec::new(),
                directory: vec![0; 4],
                selected: 0,
                offset: 0,
                dma_high: 0,
            }),
            dma,
        });
        fw_cfg.add_bytes(key::SIGNATURE, b"QEMU".to_vec());
        fw_cfg.add_u32(key::ID, if fw_cfg.dma.is_some() { 3 } else { 1 });
        fw_cfg
    }

    /// Sets the item `key`.
    pub fn add_bytes(&self, key: u16, data: Vec<u8>) {
        self.state.lock().items.insert(key, Item { data, written: None });
    }

    /// Sets an item to a little-endian 16-bit number.
    pub fn add_u16(&self, key: u16, value: u16) {
        self.add_bytes(key, value.to_le_bytes().to_vec());
    }

    /// Sets an item to a little-endian 32-bit number.
    pub fn add_u32(&self, key: u16, value: u32) {
        self.add_bytes(key, value.to_le_bytes().to_vec());
    }

    /// Sets an item to a little-endian 64-bit number.
    pub fn add_u64(&self, key: u16, value: u64) {
        self.add_bytes(key, value.to_le_bytes().to_vec());
    }

    /// Sets an item to a text with a terminating zero.
    pub fn add_string(&self, key: u16, text: &str) {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        self.add_bytes(key, data);
    }

    /// Adds a file (`-fw_cfg name=...`, `etc/...`). Files are listed by name; keys follow the order.
    ///
    /// # Errors
    /// The name is bad or taken, or there is no free slot.
    pub fn add_file(&self, name: &str, data: Vec<u8>) -> Result<(), AddError> {
        self.insert(name, Item { data, written: None })
    }

    /// As [`FwCfg::add_file`], for a file that the guest may write by DMA; `written` is called after each write.
    ///
    /// # Errors
    /// As [`FwCfg::add_file`].
    pub fn add_writable(
        &self,
        name: &str,
        data: Vec<u8>,
        written: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Result<(), AddError> {
        self.insert(name, Item { data, written: Some(Arc::new(Box::new(written))) })
    }

    fn insert(&self, name: &str, item: Item) -> Result<(), AddError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(AddError::BadName);
        }
        let mut state = self.state.lock();
        if state.files.len() >= self.slots {
            return Err(AddError::Full);
        }
        match state.files.binary_search_by(|file| file.name.as_str().cmp(name)) {
            Ok(_) => return Err(AddError::Duplicate),
            Err(at) => state.files.insert(at, File { name: name.to_owned(), item }),
        }
        state.rebuild_directory();
        Ok(())
    }

    /// Replaces a file's content, or adds the file.
    ///
    /// # Errors
    /// As [`FwCfg::add_file`], but for a duplicate.
    pub fn set_file(&self, name: &str, data: Vec<u8>) -> Result<(), AddError> {
        {
            let mut state = self.state.lock();
            if let Some(file) = state.files.iter_mut().find(|file| file.name == name) {
                file.item.data = data;
                state.rebuild_directory();
                return Ok(());
            }
        }
        self.add_file(name, data)
    }

    /// Whether there is a file of this name.
    pub fn has_file(&self, name: &str) -> bool {
        self.state.lock().files.iter().any(|file| file.name == name)
    }

    /// The register windows, each with its port.
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, Region)> {
        let control = Region::io(
            "fwcfg",
            2,
            Arc::new(Control(self.clone())),
            IoRules { valid_max: 2, impl_max: 2, ..IoRules::ANY },
        );
        let mut ports = vec![(FW_CFG_PORT, control)];
        if self.dma.is_some() {
            let rules = IoRules { valid_max: 8, ..IoRules::ANY };
            ports.push((FW_CFG_PORT + 4, Region::io("fwcfg.dma", 8, Arc::new(DmaPort(self.clone())), rules)));
        }
        ports
    }

    /// System reset: the first item is selected again.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.select(0);
        state.dma_high = 0;
    }

    /// Runs the DMA operation whose description is at `address`: control, length (32 bits each) and address (64).
    fn run_dma(&self, address: u64) {
        let Some(dma) = &self.dma else { return };
        let mut head = [0; 16];
        if !dma.read(address, &mut head) {
            return;
        }
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (control, mut length) = (word(0), word(4) as usize);
        let mut target = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & DMA_SELECT != 0 {
            let key = u16::try_from(control >> 16).unwrap_or(0);
            self.state.lock().select(key);
        }
        if control & (DMA_READ | DMA_WRITE | DMA_SKIP) == 0 {
            length = 0;
        }
        let mut result = 0;
        if control & DMA_READ != 0 {
            // Past the item's end the guest gets zeros; where it asked for more memory than there is, nothing more
            // is written.
            let mut buf = vec![0; length.min(CHUNK)];
            while length > 0 {
                let part = length.min(CHUNK);
                self.state.lock().take(&mut buf[..part]);
                if dma.slices(target, part as u64, true).is_none() {
                    result = DMA_ERROR;
                    break;
                }
                dma.write(target, &buf[..part]);
                length -= part;
                target = target.wrapping_add(part as u64);
            }
        } else if control & DMA_WRITE != 0 {
            if !self.write_item(dma, target, length) {
                result = DMA_ERROR;
            }
        } else if length > 0 {
            let mut state = self.state.lock();
            state.offset = state.offset.saturating_add(length);
        }
        dma.write(address, &result.to_be_bytes());
    }

    /// Writes to the selected item from memory; false when it may not be written there.
    fn write_item(&self, dma: &Dma, source: u64, length: usize) -> bool {
        let (written, data) = {
            let mut state = self.state.lock();
            let (key, offset) = (state.selected, state.offset);
            let Some(item) = state.item(key) else { return false };
            let Some(written) = item.written.clone() else { return false };
            let Some(end) = offset.checked_add(length).filter(|&end| end <= item.data.len()) else {
                return false;
            };
            if !dma.read(source, &mut item.data[offset..end]) {
                return false;
            }
            let data = item.data.clone();
            state.offset = end;
            (written, data)
        };
        written(&data);
        true
    }
}

struct Control(Arc<FwCfg>);

impl IoHandler for Control {
    fn read(&self, _offset: u64, size: u8) -> u64 {
        // Bytes only; the selector's port reads data too.
        if size != 1 {
            return 0;
        }
        let mut byte = [0];
        self.0.state.lock().take(&mut byte);
        byte[0].into()
    }

    fn write(&self, _offset: u64, size: u8, value: u64) {
        if size == 2 {
            self.0.state.lock().select(u16::try_from(value & 0xffff).unwrap_or(0));
        }
    }
}

struct DmaPort(Arc<FwCfg>);

impl IoHandler for DmaPort {
    fn read(&self, offset: u64, size: u8) -> u64 {
        // The signature, big-endian.
        let bytes = DMA_SIGNATURE.to_be_bytes();
        (0..u64::from(size)).fold(0, |value, i| {
            let byte = usize::try_from(offset + i).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * i)
        })
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        let fw_cfg = &self.0;
        let half = u32::try_from(value & 0xffff_ffff).unwrap_or(0).swap_bytes();
        let address = match (offset, size) {
            (0, 4) => {
                fw_cfg.state.lock().dma_high = half;
                return;
            }
            (4, 4) => u64::from(std::mem::take(&mut fw_cfg.state.lock().dma_high)) << 32 | u64::from(half),
            (0, 8) => value.swap_bytes(),
            _ => return,
        };
        fw_cfg.run_dma(address);
    }
}

#[cfg(test)]
mod tests;
