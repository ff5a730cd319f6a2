//! Asking polkit whether somebody may use the daemon.

use crate::client::Identity;
use crate::error::{Code, Error, Origin};
use std::process::{Command, Stdio};

/// When a process was started, in clock ticks since the host was.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Asks whether the process of `identity` is authorised for `action`; the user may be asked for a password.
///
/// # Errors
/// It is not, or nobody can be asked.
pub fn check(identity: &Identity, action: &str) -> Result<(), Error> {
    let start = start_time(identity.pid).ok_or_else(|| {
        Error::new(Origin::Polkit, Code::AuthFailed, "the client's process cannot be looked at")
    })?;
    let status = Command::new("pkcheck")
        .args(["--action-id", action, "--process", &format!("{},{start},{}", identity.pid, identity.uid)])
        .arg("--allow-user-interaction")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| Error::system(Origin::Polkit, &error, "Unable to run pkcheck"))?;
    // Exit status: pkcheck(1).
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => {
            let text = format!("no polkit agent available to authenticate action '{action}'");
            Err(Error::new(Origin::Polkit, Code::AuthUnavailable, text))
        }
        Some(3) => {
            let text = "user cancelled authentication process";
            Err(Error::new(Origin::Polkit, Code::AuthCancelled, text))
        }
        Some(1) => Err(Error::new(Origin::Polkit, Code::AuthFailed, "access denied by policy")),
        _ => Err(Error::internal(Origin::Polkit, "polkit gave no answer")),
    }
}
