//! A disk: an image file, or a part of one.

use crate::file::{OpenFile, strerror};
use crate::node::{Child, Node};
use crate::options::{BlockOptions, DetectZeroes, Discard};
use crate::overlay::{Overlay, Session};
use crate::pieces::{BOUNCE, Bounce, DIRECT_ALIGN, align, behind, first, is_zero, zero};
use crate::throttle_group::ThrottleGroup;
use crate::{BlockError, probe};
use guestmem::{FileEngine, RamSlice};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Writes up to this many bytes are looked through for `detect-zeroes`; guests zero disks in pieces of this size.
const DETECT_MAX: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// A drive without a medium (`-drive if=none,id=x`), known by its id.
pub struct NoMedium;

/// A raw disk, addressed in bytes. All calls block; devices make them on a thread of their own.
pub struct BlockBackend {
    name: String,
    file: Arc<OpenFile>,
    options: BlockOptions,
    size: u64,
    /// Where in the file the disk begins.
    start: u64,
    /// The format was guessed: block 0 must not come to look like another format.
    probed: bool,
    /// What lies below is read-only, though this is not said to be.
    stuck: bool,
    /// Where writes go instead of to the file.
    overlay: Option<Overlay>,
    used: AtomicBool,
    throttle: OnceLock<Arc<ThrottleGroup>>,
}

impl BlockBackend {
    /// Opens the image of a `-drive` known as `name`.
    ///
    /// # Errors
    /// The file cannot be opened, or its format is not built: QEMU's texts.
    pub fn open(name: &str, options: &BlockOptions) -> Result<Arc<Self>, BlockError> {
        let path = options
            .file
            .as_deref()
            .ok_or_else(|| BlockError("A block device must be specified for \"file\"".to_owned()))?;
        // Under an overlay the image is only read.
        let opened = BlockOptions { read_only: options.read_only || options.snapshot, ..options.clone() };
        let file = Arc::new(OpenFile::open(path, &opened, true)?);
        let mut this = Self::over(name, file, &opened, 0, None)?;
        if options.format.is_none() {
            this.probe()?;
        }
        if options.snapshot {
            this.overlay = Some(Overlay::new(this.size)?);
            this.options.read_only = options.read_only;
            this.probed = false;
        }
        Ok(Arc::new(this))
    }

    /// Makes the node of a `-blockdev`; `find` gives the node that another names as its `file`.
    ///
    /// # Errors
    /// A file cannot be opened, a node does not exist, or a part does not fit into its file: QEMU's texts.
    pub fn node(
        name: &str,
        node: &Node,
        find: &dyn Fn(&str) -> Option<Arc<Self>>,
    ) -> Result<Arc<Self>, BlockError> {
        let options = &node.options;
        let below = match &node.child {
            None => {
                let path = options.file.as_deref().unwrap_or_default();
                let file = Arc::new(OpenFile::open(path, options, false)?);
                return Self::over(name, file, options, 0, None).map(Arc::new);
            }
            Some(Child::Inline(inner)) => Self::node(inner.name.as_deref().unwrap_or(name), inner, find)?,
            Some(Child::Named(child)) => find(child)
                .ok_or_else(|| BlockError(format!("Cannot find device='{child}' nor node-name='{child}'")))?,
        };
        // What the lower node does to requests holds for the upper one's too.
        let mut options = options.clone();
        let stuck = below.options.read_only && !options.read_only;
        options.read_only |= below.options.read_only;
        options.cache.no_flush |= below.options.cache.no_flush;
        if below.options.discard == Discard::Ignore {
            options.discard = Discard::Ignore;
        }
        if options.detect_zeroes == DetectZeroes::Off {
            options.detect_zeroes = below.options.detect_zeroes;
        }
        options.file.clone_from(&below.options.file);
        let disk = Self::over(name, below.file.clone(), &options, below.start, Some(below.size))?;
        Ok(Arc::new(Self { stuck, ..disk }))
    }

