//! Which instructions a CPU model offers, and which features the engine executes.

use crate::options::Without;
use iced_x86::{Code, CpuidFeature as F};
use x86::cpuid::CpuidTable;
use x86::features::FeatureSet;

/// Whether `model` offers the instruction `code`.
pub(crate) fn offered(model: &CpuidTable, code: Code) -> bool {
    let bit = |leaf: u32, register: u32, bit: u32| {
        let l = model.read(leaf, 0);
        [l.eax, l.ebx, l.ecx, l.edx][register as usize] >> bit & 1 != 0
    };
    let xsave = |bit: u32| model.read(0xd, 1).eax >> bit & 1 != 0;
    if matches!(code, Code::Lahf | Code::Sahf) || crate::integer::is_nop(code) && !is_sse_hint(code) {
        return true;
    }
    use Code::{Reservednop_rm16_r16_0F0D, Reservednop_rm32_r32_0F0D, Reservednop_rm64_r64_0F0D};
    if matches!(code, Reservednop_rm16_r16_0F0D | Reservednop_rm32_r32_0F0D | Reservednop_rm64_r64_0F0D) {
        // PREFETCHW and relatives want memory.
        return false;
    }
    code.cpuid_features().iter().all(|f| match f {
        F::INTEL8086
        | F::INTEL8086_ONLY
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::CPUID
        | F::FPU
        | F::FPU287
        | F::FPU387
        | F::X64
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::RDPMC => true,
        F::TSC => bit(1, 3, 4),
        F::MSR => bit(1, 3, 5),
        F::CX8 => bit(1, 3, 8),
        F::SEP => bit(1, 3, 11),
        F::CMOV => bit(1, 3, 15),
        F::CLFSH => bit(1, 3, 19),
        F::MMX => bit(1, 3, 23),
        F::FXSR => bit(1, 3, 24),
        F::SSE => bit(1, 3, 25),
        F::SSE2 => bit(1, 3, 26),
        F::SSE3 => bit(1, 2, 0),
        F::PCLMULQDQ => bit(1, 2, 1),
        F::MONITOR => bit(1, 2, 3),
        F::SSSE3 => bit(1, 2, 9),
        F::FMA => bit(1, 2, 12),
        F::CMPXCHG16B => bit(1, 2, 13),
        F::SSE4_1 => bit(1, 2, 19),
        F::SSE4_2 => bit(1, 2, 20),
        F::MOVBE => bit(1, 2, 22),
        F::POPCNT => bit(1, 2, 23),
        F::AES => bit(1, 2, 25),
        F::XSAVE => bit(1, 2, 26),
        F::XSAVEOPT => xsave(0),
        F::XSAVEC => xsave(1),
        F::AVX => bit(1, 2, 28),
        F::F16C => bit(1, 2, 29),
        F::RDRAND => bit(1, 2, 30),
        F::FSGSBASE => bit(7, 1, 0),
        F::BMI1 => bit(7, 1, 3),
        F::AVX2 => bit(7, 1, 5),
        F::BMI2 => bit(7, 1, 8),
        F::INVPCID => bit(7, 1, 10),
        F::RDSEED => bit(7, 1, 18),
        F::ADX => bit(7, 1, 19),
        F::SMAP => bit(7, 1, 20),
        F::CLFLUSHOPT => bit(7, 1, 23),
        F::CLWB => bit(7, 1, 24),
        F::SHA => bit(7, 1, 29),
        F::PKU => bit(7, 2, 3),
        F::RDPID => bit(7, 2, 22),
        F::GFNI => bit(7, 2, 8),
        F::VAES => bit(7, 2, 9),
        F::VPCLMULQDQ => bit(7, 2, 10),
        F::AVX_VNNI => model.read(7, 1).eax >> 4 & 1 != 0,
        F::AVX512F => bit(7, 1, 16),
        F::AVX512DQ => bit(7, 1, 17),
        F::AVX512_IFMA => bit(7, 1, 21),
        F::AVX512CD => bit(7, 1, 28),
        F::AVX512BW => bit(7, 1, 30),
        F::AVX512VL => bit(7, 1, 31),
        F::AVX512_VBMI => bit(7, 2, 1),
        F::AVX512_VBMI2 => bit(7, 2, 6),
        F::AVX512_VNNI => bit(7, 2, 11),
        F::AVX512_BITALG => bit(7, 2, 12),
        F::AVX512_VPOPCNTDQ => bit(7, 2, 14),
        F::AVX512_VP2INTERSECT => bit(7, 3, 8),
        F::AVX512_BF16 => model.read(7, 1).eax >> 5 & 1 != 0,
        F::SYSCALL => bit(0x8000_0001, 3, 11),
        F::RDTSCP => bit(0x8000_0001, 3, 27),
        F::LZCNT => bit(0x8000_0001, 2, 5),
        F::SSE4A => bit(0x8000_0001, 2, 6),
        _ => false,
    })
}

