//! Descriptors of the child: over the socket, and to their numbers.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};

use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::{Error, Result};

/// How many go with one message; the kernel's limit is 253 (`SCM_MAX_FD`).
const BATCH: usize = 128;

/// Sends `descriptors`, at least one, each batch with one byte.
pub(super) fn send(socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(batch)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // The child may have died: that is an error here, not a signal.
        rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives what [`send`] sent: `known` descriptors, or, if that is not known yet, one batch.
pub(super) fn receive(socket: BorrowedFd<'_>, known: Option<usize>) -> io::Result<Vec<OwnedFd>> {
    let mut all = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let message =
            match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                all.extend(descriptors);
            }
        }
        if all.len() >= known.unwrap_or(0) {
            return Ok(all);
        }
    }
}

/// Closes all descriptors but the standard ones: whatever the daemon had inherited without knowing.
pub(super) fn close_inherited() -> Result<()> {
    let failed = |error| Error::system("unable to parse FD: /proc/self/fd", error);
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map_err(failed)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The one that read the directory is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Moves `descriptor` to the lowest free number from `from` on.
pub(super) fn lift(descriptor: impl AsFd, from: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, from)?)
}

/// Lets a descriptor stay open over exec; it is nobody's afterwards.
pub(super) fn leave_open(descriptor: OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(&descriptor, FdFlags::empty())?;
    let _number = descriptor.into_raw_fd();
    Ok(())
}

/// Puts each of `descriptors`, which all are above every target, to its number, to stay open over exec.
pub(super) fn place(descriptors: Vec<OwnedFd>, targets: &[i32]) -> Result<()> {
    for (descriptor, target) in descriptors.into_iter().zip(targets) {
        let failed = |error| Error::system(format!("failed to preserve fd {target}"), error);
        let placed = lift(&descriptor, *target).map_err(failed)?;
        if placed.as_raw_fd() != *target {
            return Err(Error::internal(format!("failed to preserve fd {target}: the number is taken")));
        }
        leave_open(placed).map_err(failed)?;
    }
    Ok(())
}
