//! From a configuration to what CPUID answers (SDM vol. 2, CPUID; APM vol. 3, appendix E; QEMU's choices where those
//! leave one).

use super::CpuConfig;
use crate::cpuid::{CpuidTable, Leaf};
use crate::features::FeatureSet;

/// How many processors there are, and how they hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Threads of a core.
    pub threads: u32,
    /// Cores of a socket (dies and clusters multiplied in).
    pub cores: u32,
}

impl Default for Topology {
    /// One processor.
    fn default() -> Self {
        Self { threads: 1, cores: 1 }
    }
}

impl Topology {
    /// Bits of an APIC ID that number the thread in its core.
    pub fn thread_bits(self) -> u32 {
        self.threads.max(1).next_power_of_two().trailing_zeros()
    }

    /// Bits of an APIC ID that number the thread in its socket.
    pub fn socket_bits(self) -> u32 {
        self.thread_bits() + self.cores.max(1).next_power_of_two().trailing_zeros()
    }

    /// The APIC ID of processor `index`, counted thread by thread, then core by core, then socket by socket.
    pub fn apic_id(self, index: u32) -> u32 {
        let (threads, cores) = (self.threads.max(1), self.cores.max(1));
        let (core, socket) = (index / threads % cores, index / threads / cores);
        index % threads + (core << self.thread_bits()) + (socket << self.socket_bits())
    }

    fn logical(self) -> u32 {
        self.threads.max(1) * self.cores.max(1)
    }
}

/// One cache.
#[derive(Clone, Copy)]
struct Cache {
    /// 1 data, 2 instructions, 3 both.
    kind: u32,
    level: u32,
    kib: u32,
    ways: u32,
    /// Bit 8 of EAX: no initialisation by software.
    self_init: bool,
    /// EDX: properties.
    properties: u32,
}

impl Cache {
    const LINE: u32 = 64;

    /// Leaf 4 or 0x8000001D without the counts.
    fn leaf(self, sharing: u32) -> Leaf {
        let sets = self.kib * 1024 / Self::LINE / self.ways;
        Leaf {
            eax: self.kind | self.level << 5 | u32::from(self.self_init) << 8 | sharing << 14,
            ebx: (self.ways - 1) << 22 | (Self::LINE - 1),
            ecx: sets - 1,
            edx: self.properties,
        }
    }

    /// A register of leaf 0x80000005.
    fn amd_l1(self) -> u32 {
        self.kib << 24 | self.ways << 16 | 1 << 8 | Self::LINE
    }

    /// The low half of a register of leaf 0x80000006.
    fn amd_low(self) -> u32 {
        let ways = match self.ways {
            16 => 8,
            8 => 6,
            _ => 0xf,
        };
        ways << 12 | 1 << 8 | Self::LINE
    }
}

const fn cache(kind: u32, level: u32, kib: u32, ways: u32, self_init: bool, properties: u32) -> Cache {
    Cache { kind, level, kib, ways, self_init, properties }
}

/// L1 data, L1 instruction, L2, L3 as leaf 4 shows them for models without a description of their own.
const LEGACY: [Cache; 4] = [
    cache(1, 1, 32, 8, true, 1),
    cache(2, 1, 32, 8, true, 1),
    cache(3, 2, 4096, 16, true, 1),
    cache(3, 3, 16384, 16, true, 6),
];

/// The same as the AMD leaves show them.
const LEGACY_AMD: [Cache; 4] = [
    cache(1, 1, 64, 2, true, 1),
    cache(2, 1, 64, 2, true, 1),
    cache(3, 2, 512, 16, true, 1),
    cache(3, 3, 16384, 16, true, 2),
];

/// The caches that a model of the EPYC line describes itself.
fn epyc_caches(name: &str) -> [Cache; 4] {
    let (l1i, ways, l2, l3) = match name {
        _ if name.starts_with("EPYC-Rome") => (32, 8, 512, 16384),
        _ if name.starts_with("EPYC-Milan") => (32, 8, 512, 32768),
        _ if name.starts_with("EPYC-Genoa") => (32, 8, 1024, 32768),
        _ => (64, 4, 512, 8192),
    };
    [
        cache(1, 1, 32, 8, true, 1),
        cache(2, 1, l1i, ways, true, 1),
        cache(3, 2, l2, 8, false, 0),
        cache(3, 3, l3, 16, true, 6),
    ]
}

/// A component of the XSAVE area: its number, offset and size.
struct Component(u32, u32, u32);

