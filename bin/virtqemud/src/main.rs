//! `virtqemud`; everything is in the `service` crate.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    // The daemon's own program prepares the processes of guests.
    confinement::launch::run_if_asked();
    service::main(std::env::args_os())
}
