//! Streams: data of a descriptor that a call has opened, to and from the client.
//!
//! Towards the client one piece at a time is on its way: the next one is read when the socket has taken it. From the
//! client, pieces count as requests until the descriptor has taken them, so that a client that sends faster is not
//! read any more.

use super::connection::{After, Connection, Gone};
use super::input::Incoming;
use super::memory::Held;
use super::pool::Job;
use super::{STREAM, Server, dispatch};
use crate::error::{Code, Error, Origin};
use crate::message::{self, Header, Kind, STATUS_CONTINUE, STATUS_ERROR, STATUS_OK, STREAM_CHUNK};
use crate::relay;
use parking_lot::Mutex;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

/// Which ways data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the client.
    Read,
    /// From the client.
    Write,
    /// Both.
    Both,
}

/// What is called at the end; `true`: the client has finished the stream properly.
type Done = Box<dyn FnOnce(bool) + Send>;

/// What a stream's data comes from and goes to.
struct Source {
    fd: Arc<OwnedFd>,
    direction: Direction,
    /// It cannot be waited for, because it is a file.
    always_ready: bool,
    watched: bool,
}

#[derive(Default)]
struct State {
    source: Option<Source>,
    done: Option<Done>,
    /// A piece may be sent to the client.
    may_send: bool,
    /// Everything has been sent.
    end: bool,
    closed: bool,
    /// Somebody else ends it.
    cut: bool,
    /// From the client: status and data, of which so much has been written.
    incoming: VecDeque<(u32, Vec<u8>, Held)>,
    written: usize,
}

/// A stream that a call opens.
pub struct Stream {
    key: u64,
    header: Header,
    connection: Weak<Connection>,
    server: Weak<Server>,
    state: Mutex<State>,
}

/// A client's streams, by procedure and serial number.
#[derive(Default)]
pub(super) struct Streams {
    by_call: BTreeMap<(u32, u32, u32), Arc<Stream>>,
}

impl Streams {
    fn find(&self, header: &Header) -> Option<Arc<Stream>> {
        self.by_call.get(&call_of(header)).cloned()
    }

    pub(super) fn take_all(&mut self) -> Vec<Arc<Stream>> {
        std::mem::take(&mut self.by_call).into_values().collect()
    }
}

fn call_of(header: &Header) -> (u32, u32, u32) {
    (header.program, header.procedure, header.serial)
}

/// More pieces than this in a row and others have their turn.
const TURN: u32 = 16;

/// What became of an attempt to move data.
enum Step {
    /// There may be more to do; this is done with.
    Again(Vec<After>),
    /// Nothing to do now.
    Wait,
    /// The client has gone.
    Gone,
    /// The stream has ended; this is done with.
    End(Vec<After>),
}

