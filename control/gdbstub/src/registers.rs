//! The registers as GDB numbers them, and the target description that tells it so.
//!
//! Names and numbers are those of the reference; feature `org.gnu.gdb.i386.core` of GDB's manual, appendix G.5.

use std::fmt::Write as _;
use x86::reg::{cr0, efer, flags};
use x86::{Segment, X86State};

/// Segments in GDB's order, as numbers of [`X86State::seg`].
const SEGMENTS: [usize; 6] = [1, 2, 3, 0, 4, 5];
/// General registers in GDB's order, as numbers of [`X86State::gpr`].
const GENERAL: [usize; 8] = [0, 3, 1, 2, 6, 7, 5, 4];
const NAMES: [&str; 24] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip", "eflags", "cs", "ss", "ds", "es", "fs", "gs",
];
const SYSTEM: [&str; 9] = ["fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"];
const X87: [&str; 8] = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"];
const RIP: usize = 16;
const EFLAGS: usize = 17;
const FIRST_SEGMENT: usize = 18;
const FIRST_SYSTEM: usize = 24;
const FIRST_ST: usize = 33;
const FIRST_X87: usize = 41;
const FIRST_XMM: usize = 49;
const MXCSR: usize = 65;
/// How many there are.
pub(crate) const COUNT: usize = 66;

/// Named bits of a register: the name and the lowest and highest bit.
type Bits = &'static [(&'static str, u32, u32)];
const FLAGS: &[(&str, u32, Bits)] = &[
    (
        "x64_eflags",
        4,
        &[
            ("CF", 0, 0),
            ("PF", 2, 2),
            ("AF", 4, 4),
            ("ZF", 6, 6),
            ("SF", 7, 7),
            ("TF", 8, 8),
            ("IF", 9, 9),
            ("DF", 10, 10),
            ("OF", 11, 11),
            ("IOPL", 12, 13),
            ("NT", 14, 14),
            ("RF", 16, 16),
            ("VM", 17, 17),
            ("AC", 18, 18),
            ("VIF", 19, 19),
            ("VIP", 20, 20),
            ("ID", 21, 21),
        ],
    ),
    (
        "x64_cr0",
        8,
        &[
            ("PE", 0, 0),
            ("MP", 1, 1),
            ("EM", 2, 2),
            ("TS", 3, 3),
            ("ET", 4, 4),
            ("NE", 5, 5),
            ("WP", 16, 16),
            ("AM", 18, 18),
            ("NW", 29, 29),
            ("CD", 30, 30),
            ("PG", 31, 31),
        ],
    ),
    ("x64_cr3", 8, &[("PCID", 0, 11), ("PDBR", 12, 63)]),
    (
        "x64_cr4",
        8,
        &[
            ("VME", 0, 0),
            ("PVI", 1, 1),
            ("TSD", 2, 2),
            ("DE", 3, 3),
            ("PSE", 4, 4),
            ("PAE", 5, 5),
            ("MCE", 6, 6),
            ("PGE", 7, 7),
            ("PCE", 8, 8),
            ("OSFXSR", 9, 9),
            ("OSXMMEXCPT", 10, 10),
            ("UMIP", 11, 11),
            ("LA57", 12, 12),
            ("VMXE", 13, 13),
            ("SMXE", 14, 14),
            ("FSGSBASE", 16, 16),
            ("PCIDE", 17, 17),
            ("OSXSAVE", 18, 18),
            ("SMEP", 20, 20),
            ("SMAP", 21, 21),
            ("PKE", 22, 22),
        ],
    ),
    (
        "x64_efer",
        8,
        &[
            ("SCE", 0, 0),
            ("LME", 8, 8),
            ("LMA", 10, 10),
            ("NXE", 11, 11),
            ("SVME", 12, 12),
            ("LMSLE", 13, 13),
            ("FFXSR", 14, 14),
            ("TCE", 15, 15),
        ],
    ),
    (
        "x64_mxcsr",
        4,
        &[
            ("IE", 0, 0),
            ("DE", 1, 1),
            ("ZE", 2, 2),
            ("OE", 3, 3),
            ("UE", 4, 4),
            ("PE", 5, 5),
            ("DAZ", 6, 6),
            ("IM", 7, 7),
            ("DM", 8, 8),
            ("ZM", 9, 9),
            ("OM", 10, 10),
            ("UM", 11, 11),
            ("PM", 12, 12),
            ("FZ", 15, 15),
        ],
    ),
];
/// How GDB may look at a vector register: field, type of the elements, their number.
const VECTORS: [(&str, &str, &str, u32); 6] = [
    ("v4_float", "v4f", "ieee_single", 4),
    ("v2_double", "v2d", "ieee_double", 2),
    ("v16_int8", "v16i8", "int8", 16),
    ("v8_int16", "v8i16", "int16", 8),
    ("v4_int32", "v4i32", "int32", 4),
    ("v2_int64", "v2i64", "int64", 2),
];

