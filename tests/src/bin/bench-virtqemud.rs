//! Load on daemons that speak libvirt's protocol, by turns: calls a second, latency, and how long a client takes to open
//! a connection.
//!
//! `cargo run --profile quick -p blackbox --bin bench-virtqemud SOCKET...`, each the read-write socket of a daemon that
//! runs (the original's and ours, say) and lets the caller in.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const CLIENTS: [usize; 3] = [1, 8, 64];
const RUN: Duration = Duration::from_secs(2);
const OPENINGS: u32 = 300;

const REMOTE: u32 = 0x2000_8086;
const AUTH_LIST: u32 = 66;
const OPEN: u32 = 1;
const CLOSE: u32 = 2;
/// What is asked: the version, which waits for nothing, and the type of the hypervisor.
const GET_LIB_VERSION: u32 = 157;

struct Client {
    socket: UnixStream,
    serial: u32,
}

impl Client {
    fn open(path: &str) -> Result<Self> {
        let socket = UnixStream::connect(path).with_context(|| path.to_owned())?;
        let mut client = Self { socket, serial: 0 };
        client.call(AUTH_LIST, &[])?;
        // The name "qemu:///system", and no flags.
        let mut arguments = vec![0, 0, 0, 1, 0, 0, 0, 14];
        arguments.extend(b"qemu:///system\0\0");
        arguments.extend([0; 4]);
        client.call(OPEN, &arguments)?;
        Ok(client)
    }

    fn call(&mut self, procedure: u32, arguments: &[u8]) -> Result<()> {
        self.serial += 1;
        let words = [28 + arguments.len() as u32, REMOTE, 1, procedure, 0, self.serial, 0];
        let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        message.extend_from_slice(arguments);
        self.socket.write_all(&message)?;
        let mut reply = [0; 4096];
        let count = self.socket.read(&mut reply)?;
        ensure!(count >= 28, "{count} bytes");
        let word = |at: usize| u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
        ensure!(word(0) as usize == count && word(20) == self.serial, "an answer to another call");
        if word(24) != 0 {
            bail!("procedure {procedure}: {}", String::from_utf8_lossy(&reply[28..count]));
        }
        Ok(())
    }
}

/// Calls a second of `clients` clients, and the latency that one in a hundred exceeds.
fn load(path: &str, clients: usize) -> Result<(f64, f64)> {
    let mut opened = (0..clients).map(|_| Client::open(path)).collect::<Result<Vec<_>>>()?;
    let end = Instant::now() + RUN;
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = opened
            .iter_mut()
            .map(|client| {
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let begin = Instant::now();
                        client.call(GET_LIB_VERSION, &[])?;
                        times.push(begin.elapsed().as_secs_f64());
                    }
                    Ok(times)
                })
            })
            .collect();
        let each = threads.into_iter().map(|thread| thread.join().expect("a client's thread"));
        each.collect::<Result<Vec<_>>>()
    })?;
    let mut times = times.concat();
    times.sort_by(f64::total_cmp);
    let slow = times.get(times.len() * 99 / 100).copied().unwrap_or(0.0);
    Ok((times.len() as f64 / RUN.as_secs_f64(), slow * 1e6))
}

fn openings(path: &str) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..OPENINGS {
        Client::open(path)?.call(CLOSE, &[])?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(OPENINGS))
}

fn main() -> Result<()> {
    let sockets: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!sockets.is_empty(), "usage: bench-virtqemud SOCKET...");
    for round in 1..=3 {
        for socket in &sockets {
            print!("{round} {socket}: open+close {:.0} us;", openings(socket)?);
            for clients in CLIENTS {
                let (rate, slow) = load(socket, clients)?;
                print!(" {clients} clients {rate:.0}/s (p99 {slow:.0} us);");
            }
            println!();
        }
    }
    Ok(())
}
