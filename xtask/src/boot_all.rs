//! `cargo xtask boot-all`: the long boot tests. Every kernel on every board, several processors, little and much
//! memory, dynamic programs compared with the host, and a whole Debian system on a disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use blackbox::emulator::{Emulator, Running};
use blackbox::guests::{self, Kernel, ROOT_PASSWORD};
use blackbox::initramfs::{DISK_MODULES, DONE, Finish, Initramfs, USERSPACE, sections};

/// How long a guest may take for one step.
const STEP: Duration = Duration::from_secs(1200);

/// The boards.
const BOARDS: &[&str] = &["pc", "q35"];

/// One boot.
struct Case {
    name: String,
    board: &'static str,
    kernel: &'static str,
    processors: u32,
    /// In MiB.
    memory: u64,
    kind: Kind,
    /// The emulator's options beyond these.
    options: String,
}

/// What is done in the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It tells its processors and memory, and turns the machine off.
    PowerOff,
    /// It resets the machine, which is started with `-no-reboot`.
    Reboot,
    /// It runs dynamic programs whose output is compared with the host's.
    Programs,
    /// It boots a Debian system from a disk.
    Disk,
}

/// Runs the task.
pub fn main(arguments: &[String]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    let mut program: Option<PathBuf> = None;
    let mut list = arguments.iter();
    while let Some(argument) = list.next() {
        match argument.as_str() {
            "--program" => program = Some(list.next().context("--program needs a path")?.into()),
            option if option.starts_with('-') => bail!("unknown option {option}"),
            name => names.push(name),
        }
    }
    let emulator = match program {
        Some(path) => Emulator::at(path),
        None => Emulator::ours().map_err(anyhow::Error::msg)?,
    };
    let folder = blackbox::paths::scratch("boot-all");
    println!("{:<32} {:>10} {:>10}  result", "case", "user space", "whole");
    let (mut passed, mut failed) = (0, 0);
    for case in
        cases().iter().filter(|case| names.is_empty() || names.iter().any(|name| case.name.contains(name)))
    {
        let start = Instant::now();
        let mut user_space = None;
        let result = run(&emulator, case, &folder, &mut user_space);
        let user_space = user_space.map_or("-".to_owned(), |t: Duration| format!("{:.1} s", t.as_secs_f32()));
        let verdict = match &result {
            Ok(()) => "passed".to_owned(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        println!("{:<32} {user_space:>10} {:>8.1} s  {verdict}", case.name, start.elapsed().as_secs_f32());
        if result.is_ok() { passed += 1 } else { failed += 1 }
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} boots failed");
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind, kernel: &'static str, board: &'static str, processors, memory| {
        let what = match kind {
            Kind::PowerOff => "",
            Kind::Reboot => " reboot",
            Kind::Programs => " programs",
            Kind::Disk => " disk",
        };
        let name = format!("{kernel} {board} smp={processors} m={memory}{what}");
        cases.push(Case { name, board, kernel, processors, memory, kind, options: String::new() });
    };
    for board in BOARDS {
        for kernel in guests::KERNELS {
            add(Kind::PowerOff, kernel.name, board, 1, 512);
        }
        for processors in [2, 4] {
            add(Kind::PowerOff, "cloud", board, processors, 512);
        }
        add(Kind::PowerOff, "686", board, 2, 512);
        for memory in [96, 128, 1024, 3072, 4096, 5120] {
            add(Kind::PowerOff, "cloud", board, 1, memory);
        }
        for memory in [96, 5120] {
            add(Kind::PowerOff, "686", board, 1, memory);
        }
        add(Kind::Reboot, "cloud", board, 1, 512);
    }
    add(Kind::Programs, "cloud", "pc", 1, 1024);
    add(Kind::Programs, "cloud", "q35", 2, 1024);
    add(Kind::Disk, "cloud", "pc", 1, 1024);
    add(Kind::Disk, "generic-bpo", "q35", 2, 1024);
    // The translator: every translated block executed twice and compared, hosts that lack something, many processors.
    let mut add = |kernel: &'static str, processors, memory, what: &str, accelerator: &str| {
        let name = format!("{kernel} pc smp={processors} m={memory} {what}");
        let options = format!("-cpu max -accel tcg,tier=2{accelerator}");
        cases.push(Case { name, board: "pc", kernel, processors, memory, kind: Kind::PowerOff, options });
    };
    for kernel in ["cloud", "generic"] {
        add(kernel, 1, 512, "lock-step", ",x-lockstep=on");
    }
    for feature in
        ["bmi2", "avx", "avx512", "fsgsbase", "xsave", "shm", "processes", "bmi2:avx:fsgsbase:xsave"]
    {
        let accelerator = format!(",x-threshold=0,x-without={feature}");
        add("cloud", 2, 512, &format!("without={feature}"), &accelerator);
    }
    // All user code in helper processes.
    add("cloud", 2, 512, "processes", ",x-lane-b=always");
    add("cloud", 255, 2048, "many", "");
    cases
}

fn run(emulator: &Emulator, case: &Case, folder: &Path, user_space: &mut Option<Duration>) -> Result<()> {
    let kernel = guests::kernel(case.kernel).map_err(anyhow::Error::msg)?;
    match case.kind {
        Kind::PowerOff | Kind::Reboot => plain(emulator, case, &kernel, folder, user_space),
        Kind::Programs => programs(emulator, case, &kernel, folder, user_space),
        Kind::Disk => disk(emulator, case, &kernel, folder, user_space),
    }
}

/// Starts the guest and waits until it reaches user space.
fn start(
    emulator: &Emulator,
    case: &Case,
    kernel: &Kernel,
    initramfs: &Initramfs,
    folder: &Path,
    more: &[String],
    user_space: &mut Option<Duration>,
) -> Result<Running> {
    let initrd = folder.join("initrd");
    std::fs::write(&initrd, initramfs.build()?)?;
    let mut arguments: Vec<String> =
        ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-M", case.board, "-m"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend([case.memory.to_string(), "-smp".to_owned(), case.processors.to_string()]);
    arguments.extend(["-kernel".to_owned(), kernel.image.display().to_string()]);
    arguments.extend(["-initrd".to_owned(), initrd.display().to_string()]);
    arguments.extend(["-append".to_owned(), "console=ttyS0 quiet".to_owned()]);
    arguments.extend_from_slice(more);
    arguments.extend(case.options.split_ascii_whitespace().map(str::to_owned));
    let mut running = emulator.start(&arguments).map_err(anyhow::Error::msg)?;
    running.expect(USERSPACE, STEP).map_err(anyhow::Error::msg)?;
    *user_space = Some(running.started.elapsed());
    Ok(running)
}

/// Waits for the end, which must be a good one.
fn finish(running: &mut Running) -> Result<()> {
    let status = running.wait(STEP).map_err(anyhow::Error::msg)?;
    if status.code() != Some(0) {
        bail!("ended with {status}: {}", running.errors.log());
    }
    Ok(())
}

fn plain(
    emulator: &Emulator,
    case: &Case,
    kernel: &Kernel,
    folder: &Path,
    user_space: &mut Option<Duration>,
) -> Result<()> {
    let initramfs = Initramfs::new(kernel).modules(DISK_MODULES).script(
        "section processors nproc\nsection memory sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
    );
    let initramfs = if case.kind == Kind::Reboot { initramfs.then(Finish::Reboot) } else { initramfs };
    let mut running = start(emulator, case, kernel, &initramfs, folder, &[], user_space)?;
    let text = running.expect(DONE, STEP).map_err(anyhow::Error::msg)?;
    finish(&mut running)?;
    let found = sections(&text);
    let number = |name: &str| -> Result<u64> {
        let section = found.iter().find(|section| section.name == name).context("the guest told nothing")?;
        section.text.trim().parse().with_context(|| format!("{name}: {:?}", section.text))
    };
    if number("processors")? != u64::from(case.processors) {
        bail!("the guest has {} processors", number("processors")?);
    }
    // The kernel keeps for itself what it takes: its image, and a descriptor for each page.
    let memory = number("memory")? / 1024;
    if memory >= case.memory || memory < case.memory * 9 / 10 - 64 {
        bail!("the guest has {memory} MiB");
    }
    Ok(())
}

/// The script that runs on both sides. It prints the same everywhere, whatever the processor and the time.
const CHECK: &str = include_str!("programs.sh");

fn programs(
    emulator: &Emulator,
    case: &Case,
    kernel: &Kernel,
    folder: &Path,
    user_space: &mut Option<Duration>,
) -> Result<()> {
    let tree = guests::userspace().map_err(anyhow::Error::msg)?;
    std::fs::write(tree.join("check.sh"), CHECK)?;
    let host = Command::new("chroot")
        .arg(&tree)
        .args(["/bin/bash", "/check.sh"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .context("cannot run chroot")?;
    if !host.status.success() {
        bail!("the programs fail on the host: {}", String::from_utf8_lossy(&host.stderr));
    }
    let initramfs = Initramfs::new(kernel)
        .tree(tree)
        .script("PATH=/usr/sbin:/usr/bin:/sbin:/bin\nsection programs /bin/bash /check.sh\nPATH=/busybox");
    let mut running = start(emulator, case, kernel, &initramfs, folder, &[], user_space)?;
    let text = running.expect(DONE, STEP).map_err(anyhow::Error::msg)?;
    finish(&mut running)?;
    let found = sections(&text).pop().context("the guest told nothing")?;
    let expected = String::from_utf8_lossy(&host.stdout);
    let difference = blackbox::compare::difference(&expected, &found.text);
    if !difference.is_empty() || found.status != 0 {
        bail!("status {}; - host, + guest:\n{difference}", found.status);
    }
    Ok(())
}

fn disk(
    emulator: &Emulator,
    case: &Case,
    kernel: &Kernel,
    folder: &Path,
    user_space: &mut Option<Duration>,
) -> Result<()> {
    let original = guests::disk().map_err(anyhow::Error::msg)?;
    let image = folder.join("disk.raw");
    let copied = Command::new("cp").arg("--sparse=always").arg(original).arg(&image).status()?;
    if !copied.success() {
        bail!("cannot copy the disk");
    }
    let initramfs =
        Initramfs::new(kernel).modules(DISK_MODULES).then(Finish::SwitchRoot("/dev/vda".to_owned()));
    let drive = ["-drive".to_owned(), format!("file={},format=raw,if=virtio", image.display())];
    let mut running = start(emulator, case, kernel, &initramfs, folder, &drive, user_space)?;
    let mut answer = |awaited: &str, text: &str| -> Result<()> {
        running.expect(awaited, STEP).map_err(anyhow::Error::msg)?;
        running.console.send(&format!("{text}\n")).context("the console is closed")
    };
    answer("login: ", "root")?;
    answer("Password: ", ROOT_PASSWORD)?;
    answer("# ", "echo $((6 * 7)) >/root/answer && sync && echo was''written")?;
    answer("waswritten", "systemctl poweroff")?;
    finish(&mut running)?;
    let check = Command::new("e2fsck").arg("-fn").arg(&image).output().context("cannot run e2fsck")?;
    if !check.status.success() {
        bail!("e2fsck: {}", String::from_utf8_lossy(&check.stdout));
    }
    let read = Command::new("debugfs").args(["-R", "cat /root/answer"]).arg(&image).output()?;
    if read.stdout != b"42\n" {
        bail!("what the guest wrote is not on the disk: {:?}", String::from_utf8_lossy(&read.stdout));
    }
    std::fs::remove_file(&image)?;
    Ok(())
}
