//! RAM blocks: host mappings that hold guest RAM or ROM. The one file of this crate with unsafe code.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::mm::{Advice, MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes in a guest page, the granule of code tracking.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes of the host's large pages, in which memory is aligned and taken where the host has them.
const LARGE: usize = 2 << 20;

/// Set in a page's stamp while an accelerator holds decoded code of the page.
const CODE: u32 = 1;

/// A piece of guest RAM (or ROM): one host mapping.
///
/// Each page has a *stamp* that lets accelerators cache decoded code: it changes when somebody writes to the page
/// after code of it was decoded.
pub struct RamBlock {
    name: String,
    base: NonNull<u8>,
    size: u64,
    stamps: Box<[AtomicU32]>,
    /// Counts the writes that made code stale.
    code_writes: AtomicU32,
    /// What the mapping shows, when other processes can map it too.
    file: Option<OwnedFd>,
    /// For each [`LARGE`] piece of a memory file, not 0 once it was settled; empty for other memory.
    settled: Box<[AtomicU8]>,
}

// SAFETY: the mapping is owned by the block until it is dropped; all accesses through the block are bounds-checked
// and atomic or volatile, so sharing it between threads is sound.
unsafe impl Send for RamBlock {}
// SAFETY: as above.
unsafe impl Sync for RamBlock {}

