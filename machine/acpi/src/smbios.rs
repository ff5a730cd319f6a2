//! SMBIOS structures (DMTF DSP0134 2.8, 32-bit entry point): who made this machine, and what is in it.

use crate::loader::sum;

/// Bytes of the largest module that memory is shown as.
const MODULE: u64 = 16 << 30;
/// "See the extended field" of a maximal capacity or size.
const EXTENDED: u32 = 0x8000_0000;
/// Length of the entry point.
const ANCHOR: usize = 31;

/// What the structures say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smbios {
    /// Who wrote the firmware, its version, and its date (mm/dd/yyyy).
    pub bios: [String; 3],
    /// Maker of the machine.
    pub manufacturer: String,
    /// The machine.
    pub product: String,
    /// Its version: the machine type.
    pub version: String,
    /// The machine's UUID, in the order of its text form; all zeros: none.
    pub uuid: [u8; 16],
    /// Bytes of RAM.
    pub ram: u64,
    /// RAM's address ranges: first address and bytes.
    pub ranges: Vec<(u64, u64)>,
    /// Processor sockets.
    pub sockets: u16,
    /// Cores of a socket.
    pub cores: u16,
    /// Threads of a core.
    pub threads: u16,
    /// EAX and EDX of CPUID leaf 1.
    pub processor_id: [u32; 2],
}

