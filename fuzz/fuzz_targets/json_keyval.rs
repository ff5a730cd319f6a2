#![no_main]

#[path = "../harness/json_keyval.rs"]
mod json_keyval;

libfuzzer_sys::fuzz_target!(|data: &[u8]| json_keyval::run(data));