impl RamBlock {
    /// A block of `size` bytes (rounded up to whole pages), all zero. Memory is taken when it is first touched.
    ///
    /// # Errors
    /// The host has not that much address space left, or `size` is 0.
    pub fn new(name: &str, size: u64) -> io::Result<Arc<Self>> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).ok_or(io::ErrorKind::OutOfMemory)?;
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let base = reserve(len)?;
        Self::of(name, base, len, None)
    }

    /// The same in a memory file, which [`RamBlock::file`] gives, so that another process can map parts of it.
    ///
    /// # Errors
    /// As [`RamBlock::new`], or the host has no memory files.
    pub fn shared(name: &str, size: u64) -> io::Result<Arc<Self>> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).ok_or(io::ErrorKind::OutOfMemory)?;
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let file = rustix::fs::memfd_create("tinamou-ram", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, size)?;
        let base = reserve(len)?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: takes the place of the mapping made just now, which nobody else knows.
        if let Err(error) = unsafe { mmap(base.cast(), len, rights, flags | MapFlags::FIXED, &file, 0) } {
            // SAFETY: as above.
            let _ = unsafe { munmap(base.cast(), len) };
            return Err(error.into());
        }
        Self::of(name, base, len, Some(file))
    }

    fn of(name: &str, base: *mut u8, len: usize, file: Option<OwnedFd>) -> io::Result<Arc<Self>> {
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        let stamps = zeroed_stamps(len / PAGE_SIZE as usize);
        let code_writes = AtomicU32::new(0);
        let large = if file.is_some() { len / LARGE } else { 0 };
        let settled = (0..large).map(|_| AtomicU8::new(0)).collect();
        Ok(Arc::new(Self {
            name: name.to_owned(),
            base,
            size: len as u64,
            stamps,
            code_writes,
            file,
            settled,
        }))
    }

    /// Has the host hold what is around `offset` in a large page, where the block is a memory file and the host can: small
    /// pages of files cost more when they are first touched, and at random accesses.
    #[inline]
    pub fn settle(&self, offset: u64) {
        if let Some(settled) = self.settled.get((offset / LARGE as u64) as usize)
            && settled.load(Ordering::Relaxed) == 0
        {
            settled.store(1, Ordering::Relaxed);
            self.make_large(offset);
        }
    }

    #[cold]
    fn make_large(&self, offset: u64) {
        // Hosts want to find something of it.
        self.read_int(offset & !(PAGE_SIZE - 1), 1);
        let from = (offset & !(LARGE as u64 - 1)) as usize;
        // SAFETY: within the mapping, whose contents stay. A host that cannot (before Linux 6.1, or it has no large page
        // left) leaves all as it is.
        let _ = unsafe {
            libc::madvise(self.base.as_ptr().wrapping_add(from).cast(), LARGE, libc::MADV_COLLAPSE)
        };
    }

    /// The memory file that holds the block, byte 0 first, for a block made by [`RamBlock::shared`].
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// A number that changes whenever a write makes code of some page stale.
    pub fn code_writes(&self) -> u32 {
        self.code_writes.load(Ordering::SeqCst)
    }

    /// Tells the host whether it may merge the block's pages with others of the same contents (`merge`), and whether
    /// they belong into the process's core dumps (`dump`).
    ///
    /// # Errors
    /// As `madvise(2)`; a host without page merging is no error.
    pub fn advise(&self, merge: bool, dump: bool) -> io::Result<()> {
        let len = usize::try_from(self.size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let advise = |advice| {
            // SAFETY: the mapping is ours and stays; none of the advice given here changes what is in it.
            unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), len, advice) }
        };
        match advise(if merge { Advice::LinuxMergeable } else { Advice::LinuxUnmergeable }) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        advise(if dump { Advice::LinuxDoDump } else { Advice::LinuxDontDump })?;
        Ok(())
    }

    /// Touches every page, so that the host finds memory for all of them now.
    pub fn touch(&self) {
        for page in (0..self.size).step_by(PAGE_SIZE as usize) {
            let byte = self.read_int(page, 1);
            self.write_int(page, 1, byte);
        }
    }

    /// The block's name, as `info ramblock` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes in the block.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The host address of byte 0. Valid while the block lives; guest code and devices write there at any time.
    pub fn host_base(&self) -> NonNull<u8> {
        self.base
    }

    /// The stamp of page number `page` (offset / 4096), for an accelerator's per-block check.
    ///
    /// # Panics
    /// `page` is not within the block.
    pub fn stamp(&self, page: u64) -> &AtomicU32 {
        &self.stamps[page as usize]
    }

    /// Notes that code of `page` is about to be decoded and returns the stamp that stays valid until the page is
    /// written, and whether the page was not watched before. Both are of one moment: a write in between would leave
    /// its writer with a translation that reports nothing. The caller makes sure that cached write translations
    /// report their writes.
    ///
    /// # Panics
    /// `page` is not within the block.
    pub fn watch_code(&self, page: u64) -> (u32, bool) {
        let before = self.stamp(page).fetch_or(CODE, Ordering::SeqCst);
        (before | CODE, before & CODE == 0)
    }

    /// Whether writes to `page` must be reported through [`RamBlock::note_write`].
    ///
    /// # Panics
    /// `page` is not within the block.
    #[inline]
    pub fn holds_code(&self, page: u64) -> bool {
        self.stamp(page).load(Ordering::SeqCst) & CODE != 0
    }

    /// Notes that bytes of `offset..offset+len` were written: decoded code of these pages is stale. True when there
    /// was such code.
    pub fn note_write(&self, offset: u64, len: u64) -> bool {
        let mut had_code = false;
        if len == 0 {
            return false;
        }
        let last = (offset + (len - 1)).min(self.size - 1) / PAGE_SIZE;
        for page in offset / PAGE_SIZE..=last {
            let stamp = &self.stamps[page as usize];
            let old = stamp.load(Ordering::SeqCst);
            if old & CODE != 0 {
                had_code = true;
                // One increment clears CODE and moves to the next generation. Losing the race means that another
                // writer has done so.
                let _ = stamp.compare_exchange(old, old.wrapping_add(1), Ordering::SeqCst, Ordering::SeqCst);
                self.code_writes.fetch_add(1, Ordering::SeqCst);
            }
        }
        had_code
    }

    /// A part of the block; `None` when it does not lie within.
    pub fn slice(self: &Arc<Self>, offset: u64, len: u64) -> Option<RamSlice> {
        let end = offset.checked_add(len)?;
        (end <= self.size).then(|| RamSlice { block: self.clone(), offset, len })
    }

    /// The host address of `offset` when `len` bytes there lie within the block.
    fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: offset is within the mapping.
        (end <= self.size).then(|| unsafe { self.base.as_ptr().add(offset as usize) })
    }

    /// Copies from the block at `offset` into `buf`; false (and nothing copied) when that is out of bounds.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> bool {
        let Some(src) = self.at(offset, buf.len() as u64) else { return false };
        copy(Copy::Out, src, buf.as_mut_ptr(), buf.len());
        true
    }

    /// Copies `buf` into the block at `offset`; false (and nothing copied) when that is out of bounds.
    pub fn write(&self, offset: u64, buf: &[u8]) -> bool {
        let Some(dst) = self.at(offset, buf.len() as u64) else { return false };
        for piece in (offset..offset + buf.len() as u64).step_by(LARGE) {
            self.settle(piece);
        }
        copy(Copy::In, dst, buf.as_ptr().cast_mut(), buf.len());
        self.note_write(offset, buf.len() as u64);
        true
    }

    /// Reads a little-endian number of 1, 2, 4 or 8 bytes, in one access when it is aligned. 0 when out of bounds.
    pub fn read_int(&self, offset: u64, size: u8) -> u64 {
        let Some(at) = self.at(offset, size.into()) else { return 0 };
        if !offset.is_multiple_of(size.into()) {
            let mut buf = [0; 8];
            self.read(offset, &mut buf[..usize::from(size.min(8))]);
            return u64::from_le_bytes(buf);
        }
        // SAFETY: `at` points to `size` bytes of the mapping, aligned to `size`; atomics allow concurrent writers.
        unsafe {
            match size {
                1 => AtomicU8::from_ptr(at).load(Ordering::Acquire).into(),
                2 => u16::from_le(AtomicU16::from_ptr(at.cast()).load(Ordering::Acquire)).into(),
                4 => u32::from_le(AtomicU32::from_ptr(at.cast()).load(Ordering::Acquire)).into(),
                8 => u64::from_le(AtomicU64::from_ptr(at.cast()).load(Ordering::Acquire)),
                _ => 0,
            }
        }
    }

    /// Writes a little-endian number of 1, 2, 4 or 8 bytes, in one access when it is aligned. Out of bounds: nothing.
    pub fn write_int(&self, offset: u64, size: u8, value: u64) {
        let Some(at) = self.at(offset, size.into()) else { return };
        if !offset.is_multiple_of(size.into()) {
            self.write(offset, &value.to_le_bytes()[..usize::from(size.min(8))]);
            return;
        }
        // SAFETY: as in read_int.
        unsafe {
            match size {
                1 => AtomicU8::from_ptr(at).store(value as u8, Ordering::Release),
                2 => AtomicU16::from_ptr(at.cast()).store((value as u16).to_le(), Ordering::Release),
                4 => AtomicU32::from_ptr(at.cast()).store((value as u32).to_le(), Ordering::Release),
                8 => AtomicU64::from_ptr(at.cast()).store(value.to_le(), Ordering::Release),
                _ => {}
            }
        }
        self.note_write(offset, size.into());
    }
}

