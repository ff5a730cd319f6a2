//! Where recorded events go: standard error, or the file that `file=` names.

use crate::Event;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::OnceLock;

static FILE: OnceLock<File> = OnceLock::new();

/// Sends all later events to `file` instead of standard error. The first call wins; answers whether this was it.
pub fn set_file(file: File) -> bool {
    FILE.set(file).is_ok()
}

/// A line being put together on the stack; what does not fit is cut.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // One byte stays free for the newline.
        let room = self.bytes.len() - 1 - self.len;
        let take = s.len().min(room);
        self.bytes[self.len..self.len + take].copy_from_slice(&s.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Writes `EVENT ARGS` as one line by one write; use [`trace!`](crate::trace), which looks at the switch first.
///
/// A failing write is ignored: tracing never disturbs what is traced.
pub fn emit(event: &Event, args: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 512], len: 0 };
    let _ = write!(line, "{} {args}", event.name());
    while line.len > 0 && line.bytes[line.len - 1] == b' ' {
        line.len -= 1;
    }
    line.bytes[line.len] = b'\n';
    let bytes = &line.bytes[..=line.len];
    let _ = match FILE.get() {
        Some(mut file) => file.write_all(bytes),
        None => io::stderr().write_all(bytes),
    };
}
