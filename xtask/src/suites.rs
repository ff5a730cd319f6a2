//! `cargo xtask suites`: test programs inside a guest of the translator.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::guests;
use blackbox::initramfs::{DONE, Initramfs, sections};

use crate::figures_guest::in_tree;

/// How long one suite may take.
const SUITE: Duration = Duration::from_secs(1800);
const OPTIONS: &str = "-accel tcg,tier=2 -smp 2";

/// Suites, and whether what they write is the same on every machine; of the others only the status counts.
const SUITES: &[(&str, bool)] = &[
    ("luajit", true),
    ("node", true),
    ("openssl", true),
    ("perl", true),
    ("gdb", true),
    ("python", false),
    ("stress-cpu", false),
    ("stress-memory", false),
    ("stress-processes", false),
    ("stress-signals", false),
    ("stress-threads", false),
];

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    let (mut options, mut program, mut names) = (OPTIONS.to_owned(), None, Vec::new());
    let mut list = arguments.iter();
    while let Some(argument) = list.next() {
        match argument.as_str() {
            "--options" => options = list.next().context("--options needs the emulator's options")?.clone(),
            "--program" => program = Some(PathBuf::from(list.next().context("--program needs a path")?)),
            name => {
                ensure!(SUITES.iter().any(|(known, _)| *known == name), "no suite is named {name}");
                names.push(name);
            }
        }
    }
    let emulator = match program {
        Some(path) => Emulator::at(path),
        None => Emulator::ours().map_err(anyhow::Error::msg)?,
    };
    let tree = prepare()?;
    let mut failed = 0;
    for (name, comparable) in SUITES.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let start = Instant::now();
        let verdict = match run(&emulator, &options, &tree, name, *comparable) {
            Ok(()) => "passed".to_owned(),
            Err(error) => {
                failed += 1;
                format!("FAILED: {error:#}")
            }
        };
        println!("{name:<20} {:>7.1} s  {verdict}", start.elapsed().as_secs_f32());
    }
    if failed > 0 {
        bail!("{failed} suites failed");
    }
    Ok(())
}

/// Puts our own files beside the unpacked packages.
fn prepare() -> Result<PathBuf> {
    let tree = guests::suites().map_err(anyhow::Error::msg)?;
    let repository = blackbox::paths::repository();
    for file in std::fs::read_dir(repository.join("xtask/src/suites"))? {
        let file = file?;
        std::fs::copy(file.path(), tree.join(file.file_name()))?;
    }
    let made = Command::new("cc")
        .args(["-O1", "-static", "-no-pie", "-pthread", "-o"])
        .arg(tree.join("processor"))
        .arg(repository.join("tests/guest/processor.c"))
        .status();
    ensure!(made.is_ok_and(|status| status.success()), "no C compiler made the debugger's program");
    Ok(tree)
}

fn run(emulator: &Emulator, options: &str, tree: &Path, name: &str, comparable: bool) -> Result<()> {
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let initrd = blackbox::paths::scratch("suites").join("initrd");
    let script =
        format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin\nsection {name} /bin/bash /run.sh {name}\nPATH=/busybox");
    std::fs::write(&initrd, Initramfs::new(&kernel).tree(tree.to_owned()).script(&script).build()?)?;
    let (image, initrd) = (kernel.image.to_string_lossy(), initrd.to_string_lossy());
    let mut line = vec!["-nodefaults", "-display", "none", "-m", "2560", "-no-reboot", "-serial", "stdio"];
    line.extend(["-cpu", "max", "-kernel", &image, "-initrd", &initrd]);
    line.extend(["-append", "console=ttyS0 quiet no_timer_check"]);
    line.extend(options.split_ascii_whitespace());
    let mut running = emulator.start(&line).map_err(anyhow::Error::msg)?;
    let text = running.expect(DONE, SUITE).map_err(anyhow::Error::msg)?;
    let status = running.wait(SUITE).map_err(anyhow::Error::msg)?;
    ensure!(status.success(), "the emulator: {status}");
    let section =
        sections(&text).into_iter().find(|section| section.name == name).context("no such section")?;
    let native = || in_tree(tree, &["/bin/bash", "/run.sh", name]).output().context("cannot run unshare");
    if section.status != 0 {
        bail!("status {}, natively {}:\n{}", section.status, native()?.status, section.text);
    }
    if comparable {
        let native = native()?;
        ensure!(native.status.success(), "natively: {}", String::from_utf8_lossy(&native.stderr));
        let unexpected = difference(&String::from_utf8_lossy(&native.stdout), &section.text);
        ensure!(unexpected.is_empty(), "- is the host's, + is the guest's:\n{unexpected}");
    }
    Ok(())
}
