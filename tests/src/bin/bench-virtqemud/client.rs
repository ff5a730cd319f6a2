//! A client that costs little beside what it measures: one write and one or two reads a call, nothing is decoded but
//! what the measurement needs.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const REMOTE: u32 = 0x2000_8086;
const HEADER: usize = 28;

/// Numbers of procedures.
pub mod procedure {
    pub const OPEN: u32 = 1;
    pub const CLOSE: u32 = 2;
    pub const GET_CAPABILITIES: u32 = 7;
    pub const DOMAIN_CREATE: u32 = 9;
    pub const DOMAIN_DEFINE_XML: u32 = 11;
    pub const DOMAIN_DESTROY: u32 = 12;
    pub const DOMAIN_GET_XML_DESC: u32 = 14;
    pub const DOMAIN_LOOKUP_BY_NAME: u32 = 23;
    pub const AUTH_LIST: u32 = 66;
    pub const GET_LIB_VERSION: u32 = 157;
    pub const DOMAIN_GET_STATE: u32 = 212;
    pub const LIST_ALL_DOMAINS: u32 = 273;
    pub const GET_ALL_DOMAIN_STATS: u32 = 344;
}

/// A text as it is sent.
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).expect("a text of the benchmark").to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Numbers as they are sent.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

pub struct Client {
    socket: UnixStream,
    serial: u32,
    reply: Vec<u8>,
}

impl Client {
    /// Connects and opens the connection.
    pub fn open(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut client = Self { socket, serial: 0, reply: vec![0; 64 << 10] };
        client.call(procedure::AUTH_LIST, &[])?;
        let mut arguments = words(&[1]);
        arguments.extend(text("qemu:///system"));
        arguments.extend(words(&[0]));
        client.call(procedure::OPEN, &arguments)?;
        Ok(client)
    }

    /// The daemon's process.
    pub fn daemon(&self) -> Result<i32> {
        Ok(getsockopt(&self.socket, PeerCredentials)?.pid())
    }

    /// A call's message.
    pub fn message(&mut self, procedure: u32, arguments: &[u8]) -> Vec<u8> {
        self.serial += 1;
        let length = u32::try_from(HEADER + arguments.len()).expect("a short message");
        let mut message = words(&[length, REMOTE, 1, procedure, 0, self.serial, 0]);
        message.extend_from_slice(arguments);
        message
    }

    /// Sends a call.
    pub fn send(&mut self, procedure: u32, arguments: &[u8]) -> Result<()> {
        let message = self.message(procedure, arguments);
        Ok(self.socket.write_all(&message)?)
    }

    /// Waits for the answer to the last call.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let mut count = 0;
        loop {
            let more = self.socket.read(&mut self.reply[count..])?;
            ensure!(more > 0, "the daemon has hung up");
            count += more;
            if count < 4 {
                continue;
            }
            let length = self.word(0) as usize;
            ensure!((HEADER..=64 << 20).contains(&length) && count <= length, "{count} bytes of {length}");
            if self.reply.len() < length {
                self.reply.resize(length, 0);
            }
            if count == length {
                break;
            }
        }
        ensure!(self.word(20) == self.serial, "an answer to another call");
        if self.word(24) != 0 {
            bail!("procedure {}: {}", self.word(12), String::from_utf8_lossy(&self.reply[HEADER..count]));
        }
        Ok(&self.reply[HEADER..count])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.reply[at..at + 4].try_into().expect("four bytes"))
    }

    /// Calls a procedure.
    pub fn call(&mut self, procedure: u32, arguments: &[u8]) -> Result<&[u8]> {
        self.send(procedure, arguments)?;
        self.receive()
    }
}
