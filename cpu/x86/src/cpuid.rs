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
/// Dynamic bits (OSXSAVE, APIC enable, XSAVE sizes of the present XCR0, APIC IDs) are put in by [`CpuidTable::read`]'s
/// callers from their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuidTable {
    /// Leaves by (EAX, ECX).
    pub leaves: BTreeMap<(u32, u32), Leaf>,
}

impl CpuidTable {
    /// The leaf for `function` (EAX) and `index` (ECX); zeros when there is none. Functions above the highest basic
    /// leaf answer as the highest basic leaf does (SDM vol. 2, CPUID).
    pub fn read(&self, function: u32, index: u32) -> Leaf {
        self.leaves
            .get(&(function, index))
            .or_else(|| self.leaves.get(&(function, 0)))
            .copied()
            .unwrap_or_default()
    }
}
