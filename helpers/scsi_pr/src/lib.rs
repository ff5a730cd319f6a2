//! `qemu-pr-helper`: SCSI PERSISTENT RESERVE IN and OUT on behalf of processes without the privilege.
//!
//! [`protocol`] is the wire format, [`sense`] what is answered for which outcome, [`transport`] the TransportIDs inside
//! parameter lists, [`sg`] the `SG_IO` call, [`service`] a client's conversation.
//! Unsafe are `SG_IO` itself and two plain system calls about a descriptor.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod device;
pub mod options;
pub mod protocol;
pub mod sense;
pub mod service;
pub mod sg;
pub mod transport;

use daemon::app::{Exit, Settings};
use daemon::sandbox::seccomp::Rule;
use daemon::sandbox::{landlock, no_new_privileges, seccomp};
use daemon::{log, privileges, server, signals};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// Runs the program; answers its exit status.
pub fn main(words: impl IntoIterator<Item = OsString>) -> i32 {
    match run(words) {
        Ok(()) => 0,
        Err(Exit(status)) => status,
    }
}

/// Most clients that will ever be served need this many descriptors: a socket and a device each, and some.
const DESCRIPTORS: u64 = 2 * 1024 + 32;

fn run(words: impl IntoIterator<Item = OsString>) -> Result<(), Exit> {
    privileges::one_heap();
    let settings = Settings::from_command_line(&options::SPEC, words)?;
    let stop = signals::descriptor(&signals::ENDING).map_err(|err| {
        log::error(&format!("Failed to set up signals: {}", daemon::os_text(&err)));
        Exit(1)
    })?;
    let descriptors = privileges::raise_descriptor_limit(DESCRIPTORS);
    let mut started = settings.start(&options::SPEC)?;
    started.drop_privileges(&settings, &[privileges::CAP_SYS_RAWIO])?;
    let ready = started.ready().and_then(|()| confine(&started.folders()));
    if let Err(err) = ready {
        log::error(&format!("Failed to enter the sandbox: {}", daemon::os_text(&err)));
        started.cleanup();
        return Err(Exit(1));
    }
    let limits = server::Limits::for_descriptors(descriptors, 2);
    let service = Arc::new(service::Service::default());
    let served = server::serve(&started.listener, &stop, limits, service, || started.cleanup());
    served.map_err(|err| {
        log::error(&format!("Failed to serve: {}", daemon::os_text(&err)));
        started.cleanup();
        Exit(1)
    })
}

/// Steps into the sandbox: of the file system only the removal of our own files and the look at what a device number
/// means is left, and of all ioctls only `SG_IO`.
fn confine(folders: &[std::path::PathBuf]) -> std::io::Result<()> {
    no_new_privileges()?;
    let mut paths: Vec<(&Path, u64)> = folders.iter().map(|p| (p.as_path(), landlock::REMOVE_FILE)).collect();
    paths.push((Path::new("/sys/devices/virtual/block"), landlock::READ_FILE));
    paths.push((Path::new("/proc/devices"), landlock::READ_FILE));
    landlock::restrict(&paths)?;
    // First what each request does, for the filter is walked from its beginning.
    let mut rules = vec![Rule::AllowIf(libc::SYS_ioctl, 1, sg::SG_IO)];
    rules.extend(seccomp::server_rules());
    seccomp::install(&rules)
}
