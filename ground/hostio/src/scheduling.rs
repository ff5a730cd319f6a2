//! Which thread runs when, and where its memory is: what the safe wrappers do not offer.

use std::io;

/// How the kernel chooses among threads (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    Other,
    /// In turn, for work that nobody waits for.
    Batch,
    /// When nobody else wants to.
    Idle,
    /// As long as it wants to, of this priority.
    Fifo(i32),
    /// For a while, of this priority.
    RoundRobin(i32),
}

impl Policy {
    fn numbers(self) -> (libc::c_int, i32) {
        match self {
            Self::Other => (libc::SCHED_OTHER, 0),
            Self::Batch => (libc::SCHED_BATCH, 0),
            Self::Idle => (libc::SCHED_IDLE, 0),
            Self::Fifo(priority) => (libc::SCHED_FIFO, priority),
            Self::RoundRobin(priority) => (libc::SCHED_RR, priority),
        }
    }

    /// The priorities that a thread may have under this policy.
    pub fn priorities(self) -> std::ops::RangeInclusive<i32> {
        let (policy, _) = self.numbers();
        // SAFETY: both take a number and return one.
        unsafe { libc::sched_get_priority_min(policy)..=libc::sched_get_priority_max(policy) }
    }

    /// Sets the policy of a thread, or of a process's first thread.
    ///
    /// # Errors
    /// `EPERM`: only root may; `ESRCH`: there is no such thread; `EINVAL`: the priority is out of range.
    pub fn apply(self, thread: i32) -> io::Result<()> {
        let (policy, sched_priority) = self.numbers();
        let parameters = libc::sched_param { sched_priority };
        // SAFETY: the parameters live, and are only read.
        if unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// From which nodes a process has its memory (set_mempolicy(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MemoryPolicy {
    /// From the one given, if it has any left.
    Preferred = 1,
    /// From those given, and no others.
    Bind = 2,
    /// From those given, by turns.
    Interleave = 3,
    /// From those given, if they have any left (Linux 5.15).
    PreferredMany = 5,
}

impl MemoryPolicy {
    /// Sets the policy of this thread, and those that it makes, also by exec. Node N is bit N % 64 of word N / 64.
    ///
    /// # Errors
    /// `EINVAL`: the host has no such nodes; `ENOSYS`: the kernel knows no nodes.
    pub fn apply(self, nodes: &[u64]) -> io::Result<()> {
        // The kernel looks at one bit less than it is told.
        let bits = nodes.len() * 64 + 1;
        // SAFETY: the kernel reads as many bits as are there, rounded up to whole words.
        if unsafe { libc::syscall(libc::SYS_set_mempolicy, self as i32, nodes.as_ptr(), bits) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_set() {
        // Threads have ids of their own, so that only this one is changed; going back needs no rights up to here.
        std::thread::spawn(|| {
            let own = rustix::process::getpid().as_raw_nonzero().get();
            assert_eq!(Policy::Fifo(1).priorities(), 1..=99);
            assert_eq!(Policy::Batch.priorities(), 0..=0);
            let thread: i32 = std::fs::read_link("/proc/thread-self")
                .unwrap()
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
                .unwrap();
            assert_ne!(thread, own);
            Policy::Batch.apply(thread).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap();
            assert_eq!(policy, libc::SCHED_BATCH.to_string());
            let error = Policy::Fifo(1000).apply(thread).unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)), "{error}");
            // Node 4095 is nowhere.
            let mut nodes = [0; 64];
            nodes[63] = 1 << 63;
            let error = MemoryPolicy::Bind.apply(&nodes).unwrap_err();
            assert!(
                matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)),
                "{error}"
            );
        })
        .join()
        .unwrap();
    }
}
