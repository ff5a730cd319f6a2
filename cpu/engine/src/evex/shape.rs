//! What the operands of an instruction are, and which bytes of memory its mask selects.

use super::{BROADCAST, Frame, MASKED, MEMORY, ROUNDING, SUPPRESS};
use iced_x86::{Code, Mnemonic, OpCodeOperandKind as K};

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Memory, an immediate, or nothing.
    None,
    Vector,
    Mask,
    /// Two mask registers.
    Pair,
    /// A general register of 64 bits.
    Wide,
    /// A general register of 32 bits.
    Narrow,
}

/// Which part of the memory operand is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All of it, whatever the mask says.
    All,
    /// Each element whose bit is set.
    Elements,
    /// Each element that some set bit repeats.
    Repeated,
    /// So many elements from the first as bits are set.
    Packed,
}

/// What is known of a form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) classes: [Class; 3],
    pub(super) reach: Reach,
    /// Bytes of the memory operand.
    pub(super) size: u8,
    /// Bytes of it for one bit of the mask.
    pub(super) element: u8,
    /// Elements of the operation.
    count: u8,
    /// The memory operand is written.
    pub(super) store: bool,
    /// What its address is a multiple of.
    pub(super) alignment: u8,
    /// There is a write mask.
    masked: bool,
    /// The arithmetic flags change.
    pub(super) flags: bool,
    /// Bytes of a result's element that raises underflow when it is subnormal; 0: none does.
    tiny: u8,
    /// It raises no exceptions, and no flags.
    pub(super) suppresses: bool,
}

/// Whether `kind` can be a register, and which; `memory`: it is in memory instead.
fn class(kind: K, memory: bool) -> Class {
    match kind {
        K::xmm_or_mem | K::ymm_or_mem | K::zmm_or_mem | K::k_or_mem | K::r32_or_mem | K::r64_or_mem
            if memory =>
        {
            Class::None
        }
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv => Class::Vector,
        K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv => Class::Vector,
        K::zmm_or_mem | K::zmm_reg | K::zmm_rm | K::zmm_vvvv => Class::Vector,
        K::k_or_mem | K::k_reg | K::k_rm | K::k_vvvv => Class::Mask,
        K::kp1_reg => Class::Pair,
        K::r32_or_mem | K::r32_reg | K::r32_rm => Class::Narrow,
        K::r64_or_mem | K::r64_reg | K::r64_rm => Class::Wide,
        _ => Class::None,
    }
}

/// Whether an operand of `code` is a mask register.
pub(super) fn has_masks(code: Code) -> bool {
    code.op_code().op_kinds().iter().any(|kind| class(*kind, false) == Class::Mask)
}

/// Bytes of a register of this kind.
fn width(kind: K) -> usize {
    match kind {
        K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv => 16,
        K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv => 32,
        K::zmm_or_mem | K::zmm_reg | K::zmm_rm | K::zmm_vvvv => 64,
        _ => 0,
    }
}

impl Shape {
    /// The shape of `code` in `form`.
    pub(super) fn new(code: Code, form: u64) -> Self {
        let op = code.op_code();
        let memory = form & MEMORY != 0;
        let kinds = op.op_kinds();
        let classes = std::array::from_fn(|n| kinds.get(n).map_or(Class::None, |kind| class(*kind, memory)));
        let size = if form & BROADCAST != 0 { op.broadcast_memory_size() } else { op.memory_size() };
        let store = kinds.first().is_some_and(|kind| match kind {
            K::mem => true,
            kind => class(*kind, false) != Class::None && class(*kind, memory) == Class::None,
        });
        let element = element(code).unwrap_or(size.element_size());
        let bytes = size.size();
        // As many as a whole operand has.
        let count = op.memory_size().size() / element.max(1);
        let reach = match () {
            _ if form & MASKED == 0 || never_suppresses(code) => Reach::All,
            _ if is_packed(code) => Reach::Packed,
            _ if form & BROADCAST != 0 || is_broadcast(code) => Reach::Repeated,
            _ => Reach::Elements,
        };
        let count = match reach {
            Reach::Repeated if form & BROADCAST == 0 => {
                kinds.first().map_or(0, |kind| width(*kind)) / lane_element(code, element)
            }
            _ => count,
        };
        Self {
            classes,
            reach,
            size: bytes as u8,
            element: element as u8,
            count: count.min(64) as u8,
            store,
            alignment: if memory { alignment(code, bytes) } else { 1 },
            masked: form & MASKED != 0,
            flags: changes_flags(code),
            tiny: tiny(code),
            suppresses: form & SUPPRESS != 0 || form >> ROUNDING & 7 != 0 || is_approximate(code),
        }
    }

    /// The bytes of the memory operand (bit = number) that can fault where `chosen` is the mask.
    pub(super) fn reached(&self, chosen: u64) -> u64 {
        self.bytes(self.reach, chosen)
    }

    /// Those that are written.
    pub(super) fn written(&self, chosen: u64) -> u64 {
        self.bytes(if self.reach == Reach::All && self.masked { Reach::Elements } else { self.reach }, chosen)
    }

