//! What CPUID answers: a table of leaves that CPU models fill and accelerators read.

use std::collections::BTreeMap;

/// The four result registers of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The static part of a processor's CPUID: what does not depend on control registers.
///
/// Dynamic bits (OSXSAVE, OSPKE, APIC enable, XSAVE sizes of the present XCR0, SYSCALL of leaf 0x80000001 that Intel
/// processors show in 64-bit mode only) are put in by [`CpuidTable::read`]'s
/// callers from their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuidTable {
    /// Leaves by (EAX, ECX).
    pub leaves: BTreeMap<(u32, u32), Leaf>,
    /// Bits of an APIC ID that number the thread in its core.
    pub thread_bits: u32,
}

/// Leaves whose answer does not depend on ECX are stored with index 0; these depend on it.
const INDEXED: [u32; 8] = [4, 7, 0xb, 0xd, 0x12, 0x14, 0x24, 0x8000_001d];

impl CpuidTable {
    /// Whether the answer of `function` depends on ECX.
    pub fn is_indexed(function: u32) -> bool {
        INDEXED.contains(&function)
    }

    /// The leaf for `function` (EAX) and `index` (ECX); zeros when there is none. A function above the highest leaf of
    /// its range answers as the highest basic leaf does (SDM vol. 2, CPUID).
    pub fn read(&self, function: u32, index: u32) -> Leaf {
        let highest = |function: u32| self.leaves.get(&(function, 0)).map_or(0, |leaf| leaf.eax);
        let basic = highest(0);
        let limit = match function {
            0xc000_0000.. => highest(0xc000_0000),
            0x8000_0000.. => highest(0x8000_0000),
            0x4000_0000.. => 0x4000_0001,
            _ => basic,
        };
        let function = if function > limit { basic } else { function };
        let stored = if INDEXED.contains(&function) { index } else { 0 };
        match self.leaves.get(&(function, stored)) {
            Some(leaf) => *leaf,
            // The level below the last one of the topology says only which one it is.
            None if function == 0xb && self.leaves.contains_key(&(0xb, 0)) => {
                Leaf { ecx: index & 0xff, ..Leaf::default() }
            }
            None => Leaf::default(),
        }
    }

    /// The table of the processor with this local APIC ID: its ID in leaves 1, 0xB and 0x8000001E.
    #[must_use]
    pub fn for_apic_id(&self, apic_id: u32) -> Self {
        let mut table = self.clone();
        for ((function, _), leaf) in &mut table.leaves {
            match function {
                1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | apic_id << 24,
                0xb => leaf.edx = apic_id,
                0x8000_001e => {
                    leaf.eax = apic_id;
                    leaf.ebx = leaf.ebx & 0xff00 | apic_id >> self.thread_bits & 0xff;
                }
                _ => {}
            }
        }
        table
    }
}
