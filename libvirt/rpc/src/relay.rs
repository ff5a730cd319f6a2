//! Calls about networks, storage and the like go to the daemons that know of them.
//!
//! For each client and daemon there is one connection, made when it is first needed. Messages pass as they are but for
//! their serial numbers, which are the client's own again in the answers. A thread reads, another writes; what the
//! client has sent and the daemon not taken yet counts as requests in progress, so that it is bounded.

use crate::client::{ClientContext, Identity};
use crate::error::{Code, Error, Origin};
use crate::message::{self, Header, Kind, STATUS_CONTINUE, STATUS_OK};
use crate::procedure::{Request, Secondary, Streaming};
use crate::protocol::session::{AuthListArgs, AuthListRet, ConnectOpenArgs, ConnectSetIdentityArgs};
use crate::protocol::types::{TypedParam, WireError};
use crate::protocol::{self, REMOTE_PROGRAM, VERSION};
use crate::server::input::{Incoming, Input};
use crate::server::memory::Held;
use crate::xdr;
use confinement::polkit::Subject;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Where the other daemons are.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// The folder of their sockets.
    pub folder: PathBuf,
    /// `system` or `session`.
    pub path: &'static str,
}

impl Secondary {
    /// The name in URIs, and in that of the daemon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Interface => "interface",
            Self::Storage => "storage",
            Self::Nodedev => "nodedev",
            Self::Secret => "secret",
            Self::Nwfilter => "nwfilter",
        }
    }
}

/// What the client is sent.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// The answer to a call.
    Answer(Vec<u8>),
    /// An event.
    Event(Vec<u8>),
    /// Data of a stream.
    Data(Vec<u8>),
    /// What the client had sent has been taken.
    Taken,
}

/// Called on the relay's threads; it may wait for the client to take data of a stream.
pub(crate) type Deliver = Arc<dyn Fn(Relayed) + Send + Sync>;

/// A call on its way.
#[derive(Debug, Clone, Copy)]
struct Pending {
    procedure: u32,
    serial: u32,
    streams: bool,
}

#[derive(Default)]
struct Calls {
    next: u32,
    /// By our serial number.
    pending: HashMap<u32, Pending>,
    /// Open streams: ours by the client's serial number and procedure, and back.
    streams: HashMap<(u32, u32), u32>,
    gone: bool,
}

struct Shared {
    calls: Mutex<Calls>,
    socket: UnixStream,
    deliver: Deliver,
}

struct Relay {
    shared: Arc<Shared>,
    outgoing: Sender<Outgoing>,
    _place: Place,
}

/// What waits to be sent to the other daemon.
struct Outgoing {
    bytes: Vec<u8>,
    /// It is data of a stream.
    stream: bool,
    _held: Option<Held>,
}

/// A client's message for another daemon.
pub(crate) struct Call<'a> {
    pub(crate) header: &'a Header,
    pub(crate) payload: &'a [u8],
    /// The memory that it takes, which counts until it has been sent.
    pub(crate) held: Option<Held>,
}

/// So many connections to other daemons there may be, each of which takes two threads and a descriptor.
const CONNECTIONS: usize = 1024;

/// One of them.
struct Place;