impl Stream {
    /// Connects the stream with `fd`. Data flows once the call has been answered. `done` is called at the end, on any
    /// thread, after the descriptor has been closed.
    pub fn attach(&self, fd: OwnedFd, direction: Direction, done: Option<Box<dyn FnOnce(bool) + Send>>) {
        let mut state = self.state.lock();
        if let Ok(flags) = rustix::fs::fcntl_getfl(&fd) {
            // Without it, a source that is slow would hold a worker: what cannot be set is no source to wait for.
            let _ = rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK);
        }
        state.source = Some(Source { fd: Arc::new(fd), direction, always_ready: false, watched: false });
        state.done = done;
    }

    /// Ends the stream against the client's will, who is told of a failure.
    fn cut(self: &Arc<Self>) {
        self.state.lock().cut = true;
        if let Some(server) = self.server.upgrade() {
            server.pool.queue(Job::Stream(self.clone()));
            server.wake();
        }
    }

    /// The end without the client's word.
    pub(super) fn abandon(&self) {
        self.finish(false);
    }

    fn finish(&self, proper: bool) {
        let (source, done) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.incoming.clear();
            (state.source.take(), state.done.take())
        };
        drop(source);
        if let Some(done) = done {
            done(proper);
        }
    }

    fn data(&self, status: u32, bytes: &[u8]) -> Vec<u8> {
        let header = self.header.reply(Kind::Stream, status);
        message::encode_raw(&header, bytes).unwrap_or_default()
    }

    /// Writes what came, or reads one piece.
    fn step(&self, connection: &Connection, epoll: &OwnedFd) -> Step {
        let mut state = self.state.lock();
        if state.closed {
            return Step::Wait;
        }
        if state.cut {
            state.closed = true;
            return self.fail(connection, &Error::new(Origin::Streams, Code::Rpc, "stream had I/O failure"));
        }
        let mut blocked = false;
        if let Some((status, ..)) = state.incoming.front() {
            match *status {
                STATUS_CONTINUE => match Self::write(&mut state) {
                    Ok(true) => return Step::Again(vec![After::RequestDone]),
                    Ok(false) => blocked = true,
                    Err(error) => return self.fail(connection, &error),
                },
                status => {
                    state.incoming.pop_front();
                    return self.confirm(connection, status);
                }
            }
        }
        let reads = state.source.as_ref().is_some_and(|source| source.direction != Direction::Write);
        if reads && state.may_send && !state.end {
            match Self::read(&state) {
                Ok(bytes) => {
                    state.may_send = false;
                    state.end = bytes.is_empty();
                    let packet = self.data(STATUS_CONTINUE, &bytes);
                    return match connection.send(packet, Vec::new(), After::StreamReady(self.key)) {
                        Ok(done) => Step::Again(done),
                        Err(Gone) => Step::Gone,
                    };
                }
                Err(Errno::AGAIN) => {}
                Err(errno) => {
                    let error = Error::system(Origin::Streams, &errno.into(), "Unable to read from stream");
                    return self.fail(connection, &error);
                }
            }
        }
        self.wait(&mut state, epoll, blocked, reads);
        Step::Wait
    }

    /// Asks to be told when there is something to be done.
    fn wait(&self, state: &mut State, epoll: &OwnedFd, write: bool, read: bool) {
        let read = read && state.may_send && !state.end;
        let Some(source) = state.source.as_mut() else { return };
        if source.always_ready || !(read || write) {
            return;
        }
        let mut flags = epoll::EventFlags::ONESHOT;
        flags.set(epoll::EventFlags::IN, read);
        flags.set(epoll::EventFlags::OUT, write);
        let data = epoll::EventData::new_u64(self.key);
        let result = if source.watched {
            epoll::modify(epoll, &source.fd, data, flags)
        } else {
            epoll::add(epoll, &source.fd, data, flags)
        };
        source.watched = result.is_ok();
        source.always_ready = result.is_err();
    }

    /// Reads one piece; empty: the end.
    fn read(state: &State) -> Result<Vec<u8>, Errno> {
        let Some(source) = state.source.as_ref() else { return Ok(Vec::new()) };
        let mut buffer = vec![0; STREAM_CHUNK];
        let count = loop {
            match rustix::io::read(&source.fd, &mut buffer) {
                Err(Errno::INTR) => {}
                // The other side of a terminal has gone.
                Err(Errno::IO) => break 0,
                result => break result?,
            }
        };
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Writes the first piece; `false`: not all of it yet.
    fn write(state: &mut State) -> Result<bool, Error> {
        let Some((_, bytes, _)) = state.incoming.front() else { return Ok(true) };
        let Some(source) = state.source.as_ref().filter(|source| source.direction != Direction::Read) else {
            return Err(Error::internal(Origin::Streams, "stream is not open for writing"));
        };
        while state.written < bytes.len() {
            match rustix::io::write(&source.fd, &bytes[state.written..]) {
                Ok(count) => state.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => {
                    return Err(Error::system(Origin::Streams, &errno.into(), "Unable to write to stream"));
                }
            }
        }
        state.written = 0;
        state.incoming.pop_front();
        Ok(true)
    }

    /// The client finishes (or aborts) the stream, which is confirmed.
    fn confirm(&self, connection: &Connection, status: u32) -> Step {
        let reply = match status {
            STATUS_OK | STATUS_ERROR => self.data(STATUS_OK, &[]),
            other => {
                let error = Error::rpc(format!("stream aborted with unexpected status {other}"));
                dispatch::error_message(&self.header.reply(Kind::Stream, STATUS_ERROR), &error).bytes
            }
        };
        match connection.send(reply, Vec::new(), After::RequestDone) {
            Ok(done) => Step::End(done),
            Err(Gone) => Step::Gone,
        }
    }

    /// The descriptor failed.
    fn fail(&self, connection: &Connection, error: &Error) -> Step {
        let message = dispatch::error_message(&self.header.reply(Kind::Stream, STATUS_ERROR), error);
        match connection.send(message.bytes, Vec::new(), After::Nothing) {
            Ok(done) => Step::End(done),
            Err(Gone) => Step::Gone,
        }
    }
}

impl Server {
    /// A stream for the call with `header`.
    pub(super) fn new_stream(self: &Arc<Self>, connection: &Arc<Connection>, header: &Header) -> Arc<Stream> {
        let key = STREAM | self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let state = Mutex::default();
        let (connection, server) = (Arc::downgrade(connection), Arc::downgrade(self));
        Arc::new(Stream { key, header: *header, connection, server, state })
    }

