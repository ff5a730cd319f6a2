//! How the kernel is asked to move bytes between files and guest memory: plain system calls, Linux's native
//! asynchronous I/O, or io_uring.
//!
//! A request waits for its end here; whoever wants several at a time asks from several threads. While the kernel holds
//! a request the slices are borrowed, so that their memory stays.

use crate::RamSlice;
use crate::ram::{IOV_MAX, check, iovecs, note_written};
use io_uring::{IoUring, opcode, types};
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A way to ask the kernel.
#[derive(Default)]
pub enum FileEngine {
    /// preadv(2) and pwritev(2).
    #[default]
    Calls,
    /// io_submit(2).
    Native(NativeContext),
    /// io_uring(7).
    Uring(Box<Mutex<IoUring>>),
}

/// A context of io_setup(2).
pub struct NativeContext {
    context: Mutex<libc::c_ulong>,
}

/// `struct iocb` of linux/aio_abi.h, on a little-endian host.
#[repr(C)]
#[derive(Default)]
struct ControlBlock {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    count: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_descriptor: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    block: u64,
    result: i64,
    result2: i64,
}

/// Operations of a control block.
const FDSYNC: u16 = 3;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

impl NativeContext {
    fn new() -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes the context's number to the variable.
        check(unsafe { libc::syscall(libc::SYS_io_setup, 1 as libc::c_uint, &raw mut context) } as isize)?;
        Ok(Self { context: Mutex::new(context) })
    }

    /// Submits a request and waits for its end.
    ///
    /// # Safety
    /// What the block names is valid until the end.
    unsafe fn run(&self, mut block: ControlBlock) -> io::Result<u64> {
        let context = self.context.lock();
        let mut list = [&raw mut block];
        // SAFETY: one control block, alive until its event has come below.
        let submitted =
            unsafe { libc::syscall(libc::SYS_io_submit, *context, 1 as libc::c_long, list.as_mut_ptr()) };
        check(submitted as isize)?;
        let mut event = Event::default();
        loop {
            let none: *const libc::timespec = std::ptr::null();
            let one = 1 as libc::c_long;
            // SAFETY: room for one event.
            let n =
                unsafe { libc::syscall(libc::SYS_io_getevents, *context, one, one, &raw mut event, none) };
            match check(n as isize) {
                Ok(1) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The context is ours and valid; nothing else can be wrong. The request still runs.
                Err(error) => {
                    eprintln!("io_getevents: {error}");
                    std::process::abort();
                }
            }
        }
        outcome(event.result)
    }
}

impl Drop for NativeContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours; no request is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, *self.context.get_mut()) };
    }
}

/// A count, or a negative error number.
fn outcome(result: i64) -> io::Result<u64> {
    u64::try_from(result)
        .map_err(|_| io::Error::from_raw_os_error(i32::try_from(result.unsigned_abs()).unwrap_or(libc::EIO)))
}

/// Puts one request into the ring and waits for its end.
///
/// # Safety
/// What the request names is valid until the end.
unsafe fn ring(ring: &Mutex<IoUring>, entry: &io_uring::squeue::Entry) -> io::Result<u64> {
    let mut ring = ring.lock();
    // SAFETY: the caller's promise; the ring is empty, since each request waits for its end.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            // The kernel may still hold the request: its memory must not go.
            Err(error) => {
                eprintln!("io_uring_enter: {error}");
                std::process::abort();
            }
        }
        if let Some(end) = ring.completion().next() {
            return outcome(end.result().into());
        }
    }
}

impl FileEngine {
    /// Linux's native asynchronous I/O.
    ///
    /// # Errors
    /// As io_setup(2).
    pub fn native() -> io::Result<Self> {
        NativeContext::new().map(Self::Native)
    }

    /// io_uring.
    ///
    /// # Errors
    /// As io_uring_setup(2): the kernel has none, or does not let this process have one.
    pub fn uring() -> io::Result<Self> {
        Ok(Self::Uring(Box::new(Mutex::new(IoUring::new(2)?))))
    }

    /// As [`RamSlice::read_file_at`].
    ///
    /// # Errors
    /// As `preadv(2)`.
    pub fn read(&self, slices: &[RamSlice], file: &File, position: u64) -> io::Result<u64> {
        let slices = &slices[..slices.len().min(IOV_MAX)];
        let n = match self {
            Self::Calls => return RamSlice::read_file_at(slices, file, position),
            _ => self.vectored(slices, file, position, false)?,
        };
        note_written(slices, n);
        Ok(n)
    }

    /// As [`RamSlice::write_file_at`].
    ///
    /// # Errors
    /// As `pwritev(2)`.
    pub fn write(&self, slices: &[RamSlice], file: &File, position: u64) -> io::Result<u64> {
        match self {
            Self::Calls => RamSlice::write_file_at(slices, file, position),
            _ => self.vectored(&slices[..slices.len().min(IOV_MAX)], file, position, true),
        }
    }

