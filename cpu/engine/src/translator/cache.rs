//! Memory for generated code: one memory file mapped twice, writable in one place and executable in another, so that
//! no page is ever both.

use rustix::mm::{
    MapFlags, MprotectFlags, MremapFlags, ProtFlags, mmap, mmap_anonymous, mprotect, mremap, munmap,
};
use std::ffi::c_void;
use std::ptr::null_mut;

/// The code of one vCPU.
pub(crate) struct CodeCache {
    write: *mut u8,
    exec: *mut u8,
    size: usize,
    used: usize,
    /// Where code off the straight path begins, and how far that has grown.
    split: usize,
    cold: usize,
    /// Bytes at the start that are kept when everything else is dropped.
    kept: usize,
}

impl CodeCache {
    /// `size` bytes; `None` where the host does not allow executable shared memory. `anonymous`: perf takes it for
    /// anonymous memory, whose functions it finds in its map, and not for a file.
    pub(crate) fn new(size: usize, anonymous: bool) -> Option<Self> {
        let (write, exec) = if anonymous { Self::map_anonymous(size)? } else { Self::map_file(size)? };
        let split = (size / 5 * 2).next_multiple_of(64);
        Some(Self { write: write.cast(), exec: exec.cast(), size, used: 0, split, cold: split, kept: 0 })
    }

    /// The same memory twice, writable and executable.
    fn map_anonymous(size: usize) -> Option<(*mut c_void, *mut c_void)> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let write =
            unsafe { mmap_anonymous(null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) }
                .ok()?;
        // SAFETY: an old size of 0 leaves the mapping as it is and maps its memory once more, elsewhere (mremap(2));
        // nothing refers to that yet.
        let exec = unsafe {
            mremap(write, 0, size, MremapFlags::MAYMOVE).and_then(|exec| {
                mprotect(exec, size, MprotectFlags::READ | MprotectFlags::EXEC).map(|()| exec)
            })
        };
        let Ok(exec) = exec else {
            // SAFETY: the mapping made above, which nothing refers to.
            let _ = unsafe { munmap(write, size) };
            return None;
        };
        Some((write, exec))
    }

    fn map_file(size: usize) -> Option<(*mut c_void, *mut c_void)> {
        let file = rustix::fs::memfd_create("tinamou-code", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        rustix::fs::ftruncate(&file, size as u64).ok()?;
        // SAFETY: new mappings at addresses that the kernel chooses.
        let write =
            unsafe { mmap(null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0) }
                .ok()?;
        // SAFETY: as above.
        let exec =
            unsafe { mmap(null_mut(), size, ProtFlags::READ | ProtFlags::EXEC, MapFlags::SHARED, &file, 0) };
        let Ok(exec) = exec else {
            // SAFETY: the mapping made above, which nothing refers to.
            let _ = unsafe { munmap(write, size) };
            return None;
        };
        Some((write, exec))
    }

    /// Bytes of code.
    pub(super) fn used(&self) -> usize {
        self.used + (self.cold - self.split)
    }

    /// Where the next code will run.
    pub(crate) fn next(&self) -> u64 {
        self.exec as u64 + self.used as u64
    }

    /// Where the next code off the straight path will run.
    pub(super) fn next_cold(&self) -> u64 {
        self.exec as u64 + self.cold as u64
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.split.saturating_sub(self.used).min(self.size.saturating_sub(self.cold))
    }

    /// Adds code that was made for [`CodeCache::next`] and [`CodeCache::next_cold`]; false when it does not fit.
    pub(crate) fn add(&mut self, code: &[u8], cold: &[u8]) -> bool {
        if code.len().max(cold.len()) > self.left() {
            return false;
        }
        // SAFETY: `used + code.len()` is at most `split`, and that within the writable mapping, which nothing else
        // refers to.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.add(self.used), code.len()) };
        // SAFETY: as above; `cold + cold.len()` is at most `size`.
        unsafe { std::ptr::copy_nonoverlapping(cold.as_ptr(), self.write.add(self.cold), cold.len()) };
        self.used = (self.used + code.len()).next_multiple_of(16);
        self.cold += cold.len();
        true
    }

    /// Keeps what is there now for good.
    pub(super) fn keep(&mut self) {
        self.kept = self.used;
    }

    /// Where `code` is found, as an executable address.
    #[cfg(test)]
    pub(super) fn find(&self, code: &[u8]) -> Option<u64> {
        // SAFETY: the mapping has been written up to `used`; nothing changes it meanwhile.
        let all = unsafe { std::slice::from_raw_parts(self.write, self.used) };
        all.windows(code.len()).position(|w| w == code).map(|at| self.exec as u64 + at as u64)
    }

    /// Drops everything but what is kept.
    pub(super) fn clear(&mut self) {
        self.used = self.kept;
        self.cold = self.split;
    }

    /// Overwrites code at the executable address `at`; ignored outside the cache.
    pub(super) fn patch(&mut self, at: u64, code: &[u8]) {
        let offset = at.wrapping_sub(self.exec as u64) as usize;
        if offset < self.size && code.len() <= self.size - offset {
            // SAFETY: within the writable mapping; only the vCPU's own thread, which runs this, executes the code.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.add(offset), code.len()) };
        }
    }
}

impl Drop for CodeCache {
    fn drop(&mut self) {
        // SAFETY: both were mapped with this size in `new`; no code runs any more.
        unsafe {
            let _ = munmap(self.write.cast(), self.size);
            let _ = munmap(self.exec.cast(), self.size);
        }
    }
}
