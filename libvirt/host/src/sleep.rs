//! The host is put to sleep for a while.

use confinement::systemd::{Sleep, Systemd};
use rpc::{Code, Error, Origin};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is less is refused.
const LEAST_SECONDS: u64 = 60;
/// The client is to hear of it first.
const DELAY: Duration = Duration::from_secs(10);

/// How it is told when a call of the host's services failed.
fn told(error: &confinement::Error) -> Error {
    let code = Code::from_number(error.code.number()).unwrap_or(Code::InternalError);
    Error::from_message(Origin::None, code, &error.message)
}

/// Puts the host to sleep.
pub(crate) struct Sleeper {
    systemd: Systemd,
    /// The program that sets the clock that wakes the host.
    alarm: &'static str,
    delay: Duration,
    about_to: Arc<AtomicBool>,
}

impl Default for Sleeper {
    fn default() -> Self {
        Self { systemd: Systemd::default(), alarm: "rtcwake", delay: DELAY, about_to: Arc::default() }
    }
}

impl Sleeper {
    /// Has the host sleep for `duration` seconds, soon; `target` is a `virNodeSuspendTarget`.
    ///
    /// # Errors
    /// It cannot sleep in that way, is about to, or cannot be woken.
    pub(crate) fn sleep(&self, target: u32, duration: u64, flags: u32) -> Result<(), Error> {
        Error::check_flags(Origin::None, flags, 0, "virNodeSuspend")?;
        let ways = [
            (Sleep::Memory, "Suspend-to-RAM"),
            (Sleep::Disk, "Suspend-to-Disk"),
            (Sleep::Both, "Hybrid-Suspend"),
        ];
        let error = |code: Code, detail: String| Error::new(Origin::None, code, detail);
        let way = usize::try_from(target).ok().and_then(|target| ways.get(target));
        let (way, name) = *way.ok_or_else(|| error(Code::InvalidArg, "Invalid suspend target".to_owned()))?;
        if !self.systemd.can_sleep(way).map_err(|failure| told(&failure))? {
            return Err(error(Code::ArgumentUnsupported, name.to_owned()));
        }
        if self.about_to.swap(true, Ordering::SeqCst) {
            let detail = "Suspend operation already in progress";
            return Err(error(Code::OperationInvalid, detail.to_owned()));
        }
        let begun = self.set_alarm(duration).and_then(|()| self.begin(way));
        if begun.is_err() {
            self.about_to.store(false, Ordering::SeqCst);
        }
        begun
    }

    fn begin(&self, way: Sleep) -> Result<(), Error> {
        let (systemd, delay, about_to) = (self.systemd.clone(), self.delay, self.about_to.clone());
        let work = move || {
            std::thread::sleep(delay);
            // Nobody is there any more who could be told.
            let _ = systemd.sleep(way);
            about_to.store(false, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("node-suspend".to_owned()).spawn(work);
        let failed = |_| Error::internal(Origin::None, "Failed to create thread to suspend the host");
        thread.map(drop).map_err(failed)
    }

    fn set_alarm(&self, duration: u64) -> Result<(), Error> {
        if duration < LEAST_SECONDS {
            let detail = format!("Suspend duration is too short, must be at least {LEAST_SECONDS} seconds");
            return Err(Error::new(Origin::None, Code::InvalidArg, detail));
        }
        let mut command = Command::new(self.alarm);
        command.args(["-m", "no", "-s", &duration.to_string()]);
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            Error::system(Origin::None, &error, &format!("Cannot find '{}' in path", self.alarm))
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let detail = format!(
            "Child process ({} -m no -s {duration}) unexpected {}: {}",
            self.alarm,
            output.status,
            said.trim_end()
        );
        Err(Error::internal(Origin::None, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let systemd = Systemd::at("unix:path=/nonexistent/bus");
        let host = Sleeper { systemd, ..Sleeper::default() };
        let refused = |target, duration, flags| {
            let error = host.sleep(target, duration, flags).expect_err("refused");
            (error.code, error.to_string())
        };
        assert_eq!(refused(0, 60, 0), (74, "argument unsupported: Suspend-to-RAM".to_owned()));
        assert_eq!(refused(2, 60, 0), (74, "argument unsupported: Hybrid-Suspend".to_owned()));
        assert_eq!(refused(3, 60, 0), (8, "invalid argument: Invalid suspend target".to_owned()));
        assert_eq!(refused(0, 60, 1).1, "unsupported flags (0x1) in function virNodeSuspend");
        assert_eq!(
            host.set_alarm(59).expect_err("refused").to_string(),
            "invalid argument: Suspend duration is too short, must be at least 60 seconds"
        );
        let alarm = |alarm| Sleeper { alarm, ..Sleeper::default() }.set_alarm(60);
        assert!(alarm("true").is_ok() && alarm("false").is_err() && alarm("/nonexistent/x").is_err());
    }
}
