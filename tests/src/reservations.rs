//! Persistent reservation commands as words of a command line, and their outcomes as lines.
//!
//! A command is `in:ACTION:LENGTH`, or `out:ACTION:TYPE:KEY:SERVICE_ACTION_KEY:FLAGS`, or `fixed:ACTION:BYTES` for a
//! parameter list of so many zeros; all numbers are hexadecimal.

use anyhow::{Context, Result, bail};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    word: String,
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// The parameter list; empty for PERSISTENT RESERVE IN.
    pub list: Vec<u8>,
    /// Bytes that may come back.
    pub allocation: usize,
}

impl Command {
    /// Takes a word apart.
    pub fn parse(word: &str) -> Result<Self> {
        let mut parts = word.split(':');
        let kind = parts.next().unwrap_or_default();
        let mut number = || {
            let text = parts.next().context("a number is missing")?;
            u64::from_str_radix(text, 16).context("a hexadecimal number")
        };
        let mut cdb = [0; 16];
        cdb[1] = number()? as u8;
        let (mut list, mut allocation) = (Vec::new(), 0);
        match kind {
            "in" => {
                cdb[0] = 0x5e;
                allocation = number()? as usize;
            }
            "out" => {
                cdb[0] = 0x5f;
                cdb[2] = number()? as u8;
                list.extend(number()?.to_be_bytes());
                list.extend(number()?.to_be_bytes());
                list.extend([0, 0, 0, 0, number()? as u8, 0, 0, 0]);
            }
            "fixed" => {
                cdb[0] = 0x5f;
                list.resize(number()? as usize, 0);
            }
            _ => bail!("no command {word}"),
        }
        let length = allocation.max(list.len()) as u16;
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        Ok(Self { word: word.to_owned(), cdb, list, allocation })
    }

    /// The outcome as `COMMAND STATUS KEY/CODE/QUALIFIER LENGTH:DATA`, the data without the generation that begins them.
    pub fn outcome(&self, status: u8, sense: &[u8], data: &[u8]) -> String {
        let of = |at: usize| sense.get(at).copied().unwrap_or(0);
        let hex: String = data.iter().skip(4).map(|byte| format!("{byte:02x}")).collect();
        let (key, code, qualifier) = (of(2) & 0xf, of(12), of(13));
        format!("{} {status:02x} {key:x}/{code:02x}/{qualifier:02x} {}:{hex}", self.word, data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let read = Command::parse("in:3:2000").unwrap();
        assert_eq!(
            (read.cdb[..9].to_vec(), read.allocation),
            (vec![0x5e, 3, 0, 0, 0, 0, 0, 0x20, 0], 0x2000)
        );
        let write = Command::parse("out:1:5:11:22:8").unwrap();
        assert_eq!((&write.cdb[..3], write.cdb[8], write.list.len()), (&[0x5f, 1, 5][..], 24, 24));
        assert_eq!((write.list[7], write.list[15], write.list[20]), (0x11, 0x22, 8));
        assert_eq!(read.outcome(0, &[], &[0, 0, 0, 1, 0xab]), "in:3:2000 00 0/00/00 5:ab");
        assert!(Command::parse("in:3").is_err() && Command::parse("x:1:1").is_err());
    }
}
