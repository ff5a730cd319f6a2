#![no_main]

#[path = "../harness/monitor.rs"]
mod monitor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor::run(data));
