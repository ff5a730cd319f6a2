//! `qemu-pr-helper`: SCSI PERSISTENT RESERVE IN and OUT on behalf of processes without the privilege.
//!
//! [`protocol`] is the wire format, [`sense`] what is answered for which outcome, [`transport`] the TransportIDs inside
//! parameter lists, [`sg`] the `SG_IO` call, [`service`] a client's conversation, [`multipath`] the process that looks
//! after multipath devices. Unsafe are ioctls, plain system calls about a descriptor, and the calls of libmpathpersist.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod device;
pub mod multipath;
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
    let failed = |what: &str, started: &daemon::app::Started, err: &std::io::Error| {
        log::error(&format!("Failed to {what}: {}", daemon::os_text(err)));
        started.cleanup();
        Exit(1)
    };
    // Before the privileges go that it needs, and the threads come that it must not have.
    let multipath = multipath::process::start(&settings)
        .map_err(|err| failed("start the process for multipath devices", &started, &err))?;
    started.drop_privileges(&settings, &[privileges::CAP_SYS_RAWIO])?;
    let ready = started.ready().and_then(|()| confine(&started.folders()));
    ready.map_err(|err| failed("enter the sandbox", &started, &err))?;
    let limits = server::Limits::for_descriptors(descriptors, 2);
    let service = Arc::new(service::Service::new(multipath::Client::new(multipath)));
    let served = server::serve(&started.listener, &stop, limits, service, || started.cleanup());
    served.map_err(|err| failed("serve", &started, &err))
}

/// Steps into the sandbox: of the file system only the removal of our own files and the look at what a device number
/// means is left, and of all ioctls only `SG_IO`.
/// For a process with one thread.
///
/// # Errors
/// What the system calls report.
pub fn confine(folders: &[std::path::PathBuf]) -> std::io::Result<()> {
    no_new_privileges()?;
    let mut paths: Vec<(&Path, u64)> = folders.iter().map(|p| (p.as_path(), landlock::REMOVE_FILE)).collect();
    paths.push((Path::new("/proc/devices"), landlock::READ_FILE));
    landlock::restrict(&paths)?;
    // First what each request does, for the filter is walked from its beginning.
    let mut rules = vec![Rule::AllowIf(libc::SYS_ioctl, 1, sg::SG_IO)];
    rules.extend(seccomp::server_rules());
    // The way to the process for multipath devices.
    rules.extend([
        Rule::Allow(libc::SYS_sendmsg),
        Rule::AllowIf(libc::SYS_socketpair, 0, libc::AF_UNIX as u32),
    ]);
    seccomp::install(&rules)
}
