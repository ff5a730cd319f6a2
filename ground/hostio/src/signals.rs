//! Signals that end the program, taken from a descriptor instead of a handler.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The descriptor on which SIGINT, SIGTERM and SIGHUP arrive.
pub struct Termination {
    fd: SignalFd,
}

/// Who asked the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The signal's number.
    pub signal: u32,
    /// The sender's process id; 0 when the kernel sent it (Ctrl-C).
    pub pid: u32,
}

impl Termination {
    /// Blocks the signals for the calling thread and all that it starts from now on. To be called before any other
    /// thread exists, since a thread that does not block them would die of them.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// A descriptor for an event loop: readable when a signal waits.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.as_fd().try_clone_to_owned()
    }

    /// The next signal that waits, if any.
    pub fn next(&self) -> Option<Request> {
        let info = self.fd.read_signal().ok()??;
        Some(Request { signal: info.ssi_signo, pid: info.ssi_pid })
    }
}

impl Request {
    /// The line that the user reads: `terminating on signal 15 from pid 123 (timeout)`.
    pub fn describe(self) -> String {
        let Self { signal, pid } = self;
        if pid == 0 {
            return format!("terminating on signal {signal}");
        }
        match std::fs::read_to_string(format!("/proc/{pid}/cmdline")) {
            Ok(line) => {
                let name = line.split('\0').next().unwrap_or_default();
                format!("terminating on signal {signal} from pid {pid} ({name})")
            }
            Err(_) => format!("terminating on signal {signal} from pid {pid} (<unknown process>)"),
        }
    }
}

/// Gives every signal its default meaning and blocks none: for a process that is about to become another program, which
/// inherits what was ignored and blocked.
pub fn reset() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action calls no code of ours. Those that cannot be changed are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let none = nix::sys::signal::SigSet::empty();
    // Setting a mask fails for wrong operations only.
    let _ = none.thread_set_mask();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_to_this_thread_arrives_with_its_sender() {
        let termination = Termination::take().expect("signalfd");
        assert_eq!(termination.next(), None);
        // To the thread, so that the test program's other threads do not die of it.
        nix::sys::pthread::pthread_kill(nix::sys::pthread::pthread_self(), Signal::SIGTERM).expect("kill");
        let request = termination.next().expect("signal");
        assert_eq!(request, Request { signal: 15, pid: std::process::id() });
        assert!(request.describe().starts_with("terminating on signal 15 from pid "));
    }
}
