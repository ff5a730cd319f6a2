//! `cargo xtask figures`: ours beside the reference emulator, in turns, on the same machine in the same minutes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blackbox::emulator::{Emulator, Usage};
use blackbox::guests::{self, Kernel};
use blackbox::initramfs::{DISK_MODULES, Finish, Initramfs, USERSPACE};

/// How long a run may take.
const RUN: Duration = Duration::from_secs(900);

/// One measured run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    wall: Duration,
    usage: Usage,
}

/// An emulator with its accelerator.
struct Contender {
    emulator: Emulator,
    accel: String,
}

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    let (mut runs, mut accel, mut disk) = (5, "tcg".to_owned(), false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().with_context(|| format!("{argument} needs a number"));
        match argument.as_str() {
            "--runs" => runs = number()?.parse().context("--runs needs a number")?,
            "--tier" => accel = format!("tcg,tier={}", number()?),
            "--disk" => disk = true,
            _ => bail!("takes only --runs N, --tier N and --disk"),
        }
    }
    if runs == 0 {
        bail!("no run, no figure");
    }
    let ours = Contender { emulator: Emulator::ours().map_err(anyhow::Error::msg)?, accel };
    let reference =
        Contender { emulator: Emulator::reference().map_err(anyhow::Error::msg)?, accel: "tcg".to_owned() };
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let initrd = blackbox::paths::scratch("figures").join("initrd");
    std::fs::write(&initrd, Initramfs::new(&kernel).modules(DISK_MODULES).build()?)?;

    println!("Medians of {runs} runs each, in turns; {} {}.\n", kernel.spec.package, kernel.release);
    println!("| what | ours | reference | ratio |");
    println!("|---|---:|---:|---:|");
    for board in ["pc", "q35"] {
        let [a, b] = pair(runs, [&ours, &reference], |who| to_prompt(&who.emulator, board))?;
        row(&format!("{board}: start to monitor prompt"), &a, &b, |s| s.wall.as_secs_f64() * 1e3, "ms");
        row(
            &format!("{board}: processor time to there"),
            &a,
            &b,
            |s| s.usage.processor.as_secs_f64() * 1e3,
            "ms",
        );
        row(&format!("{board}: resident memory there"), &a, &b, |s| s.usage.resident as f64 / 1024.0, "MiB");
    }
    for board in ["pc", "q35"] {
        let [a, b] = pair(runs, [&ours, &reference], |who| to_init(who, board, &kernel, &initrd))?;
        row(&format!("{board}: start to /init"), &a, &b, |s| s.wall.as_secs_f64(), "s");
        row(&format!("{board}: processor time to /init"), &a, &b, |s| s.usage.processor.as_secs_f64(), "s");
        row(&format!("{board}: peak memory to /init"), &a, &b, |s| s.usage.peak as f64 / 1024.0, "MiB");
    }
    if disk {
        let image = guests::disk().map_err(anyhow::Error::msg)?;
        let initrd = blackbox::paths::scratch("figures").join("initrd-disk");
        let root = Finish::SwitchRoot("/dev/vda".to_owned());
        std::fs::write(&initrd, Initramfs::new(&kernel).modules(DISK_MODULES).then(root).build()?)?;
        let [a, b] = pair(runs, [&ours, &reference], |who| to_login(who, &kernel, &initrd, &image))?;
        row("Debian on a disk: start to login", &a, &b, |s| s.wall.as_secs_f64(), "s");
        row("Debian on a disk: processor time to login", &a, &b, |s| s.usage.processor.as_secs_f64(), "s");
        row("Debian on a disk: peak memory to login", &a, &b, |s| s.usage.peak as f64 / 1024.0, "MiB");
    }
    Ok(())
}

/// Samples of both, taken in turns; which one begins changes from run to run.
fn pair(
    runs: usize,
    contenders: [&Contender; 2],
    measure: impl Fn(&Contender) -> Result<Sample>,
) -> Result<[Vec<Sample>; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    for run in 0..runs {
        for turn in 0..2 {
            let which = (run + turn) % 2;
            samples[which].push(measure(contenders[which])?);
        }
    }
    Ok(samples)
}

fn row(what: &str, ours: &[Sample], reference: &[Sample], value: impl Fn(&Sample) -> f64, unit: &str) {
    let middle = |samples: &[Sample]| median(samples.iter().map(&value).collect());
    let (a, b) = (middle(ours), middle(reference));
    println!("| {what} | {a:.1} {unit} | {b:.1} {unit} | {:.2} |", a / b);
}

/// The middle value, or the mean of the two middle ones.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// From the process's start to the human monitor's first prompt, the guest not yet started.
fn to_prompt(emulator: &Emulator, board: &str) -> Result<Sample> {
    let arguments = ["-nodefaults", "-display", "none", "-M", board, "-S", "-monitor", "stdio"];
    until(emulator, &arguments, "(qemu) ")
}

/// From the process's start to the first line that the guest's init prints.
fn to_init(who: &Contender, board: &str, kernel: &Kernel, initrd: &Path) -> Result<Sample> {
    let mut arguments = machine(who, board, kernel, initrd);
    arguments.extend(["-append".to_owned(), "console=ttyS0 quiet".to_owned()]);
    until(&who.emulator, &arguments, USERSPACE)
}

/// From the process's start to the login prompt of a whole Debian on a disk, which is left as it was.
fn to_login(who: &Contender, kernel: &Kernel, initrd: &Path, image: &Path) -> Result<Sample> {
    let mut arguments = machine(who, "pc", kernel, initrd);
    arguments.extend(["-append".to_owned(), "console=ttyS0 quiet no_timer_check".to_owned()]);
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", image.display());
    arguments.extend(["-drive".to_owned(), drive]);
    until(&who.emulator, &arguments, "login: ")
}

fn machine(who: &Contender, board: &str, kernel: &Kernel, initrd: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = ["-nodefaults", "-display", "none", "-m", "512", "-no-reboot"]
        .into_iter()
        .chain(["-serial", "stdio", "-M", board, "-accel", &who.accel])
        .map(str::to_owned)
        .collect();
    for (option, file) in [("-kernel", kernel.image.as_path()), ("-initrd", initrd)] {
        arguments.extend([option.to_owned(), file.display().to_string()]);
    }
    arguments
}

fn until<S: AsRef<str>>(emulator: &Emulator, arguments: &[S], text: &str) -> Result<Sample> {
    let mut running = emulator.start(arguments).map_err(anyhow::Error::msg)?;
    running.expect(text, RUN).map_err(anyhow::Error::msg)?;
    let wall = running.started.elapsed();
    let usage = running.usage().with_context(|| format!("{} has ended", emulator.program.display()))?;
    Ok(Sample { wall, usage })
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
