//! A guest's own `/dev`.
//!
//! QEMU runs in a mount namespace whose `/dev` is a small tmpfs with the nodes that the guest needs, copied from the
//! host's with owner, mode, access list and SELinux label. What else is mounted below `/dev` (`pts`, `shm`, `mqueue`,
//! `hugepages`) stays. So a node can be given to one guest without the host's changing.
//!
//! Trees are moved as detached mounts (`open_tree`, Linux 5.2), so that the host sees no mount come and go.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use json::{Dict, Value, dict};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::launch::{Launcher, Reader, enter_mount_namespace, optional};
use crate::{Code, Error, Result};

/// What every guest's `/dev` has unless `cgroup_device_acl` of qemu.conf says otherwise.
pub const DEFAULT_NODES: [&str; 8] = [
    "/dev/null",
    "/dev/full",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/dev/ptmx",
    "/dev/kvm",
    "/dev/userfaultfd",
];

const PREFIX: &str = "/dev/";
/// How many symbolic links may lead to a node; Linux's own limit.
const LINKS: usize = 40;
/// Copied where they exist: the access list of POSIX and SELinux's label.
const ACCESS_LIST: &str = "system.posix_acl_access";
const SELINUX: &str = "security.selinux";

/// The `/dev` to be made for a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateDev {
    /// What it is to hold. Paths elsewhere and missing ones are passed over; symbolic links are followed and copied.
    pub nodes: Vec<String>,
    /// The SELinux context of the file system.
    pub selinux_context: Option<String>,
}

/// Something below the host's `/dev`.
struct Node {
    path: String,
    stat: Stat,
    /// A symbolic link's.
    target: Option<String>,
    /// What is neither link nor device is mounted as it is.
    tree: Option<OwnedFd>,
    attributes: Vec<(&'static str, Vec<u8>)>,
}

/// The places below `/dev` where something is mounted in a process (`self`, or its id), outer ones only, sorted.
fn mounts_below_dev(process: &str) -> Result<(bool, Vec<String>)> {
    let table = format!("/proc/{process}/mounts");
    let text = std::fs::read_to_string(&table)
        .map_err(|error| Error::system(format!("Failed to read {table}"), error))?;
    let places: BTreeSet<String> =
        text.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape).collect();
    let mut outer: Vec<String> = Vec::new();
    for place in places.iter().filter(|place| place.starts_with(PREFIX)) {
        if !outer.iter().any(|outer| is_below(place, outer)) {
            outer.push(place.clone());
        }
    }
    Ok((places.contains("/dev"), outer))
}

fn is_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
}

/// A field of the mount table: space, tab, newline and backslash are octal.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(code.into());
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

fn clone_tree(path: &str) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
        .map_err(|error| Error::system(format!("Unable to move {path} mount"), error))
}

fn attach(tree: &OwnedFd, path: &str) -> Result<()> {
    rustix::mount::move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::system(format!("Unable to move mount to {path}"), error))
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| Error::system(format!("Cannot create {}", path.display()), error))
}

fn touch(path: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        make_folder(folder)?;
    }
    rustix::fs::open(path, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        .map(drop)
        .map_err(|error| Error::system(format!("Cannot create {path}"), error))
}

impl Node {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// What `path` is; `None`: nothing.
    fn look_up(path: &str) -> Result<Option<Self>> {
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::system(format!("Unable to access {path}"), error)),
        };
        let mut node = Self { path: path.to_owned(), stat, target: None, tree: None, attributes: Vec::new() };
        if node.kind() == FileType::Symlink {
            let target = std::fs::read_link(path)
                .map_err(|error| Error::system(format!("failed to resolve symlink {path}"), error))?;
            // An absolute one replaces the folder.
            let target = Path::new(path).parent().unwrap_or(Path::new("/")).join(target);
            node.target = Some(target.display().to_string());
            return Ok(Some(node));
        }
        for name in [ACCESS_LIST, SELINUX] {
            let mut value = vec![0; 4096];
            if let Ok(length) = rustix::fs::lgetxattr(path, name, &mut value[..]) {
                value.truncate(length);
                node.attributes.push((name, value));
            }
        }
        Ok(Some(node))
    }

    /// Makes the same thing in the namespace that the process is in now; whether it was not there before.
    fn create(&self) -> Result<bool> {
        let path = &*self.path;
        let before = rustix::fs::lstat(path).ok();
        if let Some(folder) = Path::new(path).parent() {
            make_folder(folder)?;
        }
        if let Some(target) = &self.target {
            let now = std::fs::read_link(path).ok();
            if now.as_deref() != Some(Path::new(target)) {
                remove(path)
                    .map_err(|error| Error::system(format!("Unable to remove symlink {path}"), error))?;
                rustix::fs::symlinkat(&**target, CWD, path).map_err(|error| {
                    Error::system(format!("Unable to create symlink {path} (pointing to {target})"), error)
                })?;
            }
        } else if self.tree.is_some() {
            // A node of an earlier use may cover what it was mounted on.
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
            if self.kind() == FileType::Directory {
                make_folder(Path::new(path))?;
            } else {
                touch(path)?;
            }
        } else if before.as_ref().is_none_or(|before| {
            FileType::from_raw_mode(before.st_mode) != self.kind() || before.st_rdev != self.stat.st_rdev
        }) {
            let failed = |error| Error::system(format!("Unable to create device {path}"), error);
            remove(path).map_err(failed)?;
            let mode = Mode::from_raw_mode(self.stat.st_mode);
            rustix::fs::mknodat(CWD, path, self.kind(), mode, self.stat.st_rdev)
                .map_err(|error| failed(error.into()))?;
        }
        if let Err(error) = self.dress() {
            if before.is_none() {
                let _ = remove(path);
            }
            return Err(error);
        }
        Ok(before.is_none())
    }

    /// Owner, mode and labels as on the host; then the mount, if it is one.
    fn dress(&self) -> Result<()> {
        let path = &*self.path;
        std::os::unix::fs::lchown(path, Some(self.stat.st_uid), Some(self.stat.st_gid))
            .map_err(|error| Error::system(format!("Failed to chown device {path}"), error))?;
        if self.target.is_some() {
            return Ok(());
        }
        let mode = std::fs::Permissions::from_mode(self.stat.st_mode & 0o7777);
        std::fs::set_permissions(path, mode)
            .map_err(|error| Error::system(format!("Failed to set permissions for device {path}"), error))?;
        for (name, value) in &self.attributes {
            match rustix::fs::lsetxattr(path, *name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => {
                    let what = if *name == SELINUX { "SELinux label" } else { "ACLs" };
                    return Err(Error::system(format!("Unable to set {what} on {path}"), error));
                }
            }
        }
        self.tree.as_ref().map_or(Ok(()), |tree| attach(tree, path))
    }
}

