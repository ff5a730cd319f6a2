//! The comparison.

use crate::cases::{Case, Maker, elements_of};
use crate::encode::Catalogue;
use crate::guest::Guest;
use crate::layout::{Mode, Place, WRITABLE};
use crate::model::{address, violations};
use crate::native::{Fault, Native, State, USER_CS64, has_wide};
use crate::rules::{
    ignored_memory, is_amd, is_undefined, not_compared, undefined_flags, undefined_result,
    undefined_upper_quadword,
};
use iced_x86::{Code, EncodingKind, Instruction, Mnemonic as M, OpKind};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use x86::reg::{gpr, vector};

/// What came of one code in one mode.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Cases that ran on both.
    pub cases: u64,
    /// Of these, those that raised an exception.
    pub faults: u64,
    /// Cases that differed.
    pub differences: u64,
    /// The first of them.
    pub example: Option<String>,
    /// Cases that the engine called undefined and the host did not.
    pub missing: u64,
    /// Cases that the host called undefined.
    pub host_lacks: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By mode and code.
    pub rows: BTreeMap<(Mode, Code), Row>,
    /// Codes that were not compared, and why.
    pub left_out: BTreeMap<(Mode, Code), &'static str>,
    /// Instructions that ran on both.
    pub cases: u64,
    /// Of them, those that the translator executed, with the interpreter's result.
    pub translated: u64,
    /// Modes that this host cannot run.
    pub skipped_modes: Vec<String>,
}

impl Report {
    /// Codes that the model offers and that no case agreed on: never tried, or not executed by the engine.
    pub fn missing(&self) -> Vec<(Mode, Code)> {
        let missing = |row: &Row| row.missing > 0 || row.cases == 0 && row.host_lacks == 0;
        self.rows.iter().filter(|(_, row)| missing(row)).map(|(key, _)| *key).collect()
    }

    /// Codes that agreed at least once.
    pub fn covered(&self) -> usize {
        self.rows.values().filter(|row| row.cases > 0 && row.missing == 0).count()
    }

    /// Codes that the host does not have, so that nothing can be said.
    pub fn not_on_host(&self) -> Vec<(Mode, Code)> {
        self.rows
            .iter()
            .filter(|(_, row)| row.cases == 0 && row.host_lacks > 0)
            .map(|(key, _)| *key)
            .collect()
    }

    /// Codes that differed.
    pub fn different(&self) -> Vec<((Mode, Code), &Row)> {
        self.rows.iter().filter(|(_, row)| row.differences > 0).map(|(key, row)| (*key, row)).collect()
    }

    /// Whether there is nothing to object to.
    pub fn is_clean(&self) -> bool {
        self.missing().is_empty() && self.different().is_empty()
    }
}

/// A running comparison.
pub struct Comparison {
    native: Native,
    guest: Guest,
    maker: Maker,
    host_memory: Vec<u8>,
    guest_memory: Vec<u8>,
    report: Report,
}

impl Comparison {
    /// Ready to run.
    ///
    /// # Errors
    /// The host or the engine refused.
    pub fn new(seed: u64) -> Result<Self, String> {
        let native = Native::new().map_err(|error| error.to_string())?;
        let maker = Maker::new(seed, native.fs_base());
        Ok(Self {
            native,
            guest: Guest::new()?,
            maker,
            host_memory: vec![0; WRITABLE],
            guest_memory: vec![0; WRITABLE],
            report: Report::default(),
        })
    }

    /// Whether the host runs code of this mode: NOP tells.
    fn host_has(&mut self, mode: Mode) -> bool {
        let mut state = State::new(mode);
        state.fs_base = self.native.fs_base().unwrap_or(0);
        // SAFETY: a no-operation.
        let fault = unsafe { self.native.run(&[0x90], &mut state) };
        fault.is_none() && state.rip == Place::of(mode).code + 1
    }