    fn bytes(&self, reach: Reach, chosen: u64) -> u64 {
        let low = |count: u32| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        let all = low(self.size.into());
        let chosen = chosen & low(self.count.into());
        let (size, element) = (u32::from(self.size), u32::from(self.element).max(1));
        let spread = |bits: u64| {
            (0..size / element)
                .filter(|n| bits >> n & 1 != 0)
                .fold(0, |bytes, n| bytes | low(element) << (n * element))
        };
        match reach {
            Reach::All => all,
            Reach::Elements => spread(chosen),
            Reach::Packed => low(chosen.count_ones() * element),
            Reach::Repeated => {
                let held = (size / element).max(1);
                spread(
                    (0..self.count.into())
                        .filter(|n: &u32| chosen >> n & 1 != 0)
                        .fold(0, |bits, n| bits | 1 << (n % held)),
                )
            }
        }
    }

    /// Bytes that are accessed at once: of what a mask selects each element by itself, so that the first that cannot be
    /// accessed decides about the fault.
    pub(super) fn step(&self) -> usize {
        if self.masked && self.reach != Reach::All { self.element.max(1).into() } else { 64 }
    }

    /// Whether an element of the result that `chosen` selects is subnormal.
    pub(super) fn has_tiny(&self, after: &Frame, chosen: u64) -> bool {
        let element = usize::from(self.tiny);
        let result = if self.store { &after.memory } else { &after.vectors[0] };
        if element == 0 {
            return false;
        }
        (0..usize::from(self.count).min(64 / element)).any(|n| {
            let mut wide = [0; 8];
            wide[..element].copy_from_slice(&result[n * element..][..element]);
            let value = u64::from_le_bytes(wide);
            let (exponent, fraction) = match element {
                2 => (0x7c00, 0x3ff),
                4 => (0x7f80_0000, 0x7f_ffff),
                _ => (0x7ff0_0000_0000_0000, 0xf_ffff_ffff_ffff),
            };
            chosen >> n & 1 != 0 && value & exponent == 0 && value & fraction != 0
        })
    }
}

/// Bytes of memory for one bit of the mask where that is not what the operand's elements are called.
fn element(code: Code) -> Option<usize> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Vpdpbusd | Vpdpbusds | Vpdpwssd | Vpdpwssds | Vdpbf16ps => 4,
        Vpmuludq | Vpmuldq | Vpmadd52luq | Vpmadd52huq => 8,
        _ => return None,
    })
}

/// Bytes of a result's element for one bit of the mask, of an instruction that repeats its operand.
fn lane_element(code: Code, element: usize) -> usize {
    use Mnemonic::*;
    match code.mnemonic() {
        Vbroadcastf32x2 | Vbroadcasti32x2 | Vbroadcastf32x4 | Vbroadcasti32x4 | Vbroadcastf32x8
        | Vbroadcasti32x8 => 4,
        Vbroadcastf64x2 | Vbroadcasti64x2 | Vbroadcastf64x4 | Vbroadcasti64x4 => 8,
        _ => element.max(1),
    }
}

/// Exception classes with "NF": a mask does not keep memory from being accessed (SDM vol. 2, 2.8.1).
fn never_suppresses(code: Code) -> bool {
    use Mnemonic::*;
    let op = code.op_code();
    if !op.can_use_op_mask_register() {
        return true;
    }
    let kinds = op.op_kinds();
    match code.mnemonic() {
        // A count for all elements, not elements.
        Vpsllw | Vpslld | Vpsllq | Vpsrlw | Vpsrld | Vpsrlq | Vpsraw | Vpsrad | Vpsraq => {
            kinds.last() == Some(&K::xmm_or_mem)
        }
        Vpshufb | Vpshufd | Vpshufhw | Vpshuflw | Vpermb | Vpermw | Vpermd | Vpermq | Vpermps | Vpermpd
        | Vpermi2b | Vpermi2w | Vpermi2d | Vpermi2q | Vpermi2ps | Vpermi2pd | Vpermt2b | Vpermt2w
        | Vpermt2d | Vpermt2q | Vpermt2ps | Vpermt2pd | Vpermilps | Vpermilpd | Vshuff32x4 | Vshuff64x2
        | Vshufi32x4 | Vshufi64x2 | Vshufps | Vshufpd | Vpunpcklbw | Vpunpcklwd | Vpunpckldq
        | Vpunpcklqdq | Vpunpckhbw | Vpunpckhwd | Vpunpckhdq | Vpunpckhqdq | Vunpcklps | Vunpcklpd
        | Vunpckhps | Vunpckhpd | Vpacksswb | Vpackssdw | Vpackuswb | Vpackusdw | Valignd | Valignq
        | Vpalignr | Vdbpsadbw | Vpmaddwd | Vpmaddubsw | Vpmultishiftqb | Vpconflictd | Vpconflictq
        | Vinsertf32x4 | Vinsertf64x2 | Vinsertf32x8 | Vinsertf64x4 | Vinserti32x4 | Vinserti64x2
        | Vinserti32x8 | Vinserti64x4 | Vmovddup | Vmovsldup | Vmovshdup | Vcvtne2ps2bf16
        | Vgf2p8affineqb | Vgf2p8affineinvqb | Vextractf32x4 | Vextractf64x2 | Vextractf32x8
        | Vextractf64x4 | Vextracti32x4 | Vextracti64x2 | Vextracti32x8 | Vextracti64x4 => true,
        _ => false,
    }
}

