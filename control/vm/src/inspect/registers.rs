//! The monitor's registers by name.

use x86::reg::{cr0, efer, seg};
use x86::{Segment, X86State};

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
    use x86::dump::DumpOptions;

    #[test]
    fn power_up_registers_are_shown_as_qemu_shows_them() {
        let mut state = X86State::default();
        state.gpr[2] = 0x60fb1;
        let text = state.dump(DumpOptions { fpu: true, ..DumpOptions::default() });
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
        let text = state.dump(DumpOptions { fpu: true, ..DumpOptions::default() });
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
