//! `cargo xtask suites`: test programs inside a guest of the translator.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blackbox::compare::difference;
use blackbox::emulator::Emulator;
use blackbox::guests;
use blackbox::initramfs::{DONE, Initramfs, sections};

use crate::figures_guest::in_tree;

/// How long one suite may take.
const SUITE: Duration = Duration::from_secs(5400);
const OPTIONS: &str = "-accel tcg,tier=2 -smp 2";

/// One suite.
struct Suite {
    name: &'static str,
    /// What it writes is the same on every machine; of others only the status counts.
    comparable: bool,
    /// Where its programs are.
    tree: fn() -> Result<PathBuf, String>,
}

const fn suite(name: &'static str, comparable: bool) -> Suite {
    Suite { name, comparable, tree: guests::suites }
}

const SUITES: &[Suite] = &[
    suite("luajit", true),
    suite("node", true),
    Suite { name: "java", comparable: true, tree: guests::java },
    suite("openssl", true),
    suite("perl", true),
    Suite { name: "perl-tests", comparable: true, tree: guests::build },
    suite("gdb", true),
    Suite { name: "strace", comparable: true, tree: guests::build },
    Suite { name: "make", comparable: true, tree: guests::build },
    suite("python", false),
    suite("stress-cpu", false),
    suite("stress-memory", false),
    suite("stress-processes", false),
    suite("stress-signals", false),
    suite("stress-threads", false),
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
                ensure!(SUITES.iter().any(|known| known.name == name), "no suite is named {name}");
                names.push(name);
            }
        }
    }
    let emulator = match program {
        Some(path) => Emulator::at(path),
        None => Emulator::ours().map_err(anyhow::Error::msg)?,
    };
    let mut failed = 0;
    for suite in SUITES.iter().filter(|suite| names.is_empty() || names.contains(&suite.name)) {
        let (start, name) = (Instant::now(), suite.name);
        let verdict = match run(&emulator, &options, suite) {
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
fn prepare(suite: &Suite) -> Result<PathBuf> {
    let tree = (suite.tree)().map_err(anyhow::Error::msg)?;
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

fn run(emulator: &Emulator, options: &str, suite: &Suite) -> Result<()> {
    let (tree, name) = (prepare(suite)?, suite.name);
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let initrd = blackbox::paths::scratch("suites").join("initrd");
    let script =
        format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin\nsection {name} /bin/bash /run.sh {name}\nPATH=/busybox");
    std::fs::write(&initrd, Initramfs::new(&kernel).tree(tree.clone()).script(&script).build()?)?;
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
    let native = || in_tree(&tree, &["/bin/bash", "/run.sh", name]).output().context("cannot run unshare");
    if section.status != 0 {
        bail!("status {}, natively {}:\n{}", section.status, native()?.status, section.text);
    }
    if suite.comparable {
        let native = native()?;
        ensure!(native.status.success(), "natively: {}", String::from_utf8_lossy(&native.stderr));
        let unexpected = difference(&String::from_utf8_lossy(&native.stdout), &section.text);
        ensure!(unexpected.is_empty(), "- is the host's, + is the guest's:\n{unexpected}");
    }
    Ok(())
}
