//! One connection.

use crate::events::{Callback, Events};
use crate::send::send;
use crate::{Decoder, Greeting, Message, Notice, ProtocolError};
use json::{Dict, Value, dict};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many commands may wait for their replies.
const MAX_PENDING: usize = 256;

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The emulator refused.
    #[error("{desc}")]
    Command {
        /// `GenericError`, `CommandNotFound`, `DeviceNotFound` ...
        class: String,
        /// The text for a person.
        desc: String,
    },
    /// The connection cannot be made.
    #[error("failed to connect to monitor socket: {0}")]
    Connect(String),
    /// The emulator went away.
    #[error("End of file from qemu monitor")]
    Closed,
    /// The emulator does not speak the protocol.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// No reply within the deadline; one that comes later is dropped.
    #[error("no reply to '{0}' in time")]
    Deadline(String),
    /// Too many commands wait already.
    #[error("too many commands wait for a reply")]
    Busy,
}

impl Error {
    /// Whether the emulator refused with this class.
    pub fn is_class(&self, wanted: &str) -> bool {
        matches!(self, Self::Command { class, .. } if class == wanted)
    }
}

/// How a connection behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the greeting and the capabilities may take.
    pub connect: Duration,
    /// How long a command may take that says nothing else.
    pub command: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), command: Duration::from_secs(60) }
    }
}

type Reply = Result<Value, Error>;

#[derive(Default)]
struct State {
    pending: HashMap<u64, SyncSender<Reply>>,
    last_id: u64,
    /// Why there will be no more replies.
    ended: Option<Error>,
    greeted: Option<SyncSender<Greeting>>,
    /// Since when the emulator, which owes answers, has said nothing.
    silent_since: Option<Instant>,
}

struct Inner {
    stream: UnixStream,
    /// Held while a command is written, so that they do not mix.
    writing: Mutex<()>,
    state: Mutex<State>,
    events: Arc<Events>,
}

/// A connection to an emulator; dropping it closes the connection.
pub struct Monitor {
    inner: Arc<Inner>,
    greeting: Greeting,
    options: Options,
}

impl Monitor {
    /// Connects to the socket at `path` and negotiates. `callback` gets the events, and last of all
    /// the end of the connection, whoever ends it.
    ///
    /// # Errors
    /// Nobody listens, or the peer does not answer as QEMU does.
    pub fn connect(
        path: &Path,
        options: Options,
        callback: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let stream = UnixStream::connect(path).map_err(|error| Error::Connect(error.to_string()))?;
        Self::from_stream(stream, options, callback)
    }

    /// As [`Monitor::connect`], on a connection that exists.
    ///
    /// # Errors
    /// As [`Monitor::connect`].
    pub fn from_stream(
        stream: UnixStream,
        options: Options,
        callback: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let callback: Callback = Box::new(callback);
        let (greeted, greeting) = sync_channel(1);
        let inner = Arc::new(Inner {
            stream,
            writing: Mutex::new(()),
            state: Mutex::new(State { greeted: Some(greeted), ..State::default() }),
            events: Events::new(callback),
        });
        let reader = inner.clone();
        std::thread::Builder::new()
            .name("qmp-read".to_owned())
            .spawn(move || reader.read())
            .map_err(|error| Error::Connect(error.to_string()))?;
        let deadline = Instant::now() + options.connect;
        let mut monitor = Self { inner, greeting: Greeting::default(), options };
        monitor.greeting = match greeting.recv_timeout(options.connect) {
            Ok(greeting) => greeting,
            Err(RecvTimeoutError::Timeout) => return Err(Error::Deadline("QMP".to_owned())),
            Err(RecvTimeoutError::Disconnected) => return Err(monitor.inner.ended()),
        };
        monitor.run("qmp_capabilities", Dict::default(), &[], deadline)?;
        Ok(monitor)
    }