/// The components that come with `features`, beyond the legacy area (SDM vol. 1, 13.5).
fn components(features: &FeatureSet) -> Vec<Component> {
    let mut list = Vec::new();
    let mut with = |name: &str, parts: &[(u32, u32, u32)]| {
        if features.has(name) {
            list.extend(parts.iter().map(|(number, offset, size)| Component(*number, *offset, *size)));
        }
    };
    with("avx", &[(2, 0x240, 0x100)]);
    with("mpx", &[(3, 0x3c0, 0x40), (4, 0x400, 0x40)]);
    with("avx512f", &[(5, 0x440, 0x40), (6, 0x480, 0x200), (7, 0x680, 0x400)]);
    with("pku", &[(9, 0xa80, 8)]);
    list
}

fn text_word(text: &[u8], index: usize) -> u32 {
    let byte = |offset: usize| text.get(index * 4 + offset).copied().unwrap_or(0);
    u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
}

/// Highest leaves that the features need, from the configured ones.
fn levels(config: &CpuConfig, features: &FeatureSet) -> (u32, u32) {
    let (mut level, mut xlevel) = (config.min_level, config.min_xlevel);
    if config.auto_level {
        let any = |keys: &[&str]| keys.iter().any(|key| features.word(key) != 0);
        for (keys, leaf) in [
            (&["6.EAX"][..], 6),
            (&["7.0.EBX", "7.0.ECX", "7.0.EDX", "7.1.EAX", "7.1.EDX", "7.2.EDX"][..], 7),
            (&["D.1.EAX"][..], 0xd),
        ] {
            if any(keys) {
                level = level.max(leaf);
            }
        }
        for (keys, leaf) in [
            (&["80000001.EDX", "80000001.ECX"][..], 0x8000_0001),
            (&["80000007.EDX", "80000007.EBX"][..], 0x8000_0007),
            (&["80000008.EBX"][..], 0x8000_0008),
            (&["80000021.EAX"][..], 0x8000_0021),
            (&["80000022.EAX"][..], 0x8000_0022),
        ] {
            if any(keys) {
                xlevel = xlevel.max(leaf);
            }
        }
        if features.has("svm") {
            xlevel = xlevel.max(0x8000_000a);
        }
    }
    (config.level.unwrap_or(level), config.xlevel.unwrap_or(xlevel))
}

