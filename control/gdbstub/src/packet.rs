//! Packets on the wire: `$DATA#CHECKSUM`, acknowledged by `+` (GDB's manual, appendix E.1).

/// Most bytes of a packet, which GDB is told.
pub(crate) const LARGEST: usize = 4096;

/// What came of a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// More is needed.
    Nothing,
    /// A whole packet.
    Packet(Vec<u8>),
    /// One whose checksum is wrong, or which is too long.
    Bad,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Between,
    Data,
    Escaped,
    FirstDigit,
    SecondDigit,
}

/// Puts packets together.
#[derive(Default)]
pub(crate) struct Reader {
    step: Step,
    data: Vec<u8>,
    sum: u8,
    told: u8,
    too_long: bool,
}

impl Reader {
    /// Takes one byte.
    pub(crate) fn byte(&mut self, byte: u8) -> Received {
        match self.step {
            Step::Between if byte == b'$' => *self = Self { step: Step::Data, ..Self::default() },
            Step::Between => {}
            Step::Data if byte == b'#' => self.step = Step::FirstDigit,
            // The last one was lost.
            Step::Data if byte == b'$' => *self = Self { step: Step::Data, ..Self::default() },
            Step::Data => {
                self.sum = self.sum.wrapping_add(byte);
                if byte == b'}' {
                    self.step = Step::Escaped;
                } else {
                    self.push(byte);
                }
            }
            Step::Escaped => {
                self.sum = self.sum.wrapping_add(byte);
                self.push(byte ^ 0x20);
                self.step = Step::Data;
            }
            Step::FirstDigit => {
                self.told = digit(byte).unwrap_or(0xff) << 4;
                self.step = Step::SecondDigit;
            }
            Step::SecondDigit => {
                let whole = digit(byte).is_some_and(|low| self.told | low == self.sum) && !self.too_long;
                let packet = std::mem::take(self);
                return if whole { Received::Packet(packet.data) } else { Received::Bad };
            }
        }
        Received::Nothing
    }

    fn push(&mut self, byte: u8) {
        if self.data.len() < LARGEST {
            self.data.push(byte);
        } else {
            self.too_long = true;
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The packet for `data`.
pub(crate) fn frame(data: &[u8]) -> Vec<u8> {
    let mut out = vec![b'$'];
    for &byte in data {
        if matches!(byte, b'#' | b'$' | b'*' | b'}') {
            out.extend([b'}', byte ^ 0x20]);
        } else {
            out.push(byte);
        }
    }
    let sum = out[1..].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    out.extend(format!("#{sum:02x}").into_bytes());
    out
}

/// Bytes as two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that digits stand for; `None`: they are none, or one is left over.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(bytes: &[u8]) -> Vec<Received> {
        let mut reader = Reader::default();
        bytes.iter().map(|byte| reader.byte(*byte)).filter(|r| *r != Received::Nothing).collect()
    }

    #[test]
    fn packets_are_found_between_other_bytes() {
        let found = receive(b"+junk$m0,4#fd$half$g#67$g#68");
        let packet = |text: &str| Received::Packet(text.as_bytes().to_vec());
        assert_eq!(found, [packet("m0,4"), packet("g"), Received::Bad]);
    }

    #[test]
    fn what_is_framed_is_received() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(receive(&frame(&all)), [Received::Packet(all.clone())]);
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
        assert_eq!(receive(&frame(&[b'x'; LARGEST + 1])), [Received::Bad]);
    }
}
