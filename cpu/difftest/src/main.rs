//! `difftest [--seconds N] [--seed N]`: compares the engine with the host processor, and says what differs.

use std::time::Duration;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let time = Duration::from_secs(number("--seconds", 30));
    let report = match difftest::run(number("--seed", 1), time, u64::MAX >> 32) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("difftest: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    for name in &report.missing {
        println!("missing {name}");
    }
    for (name, (count, text)) in &report.different {
        println!("differs {name} ({count}): {text}");
    }
    println!(
        "{} cases, {} codes covered, {} missing, {} differ",
        report.cases,
        report.covered.len(),
        report.missing.len(),
        report.different.len()
    );
    if report.different.is_empty() {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}
