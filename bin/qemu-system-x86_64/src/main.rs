//! The PC emulator: reads its command line, and makes and runs the machine that it asks for.
#![forbid(unsafe_code)]

mod catalog;

use cmdline::Outcome;
use hostio::{detach, pidlock::PidLock};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    report::set_program(program.rsplit('/').next().unwrap_or_default());
    let args: Vec<String> = args.collect();
    match cmdline::parse(&args, &catalog::catalog()) {
        Ok(Outcome::Run(plan)) => match run(&plan) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => {
                report::error_report!("{text}");
                ExitCode::FAILURE
            }
        },
        Ok(Outcome::Text(text, status)) => {
            // A reader that has seen enough may close the pipe.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(status)
        }
        Err(refused) => {
            report::error_report!("{refused}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the machine and runs it to its end.
fn run(plan: &cmdline::Plan) -> Result<(), String> {
    if let Some(cpu) = &plan.cpu {
        x86::models::parse(cpu)?;
    }
    // Before any thread exists: a fork keeps only the calling one.
    let readiness = match plan.daemonize {
        true => Some(detach::detach().map_err(|error| format!("cannot go to the background: {error}"))?),
        false => None,
    };
    let _pidfile = plan.pidfile.as_deref().map(|path| PidLock::create(Path::new(path))).transpose()?;
    // The boards' devices exist; what joins them to a machine does not yet.
    drop(readiness);
    vm::run(plan).map(|_| ())
}
