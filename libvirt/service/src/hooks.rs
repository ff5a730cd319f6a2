//! The script that an administrator may have put where the daemon's life is told of.

use crate::log::{self, Level};
use crate::paths::Paths;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// Calls `/etc/libvirt/hooks/daemon`, if it can be executed: the object (none), what happens, when, and why.
pub fn call(paths: &Paths, operation: &str, sub_operation: &str, extra: &str) {
    let script = paths.config.join("hooks/daemon");
    let executable =
        std::fs::metadata(&script).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    if !paths.privileged || !executable {
        return;
    }
    let status =
        Command::new(&script).args(["-", operation, sub_operation, extra]).stdin(Stdio::null()).status();
    let failed = match status {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => crate::pidfile::text(&error),
    };
    let text = format!("Hook script {} daemon failed: {failed}", script.display());
    log::write(Level::Warning, "util.hook", &text);
}
