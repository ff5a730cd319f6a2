//! Programs that set devices up.

use crate::error::{Result, internal, system};
use rustix::thread::CapabilitySet;
use std::process::{Command, Output, Stdio};

/// Runs the program and waits for it.
///
/// # Errors
/// It cannot be run, or fails: with what it says. `environment` is what the original shows of it.
pub(super) fn run(path: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result<()> {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    told(path, arguments, environment, command.output())
}

/// Runs the script that sets an interface up or takes it down. Of the daemon's rights it has that over networks only.
///
/// # Errors
/// As [`run`].
pub(super) fn run_script(path: &str, name: &str, privileged: bool) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let mut environment = vec![("LC_ALL", "C".to_owned())];
    for name in ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"] {
        environment.extend(std::env::var(name).ok().map(|value| (name, value)));
    }
    let run = || {
        if privileged {
            // The thread's only: whoever it starts cannot have them back.
            for capability in CapabilitySet::all().difference(CapabilitySet::NET_ADMIN).iter() {
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    // One that this kernel does not know.
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut command = Command::new(path);
        command.arg(name).env_clear().envs(environment.iter().cloned()).stdin(Stdio::null());
        command.output()
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    let result = result.unwrap_or_else(|_| Err(std::io::Error::other("the thread has ended")));
    told(path, &[name], &environment, result)
}

/// What became of the program.
fn told(
    path: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
    output: std::io::Result<Output>,
) -> Result<()> {
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if !path.contains('/') => {
            system(&error, &format!("Cannot find '{path}' in path"))
        }
        _ => system(&error, &format!("Cannot run '{path}'")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown: String = environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let ending = match output.status.code() {
        Some(code) => format!("unexpected exit status {code}"),
        None => "was ended by a signal".to_owned(),
    };
    let arguments = arguments.join(" ");
    Err(internal(format!("Child process ({shown}{path} {arguments}) {ending}: {words}")))
}
