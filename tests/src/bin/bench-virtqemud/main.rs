//! The figures of daemons that speak libvirt's protocol, by turns in each round, and their medians: time to start,
//! memory, calls a second, definitions, statistics, guests, and every command of `tests/virsh/commands`.
//!
//! As root: `cargo run --profile quick -p blackbox --bin bench-virtqemud [--rounds=N] [--only=WORD] ORIGINAL OURS`, each a
//! daemon's program. Each daemon has mounts, processes and a network of its own. With `--commands` the commands are timed
//! instead, with `--calls` each call that takes no action (`--rounds=101` and more: a call is short). Ratios above 1 are ours being better.
#![forbid(unsafe_code)]

mod calls;
mod client;
mod commands;
mod figures;

use anyhow::{Context, Result, ensure};
use figures::{Bench, Figure};
use std::path::{Path, PathBuf};

/// A daemon's name.
fn name(program: &Path) -> String {
    program.display().to_string()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn main() -> Result<()> {
    let (mut rounds, mut only, mut commands, mut calls) = (3, None, false, false);
    let mut programs: Vec<PathBuf> = Vec::new();
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("--rounds", count)) => rounds = count.parse().context("--rounds")?,
            Some(("--only", part)) => only = Some(part.to_owned()),
            _ if word == "--commands" => commands = true,
            _ if word == "--calls" => calls = true,
            _ => programs.push(std::path::absolute(word)?),
        }
    }
    ensure!(
        programs.len() == 2 && rounds > 0,
        "usage: bench-virtqemud [--rounds=N] [--only=WORD] [--commands|--calls] ORIGINAL OURS"
    );
    blackbox::virtqemud::machines().map_err(anyhow::Error::msg)?;
    if commands {
        return commands::compare(&programs, rounds);
    }
    if calls {
        return calls::compare(&programs, rounds, only.as_deref());
    }
    let mut benches = Vec::new();
    for program in &programs {
        benches.push(Bench::new(program)?);
    }
    let chosen: Vec<&Figure> = figures::ALL
        .iter()
        .filter(|figure| only.as_ref().is_none_or(|part| figure.name.contains(part)))
        .collect();
    let mut results = Vec::new();
    for figure in chosen {
        let mut values = vec![Vec::new(); programs.len()];
        let rounds = rounds.min(figure.most_rounds);
        for _ in 0..rounds {
            for (bench, values) in benches.iter_mut().zip(&mut values) {
                values.push(
                    (figure.measure)(bench).with_context(|| format!("{}: {}", bench.name(), figure.name))?,
                );
            }
        }
        println!("{}: {values:.3?} (load {})", figure.name, load());
        results.push((figure, values));
    }
    println!("\n| figure | {} | {} | ratio |\n|---|---|---|---|", name(&programs[0]), name(&programs[1]));
    for (figure, mut values) in results {
        let (theirs, ours) = (median(&mut values[0]), median(&mut values[1]));
        let ratio = if figure.more_is_better { ours / theirs } else { theirs / ours };
        println!("| {} | {theirs:.2} | {ours:.2} | {ratio:.2} |", figure.name);
    }
    Ok(())
}
