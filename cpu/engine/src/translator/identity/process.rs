//! A helper process: its start, the hand-over to it and back, and what it maps.

use super::image::{self, AREA, CALLS, CODE, CODE_SIZE, CONTROL, Call, MOST_CALLS, Parts, START_DATA, TABLE};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use rustix::time::Timespec;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What makes the process report: faults, traps, and being called.
pub(super) const SIGNALS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGUSR1];

/// How long the start may take.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Memory shared with the process.
struct Area(*mut u8);

impl Area {
    fn at(&self, offset: u64, len: u64) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= AREA));
        self.0.wrapping_add(offset as usize)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: mapped by `Process::spawn` with this size; nothing refers to it any more.
        let _ = unsafe { munmap(self.0.cast(), AREA as usize) };
    }
}

/// What calls the process out of guest code, from any thread.
pub(super) struct Caller {
    /// Guest code runs there, or is about to.
    inside: AtomicBool,
    process: OwnedFd,
}

impl Caller {
    pub(super) fn call(&self) {
        if self.inside.load(Ordering::SeqCst) {
            // A process that has ended is noticed by who waits for it.
            let _ = pidfd_send_signal(&self.process, Signal::USR1);
        }
    }

    pub(super) fn set_inside(&self, inside: bool) {
        self.inside.store(inside, Ordering::SeqCst);
    }
}

/// One helper process, stopped outside of guest code whenever [`Process::run`] does not wait for it.
pub(super) struct Process {
    area: Area,
    /// Where the area lies in the process.
    pub(super) base: u64,
    pub(super) parts: Parts,
    pipe: File,
    turn: u32,
    /// The processor to which it is bound, that of its vCPU's thread: waking each other across processors takes long.
    processor: Option<usize>,
    child: Child,
    pub(super) caller: Arc<Caller>,
    calls: usize,
    /// Where the vector state in signal frames has the upper halves of the YMM registers; 0 without AVX.
    pub(super) upper: u64,
}

fn memory_file(name: &str) -> io::Result<OwnedFd> {
    use rustix::fs::MemfdFlags as F;
    // Hosts before Linux 6.3 do not know EXEC, and need not be told.
    let file = rustix::fs::memfd_create(name, F::CLOEXEC | F::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, F::CLOEXEC))?;
    Ok(file)
}

