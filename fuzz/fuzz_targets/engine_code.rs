#![no_main]

#[path = "../harness/engine_code.rs"]
mod engine_code;

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine_code::run(data));
