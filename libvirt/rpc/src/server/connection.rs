//! A client's connection: what has been received and what is still to be sent.

use super::events::Registrations;
use super::input::{Incoming, Input};
use super::memory::{Account, Held, Total};
use super::socket;
use super::stream::Streams;
use crate::client::ClientContext;
use crate::relay::Relays;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How clients of a socket show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// They need not.
    None,
    /// Root is believed, others are asked for by polkit.
    Polkit,
}

/// What the clients of a socket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Look only.
    pub read_only: bool,
    /// How they show who they are.
    pub auth: Auth,
}

/// What waits to be sent.
struct Packet {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: VecDeque<OwnedFd>,
    /// Called when it has gone.
    after: After,
}

/// What happens once a packet has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// One request less is in progress.
    RequestDone,
    /// The connection ends.
    Close,
    /// The stream with this key may send again.
    StreamReady(u64),
}

#[derive(Default)]
struct Output {
    packets: VecDeque<Packet>,
    /// Bytes of all of them.
    queued: usize,
    /// Some thread reads, or reading has stopped: nothing that arrives is to be told of.
    reading: bool,
}

/// How long a worker waits for a client's next call before it waits for all clients.
const LINGER: Duration = Duration::from_micros(50);
/// A client whose next call comes sooner than this after its last one is worth to be waited for.
const SOON: Duration = Duration::from_micros(200);
/// How much a client's habit counts.
const HABIT: u8 = 8;

/// Why a connection does not take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Events are not queued for a client that leaves more than this unread: it is sent away.
const BACKLOG: usize = 16 << 20;

/// A client that has not shown who it is sends no longer message than this: those that are for it are short.
const INTRODUCTION: usize = 128 << 10;

/// A client that sends without pause is read for this many times; then others have their turn.
const TURN: u32 = 32;

/// Who can wait does not queue more than this for a client.
const ENOUGH: usize = 1 << 20;

/// One client.
pub struct Connection {
    pub(super) context: ClientContext,
    /// Whose process connected.
    pub(super) user: u32,
    socket: OwnedFd,
    epoll: Arc<OwnedFd>,
    pub(super) auth: Auth,
    pub(super) authenticated: AtomicBool,
    /// Seconds since 1970.
    pub(super) since: i64,
    input: Mutex<Input<OwnedFd>>,
    output: Mutex<Output>,
    /// What of both is held in memory.
    pub(super) account: Arc<Account>,
    /// Something has been sent, or the connection has ended.
    sent: Condvar,
    /// Calls that have not been answered completely.
    pub(super) requests: AtomicU32,
    /// Reading has stopped because there are too many.
    stalled: AtomicBool,
    /// How often of late the next call came at once; and when the last one was served.
    eager: AtomicU8,
    served: Mutex<Option<Instant>>,
    pub(super) keepalive: Keepalive,
    /// Held while the connection is opened.
    pub(super) opening: Mutex<()>,
    pub(super) registrations: Mutex<Registrations>,
    pub(super) streams: Mutex<Streams>,
    pub(super) relays: Relays,
}

/// Whether the client is alive.
pub(super) struct Keepalive {
    pub(super) started: AtomicBool,
    /// Pings without an answer.
    pub(super) unanswered: AtomicU32,
    pub(super) heard: Mutex<Instant>,
}

impl Connection {
    pub(super) fn new(
        context: ClientContext,
        socket: OwnedFd,
        epoll: Arc<OwnedFd>,
        auth: Auth,
        memory: &Total,
    ) -> Self {
        Self {
            user: context.identity().uid,
            context,
            socket,
            epoll,
            auth,
            authenticated: AtomicBool::new(auth == Auth::None),
            since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed()),
            input: Mutex::default(),
            output: Mutex::default(),
            account: Account::of(memory),
            sent: Condvar::new(),
            requests: AtomicU32::new(0),
            stalled: AtomicBool::new(false),
            eager: AtomicU8::new(0),
            served: Mutex::default(),
            keepalive: Keepalive {
                started: AtomicBool::new(false),
                unanswered: AtomicU32::new(0),
                heard: Mutex::new(Instant::now()),
            },
            opening: Mutex::default(),
            registrations: Mutex::default(),
            streams: Mutex::default(),
            relays: Relays::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.context.id()
    }

