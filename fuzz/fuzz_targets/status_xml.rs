#![no_main]

#[path = "../harness/status_xml.rs"]
mod status_xml_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| status_xml_input::run(data));