/// The name of the file that describes the registers.
pub(crate) const CORE: &str = "i386-64bit.xml";
/// The target description, which names that file.
pub(crate) const TARGET: &str = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
    <architecture>i386:x86-64</architecture><xi:include href=\"i386-64bit.xml\"/></target>";

/// The bytes that register `n` has for GDB.
fn size(n: usize) -> usize {
    match n {
        EFLAGS | FIRST_SEGMENT..FIRST_SYSTEM | FIRST_X87..FIRST_XMM | MXCSR => 4,
        FIRST_ST..FIRST_X87 => 10,
        FIRST_XMM..MXCSR => 16,
        _ => 8,
    }
}

/// The description of all registers.
pub(crate) fn description() -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<feature name=\"org.gnu.gdb.i386.core\">\n",
    );
    for (id, size, bits) in FLAGS {
        let _ = writeln!(text, "<flags id=\"{id}\" size=\"{size}\">");
        for (name, first, last) in *bits {
            let _ = writeln!(text, "<field name=\"{name}\" start=\"{first}\" end=\"{last}\"/>");
        }
        text.push_str("</flags>\n");
    }
    for (_, id, element, count) in VECTORS {
        let _ = writeln!(text, "<vector id=\"{id}\" type=\"{element}\" count=\"{count}\"/>");
    }
    text.push_str("<union id=\"vec128\">\n");
    for (field, id, ..) in VECTORS {
        let _ = writeln!(text, "<field name=\"{field}\" type=\"{id}\"/>");
    }
    text.push_str("<field name=\"uint128\" type=\"uint128\"/>\n</union>\n");
    for n in 0..COUNT {
        let (name, kind) = match n {
            6 | 7 => (NAMES[n].to_owned(), "data_ptr"),
            RIP => (NAMES[n].to_owned(), "code_ptr"),
            EFLAGS => (NAMES[n].to_owned(), "x64_eflags"),
            FIRST_SEGMENT..FIRST_SYSTEM => (NAMES[n].to_owned(), "int32"),
            0..FIRST_SEGMENT => (NAMES[n].to_owned(), "int64"),
            FIRST_SYSTEM..FIRST_ST => {
                let name = SYSTEM[n - FIRST_SYSTEM];
                let kind = match name {
                    "cr0" => "x64_cr0",
                    "cr3" => "x64_cr3",
                    "cr4" => "x64_cr4",
                    "efer" => "x64_efer",
                    _ => "int64",
                };
                (name.to_owned(), kind)
            }
            FIRST_ST..FIRST_X87 => (format!("st{}", n - FIRST_ST), "i387_ext"),
            FIRST_X87..FIRST_XMM => (X87[n - FIRST_X87].to_owned(), "int\" group=\"float"),
            FIRST_XMM..MXCSR => (format!("xmm{}", n - FIRST_XMM), "vec128"),
            _ => ("mxcsr".to_owned(), "x64_mxcsr\" group=\"vector"),
        };
        let _ = writeln!(
            text,
            "<reg name=\"{name}\" bitsize=\"{}\" type=\"{kind}\" regnum=\"{n}\"/>",
            size(n) * 8
        );
    }
    text.push_str("</feature>\n");
    text
}

/// Whether 64-bit code runs, which alone has whole registers.
fn is_long(state: &X86State) -> bool {
    state.efer & efer::LMA != 0 && state.seg[1].attributes & Segment::LONG != 0
}

/// Appends register `n`; false when there is none. `cr8`: the task priority, which its interrupt controller has.
pub(crate) fn read(state: &X86State, cr8: u64, n: usize, out: &mut Vec<u8>) -> bool {
    if n >= COUNT {
        return false;
    }
    let before = out.len();
    let mut put = |value: u64| out.extend_from_slice(&value.to_le_bytes()[..size(n).min(8)]);
    let x87 = &state.x87;
    match n {
        0..RIP => {
            let value = state.gpr[GENERAL.get(n).copied().unwrap_or(n)];
            put(match (is_long(state), n) {
                (true, _) => value,
                (false, 0..8) => value & 0xffff_ffff,
                _ => 0,
            });
        }
        RIP => put(if is_long(state) { state.rip } else { state.rip & 0xffff_ffff }),
        EFLAGS => put(state.rflags),
        FIRST_SEGMENT..FIRST_SYSTEM => put(state.seg[SEGMENTS[n - FIRST_SEGMENT]].selector.into()),
        FIRST_SYSTEM..FIRST_ST => put(match SYSTEM[n - FIRST_SYSTEM] {
            "fs_base" => state.seg[4].base,
            "gs_base" => state.seg[5].base,
            "k_gs_base" => state.kernel_gs_base,
            "cr0" => state.cr0,
            "cr2" => state.cr2,
            "cr3" => state.cr3,
            "cr4" => state.cr4,
            "cr8" => cr8,
            _ => state.efer,
        }),
        FIRST_ST..FIRST_X87 => {
            let top = x87.top();
            out.extend_from_slice(&x87.regs[(n - FIRST_ST + top) % 8][..10]);
        }
        FIRST_X87..FIRST_XMM => put(match X87[n - FIRST_X87] {
            "fctrl" => x87.fcw.into(),
            "fstat" => x87.fsw.into(),
            "ftag" => x87.ftw.into(),
            // The reference tells nothing of the last instruction.
            _ => 0,
        }),
        FIRST_XMM..MXCSR => out.extend_from_slice(&state.zmm[n - FIRST_XMM][..16]),
        _ => put(state.mxcsr.into()),
    }
    debug_assert_eq!(out.len() - before, size(n));
    true
}