/// Whether memory holds the chosen elements one after the other.
fn is_packed(code: Code) -> bool {
    use Mnemonic::*;
    matches!(
        code.mnemonic(),
        Vexpandps
            | Vexpandpd
            | Vpexpandb
            | Vpexpandw
            | Vpexpandd
            | Vpexpandq
            | Vcompressps
            | Vcompresspd
            | Vpcompressb
            | Vpcompressw
            | Vpcompressd
            | Vpcompressq
    )
}

fn is_broadcast(code: Code) -> bool {
    use Mnemonic::*;
    matches!(
        code.mnemonic(),
        Vbroadcastss
            | Vbroadcastsd
            | Vpbroadcastb
            | Vpbroadcastw
            | Vpbroadcastd
            | Vpbroadcastq
            | Vbroadcastf32x2
            | Vbroadcasti32x2
            | Vbroadcastf32x4
            | Vbroadcasti32x4
            | Vbroadcastf32x8
            | Vbroadcasti32x8
            | Vbroadcastf64x2
            | Vbroadcasti64x2
            | Vbroadcastf64x4
            | Vbroadcasti64x4
    )
}

fn alignment(code: Code, size: usize) -> u8 {
    use Mnemonic::*;
    match code.mnemonic() {
        Vmovaps | Vmovapd | Vmovdqa32 | Vmovdqa64 | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa => size as u8,
        _ => 1,
    }
}

fn changes_flags(code: Code) -> bool {
    use Mnemonic::*;
    matches!(
        code.mnemonic(),
        Vcomiss
            | Vcomisd
            | Vucomiss
            | Vucomisd
            | Kortestb
            | Kortestw
            | Kortestd
            | Kortestq
            | Ktestb
            | Ktestw
            | Ktestd
            | Ktestq
    )
}

/// Reciprocals of 14 bits, which raise no exceptions.
fn is_approximate(code: Code) -> bool {
    use Mnemonic::*;
    matches!(
        code.mnemonic(),
        Vrcp14ps | Vrcp14pd | Vrcp14ss | Vrcp14sd | Vrsqrt14ps | Vrsqrt14pd | Vrsqrt14ss | Vrsqrt14sd
    )
}

/// Bytes of the elements of a result that can be tiny.
fn tiny(code: Code) -> u8 {
    use Mnemonic::*;
    match code.mnemonic() {
        Vcvtps2ph => 2,
        Vaddps | Vsubps | Vmulps | Vdivps | Vscalefps | Vcvtpd2ps | Vaddss | Vsubss | Vmulss | Vdivss
        | Vscalefss | Vcvtsd2ss | Vfmadd132ps | Vfmadd213ps | Vfmadd231ps | Vfmsub132ps | Vfmsub213ps
        | Vfmsub231ps | Vfnmadd132ps | Vfnmadd213ps | Vfnmadd231ps | Vfnmsub132ps | Vfnmsub213ps
        | Vfnmsub231ps | Vfmadd132ss | Vfmadd213ss | Vfmadd231ss | Vfmsub132ss | Vfmsub213ss
        | Vfmsub231ss | Vfnmadd132ss | Vfnmadd213ss | Vfnmadd231ss | Vfnmsub132ss | Vfnmsub213ss
        | Vfnmsub231ss | Vfmaddsub132ps | Vfmaddsub213ps | Vfmaddsub231ps | Vfmsubadd132ps
        | Vfmsubadd213ps | Vfmsubadd231ps => 4,
        Vaddpd | Vsubpd | Vmulpd | Vdivpd | Vscalefpd | Vaddsd | Vsubsd | Vmulsd | Vdivsd | Vscalefsd
        | Vfmadd132pd | Vfmadd213pd | Vfmadd231pd | Vfmsub132pd | Vfmsub213pd | Vfmsub231pd
        | Vfnmadd132pd | Vfnmadd213pd | Vfnmadd231pd | Vfnmsub132pd | Vfnmsub213pd | Vfnmsub231pd
        | Vfmadd132sd | Vfmadd213sd | Vfmadd231sd | Vfmsub132sd | Vfmsub213sd | Vfmsub231sd
        | Vfnmadd132sd | Vfnmadd213sd | Vfnmadd231sd | Vfnmsub132sd | Vfnmsub213sd | Vfnmsub231sd
        | Vfmaddsub132pd | Vfmaddsub213pd | Vfmaddsub231pd | Vfmsubadd132pd | Vfmsubadd213pd
        | Vfmsubadd231pd => 8,
        _ => 0,
    }
}
