//! The distribution's QEMU as an oracle for tests: no guest runs, and registers are reached over its qtest protocol
//! (QEMU's documentation, "QTest Device Emulation Testing Framework").
#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where the distribution has it.
pub const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Commands that are sent before their answers are read: they and their answers fit into pipes.
const AT_ONCE: usize = 64;

/// QEMU with its virtual processors and its clock standing still. It ends with this value.
#[derive(Debug)]
pub struct Qtest {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qtest {
    /// Starts one without default devices and with these arguments; `None`: there is no QEMU here.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new(QEMU)
            .args(["-S", "-accel", "tcg", "-nodefaults", "-display", "none"])
            .args(["-qtest", "stdio", "-qtest-log", "/dev/null"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let input = child.stdin.take()?;
        let output = BufReader::new(child.stdout.take()?);
        Some(Self { child, input, output })
    }

    /// Runs commands and gives their answers, without `OK`.
    ///
    /// # Panics
    /// QEMU has ended, or does not know a command.
    pub fn ask(&mut self, lines: &[String]) -> Vec<String> {
        let mut answers = Vec::new();
        for part in lines.chunks(AT_ONCE) {
            self.input.write_all((part.join("\n") + "\n").as_bytes()).expect("QEMU takes commands");
            for line in part {
                let mut answer = String::new();
                self.output.read_line(&mut answer).expect("QEMU answers");
                let value = answer.strip_prefix("OK").unwrap_or_else(|| panic!("{line}: {answer:?}"));
                answers.push(value.trim().to_owned());
            }
        }
        answers
    }

    /// Runs commands that read, and gives what they have read.
    ///
    /// # Panics
    /// As [`Qtest::ask`].
    pub fn read(&mut self, lines: &[String]) -> Vec<u64> {
        let number = |text: String| {
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text:?}"))
        };
        self.ask(lines).into_iter().map(number).collect()
    }

    /// Reads a port of so many bytes.
    pub fn port_read(&mut self, port: u64, size: u8) -> u64 {
        self.read(&[format!("in{} {port:#x}", letter(size))])[0]
    }

    /// Writes a port of so many bytes.
    pub fn port_write(&mut self, port: u64, size: u8, value: u64) {
        self.ask(&[format!("out{} {port:#x} {value:#x}", letter(size))]);
    }

    /// Reads so many bytes of memory.
    pub fn memory_read(&mut self, address: u64, size: u8) -> u64 {
        self.read(&[format!("read{} {address:#x}", letter(size))])[0]
    }

    /// Writes so many bytes of memory.
    pub fn memory_write(&mut self, address: u64, size: u8, value: u64) {
        self.ask(&[format!("write{} {address:#x} {value:#x}", letter(size))]);
    }
}

/// How commands name a size in bytes.
fn letter(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        other => panic!("no access has {other} bytes"),
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let Some(mut qemu) = Qtest::start(&[]) else {
            println!("SKIPPED qtest: there is no {QEMU}");
            return;
        };
        for (at, size) in [(0x1000, 8), (0x1010, 4), (0x1020, 2), (0x1030, 1)] {
            qemu.memory_write(at, size, 0x1122_3344_5566_7788 >> (64 - 8 * u32::from(size)));
        }
        let read: Vec<u64> = (0x1000..0x1040).step_by(16).map(|at| qemu.memory_read(at, 8)).collect();
        assert_eq!(read, [0x1122_3344_5566_7788, 0x1122_3344, 0x1122, 0x11]);
        qemu.port_write(0x21, 1, 0x5a);
        assert_eq!(qemu.port_read(0x21, 1), 0x5a);
    }
}