impl Place {
    fn taken() -> &'static AtomicUsize {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        &TAKEN
    }

    fn take() -> Result<Self, Error> {
        let free = |taken| (taken < CONNECTIONS).then_some(taken + 1);
        Self::taken()
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .map(|_| Self)
            .map_err(|_| Error::internal(Origin::Rpc, "too many connections to other daemons"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        Self::taken().fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's connections to other daemons.
#[derive(Default)]
pub(crate) struct Relays {
    /// Held for moments: those who wait for clients look here too.
    open: Mutex<HashMap<Secondary, Arc<Relay>>>,
    /// Held while a connection is made, which may take as long as the other daemon likes.
    connecting: Mutex<()>,
}

/// So long another daemon may take to let us in, which may have to be started for it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Relays {
    /// Passes a call of `client` on; its answer is delivered.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub(crate) fn call(
        &self,
        sockets: &Sockets,
        secondary: Secondary,
        client: &ClientContext,
        deliver: impl FnOnce() -> Deliver,
        call: Call<'_>,
    ) -> Result<(), Error> {
        if let Some(relay) = self.find(secondary) {
            return relay.call(call);
        }
        let turn = self.connecting.lock();
        let relay = match self.find(secondary) {
            Some(relay) => relay,
            None => {
                let relay = Arc::new(Relay::connect(sockets, secondary, client, deliver())?);
                self.open.lock().insert(secondary, relay.clone());
                relay
            }
        };
        drop(turn);
        if client.is_closed() {
            // It went meanwhile: nobody else would end the connection.
            self.close();
        }
        relay.call(call)
    }

    /// The connection that there is.
    fn find(&self, secondary: Secondary) -> Option<Arc<Relay>> {
        let mut open = self.open.lock();
        let relay = open.get(&secondary)?;
        if relay.shared.calls.lock().gone {
            open.remove(&secondary);
            return None;
        }
        Some(relay.clone())
    }

    /// Passes data of a stream on; `false`: there is no such stream.
    pub(crate) fn stream_message(&self, mut piece: Call<'_>) -> bool {
        self.open.lock().values().any(|relay| relay.stream_message(&mut piece))
    }

    /// The client has gone.
    pub(crate) fn close(&self) {
        for (_, relay) in self.open.lock().drain() {
            let _ = relay.shared.socket.shutdown(Shutdown::Both);
        }
    }
}

fn lost(path: &Path, error: &std::io::Error) -> Error {
    Error::system(Origin::Rpc, error, &format!("Failed to connect socket to '{}'", path.display()))
}

/// Connects to the socket; waits for so long where those who wait for its daemon are too many already, and later for
/// each message.
fn reach(path: &Path, patience: Duration) -> std::io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let socket = UnixStream::from(socket);
    // That for sending is the one for connecting, too.
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    let address = rustix::net::SocketAddrUnix::new(path)?;
    match rustix::net::connect(&socket, &address) {
        Err(rustix::io::Errno::AGAIN) => Err(rustix::io::Errno::TIMEDOUT.into()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(socket),
    }
}

/// A connection to another daemon, open for calls.
fn connect(
    sockets: &Sockets,
    secondary: Secondary,
    read_only: bool,
    patience: Duration,
) -> Result<UnixStream, Error> {
    let suffix = if read_only && sockets.path == "system" { "-ro" } else { "" };
    let path = sockets.folder.join(format!("virt{}d-sock{suffix}", secondary.name()));
    let mut socket = reach(&path, patience).map_err(|error| lost(&path, &error))?;
    let AuthListRet { types } = exchange(&mut socket, 0, &AuthListArgs {})?;
    if types != [0] {
        let text = format!("the {} daemon does not believe us", secondary.name());
        return Err(Error::new(Origin::Rpc, Code::AuthFailed, text));
    }
    let uri = format!("{}:///{}", secondary.name(), sockets.path);
    let open = ConnectOpenArgs { name: Some(uri), flags: read_only.into() };
    exchange(&mut socket, 1, &open)?;
    Ok(socket)
}

/// The first serial number that opening a connection does not take.
const FIRST: u32 = 3;

/// A client in the words of `CONNECT_SET_IDENTITY`.
fn described(identity: &Identity) -> Vec<TypedParam> {
    let mut params = vec![
        TypedParam::new("unix-user-id", u64::from(identity.uid)),
        TypedParam::new("unix-group-id", u64::from(identity.gid)),
    ];
    // A process of another namespace has no number here.
    if let Some(subject) = Subject::of(identity.pid.cast_unsigned(), identity.uid) {
        params.push(TypedParam::new("process-id", i64::from(subject.pid)));
        params.push(TypedParam::new("process-time", subject.start_time));
    }
    params
}

/// A connection of our own to another daemon, for one call after the other.
#[derive(Debug)]
pub struct Peer {
    socket: UnixStream,
    serial: u32,
}

impl Peer {
    /// Connects; `patience` is how long the daemon may be silent.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub fn connect(sockets: &Sockets, secondary: Secondary, patience: Duration) -> Result<Self, Error> {
        // The serial numbers that opening took are not used again.
        Ok(Self { socket: connect(sockets, secondary, false, patience)?, serial: FIRST })
    }

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    /// What the daemon says; or it is silent, or has gone.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Ret, Error> {
        self.serial = self.serial.wrapping_add(1).max(FIRST);
        exchange(&mut self.socket, self.serial, request)
    }
}

