//! The status file of a running guest, as a daemon finds it that starts. What is read is written so that it is read again
//! as the same.

use qemu_driver::process::parse_status;

/// The input: the text.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let status = match parse_status(&text) {
        Ok(status) => status,
        Err(refused) => return assert!(!refused.is_empty(), "a refusal says why"),
    };
    // What is looked at before the guest itself is.
    let _ = (status.journal(), status.is_starting(), status.saving(), status.is_written());
    let _ = status.capability_flags();
    let written = status.format();
    if let Ok(again) = parse_status(&written) {
        assert_eq!(again.format(), written, "what is read again is written alike");
    }
}
