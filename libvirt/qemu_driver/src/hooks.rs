//! The scripts of the administrator that are told of the daemon's life and of the guests': `hooks/daemon` and
//! `hooks/qemu`, and after them what is in `hooks/daemon.d` and `hooks/qemu.d`, by name.
//!
//! A script is called as `SCRIPT OBJECT OPERATION SUB-OPERATION EXTRA`, a guest's definition on its standard input. Whether
//! there are any is looked at when the daemon begins, reloads and ends; then each is looked for at each call. All are called
//! even after one has failed. While a script runs its caller waits, and whoever wants the same guest's job.

use crate::core::{Core, Level, Log};
use crate::definition::Form;
use crate::error::Result;
use domain_xml::Domain as Definition;
use parking_lot::Mutex;
use rpc::{Code, Error, Origin};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, OFlags, access, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(600);
/// So much of what a script says is told to a client.
const MAX_WORDS: usize = 4096;
/// Longest definition that a script may answer.
const MAX_ANSWER: usize = 4 << 20;
/// More than a pipe holds that nobody writes to any more.
const MAX_REST: usize = 1 << 20;

/// Whose scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The daemon's.
    Daemon,
    /// The guests'.
    Qemu,
}

impl About {
    const ALL: [Self; 2] = [Self::Daemon, Self::Qemu];

    fn word(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Qemu => "qemu",
        }
    }
}

/// The scripts in a directory.
pub struct Hooks {
    directory: PathBuf,
    /// Of which there are any, once that was looked at.
    found: Mutex<Option<[bool; About::ALL.len()]>>,
    log: Arc<Log>,
}

impl Hooks {
    /// Those in `directory`, which is not looked at yet.
    pub fn new(directory: PathBuf, log: Arc<Log>) -> Self {
        Self { directory, found: Mutex::new(None), log }
    }

    /// Looks anew for which there are scripts, and warns of those that nobody can run.
    pub fn look(&self) {
        let found = About::ALL.map(|about| {
            let (runs, not): (Vec<_>, Vec<_>) =
                self.files(about).into_iter().partition(|path| is_executable(path));
            for path in not {
                (self.log)(Level::Warning, &format!("Non-executable hook script {}", path.display()));
            }
            !runs.is_empty()
        });
        *self.found.lock() = Some(found);
    }

    /// Whether there were scripts when that was last looked at.
    pub fn present(&self, about: About) -> bool {
        let known = *self.found.lock();
        let found = known.or_else(|| {
            self.look();
            *self.found.lock()
        });
        found.is_some_and(|found| found[about as usize])
    }

    /// The main script and then those in the directory, by name; whether they can be run or not.
    fn files(&self, about: About) -> Vec<PathBuf> {
        let word = about.word();
        let entries = std::fs::read_dir(self.directory.join(format!("{word}.d"))).into_iter().flatten();
        let mut beside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        beside.sort();
        std::iter::once(self.directory.join(word)).filter(|main| main.exists()).chain(beside).collect()
    }

    /// Calls the scripts with an object, an operation, its part and an extra word, and `input`.
    ///
    /// # Errors
    /// One has failed: what the last of these said.
    pub fn call(&self, about: About, words: [&str; 4], input: Option<&str>) -> Result<()> {
        self.run(about, words, input, false).map(drop)
    }

    /// As [`Self::call`], of scripts that may put something in place of the input: each gets what the one before it has
    /// answered. None if none has answered anything.
    ///
    /// # Errors
    /// One has failed: what the last of these said.
    pub fn filter(&self, about: About, words: [&str; 4], input: &str) -> Result<Option<String>> {
        self.run(about, words, Some(input), true)
    }

    fn run(
        &self,
        about: About,
        words: [&str; 4],
        input: Option<&str>,
        filter: bool,
    ) -> Result<Option<String>> {
        if !self.present(about) {
            return Ok(None);
        }
        let (mut answer, mut failed) = (None::<String>, None);
        for script in self.files(about).iter().filter(|path| is_executable(path)) {
            let given = answer.as_deref().or(input);
            match run(script, words, given, if filter { MAX_ANSWER } else { 0 }, LIMIT) {
                Ok(said) if filter && !said.is_empty() => answer = Some(said),
                Ok(_) => {}
                Err(error) => {
                    if let Some(error) = failed.replace(error) {
                        (self.log)(Level::Error, &error.to_string());
                    }
                }
            }
        }
        failed.map_or(Ok(answer), Err)
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// What scripts get of this process's environment.
fn environment() -> Vec<(String, String)> {
    let own = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    let path = own("PATH").unwrap_or_else(|| ("PATH".to_owned(), "/bin:/usr/bin".to_owned()));
    let mut all = vec![("LC_ALL".to_owned(), "C".to_owned())];
    all.extend(["LD_PRELOAD", "LD_LIBRARY_PATH"].into_iter().filter_map(own));
    all.push(path);
    all.extend(["HOME", "USER", "LOGNAME", "TMPDIR"].into_iter().filter_map(own));
    all
}

/// One end of a pipe from a script.
struct Said<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
    most: usize,
    /// It was more than that.
    more: bool,
}

impl<R: Read + AsFd> Said<R> {
    fn new(pipe: Option<R>, most: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(Self { pipe, bytes: Vec::new(), most, more: false })
    }