    /// Compares for `time` (and each code at least `least` times), an equal number of cases of each code whose name
    /// contains `filter`.
    ///
    /// # Errors
    /// The engine has no model of this name.
    pub fn run(mut self, time: Duration, least: u64, filter: &str) -> Result<Report, String> {
        let offered = engine::testing::offered("max")?;
        let end = Instant::now() + time;
        let mut lists = Vec::new();
        for mode in Mode::ALL {
            if !self.host_has(mode) {
                self.report.skipped_modes.push(format!("{}-bit mode", mode.bits()));
                continue;
            }
            let mut all = Catalogue::new(mode, &mut self.maker.random, |code| {
                offered(code) && (code.op_code().cpl3() || code.is_privileged())
            });
            all.codes.retain(|(code, _)| {
                let reason = not_compared(*code, mode);
                if let Some(reason) = reason {
                    self.report.left_out.insert((mode, *code), reason);
                }
                reason.is_none() && format!("{code:?}").contains(filter)
            });
            for (code, _) in &all.codes {
                self.report.rows.insert((mode, *code), Row::default());
            }
            lists.push((mode, all));
        }
        let mut round = 0;
        while Instant::now() < end || round < least {
            for (mode, list) in &lists {
                for (code, templates) in &list.codes {
                    self.try_code(*mode, *code, templates);
                }
            }
            round += 1;
        }
        self.report.translated = self.guest.translated();
        Ok(self.report)
    }

    /// One case of `code`, if one can be made in a few attempts.
    fn try_code(&mut self, mode: Mode, code: Code, templates: &[u32]) {
        for _ in 0..1000 {
            let n = templates[self.maker.random.below(templates.len() as u64) as usize];
            if let Some(case) = self.maker.make(n, mode)
                && case.insn.code() == code
            {
                return self.compare(&case);
            }
        }
    }

    fn compare(&mut self, case: &Case) {
        let Case { code, insn, before } = case;
        self.native.scratch().copy_from_slice(&self.maker.memory);
        self.guest.set_scratch(&self.maker.memory);
        let (mut host, mut ours) = (before.clone(), before.clone());
        // SAFETY: `Maker::make` has seen to it that the instruction stays in the data pages or faults.
        let host_fault = unsafe { self.native.run(code, &mut host) };
        let our_fault = self.guest.run(code, &mut ours);
        let Some(row) = self.report.rows.get_mut(&(before.mode, insn.code())) else { return };
        let undefined = |fault: Option<Fault>| fault.is_some_and(|fault| fault.vector == vector::UD);
        // The instruction itself is done when fetching the next one faults.
        let done = ours.rip != before.rip;
        let own = |fault: Option<Fault>| fault.filter(|_| !done);
        if undefined(host_fault) && !undefined(our_fault) && row.cases == 0 {
            row.host_lacks += 1;
            return;
        }
        if undefined(our_fault) && !undefined(host_fault) {
            row.missing += 1;
            row.example.get_or_insert_with(|| format!("{code:02x?}"));
            return;
        }
        if undefined(our_fault) && !is_undefined(insn.code()) && row.cases == 0 {
            // Both: the operands, or both lack it.
            row.host_lacks += 1;
            return;
        }
        row.cases += 1;
        self.report.cases += 1;
        row.faults += u64::from(host_fault.is_some());
        self.host_memory.copy_from_slice(self.native.scratch());
        self.guest.read_scratch(&mut self.guest_memory);
        let mut list = Vec::new();
        if !undefined_result(insn, before) && !is_excused(insn, host_fault, our_fault) {
            let first = self.maker.info.info(insn).used_memory().first().copied();
            let at = first.and_then(|memory| address(before, &memory, 0));
            forgive(insn, at, &self.host_memory, &mut self.guest_memory);
            let faulted = own(host_fault).is_some();
            let open = if faulted { 0 } else { undefined_flags(insn, before) };
            list = differences(insn, before, &ours, &host, faulted, open);
            let (mut ours, mut theirs) = (our_fault, host_fault);
            // Linux says that the page is present where user code may not go.
            if let Some(theirs) = &mut theirs
                && theirs.address >> 12 == 0x7_ffff_ffff
            {
                theirs.code &= !1;
            }
            if is_large(insn) && memory_fault(ours) && memory_fault(theirs) {
                // Which byte of a large area is touched first is the processor's choice.
                ours = theirs;
            }
            if ours != theirs {
                list.push(format!("{our_fault:x?}, host {host_fault:x?}"));
            }
            if let Some(n) = (0..WRITABLE).find(|n| self.host_memory[*n] != self.guest_memory[*n]) {
                let (a, b) = (&self.guest_memory[n..], &self.host_memory[n..]);
                let len = a.len().min(16);
                list.push(format!("memory at {n:x}: {:02x?}, host {:02x?}", &a[..len], &b[..len]));
            }
        }
        list.extend(violations(insn, &mut self.maker.info, before, &ours, own(our_fault)));
        if !list.is_empty() {
            row.differences += 1;
            let text = || {
                let g = &before.gpr;
                format!(
                    "{code:02x?} masks {:x?} rip {:x} flags {:x} rax {:x} rcx {:x} rdx {:x} mxcsr {:02x?} x87 {:02x?}: {}",
                    before.wide.masks,
                    before.rip,
                    before.rflags,
                    g[gpr::RAX],
                    g[gpr::RCX],
                    g[gpr::RDX],
                    &before.xsave[24..28],
                    &before.xsave[..5],
                    list.join("; ")
                )
            };
            row.example.get_or_insert_with(text);
        }
    }
}

