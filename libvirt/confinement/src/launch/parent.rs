//! The daemon's side of a start.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use json::Value;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::child::error_of;
use super::plan::{CoreScheduling, Identity, Limits, Plan, SelinuxLabel};
use super::{DETACH_WORD, WORK_WORD, descriptors};
use crate::namespace::PrivateDev;
use crate::process::MemoryPolicy;
use crate::{Error, Result};

/// Longest line that a child says; what is longer is no child of ours.
const LONGEST_LINE: u64 = 1 << 20;

/// The program that is started as launcher: one whose `main` begins with [`run_if_asked`](super::run_if_asked).
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// The running program, even when its file has been replaced since.
    fn default() -> Self {
        Self { program: "/proc/self/exe".into() }
    }
}

impl Launcher {
    /// Another program.
    #[must_use]
    pub fn at(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }
}

impl Launcher {
    /// Has a process of its own do one piece of work; it has one thread, and may change namespaces and hold locks.
    /// `passed` are descriptors that it gets.
    pub(crate) fn work(&self, order: &Value, passed: &[BorrowedFd<'_>]) -> Result<Value> {
        let failed = |error: std::io::Error| Error::system("cannot fork child process", error);
        let memory = memory(order).map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(&self.program)
            .arg(WORK_WORD)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let sent = {
            let all: Vec<_> = std::iter::once(memory.as_fd()).chain(passed.iter().copied()).collect();
            descriptors::send(ours.as_fd(), &all)
        };
        let heard = hear(&mut BufReader::new(ours));
        child.wait().map_err(failed)?;
        match heard? {
            Some(line) => Ok(line.get("result").cloned().unwrap_or(Value::Null)),
            None => match sent {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(error)),
                _ => Err(Error::internal("child didn't write error")),
            },
        }
    }
}

/// A program to be started.
///
/// ```no_run
/// # fn f(log: std::os::fd::OwnedFd, monitor: std::os::fd::OwnedFd) -> confinement::Result<()> {
/// use confinement::launch::{Launch, Launcher};
/// let mut held = Launch::new("/usr/bin/qemu-system-x86_64")
///     .arguments(["-S", "-chardev", "socket,id=charmonitor,fd=24,server=on,wait=off"])
///     .pass(monitor, 24)
///     .output(log)
///     .pid_file("/run/libvirt/qemu/guest.pid")
///     .start(&Launcher::default())?;
/// // Here the status file is written, with held.pid().
/// held.wait_ready()?;
/// // Here control groups, affinity and the ownership of files are set.
/// let qemu = held.release()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Launch {
    plan: Plan,
    passed: Vec<OwnedFd>,
    output: Option<OwnedFd>,
}

impl Launch {
    /// The program at the absolute path `binary`, with an empty environment.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self { plan: Plan { binary: binary.to_owned(), ..Plan::default() }, passed: Vec::new(), output: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.plan.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment, which has no others.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.plan.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Passes a descriptor: the program finds it open at `number`, which is 3 or more and used once. Whether it
    /// blocks is left as it is.
    #[must_use]
    pub fn pass(mut self, descriptor: OwnedFd, number: i32) -> Self {
        self.passed.push(descriptor);
        self.plan.descriptors.push(number);
        self
    }

    /// Where standard output and error go; else, to `/dev/null`.
    #[must_use]
    pub fn output(mut self, descriptor: OwnedFd) -> Self {
        self.output = Some(descriptor);
        self
    }

    /// A file for the process id, mode 0644, without a newline; it stays locked (fcntl) while the program runs.
    #[must_use]
    pub fn pid_file(mut self, path: &str) -> Self {
        self.plan.pid_file = Some(path.to_owned());
        self
    }

