#![no_main]

#[path = "../harness/domain_xml.rs"]
mod domain_xml_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| domain_xml_input::run(data));
