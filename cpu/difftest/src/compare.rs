//! The comparison.

use crate::cases::{LEGACY, Random, VEX, acceptable, defined, encode, registers, undefined};
use crate::guest::Guest;
use crate::native::{Native, SCRATCH_SIZE, State};
use iced_x86::{Code, Instruction, Mnemonic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use x86::reg::vector;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Instructions that ran on both.
    pub cases: u64,
    /// Codes that agreed at least once without #UD on the engine.
    pub covered: BTreeSet<String>,
    /// Codes that the host runs and the engine does not offer.
    pub missing: BTreeSet<String>,
    /// Codes that differed: how often, and the first case.
    pub different: BTreeMap<String, (u64, String)>,
}

/// What differs between the host's and the engine's results.
fn differences(ours: &State, host: &State, undefined: u64, faulted: bool) -> Vec<String> {
    let mut list = Vec::new();
    for n in 0..16 {
        if ours.gpr[n] != host.gpr[n] {
            list.push(format!("gpr{n} {:x}, host {:x}", ours.gpr[n], host.gpr[n]));
        }
    }
    if ours.rip != host.rip {
        list.push(format!("rip {:x}, host {:x}", ours.rip, host.rip));
    }
    // A fault may come after flags were written only where the manual says so; both must agree then.
    let mask = if faulted { 0 } else { undefined };
    if (ours.rflags ^ host.rflags) & !mask != 0 {
        list.push(format!("rflags {:x}, host {:x}", ours.rflags, host.rflags));
    }
    // Not the last instruction's pointers: AMD processors keep them for pending exceptions only.
    for (name, range) in
        [("x87", 0..6), ("mxcsr", 24..28), ("st", 32..160), ("xmm", 160..416), ("ymm", 576..832)]
    {
        if ours.xsave[range.clone()] != host.xsave[range.clone()] {
            list.push(format!("{name} {:x?}, host {:x?}", &ours.xsave[range.clone()], &host.xsave[range]));
        }
    }
    list
}

/// Whether the guest's processor lacks the instruction and rightly runs the older one with the same opcode: BSF, BSR.
fn runs_as_another(insn: &Instruction, guest: &Guest) -> bool {
    match insn.mnemonic() {
        Mnemonic::Tzcnt => !guest.offers("bmi1"),
        Mnemonic::Lzcnt => !guest.offers("abm"),
        _ => false,
    }
}

/// Compares for `time`, or until `rounds` passes over all encodings are done.
///
/// # Errors
/// The host or the engine refused to start.
pub fn run(seed: u64, time: Duration, rounds: u64) -> Result<Report, String> {
    let mut native = Native::new().map_err(|error| error.to_string())?;
    let mut guest = Guest::new()?;
    let mut random = Random::new(seed);
    let mut report = Report::default();
    let end = Instant::now() + time;
    let total = LEGACY + VEX;
    // A step that is coprime to the total visits every encoding in a scattered order.
    let step = 1_000_003;
    let mut memory = vec![0; SCRATCH_SIZE];
    for count in 0..total * rounds {
        if count % 64 == 0 && Instant::now() >= end {
            break;
        }
        let bytes = encode(count.wrapping_mul(step) % total, &mut random);
        let Some(insn) = acceptable(&bytes) else { continue };
        if runs_as_another(&insn, &guest) {
            report.missing.insert(format!("{:?}", insn.code()));
            continue;
        }
        let code = &bytes[..insn.len()];
        let before = registers(&insn, &mut random);
        if !defined(&insn, &before) {
            continue;
        }
        for chunk in memory.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.value().to_le_bytes());
        }
        native.scratch().copy_from_slice(&memory);
        guest.set_scratch(&memory);
        let (mut host, mut ours) = (before.clone(), before.clone());
        // SAFETY: `acceptable` and `registers` keep to the rules.
        let host_fault = unsafe { native.run(code, &mut host) };
        let name = format!("{:?}", insn.code());
        if host_fault.is_some_and(|fault| fault.vector == vector::UD) && !matches!(insn.code(), Code::Ud2) {
            continue;
        }
        if host_fault.is_some_and(|fault| fault.vector == vector::PF && fault.address < 2 << 20) {
            // The guest has its tables there.
            continue;
        }
        let our_fault = match guest.run(code, &mut ours) {
            Ok(fault) => fault,
            Err(error) => {
                report.different.entry(name).or_insert((0, format!("{code:02x?}: {error}"))).0 += 1;
                continue;
            }
        };
        report.cases += 1;
        if our_fault.is_some_and(|fault| fault.vector == vector::UD) {
            report.missing.insert(name);
            continue;
        }
        let mut list = differences(&ours, &host, undefined(&insn), host_fault.is_some());
        let address = |fault: Option<crate::Fault>| {
            fault.map(|fault| {
                (fault.vector, fault.code, if fault.vector == vector::PF { fault.address } else { 0 })
            })
        };
        if address(our_fault) != address(host_fault) {
            list.push(format!("{our_fault:x?}, host {host_fault:x?}"));
        }
        if guest.scratch() != native.scratch() {
            list.push("memory".to_owned());
        }
        if list.is_empty() {
            report.covered.insert(name);
        } else {
            let text = || format!("{code:02x?}: {}", list.join("; "));
            report.different.entry(name).or_insert_with(|| (0, text())).0 += 1;
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where processors and manuals differ, or makers do: an unequal CMPXCHG's upper half, CVTPI2PS's tags with a memory
    /// operand, unaligned SHA operands (#GP by the manual, none on AMD), which byte of a masked store faults.
    const KNOWN: [&str; 5] = ["Cmpxchg_rm32", "Cvtpi2ps_xmm_mmm64", "Sha", "Maskmov", "VEX_Vmaskmovdqu"];

    #[test]
    fn the_engine_agrees_with_the_host() {
        let report = run(3, Duration::from_secs(10), 1).unwrap();
        let unknown: Vec<_> = report
            .different
            .iter()
            .filter(|(name, _)| !KNOWN.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, (count, text))| format!("{name} ({count}): {text}"))
            .collect();
        assert!(unknown.is_empty(), "{}", unknown.join("\n"));
        assert!(report.covered.len() > 500, "{} codes covered", report.covered.len());
    }
}
