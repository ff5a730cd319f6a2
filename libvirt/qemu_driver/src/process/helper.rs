//! Programs that run beside a guest's emulator, and end with it.
//!
//! Each has a file with its number, which it keeps locked while it lives: whoever has that lock is the program, also for
//! a daemon that comes later. Its name follows from the guest's definition, which is in the status file before the
//! program is started.

use super::log::GuestLog;
use super::reservations;
use crate::core::{Core, Level};
use crate::error::Result;
use crate::files;
use crate::guest::Guest;
use crate::process::start::launch_error;
use confinement::launch::{Child, Launch, holder};
use domain_xml::Domain as Definition;
use rpc::Error;
use rustix::process::Signal;
use security::Confined;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
/// How long it may take to end that was asked to, and that was killed.
const WILLING: Duration = Duration::from_secs(2);
const UNWILLING: Duration = Duration::from_secs(5);
/// What the kernel's list of sockets says of one that listens.
const ACCEPTS: u32 = 1 << 16;

/// One program of a guest.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    /// What it is called in the guest's log.
    pub(super) name: &'static str,
    /// The file with its number.
    pub(super) pid_file: PathBuf,
    /// Where it listens.
    pub(super) socket: PathBuf,
}

/// Why a program does not run.
#[derive(Debug)]
pub(super) enum Fault {
    /// It could not be started.
    Launch(Error),
    /// It has ended; its last words.
    Died(String),
    /// It does not listen.
    Late,
}

/// The program of that name: as it is, if it is a path; else where programs are looked for.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into()).filter(|path: &PathBuf| crate::core::is_executable(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| crate::core::is_executable(candidate))
}

/// Whether somebody listens at a socket. To connect would take the place of who is to.
fn is_listening(socket: &Path) -> bool {
    let is_there = std::fs::metadata(socket).is_ok_and(|found| found.file_type().is_socket());
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    is_there && !lists_deaf(&String::from_utf8_lossy(&table), &socket.to_string_lossy())
}

/// Whether a socket has that path already, and does not listen yet. One that was renamed has another one in the table.
fn lists_deaf(table: &str, socket: &str) -> bool {
    // A path may hold blanks.
    let end = format!(" {socket}");
    let mut rows = table.lines().filter(|line| line.ends_with(&end)).peekable();
    let listens = |line: &str| {
        let flags = line.split_whitespace().nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & ACCEPTS != 0)
    };
    rows.peek().is_some() && !rows.any(listens)
}

impl Helper {
    /// Its process, if it runs.
    pub(super) fn process(&self) -> Option<Child> {
        holder(&self.pid_file).or_else(|| {
            // One that another daemon started may have gone to the background, where no lock follows.
            let pid = std::fs::read_to_string(&self.pid_file).ok()?.trim().parse::<i32>().ok()?;
            let child = Child::of_pid(pid).ok()?;
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&*self.socket.to_string_lossy()).then_some(child)
        })
    }

    /// Removes what it leaves.
    fn forget(&self) {
        let _ = files::remove(&self.pid_file);
        let _ = files::remove(&self.socket);
    }
}

/// Ends programs; those that do not listen to that are killed.
pub(super) fn stop(core: &Core, helpers: &[Helper]) {
    let running: Vec<(&Helper, Child)> =
        helpers.iter().filter_map(|helper| Some((helper, helper.process()?))).collect();
    for (_, child) in &running {
        let _ = child.signal(Signal::TERM);
    }
    let end = Instant::now() + WILLING;
    for (helper, child) in &running {
        let left = end.saturating_duration_since(Instant::now());
        if !child.wait(left).unwrap_or(false) {
            let _ = child.signal(Signal::KILL);
            if !child.wait(UNWILLING).unwrap_or(false) {
                let (name, pid) = (helper.name, child.pid());
                core.log(Level::Error, &format!("Failed to terminate {name} process {pid} with SIGKILL"));
            }
        }
    }
    helpers.iter().for_each(Helper::forget);
}

/// Those that have their files in the guest's directory.
fn in_directory(directory: &Path) -> Vec<Helper> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let paths = paths.filter(|path| path.extension().is_some_and(|end| end == "pid"));
    paths
        .map(|pid_file| Helper { name: "helper", socket: pid_file.with_extension("sock"), pid_file })
        .collect()
}

impl Core {
    /// All programs that a guest has beside its emulator.
    pub(super) fn helpers(&self, definition: &Definition, id: i32, directory: &Path) -> Vec<Helper> {
        let networks = definition.devices.interface.iter();
        let networks = networks.filter_map(|it| super::network::passt::of(self, id, definition.name(), it));
        let modules = self.tpm_helper(definition, id);
        networks.chain(in_directory(directory)).chain(modules).collect()
    }

