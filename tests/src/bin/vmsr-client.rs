//! A client of the RAPL helper for use in a guest: asks for registers and prints what came back.
//!
//! `vmsr-client SOCKET REQUEST...`, each `REGISTER:CPU` or `REGISTER:CPU:THREAD`, the register in hexadecimal. Without a
//! thread the client's own is named. A line for each: the value, or `closed`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let socket = words.next().context("no socket")?;
    let mut stream = UnixStream::connect(&socket).with_context(|| socket)?;
    for word in words {
        let mut parts = word.split(':');
        let msr = u32::from_str_radix(parts.next().unwrap_or_default(), 16)?;
        let cpu: u32 = parts.next().context("no CPU")?.parse()?;
        let thread: u32 = parts.next().map_or(Ok(std::process::id()), str::parse)?;
        let request: Vec<u8> = [msr, cpu, thread].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let mut value = [0; 8];
        match stream.write_all(&request).and_then(|()| stream.read_exact(&mut value)) {
            Ok(()) => println!("{word} {:016x}", u64::from_ne_bytes(value)),
            Err(_) => println!("{word} closed"),
        }
    }
    Ok(())
}