/// A structure: the formatted part, then its strings.
#[derive(Default)]
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let mut out = Self::default();
        out.formatted.extend([kind, 0]);
        out.word(handle);
        out
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.formatted.extend_from_slice(bytes);
        self
    }

    fn word(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn dword(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn qword(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// The number of a string; 0 stands for an empty one.
    fn string(&mut self, text: &str) -> &mut Self {
        let text: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
        if text.is_empty() {
            return self.bytes(&[0]);
        }
        self.strings.extend(text);
        self.strings.push(0);
        self.count += 1;
        let number = self.count;
        self.bytes(&[number])
    }

    fn finish(&mut self) -> Vec<u8> {
        self.formatted[1] = self.formatted.len() as u8;
        let mut out = std::mem::take(&mut self.formatted);
        out.append(&mut self.strings);
        // An empty set of strings is a zero as well.
        if self.count == 0 {
            out.push(0);
        }
        out.push(0);
        out
    }
}

impl Smbios {
    /// All structures but firmware's own.
    fn structures(&self) -> Vec<Vec<u8>> {
        let mut out = vec![self.system(), self.chassis()];
        out.extend((0..self.sockets).map(|n| self.processor(n)));
        out.push(self.memory_array());
        let modules = self.ram.div_ceil(MODULE);
        out.extend((0..u16::try_from(modules).unwrap_or(u16::MAX)).map(|n| self.memory_device(n)));
        out.extend((0u16..).zip(&self.ranges).map(|(n, &(start, len))| memory_range(n, start, len)));
        // System boot information: no error.
        out.push(Structure::new(32, 0x2000).bytes(&[0; 6]).bytes(&[0]).finish());
        out.push(Structure::new(127, 0x7f00).finish());
        out
    }

    fn bios(&self) -> Vec<u8> {
        let [vendor, version, date] = &self.bios;
        let mut s = Structure::new(0, 0);
        s.string(vendor).string(version).word(0xe800).string(date).bytes(&[0]);
        // Characteristics are unknown; extension: targeted content distribution, as virtual machines have. Releases 0.0,
        // and no embedded controller.
        s.qword(8).bytes(&[0, 4, 0, 0, 0xff, 0xff]);
        s.finish()
    }

    fn system(&self) -> Vec<u8> {
        let mut s = Structure::new(1, 0x100);
        s.string(&self.manufacturer).string(&self.product).string(&self.version).bytes(&[0]);
        // The first three groups are little-endian.
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        s.bytes(&order.map(|i: usize| self.uuid[i]));
        // Woken by the power switch.
        s.bytes(&[6, 0, 0]);
        s.finish()
    }

    fn chassis(&self) -> Vec<u8> {
        let mut s = Structure::new(3, 0x300);
        s.string(&self.manufacturer).bytes(&[1]).string(&self.version).bytes(&[0, 0]);
        // Boot-up, power and thermal states are safe, security unknown.
        s.bytes(&[3, 3, 3, 2]).dword(0).bytes(&[0; 5]);
        s.finish()
    }

    fn processor(&self, n: u16) -> Vec<u8> {
        let mut s = Structure::new(4, 0x400 + n);
        s.string(&format!("CPU {n}"));
        // A central processor of another family.
        s.bytes(&[3, 0xfe]).string(&self.manufacturer);
        s.dword(self.processor_id[0]).dword(self.processor_id[1]).string(&self.version);
        // Voltage and external clock unknown; 2000 MHz; socket populated and enabled; upgrade: other.
        s.bytes(&[0]).word(0).word(2000).word(2000).bytes(&[0x41, 1]);
        // No cache handles.
        s.bytes(&[0xff; 6]).bytes(&[0; 3]);
        let threads = u32::from(self.cores) * u32::from(self.threads);
        let small = |n: u32| u8::try_from(n).unwrap_or(0xff);
        s.bytes(&[small(self.cores.into()), small(self.cores.into()), small(threads)]);
        s.word(2).word(1);
        s.finish()
    }

    fn memory_array(&self) -> Vec<u8> {
        let kib = self.ram >> 10;
        let (short, long) = match u32::try_from(kib) {
            Ok(kib) if kib < EXTENDED => (kib, 0),
            _ => (EXTENDED, self.ram),
        };
        let modules = self.ram.div_ceil(MODULE);
        let mut s = Structure::new(16, 0x1000);
        // System memory at another location, corrected for many bits.
        s.bytes(&[1, 3, 6]).dword(short).word(0xfffe).word(u16::try_from(modules).unwrap_or(u16::MAX));
        s.qword(long);
        s.finish()
    }

    fn memory_device(&self, n: u16) -> Vec<u8> {
        let mib = (self.ram - u64::from(n) * MODULE).min(MODULE) >> 20;
        let mut s = Structure::new(17, 0x1100 + n);
        s.word(0x1000).word(0xfffe).word(0xffff).word(0xffff);
        s.word(u16::try_from(mib).unwrap_or(0x7fff));
        // A DIMM, in no set.
        s.bytes(&[9, 0]).string(&format!("DIMM {n}")).bytes(&[0, 7]).word(2).word(0);
        s.string(&self.manufacturer).bytes(&[0; 4]).dword(0).word(0).word(0).word(0).word(0);
        s.finish()
    }

    /// The entry point, which says that the structures are at `address`, and all structures.
    pub fn build(&self, address: u32) -> (Vec<u8>, Vec<u8>) {
        let mut structures = self.structures();
        structures.insert(0, self.bios());
        (anchor(address, &structures), structures.concat())
    }

    /// The same for firmware, which gives the structures their address and puts one that describes itself in front.
    pub fn for_firmware(&self) -> (Vec<u8>, Vec<u8>) {
        let structures = self.structures();
        (anchor(0, &structures), structures.concat())
    }
}

fn anchor(address: u32, structures: &[Vec<u8>]) -> Vec<u8> {
    let largest = structures.iter().map(Vec::len).max().unwrap_or(0);
    let total: usize = structures.iter().map(Vec::len).sum();
    let mut anchor = b"_SM_".to_vec();
    anchor.extend([0, ANCHOR as u8, 2, 8]);
    anchor.extend((largest as u16).to_le_bytes());
    anchor.extend([0; 6]);
    anchor.extend(*b"_DMI_\0");
    anchor.extend((total as u16).to_le_bytes());
    anchor.extend(address.to_le_bytes());
    anchor.extend((structures.len() as u16).to_le_bytes());
    anchor.push(0x28);
    anchor[21] = sum(&anchor[16..]).wrapping_neg();
    anchor[4] = sum(&anchor).wrapping_neg();
    anchor
}

fn memory_range(n: u16, start: u64, len: u64) -> Vec<u8> {
    let mut s = Structure::new(19, 0x1300 + n);
    let last = start + len.max(1) - 1;
    match (u32::try_from(start >> 10), u32::try_from(last >> 10)) {
        (Ok(first), Ok(end)) if end < u32::MAX => {
            s.dword(first).dword(end).word(0x1000).bytes(&[1]).qword(0).qword(0);
        }
        _ => {
            s.dword(u32::MAX).dword(u32::MAX).word(0x1000).bytes(&[1]).qword(start).qword(last);
        }
    }
    s.finish()
}
