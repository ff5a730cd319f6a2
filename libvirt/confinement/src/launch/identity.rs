//! User, groups and capabilities of the program.

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::plan::{Identity, Plan};
use crate::{Code, Error, Result};

/// The number after the optional sign of a setting.
fn numeric(text: &str, what: &str) -> Result<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    digits.parse().map_err(|_| {
        let message = format!("invalid argument: Failed to parse {what} '{digits}'");
        Error { code: Code::InvalidArgument, message }
    })
}

/// The user id that a setting names: a login name, or a number; after a `+` always a number (`user` of qemu.conf).
///
/// # Errors
/// `invalid argument: Failed to parse user 'NAME'`: there is none.
pub fn user_id(text: &str) -> Result<u32> {
    if !text.starts_with('+')
        && let Ok(Some(user)) = nix::unistd::User::from_name(text)
    {
        return Ok(user.uid.as_raw());
    }
    numeric(text, "user")
}

/// As [`user_id`], of groups.
///
/// # Errors
/// `invalid argument: Failed to parse group 'NAME'`: there is none.
pub fn group_id(text: &str) -> Result<u32> {
    if !text.starts_with('+')
        && let Ok(Some(group)) = nix::unistd::Group::from_name(text)
    {
        return Ok(group.gid.as_raw());
    }
    numeric(text, "group")
}

impl Identity {
    /// A user with the supplementary groups of his entry in the user database, and `group`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn of(user: u32, group: u32) -> Result<Self> {
        let failed = |error| Error::system(format!("Failed to find user record for uid '{user}'"), error);
        let mut groups = Vec::new();
        // A user without an entry has none.
        if let Some(entry) = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(user)).map_err(failed)?
            && let Ok(name) = std::ffi::CString::new(entry.name)
        {
            groups = nix::unistd::getgrouplist(&name, entry.gid).map_err(failed)?;
        }
        let mut groups: Vec<u32> = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        if !groups.contains(&group) {
            groups.push(group);
        }
        Ok(Self { user, group, groups })
    }
}

/// The capability of this number (capabilities(7); `CAP_SYS_RAWIO` is 17) as a bit of [`Launch::capabilities`](super::Launch::capabilities).
#[must_use]
pub const fn capability(number: u32) -> u64 {
    1 << number
}

fn apply(effective: CapabilitySet, inheritable: CapabilitySet) -> rustix::io::Result<()> {
    rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted: effective, inheritable })
}

/// The single bits of a set that this kernel knows.
fn known(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..64)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(move |one| set.contains(*one))
        .take_while(|one| rustix::thread::capability_is_in_bounding_set(*one).is_ok())
}

fn switch(identity: &Identity) -> Result<()> {
    use rustix::process::{Gid, Uid};
    let gid = Gid::from_raw(identity.group);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(|error| Error::system(format!("cannot change to '{}' group", identity.group), error))?;
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)
        .map_err(|error| Error::system("cannot set supplemental groups", error))?;
    let uid = Uid::from_raw(identity.user);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(|error| Error::system(format!("cannot change to uid to '{}'", identity.user), error))
}

/// Becomes who the program is to be. The process has one thread, so that what the kernel keeps for each thread is
/// the process's.
pub(super) fn assume(plan: &Plan) -> Result<()> {
    if plan.identity.is_none() && plan.capabilities == 0 && !plan.clear_capabilities {
        return Ok(());
    }
    let current = rustix::thread::capabilities(None)
        .map_err(|error| Error::system("cannot read process capabilities", error))?;
    let wanted = CapabilitySet::from_bits_retain(plan.capabilities);
    let clear = plan.clear_capabilities || plan.identity.as_ref().is_some_and(|identity| identity.user != 0);
    let kept = if clear { wanted } else { current.permitted | wanted };
    let mut needed = CapabilitySet::SETPCAP;
    if plan.identity.is_some() {
        needed |= CapabilitySet::SETGID | CapabilitySet::SETUID;
    }
    let failed = |errno: rustix::io::Errno| {
        Error::internal(format!("cannot apply process capabilities {}", -errno.raw_os_error()))
    };
    rustix::thread::set_keep_capabilities(true)
        .map_err(|error| Error::system("prctl failed to set KEEPCAPS", error))?;
    let privileged = match apply(kept | needed, wanted) {
        Ok(()) => true,
        // An ordinary user has none to begin with, and none to give.
        Err(_) if !rustix::process::getuid().is_root() && clear && plan.identity.is_none() => {
            apply(CapabilitySet::empty(), CapabilitySet::empty()).map_err(failed)?;
            false
        }
        Err(errno) => return Err(failed(errno)),
    };
    if let Some(identity) = &plan.identity {
        switch(identity)?;
    }
    rustix::thread::set_keep_capabilities(false)
        .map_err(|error| Error::system("prctl failed to reset KEEPCAPS", error))?;
    if !privileged {
        return Ok(());
    }
    // The change of the user emptied the effective set, not the permitted one.
    apply(kept | needed, wanted).map_err(failed)?;
    for one in known(wanted) {
        rustix::thread::configure_capability_in_ambient_set(one, true).map_err(|error| {
            let number = one.bits().trailing_zeros();
            Error::system(format!("prctl failed to enable '{number}' in the AMBIENT set"), error)
        })?;
    }
    if clear {
        // Otherwise a program of user 0 would have them all again after exec.
        for one in known(!wanted) {
            rustix::thread::remove_capability_from_bounding_set(one).map_err(failed)?;
        }
    }
    apply(kept, wanted).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_users() {
        assert_eq!(
            (user_id("root").unwrap(), user_id("+7").unwrap(), user_id("64055").unwrap()),
            (0, 7, 64055)
        );
        assert_eq!((group_id("root").unwrap(), group_id("+9").unwrap()), (0, 9));
        let error = user_id("no such user").unwrap_err();
        assert_eq!(error.message, "invalid argument: Failed to parse user 'no such user'");
        assert_eq!(group_id("+root").unwrap_err().message, "invalid argument: Failed to parse group 'root'");
        assert_eq!(Identity::of(0, 65534).unwrap().groups, [0, 65534]);
        // Nobody's, as far as any database knows.
        assert_eq!(Identity::of(4_000_000_000, 5).unwrap().groups, [5]);
    }
}
