//! Programs that work for a guest beside its emulator.

use confinement::Result;
use confinement::apparmor::Rules;
use confinement::dac::Owner;
use confinement::launch::{Identity, Launch};
use domain_xml::Domain;
use domain_xml::misc::TpmType;

use crate::{Confined, Security, uses};

impl Security {
    /// A program with the emulator's user and no capability.
    ///
    /// # Errors
    /// The user database cannot be read; a label that cannot be read.
    pub fn as_emulator(&self, domain: &Domain, launch: Launch) -> Result<Launch> {
        if !self.settings.privileged {
            return Ok(launch);
        }
        let identity = self.dac.identity(uses::domain_label(domain)?.as_ref())?;
        Ok(launch.identity(identity).clear_capabilities())
    }

    /// A program with a user of its own, which is kept to the guest's profile.
    ///
    /// # Errors
    /// The user database cannot be read.
    pub fn as_other(&self, domain: &Domain, owner: Owner, launch: Launch) -> Result<Launch> {
        let launch = match self.settings.privileged {
            true => launch.identity(Identity::of(owner.user, owner.group)?).clear_capabilities(),
            false => launch,
        };
        Ok(self.with_profile(domain, launch))
    }

    /// A program that is kept to the guest's profile, where it has one.
    pub(crate) fn with_profile(&self, domain: &Domain, launch: Launch) -> Launch {
        let label = uses::of_model(domain, "apparmor").filter(|_| self.apparmor.is_some());
        let label = label.filter(|label| label.kind.as_deref() != Some("none"));
        match label.and_then(|label| label.label.as_deref()) {
            Some(name) => launch.apparmor(name),
            None => launch,
        }
    }
}

impl Confined {
    /// A program that sees the devices that the guest sees.
    #[must_use]
    pub fn beside(&self, launch: Launch) -> Launch {
        match self.namespace_of() {
            Some(pid) => launch.mounts_of(pid),
            None => launch,
        }
    }

    /// A process that works for the guest counts as the guest.
    ///
    /// # Errors
    /// It cannot be put into the guest's group.
    pub fn adopt(&self, pid: i32) -> Result<()> {
        self.cgroup().map_or(Ok(()), |cgroup| cgroup.add_process(pid))
    }
}

/// What the profile allows for the sake of programs beside the emulator, and of folders that the guest shares.
pub(crate) fn add_rules(domain: &Domain, rules: &mut Rules) -> Result<()> {
    for shared in &domain.devices.filesystem {
        if let Some(folder) = shared.source.as_ref().and_then(|source| source.dir.as_deref()) {
            rules.add_folder(folder, shared.read_only)?;
        }
    }
    let emulated = domain.devices.tpm.iter().filter_map(|tpm| tpm.backend.as_ref());
    let Some(backend) = emulated.into_iter().find(|backend| backend.kind == TpmType::Emulator) else {
        return Ok(());
    };
    let short: String = domain.name().chars().take(20).collect();
    let (id, uuid) = (domain.id.unwrap_or(-1), domain.uuid.as_deref().unwrap_or_default());
    let version = if backend.version.as_deref() == Some("1.2") { "tpm1.2" } else { "tpm2" };
    rules.add_rule(&format!("/run/libvirt/qemu/swtpm/{id}-{short}-swtpm.sock"), "rw");
    rules.add_rule(&format!("/var/lib/libvirt/swtpm/{uuid}/{version}/**"), "rwk");
    rules.add_rule(&format!("/var/log/swtpm/libvirt/qemu/{}-swtpm.log", domain.name()), "w");
    rules.add_rule(&format!("/run/libvirt/qemu/swtpm/{id}-{short}-swtpm.pid"), "rw");
    Ok(())
}
