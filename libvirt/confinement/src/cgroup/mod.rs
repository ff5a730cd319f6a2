//! Control groups, version 2: where a guest's processes are, and what they may use of the host.
//!
//! With machined a guest's processes are in `SLICE/machine-NAME.scope/libvirt`, without it in
//! `PARTITION/NAME.libvirt-qemu`; below are `emulator`, `vcpuN` and `iothreadN`, which hold threads. A host that has
//! control groups of version 1 only has none for us: guests start, and whatever would need one is refused, as where
//! there are none at all.

mod devices;
mod tune;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::systemd::{Machine, Systemd, scope_name};
use crate::{Error, Result};

pub use devices::{Access, Device};
pub use tune::{BlockLimit, MEMORY_UNLIMITED, MemoryUse, QUOTA_UNLIMITED, missing};

/// A set of controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controllers(u8);

impl Controllers {
    /// None.
    pub const NONE: Self = Self(0);
    /// Shares of the processors' time.
    pub const CPU: Self = Self(1);
    /// Accounting of it; version 2 always has it.
    pub const CPUACCT: Self = Self(2);
    /// Which processors and memory nodes.
    pub const CPUSET: Self = Self(4);
    /// Memory.
    pub const MEMORY: Self = Self(8);
    /// Which devices; by a program, where the kernel has that.
    pub const DEVICES: Self = Self(16);
    /// Block devices' throughput.
    pub const BLKIO: Self = Self(32);
    /// All.
    pub const ALL: Self = Self(63);

    /// The names in `cgroup_controllers` of qemu.conf, with the kernel's of version 2, empty where it has no file.
    const NAMES: [(&'static str, &'static str, Self); 6] = [
        ("cpu", "cpu", Self::CPU),
        ("cpuacct", "", Self::CPUACCT),
        ("cpuset", "cpuset", Self::CPUSET),
        ("memory", "memory", Self::MEMORY),
        ("devices", "", Self::DEVICES),
        ("blkio", "io", Self::BLKIO),
    ];

    /// The controller of this name in qemu.conf.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, ..)| *known == name).map(|(.., controller)| *controller)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` are here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in a line of the kernel's.
    fn of_line(line: &str) -> Self {
        let known =
            |word: &str| Self::NAMES.iter().find(|(_, kernel, _)| !kernel.is_empty() && *kernel == word);
        line.split_whitespace().filter_map(known).fold(Self::NONE, |all, (.., one)| all.with(*one))
    }
}

/// A group of threads of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// All that are no others'.
    Emulator,
    /// One virtual processor's.
    Vcpu(u32),
    /// One I/O thread.
    IoThread(u32),
}

impl std::fmt::Display for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Emulator => f.write_str("emulator"),
            Self::Vcpu(number) => write!(f, "vcpu{number}"),
            Self::IoThread(number) => write!(f, "iothread{number}"),
        }
    }
}

/// Where the host has its control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
}

impl Hierarchy {
    /// The host's; `None`: it has none of version 2 that control anything.
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mut places = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        places.find_map(|mount| {
            // Beside version 1, systemd has one of version 2 that only counts processes.
            let text = std::fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
            (!text.trim().is_empty()).then_some(Self { mount })
        })
    }

    /// Those controllers that guests' groups can have, of `wanted`.
    #[must_use]
    pub fn available(&self, wanted: Controllers) -> Controllers {
        self.controllers(&self.mount, wanted)
    }

    /// A group at `place`, an absolute path within the hierarchy; whether it exists is not looked at.
    fn group(&self, place: &str) -> PathBuf {
        self.mount.join(place.trim_start_matches('/'))
    }

    /// Those controllers that the group of a folder has, of `wanted`.
    fn controllers(&self, folder: &Path, wanted: Controllers) -> Controllers {
        let line = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        let mut found = Controllers::of_line(&line).with(Controllers::CPUACCT);
        if devices::available(&self.mount) {
            found = found.with(Controllers::DEVICES);
        }
        found.common(wanted)
    }

    /// The place of a process.
    fn place_of(pid: i32) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }
}

/// What a guest's group is to be.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// The guest as machined knows it; its leader is put into the group.
    pub machine: Machine<'a>,
    /// The controllers that are used where the host has them (`cgroup_controllers`).
    pub controllers: Controllers,
}

/// One group: a folder, with what can be tuned there.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    controllers: Controllers,
    /// The unit that systemd knows it as, through which some values are set, lest systemd sets them back.
    unit: Option<String>,
}

