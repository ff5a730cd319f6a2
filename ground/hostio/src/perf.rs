//! Counters of what a process's threads do, and those that it makes (perf_event_open(2)).

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// What is counted: the kernel's numbers of a kind of events, and of one of them (`linux/perf_event.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind: 0 the processor's, 1 the kernel's.
    pub kind: u32,
    /// Which of them.
    pub number: u64,
}

/// A counter that counts until it is dropped.
#[derive(Debug)]
pub struct Counter(OwnedFd);

/// The first version of `struct perf_event_attr`: 64 bytes, in words.
type Attributes = [u64; 8];

/// The bit of the attributes' flags by which threads that are made later count too.
const INHERIT: u64 = 1 << 1;

impl Counter {
    /// Begins to count what a process does from now on.
    ///
    /// # Errors
    /// `ENOENT`: the processor has no such event; `EACCES`: the caller may not; `ESRCH`: there is no such process.
    pub fn open(event: Event, pid: i32) -> io::Result<Self> {
        let mut attributes: Attributes = [0; 8];
        attributes[0] = u64::from(event.kind) | (size_of::<Attributes>() as u64) << 32;
        attributes[1] = event.number;
        attributes[5] = INHERIT;
        let (any, none, close_on_exec): (libc::c_int, libc::c_int, libc::c_ulong) = (-1, -1, 8);
        // SAFETY: the kernel reads as many bytes of the attributes as they say that they are long.
        let descriptor = unsafe {
            libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), pid, any, none, close_on_exec)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just opened this descriptor, which nobody else has.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }))
    }

    /// How often the event has come.
    ///
    /// # Errors
    /// The kernel has lost the counter.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        let length = rustix::io::read(&self.0, &mut count)?;
        if length == count.len() {
            Ok(u64::from_ne_bytes(count))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_not_is_refused() {
        let task_clock = Event { kind: 1, number: 1 };
        let counter = match Counter::open(task_clock, std::process::id().cast_signed()) {
            Ok(counter) => counter,
            // Containers forbid it, by their filters or by `perf_event_paranoid`.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(counter.read().is_ok());
        assert!(Counter::open(Event { kind: 1, number: 1 << 40 }, 0).is_err());
        assert!(Counter::open(task_clock, i32::MAX).is_err());
    }

    #[test]
    fn time_of_a_thread_grows() {
        // Zero is the calling thread.
        let Ok(counter) = Counter::open(Event { kind: 1, number: 1 }, 0) else { return };
        let before = counter.read().expect("a counter");
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(counter.read().expect("a counter") > before);
    }
}
