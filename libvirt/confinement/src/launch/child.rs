//! The launcher's own process: from the daemon's binary to the program.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use json::{Value, dict};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::CoreSchedulingScope;

use super::plan::{CoreScheduling, Plan};
use super::work::perform;
use super::{DETACH_WORD, WORD, WORK_WORD, descriptors, identity};
use crate::{Code, Error, Result};

/// Exit statuses of a child that did not become the program: before exec, and by exec.
const CANCELED: i32 = 125;
const CANNOT_INVOKE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// To be called first in the daemon's `main`, before there are threads or open files: when the process was started as
/// a launcher, it does that work and does not return.
pub fn run_if_asked() {
    let status = match std::env::args_os().nth(1) {
        Some(word) if word == *DETACH_WORD => detach(),
        Some(word) if word == *WORD => run(prepare_and_exec),
        Some(word) if word == *WORK_WORD => run(work),
        _ => return,
    };
    std::process::exit(status)
}

/// Leaves the daemon's session, so that the program neither has its terminal nor is its child, and starts the launcher.
fn detach() -> i32 {
    let start = || -> Result<()> {
        nix::unistd::setsid().map_err(|error| Error::system("cannot become session leader", error))?;
        std::env::set_current_dir("/")
            .map_err(|error| Error::system("cannot change to root directory", error))?;
        Command::new("/proc/self/exe")
            .arg(WORD)
            .env_clear()
            .stdin(Stdio::inherit())
            .spawn()
            .map_err(|error| Error::system("cannot fork child process", error))?;
        Ok(())
    };
    match start() {
        Ok(()) => 0,
        Err(error) => {
            if let Ok(mut parent) = socket() {
                report(&mut parent, &error);
            }
            CANCELED
        }
    }
}

/// The socket to the daemon, which is standard input so far.
fn socket() -> Result<UnixStream> {
    let failed = |error: std::io::Error| Error::system("cannot reach the daemon", error);
    let kind =
        rustix::net::sockopt::socket_type(rustix::stdio::stdin()).map_err(|error| failed(error.into()))?;
    if kind != rustix::net::SocketType::STREAM {
        return Err(failed(rustix::io::Errno::NOTSOCK.into()));
    }
    Ok(UnixStream::from(descriptors::lift(rustix::stdio::stdin(), 3).map_err(failed)?))
}

/// Tells the daemon, and whoever reads the log.
fn report(parent: &mut UnixStream, error: &Error) {
    eprintln!("libvirt:  error : {}", error.message);
    let text = dict! { "error" => error.message.as_str(), "code" => i64::from(error.code.number()) };
    // A daemon that has died reads neither.
    let _ = say(parent, text.into());
}

/// A line to the daemon.
pub(super) fn say(parent: &mut UnixStream, value: Value) -> std::io::Result<()> {
    parent.write_all(format!("{value}\n").as_bytes())
}

fn run(part: impl Fn(&mut UnixStream) -> Result<i32>) -> i32 {
    // The daemon waits for its signals by other means than programs expect.
    hostio::signals::reset();
    if let Err(error) = descriptors::close_inherited() {
        eprintln!("libvirt:  error : {}", error.message);
        return CANCELED;
    }
    let mut parent = match socket() {
        Ok(parent) => parent,
        Err(error) => {
            eprintln!("libvirt:  error : {}", error.message);
            return CANCELED;
        }
    };
    match part(&mut parent) {
        Ok(status) => status,
        Err(error) => {
            report(&mut parent, &error);
            CANCELED
        }
    }
}

/// What to do, and the first of the descriptors that came with it.
fn receive_order(parent: &UnixStream) -> Result<(Value, Vec<std::os::fd::OwnedFd>)> {
    let failed = |error| Error::system("cannot receive the launch plan", error);
    let first = descriptors::receive(parent.as_fd(), None).map_err(failed)?;
    let mut first = first.into_iter();
    let file = File::from(first.next().ok_or_else(|| Error::internal("launch plan without a descriptor"))?);
    let length = file.metadata().map_err(failed)?.len();
    let mut text = vec![0; usize::try_from(length).map_err(|_| Error::internal("launch plan too long"))?];
    file.read_exact_at(&mut text, 0).map_err(failed)?;
    let value = json::parse(&text).map_err(|error| Error::internal(error.to_string()))?;
    Ok((value, first.collect()))
}

