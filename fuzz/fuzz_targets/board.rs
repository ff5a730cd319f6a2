#![no_main]

#[path = "../harness/board.rs"]
mod board;

libfuzzer_sys::fuzz_target!(|data: &[u8]| board::run(data));