/// Fences and prefetches, which are undefined where SSE is missing; other hints are no-operations everywhere.
fn is_sse_hint(code: Code) -> bool {
    code.cpuid_features().iter().any(|f| matches!(f, F::SSE | F::SSE2))
}

/// The bits of CR4 that `model` has.
pub(crate) fn cr4_bits(model: &CpuidTable) -> u64 {
    use x86::reg::cr4::*;
    let (one, seven) = (model.read(1, 0), model.read(7, 0));
    let mut mask = TSD | PSE | PAE | MCE | PGE | PCE | OSFXSR | OSXMMEXCPT;
    for (word, bit, allowed) in [
        (one.edx, 1, VME | PVI),
        (one.edx, 2, DE),
        (one.ecx, 17, PCIDE),
        (one.ecx, 26, OSXSAVE),
        (seven.ebx, 0, FSGSBASE),
        (seven.ebx, 7, SMEP),
        (seven.ebx, 20, SMAP),
        (seven.ecx, 2, UMIP),
        (seven.ecx, 3, PKE),
        (seven.ecx, 16, LA57),
    ] {
        if word >> bit & 1 != 0 {
            mask |= allowed;
        }
    }
    mask
}

/// The names of the CPUID features that the engine executes on this host, `without` some of its own; models are cut
/// down to them.
pub fn supported_names(without: Without) -> String {
    use crate::vector::{Feature as V, host_supports};
    let mut names = String::from(
        "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss \
         hypervisor monitor cx16 pcid x2apic movbe popcnt tsc-deadline lahf-lm syscall nx pdpe1gb rdtscp lm smep smap \
         invpcid fsgsbase abm bmi1 bmi2 adx 3dnowprefetch rdrand rdseed umip clflushopt clwb erms arat tsc_adjust \
         xsave xsaveopt xsavec xgetbv1 rdpid mmxext pku la57",
    );
    let vectors = [
        (V::Sse3, "pni"),
        (V::Ssse3, "ssse3"),
        (V::Sse41, "sse4.1"),
        (V::Sse42, "sse4.2"),
        (V::Sse4a, "sse4a"),
        (V::Aes, "aes"),
        (V::Pclmulqdq, "pclmulqdq"),
        (V::Sha, "sha-ni"),
        (V::Avx, "avx"),
        (V::Avx2, "avx2"),
        (V::Fma, "fma"),
        (V::F16c, "f16c"),
        (V::Vaes, "vaes"),
        (V::Vpclmulqdq, "vpclmulqdq"),
        (V::Gfni, "gfni"),
        (V::AvxVnni, "avx-vnni"),
    ];
    for (feature, name) in vectors {
        if host_supports(feature) {
            names.push(' ');
            names.push_str(name);
        }
    }
    if crate::evex::host_is_able() && !without.avx512 && !without.shm {
        names.push_str(" avx512f avx512dq avx512cd avx512bw avx512vl");
        for (has, name) in [
            (is_x86_feature_detected!("avx512ifma"), "avx512ifma"),
            (is_x86_feature_detected!("avx512vbmi"), "avx512vbmi"),
            (is_x86_feature_detected!("avx512vbmi2"), "avx512vbmi2"),
            (is_x86_feature_detected!("avx512vnni"), "avx512vnni"),
            (is_x86_feature_detected!("avx512bitalg"), "avx512bitalg"),
            (is_x86_feature_detected!("avx512vpopcntdq"), "avx512-vpopcntdq"),
            (is_x86_feature_detected!("avx512bf16"), "avx512-bf16"),
            (is_x86_feature_detected!("avx512vp2intersect"), "avx512-vp2intersect"),
        ] {
            if has {
                names.push(' ');
                names.push_str(name);
            }
        }
    }
    names
}

/// What an encoding is on processors that ignore its F3 prefix.
pub(crate) fn without_prefix(code: Code) -> Option<Code> {
    Some(match code {
        Code::Tzcnt_r16_rm16 => Code::Bsf_r16_rm16,
        Code::Tzcnt_r32_rm32 => Code::Bsf_r32_rm32,
        Code::Tzcnt_r64_rm64 => Code::Bsf_r64_rm64,
        Code::Lzcnt_r16_rm16 => Code::Bsr_r16_rm16,
        Code::Lzcnt_r32_rm32 => Code::Bsr_r32_rm32,
        Code::Lzcnt_r64_rm64 => Code::Bsr_r64_rm64,
        _ => return None,
    })
}

/// [`supported_names`] as a set, with all that the host has.
pub fn supported_features() -> FeatureSet {
    supported_features_without(Without::default())
}

/// [`supported_names`] as a set.
pub fn supported_features_without(without: Without) -> FeatureSet {
    FeatureSet::from_names(&supported_names(without)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_name_is_a_feature() {
        for name in supported_names(Without::default()).split_whitespace() {
            assert!(x86::features::Feature::find(name).is_some(), "{name}");
        }
        assert!(supported_features().has("lm"));
    }
}