/// A guest's control group.
#[derive(Debug)]
pub struct Cgroup {
    /// The scope, or the group that we made: its limits hold for the guest as a whole.
    group: Group,
    /// Where the processes are: `libvirt` within a scope, else the same.
    inner: Group,
    filter: Mutex<Option<devices::Filter>>,
    systemd: Systemd,
    machine: String,
}

/// A step of making a group that failed.
struct Failed {
    text: String,
    error: io::Error,
}

impl Failed {
    /// Those that mean "not here": the group cannot be had, and the guest starts without.
    fn is_absence(&self) -> bool {
        matches!(self.error.raw_os_error(), Some(libc::ENXIO | libc::EPERM | libc::EACCES | libc::EROFS))
    }
}

fn failed(text: impl Into<String>) -> impl FnOnce(io::Error) -> Failed {
    let text = text.into();
    move |error| Failed { text, error }
}

/// Writes a value without making the file.
pub(crate) fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// A name that cannot be taken for one of the kernel's files: those begin with `cgroup.` or a controller's name.
fn escape(name: &str) -> String {
    let kernels = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let controller = |line: &str| {
        line.split_whitespace()
            .next()
            .is_some_and(|word| name.strip_prefix(word).is_some_and(|r| r.starts_with('.')))
    };
    let taken =
        name.starts_with("cgroup.") || name.starts_with(['_', '.']) || kernels.lines().any(controller);
    if taken { format!("_{name}") } else { name.to_owned() }
}

/// The place of a partition: each part but a first of `machine`, `system` or `user` has a suffix.
fn partition_place(partition: &str) -> String {
    let parts = partition.split('/').filter(|part| !part.is_empty()).enumerate().map(|(at, part)| {
        let fixed = at == 0 && matches!(part, "machine" | "system" | "user");
        if fixed {
            return part.to_owned();
        }
        escape(&if part.contains('.') { part.to_owned() } else { format!("{part}.partition") })
    });
    parts.fold(String::new(), |place, part| place + "/" + &part)
}

impl Group {
    /// Makes a group below `parent`, and lets it have what the parent has. `process` is moved there first: a group
    /// that has processes of its own cannot give controllers to groups below.
    fn make(parent: &Self, name: &str, create: bool, process: Option<i32>) -> Result<Self, Failed> {
        let folder = parent.folder.join(name);
        let shown = folder.display().to_string();
        let text = format!("Failed to create v2 cgroup '{shown}/'");
        if !folder.exists() {
            let made = if create {
                std::fs::DirBuilder::new().mode(0o755).create(&folder)
            } else {
                Err(io::Error::from_raw_os_error(libc::ENOENT))
            };
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(text)(error));
                }
                _ => {}
            }
        }
        let mut group = Self { folder, controllers: parent.controllers, unit: None };
        if let Some(pid) = process {
            group.add(pid, "cgroup.procs")?;
        }
        for (_, kernel, controller) in Controllers::NAMES {
            let passed = kernel.is_empty() || parent.enable(kernel).is_ok();
            if group.controllers.has(controller) && !passed {
                group.controllers = Controllers(group.controllers.0 & !controller.0);
            }
        }
        Ok(group)
    }

    fn enable(&self, controller: &str) -> io::Result<()> {
        write(&self.folder.join("cgroup.subtree_control"), &format!("+{controller}"))
    }

    fn add(&self, id: i32, file: &str) -> Result<(), Failed> {
        let path = self.folder.join(file);
        write(&path, &id.to_string()).map_err(failed(format!("Unable to write to '{}'", path.display())))
    }

    /// The controllers that can be used here.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// The folder in the kernel's file system.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves a thread of the guest here.
    ///
    /// # Errors
    /// `Unable to write to '...': ...`
    pub fn add_thread(&self, thread: i32) -> Result<()> {
        self.add(thread, "cgroup.threads").map_err(|Failed { text, error }| Error::system(text, error))
    }

    /// Removes an empty group, such as that of a processor that was unplugged.
    ///
    /// # Errors
    /// `Unable to remove ...`: it is not empty.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("Unable to remove {}", self.folder.display()), error))
            }
            _ => Ok(()),
        }
    }
}

/// Removes a group and those below it; what still has processes stays.
fn remove_tree(folder: &Path) {
    if let Ok(entries) = std::fs::read_dir(folder) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
    }
    let _ = std::fs::remove_dir(folder);
}

