//! `cargo xtask stress-boots`: many boots with what is rare in the translator made common.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blackbox::emulator::Emulator;
use blackbox::guests;
use blackbox::initramfs::{DONE, Initramfs};

/// How long one boot may take.
const BOOT: Duration = Duration::from_secs(600);
const OPTIONS: &str = "-accel tcg,tier=2,x-tiny-tlb=on,x-threshold=0";

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    let (mut count, mut options, mut program) = (None, OPTIONS.to_owned(), None);
    let mut list = arguments.iter();
    while let Some(argument) = list.next() {
        match argument.as_str() {
            "--options" => options = list.next().context("--options needs the emulator's options")?.clone(),
            "--program" => program = Some(PathBuf::from(list.next().context("--program needs a path")?)),
            number => count = Some(number.parse::<u32>().with_context(|| format!("{number} is no number"))?),
        }
    }
    let count = count.context("how many boots?")?;
    let emulator = match program {
        Some(path) => Emulator::at(path),
        None => Emulator::ours().map_err(anyhow::Error::msg)?,
    };
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let initrd = blackbox::paths::scratch("stress-boots").join("initrd");
    std::fs::write(&initrd, Initramfs::new(&kernel).build()?)?;
    let (image, initrd) = (kernel.image.to_string_lossy(), initrd.to_string_lossy());
    let mut line = vec!["-nodefaults", "-display", "none", "-m", "256", "-no-reboot", "-serial", "stdio"];
    // The kernel's check of its timer would tell about the load of the host.
    line.extend(["-kernel", &image, "-initrd", &initrd, "-append", "console=ttyS0 quiet no_timer_check"]);
    line.extend(options.split_ascii_whitespace());
    let (mut failed, start) = (0, Instant::now());
    for number in 1..=count {
        let boot = || -> Result<(), String> {
            let mut running = emulator.start(&line)?;
            running.expect(DONE, BOOT)?;
            let status = running.wait(BOOT)?;
            if status.success() { Ok(()) } else { Err(format!("{status}: {}", running.errors.log())) }
        };
        if let Err(error) = boot() {
            failed += 1;
            println!("boot {number} FAILED: {error}");
        }
        if number % 10 == 0 {
            println!("{number} boots, {failed} failed, {:.0} s", start.elapsed().as_secs_f32());
        }
    }
    println!("{count} boots with {options}: {failed} failed");
    ensure!(count > 0, "no boot, no result");
    if failed > 0 {
        bail!("{failed} boots failed");
    }
    Ok(())
}
