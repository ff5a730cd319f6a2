//! The ownership of what a guest uses: the security driver `dac`.
//!
//! The daemon gives files to the user that QEMU runs as, and back when the guest has ended. [`Dac`] knows whose, and
//! collects what is to change in a [`Transaction`]; libvirt's rules of when something is left alone are here, what a
//! domain consists of is the caller's.

mod journal;
pub mod transaction;

pub use journal::Journal;
pub use transaction::{Transaction, move_record};

use crate::launch::{Identity, group_id, user_id};
use crate::{Code, Error, Result};

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Numeric user id.
    pub user: u32,
    /// Numeric group id.
    pub group: u32,
}

impl Owner {
    /// `+USER:+GROUP`, numeric: the label of a file or process.
    #[must_use]
    pub fn label(self) -> String {
        format!("+{}:+{}", self.user, self.group)
    }

    /// Reads a label: two names or numbers, see [`user_id`].
    ///
    /// # Errors
    /// `invalid argument: Failed to parse uid and gid from 'TEXT'`, or of its parts.
    pub fn parse(label: &str) -> Result<Self> {
        let (user, group) = label.split_once(':').ok_or_else(|| Error {
            code: Code::InvalidArgument,
            message: format!("invalid argument: Failed to parse uid and gid from '{label}'"),
        })?;
        Ok(Self { user: user_id(user)?, group: group_id(group)? })
    }

    /// The label of a running process: who owns its entry in `/proc`.
    ///
    /// # Errors
    /// `unable to get uid and gid for PID N via procfs: ...`
    pub fn of_process(pid: i32) -> Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::symlink_metadata(format!("/proc/{pid}")).map_err(|error| {
            Error::system(format!("unable to get uid and gid for PID {pid} via procfs"), error)
        })?;
        Ok(Self { user: found.uid(), group: found.gid() })
    }
}

/// `<seclabel model='dac'>` of a domain or of one of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `relabel`: whether anything is changed.
    pub relabel: bool,
    /// The owner asked for, if one is.
    pub owner: Option<Owner>,
}

/// One layer of a disk's chain of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The file or device; `None` for what is not of this host, and for descriptors that a client passed.
    pub path: Option<String>,
    /// Nothing is written to it.
    pub read_only: bool,
    /// Other guests may use it at the same time.
    pub shared: bool,
    /// Its own label.
    pub label: Option<Label>,
}

/// What a character device is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A device, or a file that QEMU opens (`file_by_logd` false) or virtlogd does (true).
    File {
        /// Its path.
        path: String,
        /// The log daemon opens it, so that it stays as it is unless it has a label.
        file_by_logd: bool,
    },
    /// A pair of pipes, `PATH.in` and `PATH.out`, or one pipe.
    Pipe(String),
    /// A socket: one that QEMU binds (`listen`) or connects to.
    Socket {
        /// Its path.
        path: String,
        /// QEMU binds it.
        listen: bool,
    },
    /// What has no file.
    Other,
}

/// The security driver `dac`, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dac {
    /// Whom files are given to (`user` and `group` of qemu.conf).
    pub owner: Owner,
    /// Whether ownership is changed at all (`dynamic_ownership`).
    pub dynamic_ownership: bool,
    /// Whether QEMU has its own `/dev`, so that shared nodes can be given to it.
    pub mount_namespace: bool,
}

impl Dac {
    /// Model and domain of interpretation, in that order, as capabilities show them.
    pub const MODEL: (&str, &str) = ("dac", "0");

    /// The label that a guest gets that does not ask for one.
    #[must_use]
    pub fn base_label(&self) -> String {
        self.owner.label()
    }

    /// Who a guest's QEMU runs as: what its label says, or the configuration.
    ///
    /// # Errors
    /// The user database cannot be read.
    pub fn identity(&self, domain: Option<&Label>) -> Result<Identity> {
        let owner = self.of_domain(domain);
        Identity::of(owner.user, owner.group)
    }

    fn of_domain(&self, domain: Option<&Label>) -> Owner {
        domain.and_then(|label| label.owner).unwrap_or(self.owner)
    }

    /// Whether this driver changes anything of a guest.
    fn acts(&self, domain: Option<&Label>) -> bool {
        self.dynamic_ownership && domain.is_none_or(|label| label.relabel)
    }