/// Differences between the makers' processors, or between them and the manuals, that are not the engine's.
fn is_excused(insn: &Instruction, host: Option<Fault>, ours: Option<Fault>) -> bool {
    let is = |fault: Option<Fault>, v: u8| fault.is_some_and(|fault| fault.vector == v);
    match insn.mnemonic() {
        // The SDM wants an aligned operand (exception type 4), AMD's processors do not ask.
        M::Sha1msg1
        | M::Sha1msg2
        | M::Sha1nexte
        | M::Sha1rnds4
        | M::Sha256msg1
        | M::Sha256msg2
        | M::Sha256rnds2 => is(ours, vector::GP) && !is(host, vector::GP) && is_amd(),
        // Whether bytes that are not selected fault, and which byte is named, is the processor's choice (SDM volume 2,
        // MASKMOVDQU, VMASKMOV).
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => memory_fault(host) || memory_fault(ours),
        // A memory operand: AMD's processors leave the MMX state alone, the SDM has CVTPI2PS change it always.
        M::Cvtpi2ps => insn.op1_kind() == OpKind::Memory && is_amd(),
        // Whether what follows the opcode is fetched at all.
        M::Ud0 | M::Ud1 => is(ours, vector::UD) || is(host, vector::UD),
        // Ten bytes are two accesses, each of which may end at the last canonical address.
        M::Fbld | M::Fbstp | M::Fld | M::Fstp if insn.memory_size().size() == 10 => {
            ours.is_some() && host.is_some()
        }
        // A target that is not canonical and a stack that faults: the SDM has the target first, AMD's processors the stack.
        M::Call => host.is_some() && ours.is_some() && is_amd(),
        // AMD's processors read four bytes for the form of 16 bits.
        M::Movsxd if insn.op0_register().size() == 2 => memory_fault(host) && is_amd(),
        // In which order the words are popped.
        M::Retf | M::Iret | M::Iretd | M::Iretq => memory_fault(host) && memory_fault(ours),
        // AMD's processors have popped some registers when a later one faults.
        M::Popa | M::Popad => host.is_some() && host == ours && is_amd(),
        _ => false,
    }
}

