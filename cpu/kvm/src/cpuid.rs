//! CPUID: what KVM can show, what the host is, and what a guest is shown.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use x86::cpuid::{CpuidTable, Leaf};
use x86::features::{Feature, FeatureSet};
use x86::models::HostCpu;

/// What needs the kernel's own local APIC, or MSRs that are not kept here.
const HIDDEN: [&str; 7] =
    ["x2apic", "tsc-deadline", "arch-capabilities", "core-capability", "monitor", "vmx", "svm"];

/// KVM's own leaves: its name, and its features.
const KVM_LEAVES: u32 = 0x4000_0000;
/// KVM's features that need nothing of us: the paravirtual clock's two interfaces, ports without delay, and a clock that
/// is stable over all processors.
const KVM_FEATURES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24;

/// A leaf of KVM's table.
pub(crate) fn find(table: &CpuId, function: u32, index: u32) -> Option<Leaf> {
    let fits = |entry: &&kvm_cpuid_entry2| {
        entry.function == function
            && (entry.index == index || entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX == 0)
    };
    let entry = table.as_slice().iter().find(fits)?;
    Some(Leaf { eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx })
}

/// The features that KVM can show and that work with an APIC in user space.
pub(crate) fn features(supported: &CpuId) -> FeatureSet {
    let mut set = FeatureSet::from_cpuid(|function, index| match function {
        // SGX, processor trace and nested virtualisation need more than bits.
        0x12 | 0x14 | 0x8000_000a => Leaf::default(),
        function => {
            let leaf = find(supported, function, index).unwrap_or_default();
            if function == KVM_LEAVES + 1 {
                Leaf { eax: leaf.eax & KVM_FEATURES, ..Leaf::default() }
            } else {
                leaf
            }
        }
    });
    for name in HIDDEN {
        if let Some(feature) = Feature::find(name) {
            set.remove(feature);
        }
    }
    // KVM leaves it to us to say that this is a virtual machine.
    if let Some(feature) = Feature::find("hypervisor") {
        set.insert(feature);
    }
    set
}

/// Twelve or more characters from registers.
fn text(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|r| r.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// The host's processor.
pub(crate) fn host(supported: &CpuId) -> HostCpu {
    let leaf = |function| find(supported, function, 0).unwrap_or_default();
    let (first, version) = (leaf(0), leaf(1));
    let eax = version.eax;
    let family = eax >> 8 & 0xf;
    let extended = eax >> 12 & 0xf0;
    let brand: Vec<u32> = (0x8000_0002..=0x8000_0004u32)
        .flat_map(|function| {
            // KVM does not give the brand string.
            let leaf = std::arch::x86_64::__cpuid(function);
            [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
        })
        .collect();
    HostCpu {
        vendor: text(&[first.ebx, first.edx, first.ecx]),
        family: if family == 0xf { family + (eax >> 20 & 0xff) } else { family },
        model: eax >> 4 & 0xf | if family == 6 || family == 0xf { extended } else { 0 },
        stepping: eax & 0xf,
        model_id: text(&brand),
        level: first.eax,
        xlevel: leaf(0x8000_0000).eax,
    }
}

/// The guest's table as KVM takes it. What depends on control registers KVM adds itself.
pub(crate) fn guest(model: &CpuidTable, supported: &CpuId) -> Vec<kvm_cpuid_entry2> {
    let entry = |function: u32, index: u32, leaf: &Leaf| kvm_cpuid_entry2 {
        function,
        index,
        flags: if CpuidTable::is_indexed(function) { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax: leaf.eax,
        ebx: leaf.ebx,
        ecx: leaf.ecx,
        edx: leaf.edx,
        ..kvm_cpuid_entry2::default()
    };
    let own = |function: u32| (KVM_LEAVES..=KVM_LEAVES + 1).contains(&function);
    let mut entries: Vec<_> = model
        .leaves
        .iter()
        .filter(|((function, _), _)| !own(*function))
        .map(|(&(function, index), leaf)| entry(function, index, leaf))
        .collect();
    if let Some(name) = find(supported, KVM_LEAVES, 0) {
        let known = find(supported, KVM_LEAVES + 1, 0).unwrap_or_default().eax;
        entries.push(entry(KVM_LEAVES, 0, &Leaf { eax: KVM_LEAVES + 1, ..name }));
        entries.push(entry(KVM_LEAVES + 1, 0, &Leaf { eax: known & KVM_FEATURES, ..Leaf::default() }));
    }
    entries.truncate(crate::CPUID_ENTRIES);
    entries
}
