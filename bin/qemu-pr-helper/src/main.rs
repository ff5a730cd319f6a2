//! `qemu-pr-helper`; everything is in the `scsi_pr` crate.
//!
//! The C library's entry point rather than the standard library's, whose preparations (a handler that reports stack
//! overflows, above all) would be a fifth of the program's resident memory.
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

/// The program; answers its exit status.
#[allow(unsafe_code, reason = "the only main there is")]
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(_count: i32, _words: *const *const u8) -> i32 {
    // The words come by std::env.
    scsi_pr::main(std::env::args_os())
}
