//! Where the daemon's own files are.

use std::path::{Path, PathBuf};

/// The daemon's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// This is the system's daemon.
    pub privileged: bool,
    /// Its configuration (`/etc/libvirt`).
    pub config: PathBuf,
    /// Its sockets and those of the other daemons (`/run/libvirt`).
    pub run: PathBuf,
    /// Its PID file.
    pub pid_file: PathBuf,
    /// Its log, when it goes to a file by default.
    pub log_file: PathBuf,
}

impl Paths {
    /// Those of the user who runs this process.
    pub fn of_process() -> Self {
        if rustix::process::geteuid().is_root() {
            return Self {
                privileged: true,
                config: "/etc/libvirt".into(),
                run: "/run/libvirt".into(),
                pid_file: "/run/virtqemud.pid".into(),
                log_file: "/var/log/libvirt/virtqemud.log".into(),
            };
        }
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from)
        };
        let home = variable("HOME").unwrap_or_else(|| "/".into());
        let cache = variable("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let run = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| cache.clone()).join("libvirt");
        Self {
            privileged: false,
            config: config.join("libvirt"),
            pid_file: run.join("virtqemud.pid"),
            run,
            log_file: cache.join("libvirt/virtqemud.log"),
        }
    }
}
