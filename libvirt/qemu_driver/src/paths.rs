//! Where the driver keeps its files: libvirt's places, so that either daemon finds what the other one left.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The directories of a system or session daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Whether this is the system's daemon.
    pub privileged: bool,
    /// Persistent definitions.
    pub config: PathBuf,
    /// Status of what runs, PID files.
    pub state: PathBuf,
    /// One directory a guest, and temporary ones.
    pub lib: PathBuf,
    /// Managed saves, snapshots and the like stand below this.
    pub data: PathBuf,
    /// Capabilities of emulators.
    pub cache: PathBuf,
    /// What emulators say.
    pub log: PathBuf,
    /// The directory of all drivers (`/run/libvirt`).
    pub run: PathBuf,
    /// The state of emulated security modules.
    pub tpm: PathBuf,
    /// What the programs that emulate them say.
    pub tpm_log: PathBuf,
    /// The administrator's scripts: the system's, of users' daemons too.
    pub hooks: PathBuf,
    /// Descriptions of firmware, the most important directory first.
    pub firmware: Vec<PathBuf>,
}

/// Where a host's administrator and its packages put descriptions of firmware.
fn firmware(root: &Path) -> [PathBuf; 2] {
    ["etc/qemu/firmware", "usr/share/qemu/firmware"].map(|path| root.join(path))
}

impl Paths {
    /// The system's, below `root` (`/`).
    pub fn system(root: &Path) -> Self {
        Self {
            privileged: true,
            config: root.join("etc/libvirt/qemu"),
            state: root.join("run/libvirt/qemu"),
            lib: root.join("var/lib/libvirt/qemu"),
            data: root.join("var/lib/libvirt/qemu"),
            cache: root.join("var/cache/libvirt/qemu"),
            log: root.join("var/log/libvirt/qemu"),
            run: root.join("run/libvirt"),
            tpm: root.join("var/lib/libvirt/swtpm"),
            tpm_log: root.join("var/log/swtpm/libvirt/qemu"),
            hooks: root.join("etc/libvirt/hooks"),
            firmware: firmware(root).into(),
        }
    }

    /// A user's: his configuration, run and cache directories.
    pub fn session(config: &Path, run: &Path, cache: &Path) -> Self {
        let qemu = config.join("libvirt/qemu");
        Self {
            privileged: false,
            state: run.join("libvirt/qemu/run"),
            lib: qemu.join("lib"),
            tpm: qemu.join("swtpm"),
            tpm_log: cache.join("libvirt/qemu/log"),
            data: qemu.clone(),
            config: qemu,
            cache: cache.join("libvirt/qemu/cache"),
            log: cache.join("libvirt/qemu/log"),
            run: run.join("libvirt"),
            hooks: "/etc/libvirt/hooks".into(),
            firmware: std::iter::once(config.join("qemu/firmware")).chain(firmware(Path::new("/"))).collect(),
        }
    }

