//! An emulator process: how to start one, talk with its guest, and see how it ends.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::console::{Console, Missed};
use crate::guests::NewerQemu;
use crate::paths;

/// An executable that takes QEMU's command line.
#[derive(Debug, Clone)]
pub struct Emulator {
    /// The executable.
    pub program: PathBuf,
    libraries: Option<PathBuf>,
    data: Option<PathBuf>,
}

impl Emulator {
    /// The one of this repository (or `$TINAMOU_QEMU`), or how to build it.
    pub fn ours() -> Result<Self, String> {
        paths::program("qemu-system-x86_64", "TINAMOU_QEMU").map(Self::at)
    }

    /// The reference: the distribution's, as installed (or `$REFERENCE_QEMU`), or why there is none.
    pub fn reference() -> Result<Self, String> {
        let program = std::env::var_os("REFERENCE_QEMU")
            .map_or_else(|| PathBuf::from("/usr/bin/qemu-system-x86_64"), PathBuf::from);
        if program.is_file() {
            Ok(Self::at(program))
        } else {
            Err(format!("the machine has no {} to compare with", program.display()))
        }
    }

    /// The reference that is nearer to our specification, from the backports suite, or why there is none.
    pub fn newer_reference() -> Result<Self, String> {
        crate::guests::newer_qemu().map(|NewerQemu { program, libraries, data }| Self {
            program,
            libraries: Some(libraries),
            data: Some(data),
        })
    }

    /// Any executable.
    pub fn at(program: PathBuf) -> Self {
        Self { program, libraries: None, data: None }
    }

    /// A command that will start it with no argument but those that it needs to find its own files.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries).env("QEMU_MODULE_DIR", libraries.join("qemu"));
        }
        if let Some(data) = &self.data {
            command.arg("-L").arg(data);
        }
        command
    }

    /// Runs it until it ends, with nothing on standard input. A run that takes longer is killed: an error.
    pub fn run<S: AsRef<str>>(&self, arguments: &[S], within: Duration) -> Result<Output, String> {
        let mut child = self
            .command()
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        // The two streams are read on threads so that a full pipe never holds the program up.
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let status = wait(&mut child, within);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match status {
            Some(status) => Ok(Output { status, stdout, stderr }),
            None => Err(format!(
                "did not end within {within:?}; standard error: {}; standard output: {}",
                String::from_utf8_lossy(&stderr),
                String::from_utf8_lossy(&stdout)
            )),
        }
    }

    /// Starts it with its standard streams as the console.
    pub fn start<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Running, String> {
        let started = Instant::now();
        let mut child = self
            .command()
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("the standard streams are pipes".to_owned());
        };
        Ok(Running {
            console: Console::new(stdout, stdin),
            errors: Console::new(stderr, std::io::sink()),
            child,
            started,
            terminal: None,
        })
    }

    /// Starts it on a terminal of its own, as a person does; the console is that person's side.
    pub fn start_on_terminal<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Running, String> {
        let started = Instant::now();
        let text = |error: std::io::Error| error.to_string();
        let pty = nix::pty::openpty(None, None).map_err(|error| format!("no terminal: {error}"))?;
        let mut child = self
            .command()
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(pty.slave.try_clone().map_err(text)?)
            .stdout(pty.slave.try_clone().map_err(text)?)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let Some(stderr) = child.stderr.take() else {
            return Err("standard error is a pipe".to_owned());
        };
        let reader = pty.master.try_clone().map_err(text)?;
        Ok(Running {
            console: Console::new(File::from(reader), File::from(pty.master)),
            errors: Console::new(stderr, std::io::sink()),
            child,
            started,
            terminal: Some(pty.slave),
        })
    }
}

