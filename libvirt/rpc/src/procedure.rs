//! The rows of a program's table.

/// One procedure or event.
#[derive(Debug, Clone, Copy)]
pub struct Procedure {
    /// Its number.
    pub number: u32,
    /// Its name in the protocol, without the program's prefix.
    pub name: &'static str,
    /// The API function that clients call, for messages; empty where there is none.
    pub api: &'static str,
    /// Who answers it.
    pub answer: Answer,
    /// It does not wait for a hypervisor, so that it may be answered by the workers kept for that.
    pub high: bool,
    /// It is refused on read-only connections.
    pub write: bool,
    /// Whether it opens a stream.
    pub stream: Streaming,
    /// Descriptors may come with the call.
    pub fds_in: bool,
    /// Descriptors may come with the answer.
    pub fds_out: bool,
    /// What a caller must be allowed to do: `OBJECT:PERMISSION`, and perhaps the flags with which it matters.
    pub acl: &'static [&'static str],
}

/// Who answers a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A method of the topic's trait.
    Handler,
    /// The server itself.
    Server,
    /// Nobody yet: the client is told that the API function is not supported.
    Missing,
    /// Another daemon.
    Relay(Secondary),
    /// It is an event, which is sent by the server.
    Event,
}

/// The other daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Secondary {
    Network,
    Interface,
    Storage,
    Nodedev,
    Secret,
    Nwfilter,
}

/// A procedure's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// None.
    None,
    /// From the daemon to the client (and back, where the source can take data).
    Read,
    /// From the client to the daemon.
    Write,
}

/// The arguments of a procedure.
pub trait Request: crate::xdr::Xdr {
    /// The procedure's number.
    const NUMBER: u32;
    /// What it answers.
    type Ret: crate::xdr::Xdr;
}

/// An event.
pub trait Event: crate::xdr::Xdr {
    /// The event's number among the procedures.
    const NUMBER: u32;
}
