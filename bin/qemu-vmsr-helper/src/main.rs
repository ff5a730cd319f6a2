//! `qemu-vmsr-helper`; everything is in the `rapl` crate.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(rapl::main(std::env::args_os()));
}
