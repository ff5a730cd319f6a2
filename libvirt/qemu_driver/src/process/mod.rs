//! Running guests.

mod begun;
mod chardev;
mod command;
mod compression;
mod control;
pub(crate) mod counters;
mod cpu;
pub mod devices;
mod direct;
mod drives;
mod dump;
mod events;
mod file_server;
mod firmware;
mod helper;
pub mod hotplug;
mod log;
mod medium;
mod missing;
mod native;
pub mod network;
mod ports;
mod progress;
mod reconnect;
mod reservations;
mod save;
mod secret;
mod start;
mod status;
mod stop;
mod taint;
mod tpm;
mod update;
pub mod vcpus;

pub use begun::Begun;
pub use compression::Compression;
pub use dump::DumpKind;
pub(crate) use log::command_line as shell_line;
pub(crate) use native::command_line;
pub use network::Names;
pub use ports::Ports;
pub use progress::Progress;
pub use save::{Image, SaveOptions};
pub(crate) use start::launch_error;
pub use start::{Restore, StartOptions};
pub use status::{Status, parse as parse_status};
pub use taint::Taint;
pub(crate) use tpm::check as check_tpm;

use crate::state::{Paused, Running};
use confinement::launch::Child;

use domain_xml::Domain as Definition;
use qemu_caps::QemuCaps;
use qmp::Monitor;
use security::Confined;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How far the start of a guest has come; kept in its status file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What will have to be given back has a name; it may be there.
    Planned,
    /// Its process exists; it may have been told nothing yet.
    Spawned,
    /// It answers on its monitor.
    Connected,
    /// It is set up and may run.
    Ready,
}

/// Where the emulator of the guest with that directory listens.
fn monitor_path(directory: &Path) -> PathBuf {
    directory.join("monitor.sock")
}

/// What takes long, and can be looked at meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Its state is saved.
    Save,
    /// Its state is dumped.
    Dump,
    /// Its memory alone is dumped.
    MemoryDump,
}

/// A running guest.
pub struct Live {
    /// Its number.
    pub id: i32,
    /// Its process.
    pub pid: i32,
    /// The process as something that signals reach, and that can be waited for.
    pub child: Arc<Child>,
    /// What of the host it has beside its process; none before it is set up.
    pub confined: Option<Arc<Confined>>,
    /// How far its start has come.
    pub phase: Phase,
    /// The definition in force, with everything that was chosen at start.
    pub definition: Arc<Definition>,
    /// The connection; none before it is made and after it ended.
    pub monitor: Option<Arc<Monitor>>,
    /// vCPUs and their threads.
    pub vcpus: Vec<(u32, i32)>,
    /// The names of its devices, as the emulator knows them.
    pub devices: Vec<String>,
    /// Which files it was given is noted in its directory.
    pub owners_noted: bool,
    /// What else its status file holds.
    pub kept: Vec<status::Kept>,
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
    /// Somebody ends it: what its monitor tells of that is no news.
    pub ending: bool,
    /// A client ends it, and clients are told that it shuts down.
    pub destroyed: bool,
    /// What was begun with its devices and is not complete.
    pub begun: Option<Begun>,
    /// A device that it did not let go of, though it was asked to.
    pub kept_device: Option<String>,
    /// Where its state is being saved: with a complete file there it ends, else it goes on.
    pub saving: Option<PathBuf>,
    /// What of long duration is done with it, and since when.
    pub work: Option<(Work, Instant)>,
    /// The managed save that it goes on from: of no use once it has, and to be removed then.
    pub restored_from: Option<PathBuf>,
    /// Why it is going to be paused.
    pub paused_because: Option<Paused>,
    /// Why it is going to run.
    pub running_because: Option<Running>,
    /// The images whose thresholds clients asked for by number.
    pub indexed_thresholds: Vec<u32>,
    /// Why its memory could not be dumped.
    pub dump_failure: Option<String>,
    /// The client whose end is the guest's end.
    pub autodestroy: Option<u64>,
    /// What of its events is counted.
    pub(crate) counters: counters::Counters,
    /// The ports of its displays.
    pub ports: Vec<u16>,
}

/// Events of the life cycle.
pub(crate) mod lifecycle {
    pub(crate) const STARTED: i32 = 2;
    pub(crate) const SUSPENDED: i32 = 3;
    pub(crate) const RESUMED: i32 = 4;
    pub(crate) const STOPPED: i32 = 5;
    pub(crate) const SHUTDOWN: i32 = 6;
    pub(crate) const PMSUSPENDED: i32 = 7;
    pub(crate) const CRASHED: i32 = 8;
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