    /// The call has been served: the client may use the stream, if it was attached.
    pub(super) fn enter_stream(&self, connection: &Connection, stream: &Arc<Stream>) {
        if stream.state.lock().source.is_none() {
            return;
        }
        self.streams.lock().insert(stream.key, Arc::downgrade(stream));
        connection.streams.lock().by_call.insert(call_of(&stream.header), stream.clone());
    }

    /// The answer has been sent: data may flow.
    pub(super) fn start_stream(self: &Arc<Self>, stream: &Arc<Stream>) {
        stream.state.lock().may_send = true;
        self.pump(stream);
    }

    pub(super) fn forget_stream(&self, stream: &Stream) {
        self.streams.lock().remove(&stream.key);
    }

    fn stream(&self, key: u64) -> Option<Arc<Stream>> {
        self.streams.lock().get(&key).and_then(Weak::upgrade)
    }

    /// A stream's descriptor is ready.
    pub(super) fn stream_ready(self: &Arc<Self>, key: u64) {
        if let Some(stream) = self.stream(key) {
            self.pump(&stream);
        }
    }

    /// A piece has been sent.
    pub(super) fn stream_sent(self: &Arc<Self>, key: u64) {
        if let Some(stream) = self.stream(key) {
            stream.state.lock().may_send = true;
            self.pump(&stream);
        }
    }

    /// A client sends stream data, or the end of a stream.
    pub(super) fn stream_message(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: Incoming<OwnedFd>,
        held: Held,
    ) {
        let stream = connection.streams.lock().find(&message.header);
        let Some(stream) = stream else {
            // Data may still come for a stream that has ended.
            let piece = relay::Call { header: &message.header, payload: &message.payload, held: Some(held) };
            if !connection.relays.stream_message(piece) {
                self.sent(connection, Ok(vec![After::RequestDone]));
            }
            return;
        };
        if message.header.kind == Kind::StreamHole as u32 {
            // No stream here was opened for holes.
            return self.drop_client(connection);
        }
        stream.state.lock().incoming.push_back((message.header.status, message.payload, held));
        self.pump(&stream);
    }

    /// Moves data until there is none or others are to have their turn.
    pub(super) fn pump(self: &Arc<Self>, stream: &Arc<Stream>) {
        let Some(connection) = stream.connection.upgrade() else { return };
        for _ in 0..TURN {
            match stream.step(&connection, &self.epoll) {
                Step::Again(done) => self.stream_done(&connection, stream, done),
                Step::Wait => return,
                Step::Gone => return self.drop_client(&connection),
                Step::End(done) => {
                    connection.streams.lock().by_call.remove(&call_of(&stream.header));
                    self.forget_stream(stream);
                    let unread = stream.state.lock().incoming.len();
                    stream.finish(true);
                    let unread = std::iter::repeat_n(After::RequestDone, unread);
                    self.sent(&connection, Ok(done.into_iter().chain(unread).collect()));
                    return;
                }
            }
        }
        self.pool.queue(Job::Stream(stream.clone()));
        self.wake();
    }

    fn stream_done(self: &Arc<Self>, connection: &Arc<Connection>, stream: &Stream, done: Vec<After>) {
        let (own, others) =
            done.into_iter().partition::<Vec<_>, _>(|after| *after == After::StreamReady(stream.key));
        if !own.is_empty() {
            stream.state.lock().may_send = true;
        }
        if !others.is_empty() {
            self.sent(connection, Ok(others));
        }
    }
}

/// What a method that opens a stream is given.
pub struct StreamHandle(pub(crate) Arc<Stream>);

impl StreamHandle {
    /// Connects the stream with `fd`; see [`Stream::attach`].
    pub fn attach(
        self,
        fd: OwnedFd,
        direction: Direction,
        done: Option<Box<dyn FnOnce(bool) + Send>>,
    ) -> Attached {
        self.0.attach(fd, direction, done);
        Attached(Arc::downgrade(&self.0))
    }
}

/// A stream that is in use, for whoever may end it.
#[derive(Debug)]
pub struct Attached(Weak<Stream>);

impl Attached {
    /// Ends the stream, if it has not ended: its client is told of a failure.
    pub fn cut(&self) {
        if let Some(stream) = self.0.upgrade() {
            stream.cut();
        }
    }
}

impl std::fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamHandle").field(&self.0.key).finish()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("key", &self.key).finish_non_exhaustive()
    }
}
