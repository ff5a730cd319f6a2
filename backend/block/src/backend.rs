//! An open image.

use crate::options::{BlockOptions, Discard};
use crate::{BlockError, lock, probe};
use guestmem::RamSlice;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

/// Alignment that is good for every O_DIRECT file.
const DIRECT_ALIGN: usize = 4096;
/// Most bytes that one bounce buffer holds.
const BOUNCE: usize = 1 << 20;

/// A raw image, addressed in bytes. All calls block; devices make them on a thread of their own.
pub struct BlockBackend {
    file: File,
    path: String,
    options: BlockOptions,
    size: u64,
    /// The format was guessed: block 0 must not come to look like another format.
    probed: bool,
}

/// An error of the host's, worded as `strerror(3)` does.
fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl BlockBackend {
    /// Opens and locks an image.
    ///
    /// # Errors
    /// The file cannot be opened or is in use, or its format is not built: QEMU's texts.
    pub fn open(options: &BlockOptions) -> Result<Arc<Self>, BlockError> {
        let path = options
            .file
            .clone()
            .filter(|p| !p.is_empty())
            .ok_or_else(|| BlockError("A block device must be specified for \"file\"".to_owned()))?;
        if let Some(format) = options.format.as_deref().filter(|f| *f != "raw") {
            return Err(BlockError(format!("Unknown driver '{format}'")));
        }
        let flags = if options.cache.direct { libc::O_DIRECT } else { 0 };
        let name = path.strip_prefix("file:").unwrap_or(&path);
        let file = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .custom_flags(flags | libc::O_CLOEXEC)
            .open(name)
            .map_err(|e| BlockError(format!("Could not open '{name}': {}", strerror(&e))))?;
        lock::lock(&file, name, !options.read_only, options.share_rw)?;
        let whole =
            size_of(&file).map_err(|e| BlockError(format!("Could not open '{name}': {}", strerror(&e))))?;
        let rest = whole.checked_sub(options.offset).ok_or_else(|| {
            BlockError(format!(
                "Offset ({}) cannot be greater than size of the containing file ({whole})",
                options.offset
            ))
        })?;
        let size = options.size.unwrap_or(rest);
        if size > rest {
            return Err(BlockError(format!(
                "The sum of offset ({}) and size ({size}) has to be smaller or equal to the  actual size of the \
                 containing file ({whole})",
                options.offset
            )));
        }
        let mut this = Self { file, path, options: options.clone(), size, probed: false };
        if options.format.is_none() {
            this.probe()?;
        }
        Ok(Arc::new(this))
    }

    fn probe(&mut self) -> Result<(), BlockError> {
        let mut start = vec![0; 512.min(self.size as usize)];
        self.read(0, &mut start).map_err(|e| {
            BlockError(format!("Could not read image for determining its format: {}", strerror(&e)))
        })?;
        let format = probe::format_of(&start);
        if format != "raw" {
            return Err(BlockError(format!("Unknown driver '{format}'")));
        }
        self.probed = true;
        if !self.options.read_only {
            eprintln!(
                "WARNING: Image format was not specified for '{}' and probing guessed raw.\n         Automatically \
                 detecting the format is dangerous for raw images, write operations on block 0 will be \
                 restricted.\n         Specify the 'raw' format explicitly to remove the restrictions.",
                self.path
            );
        }
        Ok(())
    }

    /// The image's path as the user gave it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How the image was opened.
    pub fn options(&self) -> &BlockOptions {
        &self.options
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Where `len` bytes at `position` are in the file.
    fn locate(&self, position: u64, len: u64) -> io::Result<u64> {
        let end = position.checked_add(len).filter(|end| *end <= self.size);
        end.map(|_| self.options.offset + position).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn check_write(&self, position: u64, start: impl FnOnce(&mut [u8])) -> io::Result<()> {
        if self.options.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if self.probed && position == 0 {
            let mut sector = [0; 512];
            start(&mut sector);
            if probe::format_of(&sector) != "raw" {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        }
        Ok(())
    }

    /// Reads bytes; what lies behind the end of the file reads as zeros.
    ///
    /// # Errors
    /// The range is not within the image, or the host cannot read.
    pub fn read(&self, position: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut at = self.locate(position, buf.len() as u64)?;
        let mut rest = buf;
        if self.options.cache.direct {
            return self.read_bounced(at, rest);
        }
        while !rest.is_empty() {
            match self.file.read_at(rest, at) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(n) => {
                    rest = &mut rest[n..];
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads through an aligned buffer, for O_DIRECT.
    fn read_bounced(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (start, skip) = align(at + done as u64);
            let want = (buf.len() - done + skip).min(BOUNCE);
            let mut space = Bounce::new(want.next_multiple_of(DIRECT_ALIGN));
            let n = self.file.read_at(space.bytes(), start)?;
            // The end of the file: zeros follow.
            space.bytes()[n..].fill(0);
            let take = want - skip;
            buf[done..done + take].copy_from_slice(&space.bytes()[skip..want]);
            done += take;
        }
        Ok(())
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The image is read-only, the range is not within it, or the host cannot write.
    pub fn write(&self, position: u64, buf: &[u8]) -> io::Result<()> {
        let at = self.locate(position, buf.len() as u64)?;
        self.check_write(position, |sector| {
            let n = sector.len().min(buf.len());
            sector[..n].copy_from_slice(&buf[..n]);
        })?;
        if self.options.cache.direct { self.write_bounced(at, buf) } else { self.file.write_all_at(buf, at) }
    }

    fn write_bounced(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (start, skip) = align(at + done as u64);
            let want = (buf.len() - done + skip).min(BOUNCE);
            let mut space = Bounce::new(want.next_multiple_of(DIRECT_ALIGN));
            if skip != 0 || !want.is_multiple_of(DIRECT_ALIGN) {
                let len = space.bytes().len();
                let n = self.file.read_at(space.bytes(), start)?;
                debug_assert!(n <= len);
            }
            let take = want - skip;
            space.bytes()[skip..want].copy_from_slice(&buf[done..done + take]);
            self.file.write_all_at(space.bytes(), start)?;
            done += take;
        }
        Ok(())
    }

    /// Reads straight into guest RAM.
    ///
    /// # Errors
    /// As [`BlockBackend::read`].
    pub fn readv(&self, position: u64, slices: &[RamSlice]) -> io::Result<()> {
        self.vectored(position, slices, false)
    }

    /// Writes straight from guest RAM.
    ///
    /// # Errors
    /// As [`BlockBackend::write`].
    pub fn writev(&self, position: u64, slices: &[RamSlice]) -> io::Result<()> {
        self.check_write(position, |sector| {
            let mut done = 0;
            for slice in slices {
                done += slice.copy_to(&mut sector[done..]);
                if done == 512 {
                    break;
                }
            }
        })?;
        self.vectored(position, slices, true)
    }

    fn vectored(&self, position: u64, slices: &[RamSlice], write: bool) -> io::Result<()> {
        let total = slices.iter().map(RamSlice::len).sum();
        let mut at = self.locate(position, total)?;
        let mut rest = slices.to_vec();
        rest.retain(|s| !s.is_empty());
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(1024)];
            let outcome = if write {
                RamSlice::write_file_at(part, &self.file, at)
            } else {
                RamSlice::read_file_at(part, &self.file, at)
            };
            let n = match outcome {
                Ok(0) if write => return Err(io::ErrorKind::WriteZero.into()),
                Ok(0) => {
                    for slice in &rest {
                        slice.copy_from(&vec![0; slice.len() as usize]);
                    }
                    return Ok(());
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // O_DIRECT refuses what is not aligned for it.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && self.options.cache.direct => {
                    return self.vectored_bounced(at, &rest, write);
                }
                Err(e) => return Err(e),
            };
            at += n;
            rest = behind(&rest, n);
        }
        Ok(())
    }

    fn vectored_bounced(&self, mut at: u64, slices: &[RamSlice], write: bool) -> io::Result<()> {
        for slice in slices {
            let mut rest = vec![slice.clone()];
            while let Some(slice) = rest.pop().filter(|s| !s.is_empty()) {
                let mut buf = vec![0; (slice.len() as usize).min(BOUNCE)];
                if write {
                    slice.copy_to(&mut buf);
                    self.write_bounced(at, &buf)?;
                } else {
                    self.read_bounced(at, &mut buf)?;
                    slice.copy_from(&buf);
                }
                at += buf.len() as u64;
                rest = behind(&[slice], buf.len() as u64);
            }
        }
        Ok(())
    }

    /// Makes everything written so far survive a crash of the host.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub fn flush(&self) -> io::Result<()> {
        if self.options.cache.no_flush || self.options.read_only { Ok(()) } else { self.file.sync_data() }
    }

    /// Forgets bytes, if the user allowed it and the host can.
    ///
    /// # Errors
    /// The image is read-only, or the range is not within it.
    pub fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let at = self.locate(position, len)?;
        self.check_write(1, |_| {})?;
        if self.options.discard == Discard::Unmap && len != 0 {
            // Advice: a host that cannot is no error.
            let _ = fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len);
        }
        Ok(())
    }

    /// Makes bytes zero; `unmap`: their space may be given back.
    ///
    /// # Errors
    /// As [`BlockBackend::write`].
    pub fn write_zeroes(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let at = self.locate(position, len)?;
        self.check_write(1, |_| {})?;
        if len == 0 {
            return Ok(());
        }
        let punch = unmap && self.options.discard == Discard::Unmap;
        let mode = if punch { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        if fallocate(&self.file, mode | FallocateFlags::KEEP_SIZE, at, len).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; BOUNCE.min(len as usize)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BOUNCE as u64);
            self.write(position + done, &zeros[..part as usize])?;
            done += part;
        }
        Ok(())
    }
}

