//! A connection to a bus.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use super::wire::{Reader, Value, Writer, signature};
use crate::error::reason;

/// How long libvirt waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest message that we take; the protocol's limit is 128 MiB.
const MAX_MESSAGE: usize = 1 << 20;
/// Most descriptors that come with what one read brings.
const MAX_DESCRIPTORS: usize = 16;
/// Longest line while authenticating.
const MAX_LINE: usize = 16 << 10;
/// Where the bus of the system is unless `DBUS_SYSTEM_BUS_ADDRESS` says otherwise.
const SYSTEM_BUS: &str = "unix:path=/var/run/dbus/system_bus_socket";

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection does not work; the text is in GLib's words where it has some.
    Broken(String),
    /// No answer came in time.
    Timeout,
    /// The peer or the bus answers with an error: its name and text.
    Answer(String, String),
}

impl std::fmt::Display for Failure {
    /// As GLib tells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(text) => f.write_str(text),
            Self::Timeout => f.write_str("Timeout was reached"),
            Self::Answer(name, text) => write!(f, "GDBus.Error:{name}: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Timeout,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            Failure::Broken("The connection is closed".into())
        }
        _ => Failure::Broken(reason(error)),
    }
}

/// A message that came.
#[derive(Debug, Default)]
pub struct Message {
    kind: u8,
    serial: u32,
    reply_to: Option<u32>,
    /// Who sent it, in the bus's words (`:1.5`).
    pub sender: Option<String>,
    /// The object that a call is for, or that a signal is of.
    pub path: Option<String>,
    /// The interface of a call or signal.
    pub interface: Option<String>,
    /// The method or signal.
    pub member: Option<String>,
    /// The name of an error.
    error: Option<String>,
    /// The arguments or results.
    pub body: Vec<Value>,
    /// Descriptors that came along; [`Value::Descriptor`] is an index.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// Whether this is a call that may be answered.
    #[must_use]
    pub fn is_call(&self) -> bool {
        self.kind == METHOD_CALL
    }

    /// Whether this is a signal.
    #[must_use]
    pub fn is_signal(&self) -> bool {
        self.kind == SIGNAL
    }
}

/// A connection of our own to a message bus. It is used by one thread at a time; a second one makes its own.
#[derive(Debug)]
pub struct Bus {
    socket: UnixStream,
    serial: u32,
    /// What was read and is not used yet, and its descriptors.
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    name: String,
}