fn remove(path: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What of `paths` is to be made, in an order in which it can be: each link before what it leads to.
fn collect(paths: &[String], mounts: &[String]) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    for path in paths {
        let mut next = path.clone();
        for hop in 0.. {
            if hop > LINKS {
                return Err(Error::system(format!("Too many levels of symbolic links: {next}"), Errno::LOOP));
            }
            let Some(mut node) = Node::look_up(&next)? else { break };
            let target = node.target.clone();
            let wanted = next.starts_with(PREFIX) && !mounts.iter().any(|mount| is_below(&next, mount));
            if wanted && !mounts.contains(&next) && !nodes.iter().any(|node| node.path == next) {
                match node.kind() {
                    FileType::Symlink | FileType::CharacterDevice | FileType::BlockDevice => {}
                    FileType::RegularFile | FileType::Fifo | FileType::Socket | FileType::Directory => {
                        node.tree = Some(clone_tree(&next)?);
                    }
                    FileType::Unknown => {
                        let mode = node.stat.st_mode;
                        let message =
                            format!("Operation not supported: unsupported device type {next} 0{mode:o}");
                        return Err(Error { code: Code::OperationUnsupported, message });
                    }
                }
                nodes.push(node);
            }
            match target {
                Some(target) => next = target,
                None => break,
            }
        }
    }
    Ok(nodes)
}

impl PrivateDev {
    pub(crate) fn to_json(&self) -> Dict {
        dict! {
            "nodes" => self.nodes.clone(),
            "selinux-context" => optional(self.selinux_context.as_deref()),
        }
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let reader = Reader(value);
        Ok(Self { nodes: reader.texts("nodes")?, selinux_context: reader.optional_text("selinux-context")? })
    }

    /// Whether this process could make one: it is root, and the kernel knows mount namespaces.
    #[must_use]
    pub fn is_available() -> bool {
        rustix::process::geteuid().is_root() && Path::new("/proc/self/ns/mnt").exists()
    }

