//! The back ends on plain descriptors: null, stdio, file, pipe, pty.

use crate::core::{Backend, Core};
use crate::fd::{FdReader, FdWriter, duplicate, set_nonblocking};
use crate::frontend::OnceCall;
use crate::spec::SpecError;
use eventloop::{HostTimer, LoopHandle};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// `null`: takes everything, sends nothing.
pub(crate) struct Null {
    pub(crate) handle: LoopHandle,
}

impl Backend for Null {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn on_writable(&self, call: OnceCall) {
        self.handle.defer(call);
    }
    fn wait_writable(&self) {}
    fn accept_input(&self) {}
}

/// A descriptor to read (perhaps none) and one to write.
pub(crate) struct Descriptors {
    reader: Option<Arc<FdReader>>,
    writer: Arc<FdWriter>,
    /// For the terminal: whether Ctrl-C stays a signal.
    terminal: Option<bool>,
}

impl Backend for Descriptors {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
    fn on_writable(&self, call: OnceCall) {
        self.writer.on_writable(call);
    }
    fn wait_writable(&self) {
        self.writer.wait();
    }
    fn accept_input(&self) {
        if let Some(reader) = &self.reader {
            reader.resume();
        }
    }
    fn set_echo(&self, echo: bool) {
        if let Some(signals) = self.terminal {
            let _ = hostio::tty::set_raw(echo, signals);
        }
    }
}

fn descriptors(core: &Arc<Core>, input: Option<Arc<OwnedFd>>, output: Arc<OwnedFd>) -> Descriptors {
    let gone = core.clone();
    Descriptors {
        reader: input.map(|fd| FdReader::new(core.clone(), fd, move || gone.set_open(false))),
        writer: FdWriter::new(core.handle.clone(), output),
        terminal: None,
    }
}

static STDIO_TAKEN: AtomicBool = AtomicBool::new(false);

/// `stdio`: the terminal, raw; given back at exit.
pub(crate) fn stdio(core: &Arc<Core>, signals: bool) -> Result<Descriptors, SpecError> {
    if STDIO_TAKEN.swap(true, Ordering::SeqCst) {
        return Err(SpecError("cannot use stdio by multiple character devices".to_owned()));
    }
    let open = || -> io::Result<Descriptors> {
        let input = Arc::new(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
        let output = Arc::new(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
        hostio::tty::take_stdio()?;
        hostio::tty::set_raw(false, signals)?;
        Ok(Descriptors { terminal: Some(signals), ..descriptors(core, Some(input), output) })
    };
    open().map_err(|error| SpecError(format!("cannot use stdio: {}", reason(&error))))
}

/// `file`: output to a file, and input from another when there is one.
pub(crate) fn file(
    core: &Arc<Core>,
    path: &str,
    input: Option<&str>,
    append: bool,
) -> Result<Descriptors, SpecError> {
    let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    flags |= if append { OFlags::APPEND } else { OFlags::TRUNC };
    let out = open(path, flags)?;
    let input = input.map(|path| open(path, OFlags::RDONLY | OFlags::CLOEXEC)).transpose()?;
    Ok(descriptors(core, input.map(Arc::new), Arc::new(out)))
}

/// `pipe`: `PATH.in` and `PATH.out`, or `PATH` for both directions.
pub(crate) fn pipe(core: &Arc<Core>, path: &str) -> Result<Descriptors, SpecError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let (input, output) = match (open(&format!("{path}.in"), flags), open(&format!("{path}.out"), flags)) {
        (Ok(input), Ok(output)) => (input, Arc::new(output)),
        _ => {
            let both = open(path, flags)?;
            let output = duplicate(&both).map_err(|error| SpecError(reason(&error)))?;
            (both, output)
        }
    };
    let _ = set_nonblocking(&input);
    let _ = set_nonblocking(&output);
    Ok(descriptors(core, Some(Arc::new(input)), output))
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, SpecError> {
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))
        .map_err(|errno| SpecError(format!("Could not open '{path}': {}", reason(&errno.into()))))
}

/// The C library's text for an error, without Rust's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// How often a pseudo-terminal without a slave is looked at.
const PTY_POLL: Duration = Duration::from_secs(1);

/// `pty`: a pseudo-terminal. While nobody has the slave open, output is dropped and the master is looked at by a timer,
/// since it reports a hang-up all the time.
pub(crate) struct Pty {
    core: Arc<Core>,
    master: Arc<OwnedFd>,
    reader: Mutex<Option<Arc<FdReader>>>,
    writer: Arc<FdWriter>,
    timer: Mutex<Option<HostTimer>>,
    me: Weak<Self>,
}

/// Opens a pseudo-terminal; the result's second part is the slave's path.
pub(crate) fn pty(core: &Arc<Core>) -> Result<(Arc<Pty>, String), SpecError> {
    let fail = |error: io::Error| SpecError(format!("Failed to create PTY: {}", reason(&error)));
    let pty = hostio::pty::open().map_err(fail)?;
    set_nonblocking(&pty.master).map_err(fail)?;
    let output = duplicate(&pty.master).map_err(fail)?;
    let master = Arc::new(pty.master);
    let device = Arc::new_cyclic(|me| Pty {
        core: core.clone(),
        master,
        reader: Mutex::new(None),
        writer: FdWriter::new(core.handle.clone(), output),
        timer: Mutex::new(None),
        me: me.clone(),
    });
    let me = device.me.clone();
    *device.timer.lock() = Some(core.handle.timer(move || {
        if let Some(me) = me.upgrade() {
            me.look();
        }
    }));
    device.look();
    Ok((device, pty.path))
}

impl Pty {
    /// Whether somebody has the slave open; follows a change.
    fn look(&self) {
        let mut fds = [PollFd::new(&*self.master, PollFlags::OUT)];
        let _ = poll(&mut fds, Some(&Timespec::default()));
        let there = !fds[0].revents().contains(PollFlags::HUP);
        let mut reader = self.reader.lock();
        if there && reader.is_none() {
            let me = self.me.clone();
            let new = FdReader::new(self.core.clone(), self.master.clone(), move || {
                if let Some(me) = me.upgrade() {
                    *me.reader.lock() = None;
                    me.look();
                }
            });
            new.resume();
            *reader = Some(new);
            drop(reader);
            self.core.set_open(true);
        } else if !there {
            let old = reader.take();
            drop(reader);
            if let Some(old) = old {
                old.close();
            }
            self.core.set_open(false);
            self.writer.flush();
            if let Some(timer) = &*self.timer.lock() {
                timer.arm(Instant::now() + PTY_POLL);
            }
        }
    }
}

impl Backend for Arc<Pty> {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.core.is_open() {
            return Ok(bytes.len());
        }
        self.writer.write(bytes)
    }
    fn on_writable(&self, call: OnceCall) {
        if self.core.is_open() { self.writer.on_writable(call) } else { self.core.handle.defer(call) }
    }
    fn wait_writable(&self) {
        self.writer.wait();
    }
    fn accept_input(&self) {
        if let Some(reader) = &*self.reader.lock() {
            reader.resume();
        }
    }
}