impl Process {
    /// Starts a process whose own memory lies at `base` (a multiple of 512 GiB) and which can map parts of `ram`.
    pub(super) fn spawn(base: u64, ram: BorrowedFd) -> io::Result<Self> {
        const HWCAP2_FSGSBASE: usize = 1 << 1;
        if rustix::param::linux_hwcap().1 & HWCAP2_FSGSBASE == 0 || !is_x86_feature_detected!("xsave") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let own = memory_file("tinamou-user")?;
        rustix::fs::ftruncate(&own, AREA)?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let area =
            Area(unsafe { mmap(null_mut(), AREA as usize, rights, MapFlags::SHARED, &own, 0) }?.cast());
        let (fixed, parts) = image::fixed(base);
        let program = memory_file("tinamou-start")?;
        io::Write::write_all(&mut std::fs::File::from(program.try_clone()?), &image::program(base, &parts))?;
        let (pipe, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0("tinamou-user").env_clear();
        command.stdin(theirs).stdout(own).stderr(Stdio::from(ram.try_clone_to_owned()?));
        let mut new = NewProcess { area, parts };
        new.write(CODE, &fixed);
        new.write(image::LETTER_AT, &[1]);
        let (data, calls) = image::start(base, &new.parts);
        new.write(START_DATA, &data);
        for (n, call) in calls.iter().enumerate() {
            new.write_call(n, call);
        }
        new.write(image::COUNT, &(calls.len() as u64).to_le_bytes());
        let child = command.spawn()?;
        // The process alone has its end now: when it ends, the socket tells.
        drop(command);
        let pid = Pid::from_child(&child);
        let NewProcess { area, parts } = new;
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => {
                let mut child = child;
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        let caller = Arc::new(Caller { inside: AtomicBool::new(false), process });
        let mut process = Self {
            area,
            base,
            parts,
            pipe: File::from(pipe),
            turn: 0,
            processor: None,
            child,
            caller,
            calls: 0,
            upper: super::frame::upper_offset(),
        };
        use rustix::event::{PollFd, PollFlags, poll};
        let ready = poll(&mut [PollFd::new(&process.pipe, PollFlags::IN)], Some(&PATIENCE))?;
        if ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        process.wait()?;
        if process.failed() || process.read_u64(image::SIGNAL) != libc::SIGILL as u64 {
            return Err(io::Error::other("a helper process could not be prepared"));
        }
        process.put_u64(image::COUNT, 0);
        process.clear_table();
        Ok(process)
    }

    /// The process's number.
    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether a system call of the last run failed.
    pub(super) fn failed(&self) -> bool {
        self.read_u64(image::RESULTS) >> 63 != 0
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut byte = [0];
        self.pipe.read_exact(&mut byte)
    }

    /// Lets the process make the system calls that were asked for, and go on in guest code until it reports.
    pub(super) fn run(&mut self) -> io::Result<()> {
        self.put_u64(image::COUNT, self.calls as u64);
        self.calls = 0;
        self.stay_close();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.area.at(image::TURN, 4).cast::<u32>();
        // SAFETY: within the mapping and aligned; whoever else looks at it waits for a change.
        let turn = unsafe { AtomicU32::from_ptr(turn) };
        turn.store(self.turn, Ordering::SeqCst);
        rustix::thread::futex::wake(turn, rustix::thread::futex::Flags::empty(), 1)?;
        self.wait()
    }

    /// Binds the process to the processor that this thread runs on.
    fn stay_close(&mut self) {
        let here = sched_getcpu();
        if self.processor != Some(here) && here < CpuSet::MAX_CPU {
            let mut set = CpuSet::new();
            set.set(here);
            // Without it, it is slower.
            let _ = sched_setaffinity(Some(Pid::from_child(&self.child)), &set);
            self.processor = Some(here);
        }
    }

    /// Lets the process make the system calls that were asked for.
    pub(super) fn carry_out(&mut self) -> io::Result<()> {
        self.put_u64(image::AGAIN, 1);
        let result = self.run();
        self.put_u64(image::AGAIN, 0);
        result?;
        if self.failed() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    fn ask(&mut self, call: Call) -> io::Result<()> {
        if self.calls == MOST_CALLS {
            self.carry_out()?;
        }
        for (n, word) in call.iter().enumerate() {
            self.put_u64(CALLS + 56 * self.calls as u64 + 8 * n as u64, *word);
        }
        self.calls += 1;
        Ok(())
    }

    /// Has `len` bytes of RAM from `offset` on mapped at `linear`.
    pub(super) fn map(&mut self, linear: u64, len: u64, write: bool, offset: u64) -> io::Result<()> {
        let rights = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE;
        self.ask([
            libc::SYS_mmap.cast_unsigned(),
            linear,
            len,
            rights as u64,
            flags as u64,
            image::RAM,
            offset,
        ])
    }

    /// Has `len` bytes at `linear` unmapped.
    pub(super) fn unmap(&mut self, linear: u64, len: u64) -> io::Result<()> {
        self.ask([libc::SYS_munmap.cast_unsigned(), linear, len, 0, 0, 0, 0])
    }

    /// Takes the right to write from `len` bytes at `linear`.
    pub(super) fn protect(&mut self, linear: u64, len: u64) -> io::Result<()> {
        self.ask([libc::SYS_mprotect.cast_unsigned(), linear, len, libc::PROT_READ as u64, 0, 0, 0])
    }

    /// Has everything but the area unmapped.
    pub(super) fn unmap_all(&mut self) -> io::Result<()> {
        let above = self.base + AREA;
        self.unmap(0, self.base)?;
        self.unmap(above, super::TOP - above)
    }

    /// Makes every indirect jump miss.
    pub(super) fn clear_table(&mut self) {
        let miss = (self.base + self.parts.miss).to_le_bytes();
        self.put(TABLE, &miss.repeat(image::TABLE_ENTRIES as usize));
    }

    /// Writes instructions.
    pub(super) fn put_code(&mut self, offset: u64, bytes: &[u8]) {
        if offset >= CODE && offset + bytes.len() as u64 <= CODE + CODE_SIZE {
            self.put(offset, bytes);
        }
    }

    pub(super) fn put_u64(&mut self, offset: u64, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }

    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        let to = self.area.at(offset, bytes.len() as u64);
        // SAFETY: within the mapping; the process is stopped, and would only see a torn value.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    pub(super) fn get(&self, offset: u64, bytes: &mut [u8]) {
        let from = self.area.at(offset, bytes.len() as u64);
        // SAFETY: as in `put`.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    pub(super) fn read_u64(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.get(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The shared memory before the process exists.
struct NewProcess {
    area: Area,
    parts: Parts,
}

impl NewProcess {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let to = self.area.at(offset, bytes.len() as u64);
        // SAFETY: within the mapping, which nobody else has yet.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn write_call(&mut self, n: usize, call: &Call) {
        for (k, word) in call.iter().enumerate() {
            self.write(CALLS + 56 * n as u64 + 8 * k as u64, &word.to_le_bytes());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const _: () = assert!(CONTROL.is_multiple_of(4096) && CODE.is_multiple_of(4096));