impl Bus {
    /// Connects to the system's bus.
    ///
    /// # Errors
    /// [`Failure::Broken`] with `Could not connect: No such file or directory` where there is none.
    pub fn system() -> Result<Self, Failure> {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| SYSTEM_BUS.to_owned());
        Self::connect(&address)
    }

    /// Connects to the user's bus.
    ///
    /// # Errors
    /// As [`Bus::system`].
    pub fn session() -> Result<Self, Failure> {
        if let Ok(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS") {
            return Self::connect(&address);
        }
        match std::env::var("XDG_RUNTIME_DIR") {
            Ok(folder) => Self::connect(&format!("unix:path={folder}/bus")),
            Err(_) => Err(Failure::Broken("Cannot autolaunch D-Bus without X11 $DISPLAY".into())),
        }
    }

    /// Connects to the bus at `address`: a list of `unix:path=...` or `unix:abstract=...`, of which the first that
    /// works is taken.
    ///
    /// # Errors
    /// [`Failure::Broken`] with what is wrong with the last.
    pub fn connect(address: &str) -> Result<Self, Failure> {
        let mut last = Failure::Broken(format!("Address “{address}” is invalid"));
        for part in address.split(';').filter(|part| !part.is_empty()) {
            match Self::connect_one(part) {
                Ok(bus) => return Ok(bus),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn connect_one(address: &str) -> Result<Self, Failure> {
        let unknown = || Failure::Broken(format!("Unknown or unsupported transport for address “{address}”"));
        let options = address.strip_prefix("unix:").ok_or_else(unknown)?;
        let place = options.split(',').find_map(|option| {
            let (key, value) = option.split_once('=')?;
            match key {
                "path" => Some(SocketAddr::from_pathname(unescape(value)?)),
                "abstract" => Some(SocketAddr::from_abstract_name(unescape(value)?)),
                _ => None,
            }
        });
        let failed = |error: io::Error| Failure::Broken(format!("Could not connect: {}", reason(&error)));
        let socket =
            UnixStream::connect_addr(&place.ok_or_else(unknown)?.map_err(failed)?).map_err(failed)?;
        let mut bus =
            Self { socket, serial: 0, buffer: Vec::new(), descriptors: Vec::new(), name: String::new() };
        bus.authenticate()?;
        let hello =
            bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", &[])?;
        bus.name = hello.body.first().and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(bus)
    }

    /// Our own name, as others see it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection's descriptor: readable when a message came.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn authenticate(&mut self) -> Result<(), Failure> {
        let limit = Instant::now() + PATIENCE;
        let user: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.write(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes(), limit)?;
        let answer = self.line(limit)?;
        if !answer.starts_with("OK ") {
            let available = answer.strip_prefix("REJECTED ").unwrap_or_default();
            return Err(Failure::Broken(format!(
                "Exhausted all available authentication mechanisms (tried: EXTERNAL) (available: {available})"
            )));
        }
        self.write(b"NEGOTIATE_UNIX_FD\r\n", limit)?;
        // Without it, the calls that need descriptors will fail; the others work.
        self.line(limit)?;
        self.write(b"BEGIN\r\n", limit)
    }

    fn line(&mut self, limit: Instant) -> Result<String, Failure> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > MAX_LINE {
                return Err(Failure::Broken("Unexpected lack of content trying to read a line".into()));
            }
            self.wait_no_longer_than(limit)?;
            let mut byte = [0];
            self.socket.read_exact(&mut byte).map_err(|error| broken(&error))?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Lets reads and writes end at `limit`.
    fn wait_no_longer_than(&mut self, limit: Instant) -> Result<(), Failure> {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout);
        }
        self.socket
            .set_read_timeout(Some(left))
            .and_then(|()| self.socket.set_write_timeout(Some(left)))
            .map_err(|error| broken(&error))
    }

    fn write(&mut self, bytes: &[u8], limit: Instant) -> Result<(), Failure> {
        self.wait_no_longer_than(limit)?;
        self.socket.write_all(bytes).map_err(|error| broken(&error))
    }

    /// Sends a message; its serial number.
    fn send(
        &mut self,
        kind: u8,
        fields: Vec<(u8, Value)>,
        body: &[Value],
        limit: Instant,
    ) -> Result<u32, Failure> {
        let bytes = self.compose(kind, fields, body);
        self.write(&bytes, limit)?;
        Ok(self.serial)
    }

    /// A message with a new serial number; the fields are code and value.
    fn compose(&mut self, kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
        const SIGNATURE: u8 = 8;
        self.serial += 1;
        let mut content = Writer::default();
        body.iter().for_each(|value| content.value(value));
        let types = signature(body);
        let mut fields = fields;
        if !types.is_empty() {
            fields.push((SIGNATURE, Value::Signature(types)));
        }
        let fields = fields
            .into_iter()
            .map(|(code, value)| Value::Struct(vec![Value::Byte(code), Value::variant(value)]));
        let mut message = Writer { bytes: vec![b'l', kind, 0, 1] };
        message.value(&Value::U32(content.bytes.len() as u32));
        message.value(&Value::U32(self.serial));
        message.value(&Value::Array("(yv)".into(), fields.collect()));
        message.align(8);
        message.bytes.extend(content.bytes);
        message.bytes
    }

    /// Calls a method and waits for the answer, up to 30 seconds; what else comes meanwhile is dropped.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call(
        &mut self,
        service: &str,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &[Value],
    ) -> Result<Message, Failure> {
        let limit = Instant::now() + PATIENCE;
        let fields = vec![
            (1, Value::Path(path.to_owned())),
            (2, interface.into()),
            (3, method.into()),
            (6, service.into()),
        ];
        let serial = self.send(METHOD_CALL, fields, arguments, limit)?;
        loop {
            let message = self.receive_until(limit)?;
            if message.reply_to != Some(serial) {
                continue;
            }
            if message.kind == ERROR {
                let text = message.body.first().and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(Failure::Answer(message.error.unwrap_or_default(), text));
            }
            if message.kind == METHOD_RETURN {
                return Ok(message);
            }
        }
    }

    /// Calls a method of the bus itself.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call_bus(&mut self, method: &str, arguments: &[Value]) -> Result<Message, Failure> {
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", method, arguments)
    }

    /// Waits for the next message, whatever it is.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when none came; [`Failure::Broken`] when the bus is gone or talks nonsense.
    pub fn receive(&mut self, patience: Duration) -> Result<Message, Failure> {
        self.receive_until(Instant::now() + patience)
    }

    /// Answers a call.
    ///
    /// # Errors
    /// [`Failure::Broken`], [`Failure::Timeout`]: it could not be sent.
    pub fn answer(&mut self, call: &Message, results: &[Value]) -> Result<(), Failure> {
        self.reply(METHOD_RETURN, call, None, results)
    }

    /// Answers a call with an error.
    ///
    /// # Errors
    /// As [`Bus::answer`].
    pub fn refuse(&mut self, call: &Message, name: &str, text: &str) -> Result<(), Failure> {
        self.reply(ERROR, call, Some(name), &[text.into()])
    }

    /// Answers a call with results that hold descriptors ([`Value::Descriptor`] is an index).
    ///
    /// # Errors
    /// As [`Bus::answer`].
    pub fn answer_with(
        &mut self,
        call: &Message,
        results: &[Value],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        let limit = Instant::now() + PATIENCE;
        let mut fields = vec![(5, Value::U32(call.serial)), (9, Value::U32(descriptors.len() as u32))];
        fields.extend(call.sender.as_deref().map(|sender| (6, sender.into())));
        let bytes = self.compose(METHOD_RETURN, fields, results);
        self.wait_no_longer_than(limit)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Failure::Broken("Too many descriptors".into()));
        }
        let parts = &[IoSlice::new(&bytes)];
        let sent = rustix::net::sendmsg(&self.socket, parts, &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| broken(&error.into()))?;
        self.write(&bytes[sent..], limit)
    }

    fn reply(
        &mut self,
        kind: u8,
        call: &Message,
        error: Option<&str>,
        body: &[Value],
    ) -> Result<(), Failure> {
        let mut fields = vec![(5, Value::U32(call.serial))];
        fields.extend(error.map(|name| (4, name.into())));
        fields.extend(call.sender.as_deref().map(|sender| (6, sender.into())));
        self.send(kind, fields, body, Instant::now() + PATIENCE).map(drop)
    }

    fn receive_until(&mut self, limit: Instant) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(message);
            }
            self.wait_no_longer_than(limit)?;
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let got = match rustix::net::recvmsg(&self.socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(broken(&error.into())),
            Ok(message) if message.bytes == 0 => return Err(broken(&io::ErrorKind::UnexpectedEof.into())),
            Ok(message) => message.bytes,
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                self.descriptors.extend(descriptors);
            }
        }
        // Those of messages that we drop go with them; whoever sends only descriptors is no bus.
        if self.descriptors.len() > 8 * MAX_DESCRIPTORS {
            return Err(Failure::Broken("Too many descriptors".into()));
        }
        self.buffer.extend(&bytes[..got]);
        Ok(())
    }

    /// The first message of what was read, if it is all there.
    fn parse(&mut self) -> Result<Option<Message>, Failure> {
        const FIXED: usize = 16;
        let nonsense = || Failure::Broken("Error parsing D-Bus message".into());
        let Some(fixed) = self.buffer.get(..FIXED) else { return Ok(None) };
        let big_endian = match fixed[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(nonsense()),
        };
        let mut reader = Reader { bytes: fixed, at: 4, big_endian };
        let numbers = (reader.u32(), reader.u32(), reader.u32());
        let (Some(body), Some(serial), Some(fields)) = numbers else { return Err(nonsense()) };
        let start = FIXED.checked_add(fields as usize).map(|end| end.next_multiple_of(8));
        let end = start.and_then(|start| start.checked_add(body as usize)).filter(|end| *end <= MAX_MESSAGE);
        let (Some(start), Some(end)) = (start, end) else { return Err(nonsense()) };
        if self.buffer.len() < end {
            return Ok(None);
        }
        let whole: Vec<u8> = self.buffer.drain(..end).collect();
        let mut reader = Reader { bytes: &whole[..start], at: 12, big_endian };
        let fields = reader.values("a(yv)", 0).ok_or_else(nonsense)?;
        let mut message = Message { kind: whole[1], serial, ..Message::default() };
        let mut types = String::new();
        let mut descriptors = 0;
        for field in fields[0].items().unwrap_or_default() {
            let Some([Value::Byte(code), Value::Variant(value)]) = field.items() else {
                return Err(nonsense());
            };
            let text = value.as_str().map(str::to_owned);
            match (code, &**value) {
                (1, _) => message.path = text,
                (2, _) => message.interface = text,
                (3, _) => message.member = text,
                (4, _) => message.error = text,
                (5, Value::U32(serial)) => message.reply_to = Some(*serial),
                (7, _) => message.sender = text,
                (8, _) => types = text.unwrap_or_default(),
                (9, Value::U32(count)) => descriptors = *count as usize,
                _ => {}
            }
        }
        let mut reader = Reader { bytes: &whole[start..], at: 0, big_endian };
        message.body = reader.values(&types, 0).ok_or_else(nonsense)?;
        if descriptors > self.descriptors.len() {
            return Err(nonsense());
        }
        message.descriptors = self.descriptors.drain(..descriptors).collect();
        Ok(Some(message))
    }
}

