#![no_main]

#[path = "../harness/rpc_message.rs"]
mod rpc_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpc_message::run(data));
