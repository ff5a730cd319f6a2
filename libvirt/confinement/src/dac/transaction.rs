//! Changes of ownership that are made together or not at all.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::Duration;

use json::{Dict, Value, dict};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::io::Errno;

use super::Owner;
use super::journal::{self, Journal};
use crate::launch::{Launcher, Reader, enter_mount_namespace, optional};
use crate::remember::{self, Names, Recalled};
use crate::{Code, Error, Result};

/// The byte of a file that libvirt's daemons lock while they change its owner and attributes. QEMU's own locks begin
/// at 100.
const METADATA_OFFSET: i64 = 1;
const METADATA_LENGTH: i64 = 1;
/// How often, a millisecond apart, a lock is tried that somebody else has.
const TRIES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    /// The new owner; `None`: whoever owned the file before, root where that is not known.
    pub(super) owner: Option<Owner>,
    /// Whether the owner before is kept in, or taken from, the file's attributes.
    pub(super) remember: bool,
}

/// What is to be changed, in this order. Nothing is until [`Transaction::commit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(super) changes: Vec<Change>,
}

impl Transaction {
    /// Nothing to do yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a file to `owner`.
    pub fn set(&mut self, path: &str, owner: Owner, remember: bool) {
        self.changes.push(Change { path: path.to_owned(), owner: Some(owner), remember });
    }

    /// Gives a file back.
    pub fn restore(&mut self, path: &str, recall: bool) {
        self.changes.push(Change { path: path.to_owned(), owner: None, remember: recall });
    }

    /// Keeps the changes of files that `keep` says yes to, which is asked once for each.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.changes.retain(|change| keep(&change.path));
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes the changes: in the mount namespace of `process` if one is given and lives, else in the daemon's. With
    /// `remember_owner` files keep who owned them, and are locked meanwhile; that takes a process of its own, because
    /// such locks are lost when any descriptor of the file is closed.
    ///
    /// What is done is noted in `journal`, also when the daemon does not live to see it.
    ///
    /// When one change fails, those before are taken back, as far as that goes, and nothing was done.
    ///
    /// # Errors
    /// `unable to stat: PATH: No such file or directory`; `unable to set user and group to 'U:G' on 'PATH': ...` for
    /// other reasons than missing support or permission; `Requested operation is not valid: Setting different DAC user
    /// or group on PATH which is already in use`; `unable to lock PATH for metadata change: ...`.
    pub fn commit(
        &self,
        launcher: &Launcher,
        process: Option<i32>,
        remember_owner: bool,
        journal: Option<&Journal>,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let journal = journal.map(Journal::open).transpose()?;
        if process.is_none() && !remember_owner {
            return self.run(false, journal.as_ref());
        }
        let changes: Vec<Value> = self.changes.iter().map(|change| change.to_json().into()).collect();
        let order = dict! {
            "work" => "ownership",
            "process" => optional(process.map(i64::from)),
            "remember" => remember_owner,
            "changes" => Value::List(changes),
        };
        let passed: Vec<_> = journal.iter().map(File::as_fd).collect();
        launcher.work(&order.into(), &passed).map(drop)
    }

    fn run(&self, remember_owner: bool, journal: Option<&File>) -> Result<()> {
        let mut changes = self.changes.clone();
        // Held until all is done.
        let _locks = if remember_owner { lock(&mut changes)? } else { Vec::new() };
        for change in &mut changes {
            change.remember &= remember_owner;
        }
        for (at, change) in changes.iter().enumerate() {
            if let Err(error) = change.apply(journal) {
                for done in changes[..at].iter().rev().filter(|done| done.owner.is_some()) {
                    // What cannot be taken back stays; the first error is the one to tell.
                    let _ = Change { owner: None, ..done.clone() }.apply(journal);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The other side of [`Transaction::commit`].
pub(crate) fn perform(order: &Value, passed: Vec<OwnedFd>) -> Result<Value> {
    let reader = Reader(order);
    let mut transaction = Transaction::new();
    for change in reader.value("changes")?.as_list().unwrap_or_default() {
        transaction.changes.push(Change::from_json(change)?);
    }
    if let Some(process) = reader.signed("process")? {
        // At a guest's end its namespace may be gone; what it had there went along.
        let _ = enter_mount_namespace(process);
    }
    let journal = passed.into_iter().next().map(File::from);
    transaction.run(reader.truth("remember")?, journal.as_ref())?;
    Ok(Value::Null)
}

/// Gives what is remembered of `from` to `to`, which takes its place in a guest (a snapshot's overlay, a copy); without
/// `to` it is forgotten. `process` is as in [`Transaction::commit`].
///
/// # Errors
/// `Unable to get XATTR ...`, `unable to lock PATH for metadata change: ...` and the like.
pub fn move_record(launcher: &Launcher, process: Option<i32>, from: &str, to: Option<&str>) -> Result<()> {
    let order = dict! {
        "work" => "move-record",
        "process" => optional(process.map(i64::from)),
        "from" => from,
        "to" => optional(to),
    };
    launcher.work(&order.into(), &[]).map(drop)
}

/// The other side of [`move_record`].
pub(crate) fn perform_move(order: &Value) -> Result<Value> {
    let reader = Reader(order);
    let (from, to) = (reader.text("from")?, reader.optional_text("to")?);
    if let Some(process) = reader.signed("process")? {
        enter_mount_namespace(process)?;
    }
    let mut files: Vec<Change> = std::iter::once(&from)
        .chain(&to)
        .map(|path| Change { path: path.clone(), owner: None, remember: true })
        .collect();
    let _locks = lock(&mut files)?;
    remember::transfer(&Names::of("dac"), &from, to.as_deref())?;
    Ok(Value::Null)
}

fn lock_range() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: METADATA_OFFSET,
        l_len: METADATA_LENGTH,
        l_pid: 0,
    }
}

/// Opens and locks the files whose owners are remembered. Where that is impossible by nature (directories, sockets,
/// read-only and shared file systems), the owner is not remembered.
fn lock(changes: &mut [Change]) -> Result<Vec<File>> {
    let mut paths: Vec<String> =
        changes.iter().filter(|change| change.remember).map(|change| change.path.clone()).collect();
    // All daemons lock in the same order, so that none waits for another in a circle.
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::new();
    let mut locked = HashSet::new();
    for path in paths {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            continue;
        }
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) => {
                let read_only = error.raw_os_error() == Some(libc::EROFS);
                if read_only || metadata.file_type().is_socket() || is_shared(&path) {
                    continue;
                }
                return Err(Error::system(format!("unable to open {path}"), error));
            }
        };
        wait_for_lock(&file)
            .map_err(|error| Error::system(format!("unable to lock {path} for metadata change"), error))?;
        files.push(file);
        locked.insert(path);
    }
    for change in changes {
        change.remember &= locked.contains(&change.path);
    }
    Ok(files)
}