impl Drop for RamBlock {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this base and size, and nobody can reach it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size as usize) };
    }
}

/// New memory of `len` bytes that nothing was written to; where large pages fit in, it begins with one.
fn reserve(len: usize) -> io::Result<*mut u8> {
    let more = if len >= LARGE { LARGE } else { 0 };
    let whole = len.checked_add(more).ok_or(io::ErrorKind::OutOfMemory)?;
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let start: *mut u8 = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, rights, flags)? }.cast();
    let before = if more != 0 { start.addr().next_multiple_of(LARGE) - start.addr() } else { 0 };
    for (from, bytes) in [(0, before), (before + len, more - before)] {
        if bytes != 0 {
            // SAFETY: a part of the new mapping that nobody uses; should it stay, it only takes addresses.
            let _ = unsafe { munmap(start.wrapping_add(from).cast(), bytes) };
        }
    }
    Ok(start.wrapping_add(before))
}

/// Zeroed stamps straight from the allocator, so that a large guest costs no touched memory at start.
fn zeroed_stamps(count: usize) -> Box<[AtomicU32]> {
    let zeroed: Box<[std::mem::MaybeUninit<AtomicU32>]> = Box::new_zeroed_slice(count);
    // SAFETY: all-zero bytes are a valid AtomicU32.
    unsafe { zeroed.assume_init() }
}

/// Direction of [`copy`], seen from guest RAM.
#[derive(Clone, Copy)]
enum Copy {
    Out,
    In,
}

