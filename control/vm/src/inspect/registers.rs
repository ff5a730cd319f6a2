//! `info registers`, and registers by name.

use std::fmt::Write as _;
use x86::reg::{cr0, efer, flags, seg, xcr0};
use x86::{Activity, Segment, X86State};

const NAMES: [&str; 8] = ["AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP"];
/// The registers' numbers in the order of [`NAMES`].
const NUMBERS: [usize; 8] = [0, 3, 1, 2, 6, 7, 5, 4];

/// 64 in 64-bit code, else the code segment's operand size.
pub(crate) fn code_bits(state: &X86State) -> u32 {
    let cs = &state.seg[seg::CS];
    if state.efer & efer::LMA != 0 && cs.attributes & Segment::LONG != 0 {
        64
    } else if state.cr0 & cr0::PE != 0 && cs.attributes & Segment::BIG != 0 {
        32
    } else {
        16
    }
}

/// The registers in QEMU's layout. `a20` is whether address line 20 is let through.
pub(crate) fn dump(state: &X86State, a20: bool) -> String {
    let wide = code_bits(state) == 64;
    let mut out = String::new();
    general(&mut out, state, wide);
    let bit = |flag: u64, letter: char| if state.rflags & flag != 0 { letter } else { '-' };
    let (rip, name) =
        if wide { (format!("{:016x}", state.rip), 'R') } else { (format!("{:08x}", state.rip), 'E') };
    let _ = writeln!(
        out,
        "{name}IP={rip} {name}FL={:08x} [{}{}{}{}{}{}{}] CPL={} II={} A20={} SMM=0 HLT={}",
        state.rflags,
        bit(flags::DF, 'D'),
        bit(flags::OF, 'O'),
        bit(flags::SF, 'S'),
        bit(flags::ZF, 'Z'),
        bit(flags::AF, 'A'),
        bit(flags::PF, 'P'),
        bit(flags::CF, 'C'),
        state.cpl,
        u8::from(state.interrupt_shadow),
        u8::from(a20),
        u8::from(state.activity != Activity::Running),
    );
    for (name, segment) in ["ES", "CS", "SS", "DS", "FS", "GS"].iter().zip(&state.seg) {
        segment_line(&mut out, state, name, segment, wide);
    }
    segment_line(&mut out, state, "LDT", &state.ldtr, wide);
    segment_line(&mut out, state, "TR", &state.tr, wide);
    for (name, table) in [("GDT", state.gdtr), ("IDT", state.idtr)] {
        let _ = if wide {
            writeln!(out, "{name}=     {:016x} {:08x}", table.base, table.limit)
        } else {
            writeln!(out, "{name}=     {:08x} {:08x}", table.base as u32, table.limit)
        };
    }
    let _ = if wide {
        writeln!(
            out,
            "CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x}",
            state.cr0, state.cr2, state.cr3, state.cr4
        )
    } else {
        writeln!(
            out,
            "CR0={:08x} CR2={:08x} CR3={:08x} CR4={:08x}",
            state.cr0 as u32, state.cr2 as u32, state.cr3 as u32, state.cr4 as u32
        )
    };
    for number in 0..4 {
        let _ = write!(out, "DR{number}={:016x} ", state.dr[number]);
    }
    let _ = writeln!(out, "\nDR6={:016x} DR7={:016x}\nEFER={:016x}", state.dr[6], state.dr[7], state.efer);
    vectors(&mut out, state, wide);
    out
}

fn general(out: &mut String, state: &X86State, wide: bool) {
    for (index, (name, &number)) in NAMES.iter().zip(&NUMBERS).enumerate() {
        let end = if index % 4 == 3 { '\n' } else { ' ' };
        let value = state.gpr[number];
        let _ = if wide {
            write!(out, "R{name}={value:016x}{end}")
        } else {
            write!(out, "E{name}={:08x}{end}", value as u32)
        };
    }
    if wide {
        for number in 8..16 {
            let end = if number % 4 == 3 { '\n' } else { ' ' };
            let _ = write!(out, "R{number:<2}={:016x}{end}", state.gpr[number]);
        }
    }
}

