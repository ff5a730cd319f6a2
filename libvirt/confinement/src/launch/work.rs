//! Pieces of work that a process of their own does.

use std::os::fd::OwnedFd;

use json::Value;
use rustix::thread::LinkNameSpaceType;

use super::Reader;
use crate::{Error, Result, dac, namespace};

/// Does what the order says, with the descriptors that came with it.
pub(super) fn perform(order: &Value, passed: Vec<OwnedFd>) -> Result<Value> {
    let reader = Reader(order);
    match reader.text("work")?.as_str() {
        "ownership" => dac::transaction::perform(order, passed),
        "move-record" => dac::transaction::perform_move(order),
        "create-nodes" => namespace::perform_create(order),
        "remove-nodes" => namespace::perform_remove(order),
        other => Err(Error::internal(format!("unknown work '{other}'"))),
    }
}

/// Makes the files of a process ours: its mount namespace.
pub(crate) fn enter_mount_namespace(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let failed = |error: std::io::Error| Error::system("Kernel does not provide mount namespace", error);
    let link = std::fs::File::open(path).map_err(failed)?;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&link), Some(LinkNameSpaceType::Mount))
        .map_err(|error| Error::system("Unable to enter mount namespace", error))
}
