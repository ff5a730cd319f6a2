//! The registers as text, in the layout of QEMU's `info registers` and `-d int,cpu_reset`.

use crate::reg::{cr0, flags};
use crate::state::{Activity, X86State};
use crate::{Segment, TableRegister};
use std::fmt::Write as _;

/// What to show besides the integer registers, and what the registers do not say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// x87 and vector registers.
    pub fpu: bool,
    /// The state of QEMU's lazy flags (ours are never lazy).
    pub condition_codes: bool,
    /// Address line 20 is masked.
    pub a20_masked: bool,
}

const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// Names of the system descriptor types, in legacy modes and in long mode.
const SYSTEM_TYPES: [[&str; 16]; 2] = [
    [
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
    ],
    [
        "<hiword>",
        "Reserved",
        "LDT",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "TSS64-avl",
        "Reserved",
        "TSS64-busy",
        "CallGate64",
        "Reserved",
        "IntGate64",
        "TrapGate64",
    ],
];

/// Bits 8 to 23 of the second word of the descriptor that a segment register came from.
fn descriptor_bits(s: &Segment) -> u32 {
    let limit = if s.attributes & Segment::GRANULARITY != 0 { s.limit >> 28 } else { s.limit >> 16 & 15 };
    (u32::from(s.attributes) | if s.attributes == 0 { 0 } else { limit << 8 }) << 8
}

impl X86State {
    fn in_64_bit_mode(&self) -> bool {
        self.efer & crate::reg::efer::LMA != 0 && self.seg[1].attributes & Segment::LONG != 0
    }

    fn dump_segment(&self, text: &mut String, name: &str, s: &Segment) {
        let (bits, long) = (descriptor_bits(s), self.efer & crate::reg::efer::LMA != 0);
        let width = if self.in_64_bit_mode() { 16 } else { 8 };
        let base = if width == 16 { s.base } else { s.base & 0xffff_ffff };
        let _ = write!(text, "{name:<3}={:04x} {base:0width$x} {:08x} {bits:08x}", s.selector, s.limit);
        if self.cr0 & cr0::PE != 0 && s.is_present() {
            let _ = write!(text, " DPL={} ", s.dpl());
            let flag = |bit: u16, letter: char| if s.attributes & bit != 0 { letter } else { '-' };
            if s.attributes & Segment::NON_SYSTEM == 0 {
                text.push_str(SYSTEM_TYPES[usize::from(long)][usize::from(s.kind())]);
            } else if s.attributes & Segment::CODE != 0 {
                let name = match s.attributes {
                    a if a & Segment::LONG != 0 => "CS64",
                    a if a & Segment::BIG != 0 => "CS32",
                    _ => "CS16",
                };
                let _ = write!(text, "{name} [{}{}{}]", flag(4, 'C'), flag(2, 'R'), flag(1, 'A'));
            } else {
                let name = if s.attributes & Segment::BIG != 0 || long { "DS  " } else { "DS16" };
                let _ = write!(text, "{name} [{}{}{}]", flag(4, 'E'), flag(2, 'W'), flag(1, 'A'));
            }
        }
        text.push('\n');
    }

