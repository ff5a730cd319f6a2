//! All that CPUID says.

use crate::Bits;

/// Most subleaves that are asked for in one leaf: a processor that never ends its list must not keep us.
const MOST: u32 = 64;

/// Asks `cpuid` (leaf, subleaf to EAX, EBX, ECX, EDX) for all standard and extended leaves, with the subleaves that
/// depend on earlier answers (Intel SDM volume 2, CPUID).
pub fn read_leaves(mut cpuid: impl FnMut(u32, u32) -> [u32; 4]) -> Bits {
    let mut bits = Bits::default();
    for base in [0, 0x8000_0000] {
        let last = cpuid(base, 0)[0].min(base + 0xff);
        for leaf in base..=last {
            let first = cpuid(leaf, 0);
            let subleaves = subleaves(leaf, first, &bits, &mut cpuid);
            for subleaf in subleaves {
                let words = if subleaf == 0 { first } else { cpuid(leaf, subleaf) };
                bits.set_leaf(leaf, subleaf, words);
            }
        }
    }
    bits
}

/// The subleaves of a leaf that mean something.
fn subleaves(
    leaf: u32,
    first: [u32; 4],
    known: &Bits,
    cpuid: &mut impl FnMut(u32, u32) -> [u32; 4],
) -> Vec<u32> {
    let [eax, ebx, ecx, edx] = first;
    let listed = |word: u32| (0..32).filter(move |bit| *bit == 0 || word >> bit & 1 != 0).collect();
    match leaf {
        // Caches, until one that is none.
        0x4 => {
            let mut list = vec![0];
            let mut next = eax;
            while next & 0x1f != 0 && (list.len() as u32) < MOST {
                let subleaf = list.len() as u32;
                list.push(subleaf);
                next = cpuid(leaf, subleaf)[0];
            }
            list
        }
        0x7 | 0x14 => (0..=eax.min(MOST)).collect(),
        0x17 if eax >= 3 => (0..=eax.min(MOST)).collect(),
        0x17 => Vec::new(),
        // Topology, until a level that is none.
        0xb => {
            let mut list = Vec::new();
            let mut next = ecx;
            while next & 0xff00 != 0 && (list.len() as u32) < MOST {
                list.push(list.len() as u32);
                next = cpuid(leaf, list.len() as u32)[2];
            }
            list
        }
        // State components: those of XCR0 (subleaf 0) and of IA32_XSS (subleaf 1).
        0xd => {
            let [_, _, low, high] = cpuid(leaf, 1);
            let present = |n: u32| if n < 32 { (eax | low) >> n & 1 } else { (edx | high) >> (n - 32) & 1 };
            (0..64).filter(|n| *n < 2 || present(*n) != 0).collect()
        }
        0xf => listed(edx),
        0x10 => listed(ebx),
        // Enclaves, where leaf 7 says that there are any.
        0x12 => {
            let sgx = known.get(crate::Place::Cpuid(7, 0, crate::Half::Ebx)) & 1 << 2 != 0;
            let mut list = if sgx { vec![0, 1] } else { Vec::new() };
            while sgx && cpuid(leaf, list.len() as u32)[0] & 0xf != 0 && (list.len() as u32) < MOST {
                list.push(list.len() as u32);
            }
            list
        }
        _ => vec![0],
    }
}
