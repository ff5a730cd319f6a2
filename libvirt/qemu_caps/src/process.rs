//! An emulator that runs to be asked.

use crate::probe::{Error, Settings};
use qmp::{Monitor, Options};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the binary may take to be ready, and to answer one command.
const LIMIT: Duration = Duration::from_secs(30);

/// The directory of one run; goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(settings: &Settings) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let failed = |error: std::io::Error| Error::Directory(settings.directory.clone(), error.to_string());
        std::fs::create_dir_all(&settings.directory).map_err(failed)?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = settings.directory.join(format!("qmp-{:x}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    if let Some((user, group)) = settings.owner {
                        lchown(&path, Some(user), Some(group)).map_err(failed)?;
                    }
                    return Ok(Self(path));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running emulator without a guest; dropping it ends it.
pub(crate) struct Process {
    pub(crate) monitor: Monitor,
    pidfd: OwnedFd,
    _directory: Directory,
}

impl Process {
    /// Runs `binary` with these accelerators (`kvm:tcg`).
    pub(crate) fn start(binary: &Path, accel: &str, settings: &Settings) -> Result<Self, Error> {
        let directory = Directory::new(settings)?;
        let (socket, pid_file) = (directory.0.join("qmp.monitor"), directory.0.join("qmp.pid"));
        let mut command = Command::new(binary);
        command
            .args(["-S", "-no-user-config", "-nodefaults", "-nographic"])
            .args(["-machine", &format!("none,accel={accel}")])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())])
            .arg("-pidfile")
            .arg(&pid_file)
            .arg("-daemonize")
            .env_clear()
            .env("LC_ALL", "C")
            .env("HOME", &directory.0)
            .env("XDG_CACHE_HOME", directory.0.join(".cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some((user, group)) = settings.owner {
            command.uid(user).gid(group);
        }
        let log = directory.0.join("stderr");
        let file = std::fs::File::create(&log)
            .map_err(|error| Error::Directory(directory.0.clone(), error.to_string()))?;
        command.stderr(file);
        let failed = |text: String| Error::Run(binary.to_owned(), text);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Error::NotExecutable(binary.to_owned()),
            _ => failed(error.to_string()),
        })?;
        let deadline = Instant::now() + LIMIT;
        // The binary is in the background once it is ready.
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(failed("it does not get ready".to_owned()));
                }
            }
        };
        if !status.success() {
            let bytes = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).trim_end().to_owned();
            return Err(failed(text));
        }
        let text = std::fs::read_to_string(&pid_file).map_err(|error| failed(error.to_string()))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed("no process id".to_owned()))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.to_string()))?;
        let options = Options { connect: LIMIT, command: LIMIT };
        match Monitor::connect(&socket, options, |_| ()) {
            Ok(monitor) => Ok(Self { monitor, pidfd, _directory: directory }),
            Err(error) => {
                end(&pidfd);
                Err(error.into())
            }
        }
    }
}

impl Drop for Process {
    /// It has no guest and no file: nothing is lost when it is killed, and nobody need wait for its end.
    fn drop(&mut self) {
        end(&self.pidfd);
    }
}

/// Ends what a daemon was asking that was killed meanwhile, in the `directory` of [`Settings`]: no other may use it.
pub fn end_left_over(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for left in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("qmp-")) {
        let socket = format!("unix:{}/", left.path().display());
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(number) = process.file_name().to_string_lossy().parse() else { continue };
            let Some(pid) = Pid::from_raw(number) else { continue };
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // Looked at when the descriptor is there, so that it is this process and no later one.
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if line.split(|byte| *byte == 0).any(|word| word.starts_with(socket.as_bytes())) {
                end(&pidfd);
            }
        }
        let _ = std::fs::remove_dir_all(left.path());
    }
}

fn end(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}