    /// The mask for new files; QEMU's is 0o002. It holds for the PID file, too.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.plan.umask = Some(mask);
        self
    }

    /// Resource limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.plan.limits = limits;
        self
    }

    /// Who the program runs as; without it, as the daemon.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.plan.identity = Some(identity);
        self
    }

    /// Capabilities that the program has whatever its user is: bits, see [`capability`](super::capability).
    #[must_use]
    pub fn capabilities(mut self, bits: u64) -> Self {
        self.plan.capabilities = bits;
        self
    }

    /// Takes all other capabilities from the program even when it runs as root (`clear_emulator_capabilities`). An
    /// ordinary user's daemon has none to take; that is no error.
    #[must_use]
    pub fn clear_capabilities(mut self) -> Self {
        self.plan.clear_capabilities = true;
        self
    }

    /// The SELinux context of the program.
    #[must_use]
    pub fn selinux(mut self, label: SelinuxLabel) -> Self {
        self.plan.selinux = Some(label);
        self
    }

    /// The AppArmor profile of the program, which must be loaded.
    #[must_use]
    pub fn apparmor(mut self, profile: &str) -> Self {
        self.plan.apparmor = Some(profile.to_owned());
        self
    }

    /// Which threads may share a core with the program's.
    #[must_use]
    pub fn core_scheduling(mut self, scheduling: CoreScheduling) -> Self {
        self.plan.core_scheduling = scheduling;
        self
    }

    /// The working directory, which is `/` otherwise.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.plan.directory = Some(path.to_owned());
        self
    }

    /// From which of the host's nodes the program has its memory, where no control group says so.
    #[must_use]
    pub fn memory_policy(mut self, policy: MemoryPolicy) -> Self {
        self.plan.memory_policy = Some(policy);
        self
    }

    /// A mount namespace with a `/dev` of its own; only root can have that.
    #[must_use]
    pub fn private_dev(mut self, private: PrivateDev) -> Self {
        self.plan.private_dev = Some(private);
        self
    }

    /// The mount namespace of another process, such as a guest's emulator: its `/dev`.
    #[must_use]
    pub fn mounts_of(mut self, pid: i32) -> Self {
        self.plan.mounts_of = Some(pid);
        self
    }

    /// What is added to the program's badness when memory is short, -1000 to 1000.
    #[must_use]
    pub fn oom_score_adjust(mut self, score: i32) -> Self {
        self.plan.oom_score_adjust = Some(score);
        self
    }

    /// The command.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        std::iter::once(&self.plan.binary).chain(&self.plan.arguments).cloned().collect()
    }

    /// What the child will be told.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn check(&self) -> Result<()> {
        let mut numbers = self.plan.descriptors.clone();
        numbers.sort_unstable();
        if numbers.first().is_some_and(|lowest| *lowest < 3) {
            return Err(Error::internal("a standard descriptor cannot be passed"));
        }
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::internal("two descriptors are to have the same number"));
        }
        let texts = self.plan.arguments.iter().chain(self.plan.environment.iter().map(|(_, value)| value));
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(Error::internal("an argument holds a NUL character"));
        }
        Ok(())
    }

    /// Starts the launcher, which prepares itself. The process id is known afterwards.
    ///
    /// # Errors
    /// `cannot fork child process: ...` when the host has no room; what the child says of standard descriptors and
    /// the PID file (`Failed to acquire pid file '...': ...`); `internal error: Process exited prior to exec` when
    /// the child ended without a word.
    pub fn start(self, launcher: &Launcher) -> Result<Held> {
        self.check()?;
        let failed = |error: std::io::Error| Error::system("cannot fork child process", error);
        let memory = memory(&self.plan.to_json().into()).map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let output = |output: &Option<OwnedFd>| -> std::io::Result<Stdio> {
            Ok(match output {
                Some(descriptor) => descriptor.try_clone()?.into(),
                None => Stdio::null(),
            })
        };
        let mut detacher = Command::new(&launcher.program)
            .arg(DETACH_WORD)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(output(&self.output).map_err(failed)?)
            .stderr(output(&self.output).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let all: Vec<BorrowedFd<'_>> =
            std::iter::once(memory.as_fd()).chain(self.passed.iter().map(|fd| fd.as_fd())).collect();
        // Should the child be dead already, then what it said counts.
        let sent = descriptors::send(ours.as_fd(), &all);
        detacher.wait().map_err(failed)?;
        let mut socket = BufReader::new(ours);
        let line = hear(&mut socket)?.ok_or_else(|| match sent {
            // Another error than that nobody reads any more.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(error),
            _ => exited(),
        })?;
        let pid = line.get("pid").and_then(Value::as_i64).and_then(|pid| pid.try_into().ok());
        let child = Child::of_pid(pid.ok_or_else(exited)?)?;
        let mut held = Held { child, socket, ready: false };
        held.tell()?;
        Ok(held)
    }
}

