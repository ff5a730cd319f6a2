//! `cargo xtask figures code`: how much host code a guest's code becomes, how fast, and what memory an emulator takes
//! beside the guest's own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blackbox::emulator::{Emulator, Running};
use blackbox::guests;
use blackbox::initramfs::{END, Initramfs};
use blackbox::monitor::Monitor;

use crate::figures_guest::prepare;

/// How long a step may take.
const STEP: Duration = Duration::from_secs(900);
/// The guest's RAM in MiB.
const RAM: u64 = 1536;

/// What the guest does, one after the other; the emulator is looked at after each.
const STEPS: &[(&str, &str)] = &[
    ("boot", "true"),
    ("python", "python3 -I -c 'import json, random, hashlib, decimal'"),
    (
        "sqlite",
        "sqlite3 :memory: 'create table t(a, b); insert into t values(1, hex(2)); select * from t order by b'",
    ),
    ("cc1", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -O2 -o /tmp/out.s /micro.i"),
    ("shell", "bash -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'"),
];

/// What an emulator says and takes at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// Bytes of guest code in translations, and of host code.
    guest: u64,
    host: u64,
    /// Bytes of guest code translated since the start, and milliseconds that it took, where that is told.
    made: Option<(u64, f64)>,
    /// KiB of memory beside the guest's RAM.
    beside: u64,
}

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "figures code takes no arguments");
    let mut contenders = vec![("ours", Emulator::ours().map_err(anyhow::Error::msg)?)];
    for (name, found) in [("reference", Emulator::reference()), ("newer", Emulator::newer_reference())] {
        match found {
            Ok(found) => contenders.push((name, found)),
            Err(reason) => println!("Without {name}: {reason}."),
        }
    }
    let kernel = guests::kernel("cloud").map_err(anyhow::Error::msg)?;
    let scratch = blackbox::paths::scratch("figures-code");
    let steps: String =
        STEPS.iter().map(|(name, command)| format!("section {name} {command}\nread answer\n")).collect();
    let script = format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n{steps}PATH=/busybox");
    let initrd = scratch.join("initrd");
    std::fs::write(&initrd, Initramfs::new(&kernel).tree(prepare()?).script(&script).build()?)?;
    println!(
        "| after | emulator | guest code | host code | bytes a byte | translated | in | bytes/s | memory beside RAM |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|"
    );
    for (name, emulator) in &contenders {
        let socket = scratch.join(format!("{name}.monitor"));
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let (memory, image, initrd) =
            (RAM.to_string(), kernel.image.to_string_lossy(), initrd.to_string_lossy());
        let mut running = emulator
            .start(&[
                "-nodefaults",
                "-display",
                "none",
                "-m",
                &memory,
                "-no-reboot",
                "-serial",
                "stdio",
                "-cpu",
                "max",
                "-accel",
                "tcg",
                "-monitor",
                &monitor,
                "-kernel",
                &image,
                "-initrd",
                &initrd,
                "-append",
                "console=ttyS0 quiet no_timer_check",
            ])
            .map_err(anyhow::Error::msg)?;
        let mut monitor = Monitor::connect(&socket, STEP).map_err(anyhow::Error::msg)?;
        for (step, _) in STEPS {
            let end = format!("{END}{step} 0");
            running.expect(&end, STEP).map_err(anyhow::Error::msg)?;
            let text = monitor.command("info jit", STEP).map_err(anyhow::Error::msg)?;
            row(step, name, look(&text, &running)?);
            running.console.send("\n").context("the console is closed")?;
        }
        let status = running.wait(STEP).map_err(anyhow::Error::msg)?;
        ensure!(status.success(), "{name}: {status}");
    }
    Ok(())
}

fn row(step: &str, name: &str, look: Look) {
    let size = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let [made, time, rate] = look.made.map_or(["", "", ""].map(str::to_owned), |(bytes, ms)| {
        [size(bytes), format!("{ms:.0} ms"), format!("{:.1} M", bytes as f64 / ms / 1e3)]
    });
    println!(
        "| {step} | {name} | {} | {} | {:.1} | {made} | {time} | {rate} | {} |",
        size(look.guest),
        size(look.host),
        look.host as f64 / look.guest.max(1) as f64,
        size(look.beside << 10),
    );
}

/// From the answer to `info jit`, and the process's memory.
fn look(text: &str, running: &Running) -> Result<Look> {
    let number = |name: &str| -> Result<u64> {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| first_number(&line[name.len()..])).with_context(|| format!("{name}: {text}"))
    };
    let host = number("gen code size")?;
    let guest = number("TB count")? * number("TB avg target size")?;
    let made = text.lines().find_map(|line| {
        let (_, rest) = line.strip_prefix("TB made")?.split_once('(')?;
        let (_, time) = rest.split_once(" in ")?;
        Some((first_number(rest)?, time.split(' ').next()?.parse().ok()?))
    });
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", running.id()))?;
    Ok(Look { guest, host, made, beside: beside(&maps) })
}

fn first_number(text: &str) -> Option<u64> {
    let digits: String = text.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// KiB that all mappings but the guest's RAM take of memory; what is mapped twice counts once.
fn beside(smaps: &str) -> u64 {
    let value = |line: &str, name: &str| line.strip_prefix(name).and_then(first_number);
    let (mut sum, mut size) = (0, 0);
    for line in smaps.lines() {
        if let Some(found) = value(line, "Size:") {
            size = found;
        } else if let Some(found) = value(line, "Pss:")
            && size != RAM << 10
        {
            sum += found;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_does_not_count() {
        let ram = RAM << 10;
        let text = format!(
            "a-b rw\nSize: {ram} kB\nPss: 500 kB\nc-d rw\nSize:   8 kB\nPss:   4 kB\nSize: 9 kB\nPss: 2 kB\n"
        );
        assert_eq!(beside(&text), 6);
        assert_eq!(first_number("  12/34"), Some(12));
    }
}
