//! An open file, perhaps under several nodes.

use crate::options::{Aio, BlockOptions, Locking};
use crate::{BlockError, lock};
use guestmem::FileEngine;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// An error of the host's, worded as `strerror(3)` does.
pub(crate) fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A file of the host's.
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) path: String,
    /// It was opened for reading only.
    pub(crate) read_only: bool,
    /// It was opened with O_DIRECT.
    pub(crate) direct: bool,
    /// How the kernel is asked.
    pub(crate) engine: FileEngine,
    locking: Locking,
    force_share: bool,
    /// Names of the nodes over it that devices use.
    users: Mutex<Vec<String>>,
}

impl OpenFile {
    /// Opens the file that `options` names; `drive`: for a `-drive`, which says more of what it takes.
    pub(crate) fn open(path: &str, options: &BlockOptions, drive: bool) -> Result<Self, BlockError> {
        let name = path.strip_prefix("file:").unwrap_or(path);
        let flags = if options.cache.direct { libc::O_DIRECT } else { 0 };
        let open = |write: bool| {
            OpenOptions::new().read(true).write(write).custom_flags(flags | libc::O_CLOEXEC).open(name)
        };
        let failed = |error: io::Error| BlockError(format!("Could not open '{name}': {}", strerror(&error)));
        if options.force_share && !options.read_only {
            return Err(BlockError("force-share=on can only be used with read-only images".to_owned()));
        }
        let mut read_only = options.read_only;
        let file = match open(!read_only) {
            Err(error)
                if options.auto_read_only
                    && matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                            | io::ErrorKind::IsADirectory
                    ) =>
            {
                read_only = true;
                open(false).map_err(failed)?
            }
            outcome => outcome.map_err(failed)?,
        };
        let kind = file.metadata().map_err(failed)?.file_type();
        if !(kind.is_file() || kind.is_block_device() || drive && kind.is_char_device()) {
            return Err(BlockError(format!("'file' driver requires '{name}' to be a regular file")));
        }
        if options.aio == Aio::Native && !options.cache.direct {
            return Err(BlockError(
                "aio=native was specified, but it requires cache.direct=on, which was not specified."
                    .to_owned(),
            ));
        }
        let unusable =
            |what: &str, error: &io::Error| BlockError(format!("Unable to use {what}: {}", strerror(error)));
        let engine = match options.aio {
            Aio::Threads => FileEngine::Calls,
            Aio::Native => FileEngine::native().map_err(|error| unusable("linux AIO", &error))?,
            Aio::IoUring => FileEngine::uring().map_err(|error| unusable("io_uring", &error))?,
        };
        Ok(Self {
            file,
            engine,
            path: name.to_owned(),
            read_only,
            direct: options.cache.direct,
            locking: options.locking,
            force_share: options.force_share,
            users: Mutex::default(),
        })
    }

    /// Bytes in the file or block device.
    pub(crate) fn size(&self) -> Result<u64, BlockError> {
        let failed = |error: io::Error| {
            BlockError(format!("Could not get size of '{}': {}", self.path, strerror(&error)))
        };
        let meta = self.file.metadata().map_err(failed)?;
        if meta.is_file() {
            return Ok(meta.len());
        }
        io::Seek::seek(&mut &self.file, io::SeekFrom::End(0)).map_err(failed)
    }

    /// A device begins to use the node `name` over the file.
    pub(crate) fn claim(&self, name: &str, writable: bool, share_rw: bool) -> Result<(), BlockError> {
        let mut users = self.users.lock();
        if let Some(other) = users.first().filter(|_| writable && !share_rw) {
            return Err(BlockError(format!(
                "Conflicts with use by {other} as 'root', which does not allow 'write' on {name}"
            )));
        }
        if self.locking != Locking::Off && !self.force_share {
            lock::lock(&self.file, &self.path, writable, share_rw)?;
        }
        users.push(name.to_owned());
        Ok(())
    }
}