/// Whether an access to memory failed.
fn memory_fault(fault: Option<Fault>) -> bool {
    fault.is_some_and(|fault| matches!(fault.vector, vector::PF | vector::GP | vector::SS))
}

/// Whether the operand is an x87 environment or a save area.
fn is_large(insn: &Instruction) -> bool {
    use M::*;
    matches!(
        insn.mnemonic(),
        Fldenv
            | Fnstenv
            | Frstor
            | Fnsave
            | Fxsave
            | Fxsave64
            | Fxrstor
            | Fxrstor64
            | Xsave
            | Xsave64
            | Xsaveopt
            | Xsaveopt64
            | Xsavec
            | Xsavec64
            | Xrstor
            | Xrstor64
    )
}

/// Takes from the host what is not compared of a memory operand.
fn forgive(insn: &Instruction, at: Option<u64>, host: &[u8], ours: &mut [u8]) {
    let Some(at) = at else { return };
    let start = Place::ALL.map(|place| at.wrapping_sub(place.scratch));
    let Some(start) = start.into_iter().find(|start| *start < WRITABLE as u64) else { return };
    for (from, to) in ignored_memory(insn) {
        for n in start + from..start + to {
            if let (Some(ours), Some(host)) = (ours.get_mut(n as usize), host.get(n as usize)) {
                *ours = *host;
            }
        }
    }
}