/// One piece of work, and what came of it.
fn work(parent: &mut UnixStream) -> Result<i32> {
    let (order, passed) = receive_order(parent)?;
    let result = perform(&order, passed)?;
    say(parent, dict! { "result" => result }.into())
        .map_err(|error| Error::system("Unable to notify parent process", error))?;
    Ok(0)
}

/// The plan, and the descriptors that came with it.
fn receive(parent: &UnixStream) -> Result<(Plan, Vec<std::os::fd::OwnedFd>)> {
    let failed = |error| Error::system("cannot receive the launch plan", error);
    let (value, mut rest) = receive_order(parent)?;
    let plan = Plan::from_json(&value)?;
    if rest.len() < plan.descriptors.len() {
        rest.extend(
            descriptors::receive(parent.as_fd(), Some(plan.descriptors.len() - rest.len()))
                .map_err(failed)?,
        );
    }
    Ok((plan, rest))
}

/// All of the child's work. The status is that of a failed exec, which is reported here.
fn prepare_and_exec(parent: &mut UnixStream) -> Result<i32> {
    let (plan, received) = receive(parent)?;
    if let Some(mask) = plan.umask {
        rustix::process::umask(Mode::from_raw_mode(mask));
    }
    // Out of the way of the numbers that they and their neighbours are to have.
    let above = plan.descriptors.iter().max().map_or(3, |top| top.saturating_add(1));
    let preserve = |error| Error::system("failed to preserve file descriptors", error);
    let received = received
        .into_iter()
        .map(|descriptor| descriptors::lift(&descriptor, above))
        .collect::<Result<Vec<_>, _>>()
        .map_err(preserve)?;
    *parent = UnixStream::from(descriptors::lift(&*parent, above).map_err(preserve)?);
    descriptors::place(received, &plan.descriptors)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::system("cannot open /dev/null", error))?;
    rustix::stdio::dup2_stdin(&null)
        .map_err(|error| Error::system("failed to setup stdin file handle", error))?;
    drop(null);
    if let Some(path) = &plan.pid_file {
        acquire_pid_file(path)?;
    }
    let gone = |error| Error::system("Unable to notify parent process", error);
    let known = say(parent, dict! { "pid" => std::process::id() }.into()).map_err(gone);
    // Until the daemon has a handle: the number of a process that ends before may be another's by then.
    known.and_then(|()| await_word(parent)).inspect_err(|_| {
        if let Some(path) = &plan.pid_file {
            // Nobody else knows of this process yet.
            remove_own(path);
        }
    })?;

    set_limits(&plan)?;
    if let Some(private) = &plan.private_dev {
        private.build()?;
    }
    if let Some(pid) = plan.mounts_of {
        super::enter_mount_namespace(pid)?;
    }
    if let Some(policy) = &plan.memory_policy {
        policy.apply()?;
    }
    set_labels(&plan)?;
    schedule(&plan)?;
    identity::assume(&plan)?;
    if let Some(directory) = &plan.directory {
        std::env::set_current_dir(directory)
            .map_err(|error| Error::system(format!("Unable to change to {directory}"), error))?;
    }
    say(parent, dict! { "ready" => true }.into()).map_err(gone)?;
    await_word(parent)?;
    let error = Command::new(&plan.binary)
        .args(&plan.arguments)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_INVOKE };
    report(parent, &Error::system(format!("cannot execute binary {}", plan.binary), error));
    Ok(status)
}

/// Waits for the daemon's word to go on.
fn await_word(parent: &mut UnixStream) -> Result<()> {
    let mut go = [0];
    if let Err(error) = parent.read_exact(&mut go) {
        return Err(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::system("libvirtd quit during handshake", rustix::io::Errno::IO)
            }
            _ => Error::system("Unable to wait on parent process", error),
        });
    }
    if go != *b"1" {
        let code = char::from(go[0]);
        return Err(Error::system(
            format!("Unexpected confirm code '{code}' from parent"),
            rustix::io::Errno::INVAL,
        ));
    }
    Ok(())
}

