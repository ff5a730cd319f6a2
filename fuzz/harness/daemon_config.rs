//! The configuration files of virtqemud.

use ::daemon_config::{Daemon, Qemu, read, syntax};

/// The input: a text, taken as either file.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let daemon = read::<Daemon>(&text, "daemon");
    let qemu = read::<Qemu>(&text, "qemu");
    // Whether the text is of the language does not depend on the keys.
    let syntax = syntax::parse(&text);
    if syntax.is_err() {
        assert!(daemon.is_err() && qemu.is_err());
    }
}