    /// Those of the user who runs this process, by his environment.
    pub fn of_process() -> Self {
        if rustix::process::geteuid().is_root() {
            return Self::system(Path::new("/"));
        }
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let of = |name: &str, otherwise: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map_or_else(|| home.join(otherwise), PathBuf::from)
        };
        let cache = of("XDG_CACHE_HOME", ".cache");
        let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
        let run = run.map_or_else(|| cache.clone(), PathBuf::from);
        Self::session(&of("XDG_CONFIG_HOME", ".config"), &run, &cache)
    }

    /// A persistent definition.
    pub fn definition(&self, name: &str) -> PathBuf {
        self.config.join(format!("{name}.xml"))
    }

    /// The links to the definitions of what is started with the host.
    pub fn autostart(&self) -> PathBuf {
        self.config.join("autostart")
    }

    /// The link of one domain.
    pub fn autostart_link(&self, name: &str) -> PathBuf {
        self.autostart().join(format!("{name}.xml"))
    }

    /// The status of a running guest.
    pub fn status(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.xml"))
    }

    /// The process id of a running guest.
    pub fn pid_file(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.pid"))
    }

    /// The mark that the domains of [`Paths::autostart`] were started since the host was.
    pub fn autostarted(&self) -> PathBuf {
        self.state.join("autostarted")
    }

    /// The lock of the one daemon that uses these files.
    pub fn driver_lock(&self) -> PathBuf {
        self.state.join("driver.pid")
    }

    /// A running guest's own directory.
    pub fn guest(&self, id: i32, name: &str) -> PathBuf {
        self.lib.join(format!("domain-{id}-{}", short(name)))
    }

    /// Where a running guest's channels have their sockets.
    pub fn channels(&self, id: i32, name: &str) -> PathBuf {
        self.data.join("channel/target").join(format!("domain-{id}-{}", short(name)))
    }

    /// A dump that nobody asked for, of that moment.
    pub fn auto_dump(&self, id: i32, name: &str, moment: &str) -> PathBuf {
        self.data.join("dump").join(format!("{id}-{}-{moment}", short(name)))
    }

    /// The directory of the sockets of emulated security modules.
    pub fn tpm_sockets(&self) -> PathBuf {
        self.state.join("swtpm")
    }

    /// The socket of a running guest's emulated security module.
    pub fn tpm_socket(&self, id: i32, name: &str) -> PathBuf {
        self.tpm_sockets().join(format!("{id}-{}-swtpm.sock", short(name)))
    }

    /// A managed save.
    pub fn managed_save(&self, name: &str) -> PathBuf {
        self.data.join("save").join(format!("{name}.save"))
    }

    /// The log of a domain's emulator.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.log.join(format!("{name}.log"))
    }

    /// Makes all directories, with libvirt's modes. Those in which emulators have files belong to their user `owner`.
    ///
    /// # Errors
    /// One cannot be made or given away: its path, and why.
    pub fn create(&self, owner: Option<(u32, u32)>) -> Result<(), (PathBuf, std::io::Error)> {
        let run = if self.privileged { 0o755 } else { 0o700 };
        let all = [
            (self.run.clone(), run),
            (self.state.clone(), run),
            (self.state.join("dbus"), 0o770),
            (self.state.join("slirp"), 0o755),
            (self.state.join("passt"), 0o755),
            (self.config.clone(), 0o755),
            (self.autostart(), 0o755),
            (self.lib.clone(), 0o750),
            (self.data.join("channel/target"), 0o750),
            (self.data.join("checkpoint"), 0o755),
            (self.data.join("dump"), 0o755),
            (self.data.join("nvram"), 0o755),
            (self.data.join("ram"), 0o755),
            (self.data.join("save"), 0o755),
            (self.data.join("snapshot"), 0o755),
            (self.cache.join("capabilities"), 0o755),
            (self.log.clone(), 0o755),
        ];
        for (path, mode) in all {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .map_err(|error| (path, error))?;
        }
        let Some((user, group)) = owner.filter(|_| self.privileged) else { return Ok(()) };
        let state = ["dbus", "slirp", "passt"].map(|name| self.state.join(name));
        let data = ["channel", "channel/target", "checkpoint", "dump", "nvram", "ram", "save", "snapshot"]
            .map(|name| self.data.join(name));
        for path in std::iter::once(self.lib.clone()).chain(state).chain(data) {
            std::os::unix::fs::lchown(&path, Some(user), Some(group)).map_err(|error| (path, error))?;
        }
        Ok(())
    }
}

/// A name as part of a path that must fit into a socket's address: at most 20 bytes, cut between characters.
fn short(name: &str) -> &str {
    let mut end = name.len().min(20);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_places() {
        let paths = Paths::system(Path::new("/"));
        assert_eq!(paths.definition("a"), Path::new("/etc/libvirt/qemu/a.xml"));
        assert_eq!(paths.autostart_link("a"), Path::new("/etc/libvirt/qemu/autostart/a.xml"));
        assert_eq!(paths.guest(3, "a"), Path::new("/var/lib/libvirt/qemu/domain-3-a"));
        assert_eq!(paths.status("a"), Path::new("/run/libvirt/qemu/a.xml"));
        let paths = Paths::session(Path::new("/h/.config"), Path::new("/run/user/5"), Path::new("/h/.cache"));
        assert_eq!(paths.status("a"), Path::new("/run/user/5/libvirt/qemu/run/a.xml"));
        assert_eq!(paths.guest(1, "x"), Path::new("/h/.config/libvirt/qemu/lib/domain-1-x"));
        assert_eq!(paths.log_file("a"), Path::new("/h/.cache/libvirt/qemu/log/a.log"));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(short("abc"), "abc");
        assert_eq!(short("0123456789012345678901"), "01234567890123456789");
        assert_eq!(short("012345678901234567\u{e9}\u{e9}"), "012345678901234567\u{e9}");
    }
}