impl Cgroup {
    /// Makes the group of a guest and puts its leader there: through machined where that is, else directly.
    ///
    /// `None`: the host has no control groups of version 2, or they cannot be written; the guest runs without.
    ///
    /// # Errors
    /// `unsupported configuration: Resource partition 'P' must start with '/'`; `error from service: ...` when
    /// machined refuses; `Failed to create v2 cgroup '...': ...`, such as for a partition that does not exist.
    pub fn make(hierarchy: Option<&Hierarchy>, guest: &Guest<'_>, systemd: Systemd) -> Result<Option<Self>> {
        let partition = guest.machine.partition;
        if !partition.starts_with('/') {
            return Err(Error::unsupported(format!("Resource partition '{partition}' must start with '/'")));
        }
        let Some(hierarchy) = hierarchy else { return Ok(None) };
        let made = if systemd.create_machine(&guest.machine)? {
            Self::within_scope(hierarchy, guest, systemd)
        } else {
            Self::directly(hierarchy, guest, systemd)
        };
        match made {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(failed) if failed.is_absence() => Ok(None),
            Err(Failed { text, error }) => Err(Error::system(text, error)),
        }
    }

    fn root(hierarchy: &Hierarchy, wanted: Controllers) -> Group {
        let controllers = hierarchy.controllers(&hierarchy.mount, wanted);
        Group { folder: hierarchy.mount.clone(), controllers, unit: None }
    }

    fn within_scope(hierarchy: &Hierarchy, guest: &Guest<'_>, systemd: Systemd) -> Result<Self, Failed> {
        let leader = guest.machine.leader.cast_signed();
        let place = Hierarchy::place_of(leader).unwrap_or_default();
        let unit = scope_name(guest.machine.name);
        if !place.ends_with(&format!("/{unit}")) {
            let text = format!("systemd has put process {leader} into '{place}'");
            return Err(failed(text)(io::Error::from_raw_os_error(libc::ENXIO)));
        }
        // All above the scope is systemd's own business.
        let folder = hierarchy.group(&place);
        let controllers = hierarchy.controllers(&folder, guest.controllers);
        let group = Group { folder, controllers, unit: Some(unit) };
        let inner = Group::make(&group, "libvirt", true, Some(leader))?;
        Ok(Self::new(group, inner, guest, systemd))
    }

    fn directly(hierarchy: &Hierarchy, guest: &Guest<'_>, systemd: Systemd) -> Result<Self, Failed> {
        let leader = guest.machine.leader.cast_signed();
        let mut group = Self::root(hierarchy, guest.controllers);
        // Only the standard one is made; others are the administrator's.
        let create = guest.machine.partition == "/machine";
        for part in partition_place(guest.machine.partition).split('/').filter(|part| !part.is_empty()) {
            group = Group::make(&group, part, create, None)?;
        }
        let name = escape(&format!("{}.libvirt-qemu", guest.machine.name));
        let group = Group::make(&group, &name, true, None)?;
        if let Err(error) = group.add(leader, "cgroup.procs") {
            remove_tree(&group.folder);
            return Err(error);
        }
        let inner = Group { folder: group.folder.clone(), controllers: group.controllers, unit: None };
        Ok(Self::new(group, inner, guest, systemd))
    }

    fn new(group: Group, inner: Group, guest: &Guest<'_>, systemd: Systemd) -> Self {
        let machine = guest.machine.name.to_owned();
        Self { group, inner, filter: Mutex::new(None), systemd, machine }
    }

    /// Finds the group of a guest that runs already: made by an earlier daemon, ours or libvirt's. `None`: its
    /// process is in none that has the guest's name.
    #[must_use]
    pub fn of_running(
        hierarchy: Option<&Hierarchy>,
        pid: i32,
        machine: &str,
        wanted: Controllers,
        systemd: Systemd,
    ) -> Option<Self> {
        let hierarchy = hierarchy?;
        let place = Hierarchy::place_of(pid)?;
        // The process's own thread is in `emulator`, when that was made.
        let place = place.split("/emulator").next()?;
        let place = place.strip_suffix("/libvirt").unwrap_or(place);
        let name = place.rsplit('/').next()?;
        let (scope, direct) = (scope_name(machine), escape(&format!("{machine}.libvirt-qemu")));
        if name != escape(&scope) && name != direct {
            return None;
        }
        let unit = (name != direct).then_some(scope);
        let folder = hierarchy.group(place);
        let controllers = hierarchy.controllers(&folder, wanted);
        let inner = folder.join("libvirt");
        let inner = if inner.exists() { inner } else { folder.clone() };
        let inner = Group { controllers: hierarchy.controllers(&inner, wanted), folder: inner, unit: None };
        Some(Self {
            group: Group { folder, controllers, unit },
            inner,
            filter: Mutex::new(None),
            systemd,
            machine: machine.to_owned(),
        })
    }