/// A value of an address: `%` and two hexadecimal digits are a byte.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_that_is_not_there() {
        let text = |address| Bus::connect(address).err().map(|failure| failure.to_string());
        let missing = text("unix:path=/nonexistent/bus");
        assert_eq!(missing.as_deref(), Some("Could not connect: No such file or directory"));
        let missing = text("unix:abstract=confinement%2dnone,guid=1");
        assert_eq!(missing.as_deref(), Some("Could not connect: Connection refused"));
        let unknown = text("tcp:host=localhost").unwrap();
        assert_eq!(unknown, "Unknown or unsupported transport for address “tcp:host=localhost”");
        assert_eq!(unescape("a%20b").as_deref(), Some("a b"));
        assert_eq!(unescape("a%2"), None);
    }

    #[test]
    fn a_peer_that_talks_nonsense_is_left() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut bus =
            Bus { socket: ours, serial: 0, buffer: Vec::new(), descriptors: Vec::new(), name: String::new() };
        assert_eq!(bus.receive(Duration::from_millis(20)).unwrap_err(), Failure::Timeout);
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'l', 2, 0, 1, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            theirs.write_all(bytes).unwrap();
            let failure = bus.receive(Duration::from_secs(5)).unwrap_err();
            assert_eq!(failure.to_string(), "Error parsing D-Bus message");
            bus.buffer.clear();
        }
        drop(theirs);
        let failure = bus.receive(Duration::from_secs(5)).unwrap_err();
        assert_eq!(failure.to_string(), "The connection is closed");
    }
}
