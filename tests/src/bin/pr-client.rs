//! A client of the persistent reservation helper for use in a guest: sends commands and prints what came back.
//!
//! `pr-client SOCKET [--user UID] [--read-only] DEVICE COMMAND...`, the commands and lines as in `blackbox::reservations`.
//! `pr-client SOCKET [--user UID] --hold NUMBER` connects so often, prints how many connections were let in, and keeps
//! them until its standard input ends.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use blackbox::reservations::Command;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn keep(socket: &str, number: usize) -> Result<()> {
    let mut kept = Vec::new();
    for _ in 0..number {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        if stream.read_exact(&mut [0; 4]).is_ok() && stream.write_all(&[0; 4]).is_ok() {
            kept.push(stream);
        }
    }
    println!("{}", kept.len());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    let socket = words.next().context("no socket")?;
    let mut user = None;
    let mut read_only = false;
    let mut hold = 0;
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        match option.as_str() {
            "--user" => user = Some(words.next().context("no user")?.parse::<u32>()?),
            "--read-only" => read_only = true,
            "--hold" => hold = words.next().context("no number")?.parse()?,
            _ => bail!("no option {option}"),
        }
    }
    let path = words.next().unwrap_or_else(|| "/dev/null".to_owned());
    let device = File::options().read(true).write(!read_only).open(&path).with_context(|| path)?;
    if let Some(user) = user {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(user.into())?;
        nix::unistd::setuid(user.into())?;
    }
    if hold > 0 {
        return keep(&socket, hold);
    }
    let mut stream = UnixStream::connect(&socket).with_context(|| socket)?;
    let mut hello = [0; 4];
    stream.read_exact(&mut hello)?;
    stream.write_all(&[0; 4])?;
    for word in words {
        let command = Command::parse(&word)?;
        let fds = [device.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let part = [IoSlice::new(&command.cdb)];
        sendmsg::<()>(stream.as_raw_fd(), &part, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        stream.write_all(&command.list)?;
        let mut reply = [0; 104];
        stream.read_exact(&mut reply).with_context(|| format!("{word}: no reply"))?;
        let mut data = vec![0; u32::from_be_bytes(reply[4..8].try_into()?) as usize];
        stream.read_exact(&mut data)?;
        println!("{}", command.outcome(reply[3], &reply[8..], &data));
    }
    Ok(())
}
