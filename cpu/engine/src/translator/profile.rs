//! What profilers are told of generated code: a map for perf (`-perfmap`), and a dump of the code (`-jitdump`).
//!
//! The layouts are those of the Linux kernel's tools/perf/Documentation/jit-interface.txt and
//! jitdump-specification.txt.

use parking_lot::Mutex;
use report::warn_report;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::ClockId;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process;
use std::ptr::null_mut;

/// The first bytes of a dump, in the order of the host.
const MAGIC: u32 = 0x4a69_5444;
/// EM_X86_64.
const MACHINE: u32 = 62;
/// Bytes of the dump's header.
const HEADER: u32 = 40;
/// A record that shows code.
const CODE_LOAD: u32 = 0;
/// Bytes of such a record before the name.
const LOAD: usize = 56;

/// The files that are written.
#[derive(Default)]
pub(crate) struct Profile {
    map: Option<Mutex<File>>,
    dump: Option<Mutex<Dump>>,
}

struct Dump {
    file: File,
    /// Pieces of code shown so far.
    pieces: u64,
    /// perf finds the file by this executable mapping of it.
    marker: usize,
}

impl Drop for Dump {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `Dump::new`, which nothing refers to.
        let _ = unsafe { munmap(self.marker as *mut _, MARKER) };
    }
}

/// Bytes of [`Dump::marker`].
const MARKER: usize = 4096;

fn create(name: &str) -> io::Result<File> {
    // Others may write to the folder: no links are followed.
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).write(true).create(true).truncate(true).custom_flags(flags).open(name)
}

fn now() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

impl Profile {
    /// Opens the files that are wanted. One that cannot be is told, and left out.
    pub(crate) fn open(map: bool, dump: bool) -> Self {
        let id = process::id();
        let told = |name: &str, what: &str, error: &io::Error| {
            warn_report!("Could not open {name}: {error}, proceeding without {what}");
        };
        let map = map.then(|| format!("/tmp/perf-{id}.map")).and_then(|name| {
            create(&name).inspect_err(|error| told(&name, "perfmap", error)).ok().map(Mutex::new)
        });
        let dump = dump.then(|| format!("jit-{id}.dump")).and_then(|name| {
            let made = create(&name).and_then(Dump::new);
            made.inspect_err(|error| told(&name, "jitdump", error)).ok().map(Mutex::new)
        });
        Self { map, dump }
    }

    /// Whether perf has to take the code for anonymous memory, which the map is for.
    pub(super) fn needs_anonymous(&self) -> bool {
        self.map.is_some()
    }

    /// Shows `code`, which runs at `at`.
    pub(super) fn show(&self, at: u64, code: &[u8], name: &str) {
        if code.is_empty() {
            return;
        }
        if let Some(map) = &self.map {
            // One write, so that the line is there for whoever reads the file now.
            let _ = map.lock().write_all(format!("{at:x} {:x} {name}\n", code.len()).as_bytes());
        }
        if let Some(dump) = &self.dump {
            let _ = dump.lock().add(at, code, name);
        }
    }
}

impl Dump {
    fn new(mut file: File) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER as usize);
        for word in [MAGIC, 1, HEADER, MACHINE, 0, process::id()] {
            header.extend(word.to_ne_bytes());
        }
        header.extend(now().to_ne_bytes());
        header.extend(0u64.to_ne_bytes());
        file.write_all(&header)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing is ever read or run there.
        let marker = unsafe {
            mmap(null_mut(), MARKER, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE, &file, 0)
        }?;
        Ok(Self { file, pieces: 0, marker: marker as usize })
    }

    fn add(&mut self, at: u64, code: &[u8], name: &str) -> io::Result<()> {
        let size = LOAD + name.len() + 1 + code.len();
        let mut record = Vec::with_capacity(size);
        record.extend(CODE_LOAD.to_ne_bytes());
        record.extend((size as u32).to_ne_bytes());
        record.extend(now().to_ne_bytes());
        record.extend(process::id().to_ne_bytes());
        record.extend(rustix::thread::gettid().as_raw_nonzero().get().to_ne_bytes());
        for word in [at, at, code.len() as u64, self.pieces] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(name.as_bytes());
        record.push(0);
        record.extend(code);
        self.pieces += 1;
        self.file.write_all(&record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};

    #[test]
    fn a_dump_reads_as_specified() {
        let file = rustix::fs::memfd_create("dump", rustix::fs::MemfdFlags::CLOEXEC).expect("file");
        let mut dump = Dump::new(File::from(file)).expect("dump");
        dump.add(0x1000, &[0x90, 0xc3], "one").expect("record");
        dump.add(0x2000, &[0xc3], "two").expect("record");
        let mut all = Vec::new();
        dump.file.rewind().expect("start");
        dump.file.read_to_end(&mut all).expect("read");
        let word = |at: usize| u32::from_ne_bytes(all[at..at + 4].try_into().expect("4"));
        let long = |at: usize| u64::from_ne_bytes(all[at..at + 8].try_into().expect("8"));
        assert_eq!([word(0), word(4), word(8), word(12), word(20)], [MAGIC, 1, 40, 62, process::id()]);
        let first = HEADER as usize;
        assert_eq!((word(first), word(first + 4)), (0, 62));
        assert_eq!(
            [long(first + 24), long(first + 32), long(first + 40), long(first + 48)],
            [0x1000, 0x1000, 2, 0]
        );
        assert_eq!(&all[first + 56..first + 62], b"one\0\x90\xc3");
        let second = first + 62;
        assert_eq!((long(second + 24), long(second + 48), all.len()), (0x2000, 1, second + 61));
        assert!(long(first + 8) <= long(second + 8) && long(24) <= long(first + 8));
    }
}
