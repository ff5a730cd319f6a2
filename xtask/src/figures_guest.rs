//! `cargo xtask figures guest`: programs inside a guest, by every emulator that is there and natively, in turns.
//!
//! What counts is processor time, so that other work on the machine matters less: natively the programs' own, in a guest
//! the time on the guest's clock times the part of it in which the emulator ran.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blackbox::emulator::{Emulator, Running};
use blackbox::guests::{self, Kernel};
use blackbox::initramfs::{BEGIN, END, Initramfs};

use crate::figures::median;

/// How long a guest may take.
const RUN: Duration = Duration::from_secs(1800);
/// The clocks of guest and host may differ by this part.
const CLOCKS: f64 = 0.05;

/// Rows about what an operating system does; all others are about computing.
const SYSTEM: &[&str] = &[
    "syscall",
    "page-fault",
    "backed-fault",
    "pipe",
    "switch",
    "fork",
    "exec",
    "mmap",
    "signal",
    "open",
    "fork-exec",
    "fork-by-1",
    "fork-by-2",
    "fork-by-4",
    "ring-1",
    "ring-10",
    "ring-100",
];

const HELP: &str = "\
usage: cargo xtask figures guest [short|scale|fresh|vcpus|smp] [--runs N] [--only NAME]... [--tier1] [--lane-a]

  short        few rows
  scale        how the cost grows with processes and with memory
  fresh        code that is executed for the first time
  vcpus        1, 2 and 4 programs at once on as many processors, processor time of each
  smp          two workers on one and on two processors, in time that passes (needs a quiet machine)
  --runs N     take the medians of N runs (3)
  --only NAME  native, ours, ours-1 (tier 1), ours-a (without processes for user code), reference or newer; more than
               one may be named
  --tier1      measure our interpreter too
  --lane-a     measure ours without processes for user code too
";

/// Who runs the programs.
struct Runner {
    name: &'static str,
    emulator: Option<Emulator>,
    options: &'static [&'static str],
}

/// What is run in one guest.
struct Job {
    mode: &'static str,
    processors: u32,
    initrd: PathBuf,
}