impl Relay {
    fn connect(
        sockets: &Sockets,
        secondary: Secondary,
        client: &ClientContext,
        deliver: Deliver,
    ) -> Result<Self, Error> {
        let place = Place::take()?;
        let mut socket = connect(sockets, secondary, client.read_only(), PATIENCE)?;
        // What the client may do there is that daemon's own business: it must not take us for the one who asks.
        exchange(
            &mut socket,
            2,
            &ConnectSetIdentityArgs { params: described(&client.identity()), flags: 0 },
        )?;
        let failed = |error: std::io::Error| Error::system(Origin::Rpc, &error, "cannot use the socket");
        socket.set_read_timeout(None).and_then(|()| socket.set_write_timeout(None)).map_err(failed)?;
        let reader = socket.try_clone().map_err(failed)?;
        let mut writer = socket.try_clone().map_err(failed)?;
        let calls = Mutex::new(Calls { next: FIRST, ..Calls::default() });
        let shared = Arc::new(Shared { calls, socket, deliver });
        let (outgoing, queue) = channel::<Outgoing>();
        let (for_reader, for_writer) = (shared.clone(), shared.clone());
        let name = |what: &str| format!("{}-{what}", secondary.name());
        let thread = |what: &str| std::thread::Builder::new().name(name(what)).stack_size(256 << 10);
        thread("read").spawn(move || for_reader.read(reader)).map_err(failed)?;
        thread("write")
            .spawn(move || {
                for Outgoing { bytes, stream, _held } in queue {
                    if writer.write_all(&bytes).is_err() {
                        let _ = for_writer.socket.shutdown(Shutdown::Both);
                    }
                    if stream {
                        (for_writer.deliver)(Relayed::Taken);
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { shared, outgoing, _place: place })
    }

    fn call(&self, Call { header, payload, held }: Call<'_>) -> Result<(), Error> {
        let streams = protocol::procedure(header.program, header.procedure)
            .is_some_and(|row| row.stream != Streaming::None);
        let serial = {
            let mut calls = self.shared.calls.lock();
            let serial = calls.next;
            calls.next = calls.next.wrapping_add(1).max(FIRST);
            calls
                .pending
                .insert(serial, Pending { procedure: header.procedure, serial: header.serial, streams });
            serial
        };
        let bytes = message::encode_raw(&Header { serial, ..*header }, payload)
            .map_err(|_| Error::rpc("Unable to encode message payload"))?;
        let outgoing = Outgoing { bytes, stream: false, _held: held };
        self.outgoing.send(outgoing).map_err(|_| Error::rpc("the daemon has gone"))
    }

    fn stream_message(&self, piece: &mut Call<'_>) -> bool {
        let Call { header, payload, .. } = *piece;
        let mut calls = self.shared.calls.lock();
        let key = (header.procedure, header.serial);
        let Some(&serial) = calls.streams.get(&key) else { return false };
        if header.status != STATUS_CONTINUE {
            // The answer to this ends the stream.
            let Header { procedure, serial: own, .. } = *header;
            calls.pending.insert(serial, Pending { procedure, serial: own, streams: false });
        }
        drop(calls);
        let Ok(bytes) = message::encode_raw(&Header { serial, ..*header }, payload) else { return false };
        self.outgoing.send(Outgoing { bytes, stream: true, _held: piece.held.take() }).is_ok()
    }
}

impl Shared {
    /// The reading thread.
    fn read(&self, mut socket: UnixStream) {
        let mut input = Input::<()>::default();
        let mut buffer = [0; 64 << 10];
        'connection: loop {
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    if input.push(&buffer[..count], []).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                _ => break,
            }
            loop {
                match input.next_message() {
                    Ok(Some(message)) => self.take(&message),
                    Ok(None) => break,
                    Err(_) => break 'connection,
                }
            }
        }
        self.lose();
    }

    fn take(&self, message: &Incoming<()>) {
        let header = &message.header;
        let (serial, relayed): (u32, fn(Vec<u8>) -> Relayed) = match Kind::from_number(header.kind) {
            Some(Kind::Reply) => {
                let mut calls = self.calls.lock();
                let Some(pending) = calls.pending.remove(&header.serial) else { return };
                if pending.streams && header.status == STATUS_OK {
                    calls.streams.insert((header.procedure, pending.serial), header.serial);
                }
                (pending.serial, Relayed::Answer)
            }
            Some(Kind::Stream | Kind::StreamHole) => {
                let mut calls = self.calls.lock();
                let found =
                    calls.streams.iter().find(|(_, ours)| **ours == header.serial).map(|(key, _)| *key);
                let Some(key) = found else { return };
                if header.status != STATUS_CONTINUE {
                    calls.streams.remove(&key);
                    calls.pending.remove(&header.serial);
                }
                (key.1, Relayed::Data)
            }
            Some(Kind::Message) => (header.serial, Relayed::Event),
            _ => return,
        };
        if let Ok(bytes) = message::encode_raw(&Header { serial, ..*header }, &message.payload) {
            (self.deliver)(relayed(bytes));
        }
    }

    /// The daemon has gone: whoever waits for it is told, and whoever has a stream open.
    fn lose(&self) {
        let (streams, pending): (HashMap<_, _>, Vec<_>) = {
            let mut calls = self.calls.lock();
            calls.gone = true;
            let streams = std::mem::take(&mut calls.streams);
            for serial in streams.values() {
                // The end of a stream is answered as the stream is.
                calls.pending.remove(serial);
            }
            (streams, calls.pending.drain().map(|(_, call)| (call.procedure, call.serial)).collect())
        };
        let error = Error::rpc("Cannot read data: end of file from the daemon").to_wire();
        let message = |(procedure, serial), kind| {
            let header = Header {
                program: REMOTE_PROGRAM,
                version: VERSION,
                procedure,
                kind: kind as u32,
                serial,
                status: message::STATUS_ERROR,
            };
            message::encode(&header, None, &error)
        };
        let answers = pending.into_iter().map(|call| message(call, Kind::Reply).map(Relayed::Answer));
        let ends = streams.into_keys().map(|call| message(call, Kind::Stream).map(Relayed::Data));
        for relayed in answers.chain(ends).flatten() {
            (self.deliver)(relayed);
        }
    }
}

/// One call and its answer, while nothing else is going on.
fn exchange<R: Request>(socket: &mut UnixStream, serial: u32, request: &R) -> Result<R::Ret, Error> {
    let header = Header {
        program: REMOTE_PROGRAM,
        version: VERSION,
        procedure: R::NUMBER,
        kind: Kind::Call as u32,
        serial,
        status: STATUS_OK,
    };
    let failed = |error: std::io::Error| Error::system(Origin::Rpc, &error, "Cannot reach the daemon");
    let bytes = message::encode(&header, None, request)
        .map_err(|_| Error::rpc("Unable to encode message payload"))?;
    socket.write_all(&bytes).map_err(failed)?;
    let mut input = Input::<()>::default();
    let mut byte = [0; 1];
    loop {
        // One byte at a time: what follows the answer is the reading thread's.
        socket.read_exact(&mut byte).map_err(failed)?;
        let malformed = |_| Error::rpc("the daemon's answer is no message");
        input.push(&byte, []).map_err(malformed)?;
        let Some(message) = input.next_message().map_err(malformed)? else { continue };
        if message.header.serial != serial || message.header.kind != Kind::Reply as u32 {
            continue;
        }
        let undecodable = |_| Error::rpc("Unable to decode message payload");
        if message.header.status != STATUS_OK {
            return Err(xdr::from_bytes::<WireError>(&message.payload).map_err(undecodable)?.into());
        }
        return xdr::from_bytes(&message.payload).map_err(undecodable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Answers calls with `answer` and tells what they were.
    fn serve(listener: &UnixListener, calls: usize) -> Vec<(u32, Vec<u8>)> {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut seen = Vec::new();
        for _ in 0..calls {
            let mut word = [0; 4];
            socket.read_exact(&mut word).expect("a length");
            let mut bytes = vec![0; u32::from_be_bytes(word) as usize - 4];
            socket.read_exact(&mut bytes).expect("a call");
            let mut input = Input::<()>::default();
            input.push(&[word.as_slice(), &bytes].concat(), []).expect("a message");
            let message = input.next_message().expect("a message").expect("a whole one");
            let answer: &[u8] = if message.header.procedure == 66 { &[0, 0, 0, 1, 0, 0, 0, 0] } else { &[] };
            let header = message.header.reply(Kind::Reply, STATUS_OK);
            socket.write_all(&message::encode_raw(&header, answer).expect("an answer")).expect("write");
            seen.push((message.header.procedure, message.payload));
        }
        seen
    }

    #[test]
    fn a_daemon_that_accepts_nobody_is_waited_for_no_longer_than_allowed() {
        let folder = std::env::temp_dir().join(format!("relay-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("virtnetworkd-sock");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let mut waiting = Vec::new();
        let error = loop {
            match reach(&path, Duration::from_millis(100)) {
                Ok(socket) => waiting.push(socket),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100_000, "the queue has no end");
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        std::fs::remove_dir_all(&folder).expect("the folder");
    }

    #[test]
    fn the_other_daemon_is_told_who_asks() {
        const LIST_ALL_NETWORKS: u32 = 283;
        let folder = std::env::temp_dir().join(format!("relay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let listener = UnixListener::bind(folder.join("virtnetworkd-sock")).expect("a socket");
        let daemon = std::thread::spawn(move || serve(&listener, 4));
        let sockets = Sockets { folder: folder.clone(), path: "system" };
        let pid = std::process::id().cast_signed();
        let client = ClientContext::new(1, Identity { pid, uid: 1234, gid: 56 }, false);
        let (sender, receiver) = channel();
        let deliver: Deliver = Arc::new(move |relayed| {
            if let Relayed::Answer(bytes) = relayed {
                sender.send(bytes).expect("somebody waits");
            }
        });
        let header = Header {
            program: REMOTE_PROGRAM,
            version: VERSION,
            procedure: LIST_ALL_NETWORKS,
            kind: Kind::Call as u32,
            serial: 77,
            status: STATUS_OK,
        };
        let relays = Relays::default();
        let call = Call { header: &header, payload: &[1], held: None };
        relays.call(&sockets, Secondary::Network, &client, || deliver, call).expect("reached");
        let answer = receiver.recv_timeout(Duration::from_secs(10)).expect("an answer");
        assert_eq!(answer[20..24], 77u32.to_be_bytes());
        let seen = daemon.join().expect("the daemon's side");
        assert_eq!(seen.iter().map(|(procedure, _)| *procedure).collect::<Vec<_>>(), [66, 1, 419, 283]);
        let identity: ConnectSetIdentityArgs = xdr::from_bytes(&seen[2].1).expect("an identity");
        let value =
            |name: &str| identity.params.iter().find(|it| it.field == name).map(|it| it.value.clone());
        assert_eq!(value("unix-user-id"), Some(1234u64.into()));
        assert_eq!(value("unix-group-id"), Some(56u64.into()));
        assert_eq!(value("process-id"), Some(i64::from(pid).into()));
        assert!(value("process-time").is_some());
        assert_eq!(seen[3].1, [1]);
        relays.close();
        std::fs::remove_dir_all(&folder).expect("the folder");
    }
}
