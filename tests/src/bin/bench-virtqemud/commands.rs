//! Every command of `tests/virsh/commands`, timed by `virsh` itself on both daemons.

use anyhow::{Context, Result, bail};
use blackbox::paths;
use blackbox::virtqemud::Daemon;
use std::path::{Path, PathBuf};

const IMAGES: &str = "truncate -s 1M disk.img && truncate -s 1M disk2.img more.img cd.img";

/// Milliseconds that one command took, by `virsh --timing`; of a program that is not virsh, none.
fn time(daemon: &Daemon, words: &str) -> Result<Option<f64>> {
    if let Some(words) = words.strip_prefix('$') {
        daemon.shell(words);
        return Ok(None);
    }
    let output = daemon.virsh(&format!("--timing {words}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(at) = text.rfind("(Time: ") else { return Ok(None) };
    let number = text[at + 7..].split(' ').next().unwrap_or_default();
    Ok(Some(number.parse().with_context(|| format!("virsh says {number:?}"))?))
}

fn prepared(program: &Path, folder: &Path) -> Result<Daemon> {
    let daemon = Daemon::alone(program);
    daemon.put(folder);
    let made = daemon.shell(IMAGES);
    if !made.status.success() {
        bail!("{}", String::from_utf8_lossy(&made.stderr));
    }
    // Not what is measured here.
    daemon.virsh("capabilities");
    Ok(daemon)
}

/// The least of some times: what else runs on the machine only adds to them.
fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Prints those commands first where the second daemon is slowest beside the first.
pub fn compare(programs: &[PathBuf], rounds: usize) -> Result<()> {
    let folder = paths::repository().join("tests/virsh");
    let text = std::fs::read_to_string(folder.join("commands"))?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.trim_start_matches(['~', '%', '&', ' ']))
        .collect();
    let mut times = vec![vec![Vec::new(); lines.len()]; programs.len()];
    for _ in 0..rounds {
        let daemons =
            programs.iter().map(|program| prepared(program, &folder)).collect::<Result<Vec<_>>>()?;
        for (at, line) in lines.iter().enumerate() {
            for (daemon, times) in daemons.iter().zip(&mut times) {
                times[at].extend(time(daemon, line)?);
            }
        }
    }
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (theirs, ours) = (least(&times[0][at]), least(&times[1][at]));
        if theirs.is_finite() && ours.is_finite() {
            rows.push((theirs / ours, theirs, ours, *line));
        }
    }
    rows.sort_by(|left, right| left.0.total_cmp(&right.0));
    println!("ratio     theirs, ms       ours, ms  command   (load {})", crate::load());
    for (ratio, theirs, ours, line) in &rows {
        println!("{ratio:5.2} {theirs:14.3} {ours:14.3}  {line}");
    }
    let mut ratios: Vec<f64> = rows.iter().map(|row| row.0).collect();
    let slower = ratios.iter().filter(|ratio| **ratio < 1.0).count();
    println!("{} commands, {slower} slower; median ratio {:.2}", rows.len(), crate::median(&mut ratios));
    Ok(())
}