    /// The registers as text.
    pub fn dump(&self, options: DumpOptions) -> String {
        let mut text = String::with_capacity(2048);
        let wide = self.in_64_bit_mode();
        let long = self.efer & crate::reg::efer::LMA != 0;
        let order = [0, 3, 1, 2, 6, 7, 5, 4];
        let names = ["AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP"];
        for (n, (register, name)) in order.into_iter().zip(names).enumerate() {
            let end = if n % 4 == 3 { '\n' } else { ' ' };
            let v = self.gpr[register];
            let _ = if wide {
                write!(text, "R{name}={v:016x}{end}")
            } else {
                write!(text, "E{name}={:08x}{end}", v as u32)
            };
        }
        if wide {
            for n in 8..16 {
                let _ = write!(text, "R{n:<2}={:016x}{}", self.gpr[n], if n % 4 == 3 { '\n' } else { ' ' });
            }
        }
        let letters: String = [
            (flags::DF, 'D'),
            (flags::OF, 'O'),
            (flags::SF, 'S'),
            (flags::ZF, 'Z'),
            (flags::AF, 'A'),
            (flags::PF, 'P'),
            (flags::CF, 'C'),
        ]
        .map(|(bit, letter)| if self.rflags & bit != 0 { letter } else { '-' })
        .iter()
        .collect();
        let _ = if wide {
            write!(text, "RIP={:016x} RFL={:08x}", self.rip, self.rflags)
        } else {
            write!(text, "EIP={:08x} EFL={:08x}", self.rip as u32, self.rflags)
        };
        let _ = writeln!(
            text,
            " [{letters}] CPL={} II={} A20={} SMM=0 HLT={}",
            self.cpl,
            u8::from(self.interrupt_shadow),
            u8::from(!options.a20_masked),
            u8::from(self.activity != Activity::Running),
        );
        for (name, s) in SEGMENTS.iter().zip(&self.seg) {
            self.dump_segment(&mut text, name, s);
        }
        self.dump_segment(&mut text, "LDT", &self.ldtr);
        self.dump_segment(&mut text, "TR", &self.tr);
        let width = if long { 16 } else { 8 };
        let table = |t: &TableRegister| if long { t.base } else { t.base & 0xffff_ffff };
        let _ = writeln!(text, "GDT=     {:0width$x} {:08x}", table(&self.gdtr), self.gdtr.limit);
        let _ = writeln!(text, "IDT=     {:0width$x} {:08x}", table(&self.idtr), self.idtr.limit);
        let _ = writeln!(
            text,
            "CR0={:08x} CR2={:0width$x} CR3={:0width$x} CR4={:08x}",
            self.cr0, self.cr2, self.cr3, self.cr4
        );
        for n in 0..4 {
            let _ = write!(text, "DR{n}={:016x} ", self.dr[n]);
        }
        let _ = writeln!(text, "\nDR6={:016x} DR7={:016x}", self.dr[6], self.dr[7]);
        if options.condition_codes {
            let arithmetic = self.rflags & flags::ARITH;
            let width = if wide { 16 } else { 8 };
            let _ = writeln!(text, "CCS={arithmetic:0width$x} CCD={:0width$x} CCO=EFLAGS", 0);
        }
        let _ = writeln!(text, "EFER={:016x}", self.efer);
        if options.fpu {
            self.dump_fpu(&mut text, wide);
        }
        text
    }

    fn dump_fpu(&self, text: &mut String, wide: bool) {
        let x = &self.x87;
        let _ = writeln!(
            text,
            "FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}",
            x.fcw,
            x.fsw,
            x.top(),
            x.ftw,
            self.mxcsr
        );
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
        for (n, r) in x.regs.iter().enumerate() {
            let end = if n % 2 == 1 { '\n' } else { ' ' };
            let _ = write!(text, "FPR{n}={:016x} {:04x}{end}", word(&r[..8]), word(&r[8..10]));
        }
        let count = if wide { 16 } else { 8 };
        if self.xcr0 & crate::reg::xcr0::AVX512 == crate::reg::xcr0::AVX512 {
            for (n, mask) in self.opmask.iter().enumerate() {
                let _ = write!(text, "Opmask{n:02}={mask:016x}{}", if n % 4 == 3 { '\n' } else { ' ' });
            }
            for (n, z) in self.zmm.iter().take(if wide { 32 } else { 8 }).enumerate() {
                let _ = write!(text, "ZMM{n:02}=");
                for part in (0..8).rev() {
                    let end = if part == 0 { '\n' } else { ' ' };
                    let _ = write!(text, "{:016x}{end}", word(&z[8 * part..8 * part + 8]));
                }
            }
            return;
        }
        let avx = self.xcr0 & crate::reg::xcr0::AVX != 0;
        for (n, z) in self.zmm.iter().take(count).enumerate() {
            if avx {
                let _ = writeln!(
                    text,
                    "YMM{n:02}={:016x} {:016x} {:016x} {:016x}",
                    word(&z[24..32]),
                    word(&z[16..24]),
                    word(&z[8..16]),
                    word(&z[..8])
                );
            } else {
                let end = if n % 2 == 1 { '\n' } else { ' ' };
                let _ = write!(text, "XMM{n:02}={:016x} {:016x}{end}", word(&z[8..16]), word(&z[..8]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_state_reads_as_in_qemu() {
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
        assert_eq!(
            lines.last().copied(),
            Some("XMM06=0000000000000000 0000000000000000 XMM07=0000000000000000 0000000000000000")
        );
    }

    #[test]
    fn long_mode_shows_descriptors() {
        let mut state = X86State { cr0: 0x8005_0033, efer: 0xd01, ..X86State::default() };
        state.seg[1] = Segment { base: 0, limit: u32::MAX, attributes: 0xa09b, selector: 0x10 };
        state.seg[2] = Segment { base: 0, limit: u32::MAX, attributes: 0xc093, selector: 0 };
        state.tr = Segment { base: 0, limit: 0xfff, attributes: 0x8089, selector: 0x20 };
        let text = state.dump(DumpOptions::default());
        assert!(text.contains("CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\n"), "{text}");
        assert!(text.contains("SS =0000 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\n"), "{text}");
        assert!(text.contains("TR =0020 0000000000000000 00000fff 00808900 DPL=0 TSS64-avl\n"), "{text}");
    }
}
