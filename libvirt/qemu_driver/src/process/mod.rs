//! Running guests.

mod taint;

pub use taint::Taint;

use domain_xml::Domain as Definition;
use qemu_caps::QemuCaps;
use qmp::Monitor;
use std::path::PathBuf;
use std::sync::Arc;

/// How far the start of a guest has come; kept in its status file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its process exists; it may have been told nothing yet.
    Spawned,
    /// It answers on its monitor.
    Connected,
    /// It is set up and may run.
    Ready,
}

/// A running guest.
pub struct Live {
    /// Its number.
    pub id: i32,
    /// Its process.
    pub pid: i32,
    /// How far its start has come.
    pub phase: Phase,
    /// The definition in force, with everything that was chosen at start.
    pub definition: Arc<Definition>,
    /// The connection; none before it is made and after it ended.
    pub monitor: Option<Arc<Monitor>>,
    /// vCPUs and their threads.
    pub vcpus: Vec<(u32, i32)>,
    /// Its directory.
    pub directory: PathBuf,
    /// The directory of its channels' sockets.
    pub channels: PathBuf,
    /// What its emulator can do.
    pub caps: Arc<QemuCaps>,
    /// What makes its behaviour nobody's promise.
    pub taints: Vec<Taint>,
    /// The guest was powered off.
    pub shutdown_seen: bool,
    /// A power-off is to become a reset.
    pub fake_reboot: bool,
    /// The client whose end is the guest's end.
    pub autodestroy: Option<u64>,
}

/// What a process has used of processors, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In its own code.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl Times {
    /// Both.
    pub fn total(self) -> u64 {
        self.user + self.system
    }
}

/// What the process has used so far; none when it is gone.
pub fn times(pid: i32) -> Option<Times> {
    times_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn times_of(stat: &str) -> Option<Times> {
    // The name stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut next = || Some(fields.next()?.parse::<u64>().ok()?.saturating_mul(tick));
    Some(Times { user: next()?, system: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_processes() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 1 0 5 6 7";
        let times = times_of(stat).expect("times");
        assert_eq!((times.user, times.system, times.total()), (1_500_000_000, 250_000_000, 1_750_000_000));
        assert!(super::times(std::process::id() as i32).is_some());
        assert_eq!(super::times(-1), None);
    }
}
