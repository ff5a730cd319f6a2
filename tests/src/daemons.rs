//! libvirt's daemon and ours with guests, each alone in namespaces for mounts, processes and the network: both use the
//! standard paths and the same names of network devices, and what they started ends with them.

use crate::virtqemud::PREPARE;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A user's program on a daemon's machine may take so long.
const COMMAND_SECONDS: &str = "30";
/// A daemon under load of other tests may take so long to listen.
const START: Duration = Duration::from_secs(60);

/// What a daemon is started with: its directories are empty and in memory, its guests run as root and unconfined, and
/// their logs are files of its own.
const SCENE: &str = r#"
# The original's driver for QEMU alone: the others are daemons of their own where ours is used.
for drivers in /usr/lib/*/libvirt/connection-driver; do
  [ -e "$drivers/libvirt_driver_qemu.so" ] || continue
  cp "$drivers/libvirt_driver_qemu.so" /run/libvirt/
  mount -t tmpfs none "$drivers"
  mv /run/libvirt/libvirt_driver_qemu.so "$drivers/"
done
cat >/etc/libvirt/daemon.conf <<'END'
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "01234567-89ab-4def-8123-456789abcdef"
END
cd $FOLDER
# One daemon after the other. What they leave behind is this shell's.
mkfifo /run/next
set +e
while :; do
  read -r program </run/next && "$program" -f /etc/libvirt/daemon.conf -p /run/daemon.pid
done
"#;
/// What comes before: `/run` is the daemon's own as well, with a folder for its user's files.
const RUN: &str = "ip link set lo up && mount --make-rprivate / && mount -t tmpfs -o mode=755 none /run && mkdir -p /run/lock /run/scene";

/// One daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    scene: Child,
    socket: PathBuf,
    uri: String,
    admin: String,
}

/// The programs that the scene is made with, or what is missing.
///
/// # Errors
///
/// Names the missing program or privilege.
pub fn requirements() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("a mount namespace needs root".into());
    }
    for program in ["unshare", "nsenter", "ip", "virsh", "virt-admin", "qemu-system-x86_64"] {
        find(program)?;
    }
    let tried = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "true"])
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        return Err("no mount, network and process namespaces here".into());
    }
    Ok(())
}

/// libvirt's own daemon.
///
/// # Errors
///
/// The machine lacks it.
pub fn original() -> Result<PathBuf, String> {
    find("libvirtd")
}

fn find(program: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the machine has no {program} program"))
}

impl Daemon {
    /// Makes a scene, starts `program` in it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// The scene cannot be made, or the daemon does not answer; its messages are in `log`.
    pub fn start(program: &Path, log: &Path) -> io::Result<Self> {
        let mut daemon = Self::prepare(log)?;
        daemon.follow(program)?;
        Ok(daemon)
    }

    /// Makes a scene without a daemon.
    ///
    /// # Errors
    ///
    /// The scene cannot be made.
    pub fn prepare(log: &Path) -> io::Result<Self> {
        let log = std::fs::File::create(log)?;
        let scene = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
            .arg(format!("{RUN}\n{PREPARE}\n{SCENE}"))
            .env("FOLDER", "/run/scene")
            // It would be handed on to guests, and shown.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let daemon = Self { scene, socket: PathBuf::new(), uri: String::new(), admin: String::new() };
        let begin = Instant::now();
        while !daemon.inside("/run/next").exists() {
            if begin.elapsed() > START {
                return Err(io::Error::other("the scene cannot be made"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// A path on the daemon's machine, as seen from outside.
    fn inside(&self, path: &str) -> PathBuf {
        // The first process of the scene is in its mount namespace too.
        format!("/proc/{}/root{path}", self.scene.id()).into()
    }

    /// Starts `program` on what the daemon before it, which has ended or is about to, has left.
    ///
    /// # Errors
    ///
    /// The scene has ended.
    pub fn launch(&mut self, program: &Path) -> io::Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let prefix = if name == "libvirtd" { "libvirt" } else { "virtqemud" };
        self.uri = format!("qemu+unix:///system?socket=/run/libvirt/{prefix}-sock");
        self.admin = format!("{name}+unix:///system?socket=/run/libvirt/{prefix}-admin-sock");
        self.socket = self.inside(&format!("/run/libvirt/{prefix}-sock"));
        std::fs::write(self.inside("/run/next"), format!("{}\n", program.display()))
    }

    /// The read-write socket, as seen from outside.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// As [`Self::launch`], and waits until the daemon answers.
    ///
    /// # Errors
    ///
    /// The daemon does not answer.
    pub fn follow(&mut self, program: &Path) -> io::Result<()> {
        self.launch(program)?;
        let begin = Instant::now();
        while !self.virsh("version")?.status.success() {
            if begin.elapsed() > START {
                return Err(io::Error::other(format!("{} does not answer", program.display())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Sends the daemon a signal that ends it, and waits until it has.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn end(&self, signal: &str) -> io::Result<()> {
        let line = format!(
            "pid=$(cat /run/daemon.pid) && kill -{signal} $pid && while [ -e /proc/$pid ]; do sleep 0.02; done"
        );
        let target = format!("--target={}", self.scene.id());
        // What was started here is outside of the namespace for processes that it made.
        let processes = format!("--pid=/proc/{}/ns/pid_for_children", self.scene.id());
        let words = [&target, "--mount", &processes, "timeout", COMMAND_SECONDS, "sh", "-c", &line];
        match Command::new("nsenter").args(words).stdin(Stdio::null()).output()? {
            ended if ended.status.success() => Ok(()),
            ended => Err(io::Error::other(String::from_utf8_lossy(&ended.stderr))),
        }
    }

    /// Runs a line of shell on the daemon's machine, in a folder that only this daemon sees.
    ///
    /// # Errors
    ///
    /// The shell cannot be started.
    pub fn shell(&self, line: &str) -> io::Result<Output> {
        Command::new("nsenter")
            .arg(format!("--target={}", self.scene.id()))
            .args([
                "--mount",
                "--net",
                "timeout",
                COMMAND_SECONDS,
                "sh",
                "-c",
                &format!("cd /run/scene && {line}"),
            ])
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/run/scene")
            .env("LIBVIRT_DEFAULT_URI", &self.uri)
            .env("LIBVIRT_ADMIN_DEFAULT_URI", &self.admin)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .output()
    }

    /// Runs `virsh` with these words.
    ///
    /// # Errors
    ///
    /// As [`Self::shell`].
    pub fn virsh(&self, words: &str) -> io::Result<Output> {
        self.shell(&format!("virsh {words}"))
    }

    /// Copies a file to the folder that this daemon sees.
    ///
    /// # Errors
    ///
    /// The file cannot be copied.
    pub fn put(&self, file: &Path) -> io::Result<()> {
        let output = self.shell(&format!("cp '{}' .", file.display()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stderr)))
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // With the scene's first process everything in it ends.
        let _ = self.scene.kill();
        let _ = self.scene.wait();
    }
}