    /// Takes what is there, at most so much; what is too much is forgotten.
    fn take(&mut self, mut most: usize) {
        let mut buffer = [0; 16 << 10];
        while let (Some(pipe), true) = (&mut self.pipe, most > 0) {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    let kept = length.min(self.most - self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..kept]);
                    self.more |= kept < length;
                    most = most.saturating_sub(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs a script; what it answers, of which `most` bytes are of interest.
fn run(script: &Path, words: [&str; 4], input: Option<&str>, most: usize, limit: Duration) -> Result<String> {
    let environment = environment();
    let failed = |why: String| {
        let arguments = words.map(str::to_owned);
        let line = crate::process::shell_line(&environment, &script.to_string_lossy(), &arguments);
        let detail = format!("internal error: Child process ({line}) unexpected {why}");
        Error::new(Origin::Hook, Code::HookScriptFailed, detail)
    };
    let spawned = Command::new(script)
        .args(words)
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| {
        let shown = script.display();
        let text = Error::system(Origin::Hook, &error, &format!("cannot execute binary {shown}"));
        failed(format!("exit status 127: libvirt:  error : {}\n", text.message.unwrap_or_default()))
    })?;
    let followed = follow(&mut child, input.unwrap_or_default(), most, limit);
    let (status, answer, words) = followed.map_err(|error| {
        // It is not left alone.
        let _ = child.kill();
        let _ = child.wait();
        failed(format!("end: {error}"))
    })?;
    let said = words.text();
    let colon = if said.is_empty() { "" } else { ": " };
    match (status.code(), status.signal()) {
        (Some(0), _) if answer.more && most > 0 => Err(failed(format!("answer of more than {most} bytes"))),
        (Some(0), _) => Ok(answer.text()),
        (Some(code), _) => Err(failed(format!("exit status {code}{colon}{said}"))),
        (None, signal) => Err(failed(format!("fatal signal {}{colon}{said}", signal.unwrap_or_default()))),
    }
}

type Outcome = (ExitStatus, Said<std::process::ChildStdout>, Said<std::process::ChildStderr>);

/// Gives a script its input, and waits for its end: not for that of others that it leaves with its pipes.
fn follow(child: &mut Child, input: &str, most: usize, limit: Duration) -> io::Result<Outcome> {
    let end = Instant::now() + limit;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (mut stdin, mut input) = (child.stdin.take(), input.as_bytes());
    if let Some(stdin) = &stdin {
        fcntl_setfl(stdin, OFlags::NONBLOCK)?;
    }
    let mut answer = Said::new(child.stdout.take(), most)?;
    let mut words = Said::new(child.stderr.take(), MAX_WORDS)?;
    loop {
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(length) => input = &input[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It does not want to know.
                Err(_) => input = &[],
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        let mut watched = vec![PollFd::new(&process, PollFlags::IN)];
        watched.extend(stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        watched.extend(answer.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        watched.extend(words.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
        }
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut watched, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ended = !watched[0].revents().is_empty();
        answer.take(MAX_REST);
        words.take(MAX_REST);
        if ended {
            return Ok((child.wait()?, answer, words));
        }
    }
}

impl Core {
    /// Calls the guests' scripts about one that is as `definition` says.
    ///
    /// # Errors
    /// A script has failed: what is done is not to go on.
    pub(crate) fn hook(&self, definition: &Definition, operation: &str) -> Result<()> {
        self.tell_scripts(definition, operation, "begin")
    }

    /// Calls the guests' scripts about one that has ended; what they say of it changes nothing.
    pub(crate) fn hook_ended(&self, definition: &Definition, operation: &str) {
        if !self.hooks.present(About::Qemu) {
            return;
        }
        let definition = Definition { id: None, ..definition.clone() };
        if let Err(error) = self.tell_scripts(&definition, operation, "end") {
            self.log(Level::Error, &error.to_string());
        }
    }

    fn tell_scripts(&self, definition: &Definition, operation: &str, part: &str) -> Result<()> {
        if !self.hooks.present(About::Qemu) {
            return Ok(());
        }
        let xml = self.format(definition, Form::default());
        self.hooks.call(About::Qemu, [definition.name(), operation, part, "-"], Some(&xml))
    }

    /// Lets the guests' scripts put another definition in place of that of a saved state; none if they do not.
    ///
    /// # Errors
    /// A script has failed, or answers something else than a definition.
    pub(crate) fn hook_restore(&self, name: &str, xml: &str) -> Result<Option<Definition>> {
        let answer = self.hooks.filter(About::Qemu, [name, "restore", "begin", "-"], xml)?;
        let Some(answer) = answer.filter(|answer| !answer.trim().is_empty()) else { return Ok(None) };
        let parsed = domain_xml::parse(&answer).map_err(|error| crate::error::xml(&error))?;
        Ok(Some(self.complete(parsed, false)?.definition))
    }
}

#[cfg(test)]
mod tests;
