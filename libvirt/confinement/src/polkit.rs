//! May this client do that? polkit decides.
//!
//! Two uses: whether a client of a socket is let in at all (`org.libvirt.unix.manage` and `.monitor`), and, with
//! `access_drivers = ["polkit"]`, each of its calls (`org.libvirt.api.OBJECT.PERMISSION`). Every question has its own
//! connection to the bus: the answer may take as long as a user types a password, and others ask meanwhile.

use crate::dbus::{Bus, Value};
use crate::{Code, Error, Result};

/// To read: what the read-only socket asks for.
pub const MONITOR: &str = "org.libvirt.unix.monitor";
/// To do all: what the read-write socket asks for.
pub const MANAGE: &str = "org.libvirt.unix.manage";

/// The process that asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: so that it cannot be taken for another with the same id.
    pub start_time: u64,
    /// Its user.
    pub uid: u32,
}

impl Subject {
    /// The process behind a connection, by `SO_PEERCRED`; `None`: it is gone.
    #[must_use]
    pub fn of(pid: u32, uid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in brackets and may hold anything; the start time is field 22, the name field 2.
        let (_, rest) = text.rsplit_once(')')?;
        let start_time = rest.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start_time, uid })
    }
}

/// The authority, on the system's bus.
#[derive(Clone, Debug, Default)]
pub struct Polkit {
    address: Option<String>,
}

/// The connection to the system's bus, or to another in its place.
pub(crate) fn bus(address: Option<&str>) -> Result<Bus> {
    address
        .map_or_else(Bus::system, Bus::connect)
        .map_err(|failure| Error::internal(format!("Unable to get system bus connection: {failure}")))
}

impl Polkit {
    /// The authority on another bus.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: Some(address.to_owned()) }
    }

    /// Asks whether `subject` may do `action`; with `interactive` the user may be asked for a password.
    ///
    /// # Errors
    /// | code | text |
    /// |---|---|
    /// | 1 | `internal error: Unable to get system bus connection: ...` |
    /// | 89 | `error from service: ...`: nobody answers for polkit |
    /// | 79 | `authentication cancelled: user cancelled authentication process` |
    /// | 94 | `authentication unavailable: no polkit agent available to authenticate action 'ACTION'` |
    /// | 45 | `authentication failed: access denied by policy` |
    pub fn check(
        &self,
        action: &str,
        subject: Subject,
        details: &[(&str, &str)],
        interactive: bool,
    ) -> Result<()> {
        let mut bus = bus(self.address.as_deref())?;
        let process = Value::properties([
            ("pid", Value::U32(subject.pid)),
            ("start-time", Value::U64(subject.start_time)),
            // The interface has a signed number there.
            ("uid", Value::I32(subject.uid.cast_signed())),
        ]);
        let arguments = [
            Value::Struct(vec!["unix-process".into(), process]),
            action.into(),
            Value::texts(details.iter().copied()),
            Value::U32(interactive.into()),
            "".into(),
        ];
        let answer = bus
            .call(
                "org.freedesktop.PolicyKit1",
                "/org/freedesktop/PolicyKit1/Authority",
                "org.freedesktop.PolicyKit1.Authority",
                "CheckAuthorization",
                &arguments,
            )
            .map_err(|failure| Error::service(&failure))?;
        let Some([Value::Bool(authorized), Value::Bool(challenge), details]) =
            answer.body.first().and_then(Value::items)
        else {
            let message = "error from service: unexpected answer of CheckAuthorization".to_owned();
            return Err(Error { code: Code::DbusService, message });
        };
        if *authorized {
            return Ok(());
        }
        let dismissed = details.items().unwrap_or_default().iter().any(|entry| {
            matches!(entry, Value::Entry(entry)
                if (entry.0.as_str(), entry.1.as_str()) == (Some("polkit.dismissed"), Some("true")))
        });
        Err(if dismissed {
            let message = "authentication cancelled: user cancelled authentication process".to_owned();
            Error { code: Code::AuthCancelled, message }
        } else if *challenge {
            let message = format!(
                "authentication unavailable: no polkit agent available to authenticate action '{action}'"
            );
            Error { code: Code::AuthUnavailable, message }
        } else {
            let message = "authentication failed: access denied by policy".to_owned();
            Error { code: Code::AuthFailed, message }
        })
    }

    /// Asks whether `subject` may do one thing to one object, of a daemon whose `driver` is `QEMU`; `permission` and
    /// `object` are as in the table of procedures, `attributes` such as `domain_name`. Nobody is asked for passwords.
    ///
    /// # Errors
    /// `access denied: 'QEMU' denied access`, code 88, when it may not and when nobody can tell; the reason is the
    /// second of the pair, for the log.
    pub fn check_access(
        &self,
        driver: &str,
        object: &str,
        permission: &str,
        subject: Subject,
        attributes: &[(&str, &str)],
    ) -> Result<(), (Error, Error)> {
        let mut details = vec![("connect_driver", driver)];
        details.extend(attributes);
        self.check(&action(object, permission), subject, &details, false).map_err(|reason| {
            let message = format!("access denied: '{driver}' denied access");
            (Error { code: Code::AccessDenied, message }, reason)
        })
    }
}

/// The action of a permission: `org.libvirt.api.domain.getattr`.
#[must_use]
pub fn action(object: &str, permission: &str) -> String {
    format!("org.libvirt.api.{object}.{permission}").replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_and_for_what() {
        let own = Subject::of(std::process::id(), 0).unwrap();
        assert!(own.start_time > 0);
        assert_eq!(Subject::of(u32::MAX, 0), None);
        assert_eq!(action("node_device", "read_secure"), "org.libvirt.api.node-device.read-secure");
    }

    #[test]
    fn without_a_bus() {
        let subject = Subject { pid: 1, start_time: 1, uid: 1 };
        let polkit = Polkit::at("unix:path=/nonexistent/bus");
        let error = polkit.check(MANAGE, subject, &[], true).unwrap_err();
        let text = "internal error: Unable to get system bus connection: Could not connect: No such file or directory";
        assert_eq!((error.code.number(), error.message.as_str()), (1, text));
        let (told, reason) = polkit.check_access("QEMU", "connect", "getattr", subject, &[]).unwrap_err();
        assert_eq!((told.code.number(), &*told.message), (88, "access denied: 'QEMU' denied access"));
        assert_eq!(reason.message, text);
    }
}