/// Copies between guest RAM and a private buffer, in words where `ram` is aligned, with volatile accesses on the
/// guest's side. Callers pass two valid, disjoint ranges of `len` bytes.
fn copy(direction: Copy, ram: *mut u8, own: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: both ranges are valid for `len` bytes and done < len; `own` is private to the caller.
        unsafe {
            let (r, o) = (ram.add(done), own.add(done));
            if r.addr() % 8 == 0 && len - done >= 8 {
                match direction {
                    Copy::Out => o.cast::<u64>().write_unaligned(r.cast::<u64>().read_volatile()),
                    Copy::In => r.cast::<u64>().write_volatile(o.cast::<u64>().read_unaligned()),
                }
                done += 8;
            } else {
                match direction {
                    Copy::Out => o.write(r.read_volatile()),
                    Copy::In => r.write_volatile(o.read()),
                }
                done += 1;
            }
        }
    }
}

/// A part of a [`RamBlock`]; keeps the block alive.
#[derive(Clone)]
pub struct RamSlice {
    block: Arc<RamBlock>,
    offset: u64,
    len: u64,
}

impl RamSlice {
    /// Bytes in the slice.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the slice has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The block that the slice is part of.
    pub fn block(&self) -> &Arc<RamBlock> {
        &self.block
    }

    /// Where in its block the slice starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Copies as much as fits from the start of the slice; the number of bytes copied.
    pub fn copy_to(&self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        self.block.read(self.offset, &mut buf[..n]);
        n
    }

    /// Copies as much as fits to the start of the slice; the number of bytes copied.
    pub fn copy_from(&self, buf: &[u8]) -> usize {
        let n = buf.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        self.block.write(self.offset, &buf[..n]);
        n
    }
}

/// The `iovec`s of `slices`; the kernel reads or writes guest RAM directly through them.
pub(crate) fn iovecs(slices: &[RamSlice]) -> Vec<libc::iovec> {
    slices
        .iter()
        .filter_map(|s| {
            let at = s.block.at(s.offset, s.len)?;
            Some(libc::iovec { iov_base: at.cast(), iov_len: s.len as usize })
        })
        .collect()
}

pub(crate) fn check(result: isize) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The most vectors that one call may have (IOV_MAX of Linux).
pub(crate) const IOV_MAX: usize = 1024;

/// Reads from `file` at `position` straight into guest RAM, like `preadv(2)`: the number of bytes read, possibly
/// fewer than asked for.
///
/// # Errors
/// As `preadv(2)`.
pub(crate) fn read_file_at(file: &impl AsFd, position: u64, slices: &[RamSlice]) -> io::Result<u64> {
    let slices = &slices[..slices.len().min(IOV_MAX)];
    let vectors = iovecs(slices);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    // SAFETY: every vector lies within a live mapping (the slices hold their blocks); count fits by the line above.
    let n = check(unsafe {
        libc::preadv(fd, vectors.as_ptr(), vectors.len() as libc::c_int, position.cast_signed())
    })?;
    note_written(slices, n);
    Ok(n)
}

/// Tells the pages that the first `n` bytes of `slices` have changed.
pub(crate) fn note_written(slices: &[RamSlice], n: u64) {
    let mut left = n;
    for slice in slices {
        let part = left.min(slice.len);
        slice.block.note_write(slice.offset, part);
        left -= part;
    }
}

/// Writes guest RAM straight to `file` at `position`, like `pwritev(2)`: the number of bytes written, possibly fewer.
///
/// # Errors
/// As `pwritev(2)`.
pub(crate) fn write_file_at(file: &impl AsFd, position: u64, slices: &[RamSlice]) -> io::Result<u64> {
    let slices = &slices[..slices.len().min(IOV_MAX)];
    let vectors = iovecs(slices);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    // SAFETY: as in read_file_at.
    check(unsafe {
        libc::pwritev(fd, vectors.as_ptr(), vectors.len() as libc::c_int, position.cast_signed())
    })
}

impl RamSlice {
    /// Reads from `file` at byte `position` straight into the slices, in order, like `preadv(2)`; the number of
    /// bytes read, possibly fewer than asked for.
    ///
    /// # Errors
    /// As `preadv(2)`.
    pub fn read_file_at(slices: &[Self], file: &impl AsFd, position: u64) -> io::Result<u64> {
        read_file_at(file, position, slices)
    }