/// A memory file with the text of `value`.
fn memory(value: &Value) -> std::io::Result<File> {
    let memory = File::from(rustix::fs::memfd_create("launch", MemfdFlags::CLOEXEC)?);
    memory.write_all_at(value.to_string().as_bytes(), 0)?;
    Ok(memory)
}

/// The original's text for a child that is gone; it appends what the guest's log says.
fn exited() -> Error {
    Error::internal("Process exited prior to exec")
}

/// The child's next word; `None`: it has ended, or has become the program.
fn hear(socket: &mut BufReader<UnixStream>) -> Result<Option<Value>> {
    let mut line = Vec::new();
    match socket.take(LONGEST_LINE).read_until(b'\n', &mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(Error::system("Unable to wait for child process", error)),
    }
    let line = json::parse(&line).map_err(|error| Error::internal(error.to_string()))?;
    match error_of(&line) {
        Some(error) => Err(error),
        None => Ok(Some(line)),
    }
}

/// A child that exists and prepares itself, or waits. Dropping it ends it.
#[derive(Debug)]
pub struct Held {
    child: Child,
    socket: BufReader<UnixStream>,
    ready: bool,
}

impl Held {
    /// The process id, which is the program's later on.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Waits until the child has prepared itself and waits for us.
    ///
    /// # Errors
    /// What failed in the child: `cannot limit ...`, `cannot set supplemental groups: ...`, `unable to set AppArmor
    /// profile ...`, `Cannot unshare mount namespace: ...`. The original shows clients these as `internal error:
    /// Process exited prior to exec: libvirt:  error : TEXT`, from the guest's log, where they are as well.
    pub fn wait_ready(&mut self) -> Result<()> {
        if !self.ready {
            let line = hear(&mut self.socket)?.ok_or_else(exited)?;
            self.ready = line.get("ready").and_then(Value::as_bool) == Some(true);
            if !self.ready {
                return Err(exited());
            }
        }
        Ok(())
    }

    /// Lets the child go on, which waits for that.
    fn tell(&mut self) -> Result<()> {
        let written = self.socket.get_mut().write_all(b"1");
        written.map_err(|error| Error::system("Unable to notify child process", error))
    }

    /// Lets the child become the program.
    ///
    /// # Errors
    /// Those of [`Held::wait_ready`], and `cannot execute binary /x: No such file or directory`.
    pub fn release(mut self) -> Result<Child> {
        self.wait_ready()?;
        self.tell()?;
        match hear(&mut self.socket)? {
            // Closed by exec.
            None => Ok(self.child),
            Some(_) => Err(exited()),
        }
    }
}

/// The process that was started with this [`pid_file`](Launch::pid_file), if it still runs: only that one has the lock,
/// whatever somebody wrote into the file.
#[must_use]
pub fn holder(pid_file: &Path) -> Option<Child> {
    // The emulator's user may put something else there: never what is another's file.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(pid_file, flags, rustix::fs::Mode::empty()).ok()?);
    let found = rustix::fs::fstat(&file).ok()?;
    if found.st_nlink != 1 {
        return None;
    }
    let asked = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
    let held = rustix::process::fcntl_getlk(&file, &asked).ok()??;
    Child::of_pid(held.pid?.as_raw_nonzero().get()).ok()
}

/// A running program, not a child in the system's sense: it outlives the daemon, and somebody else learns its status.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    handle: OwnedFd,
}

impl Child {
    /// A process that runs already, such as one that an earlier daemon started.
    ///
    /// # Errors
    /// There is none.
    pub fn of_pid(pid: i32) -> Result<Self> {
        let failed = |error| Error::system(format!("no process {pid}"), error);
        let id = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH).map_err(failed)?;
        let handle = rustix::process::pidfd_open(id, PidfdFlags::empty()).map_err(failed)?;
        Ok(Self { pid, handle })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that becomes readable when the process has ended.
    #[must_use]
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Sends a signal: to this process, never to a later one of the same number.
    ///
    /// # Errors
    /// It has ended and was collected (`ESRCH`).
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.handle, signal)?)
    }

    /// Waits up to `limit` for the end; whether it came.
    ///
    /// # Errors
    /// The host refuses to poll.
    pub fn wait(&self, limit: Duration) -> std::io::Result<bool> {
        let end = std::time::Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let time = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match rustix::event::poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&time)) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }
}
