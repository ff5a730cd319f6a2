//! A client of GDB's remote protocol, as far as tests need one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to an emulator's debugger port.
pub struct Gdb {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Gdb {
    /// Connects to the socket, which may still have to appear.
    ///
    /// # Errors
    /// Nobody listens there in time.
    pub fn connect(socket: &Path, within: Duration) -> Result<Self, String> {
        let end = Instant::now() + within;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(within)).map_err(|error| error.to_string())?;
                    return Ok(Self { stream, bytes: Vec::new() });
                }
                Err(error) if Instant::now() >= end => return Err(format!("{}: {error}", socket.display())),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Sends a packet and gives the answer, or what the machine tells when it stops.
    ///
    /// # Errors
    /// The connection broke, or nothing came.
    pub fn ask(&mut self, packet: &str) -> Result<String, String> {
        self.send(packet)?;
        self.answer().map_err(|error| format!("{packet}: {error}"))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, packet: &str) -> Result<(), String> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.raw(format!("${packet}#{sum:02x}").as_bytes())
    }

    /// Sends bytes that are no packet.
    ///
    /// # Errors
    /// The connection broke.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    /// The next packet that comes.
    ///
    /// # Errors
    /// The connection broke, or nothing came.
    pub fn answer(&mut self) -> Result<String, String> {
        loop {
            let start = self.bytes.iter().position(|byte| *byte == b'$');
            let end = self.bytes.iter().position(|byte| *byte == b'#');
            if let (Some(start), Some(end)) = (start, end)
                && self.bytes.len() >= end + 3
            {
                let packet = String::from_utf8_lossy(&self.bytes[start + 1..end]).into_owned();
                self.bytes.drain(..end + 3);
                self.raw(b"+")?;
                return Ok(packet);
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the connection was closed".to_owned());
            }
            self.bytes.extend_from_slice(&piece[..count]);
        }
    }

    /// A register of at most 8 bytes, by GDB's number.
    ///
    /// # Errors
    /// The connection broke, or there is none.
    pub fn register(&mut self, number: u32) -> Result<u64, String> {
        let digits = self.ask(&format!("p{number:x}"))?;
        little_endian(&digits).ok_or_else(|| format!("register {number}: {digits}"))
    }

    /// A word of memory of 4 or 8 bytes.
    ///
    /// # Errors
    /// The connection broke, or there is none.
    pub fn memory(&mut self, address: u64, size: u32) -> Result<u64, String> {
        let digits = self.ask(&format!("m{address:x},{size:x}"))?;
        little_endian(&digits).ok_or_else(|| format!("memory at {address:x}: {digits}"))
    }
}

fn little_endian(digits: &str) -> Option<u64> {
    let number = u64::from_str_radix(digits, 16).ok()?;
    Some(number.swap_bytes() >> (64 - 4 * digits.len()))
}
