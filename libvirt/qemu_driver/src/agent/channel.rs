//! One connection to an agent, and how much of what comes from there is listened to.

use super::End;
use crate::error::{Result, error, internal, system};
use json::{Dict, Limits, Value, dict};
use rpc::Code;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest answer in bytes: what libvirt takes.
pub(super) const MAX_ANSWER: usize = 10 << 20;
/// What an answer may hold.
const LIMITS: Limits = Limits { depth: 64, values: 1 << 18, keys: 4096 };
/// How often it is looked whether the agent is still there.
const LOOK: Duration = Duration::from_millis(200);
/// What an agent puts before its answer to a delimited synchronisation, and what makes it forget half a command.
const DELIMITER: u8 = 0xff;

fn silent() -> rpc::Error {
    error(Code::AgentUnresponsive, "Guest agent not available for now")
}

fn disappeared() -> rpc::Error {
    error(Code::AgentUnresponsive, "Guest agent disappeared while executing command")
}

/// What was heard.
enum Heard {
    Line(Vec<u8>),
    End,
}

/// A connection to an agent.
pub(super) struct Channel<'a> {
    stream: UnixStream,
    /// Whether there is no use in waiting.
    gone: &'a dyn Fn() -> bool,
    /// What was read and not yet looked at.
    rest: Vec<u8>,
    /// How much of it is known to hold no end of a line.
    scanned: usize,
    /// How many bytes may yet come.
    credit: usize,
}

impl<'a> Channel<'a> {
    /// Connects with a socket. Somebody else may hold it: that is not waited for.
    pub(super) fn open(path: &str, gone: &'a dyn Fn() -> bool) -> Result<Self> {
        let failed = |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::AGAIN => silent(),
            errno => system(&errno.into(), "failed to connect to agent socket"),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(failed)?;
        let address = SocketAddrUnix::new(path)
            .map_err(|_| internal(format!("Socket path {path} too big for destination")))?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        Self::over(socket.into(), gone)
    }

    /// Uses a connection.
    pub(super) fn over(stream: UnixStream, gone: &'a dyn Fn() -> bool) -> Result<Self> {
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(LOOK)))
            .and_then(|()| stream.set_write_timeout(Some(LOOK)))
            .map_err(|error| system(&error, "Unable to set up the agent's socket"))?;
        Ok(Self { stream, gone, rest: Vec::new(), scanned: 0, credit: 0 })
    }

    fn send(&mut self, text: &[u8], deadline: Instant) -> Result<()> {
        let mut left = text;
        while !left.is_empty() {
            if Instant::now() >= deadline {
                return Err(silent());
            }
            match self.stream.write(left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if waits(error.kind()) => {
                    if (self.gone)() {
                        return Err(disappeared());
                    }
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(disappeared()),
                Err(error) => return Err(system(&error, "Unable to write to agent")),
            }
        }
        Ok(())
    }

    /// The next line that holds anything.
    fn hear(&mut self, deadline: Instant) -> Result<Heard> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let fresh = self.rest.get(self.scanned..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=self.scanned + end).collect();
                self.scanned = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Heard::Line(line));
            }
            self.scanned = self.rest.len();
            if self.credit == 0 {
                let range = std::io::Error::from_raw_os_error(rustix::io::Errno::RANGE.raw_os_error());
                let detail = format!("No complete agent response found in {MAX_ANSWER} bytes");
                return Err(system(&range, &detail));
            }
            // One that talks without end has no more time than one that is silent.
            if Instant::now() >= deadline {
                return Err(silent());
            }
            let room = buffer.len().min(self.credit);
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => return Ok(Heard::End),
                Ok(count) => {
                    self.credit -= count;
                    self.rest.extend_from_slice(&buffer[..count]);
                }
                Err(error) if waits(error.kind()) => {
                    if (self.gone)() {
                        return Ok(Heard::End);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Heard::End),
                Err(error) => return Err(system(&error, "Unable to read from agent")),
            }
        }
    }

    /// Makes sure that what comes next answers what is asked next.
    pub(super) fn sync(&mut self, id: u32, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit.max(LOOK);
        self.credit = MAX_ANSWER;
        let sync = |name: &str| {
            let request = super::command(name, dict! { "id" => i64::from(id) });
            format!("{}\n", request.compact()).into_bytes()
        };
        let mut greeting = vec![DELIMITER];
        greeting.extend(sync("guest-sync-delimited"));
        self.send(&greeting, deadline)?;
        loop {
            let Heard::Line(line) = self.hear(deadline)? else { return Err(disappeared()) };
            // What stands before the delimiter is of old.
            let begin = line.iter().rposition(|byte| *byte == DELIMITER).map_or(0, |at| at + 1);
            let text = line.get(begin..).unwrap_or_default();
            let Ok(answer) = json::parse_limited(text, LIMITS) else { continue };
            if answer.get("return").and_then(Value::as_i64) == Some(i64::from(id)) {
                return Ok(());
            }
            let class = answer.get("error").and_then(|error| error.get("class")?.as_str());
            if class == Some("CommandNotFound") {
                // An agent of old.
                self.send(&sync("guest-sync"), deadline)?;
            }
        }
    }

    /// The answer to a request; none when the connection ended first and that is `end`'s success.
    pub(super) fn ask(&mut self, request: &Value, limit: Duration, end: End) -> Result<Option<Value>> {
        let deadline = Instant::now() + limit;
        self.credit = MAX_ANSWER;
        self.rest.clear();
        self.scanned = 0;
        self.send(format!("{}\n", request.compact()).as_bytes(), deadline)?;
        loop {
            let Heard::Line(line) = self.hear(deadline)? else {
                return match end {
                    End::Success => Ok(None),
                    End::Failure => Err(disappeared()),
                };
            };
            let shown = || String::from_utf8_lossy(line.get(..200).unwrap_or(&line)).trim_end().to_owned();
            let answer = json::parse_limited(&line, LIMITS).map_err(|error| internal(error.to_string()))?;
            let Value::Dict(members) = &answer else {
                return Err(internal(format!("Parsed JSON reply '{}' isn't an object", shown())));
            };
            if is_answer(members) {
                return Ok(Some(answer));
            }
            // Agents may tell of events one day.
            if !members.iter().any(|(key, _)| key == "event" || key == "QMP") {
                return Err(internal(format!("Unknown JSON reply '{}'", shown())));
            }
        }
    }
}

fn is_answer(members: &Dict) -> bool {
    members.get("return").is_some() || members.get("error").is_some()
}

fn waits(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
