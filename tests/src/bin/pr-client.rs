//! A client of the persistent reservation helper for use in a guest: sends commands and prints what came back.
//!
//! `pr-client SOCKET [--user UID] [--read-only] DEVICE COMMAND...`, each command one word: `in:ACTION:LENGTH`, or
//! `out:ACTION:TYPE:KEY:SERVICE_ACTION_KEY:FLAGS` with numbers in hexadecimal, or `fixed:ACTION:BYTES` for a list of
//! so many zeros. A line for each: status, sense key/code/qualifier, and data after the generation.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

fn number(text: Option<&str>) -> Result<u64> {
    u64::from_str_radix(text.context("a number is missing")?, 16).context("a hexadecimal number")
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    let socket = words.next().context("no socket")?;
    let mut user = None;
    let mut read_only = false;
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        match option.as_str() {
            "--user" => user = Some(words.next().context("no user")?.parse::<u32>()?),
            "--read-only" => read_only = true,
            _ => bail!("no option {option}"),
        }
    }
    let path = words.next().context("no device")?;
    let device = File::options().read(true).write(!read_only).open(&path).with_context(|| path)?;
    if let Some(user) = user {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(user.into())?;
        nix::unistd::setuid(user.into())?;
    }
    let mut stream = UnixStream::connect(&socket).with_context(|| socket)?;
    let mut hello = [0; 4];
    stream.read_exact(&mut hello)?;
    stream.write_all(&[0; 4])?;
    for word in words {
        let mut parts = word.split(':');
        let kind = parts.next().unwrap_or_default();
        let action = number(parts.next())? as u8;
        let mut cdb = [0; 16];
        let mut list = Vec::new();
        cdb[1] = action;
        let length = match kind {
            "in" => {
                cdb[0] = 0x5e;
                number(parts.next())?
            }
            "out" => {
                cdb[0] = 0x5f;
                cdb[2] = number(parts.next())? as u8;
                list.extend(number(parts.next())?.to_be_bytes());
                list.extend(number(parts.next())?.to_be_bytes());
                list.extend([0, 0, 0, 0, number(parts.next())? as u8, 0, 0, 0]);
                24
            }
            "fixed" => {
                cdb[0] = 0x5f;
                list.resize(number(parts.next())? as usize, 0);
                list.len() as u64
            }
            _ => bail!("no command {word}"),
        };
        cdb[7..9].copy_from_slice(&(length as u16).to_be_bytes());
        let fds = [device.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&cdb)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        stream.write_all(&list)?;
        let mut reply = [0; 104];
        stream.read_exact(&mut reply).with_context(|| format!("{word}: no reply"))?;
        let mut data = vec![0; u32::from_be_bytes(reply[4..8].try_into()?) as usize];
        stream.read_exact(&mut data)?;
        let hex: String = data.iter().skip(4).map(|byte| format!("{byte:02x}")).collect();
        println!(
            "{word} {:02x} {:x}/{:02x}/{:02x} {}:{hex}",
            reply[3],
            reply[10] & 0xf,
            reply[20],
            reply[21],
            data.len()
        );
    }
    Ok(())
}
