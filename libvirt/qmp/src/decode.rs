//! What the emulator sends, taken apart: one JSON object a line.

use json::{Dict, Limits, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest message, in bytes. The longest regular one (the schema) has about 300 kB.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Deepest nesting and most values of a message. A schema has about 30,000 values, the properties of a CPU about 500 keys.
const LIMITS: Limits = Limits { depth: 64, values: 1 << 20, keys: 16_384 };

/// QEMU's version as its greeting tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// `major.minor.micro`
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// See `major`.
    pub micro: u32,
    /// Who built it: `Debian 1:7.2+dfsg-7`.
    pub package: String,
}

impl Version {
    /// Reads the object of `query-version` or of a greeting.
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |key| u32::try_from(value.get("qemu")?.get(key)?.as_u64()?).ok();
        Some(Self {
            major: number("major")?,
            minor: number("minor")?,
            micro: number("micro")?,
            package: value.get("package").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }

    /// libvirt's form of the number: `major * 1,000,000 + minor * 1,000 + micro`.
    pub fn number(&self) -> u64 {
        u64::from(self.major) * 1_000_000 + u64::from(self.minor) * 1_000 + u64::from(self.micro)
    }
}

/// The first message of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Which QEMU this is.
    pub version: Version,
    /// The capabilities that it offers (`oob`).
    pub capabilities: Vec<String>,
}

/// The emulator's clock when an event happened; both -1 when it could not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Microseconds of that second.
    pub microseconds: i64,
}

impl Timestamp {
    /// This moment.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { seconds: since.as_secs().cast_signed(), microseconds: since.subsec_micros().into() }
    }
}

/// Something that happened in the emulator.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `BLOCK_JOB_READY` ...
    pub name: String,
    /// What the event tells; empty when it has no data.
    pub data: Dict,
    /// When.
    pub at: Timestamp,
}

/// One message of the emulator.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first of all.
    Greeting(Greeting),
    /// A command succeeded.
    Return {
        /// The command's id.
        id: Option<Value>,
        /// Its result.
        value: Value,
    },
    /// A command failed.
    Error {
        /// The command's id; none when the command could not even be read.
        id: Option<Value>,
        /// `GenericError`, `CommandNotFound`, `DeviceNotActive`, `DeviceNotFound`, `KVMMissingCap`.
        class: String,
        /// The text for a person.
        desc: String,
    },
    /// An event.
    Event(Event),
}

/// The peer does not speak the protocol, or exceeds a limit. The connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No line end within [`MAX_MESSAGE`] bytes.
    #[error("message longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Not JSON, or beyond the limits.
    #[error("cannot parse json: {0}")]
    Json(String),
    /// JSON, but none of the protocol's messages.
    #[error("Unknown JSON reply '{0}'")]
    Unknown(String),
}

/// Turns the bytes of a connection into messages, however they are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
}

impl Decoder {
    /// Takes the next `bytes`, and hands every message that they complete to `sink`.
    ///
    /// # Errors
    /// The peer broke the protocol; the decoder is not to be fed again.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Message)) -> Result<(), ProtocolError> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            rest = &tail[1..];
            if self.line.len() + head.len() > MAX_MESSAGE {
                return Err(ProtocolError::TooLong);
            }
            if self.line.is_empty() {
                message(head, sink)?;
            } else {
                self.line.extend_from_slice(head);
                let line = std::mem::take(&mut self.line);
                message(&line, sink)?;
            }
        }
        if self.line.len() + rest.len() > MAX_MESSAGE {
            return Err(ProtocolError::TooLong);
        }
        self.line.extend_from_slice(rest);
        Ok(())
    }
}

fn message(line: &[u8], sink: &mut dyn FnMut(Message)) -> Result<(), ProtocolError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let value = json::parse_limited(line, LIMITS).map_err(|error| ProtocolError::Json(error.to_string()))?;
    match classify(value) {
        Some(message) => sink(message),
        None => {
            let shown: String = String::from_utf8_lossy(line).chars().take(200).collect();
            return Err(ProtocolError::Unknown(shown.trim_end().to_owned()));
        }
    }
    Ok(())
}

fn classify(value: Value) -> Option<Message> {
    let Value::Dict(mut dict) = value else { return None };
    if let Some(greeting) = dict.get("QMP") {
        let capabilities = greeting.get("capabilities").and_then(Value::as_list).unwrap_or_default();
        return Some(Message::Greeting(Greeting {
            version: Version::from_json(greeting.get("version")?).unwrap_or_default(),
            capabilities: capabilities.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }));
    }
    if let Some(Value::Str(name)) = dict.remove("event") {
        let time = |key| dict.get("timestamp").and_then(|stamp| stamp.get(key)?.as_i64());
        let at = Timestamp {
            seconds: time("seconds").unwrap_or(-1),
            microseconds: time("microseconds").unwrap_or(-1),
        };
        let data = match dict.remove("data") {
            Some(Value::Dict(data)) => data,
            None => Dict::default(),
            Some(_) => return None,
        };
        return Some(Message::Event(Event { name, data, at }));
    }
    let id = dict.remove("id");
    if let Some(value) = dict.remove("return") {
        return Some(Message::Return { id, value });
    }
    let error = dict.remove("error")?;
    let text = |key| error.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Message::Error { id, class: text("class")?, desc: text("desc")? })
}
