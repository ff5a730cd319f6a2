#![no_main]

#[path = "../harness/qmp_messages.rs"]
mod qmp_messages;

libfuzzer_sys::fuzz_target!(|data: &[u8]| qmp_messages::run(data));
