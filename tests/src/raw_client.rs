//! A client of libvirt's protocol that says what it likes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A client that says what it likes.
pub struct Raw {
    /// The socket.
    pub socket: UnixStream,
}

/// The number of the REMOTE program.
pub const REMOTE: u32 = 0x2000_8086;

/// A message that came: program, version, procedure, type, serial, status; and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: [u32; 6],
    /// The rest.
    pub payload: Vec<u8>,
}

impl Message {
    /// The code and the text of the error that it carries.
    pub fn error(&self) -> (u32, String) {
        assert_eq!(self.header[5], 1, "an error: {self:?}");
        let word = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"));
        let length = word(12) as usize;
        (word(0), String::from_utf8_lossy(&self.payload[16..16 + length]).into_owned())
    }
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self { socket }
    }

    /// Connects, and opens the connection.
    pub fn open(socket: &Path) -> Self {
        let mut this = Self::connect(socket);
        assert_eq!(this.call(REMOTE, 66, &[]).header[5], 0);
        assert_eq!(this.call(REMOTE, 1, &[0; 8]).header[5], 0);
        this
    }

    /// Sends a message.
    pub fn send(&mut self, header: [u32; 6], payload: &[u8]) {
        let length = 28 + payload.len() as u32;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(header.iter().flat_map(|word| word.to_be_bytes()));
        bytes.extend_from_slice(payload);
        self.socket.write_all(&bytes).expect("write");
    }

    /// Waits for a message; `None`: the connection has ended.
    pub fn receive(&mut self) -> Option<Message> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.socket.read_exact(&mut bytes).ok()?;
        let mut header = [0; 6];
        for (word, bytes) in header.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        }
        Some(Message { header, payload: bytes[24..].to_vec() })
    }

    /// Calls a procedure and waits for the answer.
    pub fn call(&mut self, program: u32, procedure: u32, payload: &[u8]) -> Message {
        self.send([program, 1, procedure, 0, 7, 0], payload);
        self.receive().expect("an answer")
    }

    /// Whether the daemon still answers this client.
    pub fn alive(&mut self) -> bool {
        self.call(REMOTE, 66, &[]).header == [REMOTE, 1, 66, 1, 7, 0]
    }

    /// Whether the daemon has ended the connection.
    pub fn ended(&mut self) -> bool {
        matches!(self.socket.read(&mut [0]), Ok(0)) || self.receive().is_none()
    }
}
