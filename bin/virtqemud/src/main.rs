//! `virtqemud`; everything is in the `service` crate.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    service::main(std::env::args_os())
}