    /// Gives a chain of images, its top first, to the guest. `top` says that the first is a disk's top; else it lies
    /// below a layer that the guest has already. A layer without a label has that of `parent`, or the domain's.
    ///
    /// Who owned an image before is remembered of tops that are written by one guest only: the others may be used by
    /// guests that do not count.
    pub fn set_images(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        chain: &[Image],
        parent: Option<&Label>,
        top: bool,
    ) {
        if !self.acts(domain) {
            return;
        }
        for (depth, image) in chain.iter().enumerate() {
            let Some(path) = &image.path else { continue };
            let says = |label: &&Label| !label.relabel || label.owner.is_some();
            let label = image.label.as_ref().filter(says).or(parent.filter(says));
            let owner = match label {
                Some(label) if !label.relabel => continue,
                Some(Label { owner: Some(owner), .. }) => *owner,
                _ => self.of_domain(domain),
            };
            let remember = top && depth == 0 && !image.read_only && !image.shared;
            transaction.set(path, owner, remember);
        }
    }

    /// Gives an image back: only one that is written by this guest alone. `migrated`: the guest runs elsewhere now, so
    /// that files on shared file systems are its still.
    pub fn restore_image(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        image: &Image,
        migrated: bool,
    ) {
        let Some(path) = &image.path else { return };
        let keeps = image.label.as_ref().is_some_and(|label| !label.relabel);
        if !self.acts(domain) || image.read_only || image.shared || keeps {
            return;
        }
        if migrated && transaction::is_shared(path) {
            return;
        }
        transaction.restore(path, true);
    }

    /// Gives a file to the guest that only it uses: kernel, initial RAM disk, device tree, ACPI table, firmware
    /// configuration, NVDIMM, input device.
    pub fn set_file(&self, transaction: &mut Transaction, domain: Option<&Label>, path: &str) {
        if self.acts(domain) {
            transaction.set(path, self.of_domain(domain), true);
        }
    }

    /// The reverse of [`Dac::set_file`].
    pub fn restore_file(&self, transaction: &mut Transaction, domain: Option<&Label>, path: &str) {
        if self.acts(domain) {
            transaction.restore(path, true);
        }
    }

    /// Gives a node to the guest that the whole host shares (render node, `/dev/sev`, SGX): only the copy in the
    /// guest's own `/dev`. It goes with that; there is nothing to restore.
    pub fn set_shared_node(&self, transaction: &mut Transaction, domain: Option<&Label>, path: &str) {
        if self.acts(domain) && self.mount_namespace {
            transaction.set(path, self.of_domain(domain), true);
        }
    }

    /// Gives the node of a host device to the guest. Who owned it is remembered but for groups of VFIO, which several
    /// devices may have in common.
    pub fn set_host_device(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        path: &str,
        vfio_group: bool,
    ) {
        if self.acts(domain) {
            transaction.set(path, self.of_domain(domain), !vfio_group);
        }
    }

    /// The reverse of [`Dac::set_host_device`].
    pub fn restore_host_device(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        path: &str,
        vfio_group: bool,
    ) {
        if self.acts(domain) {
            transaction.restore(path, !vfio_group);
        }
    }

    /// The files behind a character device, by what is there now; `set`: for giving, not for giving back.
    fn files_of(channel: &Channel, label: Option<&Label>, set: bool) -> Vec<String> {
        let exists = |path: &str| std::path::Path::new(path).exists();
        match channel {
            Channel::File { file_by_logd: true, .. } if label.is_none() => Vec::new(),
            Channel::File { path, .. } => vec![path.clone()],
            Channel::Pipe(path) => {
                let pair = [format!("{path}.in"), format!("{path}.out")];
                if pair.iter().all(|path| exists(path)) { pair.to_vec() } else { vec![path.clone()] }
            }
            // A bound socket that exists was made by the daemon and is passed.
            Channel::Socket { path, listen: true } if set && exists(path) => vec![path.clone()],
            Channel::Socket { path, listen: false } => vec![path.clone()],
            Channel::Socket { .. } | Channel::Other => Vec::new(),
        }
    }

    /// Gives what a character device is connected to to the guest. A passed-through TPM is used by one guest after
    /// the other and not remembered (`remember` false).
    pub fn set_channel(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        channel: &Channel,
        label: Option<&Label>,
        remember: bool,
    ) {
        if !self.acts(domain) || label.is_some_and(|label| !label.relabel) {
            return;
        }
        let owner = label.and_then(|label| label.owner).unwrap_or(self.of_domain(domain));
        for path in Self::files_of(channel, label, true) {
            transaction.set(&path, owner, remember);
        }
    }

    /// The reverse of [`Dac::set_channel`].
    pub fn restore_channel(
        &self,
        transaction: &mut Transaction,
        domain: Option<&Label>,
        channel: &Channel,
        label: Option<&Label>,
        recall: bool,
    ) {
        if !self.acts(domain) || label.is_some_and(|label| !label.relabel) {
            return;
        }
        for path in Self::files_of(channel, label, false) {
            transaction.restore(&path, recall);
        }
    }
}

#[cfg(test)]
mod tests;
