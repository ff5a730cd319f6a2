//! A raw disk whose one ext4 file system holds a whole Debian system: systemd, a login on the serial port.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Made;
use super::apt::{self, Apt};
use blackbox::guests::ROOT_PASSWORD;

/// The size of the disk. The file is sparse: it takes what the system takes.
const SIZE: &str = "1G";

/// Fills `folder` with `debian.raw`. Needs root, because a Debian system's packages are set up inside of it.
pub fn build(apt: &Apt, folder: &Path) -> Result<Made> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Ok(Made::Nothing("making the Debian disk needs root".to_owned()));
    }
    let package = apt.find("debootstrap", "amd64", false)?.context("the release has no debootstrap")?;
    let tools = folder.join("tools");
    apt::unpack(&apt.download(&package)?, &tools, &[])?;
    let root = folder.join("root");
    let (archive, keyring) = apt.archive();
    let mut command = Command::new(tools.join("usr/sbin/debootstrap"));
    command
        .env("DEBOOTSTRAP_DIR", tools.join("usr/share/debootstrap"))
        .args(["--variant=minbase", "--include=systemd-sysv,udev,e2fsprogs,login,util-linux"]);
    if let Some(keyring) = keyring {
        command.arg(format!("--keyring={keyring}"));
    }
    run(command.arg(&apt.codename).arg(&root).arg(archive))?;
    configure(&root)?;
    let image = folder.join("debian.raw");
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "root", "-d"])
        .arg(&root)
        .arg(&image)
        .arg(SIZE))?;
    std::fs::remove_dir_all(&root)?;
    std::fs::remove_dir_all(&tools)?;
    Ok(Made::Folder)
}

fn configure(root: &Path) -> Result<()> {
    std::fs::write(root.join("etc/fstab"), "/dev/vda / ext4 errors=remount-ro 0 1\n")?;
    std::fs::write(root.join("etc/hostname"), "guest\n")?;
    for leftover in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        let _ = std::fs::remove_dir_all(root.join(leftover));
    }
    let mut child = Command::new("chroot")
        .arg(root)
        .arg("chpasswd")
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run chroot")?;
    let line = format!("root:{ROOT_PASSWORD}\n");
    std::io::Write::write_all(&mut child.stdin.take().context("a pipe")?, line.as_bytes())?;
    if !child.wait()?.success() {
        bail!("cannot set the guest's root password");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{program} failed: {last}\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(text)
}