/// What is left of `slices` behind their first `n` bytes.
fn behind(slices: &[RamSlice], mut n: u64) -> Vec<RamSlice> {
    let mut rest = Vec::with_capacity(slices.len());
    for slice in slices {
        let skip = n.min(slice.len());
        n -= skip;
        if skip < slice.len()
            && let Some(part) = slice.block().slice(slice.offset() + skip, slice.len() - skip)
        {
            rest.push(part);
        }
    }
    rest
}

fn align(at: u64) -> (u64, usize) {
    let start = at & !(DIRECT_ALIGN as u64 - 1);
    (start, (at - start) as usize)
}

/// A buffer whose used part is aligned for O_DIRECT.
struct Bounce {
    space: Vec<u8>,
    from: usize,
    len: usize,
}

impl Bounce {
    fn new(len: usize) -> Self {
        let space = vec![0; len + DIRECT_ALIGN];
        let from = space.as_ptr().addr().next_multiple_of(DIRECT_ALIGN) - space.as_ptr().addr();
        Self { space, from, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.space[self.from..self.from + self.len]
    }
}

/// Bytes in a file or a block device.
fn size_of(mut file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    if meta.is_file() {
        return Ok(meta.len());
    }
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cache;
    use guestmem::RamBlock;

    fn image(name: &str, size: u64) -> String {
        let path = std::env::temp_dir().join(format!("tinamou-block-{}-{name}", std::process::id()));
        let file = File::create(&path).expect("image");
        file.set_len(size).expect("size");
        path.to_str().expect("path").to_owned()
    }

    fn open(path: &str, change: impl FnOnce(&mut BlockOptions)) -> Result<Arc<BlockBackend>, BlockError> {
        let mut options = BlockOptions {
            file: Some(path.to_owned()),
            format: Some("raw".to_owned()),
            ..BlockOptions::default()
        };
        change(&mut options);
        BlockBackend::open(&options)
    }

    #[test]
    fn bytes_come_back_also_unaligned_with_direct_io() {
        for mode in ["writeback", "none"] {
            let path = image(mode, 1 << 20);
            let Ok(disk) = open(&path, |o| o.cache = Cache::by_name(mode).expect("mode")) else {
                // tmpfs may refuse O_DIRECT.
                assert_eq!(mode, "none");
                continue;
            };
            let ram = RamBlock::new("ram", 8192).expect("ram");
            ram.write(3, b"hello, disk!");
            let parts = [ram.slice(3, 5).expect("part"), ram.slice(8, 507).expect("part")];
            disk.writev(512, &parts).expect("write");
            let mut back = [0; 14];
            disk.read(510, &mut back).expect("read");
            assert_eq!(&back, b"\0\0hello, disk!");
            disk.readv(512, &[ram.slice(4001, 512).expect("part")]).expect("read");
            assert_eq!(ram.read_int(4001, 4), u64::from(u32::from_le_bytes(*b"hell")));
            disk.write_zeroes(512, 4, false).expect("zero");
            disk.read(510, &mut back).expect("read");
            assert_eq!(&back, b"\0\0\0\0\0\0o, disk!");
            assert!(disk.read((1 << 20) - 1, &mut [0; 2]).is_err());
            assert!(disk.write(u64::MAX, b"x").is_err());
            disk.flush().expect("flush");
            std::fs::remove_file(path).expect("remove");
        }
    }

    #[test]
    fn an_image_in_use_is_refused() {
        let path = image("lock", 4096);
        let first = open(&path, |_| {}).expect("first");
        let text = open(&path, |_| {}).err().expect("refused").0;
        assert_eq!(
            text,
            format!("Failed to get \"write\" lock\nIs another process using the image [{path}]?")
        );
        let text = open(&path, |o| o.read_only = true).err().expect("refused").0;
        assert!(text.starts_with("Failed to get shared \"write\" lock"), "{text}");
        drop(first);
        let reader = open(&path, |o| o.read_only = true).expect("reader");
        open(&path, |o| o.read_only = true).expect("second reader");
        assert!(reader.write(0, b"x").is_err());
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn errors_are_worded_as_in_qemu() {
        let text = open("/nonexistent/x", |_| {}).err().expect("error").0;
        assert_eq!(text, "Could not open '/nonexistent/x': No such file or directory");
        let text = open("x", |o| o.format = Some("qcow2".to_owned())).err().expect("error").0;
        assert_eq!(text, "Unknown driver 'qcow2'");
    }

    #[test]
    fn a_guessed_raw_image_keeps_its_first_block_harmless() {
        let path = image("probe", 4096);
        let disk = open(&path, |o| o.format = None).expect("open");
        assert!(disk.write(0, b"QFI\xfb").is_err());
        disk.write(0, b"fine").expect("write");
        disk.write(512, b"QFI\xfb").expect("write");
        std::fs::remove_file(path).expect("remove");
    }
}
