//! virtqemud: what stands around the QEMU driver. The order of a start is the original's, so that whoever waits for a
//! step (a PID file, the sockets, the first answer) finds what it expects.
#![forbid(unsafe_code)]

mod background;
mod control;
pub mod log;
mod options;
mod paths;
mod pidfile;
mod run;
mod settings;
mod sockets;

use background::Failure;
use log::Level;
use options::{Options, Parsed};
use paths::Paths;
use pidfile::PidFile;
use std::ffi::OsString;
use std::process::ExitCode;

/// The library that clients are told of: 10.0.0.
pub const VERSION: u64 = 10_000_000;
/// The same in words.
pub const VERSION_TEXT: &str = "10.0.0";

/// The program.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| "virtqemud".into()).to_string_lossy().into_owned();
    let paths = Paths::of_process();
    log::set_default(VERSION_TEXT, "3:stderr");
    // The default output cannot fail.
    let _ = log::set_outputs(None);
    match options::parse(&program, words) {
        Parsed::Run(options) => match start(&program, &options, &paths) {
            Ok(()) => ExitCode::SUCCESS,
            Err(status) => ExitCode::from(status),
        },
        Parsed::Version => {
            println!("{program} (libvirt) {VERSION_TEXT}");
            ExitCode::SUCCESS
        }
        Parsed::Help => {
            eprint!("{}", options::usage(&program, paths.privileged));
            ExitCode::SUCCESS
        }
        Parsed::Wrong { message, usage } => {
            eprintln!("{message}");
            if usage {
                eprint!("{}", options::usage(&program, paths.privileged));
            }
            ExitCode::FAILURE
        }
        Parsed::WrongTimeout => {
            log::write(Level::Error, "daemon.libvirtd", "Invalid value for timeout");
            ExitCode::FAILURE
        }
    }
}

/// Logs an error of the start.
#[track_caller]
fn complain(text: &str) {
    log::write(Level::Error, "daemon.libvirtd", text);
}

/// Starts, and runs to the end. The error is the exit status.
fn start(program: &str, options: &Options, paths: &Paths) -> Result<(), u8> {
    let settings = settings::load(options, paths).map_err(|text| {
        complain(&text);
        1
    })?;
    settings::set_up_log(&settings.daemon, options, paths).map_err(|text| {
        complain(&text);
        1
    })?;
    for warning in &settings.warnings {
        log::write(Level::Warning, "daemon.libvirtd", warning);
    }
    daemon::process::keep_inherited_descriptors();
    // Many threads that allocate little: one heap for all of them.
    daemon::privileges::one_heap();
    let waiting = match options.daemon {
        true => Some(background::detach(program).map_err(|error| {
            complain(&format!("Failed to fork as daemon: {}", pidfile::text(&error)));
            1
        })?),
        false => None,
    };
    match prepare(options, paths, settings) {
        Ok((daemon, pid_file)) => {
            if let Some(waiting) = waiting {
                waiting.tell(None);
            }
            let result = daemon.run();
            drop(pid_file);
            result.map_err(|error| {
                complain(&pidfile::text(&error));
                1
            })
        }
        Err((failure, text)) => {
            complain(&text);
            if let Some(waiting) = waiting {
                waiting.tell(Some(failure));
            }
            Err(failure as u8)
        }
    }
}

/// Everything up to the sockets.
fn prepare(
    options: &Options,
    paths: &Paths,
    settings: settings::Settings,
) -> Result<(run::Running, PidFile), (Failure, String)> {
    let pid_path = options.pid_file.as_ref().unwrap_or(&paths.pid_file);
    if !paths.privileged {
        // The folder of the PID file is the run-time folder.
        make_run_folder(paths)?;
    }
    let pid_file = PidFile::acquire(pid_path).map_err(|text| (Failure::PidFile, text))?;
    make_run_folder(paths)?;
    let init = |error: std::io::Error| (Failure::Init, pidfile::text(&error));
    let running = run::Running::new(options, paths, &settings).map_err(init)?;
    let signals = run::signals().map_err(|error| (Failure::Signals, pidfile::text(&error)))?;
    running.tell_start();
    let sockets = sockets::open(&settings.daemon, paths).map_err(|text| (Failure::Network, text))?;
    Ok((running.with(signals, sockets), pid_file))
}

fn make_run_folder(paths: &Paths) -> Result<(), (Failure, String)> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mode = if paths.privileged { 0o755 } else { 0o700 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(&paths.run).map_err(|error| {
        let text = format!("unable to create rundir {}: {}", paths.run.display(), pidfile::text(&error));
        (Failure::RunDir, text)
    })
}