    /// What the emulator said first.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Executes a command within the usual time.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn execute(&self, command: &str, arguments: Dict) -> Reply {
        self.run(command, arguments, &[], Instant::now() + self.options.command)
    }

    /// Executes a command within `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn execute_within(&self, limit: Duration, command: &str, arguments: Dict) -> Reply {
        self.run(command, arguments, &[], Instant::now() + limit)
    }

    /// Executes a command that takes descriptors (`getfd`, `add-fd`), at most eight.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn execute_with_fds(&self, command: &str, arguments: Dict, fds: &[BorrowedFd<'_>]) -> Reply {
        self.run(command, arguments, fds, Instant::now() + self.options.command)
    }

    /// Executes a command of the human monitor; the answer is its output.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn human(&self, line: &str) -> Result<String, Error> {
        match self.execute("human-monitor-command", dict! { "command-line" => line })? {
            Value::Str(text) => Ok(text),
            other => Err(Error::Protocol(ProtocolError::Unknown(other.to_string()))),
        }
    }

    /// For how long the emulator has said nothing while it owed an answer; none when it owes none.
    pub fn silent_for(&self) -> Option<Duration> {
        self.inner.state.lock().silent_since.map(|since| since.elapsed())
    }

    /// Waits until the callback has been told of every event that came before the last reply, at the longest `limit`. Not
    /// to be called by it.
    pub fn settle(&self, limit: Duration) {
        self.inner.events.settle(Instant::now() + limit);
    }

    /// Ends the connection; whoever waits for a reply gets [`Error::Closed`].
    pub fn close(&self) {
        let _ = self.inner.stream.shutdown(Shutdown::Both);
    }

    fn run(&self, command: &str, arguments: Dict, fds: &[BorrowedFd<'_>], deadline: Instant) -> Reply {
        let (sender, receiver) = sync_channel(1);
        let id = self.inner.register(sender)?;
        let mut request = dict! { "execute" => command };
        if !arguments.is_empty() {
            request.insert("arguments", Value::Dict(arguments));
        }
        request.insert("id", Value::Str(format!("libvirt-{id}")));
        let mut text = Value::Dict(request).to_string();
        text.push_str("\r\n");
        let sent = {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inner.writing.try_lock_for(left) {
                // What is half written makes the connection useless.
                Some(_guard) => send(&self.inner.stream, text.as_bytes(), fds, deadline)
                    .inspect_err(|_| self.close())
                    .is_ok(),
                None => {
                    self.inner.forget(id);
                    return Err(Error::Deadline(command.to_owned()));
                }
            }
        };
        if !sent {
            self.inner.forget(id);
            return Err(Error::Closed);
        }
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout) => {
                self.inner.forget(id);
                Err(Error::Deadline(command.to_owned()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.inner.ended()),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn register(&self, sender: SyncSender<Reply>) -> Result<u64, Error> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if state.pending.len() >= MAX_PENDING {
            return Err(Error::Busy);
        }
        state.last_id += 1;
        let id = state.last_id;
        state.pending.insert(id, sender);
        state.silent_since.get_or_insert_with(Instant::now);
        Ok(id)
    }

    fn forget(&self, id: u64) {
        self.state.lock().pending.remove(&id);
    }

    fn ended(&self) -> Error {
        self.state.lock().ended.clone().unwrap_or(Error::Closed)
    }

    /// The reader's thread.
    fn read(&self) {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 16 << 10];
        let broken = loop {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) => {
                    let mut thread = Ok(());
                    let fed = decoder.feed(&buffer[..count], &mut |message| {
                        if let Err(error) = self.message(message) {
                            thread = Err(error);
                        }
                    });
                    match (fed, thread) {
                        (Ok(()), Ok(())) => {}
                        (Err(error), _) => break Some(error),
                        (_, Err(_)) => break None,
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break None,
            }
        };
        let _ = self.stream.shutdown(Shutdown::Both);
        let mut state = self.state.lock();
        state.ended = Some(broken.clone().map_or(Error::Closed, Error::Protocol));
        // Their senders go, which wakes all who wait.
        state.pending.clear();
        state.greeted = None;
        drop(state);
        self.events.closed(broken);
    }

    fn message(&self, message: Message) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            // What answers the last one owes nothing more.
            let owing = state.pending.len()
                > usize::from(matches!(message, Message::Return { .. } | Message::Error { .. }));
            state.silent_since = owing.then(Instant::now);
        }
        let (id, reply) = match message {
            Message::Greeting(greeting) => {
                if let Some(sender) = self.state.lock().greeted.take() {
                    let _ = sender.try_send(greeting);
                }
                return Ok(());
            }
            Message::Event(event) => return self.events.event(event),
            Message::Return { id, value } => (id, Ok(value)),
            Message::Error { id, class, desc } => (id, Err(Error::Command { class, desc })),
        };
        let id = id.as_ref().and_then(Value::as_str).and_then(|id| id.strip_prefix("libvirt-")?.parse().ok());
        // A reply that nobody waits for came after its deadline.
        if let Some(sender) = id.and_then(|id: u64| self.state.lock().pending.remove(&id)) {
            let _ = sender.try_send(reply);
        }
        Ok(())
    }
}