/// Nanoseconds an operation of each row.
type Rows = BTreeMap<String, f64>;

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    let (mut runs, mut mode, mut only, mut tier1, mut lane_a) = (3, "all", Vec::new(), false, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "short" => mode = "short",
            "scale" => mode = "scale",
            "fresh" => mode = "fresh",
            "vcpus" => mode = "vcpus",
            "smp" => mode = "smp",
            "--tier1" => tier1 = true,
            "--lane-a" => lane_a = true,
            "--runs" => runs = arguments.next().context("--runs needs a number")?.parse()?,
            "--only" => only.push(arguments.next().context("--only needs a name")?.clone()),
            _ => bail!("{argument} is not known\n{HELP}"),
        }
    }
    ensure!(runs > 0, "no run, no figure");
    let tree = prepare()?;
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let scratch = blackbox::paths::scratch("figures-guest");
    let processors: &[u32] = match mode {
        "vcpus" => &[1, 2, 4],
        "smp" => &[1, 2],
        _ => &[1],
    };
    let mut jobs = Vec::new();
    for &processors in processors {
        let script = format!(
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nsection rows /bin/bash /run.sh {mode} {processors}\nPATH=/busybox"
        );
        let initrd = scratch.join(format!("initrd-{processors}"));
        std::fs::write(&initrd, Initramfs::new(&kernel).tree(tree.clone()).script(&script).build()?)?;
        jobs.push(Job { mode, processors, initrd });
    }

    let mut runners = vec![Runner { name: "native", emulator: None, options: &[] }];
    let ours = Emulator::ours().map_err(anyhow::Error::msg)?;
    let tier2 = &["-accel", "tcg,tier=2"];
    runners.push(Runner { name: "ours", emulator: Some(ours.clone()), options: tier2 });
    if lane_a || only.iter().any(|name| name == "ours-a") {
        let options = &["-accel", "tcg,tier=2,x-lane-b=off"];
        runners.push(Runner { name: "ours-a", emulator: Some(ours.clone()), options });
    }
    if tier1 || only.iter().any(|name| name == "ours-1") {
        runners.push(Runner { name: "ours-1", emulator: Some(ours), options: &["-accel", "tcg,tier=1"] });
    }
    for (name, found) in [("reference", Emulator::reference()), ("newer", Emulator::newer_reference())] {
        match found {
            Ok(found) => {
                runners.push(Runner { name, emulator: Some(found), options: &["-accel", "tcg"] });
            }
            Err(reason) => println!("Without {name}: {reason}."),
        }
    }
    if !only.is_empty() {
        runners.retain(|r| only.iter().any(|name| name == r.name));
    }
    ensure!(!runners.is_empty(), "nobody is left to run anything");

    let mut samples: Vec<BTreeMap<String, Vec<f64>>> = runners.iter().map(|_| BTreeMap::new()).collect();
    let mut order: Vec<String> = Vec::new();
    for run in 0..runs {
        for turn in 0..runners.len() {
            let which = (run + turn) % runners.len();
            for job in &jobs {
                let (rows, names) = match &runners[which].emulator {
                    None => native(&tree, job)?,
                    Some(emulator) => guest(emulator, runners[which].options, job, &kernel)?,
                };
                for (name, value) in rows {
                    samples[which].entry(name).or_default().push(value);
                }
                for name in names {
                    if !order.contains(&name) {
                        order.push(name);
                    }
                }
            }
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let time = if mode == "smp" { "Time" } else { "Processor time" };
    println!(
        "{time} an operation, medians of {runs} runs each, in turns; load averages now {}.\n",
        load.trim()
    );
    table(&runners, &samples, &order);
    Ok(())
}

/// Puts what the rows need beside the unpacked packages.
pub(crate) fn prepare() -> Result<PathBuf> {
    let tree = guests::workloads().map_err(anyhow::Error::msg)?;
    let source = blackbox::paths::repository().join("xtask/src/workloads");
    std::fs::copy(source.join("run.sh"), tree.join("run.sh"))?;
    let compile = |arguments: &[&str], to: &Path| -> Result<()> {
        let status =
            Command::new("cc").args(arguments).arg(source.join("micro.c")).arg("-o").arg(to).status();
        ensure!(status.is_ok_and(|s| s.success()), "no C compiler made {}", to.display());
        Ok(())
    };
    compile(&["-O2", "-static"], &tree.join("micro"))?;
    compile(&["-E", "-P"], &tree.join("micro.i"))?;
    Ok(tree)
}

/// The programs on this machine, in the same tree.
fn native(tree: &Path, job: &Job) -> Result<(Rows, Vec<String>)> {
    let count = job.processors.to_string();
    let last = (job.processors - 1).to_string();
    let mut command = vec!["/bin/bash", "/run.sh", job.mode, &count];
    let processors = format!("0-{last}");
    if job.mode == "smp" {
        command.splice(0..0, ["taskset", "-c", &processors]);
    }
    let output = in_tree(tree, &command).output().context("cannot run unshare")?;
    ensure!(output.status.success(), "natively: {}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout)).map(|(rows, names, _)| (rows, names))
}

/// A command on the host that has `tree` as its root file system.
pub(crate) fn in_tree(tree: &Path, command: &[&str]) -> Command {
    let script = "mount --bind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && mount -t tmpfs tmpfs \"$0/tmp\" \
                  && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot \"$0\" \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script]).arg(tree).args(command);
    unshare
}

/// The programs in a guest.
fn guest(emulator: &Emulator, options: &[&str], job: &Job, kernel: &Kernel) -> Result<(Rows, Vec<String>)> {
    let memory = if job.mode == "scale" { "6144" } else { "1536" };
    let processors = job.processors.to_string();
    let (image, initrd) = (kernel.image.to_string_lossy(), job.initrd.to_string_lossy());
    let mut arguments = vec!["-nodefaults", "-display", "none", "-M", "pc", "-m", memory, "-no-reboot"];
    arguments.extend(["-smp", &processors]);
    arguments.extend(["-serial", "stdio", "-cpu", "max", "-kernel", &image, "-initrd", &initrd]);
    arguments.extend(["-append", "console=ttyS0 quiet no_timer_check"]);
    arguments.extend(options);
    let mut running = emulator.start(&arguments).map_err(anyhow::Error::msg)?;
    let mut text = running.expect(BEGIN, RUN).map_err(anyhow::Error::msg)?;
    running.expect("\n", RUN).map_err(anyhow::Error::msg)?;
    let start = Instant::now();
    let (mut then, mut used) = (start, processor(&running)?);
    loop {
        let line = running.expect("\n", RUN).map_err(anyhow::Error::msg)?;
        if line.contains(END) {
            break;
        }
        let (now, usage) = (Instant::now(), processor(&running)?);
        let share =
            if job.mode == "smp" { 1.0 } else { (usage - used).as_secs_f64() / (now - then).as_secs_f64() };
        let line = line.trim();
        let first: Vec<&str> = line.split_ascii_whitespace().take(3).collect();
        if let [name, wall, operations] = first[..]
            && let Ok(wall) = wall.parse::<f64>()
        {
            text += &format!("\n{name} {wall} {operations} {}", wall * share);
        } else {
            text += &format!("\n{line}");
        }
        (then, used) = (now, usage);
    }
    let host = start.elapsed().as_nanos() as f64;
    let (rows, names, clock) = parse(&text)?;
    ensure!(
        (host / clock - 1.0).abs() < CLOCKS,
        "{}: {:.2} s passed in the guest while {:.2} s passed here",
        emulator.program.display(),
        clock / 1e9,
        host / 1e9
    );
    Ok((rows, names))
}

/// Processor time of the emulator up to now.
fn processor(running: &Running) -> Result<Duration> {
    Ok(running.usage().context("the emulator has ended")?.processor)
}

/// Rows, their names in order, and the time between the first and the last look at the clock.
fn parse(text: &str) -> Result<(Rows, Vec<String>, f64)> {
    let (mut rows, mut names, mut clocks) = (Rows::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [name, "failed", status] = words[..] {
            bail!("row {name} failed: {status}");
        }
        let [name, time, operations, ..] = words[..] else { continue };
        let (Ok(time), Ok(operations)) = (time.parse::<f64>(), operations.parse::<f64>()) else { continue };
        if name == "clock" {
            clocks.push(time);
        } else if let Some(processor) = words.get(3).and_then(|word| word.parse::<f64>().ok()) {
            rows.insert(name.to_owned(), processor / operations);
            names.push(name.to_owned());
        }
    }
    let [first, .., last] = clocks[..] else { bail!("the clock was not told twice: {text}") };
    Ok((rows, names, last - first))
}

fn table(runners: &[Runner], samples: &[BTreeMap<String, Vec<f64>>], order: &[String]) {
    let index = |name: &str| runners.iter().position(|r| r.name == name);
    let ours = index("ours").or(index("ours-1"));
    let others: Vec<usize> = (0..runners.len()).filter(|&n| Some(n) != ours).collect();
    let mut head = "| row |".to_owned();
    runners.iter().for_each(|r| head += &format!(" {} |", r.name));
    others.iter().for_each(|&n| head += &format!(" {} / ours |", runners[n].name));
    println!("{head}\n|---{}|", "|---:".repeat(runners.len() + others.len()));
    let mut logs: BTreeMap<(bool, usize), Vec<f64>> = BTreeMap::new();
    for name in order {
        let middle: Vec<Option<f64>> =
            samples.iter().map(|s| s.get(name).map(|values| median(values.clone()))).collect();
        let mut line = format!("| {name} |");
        middle.iter().for_each(|v| line += &v.map_or(" |".to_owned(), |v| format!(" {} |", time(v))));
        for &n in &others {
            let ratio = ours.and_then(|o| Some(middle[n]? / middle[o]?));
            if let Some(ratio) = ratio {
                logs.entry((SYSTEM.contains(&name.as_str()), n)).or_default().push(ratio.ln());
            }
            line += &ratio.map_or(" |".to_owned(), |r| format!(" {r:.2} |"));
        }
        println!("{line}");
    }
    for ((system, n), values) in logs {
        let mean = (values.iter().sum::<f64>() / values.len() as f64).exp();
        let what = if system { "system" } else { "compute" };
        println!("{what} rows, geometric mean of {} / ours: {mean:.2}", runners[n].name);
    }
}

fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e4 => format!("{n:.1} ns"),
        n if n < 1e7 => format!("{:.1} us", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rows() {
        let text = "clock 1000 1\nnoise\nsyscall 900 5 500\nrsa 1000000000 2.5 1e9\nclock 3000 1\n";
        let (rows, names, clock) = parse(text).unwrap();
        assert_eq!((rows["syscall"], rows["rsa"], clock), (100.0, 4e8, 2000.0));
        assert_eq!(names, ["syscall", "rsa"]);
        assert!(parse("clock 1 1\nx failed 256\nclock 2 1").is_err());
        assert!(parse("syscall 500 5").is_err());
    }
}
