//! `qemu-vmsr-helper`: reads the package energy counters (RAPL model-specific registers) for emulators.
//!
//! [`protocol`] is the wire format, [`msr`] access to the registers, [`host`] what the host has, [`service`] a client's
//! conversation.
#![forbid(unsafe_code)]

pub mod host;
pub mod msr;
pub mod options;
pub mod protocol;
pub mod service;

use daemon::app::{Exit, Settings};
use daemon::sandbox::{landlock, no_new_privileges, seccomp};
use daemon::{log, os_text, privileges, server, signals};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the program; answers its exit status.
pub fn main(words: impl IntoIterator<Item = OsString>) -> i32 {
    match run(words) {
        Ok(()) => 0,
        Err(Exit(status)) => status,
    }
}

fn fail<T>(text: &str) -> Result<T, Exit> {
    log::error(text);
    Err(Exit(1))
}

fn run(words: impl IntoIterator<Item = OsString>) -> Result<(), Exit> {
    privileges::one_heap();
    let settings = Settings::from_command_line(&options::SPEC, words)?;
    let vendor = host::check(Path::new(host::POWERCAP)).or_else(|text| fail(&text))?;
    let stop = signals::descriptor(&signals::ENDING)
        .or_else(|err| fail(&format!("Failed to set up signals: {}", os_text(&err))))?;
    // A socket and a process descriptor for each client, and one for each CPU.
    let cpus = host::cpus(Path::new("/dev/cpu"));
    let for_cpus = cpus.len() as u64;
    let descriptors = privileges::raise_descriptor_limit(2 * 1024 + 32 + for_cpus);
    let registers = msr::Devices::open(&cpus);
    if registers.is_empty() {
        return fail("error: no MSR device can be opened (is the msr module loaded?)");
    }
    let mut started = settings.start(&options::SPEC)?;
    let place = started
        .socket_file
        .as_ref()
        .map_or_else(|| "passed socket".into(), |f| f.path().display().to_string());
    log::error(&format!("info: Listening on {place}"));
    started.drop_privileges(&settings, &[])?;
    if let Err(err) = started.ready().and_then(|()| confine(&started.folders())) {
        started.cleanup();
        return fail(&format!("Failed to enter the sandbox: {}", os_text(&err)));
    }
    let limits = server::Limits::for_descriptors(descriptors.saturating_sub(for_cpus), 2);
    let service = Arc::new(service::Service::new(vendor, msr::Cache::new(registers)));
    server::serve(&started.listener, &stop, limits, service, || started.cleanup()).or_else(|err| {
        started.cleanup();
        fail(&format!("Failed to serve: {}", os_text(&err)))
    })
}

/// Steps into the sandbox. Nothing of the file system can be opened any more; looking whether a thread exists under
/// `/proc` needs no opening.
/// For a process with one thread.
///
/// # Errors
/// What the system calls report.
pub fn confine(folders: &[PathBuf]) -> std::io::Result<()> {
    no_new_privileges()?;
    let paths: Vec<(&Path, u64)> = folders.iter().map(|p| (p.as_path(), landlock::REMOVE_FILE)).collect();
    landlock::restrict(&paths)?;
    seccomp::install(&seccomp::server_rules())
}