    /// Removes what is left of a guest's group when nobody knows more of it than its names, such as after the host's
    /// emulator and daemon ended together.
    pub fn forget(hierarchy: Option<&Hierarchy>, partition: &str, machine: &str, systemd: &Systemd) {
        // A host without machined has none to end.
        let _ = systemd.terminate_machine(machine);
        if let Some(hierarchy) = hierarchy {
            let place = partition_place(partition);
            remove_tree(&hierarchy.group(&place).join(escape(&format!("{machine}.libvirt-qemu"))));
        }
    }

    /// The controllers that can be used.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.group.controllers
    }

    /// The guest as a whole, to be tuned.
    #[must_use]
    pub fn whole(&self) -> &Group {
        &self.group
    }

    /// The group of some threads, made if it is not there.
    ///
    /// # Errors
    /// `Failed to create v2 cgroup '...': ...`, `Unable to write to '...': ...`.
    pub fn thread(&self, thread: Thread) -> Result<Group> {
        let place = self.inner.folder.join(thread.to_string());
        let make = || -> Result<(), Failed> {
            let text = format!("Failed to create v2 cgroup '{}/'", place.display());
            match std::fs::DirBuilder::new().mode(0o755).create(&place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                other => other.map_err(failed(text))?,
            }
            let kind = place.join("cgroup.type");
            write(&kind, "threaded").map_err(failed(format!("Unable to write to '{}'", kind.display())))?;
            for (controller, name) in [(Controllers::CPU, "cpu"), (Controllers::CPUSET, "cpuset")] {
                if self.inner.controllers.has(controller) {
                    let path = self.inner.folder.join("cgroup.subtree_control");
                    let text = format!("Failed to enable controller '+{name}' for '{}'", path.display());
                    self.inner.enable(name).map_err(failed(text))?;
                }
            }
            Ok(())
        };
        make().map_err(|Failed { text, error }| Error::system(text, error))?;
        let threaded = Controllers::CPU.with(Controllers::CPUACCT).with(Controllers::CPUSET);
        let controllers = self.inner.controllers.common(threaded);
        Ok(Group { folder: place, controllers, unit: None })
    }

    /// Moves a process that works for the guest, with all its threads, to where the emulator is.
    ///
    /// # Errors
    /// `Unable to write to '...': ...`
    pub fn add_process(&self, pid: i32) -> Result<()> {
        self.inner.add(pid, "cgroup.procs").map_err(|Failed { text, error }| Error::system(text, error))
    }

    /// Removes what is left of the guest's group.
    pub fn remove(&self) {
        // machined may be gone by now, or have seen the end of the guest itself.
        let _ = self.systemd.terminate_machine(&self.machine);
        remove_tree(&self.group.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names() {
        assert_eq!(partition_place("/machine"), "/machine");
        assert_eq!(partition_place("/machine/production"), "/machine/production.partition");
        assert_eq!(partition_place("/virt.guests/a"), "/virt.guests/a.partition");
        assert_eq!(partition_place("/"), "");
        assert_eq!(escape("cgroup.x"), "_cgroup.x");
        assert_eq!(escape("_x"), "__x");
        assert_eq!(escape("qemu-1-demo.libvirt-qemu"), "qemu-1-demo.libvirt-qemu");
        if std::fs::read_to_string("/proc/cgroups").is_ok_and(|text| text.contains("\nmemory\t")) {
            assert_eq!(escape("memory.slice"), "_memory.slice");
        }
    }

    #[test]
    fn sets_of_controllers() {
        let some = Controllers::of_line("cpuset cpu io hugetlb\n");
        assert_eq!(some, Controllers::CPUSET.with(Controllers::CPU).with(Controllers::BLKIO));
        assert!(some.has(Controllers::CPU) && !some.has(Controllers::CPU.with(Controllers::MEMORY)));
        assert_eq!(Controllers::named("blkio"), Some(Controllers::BLKIO));
        assert_eq!(Controllers::named("io"), None);
        assert_eq!(Controllers::of_line(" "), Controllers::NONE);
    }
}
