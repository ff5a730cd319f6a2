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
            // The kernel keeps the low byte.
            Ok(status) => ExitCode::from((status & 0xff) as u8),
            Err(text) => {
                match text {
                    // QEMU's oldest messages, about what it boots, stand without the program's name.
                    Some(text) if text.starts_with("qemu: ") => eprintln!("{text}"),
                    Some(text) => report::error_report!("{text}"),
                    None => {}
                }
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

/// Makes the machine and runs it to its end; an error without a text has been told already.
fn run(plan: &cmdline::Plan) -> Result<i32, Option<String>> {
    plan.log.open()?;
    // Before any thread exists: a fork keeps only the calling one.
    let readiness = match plan.daemonize {
        true => Some(detach::detach().map_err(|error| format!("cannot go to the background: {error}"))?),
        false => None,
    };
    let _pidfile = plan.pidfile.as_deref().map(|path| PidLock::create(Path::new(path))).transpose()?;
    let setup = vm::Setup {
        // A log without a file goes to standard error, which then stays open.
        ready: Box::new(|| readiness.map_or(Ok(()), |readiness| readiness.ready(report::log::mask() != 0))),
    };
    vm::run(plan, setup).map_err(|failed| failed.0)
}