    fn data(&self) -> epoll::EventData {
        epoll::EventData::new_u64(self.id())
    }

    /// Begins to watch the socket.
    pub(super) fn watch(&self) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, &self.socket, self.data(), Self::interest(true, false))
    }

    /// One thread is told of an event, and nobody of another before the interest is renewed: while a thread reads,
    /// what arrives wakes no other.
    fn interest(read: bool, write: bool) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::ONESHOT;
        flags.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, read);
        flags.set(epoll::EventFlags::OUT, write);
        flags
    }

    fn renew(&self, output: &Output) {
        let flags = Self::interest(!output.reading, !output.packets.is_empty());
        if flags != epoll::EventFlags::ONESHOT && !self.context.is_closed() {
            // Fails only when the socket is not watched any more.
            let _ = epoll::modify(&self.epoll, &self.socket, self.data(), flags);
        }
    }

    /// There is something to be read: whether the calling thread is to read it. [`Connection::end_reading`] must
    /// follow.
    pub(super) fn begin_reading(&self) -> bool {
        !std::mem::replace(&mut self.output.lock().reading, true)
    }

    /// What arrives is to be told of again.
    pub(super) fn end_reading(&self) {
        let mut output = self.output.lock();
        output.reading = false;
        self.renew(&output);
    }

    /// The event that was told of was not about reading.
    pub(super) fn event_done(&self) {
        self.renew(&self.output.lock());
    }

    /// Whether reading stopped because of too many requests; it goes on by [`Connection::request_done`].
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }

    /// A call came: notes whether it came soon.
    pub(super) fn note_call(&self) {
        if self.served.lock().take().is_some_and(|served| served.elapsed() < SOON) {
            let eager = self.eager.load(Ordering::Relaxed);
            self.eager.store((eager + 1).min(HABIT), Ordering::Relaxed);
        }
    }

    /// Waits a moment for the next call of a client that is known for calling again at once; `true`: something came.
    pub(super) fn linger(&self) -> bool {
        let begin = Instant::now();
        let eager = self.eager.load(Ordering::Relaxed);
        *self.served.lock() = Some(begin);
        if eager == 0 {
            return false;
        }
        while begin.elapsed() < LINGER {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0) {
                return true;
            }
            rustix::thread::sched_yield();
        }
        self.eager.store(eager - 1, Ordering::Relaxed);
        false
    }

    /// Receives what is there and hands out messages with the memory that they hold, `limit` requests at most in progress.
    /// What `take` answers says whether the message is a request. Of what comes without pause a part stays for the next
    /// time.
    ///
    /// # Errors
    /// The client has gone, or does not keep to the protocol.
    pub(super) fn receive(
        &self,
        limit: u32,
        mut take: impl FnMut(Incoming<OwnedFd>, Held) -> bool,
    ) -> Result<(), Gone> {
        let mut input = self.input.lock();
        let mut buffer = [0; 8 << 10];
        let (mut drained, mut turns) = (false, 0);
        loop {
            loop {
                if self.requests.load(Ordering::SeqCst) >= limit {
                    // Whoever finishes a request looks at this after counting it.
                    self.stalled.store(true, Ordering::SeqCst);
                    if self.requests.load(Ordering::SeqCst) >= limit {
                        return Ok(());
                    }
                    self.stalled.store(false, Ordering::SeqCst);
                }
                let before = input.len();
                let Some(message) = input.next_message().map_err(|_| Gone)? else { break };
                let held = self.account.held(before - input.len());
                self.requests.fetch_add(1, Ordering::SeqCst);
                if !take(message, held) {
                    self.requests.fetch_sub(1, Ordering::SeqCst);
                }
            }
            let introduced = self.authenticated.load(Ordering::Relaxed);
            if !introduced && input.len() > INTRODUCTION {
                return Err(Gone);
            }
            if drained || turns == TURN {
                return Ok(());
            }
            turns += 1;
            match socket::receive(self.socket.as_fd(), &mut buffer) {
                Ok(received) if received.bytes == 0 || received.excess => return Err(Gone),
                // Nothing that may be called needs them: they would only use up those of the process.
                Ok(received)
                    if !received.descriptors.is_empty() && (!introduced || self.context.read_only()) =>
                {
                    return Err(Gone);
                }
                Ok(received) => {
                    self.account.add(received.bytes);
                    // A receive ends at a descriptor too.
                    drained = received.bytes < buffer.len() && received.descriptors.is_empty();
                    input.push(&buffer[..received.bytes], received.descriptors).map_err(|_| Gone)?;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// One request less; `true`: reading goes on.
    #[must_use]
    pub(super) fn request_done(&self) -> bool {
        self.requests.fetch_sub(1, Ordering::SeqCst);
        self.stalled.swap(false, Ordering::SeqCst)
    }

    /// Sends a message, or queues what does not fit. Answers what has been done with by this call.
    ///
    /// # Errors
    /// The client has gone.
    pub(super) fn send(
        &self,
        bytes: Vec<u8>,
        descriptors: Vec<OwnedFd>,
        after: After,
    ) -> Result<Vec<After>, Gone> {
        if self.context.is_closed() {
            return Err(Gone);
        }
        let mut output = self.output.lock();
        output.queued += bytes.len();
        self.account.add(bytes.len());
        output.packets.push_back(Packet { bytes, sent: 0, descriptors: descriptors.into(), after });
        if output.packets.len() > 1 {
            return Ok(Vec::new());
        }
        self.flush_locked(&mut output)
    }

    /// Queues an event; `Err`: the client has gone, or reads none.
    pub(super) fn send_event(&self, bytes: Vec<u8>) -> Result<Vec<After>, Gone> {
        if self.output.lock().queued > BACKLOG {
            return Err(Gone);
        }
        self.send(bytes, Vec::new(), After::Nothing)
    }

    /// Sends a message once the client has taken most of what it was sent before. Waits for that: not for threads
    /// that others wait for.
    pub(super) fn send_slowly(&self, bytes: Vec<u8>) -> Result<Vec<After>, Gone> {
        let mut output = self.output.lock();
        while output.queued > ENOUGH && !self.context.is_closed() {
            self.sent.wait(&mut output);
        }
        drop(output);
        self.send(bytes, Vec::new(), After::Nothing)
    }

    /// Sends what waits.
    pub(super) fn flush(&self) -> Result<Vec<After>, Gone> {
        self.flush_locked(&mut self.output.lock())
    }

    fn flush_locked(&self, output: &mut Output) -> Result<Vec<After>, Gone> {
        let mut done = Vec::new();
        while let Some(packet) = output.packets.front_mut() {
            match Self::send_packet(self.socket.as_fd(), packet) {
                Ok(()) => {
                    output.queued -= packet.bytes.len();
                    self.account.subtract(packet.bytes.len());
                    if packet.after != After::Nothing {
                        done.push(packet.after);
                    }
                    output.packets.pop_front();
                    self.sent.notify_all();
                }
                Err(Errno::AGAIN) => {
                    self.renew(output);
                    return Ok(done);
                }
                Err(_) => return Err(Gone),
            }
        }
        Ok(done)
    }

    fn send_packet(socket: rustix::fd::BorrowedFd<'_>, packet: &mut Packet) -> Result<(), Errno> {
        while packet.sent < packet.bytes.len() {
            packet.sent += socket::send_some(socket, &packet.bytes[packet.sent..])?;
        }
        while let Some(descriptor) = packet.descriptors.front() {
            socket::send_descriptor(socket, descriptor.as_fd())?;
            packet.descriptors.pop_front();
        }
        Ok(())
    }

    /// Ends the connection; `false`: it had ended before.
    pub(super) fn shut(&self) -> bool {
        if self.context.set_closed() {
            return false;
        }
        let _ = epoll::delete(&self.epoll, &self.socket);
        let _ = shutdown(&self.socket, Shutdown::Both);
        let mut output = self.output.lock();
        output.packets.clear();
        output.queued = 0;
        self.account.close();
        self.sent.notify_all();
        true
    }
}