    /// Ends all programs that a guest has beside its emulator, which has ended or did not come up.
    pub(super) fn stop_helpers(&self, definition: &Definition, id: i32, directory: &Path) {
        stop(self, &self.helpers(definition, id, directory));
    }

    /// Starts a program for the guest of `definition`, and waits until it listens.
    pub(super) fn start_helper(
        &self,
        definition: &Definition,
        helper: &Helper,
        launch: Launch,
        confined: Option<&Confined>,
    ) -> Result<(), Fault> {
        let told = |error: std::io::Error| Fault::Launch(crate::error::system(&error, "cannot open the log"));
        let launched = |error: &confinement::Error| Fault::Launch(launch_error(error));
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let launch = launch.environment("LC_ALL", "C").environment("PATH", &path);
        let log = GuestLog::go_on(self, definition.name(), &launch.words(), helper.name).map_err(told)?;
        let launch = launch.output(log.output().map_err(told)?);
        let launch = launch.pid_file(&helper.pid_file.to_string_lossy());
        let run = || {
            let mut held = launch.start(&self.launcher).map_err(|error| launched(&error))?;
            held.wait_ready().map_err(|error| launched(&error))?;
            if let Some(confined) = confined {
                confined.adopt(held.pid()).map_err(|error| launched(&error))?;
            }
            let child = held.release().map_err(|error| launched(&error))?;
            let end = Instant::now() + PATIENCE;
            while !is_listening(&helper.socket) {
                if child.wait(PAUSE).unwrap_or(true) {
                    return Err(Fault::Died(log.words()));
                }
                if Instant::now() > end {
                    return Err(Fault::Late);
                }
            }
            Ok(())
        };
        run().inspect_err(|_| stop(self, std::slice::from_ref(helper)))
    }

    /// Starts the programs that a guest needs with devices that it did not need without; those of networks are started
    /// with the networks' other ends.
    ///
    /// # Errors
    /// One cannot be started; the caller stops the others.
    pub(super) fn start_new_helpers(
        &self,
        guest: &Guest,
        without: &Definition,
        with: &Definition,
        directory: &Path,
    ) -> Result<()> {
        let mut new = with.clone();
        new.devices.filesystem.drain(..without.devices.filesystem.len().min(with.devices.filesystem.len()));
        self.start_file_servers(&new, directory)?;
        if !reservations::is_wanted(with) || reservations::is_wanted(without) {
            return Ok(());
        }
        let id = with.id.unwrap_or(-1);
        let confined = guest.with_live(id, |live| live.confined.clone()).flatten();
        self.start_reservations(with, directory, confined.as_deref())
    }

    /// Ends those programs of a guest's directory that no device needs: one is gone, or did not come.
    pub(super) fn stop_unneeded_helpers(&self, definition: &Definition, directory: &Path) {
        let shares = definition.devices.filesystem.iter();
        let shares = shares.filter_map(|it| super::file_server::of(directory, it));
        let reservations = reservations::is_wanted(definition).then(|| reservations::of(directory));
        let needed: Vec<PathBuf> = shares.chain(reservations).map(|helper| helper.pid_file).collect();
        let mut all = in_directory(directory);
        all.retain(|helper| !needed.contains(&helper.pid_file));
        stop(self, &all);
    }

    /// The guest's programs count as the guest.
    pub(super) fn adopt_helpers(&self, guest: &Guest, id: i32) -> Result<()> {
        let found = guest
            .with_live(id, |live| (live.definition.clone(), live.directory.clone(), live.confined.clone()));
        let Some((definition, directory, Some(confined))) = found else { return Ok(()) };
        for helper in self.helpers(&definition, id, &directory) {
            if let Some(child) = helper.process() {
                confined.adopt(child.pid()).map_err(|error| launch_error(&error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 17 /run/a b\n\
            1: 00000002 00000000 00000000 0001 03 18 /run/c\n";
        assert!(!lists_deaf(table, "/run/a b"));
        assert!(lists_deaf(table, "/run/c"));
        assert!(!lists_deaf(table, "/run/a"));
        let path = std::env::temp_dir().join(format!("listening-{}", std::process::id()));
        assert!(!is_listening(&path));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        assert!(is_listening(&path));
        drop(listener);
        std::fs::remove_file(&path).expect("removed");
        assert!(!is_listening(&path));
    }

    #[test]
    fn a_number_alone_is_nobody() {
        let folder = std::env::temp_dir().join(format!("helper-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let helper = Helper { name: "x", pid_file: folder.join("pid"), socket: folder.join("socket") };
        assert!(helper.process().is_none());
        // A process that knows nothing of the socket, such as a later one of the same number.
        std::fs::write(&helper.pid_file, std::process::id().to_string()).expect("written");
        assert!(helper.process().is_none());
        std::fs::write(&helper.pid_file, "none").expect("written");
        assert!(helper.process().is_none());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