    /// Leaves the host's mount namespace, for good, and makes the new `/dev`.
    pub(crate) fn build(&self) -> Result<()> {
        let (has_dev, mounts) = mounts_below_dev("self")?;
        if !has_dev {
            return Err(Error::internal("Unable to find any /dev mount"));
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|error| Error::system("Cannot unshare mount namespace", error))?;
        // What is mounted on the host later appears here too, but not the other way.
        rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(|error| {
                Error::system("Failed disable mount propagation out of the root filesystem", error)
            })?;
        let nodes = collect(&self.nodes, &mounts)?;
        let kept = mounts
            .iter()
            .map(|place| {
                let stat = rustix::fs::stat(&**place)
                    .map_err(|error| Error::system(format!("Unable to stat: {place}"), error))?;
                let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                Ok((place, folder, clone_tree(place)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let dev = self.file_system()?;
        rustix::mount::unmount("/dev", UnmountFlags::DETACH)
            .map_err(|error| Error::system("failed to umount devfs on /dev", error))?;
        attach(&dev, "/dev")?;
        for (place, folder, tree) in kept {
            if folder {
                make_folder(Path::new(place))?;
            } else {
                touch(place)?;
            }
            attach(&tree, place)?;
        }
        for node in nodes {
            node.create()?;
        }
        Ok(())
    }

    /// Nodes need no memory but their own, so that 64 KiB are enough, and a guest cannot fill the host's.
    fn file_system(&self) -> Result<OwnedFd> {
        let failed =
            |error| Error::system("Failed to mount devfs on /dev type tmpfs (mode=755,size=65536)", error);
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let mut settings = vec![("source", "devfs"), ("mode", "755"), ("size", "65536")];
        if let Some(selinux) = &self.selinux_context {
            settings.push(("context", selinux));
        }
        for (key, value) in settings {
            rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(failed)?;
        }
        rustix::mount::fsconfig_create(context.as_fd()).map_err(failed)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(failed)
    }
}

/// Makes nodes for a device that a running guest is given, in the `/dev` of its `process`. What of them, and of the
/// links on the way, was not there before is returned: that is what [`remove_nodes`] is for when the rest fails.
///
/// # Errors
/// `Unable to enter mount namespace: ...`, `Unable to create device PATH: ...`, `Failed to chown device PATH: ...`
/// and the like.
pub fn create_nodes(launcher: &Launcher, process: i32, paths: &[String]) -> Result<Vec<String>> {
    let order =
        dict! { "work" => "create-nodes", "process" => i64::from(process), "paths" => paths.to_vec() };
    let made = launcher.work(&order.into(), &[])?;
    Ok(made
        .as_list()
        .unwrap_or_default()
        .iter()
        .filter_map(|path| path.as_str().map(str::to_owned))
        .collect())
}

/// Removes nodes from a running guest's `/dev`, but for those in `keep`, which every guest has, and what is in
/// other file systems.
///
/// # Errors
/// `Unable to enter mount namespace: ...`, `Unable to remove device PATH: ...`.
pub fn remove_nodes(launcher: &Launcher, process: i32, paths: &[String], keep: &[String]) -> Result<()> {
    let paths: Vec<String> =
        paths.iter().filter(|path| path.starts_with(PREFIX) && !keep.contains(path)).cloned().collect();
    if paths.is_empty() {
        return Ok(());
    }
    let order = dict! { "work" => "remove-nodes", "process" => i64::from(process), "paths" => paths };
    launcher.work(&order.into(), &[]).map(drop)
}

/// The other side of [`create_nodes`].
pub(crate) fn perform_create(order: &Value) -> Result<Value> {
    let reader = Reader(order);
    let process: i32 = reader.number("process")?;
    let (_, mounts) = mounts_below_dev(&process.to_string())?;
    // Looked up while we see the host's.
    let nodes = collect(&reader.texts("paths")?, &mounts)?;
    enter_mount_namespace(process)?;
    let mut made: Vec<String> = Vec::new();
    for node in nodes {
        match node.create() {
            Ok(true) => made.push(node.path),
            Ok(false) => {}
            Err(error) => {
                for path in made.iter().rev() {
                    let _ = remove(path);
                }
                return Err(error);
            }
        }
    }
    Ok(made.into())
}

/// The other side of [`remove_nodes`].
pub(crate) fn perform_remove(order: &Value) -> Result<Value> {
    let reader = Reader(order);
    let process: i32 = reader.number("process")?;
    let (_, mounts) = mounts_below_dev(&process.to_string())?;
    enter_mount_namespace(process)?;
    for path in reader.texts("paths")? {
        if !mounts.iter().any(|mount| is_below(&path, mount) || *mount == path) {
            remove(&path).map_err(|error| Error::system(format!("Unable to remove device {path}"), error))?;
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read() {
        assert_eq!(unescape("/dev/a\\040b\\134c"), "/dev/a b\\c");
        assert_eq!(unescape("/dev/\\9"), "/dev/\\9");
        assert!(is_below("/dev/pts/0", "/dev/pts") && !is_below("/dev/ptsx", "/dev/pts"));
        let (_, mounts) = mounts_below_dev("self").unwrap();
        for (at, place) in mounts.iter().enumerate() {
            assert!(mounts[at + 1..].iter().all(|other| other != place && !is_below(other, place)));
        }
    }

    #[test]
    fn only_what_is_below_dev_is_collected_and_links_are_followed() {
        let folder = std::env::temp_dir().join(format!("confinement-links-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let link = |name: &str, target: &str| {
            let path = folder.join(name);
            std::os::unix::fs::symlink(target, &path).unwrap();
            path.display().to_string()
        };
        let second = link("second", "/dev/null");
        let first = link("first", "second");
        let endless = link("endless", "endless");
        let paths = [first, "/dev/no such node".into(), "/etc/passwd".into(), second];
        let nodes: Vec<String> = collect(&paths, &[]).unwrap().into_iter().map(|node| node.path).collect();
        assert_eq!(nodes, ["/dev/null"]);
        let error = collect(std::slice::from_ref(&endless), &[]).err().unwrap();
        assert!(error.message.starts_with("Too many levels of symbolic links: "), "{error}");
        assert!(collect(&["/dev/null".into()], &["/dev/null".into()]).unwrap().is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