/// Type names of system descriptors outside long mode (SDM vol. 3, table 3-2).
const SYSTEM_32: [&str; 16] = [
    "Reserved",
    "TSS16-avl",
    "LDT",
    "TSS16-busy",
    "CallGate16",
    "TaskGate",
    "IntGate16",
    "TrapGate16",
    "Reserved",
    "TSS32-avl",
    "Reserved",
    "TSS32-busy",
    "CallGate32",
    "Reserved",
    "IntGate32",
    "TrapGate32",
];

fn system_name(kind: u8, long: bool) -> &'static str {
    match (long, kind) {
        (false, _) => SYSTEM_32[usize::from(kind & 15)],
        (true, 0) => "<hiword>",
        (true, 2) => "LDT",
        (true, 9) => "TSS64-avl",
        (true, 11) => "TSS64-busy",
        (true, 12) => "CallGate64",
        (true, 14) => "IntGate64",
        (true, 15) => "TrapGate64",
        (true, _) => "Reserved",
    }
}

fn segment_line(out: &mut String, state: &X86State, name: &str, segment: &Segment, wide: bool) {
    let raw =
        if segment.attributes & Segment::GRANULARITY != 0 { segment.limit >> 12 } else { segment.limit };
    // The descriptor's second word, without the base.
    let word = u32::from(segment.attributes & 0xf0ff) << 8 | raw & 0xf_0000;
    let _ = if wide {
        write!(
            out,
            "{name:<3}={:04x} {:016x} {:08x} {word:08x}",
            segment.selector, segment.base, segment.limit
        )
    } else {
        write!(
            out,
            "{name:<3}={:04x} {:08x} {:08x} {word:08x}",
            segment.selector, segment.base as u32, segment.limit
        )
    };
    if state.cr0 & cr0::PE != 0 && segment.is_present() {
        let long = state.efer & efer::LMA != 0;
        let has = |bit: u16, letter: char| if segment.attributes & bit != 0 { letter } else { '-' };
        let _ = write!(out, " DPL={} ", segment.dpl());
        let _ = if segment.attributes & Segment::NON_SYSTEM == 0 {
            write!(out, "{}", system_name(segment.kind(), long))
        } else if segment.attributes & Segment::CODE != 0 {
            let kind = match (segment.attributes & Segment::LONG != 0, segment.attributes & Segment::BIG != 0)
            {
                (true, _) => "CS64",
                (false, true) => "CS32",
                (false, false) => "CS16",
            };
            write!(
                out,
                "{kind} [{}{}{}]",
                has(Segment::EXPAND_DOWN, 'C'),
                has(Segment::WRITABLE, 'R'),
                has(Segment::ACCESSED, 'A')
            )
        } else {
            let kind = if segment.attributes & Segment::BIG != 0 || long { "DS  " } else { "DS16" };
            write!(
                out,
                "{kind} [{}{}{}]",
                has(Segment::EXPAND_DOWN, 'E'),
                has(Segment::WRITABLE, 'W'),
                has(Segment::ACCESSED, 'A')
            )
        };
    }
    out.push('\n');
}

fn quad(bytes: &[u8], index: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
    u64::from_le_bytes(value)
}

fn vectors(out: &mut String, state: &X86State, wide: bool) {
    let x87 = &state.x87;
    let _ = writeln!(
        out,
        "FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}",
        x87.fcw,
        x87.fsw,
        x87.top(),
        x87.ftw,
        state.mxcsr
    );
    for (number, register) in x87.regs.iter().enumerate() {
        let exponent = u16::from_le_bytes([register[8], register[9]]);
        let end = if number % 2 == 1 { '\n' } else { ' ' };
        let _ = write!(out, "FPR{number}={:016x} {exponent:04x}{end}", quad(register, 0));
    }
    let count = if wide { 16 } else { 8 };
    if state.xcr0 & xcr0::AVX512 == xcr0::AVX512 {
        for (number, mask) in state.opmask.iter().enumerate() {
            let end = if number % 4 == 3 { '\n' } else { ' ' };
            let _ = write!(out, "Opmask{number:02}={mask:016x}{end}");
        }
        let count = if wide { 32 } else { 8 };
        for (number, register) in state.zmm.iter().enumerate().take(count) {
            let _ = write!(out, "ZMM{number:02}=");
            for part in (0..8).rev() {
                let _ = write!(out, "{:016x}{}", quad(register, part), if part == 0 { '\n' } else { ' ' });
            }
        }
    } else if state.xcr0 & xcr0::AVX != 0 {
        for (number, register) in state.zmm.iter().enumerate().take(count) {
            let _ = write!(out, "YMM{number:02}=");
            for part in (0..4).rev() {
                let _ = write!(out, "{:016x}{}", quad(register, part), if part == 0 { '\n' } else { ' ' });
            }
        }
    } else {
        for (number, register) in state.zmm.iter().enumerate().take(count) {
            let end = if number % 2 == 1 { '\n' } else { ' ' };
            let _ = write!(out, "XMM{number:02}={:016x} {:016x}{end}", quad(register, 1), quad(register, 0));
        }
    }
}

