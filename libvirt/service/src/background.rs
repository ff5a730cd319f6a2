//! Going to the background, with the first process waiting for one byte that says how the start went.

use daemon::process::{Side, exit, fork};
use rustix::fd::OwnedFd;
use rustix::process::WaitOptions;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

/// Why a start failed: the exit status in the foreground, and what the first process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// The PID file.
    PidFile = 1,
    /// The run-time folder.
    RunDir = 2,
    /// The servers.
    Init = 3,
    /// The signals.
    Signals = 4,
    /// The sockets.
    Network = 6,
}

impl Failure {
    fn text(number: u8) -> &'static str {
        match number {
            1 => "Unable to obtain pidfile",
            2 => "Unable to create rundir",
            3 => "Unable to initialize libvirt",
            4 => "Unable to setup signal handlers",
            6 => "Unable to initialize network sockets",
            _ => "Unknown failure",
        }
    }
}

/// The daemon's word to the first process.
#[derive(Debug)]
pub struct Waiting(OwnedFd);

impl Waiting {
    /// Tells how the start went; `None`: well.
    pub fn tell(self, failure: Option<Failure>) {
        // The first process may have been killed.
        let _ = File::from(self.0).write_all(&[failure.map_or(0, |failure| failure as u8)]);
    }
}

/// Goes on in the background; the first process, of the name `program`, ends here. To be called before there are
/// threads.
///
/// # Errors
/// The host has no room for a process.
pub fn detach(program: &str) -> io::Result<Waiting> {
    std::env::set_current_dir("/")?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork()? {
        Side::Parent(child) => {
            drop(writer);
            let child = rustix::process::Pid::from_raw(child);
            let status = rustix::process::waitpid(child, WaitOptions::empty());
            if !matches!(status, Ok(Some((_, status))) if status.exit_status() == Some(0)) {
                return Err(io::Error::other("the intermediate process failed"));
            }
            let mut byte = [0];
            match File::from(reader).read(&mut byte) {
                Ok(1) if byte[0] == 0 => exit(0),
                Ok(1) => eprintln!(
                    "{program}: error: {}. Check /var/log/messages or run without --daemon for more info.",
                    Failure::text(byte[0])
                ),
                other => {
                    let reason = other
                        .err()
                        .map_or_else(|| "Success".to_owned(), |error| crate::pidfile::text(&error));
                    eprintln!("{program}: error: unable to determine if daemon is running: {reason}");
                }
            }
            exit(1);
        }
        Side::Child => {
            drop(reader);
            let detached = daemon::detach::silence().and_then(|()| Ok(rustix::process::setsid()?));
            if detached.is_err() {
                exit(1);
            }
            match fork() {
                Ok(Side::Parent(_)) => exit(0),
                Ok(Side::Child) => Ok(Waiting(writer)),
                Err(_) => exit(1),
            }
        }
    }
}
