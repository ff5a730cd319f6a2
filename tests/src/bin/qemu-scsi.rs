//! A guest's commands to the first disk of a QEMU's virtio-scsi controller, without a guest: QEMU's
//! processor stands still, and what a driver would do is done through the qtest protocol.
//!
//! `qemu-scsi USER PROGRAM ARGUMENTS... -- COMMAND...`: starts QEMU as that user; the arguments must put a
//! `virtio-scsi-pci` at address 4 and a disk at target 0, unit 0. Commands and lines as in `blackbox::reservations`, and `pause`,
//! which waits for a line on standard input.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use blackbox::reservations::Command as Scsi;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The qtest protocol: a line of words out, a line that begins with `OK` back.
struct Qtest {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qtest {
    fn start(user: u32, words: &[String]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "/dev/null"])
            .uid(user)
            .gid(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, input, output })
    }

    fn call(&mut self, text: &str) -> Result<u64> {
        Ok(u64::from_str_radix(self.ask(text)?.trim_start_matches("0x"), 16).unwrap_or(0))
    }

    fn ask(&mut self, text: &str) -> Result<String> {
        writeln!(self.input, "{text}")?;
        loop {
            let mut line = String::new();
            ensure!(self.output.read_line(&mut line)? > 0, "QEMU ended at {text}");
            // Interrupts are told of in between.
            if let Some(rest) = line.strip_prefix("OK") {
                return Ok(rest.trim().to_owned());
            }
            ensure!(!line.starts_with("FAIL"), "{text}: {line}");
        }
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("write {address:#x} {:#x} 0x{hex}", bytes.len())).map(drop)
    }

    fn read(&mut self, address: u64, size: usize) -> Result<Vec<u8>> {
        let text = self.ask(&format!("read {address:#x} {size:#x}"))?;
        let hex = text.trim_start_matches("0x");
        (0..size).map(|i| Ok(u8::from_str_radix(hex.get(2 * i..2 * i + 2).context("short")?, 16)?)).collect()
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the controller's registers (virtio 1.2, 4.1.4.8: the legacy interface) are put.
const PORT: u64 = 0xc000;
/// Where the request queue and its buffers lie.
const QUEUE: u64 = 0x10_0000;
const REQUEST: u64 = 0x20_0000;
const LIST: u64 = 0x20_1000;
const RESPONSE: u64 = 0x21_0000;
const DATA: u64 = 0x22_0000;
/// Bytes of a request and a response (5.6.6.1).
const REQUEST_SIZE: usize = 51;
const RESPONSE_SIZE: usize = 108;

struct Controller {
    qtest: Qtest,
    /// Entries of the queue.
    size: u64,
    index: u16,
}

impl Controller {
    fn new(mut qtest: Qtest) -> Result<Self> {
        // Base address and command register of bus 0, device 4.
        for (register, port, value) in [(0x10, "outl", PORT), (0x04, "outw", 5)] {
            qtest.call(&format!("outl 0xcf8 {:#x}", 0x8000_2000u32 + register))?;
            qtest.call(&format!("{port} 0xcfc {value:#x}"))?;
        }
        for status in [1, 3] {
            qtest.call(&format!("outb {:#x} {status}", PORT + 0x12))?;
        }
        qtest.call(&format!("outl {:#x} 0", PORT + 4))?;
        qtest.call(&format!("outw {:#x} 2", PORT + 0xe))?;
        let size = qtest.call(&format!("inw {:#x}", PORT + 0xc))?;
        ensure!(size > 0, "no virtio-scsi controller at address 4");
        qtest.call(&format!("outl {:#x} {:#x}", PORT + 8, QUEUE >> 12))?;
        qtest.call(&format!("outb {:#x} 7", PORT + 0x12))?;
        Ok(Self { qtest, size, index: 0 })
    }

    fn run(&mut self, command: &Scsi) -> Result<String> {
        let mut request = [0; REQUEST_SIZE];
        // Target 0, unit 0.
        (request[0], request[2]) = (1, 0x40);
        request[19..35].copy_from_slice(&command.cdb);
        self.qtest.write(REQUEST, &request)?;
        let mut chain = vec![(REQUEST, REQUEST_SIZE, 0u16)];
        if !command.list.is_empty() {
            self.qtest.write(LIST, &command.list)?;
            chain.push((LIST, command.list.len(), 0));
        }
        chain.push((RESPONSE, RESPONSE_SIZE, 2));
        if command.allocation > 0 {
            chain.push((DATA, command.allocation, 2));
        }
        let last = chain.len() - 1;
        for (i, (address, size, flags)) in chain.into_iter().enumerate() {
            let mut descriptor = [0; 16];
            descriptor[..8].copy_from_slice(&address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&(size as u32).to_le_bytes());
            descriptor[12..14].copy_from_slice(&(flags | u16::from(i < last)).to_le_bytes());
            descriptor[14..].copy_from_slice(&(i as u16 + 1).to_le_bytes());
            self.qtest.write(QUEUE + 16 * i as u64, &descriptor)?;
        }
        let available = QUEUE + 16 * self.size;
        let used = (available + 6 + 2 * self.size).next_multiple_of(4096);
        let slot = u64::from(self.index) % self.size;
        self.qtest.write(available + 4 + 2 * slot, &[0, 0])?;
        self.index += 1;
        self.qtest.write(available + 2, &self.index.to_le_bytes())?;
        self.qtest.call(&format!("outw {:#x} 2", PORT + 0x10))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.qtest.read(used + 2, 2)? != self.index.to_le_bytes() {
            ensure!(Instant::now() < deadline, "no completion");
            std::thread::sleep(Duration::from_millis(10));
        }
        let response = self.qtest.read(RESPONSE, RESPONSE_SIZE)?;
        ensure!(response[11] == 0, "the controller answers {}", response[11]);
        let residual = u32::from_le_bytes(response[4..8].try_into()?) as usize;
        // Of a command that failed QEMU does not say how little was transferred.
        let data = match command.allocation.saturating_sub(residual) {
            size if size == 0 || response[10] != 0 => Vec::new(),
            size => self.qtest.read(DATA, size)?,
        };
        let sense_size = u32::from_le_bytes(response[..4].try_into()?) as usize;
        Ok(command.outcome(response[10], &response[12..12 + sense_size.min(96)], &data))
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(separator) = words.iter().position(|word| word == "--") else { bail!("no --") };
    let (user, program) = words[..separator].split_first().context("no user")?;
    let mut controller = Controller::new(Qtest::start(user.parse()?, program)?)?;
    for word in &words[separator + 1..] {
        if word == "pause" {
            println!("paused");
            std::io::stdin().lock().read_line(&mut String::new())?;
        } else {
            println!("{}", controller.run(&Scsi::parse(word)?)?);
        }
    }
    Ok(())
}
