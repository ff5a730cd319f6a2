//! Getting a processor's thread out of guest mode.
//!
//! The kicker sets `immediate_exit` in the structure that is shared with the kernel, then sends a signal to the thread.
//! The signal ends a KVM_RUN that is under way, the flag one that is about to begin.

use parking_lot::Mutex;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The signal, as QEMU uses it.
const SIGNAL: libc::c_int = libc::SIGUSR1;

extern "C" fn ignore(_: libc::c_int) {}

/// Makes the signal interrupt system calls and do nothing else.
///
/// # Errors
/// As `sigaction(2)`.
pub(crate) fn install_handler() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = ignore;
    // SAFETY: a zeroed sigaction is a valid one (no flags, empty mask); the handler does nothing, so that it is safe in
    // every thread at any time.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        libc::sigaction(SIGNAL, &action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct Target {
    /// `immediate_exit` of the processor's shared structure.
    flag: NonNull<u8>,
    /// The thread that is in, or about to enter, guest mode.
    thread: Option<libc::pid_t>,
}

// SAFETY: the pointer is only used, atomically, while the structure is mapped (see `Kick::release`).
unsafe impl Send for Target {}

/// One processor's way out of guest mode.
pub(crate) struct Kick(Mutex<Option<Target>>);

impl Kick {
    /// `flag` has to stay valid until [`Kick::release`].
    pub(crate) fn new(flag: NonNull<u8>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Target { flag, thread: None }))))
    }

    /// Has the processor leave guest mode, or not enter it.
    pub(crate) fn fire(&self) {
        if let Some(target) = &*self.0.lock() {
            set(target, 1);
            if let Some(thread) = target.thread {
                // SAFETY: sends a signal whose handler does nothing to a thread of this process.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
            }
        }
    }

    /// Forgets what was asked so far. The caller looks at the mailbox after this.
    pub(crate) fn reset(&self) {
        if let Some(target) = &*self.0.lock() {
            set(target, 0);
        }
    }

    /// The next KVM_RUN is to end at once.
    pub(crate) fn demand(&self) {
        if let Some(target) = &*self.0.lock() {
            set(target, 1);
        }
    }

    /// This thread runs the processor from now on; `None`: no thread does.
    pub(crate) fn set_thread(&self, running: bool) {
        if let Some(target) = &mut *self.0.lock() {
            // SAFETY: gettid has no preconditions.
            target.thread = running.then(|| unsafe { libc::gettid() });
        }
    }

    /// The structure goes away.
    pub(crate) fn release(&self) {
        *self.0.lock() = None;
    }
}

fn set(target: &Target, value: u8) {
    // SAFETY: the structure is mapped until `release`, which takes the lock that the caller holds; the kernel only reads
    // the byte.
    unsafe { AtomicU8::from_ptr(target.flag.as_ptr()) }.store(value, Ordering::SeqCst);
}