    /// A disk in `file`: at `start` in a range of `whole` bytes (`None`: up to the end of the file) as the options say.
    fn over(
        name: &str,
        file: Arc<OpenFile>,
        options: &BlockOptions,
        start: u64,
        whole: Option<u64>,
    ) -> Result<Self, BlockError> {
        let whole = match whole {
            Some(size) => size,
            // The last sector may be there in part.
            None => file.size()?.next_multiple_of(SECTOR),
        };
        let offset = options.offset;
        let rest = whole.checked_sub(offset).ok_or_else(|| {
            BlockError(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({whole})"
            ))
        })?;
        let size = options.size.unwrap_or(rest);
        if size > rest {
            return Err(BlockError(format!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the  actual size of the \
                 containing file ({whole})"
            )));
        }
        if !offset.is_multiple_of(SECTOR) || options.size.is_some_and(|size| !size.is_multiple_of(SECTOR)) {
            let what = if offset.is_multiple_of(SECTOR) { "size" } else { "offset" };
            return Err(BlockError(format!("Specified {what} is not multiple of {SECTOR}")));
        }
        let mut options = options.clone();
        options.read_only |= file.read_only;
        Ok(Self {
            name: name.to_owned(),
            file,
            options,
            size,
            start: start + offset,
            probed: false,
            stuck: false,
            overlay: None,
            used: AtomicBool::new(false),
            throttle: OnceLock::new(),
        })
    }

    fn probe(&mut self) -> Result<(), BlockError> {
        let mut start = vec![0; 512.min(self.size as usize)];
        self.read(0, &mut start).map_err(|e| {
            BlockError(format!("Could not read image for determining its format: {}", strerror(&e)))
        })?;
        let format = probe::format_of(&start);
        if format != "raw" {
            return Err(BlockError(format!("format '{format}' is not supported by this build")));
        }
        self.probed = true;
        if !self.options.read_only {
            eprintln!(
                "WARNING: Image format was not specified for '{}' and probing guessed raw.\n         Automatically \
                 detecting the format is dangerous for raw images, write operations on block 0 will be \
                 restricted.\n         Specify the 'raw' format explicitly to remove the restrictions.",
                self.file.path
            );
        }
        Ok(())
    }

    /// A device begins to use the disk: from now on others are locked out. `writable`: the device writes;
    /// `share_rw`: it does not mind others that write.
    ///
    /// # Errors
    /// Another device or process uses the image: QEMU's texts.
    pub fn claim(&self, writable: bool, share_rw: bool) -> Result<(), BlockError> {
        if self.used.load(Ordering::SeqCst) {
            let why = if self.options.automatic {
                "because it has been automatically connected to another device (did you need 'if=none' in the \
                 drive options?)"
            } else {
                "by another device"
            };
            return Err(BlockError(format!("Drive '{}' is already in use {why}", self.name)));
        }
        if self.stuck && writable {
            return Err(BlockError("Block node is read-only".to_owned()));
        }
        let writes = writable && !self.options.read_only && self.overlay.is_none();
        self.file.claim(&self.name, writes, share_rw)?;
        self.used.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Whether a device uses the disk.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::SeqCst)
    }

    /// The id of the drive or the name of the node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image's path as the user gave it.
    pub fn path(&self) -> &str {
        &self.file.path
    }

    /// How the disk is used.
    pub fn options(&self) -> &BlockOptions {
        &self.options
    }

    /// Puts the disk into a group with limits, once and for all; devices keep to them.
    pub fn limit(&self, group: Arc<ThrottleGroup>) {
        let _ = self.throttle.set(group);
    }

    /// The group whose limits the disk's users are to keep.
    pub fn throttle(&self) -> Option<&Arc<ThrottleGroup>> {
        self.throttle.get()
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
        end.map(|_| self.start + position).ok_or_else(|| io::ErrorKind::InvalidInput.into())
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
        let Some(overlay) = &self.overlay else { return self.read_image(position, buf) };
        self.locate(position, buf.len() as u64)?;
        let session = self.read_session(overlay, position, buf.len() as u64)?;
        for run in session.runs(position, buf.len() as u64) {
            let from = (run.at - position) as usize;
            let part = &mut buf[from..from + run.len as usize];
            if run.written {
                overlay.file().read_exact_at(part, run.at)?;
            } else {
                self.read_image(run.at, part)?;
            }
        }
        Ok(())
    }

    /// Begins to read; with copy-on-read the range comes over from the image first.
    fn read_session<'a>(&self, overlay: &'a Overlay, position: u64, len: u64) -> io::Result<Session<'a>> {
        let mut session = overlay.begin();
        if self.options.copy_on_read {
            session.copy(position, len, |at, bytes| self.read_image(at, bytes))?;
        }
        Ok(session)
    }

    /// As [`BlockBackend::read`], from the image.
    fn read_image(&self, position: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut at = self.locate(position, buf.len() as u64)?;
        let mut rest = buf;
        if self.file.direct {
            return self.read_bounced(at, rest);
        }
        while !rest.is_empty() {
            match self.file.file.read_at(rest, at) {
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
            let n = self.file.file.read_at(space.bytes(), start)?;
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
        if let Some(overlay) = &self.overlay {
            let mut session = overlay.begin();
            session.prepare(position, buf.len() as u64, |at, bytes| self.read_image(at, bytes))?;
            return overlay.file().write_all_at(buf, position);
        }
        if self.file.direct { self.write_bounced(at, buf) } else { self.file.file.write_all_at(buf, at) }
    }

    fn write_bounced(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (start, skip) = align(at + done as u64);
            let want = (buf.len() - done + skip).min(BOUNCE);
            let mut space = Bounce::new(want.next_multiple_of(DIRECT_ALIGN));
            if skip != 0 || !want.is_multiple_of(DIRECT_ALIGN) {
                let len = space.bytes().len();
                let n = self.file.file.read_at(space.bytes(), start)?;
                debug_assert!(n <= len);
            }
            let take = want - skip;
            space.bytes()[skip..want].copy_from_slice(&buf[done..done + take]);
            self.file.file.write_all_at(space.bytes(), start)?;
            done += take;
        }
        Ok(())
    }

    /// Reads straight into guest RAM.
    ///
    /// # Errors
    /// As [`BlockBackend::read`].
    pub fn readv(&self, position: u64, slices: &[RamSlice]) -> io::Result<()> {
        let Some(overlay) = &self.overlay else { return self.vectored(position, slices, false) };
        let total = slices.iter().map(RamSlice::len).sum();
        self.locate(position, total)?;
        let session = self.read_session(overlay, position, total)?;
        for run in session.runs(position, total) {
            let part = first(&behind(slices, run.at - position), run.len);
            if run.written {
                self.transfer(overlay.file(), &FileEngine::Calls, run.at, &part, false)?;
            } else {
                self.vectored(run.at, &part, false)?;
            }
        }
        Ok(())
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
        let total: u64 = slices.iter().map(RamSlice::len).sum();
        if self.options.detect_zeroes != DetectZeroes::Off && total <= DETECT_MAX && is_zero(slices) {
            return self.write_zeroes(position, total, self.options.detect_zeroes == DetectZeroes::Unmap);
        }
        let Some(overlay) = &self.overlay else { return self.vectored(position, slices, true) };
        self.locate(position, total)?;
        let mut session = overlay.begin();
        session.prepare(position, total, |at, bytes| self.read_image(at, bytes))?;
        self.transfer(overlay.file(), &FileEngine::Calls, position, slices, true)
    }

    fn vectored(&self, position: u64, slices: &[RamSlice], write: bool) -> io::Result<()> {
        let total = slices.iter().map(RamSlice::len).sum();
        let at = self.locate(position, total)?;
        self.transfer(&self.file.file, &self.file.engine, at, slices, write)
    }

    /// Moves bytes between guest memory and a file.
    fn transfer(
        &self,
        file: &File,
        engine: &FileEngine,
        mut at: u64,
        slices: &[RamSlice],
        write: bool,
    ) -> io::Result<()> {
        let mut rest = slices.to_vec();
        rest.retain(|s| !s.is_empty());
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(1024)];
            let outcome = if write { engine.write(part, file, at) } else { engine.read(part, file, at) };
            let n = match outcome {
                Ok(0) if write => return Err(io::ErrorKind::WriteZero.into()),
                Ok(0) => {
                    zero(&rest);
                    return Ok(());
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // O_DIRECT refuses what is not aligned for it.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && self.file.direct => {
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
        // What is temporary need not survive.
        if self.options.cache.no_flush || self.options.read_only || self.overlay.is_some() {
            Ok(())
        } else {
            self.file.engine.sync(&self.file.file)
        }
    }

    /// Forgets bytes, if the user allowed it and the host can.
    ///
    /// # Errors
    /// The image is read-only, or the range is not within it.
    pub fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let at = self.locate(position, len)?;
        self.check_write(1, |_| {})?;
        if self.options.discard == Discard::Unmap && len != 0 && self.overlay.is_none() {
            // Advice: a host that cannot is no error.
            let _ =
                fallocate(&self.file.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len);
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
        if let Some(overlay) = &self.overlay {
            let mut session = overlay.begin();
            session.prepare(position, len, |at, bytes| self.read_image(at, bytes))?;
            if session.zero(position, len) {
                return Ok(());
            }
            drop(session);
            return self.write_zeros(position, len);
        }
        let punch = unmap && self.options.discard == Discard::Unmap;
        let mode = if punch { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        if fallocate(&self.file.file, mode | FallocateFlags::KEEP_SIZE, at, len).is_ok() {
            return Ok(());
        }
        self.write_zeros(position, len)
    }

    /// Writes zeros where the host's file system has no better way.
    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cache;
    use guestmem::RamBlock;
    use std::fs::File;

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
        BlockBackend::open("d", &options)
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
        first.claim(true, false).expect("first device");
        assert_eq!(
            first.claim(true, false).expect_err("second device").0,
            "Drive 'd' is already in use by another device"
        );
        let second = open(&path, |_| {}).expect("second");
        assert_eq!(
            second.claim(true, false).expect_err("refused").0,
            format!("Failed to get \"write\" lock\nIs another process using the image [{path}]?")
        );
        let reader = open(&path, |o| o.read_only = true).expect("reader");
        let text = reader.claim(false, false).expect_err("refused").0;
        assert!(text.starts_with("Failed to get shared \"write\" lock"), "{text}");
        drop((first, second));
        let reader = open(&path, |o| o.read_only = true).expect("reader");
        reader.claim(false, false).expect("free");
        open(&path, |o| o.read_only = true).expect("open").claim(false, false).expect("second reader");
        assert!(reader.write(0, b"x").is_err());
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn nodes_lie_over_each_other() {
        let path = image("node", 8192);
        let parse =
            |text: &str| Node::parse(&keyval::dict(text, Some("driver")).expect(text), true).expect(text);
        let none = |_: &str| None;
        let file = parse(&format!("file,node-name=f,filename={path}"));
        let file = BlockBackend::node("f", &file, &none).expect("file");
        let raw = parse("raw,node-name=r,file=f,offset=512,size=1024");
        assert_eq!(
            BlockBackend::node("r", &raw, &none).err().expect("no f").0,
            "Cannot find device='f' nor node-name='f'"
        );
        let find = |_: &str| Some(file.clone());
        let disk = BlockBackend::node("r", &raw, &find).expect("raw");
        assert_eq!((disk.size(), disk.start), (1024, 512));
        disk.write(0, b"here").expect("write");
        let mut back = [0; 4];
        file.read(512, &mut back).expect("read");
        assert_eq!(&back, b"here");
        disk.claim(true, false).expect("claim");
        assert_eq!(
            file.claim(true, false).expect_err("conflict").0,
            "Conflicts with use by r as 'root', which does not allow 'write' on f"
        );
        let far = parse("raw,node-name=r,file=f,offset=1048576");
        assert!(
            BlockBackend::node("r", &far, &find).err().expect("far").0.starts_with("Offset (1048576) cannot")
        );
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn zeros_can_be_found_in_writes() {
        use std::os::unix::fs::MetadataExt;
        let path = image("zeroes", 1 << 20);
        let disk = open(&path, |o| {
            o.detect_zeroes = DetectZeroes::Unmap;
            o.discard = Discard::Unmap;
        })
        .expect("open");
        let ram = RamBlock::new("ram", 1 << 16).expect("ram");
        let all = [ram.slice(0, 1 << 16).expect("all")];
        ram.write(5, b"x");
        disk.writev(0, &all).expect("write");
        assert!(std::fs::metadata(&path).expect("file").blocks() > 0);
        ram.write(5, b"\0");
        disk.writev(0, &all).expect("write");
        assert_eq!(std::fs::metadata(&path).expect("file").blocks(), 0);
        let mut back = [1; 8];
        disk.read(0, &mut back).expect("read");
        assert_eq!(back, [0; 8]);
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn every_engine_reads_what_another_wrote() {
        use crate::Aio;
        let path = image("engines", 1 << 20);
        let ram = RamBlock::new("ram", 1 << 16).expect("ram");
        let refused = open(&path, |o| o.aio = Aio::Native).err().expect("buffered").0;
        assert!(
            refused.starts_with("aio=native was specified, but it requires cache.direct=on"),
            "{refused}"
        );
        let mut disks = Vec::new();
        for (aio, direct) in
            [(Aio::Threads, false), (Aio::Native, true), (Aio::IoUring, false), (Aio::IoUring, true)]
        {
            let disk = open(&path, |o| {
                o.aio = aio;
                o.cache.direct = direct;
            });
            match disk {
                Ok(disk) => disks.push(disk),
                // Not every file system has O_DIRECT, and not every kernel lets everyone have a ring.
                Err(error) => println!("SKIPPED {aio:?} direct={direct}: {error}"),
            }
        }
        for (n, writer) in (1u8..).zip(&disks) {
            ram.write(0, &[n; 1 << 16]);
            // Aligned for O_DIRECT, and not.
            for (at, slice) in [(8192, ram.slice(4096, 8192)), (512, ram.slice(7, 1024))] {
                writer.writev(at, &[slice.expect("slice")]).expect("write");
            }
            writer.flush().expect("flush");
            for reader in &disks {
                for (at, from, len) in [(8192, 0, 8192), (512, 5, 1024)] {
                    ram.write(0, &[0; 1 << 16]);
                    reader.readv(at, &[ram.slice(from, len).expect("slice")]).expect("read");
                    let mut bytes = vec![0; len as usize];
                    ram.read(from, &mut bytes);
                    assert!(bytes.iter().all(|byte| *byte == n), "{:?}", reader.options().aio);
                }
            }
        }
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn a_snapshot_leaves_the_image_as_it_is() {
        let path = image("snapshot", 1 << 20);
        let size = 1u64 << 20;
        std::fs::write(&path, vec![7; 1 << 20]).expect("image");
        let disk = open(&path, |o| o.snapshot = true).expect("open");
        disk.claim(true, false).expect("alone");
        let ram = RamBlock::new("ram", size).expect("ram");
        // The same requests on a copy in memory, and on the disk by bytes and from guest memory.
        let mut copy = vec![7u8; 1 << 20];
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) % below
        };
        for round in 0..200u8 {
            let at = random(size / 512) * 512;
            let len = ((random(300) + 1) * 512).min(size - at);
            let range = at as usize..(at + len) as usize;
            match random(4) {
                0 => {
                    disk.write_zeroes(at, len, true).expect("zeroes");
                    copy[range].fill(0);
                }
                1 => {
                    ram.write(0, &vec![round; len as usize]);
                    disk.writev(at, &[ram.slice(0, len).expect("slice")]).expect("writev");
                    copy[range].fill(round);
                }
                2 => {
                    disk.write(at, &vec![round; len as usize]).expect("write");
                    copy[range].fill(round);
                }
                _ => {
                    let half = len / 2;
                    let parts = [ram.slice(0, half), ram.slice(half, len - half)].map(|s| s.expect("slice"));
                    disk.readv(at, &parts).expect("readv");
                    let mut bytes = vec![0; len as usize];
                    ram.read(0, &mut bytes);
                    assert!(bytes == copy[range.clone()], "round {round}");
                    disk.read(at, &mut bytes).expect("read");
                    assert!(bytes == copy[range], "round {round}");
                }
            }
        }
        disk.flush().expect("flush");
        assert!(disk.write(size, b"x").is_err());
        assert!(std::fs::read(&path).expect("image") == vec![7; 1 << 20], "the image has changed");
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn what_was_read_is_kept_with_copy_on_read() {
        let path = image("copy", 1 << 18);
        for (copy_on_read, second) in [(false, 2), (true, 1)] {
            std::fs::write(&path, vec![1; 1 << 18]).expect("image");
            let disk = open(&path, |o| (o.snapshot, o.copy_on_read) = (true, copy_on_read)).expect("open");
            let mut bytes = [0; 2];
            disk.read(0xffff, &mut bytes).expect("read");
            assert_eq!(bytes, [1; 2]);
            std::fs::write(&path, vec![2; 1 << 18]).expect("image");
            disk.read(0x1_ffff, &mut bytes).expect("read");
            assert_eq!(bytes, [second, 2]);
        }
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn errors_are_worded_as_in_qemu() {
        let text = open("/nonexistent/x", |_| {}).err().expect("error").0;
        assert_eq!(text, "Could not open '/nonexistent/x': No such file or directory");
        let text = open("/tmp", |o| o.auto_read_only = true).err().expect("error").0;
        assert_eq!(text, "'file' driver requires '/tmp' to be a regular file");
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