    fn vectored(&self, slices: &[RamSlice], file: &File, position: u64, write: bool) -> io::Result<u64> {
        let vectors = iovecs(slices);
        let (address, count) = (vectors.as_ptr(), vectors.len());
        match self {
            Self::Calls => Err(io::ErrorKind::Unsupported.into()),
            Self::Native(context) => {
                let block = ControlBlock {
                    opcode: if write { PWRITEV } else { PREADV },
                    descriptor: file.as_raw_fd().cast_unsigned(),
                    buffer: address.addr() as u64,
                    count: count as u64,
                    offset: position.cast_signed(),
                    ..ControlBlock::default()
                };
                // SAFETY: the vectors live until the end of this function and lie within live mappings.
                unsafe { context.run(block) }
            }
            Self::Uring(uring) => {
                let (descriptor, count) = (types::Fd(file.as_raw_fd()), u32::try_from(count).unwrap_or(0));
                let entry = if write {
                    opcode::Writev::new(descriptor, address, count).offset(position).build()
                } else {
                    opcode::Readv::new(descriptor, address, count).offset(position).build()
                };
                // SAFETY: as above.
                unsafe { ring(uring, &entry) }
            }
        }
    }

    /// Makes what was written to the file survive a crash of the host.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        let done = match self {
            Self::Calls => return file.sync_data(),
            Self::Native(context) => {
                let descriptor = file.as_raw_fd().cast_unsigned();
                let block = ControlBlock { opcode: FDSYNC, descriptor, ..ControlBlock::default() };
                // SAFETY: the request names no memory.
                unsafe { context.run(block) }
            }
            Self::Uring(uring) => {
                let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd()))
                    .flags(types::FsyncFlags::DATASYNC)
                    .build();
                // SAFETY: as above.
                unsafe { ring(uring, &entry) }
            }
        };
        match done {
            Ok(_) => Ok(()),
            // File systems without an asynchronous form.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => file.sync_data(),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PAGE_SIZE, RamBlock};

    fn engines() -> Vec<(&'static str, FileEngine)> {
        let mut list = vec![("calls", FileEngine::Calls)];
        for (name, engine) in [("native", FileEngine::native()), ("io_uring", FileEngine::uring())] {
            match engine {
                Ok(engine) => list.push((name, engine)),
                Err(error) => println!("SKIPPED {name}: {error}"),
            }
        }
        list
    }

    #[test]
    fn every_engine_moves_the_same_bytes() {
        for (name, engine) in engines() {
            let ram = RamBlock::new("test", 4 * PAGE_SIZE).expect("ram");
            let path = std::env::temp_dir().join(format!("guestmem-{name}-{}", std::process::id()));
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("file");
            std::fs::remove_file(path).expect("remove");
            ram.write(0, b"hello, world");
            let parts = [ram.slice(0, 5).expect("part"), ram.slice(7, 5).expect("part")];
            assert_eq!(engine.write(&parts, &file, 3).expect("write"), 10, "{name}");
            engine.sync(&file).expect("sync");
            let (stamp, _) = ram.watch_code(1);
            let back = [ram.slice(PAGE_SIZE, 4).expect("part"), ram.slice(PAGE_SIZE + 8, 100).expect("part")];
            assert_eq!(engine.read(&back, &file, 3).expect("read"), 10, "{name}");
            let mut bytes = [0; 14];
            ram.read(PAGE_SIZE, &mut bytes);
            assert_eq!(&bytes, b"hell\0\0\0\0oworld", "{name}");
            assert_ne!(ram.stamp(1).load(std::sync::atomic::Ordering::SeqCst), stamp, "{name}");
            assert_eq!(engine.read(&back, &file, 1 << 20).expect("behind the end"), 0, "{name}");
            let closed = File::open("/dev/null").expect("a file that cannot be written");
            let error = engine.write(&parts, &closed, 0).expect_err(name);
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{name}");
        }
    }

    #[test]
    fn threads_share_an_engine() {
        for (name, engine) in engines() {
            let ram = RamBlock::new("test", 4 * PAGE_SIZE).expect("ram");
            let zero = File::open("/dev/zero").expect("zeros");
            std::thread::scope(|scope| {
                for n in 0..4 {
                    let (engine, ram, zero) = (&engine, &ram, &zero);
                    scope.spawn(move || {
                        let slice = [ram.slice(n * PAGE_SIZE, PAGE_SIZE).expect("slice")];
                        for _ in 0..200 {
                            assert_eq!(engine.read(&slice, zero, 0).expect("read"), PAGE_SIZE, "{name}");
                        }
                    });
                }
            });
        }
    }
}
