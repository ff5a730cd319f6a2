//! Files of guests' states that are written and read past the host's cache: its memory keeps what is used.
//!
//! The kernel wants such transfers in whole blocks at aligned addresses, which an emulator does not keep to: it gets a
//! pipe, and a thread copies between the pipe and the file.

use super::compression::Compression;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Child;
use std::thread::JoinHandle;

/// Every file system's blocks divide this.
const BLOCK: usize = 4096;
/// What is copied at once.
const SIZE: usize = 256 * BLOCK;

/// A buffer that begins at a block's boundary.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Self {
        let bytes = vec![0; SIZE + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { bytes, start }
    }

    fn all(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + SIZE]
    }
}

fn direct() -> i32 {
    OFlags::DIRECT.bits().cast_signed()
}

/// A file that a guest's state is written to.
pub(super) struct Output {
    file: File,
    copier: Option<Copier>,
    compressor: Option<Compressor>,
}

struct Compressor {
    pipe: File,
    child: Child,
}

struct Copier {
    pipe: File,
    thread: JoinHandle<io::Result<()>>,
}

impl Output {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// It cannot be made, or not be written past the cache.
    pub(super) fn create(path: &Path, bypass_cache: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        if !bypass_cache {
            return Ok(Self { file: options.open(path)?, copier: None, compressor: None });
        }
        let past = options.clone().custom_flags(direct()).open(path)?;
        let (from, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let thread = std::thread::Builder::new()
            .name("direct-write".to_owned())
            .spawn(move || write_direct(File::from(from), &past))?;
        let copier = Copier { pipe: pipe.into(), thread };
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self { file, copier: Some(copier), compressor: None })
    }

    /// What comes from now on is compressed.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn compress(&mut self, compression: Compression) -> io::Result<()> {
        if compression == Compression::Raw {
            return Ok(());
        }
        let (from, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let to = self.descriptor().try_clone_to_owned()?;
        let child = compression.compress(from, to)?;
        self.compressor = Some(Compressor { pipe: pipe.into(), child });
        Ok(())
    }

    fn end(&self) -> &File {
        let uncompressed = self.copier.as_ref().map_or(&self.file, |copier| &copier.pipe);
        self.compressor.as_ref().map_or(uncompressed, |compressor| &compressor.pipe)
    }

    /// Writes at the end.
    ///
    /// # Errors
    /// What the file system reports.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end().write_all(bytes)
    }

    /// What the emulator writes to.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.end().as_fd()
    }

    /// Waits until all is on the disk; the emulator has let go of its descriptor.
    ///
    /// # Errors
    /// What the file system reports.
    pub(super) fn finish(self) -> io::Result<File> {
        if let Some(mut compressor) = self.compressor {
            drop(compressor.pipe);
            let status = compressor.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("the compressing program ended with {status}")));
            }
        }
        if let Some(copier) = self.copier {
            drop(copier.pipe);
            copier.thread.join().map_err(|_| io::Error::other("the copying thread failed"))??;
        }
        self.file.sync_all()?;
        Ok(self.file)
    }

    /// Why the file could not be written, if it is known. The emulator may still have its descriptor.
    pub(super) fn failure(self) -> Option<io::Error> {
        if let Some(mut compressor) = self.compressor {
            drop(compressor.pipe);
            let ended = compressor.child.try_wait().ok().flatten();
            if ended.is_none() {
                // What it writes is of no use to anybody.
                let _ = compressor.child.kill();
                let _ = compressor.child.wait();
            }
            if let Some(status) = ended.filter(|status| !status.success()) {
                return Some(io::Error::other(format!("the compressing program ended with {status}")));
            }
        }
        let copier = self.copier?;
        drop(copier.pipe);
        if !copier.thread.is_finished() {
            return None;
        }
        copier.thread.join().ok()?.err()
    }
}

/// Copies until nobody writes any more.
fn write_direct(mut from: File, to: &File) -> io::Result<()> {
    let mut buffer = Aligned::new();
    let mut place = 0;
    loop {
        let mut filled = 0;
        while filled < SIZE {
            match from.read(&mut buffer.all()[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let whole = filled.next_multiple_of(BLOCK);
        buffer.all()[filled..whole].fill(0);
        to.write_all_at(&buffer.all()[..whole], place)?;
        place += filled as u64;
        if filled < SIZE {
            return to.set_len(place);
        }
    }
}

/// What is in the file from `offset` on, read past the cache, at the end of a pipe.
///
/// # Errors
/// The file cannot be read that way.
pub(super) fn read(path: &Path, offset: u64) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).custom_flags(direct()).open(path)?;
    let (end, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    std::thread::Builder::new().name("direct-read".to_owned()).spawn(move || {
        // A stream that ends early is what the emulator complains of.
        let _ = read_direct(file, offset, File::from(pipe));
    })?;
    Ok(end)
}

fn read_direct(mut file: File, offset: u64, mut to: File) -> io::Result<()> {
    let mut buffer = Aligned::new();
    let block = BLOCK as u64;
    file.seek(SeekFrom::Start(offset / block * block))?;
    let mut skip = (offset % block) as usize;
    loop {
        let count = match file.read(buffer.all()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer.all()[skip.min(count)..count])?;
        skip = 0;
        if count % BLOCK != 0 {
            // The end; there is no reading on from inside a block.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the build directory: `/tmp` may be in memory, where there is no cache to bypass.
    fn scratch(name: &str) -> std::path::PathBuf {
        let program = std::env::current_exe().expect("the test's program");
        program.with_file_name(format!("{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_written_past_the_cache_is_read_past_it() {
        let path = scratch("direct");
        let data: Vec<u8> = (0..3 * SIZE + 12_345).map(|at| (at % 251) as u8).collect();
        for length in [0, 1, BLOCK, SIZE, data.len()] {
            let mut output = Output::create(&path, true).expect("a file");
            output.write_all(&data[..length]).expect("a pipe");
            output.finish().expect("written");
            assert_eq!(std::fs::read(&path).expect("the file"), &data[..length]);
        }
        for offset in [0, 92, BLOCK, SIZE + 1, data.len()] {
            let mut found = Vec::new();
            let end = read(&path, offset as u64).expect("a pipe");
            File::from(end).read_to_end(&mut found).expect("read");
            assert!(found == data[offset..], "from {offset}");
        }
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let mut output = Output::create(Path::new("/dev/full"), false).expect("a device");
        assert!(output.write_all(b"x").is_err());
        assert!(output.failure().is_none());
        assert!(Output::create(Path::new("/nonexistent/file"), true).is_err());
    }
}
