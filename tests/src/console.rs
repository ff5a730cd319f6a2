//! A text stream to and from a running program, read as `expect` does.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A stream that one waits on for texts. Everything ever received is kept for [`Console::log`].
pub struct Console {
    shared: Arc<Shared>,
    writer: Box<dyn Write + Send>,
    /// How far `expect` has consumed what was received.
    consumed: usize,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    news: Condvar,
}

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    ended: bool,
}

/// Why an awaited text did not come; holds the end of what came instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// The time was over.
    Timeout(String),
    /// The stream ended.
    End(String),
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout(tail) => write!(f, "the awaited text did not come in time; last:\n{tail}"),
            Self::End(tail) => write!(f, "the stream ended before the awaited text; last:\n{tail}"),
        }
    }
}

impl std::error::Error for Missed {}

impl Console {
    /// Starts to read from `reader` on a thread of its own.
    pub fn new(mut reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = match reader.read(&mut buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => 0,
                };
                let mut received = for_thread.received.lock().expect("no thread panics with the lock");
                received.bytes.extend_from_slice(&buffer[..count]);
                received.ended = count == 0;
                for_thread.news.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { shared, writer: Box::new(writer), consumed: 0 }
    }

    /// Waits for `text` after what earlier calls have consumed; gives what came before it.
    pub fn expect(&mut self, text: &str, within: Duration) -> Result<String, Missed> {
        self.expect_any(&[text], within).map(|(_, before)| before)
    }

    /// Waits for the first of several texts; gives which came, and what came before it.
    pub fn expect_any(&mut self, texts: &[&str], within: Duration) -> Result<(usize, String), Missed> {
        let end = Instant::now() + within;
        let mut received = self.shared.received.lock().expect("no thread panics with the lock");
        // Only what is new, and what could be the start of a text cut in two, is searched again.
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        let mut searched = self.consumed;
        loop {
            let found = texts
                .iter()
                .enumerate()
                .filter_map(|(i, text)| Some((position(&received.bytes[searched..], text.as_bytes())?, i)))
                .min();
            if let Some((offset, which)) = found {
                let at = searched + offset;
                let before = String::from_utf8_lossy(&received.bytes[self.consumed..at]).into_owned();
                self.consumed = at + texts[which].len();
                return Ok((which, before));
            }
            searched = received.bytes.len().saturating_sub(longest).max(self.consumed);
            if received.ended {
                return Err(Missed::End(tail(&received.bytes)));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::Timeout(tail(&received.bytes)));
            }
            received =
                self.shared.news.wait_timeout(received, left).expect("no thread panics with the lock").0;
        }
    }

    /// Waits until the stream ends; gives everything that no earlier call consumed.
    pub fn expect_end(&mut self, within: Duration) -> Result<String, Missed> {
        let received = self.shared.received.lock().expect("no thread panics with the lock");
        let (received, _) = self
            .shared
            .news
            .wait_timeout_while(received, within, |received| !received.ended)
            .expect("no thread panics with the lock");
        if !received.ended {
            return Err(Missed::Timeout(tail(&received.bytes)));
        }
        let rest = String::from_utf8_lossy(&received.bytes[self.consumed..]).into_owned();
        self.consumed = received.bytes.len();
        Ok(rest)
    }

    /// Sends a text as it is.
    pub fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }

    /// Everything received so far.
    pub fn log(&self) -> String {
        let received = self.shared.received.lock().expect("no thread panics with the lock");
        String::from_utf8_lossy(&received.bytes).into_owned()
    }
}

fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len().max(1)).position(|window| window == text)
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const SOON: Duration = Duration::from_millis(20);
    const LATER: Duration = Duration::from_secs(10);

    fn pair() -> (Console, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Console::new(near.try_clone().unwrap(), near), far)
    }

    #[test]
    fn texts_are_consumed_in_order() {
        let (mut console, mut far) = pair();
        far.write_all(b"one two ").unwrap();
        assert_eq!(console.expect("one", LATER).unwrap(), "");
        assert!(matches!(console.expect("one", SOON), Err(Missed::Timeout(_))));
        far.write_all(b"thr").unwrap();
        assert!(matches!(console.expect("three", SOON), Err(Missed::Timeout(_))));
        far.write_all(b"ee four").unwrap();
        assert_eq!(console.expect_any(&["four", "three"], LATER).unwrap(), (1, " two ".to_owned()));
        drop(far);
        assert!(matches!(console.expect("five", LATER), Err(Missed::End(_))));
        assert_eq!(console.expect_end(LATER).unwrap(), " four");
        assert_eq!(console.log(), "one two three four");
    }

    #[test]
    fn what_is_sent_arrives() {
        let (mut console, mut far) = pair();
        console.send("root\n").unwrap();
        let mut buffer = [0; 5];
        far.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"root\n");
    }
}
