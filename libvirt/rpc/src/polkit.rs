//! Asking polkit whether somebody may use the daemon.

use crate::client::Identity;
use crate::error::{Code, Error, Origin};
use confinement::polkit::{Polkit, Subject};

/// Asks whether the process of `identity` is authorised for `action`; the user may be asked for a password.
///
/// # Errors
/// It is not, or nobody can be asked.
pub fn check(identity: &Identity, action: &str) -> Result<(), Error> {
    check_with(&Polkit::default(), identity, action)
}

fn check_with(polkit: &Polkit, identity: &Identity, action: &str) -> Result<(), Error> {
    let pid = u32::try_from(identity.pid).ok();
    let subject = pid.and_then(|pid| Subject::of(pid, identity.uid)).ok_or_else(|| {
        Error::new(Origin::Polkit, Code::AuthFailed, "the client's process cannot be looked at")
    })?;
    polkit.check(action, subject, &[], true).map_err(|error| {
        let code = Code::from_number(error.code.number()).unwrap_or(Code::InternalError);
        let origin = match code {
            Code::InternalError | Code::DbusService => Origin::Dbus,
            _ => Origin::Polkit,
        };
        // The kind of error is written before the text again.
        let detail = error.message.split_once(": ").map_or(&*error.message, |(_, detail)| detail);
        Error::new(origin, code, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_bus_nobody_can_be_asked() {
        let identity = Identity { pid: std::process::id().cast_signed(), uid: 1000, gid: 1000 };
        let polkit = Polkit::at("unix:path=/nonexistent/bus");
        let error = check_with(&polkit, &identity, "org.libvirt.unix.manage").expect_err("there is no bus");
        let text = "internal error: Unable to get system bus connection: Could not connect: No such file or directory";
        assert_eq!((error.code, error.message.as_deref()), (1, Some(text)));
        let nobody = Identity { pid: 0, ..identity };
        let error = check_with(&polkit, &nobody, "org.libvirt.unix.manage").expect_err("there is no process");
        assert_eq!(error.code, 45);
    }
}
