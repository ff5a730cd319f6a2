#![no_main]

#[path = "../harness/pr_transport_id.rs"]
mod pr_transport_id;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pr_transport_id::run(data));
