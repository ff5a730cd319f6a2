#![no_main]

#[path = "../harness/kernel_image.rs"]
mod kernel_image;

libfuzzer_sys::fuzz_target!(|data: &[u8]| kernel_image::run(data));
