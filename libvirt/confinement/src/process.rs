//! Where and when a guest's threads run, and where its memory is.

use json::{Dict, Value, dict};
use rustix::process::Pid;
use rustix::thread::CpuSet;

pub use hostio::scheduling::Policy;

use crate::launch::Reader;
use crate::{Error, Result};

/// Lets a thread, or a process's first thread, run on these processors only.
///
/// # Errors
/// `cannot set CPU affinity on process N: ...`
pub fn set_affinity(thread: i32, processors: &[usize]) -> Result<()> {
    let failed = |error| Error::system(format!("cannot set CPU affinity on process {thread}"), error);
    let mut set = CpuSet::new();
    for processor in processors {
        if *processor >= CpuSet::MAX_CPU {
            return Err(failed(rustix::io::Errno::INVAL));
        }
        set.set(*processor);
    }
    let id = Pid::from_raw(thread).ok_or(rustix::io::Errno::SRCH).map_err(failed)?;
    rustix::thread::sched_setaffinity(Some(id), &set).map_err(failed)
}

/// The processors that a thread may run on.
///
/// # Errors
/// `cannot get CPU affinity of process N: ...`
pub fn affinity(thread: i32) -> Result<Vec<usize>> {
    let failed = |error| Error::system(format!("cannot get CPU affinity of process {thread}"), error);
    let id = Pid::from_raw(thread).ok_or(rustix::io::Errno::SRCH).map_err(failed)?;
    let set = rustix::thread::sched_getaffinity(Some(id)).map_err(failed)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

/// Sets how the kernel chooses a thread (`vcpusched`, `iothreadsched`, `emulatorsched`).
///
/// # Errors
/// `unsupported configuration: Scheduler priority N out of range [1, 99]`; `Cannot set scheduler parameters for pid N:
/// ...`.
pub fn set_scheduler(thread: i32, policy: Policy) -> Result<()> {
    if let Policy::Fifo(priority) | Policy::RoundRobin(priority) = policy {
        let range = policy.priorities();
        if !range.contains(&priority) {
            let (least, most) = range.into_inner();
            let text = format!("Scheduler priority {priority} out of range [{least}, {most}]");
            return Err(Error::unsupported(text));
        }
    }
    policy
        .apply(thread)
        .map_err(|error| Error::system(format!("Cannot set scheduler parameters for pid {thread}"), error))
}

/// How the nodes of a [`MemoryPolicy`] are used (`mode` of `<numatune>`'s `<memory>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMode {
    /// Only these.
    Strict,
    /// These first.
    Preferred,
    /// By turns.
    Interleave,
}

/// From which of the host's nodes a guest has its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// How.
    pub mode: MemoryMode,
    /// Which.
    pub nodes: Vec<u32>,
}

impl MemoryPolicy {
    const MODES: [(&'static str, MemoryMode); 3] = [
        ("strict", MemoryMode::Strict),
        ("preferred", MemoryMode::Preferred),
        ("interleave", MemoryMode::Interleave),
    ];

    pub(crate) fn to_json(&self) -> Dict {
        let name = Self::MODES.iter().find(|(_, mode)| *mode == self.mode).map_or("", |(name, _)| name);
        dict! { "mode" => name, "nodes" => self.nodes.clone() }
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let reader = Reader(value);
        let name = reader.text("mode")?;
        let mode = Self::MODES.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
        let mode = mode.ok_or_else(|| Error::internal("malformed launch plan: 'mode'"))?;
        Ok(Self { mode, nodes: reader.list("nodes", |node| node.as_u64()?.try_into().ok())? })
    }

    /// Sets it for this process and what it becomes.
    pub(crate) fn apply(&self) -> Result<()> {
        use hostio::scheduling::MemoryPolicy as Kernel;
        let mut words = Vec::new();
        for node in &self.nodes {
            if !std::path::Path::new(&format!("/sys/devices/system/node/node{node}")).exists() {
                return Err(Error::unsupported(format!("NUMA node {node} is unavailable")));
            }
            let word = *node as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1_u64 << (node % 64);
        }
        let kernel = match self.mode {
            MemoryMode::Strict => Kernel::Bind,
            MemoryMode::Interleave => Kernel::Interleave,
            MemoryMode::Preferred if self.nodes.len() == 1 => Kernel::Preferred,
            MemoryMode::Preferred => Kernel::PreferredMany,
        };
        match kernel.apply(&words) {
            Err(error) if kernel == Kernel::PreferredMany && error.raw_os_error() == Some(libc::EINVAL) => {
                Err(Error::internal("NUMA memory tuning in 'preferred' mode only supports single node"))
            }
            Err(error) => Err(Error::system("Unable to set NUMA memory policy", error)),
            Ok(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_where_it_is_told() {
        std::thread::spawn(|| {
            let name = std::fs::read_link("/proc/thread-self").unwrap();
            let own: i32 = name.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap();
            let first = affinity(own).unwrap()[0];
            set_affinity(own, &[first]).unwrap();
            assert_eq!(affinity(own).unwrap(), [first]);
            let error = set_affinity(own, &[]).unwrap_err().message;
            assert_eq!(error, format!("cannot set CPU affinity on process {own}: Invalid argument"));
            assert!(set_affinity(own, &[1 << 20]).is_err());
            set_scheduler(own, Policy::Batch).unwrap();
            let error = set_scheduler(own, Policy::Fifo(100)).unwrap_err().message;
            assert_eq!(error, "unsupported configuration: Scheduler priority 100 out of range [1, 99]");
        })
        .join()
        .unwrap();
        assert!(set_affinity(0, &[0]).unwrap_err().message.ends_with(": No such process"));
    }

    #[test]
    fn nodes_that_are_nowhere() {
        let policy = MemoryPolicy { mode: MemoryMode::Strict, nodes: vec![0, 4000] };
        assert_eq!(MemoryPolicy::from_json(&policy.to_json().into()), Ok(policy.clone()));
        let error = policy.apply().unwrap_err().message;
        assert!(error.starts_with("unsupported configuration: NUMA node "), "{error}");
    }
}
