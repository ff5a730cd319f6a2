//! A client of the human monitor on a Unix socket.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::console::Console;

/// The monitor's prompt.
pub const PROMPT: &str = "(qemu) ";

/// A connection to the human monitor.
pub struct Monitor {
    console: Console,
}

impl Monitor {
    /// Connects to the socket, which may still have to appear, and waits for the first prompt.
    pub fn connect(socket: &Path, within: Duration) -> Result<Self, String> {
        let end = Instant::now() + within;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= end => return Err(format!("{}: {error}", socket.display())),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let reader = stream.try_clone().map_err(|error| error.to_string())?;
        let mut monitor = Self { console: Console::new(reader, stream) };
        monitor.console.expect(PROMPT, within).map_err(|missed| missed.to_string())?;
        Ok(monitor)
    }

    /// Gives a command and returns what it prints, without the echo of the command (the monitor
    /// edits the line as a terminal does, so the echo repeats it character by character).
    pub fn command(&mut self, command: &str, within: Duration) -> Result<String, String> {
        self.console.send(&format!("{command}\n")).map_err(|error| error.to_string())?;
        let text = self.console.expect(PROMPT, within).map_err(|missed| missed.to_string())?;
        let text = text.split_once('\n').map_or("", |(_, rest)| rest);
        Ok(text.replace('\r', ""))
    }

    /// Gives a command that ends the program, and waits for the stream to end.
    pub fn last_command(&mut self, command: &str, within: Duration) -> Result<(), String> {
        self.console.send(&format!("{command}\n")).map_err(|error| error.to_string())?;
        self.console.expect_end(within).map(drop).map_err(|missed| missed.to_string())
    }
}