/// A register by its name in the monitor's expressions. The 32-bit names are the whole registers, as in QEMU.
pub(crate) fn register(state: &X86State, name: &str) -> Option<u64> {
    let general = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    if let Some(rest) = name.strip_prefix(['e', 'r'])
        && let Some(number) = general.iter().position(|&own| own == rest)
    {
        return Some(state.gpr[number]);
    }
    if let Some(number) = name.strip_prefix('r').and_then(|number| number.parse::<usize>().ok())
        && (8..16).contains(&number)
    {
        return Some(state.gpr[number]);
    }
    let segments = [
        ("es", seg::ES),
        ("cs", seg::CS),
        ("ss", seg::SS),
        ("ds", seg::DS),
        ("fs", seg::FS),
        ("gs", seg::GS),
    ];
    for (own, number) in segments {
        let segment = &state.seg[number];
        match name.strip_prefix(own) {
            Some("") => return Some(segment.selector.into()),
            Some(".base") => return Some(segment.base),
            Some(".limit") => return Some(segment.limit.into()),
            _ => {}
        }
    }
    Some(match name {
        "sp" => state.gpr[4],
        "fp" => state.gpr[5],
        "eip" | "rip" => state.rip,
        "pc" => state.rip.wrapping_add(state.seg[seg::CS].base),
        "eflags" | "rflags" => state.rflags,
        "cr0" => state.cr0,
        "cr2" => state.cr2,
        "cr3" => state.cr3,
        "cr4" => state.cr4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_up_registers_are_shown_as_qemu_shows_them() {
        let mut state = X86State::default();
        state.gpr[2] = 0x60fb1;
        let text = dump(&state, true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1");
        assert_eq!(lines[2], "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0");
        assert_eq!(lines[4], "CS =f000 ffff0000 0000ffff 00009b00");
        assert_eq!(lines[9], "LDT=0000 00000000 0000ffff 00008200");
        assert_eq!(lines[11], "GDT=     00000000 0000ffff");
        assert_eq!(lines[13], "CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000");
        assert_eq!(code_bits(&state), 16);
        assert_eq!(register(&state, "pc"), Some(0xffff_fff0));
        assert_eq!((register(&state, "edx"), register(&state, "r16")), (Some(0x60fb1), None));
    }

    #[test]
    fn long_mode_segments_have_their_types() {
        let mut state = X86State { cr0: 0x8005_0033, efer: 0xd01, cpl: 3, ..X86State::default() };
        state.seg[seg::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa09b, selector: 0x10 };
        state.seg[seg::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 0x18 };
        state.seg[seg::ES] = Segment::default();
        state.tr = Segment { base: 0xffff_fe00_0000_3000, limit: 0x4087, attributes: 0x8b, selector: 0x40 };
        let text = dump(&state, true);
        for line in [
            "ES =0000 0000000000000000 00000000 00000000",
            "CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]",
            "SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]",
            "TR =0040 fffffe0000003000 00004087 00008b00 DPL=0 TSS64-busy",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        assert!(text.contains("\nR8 =0000000000000000 R9 =0000000000000000 R10="));
        assert!(text.contains("\nXMM14=0000000000000000 0000000000000000 XMM15="));
    }
}