/// What differs between the host's and the engine's registers after `insn`; `open` are flags without a meaning.
pub(crate) fn differences(
    insn: &Instruction,
    before: &State,
    ours: &State,
    host: &State,
    faulted: bool,
    open: u64,
) -> Vec<String> {
    let mut list = Vec::new();
    let mut host = host.clone();
    if faulted && insn.encoding() == EncodingKind::EVEX && insn.memory_index().is_vector_register() {
        // Whether what is above a gather's elements is zero before a fault in the middle is the processor's choice.
        let n = insn.op0_register().number();
        if insn.op0_register().is_vector_register() {
            let from = elements_of(insn) * insn.memory_size().element_size();
            let (mine, mut theirs) = (ours.vector(n), host.vector(n));
            theirs[from..].copy_from_slice(&mine[from..]);
            host.set_vector(n, &theirs);
        }
    }
    let host = &host;
    // Upper halves do not survive compatibility mode (SDM volume 1, 3.4.1.1).
    let both = before.mode == Mode::Long && host.code_and_stack[0] == USER_CS64;
    let count = if before.mode == Mode::Long { 16 } else { 8 };
    let mask = if both { u64::MAX } else { 0xffff_ffff };
    for n in 0..count {
        // Returning to a stack of 16 bits, the kernel (and IRET) lose the upper half of ESP.
        let mask = if n == gpr::RSP && before.mode == Mode::Small { 0xffff } else { mask };
        // Bits 19:16 of LAR's result are undefined (SDM volume 2, LAR).
        let mask = if insn.mnemonic() == M::Lar { mask & !0xf_0000 } else { mask };
        if (ours.gpr[n] ^ host.gpr[n]) & mask != 0 {
            list.push(format!("gpr{n} {:x}, host {:x}", ours.gpr[n], host.gpr[n]));
        }
    }
    if ours.rip != host.rip {
        list.push(format!("rip {:x}, host {:x}", ours.rip, host.rip));
    }
    if (ours.rflags ^ host.rflags) & !open != 0 {
        list.push(format!("rflags {:x}, host {:x}", ours.rflags, host.rflags));
    }
    // Returning from the kernel clears the RPL of null selectors (SDM volume 2, IRET).
    let plain = |selectors: [u16; 4]| selectors.map(|s| if s < 4 { 0 } else { s });
    if plain(ours.selectors) != plain(host.selectors) {
        list.push(format!("selectors {:x?}, host {:x?}", ours.selectors, host.selectors));
    }
    if ours.code_and_stack != host.code_and_stack {
        list.push(format!("CS, SS {:x?}, host {:x?}", ours.code_and_stack, host.code_and_stack));
    }
    if before.fs_base != 0 && (ours.fs_base, ours.gs_base) != (host.fs_base, host.gs_base) {
        list.push(format!(
            "bases {:x} {:x}, host {:x} {:x}",
            ours.fs_base, ours.gs_base, host.fs_base, host.gs_base
        ));
    }
    // Not the last instruction's pointers: AMD's processors keep them for pending exceptions only.
    let parts = [("x87", 0..6), ("mxcsr", 24..28), ("st", 32..160), ("xmm", 160..416), ("ymm", 576..832)];
    for (name, range) in parts {
        let mut theirs = host.xsave[range.clone()].to_vec();
        let mut mine = ours.xsave[range.clone()].to_vec();
        if name == "mxcsr" {
            // Beside an unmasked exception the engine shows the precision flag of the masked result.
            let unmasked = !(u32::from_le_bytes([mine[0], mine[1], 0, 0]) >> 7) & 0x3f;
            let open = if faulted && unmasked & 0x18 & u32::from(mine[0]) != 0 { 0x20 } else { 0 };
            mine[0] |= open;
            theirs[0] |= open;
        }
        let by_signs = insn.memory_index().is_vector_register() && insn.encoding() == EncodingKind::VEX;
        if faulted && by_signs && matches!(name, "xmm" | "ymm") {
            // Before a fault in the middle, a gather's mask shows by its signs what is left to do.
            let n = insn.op2_register().number();
            for byte in (16 * n..16 * n + 16).filter(|byte| {
                byte % insn.memory_size().element_size().max(4)
                    != insn.memory_size().element_size().max(4) - 1
            }) {
                (mine[byte], theirs[byte]) = (0, 0);
            }
            for byte in 16 * n..16 * n + 16 {
                mine[byte] &= 0x80;
                theirs[byte] &= 0x80;
            }
        }
        if name == "xmm" && undefined_upper_quadword(insn) && insn.op0_kind() == OpKind::Register {
            let at = 16 * insn.op0_register().number() + 8;
            theirs[at..at + 8].copy_from_slice(&mine[at..at + 8]);
        }
        if before.mode != Mode::Long && matches!(name, "xmm" | "ymm") {
            theirs.truncate(128);
        }
        if let Some(n) = (0..theirs.len()).find(|n| theirs[*n] != mine[*n]) {
            let n = n & !15;
            let len = (theirs.len() - n).min(16);
            list.push(format!("{name}+{n}: {:02x?}, host {:02x?}", &mine[n..n + len], &theirs[n..n + len]));
        }
    }
    if has_wide() {
        for n in 0..32 {
            let (mine, theirs) = (ours.vector(n), host.vector(n));
            // The others were looked at above.
            let from = if n < 16 { 32 } else { 0 };
            if mine[from..] != theirs[from..] {
                list.push(format!("zmm{n}+{from}: {:02x?}, host {:02x?}", &mine[from..], &theirs[from..]));
            }
        }
        if ours.wide.masks != host.wide.masks {
            list.push(format!("masks {:x?}, host {:x?}", ours.wide.masks, host.wide.masks));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_agrees_with_the_host() {
        let report = Comparison::new(3).unwrap().run(Duration::from_secs(10), 2, "").unwrap();
        let missing: Vec<_> = report.missing().iter().map(|key| format!("{key:?}")).collect();
        let different: Vec<_> = report
            .different()
            .iter()
            .map(|(key, row)| {
                format!("{key:?} ({}): {}", row.differences, row.example.as_deref().unwrap_or(""))
            })
            .collect();
        assert!(report.is_clean(), "missing {missing:?}\ndifferent {}", different.join("\n"));
        assert!(report.skipped_modes.contains(&"64-bit mode".to_owned()) || report.covered() > 1500);
    }
}
