//! The agent inside of a guest: a peer that is trusted with nothing.
//!
//! Each command has a connection of its own and begins with a number that the agent must say back, so that what an
//! earlier command left behind is not taken for its answer. How long, how much and how often an agent may talk is
//! bounded; whoever waits for it holds the guest's [`Guest::agent_jobs`] only, so that nothing else waits.

pub mod answers;
mod channel;

use crate::core::Core;
use crate::error::{Result, error, internal, invalid, system};
use crate::guest::Guest;
use crate::state::State;
use domain_xml::chardev::CharType;
use json::{Dict, Value, dict};
use rpc::Code;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The name of the agent's channel.
pub const CHANNEL: &str = "org.qemu.guest_agent.0";
/// Wait for as long as it takes, within 600 s (`VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK`).
pub const BLOCK: i32 = -2;
/// Wait for the usual time (`VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT`).
pub const DEFAULT: i32 = -1;
/// The usual time.
const USUAL: Duration = Duration::from_secs(5);
/// How long a command may take when the client sets no limit: a call of ours is not held for ever.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a guest may take to shut down before the caller is told.
const SHUTDOWN: i32 = 60;

/// How long a client is ready to wait, by its number.
///
/// # Errors
/// It is no such number.
pub fn limit(timeout: i32) -> Result<Duration> {
    match timeout {
        BLOCK => Ok(LONGEST),
        DEFAULT => Ok(USUAL),
        seconds => {
            let seconds = u64::try_from(seconds).map_err(|_| {
                let detail = format!("guest agent timeout '{timeout}' is less than the minimum '-2'");
                error(Code::InvalidArg, detail)
            })?;
            Ok(Duration::from_secs(seconds).min(LONGEST))
        }
    }
}

/// What the end of a connection means while an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The command has failed.
    Failure,
    /// It has done what it is for: the guest sleeps or goes down.
    Success,
}

/// What an agent says of a command it did not run.
#[derive(Debug)]
enum Refusal {
    /// It does not know the command, or may not run it.
    Unknown(rpc::Error),
    /// Anything else.
    Failed(rpc::Error),
}

/// What the answer to `command` returns.
fn outcome(command: &str, answer: &Value) -> Result<Value, Refusal> {
    let failed = |detail: String| Refusal::Failed(internal(detail));
    if let Some(what) = answer.get("error") {
        let class = what.get("class").and_then(Value::as_str);
        let detail = what.get("desc").and_then(Value::as_str);
        let detail = detail.or(class.map(class_text)).unwrap_or("unknown QEMU command error");
        let said = internal(format!("unable to execute QEMU agent command '{command}': {detail}"));
        return Err(match class {
            Some("CommandNotFound" | "CommandDisabled") => Refusal::Unknown(said),
            _ => Refusal::Failed(said),
        });
    }
    let returned = answer.get("return").cloned();
    returned.ok_or_else(|| failed(format!("unable to execute QEMU agent command '{command}'")))
}

/// Words for an error that comes without.
fn class_text(class: &str) -> &str {
    match class {
        "BufferOverrun" => "Buffer overrun",
        "CommandDisabled" => "The command has been disabled for this instance",
        "CommandNotFound" => "The command has not been found",
        "FdNotFound" => "File descriptor not found",
        "InvalidParameter" => "Invalid parameter",
        "InvalidParameterType" => "Invalid parameter type",
        "InvalidParameterValue" => "Invalid parameter value",
        "OpenFileFailed" => "Cannot open file",
        "QgaCommandFailed" => "Guest agent command failed",
        "QMPBadInputObjectMember" => "Bad QMP input object member",
        "QMPExtraInputObjectMember" => "Unexpected extra object member",
        "UndefinedError" => "An undefined error has occurred",
        "Unsupported" => "this feature or command is not currently supported",
        other => other,
    }
}

/// A command as it is sent.
fn command(name: &str, arguments: Dict) -> Value {
    let mut request = dict! { "execute" => name };
    if !arguments.is_empty() {
        request.insert("arguments", arguments.into());
    }
    request.into()
}

/// Where the agent of a running guest is.
struct Place {
    id: i32,
    path: String,
}

impl Guest {
    /// Whether there is an agent to ask.
    pub fn has_agent(&self) -> bool {
        self.agent_place().is_ok()
    }