/// Sets register `n` from the first of `bytes`; how many that were. `None`: there is no such register, too few bytes,
/// or it would need what only the guest's own instructions do (modes, descriptors) to set it to that. `cr8`: the task
/// priority, which its interrupt controller has.
pub(crate) fn write(state: &mut X86State, cr8: &mut u64, n: usize, bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.get(..(n < COUNT).then(|| size(n))?)?;
    let mut present = Vec::new();
    read(state, *cr8, n, &mut present);
    if present == bytes {
        return Some(bytes.len());
    }
    let mut raw = [0; 8];
    let low = bytes.len().min(8);
    raw[..low].copy_from_slice(&bytes[..low]);
    let value = u64::from_le_bytes(raw);
    let long = is_long(state);
    let canonical = (value.cast_signed() << 7 >> 7).cast_unsigned() == value;
    match n {
        0..RIP if long || n < 8 => {
            let to = &mut state.gpr[GENERAL.get(n).copied().unwrap_or(n)];
            *to = if long { value } else { value & 0xffff_ffff };
        }
        RIP if !long || canonical => state.rip = if long { value } else { value & 0xffff_ffff },
        EFLAGS if (value ^ state.rflags) & flags::VM == 0 => state.rflags = value & 0x3f_7fd5 | 2,
        FIRST_SEGMENT..FIRST_SYSTEM if state.cr0 & cr0::PE == 0 => {
            let segment = &mut state.seg[SEGMENTS[n - FIRST_SEGMENT]];
            (segment.selector, segment.base) = (value as u16, (value & 0xffff) << 4);
        }
        FIRST_SYSTEM..FIRST_ST => match SYSTEM[n - FIRST_SYSTEM] {
            "fs_base" if canonical => state.seg[4].base = value,
            "gs_base" if canonical => state.seg[5].base = value,
            "k_gs_base" if canonical => state.kernel_gs_base = value,
            "cr2" => state.cr2 = value,
            "cr8" if value < 16 => *cr8 = value,
            _ => return None,
        },
        FIRST_ST..FIRST_X87 => {
            let top = state.x87.top();
            state.x87.regs[(n - FIRST_ST + top) % 8][..10].copy_from_slice(bytes);
        }
        FIRST_X87..FIRST_XMM => match X87[n - FIRST_X87] {
            "fctrl" => state.x87.fcw = value as u16,
            "fstat" => state.x87.fsw = value as u16,
            "ftag" => state.x87.ftw = value as u8,
            _ => return None,
        },
        FIRST_XMM..MXCSR => state.zmm[n - FIRST_XMM][..16].copy_from_slice(bytes),
        MXCSR if value >> 16 == 0 => state.mxcsr = value as u32,
        _ => return None,
    }
    Some(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut state = X86State::default();
        for n in [0, 3, 7, 16, 18, 33, 40, 41, 49, 64, 65] {
            let value: Vec<u8> =
                (0..size(n)).map(|k| if k < 2 || size(n) > 8 { 0x11 + k as u8 } else { 0 }).collect();
            assert_eq!(write(&mut state, &mut 0, n, &value), Some(size(n)), "{n}");
            let mut found = Vec::new();
            assert!(read(&state, 0, n, &mut found));
            assert_eq!(found, value, "{n}");
        }
        assert_eq!(write(&mut state, &mut 0, COUNT, &[0; 16]), None);
        assert_eq!(write(&mut state, &mut 0, 0, &[0; 7]), None);
        assert_eq!(write(&mut state, &mut 0, 27, &[1, 0, 0, 0, 0, 0, 0, 0]), None, "CR0");
        assert!(!read(&state, 0, COUNT, &mut Vec::new()));
    }

    #[test]
    fn general_registers_are_in_gdb_s_order() {
        let mut state = X86State::default();
        state.gpr[3] = 0x1234;
        let mut found = Vec::new();
        read(&state, 0, 1, &mut found);
        assert_eq!(found, [0x34, 0x12, 0, 0, 0, 0, 0, 0], "RBX");
    }

    #[test]
    fn the_description_has_all() {
        let text = description();
        assert_eq!(text.matches("<reg ").count(), COUNT);
        assert!(text.contains(
            "<reg name=\"mxcsr\" bitsize=\"32\" type=\"x64_mxcsr\" group=\"vector\" regnum=\"65\"/>"
        ));
        assert!(text.contains("<reg name=\"cr8\" bitsize=\"64\" type=\"int64\" regnum=\"31\"/>"));
    }
}