/// Writes this process's id into `path` and locks it for as long as the program runs: the descriptor stays open.
fn acquire_pid_file(path: &str) -> Result<()> {
    loop {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| Error::system(format!("Failed to open pid file '{path}'"), error))?;
        // Of the process, unlike flock's: libvirt looks for such a lock on the first byte.
        rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::system(format!("Failed to acquire pid file '{path}'"), error))?;
        let same = match (rustix::fs::fstat(&file), rustix::fs::stat(path)) {
            (Ok(ours), Ok(theirs)) => (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino),
            (Err(error), _) => {
                return Err(Error::system(format!("Unable to check status of pid file '{path}'"), error));
            }
            _ => false,
        };
        // Somebody removed or replaced it between opening and locking.
        if !same {
            continue;
        }
        rustix::fs::ftruncate(&file, 0)
            .map_err(|error| Error::system(format!("Failed to truncate pid file '{path}'"), error))?;
        rustix::io::write(&file, std::process::id().to_string().as_bytes())
            .map_err(|error| Error::system(format!("Failed to write to pid file '{path}'"), error))?;
        return descriptors::leave_open(file)
            .map_err(|error| Error::system("Cannot disable close-on-exec flag", error));
    }
}

/// Removes the PID file if it is this process's.
fn remove_own(path: &str) {
    if std::fs::read_to_string(path).is_ok_and(|text| text == std::process::id().to_string()) {
        let _ = std::fs::remove_file(path);
    }
}

fn set_limits(plan: &Plan) -> Result<()> {
    let pid = std::process::id();
    let set = |resource, value: Option<u64>, what: &str| {
        let Some(value) = value else { return Ok(()) };
        let infinite = (value != u64::MAX).then_some(value);
        rustix::process::setrlimit(resource, Rlimit { current: infinite, maximum: infinite })
            .map_err(|error| Error::system(format!("cannot limit {what} of process {pid} to {value}"), error))
    };
    let limits = &plan.limits;
    set(Resource::Memlock, limits.locked_memory, "locked memory")?;
    set(Resource::Nproc, limits.processes, "number of subprocesses")?;
    set(Resource::Nofile, limits.files.map(|files| files.saturating_add(1)), "number of open files")?;
    set(Resource::Core, limits.core, "core file size")?;
    if let Some(score) = plan.oom_score_adjust {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| Error::system(format!("Unable to set oom_score_adj to {score}"), error))?;
    }
    Ok(())
}

fn set_labels(plan: &Plan) -> Result<()> {
    if let Some(label) = &plan.selinux {
        let done = std::fs::write("/proc/self/attr/exec", &label.context);
        if let Err(error) = done {
            let text =
                format!("unable to set SELinux security context '{}' for '{}'", label.context, plan.binary);
            if label.enforcing {
                return Err(Error::system(text, error));
            }
            eprintln!("libvirt:  error : {}", Error::system(text, error).message);
        }
    }
    if let Some(profile) = &plan.apparmor {
        let text = format!("changeprofile {profile}");
        std::fs::write("/proc/self/attr/apparmor/current", &text)
            .or_else(|_| std::fs::write("/proc/self/attr/current", &text))
            .map_err(|error| {
                let text = format!("unable to set AppArmor profile '{profile}' for '{}'", plan.binary);
                Error::system(text, error)
            })?;
    }
    Ok(())
}

fn schedule(plan: &Plan) -> Result<()> {
    match plan.core_scheduling {
        CoreScheduling::Inherit => Ok(()),
        CoreScheduling::New => {
            let own = rustix::process::getpid();
            rustix::thread::create_core_scheduling_cookie(own, CoreSchedulingScope::ThreadGroup)
                .map_err(|error| Error::system("Unable to set SCHED_CORE", error))
        }
        CoreScheduling::With(pid) => Pid::from_raw(pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|other| rustix::thread::pull_core_scheduling_cookie(other, CoreSchedulingScope::Thread))
            .map_err(|error| Error::system(format!("Unable to run among {pid}"), error)),
    }
}

/// What the child's error was, from its line.
pub(super) fn error_of(line: &Value) -> Option<Error> {
    let message = line.get("error")?.as_str()?.to_owned();
    let code = Code::from_number(line.get("code")?.as_i64()?);
    Some(Error { code, message })
}
