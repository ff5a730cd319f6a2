#![no_main]

#[path = "../harness/pr_multipath.rs"]
mod pr_multipath;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pr_multipath::run(data));