fn wait_for_lock(file: &File) -> std::io::Result<()> {
    let range = lock_range();
    let mut tries = TRIES;
    loop {
        match fcntl(file.as_fd(), FcntlArg::F_SETLK(&range)) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EACCES | nix::errno::Errno::EAGAIN) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether other hosts see the file (the kinds of file system that libvirt knows as shared).
pub(super) fn is_shared(path: &str) -> bool {
    // statfs(2): NFS, GFS2, OCFS2, AFS, SMB, CIFS, SMB2, CEPH, GPFS, and FUSE, behind which libvirt knows GlusterFS
    // and Quobyte by their names in the mount table.
    const MAGICS: [u64; 9] = [
        0x6969,
        0x0116_1970,
        0x7461_636f,
        0x5346_414f,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0x4750_4653,
    ];
    const FUSE: u64 = 0x6573_5546;
    let Ok(found) = rustix::fs::statfs(path) else { return false };
    let magic = u64::from_ne_bytes(i64::to_ne_bytes(found.f_type));
    MAGICS.contains(&magic) || magic == FUSE && fuse_is_shared(path)
}

fn fuse_is_shared(path: &str) -> bool {
    let Ok(path) = std::fs::canonicalize(path) else { return false };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
            path.starts_with(place).then_some((place.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .is_some_and(|(_, kind)| matches!(kind, "fuse.glusterfs" | "fuse.quobyte"))
}

impl Change {
    fn to_json(&self) -> Dict {
        dict! {
            "path" => self.path.as_str(),
            "user" => optional(self.owner.map(|owner| owner.user)),
            "group" => optional(self.owner.map(|owner| owner.group)),
            "remember" => self.remember,
        }
    }

    fn from_json(value: &Value) -> Result<Self> {
        let reader = Reader(value);
        let owner = match (reader.optional_number("user")?, reader.optional_number("group")?) {
            (Some(user), Some(group)) => Some(Owner { user, group }),
            _ => None,
        };
        Ok(Self { path: reader.text("path")?, owner, remember: reader.truth("remember")? })
    }

    fn apply(&self, journal: Option<&File>) -> Result<()> {
        match self.owner {
            Some(owner) => self.set(owner),
            None => self.restore(),
        }?;
        let Some(journal) = journal else { return Ok(()) };
        journal::note(journal, &self.path, self.owner.is_some()).inspect_err(|_| {
            if self.owner.is_some() {
                // Nobody would know to give it back.
                let _ = self.restore();
            }
        })
    }

    fn set(&self, owner: Owner) -> Result<()> {
        if !self.remember {
            return chown(&self.path, owner);
        }
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| Error::system(format!("unable to stat: {}", self.path), error))?;
        let now = Owner { user: metadata.uid(), group: metadata.gid() };
        let users = remember::remember(&Names::of("dac"), &self.path, &now.label())?;
        let done = if users.is_some_and(|users| users > 1) && now != owner {
            let message = format!(
                "Requested operation is not valid: Setting different DAC user or group on {} which is already in use",
                self.path
            );
            Err(Error { code: Code::OperationInvalid, message })
        } else {
            chown(&self.path, owner)
        };
        if done.is_err() {
            // The count must be what it was; what was wrong first is what to tell.
            let _ = self.restore();
        }
        done
    }

    fn restore(&self) -> Result<()> {
        let mut owner = Owner { user: 0, group: 0 };
        if self.remember {
            match remember::recall(&Names::of("dac"), &self.path)? {
                Recalled::InUse => return Ok(()),
                Recalled::Label(label) => owner = Owner::parse(&label)?,
                Recalled::Nothing => {}
            }
        }
        chown(&self.path, owner)
    }
}

/// Changes the owner, if the file system and our rights allow it at all.
fn chown(path: &str, owner: Owner) -> Result<()> {
    let metadata =
        std::fs::metadata(path).map_err(|error| Error::system(format!("unable to stat: {path}"), error))?;
    if (metadata.uid(), metadata.gid()) == (owner.user, owner.group) {
        return Ok(());
    }
    match std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group)) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
            _ => {
                let Owner { user, group } = owner;
                Err(Error::system(
                    format!("unable to set user and group to '{user}:{group}' on '{path}'"),
                    error,
                ))
            }
        },
    }
}
