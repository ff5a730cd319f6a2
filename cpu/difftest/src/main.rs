//! `difftest [--seconds N] [--seed N] [--filter TEXT] [-v]`: compares the engine with the host processor, and says what
//! differs. `-v` prints every code with its number of cases. `difftest --blocks [--instructions N] ...`: random blocks
//! instead of single instructions; with `--attack` their pointers lead to this process's own memory, in guests only.

use difftest::{BlockReport, Comparison, ThreeWays};
use std::time::Duration;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1))
    };
    let number = |name: &str, default: u64| value(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let time = Duration::from_secs(number("--seconds", 30));
    let verbose = arguments.iter().any(|argument| argument == "-v");
    if arguments.iter().any(|argument| argument == "--blocks") {
        let seed = number("--seed", 1);
        if arguments.iter().any(|argument| argument == "--attack") {
            return match ThreeWays::new(seed).and_then(|ways| ways.attack(time)) {
                Ok(faults) => {
                    println!("seed {seed}: {faults} runs ended with a fault, as in tier 1");
                    std::process::ExitCode::SUCCESS
                }
                Err(error) => {
                    println!("differs: {error}");
                    std::process::ExitCode::FAILURE
                }
            };
        }
        let report = ThreeWays::new(seed).and_then(|ways| ways.run(time, number("--instructions", u64::MAX)));
        return blocks(seed, report, verbose);
    }
    let filter = value("--filter").cloned().unwrap_or_default();
    let report = Comparison::new(number("--seed", 1)).and_then(|c| c.run(time, 1, &filter));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("difftest: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    if verbose {
        for ((mode, code), row) in &report.rows {
            println!("{} {code:?}: {} cases, {} faults", mode.bits(), row.cases, row.faults);
        }
        for ((mode, code), reason) in &report.left_out {
            println!("{} {code:?}: not compared: {reason}", mode.bits());
        }
    }
    for skipped in &report.skipped_modes {
        println!("SKIPPED {skipped}: the host cannot run it");
    }
    for (mode, code) in report.not_on_host() {
        println!("not on this host: {} {code:?}", mode.bits());
    }
    for (mode, code) in report.missing() {
        let example = report.rows[&(mode, code)].example.as_deref().unwrap_or("never tried");
        println!("missing {} {code:?}: {example}", mode.bits());
    }
    for ((mode, code), row) in report.different() {
        let example = row.example.as_deref().unwrap_or("");
        println!("differs {} {code:?} ({} of {}): {example}", mode.bits(), row.differences, row.cases);
    }
    let faults: u64 = report.rows.values().map(|row| row.faults).sum();
    println!(
        "{} cases ({faults} with an exception, {} in tier 2 too), {} codes covered, {} not compared, {} not on this host, {} missing, {} differ",
        report.cases,
        report.translated,
        report.covered(),
        report.left_out.len(),
        report.not_on_host().len(),
        report.missing().len(),
        report.different().len()
    );
    if report.is_clean() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Says what came of blocks.
fn blocks(seed: u64, report: Result<BlockReport, String>, verbose: bool) -> std::process::ExitCode {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("difftest: seed {seed}: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    if verbose {
        for ((mode, code), count) in &report.codes {
            println!("{} {code:?}: {count}", mode.bits());
        }
    }
    for example in &report.examples {
        println!("differs: {example}");
    }
    println!(
        "seed {seed}: {} instructions in {} runs of {} blocks, {} codes, {} runs with an exception, {} not on this host, {} differ",
        report.instructions,
        report.runs,
        report.blocks,
        report.codes.len(),
        report.faults,
        report.host_lacks,
        report.differences
    );
    println!("tier 2: {}", report.tier2);
    if report.differences == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