    /// That there is an agent to ask.
    ///
    /// # Errors
    /// The guest does not run, or has no agent.
    pub fn need_agent(&self) -> Result<()> {
        self.agent_place().map(drop)
    }

    fn agent_place(&self) -> Result<Place> {
        let inner = self.lock();
        let stopped = || invalid("domain is not running");
        let live = inner.live.as_ref().ok_or_else(stopped)?;
        if !matches!(inner.state, State::Running(_)) {
            return Err(stopped());
        }
        let channel = live.definition.devices.channel.iter().find(|channel| {
            let target = channel.target.as_ref();
            target
                .is_some_and(|it| it.kind.as_deref() == Some("virtio") && it.name.as_deref() == Some(CHANNEL))
        });
        let missing = || error(Code::ArgumentUnsupported, "QEMU guest agent is not configured");
        let channel = channel.ok_or_else(missing)?;
        let away = || error(Code::AgentUnresponsive, "QEMU guest agent is not connected");
        let state = channel.target.as_ref().and_then(|target| target.state.as_deref());
        let path = channel.source.path().filter(|_| channel.source.kind == Some(CharType::Unix));
        match (state, path) {
            (Some("connected"), Some(path)) => Ok(Place { id: live.id, path: path.to_owned() }),
            _ => Err(away()),
        }
    }

    /// Whether the guest's run `id` is one that may yet answer.
    fn agent_listens(&self, id: i32) -> bool {
        self.agent_place().is_ok_and(|place| place.id == id)
    }
}

impl Core {
    fn exchange(&self, guest: &Guest, request: &Value, timeout: i32, end: End) -> Result<Option<Value>> {
        let limit = limit(timeout)?;
        let place = guest.agent_place()?;
        let id: [u8; 4] =
            crate::files::random().map_err(|error| system(&error, "Unable to generate a random number"))?;
        let gone = || !guest.agent_listens(place.id);
        let mut channel = channel::Channel::open(&place.path, &gone)?;
        // The time for the first answer is limited whatever the client allows for the second.
        channel.sync(u32::from_ne_bytes(id), limit.min(USUAL))?;
        channel.ask(request, limit, end)
    }

    /// What the agent answers, as it is; `timeout` is as of [`limit`].
    ///
    /// # Errors
    /// There is no agent, it does not answer, or with an error.
    pub fn agent_answer(&self, guest: &Guest, request: &Value, timeout: i32) -> Result<Value> {
        let answer = self.exchange(guest, request, timeout, End::Failure)?.unwrap_or(Value::Null);
        let name = request.get("execute").and_then(Value::as_str).unwrap_or("<unknown>");
        match outcome(name, &answer) {
            Ok(_) => Ok(answer),
            Err(Refusal::Unknown(error) | Refusal::Failed(error)) => Err(error),
        }
    }

    /// What a command of the agent returns; none when the agent does not know the command and that is no `matter`.
    /// The guest's agent job is held by the caller.
    ///
    /// # Errors
    /// There is no agent, it does not answer, or with an error.
    pub fn ask_agent(
        &self,
        guest: &Guest,
        name: &str,
        arguments: Dict,
        matter: bool,
    ) -> Result<Option<Value>> {
        let timeout = guest.agent_timeout.load(Ordering::Relaxed);
        let answer = self.exchange(guest, &command(name, arguments), timeout, End::Failure)?;
        match outcome(name, &answer.unwrap_or(Value::Null)) {
            Ok(value) => Ok(Some(value)),
            Err(Refusal::Unknown(_)) if !matter => Ok(None),
            Err(Refusal::Unknown(error) | Refusal::Failed(error)) => Err(error),
        }
    }

    /// Lets the agent run a command after which the guest may be gone before it can answer.
    /// The guest's agent job is held by the caller.
    ///
    /// # Errors
    /// There is no agent, it says nothing and the guest goes on, or it answers with an error.
    pub fn tell_agent(&self, guest: &Guest, name: &str, arguments: Dict) -> Result<()> {
        let timeout =
            if name == "guest-shutdown" { SHUTDOWN } else { guest.agent_timeout.load(Ordering::Relaxed) };
        let answer = self.exchange(guest, &command(name, arguments), timeout, End::Success)?;
        match answer.map(|answer| outcome(name, &answer)) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(Refusal::Unknown(error) | Refusal::Failed(error))) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
