#![no_main]

#[path = "../harness/vmsr_request.rs"]
mod vmsr_request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmsr_request::run(data));
