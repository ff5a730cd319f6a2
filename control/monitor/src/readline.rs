//! Line editing with ANSI sequences, byte for byte as terminals and expect scripts know it from QEMU.

use std::collections::VecDeque;

/// Longest line.
const MAX_LINE: usize = 4095;
/// Lines kept.
const MAX_HISTORY: usize = 64;

enum Escape {
    None,
    Esc,
    Csi(u32),
    Ss3,
}

/// A line being edited.
pub(crate) struct Readline {
    line: Vec<u8>,
    cursor: usize,
    shown: Vec<u8>,
    shown_cursor: usize,
    escape: Escape,
    history: VecDeque<Vec<u8>>,
    /// Position while walking through the history; `None` on the line being written.
    browsing: Option<usize>,
    prompt: &'static str,
}

/// What a byte did.
pub(crate) enum Edited {
    /// Nothing but editing.
    Nothing,
    /// A line is complete.
    Line(String),
    /// Tab: complete the word before the cursor.
    Complete(String),
}

impl Readline {
    pub(crate) fn new(prompt: &'static str) -> Self {
        Self {
            line: Vec::new(),
            cursor: 0,
            shown: Vec::new(),
            shown_cursor: 0,
            escape: Escape::None,
            history: VecDeque::new(),
            browsing: None,
            prompt,
        }
    }

    /// Shows the prompt and, after it, what is on the line.
    pub(crate) fn show_prompt(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prompt.as_bytes());
        self.shown.clear();
        self.shown_cursor = 0;
        self.escape = Escape::None;
        self.update(out);
    }

    /// The lines that were typed, oldest first.
    pub(crate) fn history(&self) -> Vec<String> {
        self.history.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// Forgets the line.
    pub(crate) fn restart(&mut self) {
        self.line.clear();
        self.cursor = 0;
    }

    fn update(&mut self, out: &mut Vec<u8>) {
        if self.line != self.shown {
            for _ in 0..self.shown_cursor {
                out.extend_from_slice(b"\x1b[D");
            }
            out.extend_from_slice(&self.line);
            out.extend_from_slice(b"\x1b[K");
            self.shown.clone_from(&self.line);
            self.shown_cursor = self.line.len();
        }
        while self.shown_cursor < self.cursor {
            out.extend_from_slice(b"\x1b[C");
            self.shown_cursor += 1;
        }
        while self.shown_cursor > self.cursor {
            out.extend_from_slice(b"\x1b[D");
            self.shown_cursor -= 1;
        }
    }

    fn remember(&mut self) {
        if self.line.is_empty() {
            return;
        }
        self.history.retain(|old| *old != self.line);
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.line.clone());
    }

    fn browse(&mut self, back: bool) {
        let count = self.history.len();
        let next = match (self.browsing, back) {
            (None, true) => count.checked_sub(1),
            (Some(at), true) => Some(at.saturating_sub(1)),
            (Some(at), false) if at + 1 < count => Some(at + 1),
            (_, false) => None,
        };
        if let Some(line) = next.and_then(|at| self.history.get(at)) {
            self.line.clone_from(line);
        } else if !back && self.browsing.is_some() {
            self.line.clear();
        }
        self.browsing = next;
        self.cursor = self.line.len();
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.delete();
        }
    }

    fn backspace_word(&mut self) {
        while self.cursor > 0 && self.line[self.cursor - 1] == b' ' {
            self.backspace();
        }
        while self.cursor > 0 && self.line[self.cursor - 1] != b' ' {
            self.backspace();
        }
    }

    fn insert(&mut self, byte: u8) {
        if self.line.len() < MAX_LINE {
            self.line.insert(self.cursor, byte);
            self.cursor += 1;
        }
    }

    /// Inserts text at the cursor.
    pub(crate) fn insert_text(&mut self, text: &str, out: &mut Vec<u8>) {
        for byte in text.bytes() {
            self.insert(byte);
        }
        self.update(out);
    }

    /// Takes a byte from the terminal; what the terminal is to show goes to `out`.
    pub(crate) fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Edited {
        match self.escape {
            Escape::None => match byte {
                1 => self.cursor = 0,
                2 => self.cursor = self.cursor.saturating_sub(1),
                4 => self.delete(),
                5 => self.cursor = self.line.len(),
                6 => self.cursor = (self.cursor + 1).min(self.line.len()),
                8 | 127 => self.backspace(),
                9 => {
                    let text = String::from_utf8_lossy(&self.line[..self.cursor]).into_owned();
                    return Edited::Complete(text);
                }
                10 | 13 => {
                    self.remember();
                    self.browsing = None;
                    let line = String::from_utf8_lossy(&self.line).into_owned();
                    out.push(b'\n');
                    self.restart();
                    self.shown.clear();
                    self.shown_cursor = 0;
                    return Edited::Line(line);
                }
                11 => self.line.truncate(self.cursor),
                12 => {
                    out.extend_from_slice(b"\x1b[2J\x1b[1;1H");
                    self.show_prompt(out);
                }
                14 => self.browse(false),
                16 => self.browse(true),
                21 => {
                    self.line.drain(..self.cursor);
                    self.cursor = 0;
                }
                23 => self.backspace_word(),
                27 => self.escape = Escape::Esc,
                155 => self.escape = Escape::Csi(0),
                32.. => self.insert(byte),
                _ => {}
            },
            Escape::Esc => {
                self.escape = match byte {
                    b'[' => Escape::Csi(0),
                    b'O' => Escape::Ss3,
                    _ => Escape::None,
                }
            }
            Escape::Csi(number) => {
                self.escape = Escape::None;
                match byte {
                    b'A' => self.browse(true),
                    b'B' => self.browse(false),
                    b'C' => self.cursor = (self.cursor + 1).min(self.line.len()),
                    b'D' => self.cursor = self.cursor.saturating_sub(1),
                    b'H' => self.cursor = 0,
                    b'F' => self.cursor = self.line.len(),
                    b'0'..=b'9' => {
                        let digit = u32::from(byte - b'0');
                        self.escape = Escape::Csi(number.saturating_mul(10).saturating_add(digit));
                    }
                    b'~' => match number {
                        1 => self.cursor = 0,
                        3 => self.delete(),
                        4 => self.cursor = self.line.len(),
                        _ => {}
                    },
                    _ => {}
                }
            }
            Escape::Ss3 => {
                self.escape = Escape::None;
                match byte {
                    b'H' => self.cursor = 0,
                    b'F' => self.cursor = self.line.len(),
                    _ => {}
                }
            }
        }
        self.update(out);
        Edited::Nothing
    }
}
