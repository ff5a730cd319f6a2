//! `info lapic`: the registers in the layout of QEMU's monitor.

use super::bits::Bits;
use super::{LocalApic, State};
use std::fmt::Write as _;

/// Local vector table: names in the order shown, with the entry's index.
const LVT: [(&str, usize); 6] =
    [("LVT0", 3), ("LVT1", 4), ("LVTPC", 2), ("LVTERR", 5), ("LVTTHMR", 1), ("LVTT", 0)];
/// Delivery modes (SDM vol. 3, 11.5.1).
const MODES: [&str; 8] = ["Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT"];

impl LocalApic {
    /// `info lapic`: the registers as text.
    pub fn describe(&self) -> String {
        let mut state = self.state.lock();
        let current = self.current_count(&state);
        let mut out = format!("dumping local APIC state for CPU {:<2}\n\n", self.config.id);
        for (name, entry) in LVT {
            lvt(&mut out, name, state.lvt[entry], entry == 0);
        }
        let _ = writeln!(
            out,
            "Timer\t DCR=0x{:x} (divide by {}) initial_count = {} current_count = {current}",
            state.divide,
            1_u32 << state.shift(),
            state.initial
        );
        let _ = writeln!(
            out,
            "SPIV\t 0x{:08x} APIC {}, focus={}, spurious vec {}",
            state.svr,
            if state.svr & 1 << 8 != 0 { "enabled" } else { "disabled" },
            if state.svr & 1 << 9 != 0 { "on" } else { "off" },
            state.svr & 0xff
        );
        self.icr(&mut out, &state);
        let _ = writeln!(out, "ESR\t 0x{:08x}", state.esr);
        vectors(&mut out, "ISR", &state.isr, &state.tmr);
        vectors(&mut out, "IRR", &state.irr, &state.tmr);
        let ppr = state.read(0x0a);
        let _ = writeln!(
            out,
            "\nAPR 0x00 TPR 0x{:02x} DFR 0x{:02x} LDR 0x{:02x} PPR 0x{ppr:02x}",
            state.tpr, state.dfr, state.ldr
        );
        out
    }

    fn icr(&self, out: &mut String, state: &State) {
        let (low, high) = (state.icr & 0xffff_ffff, state.icr >> 32);
        let shorthand = low >> 18 & 3;
        let logical = low & 1 << 11 != 0;
        let _ = writeln!(
            out,
            "ICR\t 0x{low:08x} {} {} {} {}",
            if logical { "logical" } else { "physical" },
            if low & 1 << 15 != 0 { "level" } else { "edge" },
            if low & 1 << 14 != 0 { "assert" } else { "de-assert" },
            ["no-shorthand", "self", "all-self", "all"][shorthand as usize]
        );
        let _ = write!(out, "ICR2\t 0x{high:08x}");
        if shorthand == 0 {
            let wide = state.base & 1 << 10 != 0;
            let target = if wide { high } else { high >> 24 };
            let _ = match (logical, wide) {
                (false, true) => write!(out, " cpu {target} (X2APIC ID)"),
                (false, false) => write!(out, " cpu {target} (APIC ID)"),
                (true, true) => {
                    write!(out, " cluster {} mask 0x{:04x} (APIC ID)", target >> 16, target & 0xffff)
                }
                (true, false) if state.dfr == 0xf => write!(out, " mask 0x{target:02x} (APIC ID)"),
                (true, false) => {
                    write!(out, " cluster {} mask 0x{:x} (APIC ID)", target >> 4, target & 0xf)
                }
            };
        }
        out.push('\n');
    }
}

fn lvt(out: &mut String, name: &str, value: u32, timer: bool) {
    let pick = |bit: u32, set, clear| if value & 1 << bit != 0 { set } else { clear };
    let mode = value >> 8 & 7;
    let kind = match (timer, value >> 17 & 3) {
        (false, _) => "",
        (true, 0) => "one-shot",
        (true, 1) => "periodic",
        (true, _) => "tsc-deadline",
    };
    let _ = write!(
        out,
        "{name}\t 0x{value:08x} {} {:<5} {:<6} {:<7} {kind:<12} {:<6}",
        pick(13, "active-lo", "active-hi"),
        pick(15, "level", "edge"),
        pick(16, "masked", ""),
        pick(12, "pending", ""),
        MODES[mode as usize]
    );
    if mode == 4 {
        out.push('\n');
    } else {
        let _ = writeln!(out, " (vec {})", value & 0xff);
    }
}

fn vectors(out: &mut String, name: &str, set: &Bits, level: &Bits) {
    let _ = write!(out, "{name}\t ");
    let mut any = false;
    for vector in (0..=255).filter(|&vector| set.has(vector)) {
        let _ = write!(out, "{vector} {}", if level.has(vector) { "(level) " } else { "" });
        any = true;
    }
    out.push_str(if any { "\n" } else { "(none)\n" });
}
