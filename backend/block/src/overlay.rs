//! `snapshot=on`: what is written goes to a temporary file, and the image stays as it is.
//!
//! The temporary file is sparse and as long as the disk; a bit for each cluster tells which of the two holds it. The
//! file has no name, so that it goes with the process.

use crate::BlockError;
use crate::file::strerror;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes in a cluster.
const CLUSTER: u64 = 1 << 16;

/// The temporary file with its map.
pub(crate) struct Overlay {
    file: File,
    size: u64,
    /// A bit for each cluster that the file holds. Held during every request.
    held: Mutex<Vec<u64>>,
}

/// A part of a request that one file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it begins on the disk.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// The temporary file holds it.
    pub(crate) written: bool,
}

/// The map while a request is carried out.
pub(crate) struct Session<'a> {
    overlay: &'a Overlay,
    held: MutexGuard<'a, Vec<u64>>,
}

/// Where temporary files of this size are put: not where a folder in memory is likely.
fn folder() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

impl Overlay {
    /// An empty one for a disk of `size` bytes.
    pub(crate) fn new(size: u64) -> Result<Self, BlockError> {
        let folder = folder();
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(0o600);
            let file = match options.clone().custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC).open(&folder) {
                Ok(file) => file,
                // A file system without nameless files: one whose name goes at once.
                Err(_) => {
                    let path = folder.join(format!("vl.{}.{:p}", std::process::id(), &raw const size));
                    let file = options.create_new(true).open(&path)?;
                    std::fs::remove_file(path)?;
                    file
                }
            };
            file.set_len(size)?;
            Ok(file)
        };
        let file = open().map_err(|error| {
            BlockError(format!(
                "Could not create temporary overlay in '{}': {}",
                folder.display(),
                strerror(&error)
            ))
        })?;
        let words = usize::try_from(size.div_ceil(CLUSTER).div_ceil(64))
            .map_err(|_| BlockError("the image is too large for a temporary overlay".to_owned()))?;
        Ok(Self { file, size, held: Mutex::new(vec![0; words]) })
    }

    /// The file, addressed as the disk is.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Begins a request.
    pub(crate) fn begin(&self) -> Session<'_> {
        Session { overlay: self, held: self.held.lock() }
    }
}

impl Session<'_> {
    fn has(&self, cluster: u64) -> bool {
        let word = usize::try_from(cluster / 64).ok().and_then(|word| self.held.get(word));
        word.is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }

    /// Divides a range by who holds it.
    pub(crate) fn runs(&self, position: u64, len: u64) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut at, end) = (position, position + len);
        while at < end {
            let next = (at / CLUSTER + 1) * CLUSTER;
            let (len, written) = (next.min(end) - at, self.has(at / CLUSTER));
            match runs.last_mut() {
                Some(run) if run.written == written => run.len += len,
                _ => runs.push(Run { at, len, written }),
            }
            at += len;
        }
        runs
    }

    /// Makes room for a write: what the clusters at its ends hold besides comes over from the image by `read`.
    pub(crate) fn prepare(
        &mut self,
        position: u64,
        len: u64,
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let end = position + len;
        for cluster in position / CLUSTER..=(end - 1) / CLUSTER {
            let (start, stop) = (cluster * CLUSTER, ((cluster + 1) * CLUSTER).min(self.overlay.size));
            if self.has(cluster) {
                continue;
            }
            if start < position || end < stop {
                let mut bytes = vec![0; usize::try_from(stop - start).unwrap_or(0)];
                read(start, &mut bytes)?;
                self.overlay.file.write_all_at(&bytes, start)?;
            }
            // A write that fails now leaves a cluster of which nothing is known.
            if let Some(word) = usize::try_from(cluster / 64).ok().and_then(|word| self.held.get_mut(word)) {
                *word |= 1 << (cluster % 64);
            }
        }
        Ok(())
    }

    /// Lets the file hold all clusters of a range, with what the image holds there, by `read`.
    pub(crate) fn copy(
        &mut self,
        position: u64,
        len: u64,
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for cluster in position / CLUSTER..(position + len).div_ceil(CLUSTER) {
            // A byte's room is the whole cluster.
            self.prepare(cluster * CLUSTER, 1, &read)?;
        }
        Ok(())
    }

    /// Makes a prepared range zero; false: the file system cannot, and zeros are to be written.
    pub(crate) fn zero(&self, position: u64, len: u64) -> bool {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.overlay.file, mode, position, len).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_divided_and_clusters_filled_up() {
        let size = 5 * CLUSTER + 512;
        let overlay = Overlay::new(size).expect("a temporary file");
        let mut session = overlay.begin();
        let whole = Run { at: 100, len: size - 100, written: false };
        assert_eq!(session.runs(100, size - 100), [whole]);
        let ones = |_: u64, bytes: &mut [u8]| {
            bytes.fill(1);
            Ok(())
        };
        session.prepare(CLUSTER + 10, 5, ones).expect("room");
        session.prepare(5 * CLUSTER, 512, ones).expect("room");
        let runs = session.runs(0, size);
        let lengths: Vec<_> = runs.iter().map(|run| (run.len, run.written)).collect();
        assert_eq!(lengths, [(CLUSTER, false), (CLUSTER, true), (3 * CLUSTER, false), (512, true)]);
        let mut bytes = [0; 2];
        overlay.file().read_exact_at(&mut bytes, CLUSTER).expect("read");
        // The last cluster is written whole: nothing came over.
        overlay.file().read_exact_at(&mut bytes[1..], 5 * CLUSTER).expect("read");
        assert_eq!(bytes, [1, 0]);
        assert_eq!(session.runs(CLUSTER + 7, 1), [Run { at: CLUSTER + 7, len: 1, written: true }]);
    }
}
