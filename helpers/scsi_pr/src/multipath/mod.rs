//! Reservations on device-mapper multipath devices, where a command through one path would not be enough.
//!
//! libmpathpersist knows how to treat all paths of a map, but wants to open devices, configuration and multipathd's
//! socket. So it lives in a process of its own ([`process`]), forked at start, which keeps `CAP_SYS_ADMIN` and has a
//! sandbox of its own; the process that talks with clients needs none of that. The library is loaded
//! ([`library`]) when the first multipath device turns up, and each command runs in a child of that process: paths that
//! hang, or a crash of the library, cost one command and not the others.
//!
//! [`wire`] is what the two processes say to each other, [`mapper`] asks the device mapper what a device is, and
//! [`convert`] turns parameter lists and results into the library's structures and back.

pub mod convert;
pub mod library;
pub mod mapper;
pub mod process;
pub mod wire;

use crate::protocol::Command;
use daemon::{log, os_text, socket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use wire::Answer;

/// The way to the process that has the library.
#[derive(Debug)]
pub struct Client {
    control: OwnedFd,
    lost: Once,
}

impl Client {
    /// A client of the process at the other end of `control`.
    #[must_use]
    pub fn new(control: OwnedFd) -> Self {
        Self { control, lost: Once::new() }
    }

    /// Has `command` carried out on the device-mapper device behind `device`, unless that is no multipath device.
    /// Waits as long as the paths take.
    #[must_use]
    pub fn ask(&self, command: &Command, parameters: &[u8], device: BorrowedFd<'_>) -> Answer {
        self.try_ask(command, parameters, device).unwrap_or_else(|err| {
            self.lost.call_once(|| {
                log::error(&format!("the process for multipath devices does not answer: {}", os_text(&err)));
            });
            Answer::Lost
        })
    }

    fn try_ask(&self, command: &Command, parameters: &[u8], device: BorrowedFd<'_>) -> io::Result<Answer> {
        let (ours, theirs) = socket::message_pair()?;
        // The request lies ready before the other side hears of it, so that it never has to wait for us.
        socket::send_message(ours.as_fd(), &wire::request(command, parameters), Some(device))?;
        socket::send_message(self.control.as_fd(), &[0], Some(theirs.as_fd()))?;
        drop(theirs);
        let mut bytes = vec![0; wire::ANSWER_MAX];
        let received = socket::receive_with_fd(ours.as_fd(), &mut bytes, true)?;
        // Nothing at all: the child that worked on it has died, which that side reports.
        Ok(Answer::decode(&bytes[..received.bytes]).unwrap_or(Answer::Lost))
    }
}
