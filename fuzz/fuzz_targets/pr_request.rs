#![no_main]

#[path = "../harness/pr_request.rs"]
mod pr_request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pr_request::run(data));
