//! The PC emulator and virtualizer.
#![forbid(unsafe_code)]

fn main() {}