/// Fills the table.
pub(super) fn build(
    config: &CpuConfig,
    features: &FeatureSet,
    topology: Topology,
    phys_bits: u32,
) -> CpuidTable {
    let mut table = CpuidTable { thread_bits: topology.thread_bits(), ..CpuidTable::default() };
    let mut put = |function: u32, index: u32, eax: u32, ebx: u32, ecx: u32, edx: u32| {
        table.leaves.insert((function, index), Leaf { eax, ebx, ecx, edx });
    };
    let word = |key: &str| features.word(key);
    let amd = config.vendor == "AuthenticAMD";
    let logical = topology.logical();
    let several = logical > 1;
    let vendor = config.vendor.as_bytes();
    let (level, xlevel) = levels(config, &config.features.or(features));
    let signature = (config.family.min(15)) << 8
        | config.family.saturating_sub(15) << 20
        | (config.model & 15) << 4
        | config.model >> 4 << 16
        | config.stepping;
    put(0, 0, level, text_word(vendor, 0), text_word(vendor, 2), text_word(vendor, 1));
    let (count, ht) = if several { (logical.min(255) << 16, 1 << 28) } else { (0, 0) };
    put(1, 0, signature, 8 << 8 | count, word("1.ECX"), word("1.EDX") | ht);
    let (core_mask, socket_mask) = ((1 << topology.thread_bits()) - 1, (1 << topology.socket_bits()) - 1);
    let own = if config.legacy_cache { None } else { Some(epyc_caches(&config.name)) };
    let shown = if config.l3_cache { 4 } else { 3 };
    let sharing = |level: u32| if level == 3 { socket_mask } else { core_mask };
    if !amd {
        // One-byte codes of the caches (SDM vol. 2, table 3-12); 0xff where there is none: Hygon's own caches, or ours.
        let (l3, others) = if own.is_some() { (0x4b, 0x002c_ff80) } else { (0x4d, 0x002c_307d) };
        put(2, 0, 1, 0, if config.l3_cache { l3 } else { 0 }, others);
        let cores = (1 << (topology.socket_bits() - topology.thread_bits())) - 1;
        for (index, cache) in own.unwrap_or(LEGACY).iter().take(shown).enumerate() {
            let leaf = cache.leaf(sharing(cache.level));
            put(4, index as u32, leaf.eax | cores << 26, leaf.ebx, leaf.ecx, leaf.edx);
        }
    }
    put(5, 0, 0, 0, 3, 0);
    put(6, 0, word("6.EAX"), 0, 0, 0);
    let wanted = config.features.or(features);
    let sub = if wanted.word("7.2.EDX") != 0 {
        2
    } else {
        u32::from(wanted.word("7.1.EAX") != 0 || wanted.word("7.1.EDX") != 0)
    };
    put(7, 0, sub, word("7.0.EBX"), word("7.0.ECX"), word("7.0.EDX"));
    put(7, 1, word("7.1.EAX"), 0, 0, word("7.1.EDX"));
    put(7, 2, 0, 0, 0, word("7.2.EDX"));
    if config.leaf_b {
        put(0xb, 0, topology.thread_bits(), topology.threads.max(1), 0x100, 0);
        put(0xb, 1, topology.socket_bits(), logical, 0x201, 0);
    }
    if features.has("xsave") {
        let components = components(features);
        let mask = components.iter().fold(3, |mask, part| mask | 1u32 << part.0);
        let size = components.iter().map(|part| part.1 + part.2).max().unwrap_or(0x240);
        let compact = components.iter().fold(0x240, |size, part| size + part.2);
        put(0xd, 0, mask, 0x240, size, 0);
        put(0xd, 1, word("D.1.EAX"), compact, 0, 0);
        for Component(number, offset, size) in components {
            put(0xd, number, size, offset, 0, 0);
        }
    }
    if config.signature {
        put(0x4000_0000, 0, 0x4000_0001, 0x5447_4354, 0x4354_4743, 0x4743_5447);
    }
    if xlevel >= 0x8000_0000 {
        put(0x8000_0000, 0, xlevel, text_word(vendor, 0), text_word(vendor, 2), text_word(vendor, 1));
        // AMD repeats part of leaf 1 here.
        let repeated = if amd { word("1.EDX") & 0x0183_f3ff } else { 0 };
        let legacy = u32::from(several && config.vendor != "GenuineIntel") << 1;
        put(0x8000_0001, 0, signature, 0, word("80000001.ECX") | legacy, word("80000001.EDX") | repeated);
        let brand = config.model_id.as_bytes();
        for index in 0..3 {
            let word = |register: usize| text_word(brand, index * 4 + register);
            put(0x8000_0002 + index as u32, 0, word(0), word(1), word(2), word(3));
        }
        let [l1d, l1i, l2, l3] = own.unwrap_or(LEGACY_AMD);
        put(0x8000_0005, 0, 0x01ff_01ff, 0x01ff_01ff, l1d.amd_l1(), l1i.amd_l1());
        let l3_word = if config.l3_cache { (l3.kib / 512) << 18 | l3.amd_low() } else { 0 };
        put(0x8000_0006, 0, 0, 0x4200_4200, l2.kib << 16 | l2.amd_low(), l3_word);
        put(0x8000_0007, 0, 0, word("80000007.EBX"), 0, word("80000007.EDX"));
        let widths =
            match (features.has("lm"), features.has("la57"), features.has("pse36") || features.has("pae")) {
                (true, true, _) => 57 << 8 | phys_bits,
                (true, false, _) => 48 << 8 | phys_bits,
                (false, _, true) => 36,
                (false, _, false) => 32,
            };
        let cores = if several { topology.socket_bits() << 12 | (logical - 1) } else { 0 };
        put(0x8000_0008, 0, widths, word("80000008.EBX"), cores, 0);
        if features.has("svm") {
            put(0x8000_000a, 0, 1, 16, 0, word("8000000A.EDX"));
        }
        if let Some(caches) = own {
            for (index, cache) in caches.iter().take(shown).enumerate() {
                let leaf = cache.leaf(sharing(cache.level));
                put(0x8000_001d, index as u32, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx & 3);
            }
            put(0x8000_001e, 0, 0, (topology.threads.max(1) - 1) << 8, 0, 0);
        }
        put(0x8000_0021, 0, word("80000021.EAX"), 0, 0, 0);
        put(0x8000_0022, 0, word("80000022.EAX"), 0, 0, 0);
    }
    if config.xlevel2 >= 0xc000_0000 {
        put(0xc000_0000, 0, config.xlevel2, 0, 0, 0);
        put(0xc000_0001, 0, 0, 0, 0, word("C0000001.EDX"));
    }
    table
}