fn drain(stream: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A started emulator. It is killed when the value goes.
pub struct Running {
    /// Standard input and output: with `-nographic` the first serial port.
    pub console: Console,
    /// Standard error.
    pub errors: Console,
    child: Child,
    /// When the process was started.
    pub started: Instant,
    /// The program's side of the terminal, if it was started on one.
    terminal: Option<OwnedFd>,
}

impl Running {
    /// Waits for a text on the console; the error also tells standard error.
    ///
    /// A terminal that the test keeps open does not end with the emulator, so the process is looked at too.
    pub fn expect(&mut self, text: &str, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        loop {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            let slice = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            match self.console.expect(text, slice) {
                Err(Missed::Timeout(_)) if !ended && Instant::now() < deadline => {}
                other => return other.map_err(|missed| self.explain(text, &missed)),
            }
        }
    }

    fn explain(&self, text: &str, missed: &Missed) -> String {
        format!("waiting for {text:?}: {missed}\n-- standard error:\n{}", self.errors.log())
    }

    /// Waits for the process to end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, String> {
        wait(&mut self.child, within).ok_or_else(|| {
            format!("the emulator did not end within {within:?}; its console:\n{}", self.console.log())
        })
    }

    /// What the process has used up to now; nothing after it has ended.
    pub fn usage(&self) -> Option<Usage> {
        Usage::of(self.child.id())
    }

    /// Whether the terminal hands every key to the program at once and shows none by itself; nothing without a terminal.
    pub fn terminal_is_raw(&self) -> Option<bool> {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let settings = tcgetattr(self.terminal.as_ref()?).ok()?;
        Some(!settings.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO))
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads that are alive, and of its children's: user code may run in those.
    pub processor: Duration,
    /// Resident memory in KiB.
    pub resident: u64,
    /// The most resident memory up to now, in KiB.
    pub peak: u64,
}

/// Nanoseconds that a thread has run.
fn processor(thread: &Path) -> Option<u64> {
    std::fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

impl Usage {
    /// Reads the kernel's accounts of a process (proc(5)).
    pub fn of(process: u32) -> Option<Self> {
        let root = Path::new("/proc").join(process.to_string());
        let mut nanoseconds = 0;
        let mut children = String::new();
        for task in root.join("task").read_dir().ok()?.flatten() {
            nanoseconds += processor(&task.path())?;
            // Kernels without checkpointing do not tell.
            children += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
        // One that has just ended has nothing to add.
        let children = children.split_ascii_whitespace().map(|child| Path::new("/proc").join(child));
        nanoseconds += children.filter_map(|child| processor(&child)).sum::<u64>();
        let status = std::fs::read_to_string(root.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Some(Self {
            processor: Duration::from_nanos(nanoseconds),
            resident: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(10);

    fn shell() -> Emulator {
        Emulator::at("/bin/sh".into())
    }

    #[test]
    fn a_run_gives_streams_and_status() {
        let output = shell().run(&["-c", "echo out; echo err >&2; exit 3"], LATER).unwrap();
        assert_eq!(
            (output.status.code(), &*output.stdout, &*output.stderr),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        let error =
            shell().run(&["-c", "echo begun; exec sleep 30"], Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("begun"), "{error}");
    }

    #[test]
    fn a_started_program_is_talked_with() {
        let mut running =
            shell().start(&["-c", "read line; echo got $line; echo oops >&2; read rest; exit 4"]).unwrap();
        running.console.send("it\n").unwrap();
        running.expect("got it", LATER).unwrap();
        assert!(running.usage().unwrap().resident > 0);
        running.console.send("\n").unwrap();
        assert_eq!(running.wait(LATER).unwrap().code(), Some(4));
        let error = running.expect("never", LATER).unwrap_err();
        assert!(error.contains("oops"), "{error}");
        assert_eq!(running.usage(), None);
    }

    #[test]
    fn a_terminal_echoes_until_the_program_makes_it_raw() {
        let mut running = shell()
            .start_on_terminal(&["-c", "read line; stty raw -echo; echo raw $line; read rest"])
            .unwrap();
        assert_eq!(running.terminal_is_raw(), Some(false));
        running.console.send("it\n").unwrap();
        running.expect("it\r\n", LATER).unwrap();
        running.expect("raw it", LATER).unwrap();
        assert_eq!(running.terminal_is_raw(), Some(true));
    }
}
