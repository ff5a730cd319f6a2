//! `qemu-pr-helper`; everything is in the `scsi_pr` crate.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(scsi_pr::main(std::env::args_os()));
}
