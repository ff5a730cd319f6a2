//! The agent inside of a guest: a peer that is trusted with nothing.
//!
//! Each command has a connection of its own and begins with a number that the agent must say back, so that what an
//! earlier command left behind is told from its answer.

use crate::core::Core;
use crate::error::{Result, error, internal, not_running};
use crate::guest::Guest;
use domain_xml::chardev::CharType;
use json::{Dict, Limits, Value, dict};
use rpc::Code;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest answer.
const MAX_ANSWER: usize = 16 << 20;
const LIMITS: Limits = Limits { depth: 64, values: 1 << 19, keys: 4096 };
/// How long the agent may take to say the number back.
const SYNC: Duration = Duration::from_secs(5);
/// How long a command may take when the client does not say: the emulator's socket is not held for ever.
const COMMAND: Duration = Duration::from_secs(300);

/// How long a client waits (`VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_...`).
pub fn limit(timeout: i32) -> Result<Duration> {
    match timeout {
        -2 => Ok(COMMAND),
        -1 => Ok(SYNC),
        0 => Ok(Duration::ZERO),
        seconds => u64::try_from(seconds).map(Duration::from_secs).map_err(|_| {
            error(Code::InvalidArg, format!("guest agent timeout '{timeout}' is less than the minimum '-2'"))
        }),
    }
}

fn unresponsive(detail: &str) -> rpc::Error {
    error(Code::AgentUnresponsive, detail)
}

/// A connection to an agent.
struct Agent {
    stream: UnixStream,
    rest: Vec<u8>,
}

impl Agent {
    /// A connection whose agent has said the number back.
    fn greet(stream: UnixStream) -> Result<Self> {
        let mut agent = Self { stream, rest: Vec::new() };
        let bytes: [u8; 4] =
            crate::files::random().map_err(|error| crate::error::system(&error, "no random numbers"))?;
        let id = i64::from(u32::from_ne_bytes(bytes));
        agent.send("guest-sync", dict! { "id" => id })?;
        let deadline = Instant::now() + SYNC;
        loop {
            let answer = agent.receive(deadline)?;
            if answer.get("return").and_then(Value::as_i64) == Some(id) {
                return Ok(agent);
            }
        }
    }

    fn send(&mut self, command: &str, arguments: Dict) -> Result<()> {
        let mut request = dict! { "execute" => command };
        if !arguments.is_empty() {
            request.insert("arguments", arguments.into());
        }
        let text = format!("{}\n", Value::Dict(request));
        self.stream
            .set_write_timeout(Some(SYNC))
            .and_then(|()| self.stream.write_all(text.as_bytes()))
            .map_err(|_| unresponsive("Guest agent not available for now"))
    }

    /// The next message.
    fn receive(&mut self, deadline: Instant) -> Result<Value> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                // 0xff marks where an agent begins anew.
                let line: Vec<u8> = line.into_iter().filter(|byte| *byte != 0xff).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                match json::parse_limited(&line, LIMITS) {
                    Ok(value) => return Ok(value),
                    // What an interrupted command left is no answer.
                    Err(_) => continue,
                }
            }
            if self.rest.len() > MAX_ANSWER {
                return Err(internal("the guest agent's answer is too long"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unresponsive("Guest agent not available for now"));
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer));
            match read {
                Ok(0) => return Err(unresponsive("Guest agent disappeared while executing command")),
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(unresponsive("Guest agent not available for now")),
            }
        }
    }
}

fn run(stream: UnixStream, command: &str, arguments: Dict, limit: Duration) -> Result<Value> {
    let mut agent = Agent::greet(stream)?;
    agent.send(command, arguments)?;
    if limit.is_zero() {
        return Ok(dict! { "return" => Dict::default() }.into());
    }
    agent.receive(Instant::now() + limit)
}

impl Core {
    /// Asks the guest's agent; the whole answer.
    ///
    /// # Errors
    /// The guest has no agent, or it does not answer.
    pub fn agent(&self, guest: &Guest, command: &str, arguments: Dict, limit: Duration) -> Result<Value> {
        let path = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            let its = |channel: &&domain_xml::chardev::CharDevice| {
                channel.target.as_ref().and_then(|target| target.name.as_deref())
                    == Some("org.qemu.guest_agent.0")
            };
            let channel = live.definition.devices.channel.iter().find(its);
            let channel = channel.filter(|channel| channel.source.kind == Some(CharType::Unix));
            let channel = channel
                .ok_or_else(|| error(Code::ArgumentUnsupported, "QEMU guest agent is not configured"))?;
            let state = channel.target.as_ref().and_then(|target| target.state.as_deref());
            if state != Some("connected") {
                return Err(unresponsive("QEMU guest agent is not connected"));
            }
            channel.source.path().map(str::to_owned).ok_or_else(|| internal("the agent has no socket"))?
        };
        let stream =
            UnixStream::connect(&path).map_err(|_| unresponsive("QEMU guest agent is not connected"))?;
        run(stream, command, arguments, limit)
    }

    /// As [`Core::agent`], of a command that must succeed: what it returns.
    ///
    /// # Errors
    /// As [`Core::agent`]; the agent refuses.
    pub fn ask_agent(&self, guest: &Guest, command: &str, arguments: Dict) -> Result<Value> {
        let answer = self.agent(guest, command, arguments, COMMAND)?;
        if let Some(value) = answer.get("return") {
            return Ok(value.clone());
        }
        let why = answer
            .get("error")
            .and_then(|error| error.get("desc")?.as_str())
            .unwrap_or("unknown QEMU command error");
        Err(internal(format!("unable to execute QEMU agent command '{command}': {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    fn against(agent: impl FnOnce(UnixStream) + Send + 'static) -> Result<Value> {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        std::thread::spawn(move || agent(theirs));
        run(ours, "guest-ping", Dict::default(), Duration::from_millis(300))
    }

    /// Says the number back, after what an earlier command left.
    fn sync(stream: &UnixStream) -> BufReader<UnixStream> {
        let mut reader = BufReader::new(stream.try_clone().expect("clone"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("request");
        let id =
            json::parse(line.as_bytes()).expect("json").get("arguments").and_then(|it| it.get("id").cloned());
        let text = format!("\u{ff}garbage\n{{\"return\": 7}}\n{{\"return\": {}}}\n", id.expect("id"));
        { stream }.write_all(text.as_bytes()).expect("answer");
        line.clear();
        reader.read_line(&mut line).expect("request");
        assert_eq!(line, "{\"execute\": \"guest-ping\"}\n");
        reader
    }

    #[test]
    fn agents_good_and_bad() {
        let answer = against(|mut stream| {
            let _reader = sync(&stream);
            stream.write_all(b"{\"return\": {\"a\": 1}}\n").expect("answer");
        });
        assert_eq!(answer.expect("answer").to_string(), "{\"return\": {\"a\": 1}}");
        let silent = against(|stream| {
            let _reader = sync(&stream);
            std::thread::sleep(Duration::from_secs(2));
        });
        assert_eq!(
            silent.expect_err("silent").to_string(),
            "Guest agent is not responding: Guest agent not available for now"
        );
        let gone = against(|stream| drop(sync(&stream)));
        assert!(gone.expect_err("gone").to_string().contains("disappeared"));
        let endless = against(|mut stream| {
            let _reader = sync(&stream);
            while stream.write_all(&[b'['; 1 << 16]).is_ok() {}
        });
        assert!(endless.is_err());
    }
}