    /// Writes the slices, in order, to `file` at byte `position`, like `pwritev(2)`; the number of bytes written,
    /// possibly fewer than asked for.
    ///
    /// # Errors
    /// As `pwritev(2)`.
    pub fn write_file_at(slices: &[Self], file: &impl AsFd, position: u64) -> io::Result<u64> {
        write_file_at(file, position, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_are_bounds_checked() {
        let ram = RamBlock::new("test", 2 * PAGE_SIZE).expect("ram");
        assert!(ram.write(PAGE_SIZE - 3, b"abcdef"));
        let mut buf = [0; 6];
        assert!(ram.read(PAGE_SIZE - 3, &mut buf));
        assert_eq!(&buf, b"abcdef");
        assert!(!ram.write(2 * PAGE_SIZE - 2, b"abc"));
        assert!(!ram.read(u64::MAX, &mut buf));
        assert_eq!(ram.read_int(2 * PAGE_SIZE - 4, 8), 0);
        ram.write_int(8, 8, 0x1122_3344_5566_7788);
        assert_eq!(ram.read_int(10, 2), 0x5566);
        assert_eq!(ram.read_int(9, 4), 0x4455_6677);
    }

    #[test]
    fn a_write_changes_the_stamp_of_a_page_with_code_only() {
        let ram = RamBlock::new("test", 4 * PAGE_SIZE).expect("ram");
        let (stamp, fresh) = ram.watch_code(1);
        assert!(fresh && ram.watch_code(1) == (stamp, false));
        ram.write(0, &[1; 4096]);
        assert_eq!(ram.stamp(1).load(Ordering::SeqCst), stamp);
        ram.write(4090, &[1; 8]);
        assert!(!ram.holds_code(1));
        assert_ne!(ram.stamp(1).load(Ordering::SeqCst), stamp);
        let (again, fresh) = ram.watch_code(1);
        assert!(fresh && again != stamp);
    }

    #[test]
    fn large_blocks_are_aligned_and_settling_keeps_what_is_in_them() {
        for make in [RamBlock::new, RamBlock::shared] {
            let ram = make("test", 2 * LARGE as u64 + 3 * PAGE_SIZE).expect("ram");
            assert_eq!(ram.host_base().addr().get() % LARGE, 0);
            let places = [5 * PAGE_SIZE, LARGE as u64 - 3, 2 * LARGE as u64 + PAGE_SIZE];
            places.iter().for_each(|at| assert!(ram.write(*at, &at.to_le_bytes())));
            (0..ram.size()).step_by(PAGE_SIZE as usize).for_each(|at| ram.settle(at));
            places.iter().for_each(|at| assert_eq!(ram.read_int(*at, 8), *at));
            assert_eq!(ram.read_int(6 * PAGE_SIZE, 8), 0);
            let whole = ram.settled.iter().filter(|s| s.load(Ordering::Relaxed) != 0).count();
            assert_eq!(whole, if ram.file().is_some() { 2 } else { 0 });
            let file = ram.file().map(|f| f.try_clone_to_owned().expect("file"));
            if let Some(file) = file {
                let mut byte = [0; 8];
                std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::from(file), &mut byte, places[0])
                    .expect("read");
                assert_eq!(u64::from_le_bytes(byte), places[0]);
            }
        }
    }

    #[test]
    fn files_are_read_into_ram_and_written_from_it() {
        let ram = RamBlock::new("test", 2 * PAGE_SIZE).expect("ram");
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        ram.write(0, b"hello, world");
        let parts = [ram.slice(0, 5).expect("part"), ram.slice(7, 5).expect("part")];
        assert_eq!(RamSlice::write_file_at(&parts, &file, 3).expect("write"), 10);
        let (stamp, fresh) = ram.watch_code(1);
        assert!(fresh && ram.watch_code(1) == (stamp, false));
        let back = [ram.slice(PAGE_SIZE, 4).expect("part"), ram.slice(PAGE_SIZE + 8, 100).expect("part")];
        assert_eq!(RamSlice::read_file_at(&back, &file, 3).expect("read"), 10);
        let mut buf = [0; 14];
        ram.read(PAGE_SIZE, &mut buf);
        assert_eq!(&buf, b"hell\0\0\0\0oworld");
        assert_ne!(ram.stamp(1).load(Ordering::SeqCst), stamp);
    }
}
